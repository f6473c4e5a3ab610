//! Planning a VM: everything that can be refused is refused here, and nothing is made but a copy of the
//! image where QEMU can read it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::domain::topology::virtualization::{VmArchitecture, VmNetwork};
use crate::modules::host::HostFacts;
use crate::modules::ssh;

use super::bringup::Planned;
use super::connection::ConnectionUri;
use super::disk;
use super::error::KvmError;
use super::firmware::discover_aarch64_firmware;
use super::layout::Layout;
use super::libvirt::Libvirt;
use super::params::{DomainXmlParams, machine_alias};
use super::record::DomainRecord;
use super::topology::make_private_dir;
use super::types::{MacAddress, VmConfig};
use super::xml::{Placement, domain_xml};

/// Ports for forwarded SSH: below the range from which Linux takes ports for outgoing connections, so
/// that a VM finds its port free again after a power cycle.
const PORTS: std::ops::RangeInclusive<u16> = 20_000..=29_999;

/// What planning looks at.
pub(super) struct Planner<'a> {
    pub(super) libvirt: &'a Libvirt,
    pub(super) facts: &'a HostFacts,
    pub(super) uri: ConnectionUri,
    pub(super) pool: PathBuf,
    pub(super) data_dir: &'a Path,
}

impl Planner<'_> {
    /// Plans a new VM.
    pub(super) async fn plan(&self, config: VmConfig) -> Result<Planned, KvmError> {
        let layout = Layout::new(self.uri, self.data_dir, config.name());
        if let Some(path) = layout.foreign_file() {
            return Err(KvmError::FileTaken { path });
        }
        let (params, placement, xml) = self.resolve(&config, None).await?;
        self.check_network(config.network()).await?;
        let info = disk::check_image(&config).await?;
        if self.uri == ConnectionUri::Session {
            make_private_dir(&self.pool)?;
        }
        disk::check_space(&self.pool)?;
        let system = self.uri == ConnectionUri::System;
        let image = disk::publish_image(config.image(), &self.pool, system).await?;
        let host_key = config
            .first_boot()
            .map(|_| ssh::generate_host_key())
            .transpose()
            .map_err(|error| KvmError::Internal {
                what: format!("no host key could be made: {error}"),
            })?;
        Ok(Planned {
            config,
            params,
            placement,
            layout,
            xml,
            image: (image, info.format),
            host_key,
        })
    }

    /// Every knob, the VM's identity and files, and the XML. An existing VM keeps its identity.
    pub(super) async fn resolve(
        &self,
        config: &VmConfig,
        recorded: Option<&DomainRecord>,
    ) -> Result<(DomainXmlParams, Placement, String), KvmError> {
        let arch = config.architecture();
        let emulator = self
            .facts
            .emulators
            .get(&arch)
            .ok_or(KvmError::MissingEmulator { architecture: arch })?;
        let machine = self
            .libvirt
            .machine(
                &emulator.path.to_string_lossy(),
                arch.as_str(),
                machine_alias(arch),
            )
            .await?;
        let firmware = match arch {
            VmArchitecture::X86_64 => None,
            VmArchitecture::Aarch64 => Some(discover_aarch64_firmware()?),
        };
        let params = DomainXmlParams::resolve(config, self.facts, machine, firmware)?;
        let uuid = recorded.map_or_else(Uuid::new_v4, |record| record.uuid);
        let ssh_port = match (config.network(), recorded.and_then(|r| r.ssh_port)) {
            (VmNetwork::User, Some(port)) => Some(port),
            (VmNetwork::User, None) => Some(self.free_port(config.name().as_str()).await?),
            _ => None,
        };
        let layout = Layout::new(self.uri, self.data_dir, config.name());
        let placement = Placement {
            uuid,
            mac: recorded.map_or_else(|| MacAddress::for_vm(uuid), |record| record.mac),
            overlay: layout.overlay,
            seed: config.first_boot().map(|_| layout.seed),
            nvram: layout.nvram,
            console_log: layout.console_log,
            ssh_port,
        };
        let xml = domain_xml(config, &params, &placement)?;
        Ok((params, placement, xml))
    }

    async fn check_network(&self, network: &VmNetwork) -> Result<(), KvmError> {
        match network {
            VmNetwork::User => Ok(()),
            VmNetwork::Nat { network } => self.libvirt.check_network(network).await,
            VmNetwork::Bridge { name } => {
                if Path::new("/sys/class/net")
                    .join(name)
                    .join("bridge")
                    .exists()
                {
                    Ok(())
                } else {
                    Err(KvmError::NoBridge {
                        bridge: name.clone(),
                    })
                }
            }
        }
    }

    /// A port that nobody listens on and no VM of harmony's has, running or off. The first one tried
    /// depends on the name, so a VM that is made again usually gets the same.
    async fn free_port(&self, name: &str) -> Result<u16, KvmError> {
        let taken: Vec<u16> = self
            .libvirt
            .all_metadata()
            .await?
            .iter()
            .filter_map(|xml| DomainRecord::from_metadata(xml).ok()?.ssh_port)
            .collect();
        let count = PORTS.end() - PORTS.start() + 1;
        let bytes = *Uuid::new_v5(&Uuid::NAMESPACE_DNS, name.as_bytes()).as_bytes();
        let first = u16::from_be_bytes([bytes[0], bytes[1]]) % count;
        (0..count)
            .map(|offset| PORTS.start() + (first + offset) % count)
            .filter(|port| !taken.contains(port))
            .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
            .ok_or(KvmError::NoPort {
                first: *PORTS.start(),
                last: *PORTS.end(),
            })
    }
}
