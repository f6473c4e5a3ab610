//! How much all deployments of a device may be together: what the agent knows of them is in its memory, which is bounded
//! by its unit. Pure.

use std::io::{self, Write};

use iot_contracts::IotScore;

/// The most deployments that are taken. A report names all of them.
pub const MAX_DEPLOYMENTS: usize = 1000;
/// The most services that they have together.
const MAX_SERVICES: usize = 1000;
/// The most JSON that their scores are together, in bytes: eight of the largest. In memory a score may be twenty times
/// that.
const MAX_BYTES: usize = 2 * 1024 * 1024;

/// How much scores are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    services: usize,
    bytes: usize,
}

/// It is more than there is room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no room for it: with it all deployments would have {services} services and {bytes} bytes (expected at most {MAX_SERVICES} and {MAX_BYTES})"
)]
pub struct NoRoom {
    services: usize,
    bytes: usize,
}

impl Size {
    /// That of one score.
    pub fn of(score: &IotScore) -> Self {
        let services = match score {
            IotScore::PodmanV0(score) => score.services().len(),
            IotScore::PodmanV1(score) => score.services().len(),
        };
        let mut counter = Counter(0);
        // Strings, numbers, lists and maps with string keys always serialise.
        let _ = serde_json::to_writer(&mut counter, score);
        let bytes = counter.0;
        Self { services, bytes }
    }

    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            services: self.services + other.services,
            bytes: self.bytes + other.bytes,
        }
    }

    /// What is left of it without a part of it.
    pub fn without(self, part: Self) -> Self {
        Self {
            services: self.services.saturating_sub(part.services),
            bytes: self.bytes.saturating_sub(part.bytes),
        }
    }

    /// Whether all deployments may be that together.
    pub fn fits(self) -> bool {
        self.services <= MAX_SERVICES && self.bytes <= MAX_BYTES
    }

    /// Whether a deployment may become this. What makes less of it is taken in any case: an earlier version took more.
    ///
    /// # Errors
    ///
    /// [`NoRoom`]: with the `others` it would be too much.
    pub fn beside(self, others: Self, before: Self) -> Result<(), NoRoom> {
        let all = others.plus(self);
        let grows = self.services > before.services || self.bytes > before.bytes;
        if all.fits() || !grows {
            return Ok(());
        }
        let Self { services, bytes } = all;
        Err(NoRoom { services, bytes })
    }
}

/// Counts what is written.
struct Counter(usize);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_BYTES, MAX_SERVICES, Size};

    #[test]
    fn what_grows_needs_room_and_what_does_not_is_taken() {
        let size = |services, bytes| Size { services, bytes };
        let none = Size::default();
        let full = size(MAX_SERVICES, MAX_BYTES);
        assert_eq!(full.beside(none, none), Ok(()));
        assert!(size(1, 1).beside(full, none).is_err());
        assert!(size(1, 1).beside(size(0, MAX_BYTES), none).is_err());
        assert!(size(1, 1).beside(size(MAX_SERVICES, 0), none).is_err());
        let told = size(2, 7).beside(full, size(1, 7)).unwrap_err();
        let expected = "there is no room for it: with it all deployments would have 1002 services and 2097159 bytes (expected at most 1000 and 2097152)";
        assert_eq!(told.to_string(), expected);
        assert_eq!(size(2, 7).beside(full.plus(full), size(2, 7)), Ok(()));
        assert!(size(2, 8).beside(full.plus(full), size(2, 7)).is_err());
    }

    #[test]
    fn a_score_is_as_large_as_its_json() {
        let json = r#"{"type":"PodmanV0","data":{"services":[{"name":"a","image":"x"}]}}"#;
        let score = serde_json::from_str(json).unwrap();
        assert_eq!(
            Size::of(&score),
            Size {
                services: 1,
                bytes: json.len()
            }
        );
    }
}
