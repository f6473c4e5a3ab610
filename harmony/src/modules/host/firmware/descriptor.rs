//! The wire form of a firmware descriptor; see QEMU's `docs/interop/firmware.json`.
//!
//! Unknown fields are accepted: QEMU adds features and mappings, and an older reader must still see
//! enough to pass such a descriptor over with the right reason.

use std::path::PathBuf;

use serde::Deserialize;

use super::candidate::{FirmwareTarget, FlashFormat};

/// A descriptor as far as it is read.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Descriptor {
    pub(super) interface_types: Vec<String>,
    pub(super) mapping: Mapping,
    targets: Vec<Target>,
    pub(super) features: Vec<String>,
}

/// How the firmware is mapped, for every kind of mapping.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Mapping {
    pub(super) device: String,
    pub(super) mode: Option<String>,
    pub(super) executable: Option<FlashFile>,
    pub(super) nvram_template: Option<FlashFile>,
}

/// A flash image as a descriptor names it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct FlashFile {
    pub(super) filename: PathBuf,
    pub(super) format: FlashFormat,
}

#[derive(Debug, Deserialize)]
struct Target {
    architecture: String,
    machines: Vec<String>,
}

impl Descriptor {
    /// Reads one. The error is one sentence for a reader.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| format!("not a firmware descriptor: {error}"))
    }

    /// What it runs on.
    pub(super) fn targets(&self) -> Vec<FirmwareTarget> {
        self.targets
            .iter()
            .map(|target| FirmwareTarget {
                architecture: target.architecture.clone(),
                machines: target.machines.clone(),
            })
            .collect()
    }
}
