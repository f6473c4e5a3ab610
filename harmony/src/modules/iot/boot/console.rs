//! What a console tells of a boot, and when.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::debug;

use crate::modules::kvm::console::ConsoleFollower;

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
        let seen = Arc::<Mutex<Seen>>::default();
        let marks = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            if let Err(error) = follow(&log, &marks).await {
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
async fn follow(log: &Path, seen: &Mutex<Seen>) -> io::Result<()> {
    let mut console = ConsoleFollower::open(log)?;
    loop {
        let lines = console.lines()?;
        if let Ok(mut seen) = seen.lock() {
            take(&lines, Instant::now(), &mut seen);
        }
        console.changed().await?;
    }
}

/// Finds the marks that were not seen before.
fn take(lines: &[String], now: Instant, seen: &mut Seen) {
    for line in lines {
        let said = Mark::ALL.iter().find(|(_, text)| line.contains(text));
        if let Some((mark, _)) = said
            && !seen.iter().any(|(m, _)| m == mark)
        {
            seen.push((*mark, now));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{ConsoleWatch, Mark, Seen, take};

    #[test]
    fn marks_are_seen_once() {
        let now = Instant::now();
        let second = |n| now + Duration::from_secs(n);
        let mut seen = Seen::new();
        for (n, line) in [
            "BdsDxe: loading Boot0001\r",
            "BdsDxe: starting Boot0001 \"UEFI Misc Device\"\r",
            "\u{1b}[2JEFI stub: Booting Linux Kernel...\r",
            "",
            "[    2.9] Run /init as init process\r",
            "BdsDxe: starting Boot0001\r",
        ]
        .into_iter()
        .enumerate()
        {
            take(&[line.to_owned()], second(n as u64), &mut seen);
        }
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
        for piece in ["EFI stub: Boo", "ting Linux Kernel...\r\n"] {
            log.write_all(piece.as_bytes()).expect("written");
        }
        seen(2).await;
        assert_eq!(watch.stop().len(), 2);
    }
}
