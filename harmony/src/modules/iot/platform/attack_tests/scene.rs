//! A server with two devices, and what harm one of them has done to the other.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use async_nats::jetstream::{self, Context};
use data_encoding::BASE64;
use futures::TryStreamExt;
use iot_contracts::{NatsCredentials, inbox_prefix};
use nkeys::KeyPair;
use tempfile::TempDir;

use super::layouts::{Layout, accounts, by_tokens, id, public};
use super::raw::{Raw, Said};
use super::server::{SETTLE, Server, config, start_in};
use crate::modules::iot::platform::{Platform, connection};

/// What only device B has.
pub(super) const SECRET: &str = "secret-of-b";

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
    /// What was there after the last attack, so that what comes of it late is seen at the next one.
    last: Option<BTreeMap<String, String>>,
    _dir: TempDir,
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
        let client = connection::connect(&nats).await.expect("it listens");
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
            last: None,
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
            let (created, mut config) = {
                let info = stream.cached_info();
                (info.created, info.config.clone())
            };
            let metadata = in_order(&mut config.metadata);
            all.insert(name.clone(), format!("{created:?} {config:?} {metadata:?}"));
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
                let mut config = info.config;
                let metadata = in_order(&mut config.metadata);
                // A may ask for what its own tells of, and for nothing else.
                let state = (info.name != self.key("a"))
                    .then_some((info.delivered.consumer_sequence, info.num_pending));
                let state = (config, metadata, state);
                all.insert(format!("consumer {}", info.name), format!("{state:?}"));
            }
        }
        Ok(all)
    }

    /// What becomes of everything else when A does that; empty where it is none of A's matter.
    pub(super) async fn harm(&mut self, attack: &Attack) -> Vec<String> {
        let before = match self.last.take() {
            Some(last) => last,
            None => self.snapshot().await.expect("the server is well"),
        };
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
            Ok(after) => {
                harms.extend(differences(&before, &after));
                self.last = Some(after);
            }
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
        self.last = None;
        for _ in 0..3 {
            let put = self.platform.desired.put("a.web", "of-a".into());
            let put = tokio::time::timeout(Duration::from_secs(3), put).await;
            if !matches!(put, Ok(Ok(_))) {
                return false;
            }
            tokio::time::sleep(SETTLE).await;
        }
        self.server.is_running()
    }
}

/// What A does.
#[derive(Debug, Clone, Default)]
pub(super) struct Attack {
    pub(super) subject: Option<String>,
    pub(super) subscribe: Option<String>,
    pub(super) reply: Option<String>,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) data: String,
}

/// What a server says of its own, 2.11 for one, in no order.
fn in_order(metadata: &mut HashMap<String, String>) -> BTreeMap<String, String> {
    std::mem::take(metadata).into_iter().collect()
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
