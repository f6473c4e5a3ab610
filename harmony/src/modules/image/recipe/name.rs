//! The name of an image: the digest of everything that decides what is in it.

use serde::Serialize;

use super::plan::{BootFile, BuildPlan, BuilderKind, PlannedBase};
use crate::modules::image::digest::Sha256Digest;

/// Raised when what is digested changes.
const VERSION: u32 = 1;

/// What is digested, as JSON. A list has an order that counts or is sorted.
#[derive(Serialize)]
struct Ingredients<'a> {
    version: u32,
    architecture: &'static str,
    builder: &'static str,
    builder_revision: u32,
    base: Vec<String>,
    setup_script: &'a str,
    boot_arguments: &'a [String],
    kernel: Option<KernelIngredients<'a>>,
    inputs: Vec<(&'a str, String)>,
}

#[derive(Serialize)]
struct KernelIngredients<'a> {
    kernel: String,
    initrd: Option<String>,
    arguments: &'a [String],
}

impl BuildPlan {
    /// The digest of everything that decides what is in the image that this builder makes, but for the versions
    /// of the packages. `revision` is the builder's own, raised when it makes another image of the same plan.
    ///
    /// An image of the catalog counts by the digests of its pins in a guest, and by its name when it is built from
    /// packages; a URL counts by its digest only.
    pub fn digest(&self, builder: BuilderKind, revision: u32) -> Sha256Digest {
        let ingredients = Ingredients {
            version: VERSION,
            architecture: self.architecture.as_str(),
            builder: builder.as_str(),
            builder_revision: revision,
            base: self.base_identity(builder),
            setup_script: &self.setup_script,
            boot_arguments: &self.boot_arguments,
            kernel: self.kernel.as_ref().map(|kernel| KernelIngredients {
                kernel: identity(&kernel.kernel),
                initrd: kernel.initrd.as_ref().map(identity),
                arguments: &kernel.arguments,
            }),
            inputs: self
                .inputs
                .iter()
                .map(|input| (input.path.as_str(), input.digest.to_string()))
                .collect(),
        };
        let text = serde_json::to_vec(&ingredients).unwrap_or_else(|error| {
            // A struct of strings, numbers and lists has no value that JSON lacks.
            unreachable!("the ingredients are JSON: {error}")
        });
        Sha256Digest::of(&text)
    }

    /// The image's name, for files: `device-<architecture>-` and the first 16 digits of [`BuildPlan::digest`].
    pub fn image_name(&self, builder: BuilderKind, revision: u32) -> String {
        let digest = self.digest(builder, revision).to_string();
        format!("device-{}-{}", self.architecture, &digest[..16])
    }

    fn base_identity(&self, builder: BuilderKind) -> Vec<String> {
        match (&self.base, builder) {
            (PlannedBase::Catalog(name), BuilderKind::FromPackages) => vec![name.to_string()],
            (PlannedBase::Catalog(name), BuilderKind::InGuest) => {
                let image = name.image(self.architecture);
                image
                    .pins
                    .iter()
                    .map(|pin| pin.digest.to_string())
                    .collect()
            }
            (PlannedBase::Url(pin), _) => vec![pin.digest().to_string()],
        }
    }
}

fn identity(file: &BootFile) -> String {
    match file {
        BootFile::InImage(path) => path.clone(),
        BootFile::Url(pin) => pin.digest().to_string(),
    }
}
