//! Bringing a VM up, as a typestate: each step consumes the one before and unwinds what it made when it
//! fails.
//!
//! ```text
//! Planned --define()--> Defined --start()--> running
//!    |                     |
//!    | files, domain       | domain undefined,
//!    | removed             | files removed
//!    v                     v
//!  error                 error
//! ```
//!
//! Everything that can be refused has been refused before the first file of the VM is made. A process that is
//! killed half-way leaves a state directory; the next run recognises it as its own and clears what is left.

use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use tracing::{info, warn};

use crate::domain::topology::virtualization::DiskSource;
use crate::modules::cloud_init::{SeedInputs, write_seed};
use crate::modules::ssh::HostKey;

use super::disk::{create_blank, create_overlay};
use super::error::KvmError;
use super::layout::Layout;
use super::libvirt::Libvirt;
use super::nvram::ensure_nvram;
use super::params::{DomainXmlParams, Firmware};
use super::placement::Placement;
use super::types::VmConfig;

/// Everything that is needed to make a VM, checked, and nothing done yet.
pub(super) struct Planned {
    pub(super) config: VmConfig,
    pub(super) params: DomainXmlParams,
    pub(super) placement: Placement,
    pub(super) layout: Layout,
    pub(super) xml: String,
    /// The backing image where QEMU can read it, and its format.
    pub(super) image: (PathBuf, String),
    /// The guest's host key, when it gets a seed.
    pub(super) host_key: Option<HostKey>,
}

/// A VM that libvirt knows and that is off.
pub(super) struct Defined {
    name: String,
    layout: Layout,
}

impl Planned {
    /// Makes the files and defines the domain.
    pub(super) async fn define(self, libvirt: &Libvirt) -> Result<Defined, KvmError> {
        let name = self.config.name().to_string();
        let result = match self.make_files().await {
            Ok(()) => libvirt.define(&name, self.xml).await,
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => {
                info!(vm = %name, "defined");
                Ok(Defined {
                    name,
                    layout: self.layout,
                })
            }
            Err(error) => {
                clear(&name, &self.layout);
                Err(error)
            }
        }
    }

    async fn make_files(&self) -> Result<(), KvmError> {
        let Self {
            config,
            params,
            placement,
            layout,
            image: (image, format),
            host_key,
            ..
        } = self;
        // What an interrupted run left of this VM; a foreign file was refused when planning.
        layout.remove()?;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&layout.state_dir)
            .map_err(KvmError::io("make", &layout.state_dir))?;
        if let (Some(first_boot), Some(host_key)) = (config.first_boot(), host_key) {
            std::fs::write(layout.host_key(), format!("{}\n", host_key.public_line()))
                .map_err(KvmError::io("write", layout.host_key()))?;
            let inputs = SeedInputs {
                instance_id: placement.uuid,
                hostname: config.name().hostname(),
                macs: placement.macs.iter().map(ToString::to_string).collect(),
                first_boot: first_boot.clone(),
                host_key: host_key.clone(),
            };
            write_seed(&layout.files.seed, &inputs).map_err(|source| KvmError::Seed {
                name: config.name().to_string(),
                source,
            })?;
        }
        create_overlay(&layout.files.overlay, image, format, config.disk_gib()).await?;
        for (disk, placed) in config.disks().iter().zip(&placement.disks) {
            if let DiskSource::Blank { size_gib } = disk.source {
                create_blank(&placed.file, size_gib).await?;
            }
        }
        if let Firmware::Uefi(firmware) = &params.firmware {
            ensure_nvram(&firmware.vars_template, &layout.files.nvram)?;
        }
        Ok(())
    }
}

impl Defined {
    /// Powers it on for the first time.
    pub(super) async fn start(self, libvirt: &Libvirt) -> Result<(), KvmError> {
        match libvirt.start(&self.name).await {
            Ok(()) => {
                info!(vm = %self.name, "started");
                Ok(())
            }
            Err(error) => {
                // It may be on all the same, when only the answer was lost.
                let gone = match libvirt.power_off(&self.name).await {
                    Ok(()) => libvirt.undefine(&self.name).await,
                    Err(error) => Err(error),
                };
                match gone {
                    Ok(()) => clear(&self.name, &self.layout),
                    Err(second) => {
                        warn!(vm = %self.name, error = %second, "could not be removed after a failed start");
                    }
                }
                Err(error)
            }
        }
    }
}

fn clear(name: &str, layout: &Layout) {
    if let Err(error) = layout.remove() {
        warn!(vm = %name, %error, "files could not be removed after a failure");
    }
}
