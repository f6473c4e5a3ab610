use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::{Claims, VmError, VmName};
use crate::domain::error::ExecutorError;
use crate::domain::topology::Topology;
use crate::domain::topology::virtualization::{
    DataDisk, DiskHandle, Ensured, GuestAddress, MachineIdentity, NetworkCard, NetworkHandle,
    OnChange, VirtualMachineHost, VirtualMachineSpec, VmStatus,
};
use crate::modules::kvm::KvmError;

/// A host whose machines are a name and a UUID. What is not asked of it here has no answer.
#[derive(Default)]
struct Machines {
    there: Mutex<BTreeMap<String, Uuid>>,
    /// The machine that does not let itself be destroyed.
    stuck: Option<&'static str>,
}

impl Machines {
    fn with<const N: usize>(there: [(&str, Uuid); N]) -> Self {
        let there = there.map(|(name, uuid)| (name.to_owned(), uuid));
        Self {
            there: Mutex::new(there.into()),
            stuck: None,
        }
    }

    fn names(&self) -> Vec<String> {
        let there = self.there.lock().expect("not poisoned");
        there.keys().cloned().collect()
    }
}

fn busy<T>(name: &str) -> Result<T, ExecutorError> {
    let name = name.to_owned();
    Err(KvmError::Busy { name }.into())
}

#[async_trait]
impl Topology for Machines {
    fn name(&self) -> String {
        "names".to_owned()
    }

    async fn ensure_ready(&self) -> Result<(), ExecutorError> {
        Ok(())
    }
}

#[async_trait]
impl VirtualMachineHost for Machines {
    async fn destroy_vm(&self, name: &str) -> Result<bool, ExecutorError> {
        if self.stuck == Some(name) {
            return busy(name);
        }
        let mut there = self.there.lock().expect("not poisoned");
        Ok(there.remove(name).is_some())
    }

    async fn identity(&self, name: &str) -> Result<MachineIdentity, ExecutorError> {
        let there = self.there.lock().expect("not poisoned");
        let name = name.to_owned();
        let uuid = there.get(&name).copied();
        let uuid = uuid.ok_or(KvmError::NotFound { name })?;
        let (serial, macs) = (String::new(), Vec::new());
        Ok(MachineIdentity { uuid, serial, macs })
    }

    async fn vm_status(&self, name: &str) -> Result<VmStatus, ExecutorError> {
        let there = self.names().iter().any(|known| known == name);
        Ok(if there {
            VmStatus::Running
        } else {
            VmStatus::Absent
        })
    }

    async fn ensure_vm(
        &self,
        spec: &VirtualMachineSpec,
        _: OnChange,
    ) -> Result<Ensured, ExecutorError> {
        busy(&spec.name)
    }

    async fn start_vm(&self, name: &str) -> Result<(), ExecutorError> {
        busy(name)
    }

    async fn stop_vm(&self, name: &str, _: Duration) -> Result<(), ExecutorError> {
        busy(name)
    }

    async fn power_cycle_vm(&self, name: &str) -> Result<(), ExecutorError> {
        busy(name)
    }

    async fn reset(&self, name: &str) -> Result<(), ExecutorError> {
        busy(name)
    }

    async fn attach_disk(&self, name: &str, _: &DataDisk) -> Result<DiskHandle, ExecutorError> {
        busy(name)
    }

    async fn detach_disk(&self, name: &str, _: &DiskHandle) -> Result<(), ExecutorError> {
        busy(name)
    }

    async fn attach_network(
        &self,
        name: &str,
        _: &NetworkCard,
    ) -> Result<NetworkHandle, ExecutorError> {
        busy(name)
    }

    async fn detach_network(&self, name: &str, _: &NetworkHandle) -> Result<(), ExecutorError> {
        busy(name)
    }

    async fn wait_for_address(
        &self,
        name: &str,
        _: Duration,
    ) -> Result<GuestAddress, ExecutorError> {
        busy(name)
    }

    async fn wait_until_not_running(&self, name: &str) -> Result<VmStatus, ExecutorError> {
        busy(name)
    }

    async fn boot_timeout(&self, name: &str) -> Result<Duration, ExecutorError> {
        busy(name)
    }

    async fn diagnose_vm(&self, name: &str) -> String {
        name.to_owned()
    }
}

