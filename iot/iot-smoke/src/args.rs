//! The command line.

use clap::Parser;
use iot_smoke::options::DeviceOptions;

/// Runs the end-to-end smoke test of a virtual IoT device. Called by iot/scripts/smoke-a3.sh.
#[derive(Debug, Clone, Parser)]
#[command(name = "iot-smoke", version, max_term_width = 100)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) device: DeviceOptions,

    /// auto, kvm or tcg
    #[arg(long, default_value = "auto")]
    pub(crate) accel: String,

    /// A recipe's TOML file, or none for a plain image with the packages installed over SSH [default: the
    /// built-in recipe]
    #[arg(long, value_name = "FILE|none")]
    pub(crate) recipe: Option<String>,

    /// auto, guest or packages
    #[arg(long, default_value = "auto")]
    pub(crate) builder: String,

    /// A plain image instead of a recipe's: auto, ubuntu-24.04, debian-12, a PATH, or URL#sha256=DIGEST
    #[arg(long)]
    pub(crate) image: Option<String>,

    /// The device goes on from a checkpoint, which is made when there is none
    #[arg(long)]
    pub(crate) warm: bool,
}

impl Args {
    /// Whether the image is the built-in recipe's.
    pub(crate) fn has_built_in_recipe(&self) -> bool {
        self.image.is_none() && self.recipe.is_none()
    }

    /// Whether the image is a recipe's, which has all packages that a device needs.
    pub(crate) fn has_recipe(&self) -> bool {
        self.image.is_none() && self.recipe.as_deref() != Some("none")
    }

    /// What the example is told of the image.
    pub(crate) fn image_options(&self) -> Vec<&str> {
        let mut options = vec!["--builder", self.builder.as_str()];
        for (option, value) in [("--recipe", &self.recipe), ("--image", &self.image)] {
            if let Some(value) = value {
                options.extend([option, value.as_str()]);
            }
        }
        options
    }
}
