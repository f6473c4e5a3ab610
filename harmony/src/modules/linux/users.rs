//! System users, with what rootless Podman needs of them.

use tracing::info;

use super::error::LinuxError;
use super::files::is_account_name;
use super::shell::{Script, Shell, label};
use super::subordinate_ids::{self, Range};
use crate::domain::error::ExecutorError;
use crate::domain::interpret::Change;
use crate::domain::topology::linux_host::{HostCommand, HostUser};

/// getent's exit status for a name that is not there.
const GETENT_NOT_FOUND: u32 = 2;

/// Prints the file `$1`, which need not exist.
const READ_IF_THERE: Script = Script {
    name: "read-if-there",
    text: "if [ -e \"$1\" ]; then cat -- \"$1\"; fi",
};

/// Prints whether user `$1` lingers.
const LINGERS: Script = Script {
    name: "lingers",
    text: "if [ -e \"/var/lib/systemd/linger/$1\" ]; then echo yes; else echo no; fi",
};

pub(super) async fn ensure(host: &dyn Shell, user: &HostUser) -> Result<Change, ExecutorError> {
    check(user)?;
    let mut change = Change::Unchanged;
    let account = match find(host, &user.name).await? {
        Some(account) => account,
        None => {
            change = Change::Changed;
            add(host, user).await?
        }
    };
    if account.home != user.home {
        return Err(LinuxError::UserConflict {
            user: user.name.clone(),
            found: account.home,
            expected: user.home.clone(),
        }
        .into());
    }
    if user.lingering {
        change = change
            .or(ensure_subordinate_ids(host, &user.name, &account.uid).await?)
            .or(ensure_lingering(host, &user.name, &account.uid).await?);
    }
    Ok(change)
}

/// What is read of an account.
#[derive(Debug, PartialEq, Eq)]
struct Account {
    uid: String,
    home: String,
}

fn check(user: &HostUser) -> Result<(), LinuxError> {
    let invalid = |what, value: &str, expected| {
        Err(LinuxError::InvalidRequest {
            what,
            value: value.to_owned(),
            expected,
        })
    };
    if !is_account_name(&user.name) {
        return invalid(
            "user name",
            &user.name,
            "1 to 32 of a to z, 0 to 9, '_' and '-', beginning with a letter or '_'",
        );
    }
    if !user.home.starts_with('/') || user.home.contains([':', '\n', '\0']) {
        return invalid("home", &user.home, "an absolute path without ':'");
    }
    Ok(())
}

async fn find(host: &dyn Shell, name: &str) -> Result<Option<Account>, ExecutorError> {
    let getent = HostCommand::new("getent").args(["passwd", "--", name]);
    let output = host.execute(&getent, &[]).await?;
    match output.status {
        0 => Ok(Some(account(&output.stdout)?)),
        GETENT_NOT_FOUND => Ok(None),
        status => Err(LinuxError::CommandFailed {
            command: label(&getent),
            status,
            stderr: output.stderr.trim().to_owned(),
        }
        .into()),
    }
}

/// Reads a line of passwd(5): name, password, uid, gid, gecos, home, shell.
fn account(line: &str) -> Result<Account, LinuxError> {
    let fields: Vec<&str> = line.trim_end().split(':').collect();
    match fields.as_slice() {
        [_, _, uid, _, _, home, _] if uid.parse::<u32>().is_ok() => Ok(Account {
            uid: (*uid).to_owned(),
            home: (*home).to_owned(),
        }),
        _ => Err(LinuxError::UnexpectedOutput {
            command: "getent passwd",
            output: line.chars().take(200).collect(),
            expected: "a line of passwd with a numeric user id",
        }),
    }
}

async fn add(host: &dyn Shell, user: &HostUser) -> Result<Account, ExecutorError> {
    let useradd = HostCommand::new("useradd")
        .args(["--system", "--user-group", "--create-home", "--home-dir"])
        .arg(&user.home)
        .args(["--shell", "/usr/sbin/nologin", "--", &user.name])
        .as_root();
    host.expect(&useradd, &[]).await?;
    info!(user = %user.name, home = %user.home, "user added");
    let added = find(host, &user.name).await?;
    Ok(added.ok_or(LinuxError::UnexpectedOutput {
        command: "getent passwd",
        output: String::new(),
        expected: "the user that was just added",
    })?)
}

