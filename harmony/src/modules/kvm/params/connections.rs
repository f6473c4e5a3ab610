//! What connects a guest with its host: network cards and shared directories.

use crate::domain::topology::virtualization::{ShareDriver, VmNetwork};
use crate::modules::host::{DomainCapabilities, HostFacts, LibvirtFacts, LibvirtVersion};
use crate::modules::kvm::types::{ShareConfig, Violation};

/// What libvirt has since which version (libvirt's own documentation of its domain format, and its news).
const PASST_SINCE: LibvirtVersion = LibvirtVersion::new(9, 2);
const UNPRIVILEGED_VIRTIOFS_SINCE: LibvirtVersion = LibvirtVersion::new(10, 0);
const READ_ONLY_VIRTIOFS_SINCE: LibvirtVersion = LibvirtVersion::new(11, 0);

/// How a shared directory crosses, and why so.
pub(super) fn choose_share_driver(
    place: usize,
    share: &ShareConfig,
    host: &HostFacts,
) -> Result<(ShareDriver, String), Violation> {
    if share.driver == ShareDriver::NineP {
        return Ok((ShareDriver::NineP, "asked for".to_owned()));
    }
    match (virtiofs_obstacle(share, host), share.driver) {
        (Ok(daemon), _) => Ok((ShareDriver::Virtiofs, format!("through {daemon}"))),
        (Err(obstacle), ShareDriver::Virtiofs) => {
            let field = format!("shares[{place}].driver");
            let expected = format!("9p or auto: {obstacle}");
            Err(Violation::new(field, "virtiofs", expected)
                .fix(format!("set the driver of '{}' to 9p", share.tag)))
        }
        (Err(obstacle), _) => Ok((ShareDriver::NineP, format!("part of QEMU; {obstacle}"))),
    }
}

/// The daemon that would serve the share, or why virtiofs cannot.
fn virtiofs_obstacle(share: &ShareConfig, host: &HostFacts) -> Result<String, String> {
    let Some(daemon) = &host.programs.virtiofsd else {
        return Err("this host has no virtiofsd".to_owned());
    };
    let LibvirtFacts::Answers { uri, version, .. } = &host.libvirt else {
        return Err("libvirt was not asked".to_owned());
    };
    let needs = |what: &str, since: LibvirtVersion| {
        Err(format!(
            "{what} needs libvirt {since}, and this is {version}"
        ))
    };
    if uri.ends_with("/session") && *version < UNPRIVILEGED_VIRTIOFS_SINCE {
        return needs("virtiofs in a session", UNPRIVILEGED_VIRTIOFS_SINCE);
    }
    if share.read_only && *version < READ_ONLY_VIRTIOFS_SINCE {
        return needs("read-only virtiofs", READ_ONLY_VIRTIOFS_SINCE);
    }
    Ok(daemon.display().to_string())
}

/// Why libvirt cannot use passt. Where it does not say what it can use, its version tells: Debian 12's 9.0
/// refuses the name, although the feature's first parts are in it.
fn passt_obstacle(capabilities: Option<&DomainCapabilities>, host: &HostFacts) -> Option<String> {
    let backends = capabilities.map_or(&[][..], |c| &c.network_backends);
    let version = host.libvirt_version()?;
    if backends.iter().any(|b| b == "passt") || (backends.is_empty() && version >= PASST_SINCE) {
        return None;
    }
    Some(format!(
        "libvirt {version} cannot use passt (it can since {PASST_SINCE})"
    ))
}

/// What a network card's network depends on, or why the host does not have it.
pub(in crate::modules) fn check_network(
    field: &str,
    network: &VmNetwork,
    capabilities: Option<&DomainCapabilities>,
    host: &HostFacts,
) -> Result<String, Violation> {
    match network {
        VmNetwork::Nat { .. } => Ok("the address comes from libvirt's lease".to_owned()),
        VmNetwork::Bridge { .. } => Ok("the address comes from the bridge's network".to_owned()),
        VmNetwork::User { .. } => {
            let refuse = |obstacle: String, fix: &str| {
                let expected = format!("nat or bridge: {obstacle}");
                Err(Violation::new(field, network, expected).fix(fix))
            };
            let Some(passt) = &host.programs.passt else {
                return refuse("this host has no passt".to_owned(), "install passt");
            };
            if let Some(obstacle) = passt_obstacle(capabilities, host) {
                return refuse(obstacle, "use a NAT network, or a newer libvirt");
            }
            Ok(format!("through {}", passt.display()))
        }
    }
}
