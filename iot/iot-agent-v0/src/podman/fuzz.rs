//! Any answer of Podman's, past HTTP and JSON into what the agent makes of it.

use std::cell::RefCell;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::runtime::Runtime;

use super::http::{Api, Call};
use super::{Podman, REQUEST_LIMIT, wire};
use crate::container::ContainerKey;
use crate::plan::{Action, Step, Volumes};
use crate::reconcile::Executor;

/// A socket that is made once for all answers of a thread.
struct Socket {
    runtime: Runtime,
    listener: UnixListener,
    dir: TempDir,
}

thread_local! {
    static SOCKET: RefCell<Option<Socket>> = const { RefCell::new(None) };
}

impl Socket {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("podman.sock");
        let listener = runtime.block_on(async { UnixListener::bind(path) });
        Self {
            listener: listener.unwrap(),
            runtime,
            dir,
        }
    }
}

/// The first byte says what is asked for and whether the rest is a body or the answer as a whole; the second is the
/// status of a body.
pub fn answers(data: &[u8]) {
    let [how, status, rest @ ..] = data else {
        return;
    };
    let answer = match how & 0x80 {
        0 => {
            let status = [200, 201, 204, 304, 404, 409, 500, 0][usize::from(status % 8)];
            let length = rest.len();
            let head = format!("HTTP/1.1 {status} x\r\nContent-Length: {length}\r\n\r\n");
            [head.as_bytes(), rest].concat()
        }
        _ => rest.to_vec(),
    };
    SOCKET.with_borrow_mut(|socket| {
        let Socket {
            runtime,
            listener,
            dir,
        } = socket.get_or_insert_with(Socket::new);
        let path = dir.path().join("podman.sock");
        runtime.block_on(async {
            tokio::select! {
                () = ask(how & 0x7f, path) => {}
                () = serve(listener, &answer) => {}
            }
        });
    });
}

async fn serve(listener: &UnixListener, answer: &[u8]) {
    loop {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        // Who asks may go at any time.
        let _ = connection.read(&mut request).await;
        let _ = connection.write_all(answer).await;
    }
}

/// Whatever comes of it is an answer, an error, or nothing.
async fn ask(what: u8, socket: std::path::PathBuf) {
    let key = || ContainerKey {
        deployment: "web".parse().unwrap(),
        service: "a".parse().unwrap(),
    };
    let step = |action| Step { key: key(), action };
    let id = || "abc".to_owned();
    let podman = Podman::new(socket.clone());
    match what % 8 {
        0 => {
            for container in podman.observe().await.unwrap_or_default() {
                let name = container.key.container_name(container.role);
                assert!(name.starts_with("harmony."), "{name}");
            }
        }
        1 => drop(podman.images().await),
        2 => drop(podman.space().await),
        3 => drop(podman.has_image(&"host/x:1".parse().unwrap()).await),
        4 => drop(podman.execute(&step(Action::Examine { id: id() })).await),
        5 => drop(podman.execute(&step(Action::SetAside { id: id() })).await),
        6 => {
            let action = Action::Remove {
                id: id(),
                volumes: Volumes::Passing,
            };
            drop(podman.execute(&step(action)).await);
        }
        // What making and pulling make of it, without the disks being written out each time.
        _ => {
            let call = Call::get("x".to_owned()).path(&["x"]).limit(REQUEST_LIMIT);
            let Ok(reply) = Api::new(socket).send(call).await else {
                return;
            };
            wire::refusal(&reply.body);
            wire::pull_error(&reply.body);
            drop(reply.json::<wire::CreatedContainer>());
            drop(reply.expect(&[]));
        }
    }
}
