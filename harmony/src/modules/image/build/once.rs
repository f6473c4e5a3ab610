//! Building once: the result is looked for, made under a lock in a directory of its own, and published whole.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use super::error::BuildError;
use crate::modules::image::error::ImageError;
use crate::modules::image::store::{
    StoreLock, ensure_dir, ensure_space, io_error, is_finished, publish,
};

/// What a build needs beside its result: an archive, a tree, a disk.
const SPACE: u64 = 4 * 1024 * 1024 * 1024;

/// A file of the store that a build makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Product {
    /// Its name in the build's directory.
    pub(crate) made: &'static str,
    /// Its name in the store.
    pub(crate) name: String,
}

/// Returns once all `products` are in `store_dir`; the last one gets there after all others. `make` makes them
/// in the directory that it is given. Returns whether it was called.
///
/// # Guarantees
/// A failure, and giving up the future, leaves nothing but a lock file. Many callers build once. A finished
/// last product is never replaced: disks may be backed by it.
///
/// # Errors
/// [`ImageError`]s of the store, also when another product than the last has gone; and those of `make`.
pub(crate) async fn build_once(
    store_dir: &Path,
    products: &[Product],
    make: impl AsyncFnOnce(&Path) -> Result<(), BuildError>,
) -> Result<bool, BuildError> {
    let Some(last) = products.last() else {
        return Ok(false);
    };
    if check_finished(store_dir, products, last)? {
        return Ok(false);
    }
    ensure_dir(store_dir)?;
    let _lock = StoreLock::acquire(store_dir, &last.name).await?;
    if check_finished(store_dir, products, last)? {
        return Ok(false);
    }
    ensure_space(store_dir, SPACE)?;
    let started = Instant::now();
    tracing::info!(image = last.name, dir = %store_dir.display(), "building the image, once");
    let dir = BuildDir::create(store_dir.join(format!(".{}.build", last.name)))?;
    make(&dir.path).await?;
    for product in products {
        check_regular(&dir.path.join(product.made))?;
        publish(&dir.path.join(product.made), &store_dir.join(&product.name))?;
    }
    let seconds = started.elapsed().as_secs();
    tracing::info!(image = last.name, seconds, "image built");
    Ok(true)
}

/// Whether the last product, and with it all of them, is there and whole.
fn check_finished(
    store_dir: &Path,
    products: &[Product],
    last: &Product,
) -> Result<bool, ImageError> {
    if !is_finished(&store_dir.join(&last.name)) {
        return Ok(false);
    }
    let mut paths = products.iter().map(|product| store_dir.join(&product.name));
    match paths.find(|path| !is_finished(path)) {
        Some(gone) => Err(io_error("find", &gone, ErrorKind::NotFound.into())),
        None => Ok(true),
    }
}

/// A link that came out of an image would lead anywhere on this host.
fn check_regular(path: &Path) -> Result<(), ImageError> {
    let failed = |source| io_error("publish", path, source);
    let meta = fs::symlink_metadata(path).map_err(failed)?;
    if meta.is_file() {
        return Ok(());
    }
    Err(failed(std::io::Error::other("it is no regular file")))
}

/// The directory of one build, removed when dropped.
#[derive(Debug)]
struct BuildDir {
    path: PathBuf,
}

impl BuildDir {
    /// Makes it; one that a killed build left is removed first.
    fn create(path: PathBuf) -> Result<Self, ImageError> {
        let dir = Self { path };
        dir.remove()?;
        fs::create_dir(&dir.path).map_err(|source| io_error("create", &dir.path, source))?;
        Ok(dir)
    }

    fn remove(&self) -> Result<(), ImageError> {
        let failed = |source| io_error("remove", &self.path, source);
        match fs::remove_dir_all(&self.path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            // Directories of the image's own users: only the namespace's root may empty them.
            Err(_) if !rustix::process::geteuid().is_root() => {
                let status = Command::new("unshare")
                    .args(["--map-root-user", "--map-auto", "--", "rm", "-rf", "--"])
                    .arg(&self.path)
                    .stdin(Stdio::null())
                    .status()
                    .map_err(failed)?;
                if status.success() {
                    return Ok(());
                }
                Err(failed(std::io::Error::other(status.to_string())))
            }
            Err(source) => Err(failed(source)),
        }
    }
}

impl Drop for BuildDir {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::warn!(%error, path = %self.path.display(), "cannot remove the build directory");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::{BuildDir, Product, build_once};
    use crate::modules::image::build::error::BuildError;
    use crate::modules::image::error::ImageError;

    fn products() -> [Product; 2] {
        ["kernel", "image"].map(|made| Product {
            made,
            name: format!("x.{made}"),
        })
    }

    fn left(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).expect("readable");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("readable").file_name())
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_build_directory_replaces_a_killed_builds_and_goes_with_its_build() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let path = parent.path().join(".x.build");
        fs::create_dir_all(path.join("tree/etc")).expect("made");
        let dir = BuildDir::create(path.clone()).expect("made");
        assert_eq!(fs::read_dir(&path).expect("there").count(), 0);
        drop(dir);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn many_callers_build_once_and_all_products_are_there() {
        let store = tempfile::tempdir().expect("a temporary directory");
        let built = AtomicU32::new(0);
        let (products, built_ref) = (products(), &built);
        let build = || {
            build_once(store.path(), &products, async move |dir| {
                built_ref.fetch_add(1, Ordering::SeqCst);
                for name in ["kernel", "image"] {
                    tokio::task::yield_now().await;
                    fs::write(dir.join(name), name).expect("writable");
                }
                Ok(())
            })
        };
        let (a, b, c) = tokio::join!(build(), build(), build());
        let made: Vec<_> = [a, b, c].into_iter().map(|r| r.expect("built")).collect();
        assert_eq!(made.iter().filter(|made| **made).count(), 1, "{made:?}");
        assert_eq!(built.load(Ordering::SeqCst), 1);
        assert_eq!(left(store.path()), [".x.image.lock", "x.image", "x.kernel"]);
        // The image may be in use: it is not made again for the sake of another file.
        fs::remove_file(store.path().join("x.kernel")).expect("removable");
        let error = build().await.expect_err("a file is gone");
        assert!(
            matches!(&error, BuildError::Image(ImageError::Io { action: "find", path, .. })
                if path.ends_with("x.kernel")),
            "{error:?}"
        );
        assert_eq!(built.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_failure_leaves_nothing_but_the_lock() {
        let store = tempfile::tempdir().expect("a temporary directory");
        let failed = build_once(store.path(), &products(), async |dir| {
            fs::write(dir.join("kernel"), "half").expect("writable");
            Err(BuildError::Unfinished {
                place: "step 1/1 (x)".to_owned(),
                how: "x".to_owned(),
                console: None,
            })
        })
        .await;
        assert!(matches!(failed, Err(BuildError::Unfinished { .. })));
        assert_eq!(left(store.path()), [".x.image.lock"]);
    }
}
