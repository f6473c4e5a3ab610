//! The same for an image that sets itself up: plain files, which its script copies. Pure.

use super::documents::{SeedInputs, route_metric};

/// Their directory in the seed.
pub(super) const DIRECTORY: &str = "harmony";

/// The directory of the cards' files.
pub(super) const NETWORK: &str = "harmony/network";

impl SeedInputs {
    /// The files by their path in the seed. None where there is a script to run: that is cloud-init's work.
    pub(super) fn plain_files(&self) -> Vec<(String, String)> {
        if self.first_boot.setup_script.is_some() {
            return Vec::new();
        }
        let keys = self.first_boot.authorized_keys.iter();
        let files = [
            ("instance-id", line(&self.instance_id)),
            ("hostname", line(&self.hostname)),
            ("user", line(&self.first_boot.user)),
            ("authorized_keys", keys.map(line).collect()),
            (
                "ssh_host_ed25519_key",
                self.host_key.private_openssh.clone(),
            ),
            ("ssh_host_ed25519_key.pub", line(&self.host_key.public_line)),
        ];
        let files = files.map(|(name, text)| (format!("{DIRECTORY}/{name}"), text));
        let cards = self.macs.iter().enumerate().map(|(place, mac)| {
            let name = format!("{NETWORK}/10-harmony-nic{place}.network");
            (name, networkd(place, mac))
        });
        files.into_iter().chain(cards).collect()
    }
}

fn line(value: &impl ToString) -> String {
    format!("{}\n", value.to_string())
}

/// A card, for systemd-networkd.
fn networkd(place: usize, mac: &str) -> String {
    let needed = if place == 0 { "yes" } else { "no" };
    let metric = route_metric(place);
    format!(
        "[Match]\nMACAddress={mac}\n\n[Link]\nRequiredForOnline={needed}\n\n\
         [Network]\nDHCP=ipv4\n\n[DHCPv4]\nRouteMetric={metric}\n"
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::modules::cloud_init::documents::tests::{host_key, inputs};

    #[test]
    fn an_image_without_cloud_init_is_told_the_same() {
        let key = host_key();
        let mut inputs = inputs(&key);
        inputs.macs.push("52:54:00:00:00:02".to_owned());
        inputs
            .first_boot
            .authorized_keys
            .push("ssh-ed25519 BBBB".to_owned());
        let files: BTreeMap<_, _> = inputs.plain_files().into_iter().collect();
        let file = |name: &str| files[&format!("harmony/{name}")].as_str();
        assert_eq!(
            file("instance-id"),
            "00000000-0000-0000-0000-000000000001\n"
        );
        assert_eq!(file("hostname"), "pi\n");
        assert_eq!(file("user"), "harmony\n");
        assert_eq!(
            file("authorized_keys"),
            "ssh-ed25519 AAAA me: \"you\"\\ #x\nssh-ed25519 BBBB\n"
        );
        assert_eq!(file("ssh_host_ed25519_key"), key.private_openssh);
        assert!(file("ssh_host_ed25519_key").ends_with("-----END OPENSSH PRIVATE KEY-----\n"));
        assert_eq!(
            file("ssh_host_ed25519_key.pub"),
            format!("{}\n", key.public_line)
        );
        assert_eq!(
            file("network/10-harmony-nic1.network"),
            "[Match]\nMACAddress=52:54:00:00:00:02\n\n[Link]\nRequiredForOnline=no\n\n\
             [Network]\nDHCP=ipv4\n\n[DHCPv4]\nRouteMetric=201\n"
        );
        assert!(file("network/10-harmony-nic0.network").contains("RequiredForOnline=yes"));
        assert_eq!(files.len(), 8);
    }

    #[test]
    fn a_script_is_cloud_init_s_work() {
        let mut inputs = inputs(&host_key());
        inputs.first_boot.setup_script = Some("#!/bin/sh\n".to_owned());
        assert!(inputs.plain_files().is_empty());
    }
}
