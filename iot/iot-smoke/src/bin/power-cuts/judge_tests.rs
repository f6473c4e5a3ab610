use std::collections::BTreeMap;

use iot_contracts::{AgentStatus, Hex};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{Desired, Fault, Wanted, judge};
use crate::look::{Found, FoundContainer};

fn digest(n: u8) -> Hex<32> {
    [n; 32].into()
}

fn wanted() -> Wanted {
    let desired = Desired {
        image: "registry/b:1".to_owned(),
        change: 1,
        digest: "sha256:b".to_owned(),
    };
    Wanted {
        deployments: BTreeMap::from([("web".parse().unwrap(), desired)]),
        program: digest(2),
        before: Some(digest(1)),
        installed: digest(0),
        is_updated: true,
        failed_units: ["old.service".to_owned()].into(),
    }
}

fn container(name: &str, state: &str, image: &str) -> FoundContainer {
    FoundContainer {
        name: name.to_owned(),
        state: state.to_owned(),
        image: image.to_owned(),
    }
}

fn state_file(json: &str) -> String {
    let digest: Hex<32> = <[u8; 32]>::from(Sha256::digest(json)).into();
    format!("harmony-desired-state 1 {digest}\n{json}")
}

fn good() -> Found {
    let state = ["f desired-state", "d slots", "f slots/a", "f slots/record"];
    Found {
        containers: vec![container("harmony.web.workload", "running", "registry/b:1")],
        state_directory: state.map(str::to_owned).into(),
        program: digest(2).to_string(),
        record: Some("{}".to_owned()),
        desired_state: state_file("{\"memory\":1}"),
        kernel: "EXT4-fs (vda1): recovery complete\nEXT4-fs (vda1): mounted filesystem with ordered data mode"
            .to_owned(),
        file_system: "Filesystem magic number:  0xEF53\nFilesystem state:         clean\n".to_owned(),
        system: "degraded".to_owned(),
        failed_units: ["old.service".to_owned()].into(),
    }
}

#[test]
fn what_is_as_it_should_be_has_no_fault() {
    assert_eq!(judge(&good(), &wanted()), []);
    let fresh = Found {
        record: None,
        system: "running".to_owned(),
        failed_units: [].into(),
        ..good()
    };
    assert_eq!(judge(&fresh, &wanted()), []);
}

