//! The command line.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Parser;
use harmony::domain::topology::virtualization::{
    AcceleratorChoice, CpuProfile, FirmwareChoice, VmArchitecture, VmNetwork,
};
use harmony::modules::image::ImageSource;
use harmony::modules::image_in_guest::BuilderChoice;
use harmony::modules::kvm::connection::ConnectionUri;
use iot_contracts::{ContractError, DeploymentName, HostPort, NatsUrl, NatsUrls, ReleaseUrl};

use crate::deployments::DeployArg;
use crate::image::RecipeArg;

/// Brings up one virtual IoT device: preflight, image, VM, agent, heartbeat.
///
/// The device is an arm64 (or x86_64) guest on this host. It boots a cloud image through UEFI (arm64)
/// or BIOS (x86_64), or goes on from a checkpoint, gets the agent, joins NATS and reports. Running it again
/// changes nothing.
#[derive(Debug, Parser)]
#[command(name = "example_iot_vm_setup", version, max_term_width = 100)]
pub(crate) struct Args {
    /// The device's architecture: x86_64 or aarch64
    #[arg(long, default_value = "x86_64", value_name = "ARCH")]
    pub(crate) arch: VmArchitecture,

    /// The VM's name; the device id is the same in lower case [default: iot-ARCH]
    #[arg(long)]
    pub(crate) name: Option<String>,

    /// Virtual CPUs
    #[arg(long, default_value_t = 2)]
    pub(crate) vcpus: u32,

    /// Memory in MiB
    #[arg(long, default_value_t = 1024)]
    pub(crate) memory_mib: u64,

    /// Allow more memory than this host has
    #[arg(long)]
    pub(crate) memory_overcommit: bool,

    /// The disk's size in GiB
    #[arg(long, default_value_t = 8)]
    pub(crate) disk_gib: u64,

    /// libvirt: qemu:///system or qemu:///session [default: LIBVIRT_DEFAULT_URI, else the system's
    /// where it answers and its pool can be written, else the session]
    #[arg(long, value_name = "URI")]
    pub(crate) connect: Option<ConnectionUri>,

    /// auto (KVM where it is proven to work), kvm or tcg
    #[arg(long, default_value = "auto")]
    pub(crate) accel: AcceleratorChoice,

    /// fastest, raspberry-pi-5, max, host (needs KVM) or a model's name
    #[arg(long, default_value = "fastest", value_name = "PROFILE")]
    pub(crate) cpu: CpuProfile,

    /// auto (UEFI for aarch64, BIOS for x86_64), bios or uefi
    #[arg(long, default_value = "auto")]
    pub(crate) firmware: FirmwareChoice,

    /// A versioned machine type, for example virt-9.2 [default: the newest that QEMU has]
    #[arg(long, value_name = "TYPE")]
    pub(crate) machine: Option<String>,

    /// user, nat, nat:NETWORK or bridge:NAME; user (passt) needs no root, and takes ports to forward:
    /// user:HOSTPORT:GUESTPORT,HOSTPORT:GUESTPORT/udp. May be repeated; the device is reached through the first
    #[arg(long, default_value = "user")]
    pub(crate) network: Vec<VmNetwork>,

    /// What the device's image is made from: a recipe in a TOML file, or none for a plain image, with the
    /// packages installed over SSH [default: the built-in recipe of an edge device]
    #[arg(long, value_name = "FILE|none")]
    pub(crate) recipe: Option<RecipeArg>,

    /// A profile of the recipe, or none [default: slow-guest where the device is emulated and the recipe has it]
    #[arg(long)]
    pub(crate) profile: Option<String>,

    /// How the recipe's image is built when it is not there yet: guest, packages, or auto (in a guest where the
    /// recipe's base can be had, else from packages)
    #[arg(long, default_value = "auto")]
    pub(crate) builder: BuilderChoice,

    /// A plain image instead of a recipe's: auto, ubuntu-24.04, debian-12, debian-13, a PATH, or
    /// URL#sha256=DIGEST
    #[arg(long)]
    pub(crate) image: Option<ImageSource>,

