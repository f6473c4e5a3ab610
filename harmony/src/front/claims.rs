//! The claims of programs on ephemeral VMs: one small file for each.
//!
//! ```text
//! take -> claim of this program --release--> released --remove--> VM and claim gone
//!            |
//!            | killed
//!            v
//!         claim of a program that is gone --sweep, by whoever starts a VM next--> VM and claim gone
//! ```
//! A claim is written before its VM is made and removed after the VM is. It has the machine's UUID, so that a machine
//! that has taken the name since is left alone. Whoever judges claims holds the directory's lock until what was judged
//! is done.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind as IoErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};
use uuid::Uuid;

use super::Error;
use super::owner::{Owner, Presence};
use super::problem::VmError;
use crate::domain::error::{ErrorKind, ExecutorError};
use crate::domain::topology::virtualization::{VirtualMachineHost, VmStatus};
use crate::modules::kvm::VmName;

/// How long the lock is waited for; removing a VM takes about a second.
const LOCK_BOUND: Duration = Duration::from_secs(60);

/// How often the lock is tried.
const LOCK_INTERVAL: Duration = Duration::from_millis(50);

/// The directory with the claims of one connection.
#[derive(Debug, Clone)]
pub(super) struct Claims {
    dir: PathBuf,
}

/// A claim, as its file has it. Fields that it does not know are another version's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Claim {
    owner: Owner,
    /// The machine that is claimed.
    uuid: Uuid,
    /// Whether the program has given it up, although it may run still.
    #[serde(default)]
    released: bool,
}

impl Claim {
    /// Why nobody needs the VM any more; none while its program does.
    fn abandoned(&self, here: &Owner) -> Option<&'static str> {
        if self.released {
            return Some("its program has given it up");
        }
        match self.owner.presence(here) {
            Ok(Presence::Gone(reason)) => Some(reason),
            Ok(Presence::Runs | Presence::OutOfSight) => None,
            Err(error) => {
                let pid = self.owner.pid;
                warn!(pid, %error, "cannot tell whether a program runs; leaving its VM");
                None
            }
        }
    }
}

impl Claims {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Removes the VMs of programs that are gone, and returns their names. One that cannot be removed is left for the
    /// next time, with a warning.
    pub(super) async fn sweep(
        &self,
        machines: &dyn VirtualMachineHost,
    ) -> Result<Vec<String>, Error> {
        let _lock = self.lock().await?;
        self.sweep_locked(machines).await
    }

    /// Sweeps, and claims the VM of that name and UUID for this program.
    pub(super) async fn take(
        &self,
        machines: &dyn VirtualMachineHost,
        name: &VmName,
        uuid: Uuid,
    ) -> Result<(), Error> {
        let _lock = self.lock().await?;
        self.sweep_locked(machines).await?;
        self.check_free(machines, name).await?;
        if machines.vm_status(name.as_str()).await? != VmStatus::Absent {
            let name = name.to_string();
            return Err(VmError::Exists { name }.into());
        }
        let owner = this_program()?;
        let claim = Claim {
            owner,
            uuid,
            released: false,
        };
        Ok(self.write(name, &claim)?)
    }

    /// Sweeps, for a VM of that name that is not ephemeral.
    pub(super) async fn make_room(
        &self,
        machines: &dyn VirtualMachineHost,
        name: &VmName,
    ) -> Result<(), Error> {
        let _lock = self.lock().await?;
        self.sweep_locked(machines).await?;
        self.check_free(machines, name).await
    }

    /// Notes that this program does not need the VM any more: from then on anybody may remove it.
    pub(super) fn release(&self, name: &VmName) -> Result<(), VmError> {
        let Some(claim) = self.read(name)? else {
            return Ok(());
        };
        let released = Claim {
            released: true,
            ..claim
        };
        self.write(name, &released)
    }

    /// Removes a claimed VM, and the claim after it.
    pub(super) async fn remove(
        &self,
        machines: &dyn VirtualMachineHost,
        name: &VmName,
    ) -> Result<(), Error> {
        let _lock = self.lock().await?;
        match self.read(name)? {
            Some(claim) => self.remove_locked(machines, name, &claim).await,
            None => Ok(()),
        }
    }

