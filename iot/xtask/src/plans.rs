//! What lanes run that is more than a command.

use std::path::PathBuf;

use crate::host::Host;
use crate::step::{Kind, Plan, Step, all};

const HOST_TESTS: &str = "cargo test --locked --workspace --features harmony/kvm --no-fail-fast -- --ignored --test-threads=1";

/// How many random specs a whole run tries.
pub const PROPERTY_CASES: (&str, &str) = ("HARMONY_PROPERTY_CASES", "100000");

/// Tests that build images in guests.
const GUEST_BUILDER: &str = "image_in_guest::";

/// Tests that build images have lanes of their own.
const BUILDING: [&str; 4] = [
    GUEST_BUILDER,
    "image::debian::",
    "built_image",
    "recipe::tests::chroot",
];

/// Rounds of faults, too.
const ROUNDS: &str = "rounds_";

/// Where lanes that build images keep them for each other: the harmony cache, where the smokes build as well.
fn images_dir() -> String {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let home = || variable("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = variable("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    let images = cache.unwrap_or_default().join("harmony/images");
    images.to_string_lossy().into_owned()
}

fn tools() -> Step {
    Step::of_line(
        "cargo build --locked -p iot-smoke --bin iot-smoke --bin fleet-check -p example_iot_vm_setup --bin example_iot_vm_setup",
    )
    .preparation()
}

pub fn shell_scripts(_: &Host) -> Plan {
    let scripts = "shellcheck -x -e SC2016,SC2317 iot/scripts/*.sh .ci/run";
    // What runs in guests finds some of its variables set before it.
    let library = "find harmony/src -name '*.sh' -exec shellcheck -s sh -e SC1091,SC2154 {} +";
    all([
        Step::new("sh", ["-c", scripts]),
        Step::new("sh", ["-c", library]),
    ])
}

pub fn guest_builder(_: &Host) -> Plan {
    let tests = format!(
        "cargo test --locked -p harmony --features kvm --lib -- --ignored --test-threads=1 {GUEST_BUILDER}"
    );
    all([Step::tests(&tests).with("HARMONY_TEST_IMAGES_DIR", images_dir())])
}

pub fn idle_agent(_: &Host) -> Plan {
    let script = "IOT_AGENT_BINARY=$(./iot/scripts/build-agent.sh --arch \"$(uname -m)\"); \
                          export IOT_AGENT_BINARY; exec cargo test --locked -p iot-agent-v0 --test footprint -- --ignored";
    all([Step {
        kind: Kind::Tests,
        ..Step::new("sh", ["-euc", script])
    }])
}

pub fn faults(host: &Host) -> Plan {
    rounds(host, None)
}

pub fn faults_in_full(host: &Host) -> Plan {
    rounds(host, Some("20"))
}

fn rounds(host: &Host, number: Option<&str>) -> Plan {
    // They wait more than they compute.
    let mut step = Step::tests(
        "cargo test --locked -p iot-agent-v0 --test rounds -- --ignored --test-threads=6",
    );
    if let Some(number) = number {
        // So many that times can be judged.
        step = step.with("HARMONY_ROUNDS", number);
        step = step.with("HARMONY_JUDGE", "1");
    }
    let mut skips = Vec::new();
    if !host.is_root {
        let partition = "rounds_of_a_partition";
        let skip = ["--skip".to_owned(), partition.to_owned()];
        step.arguments.extend(skip);
        skips.push(format!("{partition}: needs root, for a network namespace"));
    }
    Plan::Run {
        steps: vec![step],
        skips,
    }
}

pub fn fuzz(_: &Host) -> Plan {
    all([Step::of_line("./iot/scripts/fuzz.sh --seconds 60")])
}

pub fn host_tests(host: &Host) -> Plan {
    let mut left_out = Vec::from(BUILDING);
    left_out.push(ROUNDS);
    let mut skips = Vec::new();
    let mut leave_out = |filters: &[&'static str], reason: &str| {
        left_out.extend(filters);
        skips.push(format!("{}: {reason}", filters.join(", ")));
    };
    if !host.has_sshd || !host.is_root {
        leave_out(
            &["modules::ssh::host_tests"],
            "needs root and /usr/sbin/sshd (openssh-server)",
        );
    }
    if !host.has_golden_versions {
        leave_out(
            &[
                "domain_documents::libvirt_accepts",
                "properties::libvirt_accepts",
            ],
            "needs root, /dev/kvm, libvirt 11.3 and QEMU 10.0 on x86_64",
        );
    }
    if !host.is_root {
        leave_out(
            &["a_disk_that_fills_up"],
            "needs root, to mount a small file system",
        );
    }
    if host.codename != "bookworm" {
        leave_out(
            &["firmware_trees::"],
            "needs the firmware packages of Debian 12",
        );
    }
    let mut step = Step::tests(HOST_TESTS).with(PROPERTY_CASES.0, PROPERTY_CASES.1);
    for filter in left_out {
        step.arguments
            .extend(["--skip".to_owned(), filter.to_owned()]);
    }
    Plan::Run {
        steps: vec![step],
        skips,
    }
}

pub fn images(host: &Host) -> Plan {
    let library =
        "cargo test --locked -p harmony --features kvm --lib -- --ignored --test-threads=1";
    let mut steps = Vec::new();
    for filter in BUILDING {
        // It has a lane of its own.
        if filter == GUEST_BUILDER {
            continue;
        }
        let mut step = Step::tests(&format!("{library} {filter}"));
        if !host.is_root && filter == "recipe::tests::chroot" {
            continue;
        }
        step = step.with("HARMONY_TEST_IMAGES_DIR", images_dir());
        if filter == "built_image" {
            // No image host can be reached.
            step = step.with("HTTPS_PROXY", "http://127.0.0.1:1");
        }
        steps.push(step);
    }
    let skips = match host.is_root {
        true => Vec::new(),
        false => vec!["recipe::tests::chroot: needs root".to_owned()],
    };
    Plan::Run { steps, skips }
}

pub fn nat(host: &Host) -> Plan {
    if !host.is_root {
        return Plan::Skip("needs root");
    }
    // The private network has no way out: all that comes from elsewhere is made before.
    let agent = "./iot/scripts/build-agent.sh --arch aarch64";
    let workload = format!("{agent} --package smoke-workload --bin smoke-workload --static");
    let image = "cargo run --locked -p example_iot_vm_setup -- --arch aarch64 --image-only";
    let script = "./iot/scripts/smoke-a3-arm.sh --warm \"$@\"; ./iot/scripts/fleet-check.sh --count 2 \"$@\"";
    let options = "--connect qemu:///system --network nat --listen 192.168.122.1".split(' ');
    let inside = ["sh", "-euc", script, "sh"].into_iter().chain(options);
    all([
        tools(),
        Step::of_line(agent).preparation(),
        Step::of_line(&workload).preparation(),
        Step::of_line(image).preparation(),
        Step::new("./iot/scripts/in-private-libvirt.sh", inside),
    ])
}

pub fn nats_current(_: &Host) -> Plan {
    let with = |command: &str| {
        let script = format!(
            "dir=$(./iot/scripts/nats-current.sh); PATH=$dir:$PATH; export PATH; exec {command}"
        );
        Step::new("sh", ["-euc", script.as_str()])
    };
    let attacks = "cargo test --locked -p harmony --features kvm --lib -- --ignored --test-threads=1 iot::platform";
    all([
        Step {
            kind: Kind::Tests,
            ..with(attacks)
        },
        with("./iot/scripts/smoke-a3-arm.sh --warm"),
    ])
}

pub fn stranger(host: &Host) -> Plan {
    if !host.is_root {
        return Plan::Skip("needs root");
    }
    if host.is_stranger {
        return Plan::Skip("all of this run is on such a machine");
    }
    let script = "./iot/scripts/test.sh --quick; ./iot/scripts/smoke-a3-arm.sh";
    all([Step::new(
        "./iot/scripts/in-stranger.sh",
        ["--suite", host.other_release(), "sh", "-euc", script],
    )
    .one()])
}

#[cfg(test)]
mod tests {
    use super::host_tests;
    use crate::host::Host;
    use crate::step::Plan;

    #[test]
    fn what_is_left_out_has_a_reason() {
        let skips = |host: &Host| match host_tests(host) {
            Plan::Run { skips, .. } => skips,
            Plan::Skip(_) => Vec::new(),
        };
        assert_eq!(skips(&Host::for_tests(true)), Vec::<String>::new());
        let without = skips(&Host::for_tests(false));
        assert_eq!(without.len(), 3);
        assert!(
            without.iter().all(|skip| skip.contains(": needs ")),
            "{without:?}"
        );
    }
}
