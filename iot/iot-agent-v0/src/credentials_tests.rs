//! Credentials that cannot be used when the agent starts, and those that are renewed while it runs.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use nkeys::KeyPair;

use super::Nats;
use super::platform::{LIMIT, Platform, score, until, with_configured};
use super::server::{Server, free_port};
use crate::config::{self, Loaded};
use crate::credentials::{Credentials, CredentialsError};
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
    let web = Entry {
        name: "web".parse().unwrap(),
        revision: 5,
        value: Some(score("1").into_bytes()),
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

#[test]
fn files_that_are_written_or_broken_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let (creds, key, token) = (
        dir.path().join("x.creds"),
        dir.path().join("x.nk"),
        dir.path().join("x.jwt"),
    );
    let (user, other) = (KeyPair::new_user(), KeyPair::new_user());
    let (seed, other) = (user.seed().unwrap(), other.seed().unwrap());
    let text = |seed: &str| {
        format!("-----BEGIN NATS USER JWT-----\nx\n-----BEGIN USER NKEY SEED-----\n{seed}\n")
    };
    write(&creds, &text(&seed), 0o600);
    write(&key, &seed, 0o600);
    write(&token, "x", 0o600);
    let as_creds = loaded(
        dir.path(),
        4222,
        &format!("type = \"creds-file\", path = {creds:?}"),
    );
    let as_creds = Credentials::of(&as_creds).unwrap();
    as_creds.auth(b"").unwrap();
    assert!(!as_creds.are_renewed().unwrap());
    write(&creds, "", 0o600);
    assert!(as_creds.are_renewed().is_err());
    assert!(as_creds.are_renewed().is_err());
    write(&creds, &text(&other), 0o600);
    assert!(as_creds.are_renewed().unwrap());
    assert!(!as_creds.are_renewed().unwrap());

    let as_key = loaded(
        dir.path(),
        4222,
        &format!("type = \"nkey\", seed_file = {key:?}, jwt_file = {token:?}"),
    );
    let as_key = Credentials::of(&as_key).unwrap();
    as_key.auth(b"").unwrap();
    write(&token, "yy", 0o600);
    assert!(as_key.are_renewed().unwrap());
    write(&key, &format!("{other}\n"), 0o600);
    assert!(matches!(as_key.are_renewed(), Err(CredentialsError::Other)));
    // It goes on as who it is.
    let auth = as_key.auth(b"nonce").unwrap();
    user.verify(b"nonce", &auth.signature.unwrap()).unwrap();
}

#[test]
fn a_configuration_of_another_device_is_not_taken_up() {
    let dir = tempfile::tempdir().unwrap();
    let token = "type = \"token\", token = \"old\"";
    let credentials = Credentials::of(&loaded(dir.path(), 4222, token)).unwrap();
    let told = || credentials.auth(b"").unwrap().token;
    assert_eq!(told().as_deref(), Some("old"));
    drop(loaded(
        dir.path(),
        4222,
        "type = \"token\", token = \"other\"",
    ));
    assert!(credentials.are_renewed().unwrap());
    assert_eq!(told().as_deref(), Some("other"));
    let path = dir.path().join("config.toml");
    let text = fs::read_to_string(&path)
        .unwrap()
        .replace("other", "another");
    fs::write(&path, text.replace("pi-1", "pi-2")).unwrap();
    assert!(matches!(
        credentials.are_renewed(),
        Err(CredentialsError::Other)
    ));
    assert_eq!(told().as_deref(), Some("other"));
    fs::write(&path, "").unwrap();
    assert_eq!(told().as_deref(), Some("other"));
    fs::write(&path, text).unwrap();
    assert_eq!(told().as_deref(), Some("another"));
}

#[tokio::test]
#[ignore = "needs nats-server: writes other credentials while the connection with the old ones is still good"]
async fn renewed_credentials_are_used_while_the_old_ones_are_still_good() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    // With the old ones no report is stored.
    let users = "authorization { users: [ { user: device, password: hunter2 }, { user: pi, password: new }, \
         { user: pi-old, password: old, permissions: { publish: { deny: \"$KV.agent-status.>\" } } } ] }";
    let _server = Server::start_with(dir.path(), port, users);
    let platform = Platform::of(port).await;
    let as_user = |user: &str, password: &str| {
        let credentials =
            format!("type = \"user-password\", username = \"{user}\", password = \"{password}\"");
        loaded(dir.path(), port, &credentials)
    };
    let config = as_user("pi-old", "old");
    let podman = FakePodman::default();
    with_configured(&config, &podman, None, async {
        platform.put("pi-1.web", &score("1")).await;
        until(|| podman.running() == ["web.a"]).await;
        drop(as_user("pi", "new"));
        platform.report("the first", |_| true).await;
        platform.no_problem().await;
        // What cannot be used ends no connection, and is told.
        let path = dir.path().join("config.toml");
        let whole = fs::read_to_string(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 8]).unwrap();
        let problem = platform.problem("credentials are not used").await;
        assert!(!problem.contains("new\""), "{problem}");
        platform.put("pi-1.web", &score("2")).await;
        until(|| podman.take_log().contains(&"image host/x:2".to_owned())).await;
        fs::write(&path, &whole).unwrap();
        platform.no_problem().await;
    })
    .await;
}
