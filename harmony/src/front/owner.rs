//! The program that an ephemeral VM belongs to, and whether it is still there.

use std::{fs, io, process};

use serde::{Deserialize, Serialize};

/// A program, so that no other one is taken for it: neither one with the same process id later, nor one of another boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Owner {
    /// The kernel's id of the boot.
    boot_id: String,
    /// The namespace in which the process id counts, as `/proc` names it.
    pid_namespace: String,
    /// The process id.
    pub(super) pid: u32,
    /// When the process was started, in clock ticks after the boot.
    started: u64,
}

/// What is known of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// It runs.
    Runs,
    /// It has ended, for this reason.
    Gone(&'static str),
    /// It cannot be seen from here.
    OutOfSight,
}

impl Owner {
    /// This program.
    pub(super) fn this() -> io::Result<Self> {
        let pid = process::id();
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let namespace = fs::read_link("/proc/self/ns/pid")?;
        let unreadable = || io::Error::other("/proc/self/stat has no start time");
        Ok(Self {
            boot_id: boot_id.trim().to_owned(),
            pid_namespace: namespace.to_string_lossy().into_owned(),
            pid,
            started: started(pid)?.ok_or_else(unreadable)?,
        })
    }

    /// Whether it is still there, seen from the program `here`.
    pub(super) fn presence(&self, here: &Self) -> io::Result<Presence> {
        Ok(self.judge(here, started(self.pid)?))
    }

    /// The judgement; `started` is when the process that now has the id was started.
    fn judge(&self, here: &Self, started: Option<u64>) -> Presence {
        if self.boot_id != here.boot_id {
            return Presence::Gone("the host was started anew since");
        }
        if self.pid_namespace != here.pid_namespace {
            return Presence::OutOfSight;
        }
        match started {
            None => Presence::Gone("the process has ended"),
            Some(at) if at != self.started => Presence::Gone("another process has its id"),
            Some(_) => Presence::Runs,
        }
    }
}

/// When a process was started; none when it has ended.
fn started(pid: u32) -> io::Result<Option<u64>> {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => Ok(parse_stat(&stat)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // The process ended between opening and reading: ESRCH.
        Err(error) if error.raw_os_error() == Some(3) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Field 22 of `/proc/PID/stat`; none for a process that has ended and only waits for its parent. Field 2 is the
/// program's name in parentheses, which may have any characters.
fn parse_stat(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace();
    match fields.next()? {
        "Z" | "X" => None,
        _ => fields.nth(18)?.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Owner, Presence, parse_stat};

    fn owner() -> Owner {
        Owner {
            boot_id: "boot".to_owned(),
            pid_namespace: "pid:[1]".to_owned(),
            pid: 7,
            started: 100,
        }
    }

    #[test]
    fn a_program_is_gone_with_its_boot_its_process_or_its_id() {
        let here = Owner {
            pid: 8,
            started: 200,
            ..owner()
        };
        let other_boot = Owner {
            boot_id: "other".to_owned(),
            ..owner()
        };
        let container = Owner {
            pid_namespace: "pid:[2]".to_owned(),
            ..owner()
        };
        let before = Owner {
            boot_id: "other".to_owned(),
            ..container.clone()
        };
        let rebooted = Presence::Gone("the host was started anew since");
        let table = [
            ("the same program", owner(), Some(100), Presence::Runs),
            (
                "no process",
                owner(),
                None,
                Presence::Gone("the process has ended"),
            ),
            (
                "its id is another's",
                owner(),
                Some(101),
                Presence::Gone("another process has its id"),
            ),
            ("another boot", other_boot, Some(100), rebooted),
            (
                "a container's",
                container.clone(),
                None,
                Presence::OutOfSight,
            ),
            ("a container's", container, Some(100), Presence::OutOfSight),
            ("a container's before", before, None, rebooted),
        ];
        for (what, owner, started, expected) in table {
            assert_eq!(owner.judge(&here, started), expected, "{what}");
        }
    }

    #[test]
    fn the_start_time_is_read_whatever_the_program_is_called() {
        let rest = "S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 9";
        let table = [
            (format!("7 (edge) {rest}"), Some(4711)),
            (format!("7 (a) Z (b) {rest}"), Some(4711)),
            (format!("7 (edge) {}", rest.replacen('S', "Z", 1)), None),
            (format!("7 (edge) {}", rest.replacen('S', "X", 1)), None),
            ("7 (edge) S 1".to_owned(), None),
            (String::new(), None),
        ];
        for (stat, expected) in table {
            assert_eq!(parse_stat(&stat), expected, "{stat}");
        }
    }

    #[test]
    fn this_program_runs_and_its_child_is_gone_once_it_was_killed() {
        let here = Owner::this().expect("Linux");
        assert_eq!(here.presence(&here).expect("readable"), Presence::Runs);
        let mut sleep = std::process::Command::new("sleep");
        let mut child = sleep.arg("60").spawn().expect("sleep on PATH");
        let started = super::started(child.id()).expect("readable");
        let other = Owner {
            pid: child.id(),
            started: started.expect("runs"),
            ..here.clone()
        };
        assert_eq!(other.presence(&here).expect("readable"), Presence::Runs);
        child.kill().expect("killed");
        // Once killed it is a zombie at the latest when its end can be waited for.
        child.wait().expect("waited for");
        let gone = Presence::Gone("the process has ended");
        assert_eq!(other.presence(&here).expect("readable"), gone);
    }
}
