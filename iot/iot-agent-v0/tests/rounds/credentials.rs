//! A device whose credentials are revoked, and which is given others.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use async_nats::ConnectOptions;
use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

use crate::device::Access;
use crate::platform::Platform;
use crate::rounds::{Bench, count};
use crate::server::{Server, with_jetstream};
use crate::server_for_all::free_port;
use crate::site::{By, Site};

/// An operator with an account that has JetStream, as a server knows it by its configuration.
struct Operator {
    operator: KeyPair,
    /// The operator's own token: a server takes over no other one.
    own: String,
    system: KeyPair,
    account: KeyPair,
    revoked: BTreeMap<String, u64>,
}

impl Operator {
    fn new() -> Self {
        let (operator, system) = (KeyPair::new_operator(), KeyPair::new_account());
        let claims =
            json!({ "type": "operator", "version": 2, "system_account": system.public_key() });
        Self {
            own: token(&operator, &operator, claims),
            operator,
            system,
            account: KeyPair::new_account(),
            revoked: BTreeMap::new(),
        }
    }

    fn account_token(&self, account: &KeyPair, has_jetstream: bool) -> String {
        let mut limits = json!({ "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
            "wildcards": true, "conn": -1, "leaf": -1 });
        if has_jetstream {
            for name in ["mem_storage", "disk_storage", "streams", "consumer"] {
                limits[name] = json!(-1);
            }
        }
        let mut claims = json!({ "type": "account", "version": 2, "limits": limits });
        if !self.revoked.is_empty() {
            claims["revocations"] = json!(self.revoked);
        }
        token(&self.operator, account, claims)
    }

    fn config(&self) -> String {
        let system = self.system.public_key();
        format!(
            "operator: {}\nresolver: MEMORY\nresolver_preload: {{ {}: {}, {system}: {} }}",
            self.own,
            self.account.public_key(),
            self.account_token(&self.account, true),
            self.account_token(&self.system, false),
        )
    }

    fn user_token(&self, user: &KeyPair) -> String {
        let claims = json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 });
        token(&self.account, user, claims)
    }

    /// Gives the device a user of its own, in the file that its configuration names.
    fn give(&self, file: &Path, user: &KeyPair) {
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\
             -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
            self.user_token(user),
            user.seed().unwrap()
        );
        let new = file.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, file).unwrap();
    }
}

fn seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_secs()
}

/// A token signed by `issuer`, for `subject`.
fn token(issuer: &KeyPair, subject: &KeyPair, nats: Value) -> String {
    let claims = json!({ "jti": fastrand::u64(..).to_string(), "iat": seconds(), "iss": issuer.public_key(),
        "name": "x", "sub": subject.public_key(), "nats": nats });
    let part = |json: Value| BASE64URL_NOPAD.encode(json.to_string().as_bytes());
    let head = part(json!({ "typ": "JWT", "alg": "ed25519-nkey" }));
    let signed = format!("{head}.{}", part(claims));
    let signature = issuer.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))
}

#[tokio::test]
#[ignore = "needs nats-server: revokes the device's credentials, and gives them back or writes others"]
async fn rounds_of_revoked_credentials() {
    a_key_is_taken_out_and_put_back().await;
    a_token_is_revoked_and_another_written().await;
}

async fn a_key_is_taken_out_and_put_back() {
    let by = By::Key;
    let dir = tempfile::tempdir().unwrap();
    let site = Site::on_loopback(dir.path(), by);
    let (server, port) = site.start_server();
    let (platform, access) = (site.platform(&[port], 1).await, site.access(&[port]));
    let kind = format!("credentials revoked, {by}");
    let mut bench = Bench::start((kind, by), dir.path(), &access, None, platform).await;
    for _ in 0..count(by) {
        bench.begin().await;
        site.admit(false);
        server.reload(&site.config(port));
        bench.sleep(0.5..4.0).await;
        bench.change().await;
        bench.sleep(0.5..12.0).await;
        assert!(
            !bench.has_applied(&bench.podman.state()),
            "nothing was revoked"
        );
        site.admit(true);
        server.reload(&site.config(port));
        bench.end(Instant::now()).await;
    }
    bench.tell();
}

async fn a_token_is_revoked_and_another_written() {
    let by = By::Password;
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut operator = Operator::new();
    let config = |operator: &Operator, dir: &Path| {
        with_jetstream(dir, "127.0.0.1", port, &operator.config())
    };
    let mut server = Server::new(dir.path(), "nats", &config(&operator, dir.path()));
    server.start();
    let (platform_user, mut user) = (KeyPair::new_user(), KeyPair::new_user());
    let file = dir.path().join("device.creds");
    operator.give(&file, &user);
    let access = Access {
        urls: vec![format!("nats://127.0.0.1:{port}")],
        credentials: format!("{{ type = \"creds-file\", path = {file:?} }}"),
        ..Access::default()
    };
    let platform_token = operator.user_token(&platform_user);
    let platform_key = std::sync::Arc::new(platform_user);
    let options = ConnectOptions::with_jwt(platform_token, move |nonce| {
        let key = std::sync::Arc::clone(&platform_key);
        async move { key.sign(&nonce).map_err(async_nats::AuthError::new) }
    });
    let platform = Platform::connect_with(options, &access.urls, 1).await;
    let kind = "credentials revoked, token".to_owned();
    let mut bench = Bench::start((kind, by), dir.path(), &access, None, platform).await;
    for _ in 0..count(by) {
        bench.begin().await;
        operator.revoked.insert(user.public_key(), seconds() + 1);
        server.reload(&config(&operator, dir.path()));
        bench.sleep(0.5..4.0).await;
        bench.change().await;
        bench.sleep(0.5..12.0).await;
        assert!(
            !bench.has_applied(&bench.podman.state()),
            "nothing was revoked"
        );
        user = KeyPair::new_user();
        operator.give(&file, &user);
        bench.end(Instant::now()).await;
    }
    bench.tell();
}
