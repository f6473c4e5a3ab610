//! The one adapter to libvirt: the only module that imports the `virt` crate, and the only one that
//! moves blocking calls off the runtime. Domains are passed as values, never as handles.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use harmony_base::blocking::blocking;
use harmony_base::process::Program;
use tracing::{debug, warn};
use virt::connect::Connect;
use virt::domain::{Domain, DomainState, DomainStateReason};
use virt::enumutil::Enum;
use virt::error::{Error, ErrorNumber};
use virt::sys;

use crate::domain::error::error_chain;
use crate::domain::topology::virtualization::{Accelerator, VmArchitecture, VmStatus};
use crate::modules::host::{DomainCapabilities, LibvirtFacts, LibvirtVersion};

use super::connection::ConnectionUri;
use super::error::{KvmError, LibvirtFault};
use super::record::NAMESPACE;
use super::types::MacAddress;
use super::xml::{LinkState, cards_with_link, domain_type};

/// An open connection. Cheap to clone; closed when the last clone is dropped.
#[derive(Clone)]
pub(super) struct Libvirt {
    connection: Connect,
}

/// A domain as libvirt describes it.
#[derive(Debug, Clone)]
pub(super) struct DomainView {
    pub(super) uuid: uuid::Uuid,
    pub(super) status: VmStatus,
    /// harmony's metadata element, when it has one.
    pub(super) metadata: Option<String>,
}

/// Where to ask for a guest's addresses.
#[derive(Debug, Clone, Copy)]
pub(super) enum AddressSource {
    /// The leases of libvirt's own DHCP server.
    Lease,
    /// The guest agent.
    Agent,
    /// The host's neighbour table.
    Arp,
}

impl From<Error> for LibvirtFault {
    fn from(error: Error) -> Self {
        Self {
            message: error.message().to_owned(),
            code: error.code().to_raw(),
        }
    }
}

/// What blocks here.
const CALL: &str = "call libvirt";

fn failed(action: &'static str, subject: &str) -> impl FnOnce(Error) -> KvmError + use<> {
    let subject = subject.to_owned();
    move |error| KvmError::Libvirt {
        action,
        subject,
        source: error.into(),
    }
}

impl Libvirt {
    /// Opens a connection.
    pub(super) async fn open(uri: ConnectionUri) -> Result<Self, KvmError> {
        // Errors are returned; libvirt's default handler would print them as well.
        virt::error::clear_error_callback();
        let connection = blocking(CALL, move || {
            Connect::open(Some(uri.as_str())).map_err(|error| KvmError::Connect {
                uri: uri.as_str().to_owned(),
                source: error.into(),
            })
        })
        .await??;
        Ok(Self { connection })
    }

