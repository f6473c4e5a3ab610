//! The platform's connection to NATS.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use async_nats::{Client, ConnectError, ConnectErrorKind, ConnectOptions, connect_with_options};
use iot_contracts::{ContractError, NatsConfig, NatsCredentials};
use tokio::time::{Instant, sleep, timeout};

use super::again::PAUSE;
use super::{Cause, PlatformError};
use crate::modules::iot::device::names_loopback;

/// How long a server on this network may take to accept a connection or to answer a request.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// For how long a server may say that it does not know who asks: while it reads its configuration anew, it knows nobody.
const UNKNOWN: Duration = Duration::from_secs(3);

pub(super) async fn connect(nats: &NatsConfig) -> Result<Client, PlatformError> {
    check(nats)?;
    let deadline = Instant::now() + UNKNOWN;
    loop {
        match connect_once(nats).await {
            Err(error) if is_unknown(&error) && Instant::now() < deadline => sleep(PAUSE).await,
            connected => return connected,
        }
    }
}

fn is_unknown(error: &PlatformError) -> bool {
    let PlatformError::Connect { source, .. } = error else {
        return false;
    };
    let error = source.downcast_ref::<ConnectError>();
    error.is_some_and(|error| error.kind() == ConnectErrorKind::AuthorizationViolation)
}

async fn connect_once(nats: &NatsConfig) -> Result<Client, PlatformError> {
    let names: Vec<&str> = nats
        .urls
        .as_slice()
        .iter()
        .map(|url| url.as_str())
        .collect();
    let failed = |source: Cause| PlatformError::Connect {
        urls: names.join(", "),
        source,
    };
    let credentials = credentials(nats.credentials.as_ref()).await;
    let mut options = credentials
        .map_err(|e| failed(e.into()))?
        .name("harmony")
        .connection_timeout(ANSWER_TIMEOUT)
        .request_timeout(Some(ANSWER_TIMEOUT))
        // What a server says of others comes before TLS, and names no scheme.
        .ignore_discovered_servers()
        .require_tls(nats.urls.are_tls());
    let tls = nats.tls.clone().unwrap_or_default();
    if let Some(ca) = tls.ca {
        options = options.add_root_certificates(ca);
    }
    if let (Some(certificate), Some(key)) = (tls.certificate, tls.key) {
        options = options.add_client_certificate(certificate, key);
    }
    match timeout(ANSWER_TIMEOUT, connect_with_options(names.clone(), options)).await {
        Ok(Ok(client)) => Ok(client),
        Ok(Err(error)) => Err(failed(error.into())),
        Err(elapsed) => Err(failed(elapsed.into())),
    }
}

/// As a device checks it, but for the servers on this machine's other addresses: a bridge's, for one.
fn check(nats: &NatsConfig) -> Result<(), ContractError> {
    let mut nats = nats.clone();
    let here = nats
        .plain_to_others()
        .filter(|url| names_loopback(url.as_str()) || is_own_address(url.host()));
    let here = here.map(|url| url.host_and_port().parse());
    let here = here.collect::<Result<Vec<_>, _>>()?;
    nats.allow_plaintext.extend(here);
    nats.check()
}

/// Whether a text is an address of this machine: only such a one can be bound to.
fn is_own_address(host: &str) -> bool {
    let address = host.parse::<IpAddr>();
    address.is_ok_and(|address| UdpSocket::bind((address, 0)).is_ok())
}

async fn credentials(credentials: Option<&NatsCredentials>) -> std::io::Result<ConnectOptions> {
    Ok(match credentials {
        None => ConnectOptions::new(),
        Some(NatsCredentials::UserPassword { username, password }) => {
            ConnectOptions::with_user_and_password(username.clone(), password.expose().to_owned())
        }
        Some(NatsCredentials::Token { token }) => {
            ConnectOptions::with_token(token.expose().to_owned())
        }
        Some(NatsCredentials::CredsFile { path }) => {
            ConnectOptions::with_credentials_file(path).await?
        }
        Some(NatsCredentials::Nkey {
            seed_file,
            jwt_file,
        }) => {
            let seed = tokio::fs::read_to_string(seed_file).await?;
            let seed = seed.trim().to_owned();
            let Some(jwt_file) = jwt_file else {
                return Ok(ConnectOptions::with_nkey(seed));
            };
            let token = tokio::fs::read_to_string(jwt_file).await?;
            let key = nkeys::KeyPair::from_seed(&seed).map_err(std::io::Error::other)?;
            let key = std::sync::Arc::new(key);
            ConnectOptions::with_jwt(token.trim().to_owned(), move |nonce| {
                let key = std::sync::Arc::clone(&key);
                async move { key.sign(&nonce).map_err(async_nats::AuthError::new) }
            })
        }
    })
}

#[cfg(test)]
mod tests {
    use iot_contracts::{ContractError, NatsConfig, NatsUrl, NatsUrls};

    use super::check;

    fn of(url: &str) -> NatsConfig {
        let url: NatsUrl = url.parse().expect("valid");
        NatsConfig::new(NatsUrls::from(url))
    }

    #[test]
    fn plain_text_stays_on_this_machine_unless_it_is_allowed() {
        let here = [
            "nats://127.0.0.1:4222",
            "nats://127.1",
            "nats://localhost",
            "nats://0.0.0.0",
            "tls://192.0.2.1",
        ];
        for url in here {
            assert_eq!(check(&of(url)), Ok(()), "{url}");
        }
        // Addresses for documentation are nobody's own.
        for url in [
            "nats://192.0.2.1:4222",
            "nats://nats.example",
            "nats://[2001:db8::1]",
        ] {
            let mut nats = of(url);
            let error = check(&nats).expect_err(url);
            let ContractError::Plaintext { host, .. } = error else {
                panic!("{error:?}");
            };
            nats.allow_plaintext
                .push(host.parse().expect("as it is told"));
            assert_eq!(check(&nats), Ok(()), "{url}");
        }
    }
}
