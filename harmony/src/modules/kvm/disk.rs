//! The guest's disk: a qcow2 overlay on an image that is never written to.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use harmony_base::blocking::blocking;
use harmony_base::process::Program;
use harmony_base::write::{self, Draft, Durability};
use serde::Deserialize;

use crate::domain::topology::virtualization::DiskSource;
use crate::modules::image::format::DiskFormat;
use crate::modules::image::inspect::BootPath;
use crate::modules::image::store::place::{UNFINISHED_COPY_PREFIX, copy_name, reflink_or_copy};
use crate::modules::image::{Sha256Digest, known_digest};

use super::conformance;
use super::error::KvmError;
use super::files::VmFiles;
use super::placement::PlacedDisk;
use super::types::{DiskConfig, VmConfig, VmName};

/// What must be free beside the overlay, in MiB: a guest's first boot writes less than half of it.
const MIN_FREE_MIB: u64 = 1024;

const SECTOR: u64 = 512;
const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// What `qemu-img` knows of an image.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct ImageInfo {
    pub(super) format: String,
    virtual_size: u64,
    backing_filename: Option<PathBuf>,
    #[serde(default)]
    format_specific: FormatSpecific,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct FormatSpecific {
    #[serde(default)]
    data: FormatData,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct FormatData {
    data_file: Option<PathBuf>,
}

/// Checks that the image can be the backing file of this VM's disk, and start the VM.
///
/// # Errors
/// [`KvmError::UnsuitableImage`] with the reason, and what [`conformance::check_image`] finds.
pub(super) async fn check_image(config: &VmConfig, boot: BootPath) -> Result<ImageInfo, KvmError> {
    let path = config.image();
    let unsuitable = |reason: String| KvmError::UnsuitableImage {
        name: config.name().to_string(),
        path: path.to_owned(),
        reason,
    };
    let info = inspect(path).await?.map_err(unsuitable)?;
    conformance::check_image(config, boot).await?;
    let disk_bytes = config.disk_gib() * GIB;
    if info.virtual_size > disk_bytes {
        return Err(unsuitable(format!(
            "it needs a disk of {} bytes, and disk_gib = {} is {disk_bytes}",
            info.virtual_size,
            config.disk_gib()
        )));
    }
    Ok(info)
}

/// What a disk image of the caller's is, or why it cannot be used. It must stand alone: a chain of files
/// could lead anywhere on the host.
async fn inspect(path: &Path) -> Result<Result<ImageInfo, String>, KvmError> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Ok(Err("it is not a file".to_owned())),
        Err(error) => return Ok(Err(error.to_string())),
    }
    let output = qemu_img(path, &["info", "-U", "--output=json", "--"], &[path]).await?;
    Ok(standing_alone(path, &output))
}

fn standing_alone(path: &Path, output: &str) -> Result<ImageInfo, String> {
    let info: ImageInfo = serde_json::from_str(output)
        .map_err(|e| format!("qemu-img's description is not understood: {e}"))?;
    if !matches!(info.format.as_str(), "qcow2" | "raw") {
        let format = info.format;
        return Err(format!("its format is {format} (expected qcow2 or raw)"));
    }
    // What qemu-img does not recognise is raw to it: an error page, a text, half a download.
    if info.format == "raw" {
        let bytes = std::fs::metadata(path).map_or(0, |m| m.len());
        if bytes == 0 || !bytes.is_multiple_of(SECTOR) {
            return Err(format!(
                "it is no qcow2, and {bytes} bytes are no whole number of {SECTOR}-byte sectors"
            ));
        }
    }
    if let Some(backing) = &info.backing_filename {
        let backing = backing.display();
        return Err(format!("it depends on the backing file {backing}"));
    }
    if let Some(data_file) = &info.format_specific.data.data_file {
        let data_file = data_file.display();
        return Err(format!("its data is in another file, {data_file}"));
    }
    Ok(info)
}

/// Where a data disk's file is and what it is, by inspection.
///
/// # Errors
/// [`KvmError::UnsuitableDisk`] with the reason.
pub(super) async fn place(
    name: &VmName,
    disk: &DiskConfig,
    files: &VmFiles,
) -> Result<PlacedDisk, KvmError> {
    let path = match &disk.source {
        DiskSource::Blank { .. } => {
            return Ok(PlacedDisk {
                file: files.data_disk(disk.tag.as_str()),
                format: DiskFormat::Qcow2,
            });
        }
        DiskSource::File { path } => path,
    };
    let unsuitable = |reason: String| KvmError::UnsuitableDisk {
        name: name.to_string(),
        tag: disk.tag.to_string(),
        path: path.clone(),
        reason,
    };
    if files.owns(path) {
        let reason =
            "it is among the VM's own files, which go when the VM goes; move it away first";
        return Err(unsuitable(reason.to_owned()));
    }
    let info = inspect(path).await?.map_err(unsuitable)?;
    let format = match info.format.as_str() {
        "qcow2" => DiskFormat::Qcow2,
        _ => DiskFormat::Raw,
    };
    let file = path.canonicalize().map_err(KvmError::io("resolve", path))?;
    Ok(PlacedDisk { file, format })
}

/// What a VM's own disk is backed by.
pub(super) async fn backing_file(overlay: &Path) -> Result<Option<PathBuf>, KvmError> {
    let output = qemu_img(overlay, &["info", "-U", "--output=json", "--"], &[overlay]).await?;
    let info: ImageInfo = serde_json::from_str(&output).map_err(|error| KvmError::Internal {
        what: format!("qemu-img's description of {}: {error}", overlay.display()),
    })?;
    Ok(info.backing_filename)
}