    async fn with<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Connect) -> Result<T, KvmError> + Send + 'static,
    ) -> Result<T, KvmError> {
        let connection = self.connection.clone();
        blocking(CALL, move || call(&connection)).await?
    }

    async fn with_domain<T: Send + 'static>(
        &self,
        name: &str,
        call: impl FnOnce(&Domain) -> Result<T, KvmError> + Send + 'static,
    ) -> Result<T, KvmError> {
        let name = name.to_owned();
        self.with(move |connection| {
            let domain = lookup(connection, &name)?.ok_or(KvmError::NotFound { name })?;
            call(&domain)
        })
        .await
    }

    /// What libvirt says of itself, and of the guests that it can run with these emulators. `own` is the
    /// architecture of the host, whose guests may run under KVM.
    pub(super) async fn facts(
        &self,
        uri: ConnectionUri,
        pool: PathBuf,
        emulators: Vec<(VmArchitecture, PathBuf)>,
        own: Option<VmArchitecture>,
    ) -> Result<LibvirtFacts, KvmError> {
        self.with(move |connection| {
            let version = connection
                .lib_version()
                .map_err(failed("tell the version of", "libvirt"))?;
            let mut capabilities = Vec::new();
            for (guest, emulator) in &emulators {
                let accelerators = [Accelerator::Tcg, Accelerator::Kvm];
                let possible = accelerators
                    .into_iter()
                    .filter(|a| *a == Accelerator::Tcg || own == Some(*guest));
                for accelerator in possible {
                    capabilities.extend(capability(connection, *guest, accelerator, emulator));
                }
            }
            Ok(LibvirtFacts::Answers {
                uri: uri.to_string(),
                pool,
                version: LibvirtVersion::from_number(version),
                capabilities,
            })
        })
        .await
    }

    /// The domain of that name, if there is one.
    pub(super) async fn view(&self, name: &str) -> Result<Option<DomainView>, KvmError> {
        let name = name.to_owned();
        self.with(move |connection| {
            let Some(domain) = lookup(connection, &name)? else {
                return Ok(None);
            };
            let status = status(&domain).map_err(failed("read the state of", &name))?;
            let metadata = harmony_metadata(&domain, &name)?;
            let uuid = domain.uuid().map_err(failed("read the UUID of", &name))?;
            Ok(Some(DomainView {
                uuid,
                status,
                metadata,
            }))
        })
        .await
    }

    /// The metadata elements of all of harmony's domains.
    pub(super) async fn all_metadata(&self) -> Result<Vec<String>, KvmError> {
        self.with(|connection| {
            let domains = connection
                .list_all_domains(0)
                .map_err(failed("list", "domains"))?;
            // A domain that goes away between the two calls has nothing to say any more.
            Ok(domains
                .iter()
                .filter_map(|d| harmony_metadata(d, "").ok().flatten())
                .collect())
        })
        .await
    }

    pub(super) async fn define(&self, name: &str, xml: String) -> Result<(), KvmError> {
        let name = name.to_owned();
        self.with(move |connection| {
            connection
                .define_domain_xml_flags(&xml, sys::VIR_DOMAIN_DEFINE_VALIDATE)
                .map(|_| ())
                .map_err(failed("define", &name))
        })
        .await
    }

    /// Checks that libvirt takes a document and can tell QEMU what it says. Defines nothing.
    pub(super) async fn check_document(&self, name: &str, xml: String) -> Result<(), KvmError> {
        let action = failed("accept the definition of", name);
        self.with(move |connection| {
            let native = connection.domain_xml_to_native("qemu-argv", &xml, 0);
            native.map(drop).map_err(action)
        })
        .await
    }

    /// Makes a guest stand still.
    pub(super) async fn suspend(&self, name: &str) -> Result<(), KvmError> {
        let action = failed("suspend", name);
        self.with_domain(name, |domain| domain.suspend().map_err(action))
            .await
    }

    /// Lets a paused guest go on.
    pub(super) async fn resume(&self, name: &str) -> Result<(), KvmError> {
        let action = failed("resume", name);
        self.with_domain(name, |domain| domain.resume().map_err(action))
            .await
    }

    pub(super) async fn start(&self, name: &str) -> Result<(), KvmError> {
        let action = failed("start", name);
        self.with_domain(name, |domain| domain.create().map_err(action))
            .await
    }

    /// Cuts the power.
    pub(super) async fn power_off(&self, name: &str) -> Result<(), KvmError> {
        let action = failed("power off", name);
        self.with_domain(name, |domain| match domain.destroy() {
            // It went off by itself between the look and the call.
            Err(error) if error.code() == ErrorNumber::OperationInvalid.into() => Ok(()),
            other => other.map_err(action),
        })
        .await
    }

    /// Presses the power button.
    pub(super) async fn shut_down(&self, name: &str) -> Result<(), KvmError> {
        let action = failed("shut down", name);
        self.with_domain(name, |domain| domain.shutdown().map_err(action))
            .await
    }

    /// Plugs a device into the running domain.
    pub(super) async fn attach(&self, name: &str, xml: String) -> Result<(), KvmError> {
        let action = failed("plug a device into", name);
        self.with_domain(name, move |domain| {
            domain
                .attach_device_flags(&xml, sys::VIR_DOMAIN_AFFECT_LIVE)
                .map_err(action)
        })
        .await
    }

    /// Asks the running domain's guest to let go of a device.
    pub(super) async fn detach(&self, name: &str, xml: String) -> Result<(), KvmError> {
        let action = failed("unplug a device from", name);
        self.with_domain(name, move |domain| {
            domain
                .detach_device_flags(&xml, sys::VIR_DOMAIN_AFFECT_LIVE)
                .map_err(action)
        })
        .await
    }

    /// Asks the guest agent, and returns its answer. Both are JSON.
    pub(super) async fn guest_agent(
        &self,
        name: &str,
        request: String,
        timeout: Duration,
    ) -> Result<String, KvmError> {
        let action = failed("ask the guest agent of", name);
        let seconds = i32::try_from(timeout.as_secs()).unwrap_or(i32::MAX);
        self.with_domain(name, move |domain| {
            domain
                .qemu_agent_command(&request, seconds, 0)
                .map_err(action)
        })
        .await
    }

    /// Plugs the cables of all the running domain's network cards in, or out.
    pub(super) async fn set_links(&self, name: &str, state: LinkState) -> Result<(), KvmError> {
        let action = failed("change the links of", name);
        let owned = name.to_owned();
        self.with_domain(name, move |domain| {
            let live = domain
                .xml_desc(0)
                .map_err(failed("describe", owned.as_str()))?;
            let cards = cards_with_link(&live, state)?;
            cards
                .iter()
                .try_for_each(|xml| domain.update_device_flags(xml, sys::VIR_DOMAIN_AFFECT_LIVE))
                .map_err(action)
        })
        .await
    }

    /// Saves the running domain's memory to `file`, which ends the domain. The `virt` crate has no call for this;
    /// virsh does it over a connection of its own.
    pub(super) async fn save(
        &self,
        uri: ConnectionUri,
        name: &str,
        file: &Path,
    ) -> Result<(), KvmError> {
        Program::new("virsh")
            .args(["--connect", uri.as_str(), "save", "--image-format", "raw"])
            .args(["--domain", name, "--file"])
            .arg(file)
            .run()
            .await
            .map(drop)
            .map_err(KvmError::program("virsh", file))
    }

    /// Starts the domain that a memory image belongs to where it was saved.
    pub(super) async fn restore(&self, name: &str, file: &Path) -> Result<(), KvmError> {
        let action = failed("restore", name);
        let file = file.to_string_lossy().into_owned();
        self.with(move |connection| connection.restore_domain(&file).map_err(action))
            .await
    }

    /// The description of the domain as it runs.
    pub(super) async fn live_xml(&self, name: &str) -> Result<String, KvmError> {
        let action = failed("describe", name);
        self.with_domain(name, |domain| domain.xml_desc(0).map_err(action))
            .await
    }

    pub(super) async fn undefine(&self, name: &str) -> Result<(), KvmError> {
        let action = failed("undefine", name);
        self.with_domain(name, |domain| {
            // Without the NVRAM flag a domain with a variable store cannot be undefined.
            let flags = sys::VIR_DOMAIN_UNDEFINE_NVRAM
                | sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
                | sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
                | sys::VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA;
            domain.undefine_flags(flags).map_err(action)
        })
        .await
    }

    /// The IPv4 addresses of a guest's card with this MAC address; none while the source knows nothing.
    pub(super) async fn addresses(
        &self,
        name: &str,
        mac: MacAddress,
        source: AddressSource,
    ) -> Result<Vec<IpAddr>, KvmError> {
        let source = match source {
            AddressSource::Lease => sys::VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE,
            AddressSource::Agent => sys::VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT,
            AddressSource::Arp => sys::VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP,
        };
        let action = failed("read the addresses of", name);
        self.with_domain(name, move |domain| {
            let interfaces = match domain.interface_addresses(source, 0) {
                Ok(interfaces) => interfaces,
                Err(error) if error.code() == ErrorNumber::AgentUnresponsive.into() => Vec::new(),
                Err(error) => return Err(action(error)),
            };
            Ok(interfaces
                .into_iter()
                // A guest has addresses of its own besides, of its containers' bridges for example.
                .filter(|interface| {
                    let hwaddr = interface.hwaddr.as_deref().map(str::parse::<MacAddress>);
                    hwaddr.is_some_and(|address| address == Ok(mac))
                })
                .flat_map(|interface| interface.addrs)
                .filter_map(|address| address.addr.parse().ok())
                .filter(|ip: &IpAddr| ip.is_ipv4() && !ip.is_loopback())
                .collect())
        })
        .await
    }

    /// Checks that a libvirt network is there and active.
    pub(super) async fn check_network(&self, network: &str) -> Result<(), KvmError> {
        let network = network.to_owned();
        self.with(move |connection| {
            let problem = match connection.lookup_network_by_name(&network) {
                Ok(found) => match found.is_active() {
                    Ok(true) => return Ok(()),
                    Ok(false) => "not active",
                    Err(error) => return Err(failed("read the state of network", &network)(error)),
                },
                Err(error) if error.code() == ErrorNumber::NoNetwork.into() => "not defined",
                Err(error) => return Err(failed("look up network", &network)(error)),
            };
            Err(KvmError::Network { network, problem })
        })
        .await
    }
}

