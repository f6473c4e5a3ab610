//! Ephemeral VMs end with their program, however that ends.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use harmony::front::VmError;
use harmony::prelude::{Host, VirtualMachineHost, Vm, VmStatus};

use super::Bench;

/// The directory of the test whose program is to be killed, for that program.
const VICTIM_OF: &str = "HARMONY_TEST_VICTIM_OF";

/// How long something may take that takes seconds.
const BOUND: Duration = Duration::from_secs(120);

/// A host whose data are where the bench's are.
fn host(bench: &Bench, dir: &Path) -> Host {
    Host::new(bench.host.uri(), dir.join("iot"))
}

async fn start(bench: &Bench, host: &Host, name: &str) -> Result<Vm, harmony::Error> {
    host.vm_from(bench.spec(name)).ephemeral().start().await
}

async fn status(host: &Host, name: &str) -> VmStatus {
    host.machines().vm_status(name).await.expect("known")
}

/// What is left of claims.
fn claims(dir: &Path) -> Vec<PathBuf> {
    let claims = walk(&dir.join("iot/ephemeral"));
    claims
        .into_iter()
        .filter(|path| !path.ends_with(".lock"))
        .collect()
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.expect("readable").path());
    let below = |path: PathBuf| match path.is_dir() {
        true => walk(&path),
        false => vec![path],
    };
    paths.flat_map(below).collect()
}

/// Waits until something holds that nobody tells of.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < BOUND, "{what} took more than {BOUND:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// This test as another program, which holds a VM until it is killed.
async fn be_killed(dir: &Path) {
    let bench = Bench::new().await;
    let host = host(&bench, dir);
    let _vm = start(&bench, &host, "harmony-test-victim").await;
    let _vm = _vm.expect("started");
    std::fs::write(dir.join("started"), "").expect("written");
    tokio::time::sleep(BOUND * 2).await;
}

fn victim(dir: &Path) -> Child {
    let test = "libvirt_domains::front_door::what_a_killed_program_left_is_swept_by_the_next";
    let mut command = Command::new(std::env::current_exe().expect("Linux"));
    command.args(["--ignored", "--exact", test]);
    command.env(VICTIM_OF, dir).spawn().expect("this program")
}

#[tokio::test]
#[ignore = "needs libvirt, QEMU and firmware: runs harmony-test-victim in a program that it kills, and harmony-test-next"]
async fn what_a_killed_program_left_is_swept_by_the_next() {
    if let Some(dir) = std::env::var_os(VICTIM_OF) {
        return be_killed(Path::new(&dir)).await;
    }
    let bench = Bench::new().await;
    let (dir, name) = (bench.dir.path(), "harmony-test-victim");
    let host = host(&bench, dir);
    for name in [name, "harmony-test-next"] {
        host.machines().destroy_vm(name).await.expect("swept");
    }

    let mut child = victim(dir);
    until("the other program's start", async || {
        assert_eq!(child.try_wait().expect("a child"), None, "it ended");
        dir.join("started").exists()
    })
    .await;
    // While that program runs, its VM is its own.
    assert_eq!(host.sweep().await.expect("swept"), Vec::<String>::new());
    let refused = start(&bench, &host, name).await.expect_err("in use");
    let pid = child.id();
    assert!(
        matches!(refused.downcast_ref(), Some(VmError::InUse { pid: of, .. }) if *of == pid),
        "{refused:?}"
    );
    assert_eq!(status(&host, name).await, VmStatus::Running);

    child.kill().expect("killed");
    child.wait().expect("ended");
    assert_eq!(status(&host, name).await, VmStatus::Running);
    let next = start(&bench, &host, "harmony-test-next").await;
    let next = next.expect("started");
    assert_eq!(status(&host, name).await, VmStatus::Absent);
    assert_eq!(bench.pool_files(name), Vec::<PathBuf>::new());
    next.close().await.expect("removed");
    assert_eq!(status(&host, "harmony-test-next").await, VmStatus::Absent);
    assert_eq!(claims(dir), Vec::<PathBuf>::new());
}

#[tokio::test]
#[ignore = "needs libvirt, QEMU and firmware: runs harmony-test-dropped twice, and drops it"]
async fn a_handle_that_is_dropped_starts_the_removal() {
    let bench = Bench::new().await;
    let (dir, name) = (bench.dir.path(), "harmony-test-dropped");
    let host = host(&bench, dir);
    host.machines().destroy_vm(name).await.expect("swept");

    let vm = start(&bench, &host, name).await.expect("started");
    drop(vm);
    until("the removal", async || claims(dir).is_empty()).await;
    assert_eq!(status(&host, name).await, VmStatus::Absent);
    assert_eq!(bench.pool_files(name), Vec::<PathBuf>::new());

    // The next one of the name waits for the removal of the one before.
    drop(start(&bench, &host, name).await.expect("started"));
    let vm = start(&bench, &host, name).await.expect("the name is free");
    assert_eq!(vm.status().await.expect("known"), VmStatus::Running);
    vm.close().await.expect("removed");
    assert_eq!(claims(dir), Vec::<PathBuf>::new());
}

#[tokio::test]
#[ignore = "needs libvirt, QEMU and firmware: runs harmony-test-lasting and destroys it"]
async fn a_lasting_machine_is_found_again_and_is_never_an_ephemeral_one() {
    let bench = Bench::new().await;
    let (dir, name) = (bench.dir.path(), "harmony-test-lasting");
    let host = host(&bench, dir);
    host.machines().destroy_vm(name).await.expect("swept");
    assert!(host.find(name).await.expect("known").is_none());

    let vm = host.vm_from(bench.spec(name)).start().await;
    vm.expect("started").close().await.expect("nothing to do");
    let refused = start(&bench, &host, name).await.expect_err("it is there");
    assert!(
        matches!(refused.downcast_ref(), Some(VmError::Exists { name: of }) if of == name),
        "{refused:?}"
    );
    let vm = host.find(name).await.expect("known").expect("there");
    assert_eq!(vm.spec().name, name);
    assert_eq!(vm.status().await.expect("known"), VmStatus::Running);
    vm.destroy().await.expect("removed");
    assert!(host.find(name).await.expect("known").is_none());
}
