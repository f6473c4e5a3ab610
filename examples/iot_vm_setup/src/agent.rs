//! The agent that the device gets: its program and its configuration.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use harmony::domain::error::ExecutorError;
use harmony::domain::topology::virtualization::{VmArchitecture, VmNetwork};
use harmony::modules::iot::device::{ServerCa, check_agent_binary, names_loopback, own_key};
use harmony::modules::iot::platform::{DeviceRegistry, DeviceTokens, KnownBy};
use harmony::modules::kvm::VmName;
use iot_contracts::{AgentConfig, DeviceId, NatsConfig, NatsCredentials, OperatorConfig};

use crate::args::Args;
use crate::deployments::operator;
use crate::error::SetupError;
use crate::release::update_config;

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
    let has_own_key = args.nats_registry.is_some() || args.nats_account.is_some();
    let credentials = match &args.device_credentials {
        _ if has_own_key => Some(own_key(args.nats_account.is_some())),
        Some(path) => Some(read_credentials(path)?),
        None if args.nats_credentials.is_some() => return Err(SetupError::NoDeviceKey.into()),
        None => None,
    };
    let operator = operator(args)?.map(|operator| {
        let keys = vec![operator.key().clone()];
        OperatorConfig::new(keys, Vec::new())
    });
    let device_id: DeviceId = name.hostname().parse().map_err(SetupError::Config)?;
    Ok(AgentConfig {
        device_id,
        heartbeat_seconds: Default::default(),
        nats: nats_config(args, credentials)?,
        podman: Default::default(),
        update: update_config(args)?,
        operator: operator.transpose().map_err(SetupError::Config)?,
    })
}

/// How this program itself reaches NATS. A registry's server is then certain to show a certificate for the hosts of the URLs.
pub(crate) async fn platform_config(args: &Args) -> Result<NatsConfig, ExecutorError> {
    let credentials = match &args.nats_credentials {
        Some(path) => Some(read_credentials(path)?),
        None => None,
    };
    let mut nats = nats_config(args, credentials)?;
    if let Some(registry) = registry(args) {
        let of_registry = registry.platform_config(nats.urls.clone())?;
        nats.credentials = of_registry.credentials;
        nats.tls = of_registry.tls;
        if nats.urls.are_tls() && args.nats_ca.is_none() {
            let urls = nats.urls.as_slice().iter();
            let servers: Vec<_> = urls.map(|url| (url, url.host())).collect();
            registry.certify(&servers).await?;
        }
    }
    if let Some(ca) = &args.nats_ca {
        nats.tls.get_or_insert_default().ca = Some(ca.clone());
    }
    Ok(nats)
}

/// The authority that is named, to be put on the devices.
pub(crate) fn nats_ca(args: &Args) -> Result<Option<ServerCa>, ExecutorError> {
    let Some(path) = &args.nats_ca else {
        return Ok(None);
    };
    let urls = args.nats_urls().map_err(SetupError::Config)?;
    if let Some(url) = urls.as_slice().iter().find(|url| !url.is_tls()) {
        return Err(SetupError::CaWithoutTls { url: url.clone() }.into());
    }
    Ok(Some(ServerCa::read(path)?))
}

fn nats_config(
    args: &Args,
    credentials: Option<NatsCredentials>,
) -> Result<NatsConfig, ExecutorError> {
    let urls = args.nats_urls().map_err(SetupError::Config)?;
    Ok(NatsConfig {
        credentials,
        allow_plaintext: args.nats_allow_plaintext.clone(),
        ..NatsConfig::new(urls)
    })
}

/// How the server comes to know a device.
pub(crate) fn known_by(args: &Args) -> Result<Option<KnownBy>, ExecutorError> {
    if let (Some(account), Some(path)) = (&args.nats_account, &args.nats_signing_key) {
        let seed = std::fs::read_to_string(path);
        let seed = seed.map_err(|error| SetupError::Credentials {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        let tokens = DeviceTokens::new(account, &seed)?;
        return Ok(Some(KnownBy::Token(Arc::new(tokens))));
    }
    Ok(registry(args).map(KnownBy::Registry))
}

/// Where the server looks up devices.
pub(crate) fn registry(args: &Args) -> Option<DeviceRegistry> {
    args.nats_registry.as_ref().map(DeviceRegistry::new)
}

/// Makes what a server needs to know of this program before there is any device.
pub(crate) fn init_registry(
    args: &Args,
    registry: &DeviceRegistry,
) -> Result<String, ExecutorError> {
    registry.platform_credentials()?;
    let urls = args.nats_urls().map_err(SetupError::Config)?;
    let urls = urls.as_slice().iter().filter(|url| url.is_tls());
    let names: Vec<&str> = urls.map(|url| url.host()).collect();
    registry.ensure_certificate(&names)?;
    let config = registry.server_config()?;
    Ok(format!(
        "# in the server's configuration, a file in this directory, beside 'listen' and 'jetstream':\n{config}"
    ))
}

/// With user networking the guest's gateway leads to this host's loopback, on a NAT network to the bridge's
/// address; on a bridge of the host's own network it is some router.
pub(crate) fn check_reach(args: &Args) -> Result<(), SetupError> {
    if !matches!(args.network.first(), Some(VmNetwork::Bridge { .. })) {
        return Ok(());
    }
    let urls = args.nats_urls().map_err(SetupError::Config)?;
    let urls = urls.as_slice().iter().map(|url| url.as_str());
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
