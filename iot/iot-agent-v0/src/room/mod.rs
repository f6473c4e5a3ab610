//! Room on the disk: which images go.
//!
//! The images of the agent's user are the agent's to remove. Podman itself keeps what a container is of, and so what a
//! rollback needs: the container before is one.

pub mod ages;
pub mod keeper;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use iot_contracts::ImageReference;
use tokio::time::Instant;

use crate::error::chain;
use crate::reconcile::Executor;

/// The most that is kept free, in bytes.
const MAX_RESERVE: u64 = 512 * MIB;

/// The part of the disk that is kept free when that is less.
const RESERVED_PART: u64 = 10;

/// How long an image is kept that nothing is of and nobody wants: a rollback by hand needs no registry.
const MAX_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

const MIB: u64 = 1024 * 1024;

/// The space of the file system that has the images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// What the agent's user may still write, in bytes.
    pub free: u64,
    /// All of it, in bytes.
    pub total: u64,
}

impl Space {
    /// What is kept free, in bytes: containers write too.
    pub fn reserve(self) -> u64 {
        (self.total / RESERVED_PART).min(MAX_RESERVE)
    }

    /// Whether the reserve is touched: no pull begins.
    pub fn is_short(self) -> bool {
        self.free < self.reserve()
    }

    /// Whether half of the reserve has gone: what is being pulled ends.
    pub fn is_critical(self) -> bool {
        self.free < self.reserve() / 2
    }
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (free, reserve) = (self.free / MIB, self.reserve() / MIB);
        write!(
            f,
            "no space left: {free} MiB are free, {reserve} MiB are kept free"
        )
    }
}

/// An image on the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Podman's id.
    pub id: String,
    /// Its references by tag.
    pub tags: Vec<String>,
    /// Its references by digest.
    pub digests: Vec<String>,
    /// Whether a container is of it.
    pub is_used: bool,
}

impl Image {
    /// Whether `reference` may mean it. What has no registry is completed by Podman's own rules, so any registry will do.
    fn is(&self, reference: &ImageReference) -> bool {
        let reference = reference.as_str();
        let ends_with = |name: &String, end: &str| {
            let rest = name.strip_suffix(end);
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
        };
        if let Some((_, digest)) = reference.split_once('@') {
            return self.digests.iter().any(|name| name.ends_with(digest));
        }
        // Docker's registry has a namespace that may be left out.
        let official = reference
            .strip_prefix("docker.io/")
            .filter(|name| !name.contains('/'))
            .map(|name| format!("docker.io/library/{name}"));
        let references = [Some(reference), official.as_deref()];
        references.into_iter().flatten().any(|reference| {
            let latest = format!("{reference}:latest");
            let mut tags = self.tags.iter();
            tags.any(|tag| ends_with(tag, reference) || ends_with(tag, &latest))
        })
    }
}

/// Since when each image has been seen unused, by its id.
pub type Unused = BTreeMap<String, Instant>;

/// The images that may go, the longest unused first: those that are too old, and with `all` every one that nobody needs.
pub fn removable<'a>(
    images: &'a [Image],
    wanted: &BTreeSet<ImageReference>,
    unused: &Unused,
    all: bool,
    now: Instant,
) -> Vec<&'a Image> {
    let since = |image: &Image| unused.get(&image.id).copied().unwrap_or(now);
    let mut removable: Vec<_> = images
        .iter()
        .filter(|image| is_unused(image, wanted) && (all || now - since(image) >= MAX_AGE))
        .collect();
    removable.sort_by_key(|image| (since(image), &image.id));
    removable
}

fn is_unused(image: &Image, wanted: &BTreeSet<ImageReference>) -> bool {
    !image.is_used && !wanted.iter().any(|reference| image.is(reference))
}

/// The images that are wanted, which may change at any time.
pub type Wanted = RefCell<BTreeSet<ImageReference>>;

