//! How a device reaches NATS, as its own files have it.

use harmony::domain::topology::linux_host::HostCommand;
use harmony::modules::iot::device::{AGENT_CONFIG, NATS_CA};
use iot_contracts::{AgentConfig, NatsTls};

use crate::guest::Guest;
use crate::{Failure, expect};

impl Guest {
    /// Checks that the agent is to speak TLS, by an authority that everybody may read and nobody but root write.
    ///
    /// # Errors
    /// With what is there instead.
    pub async fn examine_nats(&self) -> Result<String, Failure> {
        let config = HostCommand::new("cat").arg(AGENT_CONFIG).as_root();
        // What it has of secrets is quoted by no error.
        let config: AgentConfig = toml::from_str(&self.output(config).await?)
            .map_err(|error| format!("{AGENT_CONFIG} cannot be read: {}", error.message()))?;
        let nats = &config.nats;
        let is_tls = nats.urls.are_tls();
        expect(
            "whether NATS is reached by TLS",
            &is_tls.to_string(),
            "true",
        )?;
        let by_ca = NatsTls {
            ca: Some(NATS_CA.into()),
            ..NatsTls::default()
        };
        if nats.tls.as_ref() != Some(&by_ca) {
            return Err(format!("the agent's TLS is {:?}, expected {by_ca:?}", nats.tls).into());
        }
        let mode = HostCommand::new("stat").args(["-c", "%U:%G %a", NATS_CA]);
        expect(
            "the authority's owner and mode",
            self.output(mode).await?.trim(),
            "root:root 644",
        )?;
        let keys = HostCommand::new("grep").args(["-c", "PRIVATE KEY", NATS_CA]);
        expect(
            "the private keys in it",
            self.run(&keys).await?.stdout.trim(),
            "0",
        )?;
        Ok(format!(
            "NATS: {} by the authority in {NATS_CA}",
            nats.urls.as_slice()[0]
        ))
    }
}
