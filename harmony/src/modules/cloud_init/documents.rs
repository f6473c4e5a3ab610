//! The documents of a seed. Pure.

use std::fmt;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::domain::topology::virtualization::FirstBoot;
/// Where the set-up script is in the guest: among cloud-init's own files. Nothing can be executed in `/run`.
const SETUP_SCRIPT: &str = "/var/lib/cloud/harmony-setup";

/// What a seed says.
#[derive(Debug, Clone)]
pub struct SeedInputs {
    /// cloud-init runs its first-boot stages once for each instance id.
    pub instance_id: Uuid,
    /// The guest's host name.
    pub hostname: String,
    /// The network cards, which get their addresses by DHCP. The guest is reached through the first; it
    /// waits for that one alone while it boots, and sends by it what has no nearer way.
    pub macs: Vec<String>,
    /// The login user.
    pub first_boot: FirstBoot,
    /// The guest's own SSH host key, made outside so that it is known before the first connection.
    pub host_key: SeedHostKey,
}

/// A guest's own SSH host key, both halves as text.
#[derive(Clone, PartialEq, Eq)]
pub struct SeedHostKey {
    /// The private half in OpenSSH's form, with its line breaks.
    pub private_openssh: String,
    /// The public half in OpenSSH's one-line form.
    pub public_line: String,
}

impl fmt::Debug for SeedHostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SeedHostKey")
            .field("public_line", &self.public_line)
            .finish_non_exhaustive()
    }
}

impl SeedInputs {
    /// cloud-init's files by name.
    pub(super) fn documents(&self) -> [(&'static str, String); 3] {
        [
            ("meta-data", self.meta_data().to_string()),
            (
                "user-data",
                format!("#cloud-config\n{:#}\n", self.user_data()),
            ),
            ("network-config", self.network_config().to_string()),
        ]
    }

    fn meta_data(&self) -> Value {
        json!({
            "instance-id": self.instance_id,
            "local-hostname": self.hostname,
        })
    }

    fn user_data(&self) -> Value {
        let FirstBoot {
            user,
            authorized_keys,
            setup_script,
        } = &self.first_boot;
        let mut user_data = json!({
            "hostname": self.hostname,
            "users": [{
                "name": user,
                "shell": "/bin/bash",
                "lock_passwd": true,
                "sudo": "ALL=(ALL) NOPASSWD:ALL",
                "ssh_authorized_keys": authorized_keys,
            }],
            "disable_root": true,
            "ssh_pwauth": false,
            "ssh_deletekeys": true,
            // With this key given, the guest spends no time on making its own.
            "ssh_keys": {
                "ed25519_private": self.host_key.private_openssh,
                "ed25519_public": self.host_key.public_line,
            },
            "package_update": false,
            "package_upgrade": false,
        });
        if let Some(script) = setup_script {
            user_data["write_files"] = json!([{
                "path": SETUP_SCRIPT,
                "permissions": "0700",
                "content": script,
            }]);
            user_data["runcmd"] = json!([[SETUP_SCRIPT]]);
        }
        user_data
    }

    fn network_config(&self) -> Value {
        let cards = self.macs.iter().enumerate().map(|(place, mac)| {
            let mut card = json!({
                "match": { "macaddress": mac },
                "dhcp4": true,
                "dhcp4-overrides": { "route-metric": route_metric(place) },
            });
            if place > 0 {
                card["optional"] = true.into();
            }
            (format!("nic{place}"), card)
        });
        let ethernets: serde_json::Map<String, Value> = cards.collect();
        json!({ "version": 2, "ethernets": ethernets })
    }
}

/// Of the card's routes by DHCP: the first card's come before the others'. Which one a guest takes by itself differs:
/// 100 with netplan, 1024 with systemd-networkd.
pub(super) fn route_metric(place: usize) -> usize {
    if place == 0 { 100 } else { 200 + place }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::Value;
    use uuid::Uuid;

    use super::{SeedHostKey, SeedInputs};
    use crate::domain::topology::virtualization::FirstBoot;

    pub(in crate::modules::cloud_init) fn host_key() -> SeedHostKey {
        let part = |which: &str| format!("-----{which} OPENSSH PRIVATE KEY-----\n");
        SeedHostKey {
            private_openssh: format!("{}AAAA\nsecret\n{}", part("BEGIN"), part("END")),
            public_line: "ssh-ed25519 AAAAC3Nz".to_owned(),
        }
    }

    pub(in crate::modules::cloud_init) fn inputs(host_key: &SeedHostKey) -> SeedInputs {
        SeedInputs {
            instance_id: Uuid::from_u128(1),
            hostname: "pi".to_owned(),
            macs: vec!["52:54:00:00:00:01".to_owned()],
            first_boot: FirstBoot {
                user: "harmony".to_owned(),
                authorized_keys: vec!["ssh-ed25519 AAAA me: \"you\"\\ #x".to_owned()],
                ..FirstBoot::default()
            },
            host_key: host_key.clone(),
        }
    }

    #[test]
    fn values_survive_whatever_they_contain() {
        let key = host_key();
        let [meta, user, network] = inputs(&key).documents();
        assert_eq!(
            [meta.0, user.0, network.0],
            ["meta-data", "user-data", "network-config"]
        );
        let body = user.1.strip_prefix("#cloud-config\n").expect("the header");
        let value: Value = serde_json::from_str(body).expect("JSON, which is YAML");
        assert_eq!(
            value["users"][0]["ssh_authorized_keys"][0],
            "ssh-ed25519 AAAA me: \"you\"\\ #x"
        );
        assert_eq!(value["ssh_keys"]["ed25519_private"], key.private_openssh);
        assert_eq!(value["ssh_pwauth"], false);
    }

    #[test]
    fn a_set_up_script_is_written_and_run_and_without_one_nothing_is() {
        let key = host_key();
        let user_data = |script: Option<&str>| -> Value {
            let mut inputs = inputs(&key);
            inputs.first_boot.setup_script = script.map(str::to_owned);
            let [_, (_, text), _] = inputs.documents();
            let body = text.strip_prefix("#cloud-config\n").expect("the header");
            serde_json::from_str(body).expect("JSON")
        };
        let script = "#!/bin/sh\necho \"a: 'b'\" \\ # \u{e9}\n";
        let with = user_data(Some(script));
        assert_eq!(with["write_files"][0]["content"], script);
        assert_eq!(with["write_files"][0]["permissions"], "0700");
        assert_eq!(with["runcmd"][0][0], with["write_files"][0]["path"]);
        let without = user_data(None);
        assert!(without.get("runcmd").is_none() && without.get("write_files").is_none());
    }

    #[test]
    fn debug_output_has_no_secret() {
        let key = host_key();
        let text = format!("{:?}", inputs(&key));
        assert!(!text.contains("secret"), "{text}");
        assert!(text.contains(&key.public_line), "{text}");
    }
}
