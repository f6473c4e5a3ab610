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
use std::path::{Path, PathBuf};

use tracing::{info, warn};

use crate::domain::topology::virtualization::DiskSource;
use crate::modules::cloud_init::{SeedHostKey, SeedInputs, write_seed};
use crate::modules::ssh::HostKey;

use super::disk::{create_blank, create_overlay};
use super::error::KvmError;
use super::layout::Layout;
use super::libvirt::Libvirt;
use super::nvram::ensure_nvram;
use super::params::{DomainXmlParams, Firmware};
use super::placement::Placement;
use super::record::record_text;
use super::types::VmConfig;

/// Everything that is needed to make a VM, checked, and nothing done yet.
pub(super) struct Planned {
    pub(super) config: VmConfig,
    pub(super) params: DomainXmlParams,
    pub(super) placement: Placement,
    pub(super) layout: Layout,
    pub(super) xml: String,
    /// What its disk begins with.
    pub(super) origin: Origin,
    /// The guest's host key, when it gets a seed.
    pub(super) host_key: Option<HostKey>,
}

/// What a VM's disk begins with.
pub(super) enum Origin {
    /// An image where QEMU can read it, and its format.
    Image { path: PathBuf, format: String },
    /// A guest that was saved: its disk, and its variable store.
    Checkpoint { disk: PathBuf, nvram: PathBuf },
}

impl Origin {
    /// The overlay's backing file and its format.
    fn backing(&self) -> (&Path, &str) {
        match self {
            Self::Image { path, format } => (path, format),
            Self::Checkpoint { disk, .. } => (disk, "qcow2"),
        }
    }
}

/// A VM that libvirt knows and that is off.
pub(super) struct Defined {
    name: String,
    layout: Layout,
}

impl Planned {
    /// The record in its document, as text.
    pub(super) fn record(&self) -> Result<String, KvmError> {
        record_text(&self.config, &self.params, &self.placement)
    }

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
            origin,
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
        if matches!(origin, Origin::Checkpoint { .. }) {
            layout.begin_fork()?;
        }
        if let (Some(first_boot), Some(host_key)) = (config.first_boot(), host_key) {
            std::fs::write(layout.host_key(), format!("{}\n", host_key.public_line()))
                .map_err(KvmError::io("write", layout.host_key()))?;
            let inputs = SeedInputs {
                instance_id: placement.uuid,
                hostname: config.name().hostname(),
                macs: placement.macs.iter().map(ToString::to_string).collect(),
                first_boot: first_boot.clone(),
                host_key: SeedHostKey {
                    private_openssh: host_key.private_openssh().to_owned(),
                    public_line: host_key.public_line(),
                },
            };
            write_seed(&layout.files.seed, &inputs).map_err(|source| KvmError::Seed {
                name: config.name().to_string(),
                source,
            })?;
        }
        let (image, format) = origin.backing();
        create_overlay(&layout.files.overlay, image, format, config.disk_gib()).await?;
        for (disk, placed) in config.disks().iter().zip(&placement.disks) {
            if let DiskSource::Blank { size_gib } = disk.source {
                create_blank(&placed.file, size_gib).await?;
            }
        }
        if let Firmware::Uefi(firmware) = &params.firmware {
            let template = match origin {
                Origin::Image { .. } => &firmware.vars_template,
                Origin::Checkpoint { nvram, .. } => nvram,
            };
            ensure_nvram(template, &layout.files.nvram)?;
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
                let name = self.name.clone();
                if let Err(second) = self.undo(libvirt).await {
                    warn!(vm = %name, error = %second, "could not be removed after a failed start");
                }
                Err(error)
            }
        }
    }

    /// Removes it and its files. It may be on, when only an answer was lost.
    pub(super) async fn undo(self, libvirt: &Libvirt) -> Result<(), KvmError> {
        libvirt.power_off(&self.name).await?;
        libvirt.undefine(&self.name).await?;
        clear(&self.name, &self.layout);
        Ok(())
    }
}

fn clear(name: &str, layout: &Layout) {
    if let Err(error) = layout.remove() {
        warn!(vm = %name, %error, "files could not be removed after a failure");
    }
}
