//! What lanes read, as sets of paths below the root of the repository. Data, and what a set has. Pure.
//!
//! `*` stands for any text, `/` included. A pattern that ends with `/` has all that is below it. `!` takes away what
//! earlier patterns of the set have. Sets of programs are without tests that are compiled for tests only.

/// Patterns; the last one that fits a path decides whether the set has it.
pub type Set = &'static [&'static str];

/// What each lane reads: the runner, how the host is prepared, the compiler and the dependencies.
pub const EVERY: Set = &[
    "Cargo.toml",
    "Cargo.lock",
    "rust-toolchain.toml",
    ".cargo/",
    "iot/scripts/test.sh",
    "iot/scripts/setup-host.sh",
    "iot/scripts/cargo-on-path.sh",
    "iot/xtask/Cargo.toml",
    "iot/xtask/src/host.rs",
    "iot/xtask/src/lanes.rs",
    "iot/xtask/src/output.rs",
    "iot/xtask/src/plans.rs",
    "iot/xtask/src/run.rs",
    "iot/xtask/src/step.rs",
];

/// What no lane reads.
pub const UNTESTED: Set = &[
    ".github/*",
    ".gitignore",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "SECURITY.md",
    "deny.toml",
    "docs/*.md",
    "docs/book.toml",
    "!docs/testing.md",
    "!docs/guides/a-device-test.md",
    "!docs/guides/qemu-profiles.md",
    "!docs/guides/ready-in-seconds.md",
    "!docs/guides/recipes.md",
    "!docs/guides/the-machine.md",
    "!docs/guides/updating-the-agent.md",
];

/// All crates, with their tests and what these read beside the code.
pub const CRATES: Set = &[
    "harmony/",
    "harmony-image/",
    "iot/iot-contracts/",
    "iot/iot-agent-v0/",
    "iot/iot-smoke/",
    "iot/smoke-workload/",
    "iot/xtask/",
    "examples/",
];

/// What the compiler reads of all crates, tests included.
pub const CODE: Set = &[
    "*.rs",
    "*/Cargo.toml",
    "harmony/src/",
    "harmony-image/keys/",
];

/// Scripts of hosts and of guests.
pub const SCRIPTS: Set = &["iot/scripts/", ".ci/run", "harmony/src/*.sh"];

/// Guides that are part of the library's documentation.
pub const GUIDES: Set = &[
    "docs/guides/a-device-test.md",
    "docs/guides/qemu-profiles.md",
    "docs/guides/ready-in-seconds.md",
    "docs/guides/recipes.md",
    "docs/guides/the-machine.md",
];

/// Documents that tests compare with the code.
pub const COMPARED: Set = &[
    "README.md",
    "docs/schema/",
    "docs/testing.md",
    "docs/guides/updating-the-agent.md",
];

/// The library.
pub const HARMONY: Set = &[
    "harmony/Cargo.toml",
    "harmony/crates/",
    "harmony/src/",
    "iot/iot-contracts/Cargo.toml",
    "iot/iot-contracts/src/",
    "!*tests.rs",
    "!*tests/*",
];

/// The library without devices: nothing else of it uses the module `iot`, but the front door above all others.
pub const MACHINES: Set = &[
    "harmony/Cargo.toml",
    "harmony/crates/",
    "harmony/src/",
    "!harmony/src/front.rs",
    "!harmony/src/front/",
    "!harmony/src/prelude.rs",
    "!harmony/src/modules/iot/",
    "iot/iot-contracts/Cargo.toml",
    "iot/iot-contracts/src/",
    "!*tests.rs",
    "!*tests/*",
];

/// The library's front door, which a device is made through.
pub const FRONT: Set = &[
    "harmony/src/front.rs",
    "harmony/src/front/",
    "harmony/src/prelude.rs",
];

/// The library's modules with their tests.
pub const HARMONY_MODULES: Set = &["harmony/crates/", "harmony/src/"];

/// The library's images with their tests.
pub const IMAGES: Set = &["harmony/src/modules/image/"];