/// `useradd --system` gives no subordinate ids.
async fn ensure_subordinate_ids(
    host: &dyn Shell,
    name: &str,
    uid: &str,
) -> Result<Change, ExecutorError> {
    let uids = read_ranges(host, "/etc/subuid").await?;
    let gids = read_ranges(host, "/etc/subgid").await?;
    let first = || {
        subordinate_ids::first_free(uids.iter().chain(&gids)).ok_or(LinuxError::NoSubordinateIds {
            user: name.to_owned(),
            count: subordinate_ids::COUNT,
            searched: subordinate_ids::SEARCHED,
        })
    };
    let mut usermod = HostCommand::new("usermod").as_root();
    let mut change = Change::Unchanged;
    for (ranges, option) in [(&uids, "--add-subuids"), (&gids, "--add-subgids")] {
        if !subordinate_ids::suffices(ranges, name, uid) {
            let first = first()?;
            let last = first + subordinate_ids::COUNT - 1;
            usermod = usermod.arg(option).arg(format!("{first}-{last}"));
            change = Change::Changed;
        }
    }
    if change == Change::Changed {
        host.expect(&usermod.args(["--", name]), &[]).await?;
        info!(user = %name, "subordinate ids added");
    }
    Ok(change)
}

async fn read_ranges(host: &dyn Shell, path: &'static str) -> Result<Vec<Range>, ExecutorError> {
    let text = host.expect_script(&READ_IF_THERE, &[path]).await?;
    let ranges = subordinate_ids::parse(&text).map_err(|line| LinuxError::UnexpectedOutput {
        command: path,
        output: line,
        expected: "lines of name:first:count",
    });
    Ok(ranges?)
}

/// Has the user's service manager run from boot on, and waits until it does.
async fn ensure_lingering(
    host: &dyn Shell,
    name: &str,
    uid: &str,
) -> Result<Change, ExecutorError> {
    let mut change = Change::Unchanged;
    if host.expect_script(&LINGERS, &[name]).await?.trim() == "no" {
        let linger = HostCommand::new("loginctl").args(["enable-linger", "--", name]);
        host.expect(&linger.as_root(), &[]).await?;
        info!(user = %name, "lingers");
        change = Change::Changed;
    }
    // logind starts it without waiting for it; this start returns when it is ready.
    let manager = format!("user@{uid}.service");
    let start = HostCommand::new("systemctl").args(["start", "--", &manager]);
    host.expect(&start.as_root(), &[]).await?;
    Ok(change)
}

#[cfg(test)]
mod tests {
    use super::{Account, account, check};
    use crate::domain::topology::linux_host::HostUser;
    use crate::modules::linux::LinuxError;

    #[test]
    fn accounts_are_read() {
        let line = "iot-agent:x:990:989::/var/lib/iot-agent:/usr/sbin/nologin\n";
        let expected = Account {
            uid: "990".to_owned(),
            home: "/var/lib/iot-agent".to_owned(),
        };
        assert_eq!(account(line).expect("a line of passwd"), expected);
        for line in ["", "x:x:abc:1::/:/bin/sh", "x:x:1:1::/"] {
            let error = account(line).expect_err(line);
            assert!(
                matches!(error, LinuxError::UnexpectedOutput { .. }),
                "{error:?}"
            );
        }
    }

    #[test]
    fn users_are_checked() {
        let table = [
            ("iot-agent", "/var/lib/iot-agent", None),
            ("-x", "/x", Some("user name")),
            ("Root", "/x", Some("user name")),
            ("a b", "/x", Some("user name")),
            ("", "/x", Some("user name")),
            ("a", "x", Some("home")),
            ("a", "/x:y", Some("home")),
        ];
        for (name, home, expected) in table {
            let user = HostUser {
                name: name.to_owned(),
                home: home.to_owned(),
                lingering: false,
            };
            match check(&user) {
                Ok(()) => assert_eq!(expected, None, "{user:?}"),
                Err(LinuxError::InvalidRequest { what, .. }) => {
                    assert_eq!(expected, Some(what), "{user:?}");
                }
                Err(error) => panic!("{error:?}"),
            }
        }
    }
}
