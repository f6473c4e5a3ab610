//! Images for the device: the workload, each with other bytes after it.

use std::path::{Path, PathBuf};

use harmony::domain::topology::virtualization::VmArchitecture;
use iot_contracts::IotScore;
use iot_smoke::server::Server;
use iot_smoke::{Failure, registry};
use serde_json::json;

use crate::judge::SERVICE;

/// What there is beside the program in an image that takes a while to pull, in bytes.
const LARGE: usize = 48 << 20;
/// And in any other one.
const SMALL: usize = 1 << 16;

/// How much there is to pull.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Size {
    Large,
    Small,
}

/// A registry with images of one program.
pub(crate) struct Images {
    pub(crate) registry: Server,
    /// Its address as the guest sees it.
    pub(crate) seen_at: String,
    pub(crate) arch: VmArchitecture,
    pub(crate) workload: PathBuf,
    /// Decides about the bytes.
    pub(crate) chance: fastrand::Rng,
}

impl Images {
    /// Pushes an image that no other has a layer of; its reference for the guest.
    ///
    /// # Errors
    /// When the registry does not take it.
    pub(crate) async fn push(
        &mut self,
        dir: &Path,
        name: &str,
        size: Size,
    ) -> Result<String, Failure> {
        let mut more = match size {
            Size::Large => vec![0; LARGE],
            Size::Small => vec![0; SMALL],
        };
        self.chance.fill(&mut more);
        let mut program = std::fs::read(&self.workload)?;
        program.extend(more);
        let path = dir.join("program");
        std::fs::write(&path, program)?;
        let repository = format!("cuts/{name}");
        registry::push(&self.registry, &repository, self.arch, &path).await?;
        Ok(format!("{}/{repository}:1", self.seen_at))
    }
}

/// A deployment of one container; another `change` makes it another container.
///
/// # Errors
/// When the image's name is none.
pub(crate) fn score(image: &str, change: usize) -> Result<IotScore, Failure> {
    let env = json!({ "CHANGE": change.to_string() });
    Ok(serde_json::from_value(json!({
        "type": "PodmanV0",
        "data": { "services": [{ "name": SERVICE, "image": image, "env": env }] },
    }))?)
}
