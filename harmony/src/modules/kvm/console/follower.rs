//! Following the log of a serial console.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use harmony_base::stamp::FileId;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

/// A line that does not end is cut here, in bytes.
const LINE_BYTES: usize = 64 * 1024;

/// The lines that come to a log, across its rotations: virtlogd moves a log aside when it has grown to
/// 2 MiB.
#[derive(Debug)]
pub(crate) struct ConsoleFollower {
    path: PathBuf,
    file: File,
    changes: AsyncFd<OwnedFd>,
    /// The beginning of a line whose end has not come.
    begun: Vec<u8>,
}

impl ConsoleFollower {
    /// Follows the log `path`, which is there, from its beginning.
    #[expect(
        deprecated,
        reason = "its successor is unsafe for the sake of other types: an OwnedFd keeps its descriptor open"
    )]
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let changes = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        watch(&changes, path)?;
        Ok(Self {
            file: File::open(path)?,
            path: path.to_owned(),
            changes: AsyncFd::new(changes)?,
            begun: Vec::new(),
        })
    }

    /// Waits until something has happened to the log.
    pub(crate) async fn changed(&mut self) -> io::Result<()> {
        let mut ready = self.changes.readable().await?;
        let mut events = [0_u8; 4096];
        // That something happened is all that counts; the events are taken so that they do not count again.
        while rustix::io::read(ready.get_inner(), &mut events).is_ok_and(|read| read > 0) {}
        ready.clear_ready();
        Ok(())
    }

    /// The lines that are whole by now.
    pub(crate) fn lines(&mut self) -> io::Result<Vec<String>> {
        let mut lines = self.read_on()?;
        // The old log has been read to its end: a new one begins where it ended.
        if self.was_rotated() {
            lines.extend(self.read_on()?);
            self.file = File::open(&self.path)?;
            watch(self.changes.get_ref(), &self.path)?;
            lines.extend(self.read_on()?);
        }
        Ok(lines)
    }

    fn was_rotated(&self) -> bool {
        let now = FileId::of(&self.path).ok();
        now.is_some() && now != FileId::of_open(&self.file).ok()
    }

    fn read_on(&mut self) -> io::Result<Vec<String>> {
        let mut bytes = Vec::new();
        self.file.read_to_end(&mut bytes)?;
        let mut lines = Vec::new();
        for byte in bytes {
            if byte == b'\n' || self.begun.len() >= LINE_BYTES {
                lines.push(String::from_utf8_lossy(&self.begun).into_owned());
                self.begun.clear();
            }
            if byte != b'\n' {
                self.begun.push(byte);
            }
        }
        Ok(lines)
    }
}

fn watch(changes: &OwnedFd, path: &Path) -> io::Result<()> {
    let what = WatchFlags::MODIFY | WatchFlags::MOVE_SELF | WatchFlags::DELETE_SELF;
    inotify::add_watch(changes, path, what)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::Write;
    use std::path::Path;
    use std::time::Duration;

    use super::{ConsoleFollower, LINE_BYTES};

    fn append(path: &Path, text: &str) {
        let file = OpenOptions::new().append(true).create(true).open(path);
        let mut file = file.expect("writable");
        file.write_all(text.as_bytes()).expect("writable");
    }

    #[tokio::test]
    async fn lines_come_when_they_are_whole_and_across_a_rotation() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("console.log");
        append(&path, "one\ntw");
        let mut log = ConsoleFollower::open(&path).expect("open");
        assert_eq!(log.lines().expect("read"), ["one"]);
        append(&path, "o\r\nthr");
        let changed = tokio::time::timeout(Duration::from_secs(10), log.changed()).await;
        changed.expect("an event").expect("read");
        assert_eq!(log.lines().expect("read"), ["two\r"]);
        append(&path, "ee\nfour");
        fs::rename(&path, dir.path().join("console.log.0")).expect("moved");
        append(&path, " and more\nfive\n");
        assert_eq!(
            log.lines().expect("read"),
            ["three", "four and more", "five"]
        );
        append(&path, "six\n");
        let changed = tokio::time::timeout(Duration::from_secs(10), log.changed()).await;
        changed.expect("an event of the new log").expect("read");
        assert_eq!(log.lines().expect("read"), ["six"]);
    }

    #[tokio::test]
    async fn nothing_is_woken_up_for_nothing() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("console.log");
        append(&path, "one\n");
        let mut log = ConsoleFollower::open(&path).expect("open");
        append(&path, "two\n");
        log.changed().await.expect("an event");
        let again = tokio::time::timeout(Duration::from_millis(50), log.changed()).await;
        assert!(again.is_err(), "the same event twice");
    }

    #[tokio::test]
    async fn a_line_without_an_end_is_bounded() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("console.log");
        append(&path, &"x".repeat(LINE_BYTES * 3));
        let mut log = ConsoleFollower::open(&path).expect("open");
        let lines = log.lines().expect("read");
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| line.len() == LINE_BYTES));
    }
}
