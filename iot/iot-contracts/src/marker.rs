//! How a device knows the desired-state bucket again.

use serde::{Deserialize, Serialize};

use crate::name::BucketId;

/// The key of the desired-state bucket that says which bucket it is; its value is a [`BucketMarker`] as JSON. No device's
/// id has a `_`, so that it is no device's key.
pub const DESIRED_STATE_MARKER_KEY: &str = "_bucket";

/// What [`BucketMarker::replaces`] calls every bucket that has no marker. No bucket has this as its id.
pub const UNMARKED_BUCKET: &str = "unmarked";

/// Which bucket this is. The platform writes it when it makes the bucket, and never again.
///
/// A device that has followed one bucket follows another one only when that says that it takes the first one's place:
/// a bucket that is new or empty because a disk was lost, or an account or a URL changed, is then no order to remove
/// everything. Readers ignore fields that they do not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketMarker {
    /// A random name, which no other bucket has.
    pub id: BucketId,
    /// The buckets whose place this one takes on purpose, also those whose revisions have gone back, and
    /// [`UNMARKED_BUCKET`] for those that have no marker.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaces: Vec<BucketId>,
}

#[cfg(test)]
mod tests {
    use super::{BucketMarker, DESIRED_STATE_MARKER_KEY, UNMARKED_BUCKET};
    use crate::name::{BucketId, DeviceId};

    #[test]
    fn golden() {
        let new = BucketMarker {
            id: "b1".parse().unwrap(),
            replaces: Vec::new(),
        };
        let replacing = BucketMarker {
            id: "b2".parse().unwrap(),
            replaces: vec![new.id.clone()],
        };
        for (marker, golden) in [
            (new, r#"{"id":"b1"}"#),
            (replacing, r#"{"id":"b2","replaces":["b1"]}"#),
        ] {
            assert_eq!(serde_json::to_string(&marker).unwrap(), golden);
            assert_eq!(
                serde_json::from_str::<BucketMarker>(golden).unwrap(),
                marker
            );
        }
        let newer = serde_json::from_str::<BucketMarker>(r#"{"id":"b1","x":1}"#).unwrap();
        assert_eq!(newer.id.as_str(), "b1");
    }

    #[test]
    fn the_key_is_no_devices() {
        assert!(DESIRED_STATE_MARKER_KEY.parse::<DeviceId>().is_err());
    }

    #[test]
    fn buckets_without_a_marker_can_be_replaced_by_a_name() {
        assert!(UNMARKED_BUCKET.parse::<BucketId>().is_ok());
    }
}
