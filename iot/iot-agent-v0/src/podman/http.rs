//! HTTP/1.1 over a Unix socket, one connection a request.

use std::path::PathBuf;
use std::time::Duration;

use data_encoding::BASE64URL;
use form_urlencoded::{Serializer, byte_serialize};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use iot_contracts::RegistryLogin;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use super::{PodmanError, wire};

/// The API version that is asked for; newer Podmans serve it too.
const API: &str = "/v4.0.0/libpod";

/// The header with how an image's registry is logged in to.
const REGISTRY_LOGIN: &str = "x-registry-auth";

/// The largest answer that is read, in bytes: far above a device's container list or a pull's log.
const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// A request.
pub struct Call {
    what: String,
    method: Method,
    path: String,
    query: Serializer<'static, String>,
    body: Option<(&'static str, Vec<u8>)>,
    login: Option<HeaderValue>,
    limit: Duration,
}

impl Call {
    /// A GET; `what` it does is told when it fails.
    pub fn get(what: String) -> Self {
        Self::new(what, Method::GET)
    }

    /// A POST.
    pub fn post(what: String) -> Self {
        Self::new(what, Method::POST)
    }

    /// A DELETE.
    pub fn delete(what: String) -> Self {
        Self::new(what, Method::DELETE)
    }

    fn new(what: String, method: Method) -> Self {
        Self {
            what,
            method,
            path: API.to_owned(),
            query: Serializer::new(String::new()),
            body: None,
            login: None,
            limit: Duration::ZERO,
        }
    }

    /// The path below the API's root; segments are escaped.
    pub fn path(mut self, segments: &[&str]) -> Self {
        for segment in segments {
            self.path.push('/');
            self.path.extend(byte_serialize(segment.as_bytes()));
        }
        self
    }

    /// Adds a parameter.
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.query.append_pair(name, value);
        self
    }

    /// How long the whole exchange may take.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Sends `value` as JSON.
    pub fn json<T: Serialize>(mut self, value: &T) -> Result<Self, PodmanError> {
        let body = serde_json::to_vec(value).map_err(|source| PodmanError::Decode {
            what: self.what.clone(),
            source,
        })?;
        self.body = Some(("application/json", body));
        Ok(self)
    }

    /// Sends these bytes.
    pub fn bytes(mut self, bytes: Vec<u8>) -> Self {
        self.body = Some(("application/octet-stream", bytes));
        self
    }

    /// Has Podman log in to the image's registry.
    pub fn login(mut self, login: &RegistryLogin) -> Result<Self, PodmanError> {
        let login = serde_json::to_vec(login).map_err(|source| PodmanError::Decode {
            what: self.what.clone(),
            source,
        })?;
        // Of base64 every text is a value.
        let header = HeaderValue::try_from(BASE64URL.encode(&login));
        self.login = header.ok().map(|mut value| {
            value.set_sensitive(true);
            value
        });
        Ok(self)
    }
}

/// An answer.
pub struct Reply {
    what: String,
    /// Its status.
    pub status: StatusCode,
    /// Its content.
    pub body: Bytes,
}

impl Reply {
    /// This answer, when its status is one of `expected`; else Podman's refusal.
    pub fn expect(self, expected: &[StatusCode]) -> Result<Self, PodmanError> {
        if expected.contains(&self.status) {
            return Ok(self);
        }
        let message = wire::refusal(&self.body);
        Err(PodmanError::refused(
            self.what,
            self.status.as_u16(),
            message,
        ))
    }

    /// The content, read as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, PodmanError> {
        serde_json::from_slice(&self.body).map_err(|source| PodmanError::Decode {
            what: self.what.clone(),
            source,
        })
    }
}

/// The service behind a socket.
#[derive(Clone)]
pub struct Api {
    socket: PathBuf,
}

impl Api {
    /// The service at `socket`.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Sends `call` and reads the whole answer, within the call's limit.
    pub async fn send(&self, call: Call) -> Result<Reply, PodmanError> {
        let (limit, what) = (call.limit, call.what.clone());
        tokio::time::timeout(limit, self.exchange(call))
            .await
            .unwrap_or_else(|_| {
                Err(PodmanError::TimedOut {
                    what,
                    seconds: limit.as_secs(),
                })
            })
    }

    async fn exchange(&self, mut call: Call) -> Result<Reply, PodmanError> {
        let stream =
            UnixStream::connect(&self.socket)
                .await
                .map_err(|source| PodmanError::Connect {
                    socket: self.socket.clone(),
                    source,
                })?;
        let what = std::mem::take(&mut call.what);
        let broken = |source| PodmanError::Exchange {
            what: what.clone(),
            source,
        };
        let request = request(call).map_err(|error| broken(error.into()))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(error.into()))?;
        // Ends with this exchange, also when that is cancelled.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let response: Response<Incoming> = sender
            .send_request(request)
            .await
            .map_err(|error| broken(error.into()))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_BODY_BYTES);
        let body = body.collect().await.map_err(broken)?.to_bytes();
        Ok(Reply { what, status, body })
    }
}

fn request(call: Call) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
    let Call {
        what: _,
        method,
        path,
        mut query,
        body,
        login,
        limit: _,
    } = call;
    let query = query.finish();
    let uri = if query.is_empty() {
        path
    } else {
        format!("{path}?{query}")
    };
    let mut request = Request::builder()
        .method(method)
        .uri(uri)
        .header(HOST, "podman");
    if let Some(login) = login {
        request = request.header(REGISTRY_LOGIN, login);
    }
    let Some((kind, body)) = body else {
        return request.body(Full::default());
    };
    request.header(CONTENT_TYPE, kind).body(Full::from(body))
}
