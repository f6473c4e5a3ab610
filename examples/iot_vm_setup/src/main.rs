//! `example_iot_vm_setup`: one virtual IoT device, from nothing to a heartbeat.
//!
//! Data goes to standard output, talk to standard error. Exit code 2 for a wrong request, 1 for a
//! failure.

mod agent;
mod args;
mod deployments;
mod devices;
mod error;
mod image;
mod inspect;
mod output;
mod release;
mod setup;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use harmony::domain::error::{ExecutorError, error_chain};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::args::Args;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("warn,harmony=info,example_iot_vm_setup=info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    let result = tokio::select! {
        result = setup::run(&args) => result,
        // Programs that were started end with the dropped future. A VM that was being made is recognised
        // as harmony's own and cleared by the next run.
        signal = asked_to_stop() => {
            complain(&format!("stopped by {signal}"));
            return ExitCode::from(130);
        }
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            report(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

/// Waits for SIGINT or SIGTERM; for ever when neither can be listened to.
async fn asked_to_stop() -> &'static str {
    let listen = |kind: SignalKind, name: &'static str| async move {
        match signal(kind) {
            Ok(mut listener) => listener.recv().await,
            Err(error) => {
                tracing::warn!(%error, "{name} cannot be listened to");
                std::future::pending().await
            }
        };
        name
    };
    tokio::select! {
        name = listen(SignalKind::interrupt(), "SIGINT") => name,
        name = listen(SignalKind::terminate(), "SIGTERM") => name,
    }
}

/// The one place that prints an error: the chain, and after a blank line what to do.
fn report(error: &ExecutorError) {
    complain(&format!("error: {}", error_chain(error)));
    if let Some(hint) = error.hint() {
        complain(&format!("\nhint: {hint}"));
    }
}

fn complain(text: &str) {
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(std::io::stderr(), "{text}");
}
