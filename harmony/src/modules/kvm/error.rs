//! What can go wrong with a virtual machine.

use std::path::PathBuf;
use std::time::Duration;

use crate::domain::error::{ErrorKind, HintedError};
use crate::domain::topology::virtualization::{Accelerator, VmArchitecture, VmStatus};
use crate::modules::host::{Distribution, HostPackage};
use crate::modules::image::inspect::{Clause, ClauseId, InspectError};

use super::changes::FieldChange;
use super::firmware_selection::RejectedFirmware;
use super::violation::Violation;

/// What can go wrong with a virtual machine.
#[derive(Debug, thiserror::Error)]
pub enum KvmError {
    /// The spec breaks rules; all of them are listed.
    #[error("the virtual machine is not valid: {}", join(violations))]
    Invalid {
        /// Each rule that is broken.
        violations: Vec<Violation>,
    },
    /// There is no emulator for the architecture.
    #[error("no emulator for {architecture} guests: qemu-system-{architecture} is not on PATH")]
    MissingEmulator {
        /// The guest's architecture.
        architecture: VmArchitecture,
    },
    /// The emulator is there but does not tell its version.
    #[error("the emulator {} did not tell its version (it said: '{said}')", path.display())]
    BrokenEmulator {
        /// The program.
        path: PathBuf,
        /// What it printed, or why it could not be started.
        said: String,
    },
    /// libvirt does not say that it can run such guests.
    #[error("libvirt offers no {architecture} guests under {accelerator}: {reason}")]
    NoCapabilities {
        /// The guest's architecture.
        architecture: VmArchitecture,
        /// How its instructions would be executed.
        accelerator: Accelerator,
        /// What is known of the cause.
        reason: String,
    },
    /// KVM was asked for and cannot be had.
    #[error("KVM was asked for, but cannot run an {architecture} guest here: {reason}")]
    NoKvm {
        /// The guest's architecture.
        architecture: VmArchitecture,
        /// Why not.
        reason: String,
    },
    /// No firmware pair was usable.
    #[error(
        "no UEFI firmware for {architecture} guests found; tried {}",
        join(rejected)
    )]
    MissingFirmware {
        /// The guest's architecture.
        architecture: VmArchitecture,
        /// Each candidate and why it was not taken.
        rejected: Vec<RejectedFirmware>,
    },
    /// The firmware that a VM's variable store belongs to is not what it was.
    #[error("the firmware {} of '{name}' {problem}", path.display())]
    FirmwareChanged {
        /// The VM.
        name: String,
        /// The firmware's code.
        path: PathBuf,
        /// What became of it.
        problem: String,
    },
    /// A data disk's file cannot be used.
    #[error("the disk '{tag}' of {name} cannot use {}: {reason}", path.display())]
    UnsuitableDisk {
        /// The VM.
        name: String,
        /// The disk.
        tag: String,
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The VM has no network card.
    #[error("the virtual machine '{name}' has no network card over which {awaited} could come")]
    Unconnected {
        /// The VM.
        name: String,
        /// What was awaited.
        awaited: &'static str,
    },
    /// The VM is on, and what is asked needs it off.
    #[error("the virtual machine '{name}' is {status}; it must be off to {action}")]
    NotOff {
        /// The VM.
        name: String,
        /// Its state.
        status: VmStatus,
        /// What was asked.
        action: &'static str,
    },
    /// The VM has no such device.
    #[error("the virtual machine '{name}' has no {device}")]
    NoDevice {
        /// The VM.
        name: String,
        /// The device that was named.
        device: String,
    },
    /// The VM has a device by that handle already.
    #[error("the virtual machine '{name}' already has a {device}")]
    DeviceTaken {
        /// The VM.
        name: String,
        /// The device that was named.
        device: String,
    },
    /// No port is left into which a device could be plugged.
    #[error("the virtual machine '{name}' has no empty port left for {device}")]
    NoRoom {
        /// The VM.
        name: String,
        /// The device that was to be plugged in.
        device: String,
    },
    /// The disk image cannot be the backing file of this VM.
    #[error("the image {} cannot be used for {name}: {reason}", path.display())]
    UnsuitableImage {
        /// The VM.
        name: String,
        /// The image.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The disk image cannot be looked into.
    #[error("whether the image {} can start '{name}' cannot be told", path.display())]
    UnreadableImage {
        /// The VM.
        name: String,
        /// The image.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<InspectError>,
    },
    /// The disk image breaks clauses that a guest of this kind needs.
    #[error("the image {} cannot start the {architecture} guest '{name}': {}", path.display(), join(clauses))]
    NonConformingImage {
        /// The VM.
        name: String,
        /// The image.
        path: PathBuf,
        /// What it was judged for.
        architecture: VmArchitecture,
        /// The clauses that fail.
        clauses: Vec<Clause>,
    },
    /// No connection to libvirt.
    #[error("libvirt does not answer at {uri}")]
    Connect {
        /// The connection URI.
        uri: String,
        /// What libvirt said.
        #[source]
        source: LibvirtFault,
    },
    /// A connection URI that is not one of QEMU's driver.
    #[error(
        "the connection URI '{uri}' is not supported (expected qemu:///system or qemu:///session)"
    )]
    UnsupportedUri {
        /// What was given.
        uri: String,
    },
    /// A call of libvirt failed.
    #[error("libvirt could not {action} {subject}")]
    Libvirt {
        /// What was asked.
        action: &'static str,
        /// Of what.
        subject: String,
        /// What libvirt said.
        #[source]
        source: LibvirtFault,
    },
    /// The network is not there or not active.
    #[error("the libvirt network '{network}' is {problem}")]
    Network {
        /// The network's name.
        network: String,
        /// `not defined` or `not active`.
        problem: &'static str,
    },
    /// The bridge is not there.
    #[error("this host has no bridge '{bridge}'")]
    NoBridge {
        /// The interface's name.
        bridge: String,
    },
    /// There is a domain of that name, and it is not harmony's.
    #[error("libvirt already has a domain '{name}' that harmony did not make")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// A file stands where one of the VM's would be, and it is not harmony's.
    #[error("{} exists, and harmony did not make it", path.display())]
    FileTaken {
        /// The file.
        path: PathBuf,
    },
    /// Another process is changing this VM.
    #[error("another process is changing the virtual machine '{name}'")]
    Busy {
        /// The VM.
        name: String,
    },
    /// There is no such VM.
    #[error("there is no virtual machine '{name}'")]
    NotFound {
        /// The name.
        name: String,
    },
    /// The VM exists and differs from what is asked.
    #[error("the virtual machine '{name}' exists and differs: {}", join(changes))]
    Changed {
        /// The name.
        name: String,
        /// Each field that differs.
        changes: Vec<FieldChange>,
    },
    /// What harmony stored with the domain cannot be read.
    #[error("the record that harmony stored with domain '{name}' cannot be read")]
    Record {
        /// The domain.
        name: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The guest is not in a state in which what is awaited can happen.
    #[error("the virtual machine '{name}' is {status} while waiting for {awaited}")]
    NotRunning {
        /// The name.
        name: String,
        /// Its state.
        status: VmStatus,
        /// What was awaited.
        awaited: &'static str,
    },
    /// An awaited event did not come.
    #[error("{awaited} of '{name}' did not come within {} s; last seen: {last_seen}", bound.as_secs())]
    TimedOut {
        /// The VM.
        name: String,
        /// What was awaited.
        awaited: &'static str,
        /// The bound.
        bound: Duration,
        /// The last thing that was seen.
        last_seen: String,
    },
    /// A file of the VM could not be handled.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was to be done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A program that harmony runs failed.
    #[error("{program} failed on {}: {said}", path.display())]
    Program {
        /// The program.
        program: &'static str,
        /// What it worked on.
        path: PathBuf,
        /// What it said.
        said: String,
    },
    /// The disk would not fit.
    #[error("{} has {available_mib} MiB free, and {needed_mib} MiB are needed", path.display())]
    NoSpace {
        /// A directory on the file system.
        path: PathBuf,
        /// What is free, in MiB.
        available_mib: u64,
        /// What is needed, in MiB.
        needed_mib: u64,
    },
    /// The seed could not be made.
    #[error("cannot make the cloud-init seed of '{name}'")]
    Seed {
        /// The VM.
        name: String,
        /// Why.
        #[source]
        source: crate::modules::cloud_init::SeedError,
    },
    /// No TCP port for the forwarded SSH was free.
    #[error("no free TCP port on 127.0.0.1 between {first} and {last} for the guest's SSH")]
    NoPort {
        /// First port tried.
        first: u16,
        /// Last port tried.
        last: u16,
    },
    /// A port that is to be forwarded cannot be had.
    #[error("the {protocol} port {port} of 127.0.0.1 cannot be forwarded")]
    PortTaken {
        /// The host's port.
        port: u16,
        /// `tcp` or `udp`.
        protocol: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Something of the library's own went wrong that callers cannot influence.
    #[error("internal error: {what}")]
    Internal {
        /// What.
        what: String,
    },
}

/// What libvirt said, with its error number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct LibvirtFault {
    /// libvirt's message.
    pub message: String,
    /// libvirt's number of the error (`virErrorNumber`).
    pub code: u32,
}