    async fn sweep_locked(&self, machines: &dyn VirtualMachineHost) -> Result<Vec<String>, Error> {
        let here = this_program()?;
        let mut swept = Vec::new();
        for name in self.names()? {
            let claim = match self.read(&name) {
                Ok(Some(claim)) => claim,
                Ok(None) => continue,
                Err(error) => {
                    warn!(vm = %name, %error, "a claim is not understood, and left");
                    continue;
                }
            };
            let Some(reason) = claim.abandoned(&here) else {
                continue;
            };
            match self.remove_locked(machines, &name, &claim).await {
                Ok(()) => {
                    info!(vm = %name, reason, "swept an ephemeral virtual machine");
                    swept.push(name.to_string());
                }
                Err(error) => warn!(vm = %name, %error, "could not be swept, and is left"),
            }
        }
        Ok(swept)
    }

    /// Nobody has a claim on the name. One that could not be swept is tried once more, for its error.
    async fn check_free(
        &self,
        machines: &dyn VirtualMachineHost,
        name: &VmName,
    ) -> Result<(), Error> {
        let Some(claim) = self.read(name)? else {
            return Ok(());
        };
        if claim.abandoned(&this_program()?).is_some() {
            return self.remove_locked(machines, name, &claim).await;
        }
        let (name, pid) = (name.to_string(), claim.owner.pid);
        Err(VmError::InUse { name, pid }.into())
    }

    async fn remove_locked(
        &self,
        machines: &dyn VirtualMachineHost,
        name: &VmName,
        claim: &Claim,
    ) -> Result<(), Error> {
        let vm = name.as_str();
        if is_claimed(machines, vm, claim.uuid).await? {
            machines.destroy_vm(vm).await?;
        } else {
            info!(%vm, "another machine has taken the name of an ephemeral one, and stays");
        }
        let file = self.file(name);
        fs::remove_file(&file).map_err(VmError::io("remove", &file))?;
        Ok(())
    }

    /// The names that are claimed.
    fn names(&self) -> Result<Vec<VmName>, VmError> {
        let listing = fs::read_dir(&self.dir).map_err(VmError::io("list", &self.dir))?;
        let mut names = Vec::new();
        for entry in listing {
            let path = entry.map_err(VmError::io("list", &self.dir))?.path();
            if path.extension().is_some_and(|end| end == "json")
                && let Some(stem) = path.file_stem().and_then(|stem| stem.to_str())
                && let Ok(name) = stem.parse()
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn file(&self, name: &VmName) -> PathBuf {
        self.dir.join(format!("{name}.json"))
    }

    fn read(&self, name: &VmName) -> Result<Option<Claim>, VmError> {
        let file = self.file(name);
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == IoErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(VmError::io("read", &file)(error)),
        };
        let claim = serde_json::from_slice(&text);
        claim
            .map(Some)
            .map_err(|error| VmError::io("read", &file)(error.into()))
    }

    /// Replaces the file as a whole, and for good.
    fn write(&self, name: &VmName, claim: &Claim) -> Result<(), VmError> {
        let file = self.file(name);
        write_whole(&self.dir, &file, claim).map_err(VmError::io("write", &file))
    }

    async fn lock(&self) -> Result<File, VmError> {
        fs::create_dir_all(&self.dir).map_err(VmError::io("make", &self.dir))?;
        let path = self.dir.join(".lock");
        let file = File::create(&path).map_err(VmError::io("make", &path))?;
        let deadline = Instant::now() + LOCK_BOUND;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    sleep(LOCK_INTERVAL).await;
                }
                Err(TryLockError::WouldBlock) => {
                    let bound = LOCK_BOUND;
                    return Err(VmError::Locked { path, bound });
                }
                Err(TryLockError::Error(error)) => return Err(VmError::io("lock", &path)(error)),
            }
        }
    }
}

fn this_program() -> Result<Owner, VmError> {
    Owner::this().map_err(VmError::io("read", "/proc/self"))
}

/// Whether the machine of that name is the claimed one, or there is none but perhaps files of one.
async fn is_claimed(
    machines: &dyn VirtualMachineHost,
    name: &str,
    uuid: Uuid,
) -> Result<bool, ExecutorError> {
    if machines.vm_status(name).await? == VmStatus::Absent {
        return Ok(true);
    }
    match machines.identity(name).await {
        Ok(identity) => Ok(identity.uuid == uuid),
        // It is not harmony's.
        Err(error) if error.kind() == ErrorKind::Conflict => Ok(false),
        Err(error) => Err(error),
    }
}

fn write_whole(dir: &Path, file: &Path, claim: &Claim) -> std::io::Result<()> {
    let mut new = tempfile::NamedTempFile::new_in(dir)?;
    new.write_all(&serde_json::to_vec(claim)?)?;
    new.as_file().sync_all()?;
    new.persist(file)?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests;
