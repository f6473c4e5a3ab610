//! The seed's image.

use std::io::Write;
use std::path::{Path, PathBuf};

use fatfs::{FileSystem, FormatVolumeOptions, FsOptions};
use harmony_base::write::{Draft, Durability};

use super::documents::SeedInputs;
use super::plain::{DIRECTORY, NETWORK};

/// The image's size in bytes: the smallest round size that holds the documents many times over.
const SEED_BYTES: u64 = 1024 * 1024;

/// The volume label that cloud-init's NoCloud source looks for, padded as FAT stores it.
const LABEL: [u8; 11] = *b"cidata     ";

/// A seed that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the seed {}", path.display())]
pub struct SeedError {
    /// The seed's path.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: std::io::Error,
}

/// Writes the seed. It appears whole, with mode 0600, or not at all; the same inputs give the same
/// bytes.
///
/// # Errors
/// [`SeedError`] when the file cannot be written.
pub fn write_seed(path: &Path, inputs: &SeedInputs) -> Result<(), SeedError> {
    write_files(path, inputs, &inputs.plain_files())
}

/// The same with nothing in it but what cloud-init reads: what one makes by hand.
///
/// # Errors
/// As [`write_seed`].
pub fn write_nocloud_seed(path: &Path, inputs: &SeedInputs) -> Result<(), SeedError> {
    write_files(path, inputs, &[])
}

fn write_files(
    path: &Path,
    inputs: &SeedInputs,
    plain: &[(String, String)],
) -> Result<(), SeedError> {
    write(path, inputs, plain).map_err(|source| SeedError {
        path: path.to_owned(),
        source,
    })
}

fn write(path: &Path, inputs: &SeedInputs, plain: &[(String, String)]) -> std::io::Result<()> {
    let mut image = Draft::beside(path, ".seed-")?;
    image.file().set_len(SEED_BYTES)?;
    let options = FormatVolumeOptions::new().volume_label(LABEL);
    fatfs::format_volume(image.file(), options)?;
    let volume = FileSystem::new(image.file(), FsOptions::new())?;
    let put = |path: &str, text: &str| {
        let mut file = volume.root_dir().create_file(path)?;
        file.truncate()?;
        file.write_all(text.as_bytes())
    };
    for (name, text) in inputs.documents() {
        put(name, &text)?;
    }
    if !plain.is_empty() {
        volume.root_dir().create_dir(DIRECTORY)?;
        volume.root_dir().create_dir(NETWORK)?;
    }
    for (path, text) in plain {
        put(path, text)?;
    }
    volume.unmount()?;
    image.replace(path, 0o600, Durability::State)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::MetadataExt;

    use fatfs::{FileSystem, FsOptions};

    use super::{write_nocloud_seed, write_seed};
    use crate::modules::cloud_init::documents::tests::{host_key, inputs};

    #[test]
    fn the_image_is_private_labelled_and_reads_back() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("seed.img");
        let inputs = inputs(&host_key());
        write_seed(&path, &inputs).expect("written");
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o600);

        let image = fs::File::options().read(true).write(true).open(&path);
        let volume = FileSystem::new(image.expect("opens"), FsOptions::new()).expect("FAT");
        assert_eq!(volume.volume_label(), "cidata");
        let documents = inputs.documents();
        let documents = documents.map(|(name, text)| (name.to_owned(), text));
        for (path, expected) in documents.into_iter().chain(inputs.plain_files()) {
            let mut text = String::new();
            let mut file = volume.root_dir().open_file(&path).expect(&path);
            file.read_to_string(&mut text).expect("reads");
            assert_eq!(text, expected, "{path}");
        }
    }

    #[test]
    fn a_seed_for_cloud_init_alone_has_its_three_files() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("seed.img");
        write_nocloud_seed(&path, &inputs(&host_key())).expect("written");
        let image = fs::File::options().read(true).write(true).open(&path);
        let volume = FileSystem::new(image.expect("opens"), FsOptions::new()).expect("FAT");
        let root = volume.root_dir();
        let names = root.iter().map(|entry| entry.expect("reads").file_name());
        let names: Vec<String> = names.filter(|name| name != "cidata").collect();
        assert_eq!(names, ["meta-data", "user-data", "network-config"]);
    }

    #[test]
    fn the_same_inputs_give_the_same_bytes() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let inputs = inputs(&host_key());
        let paths = ["a", "b"].map(|name| dir.path().join(name));
        for path in &paths {
            write_seed(path, &inputs).expect("written");
        }
        let [a, b] = paths.map(|path| fs::read(path).expect("reads"));
        assert!(a == b, "the images differ");
    }
}