/// The library's other tests and what they read.
pub const HARMONY_TESTS: Set = &["harmony/tests/"];

/// The library's benchmarks.
pub const BENCHES: Set = &["harmony/benches/"];

/// The agent.
pub const AGENT: Set = &[
    "iot/iot-agent-v0/Cargo.toml",
    "iot/iot-agent-v0/build.rs",
    "iot/iot-agent-v0/src/",
    "iot/iot-contracts/Cargo.toml",
    "iot/iot-contracts/src/",
    "!*tests.rs",
];

/// The agent's modules with their tests.
pub const AGENT_MODULES: Set = &["iot/iot-agent-v0/src/"];

/// Tests of the agent's program.
pub const AGENT_TESTS: Set = &["iot/iot-agent-v0/tests/"];

/// Fuzzing.
pub const FUZZ: Set = &["iot/scripts/fuzz.sh", "iot/iot-agent-v0/fuzz/"];

/// What compiles for devices.
pub const FOR_DEVICES: Set = &[
    "iot/scripts/build-agent.sh",
    "iot/scripts/cross-compiler.sh",
];

/// All that makes a device of a smoke and what runs on it, and what the programs of iot-smoke have in common.
pub const DEVICES: Set = &[
    "harmony/Cargo.toml",
    "harmony/crates/",
    "harmony/src/",
    "harmony-image/Cargo.toml",
    "harmony-image/src/",
    "iot/iot-contracts/Cargo.toml",
    "iot/iot-contracts/src/",
    "iot/iot-agent-v0/Cargo.toml",
    "iot/iot-agent-v0/build.rs",
    "iot/iot-agent-v0/src/",
    "iot/iot-smoke/Cargo.toml",
    "iot/iot-smoke/src/",
    "!iot/iot-smoke/src/bin/",
    "iot/smoke-workload/",
    "examples/iot_vm_setup/",
    "!*tests.rs",
    "!*tests/*",
    "iot/scripts/build-agent.sh",
    "iot/scripts/cross-compiler.sh",
];

/// The scripts of the smoke.
pub const SMOKE: Set = &["iot/scripts/smoke-a3.sh", "iot/scripts/smoke-a3-arm.sh"];

/// The check of a fleet.
pub const FLEET: Set = &[
    "iot/scripts/fleet-check.sh",
    "iot/scripts/on-devices.sh",
    "iot/iot-smoke/src/bin/fleet-check/",
];

/// Power cuts.
pub const CUTS: Set = &[
    "iot/scripts/power-cuts.sh",
    "iot/scripts/on-devices.sh",
    "iot/iot-smoke/src/bin/power-cuts/",
    "!*tests.rs",
];

/// A guest of each kind of machine.
pub const GUESTS: Set = &[
    "iot/scripts/guest-lanes.sh",
    "iot/iot-smoke/Cargo.toml",
    "iot/iot-smoke/src/",
    "!iot/iot-smoke/src/bin/",
    "iot/iot-smoke/src/bin/guest-lanes/",
];

/// Whether the set has the path.
pub fn has(set: &[&str], path: &str) -> bool {
    let fits = |pattern: &&&str| fits(pattern.trim_start_matches('!'), path);
    let last = set.iter().rev().find(fits);
    last.is_some_and(|pattern| !pattern.starts_with('!'))
}

/// Whether a path fits a pattern, which is without its `!`.
fn fits(pattern: &str, path: &str) -> bool {
    if pattern.ends_with('/') {
        return path.starts_with(pattern);
    }
    let Some((start, rest)) = pattern.split_once('*') else {
        return path == pattern;
    };
    let Some(path) = path.strip_prefix(start) else {
        return false;
    };
    // The rest may begin anywhere.
    let mut starts = path.char_indices().map(|(at, _)| at).chain([path.len()]);
    starts.any(|at| fits(rest, &path[at..]))
}

#[cfg(test)]
#[path = "reads_tests.rs"]
mod tests;