/// Removes the images that are too old, and others until the reserve is there. Gives since when each other is unused.
/// What becomes wanted meanwhile stays.
pub async fn sweep<E: Executor>(executor: &E, wanted: &Wanted, before: Unused) -> Unused {
    let images = match executor.images().await {
        Ok(images) => images,
        Err(error) => {
            tracing::warn!(error = chain(&error), "cannot see the images");
            return before;
        }
    };
    let now = Instant::now();
    let unused = images
        .iter()
        .filter(|image| is_unused(image, &wanted.borrow()));
    let mut unused: Unused = unused
        .map(|image| {
            (
                image.id.clone(),
                before.get(&image.id).copied().unwrap_or(now),
            )
        })
        .collect();
    for all in [false, true] {
        let may_go = removable(&images, &wanted.borrow(), &unused, all, now);
        for image in may_go {
            let short = executor.space().await.is_some_and(Space::is_short);
            if all && !short {
                return unused;
            }
            if !is_unused(image, &wanted.borrow()) {
                continue;
            }
            match executor.discard(image).await {
                Ok(()) => {
                    tracing::info!(id = image.id, tags = ?image.tags, short, "unused image removed")
                }
                // A container has been made of it meanwhile, or another image is built on it.
                Err(error) => tracing::info!(id = image.id, error = chain(&error), "image stays"),
            }
        }
        let old = removable(&images, &wanted.borrow(), &unused, false, now);
        let old: BTreeSet<_> = old.into_iter().map(|image| image.id.clone()).collect();
        unused.retain(|id, _| !old.contains(id));
    }
    unused
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Image, MAX_AGE, MIB, Space, Unused, removable};

    fn image(id: &str, tag: &str, is_used: bool) -> Image {
        Image {
            id: id.to_owned(),
            tags: vec![tag.to_owned()],
            digests: vec![format!("host/x@sha256:{id}")],
            is_used,
        }
    }

    #[test]
    fn the_reserve_is_a_tenth_up_to_a_bound() {
        let space = |free, total| Space {
            free: free * MIB,
            total: total * MIB,
        };
        for (free, total, short, critical) in [
            (600, 8192, false, false),
            (512, 8192, false, false),
            (511, 8192, true, false),
            (255, 8192, true, true),
            (100, 1000, false, false),
            (99, 1000, true, false),
            (49, 1000, true, true),
        ] {
            let space = space(free, total);
            assert_eq!(
                (space.is_short(), space.is_critical()),
                (short, critical),
                "{space}"
            );
        }
        assert_eq!(
            space(99, 1000).to_string(),
            "no space left: 99 MiB are free, 100 MiB are kept free"
        );
    }

    #[test]
    fn what_is_used_or_wanted_stays_and_the_longest_unused_goes_first() {
        let images = [
            image("used", "host/x:1", true),
            image("tag", "host/x:2", false),
            image("short", "docker.io/library/redis:7", false),
            image("latest", "docker.io/library/nginx:latest", false),
            image("dockers", "docker.io/library/httpd:latest", false),
            image("dockers-tag", "docker.io/library/httpd:2", false),
            image("digest", "host/x:3", false),
            image("young", "host/x:12", false),
            image("old", "host/x:5", false),
            image("new", "host/x:6", false),
        ];
        let wanted = [
            "host/x:2",
            "redis:7",
            "nginx",
            "docker.io/httpd",
            "docker.io/httpd:2",
            "host/x@sha256:digest",
        ];
        let wanted = wanted.map(|reference| reference.parse().unwrap()).into();
        let now = Instant::now() + 2 * MAX_AGE;
        let unused: Unused = [
            ("young".to_owned(), now - MAX_AGE + Duration::from_secs(1)),
            ("old".to_owned(), now - MAX_AGE),
        ]
        .into();
        let ids = |all| -> Vec<_> {
            let removable = removable(&images, &wanted, &unused, all, now);
            removable
                .into_iter()
                .map(|image| image.id.as_str())
                .collect()
        };
        assert_eq!(ids(false), ["old"]);
        assert_eq!(ids(true), ["old", "young", "new"]);
    }
}
