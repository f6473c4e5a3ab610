//! The end-to-end smoke test: a real guest, a real agent, a real power cut.
//!
//! Five phases, as in the plan, each timed:
//!
//! 1. preflight, a private `nats-server -js` and a private container registry
//! 2. the agent and the container's program, built for the guest
//! 3. the VM with the agent, through `example_iot_vm_setup` as a user runs it
//! 4. the heartbeat in NATS, the guest examined from inside, a container reconciled
//! 5. a hard power cycle: a newer heartbeat of another boot, the container back, then gone
//!
//! Whatever happens, what was made is removed; on failure the console, the addresses and the agent's
//! journal are printed and kept.

mod args;
mod evidence;
mod phases;
mod registry;
mod server;
mod workload;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::args::Args;
use crate::phases::Smoke;

/// An error of the smoke: something that was expected did not hold.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("warn,harmony=info,iot_smoke=info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    let mut smoke = match Smoke::new(args) {
        Ok(smoke) => smoke,
        Err(error) => {
            say(&format!(
                "FAIL: {}\n",
                harmony::domain::error::error_chain(error.as_ref())
            ));
            return ExitCode::FAILURE;
        }
    };
    let result = tokio::select! {
        result = smoke.run() => result,
        asked = asked_to_stop() => Err(asked.err().map_or_else(|| "interrupted".into(), Failure::from)),
    };
    let code = match result {
        Ok(()) => {
            let text = smoke.summary("PASS");
            say(&text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            let cause = harmony::domain::error::error_chain(error.as_ref());
            evidence::keep(&smoke, &cause).await;
            say(&smoke.summary("FAIL"));
            say(&format!("{cause}\n"));
            ExitCode::FAILURE
        }
    };
    match smoke.clean_up().await {
        Ok(()) => code,
        Err(error) => {
            say(&format!("FAIL: cleaning up: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

/// Waits for SIGINT or SIGTERM.
async fn asked_to_stop() -> Result<(), std::io::Error> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// Prints a result.
fn say(text: &str) {
    // Nobody is left to tell when standard output is closed.
    let _ = std::io::stdout().write_all(text.as_bytes());
}
