//! Renews the catalog's pins from the publishers' sums.
//!
//! The digests are taken from the sums of the newest dated releases. Sums count when a key that is pinned in
//! this repository has signed them, not before the release was made. Nothing is fetched but indexes, sums and
//! signatures; what changes is printed, and written only on request.

mod error;
mod pins_file;
mod publisher;
mod signature;
mod web;

use std::process::ExitCode;

use harmony::domain::error::ExecutorError;
use harmony::domain::topology::virtualization::VmArchitecture;
use harmony::modules::image::catalog::CatalogName;

use crate::args::Refresh;
use crate::output::{OutputError, print};
use error::RefreshError;
use pins_file::{Entry, Pin};
use publisher::{Publisher, Release};
use signature::PinnedKey;
use web::Web;

/// So many releases of an image are pinned.
const PINS: usize = 2;

/// Renews the pins, prints the difference, and writes the file that was asked for.
pub(crate) async fn run(args: &Refresh) -> Result<ExitCode, ExecutorError> {
    let chosen = |name: &CatalogName| args.images.is_empty() || args.images.contains(name);
    let refresher = Refresher {
        web: Web::new(args.server.as_deref())?,
        key: args.key.as_deref().map(PinnedKey::read).transpose()?,
        accept_unsigned: args.accept_unsigned,
    };
    let mut entries = Vec::new();
    let mut failed = false;
    for name in CatalogName::ALL {
        let before = VmArchitecture::ALL.map(|architecture| Entry::of_catalog(name, architecture));
        if !chosen(&name) {
            entries.extend(before);
            continue;
        }
        match refresher.renew(name, &before).await {
            Ok(after) => {
                for (before, after) in before.iter().zip(&after) {
                    print(&before.difference(after))?;
                }
                entries.extend(after);
            }
            Err(error) => {
                failed = true;
                let error = harmony::domain::error::error_chain(&error);
                print(&format!("{name}: not renewed: {error}\n"))?;
                entries.extend(before);
            }
        }
    }
    if let Some(path) = &args.write {
        std::fs::write(path, pins_file::render(&entries)).map_err(|source| OutputError {
            to: Some(path.clone()),
            source,
        })?;
    }
    Ok(ExitCode::from(u8::from(failed)))
}

struct Refresher {
    web: Web,
    /// In place of the publishers' own.
    key: Option<PinnedKey>,
    accept_unsigned: bool,
}

impl Refresher {
    /// The newest releases of an image for each architecture, filled up with those that were pinned.
    async fn renew(&self, name: CatalogName, before: &[Entry]) -> Result<Vec<Entry>, RefreshError> {
        let publisher = Publisher::of(name);
        if publisher.signature.is_none() && !self.accept_unsigned {
            return Err(RefreshError::Unsigned {
                name,
                publisher: publisher.host,
            });
        }
        let index = self.web.text(publisher.host, publisher.index).await?;
        let releases = publisher.releases(&index);
        if releases.is_empty() {
            return Err(RefreshError::NoReleases {
                url: self.web.url(publisher.host, publisher.index),
                expected: publisher.example,
            });
        }
        let mut after: Vec<Entry> = before.iter().map(Entry::emptied).collect();
        for release in releases.iter().take(PINS) {
            let sums = self.sums(&publisher, release).await?;
            for entry in &mut after {
                let pin = self
                    .pin(&publisher, release, entry.architecture, &sums)
                    .await?;
                entry.pins.push(pin);
            }
        }
        for (entry, before) in after.iter_mut().zip(before) {
            entry.fill_up(before, PINS);
        }
        Ok(after)
    }

    /// The sums of a release, once their signature is verified.
    async fn sums(&self, publisher: &Publisher, release: &Release) -> Result<String, RefreshError> {
        let path = format!("{}{}/{}", publisher.index, release.dir, publisher.sums);
        let sums = self.web.text(publisher.host, &path).await?;
        let Some((signature, key)) = publisher.signature else {
            tracing::warn!(
                url = self.web.url(publisher.host, &path),
                "these sums are not signed"
            );
            return Ok(sums);
        };
        let path = format!("{}{}/{signature}", publisher.index, release.dir);
        let signature = self.web.bytes(publisher.host, &path).await?;
        let url = self.web.url(publisher.host, &path);
        let own;
        let key = match &self.key {
            Some(key) => key,
            None => {
                own = PinnedKey::of_publisher(key)?;
                &own
            }
        };
        key.verify(&url, sums.as_bytes(), &signature, release.day)?;
        Ok(sums)
    }

    async fn pin(
        &self,
        publisher: &Publisher,
        release: &Release,
        architecture: VmArchitecture,
        sums: &str,
    ) -> Result<Pin, RefreshError> {
        let file = publisher.file_name(architecture, release);
        let dir = format!("{}{}/", publisher.index, release.dir);
        let digest =
            publisher::digest_in(sums, &file, publisher.digest_digits).ok_or_else(|| {
                RefreshError::NotInSums {
                    url: self
                        .web
                        .url(publisher.host, &format!("{dir}{}", publisher.sums)),
                    file: file.clone(),
                    digits: publisher.digest_digits,
                }
            })?;
        let path = format!("{dir}{file}");
        Ok(Pin {
            url: format!("{}{path}", publisher.host),
            digest,
            size: self.web.size(publisher.host, &path).await?,
        })
    }
}

#[cfg(test)]
mod tests;
