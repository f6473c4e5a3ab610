//! The end-to-end smoke test: a real guest, a real agent, a real power cut.
//!
//! Five phases, as in the plan, and one more with `--warm`, each timed:
//!
//! 1. preflight, a private `nats-server -js` and a private container registry
//! 2. the agent and the container's program, built for the guest, and meanwhile the device's image
//! 3. the VM with the agent, through `example_iot_vm_setup` as a user runs it
//! 4. the heartbeat in NATS, the guest examined from inside, a container reconciled
//! 5. a hard power cycle: a newer heartbeat of another boot, the container back, then gone
//! 6. with `--warm`: back to the checkpoint
//!
//! Whatever happens, what was made is removed (but a VM that was being saved as a checkpoint, which the next run that
//! makes one removes); on failure the console, the addresses and the agent's
//! journal are printed and kept.

mod args;
mod confinement;
mod evidence;
mod phases;
mod reset;

use std::process::ExitCode;

use clap::Parser;
use iot_smoke::program::{log_to_stderr, say, unless_asked_to_stop};

use crate::args::Args;
use crate::phases::Smoke;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    log_to_stderr("warn,harmony=info,iot_smoke=info");
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
    let result = unless_asked_to_stop(smoke.run()).await;
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