fn uuid(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn name(text: &str) -> VmName {
    text.parse().expect("a name")
}

/// Claims a machine for a program of another boot.
fn left(dir: &Path, name: &str, uuid: Uuid) {
    let owner = r#"{"boot_id":"another","pid_namespace":"pid:[1]","pid":7,"started":1}"#;
    let claim = format!(r#"{{"owner":{owner},"uuid":"{uuid}","of_a_later_version":1}}"#);
    std::fs::write(dir.join(format!("{name}.json")), claim).expect("written");
}

fn claimed(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("a directory");
    let names = entries.map(|entry| entry.expect("readable").file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    let mut names: Vec<_> = names.filter(|name| name != ".lock").collect();
    names.sort();
    names
}

#[tokio::test]
async fn what_a_program_of_another_boot_left_is_swept_and_nothing_else() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let claims = Claims::new(dir.path().to_owned());
    let machines = Machines::with([("left", uuid(1)), ("other", uuid(2)), ("free", uuid(3))]);
    left(dir.path(), "left", uuid(1));
    left(dir.path(), "never-made", uuid(4));
    // That name was given to another machine since.
    left(dir.path(), "other", uuid(9));
    std::fs::write(dir.path().join("broken.json"), "{}").expect("written");

    let swept = claims.sweep(&machines).await.expect("swept");
    let mut swept: Vec<_> = swept.iter().map(String::as_str).collect();
    swept.sort_unstable();
    assert_eq!(swept, ["left", "never-made", "other"]);
    assert_eq!(machines.names(), ["free", "other"]);
    assert_eq!(claimed(dir.path()), ["broken.json"]);
}

#[tokio::test]
async fn what_cannot_be_removed_keeps_its_claim_and_is_an_error_only_to_who_wants_its_name() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let claims = Claims::new(dir.path().to_owned());
    let machines = Machines {
        stuck: Some("stuck"),
        ..Machines::with([("stuck", uuid(1))])
    };
    left(dir.path(), "stuck", uuid(1));

    let made = claims.take(&machines, &name("edge"), uuid(2)).await;
    made.expect("another name");
    assert_eq!(claimed(dir.path()), ["edge.json", "stuck.json"]);
    let error = claims.take(&machines, &name("stuck"), uuid(3)).await;
    let error = error.expect_err("not removed");
    assert!(
        matches!(error.downcast_ref(), Some(KvmError::Busy { name }) if name == "stuck"),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_name_is_this_programs_until_it_is_given_back() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let claims = Claims::new(dir.path().join("not/there/yet"));
    let (machines, edge) = (Machines::default(), name("edge"));
    claims.take(&machines, &edge, uuid(1)).await.expect("free");
    let there = machines.there.lock();
    there
        .expect("not poisoned")
        .insert(edge.to_string(), uuid(1));

    // The program runs: neither a second one of the name, nor a lasting one, nor a sweep.
    let again = claims.take(&machines, &edge, uuid(2)).await;
    let lasting = claims.make_room(&machines, &edge).await;
    for refused in [again, lasting] {
        let error = refused.expect_err("in use");
        let Some(VmError::InUse { name, pid }) = error.downcast_ref() else {
            panic!("{error:?}");
        };
        assert_eq!((name.as_str(), *pid), ("edge", std::process::id()));
    }
    let swept = claims.sweep(&machines).await.expect("swept");
    assert_eq!(swept, Vec::<String>::new());
    assert_eq!(machines.names(), ["edge"]);

    claims.release(&edge).expect("noted");
    claims.take(&machines, &edge, uuid(2)).await.expect("free");
    assert_eq!(machines.names(), Vec::<String>::new());
    claims.remove(&machines, &edge).await.expect("removed");
    claims.release(&edge).expect("nothing to note");
    let swept = claims.sweep(&machines).await.expect("swept");
    assert_eq!(swept, Vec::<String>::new());
}

#[tokio::test]
async fn a_machine_without_a_claim_is_never_an_ephemeral_one() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let claims = Claims::new(dir.path().to_owned());
    let machines = Machines::with([("edge", uuid(1))]);
    let error = claims.take(&machines, &name("edge"), uuid(2)).await;
    let error = error.expect_err("taken");
    assert!(
        matches!(error.downcast_ref(), Some(VmError::Exists { name }) if name == "edge"),
        "{error:?}"
    );
    assert_eq!(claimed(dir.path()), Vec::<String>::new());
    let room = claims.make_room(&machines, &name("edge")).await;
    room.expect("a lasting machine may be there");
    assert_eq!(machines.names(), ["edge"]);
}
