use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use super::{GOES_ON, READY, ServiceManager, expected_of};

/// What was said, each word once for each time.
fn heard(socket: &UnixDatagram) -> Vec<String> {
    socket.set_nonblocking(true).unwrap();
    let mut words = Vec::new();
    let mut buffer = [0; 64];
    while let Ok(length) = socket.recv(&mut buffer) {
        words.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
    }
    words
}

#[test]
fn it_is_told_by_either_kind_of_address() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let by_path = UnixDatagram::bind(&path).unwrap();
    ServiceManager::at(Some(path.into()), None).tell(READY);
    assert_eq!(heard(&by_path), [READY]);

    let name = format!("harmony-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let abstractly = UnixDatagram::bind_addr(&address).unwrap();
    ServiceManager::at(Some(format!("@{name}").into()), None).tell(READY);
    assert_eq!(heard(&abstractly), [READY]);
}

#[test]
fn nobody_there_is_no_failure() {
    ServiceManager::default().tell(READY);
    ServiceManager::at(Some("/nonexistent/notify".into()), None).tell(READY);
    ServiceManager::at(Some("".into()), None).tell(READY);
}

#[test]
fn who_has_to_speak_is_read_from_the_environment() {
    let expected = |who: Option<&str>, silence: Option<&str>| {
        expected_of(7, who.map(OsStr::new), silence.map(OsStr::new))
    };
    let second = Some(Duration::from_secs(1));
    assert_eq!(expected(Some("7"), Some("1000000")), second);
    assert_eq!(expected(None, Some("1000000")), second);
    for (who, silence) in [
        (Some("8"), Some("1000000")),
        (Some("x"), Some("1000000")),
        (Some("7"), None),
        (Some("7"), Some("0")),
        (Some("7"), Some("-1")),
        (Some("7"), Some("")),
    ] {
        assert_eq!(expected(who, silence), None, "{who:?} {silence:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_word_is_due_three_times_in_the_longest_silence() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let manager = ServiceManager::at(Some(path.into()), Some(Duration::from_secs(120)));
    let watchdog = manager.watchdog();
    let words = async {
        loop {
            watchdog.due().await;
            watchdog.goes_on();
        }
    };
    let minutes = Duration::from_secs(119);
    tokio::time::timeout(minutes, words).await.unwrap_err();
    assert_eq!(heard(&socket), [GOES_ON; 3]);
}
