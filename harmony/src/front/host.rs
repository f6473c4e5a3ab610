//! The host that programs run on, with its virtual machines.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::builder::VmBuilder;
use super::claims::Claims;
use super::vm::Vm;
use super::{Error, Result};
use crate::domain::topology::Topology;
use crate::domain::topology::virtualization::VirtualMachineSpec;
use crate::modules::host::HostFacts;
use crate::modules::iot::assets;
use crate::modules::kvm::connection::ConnectionUri;
use crate::modules::kvm::topology::KvmVirtualMachineHost;
use crate::modules::ssh::{SshKeyPair, ensure_key_pair};

/// A host with libvirt. A clone is the same host.
///
/// ```no_run
/// use harmony::prelude::*;
///
/// # async fn program() -> harmony::Result<()> {
/// let host = Host::local().await?;
/// let vm = host.vm("edge-01").arch(Aarch64).ephemeral().start().await?;
/// let kernel = vm.login().await?.run("uname", ["-r"]).await?;
/// assert!(kernel.success());
/// vm.close().await
/// # }
/// ```
#[derive(Clone)]
pub struct Host {
    machines: Arc<KvmVirtualMachineHost>,
    data_dir: PathBuf,
}

impl Host {
    /// This host: the connection that [`ConnectionUri::choose`] chooses, and the user's
    /// [data directory](assets::data_dir). Connects, and reads what the host is and has.
    ///
    /// # Errors
    /// No data directory can be told, `LIBVIRT_DEFAULT_URI` names a connection that is not supported, or libvirt does
    /// not answer.
    pub async fn local() -> Result<Self> {
        let data_dir = assets::data_dir()?;
        let uri = ConnectionUri::choose(None).await?;
        let host = Self::new(uri, data_dir);
        host.machines.ensure_ready().await?;
        host.facts().await;
        Ok(host)
    }

    /// This host through that connection, with keys, images and states below `data_dir`. Nothing is opened yet.
    pub fn new(uri: ConnectionUri, data_dir: impl Into<PathBuf>) -> Self {
        let data_dir = data_dir.into();
        let machines = Arc::new(KvmVirtualMachineHost::new(uri, &data_dir));
        Self { machines, data_dir }
    }

    /// What this host is and has.
    pub async fn facts(&self) -> &HostFacts {
        self.machines.facts().await
    }

    /// A virtual machine of that name, to be described and started.
    pub fn vm(&self, name: impl Into<String>) -> VmBuilder {
        self.vm_from(VirtualMachineSpec {
            name: name.into(),
            ..VirtualMachineSpec::default()
        })
    }

    /// A virtual machine as that spec says, to be started. It needs neither an image nor a first boot: see
    /// [`VmBuilder::start`].
    pub fn vm_from(&self, spec: VirtualMachineSpec) -> VmBuilder {
        VmBuilder::new(self.clone(), spec)
    }

    /// The virtual machine of that name, when there is one of harmony's. It is no ephemeral one for this program.
    ///
    /// # Errors
    /// A name that is none, or that is taken by somebody else's VM.
    pub async fn find(&self, name: &str) -> Result<Option<Vm>> {
        let Some(spec) = self.machines.recorded_spec(name).await? else {
            return Ok(None);
        };
        let machines = Arc::clone(&self.machines);
        Ok(Some(Vm::new(machines, spec, self.keys()?, None)))
    }

    /// Removes the ephemeral VMs of programs that are gone, and returns their names. Starting a VM does it, too.
    ///
    /// # Errors
    /// When the claims cannot be read. What cannot be removed is left with a warning.
    pub async fn sweep(&self) -> Result<Vec<String>> {
        self.claims().sweep(&*self.machines).await
    }

    /// The whole capability, by names: checkpoints, previews, lists, and all the rest.
    pub fn machines(&self) -> &KvmVirtualMachineHost {
        &self.machines
    }

    /// The directory with keys, images and states.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    pub(super) fn shared(&self) -> Arc<KvmVirtualMachineHost> {
        Arc::clone(&self.machines)
    }

    pub(super) fn images_dir(&self) -> PathBuf {
        self.data_dir.join("images")
    }

    /// The key pair that guests let in; made when it is not there.
    pub(super) fn keys(&self) -> Result<SshKeyPair, Error> {
        Ok(ensure_key_pair(&self.data_dir.join("keys"), "id_ed25519")?)
    }

    pub(super) fn claims(&self) -> Claims {
        let scope = self.machines.uri().scope();
        Claims::new(self.data_dir.join("ephemeral").join(scope))
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("uri", &self.machines.uri())
            .field("data_dir", &self.data_dir)
            .finish_non_exhaustive()
    }
}
