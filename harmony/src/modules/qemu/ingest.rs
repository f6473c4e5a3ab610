//! Adding a build to the store.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use harmony_base::write::{Draft, Durability};

use super::digest::{Content, ObjectDigest};
use super::error::{StoreError, io_error};
use super::manifest::{Manifest, ManifestDocument};
use super::name::{BuildHost, BuildName, BuildVersion, Timestamp};
use super::objects::{Objects, UNFINISHED, ensure_dir, open_regular, sweep_unfinished};
use super::path::BuildPath;
use super::profile::QemuProfile;
use super::scan::scan;
use super::store::QemuStore;
use super::wrapper::Launch;
use crate::domain::topology::virtualization::VmArchitecture;

/// How long `--version` may take.
const VERSION_TIMEOUT: Duration = Duration::from_secs(20);

/// How much of its output is read, in bytes.
const VERSION_OUTPUT: u64 = 4096;

/// What is to be known of a build beside its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestOptions {
    /// Its name in the store.
    pub name: BuildName,
    /// What it is for.
    pub profile: QemuProfile,
    /// The guests' architecture.
    pub arch: VmArchitecture,
    /// QEMU's version; the emulator is asked when it is not given.
    pub qemu_version: Option<BuildVersion>,
    /// When QEMU was built; when not given, the emulator's time of modification.
    pub build_date: Option<Timestamp>,
    /// Where QEMU was built; when not given, this host's name.
    pub build_host: Option<BuildHost>,
}

impl IngestOptions {
    /// A build of which the rest is found out.
    pub fn new(name: BuildName, profile: QemuProfile, arch: VmArchitecture) -> Self {
        Self {
            name,
            profile,
            arch,
            qemu_version: None,
            build_date: None,
            build_host: None,
        }
    }
}

/// What is to be stored, before anything is.
struct Source {
    files: BTreeMap<BuildPath, PathBuf>,
    qemu_version: BuildVersion,
    binary_time: Timestamp,
}

impl Source {
    fn read(dir: &Path, options: &IngestOptions) -> Result<Self, StoreError> {
        let name = options.profile.binary_name(options.arch)?;
        let files = scan(dir)?;
        let binary: BuildPath = format!("bin/{name}").parse()?;
        let Some(file) = files.get(&binary) else {
            return Err(StoreError::NoBinary {
                dir: dir.to_owned(),
                binary: name,
                profile: options.profile,
                arch: options.arch,
            });
        };
        let modified = fs::metadata(file)
            .map_err(io_error("look at", file))?
            .mtime();
        let qemu_version = match &options.qemu_version {
            Some(version) => version.clone(),
            None => ask_version(dir, &Launch::new(&binary, files.keys()), file)?,
        };
        Ok(Self {
            binary_time: Timestamp::from_unix_seconds(modified)?,
            qemu_version,
            files,
        })
    }

    /// The digest of every file, without storing it.
    fn digests(&self) -> Result<BTreeMap<BuildPath, ObjectDigest>, StoreError> {
        let digest = |(path, file): (&BuildPath, &PathBuf)| {
            let content = open_regular(file)
                .and_then(|open| Content::read(open, |_| Ok(())))
                .map_err(io_error("read", file))?;
            Ok((path.clone(), content.digest))
        };
        self.files.iter().map(digest).collect()
    }

    /// Whether an existing build has these files, and what was given of it.
    fn is(&self, known: &Manifest, options: &IngestOptions) -> Result<bool, StoreError> {
        let same = known.profile == options.profile
            && known.arch == options.arch
            && known.qemu_version == self.qemu_version
            && options
                .build_date
                .is_none_or(|date| date == known.build_date)
            && options
                .build_host
                .iter()
                .all(|host| *host == known.build_host);
        Ok(same && self.digests()? == known.objects)
    }
}

