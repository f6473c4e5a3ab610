//! The whole way, with a guest. The images lane runs it, where the default image is built.

use super::Host;
use crate::domain::interpret::Change;
use crate::domain::topology::virtualization::VmStatus;
use crate::modules::kvm::connection::ConnectionUri;
use crate::prelude::Aarch64;

#[tokio::test]
#[ignore = "needs libvirt, QEMU and arm64 firmware, and builds the default image when it is not there: \
            boots harmony-test-handle twice"]
async fn a_guest_of_the_built_image_is_used_by_its_handle() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let uri = ConnectionUri::choose(None).await.expect("a connection");
    let host = Host::new(uri, dir.path().join("iot"));
    let vm = host.vm("harmony-test-handle").arch(Aarch64).ephemeral();
    let vm = vm.start().await.expect("started");
    let overlay = host.machines().disk(vm.name()).expect("a valid name");
    assert!(overlay.exists());

    let guest = vm.login().await.expect("a login");
    let machine = guest.run("uname", ["-m"]).await.expect("ran");
    assert_eq!((machine.stdout(), machine.exit_code()), ("aarch64\n", 0));
    let failed = guest.run("sh", ["-c", "echo no >&2; exit 3"]).await;
    let failed = failed.expect("ran");
    assert_eq!((failed.stderr(), failed.exit_code()), ("no\n", 3));

    let script = dir.path().join("agent.sh");
    std::fs::write(&script, "#!/bin/sh\necho \"$1 as $(id -un)\"\n").expect("written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, mode).expect("permitted");
    for expected in [Change::Changed, Change::Unchanged] {
        let copied = guest.copy(&script, "/usr/local/bin/agent").await;
        assert_eq!(copied.expect("copied"), expected);
    }
    let boot_id = ["/proc/sys/kernel/random/boot_id"];
    let before = guest.run("cat", boot_id).await.expect("ran");

    vm.power_cycle().await.expect("cut");
    let guest = vm.login().await.expect("a login");
    let after = guest.run("cat", boot_id).await.expect("ran");
    assert_ne!(before.stdout(), after.stdout());
    let agent = guest.run("agent", ["runs"]).await.expect("ran");
    assert_eq!(agent.stdout(), "runs as harmony\n");

    vm.close().await.expect("removed");
    assert!(!overlay.exists());
    let machines = host.machines();
    let status = crate::prelude::VirtualMachineHost::vm_status(machines, "harmony-test-handle");
    assert_eq!(status.await.expect("known"), VmStatus::Absent);
    let error = guest.run("true", ["late"]).await.expect_err("no guest");
    assert_eq!(error.exit_code(), 1);
}
