use std::path::PathBuf;

use iot_contracts::{AgentConfig, NatsConfig, NatsUrls};
use uuid::Uuid;

use super::{FailedDevice, FleetError, check_distinct};
use crate::domain::error::{ErrorKind, HintedError};
use crate::domain::topology::virtualization::{
    NetworkCard, OnChange, VirtualMachineSpec, VmNetwork,
};
use crate::modules::iot::virtual_device::VirtualDevice;
use crate::modules::ssh::SshKeyPair;

fn device(name: &str, id: &str) -> VirtualDevice {
    let url = "nats://127.0.0.1:4222".parse().expect("valid");
    VirtualDevice {
        spec: VirtualMachineSpec::new_aarch64(name),
        on_change: OnChange::Refuse,
        warm: true,
        reset: false,
        agent: AgentConfig {
            device_id: id.parse().expect("valid"),
            heartbeat_seconds: Default::default(),
            nats: NatsConfig::new(NatsUrls::try_from(vec![url]).expect("one")),
            podman: Default::default(),
            update: None,
            operator: None,
        },
        known_by: None,
        agent_binary: PathBuf::from("/agent"),
        nats_ca: None,
        releases_ca: None,
        insecure_registries: Vec::new(),
        keys: SshKeyPair {
            private_key_path: PathBuf::from("/key"),
            public_key_line: "ssh-ed25519 AAAA".to_owned(),
        },
    }
}

#[test]
fn no_two_devices_are_one() {
    let fleet = [device("edge_1", "edge-1"), device("edge-2", "edge-2")];
    check_distinct(&fleet).expect("distinct");
    let table = [
        (device("edge_1", "edge-3"), "name", "edge_1"),
        (device("edge.1", "edge-1"), "device id", "edge-1"),
    ];
    for (third, shared, expected) in table {
        let fleet = [fleet[0].clone(), fleet[1].clone(), third];
        match check_distinct(&fleet) {
            Err(error @ FleetError::Duplicate { .. }) => {
                assert_eq!(error.kind(), ErrorKind::InvalidRequest);
                let text = error.to_string();
                assert!(text.contains(shared) && text.contains(expected), "{text}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_machine_has_what_it_is_known_by_to_itself() {
    let mut edge = device("edge-1", "edge-1");
    edge.spec.networks = vec![NetworkCard {
        mac: Some("52:54:00:AB:00:01".to_owned()),
        ..NetworkCard::default()
    }];
    edge.spec.uuid = Some(Uuid::from_u128(1));
    let mut other = device("edge-2", "edge-2");
    check_distinct(&[edge.clone(), other.clone()]).expect("distinct");
    other.spec.uuid = edge.spec.uuid;
    let error = check_distinct(&[edge.clone(), other.clone()]).expect_err("one UUID");
    assert!(error.to_string().contains("the UUID '00000000"), "{error}");
    other.spec.uuid = None;
    other.spec.networks = edge.spec.networks.clone();
    other.spec.networks[0].mac = Some("52:54:00:ab:00:01".to_owned());
    let error = check_distinct(&[edge, other]).expect_err("one address");
    let text = error.to_string();
    assert!(
        text.contains("Ethernet address '52:54:00:ab:00:01'"),
        "{text}"
    );
}

#[test]
fn a_port_of_the_host_leads_to_one_guest() {
    let network: VmNetwork = "user:8080:80".parse().expect("valid");
    let fleet = ["edge-1", "edge-2"].map(|name| VirtualDevice {
        spec: VirtualMachineSpec {
            networks: vec![network.clone().into()],
            ..VirtualMachineSpec::new_aarch64(name)
        },
        ..device(name, name)
    });
    check_distinct(&fleet[..1]).expect("one");
    let error = check_distinct(&fleet).expect_err("two guests, one port");
    assert!(error.to_string().contains("'8080 (tcp)'"), "{error}");
}

#[test]
fn a_partial_failure_names_each_device_and_its_reason() {
    let failed = ["edge-2", "edge-7"].map(|name| FailedDevice {
        name: name.to_owned(),
        error: FleetError::Duplicate {
            what: "name",
            value: name.to_owned(),
        }
        .into(),
        diagnosis: String::new(),
    });
    let error = FleetError::Partial {
        count: 10,
        failed: failed.into(),
    };
    let text = error.to_string();
    assert!(
        text.starts_with("2 of 10 devices failed:\n  edge-2: two"),
        "{text}"
    );
    assert!(text.contains("\n  edge-7: two devices"), "{text}");
}
