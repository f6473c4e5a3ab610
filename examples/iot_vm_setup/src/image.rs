//! The device's image: a recipe's, or a plain one.

use std::convert::Infallible;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use harmony::domain::error::ExecutorError;
use harmony::domain::topology::virtualization::{Accelerator, KernelBoot};
use harmony::modules::host::HostFacts;
use harmony::modules::image::ImageSource;
use harmony::modules::image::build::BuiltImage;
use harmony::modules::image::recipe::{BuildPlan, CheckedRecipe, Recipe};
use harmony::modules::image_in_guest::{InGuest, build_image, planned_choice};
use harmony::modules::iot::assets;
use harmony::modules::kvm::VmName;
use harmony::modules::kvm::params::choose_accelerator;
use harmony::modules::kvm::topology::KvmVirtualMachineHost;
use harmony_image::bars::progress;

use crate::args::Args;
use crate::error::SetupError;

/// The profile that an emulated device gets unless the command line says otherwise.
const SLOW_GUEST: &str = "slow-guest";

/// What `--recipe` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RecipeArg {
    /// A plain image, and the packages over SSH.
    None,
    /// The recipe in a file.
    File(PathBuf),
}

impl FromStr for RecipeArg {
    type Err = Infallible;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        Ok(match value {
            "none" => Self::None,
            path => Self::File(path.into()),
        })
    }
}

/// An image for the device.
#[derive(Debug, Clone)]
pub(crate) struct DeviceImage {
    pub(crate) path: PathBuf,
    /// The kernel to boot it with, when its recipe has one.
    pub(crate) kernel: Option<KernelBoot>,
    /// How it came here.
    pub(crate) origin: String,
}

/// What the command line wants.
enum Wanted {
    Plain(ImageSource),
    Recipe(Box<BuildPlan>),
}

fn wanted(args: &Args, facts: &HostFacts) -> Result<Wanted, ExecutorError> {
    let (recipe, root) = match (&args.recipe, &args.image) {
        (Some(RecipeArg::File(_)), Some(_)) => return Err(SetupError::ImageAndRecipe.into()),
        (_, Some(source)) => return Ok(Wanted::Plain(source.clone())),
        (Some(RecipeArg::None), None) => return Ok(Wanted::Plain(ImageSource::Auto)),
        (Some(RecipeArg::File(path)), None) => {
            let root = path.parent().filter(|root| !root.as_os_str().is_empty());
            (Recipe::read(path)?, root.unwrap_or(Path::new(".")))
        }
        (None, None) => (CheckedRecipe::edge_device()?, Path::new(".")),
    };
    let profile = match args.profile.as_deref() {
        Some("none") => None,
        Some(name) => Some(name),
        None => {
            let decision = choose_accelerator(args.arch, args.accel, &args.cpu, facts)?;
            let has_it = recipe.profiles(args.arch).contains(&SLOW_GUEST);
            (decision.accelerator == Accelerator::Tcg && has_it).then_some(SLOW_GUEST)
        }
    };
    let plan = recipe.plan(args.arch, profile, root)?;
    Ok(Wanted::Recipe(Box::new(plan)))
}

/// The image as far as it can be told without touching anything.
pub(crate) fn planned(
    args: &Args,
    facts: &HostFacts,
    images_dir: &Path,
) -> Result<DeviceImage, ExecutorError> {
    match wanted(args, facts)? {
        Wanted::Plain(source) => Ok(DeviceImage {
            path: assets::planned_image_path(&source, args.arch, images_dir)?,
            kernel: None,
            origin: "planned".to_owned(),
        }),
        Wanted::Recipe(plan) => {
            let store = assets::built_images_dir()?;
            Ok(of_recipe(planned_choice(&plan, args.builder, &store)?))
        }
    }
}

/// Brings the image to this host. A device that is there keeps the one it was made from unless the command line
/// names another: what is the default changes with time.
pub(crate) async fn ensure(
    args: &Args,
    name: &VmName,
    host: &KvmVirtualMachineHost,
    images_dir: &Path,
) -> Result<DeviceImage, ExecutorError> {
    if args.image.is_none() && args.recipe.is_none() && !args.replace {
        let recorded = host.recorded_spec(name.as_str()).await?;
        if let Some(spec) = recorded
            && let Some(path) = spec.image
        {
            return Ok(DeviceImage {
                path,
                kernel: spec.kernel,
                origin: assets::ImageOrigin::Recorded.to_string(),
            });
        }
    }
    match wanted(args, host.facts().await)? {
        Wanted::Plain(source) => {
            let progress = progress(false, std::io::stderr().is_terminal());
            let image =
                assets::ensure_image_with(&source, args.arch, images_dir, &*progress).await?;
            Ok(DeviceImage {
                path: image.path,
                kernel: None,
                origin: image.origin.to_string(),
            })
        }
        Wanted::Recipe(plan) => {
            let guest = InGuest::new(host, images_dir, args.accel);
            let store = assets::built_images_dir()?;
            Ok(of_recipe(
                build_image(&plan, args.builder, &guest, &store).await?,
            ))
        }
    }
}

fn of_recipe(image: BuiltImage) -> DeviceImage {
    let when = if image.built_now { "now" } else { "before" };
    DeviceImage {
        path: image.path,
        kernel: image.kernel,
        origin: format!("the recipe's, built {} {when}", image.builder),
    }
}
