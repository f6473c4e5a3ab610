//! What a host says of itself.

use std::net::Ipv4Addr;

use serde::Deserialize;

use super::connection::SshLinuxHost;
use super::error::SshError;
use crate::domain::topology::linux_host::{HostCommand, LinuxFacts};

pub(super) async fn read(host: &SshLinuxHost) -> Result<LinuxFacts, SshError> {
    let machine = host
        .expect(&HostCommand::new("uname").arg("-m"), &[])
        .await?;
    let boot_id = HostCommand::new("cat").arg("/proc/sys/kernel/random/boot_id");
    let boot_id = host.expect(&boot_id, &[]).await?;
    let routes = HostCommand::new("ip").args(["-4", "-j", "route", "show", "default"]);
    let routes = host.expect(&routes, &[]).await?;
    Ok(LinuxFacts {
        machine: machine.trim().to_owned(),
        boot_id: boot_id.trim().to_owned(),
        default_gateway: default_gateway(&routes).map_err(|_| SshError::UnexpectedOutput {
            command: "ip -4 -j route show default",
            output: routes.chars().take(200).collect(),
            expected: "a JSON list of routes",
        })?,
    })
}

/// A route, as `ip -j route` prints it; one to an interface alone has no gateway.
#[derive(Deserialize)]
struct Route {
    gateway: Option<Ipv4Addr>,
    #[serde(default)]
    metric: u32,
}

/// The gateway of the default route that the kernel prefers. iproute2 prints nothing at all, or an
/// empty list, when there is none.
fn default_gateway(routes: &str) -> Result<Option<Ipv4Addr>, serde_json::Error> {
    if routes.trim().is_empty() {
        return Ok(None);
    }
    let routes: Vec<Route> = serde_json::from_str(routes)?;
    let with_gateway = routes.iter().filter(|route| route.gateway.is_some());
    Ok(with_gateway
        .min_by_key(|route| route.metric)
        .and_then(|route| route.gateway))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::default_gateway;

    #[test]
    fn the_gateway_is_that_of_the_preferred_default_route() {
        let table = [
            ("", None),
            ("[]", None),
            ("[ ]\n", None),
            (
                r#"[{"dst":"default","gateway":"10.0.2.2","dev":"enp1s0","protocol":"dhcp","prefsrc":"10.0.2.15","metric":100,"flags":[]}]"#,
                Some("10.0.2.2"),
            ),
            (
                r#"[{"dst":"default","gateway":"10.1.1.1","metric":600},{"dst":"default","gateway":"10.1.1.2","metric":100}]"#,
                Some("10.1.1.2"),
            ),
            (
                r#"[{"dst":"default","gateway":"10.1.1.1","metric":50},{"dst":"default","gateway":"10.1.1.2"}]"#,
                Some("10.1.1.2"),
            ),
            (
                r#"[{"dst":"default","dev":"wg0","scope":"link"},{"dst":"default","gateway":"10.1.1.3","metric":5}]"#,
                Some("10.1.1.3"),
            ),
            (
                r#"[{"dst":"default","via":{"family":"inet6","host":"fe80::1"}}]"#,
                None,
            ),
        ];
        for (routes, expected) in table {
            let expected = expected.map(|text| text.parse::<Ipv4Addr>().expect("an address"));
            assert_eq!(
                default_gateway(routes).expect("valid"),
                expected,
                "{routes}"
            );
        }
        for routes in ["default via 10.0.2.2", "{}", r#"[{"gateway":"fe80::1"}]"#] {
            assert!(default_gateway(routes).is_err(), "{routes}");
        }
    }
}