/// What is spoilt, the fault, and whether that is final.
type Case = (fn(&mut Found), &'static str, bool);

#[test]
fn everything_else_is_told() {
    let cases: [Case; 21] = [
        (
            |f| f.containers.clear(),
            "there is no container 'harmony.web.workload'",
            false,
        ),
        (
            |f| f.containers[0].state = "created".to_owned(),
            "container 'harmony.web.workload' is created",
            false,
        ),
        (
            |f| f.containers[0].image = "registry/a:1".to_owned(),
            "container 'harmony.web.workload' is of image 'registry/a:1' (expected 'registry/b:1')",
            false,
        ),
        (
            |f| {
                f.containers
                    .push(container("harmony.web.workload.previous", "exited", "a"))
            },
            "there is a container 'harmony.web.workload.previous' (exited)",
            false,
        ),
        (
            |f| f.state_directory.push("f slots/a.new".to_owned()),
            "the agent's state directory has 'f slots/a.new'",
            false,
        ),
        (
            |f| f.state_directory.push("f slots/c".to_owned()),
            "the agent's state directory has 'f slots/c'",
            false,
        ),
        (
            |f| {
                f.failed_units.insert("iot-agent.service".to_owned());
            },
            "unit iot-agent.service failed",
            false,
        ),
        (
            |f| f.system = "maintenance".to_owned(),
            "the system is 'maintenance'",
            false,
        ),
        (
            |f| f.program = "gone".to_owned(),
            "the agent's program is gone (expected 02",
            false,
        ),
        (
            |f| f.program = digest(1).to_string(),
            "the agent's program is 01",
            false,
        ),
        (
            |f| f.program = digest(3).to_string(),
            "an agent runs that must not any more: 03",
            true,
        ),
        (
            |f| f.program = digest(0).to_string(),
            "the agent's program is 00",
            false,
        ),
        (
            |f| {
                f.kernel
                    .push_str("\nEXT4-fs error (device vda1): ext4_lookup:1787: inode #2")
            },
            "the kernel says: EXT4-fs error (device vda1)",
            true,
        ),
        (
            |f| {
                f.kernel
                    .push_str("\nEXT4-fs (vda1): error count since last fsck: 2")
            },
            "the kernel says: EXT4-fs (vda1): error count",
            true,
        ),
        (
            |f| {
                f.kernel
                    .push_str("\nBuffer I/O error on dev vda1, logical block 3")
            },
            "the kernel says: Buffer I/O error",
            true,
        ),
        (
            |f| f.file_system = "Filesystem state:         clean with errors".to_owned(),
            "the file system is 'clean with errors' (expected 'clean')",
            true,
        ),
        (
            |f| f.file_system.push_str("FS Error count:           2\n"),
            "the file system has had 2 errors",
            true,
        ),
        (
            |f| f.file_system.clear(),
            "the file system is 'not told'",
            true,
        ),
        (
            |f| f.desired_state = f.desired_state.replace('1', "2"),
            "the agent's file with the desired state is not what was written",
            true,
        ),
        (
            |f| f.desired_state.clear(),
            "the agent's file with the desired state has no first line",
            true,
        ),
        (
            |f| f.record = Some("{\"inst".to_owned()),
            "the agent's record of updates is no JSON",
            true,
        ),
    ];
    for (spoil, what, is_final) in cases {
        let mut found = good();
        spoil(&mut found);
        let faults = judge(&found, &wanted());
        let is_told = |fault: &Fault| fault.what.starts_with(what) && fault.is_final == is_final;
        assert!(faults.iter().any(is_told), "{what}: {faults:?}");
    }
    let mut found = good();
    found.desired_state = state_file("{");
    assert!(judge(&found, &wanted())[0].what.contains("is no JSON"));
}

#[test]
fn only_what_an_update_goes_between_may_run() {
    let mut wanted = Wanted {
        program: digest(0),
        before: None,
        is_updated: false,
        ..wanted()
    };
    // The fault of each program from 0, the installed one, to 4: whether there is one, and whether that is final.
    let faults = |wanted: &Wanted| {
        [0, 1, 2, 3, 4].map(|n| {
            let found = Found {
                program: digest(n).to_string(),
                ..good()
            };
            let faults = judge(&found, wanted);
            let is_final = faults.iter().any(|fault| fault.is_final);
            match (faults.is_empty(), is_final) {
                (true, _) => "right",
                (false, false) => "not yet",
                (false, true) => "never",
            }
        })
    };
    let [right, yet, never] = ["right", "not yet", "never"];
    assert_eq!(faults(&wanted), [right, never, never, never, never]);
    wanted.update_to(digest(1));
    assert!(wanted.is_updated);
    assert_eq!(faults(&wanted), [yet, right, never, never, never]);
    wanted.has_converged();
    assert_eq!(faults(&wanted), [yet, right, never, never, never]);
    wanted.update_to(digest(2));
    assert_eq!(faults(&wanted), [yet, yet, right, never, never]);
    wanted.has_converged();
    assert_eq!(faults(&wanted), [yet, never, right, never, never]);
    wanted.update_to(digest(3));
    assert_eq!(faults(&wanted), [yet, never, yet, right, never]);
}

fn report(phase: &str, digest_told: &str, update: &str, more: bool) -> AgentStatus {
    let deployment = json!({ "phase": phase, "desired": { "revision": 3, "digest": digest_told } });
    let mut deployments = json!({ "web": deployment });
    if more {
        deployments["old"] = deployment;
    }
    serde_json::from_value(json!({
        "device_id": "pi-1", "timestamp_unix_ms": 1, "boot_id": "b", "agent_version": "0.1.0",
        "architecture": "aarch64", "sequence": 1, "deployments": deployments,
        "update": { "program": "a", "last": { "revision": 1, "sha256": digest(2).to_string(), "phase": update } },
    }))
    .unwrap()
}

#[test]
fn only_a_report_of_just_that_counts() {
    let table = [
        (report("Running", "sha256:b", "Proven", false), true),
        (report("Pending", "sha256:b", "Proven", false), false),
        (report("Running", "sha256:a", "Proven", false), false),
        (report("Running", "sha256:b", "Trying", false), false),
        (report("Running", "sha256:b", "Proven", true), false),
    ];
    for (report, expected) in table {
        assert_eq!(wanted().is_reported(&report), expected, "{report:?}");
    }
    let mut other = wanted();
    other.program = digest(3);
    assert!(!other.is_reported(&report("Running", "sha256:b", "Proven", false)));
    other.is_updated = false;
    assert!(other.is_reported(&report("Running", "sha256:b", "Failed", false)));
}
