//! Where this host gets its packages from, as a guest of it has to say it.

use reqwest::Url;

use super::script::{CODENAME, GATEWAY, Mirrors};
use crate::modules::image::debian::suite::Distribution;
use crate::modules::image::tool::{HostProgram, tool};

/// The mirrors and the proxy that this host's own configuration names.
pub(super) async fn host_mirrors() -> Mirrors {
    let mut sources = Vec::new();
    for distribution in [Distribution::Debian, Distribution::Ubuntu] {
        let lines = distribution.host_sources(CODENAME).await;
        if !lines.is_empty() {
            sources.push((distribution.id(), format!("{}\n", lines.join("\n"))));
        }
    }
    Mirrors {
        sources,
        proxy: host_proxy().await.as_deref().and_then(guest_view),
    }
}

/// What `apt` is told, or else what the environment says.
async fn host_proxy() -> Option<String> {
    let apt_config = HostProgram {
        program: "apt-config",
        debian_package: "apt",
    };
    let mut said = String::new();
    if apt_config.is_installed() {
        let dump = tool("apt-config")
            .args(["dump", "--no-empty", "--format", "%v%n"])
            .arg("Acquire::http::Proxy")
            .run();
        match dump.await {
            Ok(text) => said = text,
            Err(error) => tracing::warn!(%error, "cannot read the proxy that apt uses"),
        }
    }
    let first = said.lines().next().map(str::to_owned);
    first
        .or_else(|| std::env::var("http_proxy").ok())
        .filter(|proxy| !proxy.is_empty() && proxy != "DIRECT")
}

/// The proxy as the guest reaches it: this host's loopback is at its gateway. One that needs a password is
/// not passed on, for the VM's record is no place for it.
fn guest_view(proxy: &str) -> Option<String> {
    let url = Url::parse(proxy).ok()?;
    if !url.username().is_empty() || url.password().is_some() {
        tracing::warn!("the proxy needs a password: the guest is built without it");
        return None;
    }
    let host = url.host_str()?;
    let is_loopback = host == "localhost" || host.starts_with("127.") || host == "[::1]";
    let host = if is_loopback { GATEWAY } else { host };
    let port = url
        .port()
        .map(|port| format!(":{port}"))
        .unwrap_or_default();
    Some(format!("{}://{host}{port}/", url.scheme()))
}

#[cfg(test)]
mod tests {
    use super::guest_view;

    #[test]
    fn a_loopback_proxy_is_at_the_gateway_and_secrets_stay_here() {
        let table = [
            ("http://127.0.0.1:3128", Some("http://@gateway@:3128/")),
            ("http://localhost:3142/", Some("http://@gateway@:3142/")),
            ("http://[::1]:1/", Some("http://@gateway@:1/")),
            (
                "http://proxy.example:8080",
                Some("http://proxy.example:8080/"),
            ),
            ("http://me:secret@proxy.example:8080", None),
            ("DIRECT", None),
            ("", None),
        ];
        for (proxy, expected) in table {
            assert_eq!(guest_view(proxy).as_deref(), expected, "{proxy}");
        }
    }
}
