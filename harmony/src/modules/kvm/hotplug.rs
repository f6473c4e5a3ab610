//! Plugging devices into a running guest, and out of it.
//!
//! A plugged-in device is part of the running domain only: the definition stays what the spec says. A guest
//! takes its time to let go of a device, so unplugging waits until libvirt no longer lists it.

mod live;

use std::path::Path;
use std::time::Duration;

use harmony_base::wait::{self, Look};
use tracing::{info, warn};

use crate::domain::topology::virtualization::{
    DataDisk, DiskHandle, DiskSource, NetworkCard, NetworkHandle, VmNetwork, VmStatus,
};
use crate::modules::host::HostFacts;

use live::LiveDevices;

use super::disk;
use super::element::Element;
use super::error::KvmError;
use super::files::VmFiles;
use super::libvirt::Libvirt;
use super::network::check_network;
use super::params;
use super::record::DomainRecord;
use super::types::{MAX_DISKS, MAX_NETWORKS, MacAddress, Violation, Violations, VmName};
use super::types::{check_card, check_disk};
use super::xml::{DiskTarget, data_disk, interface, plugged_card, plugged_disk};

/// How long a guest may take to let go of a device. An emulated x86_64 one took under 2 s, an arm64 one 6 to
/// 8 s: without ACPI it waits 5 s after the slot's button was pressed, in case that was a mistake (Linux'
/// `pciehp_handle_button_press`).
const RELEASE_TIMEOUT: Duration = Duration::from_secs(60);

/// How often it is looked whether it has.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// One running guest.
pub(super) struct Running<'a> {
    pub(super) libvirt: &'a Libvirt,
    pub(super) name: &'a VmName,
    pub(super) record: &'a DomainRecord,
    pub(super) facts: &'a HostFacts,
    pub(super) files: &'a VmFiles,
}

