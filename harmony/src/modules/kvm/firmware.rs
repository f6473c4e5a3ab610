//! Finding UEFI firmware for aarch64 guests.
//!
//! QEMU's interop rule first: descriptors from the search directories are merged by file name, a name
//! in an earlier directory masks the same name in a later one, an empty file masks without replacing,
//! and the rest is walked in name order. Then a table of known paths. Every candidate that is passed
//! over leaves its reason; a broken descriptor is passed over like any other.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tracing::debug;

use super::error::KvmError;

/// A raw pflash image of machine `virt` has exactly this size in bytes.
const PFLASH_BYTES: u64 = 64 * 1024 * 1024;

/// A descriptor larger than this is no descriptor.
const DESCRIPTOR_LIMIT_BYTES: u64 = 1024 * 1024;

/// Pairs of code and variable template where distributions put them, without a descriptor's help.
const KNOWN_PATHS: &[(&str, &str)] = &[
    // Debian, Ubuntu
    (
        "/usr/share/AAVMF/AAVMF_CODE.no-secboot.fd",
        "/usr/share/AAVMF/AAVMF_VARS.fd",
    ),
    (
        "/usr/share/AAVMF/AAVMF_CODE.fd",
        "/usr/share/AAVMF/AAVMF_VARS.fd",
    ),
    // Arch, before and since 202608
    (
        "/usr/share/edk2/aarch64/QEMU_CODE.fd",
        "/usr/share/edk2/aarch64/QEMU_VARS.fd",
    ),
    (
        "/usr/share/edk2/aarch64/QEMU_EFI.fd",
        "/usr/share/edk2/aarch64/QEMU_VARS.fd",
    ),
    // Fedora, RHEL
    (
        "/usr/share/edk2/aarch64/QEMU_EFI-silent-pflash.raw",
        "/usr/share/edk2/aarch64/vars-template-pflash.raw",
    ),
    (
        "/usr/share/edk2/aarch64/QEMU_EFI-pflash.raw",
        "/usr/share/edk2/aarch64/vars-template-pflash.raw",
    ),
    // openSUSE
    (
        "/usr/share/qemu/aavmf-aarch64-code.bin",
        "/usr/share/qemu/aavmf-aarch64-vars.bin",
    ),
    // NixOS
    (
        "/run/libvirt/nix-ovmf/AAVMF_CODE.fd",
        "/run/libvirt/nix-ovmf/AAVMF_VARS.fd",
    ),
    // QEMU's own build
    (
        "/usr/share/qemu/edk2-aarch64-code.fd",
        "/usr/share/qemu/edk2-arm-vars.fd",
    ),
    (
        "/usr/local/share/qemu/edk2-aarch64-code.fd",
        "/usr/local/share/qemu/edk2-arm-vars.fd",
    ),
];

/// A firmware pair: both are raw images of 64 MiB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AarchFirmware {
    /// The code, mapped read-only and shared by all guests.
    pub code: PathBuf,
    /// What a guest's own variable store (NVRAM) begins as.
    pub vars_template: PathBuf,
}

/// A candidate that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedFirmware {
    /// The descriptor or the code file.
    pub candidate: PathBuf,
    /// Why not.
    pub reason: String,
}

impl fmt::Display for RejectedFirmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.candidate.display(), self.reason)
    }
}

/// Finds the firmware of this host for aarch64 guests without Secure Boot.
///
/// # Errors
/// [`KvmError::MissingFirmware`] with each candidate and why it was not taken.
pub fn discover_aarch64_firmware() -> Result<AarchFirmware, KvmError> {
    let mut directories = Vec::new();
    let config_home = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".config")));
    directories.extend(config_home.map(|dir| dir.join("qemu/firmware")));
    directories.push("/etc/qemu/firmware".into());
    directories.push("/usr/share/qemu/firmware".into());
    discover_in(Path::new("/"), &directories)
}

