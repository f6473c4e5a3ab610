//! Where a file is inside of a build.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::malformed::Malformed;

/// The directories of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Section {
    /// Programs.
    Bin,
    /// Shared libraries, with their dynamic loader; QEMU's modules in `lib/qemu/`.
    Lib,
    /// Firmware, and whatever else QEMU looks for in its data directory.
    Firmware,
}

impl Section {
    /// Every section, in a fixed order.
    pub const ALL: [Self; 3] = [Self::Bin, Self::Lib, Self::Firmware];

    /// The directory's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bin => "bin",
            Self::Lib => "lib",
            Self::Firmware => "firmware",
        }
    }
}

/// What the generated wrapper's name ends with.
pub(super) const WRAPPER_SUFFIX: &str = ".harmony";

/// The longest path, in bytes.
const MAX_LENGTH: usize = 512;

/// A file's path in a build: relative, under `bin/`, `lib/` or `firmware/`, without `.`, `..`, empty
/// components or control characters, at most 512 bytes, and not the name of a generated wrapper. Joined to a
/// directory it stays inside.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BuildPath {
    text: String,
    section: Section,
}

impl BuildPath {
    /// The path with `/` between its components.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The directory of the build that it is in.
    pub fn section(&self) -> Section {
        self.section
    }

    /// The path in the directory of its section.
    pub fn in_section(&self) -> &str {
        &self.text[self.section.as_str().len() + 1..]
    }

    /// The directories that it is in, the innermost last.
    pub(super) fn parents(&self) -> impl Iterator<Item = &str> {
        self.text.match_indices('/').map(|(at, _)| &self.text[..at])
    }
}

fn split(value: &str) -> Option<(Section, &str)> {
    let (first, rest) = value.split_once('/')?;
    let section = Section::ALL.into_iter().find(|s| s.as_str() == first)?;
    Some((section, rest))
}

fn check(value: &str) -> Result<Section, &'static str> {
    let component = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && part.len() <= 255
            && !part.contains(char::is_control)
    };
    if value.len() > MAX_LENGTH {
        return Err("at most 512 bytes");
    }
    let Some((section, rest)) = split(value) else {
        return Err("a relative path under bin/, lib/ or firmware/");
    };
    if !rest.split('/').all(component) {
        return Err("components of 1 to 255 bytes, none '.' or '..', without control characters");
    }
    if section == Section::Bin && rest.ends_with(WRAPPER_SUFFIX) {
        return Err("a name in bin/ that does not end with .harmony, as generated files do");
    }
    Ok(section)
}

impl FromStr for BuildPath {
    type Err = Malformed;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        match check(value) {
            Ok(section) => Ok(Self {
                text: value.to_owned(),
                section,
            }),
            Err(expected) => Err(Malformed::new("path in a build", value, expected)),
        }
    }
}

impl TryFrom<String> for BuildPath {
    type Error = Malformed;

    fn try_from(value: String) -> Result<Self, Self::Error> {
        value.parse()
    }
}

impl From<BuildPath> for String {
    fn from(path: BuildPath) -> Self {
        path.text
    }
}

impl fmt::Display for BuildPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::{BuildPath, Section};
    use crate::modules::qemu::malformed::Malformed;

    #[test]
    fn paths_stay_inside_of_a_build() {
        let good = [
            ("bin/qemu-system-aarch64", Section::Bin),
            ("lib/qemu/ui-curses.so", Section::Lib),
            ("lib/a.harmony", Section::Lib),
            ("firmware/..a/b c", Section::Firmware),
        ];
        for (text, section) in good {
            let path: BuildPath = text.parse().expect(text);
            assert_eq!(path.section(), section, "{text}");
            assert_eq!(format!("{}/{}", section.as_str(), path.in_section()), text);
        }
        let under = "a relative path under bin/, lib/ or firmware/";
        let components =
            "components of 1 to 255 bytes, none '.' or '..', without control characters";
        let wrapper = "a name in bin/ that does not end with .harmony, as generated files do";
        let long_component = format!("lib/{}", "a".repeat(256));
        let long = format!("lib/{}", "a/".repeat(300));
        let bad = [
            ("", under),
            ("bin", under),
            ("/bin/sh", under),
            ("/etc/passwd", under),
            ("../bin/a", under),
            ("share/a", under),
            ("binary/a", under),
            ("bin/", components),
            ("bin//a", components),
            ("bin/../../etc/passwd", components),
            ("lib/.", components),
            ("lib/a/..", components),
            ("lib/a\nb", components),
            ("lib/a\0b", components),
            (&long_component, components),
            (&long, "at most 512 bytes"),
            ("bin/qemu-system-aarch64.harmony", wrapper),
        ];
        for (text, wanted) in bad {
            match text.parse::<BuildPath>() {
                Err(Malformed { expected, .. }) => assert_eq!(expected, wanted, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn parents() {
        let path: BuildPath = "lib/qemu/a.so".parse().expect("valid");
        assert_eq!(path.parents().collect::<Vec<_>>(), ["lib", "lib/qemu"]);
    }
}
