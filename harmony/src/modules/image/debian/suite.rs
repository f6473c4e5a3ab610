//! The releases of distributions that can be built, and the mirrors that this host uses for them.

use serde::Serialize;

use crate::modules::image::catalog::CatalogName;
use crate::modules::image::tool::{HostProgram, tool};

/// The fields of a package index that [`Distribution::sources`] reads.
const INDEX_FORMAT: &str = "$(REPO_URI) $(CODENAME) $(LABEL)";

/// Where packages come from, and where they go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Distribution {
    Debian,
    Ubuntu,
}

/// A release of a distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Suite {
    pub(super) distribution: Distribution,
    /// Its name on the mirrors.
    pub(super) codename: &'static str,
    /// Its name in file names.
    pub(super) name: &'static str,
}

impl Suite {
    pub(crate) const DEBIAN_12: Self = Self {
        distribution: Distribution::Debian,
        codename: "bookworm",
        name: "debian-12",
    };
    pub(crate) const DEBIAN_13: Self = Self {
        distribution: Distribution::Debian,
        codename: "trixie",
        name: "debian-13",
    };
    pub(crate) const UBUNTU_24_04: Self = Self {
        distribution: Distribution::Ubuntu,
        codename: "noble",
        name: "ubuntu-24.04",
    };

    /// The release that a catalog image is of.
    pub(crate) fn of(name: CatalogName) -> Option<Self> {
        [Self::DEBIAN_12, Self::DEBIAN_13, Self::UBUNTU_24_04]
            .into_iter()
            .find(|suite| name.as_str().starts_with(suite.name))
    }

    /// The `sources.list` lines from the mirrors that this host uses; none when it uses none of this
    /// distribution.
    pub(super) async fn host_sources(self) -> Vec<String> {
        self.distribution.host_sources(self.codename).await
    }
}

impl Distribution {
    /// As `/etc/os-release` has it.
    #[cfg(feature = "kvm")]
    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::Debian => "debian",
            Self::Ubuntu => "ubuntu",
        }
    }

    /// The parts of the archive that devices are made from.
    fn components(self) -> &'static str {
        match self {
            Self::Debian => "main",
            // Podman is in universe.
            Self::Ubuntu => "main universe",
        }
    }

    /// The `sources.list` lines of the release `codename` from the mirrors that this host uses; none when it
    /// uses none of this distribution.
    pub(crate) async fn host_sources(self, codename: &str) -> Vec<String> {
        let apt_get = HostProgram {
            program: "apt-get",
            debian_package: "apt",
        };
        if !apt_get.is_installed() {
            return Vec::new();
        }
        let targets = tool("apt-get")
            .args(["indextargets", "--format", INDEX_FORMAT])
            .arg("Created-By: Packages")
            .run()
            .await;
        match targets {
            Ok(targets) => self.sources(&targets, codename),
            Err(error) => {
                tracing::warn!(%error, "cannot read this host's package sources");
                Vec::new()
            }
        }
    }

    /// The lines from `targets`, whose lines have the form of [`INDEX_FORMAT`]. A host with another release
    /// of the distribution has its mirrors too: they are told by the label. A mirror that needs a password
    /// is none, for it would have to be told to others.
    fn sources(self, targets: &str, codename: &str) -> Vec<String> {
        let find = |wanted: &dyn Fn(&str, &str) -> bool| {
            targets.lines().find_map(|line| {
                let (uri, rest) = line.split_once(' ')?;
                let (codename, label) = rest.split_once(' ')?;
                let usable = uri.starts_with("http://") || uri.starts_with("https://");
                (usable && !uri.contains('@') && wanted(codename, label)).then_some(uri)
            })
        };
        let (main, security) = match self {
            Self::Debian => (
                find(&|_, label| label == "Debian"),
                find(&|_, label| label == "Debian-Security"),
            ),
            Self::Ubuntu => (
                find(&|codename, label| label == "Ubuntu" && !codename.contains('-')),
                find(&|codename, label| label == "Ubuntu" && codename.ends_with("-security")),
            ),
        };
        let line =
            |uri: &str, pocket: &str| format!("deb {uri} {codename}{pocket} {}", self.components());
        let Some(main) = main else {
            return Vec::new();
        };
        let mut lines = vec![line(main, "")];
        if targets.lines().any(|l| l.contains("-updates ")) {
            lines.push(line(main, "-updates"));
        }
        if let Some(security) = security {
            lines.push(line(security, "-security"));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::{Distribution, Suite};
    use crate::modules::image::catalog::CatalogName;

    #[test]
    fn sources_are_the_mirrors_of_a_host_of_that_distribution() {
        let bookworm = "http://m/backports/ bookworm-backports Debian Backports\n\
                        http://m/debian/ bookworm Debian\n\
                        http://m/debian/ bookworm-updates Debian\n\
                        http://m/security/ bookworm-security Debian-Security\n\
                        https://other/ cloud-sdk \n";
        let three: &[&str] = &[
            "deb http://m/debian/ bookworm main",
            "deb http://m/debian/ bookworm-updates main",
            "deb http://m/security/ bookworm-security main",
        ];
        let table = [
            (bookworm.to_owned(), three),
            (bookworm.replace("bookworm", "trixie"), three),
            (
                "https://m/ trixie Debian\n".to_owned(),
                &["deb https://m/ bookworm main"],
            ),
            ("http://u/ubuntu/ noble Ubuntu\n".to_owned(), &[]),
            ("https://me:secret@m/ bookworm Debian\n".to_owned(), &[]),
            ("cdrom:[x]/ bookworm Debian\n".to_owned(), &[]),
            (String::new(), &[]),
        ];
        for (targets, expected) in table {
            assert_eq!(
                Distribution::Debian.sources(&targets, "bookworm"),
                expected,
                "{targets}"
            );
        }
        let jammy = "http://u/ubuntu/ jammy-updates Ubuntu\n\
                     http://u/ubuntu/ jammy Ubuntu\n\
                     http://s/ubuntu/ jammy-security Ubuntu\n";
        let expected = [
            "deb http://u/ubuntu/ noble main universe",
            "deb http://u/ubuntu/ noble-updates main universe",
            "deb http://s/ubuntu/ noble-security main universe",
        ];
        assert_eq!(Distribution::Ubuntu.sources(jammy, "noble"), expected);
        assert!(Distribution::Ubuntu.sources(bookworm, "noble").is_empty());
    }

    #[test]
    fn every_catalog_image_is_of_a_release() {
        for name in CatalogName::ALL {
            let suite = Suite::of(name).expect("a release");
            assert!(name.as_str().starts_with(suite.name), "{name}");
        }
    }
}
