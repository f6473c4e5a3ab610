//! The files that a device is configured with. Pure.

use std::net::{IpAddr, Ipv4Addr};

use iot_contracts::{AgentConfig, NatsConfig, NatsUrl, NatsUrls};
use reqwest::Url;
use serde::Serialize;

use super::error::DeviceError;

/// What heads the files that harmony writes.
const HEADER: &str =
    "# Written by harmony; a change here is overwritten at the next provisioning.\n";

/// The NATS URLs as a guest of this machine has to write them: one whose host is this machine's
/// loopback names `gateway`, the guest's default gateway, instead. The rest stays.
///
/// With user networking (passt) the gateway's address leads to this machine's loopback. In a NAT
/// network it is the bridge's address, on which the server then has to listen. A `tls` server must
/// have that address in its certificate.
///
/// # Errors
/// When there is such a URL and no gateway.
pub fn guest_view_of_nats_urls(
    urls: &NatsUrls,
    gateway: Option<Ipv4Addr>,
) -> Result<NatsUrls, DeviceError> {
    let urls = urls.as_slice().iter();
    let urls: Vec<NatsUrl> = urls
        .map(|url| guest_view(url, gateway))
        .collect::<Result<_, _>>()?;
    NatsUrls::try_from(urls).map_err(|_| DeviceError::NatsUrl { url: String::new() })
}

fn guest_view(url: &NatsUrl, gateway: Option<Ipv4Addr>) -> Result<NatsUrl, DeviceError> {
    let invalid = || DeviceError::NatsUrl {
        url: url.to_string(),
    };
    let mut parsed = Url::parse(url.as_str()).map_err(|_| invalid())?;
    if !parsed.host_str().is_some_and(is_loopback) {
        return Ok(url.clone());
    }
    let gateway = gateway.ok_or_else(|| DeviceError::NoGateway {
        url: url.to_string(),
    })?;
    let host = gateway.to_string();
    parsed.set_host(Some(&host)).map_err(|_| invalid())?;
    parsed.as_str().parse().map_err(|_| invalid())
}

/// How a guest of this machine reaches NATS: its URLs are [`guest_view_of_nats_urls`], and plain text to its default
/// gateway is allowed, which is this machine.
///
/// # Errors
/// When a URL cannot be rewritten, or another one is plain text and not allowed.
pub(super) fn guest_view_of_nats(
    nats: &NatsConfig,
    gateway: Option<Ipv4Addr>,
) -> Result<NatsConfig, DeviceError> {
    let mut nats = nats.clone();
    nats.urls = guest_view_of_nats_urls(&nats.urls, gateway)?;
    let here = gateway.map(|gateway| gateway.to_string());
    let here = nats
        .plain_to_others()
        .filter(|url| here.as_deref() == Some(url.host()));
    let here = here.map(|url| url.host_and_port().parse());
    let here = here
        .collect::<Result<Vec<_>, _>>()
        .map_err(DeviceError::Nats)?;
    nats.allow_plaintext.extend(here);
    nats.check().map_err(DeviceError::Nats)?;
    Ok(nats)
}

/// Whether `URL`, `HOST[:PORT]` or `HOST[:PORT]/PATH` leads to the machine that resolves it.
pub fn names_loopback(address: &str) -> bool {
    let with_scheme = if address.contains("://") {
        address.to_owned()
    } else {
        format!("tcp://{address}")
    };
    let url = Url::parse(&with_scheme);
    url.is_ok_and(|url| url.host_str().is_some_and(is_loopback))
}

/// Whether a URL's host leads to the machine that resolves it; the unspecified address does, too.
fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches([']', '.']);
    match host.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(address) => address.is_loopback() || address.is_unspecified(),
        Err(_) => {
            let host = host.to_ascii_lowercase();
            host == "localhost" || host.ends_with(".localhost") || is_short_loopback(&host)
        }
    }
}

/// The forms of 127.0.0.0/8 with fewer than four parts, or hexadecimal ones, that resolvers take.
fn is_short_loopback(host: &str) -> bool {
    // The parser of web addresses knows them; it is asked for the full form.
    let full = Url::parse(&format!("http://{host}/"));
    full.ok()
        .and_then(|url| url.host_str().map(str::to_owned))
        .and_then(|host| host.parse::<Ipv4Addr>().ok())
        .is_some_and(|address| address.is_loopback() || address.is_unspecified())
}

