//! Reading what firmware a host has: descriptors, known paths, and the sizes of their files.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use harmony_base::qcow2::{HEADER_BYTES, Header};
use tracing::warn;

use super::candidate::{
    CandidateContent, DescribedFirmware, FirmwareCandidate, FirmwareFile, FirmwareMapping,
    FirmwareTarget, FlashFormat, FlashState,
};
use super::descriptor::{Descriptor, FlashFile};
use super::known::{KNOWN_PAIRS, KnownPair};
use crate::domain::topology::virtualization::VmArchitecture;

/// A descriptor larger than this is no descriptor.
const DESCRIPTOR_LIMIT_BYTES: u64 = 1024 * 1024;

/// As many symbolic links as Linux follows in one path.
const LINK_LIMIT: usize = 40;

/// Where descriptors are looked for, the most specific directory first: QEMU's three, and those of a
/// QEMU that was built and installed by hand and of NixOS's system profile.
pub fn firmware_directories() -> Vec<PathBuf> {
    // The XDG specification has relative paths ignored.
    let absolute = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let config_home =
        absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
    let system = [
        "/etc/qemu/firmware",
        "/usr/share/qemu/firmware",
        "/usr/local/share/qemu/firmware",
        "/run/current-system/sw/share/qemu/firmware",
    ];
    config_home
        .map(|home| home.join("qemu/firmware"))
        .into_iter()
        .chain(system.map(PathBuf::from))
        .collect()
}

/// Reads what firmware this host has, in the order in which it is to be considered.
///
/// Nothing is judged, and nothing is an error: what cannot be read is a candidate that says so.
pub fn read_firmware_candidates() -> Vec<FirmwareCandidate> {
    read_firmware_candidates_below(Path::new("/"), &firmware_directories())
}

/// The same below `root`, as if that were the host's `/`: all paths, given and returned, are those that
/// the host would see, and absolute symbolic links lead to files below `root`.
pub fn read_firmware_candidates_below(
    root: &Path,
    directories: &[PathBuf],
) -> Vec<FirmwareCandidate> {
    let tree = Tree { root };
    let (descriptors, unreadable) = tree.merged_descriptors(directories);
    let described = descriptors.into_iter().map(|origin| {
        let content = tree.described(&origin);
        FirmwareCandidate { origin, content }
    });
    let known = KNOWN_PAIRS.iter().map(|pair| tree.known(pair));
    unreadable
        .into_iter()
        .chain(described)
        .chain(known)
        .collect()
}

/// A pair of raw flash images of this host as a candidate for every version of the architecture's machine.
pub(crate) fn candidate_of_pair(
    architecture: VmArchitecture,
    code: &Path,
    vars_template: &Path,
) -> FirmwareCandidate {
    let tree = Tree {
        root: Path::new("/"),
    };
    let like = KnownPair {
        architecture,
        code: "",
        vars_template: "",
        format: FlashFormat::Raw,
    };
    tree.pair(&like, code, vars_template)
}

/// What became of a flash image of this host that was once chosen.
#[cfg(feature = "kvm")]
pub(crate) fn look_at_flash(path: &Path, format: FlashFormat) -> FlashState {
    let tree = Tree {
        root: Path::new("/"),
    };
    let filename = path.to_owned();
    tree.file(FlashFile { filename, format }).state
}

/// A directory that is a host's `/`.
struct Tree<'a> {
    root: &'a Path,
}

