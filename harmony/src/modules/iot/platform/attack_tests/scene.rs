//! A server with two devices, and what harm one of them has done to the other.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use async_nats::jetstream::{self, Context};
use data_encoding::BASE64;
use futures::TryStreamExt;
use iot_contracts::{
    DeviceId, NatsConfig, NatsCredentials, NatsUrls, ServerAccounts, UserKey, inbox_prefix,
};
use nkeys::KeyPair;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};

use super::raw::{Raw, Said};
use crate::modules::iot::platform::token::Claims;
use crate::modules::iot::platform::{
    DeviceTokens, Platform, devices_imports, devices_scope, platform_exports,
};

/// What only device B has.
pub(super) const SECRET: &str = "secret-of-b";

/// How the devices are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// As harmony writes a server's configuration.
    Accounts,
    /// As harmony signs tokens.
    Tokens,
    /// Not: with the same permissions, in the account with the buckets.
    OneAccount,
    /// Not: device A may do everything in the account with the buckets.
    Everything,
}

pub(super) struct Scene {
    pub(super) a: Raw,
    pub(super) keys: BTreeMap<&'static str, KeyPair>,
    pub(super) tokens: BTreeMap<String, String>,
    pub(super) port: u16,
    pub(super) version: String,
    b: Raw,
    platform: Platform,
    context: Context,
    server: Server,
    _dir: TempDir,
}

/// A server that ends with this.
pub(super) struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn public(key: &KeyPair) -> UserKey {
    key.public_key().parse().expect("a user's")
}

pub(super) fn id(name: &str) -> DeviceId {
    name.parse().expect("valid")
}

/// The server that the tests are for, with its data in `dir` and more of a configuration.
pub(super) async fn start_in(dir: &Path, more: &str) -> (u16, Server) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    drop(listener);
    let store = dir.join("store");
    let text =
        format!("listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: {store:?} }}\n{more}\n");
    let config = dir.join("nats.conf");
    std::fs::write(&config, text).expect("written");
    let program = std::env::var_os("HARMONY_TEST_NATS_SERVER");
    let mut command = Command::new(program.unwrap_or("nats-server".into()));
    command.arg("-c").arg(config).stderr(Stdio::null());
    let server = Server(command.spawn().expect("nats-server is installed"));
    let listens = async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let listens = tokio::time::timeout(LIMIT, listens);
    listens.await.expect("it listens");
    (port, server)
}

pub(super) fn config(port: u16) -> NatsConfig {
    let url = format!("nats://127.0.0.1:{port}").parse().expect("valid");
    NatsConfig::new(NatsUrls::try_from(vec![url]).expect("one"))
}

/// A connection of the user with this key, as soon as the server has read that there is one.
pub(super) async fn once_known(port: u16, key: &KeyPair) -> Raw {
    let known = async {
        loop {
            if let Ok(raw) = Raw::connect(port, key, None).await {
                return raw;
            }
            tokio::time::sleep(SETTLE).await;
        }
    };
    let known = tokio::time::timeout(LIMIT, known);
    known.await.expect("the server knows it")
}

/// What a connection is told.
pub(super) async fn heard(raw: &mut Raw) -> String {
    let heard = async {
        loop {
            let said = raw.flush().await.expect("connected");
            if !said.is_empty() {
                return format!("{said:?}").replace('\\', "");
            }
            tokio::time::sleep(SETTLE).await;
        }
    };
    let heard = tokio::time::timeout(LIMIT, heard);
    heard.await.expect("an answer")
}

/// Waits until the server has ended a connection.
pub(super) async fn once_gone(raw: &mut Raw) {
    let gone = async {
        while raw.flush().await.is_some() {
            tokio::time::sleep(SETTLE).await;
        }
    };
    let gone = tokio::time::timeout(LIMIT, gone);
    gone.await.expect("the server ends it");
}

