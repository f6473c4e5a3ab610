//! The directories that a guest shares with this host.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use harmony::domain::topology::linux_host::HostCommand;
use iot_smoke::Failure;
use iot_smoke::guest::Guest;

use crate::lane::SHARES;
use crate::session::Session;
use crate::table::Row;

/// What the host puts into each share.
const GREETING: &str = "from-the-host";

/// Mounts `$1`, prints what the host put there, tries to write, and unmounts.
const MOUNT: &str = r#"
mkdir -p "/mnt/$1"
mount -t 9p -o trans=virtio,version=9p2000.L "$1" "/mnt/$1" || exit 1
if echo from-the-guest 2>/dev/null >"/mnt/$1/guest"; then wrote=written; else wrote=refused; fi
echo "$(cat "/mnt/$1/host") $wrote"
umount "/mnt/$1"
"#;

/// Makes the host's side of the shares below `directory`, for the hypervisor's user to write to.
pub(crate) fn make(directory: &Path) -> Result<(), Failure> {
    let open =
        |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode));
    open(directory, 0o755)?;
    for (tag, _) in SHARES {
        let share = directory.join(tag);
        std::fs::create_dir(&share)?;
        open(&share, 0o777)?;
        std::fs::write(share.join("host"), GREETING)?;
    }
    Ok(())
}

/// Mounts each share in the guest, where its kernel can.
pub(crate) async fn mount(session: &mut Session<'_>, guest: &Guest) -> Result<(), Failure> {
    let has_9p = HostCommand::new("modprobe")
        .args(["--quiet", "9pnet_virtio"])
        .as_root();
    let has_9p = guest.run(&has_9p).await?.status == 0;
    for (tag, read_only) in SHARES {
        let name = format!("share '{tag}'");
        let wrote = if read_only { "refused" } else { "written" };
        let expected = format!("{GREETING} {wrote}");
        session.add(if has_9p {
            let mount = HostCommand::new("sh").args(["-c", MOUNT, "mount", tag]);
            let output = guest.run(&mount.as_root()).await?;
            let found = match output.status {
                0 => output.stdout.trim().to_owned(),
                _ => output.stderr.trim().to_owned(),
            };
            Row::equal(name, expected, found)
        } else {
            Row::skipped(
                name,
                expected,
                "the guest's kernel has no 9p (Debian's cloud kernel)",
            )
        });
    }
    Ok(())
}
