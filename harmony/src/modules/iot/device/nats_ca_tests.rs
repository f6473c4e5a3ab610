//! The authority of the NATS server, on a device.

use rustls::pki_types::CertificateDer;

use super::{Paper, execute, score};
use crate::domain::interpret::Change;
use crate::domain::topology::linux_host::LinuxHost;
use crate::modules::iot::device::{
    AGENT_CONFIG, AGENT_UNIT, DeviceError, NATS_CA, ProvisionIotAgentScore, ServerCa,
};
use iot_contracts::ContractError;

fn with_ca(url: &str, certificate: u8) -> ProvisionIotAgentScore {
    ProvisionIotAgentScore {
        nats_ca: Some(ServerCa::of(&[CertificateDer::from(vec![certificate])])),
        ..score(url)
    }
}

fn file(host: &Paper, path: &str) -> String {
    let state = host.state.lock().expect("no panic");
    String::from_utf8(state.had[path].clone()).expect("text")
}

const CA_CALL: &str = "/etc/iot-agent/nats-ca.pem root:root 644";
const CONFIG_CALL: &str = "/etc/iot-agent/config.toml root:iot-agent-v0 640";

#[tokio::test]
async fn a_device_gets_the_authority_and_another_one_restarts_its_agent() {
    let host = Paper::new(std::env::consts::ARCH);
    let first = with_ca("tls://127.0.0.1:4222", 1);
    execute(&first, &host).await.expect("provisioned");
    let calls = host.calls();
    let at = |call: &str| calls.iter().position(|own| own == call).expect(call);
    assert_eq!(at(CA_CALL) + 1, at(CONFIG_CALL), "{calls:?}");
    let config = file(&host, AGENT_CONFIG);
    for part in [
        "\"tls://10.0.2.2:4222\"",
        "\n[nats.tls]\nca = \"/etc/iot-agent/nats-ca.pem\"\n",
    ] {
        assert!(config.contains(part), "{config}");
    }
    assert!(file(&host, NATS_CA).starts_with("-----BEGIN CERTIFICATE-----\n"));

    let again = execute(&first, &host).await.expect("provisioned");
    assert_eq!(again.change, Change::Unchanged, "{:?}", again.details);
    let other = with_ca("tls://127.0.0.1:4222", 2);
    assert_eq!(changed(&other, &host).await, [NATS_CA, AGENT_UNIT]);
    // One that somebody else wrote there is not what the service was started with.
    host.has(NATS_CA, b"other");
    assert_eq!(changed(&other, &host).await, [NATS_CA, AGENT_UNIT]);
}

/// What a score has changed.
async fn changed(score: &ProvisionIotAgentScore, host: &Paper) -> Vec<String> {
    let outcome = execute(score, host).await.expect("provisioned");
    let steps = outcome.details.iter();
    let changed = steps.filter_map(|step| step.strip_suffix(": changed"));
    changed.map(str::to_owned).collect()
}

#[tokio::test]
async fn a_restart_for_another_authority_that_did_not_come_is_made_up_for() {
    let mut host = Paper::new(std::env::consts::ARCH);
    let score = with_ca("tls://nats.example", 1);
    execute(&score, &host).await.expect("provisioned");
    let other = with_ca("tls://nats.example", 2);
    host.unit_fails = true;
    execute(&other, &host).await.expect_err("no restart");
    host.unit_fails = false;
    let outcome = execute(&other, &host).await.expect("provisioned");
    let service = "iot-agent.service: changed".to_owned();
    assert!(outcome.details.contains(&service), "{:?}", outcome.details);
}

#[tokio::test]
async fn a_fork_has_the_authority_before_the_configuration_that_names_it() {
    let host = Paper::new(std::env::consts::ARCH);
    let facts = host.facts().await.expect("paper");
    let device = with_ca("tls://127.0.0.1:4222", 1);
    device.complete(&host, &facts).await.expect("completed");
    let stamp = "/var/lib/harmony/iot-agent.applied root:root 600";
    assert_eq!(host.calls(), [stamp, CA_CALL, CONFIG_CALL, "sync"]);
    assert!(file(&host, AGENT_CONFIG).contains(NATS_CA));
}

#[tokio::test]
async fn an_authority_without_tls_is_refused_and_nothing_is_written() {
    let host = Paper::new(std::env::consts::ARCH);
    let error = execute(&with_ca("nats://127.0.0.1", 1), &host).await;
    let error = error.expect_err("plain text");
    let error = error.downcast_ref::<DeviceError>().expect("a DeviceError");
    assert!(
        matches!(error, DeviceError::Nats(ContractError::TlsUnused)),
        "{error:?}"
    );
    assert_eq!(host.calls(), ["first boot"]);
}
