//! harmony, as a user runs it.

use std::path::{Path, PathBuf};
use std::time::Instant;

use harmony::domain::topology::virtualization::VmArchitecture;
use harmony::modules::iot::fleet::destroy_fleet;
use harmony::modules::kvm::topology::KvmVirtualMachineHost;
use iot_smoke::Failure;
use iot_smoke::example::{self, Device};
use tokio::process::Command;

use crate::footprint::Footprint;
use crate::plain;
use crate::subject::Subject;

/// The most devices that any subject makes.
const MOST: usize = 10;

/// Stages that end when a login over SSH has succeeded; bringing the image here does not count.
const TO_SSH: [&str; 3] = ["preflight", "vm", "boot"];

/// The example, and what all its runs share.
pub(crate) struct Example {
    pub(crate) program: PathBuf,
    pub(crate) agent_binary: PathBuf,
    pub(crate) architecture: VmArchitecture,
    /// The device's name, and the beginning of several devices' names.
    pub(crate) name: String,
    pub(crate) nats_url: String,
    pub(crate) nats_registry: PathBuf,
}

/// The images that the example chose.
#[derive(Debug, Default)]
pub(crate) struct Images {
    recipe: Option<PathBuf>,
    plain: Option<PathBuf>,
}

impl Images {
    /// The image of a subject.
    pub(crate) fn of(&self, subject: Subject) -> Result<&Path, Failure> {
        let image = if subject.is_plain() {
            &self.plain
        } else {
            &self.recipe
        };
        Ok(image.as_deref().ok_or("the image was not prepared")?)
    }
}

impl Example {
    /// Every name that a run may have given a device.
    pub(crate) fn all_names(name: &str) -> Vec<String> {
        let numbered = (1..=MOST).map(|n| format!("{name}-{n}"));
        std::iter::once(name.to_owned()).chain(numbered).collect()
    }

    /// Has every image and the checkpoint made that the subjects need.
    pub(crate) async fn prepare(
        &self,
        host: &KvmVirtualMachineHost,
        subjects: &[Subject],
    ) -> Result<Images, Failure> {
        let mut images = Images::default();
        if subjects.iter().any(|subject| !subject.is_plain()) {
            let warm = subjects.iter().any(|subject| subject.is_warm());
            let way = if warm { Subject::Warm } else { Subject::Cold };
            let (_, made) = self.run(way).await?;
            images.recipe = made.into_iter().next().map(|device| device.image);
            self.remove(host).await?;
        }
        if subjects.iter().any(|subject| subject.is_plain()) {
            images.plain = Some(plain::image(self.architecture).await?);
        }
        Ok(images)
    }

    /// The seconds that one device takes, and what each takes of the host.
    pub(crate) async fn time(
        &self,
        host: &KvmVirtualMachineHost,
        subject: Subject,
    ) -> Result<(f64, Option<Footprint>), Failure> {
        let (total, devices) = self.run(subject).await?;
        if devices
            .iter()
            .any(|device| device.forked != subject.is_warm())
        {
            return Err(format!("{subject:?}: not what is measured: {devices:?}").into());
        }
        let footprints = devices
            .iter()
            .filter(|_| subject.is_warm())
            .map(|device| Footprint::of(&device.name, &device.nvram, &host.disk(&device.name)?));
        let footprints = footprints.collect::<Result<Vec<_>, Failure>>()?;
        let to_ssh = || {
            let stages = devices.iter().flat_map(|device| &device.stages);
            let counted = stages.filter(|stage| TO_SSH.contains(&stage.name.as_str()));
            counted.map(|stage| stage.seconds).sum()
        };
        let seconds = if subject.is_warm() {
            total / subject.devices() as f64
        } else {
            to_ssh()
        };
        self.remove(host).await?;
        Ok((seconds, Footprint::largest(&footprints)))
    }

    async fn run(&self, subject: Subject) -> Result<(f64, Vec<Device>), Failure> {
        let mut command = Command::new(&self.program);
        command
            .args(["--arch", self.architecture.as_str()])
            .args(["--name", &self.name, "--nats-url", &self.nats_url])
            .arg("--nats-registry")
            .arg(&self.nats_registry)
            .arg("--agent-binary")
            .arg(&self.agent_binary);
        command.arg(if subject.is_warm() {
            "--warm"
        } else {
            "--cold"
        });
        if subject.devices() > 1 {
            command.args(["--count", &subject.devices().to_string()]);
        }
        let started = Instant::now();
        let devices = example::devices(&mut command).await?;
        let seconds = started.elapsed().as_secs_f64();
        Ok((seconds, devices))
    }

    async fn remove(&self, host: &KvmVirtualMachineHost) -> Result<(), Failure> {
        destroy_fleet(host, &Self::all_names(&self.name)).await?;
        Ok(())
    }
}