fn join<T: std::fmt::Display>(items: &[T]) -> String {
    if items.is_empty() {
        return "nothing".to_owned();
    }
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    items.join("; ")
}

/// What to do about an image that cannot start a guest.
fn other_image(architecture: VmArchitecture, clauses: &[Clause]) -> String {
    let uefi = match clauses.iter().any(|c| c.id == ClauseId::BiosBootCode) {
        true => "give the guest UEFI firmware, if the image is made for that alone; else ",
        false => "",
    };
    format!(
        "{uefi}name an image for {architecture}, for example debian-12 or ubuntu-24.04; 'example_iot_vm_setup --arch {architecture} --inspect IMAGE' shows every clause"
    )
}

impl KvmError {
    /// A file operation that failed.
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

impl HintedError for KvmError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid { .. } | Self::UnsupportedUri { .. } => ErrorKind::InvalidRequest,
            Self::MissingEmulator { .. }
            | Self::BrokenEmulator { .. }
            | Self::NoCapabilities { .. }
            | Self::FirmwareChanged { .. }
            | Self::NoKvm { .. }
            | Self::MissingFirmware { .. }
            | Self::Connect { .. }
            | Self::Network { .. }
            | Self::NoBridge { .. }
            | Self::NoPort { .. }
            | Self::PortTaken { .. }
            | Self::NoSpace { .. } => ErrorKind::Unavailable,
            Self::NameTaken { .. }
            | Self::FileTaken { .. }
            | Self::Busy { .. }
            | Self::NotOff { .. }
            | Self::DeviceTaken { .. }
            | Self::NoRoom { .. }
            | Self::Changed { .. } => ErrorKind::Conflict,
            Self::TimedOut { .. } => ErrorKind::TimedOut,
            Self::UnsuitableImage { .. }
            | Self::UnreadableImage { .. }
            | Self::NonConformingImage { .. }
            | Self::UnsuitableDisk { .. }
            | Self::Unconnected { .. }
            | Self::NoDevice { .. }
            | Self::Libvirt { .. }
            | Self::NotFound { .. }
            | Self::Record { .. }
            | Self::NotRunning { .. }
            | Self::Io { .. }
            | Self::Program { .. }
            | Self::Seed { .. }
            | Self::Internal { .. } => ErrorKind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        let install = |package| Distribution::of_host().install_command(package);
        match self {
            Self::MissingEmulator { architecture } => Some(install(match architecture {
                VmArchitecture::X86_64 => HostPackage::QemuX86,
                VmArchitecture::Aarch64 => HostPackage::QemuAarch64,
            })),
            Self::MissingFirmware { architecture, .. } => Some(install(match architecture {
                VmArchitecture::X86_64 => HostPackage::FirmwareX86,
                VmArchitecture::Aarch64 => HostPackage::FirmwareAarch64,
            })),
            Self::Invalid { violations } => {
                let fixes: Vec<&str> = violations.iter().map(|v| v.fix.as_str()).collect();
                Some(fixes.join("; "))
            }
            Self::BrokenEmulator { path, .. } => Some(format!(
                "run '{} --version' and mend what it complains about, or reinstall it",
                path.display()
            )),
            Self::NoCapabilities { .. } => Some(
                "restart libvirtd: it looks at emulators when it starts; or see 'virsh domcapabilities'"
                    .to_owned(),
            ),
            Self::FirmwareChanged { .. } => Some(
                "install that firmware again, or give the virtual machine what this host has now with --reset-nvram: its boot entries are lost, its disk is kept"
                    .to_owned(),
            ),
            Self::NotOff { name, .. } => {
                Some(format!("shut it down first: 'virsh shutdown {name}'"))
            }
            Self::Record { name, .. } => Some(format!(
                "it was made by another version of harmony: remove it with that, or with 'virsh undefine --nvram {name}'"
            )),
            Self::NoKvm { .. } => Some("leave the accelerator at auto, or ask for tcg".to_owned()),
            Self::Connect { uri, .. } if uri.ends_with("/session") => {
                Some(install(HostPackage::Libvirt))
            }
            Self::Connect { .. } => Some(format!(
                "start libvirtd or join the group libvirt; install it with '{}'; or use qemu:///session, which needs neither",
                install(HostPackage::Libvirt)
            )),
            Self::Network { network, .. } => Some(format!(
                "start it with 'virsh net-start {network}', or use the network 'user'"
            )),
            Self::NameTaken { name } => Some(format!(
                "choose another name, or remove that domain yourself: 'virsh undefine {name}'"
            )),
            Self::UnsuitableImage { .. } => Some(
                "name an image for the guest's architecture, for example debian-12 or ubuntu-24.04"
                    .to_owned(),
            ),
            Self::UnreadableImage { source, .. } => source.hint(),
            Self::NonConformingImage {
                architecture,
                clauses,
                ..
            } => Some(other_image(*architecture, clauses)),
            Self::PortTaken { .. } => Some(
                "forward another port, or end what listens there: 'ss -lntup' shows it".to_owned(),
            ),
            Self::Busy { .. } => Some("wait until it is done, and try again".to_owned()),
            Self::FileTaken { path } => Some(format!(
                "choose another name, or move the file away: {}",
                path.display()
            )),
            Self::Changed { .. } => Some(
                "give the recorded values, or ask to replace the virtual machine (its disk is lost)"
                    .to_owned(),
            ),
            Self::UnsupportedUri { .. } => {
                Some("harmony makes files beside libvirt, so it must run on the same host".to_owned())
            }
            Self::NoRoom { .. } => Some(
                "unplug a device first, or make this one part of the virtual machine's spec".to_owned(),
            ),
            Self::NoSpace { .. } => Some("free some space, or set HARMONY_DATA_DIR to another file system".to_owned()),
            _ => None,
        }
    }
}
