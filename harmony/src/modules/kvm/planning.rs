//! Planning a VM: everything that can be refused is refused here, and nothing is made but a copy of the
//! image where QEMU can read it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::domain::topology::virtualization::{ConsoleLog, KernelBoot, VmNetwork};
use crate::modules::host::HostFacts;
use crate::modules::ssh;

use super::bringup::{Origin, Planned};
use super::conformance::boot_path;
use super::connection::ConnectionUri;
use super::disk;
use super::error::KvmError;
use super::layout::{Layout, make_private_dir};
use super::libvirt::Libvirt;
use super::network::check_network;
use super::params::DomainXmlParams;
use super::placement::{PlacedDisk, Placement};
use super::record::DomainRecord;
use super::types::{Violation, Violations, VmConfig};
use super::xml::domain_xml;

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

/// A VM with every knob, identity and file, and its XML.
pub(super) struct Resolved {
    pub(super) params: DomainXmlParams,
    pub(super) placement: Placement,
    pub(super) xml: String,
}

impl Planner<'_> {
    /// Plans a new VM. One that takes the place of another keeps that one's identity, unless its spec has
    /// another, and may have the ports that the other one holds.
    pub(super) async fn plan(
        &self,
        config: VmConfig,
        old: Option<&DomainRecord>,
    ) -> Result<Planned, KvmError> {
        let layout = self.layout(&config);
        if let Some(path) = layout.foreign_file()? {
            return Err(KvmError::FileTaken { path });
        }
        let params = DomainXmlParams::resolve(&config, self.facts)?;
        check_paths(&config, &layout)?;
        let held = old.map(DomainRecord::forwards).unwrap_or_default();
        for card in config.networks() {
            check_network(self.libvirt, &card.network, &held).await?;
        }
        let info = disk::check_image(&config, boot_path(&config, &params)).await?;
        if self.uri == ConnectionUri::Session {
            make_private_dir(&self.pool)?;
        }
        disk::check_space(&self.pool)?;
        let mut placement = self.place(&config, &layout, old).await?;
        let image = self.publish(config.image()).await?;
        placement.image_sha256 = Some(disk::image_digest(&image).await?);
        self.publish_kernel(&config).await?;
        let xml = domain_xml(&config, &params, &placement)?;
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
            origin: Origin::Image {
                path: image,
                format: info.format,
            },
            host_key,
        })
    }

    /// What a VM that is there would be now. It keeps its identity and its files.
    pub(super) async fn replan(
        &self,
        config: &VmConfig,
        record: &DomainRecord,
    ) -> Result<Resolved, KvmError> {
        let params = DomainXmlParams::resolve(config, self.facts)?;
        let layout = self.layout(config);
        let placement = Placement {
            image_sha256: record.image_sha256,
            ..self.place(config, &layout, Some(record)).await?
        };
        let xml = domain_xml(config, &params, &placement)?;
        Ok(Resolved {
            params,
            placement,
            xml,
        })
    }

    fn layout(&self, config: &VmConfig) -> Layout {
        Layout::new(self.uri, self.data_dir, config.name())
    }

    /// Puts the kernel from outside where its placement says that it is.
    pub(super) async fn publish_kernel(&self, config: &VmConfig) -> Result<(), KvmError> {
        if let Some(kernel) = config.kernel() {
            self.publish(&kernel.image).await?;
            if let Some(initrd) = &kernel.initrd {
                self.publish(initrd).await?;
            }
        }
        Ok(())
    }

    async fn publish(&self, file: &Path) -> Result<PathBuf, KvmError> {
        let system = self.uri == ConnectionUri::System;
        disk::publish_image(file, &self.pool, system).await
    }

    async fn place(
        &self,
        config: &VmConfig,
        layout: &Layout,
        recorded: Option<&DomainRecord>,
    ) -> Result<Placement, KvmError> {
        let uuid = config.uuid().or(recorded.map(|r| r.uuid));
        let uuid = uuid.unwrap_or_else(Uuid::new_v4);
        let first = config.networks().first().map(|card| &card.network);
        let ssh_port = match (first, recorded.and_then(|r| r.ssh_port)) {
            (Some(VmNetwork::User { .. }), Some(port)) => Some(port),
            (Some(VmNetwork::User { .. }), None) => Some(self.free_port(config).await?),
            _ => None,
        };
        let mut disks = Vec::with_capacity(config.disks().len());
        for disk in config.disks() {
            let placed = disk::place(config.name(), disk, &layout.files).await?;
            // A guest that wrote another format's header into its disk does not change what the disk is.
            let format = recorded.and_then(|r| r.disk_format(disk));
            disks.push(PlacedDisk {
                format: format.unwrap_or(placed.format),
                ..placed
            });
        }
        let kernel = config.kernel().map(|kernel| self.place_kernel(kernel));
        let placement = Placement {
            ssh_port,
            disks,
            kernel: kernel.transpose()?,
            ..Placement::new(config, uuid, &layout.files)
        };
        Ok(match recorded {
            Some(record) if config.serial().is_none() => Placement {
                serial: record.serial.clone(),
                ..placement
            },
            _ => placement,
        })
    }

    fn place_kernel(&self, kernel: &KernelBoot) -> Result<(PathBuf, Option<PathBuf>), KvmError> {
        let system = self.uri == ConnectionUri::System;
        let published = |file: &PathBuf| disk::published_path(file, &self.pool, system);
        let initrd = kernel.initrd.as_ref().map(published).transpose()?;
        Ok((published(&kernel.image)?, initrd))
    }

    /// A port that nobody listens on and no VM of harmony's has, running or off, this one's other ports
    /// included. The first one tried depends on the name, so a VM that is made again usually gets the same.
    async fn free_port(&self, config: &VmConfig) -> Result<u16, KvmError> {
        let documents = self.libvirt.all_metadata().await?;
        let records = documents.iter().map(|xml| DomainRecord::from_metadata(xml));
        let mut taken: Vec<u16> = Vec::new();
        for record in records.filter_map(Result::ok) {
            taken.extend(record.ssh_port);
            taken.extend(record.forwards().iter().map(|forward| forward.host));
        }
        let own = config
            .networks()
            .iter()
            .flat_map(|card| card.network.forwards());
        taken.extend(own.map(|forward| forward.host));
        let count = PORTS.end() - PORTS.start() + 1;
        let name = config.name().as_str().as_bytes();
        let bytes = *Uuid::new_v5(&Uuid::NAMESPACE_DNS, name).as_bytes();
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

/// Checks what the spec names and the VM's making would only find missing when the old VM is gone.
fn check_paths(config: &VmConfig, layout: &Layout) -> Result<(), KvmError> {
    let mut found = Violations::default();
    for (place, share) in config.shares().iter().enumerate() {
        found.require(share.path.is_dir(), || {
            let field = format!("shares[{place}].path");
            Violation::new(field, share.path.display(), "a directory that exists")
        });
    }
    if let ConsoleLog::File { path } = config.console() {
        let (directory, own) = (path.parent(), layout.files.owns(path));
        found.require(directory.is_some_and(Path::is_dir) && !own, || {
            let expected = "a file in a directory that exists, and none of the VM's own";
            Violation::new("console.path", path.display(), expected)
        });
    }
    found.require(!layout.files.owns(config.image()), || {
        let expected = "a file that is not removed with the virtual machine";
        Violation::new("image", config.image().display(), expected)
    });
    match found.into_vec() {
        violations if violations.is_empty() => Ok(()),
        violations => Err(KvmError::Invalid { violations }),
    }
}
