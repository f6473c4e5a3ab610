//! A virtual machine that is being described.

use std::path::Path;

use uuid::Uuid;

use super::host::Host;
use super::image;
use super::lease::Lease;
use super::problem::VmError;
use super::vm::Vm;
use super::{Error, Result};
use crate::domain::topology::virtualization::{
    AcceleratorChoice, CpuProfile, FirmwareChoice, FirstBoot, NetworkCard, OnChange,
    VirtualMachineHost, VirtualMachineSpec, VmArchitecture,
};
use crate::modules::image::{ImageError, ImageSource};
use crate::modules::kvm::{KvmError, VmConfig, VmName};

/// The user that the first boot makes, unless the spec names one.
const LOGIN_USER: &str = "harmony";

/// A virtual machine that is being described. What is left open has a default.
#[derive(Debug)]
#[must_use = "nothing is made before it is started"]
pub struct VmBuilder {
    host: Host,
    spec: VirtualMachineSpec,
    image: Option<Result<ImageSource, ImageError>>,
    on_change: OnChange,
    is_ephemeral: bool,
}

impl VmBuilder {
    pub(super) fn new(host: Host, spec: VirtualMachineSpec) -> Self {
        Self {
            host,
            spec,
            image: None,
            on_change: OnChange::default(),
            is_ephemeral: false,
        }
    }

    /// The guest's instruction set [default: x86_64].
    pub fn arch(mut self, architecture: VmArchitecture) -> Self {
        self.spec.architecture = architecture;
        self
    }

    /// The image that its disk begins with: a name of the catalogue, `auto`, a path, or `URL#sha256=DIGEST` [default:
    /// that of the built-in recipe of an edge device, which is built once].
    pub fn image(mut self, image: impl AsRef<Path>) -> Self {
        let image = image.as_ref();
        self.image = Some(match image.to_str() {
            Some(text) => text.parse(),
            None => Ok(ImageSource::Path(image.to_owned())),
        });
        self
    }

    /// Memory in MiB [default: 1024].
    pub fn memory_mib(mut self, memory_mib: u64) -> Self {
        self.spec.memory_mib = memory_mib;
        self
    }

    /// Virtual CPUs [default: 2].
    pub fn vcpus(mut self, vcpus: u32) -> Self {
        self.spec.vcpus = vcpus;
        self
    }

    /// The disk's size in GiB as the guest sees it [default: 8].
    pub fn disk_gib(mut self, disk_gib: u64) -> Self {
        self.spec.disk_gib = disk_gib;
        self
    }

    /// Which accelerator to use [default: KVM where it is proven to work].
    pub fn accelerator(mut self, accelerator: AcceleratorChoice) -> Self {
        self.spec.accelerator = accelerator;
        self
    }

    /// Which CPU the guest sees [default: the fastest].
    pub fn cpu(mut self, cpu: CpuProfile) -> Self {
        self.spec.cpu = cpu;
        self
    }

    /// What the guest's CPU runs first [default: UEFI for aarch64, BIOS for x86_64].
    pub fn firmware(mut self, firmware: FirmwareChoice) -> Self {
        self.spec.firmware = firmware;
        self
    }

    /// The network of the only card [default: user networking].
    pub fn network(mut self, card: impl Into<NetworkCard>) -> Self {
        self.spec.networks = vec![card.into()];
        self
    }

    /// What to do when a VM of that name is there and differs [default: refuse]. An ephemeral VM is never one that is
    /// there.
    pub fn on_change(mut self, on_change: OnChange) -> Self {
        self.on_change = on_change;
        self
    }

    /// The VM belongs to this program: [`Vm::close`] removes all of it. Dropping its last handle starts the removal and
    /// waits for nothing. What a program that was killed left is removed by whoever starts a VM next.
    pub fn ephemeral(mut self) -> Self {
        self.is_ephemeral = true;
        self
    }

    /// Makes the VM exist and run, and does not wait for its guest.
    ///
    /// A spec without an image gets the image of this builder, and one without a first boot the user `harmony`, who is let
    /// in with the data directory's key pair. A VM that is not ephemeral and is there already keeps its image, unless one
    /// is named here; started so again, it is the same VM.
    ///
    /// # Guarantees
    /// Those of [`ensure_vm`](VirtualMachineHost::ensure_vm). A future that is dropped leaves no ephemeral VM.
    ///
    /// # Errors
    /// [`VmError::InUse`] and [`VmError::Exists`] for a name that an ephemeral VM cannot have; the errors of fetching or
    /// building the image, and of [`ensure_vm`](VirtualMachineHost::ensure_vm).
    pub async fn start(self) -> Result<Vm> {
        let Self {
            host,
            mut spec,
            image,
            on_change,
            is_ephemeral,
        } = self;
        let source = image.transpose()?;
        let name: VmName = spec.name.parse().map_err(|violation| KvmError::Invalid {
            violations: vec![violation],
        })?;
        let keys = host.keys()?;
        spec.first_boot.get_or_insert_with(|| FirstBoot {
            user: LOGIN_USER.to_owned(),
            authorized_keys: vec![keys.public_key_line.clone()],
            ..FirstBoot::default()
        });
        check(&host, &spec, source.as_ref()).await?;

        let machines = host.shared();
        let lease = if is_ephemeral {
            let uuid = *spec.uuid.get_or_insert_with(Uuid::new_v4);
            Some(Lease::take(host.claims(), host.shared(), name, uuid).await?)
        } else {
            host.claims().make_room(&*machines, &name).await?;
            None
        };
        let keeps_image = !is_ephemeral && source.is_none() && on_change == OnChange::Refuse;
        if spec.image.is_none() {
            let recorded = match keeps_image {
                true => machines.recorded_spec(&spec.name).await?,
                false => None,
            };
            let chosen = match recorded.and_then(image::of_spec) {
                Some(image) => image,
                None => image::ensure(&host, &spec, source.as_ref()).await?,
            };
            chosen.put_into(&mut spec);
        }
        // In a task of its own: libvirt finishes what it was asked for, also when nobody waits for it any more.
        let making = tokio::spawn(async move {
            machines.ensure_vm(&spec, on_change).await?;
            Ok::<_, Error>(Vm::new(machines, spec, keys, lease))
        });
        making.await.map_err(|error| VmError::GivenUp {
            what: "making the virtual machine",
            reason: error.to_string(),
        })?
    }
}

/// What is wrong with the request is found before anything is fetched, built or removed.
async fn check(host: &Host, spec: &VirtualMachineSpec, source: Option<&ImageSource>) -> Result<()> {
    let mut planned = spec.clone();
    if planned.image.is_none() {
        image::planned(host, spec, source)
            .await?
            .put_into(&mut planned);
    }
    VmConfig::try_from(&planned)?;
    Ok(())
}