/// The same below another root, for trees that only look like a host.
pub fn discover_in(root: &Path, directories: &[PathBuf]) -> Result<AarchFirmware, KvmError> {
    let mut rejected = Vec::new();
    let described = merged_descriptors(root, directories)
        .into_iter()
        .map(|path| {
            let pair = read_descriptor(&path).and_then(|d| select(&d));
            (path, pair)
        });
    let known = KNOWN_PATHS
        .iter()
        .map(|(code, vars)| (PathBuf::from(code), Ok((code.into(), vars.into()))));
    for (candidate, pair) in described.chain(known) {
        let usable = pair.and_then(|(code, vars): (PathBuf, PathBuf)| {
            let firmware = AarchFirmware {
                code: below(root, &code),
                vars_template: below(root, &vars),
            };
            check_file(&firmware.code)?;
            check_file(&firmware.vars_template)?;
            Ok(firmware)
        });
        match usable {
            Ok(firmware) => {
                debug!(candidate = %candidate.display(), "firmware found");
                return Ok(firmware);
            }
            Err(reason) => {
                debug!(candidate = %candidate.display(), reason, "firmware candidate rejected");
                rejected.push(RejectedFirmware { candidate, reason });
            }
        }
    }
    Err(KvmError::MissingFirmware { rejected })
}

fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// Descriptor files after merging and masking, in the order to try them.
fn merged_descriptors(root: &Path, directories: &[PathBuf]) -> Vec<PathBuf> {
    let mut merged: BTreeMap<std::ffi::OsString, Option<PathBuf>> = BTreeMap::new();
    for directory in directories {
        // A directory that is not there offers nothing; that is the usual case for all but one.
        let Ok(entries) = std::fs::read_dir(below(root, directory)) else {
            continue;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|e| e == "json") {
                let empty = std::fs::metadata(&path).is_ok_and(|m| m.len() == 0);
                merged
                    .entry(entry.file_name())
                    .or_insert_with(|| (!empty).then_some(path));
            }
        }
    }
    merged.into_values().flatten().collect()
}

/// What is read of a descriptor; see QEMU's `docs/interop/firmware.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Descriptor {
    interface_types: Vec<String>,
    mapping: Mapping,
    targets: Vec<Target>,
    features: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Mapping {
    device: String,
    mode: Option<String>,
    executable: Option<File>,
    nvram_template: Option<File>,
}

#[derive(Debug, Deserialize)]
struct File {
    filename: PathBuf,
    format: String,
}

#[derive(Debug, Deserialize)]
struct Target {
    architecture: String,
    machines: Vec<String>,
}

fn read_descriptor(path: &Path) -> Result<Descriptor, String> {
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(DESCRIPTOR_LIMIT_BYTES).read_to_string(&mut text))
        .map_err(|e| format!("unreadable: {e}"))?;
    serde_json::from_str(&text).map_err(|e| format!("not a firmware descriptor: {e}"))
}

/// The pair of a descriptor that fits a plain aarch64 `virt` guest, or why it does not.
fn select(descriptor: &Descriptor) -> Result<(PathBuf, PathBuf), String> {
    let Descriptor {
        interface_types,
        mapping,
        targets,
        features,
    } = descriptor;
    if !interface_types.iter().any(|i| i == "uefi") {
        return Err("is not UEFI".to_owned());
    }
    let fits = |t: &Target| {
        t.architecture == "aarch64" && t.machines.iter().any(|m| m.starts_with("virt"))
    };
    if !targets.iter().any(fits) {
        return Err("is not for aarch64 machines of type virt".to_owned());
    }
    for unwanted in ["secure-boot", "enrolled-keys"] {
        if features.iter().any(|f| f == unwanted) {
            return Err(format!("has feature {unwanted}"));
        }
    }
    if mapping.device != "flash" {
        return Err(format!("is mapped as {}, not as flash", mapping.device));
    }
    if mapping.mode.as_deref().is_some_and(|mode| mode != "split") {
        return Err("does not split code and variables".to_owned());
    }
    match (&mapping.executable, &mapping.nvram_template) {
        (Some(code), Some(vars)) if code.format == "raw" && vars.format == "raw" => {
            Ok((code.filename.clone(), vars.filename.clone()))
        }
        (Some(code), Some(_)) => Err(format!("has format {}, not raw", code.format)),
        _ => Err("names no pair of code and variable template".to_owned()),
    }
}

fn check_file(path: &Path) -> Result<(), String> {
    let metadata =
        std::fs::metadata(path).map_err(|e| format!("{} cannot be used: {e}", path.display()))?;
    if metadata.len() == PFLASH_BYTES {
        Ok(())
    } else {
        Err(format!(
            "{} has {} bytes, and pflash needs {PFLASH_BYTES}",
            path.display(),
            metadata.len()
        ))
    }
}

#[cfg(test)]
mod tests;
