//! What is refused before a release is signed, and how its end is told.

use std::fs;
use std::path::Path;

use clap::Parser;
use harmony::domain::error::{ErrorKind, ExecutorError, HintedError};
use harmony::domain::topology::virtualization::VmArchitecture;
use harmony::modules::iot::device::{DeviceError, ServerCaError};
use harmony::modules::iot::operator::{Operator, OperatorError};
use harmony::modules::iot::platform::ReleaseFate;
use iot_contracts::{DeviceId, ReleaseUrl};

use super::{Request, outcome, releases_ca, update_config};
use crate::args::Args;
use crate::error::SetupError;

/// The guide, whose commands have to be ones that this program takes.
const GUIDE: &str = include_str!("../../../docs/guides/updating-the-agent.md");

fn path(path: &Path) -> &str {
    path.to_str().expect("a plain name")
}

fn read(dir: &Path, arch: &str, program: &Path, url: &str) -> Result<Request, ExecutorError> {
    let key = dir.join("release.seed");
    let arguments = [
        "x",
        "--arch",
        arch,
        "--agent-binary",
        path(program),
        "--release-key",
        path(&key),
        "--release",
        url,
    ];
    let args = Args::try_parse_from(arguments).expect("valid");
    let url: ReleaseUrl = url.parse().expect("valid");
    Request::read(&args, &key, &url)
}

fn refused(request: Result<Request, ExecutorError>) -> ExecutorError {
    let error = request.expect_err("refused");
    assert_eq!(error.exit_code(), 2, "{error}");
    error
}

#[test]
fn a_bad_release_is_refused_and_nothing_is_made() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let dir = dir.path();
    let own = std::env::current_exe().expect("Linux");
    let host = VmArchitecture::of_host().expect("a host of ours");
    let other = VmArchitecture::ALL.into_iter().find(|arch| *arch != host);
    let other = other.expect("two");
    let good = "https://releases.example/agent";

    let missing = refused(read(dir, host.as_str(), &own, good));
    let missing = missing.downcast_ref::<OperatorError>();
    assert!(
        matches!(missing, Some(OperatorError::Read { .. })),
        "{missing:?}"
    );
    assert_eq!(fs::read_dir(dir).expect("readable").count(), 0);

    Operator::ensure(&dir.join("release.seed")).expect("made");
    for url in ["https://127.0.0.1:8443/agent", "https://localhost/agent"] {
        let loopback = refused(read(dir, host.as_str(), &own, url));
        let loopback = loopback.downcast_ref::<SetupError>();
        assert!(
            matches!(loopback, Some(SetupError::LoopbackRelease { url: is }) if is.as_str() == url),
            "{loopback:?}"
        );
    }
    let elsewhere = refused(read(dir, other.as_str(), &own, good));
    let elsewhere = elsewhere.downcast_ref::<DeviceError>();
    assert!(
        matches!(elsewhere, Some(DeviceError::BinaryArchitecture { expected, .. }) if *expected == other),
        "{elsewhere:?}"
    );
    // No serial was taken for any of these.
    assert!(!dir.join("release.seed.counter").exists());
}

#[test]
fn a_new_device_trusts_the_key_that_signs() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let key = dir.path().join("release.seed");
    let args = Args::try_parse_from(["x", "--release-key", path(&key)]).expect("valid");
    let update = update_config(&args).expect("made").expect("updates");
    let operator = Operator::open(&key).expect("it was made");
    assert_eq!(update.keys, [operator.key().clone()]);
    let again = update_config(&args).expect("there").expect("updates");
    assert_eq!(again, update);
    let none = Args::try_parse_from(["x"]).expect("valid");
    assert_eq!(update_config(&none).expect("nothing to read"), None);
}

#[test]
fn an_authority_without_a_certificate_is_refused() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (key, ca) = (dir.path().join("seed"), dir.path().join("ca.pem"));
    let arguments = ["x", "--release-key", path(&key), "--release-ca", path(&ca)];
    let args = Args::try_parse_from(arguments).expect("valid");
    let absent = releases_ca(&args).expect_err("absent");
    let absent = absent.downcast_ref::<ServerCaError>();
    assert!(
        matches!(absent, Some(ServerCaError::Unreadable { .. })),
        "{absent:?}"
    );
    fs::write(&ca, "no certificate").expect("written");
    let none = releases_ca(&args).expect_err("none");
    assert_eq!(none.exit_code(), 2);
}

#[test]
fn how_it_ended_is_told_with_its_reason() {
    let device: DeviceId = "pi-1".parse().expect("valid");
    let why = || "the reason".to_owned();
    let told = |fate| {
        let error = outcome(&device, fate).expect("no success");
        assert_eq!(error.kind(), ErrorKind::Failed);
        error.to_string()
    };
    let refused = told(ReleaseFate::Refused { why: why() });
    assert_eq!(refused, "pi-1 refuses the release: the reason");
    let failed = told(ReleaseFate::Failed { why: why() });
    let expected =
        "the release did not prove itself on pi-1, which runs the agent before: the reason";
    assert_eq!(failed, expected);
    let replaced = told(ReleaseFate::Replaced { revision: 9 });
    assert!(replaced.contains("revision 9"), "{replaced}");
    assert!(outcome(&device, ReleaseFate::Proven).is_none());
}

#[test]
fn the_guides_commands_are_taken() {
    let text = GUIDE.replace("\\\n", " ");
    let commands = text
        .lines()
        .filter_map(|line| line.strip_prefix("    setup "));
    let commands: Vec<_> = commands.collect();
    assert!(commands.len() >= 3, "{commands:?}");
    for command in commands {
        let arguments = ["setup"].into_iter().chain(command.split_whitespace());
        let parsed = Args::try_parse_from(arguments);
        assert!(parsed.is_ok(), "{command}: {:?}", parsed.err());
    }
}
