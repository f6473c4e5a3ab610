//! harmony with the plain image, through the library: to a login and not to an agent, whose packages that image lacks.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use harmony::domain::topology::virtualization::{
    AcceleratorChoice, FirstBoot, OnChange, VirtualMachineHost, VirtualMachineSpec, VmArchitecture,
    while_running,
};
use harmony::modules::image::ImageSource;
use harmony::modules::iot::assets;
use harmony::modules::kvm::topology::KvmVirtualMachineHost;
use harmony::modules::ssh::{SshLinuxHost, SshTarget, ensure_key_pair};
use iot_smoke::Failure;
use tempfile::TempDir;

use crate::raw::{BOUND, USER};

/// The image that `--image auto` stands for.
pub(crate) async fn image(architecture: VmArchitecture) -> Result<PathBuf, Failure> {
    let images = assets::images_dir()?;
    let image = assets::ensure_image(&ImageSource::Auto, architecture, &images);
    Ok(image.await?.path)
}

/// From the making of the VM to a login. An emulated guest, as raw QEMU's is.
pub(crate) async fn time_to_ssh(
    host: &KvmVirtualMachineHost,
    dir: &Path,
    architecture: VmArchitecture,
    name: &str,
    image: &Path,
) -> Result<f64, Failure> {
    let scratch = TempDir::with_prefix_in("plain-", dir)?;
    let keys = ensure_key_pair(scratch.path(), "id_ed25519")?;
    let spec = VirtualMachineSpec {
        name: name.to_owned(),
        architecture,
        image: Some(image.to_owned()),
        accelerator: AcceleratorChoice::Tcg,
        first_boot: Some(FirstBoot {
            user: USER.to_owned(),
            authorized_keys: vec![keys.public_key_line.clone()],
            ..FirstBoot::default()
        }),
        ..VirtualMachineSpec::default()
    };
    let started = Instant::now();
    host.ensure_vm(&spec, OnChange::default()).await?;
    let address = host.wait_for_address(name, BOUND).await?;
    let host_key = address.host_key.as_deref();
    let guest = SshLinuxHost::new(SshTarget {
        address: address.ip,
        port: address.ssh_port,
        user: USER.to_owned(),
        private_key: keys.private_key_path.clone(),
        host_key: host_key.ok_or("no host key was pinned")?.parse()?,
        connect_timeout: Duration::from_secs(60),
        command_timeout: Duration::from_secs(60),
    })?;
    let login = async { Ok(guest.wait_reachable(BOUND).await?) };
    while_running(host, name, "a login over SSH", login).await?;
    let seconds = started.elapsed().as_secs_f64();
    host.destroy_vm(name).await?;
    Ok(seconds)
}
