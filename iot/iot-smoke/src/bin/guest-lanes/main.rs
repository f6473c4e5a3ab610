//! Real guests of every lane that this kind of machine can run, all emulated, checked from inside.
//!
//! Each lane boots the same image with two network cards, a blank data disk and two shares, and is looked at
//! over SSH; devices are plugged in and out while it runs; then the power is cut. Every row of the resulting
//! table is printed, and one failed row fails the run. One guest runs at a time, and whatever happens, it is
//! removed.

mod examine;
mod facts;
mod instruction;
mod lane;
mod plug;
mod rebuild;
mod session;
mod shares;
mod table;

use std::collections::btree_map::{BTreeMap, Entry};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use harmony::domain::error::error_chain;
use harmony::domain::topology::virtualization::{
    VirtualMachineHost, VirtualMachineSpec, VmArchitecture,
};
use harmony::modules::image::ImageSource;
use harmony::modules::iot::assets;
use harmony::modules::kvm::connection::ConnectionUri;
use harmony::modules::kvm::topology::KvmVirtualMachineHost;
use harmony::modules::ssh::{SshKeyPair, ensure_key_pair};
use iot_smoke::Failure;
use iot_smoke::guest::Guest;
use iot_smoke::program::{log_to_stderr, say, unless_asked_to_stop};
use tempfile::TempDir;

use crate::lane::{Lane, Material};
use crate::session::Session;
use crate::table::LaneReport;

/// Boots a guest of every lane and checks it from inside. Called by iot/scripts/guest-lanes.sh.
#[derive(Debug, Parser)]
#[command(name = "guest-lanes", version, max_term_width = 100)]
struct Args {
    /// Only this lane: x86_64-bios, x86_64-uefi, aarch64-fastest or aarch64-raspberry-pi-5. May be repeated
    #[arg(long, value_name = "NAME")]
    lane: Vec<Lane>,

    /// Print the table as JSON
    #[arg(long)]
    json: bool,

    /// qemu:///system or qemu:///session
    #[arg(long, value_name = "URI")]
    connect: Option<ConnectionUri>,

    /// auto, ubuntu-24.04, debian-12, a PATH, or URL#sha256=DIGEST; of one architecture when it is one file
    #[arg(long, default_value = "debian-12")]
    image: ImageSource,

    /// Only remove what a killed run left
    #[arg(long)]
    clean_up: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    log_to_stderr("warn,harmony=info,guest_lanes=info");
    match run(&args).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("FAIL: {}\n", error_chain(error.as_ref())));
            ExitCode::FAILURE
        }
    }
}

/// Runs the lanes and prints the table. Returns whether all of it holds.
async fn run(args: &Args) -> Result<bool, Failure> {
    let lanes = match args.lane.as_slice() {
        [] => Lane::ALL.as_slice(),
        chosen => chosen,
    };
    let data_dir = assets::data_dir()?;
    let uri = ConnectionUri::choose(args.connect).await?;
    let host = KvmVirtualMachineHost::new(uri, &data_dir);
    if args.clean_up {
        clean_up(&host, lanes).await?;
        return Ok(true);
    }
    let result = unless_asked_to_stop(run_lanes(args, &host, lanes)).await;
    clean_up(&host, lanes).await?;
    let reports = result?;
    if args.json {
        say(&format!("{:#}\n", serde_json::to_value(&reports)?));
    } else {
        reports
            .iter()
            .for_each(|report| say(&format!("{report}\n")));
    }
    Ok(reports.iter().all(LaneReport::passed))
}

async fn clean_up(host: &KvmVirtualMachineHost, lanes: &[Lane]) -> Result<(), Failure> {
    for lane in lanes {
        host.destroy_vm(&lane.vm_name()).await?;
    }
    Ok(())
}

/// The lanes one after the other; one that fails does not keep the next from running.
async fn run_lanes(
    args: &Args,
    host: &KvmVirtualMachineHost,
    lanes: &[Lane],
) -> Result<Vec<LaneReport>, Failure> {
    let data_dir = assets::data_dir()?;
    let keys = ensure_key_pair(&data_dir.join("keys"), "id_ed25519")?;
    let shared = TempDir::with_prefix("harmony-lanes-")?;
    shares::make(shared.path())?;
    let mut images: BTreeMap<VmArchitecture, PathBuf> = BTreeMap::new();
    let mut reports = Vec::new();
    for lane in lanes {
        let image = match images.entry(lane.architecture()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let directory = data_dir.join("images");
                let image = assets::ensure_image(&args.image, *unknown.key(), &directory).await?;
                unknown.insert(image.path)
            }
        };
        let material = Material {
            image: image.clone(),
            shared: shared.path().to_owned(),
            public_key: keys.public_key_line.clone(),
        };
        reports.push(run_lane(*lane, host, &material, &keys).await);
    }
    Ok(reports)
}

/// One lane, from nothing to nothing.
async fn run_lane(
    lane: Lane,
    host: &KvmVirtualMachineHost,
    material: &Material,
    keys: &SshKeyPair,
) -> LaneReport {
    let start = Instant::now();
    let mut session = Session::new(lane, host, keys.private_key_path.clone());
    let mut ended_early = None;
    if let Err(error) = check_lane(&mut session, material).await {
        let cause = error_chain(error.as_ref());
        tracing::error!("{cause}\n{}", host.diagnose_vm(&session.name).await);
        ended_early = Some(cause);
    }
    if let Err(error) = host.destroy_vm(&session.name).await {
        let cause = format!("the guest could not be removed: {}", error_chain(&error));
        ended_early.get_or_insert(cause);
    }
    LaneReport {
        lane: lane.as_str(),
        seconds: start.elapsed().as_secs_f64(),
        stages: session.stages,
        rows: session.rows,
        ended_early,
    }
}

async fn check_lane(session: &mut Session<'_>, material: &Material) -> Result<(), Failure> {
    let spec = session.lane.spec(material);
    session.host.destroy_vm(&session.name).await?;
    let guest = session.bring_up(&spec).await?;
    session.end_stage("first boot");
    examine::examine(session, &guest).await?;
    shares::mount(session, &guest).await?;
    session.end_stage("examined");
    plug::plug(session, &guest).await?;
    session.end_stage("plugged in and out");
    match session.lane {
        Lane::X86Bios => {
            rebuild::power_cycle(session).await?;
            session.end_stage("power cut and booted");
        }
        Lane::ArmFastest => rebuild_twice(session, &guest, spec).await?,
        // What a power cut does to what is plugged in depends on neither firmware nor CPU.
        Lane::X86Uefi | Lane::ArmRaspberryPi5 => {}
    }
    Ok(())
}

async fn rebuild_twice(
    session: &mut Session<'_>,
    guest: &Guest,
    spec: VirtualMachineSpec,
) -> Result<(), Failure> {
    let kernel = rebuild::copy_kernel(session, guest).await?;
    session.end_stage("kernel copied out");
    rebuild::reset_nvram(session).await?;
    session.end_stage("fresh variable store and booted");
    rebuild::same_machine(session, spec, &kernel).await?;
    session.end_stage("rebuilt with a kernel from outside");
    Ok(())
}
