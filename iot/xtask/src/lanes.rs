//! What there is to run. Each lane makes or fetches all that it needs, and runs alone on a host that
//! `setup-host.sh` has prepared.

use crate::host::Host;
use crate::plans::{
    PROPERTY_CASES, faults, faults_in_full, fuzz, guest_builder, host_tests, idle_agent, images,
    nat, nats_current, shell_scripts, stranger,
};
use crate::reads::{
    AGENT, AGENT_MODULES, AGENT_TESTS, BENCHES, CODE, COMPARED, CRATES, CUTS, DEVICES, EVERY,
    FLEET, FOR_DEVICES, FRONT, FUZZ, GUESTS, GUIDES, HARMONY, HARMONY_MODULES, HARMONY_TESTS,
    IMAGES, MACHINES, SCRIPTS, SMOKE, Set, has,
};
use crate::step::{Plan, Step, all};

/// A part of the checks that runs alone.
#[derive(Debug)]
pub struct Lane {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub what: &'static str,
    /// What it needs beside the packages of `setup-host.sh`.
    pub needs: &'static str,
    /// How long it takes alone with empty caches, on 2 cores without KVM: docs/testing.md.
    pub about_minutes: u32,
    /// When it runs, if it is not named.
    pub when: When,
    /// What it reads, beside what every lane reads: only a change of that can make it fail.
    pub reads: &'static [Set],
    /// What to run on a host.
    pub plan: fn(&Host) -> Plan,
}

impl Lane {
    /// Whether it reads the file at a path.
    pub fn reads(&self, path: &str) -> bool {
        let mut sets = self.reads.iter().chain([&EVERY]);
        sets.any(|set| has(set, path))
    }
}

/// When a lane runs that is not named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// With `--quick`, and always.
    Quick,
    /// In each run.
    Always,
    /// In one run of [`TURNS`], and with `--all`.
    InTurns,
}

/// In how many runs each lane runs at least once: everything does not fit into one.
pub const TURNS: u64 = 3;

