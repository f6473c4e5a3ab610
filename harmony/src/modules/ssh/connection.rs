//! The session: pinning, login, reopening, waiting for a guest that boots.
//!
//! ```text
//! closed --connect--> key checked --login--> open --lost, timed out--> closed
//!                \--other key--> HostKeyMismatch (nothing sent)
//! ```
//! A command that finds the session broken before it was sent opens a new one, once. A command that
//! was sent is never repeated here: it may have run.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use russh::client::{self, Handle, Msg};
use russh::keys::{HashAlg, PrivateKey, PrivateKeyWithHashAlg};
use russh::{Channel, Preferred};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{debug, info};

use super::command::{Execution, Incomplete, OUTPUT_LIMIT_BYTES, command_line};
use super::error::SshError;
use super::keys::{PinnedHostKey, load_private_key};
use super::server_key::PinnedServer;
use crate::domain::topology::linux_host::{CommandOutput, HostCommand};
use crate::modules::linux::label;

/// A silent server is asked for a sign of life this often, and given up after as many times as
/// [`KEEPALIVE_MAX`] says. An emulated guest may well be busy for some seconds.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_MAX: usize = 4;

/// Pauses between attempts to reach a guest that boots: doubled from the first up to the second.
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_LAST: Duration = Duration::from_secs(1);

/// The pause after a refused login. OpenSSH from 9.8 on shuts clients out for growing times when
/// they fail more often than about once in 5 s (`PerSourcePenalties authfail:5s`).
const RETRY_REFUSED: Duration = Duration::from_secs(5);

/// Where and how to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshTarget {
    /// The server's address.
    pub address: IpAddr,
    /// Its TCP port.
    pub port: u16,
    /// The login user. Any other than root must be allowed to use sudo without a password.
    pub user: String,
    /// An ed25519 key in OpenSSH's form, mode 0600, that may log in as that user.
    pub private_key: PathBuf,
    /// The key that the server must present.
    pub host_key: PinnedHostKey,
    /// The bound of one attempt to connect and log in.
    pub connect_timeout: Duration,
    /// The bound of one command.
    pub command_timeout: Duration,
}

/// A Linux host that is configured over SSH.
pub struct SshLinuxHost {
    target: SshTarget,
    key: Arc<PrivateKey>,
    config: Arc<client::Config>,
    session: Mutex<Option<Arc<Handle<PinnedServer>>>>,
}

impl fmt::Debug for SshLinuxHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SshLinuxHost")
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

impl SshLinuxHost {
    /// A host that is not connected to yet. Reads the private key.
    ///
    /// # Errors
    /// When the private key is missing, readable by others, or no ed25519 key.
    pub fn new(target: SshTarget) -> Result<Self, SshError> {
        let key = Arc::new(load_private_key(&target.private_key)?);
        // The server shows the first kind of key in this list that it has: begin with the pinned one,
        // keep the others, so that a server without it is reported as another server.
        let pinned = target.host_key.algorithm();
        let mut kinds = vec![pinned.clone()];
        kinds.extend(
            Preferred::DEFAULT
                .key
                .iter()
                .filter(|kind| **kind != pinned)
                .cloned(),
        );
        let config = client::Config {
            keepalive_interval: Some(KEEPALIVE_INTERVAL),
            keepalive_max: KEEPALIVE_MAX,
            nodelay: true,
            preferred: Preferred {
                key: Cow::Owned(kinds),
                ..Preferred::DEFAULT
            },
            ..client::Config::default()
        };
        Ok(Self {
            target,
            key,
            config: Arc::new(config),
            session: Mutex::new(None),
        })
    }

    /// Where this host is.
    pub fn target(&self) -> &SshTarget {
        &self.target
    }

    /// Tries to log in until it works, and returns how long that took. A guest that boots refuses
    /// connections, then may show the stale host key of its image or not know the user yet; all of
    /// that is tried again. Nothing is sent to a server with another key.
    ///
    /// # Errors
    /// [`SshError::NotReachable`] at `bound`, with the last attempt's error as its source; at once
    /// when our own key is the fault.
    pub async fn wait_reachable(&self, bound: Duration) -> Result<Duration, SshError> {
        let start = Instant::now();
        let deadline = start + bound;
        let mut pause = RETRY_FIRST;
        let mut attempts = 0;
        let mut last = None;
        loop {
            attempts += 1;
            match timeout_at(deadline, self.session()).await {
                Ok(Ok(_)) => {
                    let waited = start.elapsed();
                    info!(address = %self.address(), attempts, ?waited, "SSH login works");
                    return Ok(waited);
                }
                Ok(Err(error)) if error.is_final() => return Err(error),
                Ok(Err(error)) => {
                    debug!(address = %self.address(), attempts, %error, "not reachable yet");
                    last = Some(error);
                }
                // The bound cut this attempt short: an earlier one's end says more.
                Err(_) => break,
            }
            let refused = matches!(last, Some(SshError::AuthenticationRefused { .. }));
            let wait = if refused { RETRY_REFUSED } else { pause };
            if Instant::now() + wait >= deadline {
                break;
            }
            sleep(wait).await;
            pause = (pause * 2).min(RETRY_LAST);
        }
        let address = self.address();
        Err(SshError::NotReachable {
            address,
            user: self.target.user.clone(),
            timeout: bound,
            attempts,
            source: Box::new(last.unwrap_or(SshError::ConnectTimedOut {
                address,
                timeout: bound,
            })),
        })
    }

