//! OpenPGP signatures by keys that are pinned in this repository.

use std::io::Cursor;
use std::path::Path;

use pgp::composed::{Deserializable, DetachedSignature, SignedPublicKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::types::KeyDetails;

use super::error::RefreshError;

/// Ubuntu's key for cloud images, as Debian's and Ubuntu's package `ubuntu-keyring` has it.
const UBUNTU: &str = include_str!("../../keys/ubuntu-cloud-images.asc");

/// A key whose signatures count.
#[derive(Debug)]
pub(super) struct PinnedKey {
    key: SignedPublicKey,
    fingerprint: String,
}

impl PinnedKey {
    /// The key of a publisher, which must have this fingerprint.
    pub(super) fn of_publisher(fingerprint: &str) -> Result<Self, RefreshError> {
        let key = Self::parse(UBUNTU, "the publisher's key")?;
        if key.fingerprint != fingerprint {
            return Err(RefreshError::BadKey {
                key: key.fingerprint,
                expected: fingerprint.to_owned(),
                source: None,
            });
        }
        Ok(key)
    }

    /// A key that the caller vouches for.
    pub(super) fn read(path: &Path) -> Result<Self, RefreshError> {
        let text = std::fs::read_to_string(path).map_err(|source| RefreshError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, &path.display().to_string())
    }

    fn parse(armoured: &str, name: &str) -> Result<Self, RefreshError> {
        let (key, _) =
            SignedPublicKey::from_string(armoured).map_err(|error| RefreshError::BadKey {
                key: name.to_owned(),
                expected: "an armoured public key".to_owned(),
                source: Some(Box::new(error)),
            })?;
        Ok(Self {
            fingerprint: key.fingerprint().to_string().to_ascii_lowercase(),
            key,
        })
    }

    /// Checks that one of the signatures (armoured or not) in `signatures` is this key's of `content`, by an
    /// algorithm that holds, and made on `day` (such as 20260826) or later: sums of an older release under a
    /// newer one's name were signed too.
    pub(super) fn verify(
        &self,
        url: &str,
        content: &[u8],
        signatures: &[u8],
        day: u32,
    ) -> Result<(), RefreshError> {
        let bad = |reason: String| RefreshError::BadSignature {
            url: url.to_owned(),
            fingerprint: self.fingerprint.clone(),
            reason,
        };
        let (signatures, _) = DetachedSignature::from_reader_many(Cursor::new(signatures.to_vec()))
            .map_err(|error| bad(error.to_string()))?;
        let mut reason = "there is no signature".to_owned();
        for signature in signatures {
            let checked = signature
                .map_err(|error| error.to_string())
                .and_then(|signature| self.check(&signature, content, day));
            match checked {
                Ok(()) => return Ok(()),
                Err(because) => reason = because,
            }
        }
        Err(bad(reason))
    }

    fn check(&self, signature: &DetachedSignature, content: &[u8], day: u32) -> Result<(), String> {
        use HashAlgorithm::{Sha256, Sha384, Sha512};
        match signature.signature.hash_alg() {
            Some(Sha256 | Sha384 | Sha512) => {}
            Some(other) => return Err(format!("it is over a {other} digest")),
            None => return Err("its kind is not known".to_owned()),
        }
        signature
            .verify(&self.key, content)
            .map_err(|error| error.to_string())?;
        let made = signature.signature.created();
        let made = made.ok_or("it does not say when it was made")?;
        let made = day_of(u64::from(made.as_secs()));
        if made < day {
            return Err(format!(
                "it was made on {made}, before the release of {day}"
            ));
        }
        Ok(())
    }
}

/// The day of a time in seconds since 1970, as a number: 20260826. UTC, Gregorian.
fn day_of(seconds: u64) -> u32 {
    // Days are counted from 1 March of year 0, in eras of 400 years (146,097 days).
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    u32::try_from(year * 10_000 + month * 100 + day).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::publisher::UBUNTU_KEY;
    use super::{PinnedKey, day_of};
    use crate::refresh::error::RefreshError;

    #[test]
    fn the_key_in_the_repository_is_the_pinned_one() {
        let key = PinnedKey::of_publisher(UBUNTU_KEY).expect("the key");
        assert_eq!(key.fingerprint, UBUNTU_KEY);
        let other = "0".repeat(40);
        let error = PinnedKey::of_publisher(&other).expect_err("another key");
        assert!(matches!(error, RefreshError::BadKey { expected, .. } if expected == other));
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        let table = [
            (0, 19_700_101),
            (951_782_400, 20_000_229),
            (1_787_788_799, 20_260_826),
            (1_787_788_800, 20_260_827),
            (4_102_444_799, 20_991_231),
        ];
        for (seconds, day) in table {
            assert_eq!(day_of(seconds), day, "{seconds}");
        }
    }
}