/// The lanes, in the order in which they run when no seed is given.
pub const ALL: [Lane; 24] = [
    Lane {
        name: "format",
        what: "the code is formatted",
        needs: "nothing",
        about_minutes: 1,
        when: When::Quick,
        reads: &[CODE],
        plan: |_| all([Step::of_line("cargo fmt --all --check")]),
    },
    Lane {
        name: "shell",
        what: "shellcheck finds nothing in the scripts, those of the library included",
        needs: "nothing",
        about_minutes: 1,
        when: When::Quick,
        reads: &[SCRIPTS],
        plan: shell_scripts,
    },
    Lane {
        name: "lints",
        what: "clippy finds nothing",
        needs: "nothing",
        about_minutes: 3,
        when: When::Quick,
        reads: &[CODE, GUIDES],
        plan: |_| {
            all([Step::of_line(
                "cargo clippy --locked --workspace --all-targets --features harmony/kvm --no-deps -- -D warnings",
            )])
        },
    },
    Lane {
        name: "docs",
        what: "the documentation builds without a warning",
        needs: "nothing",
        about_minutes: 2,
        when: When::Quick,
        reads: &[CODE, GUIDES],
        plan: |_| {
            let doc =
                Step::of_line("cargo doc --locked --workspace --no-deps --features harmony/kvm");
            all([doc.with("RUSTDOCFLAGS", "-D warnings")])
        },
    },
    Lane {
        name: "unit",
        what: "unit, golden and property tests",
        needs: "nothing",
        about_minutes: 4,
        when: When::Quick,
        reads: &[CRATES, SCRIPTS, GUIDES, COMPARED],
        plan: |_| {
            all([Step::tests(
                "cargo test --locked --workspace --features harmony/kvm --no-fail-fast",
            )])
        },
    },
    Lane {
        name: "properties",
        what: "100 000 random specs are refused with reasons or become documents",
        needs: "nothing",
        about_minutes: 3,
        when: When::InTurns,
        reads: &[MACHINES, HARMONY_TESTS],
        plan: |_| {
            let tests = "cargo test --locked --workspace --features harmony/kvm --test properties";
            let (variable, cases) = PROPERTY_CASES;
            all([Step::tests(tests).with(variable, cases)])
        },
    },
    Lane {
        name: "host",
        what: "tests against this host's libvirt, QEMU, NATS server and sshd",
        needs: "root for some, openssh-server, libvirt 11.3 with QEMU 10.0 for the golden arguments",
        about_minutes: 11,
        when: When::Always,
        reads: &[
            HARMONY,
            HARMONY_MODULES,
            HARMONY_TESTS,
            AGENT,
            AGENT_MODULES,
            AGENT_TESTS,
        ],
        plan: host_tests,
    },
    Lane {
        name: "images",
        what: "images built from packages for both architectures, what they are made of, and a guest of one",
        needs: "root or subordinate ids, a Debian mirror",
        about_minutes: 15,
        when: When::InTurns,
        reads: &[MACHINES, IMAGES, FRONT],
        plan: images,
    },
    Lane {
        name: "guest-builder",
        what: "an image built in a guest, on a base built from packages",
        needs: "a Debian mirror",
        about_minutes: 12,
        when: When::InTurns,
        reads: &[MACHINES, IMAGES],
        plan: guest_builder,
    },
    Lane {
        name: "idle-agent",
        what: "memory and wake-ups of the idle agent, as it ships",
        needs: "nothing",
        about_minutes: 5,
        when: When::InTurns,
        reads: &[AGENT, AGENT_TESTS, FOR_DEVICES],
        plan: idle_agent,
    },
    Lane {
        name: "no-features",
        what: "clippy finds nothing in harmony without its features",
        needs: "nothing",
        about_minutes: 2,
        when: When::InTurns,
        reads: &[HARMONY, HARMONY_MODULES, HARMONY_TESTS, BENCHES, GUIDES],
        plan: |_| {
            all([Step::of_line(
                "cargo clippy --locked -p harmony --all-targets --no-deps -- -D warnings",
            )])
        },
    },
    Lane {
        name: "faults",
        what: "rounds of faults: NATS, the way to it, credentials, a cluster, a registry",
        needs: "root for the partition",
        about_minutes: 5,
        when: When::InTurns,
        reads: &[AGENT, AGENT_TESTS],
        plan: faults,
    },
    Lane {
        name: "fuzz",
        what: "what the agent reads, fuzzed for a minute each",
        needs: "nothing",
        about_minutes: 7,
        when: When::InTurns,
        reads: &[AGENT, FUZZ],
        plan: fuzz,
    },
    Lane {
        name: "aarch64-build",
        what: "harmony without features and the agent's crates compile for arm64",
        needs: "nothing",
        about_minutes: 4,
        when: When::InTurns,
        reads: &[HARMONY, AGENT, FOR_DEVICES],
        plan: |_| {
            let members = "harmony,iot-contracts,iot-agent-v0";
            all([Step::new(
                "./iot/scripts/build-agent.sh",
                ["--arch", "aarch64", "--members", members],
            )])
        },
    },
    Lane {
        name: "smoke-arm",
        what: "an emulated arm64 device: boot, agent, container, power cut",
        needs: "nothing",
        about_minutes: 10,
        when: When::Always,
        reads: &[DEVICES, SMOKE],
        plan: |_| all([Step::of_line("./iot/scripts/smoke-a3-arm.sh")]),
    },
    Lane {
        name: "smoke-arm-warm",
        what: "the same from a checkpoint, and back to it",
        needs: "nothing",
        about_minutes: 11,
        when: When::InTurns,
        reads: &[DEVICES, SMOKE],
        plan: |_| all([Step::of_line("./iot/scripts/smoke-a3-arm.sh --warm")]),
    },
    Lane {
        name: "nats-current",
        what: "devices kept apart, and the smoke from a checkpoint, with a current nats-server",
        needs: "pip, which root installs",
        about_minutes: 11,
        when: When::InTurns,
        reads: &[
            DEVICES,
            SMOKE,
            HARMONY_MODULES,
            &["iot/scripts/nats-current.sh"],
        ],
        plan: nats_current,
    },
    Lane {
        name: "fleet",
        what: "three devices of one checkpoint share nothing",
        needs: "nothing",
        about_minutes: 12,
        when: When::InTurns,
        reads: &[DEVICES, FLEET],
        plan: |_| all([Step::of_line("./iot/scripts/fleet-check.sh --count 3")]),
    },
    Lane {
        name: "power-cuts",
        what: "three hard power cuts of an emulated device at random moments",
        needs: "nothing",
        about_minutes: 16,
        when: When::InTurns,
        reads: &[DEVICES, CUTS],
        plan: |_| all([Step::of_line("./iot/scripts/power-cuts.sh --count 3")]),
    },
    Lane {
        name: "smoke-x86",
        what: "an emulated x86_64 device: boot, agent, container, power cut",
        needs: "nothing",
        about_minutes: 9,
        when: When::InTurns,
        reads: &[DEVICES, SMOKE],
        plan: |_| {
            all([Step::of_line(
                "./iot/scripts/smoke-a3.sh --arch x86_64 --accel tcg",
            )])
        },
    },
    Lane {
        name: "guests",
        what: "a guest of each kind of machine, looked at from inside",
        needs: "nothing",
        about_minutes: 16,
        when: When::InTurns,
        reads: &[HARMONY, GUESTS],
        plan: |_| all([Step::of_line("./iot/scripts/guest-lanes.sh")]),
    },
    Lane {
        name: "nat",
        what: "the smoke and two devices of a checkpoint on a NAT network, in a namespace",
        needs: "root",
        about_minutes: 14,
        when: When::InTurns,
        reads: &[
            DEVICES,
            SMOKE,
            FLEET,
            &["iot/scripts/in-private-libvirt.sh"],
        ],
        plan: nat,
    },
    Lane {
        name: "user",
        what: "the smoke from a checkpoint as an ordinary user on qemu:///session",
        needs: "root, to make that user",
        about_minutes: 12,
        when: When::InTurns,
        reads: &[DEVICES, &["iot/scripts/smoke-as-user.sh"]],
        plan: |host| {
            if !host.is_root {
                return Plan::Skip("needs root, to make that user");
            }
            all([Step::of_line("./iot/scripts/smoke-as-user.sh")])
        },
    },
    Lane {
        name: "stranger",
        what: "a new minimal Debian of another release: set-up, --quick, and an arm64 device",
        needs: "root, a Debian mirror",
        about_minutes: 18,
        when: When::InTurns,
        // What its --quick reads beside, other lanes read on this host.
        reads: &[DEVICES, SMOKE, SCRIPTS],
        plan: stranger,
    },
];

