//! The files of a device.

use harmony_base::digest::Sha256Digest;

use super::documents;
use super::{
    AGENT_BINARY, AGENT_CONFIG, AGENT_USER, DeviceError, NATS_CA, ProvisionIotAgentScore,
    RELEASES_CA, ServerCa, check_machine, guest_view_of_registries,
};
use crate::domain::error::ExecutorError;
use crate::domain::topology::linux_host::{HostCommand, HostFile, LinuxFacts, LinuxHost};

const UNIT_FILE: &str = "/etc/systemd/system/iot-agent.service";
pub(super) const UNIT_CONTENT: &str = include_str!("../iot-agent.service");
const SOCKET_FILE: &str = "/etc/systemd/user/iot-containers.socket";
pub(super) const SOCKET_CONTENT: &str = include_str!("../iot-containers.socket");
const SERVICE_FILE: &str = "/etc/systemd/user/iot-containers.service";
pub(super) const SERVICE_CONTENT: &str = include_str!("../iot-containers.service");
pub(super) const TMPFILES_FILE: &str = "/etc/tmpfiles.d/iot-agent.conf";
pub(super) const TMPFILES_CONTENT: &str = include_str!("../iot-agent.tmpfiles");
/// Holds [`stamp`]'s value of what the service was last started with.
const STAMP_FILE: &str = "/var/lib/harmony/iot-agent.applied";
pub(super) const REGISTRIES_FILE: &str = "/etc/containers/registries.conf.d/50-harmony.conf";

/// A device's files.
pub(super) struct Own {
    pub(super) program: HostFile,
    pub(super) unit: HostFile,
    pub(super) registries: HostFile,
    pub(super) nats_ca: Option<HostFile>,
    /// The agent reads it for each release that it fetches: another one needs no restart.
    pub(super) releases_ca: Option<HostFile>,
    pub(super) config: HostFile,
    /// Nobody else may read it: it would let a guess at the credentials be checked.
    pub(super) stamp: HostFile,
}

impl Own {
    pub(super) fn of(
        score: &ProvisionIotAgentScore,
        facts: &LinuxFacts,
        host: &str,
        program: Vec<u8>,
    ) -> Result<Self, DeviceError> {
        let (program, unit) = (program_file(program), unit_file());
        let config = config_file(score, facts, host)?;
        let ca_file = |path, ca: &ServerCa| root_file(path, ca.as_pem().into(), 0o644);
        let nats_ca = score.nats_ca.as_ref().map(|ca| ca_file(NATS_CA, ca));
        let releases_ca = score.releases_ca.as_ref();
        let releases_ca = releases_ca.map(|ca| ca_file(RELEASES_CA, ca));
        let read = [&program, &config, &unit].into_iter().chain(&nats_ca);
        let stamp = stamp(read).into_bytes();
        Ok(Self {
            registries: registries_file(score, facts)?,
            stamp: root_file(STAMP_FILE, stamp, 0o600),
            program,
            unit,
            nats_ca,
            releases_ca,
            config,
        })
    }
}

fn registries_file(
    score: &ProvisionIotAgentScore,
    facts: &LinuxFacts,
) -> Result<HostFile, DeviceError> {
    let registries = &score.insecure_registries;
    let registries = guest_view_of_registries(registries, facts.default_gateway)?;
    Ok(root_file(
        REGISTRIES_FILE,
        documents::registries(&registries)?,
        0o644,
    ))
}

pub(super) fn program_file(program: Vec<u8>) -> HostFile {
    root_file(AGENT_BINARY, program, 0o755)
}

pub(super) fn unit_file() -> HostFile {
    root_file(UNIT_FILE, UNIT_CONTENT.as_bytes().to_vec(), 0o644)
}

/// How the containers' user has its Podman listen for the agent, and nobody else.
pub(super) fn podman_files() -> [HostFile; 3] {
    let file = |path, content: &str| root_file(path, content.as_bytes().to_vec(), 0o644);
    [
        file(TMPFILES_FILE, TMPFILES_CONTENT),
        file(SOCKET_FILE, SOCKET_CONTENT),
        file(SERVICE_FILE, SERVICE_CONTENT),
    ]
}

/// The configuration as it has to be on this host, which must be of the requested architecture.
fn config_file(
    score: &ProvisionIotAgentScore,
    facts: &LinuxFacts,
    host: &str,
) -> Result<HostFile, DeviceError> {
    check_machine(facts, score.architecture, host)?;
    let mut config = score.config.clone();
    if score.nats_ca.is_some() {
        config.nats.tls.get_or_insert_default().ca = Some(NATS_CA.into());
    }
    if score.releases_ca.is_some() {
        let update = config.update.as_mut();
        update.ok_or(DeviceError::ReleasesCaUnused)?.ca = Some(RELEASES_CA.into());
    }
    config.nats = documents::guest_view_of_nats(&config.nats, facts.default_gateway)?;
    Ok(HostFile {
        path: AGENT_CONFIG.to_owned(),
        content: documents::agent_config(&config)?,
        owner: format!("root:{AGENT_USER}"),
        mode: 0o640,
    })
}

pub(super) fn root_file(path: &str, content: Vec<u8>, mode: u32) -> HostFile {
    HostFile {
        path: path.to_owned(),
        content,
        owner: "root:root".to_owned(),
        mode,
    }
}

/// One value for the content of all files that the service reads.
fn stamp<'a>(files: impl Iterator<Item = &'a HostFile>) -> String {
    let contents: Vec<&[u8]> = files.map(|file| file.content.as_slice()).collect();
    hex(&contents)
}

/// Whether the service has to be started anew when the file is another one.
pub(super) fn is_read_by_agent(file: &HostFile) -> bool {
    [AGENT_BINARY, UNIT_FILE, AGENT_CONFIG, NATS_CA].contains(&file.path.as_str())
}

/// One value for several contents, which no other division of the same bytes has.
pub(super) fn hex(contents: &[&[u8]]) -> String {
    let digests = contents.iter().map(|content| Sha256Digest::of(content));
    let all: Vec<u8> = digests.flat_map(|digest| *digest.bytes()).collect();
    Sha256Digest::of(&all).to_string()
}

/// Whether the service was last started with these files.
pub(super) async fn is_stamped<T: LinuxHost>(
    host: &T,
    stamp: &HostFile,
) -> Result<bool, ExecutorError> {
    // An absent stamp is an empty one.
    let read = HostCommand::new("cat").arg(STAMP_FILE).as_root();
    Ok(host.run(&read, &[]).await?.stdout.as_bytes() == stamp.content)
}
