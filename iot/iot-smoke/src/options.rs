//! What the programs that have the example make devices are told, and what they tell the example.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use clap::Args;
use harmony::domain::topology::virtualization::{VmArchitecture, VmNetwork};
use harmony::modules::kvm::connection::ConnectionUri;
use tokio::process::Command;

use crate::Failure;
use crate::server::NatsServer;
use crate::workload::{self, Built};

/// The options that all of them have.
#[derive(Debug, Clone, Args)]
// What the program is about is said by itself.
#[command(about = None, long_about = None)]
pub struct DeviceOptions {
    /// What is emulated: x86_64 or aarch64
    #[arg(long, default_value = "aarch64", value_name = "ARCH")]
    pub arch: VmArchitecture,

    /// The device's name; of several, the beginning of each
    #[arg(long)]
    pub name: String,

    /// The example_iot_vm_setup that brings devices up
    #[arg(long, value_name = "FILE")]
    pub example: PathBuf,

    /// qemu:///system or qemu:///session
    #[arg(long, value_name = "URI")]
    pub connect: Option<ConnectionUri>,

    /// user, nat, nat:NETWORK or bridge:NAME
    #[arg(long, default_value = "user")]
    pub network: VmNetwork,

    /// The address on which servers for the devices listen. With user networking a guest reaches this host's loopback; on
    /// a NAT network it must be the bridge's address
    #[arg(long, default_value = "127.0.0.1")]
    pub listen: Ipv4Addr,

    /// The agent, instead of building it
    #[arg(long, value_name = "FILE", requires = "workload_binary")]
    pub agent_binary: Option<PathBuf>,

    /// The containers' program, instead of building it
    #[arg(long, value_name = "FILE", requires = "agent_binary")]
    pub workload_binary: Option<PathBuf>,
}

impl DeviceOptions {
    /// The agent and the containers' program: those that are given, or built now.
    ///
    /// # Errors
    /// When they cannot be built.
    pub async fn programs(&self) -> Result<Built, Failure> {
        match (&self.agent_binary, &self.workload_binary) {
            (Some(agent), Some(workload)) => Ok(Built {
                agent: agent.clone(),
                workload: workload.clone(),
            }),
            _ => workload::build(self.arch).await,
        }
    }

    /// The example's command for such devices.
    pub fn example(&self) -> Command {
        let mut command = Command::new(&self.example);
        command
            .args(["--arch", self.arch.as_str(), "--name", &self.name])
            .args(["--network", &self.network.to_string()]);
        if let Some(uri) = &self.connect {
            command.args(["--connect", uri.as_str()]);
        }
        command
    }
}

/// What devices are told of their surroundings.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The agent that they run.
    pub agent: PathBuf,
    /// The directory of the NATS server's devices.
    pub nats_registry: PathBuf,
    /// That server's URL.
    pub nats_url: String,
    /// The address of a registry without TLS.
    pub registry_address: String,
}

impl Surroundings {
    /// That of devices with this agent.
    pub fn new(agent: PathBuf, nats: &NatsServer, registry_address: String) -> Self {
        Self {
            agent,
            nats_registry: nats.registry.clone(),
            nats_url: nats.url.clone(),
            registry_address,
        }
    }

    /// Tells the example.
    pub fn tell(&self, example: &mut Command) {
        example
            .args(["--nats-url", &self.nats_url])
            .arg("--nats-registry")
            .arg(&self.nats_registry)
            .arg("--agent-binary")
            .arg(&self.agent)
            .args(["--insecure-registry", &self.registry_address]);
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use clap::{CommandFactory, Parser};

    use super::{DeviceOptions, Surroundings};

    /// Does what it says.
    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        device: DeviceOptions,
    }

    const NEEDED: [&str; 5] = ["program", "--name", "a", "--example", "/example"];

    #[test]
    fn a_programs_own_words_say_what_it_is_about() {
        let about = Program::command().get_about().map(ToString::to_string);
        assert_eq!(about.as_deref(), Some("Does what it says"));
        Program::command().debug_assert();
    }

    #[test]
    fn the_programs_for_devices_come_together_or_are_built() {
        let given = ["--agent-binary", "/agent", "--workload-binary", "/workload"];
        for (more, expected) in [
            (&[][..], true),
            (&given, true),
            (&given[..2], false),
            (&given[2..], false),
        ] {
            let parsed = Program::try_parse_from(NEEDED.iter().chain(more));
            assert_eq!(parsed.is_ok(), expected, "{more:?}");
        }
    }

    #[test]
    fn the_example_is_told_what_was_given() {
        let more = [
            "--arch",
            "x86_64",
            "--connect",
            "qemu:///session",
            "--network",
            "nat",
        ];
        let program = Program::parse_from(NEEDED.into_iter().chain(more));
        let mut command = program.device.example();
        let surroundings = Surroundings {
            agent: "/agent".into(),
            nats_registry: "/nats".into(),
            nats_url: "tls://127.0.0.1:1".to_owned(),
            registry_address: "127.0.0.1:2".to_owned(),
        };
        surroundings.tell(&mut command);
        let expected = "--arch x86_64 --name a --network nat:default --connect qemu:///session --nats-url tls://127.0.0.1:1 \
            --nats-registry /nats --agent-binary /agent --insecure-registry 127.0.0.1:2";
        let told: Vec<_> = command
            .as_std()
            .get_args()
            .filter_map(OsStr::to_str)
            .collect();
        assert_eq!(told.join(" "), expected);
        assert_eq!(command.as_std().get_program(), "/example");
    }
}
