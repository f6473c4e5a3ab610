//! The same machine again: after a power cut, with a fresh variable store, and built anew with its identity
//! and a kernel from outside.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use data_encoding::BASE64;
use harmony::domain::topology::linux_host::HostCommand;
use harmony::domain::topology::virtualization::{
    KernelBoot, VirtualMachineHost, VirtualMachineSpec,
};
use harmony::modules::image::Sha256Digest;
use iot_smoke::Failure;
use iot_smoke::guest::Guest;

use crate::examine::{device_rows, identity_rows};
use crate::facts::GuestFacts;
use crate::plug::refusal;
use crate::session::Session;
use crate::table::Row;

/// How long the guest may take to shut down.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(180);

/// How much of a file is read at once; a command's output is bounded, and base64 makes it a third longer.
const CHUNK_BYTES: usize = 8 << 20;

/// What the guest's kernel is told so that it can be told apart.
const ARGUMENT: &str = "harmony.lane=kernel";

/// Cuts the power: what was plugged in is gone, what the spec says is there.
pub(crate) async fn power_cycle(session: &mut Session<'_>) -> Result<(), Failure> {
    session.host.power_cycle_vm(&session.name).await?;
    let guest = session.log_in().await?;
    as_specified(session, &guest, "after a power cut: ").await
}

/// As [`power_cycle`], but shut down, and with a fresh variable store.
pub(crate) async fn reset_nvram(session: &mut Session<'_>) -> Result<(), Failure> {
    let (host, name) = (session.host, session.name.clone());
    let running = host.reset_nvram(&name).await;
    session.add(refusal(
        "a fresh variable store while on",
        "not off",
        running,
    ));
    host.stop_vm(&name, SHUTDOWN_TIMEOUT).await?;
    session.end_stage("shutdown");
    let nvram = host.nvram(&name)?;
    let used = beginning(&nvram)?;
    host.reset_nvram(&name).await?;
    let fresh = beginning(&nvram)?;
    session.add(Row::equal(
        "variable store differs from the used one",
        true,
        fresh != used,
    ));
    host.start_vm(&name).await?;
    let guest = session.log_in().await?;
    let booted = beginning(&nvram)?;
    session.add(Row::equal(
        "variable store written to, booted",
        true,
        booted != fresh,
    ));
    as_specified(session, &guest, "with a fresh variable store: ").await
}

/// Where the firmware writes its variables. What an unused store has there is the distribution's choice: zeros on Debian
/// 12, an empty list of variables on Debian 13.
fn beginning(nvram: &Path) -> Result<Vec<u8>, Failure> {
    let mut beginning = Vec::new();
    let file = std::fs::File::open(nvram)?;
    file.take(1 << 20).read_to_end(&mut beginning)?;
    Ok(beginning)
}

async fn as_specified(session: &mut Session<'_>, guest: &Guest, when: &str) -> Result<(), Failure> {
    let facts = GuestFacts::ask(guest).await?;
    let identity = session.identity().await?;
    session.rows.extend(identity_rows(when, &facts, &identity));
    session.rows.extend(device_rows(when, &facts));
    let ports = facts.empty_root_ports();
    session.add(Row::equal(format!("{when}empty root ports"), 4, ports));
    Ok(())
}

/// The guest's kernel and initial RAM disk, in files of this host's that go with this.
pub(crate) struct Kernel {
    boot: KernelBoot,
    files: [PathBuf; 2],
}

impl Drop for Kernel {
    fn drop(&mut self) {
        for file in &self.files {
            if let Err(error) = std::fs::remove_file(file) {
                tracing::warn!(%error, file = %file.display(), "could not be removed");
            }
        }
    }
}

/// Copies them out of the guest into the pool, where the hypervisor can read them.
pub(crate) async fn copy_kernel(session: &Session<'_>, guest: &Guest) -> Result<Kernel, Failure> {
    let facts = GuestFacts::ask(guest).await?;
    let release = facts.get("kernel");
    let files = ["vmlinuz", "initrd.img"].map(|what| {
        let file = session.host.pool().join(format!("{}-{what}", session.name));
        (format!("/boot/{what}-{release}"), file)
    });
    for (inside, outside) in &files {
        let bytes = read_file(guest, inside).await?;
        std::fs::write(outside, bytes)?;
    }
    // What the boot loader gives, but for where it found the kernel.
    let words = facts.get("cmdline").split_whitespace();
    let own = |word: &&str| !word.starts_with("BOOT_IMAGE=") && !word.starts_with("initrd=");
    let arguments = words
        .filter(own)
        .map(str::to_owned)
        .chain([ARGUMENT.to_owned()]);
    let files = files.map(|(_, outside)| outside);
    let [image, initrd] = files.clone();
    Ok(Kernel {
        boot: KernelBoot {
            image,
            initrd: Some(initrd),
            arguments: arguments.collect(),
        },
        files,
    })
}

/// A file of the guest's, verified.
async fn read_file(guest: &Guest, path: &str) -> Result<Vec<u8>, Failure> {
    let said = guest
        .output(HostCommand::new("sha256sum").arg(path).as_root())
        .await?;
    let expected: Sha256Digest = said.split(' ').next().unwrap_or_default().parse()?;
    let script = r#"tail -c +"$2" "$1" | head -c "$3" | base64 -w 0"#;
    let mut bytes = Vec::new();
    loop {
        let from = (bytes.len() + 1).to_string();
        let command = HostCommand::new("sh").args(["-c", script, "read", path, &from]);
        let command = command.arg(CHUNK_BYTES.to_string()).as_root();
        let chunk = BASE64.decode(guest.output(command).await?.trim().as_bytes())?;
        bytes.extend_from_slice(&chunk);
        if chunk.len() < CHUNK_BYTES {
            break;
        }
    }
    let found = Sha256Digest::of(&bytes);
    if found == expected {
        Ok(bytes)
    } else {
        Err(format!("{path} has digest {found} here and {expected} in the guest").into())
    }
}

/// Destroys the machine and builds it anew, with the identity that it had and this kernel.
pub(crate) async fn same_machine(
    session: &mut Session<'_>,
    spec: VirtualMachineSpec,
    kernel: &Kernel,
) -> Result<(), Failure> {
    let identity = session.identity().await?;
    let spec = VirtualMachineSpec {
        kernel: Some(kernel.boot.clone()),
        ..spec.with_identity(&identity)?
    };
    session.host.destroy_vm(&session.name).await?;
    let guest = session.bring_up(&spec).await?;
    let facts = GuestFacts::ask(&guest).await?;
    let given_back = session.identity().await?;
    let when = "rebuilt: ";
    session.rows.extend(identity_rows(when, &facts, &identity));
    session.add(Row::equal(
        "rebuilt: identity as recorded",
        true,
        given_back == identity,
    ));
    session.add(Row::holds(
        "kernel from outside: its arguments",
        ARGUMENT,
        facts.get("cmdline"),
        facts.has_word("cmdline", ARGUMENT) && !facts.get("cmdline").contains("BOOT_IMAGE="),
    ));
    session.add(Row::equal(
        "kernel from outside: through UEFI",
        "yes",
        facts.get("efi"),
    ));
    Ok(())
}
