//! The agent that the device gets: its program and its configuration.

use std::path::{Path, PathBuf};

use harmony::domain::error::ExecutorError;
use harmony::domain::topology::virtualization::{VmArchitecture, VmNetwork};
use harmony::modules::iot::device::{check_agent_binary, names_loopback};
use harmony::modules::kvm::VmName;
use iot_contracts::{AgentConfig, DeviceId, NatsConfig, NatsCredentials, NatsUrls};

use crate::args::Args;
use crate::error::SetupError;

/// Where iot/scripts/build-agent.sh may have put the agent: cargo's directory is its own with `--target`, and
/// one below that for Debian's compiler.
fn built_agents(architecture: VmArchitecture) -> Vec<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let target = PathBuf::from(target);
    let triple = format!("{architecture}-unknown-linux-gnu");
    [
        (VmArchitecture::of_host() == Some(architecture)).then(|| target.clone()),
        Some(target.join(&triple)),
        Some(target.join("cross").join(&triple)),
    ]
    .into_iter()
    .flatten()
    .map(|dir| dir.join("agent/iot-agent-v0"))
    .collect()
}

/// The agent's binary, checked to be one for the device.
pub(crate) fn agent_binary(args: &Args) -> Result<PathBuf, ExecutorError> {
    let candidates = match &args.agent_binary {
        Some(path) => vec![path.clone()],
        None => built_agents(args.arch),
    };
    let Some(path) = candidates.iter().find(|path| path.is_file()) else {
        return Err(SetupError::NoAgent {
            architecture: args.arch,
            looked_at: candidates,
        }
        .into());
    };
    check_agent_binary(path, args.arch)?;
    Ok(path.clone())
}

pub(crate) fn agent_config(args: &Args, name: &VmName) -> Result<AgentConfig, ExecutorError> {
    let credentials = args
        .nats_credentials
        .as_deref()
        .map(read_credentials)
        .transpose()?;
    let device_id: DeviceId = name.hostname().parse().map_err(SetupError::Config)?;
    let urls = NatsUrls::try_from(args.nats_url.clone()).map_err(SetupError::Config)?;
    let nats = NatsConfig {
        credentials,
        allow_plaintext: args.nats_allow_plaintext.clone(),
        ..NatsConfig::new(urls)
    };
    Ok(AgentConfig {
        device_id,
        heartbeat_seconds: Default::default(),
        nats,
        podman: Default::default(),
        update: None,
    })
}

/// With user networking the guest's gateway leads to this host's loopback, on a NAT network to the bridge's
/// address; on a bridge of the host's own network it is some router.
pub(crate) fn check_reach(args: &Args) -> Result<(), SetupError> {
    if !matches!(args.network.first(), Some(VmNetwork::Bridge { .. })) {
        return Ok(());
    }
    let urls = args.nats_url.iter().map(|url| url.as_str());
    let hosts = urls.chain(args.insecure_registry.iter().map(String::as_str));
    for address in hosts {
        if names_loopback(address) {
            return Err(SetupError::LoopbackOnBridge {
                address: address.to_owned(),
            });
        }
    }
    Ok(())
}

fn read_credentials(path: &Path) -> Result<NatsCredentials, SetupError> {
    let failed = |reason: String| SetupError::Credentials {
        path: path.to_owned(),
        reason,
    };
    let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
    // The parser's message quotes the line, which may hold a secret: only its position is passed on.
    toml::from_str(&text).map_err(|e| failed(format!("at bytes {:?}", e.span())))
}
