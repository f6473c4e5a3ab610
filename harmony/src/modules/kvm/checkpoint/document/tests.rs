use std::path::PathBuf;

use uuid::Uuid;

use super::{ForkError, Identity, Substitutions};
use crate::modules::kvm::placement::Placement;
use crate::modules::kvm::types::SerialNumber;

/// A document as libvirt 11.3 saves it.
const SAVED: &str = include_str!("saved.xml");
/// The same machine as another domain.
const FORKED: &str = include_str!("forked.xml");

fn placement(name: &str, uuid: &str, mac: &str, port: u16) -> Placement {
    let uuid: Uuid = uuid.parse().expect("a UUID");
    let file = |suffix: &str| PathBuf::from(format!("/var/lib/libvirt/images/{name}{suffix}"));
    Placement {
        uuid,
        serial: SerialNumber::derived(uuid),
        macs: vec![mac.parse().expect("an address")],
        overlay: file(".qcow2"),
        seed: Some(file("-seed.img")),
        disks: Vec::new(),
        nvram: file("-VARS.fd"),
        kernel: None,
        console_log: Some(file("-console.log")),
        ssh_port: Some(port),
        image_sha256: None,
    }
}

fn saved() -> Placement {
    let uuid = "da5a5c6c-ef30-46f4-b2eb-626f43122985";
    placement("harmony-test-ck", uuid, "52:54:00:12:29:85", 25511)
}

fn new() -> Placement {
    let uuid = "00000000-0000-0000-0000-000000000007";
    placement("edge-07", uuid, "52:54:00:00:00:07", 20007)
}

fn forked(saved: &Placement, new: &Placement) -> Result<String, ForkError> {
    let saved = Identity {
        name: "harmony-test-ck",
        placement: saved,
    };
    let new = Identity {
        name: "edge-07",
        placement: new,
    };
    Substitutions::new(saved, new, r#"{"a":"<new> & record"}"#)?.apply(SAVED)
}

/// Quotes and empty elements are written in one way here and in another by libvirt; an XML reader sees none of it.
fn normal(document: &str) -> String {
    document.replace('\'', "\"").replace("&quot;", "\"")
}

#[test]
fn only_what_is_of_the_old_identity_is_replaced() {
    let document = forked(&saved(), &new()).expect("the same machine");
    assert_eq!(normal(&document), normal(FORKED));
}

#[test]
fn a_machine_with_other_devices_is_refused() {
    let mut two_cards = new();
    two_cards
        .macs
        .push("52:54:00:00:00:08".parse().expect("an address"));
    let no_port = Placement {
        ssh_port: None,
        ..new()
    };
    for (other, devices) in [(two_cards, "network cards"), (no_port, "ports for SSH")] {
        match forked(&saved(), &other) {
            Err(ForkError::OtherMachine { what, .. }) => assert_eq!(what, devices),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn nothing_of_the_old_identity_is_left() {
    // A value inside a longer one is not replaced, and would be shared.
    let saved = Placement {
        nvram: PathBuf::from("/var/lib/libvirt/images/harmony-test-ck"),
        ..saved()
    };
    match forked(&saved, &new()) {
        Err(ForkError::Leftover { value, name }) => {
            assert_eq!(value, "/var/lib/libvirt/images/harmony-test-ck");
            assert_eq!(name, "edge-07");
        }
        other => panic!("{other:?}"),
    }
}
