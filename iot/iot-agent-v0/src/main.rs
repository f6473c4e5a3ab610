//! The on-device agent. It watches the desired state of its device in NATS, makes Podman run exactly that,
//! and reports how it fares.
//!
//! ```text
//!   nats.rs ── desired state ──> reconcile.rs ── steps of plan.rs ──> podman/
//!      ^                              |
//!      └────── status.rs <── phases ──┘
//! ```
//!
//! Everything is level-triggered: each pass compares the whole desired state with what Podman
//! really has, so that a missed event, a crash or a power cut costs a pass and nothing else. Only
//! containers with the agent's own labels are ever touched. An outage of NATS or Podman is
//! reported and waited out; the one fatal error is a bad configuration.

mod agent;
mod config;
mod desired;
mod error;
#[cfg(test)]
mod fake;
mod nats;
mod plan;
mod podman;
mod reconcile;
mod status;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::error::chain;

/// Runs the containers that this device's desired state in NATS asks for, and reports on them.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// The configuration file (TOML).
    #[arg(long, value_name = "PATH")]
    config: PathBuf,
    /// Check the configuration and exit: 0 when it is valid, 2 when not.
    #[arg(long)]
    check: bool,
}

/// A bad configuration: no restart will help.
const EXIT_CONFIG: u8 = 2;

fn main() -> ExitCode {
    let args = Args::parse();
    let config = match config::load(&args.config) {
        Ok(config) => config,
        Err(error) => return fail(&error, EXIT_CONFIG),
    };
    if args.check {
        return ExitCode::SUCCESS;
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, 1),
    }
}

/// Runs until SIGTERM or SIGINT; containers are left running.
fn run(config: config::Loaded) -> std::io::Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            let podman = podman::Podman::new(config.podman_socket());
            let identity = status::Identity::of_this_device(config.device_id().clone())?;
            tokio::select! {
                () = agent::run(&config, identity, &podman) => {}
                () = received(&mut terminate, "SIGTERM") => {}
                () = received(&mut interrupt, "SIGINT") => {}
            }
            Ok(())
        })
}

async fn received(signal: &mut Signal, name: &'static str) {
    signal.recv().await;
    tracing::info!(signal = name, "stopping; containers keep running");
}

/// The one place that talks outside the log.
fn fail(error: &(dyn std::error::Error + 'static), code: u8) -> ExitCode {
    // Nothing is left to tell when stderr is closed; the exit code says it too.
    let _ = writeln!(std::io::stderr(), "iot-agent-v0: {}", chain(error));
    ExitCode::from(code)
}
