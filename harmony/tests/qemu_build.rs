//! A domain on a QEMU build from a store instead of the host's own QEMU.

use std::time::{Duration, Instant};

use harmony::domain::topology::virtualization::{
    AcceleratorChoice, Ensured, OnChange, VirtualMachineHost, VirtualMachineSpec, VmStatus,
};
use harmony::modules::kvm::connection::ConnectionUri;
use harmony::modules::kvm::topology::KvmVirtualMachineHost;

use crate::bootable::write_arm64_disk;
use crate::qemu_store::Bench;

/// The firmware alone takes 6 to 12 s under TCG, and longer beside other guests.
const FIRMWARE_TIMEOUT: Duration = Duration::from_secs(120);

#[tokio::test]
#[ignore = "needs libvirt, qemu-system-aarch64, ldd, AAVMF firmware: runs harmony-test-build on its own copy of QEMU"]
async fn a_domain_runs_on_a_build_from_a_store() {
    let bench = Bench::new();
    let build = bench.resolved();
    let uri = ConnectionUri::choose(None).await.expect("a connection");
    let host = KvmVirtualMachineHost::new(uri, bench.dir.path().join("iot"));
    let host = host.with_build(&build).await.expect("libvirt can use it");
    let name = "harmony-test-build";
    host.destroy_vm(name).await.expect("swept");

    let image = bench.dir.path().join("disk.raw");
    write_arm64_disk(&image);
    let spec = VirtualMachineSpec {
        image: Some(image),
        memory_mib: 256,
        accelerator: AcceleratorChoice::Tcg,
        networks: Vec::new(),
        ..VirtualMachineSpec::new_aarch64(name)
    };
    let preview = host.preview(&spec).await.expect("resolved");
    let decided = |knob: &str| {
        let mut decisions = preview.decisions.iter();
        let found = decisions.find(|d| d.knob == knob).expect(knob);
        found.value.clone()
    };
    assert_eq!(decided("emulator"), build.emulator().display().to_string());
    let tree = build.firmware_dir.canonicalize().expect("there");
    let firmware = decided("firmware");
    assert!(firmware.contains(&tree.display().to_string()), "{firmware}");

    let made = host.ensure_vm(&spec, OnChange::Refuse).await.expect("made");
    assert_eq!(made, Ensured::Created);
    let console = host.console_log(name).expect("a log");
    let started = Instant::now();
    loop {
        // The guest writes through the log daemon, which tells nobody.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let said = std::fs::read(&console).unwrap_or_default();
        if String::from_utf8_lossy(&said).contains("BdsDxe") {
            break;
        }
        let status = host.vm_status(name).await.expect("known");
        assert_eq!(status, VmStatus::Running);
        assert!(
            started.elapsed() < FIRMWARE_TIMEOUT,
            "no BdsDxe on the console"
        );
    }
    host.destroy_vm(name).await.expect("destroyed");
}
