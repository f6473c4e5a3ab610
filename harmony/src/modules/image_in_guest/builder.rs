//! The builder in a guest: the base boots once, sets itself up, and its disk becomes the image.
//!
//! ```text
//! base --overlay--> VM with the script in its seed --console--> done, clean, off --flatten--> image
//!                     |                                |
//!                     v                                v
//!                 destroyed whatever happens       the step, its output, the console's last lines
//! ```
//! It owns the VM `harmony-build-…`, whose name follows from the image and the store, so that what a killed
//! build left is cleared by the next.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use harmony_base::qcow2::{HEADER_BYTES, Header, HeaderError};

use super::mirrors;
use super::products::{planned, products};
use super::script::{self, BUILD_USER, OUT_DISK};
use super::watch::{Bounds, machine, until_clean};
use crate::domain::topology::virtualization::{
    AcceleratorChoice, DataDisk, DiskSource, FirstBoot, OnChange, VirtualMachineHost,
    VirtualMachineSpec, VmStatus,
};
use crate::modules::image::build::{
    BuildError, BuilderKind, BuiltImage, IMAGE, ImageBuilder, build_once, copied_out, fetch_kernel,
};
use crate::modules::image::digest::Sha256Digest;
use crate::modules::image::error::ImageError;
use crate::modules::image::fetch::fetch;
use crate::modules::image::recipe::{BuildPlan, PlannedBase};
use crate::modules::image::source::PinnedUrl;
use crate::modules::image::store::io_error;
use crate::modules::image::tool::tool;
use crate::modules::kvm::topology::KvmVirtualMachineHost;
use crate::modules::ssh::ensure_key_pair;

/// The smallest disk that is built on, in GiB: what the image needs at least of a VM.
const DISK_GIB: u64 = 4;

/// How many times the bound of a boot a whole build may take.
const BOOTS: u32 = 4;

/// How long the guest may take from its last word to being off.
const POWER_OFF: Duration = Duration::from_secs(120);

/// Boots the base image as a guest of `host` and runs the script in it: for every cloud image with cloud-init
/// and systemd. Packages come from the mirrors that this host uses.
pub struct InGuest<'a> {
    host: &'a KvmVirtualMachineHost,
    bases_dir: PathBuf,
    accelerator: AcceleratorChoice,
}

impl<'a> InGuest<'a> {
    /// A builder whose base images are in `bases_dir`, or fetched to it.
    pub fn new(
        host: &'a KvmVirtualMachineHost,
        bases_dir: impl Into<PathBuf>,
        accelerator: AcceleratorChoice,
    ) -> Self {
        Self {
            host,
            bases_dir: bases_dir.into(),
            accelerator,
        }
    }

    /// Brings the base to this host.
    ///
    /// # Errors
    /// Those of [`fetch`]; [`ImageError::Unreachable`] above all.
    pub async fn fetch_base(&self, plan: &BuildPlan) -> Result<PathBuf, ImageError> {
        fetch(&base_pins(plan)?, &self.bases_dir).await
    }

    async fn set_up(
        &self,
        plan: &BuildPlan,
        base: &Path,
        name: &str,
        dir: &Path,
    ) -> Result<(), BuildError> {
        let spec = self.spec(plan, base, name, dir).await?;
        // What a killed build left.
        self.host.destroy_vm(name).await.map_err(machine)?;
        let guest = Guest {
            host: self.host,
            name,
        };
        let made = self.run(&guest, plan, &spec, dir).await;
        let removed = guest.remove().await;
        made.and(removed)
    }

    async fn run(
        &self,
        guest: &Guest<'_>,
        plan: &BuildPlan,
        spec: &VirtualMachineSpec,
        dir: &Path,
    ) -> Result<(), BuildError> {
        let Guest { host, name } = *guest;
        host.ensure_vm(spec, OnChange::Refuse)
            .await
            .map_err(machine)?;
        let boot = host.boot_timeout(name).await.map_err(machine)?;
        let bounds = Bounds {
            boot,
            all: boot * BOOTS,
        };
        let console_log = host.console_log(name).map_err(machine)?;
        until_clean(host, name, &console_log, bounds).await?;
        guest.wait_until_off().await?;
        tracing::info!("flattening the guest's disk");
        let disk = host.disk(name).map_err(machine)?;
        convert(&disk, &dir.join(IMAGE), &["-O", "qcow2", "-c"]).await?;
        if !copied_out(plan).is_empty() {
            let out = host.data_disk(name, OUT_DISK).map_err(machine)?;
            unpack(plan, &out, dir).await?;
        }
        Ok(())
    }

    async fn spec(
        &self,
        plan: &BuildPlan,
        base: &Path,
        name: &str,
        dir: &Path,
    ) -> Result<VirtualMachineSpec, BuildError> {
        let copied_out = copied_out(plan);
        let mirrors = mirrors::host_mirrors().await;
        // Nobody logs in; the key goes with the build's directory.
        let keys = ensure_key_pair(dir, "id_ed25519").map_err(|error| machine(error.into()))?;
        let out = (!copied_out.is_empty()).then(|| DataDisk {
            tag: OUT_DISK.to_owned(),
            source: DiskSource::Blank { size_gib: 1 },
            read_only: false,
        });
        let setup_script = script::setup_script(plan, &mirrors, &copied_out);
        let setup_script = setup_script.map_err(ImageError::from)?;
        Ok(VirtualMachineSpec {
            name: name.to_owned(),
            architecture: plan.architecture,
            accelerator: self.accelerator,
            disk_gib: disk_gib(base)?,
            image: Some(base.to_owned()),
            disks: out.into_iter().collect(),
            first_boot: Some(FirstBoot {
                user: BUILD_USER.to_owned(),
                authorized_keys: vec![keys.public_key_line],
                setup_script: Some(setup_script),
            }),
            ..VirtualMachineSpec::default()
        })
    }
}

