//! The command line.

use clap::{CommandFactory, Parser};

use super::Args;

#[test]
fn the_command_line_is_consistent() {
    Args::command().debug_assert();
}

#[test]
fn the_default_device_is_x86_64() {
    let args = Args::try_parse_from(["x"]).expect("no argument is required");
    assert_eq!(
        (args.arch.as_str(), args.vm_name().as_str()),
        ("x86_64", "iot-x86-64")
    );
}

#[test]
fn a_registrys_server_speaks_tls_unless_it_is_said_otherwise() {
    let table: [(&[&str], &str); 4] = [
        (&["x"], "nats://127.0.0.1:4222"),
        (&["x", "--nats-registry", "d"], "tls://127.0.0.1:4222"),
        (
            &["x", "--nats-registry", "d", "--nats-url", "nats://h"],
            "nats://h",
        ),
        (&["x", "--nats-url", "tls://h"], "tls://h"),
    ];
    for (arguments, expected) in table {
        let args = Args::try_parse_from(arguments).expect("valid");
        let urls = args.nats_urls().expect("valid");
        assert_eq!(urls.as_slice()[0].as_str(), expected, "{arguments:?}");
    }
}

#[test]
fn wrong_values_are_usage_errors_that_name_what_is_expected() {
    let table = [
        (["x", "--arch", "riscv64"], "expected x86_64 or aarch64"),
        (["x", "--connect", "xen:///"], "qemu:///session"),
        (["x", "--accel", "hvf"], "expected auto, kvm or tcg"),
        (
            ["x", "--network", "tap0"],
            "nat, nat:NETWORK or bridge:NAME",
        ),
        (["x", "--firmware", "efi"], "expected auto, bios or uefi"),
        (
            ["x", "--builder", "docker"],
            "expected auto, guest or packages",
        ),
        (["x", "--nats-url", "http://a"], "nats://"),
        (["x", "--image", "https://example.org/a.img"], "sha256"),
        (["x", "--deploy", "web"], "expected NAME=FILE"),
        (["x", "--undeploy", "a.b"], "deployment name"),
        (["x", "--release", "http://h/agent"], "https://HOST"),
    ];
    for (arguments, expected) in table {
        let error = Args::try_parse_from(arguments).expect_err("refused");
        assert_eq!(error.exit_code(), 2);
        let text = error.to_string();
        assert!(
            text.contains(expected) && text.contains(arguments[2]),
            "{text}"
        );
    }
}

#[test]
fn a_release_goes_with_its_key_and_with_nothing_that_makes_a_device() {
    let release = ["x", "--release", "https://h/agent"];
    let key = ["--release-key", "seed"];
    let without = Args::try_parse_from(release).expect_err("no key");
    assert!(without.to_string().contains("--release-key"), "{without}");
    let args = Args::try_parse_from([&release[..], &key].concat()).expect("valid");
    assert_eq!(args.release.expect("given").as_str(), "https://h/agent");
    let ca = Args::try_parse_from(["x", "--release-ca", "ca.pem"]).expect_err("no key");
    assert!(ca.to_string().contains("--release-key"), "{ca}");
    let others: [&[&str]; 6] = [
        &["--release-ca", "ca.pem"],
        &["--operator-key", "seed"],
        &["--deploy", "web=web.json"],
        &["--destroy"],
        &["--dry-run"],
        &["--replace"],
    ];
    for other in others {
        let both = Args::try_parse_from([&release[..], &key, other].concat());
        let error = both.expect_err("one of them");
        assert!(error.to_string().contains("cannot be used with"), "{error}");
    }
}
