//! The on-device agent. It watches the desired state of its device in NATS, makes Podman run exactly that,
//! and reports how it fares.
//!
//! ```text
//!   bucket.rs ──> follow.rs ── desired state ──> reconcile.rs ── steps of plan.rs, by flights.rs ──> podman/
//!                 followed.rs <──> keep.rs            |
//!   nats.rs <────────────── status.rs <── phases ─────┘
//! ```
//!
//! Everything is level-triggered: each look compares the whole desired state with what Podman
//! really has, so that a missed event, a crash or a power cut costs a look and nothing else. Only
//! containers with the agent's own labels are ever touched. An outage of NATS or Podman is
//! reported and waited out, and so are credentials that cannot be used; the one fatal error is a bad configuration.

// libFuzzer has a `main` of its own.
#![cfg_attr(fuzzing, no_main)]

mod agent;
mod args;
mod assess;
mod await_file;
mod backoff;
mod beforehand;
mod bucket;
mod budget;
mod changes;
mod config;
mod connection;
mod container;
mod credentials;
mod creds;
mod desired;
mod digest;
mod durable;
mod error;
#[cfg(test)]
mod fake;
mod flights;
mod follow;
mod followed;
mod found;
#[cfg(any(test, fuzzing))]
mod fuzz;
mod heartbeat;
mod history;
mod keep;
mod nats;
mod nkey;
mod notes;
mod notices;
mod order;
mod plan;
mod podman;
mod problems;
mod questions;
mod reconcile;
mod report;
mod room;
mod service;
mod settle;
mod sight;
#[cfg(any(test, fuzzing))]
#[path = "signing_for_tests.rs"]
mod signing;
mod status;
mod told;
mod unquoted;
mod update;
mod value;
mod watchdog;

use std::io::Write;
use std::process::ExitCode;

use iot_contracts::AgentProgram;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::args::{Purpose, Request};
use crate::beforehand::NothingThere;
use crate::error::chain;
use crate::keep::Keeper;
use crate::nkey::DeviceKey;
use crate::update::{Launched, Updater};
use crate::watchdog::{READY, ServiceManager};

/// What `--version` prints.
const VERSION: &str = concat!("iot-agent-v0 ", env!("CARGO_PKG_VERSION"), "\n");

/// What is logged without `RUST_LOG`. The client's own lines repeat what the agent says of the connection.
const DEFAULT_FILTER: &str = "info,async_nats=warn";

/// A bad command line or configuration: no restart will help.
const EXIT_CONFIG: u8 = 2;

fn main() -> ExitCode {
    let (config, purpose, launches) = match args::parse(std::env::args_os().skip(1)) {
        Ok(Request::Agent {
            config,
            purpose,
            launches,
        }) => (config, purpose, launches),
        Ok(Request::PublicKey(path)) => {
            return match DeviceKey::ensure(&path) {
                Ok(key) => print(&format!("{}\n", key.public())),
                Err(error) => fail(&error, 1),
            };
        }
        Ok(Request::Help) => return print(args::HELP),
        Ok(Request::Version) => return print(VERSION),
        Err(error) => return fail(&error, EXIT_CONFIG),
    };
    if purpose != Purpose::Check {
        log_to_stderr();
    }
    let manager = match purpose {
        Purpose::Check => ServiceManager::default(),
        Purpose::Run | Purpose::AwaitAndRun => ServiceManager::of_this_process(),
    };
    manager.tell(READY);
    let mut program = update::program_of_this_process();
    if launches {
        program = Some(AgentProgram::Installed);
        if update::launch(&config, &manager) == Launched::Stopped {
            return ExitCode::SUCCESS;
        }
    }
    let mut nothing = None;
    if purpose == Purpose::AwaitAndRun {
        nothing = match beforehand::await_configuration(&config, &manager) {
            Ok(nothing) => nothing,
            Err(error) => return fail(&error, EXIT_CONFIG),
        };
    }
    let config = match config::load(&config) {
        Ok(config) => config,
        Err(error) => return fail(&error, EXIT_CONFIG),
    };
    if purpose == Purpose::Check {
        return match config.check() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error, EXIT_CONFIG),
        };
    }
    match run(&config, program, nothing, &manager) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, 1),
    }
}

/// `RUST_LOG` is a list of `LEVEL` and `TARGET=LEVEL`.
fn log_to_stderr() {
    let asked = std::env::var("RUST_LOG").unwrap_or_default();
    let asked = Some(asked.as_str()).filter(|filter| !filter.is_empty());
    let filter = asked.unwrap_or(DEFAULT_FILTER).parse::<Targets>();
    let default = || Targets::new().with_default(LevelFilter::INFO);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false);
    tracing_subscriber::registry()
        .with(lines)
        .with(filter.as_ref().cloned().unwrap_or_else(|_| default()))
        .init();
    if let Err(error) = filter {
        tracing::warn!(error = chain(&error), "RUST_LOG is ignored");
    }
}

/// Runs until SIGTERM or SIGINT; containers are left running.
fn run(
    config: &config::Loaded,
    program: Option<AgentProgram>,
    nothing: Option<NothingThere>,
    manager: &ServiceManager,
) -> std::io::Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            let podman =
                podman::Podman::new(config.podman_socket()).keeping_in(keep::state_directory());
            let nothing = nothing.filter(|seen| seen.socket == config.podman_socket());
            let nothing_since = nothing.map(|seen| seen.since);
            let keeper = Keeper::of_this_unit(config.device_id());
            if keeper.is_none() {
                tracing::info!("no STATE_DIRECTORY: the desired state is not kept on the device");
            }
            let keys = order::Rules::of(config.config()).keys();
            let identity = status::Identity::of_this_device(config.device_id().clone(), keys)?;
            let updater = Updater::of_this_process(program, config.config().update.as_ref());
            let agent = agent::run(
                config,
                identity,
                &podman,
                keeper.as_ref(),
                nothing_since,
                manager,
                &updater,
            );
            tokio::select! {
                ended = agent => ended?,
                () = received(&mut terminate, "SIGTERM") => {}
                () = received(&mut interrupt, "SIGINT") => {}
            }
            updater.forget_starts();
            Ok(())
        })
}

async fn received(signal: &mut Signal, name: &'static str) {
    signal.recv().await;
    tracing::info!(signal = name, "stopping; containers keep running");
}

/// Data, which goes to stdout.
fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, 1),
    }
}

/// The one place that talks outside the log.
fn fail(error: &(dyn std::error::Error + 'static), code: u8) -> ExitCode {
    // Nothing is left to tell when stderr is closed; the exit code says it too.
    let _ = writeln!(std::io::stderr(), "iot-agent-v0: {}", chain(error));
    ExitCode::from(code)
}
