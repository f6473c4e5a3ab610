//! One process at a time: locks that end with their process, however that ends.
//!
//! A lock is on a file, not on its name: whoever waits may get the lock of a file that has been removed or replaced
//! meanwhile, which nobody else will see. Taking a lock therefore looks at the name again, and begins anew where it leads
//! elsewhere.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::warn;

use crate::stamp::FileId;

/// Between two tries of [`FileLock::waited`]. What is waited for takes seconds to minutes.
const PAUSE: Duration = Duration::from_millis(250);

/// A lock, given back when it is dropped. Its file stays.
#[derive(Debug)]
pub struct FileLock {
    _file: File,
}

impl FileLock {
    /// The lock for one holder, unless somebody has it. The file is made with `mode` where there is none.
    ///
    /// # Errors
    /// When the file cannot be made, opened or locked.
    pub fn try_exclusive(path: &Path, mode: u32) -> io::Result<Option<Self>> {
        taken(path, mode, |file| match file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        })
    }

    /// The lock for one holder. Blocks until nobody else has it; `held` is called when somebody does.
    ///
    /// # Errors
    /// As [`try_exclusive`](Self::try_exclusive).
    pub fn exclusive(path: &Path, mode: u32, held: impl FnOnce()) -> io::Result<Self> {
        if let Some(lock) = Self::try_exclusive(path, mode)? {
            return Ok(lock);
        }
        held();
        blocked(taken(path, mode, |file| file.lock().map(|()| true))?)
    }

    /// A lock that many may have, but not together with one for one holder. Blocks until nobody has that.
    ///
    /// # Errors
    /// As [`try_exclusive`](Self::try_exclusive).
    pub fn shared(path: &Path, mode: u32) -> io::Result<Self> {
        blocked(taken(path, mode, |file| file.lock_shared().map(|()| true))?)
    }

    /// The lock for one holder, without blocking a thread: a program that is asked to stop waits for every thread that
    /// waits in the kernel. `held` is called once when somebody has it.
    ///
    /// # Errors
    /// As [`try_exclusive`](Self::try_exclusive).
    pub async fn waited(path: &Path, mode: u32, held: impl FnOnce()) -> io::Result<Self> {
        let mut held = Some(held);
        loop {
            if let Some(lock) = Self::try_exclusive(path, mode)? {
                return Ok(lock);
            }
            if let Some(held) = held.take() {
                held();
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// A lock whose file goes when it is given back.
#[derive(Debug)]
pub struct PassingLock {
    path: PathBuf,
    /// Closed, and so unlocked, after the file was removed.
    _lock: FileLock,
}

impl PassingLock {
    /// The lock for one holder, unless somebody has it. The file is made with `mode`.
    ///
    /// # Errors
    /// As [`FileLock::try_exclusive`].
    pub fn try_take(path: PathBuf, mode: u32) -> io::Result<Option<Self>> {
        let lock = FileLock::try_exclusive(&path, mode)?;
        Ok(lock.map(|lock| Self { path, _lock: lock }))
    }
}

impl Drop for PassingLock {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            warn!(path = %self.path.display(), %error, "a lock file could not be removed");
        }
    }
}

/// The lock of the file that `path` leads to after it was taken; none when `lock` says that it cannot be had now.
fn taken(
    path: &Path,
    mode: u32,
    lock: impl Fn(&File) -> io::Result<bool>,
) -> io::Result<Option<FileLock>> {
    loop {
        let file = open(path, mode)?;
        if !lock(&file)? {
            return Ok(None);
        }
        match FileId::of(path) {
            Ok(there) if there == FileId::of_open(&file)? => {
                return Ok(Some(FileLock { _file: file }));
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}

fn blocked(lock: Option<FileLock>) -> io::Result<FileLock> {
    lock.ok_or_else(|| ErrorKind::WouldBlock.into())
}

/// A file that this user may only read can be locked as well.
fn open(path: &Path, mode: u32) -> io::Result<File> {
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(mode)
        .open(path);
    match opened {
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            // What is wrong when there is no file either is that it cannot be made.
            File::open(path).map_err(|_| error)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::path::{Path, PathBuf};
    use std::sync::mpsc;

    use super::{FileLock, PassingLock};

    fn place() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(".x.lock");
        (dir, path)
    }

    fn is_free(path: &Path) -> bool {
        let lock = FileLock::try_exclusive(path, 0o600);
        lock.expect("a lock or none").is_some()
    }

    #[test]
    fn one_holder_at_a_time_and_the_file_stays() {
        let (_dir, path) = place();
        let held = FileLock::try_exclusive(&path, 0o600).expect("made");
        assert!(held.is_some() && !is_free(&path));
        drop(held);
        let mode = std::fs::metadata(&path).expect("there").mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(is_free(&path));
        assert!(FileLock::try_exclusive("/proc/none/x".as_ref(), 0o600).is_err());
    }

    #[test]
    fn many_share_and_one_excludes() {
        let (_dir, path) = place();
        let first = FileLock::shared(&path, 0o644).expect("free");
        let second = FileLock::shared(&path, 0o644).expect("shared");
        drop(first);
        assert!(!is_free(&path));
        drop(second);
        assert!(is_free(&path));
    }

    #[test]
    fn one_who_waits_is_told_so_and_gets_it_in_the_end() {
        let (_dir, path) = place();
        let held = FileLock::exclusive(&path, 0o600, || panic!("nobody has it")).expect("free");
        let (tell, told) = mpsc::channel();
        std::thread::scope(|threads| {
            let waits = threads.spawn(|| {
                let told = move || tell.send(()).expect("listened to");
                FileLock::exclusive(&path, 0o600, told).map(drop)
            });
            told.recv().expect("told");
            drop(held);
            waits.join().expect("no panic").expect("locked");
        });
    }

    #[tokio::test]
    async fn one_who_waits_without_a_thread_is_told_once() {
        let (_dir, path) = place();
        let held = FileLock::waited(&path, 0o600, || panic!("nobody has it"));
        let held = held.await.expect("free");
        let mut told = 0;
        let wait = FileLock::waited(&path, 0o600, || {
            told += 1;
            drop(held);
        });
        wait.await.expect("locked");
        assert_eq!(told, 1);
    }

    #[test]
    fn a_passing_lock_leaves_no_file_and_who_was_refused_removes_nothing() {
        let (_dir, path) = place();
        let held = PassingLock::try_take(path.clone(), 0o644).expect("made");
        let second = PassingLock::try_take(path.clone(), 0o644).expect("open");
        assert!(held.is_some() && second.is_none());
        assert!(path.exists());
        drop(held);
        assert!(!path.exists());
        assert!(is_free(&path));
    }

    /// The lock of one who began to wait before `meanwhile`, which gives back what is held.
    fn waited(path: &Path, meanwhile: impl FnOnce()) -> FileLock {
        let (tell, told) = mpsc::channel();
        std::thread::scope(|threads| {
            let waits = threads.spawn(|| {
                let told = move || tell.send(()).expect("listened to");
                FileLock::exclusive(path, 0o600, told)
            });
            told.recv().expect("told");
            // Almost surely it waits by now for the very file that is there.
            std::thread::sleep(std::time::Duration::from_millis(100));
            meanwhile();
            waits.join().expect("no panic").expect("locked")
        })
    }

    #[test]
    fn a_lock_of_a_file_that_was_removed_or_replaced_meanwhile_counts_for_nothing() {
        let (_dir, path) = place();
        let held = PassingLock::try_take(path.clone(), 0o600).expect("made");
        let lock = waited(&path, || drop(held));
        assert!(path.exists(), "the lock is on a file that others see");
        assert!(!is_free(&path), "and they are kept out");

        let lock = waited(&path, || {
            std::fs::remove_file(&path).expect("ours");
            std::fs::write(&path, "another").expect("ours");
            drop(lock);
        });
        assert!(!is_free(&path), "it is on the other file");
        drop(lock);
        assert!(is_free(&path));
    }

    #[test]
    fn a_file_that_can_only_be_read_is_locked_too() {
        // Which not even root can open for writing.
        let path = Path::new("/sys/kernel/uevent_seqnum");
        assert!(std::fs::File::options().write(true).open(path).is_err());
        FileLock::shared(path, 0o644).expect("locked");
        FileLock::try_exclusive(path, 0o644).expect("locked");
    }
}
