//! The catalog's pins as values, as a difference, and as the file that has them. Pure.

use harmony::domain::topology::virtualization::VmArchitecture;
use harmony::modules::image::ImageDigest;
use harmony::modules::image::catalog::CatalogName;

/// The pins of an image for one architecture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: CatalogName,
    pub(super) architecture: VmArchitecture,
    pub(super) pins: Vec<Pin>,
}

/// A pinned release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pin {
    pub(super) url: String,
    /// Hexadecimal digits.
    pub(super) digest: String,
    pub(super) size: Option<u64>,
}

impl Entry {
    /// The pins that this program was built with.
    pub(super) fn of_catalog(name: CatalogName, architecture: VmArchitecture) -> Self {
        let pins = name.image(architecture).pins.iter().map(|pin| Pin {
            url: pin.url.to_owned(),
            digest: match pin.digest {
                ImageDigest::Sha256(digest) => digest.to_string(),
                ImageDigest::Sha512(digest) => digest.to_string(),
            },
            size: pin.size,
        });
        Self {
            name,
            architecture,
            pins: pins.collect(),
        }
    }

    pub(super) fn emptied(&self) -> Self {
        Self {
            pins: Vec::new(),
            ..self.clone()
        }
    }

    /// Adds pins from before that are not there any more, up to so many.
    pub(super) fn fill_up(&mut self, before: &Self, bound: usize) {
        for pin in &before.pins {
            if self.pins.len() < bound && !self.pins.iter().any(|new| new.url == pin.url) {
                self.pins.push(pin.clone());
            }
        }
    }

    /// What changes from these pins to others, as lines of `-` and `+`.
    pub(super) fn difference(&self, after: &Self) -> String {
        let title = format!("{} {}", self.name, self.architecture);
        if self.pins == after.pins {
            return format!("{title}: nothing changes\n");
        }
        let line = |sign: char, pin: &Pin| {
            let size = pin
                .size
                .map_or("size unknown".to_owned(), |size| format!("{size} bytes"));
            format!("{sign} {} {} {size}\n", pin.url, pin.digest)
        };
        let gone = self.pins.iter().filter(|pin| !after.pins.contains(pin));
        let new = after.pins.iter().filter(|pin| !self.pins.contains(pin));
        let lines: String = gone
            .map(|pin| line('-', pin))
            .chain(new.map(|pin| line('+', pin)))
            .collect();
        format!("{title}:\n{lines}")
    }

    /// The constant's name: `UBUNTU_24_04_ARM64`.
    fn constant(&self) -> String {
        let name = format!("{}-{}", self.name, self.architecture.debian_name());
        name.replace(['-', '.'], "_").to_ascii_uppercase()
    }
}

/// The Rust source with these pins, as rustfmt leaves it.
pub(super) fn render(entries: &[Entry]) -> String {
    let mut text =
        "//! The pinned releases of each image, newest first. Written by `harmony-image refresh \
                    --write`.\n\nuse super::WrittenPin;\n"
            .to_owned();
    for entry in entries {
        let (name, count) = (entry.constant(), entry.pins.len());
        let pins: Vec<_> = entry.pins.iter().map(pin_source).collect();
        let pins = match pins.as_slice() {
            [] => String::new(),
            [only] => only.clone(),
            several => {
                let lines = several.iter().flat_map(|pin| pin.lines());
                let indented: String = lines
                    .map(|line| match line {
                        "}" => "    },\n".to_owned(),
                        line => format!("    {line}\n"),
                    })
                    .collect();
                format!("\n{indented}")
            }
        };
        text.push_str(&format!(
            "\npub(super) const {name}: [WrittenPin; {count}] = [{pins}];\n"
        ));
    }
    text
}

fn pin_source(pin: &Pin) -> String {
    let Pin { url, digest, size } = pin;
    format!("WrittenPin {{\n    url: {url:?},\n    digest: {digest:?},\n    size: {size:?},\n}}")
}

#[cfg(test)]
mod tests {
    use harmony::domain::topology::virtualization::VmArchitecture;
    use harmony::modules::image::catalog::CatalogName;

    use super::{Entry, Pin, render};

    #[test]
    fn the_pins_of_this_program_give_the_file_that_they_are_from() {
        let entries = CatalogName::ALL.into_iter().flat_map(|name| {
            // In the file amd64 comes first.
            let architectures = [VmArchitecture::X86_64, VmArchitecture::Aarch64];
            architectures.map(|architecture| Entry::of_catalog(name, architecture))
        });
        let file = include_str!("../../../harmony/src/modules/image/catalog/pins.rs");
        assert_eq!(render(&entries.collect::<Vec<_>>()), file);
    }

    #[test]
    fn a_difference_has_what_goes_and_what_comes() {
        let pin = |url: &str| Pin {
            url: url.to_owned(),
            digest: "ab".to_owned(),
            size: Some(5),
        };
        let entry = |pins: Vec<Pin>| Entry {
            name: CatalogName::Debian12,
            architecture: VmArchitecture::Aarch64,
            pins,
        };
        let before = entry(vec![pin("b"), pin("a")]);
        assert_eq!(
            before.difference(&before),
            "debian-12 aarch64: nothing changes\n"
        );
        let mut after = entry(vec![pin("c")]);
        after.fill_up(&before, 2);
        assert_eq!(after.pins, [pin("c"), pin("b")]);
        assert_eq!(
            before.difference(&after),
            "debian-12 aarch64:\n- a ab 5 bytes\n+ c ab 5 bytes\n"
        );
    }
}
