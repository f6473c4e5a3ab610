//! How long a device takes from nothing to its heartbeat: from a recipe's image, and from a plain one with the
//! packages installed at its first boot.
//!
//! Both ways go through `example_iot_vm_setup` as a user runs it, on the same host, one after the other. The
//! images are there before: what counts is the time of the command less that of its stage `image`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use harmony::domain::error::error_chain;
use harmony::domain::topology::virtualization::{VirtualMachineHost, VmArchitecture};
use harmony::modules::iot::assets;
use harmony::modules::kvm::connection::ConnectionUri;
use harmony::modules::kvm::topology::KvmVirtualMachineHost;
use iot_smoke::Failure;
use iot_smoke::example::{self, Stage};
use iot_smoke::program::{log_to_stderr, say, unless_asked_to_stop};
use iot_smoke::server::start_nats;
use serde::Serialize;
use tempfile::TempDir;
use tokio::process::Command;

/// Measures the way from nothing to a heartbeat, with a recipe's image and without.
#[derive(Debug, Parser)]
#[command(name = "provision-bench", version, max_term_width = 100)]
struct Args {
    /// The device's architecture: x86_64 or aarch64
    #[arg(long, default_value = "x86_64", value_name = "ARCH")]
    arch: VmArchitecture,

    /// The example_iot_vm_setup that brings the device up
    #[arg(long, value_name = "FILE")]
    example: PathBuf,

    /// The agent for the device
    #[arg(long, value_name = "FILE")]
    agent_binary: PathBuf,

    /// auto, kvm or tcg
    #[arg(long, default_value = "auto")]
    accel: String,

    /// How often each way is gone
    #[arg(long, default_value_t = 1)]
    rounds: u32,

    /// The recipe [default: the built-in one]
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,

    /// The plain image: auto, ubuntu-24.04, debian-12, a PATH, or URL#sha256=DIGEST
    #[arg(long, default_value = "auto")]
    image: String,

    /// Where the figures go, as JSON
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// A way to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Way {
    Recipe,
    Plain,
}

/// One device.
#[derive(Debug, Serialize)]
struct Run {
    way: Way,
    /// From the command's start to its heartbeat, without bringing the image here.
    seconds: f64,
    image: PathBuf,
    packages_installed: bool,
    stages: Vec<Stage>,
}

/// All figures.
#[derive(Debug, Serialize)]
struct Figures {
    architecture: VmArchitecture,
    accelerator: String,
    recipe_seconds: f64,
    plain_seconds: f64,
    /// How many times as fast the recipe's device is there.
    ratio: f64,
    runs: Vec<Run>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    log_to_stderr("warn,provision_bench=info");
    match run(&args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("FAIL: {}\n", error_chain(error.as_ref())));
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<(), Failure> {
    let uri = ConnectionUri::choose(None).await?;
    let host = KvmVirtualMachineHost::new(uri, assets::data_dir()?);
    let name = format!("harmony-bench-{}-{}", args.arch, std::process::id());
    let result = unless_asked_to_stop(measure(args, &host, &name)).await;
    host.destroy_vm(&name).await?;
    let figures = Figures::new(args, result?);
    say(&figures.to_text());
    if let Some(path) = &args.out {
        std::fs::write(path, format!("{:#}\n", serde_json::to_value(&figures)?))?;
    }
    Ok(())
}

async fn measure(
    args: &Args,
    host: &KvmVirtualMachineHost,
    name: &str,
) -> Result<Vec<Run>, Failure> {
    let dir = TempDir::with_prefix("harmony-bench-")?;
    let nats = start_nats(dir.path(), [127, 0, 0, 1].into()).await?;
    let mut runs = Vec::new();
    for _ in 0..args.rounds {
        for way in [Way::Recipe, Way::Plain] {
            let run = provision(args, way, name, &nats.url, &nats.registry).await?;
            tracing::info!(?way, seconds = format!("{:.1}", run.seconds), "provisioned");
            runs.push(run);
            host.destroy_vm(name).await?;
        }
    }
    nats.stop().await?;
    Ok(runs)
}

async fn provision(
    args: &Args,
    way: Way,
    name: &str,
    nats_url: &str,
    nats_registry: &Path,
) -> Result<Run, Failure> {
    let mut command = Command::new(&args.example);
    command
        .args(["--arch", args.arch.as_str(), "--accel", &args.accel])
        .args(["--name", name, "--nats-url", nats_url, "--cold"])
        .arg("--nats-registry")
        .arg(nats_registry)
        .arg("--agent-binary")
        .arg(&args.agent_binary);
    match (way, &args.recipe) {
        (Way::Plain, _) => {
            command.args(["--recipe", "none", "--image", &args.image]);
        }
        (Way::Recipe, Some(recipe)) => {
            command.arg("--recipe").arg(recipe);
        }
        (Way::Recipe, None) => {}
    }
    let started = Instant::now();
    let devices = example::devices(&mut command).await?;
    let seconds = started.elapsed().as_secs_f64();
    let device = devices.into_iter().next();
    let device = device.ok_or("the example made no device")?;
    if device.packages_installed != (way == Way::Plain) {
        let image = device.image.display();
        return Err(format!("{way:?}: packages of {image} are not what is measured").into());
    }
    let image_seconds: f64 = device
        .stages
        .iter()
        .filter(|stage| stage.name == "image")
        .map(|stage| stage.seconds)
        .sum();
    Ok(Run {
        way,
        seconds: seconds - image_seconds,
        image: device.image,
        packages_installed: device.packages_installed,
        stages: device.stages,
    })
}

impl Figures {
    fn new(args: &Args, runs: Vec<Run>) -> Self {
        let fastest = |way: Way| {
            let of_way = runs.iter().filter(|run| run.way == way);
            of_way.map(|run| run.seconds).fold(f64::INFINITY, f64::min)
        };
        let (recipe_seconds, plain_seconds) = (fastest(Way::Recipe), fastest(Way::Plain));
        Self {
            architecture: args.arch,
            accelerator: args.accel.clone(),
            recipe_seconds,
            plain_seconds,
            ratio: plain_seconds / recipe_seconds,
            runs,
        }
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        for run in &self.runs {
            let stages = run.stages.iter().filter(|stage| stage.name != "image");
            let stages: Vec<_> = stages
                .map(|stage| format!("{} {:.1}", stage.name, stage.seconds))
                .collect();
            let way = format!("{:?}", run.way).to_lowercase();
            let stages = stages.join(", ");
            text.push_str(&format!("{way:<7} {:>7.1} s  ({stages})\n", run.seconds));
        }
        text.push_str(&format!(
            "{}: a recipe's device {:.1} s, a plain one {:.1} s, {:.1} times as fast\n",
            self.architecture, self.recipe_seconds, self.plain_seconds, self.ratio
        ));
        text
    }
}
