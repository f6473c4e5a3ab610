//! What an image that is built in a guest is called. Pure.

use std::path::Path;

use crate::modules::image::build::{BuilderKind, BuiltImage, Products, revision_of};
use crate::modules::image::digest::Sha256Digest;
use crate::modules::image::recipe::BuildPlan;

/// What a guest that is built runs around the plan's script.
pub(super) const GUEST_SCRIPT: &str = include_str!("main.sh");
/// Raised when the guest makes another image of the same plan and [`GUEST_SCRIPT`].
const GUEST_VERSION: u32 = 1;

/// The files of the image of `plan`.
pub(super) fn products(plan: &BuildPlan) -> Products {
    Products::new(plan, BuilderKind::InGuest, guest_revision())
}

/// Where the image of `plan` is in `store_dir` when it was built in a guest. Touches nothing.
pub(super) fn planned(plan: &BuildPlan, store_dir: &Path) -> BuiltImage {
    products(plan).image(plan, store_dir, false)
}

/// What the builder puts into an image, as a number: another one whenever that changes.
fn guest_revision() -> u32 {
    let digest = Sha256Digest::of(format!("{GUEST_VERSION} {GUEST_SCRIPT}").as_bytes());
    revision_of(&digest)
}
