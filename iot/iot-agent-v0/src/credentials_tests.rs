//! Credentials that cannot be used when the agent starts.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use nkeys::KeyPair;

use super::Nats;
use super::platform::{LIMIT, until, with_configured};
use super::server::{Server, free_port};
use crate::config::{self, Loaded};
use crate::fake::FakePodman;
use crate::followed::{Entry, Followed};
use crate::keep::{Keeper, Kept};

/// The configuration in a file in `dir`, as the agent loads it.
fn loaded(dir: &Path, port: u16, credentials: &str) -> Loaded {
    let toml = format!(
        "device_id = \"pi-1\"\nheartbeat_seconds = 1\n[nats]\nurls = [\"nats://127.0.0.1:{port}\"]\n\
         credentials = {{ {credentials} }}\n"
    );
    let path = dir.join("config.toml");
    fs::write(&path, toml).unwrap();
    config::load(&path).unwrap()
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A server that knows a user by its key.
fn server_for(dir: &Path, port: u16, user: &KeyPair) -> Server {
    let user = format!(
        "authorization {{ users: [ {{ nkey: {} }} ] }}",
        user.public_key()
    );
    Server::start_with(dir, port, &user)
}

#[tokio::test]
async fn credentials_that_cannot_be_used_stop_no_container() {
    let dir = tempfile::tempdir().unwrap();
    let (state, port) = (dir.path().join("state"), free_port());
    fs::create_dir(&state).unwrap();
    let score = super::platform::score("1");
    let web = Entry {
        name: "web".parse().unwrap(),
        revision: 5,
        value: Some(score.into_bytes()),
    };
    let kept = Kept {
        memory: Followed::default().listed(None, &[web]).unwrap().0,
        ..Kept::default()
    };
    let keeper = Keeper::new(state.clone(), &"pi-1".parse().unwrap());
    keeper.keep(&kept).unwrap();
    let (creds, key) = (dir.path().join("x.creds"), dir.path().join("x.nk"));
    let seed = KeyPair::new_user().seed().unwrap();
    let as_creds = format!("type = \"creds-file\", path = {creds:?}");
    let as_key = format!("type = \"nkey\", seed_file = {key:?}");
    for (file, text, mode, credentials) in [
        (&creds, "", 0o600, &as_creds),
        (&creds, "-----BEGIN NATS USER JWT-----\nx", 0o600, &as_creds),
        (&key, "", 0o600, &as_key),
        (&key, &seed[..20], 0o600, &as_key),
        (&key, &seed, 0o640, &as_key),
    ] {
        write(file, text, mode);
        let podman = FakePodman::default();
        let config = loaded(dir.path(), port, credentials);
        let runs = until(|| podman.running() == ["web.a"]);
        with_configured(&config, &podman, Some(&state), runs).await;
    }
}

#[tokio::test]
#[ignore = "needs nats-server: mends a key that is empty, and one that others may read, while the agent waits for it"]
async fn a_key_that_is_mended_is_used_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (port, user) = (free_port(), KeyPair::new_user());
    let seed = user.seed().unwrap();
    let _server = server_for(dir.path(), port, &user);
    let key = dir.path().join("x.nk");
    let config = loaded(
        dir.path(),
        port,
        &format!("type = \"nkey\", seed_file = {key:?}"),
    );
    for (text, mode) in [("", 0o600), (seed.as_str(), 0o644)] {
        write(&key, text, mode);
        let mend = async {
            // It has tried.
            tokio::time::sleep(Duration::from_millis(200)).await;
            write(&key, &seed, 0o600);
            std::future::pending::<()>().await;
        };
        let connected = async {
            let nats = Nats::connect(&config).await;
            nats.connections()
                .wait_for(|count| *count > 0)
                .await
                .unwrap();
        };
        tokio::select! {
            () = mend => {}
            connected = tokio::time::timeout(LIMIT, connected) => connected.expect("it connects"),
        }
    }
}
