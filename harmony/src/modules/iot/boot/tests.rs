use super::console::Mark;
use super::units::{GuestTimes, Unit};
use super::{BootParts, parts};

fn times() -> GuestTimes {
    GuestTimes {
        up_seconds: 50.0,
        user_space_seconds: Some(6.0),
        units: vec![Unit {
            name: "ssh.service".to_owned(),
            began_seconds: 36.0,
            ready_seconds: 37.5,
        }],
    }
}

fn rows(parts: &BootParts) -> Vec<(&str, f64, f64)> {
    let rows = parts.as_slice().iter();
    rows.map(|part| (part.name.as_str(), part.began_seconds, part.took_seconds))
        .collect()
}

#[test]
fn console_and_guest_make_one_table() {
    let seen = [
        (Mark::Loader, 3.0),
        (Mark::Kernel, 4.5),
        (Mark::Initrd, 8.0),
    ];
    let parts = parts(&seen, &times(), 5.0);
    assert_eq!(
        rows(&parts),
        [
            ("firmware", 0.0, 3.0),
            ("boot loader", 3.0, 1.5),
            ("kernel", 4.5, 3.5),
            ("initrd", 8.0, 3.0),
            ("ssh.service", 41.0, 1.5),
        ]
    );
    let text = parts.to_string();
    assert!(
        text.contains("    41.0 s     1.5 s  ssh.service\n"),
        "{text}"
    );
}

#[test]
fn without_a_console_the_guest_alone_tells() {
    assert_eq!(
        rows(&parts(&[], &times(), 5.0)),
        [
            ("firmware", 0.0, 5.0),
            ("kernel", 5.0, 6.0),
            ("ssh.service", 41.0, 1.5),
        ]
    );
    let nothing = GuestTimes::default();
    assert_eq!(rows(&parts(&[], &nothing, 5.0)), [("firmware", 0.0, 5.0)]);
}
