//! Who the agent speaks to, and what it has to be allowed.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::BASE64URL_NOPAD;
use iot_contracts::{AgentConfig, Phase};
use nkeys::KeyPair;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::Nats;
use super::platform::{LIMIT, Platform, config, score, until, with_agent};
use super::server::{Server, free_port};
use crate::config::Loaded;
use crate::fake::FakePodman;

/// What has to be permitted to a device, and nothing else.
const PUBLISH: [&str; 5] = [
    "$KV.agent-status.status.pi-1",
    "$JS.API.DIRECT.GET.KV_desired-state.$KV.desired-state._bucket",
    "$JS.API.CONSUMER.CREATE.KV_desired-state.pi-1.$KV.desired-state.pi-1.>",
    "$JS.API.CONSUMER.MSG.NEXT.KV_desired-state.pi-1",
    "$JS.API.CONSUMER.DELETE.KV_desired-state.pi-1",
];

/// A server with the platform's user and one for a device, which may publish to these subjects only. The other user has
/// the device's name while the buckets are made.
fn permitting(dir: &Path, port: u16, subjects: &[&str], makes_buckets: bool) -> Server {
    let (all, device) = match makes_buckets {
        true => ("device", "other"),
        false => ("op", "device"),
    };
    let permissions = json!({ "publish": subjects, "subscribe": ["_INBOX.pi-1.>"] });
    let users = format!(
        "authorization {{ users: [ {{ user: {all}, password: hunter2 }}, \
         {{ user: {device}, password: hunter2, permissions: {permissions} }} ] }}"
    );
    Server::start_with(dir, port, &users)
}

/// A server on which `pi-1.web` is desired.
async fn with_web(dir: &Path, port: u16, subjects: &[&str]) -> Server {
    let server = permitting(dir, port, subjects, true);
    let platform = Platform::of(port).await;
    platform.put("pi-1.web", &score("1")).await;
    drop((server, platform));
    permitting(dir, port, subjects, false)
}

#[tokio::test]
#[ignore = "needs nats-server: permits the agent exactly its own subjects"]
async fn a_device_needs_its_own_subjects_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let _server = with_web(dir.path(), port, &PUBLISH).await;
    let podman = FakePodman::default();
    with_agent(port, &podman, async {
        let platform = Platform::as_user(port, "op").await;
        platform.phase("web", Phase::Running).await;
        platform.put("pi-1.web", &score("2")).await;
        platform.phase("web", Phase::Running).await;
        platform.desired.delete("pi-1.web").await.unwrap();
        platform.gone("web").await;
        platform.no_problem().await;
    })
    .await;
}

#[tokio::test]
#[ignore = "needs nats-server: lets nobody answer the request for changes"]
async fn changes_that_do_not_come_are_missed() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let is_pull = |subject: &&&str| subject.contains("MSG.NEXT");
    let others: Vec<_> = PUBLISH
        .iter()
        .filter(|subject| !is_pull(subject))
        .copied()
        .collect();
    let _server = with_web(dir.path(), port, &others).await;
    with_agent(port, &FakePodman::default(), async {
        let platform = Platform::as_user(port, "op").await;
        platform.problem("the server says nothing any more").await;
    })
    .await;
}

/// Certificates of an authority of this test's own.
struct Authority(PathBuf);

