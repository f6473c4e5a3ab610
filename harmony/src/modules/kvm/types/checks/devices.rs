//! The rules of what is plugged into a virtual machine.

use std::collections::HashSet;
use std::hash::Hash;

use crate::domain::topology::virtualization::{
    DataDisk, DiskSource, NetworkCard, PortForward, SharedDirectory, VmNetwork,
};
use crate::modules::kvm::types::name::is_plain;
use crate::modules::kvm::types::{
    CardConfig, DiskConfig, MAX_DISKS, MAX_NETWORKS, MAX_SHARES, ShareConfig,
};
use crate::modules::kvm::violation::{Violation, Violations};

use super::{check_path, in_range};

fn at_most(found: &mut Violations, field: &str, count: usize, bound: usize) {
    found.require(count <= bound, || {
        Violation::new(
            field,
            format!("{count} entries"),
            format!("at most {bound}"),
        )
        .fix(format!("leave {} out", count.saturating_sub(bound)))
    });
}

/// Reports every value that some earlier entry has too.
fn distinct<T: Eq + Hash + ToString>(
    found: &mut Violations,
    values: impl IntoIterator<Item = (String, T)>,
) {
    let mut seen = HashSet::new();
    for (field, value) in values {
        let text = value.to_string();
        found.require(seen.insert(value), || {
            Violation::new(field, text, "a value that no other has")
        });
    }
}

pub(super) fn check_networks(found: &mut Violations, cards: &[NetworkCard]) -> Vec<CardConfig> {
    at_most(found, "networks", cards.len(), MAX_NETWORKS);
    let mut checked = Vec::new();
    for (place, card) in cards.iter().enumerate() {
        let path = format!("networks[{place}]");
        checked.extend(check_card(found, &path, card));
    }
    let macs = cards.iter().enumerate();
    distinct(
        found,
        macs.filter_map(|(place, card)| {
            let mac = card.mac.as_ref()?.to_ascii_lowercase();
            Some((format!("networks[{place}].mac"), mac))
        }),
    );
    let forwards = cards.iter().enumerate().flat_map(|(place, card)| {
        card.network
            .forwards()
            .iter()
            .enumerate()
            .map(move |(n, forward)| {
                let port = format!("{} {}", forward.host, forward.protocol.as_str());
                (
                    format!("networks[{place}].network.forwards[{n}].host"),
                    port,
                )
            })
    });
    distinct(found, forwards);
    checked
}

/// One network card.
pub(in crate::modules::kvm) fn check_card(
    found: &mut Violations,
    path: &str,
    card: &NetworkCard,
) -> Option<CardConfig> {
    let NetworkCard { network, mac } = card;
    match network {
        VmNetwork::User { forwards } => {
            for (n, PortForward { host, guest, .. }) in forwards.iter().enumerate() {
                for (end, port) in [("host", *host), ("guest", *guest)] {
                    let field = format!("{path}.network.forwards[{n}].{end}");
                    in_range(found, &field, port.into(), 1..=65_535, "");
                }
            }
        }
        VmNetwork::Nat { network } => {
            found.require(is_plain(network) && network.len() <= 50, || {
                let expected =
                    "a libvirt network's name of 1 to 50 letters, digits, '-', '_' or '.'";
                Violation::new(format!("{path}.network.network"), network, expected)
            });
        }
        // The kernel's IFNAMSIZ is 16 with the terminating NUL.
        VmNetwork::Bridge { name } => found.require(is_plain(name) && name.len() <= 15, || {
            let expected = "an interface's name of 1 to 15 letters, digits, '-', '_' or '.'";
            Violation::new(format!("{path}.network.name"), name, expected)
        }),
    }
    let mac = match mac {
        None => None,
        Some(mac) => Some(found.keep(mac.parse().map_err(|v: Violation| v.below(path)))?),
    };
    Some(CardConfig {
        network: network.clone(),
        mac,
    })
}

pub(super) fn check_disks(found: &mut Violations, disks: &[DataDisk]) -> Vec<DiskConfig> {
    at_most(found, "disks", disks.len(), MAX_DISKS);
    let mut checked = Vec::new();
    for (place, disk) in disks.iter().enumerate() {
        checked.extend(check_disk(found, &format!("disks[{place}]"), disk));
    }
    let tags = disks.iter().enumerate();
    distinct(
        found,
        tags.map(|(place, disk)| (format!("disks[{place}].tag"), &disk.tag)),
    );
    let files = disks.iter().enumerate();
    distinct(
        found,
        files.filter_map(|(place, disk)| match &disk.source {
            DiskSource::File { path } => Some((
                format!("disks[{place}].source.path"),
                path.display().to_string(),
            )),
            DiskSource::Blank { .. } => None,
        }),
    );
    checked
}

/// One data disk.
pub(in crate::modules::kvm) fn check_disk(
    found: &mut Violations,
    path: &str,
    disk: &DataDisk,
) -> Option<DiskConfig> {
    let DataDisk {
        tag,
        source,
        read_only,
    } = disk;
    match source {
        DiskSource::Blank { size_gib } => {
            let field = format!("{path}.source.size_gib");
            in_range(found, &field, *size_gib, 1..=65_536, " GiB");
            found.require(!read_only, || {
                Violation::new(
                    format!("{path}.read_only"),
                    true,
                    "false for a blank disk, on which nothing could ever be",
                )
            });
        }
        DiskSource::File { path: file } => {
            let field = format!("{path}.source.path");
            found.keep(check_path(&field, file, "a raw or qcow2 disk image"));
        }
    }
    let tag = found.keep(tag.parse().map_err(|v: Violation| v.below(path)))?;
    Some(DiskConfig {
        tag,
        source: source.clone(),
        read_only: *read_only,
    })
}

pub(super) fn check_shares(found: &mut Violations, shares: &[SharedDirectory]) -> Vec<ShareConfig> {
    at_most(found, "shares", shares.len(), MAX_SHARES);
    let mut checked = Vec::new();
    for (place, share) in shares.iter().enumerate() {
        let SharedDirectory {
            tag,
            path,
            driver,
            read_only,
        } = share;
        let below = format!("shares[{place}]");
        found.keep(check_path(&format!("{below}.path"), path, "a directory"));
        let tag = found.keep(tag.parse().map_err(|v: Violation| v.below(&below)));
        checked.extend(tag.map(|tag| ShareConfig {
            tag,
            path: path.clone(),
            driver: *driver,
            read_only: *read_only,
        }));
    }
    let tags = shares.iter().enumerate();
    distinct(
        found,
        tags.map(|(place, share)| (format!("shares[{place}].tag"), &share.tag)),
    );
    checked
}
