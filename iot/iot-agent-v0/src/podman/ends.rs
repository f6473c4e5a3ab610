//! Notices at once that a container has ended, without asking anybody.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use futures::future::select_all;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::unix::AsyncFd;

/// The main processes of the containers that run. The kernel tells their end through a descriptor; where it gives none,
/// the next look notices.
#[derive(Debug, Default)]
pub struct Ends {
    watched: RefCell<BTreeMap<u32, Rc<AsyncFd<OwnedFd>>>>,
    /// Those that have ended, while Podman still lists them.
    ended: RefCell<BTreeSet<u32>>,
}

impl Ends {
    /// Watches these processes, and no others.
    pub fn watch(&self, pids: &BTreeSet<u32>) {
        let (mut watched, mut ended) = (self.watched.borrow_mut(), self.ended.borrow_mut());
        watched.retain(|pid, _| pids.contains(pid));
        ended.retain(|pid| pids.contains(pid));
        for pid in pids {
            if !watched.contains_key(pid)
                && !ended.contains(pid)
                && let Some(process) = process(*pid)
            {
                watched.insert(*pid, Rc::new(process));
            }
        }
    }

    /// Waits for the end of one of them, each once. Can be dropped at any time.
    pub async fn next(&self) {
        let watched: Vec<_> = self
            .watched
            .borrow()
            .iter()
            .map(|(pid, process)| (*pid, Rc::clone(process)))
            .collect();
        if watched.is_empty() {
            return std::future::pending().await;
        }
        let ends = watched
            .iter()
            .map(|(_, process)| Box::pin(process.readable()));
        let (_, which, _) = select_all(ends).await;
        let pid = watched[which].0;
        self.watched.borrow_mut().remove(&pid);
        self.ended.borrow_mut().insert(pid);
    }
}

fn process(pid: u32) -> Option<AsyncFd<OwnedFd>> {
    let pid = Pid::from_raw(pid.try_into().ok()?)?;
    let process = pidfd_open(pid, PidfdFlags::NONBLOCK).ok()?;
    #[expect(
        deprecated,
        reason = "its successor is unsafe for types whose descriptor may change; an OwnedFd's never does"
    )]
    AsyncFd::new(process).ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use super::Ends;

    #[tokio::test]
    async fn an_end_is_noticed_once() {
        let mut children: Vec<_> = (0..2)
            .map(|_| Command::new("sleep").arg("60").spawn().unwrap())
            .collect();
        let pids = children.iter().map(std::process::Child::id).collect();
        let ends = Ends::default();
        ends.watch(&pids);
        let none = tokio::time::timeout(Duration::from_millis(50), ends.next()).await;
        assert!(none.is_err(), "both run");
        children[1].kill().unwrap();
        let limit = Duration::from_secs(10);
        tokio::time::timeout(limit, ends.next()).await.unwrap();
        // Podman lists it for a while, and the process waits for being reaped.
        ends.watch(&pids);
        let none = tokio::time::timeout(Duration::from_millis(50), ends.next()).await;
        assert!(none.is_err(), "it was told already");
        children[0].kill().unwrap();
        tokio::time::timeout(limit, ends.next()).await.unwrap();
        for child in &mut children {
            child.wait().unwrap();
        }
    }
}