/// The registries as a guest of this machine has to write them: `HOST:PORT` whose host is this
/// machine's loopback names `gateway` instead, as with [`guest_view_of_nats_urls`].
///
/// # Errors
/// When there is such a registry and no gateway, or a text is no registry.
pub fn guest_view_of_registries(
    registries: &[String],
    gateway: Option<Ipv4Addr>,
) -> Result<Vec<String>, DeviceError> {
    registries
        .iter()
        .map(|registry| {
            if !is_registry(registry) {
                return Err(DeviceError::Registry {
                    value: registry.clone(),
                });
            }
            if !names_loopback(registry) {
                return Ok(registry.clone());
            }
            let gateway = gateway.ok_or_else(|| DeviceError::NoGateway {
                url: registry.clone(),
            })?;
            // The host ends where the port or the path begins; an IPv6 address stands in brackets.
            let host_end = registry.find(']').map_or(0, |bracket| bracket + 1);
            let rest = &registry[host_end..];
            let rest = rest.find([':', '/']).map_or("", |at| &rest[at..]);
            Ok(format!("{gateway}{rest}"))
        })
        .collect()
}

/// The agent's configuration as its file has it: with credentials in it.
pub(super) fn agent_config(config: &AgentConfig) -> Result<Vec<u8>, DeviceError> {
    document("the agent's configuration", config)
}

/// `registries.conf(5)`.
#[derive(Serialize)]
struct Registries<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    registry: Vec<Registry<'a>>,
}

#[derive(Serialize)]
struct Registry<'a> {
    location: &'a str,
    insecure: bool,
}

/// The drop-in that lets containers be pulled over plain HTTP, or with any certificate, from these
/// registries and from no other.
pub(super) fn registries(insecure: &[String]) -> Result<Vec<u8>, DeviceError> {
    let registry = insecure.iter().map(|location| Registry {
        location,
        insecure: true,
    });
    let registries = Registries {
        registry: registry.collect(),
    };
    document("the registries", &registries)
}

fn is_registry(value: &str) -> bool {
    let byte = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:/[]".contains(&byte);
    let host = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'[';
    value.bytes().next().is_some_and(host) && !value.contains("//") && value.bytes().all(byte)
}

