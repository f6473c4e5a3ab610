//! What a build consists of: the JSON document beside the objects.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::digest::ObjectDigest;
use super::error::{StoreError, invalid, io_error};
use super::name::{BuildHost, BuildName, BuildVersion, Timestamp};
use super::path::BuildPath;
use super::profile::QemuProfile;
use crate::domain::topology::virtualization::VmArchitecture;

/// A build has at most this many files.
pub(super) const MAX_FILES: usize = 8192;

/// A manifest has at most this many bytes.
pub(super) const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// A build's manifest. It exists only valid: its emulator is among its objects, no file is at the place of
/// a directory, and there are at most 8192 files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ManifestDocument")]
pub struct Manifest {
    pub(super) name: BuildName,
    pub(super) created_at: Timestamp,
    pub(super) objects: BTreeMap<BuildPath, ObjectDigest>,
    pub(super) profile: QemuProfile,
    pub(super) qemu_version: BuildVersion,
    pub(super) build_date: Timestamp,
    pub(super) build_host: BuildHost,
    pub(super) arch: VmArchitecture,
    pub(super) total_bytes: u64,
}

/// The document, whose fields are checked each for itself.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ManifestDocument {
    pub name: BuildName,
    pub created_at: Timestamp,
    pub objects: BTreeMap<BuildPath, ObjectDigest>,
    pub profile: QemuProfile,
    pub qemu_version: BuildVersion,
    pub build_date: Timestamp,
    pub build_host: BuildHost,
    pub arch: VmArchitecture,
    pub total_bytes: u64,
}

impl Manifest {
    /// The build's name: unique in its store.
    pub fn name(&self) -> &BuildName {
        &self.name
    }

    /// When it was ingested.
    pub fn created_at(&self) -> Timestamp {
        self.created_at
    }

    /// Every file, and the object it consists of.
    pub fn objects(&self) -> &BTreeMap<BuildPath, ObjectDigest> {
        &self.objects
    }

    /// What the build is for.
    pub fn profile(&self) -> QemuProfile {
        self.profile
    }

    /// QEMU's version.
    pub fn qemu_version(&self) -> &BuildVersion {
        &self.qemu_version
    }

    /// When QEMU was built.
    pub fn build_date(&self) -> Timestamp {
        self.build_date
    }

    /// Where QEMU was built.
    pub fn build_host(&self) -> &BuildHost {
        &self.build_host
    }

    /// The guests' architecture.
    pub fn arch(&self) -> VmArchitecture {
        self.arch
    }

    /// The sum of all files' sizes in bytes; two files of one content count twice.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// The emulator's path in the build.
    pub(super) fn binary(&self) -> Option<&BuildPath> {
        let name = self.profile.binary_name(self.arch).ok()?;
        let path = format!("bin/{name}");
        self.objects.keys().find(|known| known.as_str() == path)
    }

    /// The document's text. Equal manifests have equal texts.
    pub(super) fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        Ok(text)
    }

    /// Reads the manifest of the build `name`.
    pub(super) fn read(path: &Path, name: &BuildName) -> Result<Self, StoreError> {
        let file = File::open(path).map_err(io_error("open", path))?;
        let text = read_bounded(file).map_err(io_error("read", path))?;
        if text.len() as u64 > MAX_BYTES {
            return Err(StoreError::ManifestTooLong {
                path: path.to_owned(),
                bound_bytes: MAX_BYTES,
            });
        }
        let manifest: Self =
            serde_json::from_slice(&text).map_err(|source| StoreError::MalformedManifest {
                path: path.to_owned(),
                source,
            })?;
        if manifest.name != *name {
            return Err(StoreError::MisnamedManifest {
                path: path.to_owned(),
                name: manifest.name,
            });
        }
        Ok(manifest)
    }
}

/// At most one byte more than a manifest may have.
fn read_bounded(file: File) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut text)?;
    Ok(text)
}

impl TryFrom<ManifestDocument> for Manifest {
    type Error = StoreError;

