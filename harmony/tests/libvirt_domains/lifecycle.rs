//! VMs that live as they should.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use harmony::domain::error::{ErrorKind, ExecutorError};
use harmony::domain::topology::virtualization::{
    Ensured, OnChange, StoppedWhileWaiting, VirtualMachineHost, VirtualMachineSpec, VmNetwork,
    VmStatus, while_running,
};
use harmony::modules::kvm::KvmError;
use harmony::modules::kvm::connection::ConnectionUri;

use super::{Bench, virsh};

#[tokio::test]
#[ignore = "needs libvirt, QEMU and firmware: defines, runs and destroys harmony-test-life"]
async fn a_vm_lives_and_leaves_nothing_behind() {
    let bench = Bench::new().await;
    let (host, name) = (&bench.host, "harmony-test-life");
    host.destroy_vm(name).await.expect("swept");
    let spec = bench.spec(name);

    let ensure =
        |spec: VirtualMachineSpec| async move { host.ensure_vm(&spec, OnChange::Refuse).await };
    assert_eq!(ensure(spec.clone()).await.expect("made"), Ensured::Created);
    assert_eq!(
        host.vm_status(name).await.expect("known"),
        VmStatus::Running
    );
    assert_eq!(
        ensure(spec.clone()).await.expect("kept"),
        Ensured::Unchanged
    );

    let nvram = host.nvram(name).expect("a valid name");
    let metadata = std::fs::metadata(&nvram).expect("the variable store");
    assert_eq!(metadata.len(), 64 << 20);
    assert!(
        metadata.blocks() * 512 <= 1 << 20,
        "{} blocks",
        metadata.blocks()
    );

    let bigger = VirtualMachineSpec {
        vcpus: 1,
        ..spec.clone()
    };
    let refused = ensure(bigger).await.expect_err("differs");
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert_eq!(
        refused.to_string(),
        format!("the virtual machine '{name}' exists and differs: vcpus is 2, asked for 1")
    );

    host.power_cycle_vm(name).await.expect("power-cycled");
    assert_eq!(
        host.vm_status(name).await.expect("known"),
        VmStatus::Running
    );

    assert!(host.destroy_vm(name).await.expect("destroyed"));
    assert!(!host.destroy_vm(name).await.expect("nothing left"));
    assert_eq!(host.vm_status(name).await.expect("known"), VmStatus::Absent);
    assert_eq!(bench.pool_files(name), Vec::<PathBuf>::new());
    let scope = if host.uri() == ConnectionUri::System {
        "system"
    } else {
        "session"
    };
    let states = bench.dir.path().join("iot/vms").join(scope);
    let states = std::fs::read_dir(states).expect("the state directories");
    assert_eq!(states.count(), 0, "no state is left");
}

#[tokio::test]
#[ignore = "needs libvirt, QEMU and firmware: runs harmony-test-wait and destroys it"]
async fn waiting_for_a_guest_that_is_off_fails_at_once() {
    let bench = Bench::new().await;
    let (host, name) = (&bench.host, "harmony-test-wait");
    host.destroy_vm(name).await.expect("swept");
    let spec = bench.spec(name);
    host.ensure_vm(&spec, OnChange::Refuse).await.expect("made");

    let error = host.wait_for_address(name, Duration::from_secs(1)).await;
    let error = error.expect_err("the firmware has no SSH");
    assert_eq!(error.kind(), ErrorKind::TimedOut);

    // An empty disk has no guest that could answer the power button, so the wait runs into its bound.
    let error = host.stop_vm(name, Duration::from_secs(1)).await;
    assert_eq!(error.expect_err("still on").kind(), ErrorKind::TimedOut);

    host.destroy_vm(name).await.expect("destroyed");
    let error = host.wait_for_address(name, Duration::from_secs(60)).await;
    let error = error.expect_err("there is no such VM");
    assert!(
        matches!(error.downcast_ref(), Some(KvmError::NotFound { .. })),
        "{error:?}"
    );
}

#[tokio::test]
#[ignore = "needs libvirt, virsh, QEMU and firmware: runs harmony-test-stops, suspends and destroys it"]
async fn a_guest_that_stops_ends_every_wait_at_once() {
    let bench = Bench::new().await;
    let (host, name) = (&bench.host, "harmony-test-stops");
    host.destroy_vm(name).await.expect("swept");
    let spec = bench.spec(name);
    host.ensure_vm(&spec, OnChange::Refuse).await.expect("made");
    let uri = host.uri().as_str();

    // Nothing ends these waits but the change of the guest's state.
    for (action, expected) in [
        ("suspend", VmStatus::Paused("User".to_owned())),
        ("destroy", VmStatus::Off),
    ] {
        host.start_vm(name).await.expect("runs");
        let never = std::future::pending::<Result<(), ExecutorError>>();
        let waited = while_running(host, name, "what never comes", never);
        let (outcome, ()) = tokio::join!(waited, async {
            virsh(&["-c", uri, action, name]);
        });
        let error = outcome.expect_err("it stopped");
        let stopped = error.downcast_ref::<StoppedWhileWaiting>().expect("typed");
        assert_eq!(stopped.status, expected);
        assert_eq!(stopped.awaited, "what never comes");
        // The same in the wait for SSH.
        let error = host.wait_for_address(name, Duration::from_secs(600)).await;
        let error = error.expect_err("it does not run");
        assert!(
            matches!(error.downcast_ref(), Some(KvmError::NotRunning { status, .. }) if *status == expected),
            "{error:?}"
        );
    }
    host.destroy_vm(name).await.expect("destroyed");
}

#[tokio::test]
#[ignore = "needs libvirt, QEMU and firmware: makes harmony-test-identity twice"]
async fn a_rebuilt_vm_is_the_same_machine() {
    let bench = Bench::new().await;
    let (host, name) = (&bench.host, "harmony-test-identity");
    host.destroy_vm(name).await.expect("swept");
    let spec = VirtualMachineSpec {
        networks: vec![VmNetwork::USER.into(), VmNetwork::USER.into()],
        ..bench.spec(name)
    };
    host.ensure_vm(&spec, OnChange::Refuse).await.expect("made");
    let identity = host.identity(name).await.expect("known");
    host.destroy_vm(name).await.expect("destroyed");
    let stored = serde_json::to_string(&identity).expect("serialisable");

    let given_back = serde_json::from_str(&stored).expect("readable");
    let mut spec = spec.with_identity(&given_back).expect("as many cards");
    host.ensure_vm(&spec, OnChange::Refuse).await.expect("made");
    assert_eq!(host.identity(name).await.expect("known"), identity);
    // The same address in another spelling is no change.
    spec.networks[1].mac = identity.macs.get(1).map(|mac| mac.to_uppercase());
    let kept = host.ensure_vm(&spec, OnChange::Refuse).await;
    assert_eq!(kept.expect("the same"), Ensured::Unchanged);
    host.destroy_vm(name).await.expect("destroyed");
}
