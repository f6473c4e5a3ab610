//! Whether what a network card is to be connected to is there.

use std::net::{TcpListener, UdpSocket};
use std::path::Path;

use crate::domain::topology::virtualization::{PortForward, Protocol, VmNetwork};

use super::error::KvmError;
use super::libvirt::Libvirt;

/// Checks that a network is there, and that its forwarded ports are free, or held by the VM itself.
pub(super) async fn check_network(
    libvirt: &Libvirt,
    network: &VmNetwork,
    held: &[PortForward],
) -> Result<(), KvmError> {
    let is_held = |forward: &PortForward| {
        let same = |h: &PortForward| (h.host, h.protocol) == (forward.host, forward.protocol);
        held.iter().any(same)
    };
    match network {
        VmNetwork::User { forwards } => forwards.iter().try_for_each(|forward| {
            if is_held(forward) {
                return Ok(());
            }
            let address = ("127.0.0.1", forward.host);
            let bound = match forward.protocol {
                Protocol::Tcp => TcpListener::bind(address).map(drop),
                Protocol::Udp => UdpSocket::bind(address).map(drop),
            };
            bound.map_err(|source| KvmError::PortTaken {
                port: forward.host,
                protocol: forward.protocol.as_str(),
                source,
            })
        }),
        VmNetwork::Nat { network } => libvirt.check_network(network).await,
        VmNetwork::Bridge { name } => {
            let bridge = Path::new("/sys/class/net").join(name).join("bridge");
            if bridge.exists() {
                Ok(())
            } else {
                Err(KvmError::NoBridge {
                    bridge: name.clone(),
                })
            }
        }
    }
}