impl Authority {
    fn new(dir: &Path) -> Self {
        std::fs::create_dir(dir).unwrap();
        let authority = Self(dir.to_owned());
        authority.openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test \
             -keyout ca.key -out ca.pem",
        );
        std::fs::write(
            dir.join("ext"),
            "subjectAltName=DNS:localhost,IP:127.0.0.1\n",
        )
        .unwrap();
        for name in ["server", "client"] {
            authority.openssl(&format!(
                "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} \
                 -keyout {name}.key -out {name}.csr"
            ));
            authority.openssl(&format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
                 -extfile ext -out {name}.pem"
            ));
        }
        authority
    }

    fn openssl(&self, arguments: &str) {
        let mut command = Command::new("openssl");
        command
            .args(arguments.split_whitespace())
            .current_dir(&self.0);
        let status = command.stderr(Stdio::null()).status();
        assert!(
            status.expect("openssl is installed").success(),
            "{arguments}"
        );
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    fn server(&self, dir: &Path, port: u16) -> Server {
        let tls = json!({
            "cert_file": self.file("server.pem"), "key_file": self.file("server.key"),
            "ca_file": self.file("ca.pem"), "verify": true, "timeout": 5,
        });
        let user = "authorization { user: device, password: hunter2 }";
        Server::start_with(dir, port, &format!("{user}\ntls: {tls}"))
    }

    /// A configuration of a device that believes this authority, and shows a certificate of it or none.
    fn device(&self, port: u16, shows: bool) -> Loaded {
        let mut toml = format!(
            "device_id = \"pi-1\"\n[nats]\nurls = [\"tls://localhost:{port}\"]\n\
             credentials = {{ type = \"user-password\", username = \"device\", password = \"hunter2\" }}\n\
             [nats.tls]\nca = {:?}\n",
            self.file("ca.pem")
        );
        if shows {
            let (certificate, key) = (self.file("client.pem"), self.file("client.key"));
            toml += &format!("certificate = {certificate:?}\nkey = {key:?}\n");
        }
        Loaded::for_test(toml::from_str::<AgentConfig>(&toml).unwrap())
    }
}

async fn connects(config: &Loaded) -> Nats {
    let nats = Nats::connect(config).await;
    let mut connections = nats.connections();
    let connected = connections.wait_for(|count| *count > 0);
    tokio::time::timeout(LIMIT, connected)
        .await
        .expect("it connects")
        .unwrap();
    nats
}

/// It would long have connected.
async fn connects_never(config: &Loaded) -> bool {
    let nats = Nats::connect(config).await;
    let mut connections = nats.connections();
    tokio::time::timeout(Duration::from_secs(2), connections.changed())
        .await
        .is_err()
}

#[tokio::test]
#[ignore = "needs nats-server and openssl: asks for certificates of an authority of its own"]
async fn tls_is_spoken_with_the_authority_and_the_certificate_that_are_given() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let (own, other) = (
        Authority::new(&dir.path().join("own")),
        Authority::new(&dir.path().join("other")),
    );
    let _server = own.server(dir.path(), port);
    connects(&own.device(port, true)).await;
    for refused in [own.device(port, false), other.device(port, true)] {
        assert!(
            connects_never(&refused).await,
            "{:?}",
            refused.config().nats
        );
    }
}

/// Who is on the way: hands on everything but the first line, which it changes.
async fn on_the_way(
    listener: TcpListener,
    port: u16,
    changed: serde_json::Value,
    tries: Arc<AtomicUsize>,
) {
    let mut first = true;
    loop {
        let (mut device, _) = listener.accept().await.unwrap();
        tries.fetch_add(1, Ordering::Relaxed);
        // Once they have spoken, there is no way any more.
        if !std::mem::take(&mut first) {
            continue;
        }
        let mut server = BufReader::new(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
        let mut line = String::new();
        server.read_line(&mut line).await.unwrap();
        let mut info: serde_json::Value =
            serde_json::from_str(line.strip_prefix("INFO ").unwrap()).unwrap();
        for (key, value) in changed.as_object().unwrap() {
            info[key] = value.clone();
        }
        device
            .write_all(format!("INFO {info}\r\n").as_bytes())
            .await
            .unwrap();
        let both = copy_bidirectional(&mut device, &mut server);
        let _: Result<io::Result<_>, _> = tokio::time::timeout(Duration::from_secs(1), both).await;
    }
}

#[tokio::test]
#[ignore = "needs nats-server and openssl: changes the first line on the way, which is in plain text"]
async fn no_server_is_followed_that_the_first_line_names() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let authority = Authority::new(&dir.path().join("ca"));
    let _server = authority.server(dir.path(), port);
    let is_up = async { while TcpStream::connect(("127.0.0.1", port)).await.is_err() {} };
    tokio::time::timeout(LIMIT, is_up).await.unwrap();
    let evil = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let way = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = authority.device(way.local_addr().unwrap().port(), true);
    let changed = json!({ "connect_urls": [evil.local_addr().unwrap().to_string()] });
    let tries = Arc::new(AtomicUsize::new(0));
    let scenario = async {
        let nats = connects(&config).await;
        // Cut off, it tries again and again, and only where it was told to.
        until(|| tries.load(Ordering::Relaxed) >= 5).await;
        drop(nats);
    };
    tokio::select! {
        _ = evil.accept() => panic!("it went where the first line said"),
        () = on_the_way(way, port, changed, Arc::clone(&tries)) => {}
        () = scenario => {}
    }
}

