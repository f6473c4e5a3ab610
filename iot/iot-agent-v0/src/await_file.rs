//! Waits for a file, without polling.

use std::io;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify;
use tracing::info;

use crate::watchdog::{GOES_ON, ServiceManager};

/// A file that cannot be waited for.
#[derive(Debug, thiserror::Error)]
pub enum AwaitError {
    /// The kernel does not say what happens in its directory.
    #[error("cannot watch '{directory}' for '{file}' (expected a directory that can be read)")]
    Watch {
        /// The directory.
        directory: PathBuf,
        /// What is waited for.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nothing will appear there any more.
    #[error("'{directory}' was removed while waiting for '{file}'")]
    Gone {
        /// The directory.
        directory: PathBuf,
        /// What is waited for.
        file: PathBuf,
    },
}

/// Returns when there is a file, which was written completely or moved there. Says meanwhile that it goes on.
///
/// # Errors
///
/// [`AwaitError`]: its directory is not there, cannot be watched, or was removed.
pub fn await_file(file: &Path, manager: &ServiceManager) -> Result<(), AwaitError> {
    let directory = match file.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let failed = |source: io::Error| AwaitError::Watch {
        directory: directory.to_owned(),
        file: file.to_owned(),
        source,
    };
    let inotify = inotify::init(inotify::CreateFlags::CLOEXEC).map_err(|e| failed(e.into()))?;
    let events = inotify::WatchFlags::CLOSE_WRITE
        | inotify::WatchFlags::MOVED_TO
        | inotify::WatchFlags::DELETE_SELF
        | inotify::WatchFlags::MOVE_SELF
        | inotify::WatchFlags::ONLYDIR;
    inotify::add_watch(&inotify, directory, events).map_err(|e| failed(e.into()))?;
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(&inotify, &mut buffer);
    let patience = manager.every().and_then(|every| every.try_into().ok());
    // Watched first and looked for second: what appears in between is an event.
    let mut told = false;
    while !file.try_exists().map_err(failed)? {
        if !told {
            info!(file = %file.display(), "waiting for the configuration");
            told = true;
        }
        if reader.is_buffer_empty() {
            manager.tell(GOES_ON);
            let mut fds = [PollFd::new(&inotify, PollFlags::IN)];
            match poll(&mut fds, patience.as_ref()) {
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                Ok(_) => {}
                Err(error) => return Err(failed(error.into())),
            }
        }
        let event = match reader.next() {
            Ok(event) => event.events(),
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(failed(error.into())),
        };
        let gone = inotify::ReadFlags::DELETE_SELF
            | inotify::ReadFlags::MOVE_SELF
            | inotify::ReadFlags::IGNORED;
        if event.intersects(gone) {
            return Err(AwaitError::Gone {
                directory: directory.to_owned(),
                file: file.to_owned(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixDatagram;
    use std::path::PathBuf;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::{AwaitError, await_file};
    use crate::watchdog::{GOES_ON, ServiceManager};

    /// Far more than an event takes.
    const BOUND: Duration = Duration::from_secs(30);

    fn waiter(file: PathBuf) -> mpsc::Receiver<Result<(), AwaitError>> {
        let (done, waiting) = mpsc::channel();
        thread::spawn(move || done.send(await_file(&file, &ServiceManager::default())));
        waiting
    }

    #[test]
    fn a_file_that_is_there_is_not_waited_for() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("config");
        fs::write(&file, "x").expect("written");
        await_file(&file, &ServiceManager::default()).expect("there");
    }

    #[test]
    fn it_waits_for_this_file_and_for_no_other() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("config");
        let waiting = waiter(file.clone());
        fs::write(dir.path().join("other"), "x").expect("written");
        let early = waiting.recv_timeout(Duration::from_millis(200));
        assert!(matches!(early, Err(mpsc::RecvTimeoutError::Timeout)));
        fs::rename(dir.path().join("other"), &file).expect("moved");
        let waited = waiting.recv_timeout(BOUND).expect("an event");
        waited.expect("there");
    }

    #[test]
    fn it_says_that_it_goes_on_while_it_waits() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (file, socket) = (dir.path().join("config"), dir.path().join("notify"));
        let told = UnixDatagram::bind(&socket).expect("a socket");
        told.set_read_timeout(Some(BOUND)).expect("set");
        let manager = ServiceManager::at(Some(socket.into()), Some(Duration::from_millis(30)));
        let awaited = file.clone();
        let waiting = thread::spawn(move || await_file(&awaited, &manager));
        let mut buffer = [0; 64];
        for _ in 0..3 {
            let length = told.recv(&mut buffer).expect("a word");
            assert_eq!(&buffer[..length], GOES_ON.as_bytes());
        }
        fs::write(&file, "x").expect("written");
        waiting.join().expect("no panic").expect("there");
    }

    #[test]
    fn without_a_directory_nothing_will_come() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let inner = dir.path().join("inner");
        let error = await_file(&inner.join("config"), &ServiceManager::default())
            .expect_err("no directory");
        assert!(matches!(error, AwaitError::Watch { .. }), "{error:?}");
        fs::create_dir(&inner).expect("made");
        let waiting = waiter(inner.join("config"));
        let early = waiting.recv_timeout(Duration::from_millis(200));
        assert!(matches!(early, Err(mpsc::RecvTimeoutError::Timeout)));
        fs::remove_dir(&inner).expect("removed");
        let ended = waiting.recv_timeout(BOUND).expect("an event");
        assert!(matches!(ended, Err(AwaitError::Gone { .. })), "{ended:?}");
    }
}
