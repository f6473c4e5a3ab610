//! `virt-install` with what one has to tell it, to a login over SSH.

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use harmony::domain::topology::virtualization::{VirtualMachineHost, VmArchitecture, VmStatus};
use harmony::modules::host::find_program;
use harmony::modules::kvm::topology::KvmVirtualMachineHost;
use harmony::modules::ssh::ensure_key_pair;
use iot_smoke::Failure;
use iot_smoke::server::free_address;
use tempfile::TempDir;
use tokio::process::Command;

use crate::raw::{BOUND, MAC, RawQemu, guest, make_overlay};

/// A slot that libvirt puts nothing into.
const FREE_SLOT: &str = "0x1e";

/// The program on this host's libvirt.
pub(crate) struct VirtInstall<'a> {
    program: PathBuf,
    architecture: VmArchitecture,
    host: &'a KvmVirtualMachineHost,
    firmware: Option<(PathBuf, PathBuf)>,
    name: String,
}

impl<'a> VirtInstall<'a> {
    /// None where it is not installed.
    pub(crate) fn find(
        host: &'a KvmVirtualMachineHost,
        raw: &RawQemu,
        architecture: VmArchitecture,
        name: &str,
    ) -> Option<Self> {
        Some(Self {
            program: find_program("virt-install")?,
            architecture,
            host,
            firmware: raw.firmware.clone(),
            name: vm_name(name),
        })
    }

    /// From its start to a login. Disk and seed are made before.
    pub(crate) async fn time_to_ssh(&self, image: &Path) -> Result<f64, Failure> {
        // Where libvirt's QEMU may read, below directories that it may pass.
        let scratch = TempDir::with_prefix_in("virt-install-", self.host.pool())?;
        std::fs::set_permissions(scratch.path(), PermissionsExt::from_mode(0o711))?;
        let base = scratch.path().join("base.qcow2");
        std::fs::copy(image, &base)?;
        std::fs::set_permissions(&base, PermissionsExt::from_mode(0o644))?;
        let overlay = scratch.path().join("disk.qcow2");
        make_overlay(&base, &overlay).await?;
        let keys = ensure_key_pair(scratch.path(), "id_ed25519")?;
        let port = free_address(Ipv4Addr::LOCALHOST)?.port();
        let guest = guest(scratch.path(), &keys, port, false)?;

        let started = Instant::now();
        // What fails it removes by itself.
        let made = self.command(scratch.path(), port).output().await?;
        if !made.status.success() {
            let said = String::from_utf8_lossy(&made.stderr).into_owned();
            return Err(format!("virt-install failed ({}): {said}", made.status).into());
        }
        let reached = guest.wait_reachable(BOUND).await;
        let seconds = started.elapsed().as_secs_f64();
        remove(self.host, &self.name).await?;
        reached?;
        Ok(seconds)
    }

    fn command(&self, scratch: &Path, port: u16) -> Command {
        let mut command = Command::new(&self.program);
        let scratch = scratch.display();
        command
            .args(["--connect", self.host.uri().as_str(), "--name", &self.name])
            .args(["--arch", self.architecture.as_str(), "--virt-type", "qemu"])
            .args(["--memory", "1024", "--vcpus", "2", "--import"])
            .args(["--osinfo", "detect=on,require=off", "--graphics", "none"])
            .args(["--noautoconsole", "--network", "none", "--disk"])
            .arg(format!("path={scratch}/disk.qcow2,format=qcow2,bus=virtio"))
            .arg("--disk")
            .arg(format!(
                "path={scratch}/seed.img,format=raw,bus=virtio,readonly=on"
            ))
            .arg(format!(
                "--qemu-commandline=-netdev user,id=bench,hostfwd=tcp:127.0.0.1:{port}-:22"
            ))
            .arg(format!(
                "--qemu-commandline=-device virtio-net-pci,netdev=bench,mac={MAC},addr={FREE_SLOT}"
            ));
        if let Some((code, vars)) = &self.firmware {
            let (code, vars) = (code.display(), vars.display());
            command.arg("--boot").arg(format!(
                "loader={code},loader.readonly=yes,loader.type=pflash,nvram.template={vars}"
            ));
        }
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }
}

/// The name of the VM that it makes in a run.
fn vm_name(run: &str) -> String {
    format!("{run}-virt-install")
}

/// Removes what an interrupted run has left.
pub(crate) async fn clear(host: &KvmVirtualMachineHost, run: &str) -> Result<(), Failure> {
    remove(host, &vm_name(run)).await
}

/// Removes the VM where it is there.
async fn remove(host: &KvmVirtualMachineHost, name: &str) -> Result<(), Failure> {
    match host.vm_status(name).await? {
        VmStatus::Absent => return Ok(()),
        VmStatus::Off => {}
        _ => virsh(host, &["destroy", name]).await?,
    }
    virsh(host, &["undefine", name, "--nvram"]).await
}

async fn virsh(host: &KvmVirtualMachineHost, action: &[&str]) -> Result<(), Failure> {
    let virsh = Command::new("virsh")
        .args(["-q", "-c", host.uri().as_str()])
        .args(action)
        .output();
    let output = virsh.await?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("virsh {} failed: {said}", action.join(" ")).into())
}
