//! What a console tells of a boot, and when.

use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::debug;

/// The most that is kept of a line that has not ended.
const LINE_BYTES: usize = 4096;

/// A point of a boot that a console shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// The firmware starts a boot loader.
    Loader,
    /// The loader starts the kernel.
    Kernel,
    /// The kernel starts the initial RAM disk's first program, or the system's where there is none.
    Initrd,
}

impl Mark {
    /// What EDK2, Linux' EFI stub and Linux write.
    const ALL: [(Self, &'static str); 3] = [
        (Self::Loader, "BdsDxe: starting"),
        (Self::Kernel, "EFI stub: Booting Linux"),
        (Self::Initrd, "as init process"),
    ];
}

/// Each mark, and when it was seen first.
pub(super) type Seen = Vec<(Mark, Instant)>;

/// Reads a console's log while it is written.
pub(super) struct ConsoleWatch {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl ConsoleWatch {
    /// Starts to read a log, which exists.
    pub(super) fn start(log: PathBuf) -> Self {
        let seen = Arc::default();
        let reader = Reader {
            seen: Arc::clone(&seen),
            line: Vec::new(),
        };
        let task = tokio::spawn(async move {
            if let Err(error) = follow(&log, reader).await {
                debug!(log = %log.display(), %error, "the console is not watched");
            }
        });
        Self { seen, task }
    }

    /// What was seen.
    pub(super) fn stop(self) -> Seen {
        self.task.abort();
        let seen = self.seen.lock();
        seen.map(|seen| seen.clone()).unwrap_or_default()
    }
}

impl Drop for ConsoleWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads what there is, and again whenever there is more.
async fn follow(log: &Path, mut reader: Reader) -> io::Result<()> {
    let mut file = File::open(log)?;
    let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
    let watch: OwnedFd = inotify::init(flags)?;
    inotify::add_watch(&watch, log, inotify::WatchFlags::MODIFY)?;
    #[expect(
        deprecated,
        reason = "its safe form; what is owned stays open for as long as it is registered"
    )]
    let watch = AsyncFd::new(watch)?;
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        file.read_to_end(&mut bytes)?;
        reader.take(&bytes, Instant::now());
        let mut ready = watch.readable().await?;
        let drained = ready.try_io(|watch| {
            let mut events = [MaybeUninit::<u8>::uninit(); 4096];
            Ok(rustix::io::read(watch.get_ref(), &mut events[..])?.0.len())
        });
        if let Ok(drained) = drained {
            drained?;
        }
    }
}

/// Finds marks in a text that comes in pieces.
struct Reader {
    seen: Arc<Mutex<Seen>>,
    line: Vec<u8>,
}

impl Reader {
    fn take(&mut self, bytes: &[u8], now: Instant) {
        for byte in bytes {
            if *byte != b'\n' && self.line.len() < LINE_BYTES {
                self.line.push(*byte);
                continue;
            }
            self.end_line(now);
        }
    }

    fn end_line(&mut self, now: Instant) {
        let line = String::from_utf8_lossy(&self.line);
        let said = Mark::ALL.iter().find(|(_, text)| line.contains(text));
        if let Some((mark, _)) = said
            && let Ok(mut seen) = self.seen.lock()
            && !seen.iter().any(|(m, _)| m == mark)
        {
            seen.push((*mark, now));
        }
        self.line.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{ConsoleWatch, Mark, Reader};

    #[test]
    fn marks_are_seen_once_and_across_pieces() {
        let mut reader = Reader {
            seen: Arc::default(),
            line: Vec::new(),
        };
        let now = Instant::now();
        let second = |n| now + Duration::from_secs(n);
        for (n, piece) in [
            "BdsDxe: loading Boot0001\r\nBdsDxe: star",
            "ting Boot0001 \"UEFI Misc Device\"\r\n",
            "\u{1b}[2JEFI stub: Booting Linux Kernel...\r\n\n",
            "[    2.9] Run /init as init process\r",
            "\nBdsDxe: starting Boot0001\r\n",
        ]
        .into_iter()
        .enumerate()
        {
            reader.take(piece.as_bytes(), second(n as u64));
        }
        reader.take(&vec![b'x'; 100_000], now);
        assert!(reader.line.len() <= super::LINE_BYTES);
        let seen = reader.seen.lock().expect("no panic").clone();
        assert_eq!(
            seen,
            [
                (Mark::Loader, second(1)),
                (Mark::Kernel, second(2)),
                (Mark::Initrd, second(4)),
            ]
        );
    }

    #[tokio::test]
    async fn a_log_is_read_while_it_grows() {
        let mut log = tempfile::NamedTempFile::new().expect("a temporary file");
        log.write_all(b"BdsDxe: starting x\n").expect("written");
        let watch = ConsoleWatch::start(log.path().to_owned());
        let seen = async |count: usize| {
            let wait = async {
                while watch.seen.lock().expect("no panic").len() < count {
                    tokio::task::yield_now().await;
                }
            };
            let bound = Duration::from_secs(30);
            tokio::time::timeout(bound, wait).await.expect("seen");
        };
        seen(1).await;
        log.write_all(b"EFI stub: Booting Linux Kernel...\n")
            .expect("written");
        seen(2).await;
        assert_eq!(watch.stop().len(), 2);
    }
}