impl Scene {
    pub(super) async fn new(layout: Layout) -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let keys = BTreeMap::from(["a", "b", "op"].map(|name| (name, KeyPair::new_user())));
        let (more, tokens) = match layout {
            Layout::Tokens => by_tokens(&keys),
            layout => (accounts(&keys, layout), BTreeMap::new()),
        };
        let (port, server) = start_in(dir.path(), &more).await;
        let seed_file = dir.path().join("op.nk");
        std::fs::write(&seed_file, keys["op"].seed().expect("it has one")).expect("written");
        let jwt_file = tokens.get("op").map(|token| {
            let path = dir.path().join("op.jwt");
            std::fs::write(&path, token).expect("written");
            path
        });
        let mut nats = config(port);
        nats.credentials = Some(NatsCredentials::Nkey {
            seed_file,
            jwt_file,
        });
        let platform = Platform::connect(&nats).await.expect("the buckets");
        let client = super::super::connection::connect(&nats)
            .await
            .expect("it listens");
        let context = jetstream::new(client);
        let connect = async |name: &str| {
            let token = tokens.get(name).map(String::as_str);
            let mut raw = Raw::connect(port, &keys[name], token).await.expect("known");
            let inbox = inbox_prefix(&keys[name].public_key());
            raw.subscribe(&format!("{inbox}.>")).await;
            raw
        };
        let (a, b) = (connect("a").await, connect("b").await);
        let mut scene = Self {
            a,
            b,
            version: platform.server_version.clone(),
            keys,
            tokens,
            port,
            platform,
            context,
            server,
            _dir: dir,
        };
        scene.fill().await;
        scene
    }

    /// What is there before each attack.
    async fn fill(&mut self) {
        for (name, value) in [("a.web", "of-a"), ("a.db", "of-a"), ("b.web", SECRET)] {
            let put = self.platform.desired.put(name, value.into()).await;
            put.expect("stored");
        }
        for name in ["a", "b"] {
            let key = public(&self.keys[name]);
            self.platform
                .enrol(&id(name), &key)
                .await
                .expect("enrolled");
            let value = if name == "b" { SECRET } else { "of-a" };
            let put = self
                .platform
                .status
                .put(format!("status.{name}"), value.into());
            put.await.expect("stored");
        }
    }

    pub(super) fn key(&self, name: &str) -> String {
        self.keys[name].public_key()
    }

    /// Everything but the status of A, as the platform sees it.
    async fn snapshot(&self) -> Result<BTreeMap<String, String>, String> {
        let told = |error: &dyn std::fmt::Display| error.to_string();
        let mut all = BTreeMap::new();
        let names: Vec<String> = self
            .context
            .stream_names()
            .try_collect()
            .await
            .map_err(|e| told(&e))?;
        for name in &names {
            let stream = self.context.get_stream(name).await.map_err(|e| told(&e))?;
            let info = stream.cached_info();
            all.insert(
                name.clone(),
                format!("{:?} {:?}", info.created, info.config),
            );
            let mut subjects = stream.info_with_subjects(">").await.map_err(|e| told(&e))?;
            while let Some((subject, _)) = subjects.try_next().await.map_err(|e| told(&e))? {
                if subject.as_str() == "$KV.agent-status.status.a" {
                    continue;
                }
                let last = stream.get_last_raw_message_by_subject(&subject).await;
                let last = last.map_err(|e| told(&e))?;
                all.insert(
                    subject.to_string(),
                    format!("{} {:?}", last.sequence, last.payload),
                );
            }
            let mut consumers = stream.consumers();
            while let Some(info) = consumers.try_next().await.map_err(|e| told(&e))? {
                if info.name == self.key("a") {
                    continue;
                }
                let state = (
                    info.config,
                    info.delivered.consumer_sequence,
                    info.num_pending,
                );
                all.insert(format!("consumer {}", info.name), format!("{state:?}"));
            }
        }
        Ok(all)
    }

    /// What becomes of everything else when A does that; empty where it is none of A's matter.
    pub(super) async fn harm(&mut self, attack: &Attack) -> Vec<String> {
        let before = self.snapshot().await.expect("the server is well");
        let inbox = format!("{}.x.y", inbox_prefix(&self.key("a")));
        if let Some(subject) = &attack.subscribe {
            self.a.subscribe(subject).await;
            self.a.flush().await;
            // What always happens.
            self.b_goes_on().await;
        }
        if let Some(subject) = &attack.subject {
            let reply = attack.reply.as_deref().unwrap_or(&inbox);
            let headers = attack.headers.iter().map(|(n, v)| (*n, v.as_str()));
            let headers: Vec<_> = headers.collect();
            self.a.publish(subject, reply, &headers, &attack.data).await;
        }
        let mut said = self.a.flush().await.unwrap_or_default();
        tokio::time::sleep(SETTLE).await;
        let mut harms = Vec::new();
        match self.a.flush().await {
            Some(more) => said.extend(more),
            None => harms.push("A's connection is gone".to_owned()),
        }
        for message in &said {
            if let Said::Message { subject, text } = message
                && (text.contains(SECRET)
                    || text.contains(&BASE64.encode(SECRET.as_bytes()))
                    || subject.contains("desired-state.b")
                    || subject.ends_with("status.b"))
            {
                harms.push(format!("A reads {subject}: {text}"));
            }
        }
        for message in self.b.flush().await.unwrap_or_default() {
            harms.push(format!("B gets {message:?}"));
        }
        if attack.subscribe.is_some() {
            // B has written.
            return harms;
        }
        match self.snapshot().await {
            Err(error) => harms.push(format!("the server is not well: {error}")),
            Ok(after) => harms.extend(differences(&before, &after)),
        }
        harms
    }

    async fn b_goes_on(&mut self) {
        let inbox = format!("{}.own", inbox_prefix(&self.key("b")));
        let get = iot_contracts::entry_subject("b.web");
        self.b.publish(&get, &inbox, &[], "").await;
        self.b
            .publish("$KV.agent-status.status.b", &inbox, &[], SECRET)
            .await;
        let put = self.platform.desired.put("b.web", SECRET.into()).await;
        put.expect("stored");
        tokio::time::sleep(SETTLE).await;
        // Its own answers are no harm.
        self.b.flush().await;
    }

    /// Whether the server still does what the platform asks, a moment later.
    pub(super) async fn is_well(&mut self) -> bool {
        for _ in 0..3 {
            let put = self.platform.desired.put("a.web", "of-a".into());
            let put = tokio::time::timeout(Duration::from_secs(3), put).await;
            if !matches!(put, Ok(Ok(_))) {
                return false;
            }
            tokio::time::sleep(SETTLE).await;
        }
        self.server.0.try_wait().is_ok_and(|ended| ended.is_none())
    }
}

