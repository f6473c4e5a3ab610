use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use super::{AUTHORITY, Authority, CA, DAY, SERVER, ensure, name};
use crate::modules::iot::platform::{DeviceRegistry, RegistryError};

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn read(dir: &Path, name: &str) -> String {
    std::fs::read_to_string(dir.join(name)).expect(name)
}

/// Whether who believes the authority in `dir` takes its server for `name` now.
fn is_taken(dir: &Path, name: &str) -> bool {
    let authority = Authority::ensure(&dir.join(AUTHORITY), SystemTime::now()).expect("there");
    let pem = read(dir, SERVER);
    let checked = authority.check(pem.as_bytes(), &names(&[name]), SystemTime::now());
    checked.is_ok()
}

#[test]
fn a_certificate_has_every_name_that_was_ever_asked_for() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (dir, registry) = (dir.path(), DeviceRegistry::new(dir.path()));
    assert!(registry.ensure_certificate(&[]).expect("made"));
    for own in ["localhost", "127.0.0.1", "::1"] {
        assert!(is_taken(dir, own), "{own}");
    }
    let ca = read(dir, CA);
    let mut before = read(dir, SERVER);
    assert!(!registry.ensure_certificate(&["127.0.0.1"]).expect("there"));
    for asked in ["10.0.2.2", "NATS.example", "fe80::1"] {
        assert!(!is_taken(dir, &name(asked).expect("a name")), "{asked}");
        assert!(registry.ensure_certificate(&[asked]).expect("made"));
        assert!(!registry.ensure_certificate(&[asked]).expect("there"));
        let now = read(dir, SERVER);
        assert_ne!(now, before);
        before = now;
    }
    for named in ["localhost", "10.0.2.2", "nats.example", "fe80::1"] {
        assert!(is_taken(dir, named), "{named}");
    }
    assert!(!is_taken(dir, "10.0.2.3"));
    assert_eq!(read(dir, CA), ca);
    assert!(!ca.contains("PRIVATE"));

    let mode = |name: &str| std::fs::metadata(dir.join(name)).expect(name).mode() & 0o7777;
    assert_eq!([AUTHORITY, SERVER, CA].map(mode), [0o600, 0o600, 0o644]);
    // Who has them back gets them anew: no name is lost with the file.
    std::fs::remove_file(dir.join(SERVER)).expect("there");
    assert!(registry.ensure_certificate(&[]).expect("made"));
    assert!(is_taken(dir, "nats.example") && is_taken(dir, "10.0.2.2"));
}

#[test]
fn it_is_made_anew_before_it_ends_and_where_it_cannot_be_used() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (dir, none, now) = (dir.path(), names(&[]), SystemTime::now());
    assert!(ensure(dir, &none, now).expect("made"));
    let first = read(dir, SERVER);
    assert!(!ensure(dir, &none, now + DAY * 243).expect("good for a third of its time"));
    assert!(ensure(dir, &none, now + DAY * 245).expect("made"));
    let ca = read(dir, CA);

    // A certificate with another's key, and what is none.
    let second = read(dir, SERVER);
    let key = |text: &str| text[..text.find("-----BEGIN CERT").expect("it follows")].to_owned();
    let mixed = second.replace(&key(&second), &key(&first));
    for damaged in [mixed.as_str(), "", "-----BEGIN CERTIFICATE-----\n"] {
        std::fs::write(dir.join(SERVER), damaged).expect("written");
        assert!(ensure(dir, &none, now).expect("made"), "{damaged}");
        assert!(is_taken(dir, "localhost"));
    }
    // Another authority's.
    let other = tempfile::tempdir().expect("temporary directory");
    assert!(ensure(other.path(), &none, now).expect("made"));
    std::fs::write(dir.join(SERVER), read(other.path(), SERVER)).expect("written");
    assert!(ensure(dir, &none, now).expect("made"));
    assert_eq!(read(dir, CA), ca);
    std::fs::remove_file(dir.join(CA)).expect("there");
    assert!(!ensure(dir, &none, now).expect("there"));
    assert_eq!(read(dir, CA), ca);
}

#[test]
fn an_authority_whose_key_is_not_its_own_is_told() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (dir, none, now) = (dir.path(), names(&[]), SystemTime::now());
    ensure(dir, &none, now).expect("made");
    let (pem, other) = (read(dir, AUTHORITY), Authority::make(now).expect("made"));
    let from = |text: &str| text.find("-----BEGIN CERT").expect("it follows");
    let mixed = format!("{}{}", &pem[..from(&pem)], &other[from(&other)..]);
    for damaged in [mixed.as_str(), "", "x"] {
        std::fs::write(dir.join(AUTHORITY), damaged).expect("written");
        let error = ensure(dir, &none, now).expect_err("no pair");
        let is =
            matches!(&error, RegistryError::Authority { path, .. } if path.ends_with(AUTHORITY));
        assert!(is, "{error:?}");
    }
}

#[test]
fn all_who_come_at_once_find_one_authority_and_are_all_named() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let dir = dir.path();
    let authorities: BTreeSet<String> = std::thread::scope(|scope| {
        let each = (0..16).map(|number| {
            scope.spawn(move || {
                let address = format!("10.0.2.{number}");
                let registry = DeviceRegistry::new(dir);
                registry.ensure_certificate(&[&address]).expect("named");
                assert!(is_taken(dir, &address), "{address}");
                read(dir, CA)
            })
        });
        let each: Vec<_> = each.collect();
        let ended = each.into_iter().map(|one| one.join().expect("no panic"));
        ended.collect()
    });
    assert_eq!(authorities.len(), 1);
    for number in 0..16 {
        assert!(is_taken(dir, &format!("10.0.2.{number}")), "{number}");
    }
}

#[test]
fn a_name_is_kept_in_its_one_form_and_what_is_none_is_refused() {
    let table = [
        ("LocalHost.", "localhost"),
        ("127.0.0.1", "127.0.0.1"),
        ("FE80:0::1", "fe80::1"),
    ];
    for (given, kept) in table {
        assert_eq!(name(given).expect(given), kept);
    }
    let dir = tempfile::tempdir().expect("temporary directory");
    let registry = DeviceRegistry::new(dir.path());
    for given in ["", "a b", "127.1", "-", "a..b", "10.0.2.256"] {
        let error = registry.ensure_certificate(&[given]).expect_err(given);
        assert!(
            matches!(&error, RegistryError::ServerName { name } if name == given),
            "{error:?}"
        );
    }
    let made = std::fs::read_dir(dir.path()).expect("readable").count();
    assert_eq!(made, 0, "nothing but what a check of names needs");
}
