//! The store: builds of QEMU by their content.
//!
//! ```text
//! ROOT/objects/<first 2 digits>/<sha256>   every file once, read-only
//! ROOT/manifests/<name>.json               which object is which file of a build
//! ROOT/assembled/<manifest's sha256>/      a build that was resolved: hard links to objects, and a wrapper
//! ROOT/.lock                               one writer, or many readers
//! ```
//!
//! Every call blocks: on files, and on the lock. Asynchronous callers move it to a thread
//! (`tokio::task::spawn_blocking`).

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use harmony_base::lock::FileLock;

use super::assemble::{Assembly, Generated, Link, check_tree};
use super::digest::ObjectDigest;
use super::error::{StoreError, io_error};
use super::manifest::Manifest;
use super::name::BuildName;
use super::objects::{Objects, ensure_dir, remove_all, sweep_unfinished, sync_dir};
use super::profile::QemuProfile;
use super::resolved::ResolvedQemu;
use super::wrapper::{Launch, can_be_searched};
use crate::domain::topology::virtualization::VmArchitecture;

#[cfg(test)]
pub(super) mod tests;

/// The lock file's name. The file stays: one writer, or many readers, hold a lock on it.
const LOCK: &str = ".lock";
const LOCK_MODE: u32 = 0o644;

/// A store of QEMU builds in a directory, which is made by the first [`ingest`](Self::ingest).
#[derive(Debug, Clone)]
pub struct QemuStore {
    root: PathBuf,
    pub(super) link: Link,
}

impl QemuStore {
    /// The store in `root`.
    ///
    /// # Errors
    /// [`StoreError::UnusableRoot`] when no library search path can have it: it must not contain `:`, `;` or
    /// `$`, and the working directory must be known if it is relative.
    pub fn new(root: &Path) -> Result<Self, StoreError> {
        let unusable = || StoreError::UnusableRoot {
            root: root.to_owned(),
        };
        let root = std::path::absolute(root).map_err(|_| unusable())?;
        match can_be_searched(&root) {
            true => Ok(Self {
                root,
                link: |from, to| fs::hard_link(from, to),
            }),
            false => Err(unusable()),
        }
    }

    /// `$HARMONY_DATA_DIR/qemu`, or else `$XDG_DATA_HOME/harmony/qemu`, or else
    /// `$HOME/.local/share/harmony/qemu`. It is not made. Guests of `qemu:///system` run as a user of
    /// libvirt's, who often cannot enter a home directory: give such a store another place.
    ///
    /// # Errors
    /// [`StoreError::NoDataDirectory`] when none of the variables is set to an absolute path.
    pub fn default_root() -> Result<PathBuf, StoreError> {
        default_root_from(|name| std::env::var_os(name))
    }

    /// The store's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Every build, sorted by name. A store that does not exist has none.
    ///
    /// # Errors
    /// [`StoreError::Io`], and those of the first manifest that is not valid.
    pub fn list(&self) -> Result<Vec<Manifest>, StoreError> {
        let names = self.names()?;
        names.iter().map(|name| self.manifest(name)).collect()
    }

    /// The newest build of a profile, assembled and ready to be started: the one with the latest `created_at`,
    /// and among equals the one whose name sorts last. Every byte of it has been compared with its digest
    /// when this returns.
    ///
    /// Concurrent callers, also in other processes, get the same tree. It is made once; a damaged one is made
    /// anew, and its path does not exist for a moment then.
    ///
    /// # Errors
    /// [`StoreError::NoBuild`]; [`StoreError::CorruptObject`], [`StoreError::MissingObject`] and
    /// [`StoreError::WrongTotal`] when the build is not what its manifest says; [`StoreError::Io`]. A manifest
    /// that is not valid is passed over with a warning.
    pub fn resolve(
        &self,
        profile: QemuProfile,
        arch: VmArchitecture,
    ) -> Result<ResolvedQemu, StoreError> {
        profile.binary_name(arch)?;
        let none = || StoreError::NoBuild {
            root: self.root.clone(),
            profile,
            arch,
        };
        if !self.manifests_dir().is_dir() {
            return Err(none());
        }
        {
            let _lock = self.lock_shared()?;
            let tree = self.newest(profile, arch)?.ok_or_else(none)?;
            if check_tree(&tree.dir, &tree.manifest, &tree.wrapper).is_ok() {
                return Ok(tree.resolved());
            }
        }
        let _lock = self.lock_exclusive()?;
        // Somebody else may have made it, or removed the build, in between.
        let tree = self.newest(profile, arch)?.ok_or_else(none)?;
        match check_tree(&tree.dir, &tree.manifest, &tree.wrapper) {
            Ok(()) => return Ok(tree.resolved()),
            Err(damage) => {
                tracing::info!(build = %tree.manifest.name, reason = %damage, "assembling");
            }
        }
        ensure_dir(&self.assembled_dir())?;
        sweep_unfinished(&self.assembled_dir())?;
        let objects = self.objects();
        let assembly = self.assembly(&objects, &tree.manifest, &tree.wrapper);
        assembly.build(&tree.dir)?;
        Ok(tree.resolved())
    }

