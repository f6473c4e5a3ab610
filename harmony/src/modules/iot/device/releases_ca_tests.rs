//! The authority of the servers of releases, on a device.

use iot_contracts::UpdateConfig;
use rustls::pki_types::CertificateDer;

use super::{Paper, execute, score};
use crate::domain::interpret::Change;
use crate::domain::topology::linux_host::LinuxHost;
use crate::modules::iot::device::{
    AGENT_CONFIG, DeviceError, ProvisionIotAgentScore, RELEASES_CA, ServerCa,
};

const CA_CALL: &str = "/etc/iot-agent/releases-ca.pem root:root 644";
const CONFIG_CALL: &str = "/etc/iot-agent/config.toml root:iot-agent-v0 640";

fn with_ca(certificate: u8) -> ProvisionIotAgentScore {
    let mut score = score("nats://127.0.0.1:4222");
    let keys = r#"keys = ["ODVEU3DD4KOFECV66VIHWEZOYX4ZKR3WV27L464SIIPOU2IUI3JCZAW4"]"#;
    let update: UpdateConfig = toml::from_str(keys).expect("valid");
    score.config.update = Some(update);
    score.releases_ca = Some(ServerCa::of(&[CertificateDer::from(vec![certificate])]));
    score
}

fn file(host: &Paper, path: &str) -> String {
    let state = host.state.lock().expect("no panic");
    String::from_utf8(state.had[path].clone()).expect("text")
}

#[tokio::test]
async fn a_device_gets_the_authority_and_another_one_needs_no_restart() {
    let host = Paper::new(std::env::consts::ARCH);
    execute(&with_ca(1), &host).await.expect("provisioned");
    let calls = host.calls();
    let at = |call: &str| calls.iter().position(|own| own == call).expect(call);
    assert_eq!(at(CA_CALL) + 1, at(CONFIG_CALL), "{calls:?}");
    let config = file(&host, AGENT_CONFIG);
    let named = "ca = \"/etc/iot-agent/releases-ca.pem\"\n";
    assert!(config.contains(named), "{config}");
    assert!(file(&host, RELEASES_CA).starts_with("-----BEGIN CERTIFICATE-----\n"));

    let again = execute(&with_ca(1), &host).await.expect("provisioned");
    assert_eq!(again.change, Change::Unchanged, "{:?}", again.details);
    let other = execute(&with_ca(2), &host).await.expect("provisioned");
    let changed = other.details.iter();
    let changed = changed.filter_map(|step| step.strip_suffix(": changed"));
    assert_eq!(changed.collect::<Vec<_>>(), [RELEASES_CA]);
}

#[tokio::test]
async fn a_fork_has_the_authority_before_the_configuration_that_names_it() {
    let host = Paper::new(std::env::consts::ARCH);
    let facts = host.facts().await.expect("paper");
    with_ca(1).complete(&host, &facts).await.expect("completed");
    let stamp = "/var/lib/harmony/iot-agent.applied root:root 600";
    assert_eq!(host.calls(), [stamp, CA_CALL, CONFIG_CALL, "sync"]);
}

#[tokio::test]
async fn an_authority_without_keys_is_refused_and_nothing_is_written() {
    let host = Paper::new(std::env::consts::ARCH);
    let mut score = with_ca(1);
    score.config.update = None;
    let error = execute(&score, &host).await.expect_err("no updates");
    let error = error.downcast_ref::<DeviceError>().expect("a DeviceError");
    assert!(matches!(error, DeviceError::ReleasesCaUnused), "{error:?}");
    assert_eq!(host.calls(), ["first boot"]);
}
