//! What decides which tests can run on this host.

use std::path::Path;
use std::process::{Command, Stdio};

/// This host, as far as lanes depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Whether this process is root's.
    pub is_root: bool,
    /// Whether a private sshd can be run.
    pub has_sshd: bool,
    /// Whether QEMU's arguments are those of the golden files: one version of both, on one kind of host.
    pub has_golden_versions: bool,
    /// The release of Debian, or nothing.
    pub codename: String,
    /// Whether it is a machine of `in-stranger.sh`.
    pub is_stranger: bool,
}

impl Host {
    /// Looks at this host.
    pub fn look() -> Self {
        let is_root = printed("id", &["-u"]) == "0";
        let versions = printed("virsh", &["-c", "qemu:///system", "version"]);
        let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        Self {
            is_root,
            has_sshd: Path::new("/usr/sbin/sshd").exists(),
            has_golden_versions: is_root
                && std::env::consts::ARCH == "x86_64"
                && Path::new("/dev/kvm").exists()
                && versions.contains("Using library: libvirt 11.3.")
                && versions.contains("QEMU 10.0."),
            codename: codename(&release),
            is_stranger: std::env::var_os("HARMONY_STRANGER").is_some(),
        }
    }

    /// A host that has everything, for tests of what it depends on.
    #[cfg(test)]
    pub fn for_tests(is_root: bool) -> Self {
        Self {
            is_root,
            has_sshd: true,
            has_golden_versions: is_root,
            codename: "bookworm".to_owned(),
            is_stranger: false,
        }
    }

    /// The other release that set-up is tried on.
    pub fn other_release(&self) -> &'static str {
        if self.codename == "bookworm" {
            "trixie"
        } else {
            "bookworm"
        }
    }
}

fn codename(release: &str) -> String {
    let line = release
        .lines()
        .find_map(|l| l.strip_prefix("VERSION_CODENAME="));
    line.unwrap_or_default().trim_matches('"').to_owned()
}

/// What a program prints; nothing when it fails or is missing.
fn printed(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    match output {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::codename;

    #[test]
    fn the_release_is_read() {
        assert_eq!(
            codename("ID=debian\nVERSION_CODENAME=bookworm\n"),
            "bookworm"
        );
        assert_eq!(codename("VERSION_CODENAME=\"noble\"\n"), "noble");
        assert_eq!(codename("ID=arch\n"), "");
    }
}
