//! How soon a device is ready: raw QEMU, and harmony cold, warm and many at a time, on the same images.
//!
//! Every subject is measured once a round, in turn, so that what else the host does falls on all of them. Raw QEMU is
//! measured twice under two names: what lies between the two is noise.

mod example;
mod figures;
mod footprint;
mod plain;
mod raw;
mod subject;
mod virt_install;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use harmony::domain::error::error_chain;
use harmony::domain::topology::virtualization::VmArchitecture;
use harmony::modules::iot::assets;
use harmony::modules::iot::fleet::destroy_fleet;
use harmony::modules::kvm::connection::ConnectionUri;
use harmony::modules::kvm::topology::KvmVirtualMachineHost;
use iot_smoke::Failure;
use iot_smoke::program::{log_to_stderr, say, unless_asked_to_stop};
use iot_smoke::server::start_nats;
use tempfile::TempDir;
use tracing::{info, warn};

use crate::example::Example;
use crate::figures::Figures;
use crate::footprint::Footprint;
use crate::raw::RawQemu;
use crate::subject::{Measured, Subject};
use crate::virt_install::VirtInstall;

/// Measures how soon a device is ready.
#[derive(Debug, Parser)]
#[command(name = "ready-bench", version, max_term_width = 100)]
struct Args {
    /// The device's architecture: x86_64 or aarch64
    #[arg(long, default_value = "aarch64", value_name = "ARCH")]
    arch: VmArchitecture,

    /// The example_iot_vm_setup that brings devices up
    #[arg(long, value_name = "FILE")]
    example: PathBuf,

    /// The agent for the device
    #[arg(long, value_name = "FILE")]
    agent_binary: PathBuf,

    /// How often each subject is measured
    #[arg(long, default_value = "5")]
    rounds: NonZeroUsize,

    /// What is measured; may be repeated [default: all]
    #[arg(long, value_enum)]
    only: Vec<Subject>,

    /// Where the figures go, as JSON, after each round
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    log_to_stderr("warn,ready_bench=info");
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
    destroy_fleet(&host, &Example::all_names(&name)).await?;
    let cleared = virt_install::clear(&host, &name).await;
    say(&result?.to_text());
    cleared
}

async fn measure(
    args: &Args,
    host: &KvmVirtualMachineHost,
    name: &str,
) -> Result<Figures, Failure> {
    let dir = TempDir::with_prefix("harmony-bench-")?;
    let nats = start_nats(dir.path(), [127, 0, 0, 1].into()).await?;
    let example = Example {
        program: args.example.clone(),
        agent_binary: args.agent_binary.clone(),
        architecture: args.arch,
        name: name.to_owned(),
        nats_url: nats.url.clone(),
        nats_registry: nats.registry.clone(),
    };
    let raw = RawQemu::new(host.facts().await, args.arch)?;
    let virt_install = VirtInstall::find(host, &raw, args.arch, name);
    let mut subjects = match args.only.as_slice() {
        [] => Subject::all(args.arch),
        only => only.to_vec(),
    };
    if virt_install.is_none() {
        warn!("virt-install is not measured: it is not on PATH");
        subjects.retain(|subject| *subject != Subject::VirtInstall);
    }
    // Images and the checkpoint are there before anything counts.
    let images = example.prepare(host, &subjects).await?;
    if subjects.contains(&Subject::ColdPlain) {
        let image = images.of(Subject::ColdPlain)?;
        plain::time_to_ssh(host, dir.path(), args.arch, name, image).await?;
    }
    let mut measured = Vec::new();
    let mut footprints = Vec::new();
    let mut figures = Figures::default();
    for round in 0..args.rounds.get() {
        for &subject in &subjects {
            let image = images.of(subject)?;
            let (seconds, footprint) = match (subject.raw(), &virt_install) {
                (Some(boot), _) => (raw.time_to_ssh(dir.path(), image, boot).await?, None),
                (None, Some(peer)) if subject == Subject::VirtInstall => {
                    (peer.time_to_ssh(image).await?, None)
                }
                _ if subject == Subject::ColdPlain => {
                    let (dir, arch) = (dir.path(), args.arch);
                    let seconds = plain::time_to_ssh(host, dir, arch, name, image).await?;
                    (seconds, None)
                }
                _ => example.time(host, subject).await?,
            };
            info!(
                round,
                ?subject,
                seconds = format!("{seconds:.1}"),
                "measured"
            );
            measured.push(Measured {
                round,
                subject,
                seconds,
            });
            footprints.extend(footprint);
        }
        figures = Figures::new(args.arch, &measured, Footprint::largest(&footprints));
        if let Some(path) = &args.out {
            std::fs::write(path, format!("{:#}\n", serde_json::to_value(&figures)?))?;
        }
    }
    nats.stop().await?;
    Ok(figures)
}
