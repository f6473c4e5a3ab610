//! What a configuration takes away from a device that has another one.
//!
//! A score says all that a configuration has, so that a run comes to the same whatever was there before. That keys were
//! left out may still be a mistake, and a device does not say that it has fewer: so it is said here.

use iot_contracts::DeviceId;
use toml::Table;
use tracing::warn;

use super::AGENT_CONFIG;
use crate::domain::error::ExecutorError;
use crate::domain::topology::linux_host::{HostCommand, HostFile, LinuxHost};

/// A table of the configuration that a device is worse off without.
#[derive(Debug, PartialEq, Eq)]
struct Guarded {
    table: &'static str,
    /// What the device does without it.
    without: &'static str,
    /// What of `example_iot_vm_setup` it comes from.
    flag: &'static str,
}

const GUARDED: [Guarded; 2] = [
    Guarded {
        table: "update",
        without: "takes no update of its agent any more",
        flag: "--release-key",
    },
    Guarded {
        table: "operator",
        without: "obeys from now on whatever is in its bucket, signed or not",
        flag: "--operator-key",
    },
];

/// The tables that `before` has and `now` has not. What cannot be read has none.
fn taken(before: &str, now: &str) -> impl Iterator<Item = &'static Guarded> {
    let read = |text: &str| text.parse::<Table>().unwrap_or_default();
    let (before, now) = (read(before), read(now));
    let is_taken = move |guarded: &&Guarded| {
        before.contains_key(guarded.table) && !now.contains_key(guarded.table)
    };
    GUARDED.iter().filter(is_taken)
}

/// Warns of each table that the device has and `config` takes away. Returns what is said of them.
pub(super) async fn warn_of_what_is_taken<T: LinuxHost>(
    host: &T,
    device_id: &DeviceId,
    config: &HostFile,
) -> Result<Vec<String>, ExecutorError> {
    // A device that has none loses none.
    let read = HostCommand::new("cat").arg(AGENT_CONFIG).as_root();
    let before = host.run(&read, &[]).await?.stdout;
    let now = String::from_utf8_lossy(&config.content);
    let said = taken(&before, &now).map(|Guarded { table, without, flag }| {
        warn!(
            device = %device_id,
            "the device {without}: its configuration had [{table}], and the new one has not (without {flag})"
        );
        format!("[{table}] is taken away")
    });
    Ok(said.collect())
}

#[cfg(test)]
mod tests {
    use super::taken;

    #[test]
    fn what_is_not_there_any_more_is_taken() {
        let nats = "device_id = 'pi-1'\n[nats]\nurls = ['tls://x']\n";
        let update = format!("{nats}[update]\nkeys = ['a']\n");
        let both = format!("{update}[operator]\nkeys = ['b']\n");
        let inline = format!("update = {{ keys = ['a'] }}\n{nats}");
        let table: [(&str, &str, &[&str]); 9] = [
            (&update, nats, &["update"]),
            (&inline, nats, &["update"]),
            (&both, nats, &["update", "operator"]),
            (&both, &update, &["operator"]),
            (&update, &both, &[]),
            (&both, &both, &[]),
            (nats, nats, &[]),
            ("", nats, &[]),
            ("no [TOML", nats, &[]),
        ];
        for (before, now, expected) in table {
            let tables: Vec<_> = taken(before, now).map(|guarded| guarded.table).collect();
            assert_eq!(tables, expected, "{before} -> {now}");
        }
    }
}
