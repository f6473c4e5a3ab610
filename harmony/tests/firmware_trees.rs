//! Firmware is found on every distribution: `fixtures/firmware` says what is installed there and what is to
//! be chosen.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use harmony::domain::topology::virtualization::VmArchitecture;
use harmony::modules::kvm::UefiFirmware;
use harmony::modules::kvm::firmware::{
    FirmwareCandidate, FirmwareRequest, FlashFormat, RejectedFirmware, firmware_directories,
    read_firmware_candidates, read_firmware_candidates_below, select_firmware,
};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Distribution {
    #[serde(default)]
    file: Vec<FlashFile>,
    #[serde(default)]
    link: Vec<Link>,
    #[serde(default)]
    descriptor: Vec<Descriptor>,
    expected: Vec<Expected>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FlashFile {
    path: PathBuf,
    bytes: u64,
    #[serde(default = "raw")]
    format: FlashFormat,
}

fn raw() -> FlashFormat {
    FlashFormat::Raw
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Link {
    path: PathBuf,
    target: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Descriptor {
    path: PathBuf,
    json: String,
}

/// A request, what is chosen, and why not the others.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    architecture: VmArchitecture,
    machine: String,
    #[serde(default)]
    secure_boot: bool,
    #[serde(default)]
    enrolled_keys: bool,
    #[serde(default)]
    raw_only: bool,
    origin: Option<PathBuf>,
    code: Option<PathBuf>,
    vars_template: Option<PathBuf>,
    format: Option<FlashFormat>,
    rejected: Option<Vec<(PathBuf, String)>>,
}

impl Expected {
    fn request(&self) -> FirmwareRequest<'_> {
        FirmwareRequest {
            architecture: self.architecture,
            machine: &self.machine,
            secure_boot: self.secure_boot,
            enrolled_keys: self.enrolled_keys,
            raw_only: self.raw_only,
        }
    }

    /// The firmware and its origin, when there is to be one.
    fn choice(&self) -> Option<(UefiFirmware, PathBuf)> {
        let firmware = UefiFirmware {
            code: self.code.clone()?,
            vars_template: self.vars_template.clone()?,
            format: self.format?,
        };
        Some((firmware, self.origin.clone()?))
    }

    fn check(&self, distribution: &str, candidates: &[FirmwareCandidate]) {
        let case = format!("{distribution}: {:?}", self.request());
        let (chosen, rejected) = match select_firmware(candidates, &self.request()) {
            Ok(selection) => (
                Some((selection.firmware, selection.origin)),
                selection.rejected,
            ),
            Err(rejected) => (None, rejected),
        };
        assert_eq!(chosen, self.choice(), "{case}");
        let others = candidates.len() - usize::from(chosen.is_some());
        assert_eq!(rejected.len(), others, "{case}");
        if let Some(expected) = &self.rejected {
            let reasons: Vec<_> = rejected
                .into_iter()
                .map(|RejectedFirmware { candidate, reason }| (candidate, reason.to_string()))
                .collect();
            assert_eq!(&reasons, expected, "{case}");
        }
    }
}

fn fixtures() -> Vec<(String, Distribution)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/firmware");
    let mut found: Vec<_> = fs::read_dir(directory)
        .expect("the fixtures are there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .map(|path| {
            let text = fs::read_to_string(&path).expect("readable");
            let distribution =
                toml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let name = path.file_stem().expect("has a name").to_string_lossy();
            (name.into_owned(), distribution)
        })
        .collect();
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    found
}

impl Distribution {
    /// Makes the tree. Nothing in it takes the space that it seems to.
    fn materialise(&self) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a temporary directory");
        let place = |path: &Path| {
            let path = root.path().join(path.strip_prefix("/").expect("absolute"));
            fs::create_dir_all(path.parent().expect("has a parent")).expect("created");
            path
        };
        for file in &self.file {
            let path = place(&file.path);
            match file.format {
                FlashFormat::Raw => File::create(path)
                    .and_then(|created| created.set_len(file.bytes))
                    .expect("sized"),
                FlashFormat::Qcow2 => fs::write(path, qcow2_header(file.bytes)).expect("written"),
            }
        }
        for link in &self.link {
            symlink(&link.target, place(&link.path)).expect("linked");
        }
        for descriptor in &self.descriptor {
            fs::write(place(&descriptor.path), &descriptor.json).expect("written");
        }
        root
    }
}

/// Version 3 without a backing file, as `qemu-img convert` begins it.
fn qcow2_header(virtual_bytes: u64) -> Vec<u8> {
    let mut header = b"QFI\xfb\0\0\0\x03".to_vec();
    header.extend([0; 16]);
    header.extend(virtual_bytes.to_be_bytes());
    header.resize(104, 0);
    header
}

/// The directories of a host, without those of whoever runs the test.
fn system_directories() -> Vec<PathBuf> {
    firmware_directories()
        .into_iter()
        .filter(|directory| {
            ["/etc", "/usr", "/run"]
                .iter()
                .any(|system| directory.starts_with(system))
        })
        .collect()
}

/// What a distribution of this name has, as facts.
pub(crate) fn candidates_of(name: &str) -> Vec<FirmwareCandidate> {
    let mut fixtures = fixtures().into_iter();
    let (_, distribution) = fixtures.find(|(found, _)| found == name).expect(name);
    let root = distribution.materialise();
    read_firmware_candidates_below(root.path(), &system_directories())
}

#[test]
fn every_distribution_gives_the_firmware_that_its_fixture_says() {
    let fixtures = fixtures();
    assert_eq!(fixtures.len(), 11, "as the INDEX lists");
    for (name, distribution) in fixtures {
        let root = distribution.materialise();
        let candidates = read_firmware_candidates_below(root.path(), &system_directories());
        let stored = serde_json::to_string(&candidates).expect("serialisable");
        assert!(
            !stored.contains(root.path().to_str().expect("UTF-8")),
            "{name}: paths are those that the host would see"
        );
        for expected in &distribution.expected {
            expected.check(&name, &candidates);
        }
    }
}

/// What the fixture of Debian 12 says is what Debian 12 has.
#[test]
#[ignore = "needs Debian 12 with qemu-efi-aarch64 and ovmf: reads /usr/share"]
fn debian_12_is_as_its_fixture_says() {
    let host = read_firmware_candidates();
    let (name, distribution) = fixtures()
        .into_iter()
        .find(|(name, _)| name == "debian-12")
        .expect("there is one");
    let root = distribution.materialise();
    let recorded = read_firmware_candidates_below(root.path(), &system_directories());
    assert_eq!(host, recorded);
    for expected in &distribution.expected {
        expected.check(&name, &host);
    }
}