/// The image's SHA-256.
pub(super) async fn image_digest(image: &Path) -> Result<Sha256Digest, KvmError> {
    let image = image.to_owned();
    let read = move || known_digest(&image).map_err(KvmError::io("read", image));
    blocking("read the image", read).await?
}

/// Makes an empty data disk. It appears whole or not at all.
pub(super) async fn create_blank(file: &Path, size_gib: u64) -> Result<(), KvmError> {
    let directory = write::directory_of(file);
    let unfinished = Draft::in_directory(directory, ".blank-")
        .map_err(KvmError::io("make a file in", directory))?;
    let size = format!("{size_gib}G");
    let arguments = ["create", "-q", "-f", "qcow2"];
    let paths = [unfinished.path(), Path::new(&size)];
    qemu_img(unfinished.path(), &arguments, &paths).await?;
    let made = unfinished.create(file, 0o600, Durability::State);
    let there = || KvmError::io("make", file)(ErrorKind::AlreadyExists.into());
    made.map_err(KvmError::io("make", file))?
        .then_some(())
        .ok_or_else(there)
}

/// Makes sure that a plugged-in disk's file is there: what was unplugged comes back as it was. Returns whether
/// it was made.
///
/// # Errors
/// [`KvmError::UnsuitableDisk`] when the one from before has another size.
pub(super) async fn ensure_blank(
    name: &VmName,
    disk: &DiskConfig,
    file: &Path,
    size_gib: u64,
) -> Result<bool, KvmError> {
    if !file.exists() {
        create_blank(file, size_gib).await?;
        return Ok(true);
    }
    let unsuitable = |reason: String| KvmError::UnsuitableDisk {
        name: name.to_string(),
        tag: disk.tag.to_string(),
        path: file.to_owned(),
        reason,
    };
    let bytes = inspect(file).await?.map_err(unsuitable)?.virtual_size;
    if bytes == size_gib * GIB {
        return Ok(false);
    }
    Err(unsuitable(format!(
        "a disk of that tag was plugged in before and has {bytes} bytes (expected {}, size_gib = {size_gib})",
        size_gib * GIB
    )))
}

fn make_private(file: &Path) -> Result<(), KvmError> {
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600))
        .map_err(KvmError::io("set the mode of", file))
}

/// Checks that the pool has room.
pub(super) fn check_space(pool: &Path) -> Result<(), KvmError> {
    let stat = rustix::fs::statvfs(pool)
        .map_err(|e| KvmError::io("ask for the space in", pool)(e.into()))?;
    let available_mib = stat.f_bavail.saturating_mul(stat.f_frsize) / MIB;
    if available_mib < MIN_FREE_MIB {
        return Err(KvmError::NoSpace {
            path: pool.to_owned(),
            available_mib,
            needed_mib: MIN_FREE_MIB,
        });
    }
    Ok(())
}

/// Makes the overlay.
pub(super) async fn create_overlay(
    overlay: &Path,
    image: &Path,
    format: &str,
    disk_gib: u64,
) -> Result<(), KvmError> {
    let size = format!("{disk_gib}G");
    let arguments = ["create", "-q", "-f", "qcow2", "-F", format, "-b"];
    qemu_img(overlay, &arguments, &[image, overlay, Path::new(&size)]).await?;
    make_private(overlay)
}

async fn qemu_img(subject: &Path, arguments: &[&str], paths: &[&Path]) -> Result<String, KvmError> {
    Program::new("qemu-img")
        .args(arguments)
        .args(paths)
        .run()
        .await
        .map_err(KvmError::program("qemu-img", subject))
}

/// Where [`publish_image`] puts an image, without putting it there.
pub(super) fn published_path(image: &Path, pool: &Path, system: bool) -> Result<PathBuf, KvmError> {
    let image = image
        .canonicalize()
        .map_err(KvmError::io("resolve", image))?;
    if !system || image.starts_with(pool) {
        return Ok(image);
    }
    let metadata = std::fs::metadata(&image).map_err(KvmError::io("read", &image))?;
    let modified = metadata
        .modified()
        .ok()
        .and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok())
        .map_or(0, |d| d.as_nanos());
    // The copy's name tells which file it is a copy of, in which state.
    let identity = format!("{}\n{}\n{modified}", image.display(), metadata.len());
    let identity = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, identity.as_bytes());
    Ok(pool.join(copy_name(&identity.simple().to_string())))
}

/// The image where QEMU of this connection can read it: in place for the session and for what is in the
/// pool already, else a copy in the pool, made once.
///
/// The system daemon runs guests as a user of its own, which may not look into home directories, and libvirt
/// gives that user every file that a guest uses: a caller's own file is not handed out.
pub(super) async fn publish_image(
    image: &Path,
    pool: &Path,
    system: bool,
) -> Result<PathBuf, KvmError> {
    let published = published_path(image, pool, system)?;
    if published.exists() {
        return Ok(published);
    }
    let (image, pool) = (image.to_owned(), pool.to_owned());
    let copy = move || copy_into(&image, &pool, published);
    blocking("copy the image", copy).await?
}

fn copy_into(image: &Path, pool: &Path, copy: PathBuf) -> Result<PathBuf, KvmError> {
    let mut unfinished = Draft::in_directory(pool, UNFINISHED_COPY_PREFIX)
        .map_err(KvmError::io("make a file in", pool))?;
    reflink_or_copy(image, unfinished.file()).map_err(KvmError::io("copy the image into", pool))?;
    unfinished
        .replace(&copy, 0o444, Durability::State)
        .map_err(KvmError::io("make", &copy))?;
    Ok(copy)
}
