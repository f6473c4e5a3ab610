//! Debian packages.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::info;

use super::error::LinuxError;
use super::shell::{STDERR_TAIL_BYTES, Shell, tail};
use crate::domain::error::ExecutorError;
use crate::domain::interpret::Change;
use crate::domain::topology::linux_host::{CommandOutput, HostCommand};

/// apt-get waits this long for dpkg's lock, which a first boot's automatic upgrades may hold.
const DPKG_LOCK_TIMEOUT: &str = "DPkg::Lock::Timeout=600";

/// apt-get does not wait for the lock of the package lists, so it is run again until this bound.
const LISTS_LOCK_TIMEOUT: Duration = Duration::from_secs(600);
const LISTS_LOCK_RETRY: Duration = Duration::from_secs(5);

pub(super) async fn ensure(host: &dyn Shell, names: &[&str]) -> Result<Change, ExecutorError> {
    if let Some(name) = names.iter().find(|name| !is_package_name(name)) {
        return Err(LinuxError::InvalidRequest {
            what: "package name",
            value: (*name).to_owned(),
            expected: "a lower case letter or digit, then letters, digits, '+', '-' or '.'",
        }
        .into());
    }
    let query = HostCommand::new("dpkg-query")
        .args(["-W", "-f", "${Package}\\t${db:Status-Status}\\n", "--"])
        .args(names.iter().copied());
    // Its exit status is 1 when it does not know one of them; what it knows it prints.
    let known = host.execute(&query, &[]).await?;
    let missing = missing(names, &known.stdout);
    if missing.is_empty() {
        return Ok(Change::Unchanged);
    }
    info!(packages = ?missing, "installing");
    check(update(host).await?, &missing)?;
    let install = apt_get()
        .args(["install", "--no-install-recommends", "--"])
        .args(missing.iter().copied());
    check(host.execute(&install, &[]).await?, &missing)?;
    Ok(Change::Changed)
}

/// The names that the output of dpkg-query does not show as installed, in their order.
fn missing<'a>(names: &[&'a str], known: &str) -> Vec<&'a str> {
    let installed: BTreeSet<&str> = known
        .lines()
        .filter_map(|line| line.strip_suffix("\tinstalled"))
        .collect();
    let missing = names.iter().filter(|name| !installed.contains(*name));
    missing.copied().collect()
}

/// Debian's rule; a final '-' would ask apt-get for removal.
fn is_package_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    bytes.next().is_some_and(alphanumeric)
        && name.len() >= 2
        && !name.ends_with('-')
        && bytes.all(|byte| alphanumeric(byte) || b"+-.".contains(&byte))
}

fn apt_get() -> HostCommand {
    HostCommand::new("env")
        .args([
            "LC_ALL=C",
            "DEBIAN_FRONTEND=noninteractive",
            "NEEDRESTART_SUSPEND=1",
        ])
        .args(["apt-get", "-q", "-y", "-o", DPKG_LOCK_TIMEOUT])
        .as_root()
}

async fn update(host: &dyn Shell) -> Result<CommandOutput, ExecutorError> {
    let deadline = Instant::now() + LISTS_LOCK_TIMEOUT;
    loop {
        let output = host.execute(&apt_get().arg("update"), &[]).await?;
        let locked = output.status != 0 && output.stderr.contains("/lists/lock");
        if !locked || Instant::now() + LISTS_LOCK_RETRY >= deadline {
            return Ok(output);
        }
        info!(bound = ?LISTS_LOCK_TIMEOUT, "waiting for the lock of the package lists");
        sleep(LISTS_LOCK_RETRY).await;
    }
}

fn check(output: CommandOutput, packages: &[&str]) -> Result<(), LinuxError> {
    match output.status {
        0 => Ok(()),
        status => Err(LinuxError::PackagesNotInstalled {
            packages: packages.join(" "),
            status,
            stderr: tail(&output.stderr, STDERR_TAIL_BYTES).to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::{is_package_name, missing};

    #[test]
    fn only_installed_counts_as_there() {
        let known = "podman\tinstalled\ncrun\tconfig-files\nuidmap\tnot-installed\nlibc6\tinstalled\nlibc6\tnot-installed\n";
        let table: [(&[&str], &[&str]); 4] = [
            (&["podman"], &[]),
            (&["uidmap", "podman", "crun"], &["uidmap", "crun"]),
            (&["libc6", "nowhere"], &["nowhere"]),
            (&[], &[]),
        ];
        for (names, expected) in table {
            assert_eq!(missing(names, known), expected, "{names:?}");
        }
    }

    #[test]
    fn package_names() {
        for name in [
            "podman",
            "g++",
            "libstdc++6",
            "dbus-user-session",
            "0ad",
            "python3.11",
        ] {
            assert!(is_package_name(name), "{name}");
        }
        for name in [
            "", "a", "-y", "--purge", "podman-", "a b", "Podman", "a;b", "x=1", "./x.deb",
        ] {
            assert!(!is_package_name(name), "{name}");
        }
    }
}
