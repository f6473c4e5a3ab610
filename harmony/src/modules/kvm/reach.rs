//! Finding a guest on the network, and waiting until its SSH server answers.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tracing::debug;

use crate::domain::topology::virtualization::{GuestAddress, VmNetwork, VmStatus};
use crate::modules::ssh::{PinnedHostKey, known_hosts_line};

use super::console;
use super::error::KvmError;
use super::layout::Layout;
use super::libvirt::{AddressSource, Libvirt};
use super::record::DomainRecord;
use super::types::VmName;

/// How often a new attempt is made while the guest does not answer.
const ATTEMPT_INTERVAL: Duration = Duration::from_secs(1);

/// How long one attempt may take to show an SSH banner. passt accepts connections before the guest does,
/// so an open port alone proves nothing; and an emulated guest under load may need many seconds.
const BANNER_TIMEOUT: Duration = Duration::from_secs(30);

/// How many attempts may be under way. An attempt that began before the guest had a network can hang
/// although the next one is answered at once, so attempts overlap.
const MAX_ATTEMPTS: usize = 16;

/// Waits until SSH answers.
pub(super) async fn wait_for_ssh(
    libvirt: &Libvirt,
    name: &VmName,
    record: &DomainRecord,
    layout: &Layout,
    bound: Duration,
) -> Result<GuestAddress, KvmError> {
    const AWAITED: &str = "an answer of SSH";
    let deadline = Instant::now() + bound;
    let mut attempts = FuturesUnordered::new();
    let Some(network) = first_network(record) else {
        return Err(KvmError::Unconnected {
            name: name.to_string(),
            awaited: AWAITED,
        });
    };
    let mut last_seen = format!("no address yet ({network})");
    loop {
        let status = libvirt
            .view(name.as_str())
            .await?
            .map_or(VmStatus::Absent, |view| view.status);
        if status != VmStatus::Running {
            return Err(KvmError::NotRunning {
                name: name.to_string(),
                status,
                awaited: AWAITED,
            });
        }
        let found = candidates(libvirt, name, record).await?;
        let room = MAX_ATTEMPTS.saturating_sub(attempts.len());
        attempts.extend(found.into_iter().take(room).map(attempt));
        let next_attempt = Instant::now() + ATTEMPT_INTERVAL;
        while let Ok(Some(outcome)) = timeout_at(next_attempt, attempts.next()).await {
            match outcome {
                Ok(socket) => return finish(socket, layout),
                Err(seen) => last_seen = seen,
            }
        }
        if Instant::now() >= deadline {
            let console =
                console::tail(record.console_log(&layout.files.console_log).as_deref(), 1);
            return Err(KvmError::TimedOut {
                name: name.to_string(),
                awaited: AWAITED,
                bound,
                last_seen: format!("{last_seen}; console: {console}"),
            });
        }
        debug!(vm = %name, last_seen, "not reachable yet");
        sleep_until(next_attempt).await;
    }
}

/// One attempt: the socket when it shows a banner, or what was seen instead.
async fn attempt(socket: SocketAddr) -> Result<SocketAddr, String> {
    match timeout(BANNER_TIMEOUT, banner(socket)).await {
        Ok(Ok(())) => Ok(socket),
        Ok(Err(error)) => Err(format!("{socket}: {error}")),
        Err(_) => Err(format!(
            "{socket}: no banner within {} s",
            BANNER_TIMEOUT.as_secs()
        )),
    }
}

async fn candidates(
    libvirt: &Libvirt,
    name: &VmName,
    record: &DomainRecord,
) -> Result<Vec<SocketAddr>, KvmError> {
    let (Some(network), Some(mac)) = (first_network(record), record.macs.first()) else {
        return Ok(Vec::new());
    };
    let sources: &[AddressSource] = match (network, record.ssh_port) {
        (VmNetwork::User { .. }, Some(port)) => {
            return Ok(vec![(Ipv4Addr::LOCALHOST, port).into()]);
        }
        (VmNetwork::User { .. }, None) => &[],
        (VmNetwork::Nat { .. }, _) => &[AddressSource::Lease],
        (VmNetwork::Bridge { .. }, _) => &[AddressSource::Agent, AddressSource::Arp],
    };
    let mut found = Vec::new();
    for source in sources {
        let addresses = libvirt.addresses(name.as_str(), *mac, *source).await?;
        found.extend(addresses.into_iter().map(|ip| SocketAddr::new(ip, 22)));
    }
    Ok(found)
}

/// What the card is connected to through which the guest is reached.
fn first_network(record: &DomainRecord) -> Option<&VmNetwork> {
    Some(&record.spec.networks.first()?.network)
}

async fn banner(socket: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(socket).await?;
    // Both sides introduce themselves without waiting for the other (RFC 4253, section 4.2). Saying our
    // line first matters: passt of 2023-03 holds a guest's first bytes back for 24 s else.
    stream.write_all(b"SSH-2.0-harmony\r\n").await?;
    let mut bytes = [0_u8; 4];
    stream.read_exact(&mut bytes).await?;
    if &bytes == b"SSH-" {
        Ok(())
    } else {
        Err(std::io::Error::other("something that is not SSH answers"))
    }
}

/// Adds the pinned host key, and writes the VM's known_hosts file for people's own `ssh`.
fn finish(socket: SocketAddr, layout: &Layout) -> Result<GuestAddress, KvmError> {
    let host_key = match std::fs::read_to_string(layout.host_key()) {
        Ok(line) => Some(line.trim_end().to_owned()),
        // A VM without a first boot has a host key of its own making.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(KvmError::io("read", layout.host_key())(error)),
    };
    if let Some(key) = &host_key {
        let key: PinnedHostKey = key.parse().map_err(|error| KvmError::Internal {
            what: format!("{}: {error}", layout.host_key().display()),
        })?;
        let line = known_hosts_line(&socket.ip().to_string(), socket.port(), &key);
        std::fs::write(layout.known_hosts(), format!("{line}\n"))
            .map_err(KvmError::io("write", layout.known_hosts()))?;
    }
    Ok(GuestAddress {
        ip: socket.ip(),
        ssh_port: socket.port(),
        host_key,
    })
}

/// The addresses that are known of a guest, for a diagnosis.
pub(super) async fn describe(libvirt: &Libvirt, name: &VmName, record: &DomainRecord) -> String {
    match candidates(libvirt, name, record).await {
        Ok(found) if found.is_empty() => {
            let network = first_network(record);
            let network = network.map_or_else(|| "none".to_owned(), ToString::to_string);
            format!("none known (network {network})")
        }
        Ok(found) => found
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", "),
        Err(error) => error.to_string(),
    }
}
