//! What keeps the device from following its desired state, as its reports say it.

use std::collections::BTreeMap;

use iot_contracts::{DeploymentName, RefusedEntry};

/// The most problems that a report has.
const MAX_PROBLEMS: usize = 8;
/// The longest text of one, in characters.
const MAX_CHARS: usize = 400;

/// The most keys that something is known to be wrong with. Whoever may write makes as many as he likes.
const MAX_KEYS: usize = 100;

/// What is wrong now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Problems {
    /// Why the desired state as a whole is not followed.
    pub following: Option<String>,
    /// Why what was kept on the device was of no use, until the bucket is listed.
    pub recalling: Option<String>,
    /// Why it is not kept on the device.
    pub keeping: Option<String>,
    /// Why credentials that were renewed are not used.
    pub credentials: Option<String>,
    /// What a device that obeys signed orders lacks for it.
    pub signing: Option<String>,
    /// What the server lacks.
    pub server: Option<String>,
    /// What is wrong with single keys.
    pub keys: BTreeMap<String, String>,
}

impl Problems {
    /// Something is wrong with a key; whether it is remembered.
    pub fn note(&mut self, key: String, why: String) -> bool {
        let has_room = self.keys.len() < MAX_KEYS || self.keys.contains_key(&key);
        if has_room {
            self.keys.insert(key, why);
        }
        has_room
    }

    /// As they are reported, with the entries that are not obeyed: the worst first, bounded in number and length.
    pub fn told<'a>(
        &self,
        refused: impl Iterator<Item = (&'a DeploymentName, &'a RefusedEntry)>,
    ) -> Vec<String> {
        let following = self.following.iter();
        let following = following.map(|why| format!("desired state not followed: {why}"));
        let recalling = self.recalling.iter();
        let recalling =
            recalling.map(|why| format!("desired state kept on the device is ignored: {why}"));
        let keeping = self.keeping.iter();
        let keeping = keeping.map(|why| format!("desired state not kept on the device: {why}"));
        let credentials = self.credentials.iter();
        let credentials =
            credentials.map(|why| format!("renewed NATS credentials are not used: {why}"));
        let signing = self.signing.iter().cloned();
        let refused = refused.map(|(name, RefusedEntry { revision, why })| {
            format!("deployment '{name}', revision {revision} is refused: {why}")
        });
        let server = self.server.iter().cloned();
        let keys = self.keys.iter();
        let keys = keys.map(|(key, why)| format!("key '{}': {why}", key.escape_debug()));
        let mut told: Vec<String> = following
            .chain(recalling)
            .chain(keeping)
            .chain(credentials)
            .chain(signing)
            .chain(refused)
            .chain(server)
            .chain(keys)
            .map(bounded)
            .collect();
        if told.len() > MAX_PROBLEMS {
            let more = told.split_off(MAX_PROBLEMS - 1).len();
            let least = if self.keys.len() < MAX_KEYS {
                ""
            } else {
                "at least "
            };
            told.push(format!("{least}{more} more"));
        }
        told
    }
}

/// `text` on one line and cut. Whoever reads it cannot be made to do anything by it.
fn bounded(text: String) -> String {
    let clean = text.chars().map(|c| if c.is_control() { '?' } else { c });
    let mut clean: String = clean.collect();
    if let Some((end, _)) = clean.char_indices().nth(MAX_CHARS) {
        clean.truncate(end);
        clean.push('…');
    }
    clean
}

#[cfg(test)]
mod tests {
    use iot_contracts::{DeploymentName, Refusal, RefusedEntry};

    use super::Problems;

    #[test]
    fn they_are_few_and_short() {
        let mut problems = Problems::default();
        assert!(problems.told(std::iter::empty()).is_empty());
        problems.following = Some("a\u{1b}b".to_owned());
        problems.keys = (0..20)
            .map(|n| (format!("k{n:02}\n"), "x".repeat(500)))
            .collect();
        let web: DeploymentName = "web".parse().unwrap();
        let refused = RefusedEntry {
            revision: 7,
            why: Refusal::Unsigned,
        };
        let told = problems.told([(&web, &refused)].into_iter());
        assert_eq!(told.len(), 8);
        assert_eq!(told[0], "desired state not followed: a?b");
        let expected = "deployment 'web', revision 7 is refused: it is not signed (expected an operator's signature)";
        assert_eq!(told[1], expected);
        assert!(told[2].starts_with("key 'k00\\n': xxx"), "{}", told[2]);
        assert_eq!(told[2].chars().count(), 401);
        assert_eq!(told[7], "15 more");
        for n in 0..1000 {
            let is_noted = problems.note(format!("k{n:03}"), "x".to_owned());
            assert_eq!(is_noted, n < 80, "{n}");
        }
        assert!(problems.note("k00\n".to_owned(), "y".to_owned()));
        let told = problems.told(std::iter::empty());
        assert_eq!(told[7], "at least 94 more");
    }
}
