//! Which releases of nats-server keep devices apart that have [permissions](crate::DevicePermissions) of their own.
//! `harmony/src/modules/iot/platform/attack_tests.rs` tries it.

use thiserror::Error;

type Release = (u32, u32, u32);

/// The oldest release on which the attacks were tried in full, but for [`TRACING`].
const OLDEST: Release = (2, 10, 25);
/// From which release to which, that one not included, the header `Nats-Trace-Dest` needed no permission.
const TRACING: [(Release, Release); 2] = [((2, 11, 0), (2, 11, 15)), ((2, 12, 0), (2, 12, 6))];

/// Why a nats-server does not keep devices apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ServerFlaw {
    /// It is older than what was tried, or its version cannot be read. 2.9.10 ends by a stack overflow once a device has
    /// asked for its own key with a reply subject that has a wildcard, which 2.9.15 mended.
    #[error("any device may be able to end it (expected 2.10.25 or newer)")]
    Old,
    /// It reports the way of a message to a subject that the message names, whether the device may publish to that or
    /// not. So a device overwrites the status of another.
    #[error(
        "any device can overwrite another's report (expected 2.11.15 or newer, and of 2.12 2.12.6 or newer)"
    )]
    Tracing,
}

impl ServerFlaw {
    /// Of a server of this version; nothing when it keeps devices apart.
    pub fn of(server_version: &str) -> Option<Self> {
        let Some(release) = release(server_version) else {
            return Some(Self::Old);
        };
        if release < OLDEST {
            return Some(Self::Old);
        }
        let traces = |(from, until): &(Release, Release)| (*from..*until).contains(&release);
        TRACING.iter().any(traces).then_some(Self::Tracing)
    }
}

/// What is to be said of a server of this version that does not keep devices apart.
pub fn not_separating(server_version: &str) -> Option<String> {
    ServerFlaw::of(server_version)
        .map(|flaw| format!("nats-server {server_version} does not keep devices apart: {flaw}"))
}

fn release(server_version: &str) -> Option<Release> {
    let release = server_version.split(['-', '+']).next()?;
    let mut numbers = release.split('.').map(str::parse::<u32>);
    let mut next = || numbers.next().and_then(Result::ok);
    Some((next()?, next()?, next()?))
}

#[cfg(test)]
mod tests {
    use super::{ServerFlaw, not_separating};

    #[test]
    fn versions_are_compared_as_numbers() {
        let good = [
            "2.10.25", "2.10.27", "2.11.15", "2.11.16", "2.12.6", "2.12.10",
        ];
        for good in good.into_iter().chain(["2.14.0", "2.15.1", "3.0.0"]) {
            assert_eq!(ServerFlaw::of(good), None, "{good}");
        }
        for old in ["2.9.10", "2.9.99", "2.10.24", "1.99.0", "2.10", "", "x"] {
            assert_eq!(ServerFlaw::of(old), Some(ServerFlaw::Old), "{old}");
        }
        for traces in ["2.11.0", "2.11.11", "2.11.14", "2.12.0-RC.1", "2.12.5"] {
            assert_eq!(
                ServerFlaw::of(traces),
                Some(ServerFlaw::Tracing),
                "{traces}"
            );
        }
        let told = not_separating("2.11.11").expect("a flaw");
        assert!(
            told.contains("2.11.11 does not keep devices apart: "),
            "{told}"
        );
    }
}
