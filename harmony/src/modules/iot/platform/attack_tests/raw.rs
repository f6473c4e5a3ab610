//! A client that says exactly what it is told to: any subject, any reply subject, any header.

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

/// What the server said.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Said {
    /// A message, with its headers before its payload.
    Message {
        subject: String,
        text: String,
    },
    /// That something is not permitted.
    Error(String),
    Pong,
}

pub(super) struct Raw {
    write: OwnedWriteHalf,
    said: mpsc::UnboundedReceiver<Said>,
    subscriptions: u32,
}

impl Raw {
    /// As the user with this key; with a token, where the server wants one.
    pub(super) async fn connect(
        port: u16,
        key: &KeyPair,
        token: Option<&str>,
    ) -> Result<Self, String> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await;
        let (read, write) = stream.map_err(|e| e.to_string())?.into_split();
        let mut read = BufReader::new(read);
        let mut line = String::new();
        read.read_line(&mut line).await.map_err(|e| e.to_string())?;
        let info = line.strip_prefix("INFO ").ok_or("no INFO")?;
        let info: Value = serde_json::from_str(info).map_err(|e| e.to_string())?;
        let nonce = info["nonce"].as_str().ok_or("no nonce")?;
        let signature = key.sign(nonce.as_bytes()).map_err(|e| e.to_string())?;
        let mut options = json!({ "verbose": false, "pedantic": false, "lang": "raw", "version": "1", "protocol": 1,
            "headers": true, "no_responders": true, "sig": BASE64URL_NOPAD.encode(&signature) });
        match token {
            Some(token) => options["jwt"] = token.into(),
            None => options["nkey"] = key.public_key().into(),
        }
        let (say, said) = mpsc::unbounded_channel();
        tokio::spawn(listen(read, say));
        let mut raw = Self {
            write,
            said,
            subscriptions: 0,
        };
        raw.say(format!("CONNECT {options}\r\n").as_bytes()).await;
        match raw.until_pong().await {
            (said, true) if said.is_empty() => Ok(raw),
            (said, _) => Err(format!("{said:?}")),
        }
    }

    /// A connection that is gone is seen at the next [`Raw::flush`].
    async fn say(&mut self, bytes: &[u8]) {
        let _ = self.write.write_all(bytes).await;
    }

    pub(super) async fn subscribe(&mut self, subject: &str) {
        self.subscriptions += 1;
        let line = format!("SUB {subject} {}\r\n", self.subscriptions);
        self.say(line.as_bytes()).await;
    }

    pub(super) async fn publish(
        &mut self,
        subject: &str,
        reply: &str,
        headers: &[(&str, &str)],
        data: &str,
    ) {
        let mut head = String::new();
        if !headers.is_empty() {
            let lines = headers
                .iter()
                .map(|(name, value)| format!("{name}: {value}\r\n"));
            head = format!("NATS/1.0\r\n{}\r\n", lines.collect::<String>());
        }
        let all = head.len() + data.len();
        let first = match head.len() {
            0 => format!("PUB {subject} {reply} {all}"),
            head => format!("HPUB {subject} {reply} {head} {all}"),
        };
        self.say(format!("{first}\r\n{head}{data}\r\n").as_bytes())
            .await;
    }

    /// What was said until the server has taken everything; nothing when the connection is gone.
    pub(super) async fn flush(&mut self) -> Option<Vec<Said>> {
        let (said, is_there) = self.until_pong().await;
        is_there.then_some(said)
    }

    /// What was said, also by a server that ends the connection, and whether it is still there.
    async fn until_pong(&mut self) -> (Vec<Said>, bool) {
        self.say(b"PING\r\n").await;
        let mut all = Vec::new();
        let until_pong = async {
            while let Some(said) = self.said.recv().await {
                if said == Said::Pong {
                    return true;
                }
                all.push(said);
            }
            false
        };
        let is_there = tokio::time::timeout(Duration::from_secs(10), until_pong).await;
        (all, is_there.unwrap_or(false))
    }
}

async fn listen(mut read: BufReader<OwnedReadHalf>, say: mpsc::UnboundedSender<Said>) {
    loop {
        let mut line = String::new();
        if !matches!(read.read_line(&mut line).await, Ok(length) if length > 0) {
            return;
        }
        let mut words = line.split_whitespace();
        let said = match words.next() {
            Some("MSG" | "HMSG") => {
                let subject = words.next().unwrap_or_default().to_owned();
                let length = words.last().and_then(|word| word.parse::<usize>().ok());
                let mut bytes = vec![0; length.unwrap_or_default() + 2];
                if read.read_exact(&mut bytes).await.is_err() {
                    return;
                }
                let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
                Said::Message { subject, text }
            }
            Some("-ERR") => Said::Error(line.trim().to_owned()),
            Some("PONG") => Said::Pong,
            _ => continue,
        };
        if say.send(said).is_err() {
            return;
        }
    }
}