    fn try_from(document: ManifestDocument) -> Result<Self, Self::Error> {
        let ManifestDocument {
            name,
            created_at,
            objects,
            profile,
            qemu_version,
            build_date,
            build_host,
            arch,
            total_bytes,
        } = document;
        if objects.len() > MAX_FILES {
            let found = objects.len().to_string();
            return Err(invalid("number of objects", &found, "at most 8192"));
        }
        let directories: BTreeSet<&str> = objects.keys().flat_map(BuildPath::parents).collect();
        if let Some(path) = objects.keys().find(|p| directories.contains(p.as_str())) {
            return Err(invalid(
                "path in a build",
                path.as_str(),
                "a file, and not the directory of another",
            ));
        }
        profile.binary_name(arch)?;
        let manifest = Self {
            name,
            created_at,
            objects,
            profile,
            qemu_version,
            build_date,
            build_host,
            arch,
            total_bytes,
        };
        match manifest.binary() {
            Some(_) => Ok(manifest),
            None => Err(invalid(
                "objects",
                &format!("of {} files", manifest.objects.len()),
                "the emulator of the profile and architecture in bin/ among them",
            )),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;

    use serde_json::{Value, json};

    use super::{MAX_BYTES, MAX_FILES, Manifest};
    use crate::modules::qemu::digest::ObjectDigest;
    use crate::modules::qemu::error::StoreError;

    pub fn document() -> Value {
        json!({
            "name": "debian-10.0.2",
            "created_at": "2026-01-31T23:59:59Z",
            "objects": {
                "bin/qemu-system-aarch64": ObjectDigest::of(b"a").to_string(),
                "lib/libc.so.6": ObjectDigest::of(b"b").to_string(),
            },
            "profile": "emulate-foreign",
            "qemu_version": "10.0.2",
            "build_date": "2025-12-01T00:00:00Z",
            "build_host": "builder",
            "arch": "aarch64",
            "total_bytes": 2,
        })
    }

    #[test]
    fn a_manifest_round_trips() {
        let manifest: Manifest = serde_json::from_value(document()).expect("valid");
        let json = manifest.to_json().expect("text");
        assert_eq!(
            serde_json::from_slice::<Value>(&json).expect("JSON"),
            document()
        );
        assert_eq!(
            serde_json::from_slice::<Manifest>(&json).expect("valid"),
            manifest
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let digest = ObjectDigest::of(b"c").to_string();
        let binary = "bin/qemu-system-aarch64";
        let table = [
            ("/objects", json!({}), "invalid objects 'of 0 files'"),
            ("/objects", json!({ binary: "00" }), "invalid digest '00'"),
            (
                "/objects",
                json!({ binary: digest, "../../etc/passwd": digest }),
                "invalid path in a build '../../etc/passwd'",
            ),
            (
                "/objects",
                json!({ binary: digest, "/etc/passwd": digest }),
                "invalid path in a build '/etc/passwd'",
            ),
            (
                "/objects",
                json!({ binary: digest, "lib/../../x": digest }),
                "invalid path in a build 'lib/../../x'",
            ),
            (
                "/objects",
                json!({ binary: digest, "lib/a": digest, "lib/a-b": digest, "lib/a/b": digest }),
                "invalid path in a build 'lib/a' (expected a file, and not the directory of another)",
            ),
            ("/profile", json!("kvm"), "unknown variant `kvm`"),
            (
                "/profile",
                json!("kvm-linux"),
                "profile kvm-linux has no aarch64 guests",
            ),
            ("/arch", json!("x86_64"), "invalid objects 'of 2 files'"),
            (
                "/created_at",
                json!("yesterday"),
                "invalid time 'yesterday'",
            ),
            ("/qemu_version", json!("ten"), "invalid QEMU version 'ten'"),
            ("/name", json!("../x"), "invalid build name '../x'"),
            ("/build_host", json!(""), "invalid build host ''"),
            ("/total_bytes", json!(-1), "invalid value: integer `-1`"),
        ];
        for (pointer, value, message) in table {
            let mut changed = document();
            *changed.pointer_mut(pointer).expect("a field") = value;
            let error = serde_json::from_value::<Manifest>(changed).expect_err(pointer);
            assert!(error.to_string().contains(message), "{pointer}: {error}");
        }
        let mut more = document();
        more["mode"] = json!(0o755);
        let error = serde_json::from_value::<Manifest>(more).expect_err("an unknown field");
        assert!(
            error.to_string().contains("unknown field `mode`"),
            "{error}"
        );
        let mut many = document();
        for number in 0..MAX_FILES {
            many["objects"][format!("lib/{number}")] = json!(digest);
        }
        let error = serde_json::from_value::<Manifest>(many).expect_err("too many");
        let message = "invalid number of objects '8194' (expected at most 8192)";
        assert!(error.to_string().contains(message), "{error}");
    }

    #[test]
    fn reading_is_bounded_and_compares_the_name() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("a.json");
        let name = "debian-10.0.2".parse().expect("a name");
        fs::write(&path, "").expect("writable");
        assert!(matches!(
            Manifest::read(&path, &name),
            Err(StoreError::MalformedManifest { .. })
        ));
        fs::File::create(&path)
            .and_then(|file| file.set_len(MAX_BYTES + 1))
            .expect("writable");
        assert!(matches!(
            Manifest::read(&path, &name),
            Err(StoreError::ManifestTooLong {
                bound_bytes: MAX_BYTES,
                ..
            })
        ));
        fs::write(&path, document().to_string()).expect("writable");
        assert!(Manifest::read(&path, &name).is_ok());
        let other = "other".parse().expect("a name");
        assert!(matches!(
            Manifest::read(&path, &other),
            Err(StoreError::MisnamedManifest { name: found, .. }) if found == name
        ));
    }
}
