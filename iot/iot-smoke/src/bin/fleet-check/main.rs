//! Several devices from one checkpoint, checked from inside and from NATS: no two share an identity, each runs its own
//! container, and each comes back from a power cut as who it was.

mod check;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use harmony::domain::error::error_chain;
use harmony::domain::topology::virtualization::{VmArchitecture, VmNetwork};
use harmony::modules::iot::assets;
use harmony::modules::iot::fleet::destroy_fleet;
use harmony::modules::kvm::connection::ConnectionUri;
use harmony::modules::kvm::topology::KvmVirtualMachineHost;
use iot_smoke::Failure;
use iot_smoke::program::{log_to_stderr, say, unless_asked_to_stop};

/// Makes several devices from one checkpoint, and checks each.
#[derive(Debug, Parser)]
#[command(name = "fleet-check", version, max_term_width = 100)]
struct Args {
    /// The devices' architecture: x86_64 or aarch64
    #[arg(long, default_value = "aarch64", value_name = "ARCH")]
    arch: VmArchitecture,

    /// How many devices
    #[arg(long, default_value = "10")]
    count: NonZeroUsize,

    /// The beginning of their names
    #[arg(long)]
    name: String,

    /// The example_iot_vm_setup that makes them
    #[arg(long, value_name = "FILE")]
    example: PathBuf,

    /// qemu:///system or qemu:///session
    #[arg(long, value_name = "URI")]
    connect: Option<ConnectionUri>,

    /// user, nat, nat:NETWORK or bridge:NAME
    #[arg(long, default_value = "user")]
    network: VmNetwork,

    /// The address on which NATS and the registry listen. With user networking the guest reaches this
    /// host's loopback; on a NAT network it must be the bridge's address
    #[arg(long, default_value = "127.0.0.1")]
    listen: std::net::Ipv4Addr,

    /// Removes what a run of that name and count that was killed has left, and nothing else
    #[arg(long)]
    clean_up: bool,

    /// The agent, instead of building it
    #[arg(long, value_name = "FILE", requires = "workload_binary")]
    agent_binary: Option<PathBuf>,

    /// The containers' program, instead of building it
    #[arg(long, value_name = "FILE", requires = "agent_binary")]
    workload_binary: Option<PathBuf>,
}

impl Args {
    fn names(&self) -> Vec<String> {
        let numbers = 1..=self.count.get();
        numbers.map(|n| format!("{}-{n}", self.name)).collect()
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    log_to_stderr("warn,harmony=warn,fleet_check=info");
    let (code, text) = match run(&args).await {
        Ok(text) => (ExitCode::SUCCESS, format!("{text}PASS: fleet-check")),
        Err(error) => (
            ExitCode::FAILURE,
            format!("{}\nFAIL: fleet-check", error_chain(error.as_ref())),
        ),
    };
    say(&format!("{text} {} {}\n", args.arch, args.count));
    code
}

/// Whatever happens, the devices are removed.
async fn run(args: &Args) -> Result<String, Failure> {
    let uri = ConnectionUri::choose(args.connect).await?;
    let host = KvmVirtualMachineHost::new(uri, assets::data_dir()?);
    if args.clean_up {
        destroy_fleet(&host, &args.names()).await?;
        return Ok(String::new());
    }
    let checked = unless_asked_to_stop(check::check(args, &host)).await;
    destroy_fleet(&host, &args.names()).await?;
    checked
}
