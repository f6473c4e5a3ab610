//! The host tier: real domains on a real libvirt, never booted to an operating system. Everything is
//! called `harmony-test-*` and destroyed by the test that made it.

mod failures;
mod front_door;
mod lifecycle;

use std::path::PathBuf;

use crate::bootable::write_arm64_disk;
use harmony::domain::topology::virtualization::{AcceleratorChoice, FirstBoot, VirtualMachineSpec};
use harmony::modules::kvm::connection::ConnectionUri;
use harmony::modules::kvm::topology::KvmVirtualMachineHost;

struct Bench {
    dir: tempfile::TempDir,
    host: KvmVirtualMachineHost,
    /// What was in the pool before.
    pool: Vec<PathBuf>,
}

impl Drop for Bench {
    /// The pool keeps copies of images for later VMs; those of a test's image are of no use to anybody.
    fn drop(&mut self) {
        for path in pool_listing(&self.host) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("harmony-base-") && !self.pool.contains(&path) {
                std::fs::remove_file(&path).expect("removed");
            }
        }
    }
}

fn pool_listing(host: &KvmVirtualMachineHost) -> Vec<PathBuf> {
    // The session's pool is made with its first VM.
    let Ok(entries) = std::fs::read_dir(host.pool()) else {
        return Vec::new();
    };
    entries
        .map(|entry| entry.expect("readable").path())
        .collect()
}

impl Bench {
    async fn new() -> Self {
        let uri = ConnectionUri::choose(None).await.expect("a connection");
        let dir = tempfile::tempdir().expect("temporary directory");
        let host = KvmVirtualMachineHost::new(uri, dir.path().join("iot"));
        let pool = pool_listing(&host);
        Self { dir, host, pool }
    }

    /// A VM whose disk has nothing that runs, so that only the firmware does.
    fn spec(&self, name: &str) -> VirtualMachineSpec {
        let image = self.dir.path().join("disk.raw");
        write_arm64_disk(&image);
        VirtualMachineSpec {
            image: Some(image),
            memory_mib: 256,
            accelerator: AcceleratorChoice::Tcg,
            first_boot: Some(FirstBoot {
                user: "harmony".to_owned(),
                authorized_keys: vec!["ssh-ed25519 AAAA test".to_owned()],
                ..FirstBoot::default()
            }),
            ..VirtualMachineSpec::new_aarch64(name)
        }
    }

    fn pool_files(&self, name: &str) -> Vec<PathBuf> {
        pool_listing(&self.host)
            .into_iter()
            .filter(|path| path.to_string_lossy().contains(name))
            .collect()
    }
}

fn qemu_img(dir: &std::path::Path, arguments: &str) {
    let mut command = std::process::Command::new("qemu-img");
    let status = command.args(arguments.split(' ')).current_dir(dir).status();
    assert!(
        status.expect("qemu-img on PATH").success(),
        "qemu-img {arguments}"
    );
}

fn virsh(arguments: &[&str]) {
    let mut command = std::process::Command::new("virsh");
    let output = command.args(arguments).output().expect("virsh on PATH");
    assert!(
        output.status.success(),
        "virsh {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// libvirt's QEMU user is another one in the system lane.
fn open_for_all(dir: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).expect("opened");
}