fn lookup(connection: &Connect, name: &str) -> Result<Option<Domain>, KvmError> {
    match connection.lookup_domain_by_name(name) {
        Ok(domain) => Ok(Some(domain)),
        Err(error) if error.code() == ErrorNumber::NoDomain.into() => Ok(None),
        Err(error) => Err(failed("look up", name)(error)),
    }
}

fn harmony_metadata(domain: &Domain, name: &str) -> Result<Option<String>, KvmError> {
    let kind = sys::VIR_DOMAIN_METADATA_ELEMENT as i32;
    match domain.metadata(kind, Some(NAMESPACE), 0) {
        Ok(xml) => Ok(Some(xml)),
        Err(error) if error.code() == ErrorNumber::NoDomainMetadata.into() => Ok(None),
        Err(error) => Err(failed("read the metadata of", name)(error)),
    }
}

fn status(domain: &Domain) -> Result<VmStatus, Error> {
    let (state, reason) = domain.state()?;
    let reason = match reason {
        Enum::Known(DomainStateReason::Paused(reason)) => format!("{reason:?}"),
        Enum::Known(DomainStateReason::Shutoff(reason)) => format!("{reason:?}"),
        Enum::Known(DomainStateReason::Crashed(reason)) => format!("{reason:?}"),
        other => format!("{other:?}"),
    };
    // The debug form of the binding's enum is `Known(Name)`.
    let reason = reason
        .trim_start_matches("Known(")
        .trim_end_matches(')')
        .to_owned();
    Ok(match state {
        Enum::Known(DomainState::Shutoff) if matches!(reason.as_str(), "Crashed" | "Failed") => {
            VmStatus::Crashed(reason)
        }
        Enum::Known(DomainState::Shutoff) => VmStatus::Off,
        Enum::Known(DomainState::Crashed) => VmStatus::Crashed(reason),
        Enum::Known(DomainState::Paused) if reason == "StartingUp" => VmStatus::Running,
        Enum::Known(DomainState::Paused | DomainState::PMSuspended) => VmStatus::Paused(reason),
        _ => VmStatus::Running,
    })
}

/// What libvirt says of guests of this kind, if it can run them.
fn capability(
    connection: &Connect,
    guest: VmArchitecture,
    accelerator: Accelerator,
    emulator: &Path,
) -> Option<DomainCapabilities> {
    let alias = match guest {
        VmArchitecture::X86_64 => "q35",
        VmArchitecture::Aarch64 => "virt",
    };
    let answer = connection.domain_capabilities(
        Some(&emulator.to_string_lossy()),
        Some(guest.as_str()),
        Some(alias),
        Some(domain_type(accelerator)),
        0,
    );
    match answer {
        Ok(xml) => DomainCapabilities::from_xml(&xml, guest, accelerator)
            .inspect_err(|error| {
                let error = error_chain(error);
                warn!(%guest, %accelerator, error, "libvirt's capabilities are not used");
            })
            .ok(),
        Err(error) => {
            debug!(%guest, %accelerator, reason = error.message(), "not offered");
            None
        }
    }
}