impl Running<'_> {
    pub(super) async fn attach_disk(&self, disk: &DataDisk) -> Result<DiskHandle, KvmError> {
        let checked = checked(|found| check_disk(found, "disk", disk))?;
        let devices = self.devices().await?;
        let handle = DiskHandle::of(checked.tag.as_str());
        if devices.disk(&handle).is_some() {
            return Err(KvmError::DeviceTaken {
                name: self.name.to_string(),
                device: handle.to_string(),
            });
        }
        let taken = devices.targets();
        let mut targets = (0..MAX_DISKS).map(DiskTarget::data);
        let target = targets
            .find(|target| !taken.contains(target.as_str()))
            .ok_or_else(|| full("disks", MAX_DISKS))?;
        self.require_room(&devices, &handle)?;
        let placed = disk::place(self.name, &checked, self.files).await?;
        let made = match checked.source {
            DiskSource::Blank { size_gib } => {
                disk::ensure_blank(self.name, &checked, &placed.file, size_gib).await?
            }
            DiskSource::File { .. } => false,
        };
        let attached = self.attach(data_disk(&checked, &placed, &target)).await;
        if attached.is_err() && made {
            self.clear_unless_attached(&handle, &placed.file).await;
        }
        attached?;
        info!(vm = %self.name, disk = handle.tag(), "plugged in");
        Ok(handle)
    }

    /// Removes a new disk's file after a failure, unless only the answer was lost.
    async fn clear_unless_attached(&self, handle: &DiskHandle, file: &Path) {
        match self.devices().await {
            Ok(devices) if devices.disk(handle).is_some() => {}
            Ok(_) => {
                if let Err(error) = std::fs::remove_file(file) {
                    warn!(vm = %self.name, file = %file.display(), %error, "left after a failure");
                }
            }
            Err(error) => {
                warn!(vm = %self.name, file = %file.display(), %error, "perhaps left after a failure");
            }
        }
    }

    pub(super) async fn detach_disk(&self, handle: &DiskHandle) -> Result<(), KvmError> {
        let devices = self.devices().await?;
        let disk = devices.disk(handle).ok_or_else(|| self.missing(handle))?;
        let element = plugged_disk(handle, &disk.target.dev);
        self.libvirt
            .detach(self.name.as_str(), document(&element)?)
            .await?;
        self.wait_until_gone(handle, |devices| devices.disk(handle).is_none())
            .await
    }

    pub(super) async fn attach_network(
        &self,
        card: &NetworkCard,
    ) -> Result<NetworkHandle, KvmError> {
        let checked = checked(|found| check_card(found, "card", card))?;
        self.check_network(&checked.network).await?;
        let devices = self.devices().await?;
        let places = 0..u32::try_from(MAX_NETWORKS).unwrap_or(u32::MAX);
        let handle = places
            .map(NetworkHandle::of)
            .find(|handle| devices.card(handle).is_none())
            .ok_or_else(|| full("networks", MAX_NETWORKS))?;
        let taken = devices.macs();
        let place = usize::try_from(handle.place()).unwrap_or(usize::MAX);
        let mac = match checked.mac {
            Some(mac) if taken.contains(&mac) => {
                return Err(KvmError::DeviceTaken {
                    name: self.name.to_string(),
                    device: format!("network card with address {mac}"),
                });
            }
            Some(mac) => mac,
            None => MacAddress::derived(self.record.uuid, place, &taken),
        };
        self.require_room(&devices, &handle)?;
        self.attach(interface(&checked.network, mac, &handle, None))
            .await?;
        info!(vm = %self.name, card = handle.place(), %mac, "plugged in");
        Ok(handle)
    }

    pub(super) async fn detach_network(&self, handle: &NetworkHandle) -> Result<(), KvmError> {
        let devices = self.devices().await?;
        let card = devices.card(handle).ok_or_else(|| self.missing(handle))?;
        let element = plugged_card(handle, &card.kind, &card.mac.address);
        self.libvirt
            .detach(self.name.as_str(), document(&element)?)
            .await?;
        self.wait_until_gone(handle, |devices| devices.card(handle).is_none())
            .await
    }

    async fn check_network(&self, network: &VmNetwork) -> Result<(), KvmError> {
        let record = self.record;
        let capabilities = self
            .facts
            .capabilities(record.spec.architecture, record.accelerator);
        params::check_network("card.network", network, capabilities, self.facts).map_err(
            |violation| KvmError::Invalid {
                violations: vec![violation],
            },
        )?;
        check_network(self.libvirt, network, &[]).await
    }

    async fn attach(&self, device: Element) -> Result<(), KvmError> {
        let xml = document(&device)?;
        self.libvirt.attach(self.name.as_str(), xml).await
    }

    async fn devices(&self) -> Result<LiveDevices, KvmError> {
        let xml = self.libvirt.live_xml(self.name.as_str()).await?;
        LiveDevices::read(&xml).map_err(|error| KvmError::Internal {
            what: format!("libvirt's description of '{}': {error}", self.name),
        })
    }

    /// libvirt says of a full bus that something went wrong inside it.
    fn require_room(&self, devices: &LiveDevices, device: &impl ToString) -> Result<(), KvmError> {
        if devices.empty_root_ports > 0 {
            return Ok(());
        }
        Err(KvmError::NoRoom {
            name: self.name.to_string(),
            device: device.to_string(),
        })
    }

    async fn wait_until_gone(
        &self,
        handle: &impl ToString,
        gone: impl Fn(&LiveDevices) -> bool,
    ) -> Result<(), KvmError> {
        const AWAITED: &str = "the release of a device";
        let held = format!("the guest still holds {}", handle.to_string());
        let look = || async {
            // A guest that is off has no plugged devices: that is not a guest that let go of one.
            let view = self.libvirt.view(self.name.as_str()).await?;
            let status = view.map_or(VmStatus::Absent, |view| view.status);
            if status != VmStatus::Running {
                return Err(KvmError::NotRunning {
                    name: self.name.to_string(),
                    status,
                    awaited: AWAITED,
                });
            }
            Ok(match gone(&self.devices().await?) {
                true => Look::Done(()),
                false => Look::NotYet(held.clone()),
            })
        };
        let timed_out = |last_seen| KvmError::TimedOut {
            name: self.name.to_string(),
            awaited: AWAITED,
            bound: RELEASE_TIMEOUT,
            last_seen,
        };
        // The binding has no way to listen to libvirt's events.
        wait::until(RELEASE_TIMEOUT, |_| POLL_INTERVAL, look, timed_out).await?;
        info!(vm = %self.name, device = handle.to_string(), "unplugged");
        Ok(())
    }

    fn missing(&self, handle: &impl ToString) -> KvmError {
        KvmError::NoDevice {
            name: self.name.to_string(),
            device: handle.to_string(),
        }
    }
}

fn checked<T>(check: impl FnOnce(&mut Violations) -> Option<T>) -> Result<T, KvmError> {
    let mut found = Violations::default();
    match (check(&mut found), found.into_vec()) {
        (Some(checked), violations) if violations.is_empty() => Ok(checked),
        (_, violations) => Err(KvmError::Invalid { violations }),
    }
}

fn full(field: &'static str, bound: usize) -> KvmError {
    KvmError::Invalid {
        violations: vec![
            Violation::new(field, bound + 1, format!("at most {bound}")).fix("unplug one first"),
        ],
    }
}

fn document(device: &Element) -> Result<String, KvmError> {
    device.to_document().map_err(|error| KvmError::Internal {
        what: error.to_string(),
    })
}