/// The lanes of faults with all the rounds, executions and cuts whose figures docs/reliability.md has, for `--full`.
pub const FULL: [Lane; 3] = [
    Lane {
        name: "faults",
        what: "thirty rounds of each fault, with their times judged: NATS, the way to it, credentials, a cluster, a registry",
        needs: "root for the partition",
        about_minutes: 20,
        when: When::Always,
        reads: &[AGENT, AGENT_TESTS],
        plan: faults_in_full,
    },
    Lane {
        name: "fuzz",
        what: "what the agent reads, a million executions for each target, and a quarter where one takes milliseconds",
        needs: "nothing",
        about_minutes: 25,
        when: When::Always,
        reads: &[AGENT, FUZZ],
        plan: |_| all([Step::of_line("./iot/scripts/fuzz.sh --runs 1000000")]),
    },
    Lane {
        name: "power-cuts",
        what: "thirty hard power cuts of an emulated device at random moments",
        needs: "nothing",
        about_minutes: 75,
        when: When::Always,
        reads: &[DEVICES, CUTS],
        plan: |_| all([Step::of_line("./iot/scripts/power-cuts.sh --count 30")]),
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{ALL, FULL};
    use crate::host::Host;
    use crate::step::Plan;

    /// The page that tells of the lanes.
    const PAGE: &str = include_str!("../../../docs/testing.md");

    #[test]
    fn lanes_have_names_of_their_own_and_every_one_runs_something_or_says_why_not() {
        let names: BTreeSet<_> = ALL.iter().map(|lane| lane.name).collect();
        assert_eq!(names.len(), ALL.len());
        for lane in ALL.iter().chain(&FULL) {
            match (lane.plan)(&Host::for_tests(true)) {
                Plan::Run { steps, .. } => assert!(!steps.is_empty(), "{}", lane.name),
                Plan::Skip(reason) => panic!("{}: {reason}", lane.name),
            }
            if let Plan::Skip(reason) = (lane.plan)(&Host::for_tests(false)) {
                assert!(
                    lane.needs.contains("root") && reason.contains("root"),
                    "{}",
                    lane.name
                );
            }
        }
    }

    #[test]
    fn the_page_has_a_row_for_each_lane() {
        let section = PAGE
            .split("\n## ")
            .find(|section| section.starts_with("Lanes\n"));
        let lines = section.expect("a section Lanes").lines();
        let rows: Vec<_> = lines.filter(|line| line.starts_with("| `")).collect();
        let expected: Vec<_> = ALL
            .iter()
            .map(|lane| {
                format!(
                    "| `{}` | {} | {} |",
                    lane.name, lane.about_minutes, lane.what
                )
            })
            .collect();
        assert_eq!(rows, expected, "docs/testing.md");
    }
}
