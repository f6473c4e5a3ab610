//! Digests of large files that are asked for again and again: images, emulators.
//!
//! One JSON file in the user's cache directory says what each file looked like when it was hashed. It is never
//! needed: one that cannot be read or written only costs hashing again.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use harmony_base::stamp::FileIdentity;
use harmony_base::write::{self, Durability};
use tracing::debug;

use super::digest::Sha256Digest;
use crate::modules::host::cache_directory;

/// A file that changed this recently may change again without a trace: time stamps are as coarse as the kernel's
/// clock, 10 ms at most, and some file systems keep seconds.
const SETTLED: Duration = Duration::from_secs(3);

/// How many files are remembered. Which are dropped does not matter much.
const LIMIT: usize = 64;

/// The SHA-256 of a file, from its bytes or from the last time that they were read. A program cannot set a file's
/// change time, so a file that looks as it did then is as it was.
///
/// # Errors
/// A file that cannot be read.
pub fn known_digest(file: &Path) -> io::Result<Sha256Digest> {
    let kept = cache_directory().map(|directory| directory.join("digests.json"));
    known_in(kept.as_deref(), file)
}

/// Whether any change of the file after `now` would show.
fn is_settled(file: &FileIdentity, now: SystemTime) -> bool {
    let seconds = u64::try_from(file.changed_seconds).unwrap_or(u64::MAX);
    let changed = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    changed.is_some_and(|changed| {
        now.duration_since(changed)
            .is_ok_and(|since| since > SETTLED)
    })
}

type Known = BTreeMap<PathBuf, (FileIdentity, Sha256Digest)>;

fn known_in(kept: Option<&Path>, file: &Path) -> io::Result<Sha256Digest> {
    let path = fs::canonicalize(file)?;
    let before = FileIdentity::of(&path)?;
    let mut known = kept.map(load).unwrap_or_default();
    if let Some((look, digest)) = known.get(&path)
        && *look == before
    {
        return Ok(*digest);
    }
    let settled = is_settled(&before, SystemTime::now());
    let digest = Sha256Digest::of_file(&path)?;
    if let Some(kept) = kept
        && settled
        && FileIdentity::of(&path)? == before
    {
        known.insert(path, (before, digest));
        known.retain(|path, _| path.exists());
        while known.len() > LIMIT {
            known.pop_first();
        }
        if let Err(error) = save(kept, &known) {
            debug!(%error, file = %kept.display(), "digests cannot be kept");
        }
    }
    Ok(digest)
}

fn load(kept: &Path) -> Known {
    let Ok(text) = fs::read(kept) else {
        return Known::new();
    };
    serde_json::from_slice(&text).unwrap_or_else(|error| {
        debug!(%error, file = %kept.display(), "the digests that were kept are not understood");
        Known::new()
    })
}

/// Another process may save at the same time: then one of the two files is hashed once more.
fn save(kept: &Path, known: &Known) -> io::Result<()> {
    fs::create_dir_all(write::directory_of(kept))?;
    write::replace(kept, &serde_json::to_vec(known)?, 0o600, Durability::Cache)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    use super::{FileIdentity, Known, SETTLED, is_settled, known_in, load, save};
    use crate::modules::image::Sha256Digest;

    /// What is kept says that `file`, as it looks now, has this digest.
    fn keep(kept: &Path, file: &Path, digest: Sha256Digest) {
        let path = fs::canonicalize(file).expect("there");
        let look = FileIdentity::of(&path).expect("there");
        save(kept, &Known::from([(path, (look, digest))])).expect("written");
    }

    #[test]
    fn a_file_that_looks_as_it_did_is_not_read() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (file, kept) = (dir.path().join("image"), dir.path().join("kept/digests"));
        fs::write(&file, "one").expect("written");
        let other = Sha256Digest::of(b"what was read before");
        keep(&kept, &file, other);
        assert_eq!(known_in(Some(&kept), &file).expect("known"), other);

        // Same size and name: the change time tells, which no program can set back.
        let (path, (look, digest)) = load(&kept).pop_first().expect("kept");
        let earlier = FileIdentity {
            changed_seconds: look.changed_seconds - 10,
            ..look
        };
        save(&kept, &Known::from([(path, (earlier, digest))])).expect("written");
        let read = known_in(Some(&kept), &file).expect("read");
        assert_eq!(read, Sha256Digest::of(b"one"));
    }

    #[test]
    fn only_what_has_settled_is_kept() {
        let now = SystemTime::now();
        let look = |changed: SystemTime| {
            let since = changed.duration_since(SystemTime::UNIX_EPOCH);
            FileIdentity {
                device: 1,
                inode: 1,
                bytes: 1,
                changed_seconds: since.expect("after 1970").as_secs() as i64,
                changed_nanoseconds: 0,
            }
        };
        let second = Duration::from_secs(1);
        let table = [
            (now, false),
            (now + second, false),
            (now - second, false),
            (now - SETTLED - 2 * second, true),
        ];
        for (changed, settled) in table {
            assert_eq!(is_settled(&look(changed), now), settled);
        }

        let dir = tempfile::tempdir().expect("a temporary directory");
        let (file, kept) = (dir.path().join("image"), dir.path().join("digests"));
        fs::write(&file, "fresh").expect("written");
        let read = known_in(Some(&kept), &file).expect("read");
        assert_eq!(read, Sha256Digest::of(b"fresh"));
        assert_eq!(load(&kept), Known::new());
    }

    #[test]
    fn nothing_kept_and_nonsense_kept_cost_only_time() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (file, kept) = (dir.path().join("image"), dir.path().join("digests"));
        fs::write(&file, "one").expect("written");
        fs::write(&kept, "nonsense").expect("written");
        for kept in [None, Some(kept.as_path()), Some(Path::new("/proc/none/x"))] {
            let read = known_in(kept, &file).expect("read");
            assert_eq!(read, Sha256Digest::of(b"one"));
        }
        assert!(known_in(None, &dir.path().join("absent")).is_err());
    }
}
