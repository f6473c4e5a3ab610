//! What a host says of itself.

use std::net::Ipv4Addr;

use serde::Deserialize;

use super::error::LinuxError;
use super::shell::{Script, Shell};
use crate::domain::error::ExecutorError;
use crate::domain::topology::linux_host::LinuxFacts;

/// Prints machine, boot id and default routes, a line each; a host without routes may print no third line. The boot id is
/// the one in [`OWN_BOOT_ID`](iot_contracts::OWN_BOOT_ID) of a guest that was restored from a checkpoint, else the kernel's.
const FACTS: Script = Script {
    name: "read-facts",
    text: "set -eu
uname -m
own=/run/harmony-boot-id
if [ ! -r \"$own\" ]; then own=/proc/sys/kernel/random/boot_id; fi
read -r boot_id <\"$own\"
echo \"$boot_id\"
ip -4 -j route show default
",
};

pub(super) async fn read(host: &dyn Shell) -> Result<LinuxFacts, ExecutorError> {
    Ok(parse(&host.expect(&FACTS.command(&[]), &[]).await?)?)
}

fn parse(printed: &str) -> Result<LinuxFacts, LinuxError> {
    let unexpected = || LinuxError::UnexpectedOutput {
        command: FACTS.name,
        output: printed.chars().take(200).collect(),
        expected: "a machine, a boot id, and a JSON list of routes",
    };
    let (machine, rest) = printed.split_once('\n').ok_or_else(unexpected)?;
    let (boot_id, routes) = rest.split_once('\n').ok_or_else(unexpected)?;
    if machine.trim().is_empty() || boot_id.trim().is_empty() {
        return Err(unexpected());
    }
    Ok(LinuxFacts {
        machine: machine.trim().to_owned(),
        boot_id: boot_id.trim().to_owned(),
        default_gateway: default_gateway(routes).map_err(|_| unexpected())?,
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

    use super::{default_gateway, parse};
    use crate::modules::linux::LinuxError;

    #[test]
    fn a_restored_guests_boot_id_is_where_the_agent_reads_it() {
        let line = format!("\nown={}\n", iot_contracts::OWN_BOOT_ID);
        assert!(super::FACTS.text.contains(&line), "{}", super::FACTS.text);
    }

    #[test]
    fn facts_are_three_lines_the_last_of_which_may_be_missing() {
        let routes = r#"[{"dst":"default","gateway":"10.0.2.2","dev":"enp1s0"}]"#;
        let table = [
            (format!("aarch64\n1c4f\n{routes}\n"), Some("10.0.2.2")),
            ("aarch64\n1c4f\n".to_owned(), None),
            ("aarch64\n1c4f\n[ ]\n".to_owned(), None),
        ];
        for (printed, gateway) in table {
            let facts = parse(&printed).expect(&printed);
            assert_eq!((&*facts.machine, &*facts.boot_id), ("aarch64", "1c4f"));
            let gateway = gateway.map(|text| text.parse::<Ipv4Addr>().expect("an address"));
            assert_eq!(facts.default_gateway, gateway, "{printed}");
        }
        for printed in ["", "aarch64\n", "\n1c4f\n", "aarch64\n1c4f\nnone\n"] {
            let error = parse(printed).expect_err(printed);
            assert!(
                matches!(error, LinuxError::UnexpectedOutput { .. }),
                "{error:?}"
            );
        }
    }

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