    /// Reads every object of a build and compares it with its digest.
    ///
    /// # Errors
    /// [`StoreError::NoSuchBuild`], [`StoreError::CorruptObject`], [`StoreError::MissingObject`],
    /// [`StoreError::WrongTotal`], [`StoreError::Io`], and those of an invalid manifest.
    pub fn verify(&self, name: &BuildName) -> Result<(), StoreError> {
        if !self.manifests_dir().is_dir() {
            return Err(self.no_such_build(name));
        }
        let _lock = self.lock_shared()?;
        let tree = self.tree(self.manifest(name)?)?;
        let objects = self.objects();
        self.assembly(&objects, &tree.manifest, &tree.wrapper)
            .verify()
            .map(drop)
    }

    /// Removes a build, and then every assembled tree and every object that no other build has. A manifest that is not
    /// valid can be removed as well. Guests that run keep their files; they cannot be started again.
    ///
    /// # Errors
    /// [`StoreError::NoSuchBuild`]; [`StoreError::Io`]; and when another build's manifest is not valid: the
    /// build is removed then, and its tree and objects remain.
    pub fn remove(&self, name: &BuildName) -> Result<(), StoreError> {
        let path = self.manifest_path(name);
        if !path.exists() {
            return Err(self.no_such_build(name));
        }
        let _lock = self.lock_exclusive()?;
        remove_all(&path)?;
        sync_dir(&self.manifests_dir())?;
        self.remove_unreferenced()
    }

