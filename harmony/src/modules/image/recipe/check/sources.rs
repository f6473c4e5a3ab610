//! What an image is made from and booted with.

use super::Checker;
use super::Kernel;
use crate::domain::topology::virtualization::VmArchitecture;
use crate::modules::image::catalog::CatalogName;
use crate::modules::image::recipe::field::Field;
use crate::modules::image::recipe::keys::nearest;
use crate::modules::image::recipe::plan::{BootFile, PlannedBase};
use crate::modules::image::recipe::rules::{self, Broken};
use crate::modules::image::recipe::wire::{
    BaseTable, BootFileTable, KernelTable, PerArchitecture, PinTable,
};
use crate::modules::image::source::PinnedUrl;

impl Checker {
    pub(super) fn bases(
        &mut self,
        table: &BaseTable,
        field: &Field,
    ) -> PerArchitecture<PlannedBase> {
        let mut bases = PerArchitecture::default();
        let pins = [
            (VmArchitecture::X86_64, &table.x86_64),
            (VmArchitecture::Aarch64, &table.aarch64),
        ];
        let has_pin = pins.iter().any(|(_, pin)| pin.is_some());
        let both = match (&table.catalog, has_pin) {
            (Some(_), true) => Some("catalog and URL"),
            (None, false) => Some("nothing"),
            _ => None,
        };
        if let Some(given) = both {
            let expected = rules::broken("catalog, or URL and digest for each architecture");
            self.rule::<()>(Err(expected), field, given);
        }
        if let Some(name) = &table.catalog {
            let name = self.rule(catalog(name), &field.key("catalog"), name);
            for architecture in VmArchitecture::ALL {
                *bases.get_mut(architecture) = name.map(PlannedBase::Catalog);
            }
        }
        for (architecture, pin) in pins {
            if let Some(pin) = pin {
                let pin = self.pin(pin, &field.key(architecture.as_str()));
                *bases.get_mut(architecture) = pin.map(PlannedBase::Url);
            }
        }
        bases
    }

    fn pin(&mut self, table: &PinTable, field: &Field) -> Option<PinnedUrl> {
        let digest = table.digest.parse().map_err(|_| digest_form());
        let digest = self.rule(digest, &field.key("digest"), &table.digest)?;
        let url = PinnedUrl::new(&table.url, digest)
            .map_err(|_| rules::broken("an absolute http, https or file URL"));
        // A URL may have a password in it.
        self.rule(url, &field.key("url"), without_secrets(&table.url))
    }

    pub(super) fn kernel(&mut self, table: &KernelTable, field: &Field) -> Option<Kernel> {
        let kernel = self.boot_file(&table.kernel, &field.key("kernel"));
        let initrd = table
            .initrd
            .as_ref()
            .map(|initrd| self.boot_file(initrd, &field.key("initrd")));
        let arguments = self.boot_arguments(&table.arguments, &field.key("arguments"));
        Some(Kernel {
            kernel: kernel?,
            initrd: match initrd {
                Some(initrd) => Some(initrd?),
                None => None,
            },
            arguments,
        })
    }

    fn boot_file(&mut self, table: &BootFileTable, field: &Field) -> Option<BootFile> {
        match (&table.path, &table.url, &table.digest) {
            (Some(path), None, None) => self
                .rule(rules::file_path(path), &field.key("path"), path)
                .map(|()| BootFile::InImage(path.clone())),
            (None, Some(url), Some(digest)) => {
                let pin = PinTable {
                    url: url.clone(),
                    digest: digest.clone(),
                };
                self.pin(&pin, field).map(BootFile::Url)
            }
            _ => {
                let keys = [
                    ("path", table.path.is_some()),
                    ("url", table.url.is_some()),
                    ("digest", table.digest.is_some()),
                ];
                let given: Vec<_> = keys
                    .iter()
                    .filter(|(_, is)| *is)
                    .map(|(key, _)| *key)
                    .collect();
                let given = if given.is_empty() {
                    "nothing".to_owned()
                } else {
                    given.join(" and ")
                };
                let expected = rules::broken("path, or url and digest");
                self.rule(Err(expected), field, &given)
            }
        }
    }
}

fn catalog(name: &str) -> Result<CatalogName, Broken> {
    name.parse().map_err(|_| {
        let known = CatalogName::ALL.map(CatalogName::as_str);
        Broken {
            expected: format!("one of {}", known.join(", ")),
            fix: nearest(name, known).map(|nearest| format!("write '{nearest}'")),
        }
    })
}

fn digest_form() -> Broken {
    Broken {
        expected: "sha256= and 64, or sha512= and 128 hexadecimal digits".to_owned(),
        fix: Some("take it from the publisher's signed SHA256SUMS or SHA512SUMS".to_owned()),
    }
}

/// A URL up to where secrets may be.
fn without_secrets(url: &str) -> &str {
    let end = url.find(['@', '?', '#']).unwrap_or(url.len());
    match url.find("://") {
        Some(scheme) if url[..end].len() < url.len() => &url[..scheme + 3],
        _ => &url[..end],
    }
}
