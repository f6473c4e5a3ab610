//! A Podman that has no containers.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// Serves until the test's process ends.
pub fn empty_podman(socket: &Path) {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // An agent that is killed in the middle of it is what some tests are about.
            let _ = answer(&stream.unwrap());
        }
    });
}

/// To a request without a body.
fn answer(mut stream: &UnixStream) -> std::io::Result<()> {
    let head = BufReader::new(stream).lines();
    for line in head {
        if line?.is_empty() {
            break;
        }
    }
    stream.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: 2\r\n\r\n[]",
    )
}