/// How long any awaited event may take.
const LIMIT: Duration = Duration::from_secs(20);

/// How long the server may take for what it does on its own.
const SETTLE: Duration = Duration::from_millis(40);

/// What A does.
#[derive(Debug, Clone, Default)]
pub(super) struct Attack {
    pub(super) subject: Option<String>,
    pub(super) subscribe: Option<String>,
    pub(super) reply: Option<String>,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) data: String,
}

fn differences(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    let gone = before.iter().filter(|(name, _)| !after.contains_key(*name));
    let gone = gone.map(|(name, _)| format!("{name} is gone"));
    let changed = after
        .iter()
        .filter(|(name, value)| before.get(*name) != Some(value));
    let changed = changed.map(|(name, value)| format!("{name} is now {value}"));
    gone.chain(changed).collect()
}

fn accounts(keys: &BTreeMap<&'static str, KeyPair>, layout: Layout) -> String {
    let devices = ["a", "b"].map(|name| (id(name), public(&keys[name])));
    let devices = BTreeMap::from(devices);
    let accounts = ServerAccounts::new(&[public(&keys["op"])], &devices).expect("valid");
    let mut config = serde_json::to_value(accounts).expect("JSON");
    if layout != Layout::Accounts {
        let all = config["accounts"].as_object_mut().expect("accounts");
        let mut devices = all.remove("DEVICES").expect("there");
        let users = devices["users"].as_array_mut().expect("users");
        if layout == Layout::Everything {
            let a = public(&keys["a"]);
            let a = users.iter_mut().find(|user| user["nkey"] == a.as_str());
            a.expect("there")["permissions"] = json!({ "publish": ">", "subscribe": ">" });
        }
        let platform = &mut all["IOT"];
        platform
            .as_object_mut()
            .expect("an account")
            .remove("exports");
        let known = platform["users"].as_array_mut().expect("users");
        known.append(users);
    }
    let text = config.to_string();
    text[1..text.len() - 1].to_owned()
}