    /// Ends the session, when there is one; the next command opens another.
    pub async fn disconnect(&self) {
        if let Some(session) = self.session.lock().await.take() {
            let reason = russh::Disconnect::ByApplication;
            if let Err(error) = session.disconnect(reason, "", "").await {
                debug!(%error, "the session was already gone");
            }
        }
    }

    /// Runs a command, whatever its exit status.
    pub(super) async fn run_command(
        &self,
        command: &HostCommand,
        input: &[u8],
    ) -> Result<CommandOutput, SshError> {
        let name = label(command);
        let with_sudo = command.is_root() && self.target.user != "root";
        let bound = self.target.command_timeout;
        let line =
            command_line(command, with_sudo, bound).map_err(|index| SshError::NulInArgument {
                program: command.argv().first().cloned().unwrap_or_default(),
                index,
            })?;
        let start = Instant::now();
        let mut execution = Execution::new(self.open_channel(&name).await?);
        let result = timeout(bound, execution.complete(line, input)).await;
        if let Ok(Ok(output)) = result {
            debug!(command = %name, status = output.status, took = ?start.elapsed(), "ran");
            return Ok(output);
        }
        // The session may be stuck with it: the next command gets a new one.
        *self.session.lock().await = None;
        let error = match result {
            Ok(Ok(_)) | Err(_) => SshError::CommandTimedOut {
                command: name,
                timeout: bound,
            },
            Ok(Err(Incomplete::OutputTooLarge)) => SshError::OutputTooLarge {
                command: name,
                limit_bytes: OUTPUT_LIMIT_BYTES,
            },
            Ok(Err(Incomplete::Lost(source))) => {
                return Err(SshError::SessionLost {
                    address: self.address(),
                    command: name,
                    source: source.map(Box::new),
                });
            }
        };
        execution.abandon().await;
        Err(error)
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::new(self.target.address, self.target.port)
    }

    /// Makes sure that there is a session.
    pub(super) async fn ensure_session(&self) -> Result<(), SshError> {
        self.session().await.map(|_| ())
    }

    /// The open session, or a new one.
    async fn session(&self) -> Result<Arc<Handle<PinnedServer>>, SshError> {
        let mut slot = self.session.lock().await;
        if let Some(session) = slot.as_ref().filter(|session| !session.is_closed()) {
            return Ok(Arc::clone(session));
        }
        let session = Arc::new(self.connect().await?);
        *slot = Some(Arc::clone(&session));
        Ok(session)
    }

    /// A channel for one command. A session that breaks here has not carried the command yet, so
    /// another one is opened, once.
    async fn open_channel(&self, command: &str) -> Result<Channel<Msg>, SshError> {
        let bound = self.target.connect_timeout;
        let mut retried = false;
        loop {
            let session = self.session().await?;
            let error = match timeout(bound, session.channel_open_session()).await {
                Ok(Ok(channel)) => return Ok(channel),
                Ok(Err(error)) => error,
                Err(_) => russh::Error::ConnectionTimeout,
            };
            let mut slot = self.session.lock().await;
            if slot
                .as_ref()
                .is_some_and(|open| Arc::ptr_eq(open, &session))
            {
                *slot = None;
            }
            if retried {
                return Err(SshError::SessionLost {
                    address: self.address(),
                    command: command.to_owned(),
                    source: Some(Box::new(error)),
                });
            }
            debug!(address = %self.address(), %error, "the session was lost, opening another");
            retried = true;
        }
    }

    /// Connects, checks the server's key and logs in.
    async fn connect(&self) -> Result<Handle<PinnedServer>, SshError> {
        let address = self.address();
        let failed = |error| SshError::Connect {
            address,
            source: Box::new(error),
        };
        let expected = &self.target.host_key;
        let server = PinnedServer {
            expected: expected.clone(),
        };
        let login = async {
            let config = Arc::clone(&self.config);
            let mut session = client::connect(config, address, server)
                .await
                .map_err(|error| error.into_error(address, expected))?;
            let key = PrivateKeyWithHashAlg::new(Arc::clone(&self.key), None);
            let user = self.target.user.as_str();
            let result = session.authenticate_publickey(user, key).await;
            if !result.map_err(failed)?.success() {
                // A session that ended meanwhile also counts as a refusal to the library.
                if session.is_closed() {
                    return Err(failed(russh::Error::Disconnect));
                }
                return Err(SshError::AuthenticationRefused {
                    address,
                    user: user.to_owned(),
                    fingerprint: self.key.fingerprint(HashAlg::Sha256).to_string(),
                });
            }
            Ok(session)
        };
        let bound = self.target.connect_timeout;
        timeout(bound, login)
            .await
            .unwrap_or(Err(SshError::ConnectTimedOut {
                address,
                timeout: bound,
            }))
    }
}
