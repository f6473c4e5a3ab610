//! Several devices from one checkpoint, checked from inside and from NATS: no two share an identity, each runs its own
//! container, and each comes back from a power cut as who it was.

mod check;

use std::num::NonZeroUsize;
use std::process::ExitCode;

use clap::Parser;
use harmony::domain::error::error_chain;
use harmony::modules::iot::assets;
use harmony::modules::iot::fleet::destroy_fleet;
use harmony::modules::kvm::connection::ConnectionUri;
use harmony::modules::kvm::topology::KvmVirtualMachineHost;
use iot_smoke::Failure;
use iot_smoke::options::DeviceOptions;
use iot_smoke::program::{log_to_stderr, say, unless_asked_to_stop};

/// Makes several devices from one checkpoint, and checks each.
#[derive(Debug, Parser)]
#[command(name = "fleet-check", version, max_term_width = 100)]
struct Args {
    #[command(flatten)]
    device: DeviceOptions,

    /// How many devices
    #[arg(long, default_value = "10")]
    count: NonZeroUsize,

    /// Removes what a run of that name and count that was killed has left, and nothing else
    #[arg(long)]
    clean_up: bool,
}

impl Args {
    fn names(&self) -> Vec<String> {
        let numbers = 1..=self.count.get();
        numbers
            .map(|n| format!("{}-{n}", self.device.name))
            .collect()
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
    say(&format!("{text} {} {}\n", args.device.arch, args.count));
    code
}

/// Whatever happens, the devices are removed.
async fn run(args: &Args) -> Result<String, Failure> {
    let uri = ConnectionUri::choose(args.device.connect).await?;
    let host = KvmVirtualMachineHost::new(uri, assets::data_dir()?);
    if args.clean_up {
        destroy_fleet(&host, &args.names()).await?;
        return Ok(String::new());
    }
    let checked = unless_asked_to_stop(check::check(args, &host)).await;
    destroy_fleet(&host, &args.names()).await?;
    checked
}