fn document(document: &'static str, value: &impl Serialize) -> Result<Vec<u8>, DeviceError> {
    let text =
        toml::to_string(value).map_err(|source| DeviceError::Document { document, source })?;
    Ok(format!("{HEADER}{text}").into_bytes())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use iot_contracts::{AgentConfig, NatsConfig, NatsUrl, NatsUrls};

    use super::{
        agent_config, guest_view_of_nats, guest_view_of_nats_urls, guest_view_of_registries,
        registries,
    };
    use crate::modules::iot::device::DeviceError;

    fn urls(urls: &[&str]) -> NatsUrls {
        let urls: Result<Vec<NatsUrl>, _> = urls.iter().map(|url| url.parse()).collect();
        NatsUrls::try_from(urls.expect("valid")).expect("not empty")
    }

    #[test]
    fn loopback_becomes_the_gateway_and_nothing_else_changes() {
        let gateway = Some(Ipv4Addr::new(10, 0, 2, 2));
        let table = [
            ("nats://127.0.0.1:4222", "nats://10.0.2.2:4222"),
            ("nats://127.255.0.9", "nats://10.0.2.2"),
            ("nats://localhost:14222", "nats://10.0.2.2:14222"),
            ("tls://LOCALHOST:1", "tls://10.0.2.2:1"),
            ("nats://nats.localhost", "nats://10.0.2.2"),
            ("nats://[::1]:4222", "nats://10.0.2.2:4222"),
            ("nats://[::ffff:127.0.0.1]:4222", "nats://10.0.2.2:4222"),
            ("nats://0.0.0.0:4222", "nats://10.0.2.2:4222"),
            ("nats://127.1:4222", "nats://10.0.2.2:4222"),
            ("nats://192.168.122.1:4222", "nats://192.168.122.1:4222"),
            ("nats://128.0.0.1", "nats://128.0.0.1"),
            ("tls://nats.example", "tls://nats.example"),
            (
                "nats://localhost.example:4222",
                "nats://localhost.example:4222",
            ),
            ("nats://[fe80::1]:4222", "nats://[fe80::1]:4222"),
        ];
        for (url, expected) in table {
            let got = guest_view_of_nats_urls(&urls(&[url]), gateway).expect(url);
            assert_eq!(got, urls(&[expected]), "{url}");
        }
        let both = urls(&["nats://nats.example", "nats://localhost"]);
        let got = guest_view_of_nats_urls(&both, gateway).expect("a gateway");
        assert_eq!(got, urls(&["nats://nats.example", "nats://10.0.2.2"]));
    }

    #[test]
    fn loopback_without_a_gateway_is_refused() {
        let far = urls(&["tls://nats.example"]);
        assert_eq!(guest_view_of_nats_urls(&far, None).expect("no need"), far);
        let near = urls(&["nats://nats.example", "nats://127.0.0.1:4222"]);
        let error = guest_view_of_nats_urls(&near, None).expect_err("no way");
        assert!(
            matches!(error, DeviceError::NoGateway { ref url } if url == "nats://127.0.0.1:4222"),
            "{error:?}"
        );
    }

    #[test]
    fn plain_text_to_the_gateway_is_allowed_and_to_nobody_else() {
        let gateway = Some(Ipv4Addr::new(10, 0, 2, 2));
        let table = [
            (
                "nats://127.0.0.1:14222",
                "allow_plaintext = [\"10.0.2.2:14222\"]",
            ),
            ("nats://10.0.2.2", "allow_plaintext = [\"10.0.2.2:4222\"]"),
            ("tls://127.0.0.1", "urls = [\"tls://10.0.2.2\"]\n"),
        ];
        for (url, expected) in table {
            let nats = NatsConfig::new(urls(&[url]));
            let seen = guest_view_of_nats(&nats, gateway).expect(url);
            let text = toml::to_string(&seen).expect("serialisable");
            assert!(text.contains(expected), "{url}: {text}");
            assert_eq!(text.contains("allow_plaintext"), url.starts_with("nats"));
            assert_eq!(toml::from_str::<NatsConfig>(&text).expect("valid"), seen);
        }
        let mut elsewhere = NatsConfig::new(urls(&["nats://10.0.2.3"]));
        let error = guest_view_of_nats(&elsewhere, gateway).expect_err("plain text");
        let told = "'nats://10.0.2.3' is plain text to another host";
        assert!(error.to_string().contains(told), "{error}");
        elsewhere.allow_plaintext = vec!["10.0.2.3".parse().expect("valid")];
        let seen = guest_view_of_nats(&elsewhere, gateway).expect("allowed");
        assert_eq!(seen, elsewhere);
    }

    #[test]
    fn the_agent_reads_what_is_written() {
        let text = "device_id = 'pi-1'\n[nats]\nurls = ['nats://10.0.2.2']\nallow_plaintext = ['10.0.2.2']\n\
                    [nats.credentials]\ntype = 'token'\ntoken = \"a'\\\"b\"\n";
        let config: AgentConfig = toml::from_str(text).expect("valid");
        let written = agent_config(&config).expect("serialisable");
        let written = String::from_utf8(written).expect("text");
        let read: AgentConfig = toml::from_str(&written).expect("round trip");
        assert_eq!(read, config);
    }

    #[test]
    fn registries_as_podman_reads_them() {
        let given = ["10.0.2.2:5000".to_owned(), "[fe80::1]/x".to_owned()];
        let written = String::from_utf8(registries(&given).expect("valid")).expect("text");
        let (header, body) = written.split_once('\n').expect("a header");
        assert!(header.starts_with("# "));
        assert_eq!(
            body,
            "[[registry]]\nlocation = \"10.0.2.2:5000\"\ninsecure = true\n\n\
             [[registry]]\nlocation = \"[fe80::1]/x\"\ninsecure = true\n"
        );
        let none = String::from_utf8(registries(&[]).expect("valid")).expect("text");
        assert_eq!(none, format!("{header}\n"));
        for value in ["", "http://x", "a b", "x\"", "-x", "a\nb"] {
            let error = guest_view_of_registries(&[value.to_owned()], None).expect_err(value);
            assert!(
                matches!(error, DeviceError::Registry { value: ref v } if v == value),
                "{error:?}"
            );
        }
    }

    #[test]
    fn a_loopback_registry_becomes_the_gateways() {
        let gateway = Some(Ipv4Addr::new(10, 0, 2, 2));
        let table = [
            ("127.0.0.1:5000", "10.0.2.2:5000"),
            ("localhost:5000/team", "10.0.2.2:5000/team"),
            ("localhost", "10.0.2.2"),
            ("[::1]:5000", "10.0.2.2:5000"),
            ("localhost.example.org:5000", "localhost.example.org:5000"),
            ("registry.example.org", "registry.example.org"),
            ("192.168.122.1:5000", "192.168.122.1:5000"),
        ];
        for (given, expected) in table {
            let seen = guest_view_of_registries(&[given.to_owned()], gateway);
            assert_eq!(seen.expect(given), [expected]);
        }
        let error = guest_view_of_registries(&["127.0.0.1:5000".to_owned()], None);
        assert!(
            matches!(error, Err(DeviceError::NoGateway { .. })),
            "{error:?}"
        );
    }
}