impl QemuStore {
    /// Adds the build in `dir`, which has `bin/`, `lib/` and `firmware/`, and returns its manifest. Files are
    /// copied; symbolic links inside of `dir` become what they lead to. Blocks until another process that
    /// changes the store has finished.
    ///
    /// A build that is there already, with the same files under the same name, is left as it is, except for
    /// objects that are corrupt or missing: those are stored again. The manifest is written last: until then
    /// nothing uses the objects.
    ///
    /// # Errors
    /// [`StoreError::NotADirectory`], [`StoreError::ForeignPath`], [`StoreError::LinkLeavesBuild`],
    /// [`StoreError::LinkLoop`], [`StoreError::SpecialFile`], [`StoreError::TooManyFiles`],
    /// [`StoreError::NoBinary`], [`StoreError::VersionUnknown`] and [`StoreError::Profile`] for what is in
    /// `dir`; [`StoreError::NameTaken`] when another build has the name; [`StoreError::Io`].
    pub fn ingest(&self, dir: &Path, options: &IngestOptions) -> Result<Manifest, StoreError> {
        let source = Source::read(dir, options)?;
        self.ensure_directories()?;
        let _lock = self.lock_exclusive()?;
        let known = match self.manifest(&options.name) {
            Err(StoreError::NoSuchBuild { .. }) => None,
            other => Some(other?),
        };
        if let Some(known) = &known
            && !source.is(known, options)?
        {
            return Err(StoreError::NameTaken {
                name: options.name.clone(),
            });
        }
        let objects = self.objects();
        sweep_unfinished(objects.dir())?;
        let (digests, total_bytes) = store(&objects, &source.files)?;
        if let Some(known) = known {
            return Ok(known);
        }
        let document = ManifestDocument {
            name: options.name.clone(),
            created_at: Timestamp::now(),
            objects: digests,
            profile: options.profile,
            qemu_version: source.qemu_version,
            build_date: options.build_date.unwrap_or(source.binary_time),
            build_host: match &options.build_host {
                Some(host) => host.clone(),
                None => this_host()?,
            },
            arch: options.arch,
            total_bytes,
        };
        let manifest = Manifest::try_from(document)?;
        self.write_manifest(&manifest)?;
        tracing::info!(
            build = %manifest.name,
            files = manifest.objects.len(),
            total_bytes,
            "ingested"
        );
        Ok(manifest)
    }

    fn ensure_directories(&self) -> Result<(), StoreError> {
        for dir in [self.objects().dir(), &self.manifests_dir()] {
            ensure_dir(dir)?;
        }
        Ok(())
    }

    fn write_manifest(&self, manifest: &Manifest) -> Result<(), StoreError> {
        let dir = self.manifests_dir();
        let path = self.manifest_path(&manifest.name);
        let failed = || io_error("write", &path);
        let text = manifest.to_json().map_err(|error| failed()(error.into()))?;
        sweep_unfinished(&dir)?;
        let mut part = Draft::in_directory(&dir, UNFINISHED).map_err(failed())?;
        part.write_all(&text).map_err(failed())?;
        part.replace(&path, 0o444, Durability::State)
            .map_err(failed())
    }
}

/// Stores every file: their digests, and the sum of their sizes in bytes.
fn store(
    objects: &Objects,
    files: &BTreeMap<BuildPath, PathBuf>,
) -> Result<(BTreeMap<BuildPath, ObjectDigest>, u64), StoreError> {
    let mut digests = BTreeMap::new();
    let mut total = 0_u64;
    for (path, file) in files {
        let content = objects.put(file)?;
        total = total.saturating_add(content.size);
        digests.insert(path.clone(), content.digest);
    }
    Ok((digests, total))
}

fn this_host() -> Result<BuildHost, StoreError> {
    let path = Path::new("/proc/sys/kernel/hostname");
    let name = fs::read_to_string(path).map_err(io_error("read", path))?;
    Ok(name.trim().parse()?)
}

/// Asks the emulator, as the assembled build will start it.
fn ask_version(dir: &Path, launch: &Launch, binary: &Path) -> Result<BuildVersion, StoreError> {
    let unknown = |said: String| StoreError::VersionUnknown {
        binary: binary.to_owned(),
        said: said
            .lines()
            .next()
            .unwrap_or_default()
            .trim()
            .chars()
            .take(200)
            .collect(),
    };
    let mut command = launch.command(dir);
    command.arg("--version");
    let said = output_of(command).map_err(|error| unknown(error.to_string()))?;
    BuildVersion::from_output(&said).ok_or_else(|| unknown(said))
}

/// What a program says, on either stream, in a bounded time.
fn output_of(mut command: Command) -> std::io::Result<String> {
    let (reader, writer) = std::io::pipe()?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let mut child = command.spawn()?;
    // The command holds the pipe's other end, and would keep it open.
    drop(command);
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut said = Vec::new();
        let read = reader.take(VERSION_OUTPUT).read_to_end(&mut said);
        // Nobody listens any more after the bound.
        let _ = send.send(read.map(|_| String::from_utf8_lossy(&said).into_owned()));
    });
    let said = receive.recv_timeout(VERSION_TIMEOUT);
    // Ended, or of no more use.
    child.kill()?;
    child.wait()?;
    match said {
        Ok(said) => said,
        Err(_) => Err(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            format!("nothing within {VERSION_TIMEOUT:?}"),
        )),
    }
}