fn by_tokens(keys: &BTreeMap<&'static str, KeyPair>) -> (String, BTreeMap<String, String>) {
    let operator = KeyPair::new_operator();
    let [platform, devices, system, scope] = [(); 4].map(|()| KeyPair::new_account());
    let signed = |signer: &KeyPair, subject: &KeyPair, name: &str, nats: Value| {
        let subject = subject.public_key();
        let claims = Claims {
            expires: None,
            name,
            subject: &subject,
            nats,
        };
        claims.signed(signer).expect("signed")
    };
    let limits = json!({ "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
        "wildcards": true, "conn": -1, "leaf": -1 });
    let mut storing = limits.clone();
    for limit in ["mem_storage", "disk_storage", "streams", "consumer"] {
        storing[limit] = (-1).into();
    }
    let of = |account: &KeyPair, more: Value| {
        let mut claims = json!({ "type": "account", "version": 2 });
        for (name, value) in more.as_object().expect("claims") {
            claims[name] = value.clone();
        }
        (
            account.public_key(),
            signed(&operator, account, "account", claims),
        )
    };
    let preload = BTreeMap::from([
        of(
            &platform,
            json!({ "limits": storing, "exports": platform_exports() }),
        ),
        of(
            &devices,
            json!({ "limits": limits, "imports": devices_imports(&platform.public_key()),
                "signing_keys": [devices_scope(&scope.public_key())] }),
        ),
        of(&system, json!({ "limits": limits })),
    ]);
    let claims = json!({ "type": "operator", "version": 2, "system_account": system.public_key() });
    let config = json!({
        "operator": signed(&operator, &operator, "operator", claims),
        "resolver": "MEMORY", "resolver_preload": preload,
    });
    let config = config.to_string();

    let seed = scope.seed().expect("it has one");
    let issuer = DeviceTokens::new(&devices.public_key(), &seed).expect("valid");
    let mut tokens = BTreeMap::new();
    for name in ["a", "b"] {
        let token = issuer.token(&id(name), &public(&keys[name]), None);
        tokens.insert(name.to_owned(), token.expect("signed"));
    }
    let user = json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 });
    tokens.insert("op".to_owned(), signed(&platform, &keys["op"], "op", user));
    // What A could try to be.
    let own = json!({ "type": "user", "version": 2, "issuer_account": devices.public_key() });
    let mut wide = own.clone();
    for (part, all) in [
        ("pub", json!({ "allow": [">"] })),
        ("sub", json!({ "allow": [">"] })),
    ] {
        wide[part] = all;
    }
    for limit in ["subs", "data", "payload"] {
        wide[limit] = (-1).into();
    }
    tokens.insert("wide".to_owned(), signed(&scope, &keys["a"], "a", wide));
    tokens.insert(
        "by itself".to_owned(),
        signed(&keys["a"], &keys["a"], "b", own.clone()),
    );
    tokens.insert("of b".to_owned(), tokens["b"].clone());
    // Whom only an issuer that does not check names would sign.
    tokens.insert("named *".to_owned(), signed(&scope, &keys["a"], "*", own));
    (config[1..config.len() - 1].to_owned(), tokens)
}
