//! Ranges of subordinate user and group ids, which rootless containers need. Pure.

/// How many ids a user of rootless containers gets: one for each 16-bit id in a container.
pub(super) const COUNT: u64 = 65_536;

/// `SUB_UID_MIN` and `SUB_UID_MAX` of shadow's defaults; the same for groups.
const FIRST: u64 = 100_000;
const LAST: u64 = 600_100_000;

/// [`FIRST`] and [`LAST`] for people.
pub(super) const SEARCHED: &str = "100000 to 600100000";

/// A line of `/etc/subuid` or `/etc/subgid`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    /// A login name or a number.
    pub(super) owner: String,
    /// The first id.
    pub(super) start: u64,
    /// How many there are.
    pub(super) count: u64,
}

/// Reads one of the files.
///
/// # Errors
/// The first line that is no range: a guess here could give two users the same ids.
pub(super) fn parse(text: &str) -> Result<Vec<Range>, String> {
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| range(line).ok_or_else(|| line.to_owned()))
        .collect()
}

fn range(line: &str) -> Option<Range> {
    let fields: Vec<&str> = line.split(':').collect();
    let [owner, start, count] = fields.as_slice() else {
        return None;
    };
    let (start, count): (u32, u32) = (start.parse().ok()?, count.parse().ok()?);
    Some(Range {
        owner: (*owner).to_owned(),
        start: start.into(),
        count: count.into(),
    })
}

/// Whether `name` (or its number) has a range that is large enough.
pub(super) fn suffices(ranges: &[Range], name: &str, uid: &str) -> bool {
    let own = |range: &&Range| range.owner == name || range.owner == uid;
    ranges.iter().filter(own).any(|range| range.count >= COUNT)
}

/// The lowest first id of [`COUNT`] ids that are in none of the ranges.
pub(super) fn first_free<'a>(taken: impl IntoIterator<Item = &'a Range>) -> Option<u64> {
    let mut taken: Vec<&Range> = taken.into_iter().collect();
    taken.sort_by_key(|range| range.start);
    let mut candidate = FIRST;
    for range in taken {
        if candidate + COUNT <= range.start {
            break;
        }
        candidate = candidate.max(range.start + range.count);
    }
    (candidate + COUNT - 1 <= LAST).then_some(candidate)
}

#[cfg(test)]
mod tests {
    use super::{first_free, parse, suffices};

    #[test]
    fn the_lowest_gap_that_is_large_enough_is_taken() {
        let table = [
            ("", Some(100_000)),
            ("# none\n\n", Some(100_000)),
            ("debian:100000:65536\n", Some(165_536)),
            ("b:165536:65536\na:100000:65536\n", Some(231_072)),
            ("a:100000:65536\nb:231072:65536\n", Some(165_536)),
            ("a:100000:65536\nb:231071:65536\n", Some(296_607)),
            ("a:165535:1\n", Some(165_536)),
            ("a:1000:10\n", Some(100_000)),
            ("a:100000:200000\nb:100010:5\n", Some(300_000)),
            ("a:100000:599934465\n", Some(600_034_465)),
            ("a:100000:599934466\n", None),
            ("a:4294967295:4294967295\n", Some(100_000)),
        ];
        for (text, expected) in table {
            let ranges = parse(text).expect(text);
            assert_eq!(first_free(&ranges), expected, "{text:?}");
        }
    }

    #[test]
    fn a_range_counts_for_its_owner_only_and_when_large_enough() {
        let table = [
            ("iot-agent:100000:65536", true),
            ("990:100000:65536", true),
            ("iot-agent:100000:65535", false),
            ("iot-agent2:100000:65536", false),
            ("iot-agent:100000:1\niot-agent:200000:70000", true),
        ];
        for (text, expected) in table {
            let ranges = parse(text).expect(text);
            assert_eq!(suffices(&ranges, "iot-agent", "990"), expected, "{text}");
        }
    }

    #[test]
    fn a_broken_line_is_named() {
        for line in ["a:1", "a:1:2:3", "a:x:65536", "a:1:-1", "a:1:99999999999"] {
            assert_eq!(parse(&format!("ok:1:2\n{line}\n")), Err(line.to_owned()));
        }
    }
}
