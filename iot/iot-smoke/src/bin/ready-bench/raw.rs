//! QEMU as one starts it by hand, to a login over SSH.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use harmony::domain::topology::virtualization::{FirstBoot, VmArchitecture};
use harmony::modules::cloud_init::{SeedHostKey, SeedInputs, write_nocloud_seed, write_seed};
use harmony::modules::host::HostFacts;
use harmony::modules::kvm::discover_aarch64_firmware;
use harmony::modules::ssh::{
    SshKeyPair, SshLinuxHost, SshTarget, ensure_key_pair, generate_host_key,
};
use iot_smoke::Failure;
use iot_smoke::server::free_address;
use tempfile::TempDir;
use tokio::process::Command;

use crate::subject::RawBoot;

/// How long a boot may take.
pub(crate) const BOUND: Duration = Duration::from_secs(900);

/// The guest's login and its card: the address is any locally administered one.
pub(crate) const USER: &str = "harmony";
pub(crate) const MAC: &str = "52:54:00:be:9c:01";

/// The emulator, and for arm64 its firmware.
pub(crate) struct RawQemu {
    architecture: VmArchitecture,
    emulator: PathBuf,
    pub(crate) firmware: Option<(PathBuf, PathBuf)>,
}

impl RawQemu {
    pub(crate) fn new(facts: &HostFacts, architecture: VmArchitecture) -> Result<Self, Failure> {
        let emulator = facts.emulator(architecture);
        let emulator = emulator.ok_or_else(|| format!("no emulator for {architecture}"))?;
        Ok(Self {
            architecture,
            emulator: emulator.path,
            firmware: match architecture {
                VmArchitecture::Aarch64 => {
                    let firmware = discover_aarch64_firmware()?;
                    Some((firmware.code, firmware.vars_template))
                }
                VmArchitecture::X86_64 => None,
            },
        })
    }

    /// From the start of QEMU to a login. The overlay and the seed are made before.
    pub(crate) async fn time_to_ssh(
        &self,
        dir: &Path,
        image: &Path,
        boot: RawBoot,
    ) -> Result<f64, Failure> {
        let scratch = TempDir::with_prefix_in("raw-", dir)?;
        let keys = ensure_key_pair(scratch.path(), "id_ed25519")?;
        let port = free_address(Ipv4Addr::LOCALHOST)?.port();
        let guest = guest(scratch.path(), &keys, port, boot.harmony_seed)?;
        let overlay = scratch.path().join("disk.qcow2");
        make_overlay(image, &overlay).await?;
        let mut qemu = self.command(scratch.path(), &overlay, port, boot)?;
        let started = Instant::now();
        let mut running = qemu.spawn()?;
        let reached = tokio::select! {
            reached = guest.wait_reachable(BOUND) => reached.map_err(Failure::from),
            ended = running.wait() => Err(format!("QEMU ended: {}", ended?).into()),
        };
        let seconds = started.elapsed().as_secs_f64();
        running.kill().await?;
        reached?;
        Ok(seconds)
    }

    fn command(
        &self,
        scratch: &Path,
        overlay: &Path,
        port: u16,
        boot: RawBoot,
    ) -> Result<Command, Failure> {
        let mut qemu = Command::new(&self.emulator);
        qemu.args(["-cpu", "max", "-smp", "2", "-m", "1024"])
            .args(["-display", "none", "-monitor", "none", "-serial"])
            .arg(format!("file:{}", scratch.join("console").display()));
        if let Some((code, template)) = &self.firmware {
            let vars = scratch.join("VARS.fd");
            std::fs::copy(template, &vars)?;
            for (file, rest) in [(code.as_path(), ",readonly=on"), (&vars, "")] {
                let file = file.display();
                let drive = format!("if=pflash,format=raw,file={file}{rest}");
                qemu.args(["-drive", &drive]);
            }
        }
        if self.architecture == VmArchitecture::Aarch64 {
            qemu.args(["-machine", boot.machine.unwrap_or("virt")]);
        }
        let disks = [
            (overlay.to_owned(), "qcow2"),
            (scratch.join("seed.img"), "raw"),
        ];
        for (file, format) in disks {
            let file = file.display();
            qemu.args(["-drive", &format!("if=virtio,format={format},file={file}")]);
        }
        qemu.arg("-netdev")
            .arg(format!("user,id=net,hostfwd=tcp:127.0.0.1:{port}-:22"))
            .args(["-device", &format!("virtio-net-pci,netdev=net,mac={MAC}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true);
        Ok(qemu)
    }
}

/// A disk of 8 GiB on an image.
pub(crate) async fn make_overlay(image: &Path, overlay: &Path) -> Result<(), Failure> {
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"])
        .args([image, overlay])
        .arg("8G")
        .status();
    if made.await?.success() {
        return Ok(());
    }
    Err(format!("no overlay on {}", image.display()).into())
}

/// The seed, harmony's or one for cloud-init alone, and the way to the guest that it makes.
pub(crate) fn guest(
    scratch: &Path,
    keys: &SshKeyPair,
    port: u16,
    harmony_seed: bool,
) -> Result<SshLinuxHost, Failure> {
    let host_key = generate_host_key()?;
    let inputs = SeedInputs {
        instance_id: uuid::Uuid::new_v4(),
        hostname: "harmony-bench".to_owned(),
        macs: vec![MAC.to_owned()],
        first_boot: FirstBoot {
            user: USER.to_owned(),
            authorized_keys: vec![keys.public_key_line.clone()],
            ..FirstBoot::default()
        },
        host_key: SeedHostKey {
            private_openssh: host_key.private_openssh().to_owned(),
            public_line: host_key.public_line(),
        },
    };
    let seed = scratch.join("seed.img");
    if harmony_seed {
        write_seed(&seed, &inputs)?;
    } else {
        write_nocloud_seed(&seed, &inputs)?;
    }
    Ok(SshLinuxHost::new(SshTarget {
        address: Ipv4Addr::LOCALHOST.into(),
        port,
        user: USER.to_owned(),
        private_key: keys.private_key_path.clone(),
        host_key: host_key.public().clone(),
        connect_timeout: Duration::from_secs(60),
        command_timeout: Duration::from_secs(60),
    })?)
}
