//! Which builder is taken.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use super::products;
use crate::modules::image::build::{BuildError, BuilderKind, BuiltImage, ImageBuilder};
use crate::modules::image::debian::FromPackages;
use crate::modules::image::recipe::BuildPlan;

/// Which builder the caller wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BuilderChoice {
    /// In a guest where the base can be had, else from packages.
    #[default]
    Auto,
    /// That one.
    Only(BuilderKind),
}

/// A text that names no builder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown builder '{value}' (expected auto, guest or packages)")]
pub struct UnknownBuilder {
    /// What was given.
    pub value: String,
}

impl FromStr for BuilderChoice {
    type Err = UnknownBuilder;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        match value {
            "auto" => Ok(Self::Auto),
            "guest" => Ok(Self::Only(BuilderKind::InGuest)),
            "packages" => Ok(Self::Only(BuilderKind::FromPackages)),
            _ => Err(UnknownBuilder {
                value: value.to_owned(),
            }),
        }
    }
}

impl fmt::Display for BuilderChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Only(BuilderKind::InGuest) => "guest",
            Self::Only(BuilderKind::FromPackages) => "packages",
        })
    }
}

/// The builders that `choice` leaves, the first one first.
fn candidates(choice: BuilderChoice) -> Vec<BuilderKind> {
    match choice {
        BuilderChoice::Auto => vec![BuilderKind::InGuest, BuilderKind::FromPackages],
        BuilderChoice::Only(kind) => vec![kind],
    }
}

/// Where the image of `plan` is in `store_dir` when that builder has built it. Touches nothing.
///
/// # Errors
/// [`BuildError::UnsupportedBase`] when the builder cannot build it.
pub fn planned_image(
    plan: &BuildPlan,
    builder: BuilderKind,
    store_dir: &Path,
) -> Result<BuiltImage, BuildError> {
    match builder {
        BuilderKind::FromPackages => FromPackages.planned(plan, store_dir),
        BuilderKind::InGuest => Ok(products::planned(plan, store_dir)),
    }
}

/// What [`build_image`] would return, as far as that can be told without touching anything: the image that is
/// there, or else the one that would be tried first.
///
/// # Errors
/// [`BuildError::UnsupportedBase`] for a builder that cannot build it.
pub fn planned_choice(
    plan: &BuildPlan,
    choice: BuilderChoice,
    store_dir: &Path,
) -> Result<BuiltImage, BuildError> {
    let planned = candidates(choice)
        .into_iter()
        .map(|kind| planned_image(plan, kind, store_dir));
    let mut first = None;
    for image in planned {
        match image {
            Ok(image) if image.is_finished() => return Ok(image),
            image => first = first.or(Some(image)),
        }
    }
    first.unwrap_or_else(|| planned_image(plan, BuilderKind::InGuest, store_dir))
}

/// Returns the image of `plan` in `store_dir`, built by the builder that `choice` says when it is not there.
///
/// `auto` takes an image that either builder has made, else the guest; where the base's host cannot be reached
/// at all and the base can be made from packages, that with one warning. Any other failure, a wrong digest
/// above all, stops.
///
/// # Errors
/// Those of [`ImageBuilder::build`].
#[cfg(feature = "kvm")]
pub async fn build_image(
    plan: &BuildPlan,
    choice: BuilderChoice,
    guest: &super::InGuest<'_>,
    store_dir: &Path,
) -> Result<BuiltImage, BuildError> {
    use crate::modules::image::error::ImageError;

    match choice {
        BuilderChoice::Only(BuilderKind::InGuest) => guest.build(plan, store_dir).await,
        BuilderChoice::Only(BuilderKind::FromPackages) => FromPackages.build(plan, store_dir).await,
        BuilderChoice::Auto => {
            let planned = planned_choice(plan, choice, store_dir)?;
            if planned.is_finished() {
                return Ok(planned);
            }
            match guest.fetch_base(plan).await {
                Ok(_) => guest.build(plan, store_dir).await,
                Err(error @ ImageError::Unreachable { .. }) if FromPackages::builds(plan) => {
                    tracing::warn!(%error, "the recipe's base cannot be fetched, building it from packages");
                    FromPackages.build(plan, store_dir).await
                }
                Err(error) => Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::{BuilderChoice, BuilderKind, planned_choice};
    use crate::domain::topology::virtualization::VmArchitecture;
    use crate::modules::image::recipe::CheckedRecipe;

    #[test]
    fn what_is_there_is_taken_before_what_would_be_tried_first() {
        let store = tempfile::tempdir().expect("a temporary directory");
        let recipe = CheckedRecipe::edge_device().expect("valid");
        let plan = recipe.plan(VmArchitecture::Aarch64, None, Path::new("/"));
        let plan = plan.expect("a plan");
        let planned = |choice| planned_choice(&plan, choice, store.path()).expect("a plan");
        assert_eq!(planned(BuilderChoice::Auto).builder, BuilderKind::InGuest);
        let packages = planned(BuilderChoice::Only(BuilderKind::FromPackages));
        std::fs::write(&packages.path, "x").expect("writable");
        let read_only = std::fs::Permissions::from_mode(0o444);
        std::fs::set_permissions(&packages.path, read_only).expect("permitted");
        assert_eq!(planned(BuilderChoice::Auto), packages);
        let guest = planned(BuilderChoice::Only(BuilderKind::InGuest));
        assert!(!guest.is_finished() && guest.path != packages.path);
    }

    #[test]
    fn every_choice_survives_its_own_text() {
        for text in ["auto", "guest", "packages"] {
            let choice: BuilderChoice = text.parse().expect(text);
            assert_eq!(choice.to_string(), text);
        }
        let error = "docker".parse::<BuilderChoice>().expect_err("unknown");
        let expected = "unknown builder 'docker' (expected auto, guest or packages)";
        assert_eq!(error.to_string(), expected);
    }
}
