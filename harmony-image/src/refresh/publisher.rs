//! Where each image is published, and how its publisher names releases and files. Pure.

use harmony::domain::topology::virtualization::VmArchitecture;
use harmony::modules::image::catalog::CatalogName;

/// Where an image is published.
#[derive(Debug)]
pub(super) struct Publisher {
    pub(super) name: CatalogName,
    pub(super) host: &'static str,
    /// The path of the list of releases.
    pub(super) index: &'static str,
    /// What the directories of releases begin with, before the day.
    prefix: &'static str,
    /// A release's directory, for people.
    pub(super) example: &'static str,
    /// The file with the digests of a release.
    pub(super) sums: &'static str,
    pub(super) digest_digits: usize,
    /// The file with the signature of the sums, and the fingerprint of the key that makes it.
    pub(super) signature: Option<(&'static str, &'static str)>,
}

/// A dated release.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Release {
    /// The day, as a number: 20260826.
    pub(super) day: u32,
    /// What comes after the day: another build of it.
    build: u32,
    /// The directory.
    pub(super) dir: String,
}

/// "UEC Image Automatic Signing Key", of Ubuntu's package `ubuntu-keyring`.
pub(super) const UBUNTU_KEY: &str = "d2eb44626fddc30b513d5bb71a5d6c4c7db87c81";

impl Publisher {
    pub(super) fn of(name: CatalogName) -> Self {
        let ubuntu = |index| Self {
            name,
            host: "https://cloud-images.ubuntu.com",
            index,
            prefix: "release-",
            example: "release-20260826/",
            sums: "SHA256SUMS",
            digest_digits: 64,
            signature: Some(("SHA256SUMS.gpg", UBUNTU_KEY)),
        };
        let debian = |index| Self {
            name,
            host: "https://cloud.debian.org",
            index,
            prefix: "",
            example: "20260712-2537/",
            sums: "SHA512SUMS",
            digest_digits: 128,
            signature: None,
        };
        match name {
            CatalogName::Ubuntu2404 => ubuntu("/releases/noble/"),
            CatalogName::Ubuntu2404Minimal => ubuntu("/minimal/releases/noble/"),
            CatalogName::Debian12 => debian("/images/cloud/bookworm/"),
            CatalogName::Debian13 => debian("/images/cloud/trixie/"),
        }
    }

    /// The file of an image in a release.
    pub(super) fn file_name(&self, architecture: VmArchitecture, release: &Release) -> String {
        let arch = architecture.debian_name();
        match self.name {
            CatalogName::Ubuntu2404 => format!("ubuntu-24.04-server-cloudimg-{arch}.img"),
            CatalogName::Ubuntu2404Minimal => format!("ubuntu-24.04-minimal-cloudimg-{arch}.img"),
            CatalogName::Debian12 => format!("debian-12-genericcloud-{arch}-{}.qcow2", release.dir),
            CatalogName::Debian13 => format!("debian-13-genericcloud-{arch}-{}.qcow2", release.dir),
        }
    }

    /// The dated releases in an index, newest first.
    pub(super) fn releases(&self, index: &str) -> Vec<Release> {
        let links = index.split("href=\"").skip(1);
        let dirs = links.filter_map(|link| link.split('"').next()?.strip_suffix('/'));
        let mut releases: Vec<_> = dirs.filter_map(|dir| self.release(dir)).collect();
        releases.sort_by(|a, b| b.cmp(a));
        releases.dedup();
        releases
    }

    fn release(&self, dir: &str) -> Option<Release> {
        let dated = dir.strip_prefix(self.prefix)?;
        let (day, build) = match dated.find(['-', '.']) {
            Some(at) => (&dated[..at], dated[at + 1..].parse().ok()?),
            None => (dated, 0),
        };
        (day.len() == 8 && day.bytes().all(|b| b.is_ascii_digit())).then_some(())?;
        Some(Release {
            day: day.parse().ok()?,
            build,
            dir: dir.to_owned(),
        })
    }
}

/// The digest of a file in sums: lines of digest, blank, blank or `*`, name.
pub(super) fn digest_in(sums: &str, file: &str, digits: usize) -> Option<String> {
    sums.lines().find_map(|line| {
        let (digest, name) = line.split_once(' ')?;
        let name = name.strip_prefix([' ', '*']).unwrap_or(name);
        let hexadecimal = digest.len() == digits && digest.bytes().all(|b| b.is_ascii_hexdigit());
        (name == file && hexadecimal).then(|| digest.to_ascii_lowercase())
    })
}

#[cfg(test)]
mod tests {
    use harmony::domain::topology::virtualization::VmArchitecture;
    use harmony::modules::image::catalog::CatalogName;

    use super::{Publisher, digest_in};

    #[test]
    fn releases_are_found_in_an_index_newest_first() {
        let index = r#"<a href="../">..</a> <a href="release-20260705/">x</a>
            <a href="release-20260826/">x</a><a href="release-20260826.1/">x</a>
            <a href="release/">x</a> <a href="release-2026/">x</a> <a href="release-20260826.x/">"#;
        let publisher = Publisher::of(CatalogName::Ubuntu2404);
        let dirs: Vec<_> = publisher
            .releases(index)
            .into_iter()
            .map(|r| r.dir)
            .collect();
        assert_eq!(
            dirs,
            ["release-20260826.1", "release-20260826", "release-20260705"]
        );
        let publisher = Publisher::of(CatalogName::Debian13);
        let index = r#"<a href="latest/"><a href="20260712-2537/"><a href="20260712-999/">"#;
        let releases = publisher.releases(index);
        assert_eq!(releases[0].dir, "20260712-2537");
        assert_eq!(releases[0].day, 20_260_712);
        assert_eq!(
            publisher.file_name(VmArchitecture::Aarch64, &releases[0]),
            "debian-13-genericcloud-arm64-20260712-2537.qcow2"
        );
    }

    #[test]
    fn digests_are_found_by_the_whole_name_and_length() {
        let sums = format!(
            "{} *a.img\n{}  b.img\nABCD b.img\n",
            "AB".repeat(32),
            "cd".repeat(32)
        );
        assert_eq!(digest_in(&sums, "a.img", 64), Some("ab".repeat(32)));
        assert_eq!(digest_in(&sums, "b.img", 64), Some("cd".repeat(32)));
        assert_eq!(digest_in(&sums, "b.img", 128), None);
        assert_eq!(digest_in(&sums, "img", 64), None);
    }
}
