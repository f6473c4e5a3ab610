use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::thread;

use super::{
    HostKey, KeyError, PinnedHostKey, ensure_key_pair, generate_host_key, known_hosts_line,
    load_private_key,
};

#[test]
fn a_key_pair_is_made_once_with_mode_0600_and_kept() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let keys = dir.path().join("iot/keys");
    let first = ensure_key_pair(&keys, "id_ed25519").expect("made");
    let mode = fs::metadata(&first.private_key_path)
        .expect("exists")
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert!(first.public_key_line.starts_with("ssh-ed25519 "));
    assert_eq!(ensure_key_pair(&keys, "id_ed25519").expect("kept"), first);
    let left: Vec<_> = fs::read_dir(&keys).expect("readable").collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn callers_at_the_same_time_get_the_same_key() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let lines: Vec<String> = thread::scope(|scope| {
        let callers: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| ensure_key_pair(dir.path(), "id").expect("a key")))
            .collect();
        callers
            .into_iter()
            .map(|caller| caller.join().expect("no panic").public_key_line)
            .collect()
    });
    assert!(lines.iter().all(|line| *line == lines[0]), "{lines:?}");
}

#[test]
fn what_is_no_usable_private_key_is_refused() {
    let dir = tempfile::tempdir().expect("temporary directory");
    for name in ["", "../id", "a/b", ".hidden", "a\0b"] {
        let error = ensure_key_pair(dir.path(), name).expect_err(name);
        assert!(
            matches!(error, KeyError::Name { name: ref n } if n == name),
            "{error:?}"
        );
    }

    let open = ensure_key_pair(dir.path(), "open").expect("made");
    let path = &open.private_key_path;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).expect("ours");
    let error = ensure_key_pair(dir.path(), "open").expect_err("readable by others");
    assert!(
        matches!(error, KeyError::Permissions { mode: 0o644, .. }),
        "{error:?}"
    );

    let text = dir.path().join("text");
    fs::write(&text, "no key").expect("ours");
    fs::set_permissions(&text, fs::Permissions::from_mode(0o600)).expect("ours");
    let error = load_private_key(&text).expect_err("no key");
    assert!(matches!(error, KeyError::PrivateKey { .. }), "{error:?}");
    assert_eq!(fs::read(&text).expect("still there"), b"no key");
}

#[test]
fn a_host_key_round_trips_and_its_debug_form_has_no_secret() {
    let key = generate_host_key().expect("randomness");
    let again = HostKey::from_openssh(key.private_openssh()).expect("round trip");
    assert_eq!(again.public(), key.public());
    let parsed: PinnedHostKey = format!("{} root@guest\n", key.public_line())
        .parse()
        .expect("with a comment");
    assert_eq!(parsed.to_string(), key.public_line());
    assert!(!format!("{key:?}").contains("OPENSSH PRIVATE KEY"));
    assert_ne!(
        generate_host_key().expect("randomness").public(),
        key.public()
    );
}

#[test]
fn a_text_that_is_no_host_key_is_refused_with_the_text() {
    let error = "ssh-ed25519 nonsense"
        .parse::<PinnedHostKey>()
        .expect_err("no key");
    assert_eq!(
        error.to_string(),
        "invalid host key 'ssh-ed25519 nonsense' (expected OpenSSH's text form)"
    );
}

#[test]
fn known_hosts_lines_name_the_port_unless_it_is_22() {
    let key = generate_host_key().expect("randomness");
    let (key, line) = (key.public(), key.public_line());
    let table = [
        ("192.168.122.7", 22, format!("192.168.122.7 {line}")),
        ("127.0.0.1", 10022, format!("[127.0.0.1]:10022 {line}")),
    ];
    for (host, port, expected) in table {
        assert_eq!(known_hosts_line(host, port, key), expected);
    }
}