#[tokio::test]
async fn nothing_is_said_in_plain_text_where_tls_is_asked_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let toml = format!("device_id = \"pi-1\"\nnats.urls = [\"tls://localhost:{port}\"]\n");
    let config = Loaded::for_test(toml::from_str::<AgentConfig>(&toml).unwrap());
    let _nats = Nats::connect(&config).await;
    let (mut device, _) = tokio::time::timeout(LIMIT, listener.accept())
        .await
        .unwrap()
        .unwrap();
    let info = json!({
        "server_id": "x", "server_name": "x", "version": "2.10.0", "proto": 1, "host": "x", "port": 1,
        "headers": true, "max_payload": 1_048_576, "client_id": 1, "tls_required": false,
    });
    device
        .write_all(format!("INFO {info}\r\n").as_bytes())
        .await
        .unwrap();
    let mut first = [0];
    // Where the system has no authorities at all, it says nothing.
    if device.read(&mut first).await.unwrap() == 1 {
        assert_eq!(first, [0x16], "not the beginning of TLS");
    }
}

/// A token signed by `issuer`, for `subject`.
fn jwt(
    issuer: &KeyPair,
    subject: &KeyPair,
    expires: Option<Duration>,
    nats: serde_json::Value,
) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut claims = json!({
        "jti": format!("{:?}", now), "iat": now.as_secs(), "iss": issuer.public_key(), "name": "x",
        "sub": subject.public_key(), "nats": nats,
    });
    if let Some(expires) = expires {
        claims["exp"] = (now + expires).as_secs().into();
    }
    let part = |json: serde_json::Value| BASE64URL_NOPAD.encode(json.to_string().as_bytes());
    let head = part(json!({ "typ": "JWT", "alg": "ed25519-nkey" }));
    let signed = format!("{head}.{}", part(claims));
    let signature = issuer.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))
}

/// A configuration of a server that knows an account and believes its users.
fn operator_mode(account: &KeyPair) -> String {
    let (operator, system) = (KeyPair::new_operator(), KeyPair::new_account());
    let limits = json!({ "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
        "wildcards": true, "conn": -1, "leaf": -1 });
    let token = |account: &KeyPair| {
        let claims = json!({ "type": "account", "version": 2, "limits": limits });
        jwt(&operator, account, None, claims)
    };
    let claims = json!({ "type": "operator", "version": 2, "system_account": system.public_key() });
    format!(
        "operator: {}\nresolver: MEMORY\nresolver_preload: {{ {}: {}, {}: {} }}",
        jwt(&operator, &operator, None, claims),
        account.public_key(),
        token(account),
        system.public_key(),
        token(&system),
    )
}

#[tokio::test]
#[ignore = "needs nats-server: lets a user's token expire whose file was renewed"]
async fn renewed_credentials_are_used_when_the_old_ones_expire() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let (account, user) = (KeyPair::new_account(), KeyPair::new_user());
    let more = operator_mode(&account);
    let path = dir.path().join("device.creds");
    let renew = |valid: Duration| {
        let claims = json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 });
        let token = jwt(&account, &user, Some(valid), claims);
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\
             -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
            user.seed().unwrap()
        );
        std::fs::write(&path, text).unwrap();
    };
    renew(Duration::from_secs(4));
    let _server = Server::start_with(dir.path(), port, &more);
    let toml = format!(
        "device_id = \"pi-1\"\n[nats]\nurls = [\"nats://127.0.0.1:{port}\"]\n\
         credentials = {{ type = \"creds-file\", path = {path:?} }}\n"
    );
    let device = Loaded::for_test(toml::from_str::<AgentConfig>(&toml).unwrap());
    let nats = connects(&device).await;
    renew(Duration::from_secs(3600));
    let mut connections = nats.connections();
    let again = tokio::time::timeout(LIMIT, connections.wait_for(|count| *count > 1));
    again.await.expect("it connects with the new ones").unwrap();
    until(|| nats.is_connected()).await;
    // Nobody else's are good.
    assert!(connects_never(&config(port)).await);
}
