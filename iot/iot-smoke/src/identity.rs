//! Who a device is, from inside.

use std::collections::BTreeMap;

use crate::Failure;
use crate::guest::Guest;
use harmony::domain::topology::linux_host::HostCommand;

/// Prints a line for each field of [`Identity`], in their order.
const SCRIPT: &str = r#"set -eu
cat /proc/sys/kernel/hostname /etc/machine-id
card=$(ip route show default | sed -n '1s/.* dev \([^ ]*\).*/\1/p')
cat "/sys/class/net/$card/address"
ip -o -4 address show dev "$card" scope global | sed 's/.* inet \([^ ]*\).*/\1/'
cut -d ' ' -f 2 /etc/ssh/ssh_host_ed25519_key.pub
od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n'
echo
cat /run/harmony-boot-id 2>/dev/null || cat /proc/sys/kernel/random/boot_id
"#;

/// What a device is known by, and what it draws by lot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its host name.
    pub host_name: String,
    /// systemd's id of the machine.
    pub machine_id: String,
    /// The Ethernet address of the card with the default route.
    pub ethernet_address: String,
    /// The one IPv4 address of that card.
    pub address: String,
    /// The SSH host key, in base64.
    pub host_key: String,
    /// 32 random bytes, as hexadecimal digits.
    pub random: String,
    /// The boot's id, as the agent reports it.
    pub boot_id: String,
}

impl Identity {
    /// Asks the guest.
    ///
    /// # Errors
    /// When it does not answer with all of it.
    pub async fn of(guest: &Guest) -> Result<Self, Failure> {
        let script = HostCommand::new("sh").args(["-c", SCRIPT, "identity"]);
        let said = guest.output(script.as_root()).await?;
        let lines: Vec<&str> = said.lines().collect();
        let [
            host_name,
            machine_id,
            ethernet_address,
            address,
            host_key,
            random,
            boot_id,
        ] = lines[..]
        else {
            return Err(format!("the guest's identity is '{said}'").into());
        };
        Ok(Self {
            host_name: host_name.to_owned(),
            machine_id: machine_id.to_owned(),
            ethernet_address: ethernet_address.to_owned(),
            address: address.to_owned(),
            host_key: host_key.to_owned(),
            random: random.to_owned(),
            boot_id: boot_id.to_owned(),
        })
    }

    /// What stays when the power goes.
    pub fn lasting(&self) -> [(&'static str, &str); 4] {
        [
            ("host name", &self.host_name),
            ("machine id", &self.machine_id),
            ("Ethernet address", &self.ethernet_address),
            ("SSH host key", &self.host_key),
        ]
    }
}

/// Fails when two devices share anything that is one's own: their address where the network gives each one of its own.
///
/// # Errors
/// With what they share.
pub fn all_distinct(identities: &[Identity], has_addresses: bool) -> Result<(), Failure> {
    let mut seen: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    for identity in identities {
        let random = [("randomness", identity.random.as_str())];
        let boot = [("boot id", identity.boot_id.as_str())];
        let lasting = identity.lasting();
        let address = [("IPv4 address", identity.address.as_str())];
        let address = address.into_iter().filter(|_| has_addresses);
        let all = lasting.into_iter().chain(random).chain(boot).chain(address);
        for (what, value) in all {
            let name = identity.host_name.as_str();
            if value.is_empty() {
                return Err(format!("{name} has no {what}").into());
            }
            if let Some(other) = seen.insert((what, value), name) {
                return Err(format!("{other} and {name} have the same {what}: {value}").into());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Identity, all_distinct};

    fn identity(n: u8) -> Identity {
        let value = |what: &str| format!("{what}-{n}");
        Identity {
            host_name: value("edge"),
            machine_id: value("id"),
            ethernet_address: value("mac"),
            address: "10.0.2.15/24".to_owned(),
            host_key: value("key"),
            random: value("random"),
            boot_id: value("boot"),
        }
    }

    #[test]
    fn whatever_two_devices_share_is_found() {
        let [a, b] = [identity(1), identity(2)];
        all_distinct(&[a.clone(), b.clone()], false).expect("two devices");
        let change: [fn(&mut Identity); 6] = [
            |i| i.host_name = "edge-1".to_owned(),
            |i| i.machine_id = "id-1".to_owned(),
            |i| i.ethernet_address = "mac-1".to_owned(),
            |i| i.host_key = "key-1".to_owned(),
            |i| i.random = "random-1".to_owned(),
            |i| i.boot_id = "boot-1".to_owned(),
        ];
        for change in change {
            let mut b = b.clone();
            change(&mut b);
            all_distinct(&[a.clone(), b], false).expect_err("one identity");
        }
        all_distinct(&[a.clone(), b], true).expect_err("one address");
        let mut nobody = identity(3);
        nobody.host_key.clear();
        all_distinct(&[a, nobody], false).expect_err("no key");
    }
}
