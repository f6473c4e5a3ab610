//! What is built for the guest: the agent, and the container's program.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use harmony::domain::topology::virtualization::VmArchitecture;
use tokio::process::Command;

use crate::Failure;

/// The programs for the guest.
#[derive(Debug, Clone)]
pub struct Built {
    /// The agent.
    pub agent: PathBuf,
    /// What a container runs.
    pub workload: PathBuf,
}

/// Builds both through `iot/scripts/build-agent.sh`, which chooses the compiler.
///
/// # Errors
/// When they cannot be built.
pub async fn build(architecture: VmArchitecture) -> Result<Built, Failure> {
    let agent = run_script(architecture, &[]).await?;
    let workload = [
        "--package",
        "smoke-workload",
        "--bin",
        "smoke-workload",
        "--static",
    ];
    let workload = run_script(architecture, &workload).await?;
    Ok(Built { agent, workload })
}

async fn run_script(architecture: VmArchitecture, more: &[&str]) -> Result<PathBuf, Failure> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/build-agent.sh");
    let output = Command::new(&script)
        .args(["--arch", architecture.as_str()])
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?
        .wait_with_output()
        .await?;
    if !output.status.success() {
        return Err(format!("{} failed: {}", script.display(), output.status).into());
    }
    let said = String::from_utf8(output.stdout)?;
    let path = said.lines().last().unwrap_or_default().trim();
    let path = PathBuf::from(path);
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!(
            "{} printed '{}', which is no file",
            script.display(),
            path.display()
        )
        .into())
    }
}
