//! `harmony-image`: the images of this host, and the pins of the catalog.
//!
//! Data goes to standard output, talk to standard error. Exit code 2 for a wrong request, 1 for a failure
//! or a file that is not what it should be, 130 when stopped by SIGINT or SIGTERM: what has come of a
//! transfer is kept, and the next run goes on with it.

mod args;
mod commands;
mod output;
mod refresh;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use harmony::domain::error::{ExecutorError, error_chain};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::args::{Args, Command};
use crate::output::complain;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let default = if args.quiet {
        "error"
    } else {
        "warn,harmony=info,harmony_image=info"
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    let result = tokio::select! {
        result = run(&args) => result,
        signal = asked_to_stop() => {
            complain(&format!("stopped by {signal}"));
            return ExitCode::from(130);
        }
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            complain(&format!("error: {}", error_chain(&error)));
            if let Some(hint) = error.hint() {
                complain(&format!("\nhint: {hint}"));
            }
            ExitCode::from(error.exit_code())
        }
    }
}

async fn run(args: &Args) -> Result<ExitCode, ExecutorError> {
    match &args.command {
        Command::Fetch(fetch) => commands::fetch(args, fetch).await,
        Command::List(dirs) => commands::list(args, dirs),
        Command::Verify(verify) => commands::verify(args, verify),
        Command::Prune(prune) => commands::prune(args, prune),
        Command::Refresh(refresh) => refresh::run(refresh).await,
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
