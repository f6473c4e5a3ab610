mod broken;
mod broken_disks;
mod fixture;
mod hostile;
mod property;
mod report;

use std::path::Path;
use std::process::Command;

use super::{InspectError, Limits, conformance, inspect};
use crate::domain::topology::virtualization::VmArchitecture::Aarch64;

fn qemu_img(dir: &Path, arguments: &str) {
    let mut command = Command::new("qemu-img");
    let status = command.args(arguments.split(' ')).current_dir(dir).status();
    assert!(status.expect("qemu-img on PATH").success(), "{arguments}");
}

/// What the project's own writer of images does not make: compressed clusters.
#[test]
#[ignore = "needs qemu-img: converts an image of 37 MiB"]
fn what_qemu_img_writes_is_read() {
    let dir = tempfile::tempdir().expect("temporary directory");
    std::fs::write(dir.path().join("disk.raw"), fixture::good(Aarch64)).expect("written");
    qemu_img(dir.path(), "convert -q -c -O qcow2 disk.raw disk.qcow2");
    qemu_img(
        dir.path(),
        "create -q -f qcow2 -F raw -b disk.raw overlay.qcow2",
    );
    let facts = inspect(&dir.path().join("disk.qcow2"), &Limits::default()).expect("readable");
    let report = conformance(&facts, Aarch64);
    assert_eq!(report.failures().next(), None, "{report}");
    let overlay = inspect(&dir.path().join("overlay.qcow2"), &Limits::default());
    assert!(
        matches!(overlay, Err(InspectError::Backing { .. })),
        "{overlay:?}"
    );
}