    fn remove_unreferenced(&self) -> Result<(), StoreError> {
        let builds = self.list()?;
        let trees = builds.iter().map(|build| Ok(self.tree(build.clone())?.dir));
        let trees: BTreeSet<PathBuf> = trees.collect::<Result<_, StoreError>>()?;
        for path in paths_in(&self.assembled_dir())? {
            if !trees.contains(&path) {
                remove_all(&path)?;
            }
        }
        let used: BTreeSet<ObjectDigest> = builds
            .iter()
            .flat_map(|b| b.objects.values().copied())
            .collect();
        let objects = self.objects();
        sweep_unfinished(objects.dir())?;
        for dir in paths_in(objects.dir())? {
            for path in paths_in(&dir)? {
                let name = path.file_name().and_then(|name| name.to_str());
                let digest = name.and_then(|name| name.parse().ok());
                if digest.is_some_and(|digest: ObjectDigest| !used.contains(&digest)) {
                    remove_all(&path)?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn manifest(&self, name: &BuildName) -> Result<Manifest, StoreError> {
        match Manifest::read(&self.manifest_path(name), name) {
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Err(self.no_such_build(name))
            }
            other => other,
        }
    }

    fn no_such_build(&self, name: &BuildName) -> StoreError {
        StoreError::NoSuchBuild {
            root: self.root.clone(),
            name: name.clone(),
        }
    }

    fn newest(
        &self,
        profile: QemuProfile,
        arch: VmArchitecture,
    ) -> Result<Option<Tree>, StoreError> {
        let mut builds = Vec::new();
        for name in self.names()? {
            match self.manifest(&name) {
                Ok(manifest) => builds.push(manifest),
                Err(error @ StoreError::Io { .. }) => return Err(error),
                // One damaged manifest, or one of a later version, does not hide the other builds.
                Err(error) => tracing::warn!(build = %name, %error, "passed over"),
            }
        }
        let newest = builds
            .into_iter()
            .filter(|build| build.profile == profile && build.arch == arch)
            .max_by(|a, b| (a.created_at, &a.name).cmp(&(b.created_at, &b.name)));
        newest.map(|manifest| self.tree(manifest)).transpose()
    }

    /// The names that manifests have; other files in their directory are not ours.
    fn names(&self) -> Result<BTreeSet<BuildName>, StoreError> {
        let name = |path: &PathBuf| {
            path.file_name()?
                .to_str()?
                .strip_suffix(".json")?
                .parse()
                .ok()
        };
        Ok(paths_in(&self.manifests_dir())?
            .iter()
            .filter_map(name)
            .collect())
    }

    fn tree(&self, manifest: Manifest) -> Result<Tree, StoreError> {
        let path = self.manifest_path(&manifest.name);
        let text = manifest
            .to_json()
            .map_err(|source| StoreError::MalformedManifest { path, source })?;
        let dir = self
            .assembled_dir()
            .join(ObjectDigest::of(&text).to_string());
        // A manifest without its binary cannot be made.
        let binary = manifest
            .binary()
            .ok_or_else(|| self.no_such_build(&manifest.name))?;
        let launch = Launch::new(binary, manifest.objects.keys());
        let wrapper = Generated {
            path: launch.wrapper_path(),
            content: launch.script(&dir)?,
        };
        Ok(Tree {
            binary: dir.join(binary.as_str()),
            dir,
            launch,
            wrapper,
            manifest,
        })
    }

    fn assembly<'a>(
        &self,
        objects: &'a Objects,
        manifest: &'a Manifest,
        generated: &'a Generated,
    ) -> Assembly<'a> {
        Assembly {
            objects,
            manifest,
            generated,
            link: self.link,
        }
    }

    /// Waits until nobody writes.
    fn lock_shared(&self) -> Result<FileLock, StoreError> {
        let path = self.root.join(LOCK);
        FileLock::shared(&path, LOCK_MODE).map_err(io_error("lock", &path))
    }

    /// Waits until nobody else reads or writes.
    pub(super) fn lock_exclusive(&self) -> Result<FileLock, StoreError> {
        let path = self.root.join(LOCK);
        let held = || tracing::info!(store = %self.root.display(), "waiting for another process");
        FileLock::exclusive(&path, LOCK_MODE, held).map_err(io_error("lock", &path))
    }

    pub(super) fn objects(&self) -> Objects {
        Objects::new(self.root.join("objects"))
    }

    pub(super) fn manifests_dir(&self) -> PathBuf {
        self.root.join("manifests")
    }

    pub(super) fn manifest_path(&self, name: &BuildName) -> PathBuf {
        self.manifests_dir().join(format!("{name}.json"))
    }

    fn assembled_dir(&self) -> PathBuf {
        self.root.join("assembled")
    }
}

/// A build's place and what belongs there.
struct Tree {
    manifest: Manifest,
    dir: PathBuf,
    binary: PathBuf,
    launch: Launch,
    wrapper: Generated,
}

impl Tree {
    fn resolved(self) -> ResolvedQemu {
        let library_dir = self.launch.has_libraries().then(|| self.dir.join("lib"));
        ResolvedQemu {
            environment: self.launch.environment(&self.dir),
            emulator: self.dir.join(&self.wrapper.path),
            firmware_dir: self.dir.join("firmware"),
            library_dir,
            binary: self.binary,
            manifest: self.manifest,
        }
    }
}

/// The paths in a directory; none when it does not exist.
fn paths_in(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let listed =
        fs::read_dir(dir).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    match listed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(io_error("read", dir)),
    }
}

fn default_root_from(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, StoreError> {
    let dir = |name, below: &str| {
        let dir = variable(name)
            .map(PathBuf::from)
            .filter(|dir| dir.is_absolute());
        dir.map(|dir| dir.join(below))
    };
    dir("HARMONY_DATA_DIR", "qemu")
        .or_else(|| dir("XDG_DATA_HOME", "harmony/qemu"))
        .or_else(|| dir("HOME", ".local/share/harmony/qemu"))
        .ok_or(StoreError::NoDataDirectory)
}