impl Tree<'_> {
    /// Descriptors after merging and masking, in name order, and the directories that could not be
    /// listed.
    fn merged_descriptors(
        &self,
        directories: &[PathBuf],
    ) -> (Vec<PathBuf>, Vec<FirmwareCandidate>) {
        let mut merged: BTreeMap<OsString, Option<PathBuf>> = BTreeMap::new();
        let mut unreadable = Vec::new();
        for directory in directories {
            match self.descriptor_names(directory) {
                Ok(names) => {
                    for name in names {
                        let path = directory.join(&name);
                        let masks = self.metadata(&path).is_ok_and(|found| found.len() == 0);
                        merged.entry(name).or_insert((!masks).then_some(path));
                    }
                }
                // The usual case for all directories but one.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    warn!(directory = %directory.display(), %error, "firmware descriptors cannot be listed");
                    unreadable.push(FirmwareCandidate {
                        origin: directory.clone(),
                        content: CandidateContent::Broken {
                            reason: format!("cannot be listed: {error}"),
                        },
                    });
                }
            }
        }
        (merged.into_values().flatten().collect(), unreadable)
    }

    fn descriptor_names(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.resolve(directory)?)? {
            let name = entry?.file_name();
            // Editors leave hidden files behind.
            if name.as_bytes().ends_with(b".json") && !name.as_bytes().starts_with(b".") {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn described(&self, origin: &Path) -> CandidateContent {
        match self.text(origin).and_then(|text| Descriptor::parse(&text)) {
            Ok(descriptor) => CandidateContent::Described(DescribedFirmware {
                targets: descriptor.targets(),
                interface_types: descriptor.interface_types,
                features: descriptor.features,
                code: descriptor.mapping.executable.map(|file| self.file(file)),
                vars_template: descriptor
                    .mapping
                    .nvram_template
                    .map(|file| self.file(file)),
                mapping: FirmwareMapping {
                    device: descriptor.mapping.device,
                    mode: descriptor.mapping.mode,
                },
            }),
            Err(reason) => {
                warn!(descriptor = %origin.display(), reason, "firmware descriptor passed over");
                CandidateContent::Broken { reason }
            }
        }
    }

    fn known(&self, pair: &KnownPair) -> FirmwareCandidate {
        self.pair(pair, pair.code.as_ref(), pair.vars_template.as_ref())
    }

    /// A pair without a descriptor, which is for every version of its architecture's machine.
    fn pair(&self, like: &KnownPair, code: &Path, vars_template: &Path) -> FirmwareCandidate {
        let file = |path: &Path| {
            Some(self.file(FlashFile {
                filename: path.to_owned(),
                format: like.format,
            }))
        };
        FirmwareCandidate {
            origin: code.to_owned(),
            content: CandidateContent::Described(DescribedFirmware {
                interface_types: vec!["uefi".to_owned()],
                targets: vec![FirmwareTarget {
                    architecture: like.architecture.as_str().to_owned(),
                    machines: vec![like.machines().to_owned()],
                }],
                features: Vec::new(),
                mapping: FirmwareMapping {
                    device: "flash".to_owned(),
                    mode: None,
                },
                code: file(code),
                vars_template: file(vars_template),
            }),
        }
    }

    fn text(&self, path: &Path) -> Result<String, String> {
        let mut text = String::new();
        self.open(path)
            .and_then(|file| file.take(DESCRIPTOR_LIMIT_BYTES).read_to_string(&mut text))
            .map_err(|error| format!("cannot be read: {error}"))?;
        Ok(text)
    }

    fn file(&self, named: FlashFile) -> FirmwareFile {
        let FlashFile { filename, format } = named;
        let state = match self.flash_bytes(&filename, format) {
            Ok(flash_bytes) => FlashState::Present { flash_bytes },
            Err(reason) => FlashState::Unusable { reason },
        };
        FirmwareFile {
            path: filename,
            format,
            state,
        }
    }

    fn flash_bytes(&self, path: &Path, format: FlashFormat) -> Result<u64, String> {
        let unreadable = |error: io::Error| format!("cannot be read: {error}");
        if !path.is_absolute() {
            return Err("is not an absolute path".to_owned());
        }
        let file = self.open(path).map_err(unreadable)?;
        match format {
            FlashFormat::Raw => file.metadata().map(|found| found.len()).map_err(unreadable),
            FlashFormat::Qcow2 => {
                let mut start = Vec::with_capacity(HEADER_BYTES);
                file.take(HEADER_BYTES as u64)
                    .read_to_end(&mut start)
                    .map_err(unreadable)?;
                qcow2_virtual_bytes(&start)
            }
        }
    }

    /// Opens a regular file; nothing else is opened, as a pipe would be waited for.
    fn open(&self, path: &Path) -> io::Result<File> {
        let path = self.resolve(path)?;
        if fs::metadata(&path)?.is_file() {
            File::open(path)
        } else {
            Err(io::Error::other("not a regular file"))
        }
    }

    fn metadata(&self, path: &Path) -> io::Result<fs::Metadata> {
        fs::metadata(self.resolve(path)?)
    }

    /// Where the file at `path` really is, with all symbolic links followed inside the tree.
    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        let mut pending: Vec<OsString> = reversed(path);
        let mut inside = PathBuf::new();
        let mut links = 0;
        while let Some(name) = pending.pop() {
            if name == ".." {
                inside.pop();
                continue;
            }
            let next = inside.join(&name);
            let outside = self.root.join(&next);
            if !fs::symlink_metadata(&outside)?.is_symlink() {
                inside = next;
                continue;
            }
            links += 1;
            if links > LINK_LIMIT {
                return Err(io::Error::other("too many levels of symbolic links"));
            }
            let target = fs::read_link(&outside)?;
            if target.is_absolute() {
                inside = PathBuf::new();
            }
            pending.extend(reversed(&target));
        }
        Ok(self.root.join(inside))
    }
}

/// The names and `..` of a path, the last one first.
fn reversed(path: &Path) -> Vec<OsString> {
    path.components()
        .rev()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| part.as_os_str().to_owned())
        .collect()
}

/// The size of the disk that a qcow2 image holds, from the beginning of its file.
fn qcow2_virtual_bytes(start: &[u8]) -> Result<u64, String> {
    let header = Header::parse(start).map_err(|error| error.to_string())?;
    match header.backing {
        None => Ok(header.virtual_bytes),
        Some(_) => Err("has a backing file, so that a copy is not whole".to_owned()),
    }
}
