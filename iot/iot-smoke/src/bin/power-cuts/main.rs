//! One real device whose power is cut at random moments, again and again: while it pulls an image, makes a container,
//! updates one, updates its agent, and writes its state. Each time it has to come back by itself as it should be.

mod check;
mod device;
mod evidence;
mod images;
mod judge;
mod look;
mod moments;
mod power;
mod releases;
mod table;
mod work;

use std::num::NonZeroUsize;
use std::process::ExitCode;

use clap::Parser;
use harmony::domain::error::error_chain;
use harmony::domain::topology::virtualization::VirtualMachineHost;
use harmony::modules::iot::assets;
use harmony::modules::kvm::connection::ConnectionUri;
use harmony::modules::kvm::topology::KvmVirtualMachineHost;
use iot_smoke::Failure;
use iot_smoke::options::DeviceOptions;
use iot_smoke::program::{log_to_stderr, say, unless_asked_to_stop};

use crate::moments::Kind;
use crate::table::Table;

/// Cuts the power of a device at random moments, and checks that it comes back.
#[derive(Debug, Parser)]
#[command(name = "power-cuts", version, max_term_width = 100)]
struct Args {
    #[command(flatten)]
    device: DeviceOptions,

    /// How many cuts
    #[arg(long, default_value = "5")]
    count: NonZeroUsize,

    /// Decides about kinds and moments; with the same count it gives the same ones [default: drawn]
    #[arg(long)]
    seed: Option<u64>,

    /// Cuts during nothing else
    #[arg(long, value_name = "KIND")]
    only: Option<Kind>,

    /// Removes what a run of that name that was killed has left, and nothing else
    #[arg(long)]
    clean_up: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    log_to_stderr("warn,harmony=warn,power_cuts=info");
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let again = format!("--count {} --seed {seed}", args.count);
    if !args.clean_up {
        say(&format!("power-cuts: {again}\n"));
    }
    let mut table = Table::default();
    let (code, verdict) = match run(&args, seed, &mut table).await {
        Ok(()) if args.clean_up => return ExitCode::SUCCESS,
        Ok(()) => (ExitCode::SUCCESS, "PASS".to_owned()),
        Err(error) => (
            ExitCode::FAILURE,
            format!("{}\nFAIL", error_chain(error.as_ref())),
        ),
    };
    say(&format!(
        "{}{verdict}: power-cuts {} {again}\n",
        table.text(),
        args.device.arch
    ));
    code
}

/// Whatever happens, the device is removed.
async fn run(args: &Args, seed: u64, table: &mut Table) -> Result<(), Failure> {
    let uri = ConnectionUri::choose(args.device.connect).await?;
    let host = KvmVirtualMachineHost::new(uri, assets::data_dir()?);
    if args.clean_up {
        host.destroy_vm(&args.device.name).await?;
        return Ok(());
    }
    let checked = unless_asked_to_stop(check::check(args, seed, &host, table)).await;
    host.destroy_vm(&args.device.name).await?;
    checked
}
