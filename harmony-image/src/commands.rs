//! The commands on this host's images.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use harmony::domain::error::ExecutorError;
use harmony::domain::topology::virtualization::VmArchitecture;
use harmony::modules::image::fetch::Fetcher;
use harmony::modules::image::store::{self, Fate, Overlays, Places, Pruning, StoredImage, Verdict};
use harmony::modules::image::{ImageError, ImageSource, PinnedUrl};
use harmony::modules::iot::assets;
use harmony_image::bars::progress;
use serde_json::json;

use crate::args::{Args, Dirs, Fetch, Prune, Verify};
use crate::output::{bytes, print, print_json};

/// Fetches an image and prints where it is.
pub(crate) async fn fetch(args: &Args, fetch: &Fetch) -> Result<ExitCode, ExecutorError> {
    let dir = store_dir(fetch.dir.as_deref())?;
    let progress = progress(args.quiet, std::io::stderr().is_terminal());
    let path = match &fetch.image {
        ImageSource::Url(pin) => {
            let pin = pinned(pin, fetch)?;
            Fetcher::default().fetch(&[pin], &dir, &*progress).await?
        }
        named => {
            let arch = fetch.arch.or_else(VmArchitecture::of_host);
            let arch = arch.unwrap_or_default();
            assets::ensure_image_with(named, arch, &dir, &*progress)
                .await?
                .path
        }
    };
    if args.json {
        print_json(&json!({ "path": path }))?;
    } else {
        print(&format!("{}\n", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn pinned(pin: &PinnedUrl, fetch: &Fetch) -> Result<PinnedUrl, ImageError> {
    let mut pin = pin.clone();
    for mirror in &fetch.mirror {
        pin = pin.with_mirror(mirror)?;
    }
    if let Some(size) = fetch.size {
        pin = pin.with_size(size);
    }
    Ok(if fetch.verbatim { pin.verbatim() } else { pin })
}

/// Lists the store.
pub(crate) fn list(args: &Args, dirs: &Dirs) -> Result<ExitCode, ExecutorError> {
    let places = places(dirs)?;
    let overlays = Overlays::in_dirs(&places.pools);
    for (path, reason) in &overlays.unknown {
        tracing::warn!(path = %path.display(), reason, "cannot be read: what it uses is not known");
    }
    let images = store::list(&places.images, &overlays)?;
    if args.json {
        print_json(&images)?;
    } else {
        print(&images.iter().map(row).collect::<String>())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn row(image: &StoredImage) -> String {
    let record = image.record.as_ref();
    let url = record.and_then(|record| record.source.url.as_deref());
    let fetched = record.map_or("", |record| record.fetched_at.as_str());
    let format = record.and_then(|record| record.format);
    let mut text = format!(
        "{}\n  {} ({} on disk), {}{}\n  from {} {fetched}\n",
        image.path.display(),
        bytes(image.size),
        bytes(image.on_disk),
        format.map_or("no disk image", |format| format.as_str()),
        if image.verified {
            ""
        } else {
            ", to be verified before it is used"
        },
        url.unwrap_or("an unknown source"),
    );
    for user in &image.users {
        text.push_str(&format!("  used by {}\n", user.display()));
    }
    text
}

/// Hashes images.
pub(crate) fn verify(args: &Args, verify: &Verify) -> Result<ExitCode, ExecutorError> {
    let files = if verify.files.is_empty() {
        let images = store::list(&store_dir(verify.dir.as_deref())?, &Overlays::default())?;
        images.into_iter().map(|image| image.path).collect()
    } else {
        verify.files.clone()
    };
    let mut rows = Vec::new();
    let mut all_right = true;
    for path in files {
        let (result, detail) = match store::verify(&path)? {
            Verdict::Right => ("right", String::new()),
            Verdict::Wrong { actual, rejected } => {
                all_right = false;
                let detail = format!(": it has {actual}; set aside as {}", rejected.display());
                ("wrong", detail)
            }
        };
        if !args.json {
            print(&format!("{result:<6} {}{detail}\n", path.display()))?;
        }
        rows.push(json!({ "path": path, "result": result }));
    }
    if args.json {
        print_json(&rows)?;
    }
    Ok(ExitCode::from(u8::from(!all_right)))
}

/// Removes what nobody uses.
pub(crate) fn prune(args: &Args, prune: &Prune) -> Result<ExitCode, ExecutorError> {
    let fates = places(&prune.dirs)?.prune(Pruning {
        older_than: prune.older_than,
        now: SystemTime::now(),
        dry_run: prune.dry_run,
    })?;
    if args.json {
        print_json(&fates)?;
        return Ok(ExitCode::SUCCESS);
    }
    let gone = |fate: &&Fate| fate.kept.is_none();
    let verb = if prune.dry_run {
        "would remove"
    } else {
        "removed"
    };
    for fate in &fates {
        let path = fate.path.display();
        match &fate.kept {
            None => print(&format!("{verb} {path} ({})\n", bytes(fate.on_disk)))?,
            Some(reason) => tracing::info!(%path, reason, "stays"),
        }
    }
    let freed: u64 = fates.iter().filter(gone).map(|fate| fate.on_disk).sum();
    let files = fates.iter().filter(gone).count();
    print(&format!("{verb} {files} files, {}\n", bytes(freed)))?;
    Ok(ExitCode::SUCCESS)
}

fn store_dir(given: Option<&Path>) -> Result<PathBuf, ExecutorError> {
    match given {
        Some(dir) => Ok(dir.to_owned()),
        None => assets::images_dir(),
    }
}

/// The store that was asked for or harmony's, and all places that disks are known to be in.
fn places(dirs: &Dirs) -> Result<Places, ExecutorError> {
    let data_dir = assets::data_dir()?;
    let built = assets::built_images_dir()?;
    let pools = assets::pool_dirs(&data_dir);
    let overlays = pools.into_iter().chain(dirs.overlays.iter().cloned());
    Ok(Places {
        images: store_dir(dirs.dir.as_deref())?,
        // A built image is an overlay too while it is being made.
        pools: overlays.chain([built.clone()]).collect(),
        built: vec![built],
    })
}