#[async_trait(?Send)]
impl ImageBuilder for InGuest<'_> {
    fn kind(&self) -> BuilderKind {
        BuilderKind::InGuest
    }

    fn planned(&self, plan: &BuildPlan, store_dir: &Path) -> Result<BuiltImage, BuildError> {
        Ok(planned(plan, store_dir))
    }

    async fn build(&self, plan: &BuildPlan, store_dir: &Path) -> Result<BuiltImage, BuildError> {
        let products = products(plan);
        if let Some(image) = self.built(plan, store_dir) {
            return Ok(image);
        }
        let base = self.fetch_base(plan).await?;
        fetch_kernel(plan, store_dir).await?;
        let name = vm_name(&products.stem, store_dir);
        let built_now = build_once(store_dir, &products.to_make(plan), async |dir| {
            self.set_up(plan, &base, &name, dir).await
        })
        .await?;
        Ok(products.image(plan, store_dir, built_now))
    }
}

fn base_pins(plan: &BuildPlan) -> Result<Vec<PinnedUrl>, ImageError> {
    match &plan.base {
        PlannedBase::Catalog(name) => name.image(plan.architecture).pinned_urls(),
        PlannedBase::Url(pin) => Ok(vec![pin.clone()]),
    }
}

/// Builds of the same image for two stores do not meet.
fn vm_name(stem: &str, store_dir: &Path) -> String {
    let digest = Sha256Digest::of(format!("{stem} {}", store_dir.display()).as_bytes());
    format!("harmony-build-{}", &digest.to_string()[..16])
}

/// The VM of one build. It is removed when this is dropped, if it was not before.
struct Guest<'a> {
    host: &'a KvmVirtualMachineHost,
    name: &'a str,
}

impl Guest<'_> {
    /// It has said its last word, and its file systems are about to be left.
    async fn wait_until_off(&self) -> Result<(), BuildError> {
        let stopped = self.host.wait_until_not_running(self.name);
        let how = match tokio::time::timeout(POWER_OFF, stopped).await {
            Ok(status) => match status.map_err(machine)? {
                VmStatus::Off => return Ok(()),
                status => format!("the virtual machine is {status}"),
            },
            Err(_) => format!("it was not off after {} s", POWER_OFF.as_secs()),
        };
        Err(BuildError::Unfinished {
            place: "its power-off".to_owned(),
            how,
            console: Some(self.host.diagnose_vm(self.name).await),
        })
    }

    async fn remove(self) -> Result<(), BuildError> {
        let removed = self.host.destroy_vm(self.name).await.map_err(machine);
        std::mem::forget(self);
        removed.map(drop)
    }
}

impl Drop for Guest<'_> {
    /// The build was given up: its future is no more, so that removing needs a thread of its own.
    fn drop(&mut self) {
        let Self { host, name } = *self;
        let remove = || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            match runtime.map(|runtime| runtime.block_on(host.destroy_vm(name))) {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::warn!(vm = name, %error, "the build's VM is left"),
                Err(error) => tracing::warn!(vm = name, %error, "the build's VM is left"),
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(remove);
        });
    }
}

/// The size of the disk that a base is built on.
fn disk_gib(base: &Path) -> Result<u64, ImageError> {
    const GIB: u64 = 1 << 30;
    let failed = |source| io_error("read", base, source);
    let mut file = File::open(base).map_err(failed)?;
    let mut start = [0; HEADER_BYTES];
    file.read_exact(&mut start).map_err(failed)?;
    let bytes = match Header::parse(&start) {
        Ok(header) => header.virtual_bytes,
        Err(HeaderError::NotQcow2) => file.metadata().map_err(failed)?.len(),
        Err(error) => return Err(failed(std::io::Error::other(error))),
    };
    Ok(bytes.div_ceil(GIB).max(DISK_GIB))
}

async fn convert(from: &Path, to: &Path, options: &[&str]) -> Result<(), ImageError> {
    tool("qemu-img")
        .args(["convert", "-f", "qcow2"])
        .args(options.iter().copied())
        .args([from, to])
        .run()
        .await?;
    Ok(())
}

/// Unpacks the files that the guest put on the disk `out`.
async fn unpack(plan: &BuildPlan, out: &Path, dir: &Path) -> Result<(), ImageError> {
    let archive = dir.join("out.tar");
    convert(out, &archive, &["-O", "raw"]).await?;
    let names = copied_out(plan)
        .into_iter()
        .map(|(_, name)| format!("./{name}"));
    tool("tar")
        .args(["--extract", "--no-same-owner", "--directory"])
        .arg(dir)
        .arg("--file")
        .arg(&archive)
        .args(names)
        .run()
        .await?;
    Ok(())
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
