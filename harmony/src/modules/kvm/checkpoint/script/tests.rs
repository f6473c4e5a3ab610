use std::io::Write;
use std::process::{Command, Stdio};

use uuid::Uuid;

use super::{ENTROPY_BYTES, GuestIdentity};
use crate::modules::ssh::generate_host_key;

fn identity() -> GuestIdentity {
    GuestIdentity {
        hostname: "edge-07".to_owned(),
        machine_id: Uuid::from_u128(7),
        host_key: generate_host_key().expect("randomness"),
        macs: vec![(
            "52:54:00:00:00:01".parse().expect("an address"),
            "52:54:00:00:00:07".parse().expect("an address"),
        )],
        entropy: [7; ENTROPY_BYTES],
        now: 1_800_000_000,
    }
}

#[test]
fn a_shell_gets_every_value_as_it_is() {
    let identity = identity();
    let script = identity.script().expect("no NUL");
    let (variables, _) = script.split_once("umask").expect("the steps follow");
    let mut shell = Command::new("sh")
        .arg("-s")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a shell");
    let told = format!(
        "{variables}printf '%s|' \"$hostname\" \"$machine_id\" \"$macs\" \"$now\" \"$host_key\"\n"
    );
    let mut stdin = shell.stdin.take().expect("piped");
    stdin.write_all(told.as_bytes()).expect("read");
    drop(stdin);
    let output = shell.wait_with_output().expect("ended");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        format!(
            "edge-07|00000000000000000000000000000007|52:54:00:00:00:01=52:54:00:00:00:07|\
             1800000000|{}|",
            identity.host_key.private_openssh()
        )
    );
}

#[test]
fn debug_output_has_no_secret() {
    let text = format!("{:?}", identity());
    assert!(
        text.contains("edge-07") && !text.contains("PRIVATE") && !text.contains("7, 7"),
        "{text}"
    );
}
