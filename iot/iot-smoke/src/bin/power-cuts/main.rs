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
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use harmony::domain::error::error_chain;
use harmony::domain::topology::virtualization::{VirtualMachineHost, VmArchitecture, VmNetwork};
use harmony::modules::iot::assets;
use harmony::modules::kvm::connection::ConnectionUri;
use harmony::modules::kvm::topology::KvmVirtualMachineHost;
use iot_smoke::Failure;
use iot_smoke::program::{log_to_stderr, say, unless_asked_to_stop};

use crate::moments::Kind;
use crate::table::Table;

/// Cuts the power of a device at random moments, and checks that it comes back.
#[derive(Debug, Parser)]
#[command(name = "power-cuts", version, max_term_width = 100)]
struct Args {
    /// The device's architecture: x86_64 or aarch64
    #[arg(long, default_value = "aarch64", value_name = "ARCH")]
    arch: VmArchitecture,

    /// How many cuts
    #[arg(long, default_value = "5")]
    count: NonZeroUsize,

    /// Decides about kinds and moments; with the same count it gives the same ones [default: drawn]
    #[arg(long)]
    seed: Option<u64>,

    /// Cuts during nothing else
    #[arg(long, value_name = "KIND")]
    only: Option<Kind>,

    /// The device's name
    #[arg(long)]
    name: String,

    /// The example_iot_vm_setup that makes it
    #[arg(long, value_name = "FILE")]
    example: PathBuf,

    /// qemu:///system or qemu:///session
    #[arg(long, value_name = "URI")]
    connect: Option<ConnectionUri>,

    /// user, nat, nat:NETWORK or bridge:NAME
    #[arg(long, default_value = "user")]
    network: VmNetwork,

    /// The address on which NATS, the registry and the server of releases listen. With user networking the guest reaches
    /// this host's loopback; on a NAT network it must be the bridge's address
    #[arg(long, default_value = "127.0.0.1")]
    listen: std::net::Ipv4Addr,

    /// Removes what a run of that name that was killed has left, and nothing else
    #[arg(long)]
    clean_up: bool,

    /// The agent, instead of building it
    #[arg(long, value_name = "FILE", requires = "workload_binary")]
    agent_binary: Option<PathBuf>,

    /// The containers' program, instead of building it
    #[arg(long, value_name = "FILE", requires = "agent_binary")]
    workload_binary: Option<PathBuf>,
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
        args.arch
    ));
    code
}

/// Whatever happens, the device is removed.
async fn run(args: &Args, seed: u64, table: &mut Table) -> Result<(), Failure> {
    let uri = ConnectionUri::choose(args.connect).await?;
    let host = KvmVirtualMachineHost::new(uri, assets::data_dir()?);
    if args.clean_up {
        host.destroy_vm(&args.name).await?;
        return Ok(());
    }
    let checked = unless_asked_to_stop(check::check(args, seed, &host, table)).await;
    host.destroy_vm(&args.name).await?;
    checked
}
