//! Rules for paths in the image.

use super::{Broken, PATH_BYTES, broken, rule};

/// An absolute path in its shortest form.
pub(in crate::modules::image::recipe) fn path(path: &str) -> Result<(), Broken> {
    let expected = || broken("an absolute path without '.', '..', '//' or a final '/'");
    let Some(rest) = path.strip_prefix('/') else {
        return Err(expected().fix(format!("write '/{path}'")));
    };
    let normal = rest.split('/').all(|part| !["", ".", ".."].contains(&part));
    rule(normal, expected)?;
    let printable = !path.chars().any(char::is_control);
    rule(printable && path.len() <= PATH_BYTES, || {
        broken(format!(
            "at most {PATH_BYTES} bytes without control characters"
        ))
    })
}

/// The path of a file that is in the image when the guest is off.
pub(in crate::modules::image::recipe) fn file_path(value: &str) -> Result<(), Broken> {
    path(value)?;
    let volatile = ["/proc", "/sys", "/dev", "/run", "/tmp"];
    rule(!volatile.iter().any(|dir| is_below(value, dir)), || {
        broken("a path outside of /proc, /sys, /dev, /run, /tmp")
            .fix("have systemd-tmpfiles make it: write a file in /etc/tmpfiles.d")
    })
}

fn is_below(path: &str, dir: &str) -> bool {
    path.strip_prefix(dir)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Directories that no image is without. What they are in is kept as well.
const KEPT: [&str; 43] = [
    "/bin",
    "/boot/efi",
    "/boot/grub",
    "/dev",
    "/etc/alternatives",
    "/etc/apt",
    "/etc/cloud",
    "/etc/default",
    "/etc/pam.d",
    "/etc/ssh",
    "/etc/ssl",
    "/etc/systemd/network",
    "/etc/systemd/system",
    "/home",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/media",
    "/mnt",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr/bin",
    "/usr/lib/modules",
    "/usr/lib/systemd/system",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/share/keyrings",
    "/var/backups",
    "/var/cache",
    "/var/lib/cloud",
    "/var/lib/dpkg/info",
    "/var/lib/systemd",
    "/var/log",
    "/var/tmp",
];

/// A directory that may be removed.
pub(in crate::modules::image::recipe) fn removable(value: &str) -> Result<(), Broken> {
    if value == "/" {
        return Err(not_removable("/"));
    }
    path(value)?;
    if let Some(kept) = KEPT.iter().find(|kept| is_below(kept, value)) {
        return Err(not_removable(kept));
    }
    let volatile = ["/proc", "/sys", "/dev", "/run"];
    rule(!volatile.iter().any(|dir| is_below(value, dir)), || {
        broken("a directory outside of /proc, /sys, /dev, /run").fix("remove the line")
    })
}

fn not_removable(kept: &str) -> Broken {
    broken(format!(
        "a directory that the system can do without, and not one with {kept}"
    ))
    .fix("name the directories in it that can go")
}
