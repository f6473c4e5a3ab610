//! Which image a VM gets: the one that is named, or the built-in recipe's.

use std::path::{Path, PathBuf};

use tracing::info;

use super::host::Host;
use super::problem::VmError;
use super::{Error, Result};
use crate::domain::topology::virtualization::{Accelerator, KernelBoot, VirtualMachineSpec};
use crate::modules::image::ImageSource;
use crate::modules::image::build::BuiltImage;
use crate::modules::image::recipe::{BuildPlan, CheckedRecipe};
use crate::modules::image_in_guest::{BuilderChoice, InGuest, build_image, planned_choice};
use crate::modules::iot::assets;
use crate::modules::kvm::params::choose_accelerator;

/// The profile of the built-in recipe for emulated guests.
const SLOW_GUEST: &str = "slow-guest";

/// An image for a VM.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct VmImage {
    path: PathBuf,
    /// The kernel to boot it with, when its recipe has one.
    kernel: Option<KernelBoot>,
}

impl VmImage {
    /// A kernel that the spec has already stays.
    pub(super) fn put_into(self, spec: &mut VirtualMachineSpec) {
        spec.image = Some(self.path);
        if spec.kernel.is_none() {
            spec.kernel = self.kernel;
        }
    }
}

impl From<BuiltImage> for VmImage {
    fn from(image: BuiltImage) -> Self {
        Self {
            path: image.path,
            kernel: image.kernel,
        }
    }
}

/// The image that a VM was made from.
pub(super) fn of_spec(spec: VirtualMachineSpec) -> Option<VmImage> {
    let kernel = spec.kernel;
    spec.image.map(|path| VmImage { path, kernel })
}

/// The image as far as it can be told without touching anything.
pub(super) async fn planned(
    host: &Host,
    spec: &VirtualMachineSpec,
    source: Option<&ImageSource>,
) -> Result<VmImage> {
    if let Some(source) = source {
        let images = host.images_dir();
        let path = assets::planned_image_path(source, spec.architecture, &images)?;
        return Ok(VmImage { path, kernel: None });
    }
    let plan = plan(host, spec).await?;
    let store = assets::built_images_dir()?;
    Ok(planned_choice(&plan, BuilderChoice::Auto, &store)?.into())
}

/// Brings the image to this host: fetched and verified, or built, when it is not there.
pub(super) async fn ensure(
    host: &Host,
    spec: &VirtualMachineSpec,
    source: Option<&ImageSource>,
) -> Result<VmImage> {
    if let Some(source) = source {
        let images = host.images_dir();
        let image = assets::ensure_image(source, spec.architecture, &images).await?;
        info!(image = %image.path.display(), origin = %image.origin, "the image is here");
        let path = image.path;
        return Ok(VmImage { path, kernel: None });
    }
    let plan = plan(host, spec).await?;
    let store = assets::built_images_dir()?;
    let there = planned_choice(&plan, BuilderChoice::Auto, &store)?;
    if there.is_finished() {
        return Ok(there.into());
    }
    let built = build(host, spec, plan, store).await?;
    Ok(built.into())
}

/// The built-in recipe's plan for the guest.
async fn plan(host: &Host, spec: &VirtualMachineSpec) -> Result<BuildPlan> {
    let (recipe, facts) = (CheckedRecipe::edge_device()?, host.facts().await);
    let decision = choose_accelerator(spec.architecture, spec.accelerator, &spec.cpu, facts)?;
    let has_profile = recipe.profiles(spec.architecture).contains(&SLOW_GUEST);
    let is_slow = decision.accelerator == Accelerator::Tcg && has_profile;
    let profile = is_slow.then_some(SLOW_GUEST);
    Ok(recipe.plan(spec.architecture, profile, Path::new("."))?)
}

/// Builders do not move between threads, and callers of the front door may: the build has a thread of its own. It goes on
/// to its end when nobody waits for it any more.
async fn build(
    host: &Host,
    spec: &VirtualMachineSpec,
    plan: BuildPlan,
    store: PathBuf,
) -> Result<BuiltImage> {
    info!(
        architecture = %spec.architecture,
        "building the default image, which takes some minutes, once"
    );
    let (machines, images) = (host.shared(), host.images_dir());
    let (accelerator, runtime) = (spec.accelerator, tokio::runtime::Handle::current());
    let building = tokio::task::spawn_blocking(move || {
        let guest = InGuest::new(&machines, images, accelerator);
        let built = build_image(&plan, BuilderChoice::Auto, &guest, &store);
        runtime.block_on(built).map_err(Error::from)
    });
    building.await.map_err(|error| VmError::GivenUp {
        what: "building the default image",
        reason: error.to_string(),
    })?
}
