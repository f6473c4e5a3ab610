//! Programs of the host's architecture in a tree of another one, for the time that its packages are installed.
//!
//! ```text
//! native.tar      programs of the tree's release for the host: unpacked, never installed
//!   enter         the tree can run them; dpkg finds them first          before the first package is installed
//!   take          they stand in for the tree's own shell, perl, sed ...  when the essential packages are there
//!   leave         the tree is its own again; its initramfs is made       at last
//! ```
//! The initramfs is made at last because it consists of copies of the tree's programs.

use std::path::{Path, PathBuf};

use harmony_base::words::ShellWord;

use super::Privileges;
use super::composition::Composition;
use crate::domain::topology::virtualization::VmArchitecture;
use crate::modules::image::error::ImageError;
use crate::modules::image::tool::tool;

/// Where they are in the tree.
pub(super) const PATH: &str = "/harmony-native/usr/sbin:/harmony-native/usr/bin";

/// What kernel packages take for "make no initramfs".
pub(super) const NO_INITRAMFS: (&str, &str) = ("INITRD", "No");

const SCRIPT: &str = include_str!("native.sh");

/// `mmdebstrap`'s own way to a tree whose `/bin` and `/lib` are links into `/usr` from the beginning.
const MERGED_USR: &str = "/usr/share/mmdebstrap/hooks/merged-usr";

/// What maintainer scripts run most, and what unpacks packages and compiles Python.
const PACKAGES: [&str; 20] = [
    "bash",
    "bzip2",
    "coreutils",
    "cpio",
    "dash",
    "debianutils",
    "diffutils",
    "dpkg",
    "findutils",
    "grep",
    "gzip",
    "kmod",
    "mawk",
    "openssl",
    "passwd",
    "perl-base",
    "python3-minimal",
    "sed",
    "tar",
    "xz-utils",
];

const INITRAMFS_SCRIPT: &str = include_str!("initramfs.sh");

/// The programs, packed.
#[derive(Debug)]
pub(super) struct NativePrograms {
    tar: PathBuf,
}

impl NativePrograms {
    /// Packs them in `dir` where they help: on x86_64, for a tree of another architecture.
    pub(super) async fn for_tree(
        composition: &Composition,
        privileges: Privileges,
        dir: &Path,
        sources: &[String],
    ) -> Result<Option<Self>, ImageError> {
        let host = VmArchitecture::X86_64;
        let helps = VmArchitecture::of_host() == Some(host) && composition.architecture != host;
        if !helps || !Path::new(MERGED_USR).exists() {
            return Ok(None);
        }
        tracing::info!("fetching programs of this host's architecture for the installation");
        let tar = dir.join("native.tar");
        tool("mmdebstrap")
            .args([
                format!("--mode={}", privileges.mmdebstrap_mode()),
                format!("--architectures={}", host.debian_name()),
                "--variant=extract".to_owned(),
                "--format=tar".to_owned(),
                // A user's namespace can make no devices of them.
                "--skip=output/dev".to_owned(),
                format!("--hook-dir={MERGED_USR}"),
                format!("--include={}", PACKAGES.join(",")),
            ])
            .args(
                composition
                    .apt_options
                    .iter()
                    .map(|option| format!("--aptopt={option}")),
            )
            .arg(composition.suite.codename)
            .arg(&tar)
            .args(sources.iter().cloned())
            .run()
            .await?;
        Ok(Some(Self { tar }))
    }

    /// Before any package is installed.
    pub(super) fn enter_hooks(&self) -> Result<Vec<String>, ImageError> {
        let tar = self.tar.to_string_lossy();
        let tar = ShellWord::new(&tar)?;
        Ok(vec![
            "--extract-hook=mkdir \"$1\"/harmony-native".to_owned(),
            format!("--extract-hook=tar-in {tar} /harmony-native"),
            format!("--extract-hook=stage=enter\n{SCRIPT}"),
        ])
    }

    /// When the essential packages are installed.
    pub(super) fn take_hooks(&self) -> Vec<String> {
        vec![format!("--essential-hook=stage=take\n{SCRIPT}")]
    }

    /// When all is installed and set up.
    pub(super) fn leave_hooks(&self) -> Result<Vec<String>, ImageError> {
        let (variable, _) = NO_INITRAMFS;
        let script = ShellWord::new(INITRAMFS_SCRIPT)?;
        Ok(vec![
            format!("--customize-hook=stage=leave\n{SCRIPT}"),
            format!(
                "--customize-hook=chroot \"$1\" env --unset={variable} sh -c {script} </dev/null >&2"
            ),
        ])
    }
}

#[cfg(test)]
#[path = "native_tests.rs"]
mod tests;