    /// A NATS server with JetStream, as this host sees it, by tls:// or in plain text by nats://; a loopback
    /// address is given to the guest as its gateway's. May be repeated [default: nats://127.0.0.1:4222, with
    /// --nats-registry tls://127.0.0.1:4222]
    #[arg(long, value_name = "URL")]
    nats_url: Vec<NatsUrl>,

    /// A file with the certificates of the authority (PEM) that tls:// servers are believed by; each device gets them
    /// [default: the registry's own with --nats-registry, else those of the system]
    #[arg(long, value_name = "FILE")]
    pub(crate) nats_ca: Option<PathBuf>,

    /// A NATS server on another host, HOST or HOST:PORT as its URL has it, that may be spoken to in plain text. May be
    /// repeated
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) nats_allow_plaintext: Vec<HostPort>,

    /// A directory with the devices that the server knows, each by a key of its own that never leaves it. The server's
    /// configuration is a file in DIR with what --init-registry prints; new devices are added by a reload. With tls:// the
    /// server shows a certificate of the directory's own authority, which every device gets
    #[arg(long, value_name = "DIR", conflicts_with_all = ["nats_credentials", "device_credentials", "nats_account"])]
    pub(crate) nats_registry: Option<PathBuf>,

    /// Make what the server needs to start in the directory of --nats-registry, print what its configuration has to
    /// have, and do nothing else
    #[arg(long, requires = "nats_registry")]
    pub(crate) init_registry: bool,

    /// A TOML file with what this program authenticates with: type = "user-password", username, password;
    /// or type = "token", token; or type = "creds-file", path. No device gets it
    #[arg(long, value_name = "FILE")]
    pub(crate) nats_credentials: Option<PathBuf>,

    /// A TOML file of the same form with what the devices authenticate with, all of them alike
    #[arg(long, value_name = "FILE", conflicts_with = "nats_account")]
    pub(crate) device_credentials: Option<PathBuf>,

    /// The account of the devices, by its public key, where NATS is run with an operator: each device gets a key of its
    /// own and a token for it
    #[arg(long, value_name = "KEY", requires = "nats_signing_key")]
    pub(crate) nats_account: Option<String>,

    /// A file with the seed of a signing key of that account, whose scope has the permissions of devices
    #[arg(long, value_name = "FILE", requires = "nats_account")]
    pub(crate) nats_signing_key: Option<PathBuf>,

    /// The agent for the device's architecture [default: where iot/scripts/build-agent.sh puts it]
    #[arg(long, value_name = "FILE")]
    pub(crate) agent_binary: Option<PathBuf>,

    /// A registry, HOST:PORT as the guest sees it, that the device may pull from without TLS; a loopback
    /// address becomes the gateway's. May be repeated
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) insecure_registry: Vec<String>,

    /// A file with the operator's key (an operator's seed, mode 0600), which is made where it is not there: the device
    /// obeys what is signed with it, and --deploy and --undeploy sign with it
    #[arg(long, value_name = "FILE")]
    pub(crate) operator_key: Option<PathBuf>,

    /// Have the device run the score in a JSON file, under that name, and wait until it does. May be repeated
    #[arg(long, value_name = "NAME=FILE")]
    pub(crate) deploy: Vec<DeployArg>,

    /// Have the device no longer run the deployment of that name, and wait until it does not. May be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) undeploy: Vec<DeploymentName>,

    /// A file with the key of who releases the agent (an operator's seed, mode 0600), which is made where it is not there:
    /// the device takes updates of its agent that are signed with it, and --release signs with it
    #[arg(long, value_name = "FILE")]
    pub(crate) release_key: Option<PathBuf>,

    /// A file with the certificates of the authority (PEM) that the servers of releases are believed by; each device gets
    /// them [default: those of the system]
    #[arg(long, value_name = "FILE", requires = "release_key")]
    pub(crate) release_ca: Option<PathBuf>,

    /// Have the device that is there update its agent to the program of --agent-binary, which is served at URL, wait until
    /// it runs that, and do nothing else. With --count: NAME-1 to NAME-N, one after the other, until one does not
    #[arg(long, value_name = "URL", requires = "release_key", conflicts_with_all = ["release_ca", "operator_key", "deploy",
        "undeploy", "at_once", "warm", "cold", "reset", "replace", "dry_run", "print_facts", "reset_nvram", "preflight",
        "inspect", "image_only", "init_registry", "destroy"])]
    pub(crate) release: Option<ReleaseUrl>,

    /// Make N devices, NAME-1 to NAME-N, as many at a time as this host has cores; with --destroy: remove them
    #[arg(long, value_name = "N", conflicts_with_all = ["dry_run", "preflight", "print_facts", "reset_nvram", "inspect"])]
    pub(crate) count: Option<NonZeroUsize>,

    /// With --count: how many are made at a time
    #[arg(long, value_name = "N", requires = "count")]
    pub(crate) at_once: Option<NonZeroUsize>,

    /// Let a new device go on from a checkpoint instead of booting; the checkpoint is made when there is none
    /// [default: where the device is an emulated arm64 one]
    #[arg(long, conflicts_with = "cold")]
    pub(crate) warm: bool,

    /// Boot a new device
    #[arg(long)]
    pub(crate) cold: bool,

    /// Put a device that is there back to the checkpoint that it was made from, and set it up again; what it wrote
    /// is lost
    #[arg(long, conflicts_with_all = ["replace", "destroy", "dry_run", "preflight", "print_facts", "reset_nvram", "inspect"])]
    pub(crate) reset: bool,

    /// Replace a VM of that name that differs; its disk is lost
    #[arg(long)]
    pub(crate) replace: bool,

    /// Print the domain XML and touch nothing
    #[arg(long, conflicts_with_all = ["preflight", "destroy"])]
    pub(crate) dry_run: bool,

    /// With --dry-run: print every knob with its value and its reason as well
    #[arg(long, requires = "dry_run")]
    pub(crate) explain: bool,

    /// With --dry-run: the facts of another host, as --print-facts wrote them there
    #[arg(long, requires = "dry_run", value_name = "FILE")]
    pub(crate) facts: Option<PathBuf>,

    /// Print what this host is and has (with --json as --facts reads it), and touch nothing
    #[arg(long, conflicts_with_all = ["preflight", "destroy", "dry_run"])]
    pub(crate) print_facts: bool,

    /// Give the device, which must be off, this host's firmware and a fresh UEFI variable store first
    #[arg(long, conflicts_with_all = ["preflight", "destroy", "dry_run", "print_facts"])]
    pub(crate) reset_nvram: bool,

    /// Print whether this host can run the device, and touch nothing
    #[arg(long, conflicts_with = "destroy")]
    pub(crate) preflight: bool,

    /// Print what an image has, and whether a guest of --arch and --firmware can start from it: exit code
    /// 1 when it does not conform. Touches nothing
    #[arg(long, value_name = "IMAGE", conflicts_with_all = ["preflight", "destroy", "dry_run", "print_facts", "reset_nvram"])]
    pub(crate) inspect: Option<PathBuf>,

    /// Fetch or build the device's image, print where it is, and make no device
    #[arg(long, conflicts_with_all = ["preflight", "destroy", "dry_run", "print_facts", "reset_nvram", "inspect", "reset"])]
    pub(crate) image_only: bool,

    /// Power the VM off and remove everything that was made for it
    #[arg(long)]
    pub(crate) destroy: bool,

    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl Args {
    /// The VM's name.
    pub(crate) fn vm_name(&self) -> String {
        self.name
            .clone()
            .unwrap_or_else(|| format!("iot-{}", self.arch.as_str().replace('_', "-")))
    }

    /// The NATS servers.
    pub(crate) fn nats_urls(&self) -> Result<NatsUrls, ContractError> {
        if !self.nats_url.is_empty() {
            return NatsUrls::try_from(self.nats_url.clone());
        }
        let default = match self.nats_registry {
            Some(_) => "tls://127.0.0.1:4222",
            None => "nats://127.0.0.1:4222",
        };
        default.parse::<NatsUrl>().map(NatsUrls::from)
    }

    /// The names of all VMs that are asked for.
    pub(crate) fn vm_names(&self) -> Vec<String> {
        let name = self.vm_name();
        match self.count {
            None => vec![name],
            Some(count) => (1..=count.get()).map(|n| format!("{name}-{n}")).collect(),
        }
    }
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
