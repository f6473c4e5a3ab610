use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::{
    CandidateContent, FirmwareCandidate, FirmwareFile, FlashFormat, FlashState,
    read_firmware_candidates_below,
};

/// A directory that looks like a host's root.
struct Host(tempfile::TempDir);

const SHARE: &str = "/usr/share/qemu/firmware";
const ETC: &str = "/etc/qemu/firmware";

impl Host {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("temporary directory"))
    }

    fn path(&self, path: &str) -> PathBuf {
        let path = self.0.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().expect("has a parent")).expect("created");
        path
    }

    fn file(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        fs::write(self.path(path), content).expect("written");
        self
    }

    fn link(&self, path: &str, target: &str) -> &Self {
        symlink(target, self.path(path)).expect("linked");
        self
    }

    /// What the descriptors give; the known pairs follow them.
    fn described(&self) -> Vec<FirmwareCandidate> {
        let directories = [ETC, SHARE].map(PathBuf::from);
        let mut candidates = read_firmware_candidates_below(self.0.path(), &directories);
        let descriptors = candidates.len() - super::known::KNOWN_PAIRS.len();
        let known = candidates.split_off(descriptors);
        let paths: Vec<_> = known.iter().map(|found| found.origin.as_path()).collect();
        let table: Vec<_> = super::known::KNOWN_PAIRS
            .iter()
            .map(|pair| Path::new(pair.code))
            .collect();
        assert_eq!(paths, table);
        candidates
    }

    fn origins(&self) -> Vec<PathBuf> {
        self.described().into_iter().map(|c| c.origin).collect()
    }

    /// The state of the code file of a descriptor that names `path`.
    fn code(&self, path: &str, format: &str) -> FlashState {
        self.file(&format!("{SHARE}/only.json"), descriptor(path, format));
        let mut candidates = self.described();
        assert_eq!(candidates.len(), 1);
        let CandidateContent::Described(described) = candidates.remove(0).content else {
            panic!("a valid descriptor");
        };
        let FirmwareFile {
            path: named, state, ..
        } = described.code.expect("named");
        assert_eq!(named, Path::new(path), "as the host sees it");
        state
    }
}

fn descriptor(code: &str, format: &str) -> String {
    let flash = serde_json::json!({ "filename": code, "format": format });
    serde_json::json!({
        "interface-types": ["uefi"],
        "mapping": { "device": "flash", "executable": flash, "nvram-template": flash },
        "targets": [{ "architecture": "aarch64", "machines": ["virt-*"] }],
        "features": [],
        "tags": [],
    })
    .to_string()
}

fn qcow2(version: u32, backing_file: u64, virtual_bytes: u64) -> Vec<u8> {
    let mut header = b"QFI\xfb".to_vec();
    header.extend(version.to_be_bytes());
    header.extend(backing_file.to_be_bytes());
    header.extend([0; 8]);
    header.extend(virtual_bytes.to_be_bytes());
    header.resize(104, 0);
    header
}

#[test]
fn an_earlier_directory_masks_an_empty_file_hides_and_names_give_the_order() {
    let host = Host::new();
    host.file(&format!("{SHARE}/30-c.json"), descriptor("/c", "raw"))
        .file(&format!("{SHARE}/10-a.json"), descriptor("/a", "raw"))
        .file(&format!("{SHARE}/20-b.json"), descriptor("/b", "raw"))
        .file(&format!("{SHARE}/40-d.json"), descriptor("/d", "raw"))
        .file(&format!("{SHARE}/.50-hidden.json"), "swap")
        .file(&format!("{SHARE}/README"), "no descriptor");
    let share = |name| PathBuf::from(format!("{SHARE}/{name}"));
    let etc = |name| PathBuf::from(format!("{ETC}/{name}"));
    assert_eq!(
        host.origins(),
        ["10-a.json", "20-b.json", "30-c.json", "40-d.json"].map(share)
    );
    host.file(&format!("{ETC}/10-a.json"), "")
        .link(&format!("{ETC}/40-d.json"), "../hide")
        .file("/etc/qemu/hide", "")
        .file(&format!("{ETC}/30-c.json"), descriptor("/other", "raw"))
        .file(&format!("{ETC}/15-new.json"), descriptor("/new", "raw"));
    assert_eq!(
        host.origins(),
        [etc("15-new.json"), share("20-b.json"), etc("30-c.json")]
    );
}

#[test]
fn what_cannot_be_read_is_a_candidate_that_says_so() {
    let host = Host::new();
    host.file(ETC, "a file where a directory should be")
        .file(&format!("{SHARE}/10.json"), "{ not json")
        .file(&format!("{SHARE}/20.json"), r#"{"features": []}"#)
        .file(&format!("{SHARE}/30.json"), descriptor("/x", "vmdk"))
        .file(&format!("{SHARE}/40.json"), [0xff, 0xfe])
        .link(&format!("{SHARE}/50.json"), "nowhere")
        .file(&format!("{SHARE}/60.json/child"), "")
        .file(&format!("{SHARE}/70.json"), descriptor("/x", "raw"));
    let broken: Vec<_> = host
        .described()
        .into_iter()
        .map(|candidate| match candidate.content {
            CandidateContent::Broken { reason } => reason,
            CandidateContent::Described(_) => "described".to_owned(),
        })
        .collect();
    assert_eq!(
        broken,
        [
            "cannot be listed: Not a directory (os error 20)",
            "not a firmware descriptor: key must be a string at line 1 column 3",
            "not a firmware descriptor: missing field `interface-types` at line 1 column 16",
            "not a firmware descriptor: unknown variant `vmdk`, expected `raw` or `qcow2` at line 1 column 115",
            "cannot be read: stream did not contain valid UTF-8",
            "cannot be read: No such file or directory (os error 2)",
            "cannot be read: not a regular file",
            "described",
        ]
    );
}

#[test]
fn links_are_followed_inside_the_tree() {
    let host = Host::new();
    host.file("/store/real.fd", [7; 4096])
        .link("/fw/relative.fd", "../store/real.fd")
        .link("/fw/absolute.fd", "/store/real.fd")
        .link("/fw/chain.fd", "absolute.fd")
        .link("/fw/above.fd", "../../../../store/real.fd")
        .link("/linked-directory", "/store")
        .link("/fw/loop.fd", "loop.fd");
    let present = FlashState::Present { flash_bytes: 4096 };
    let unusable = |reason: &str| FlashState::Unusable {
        reason: reason.to_owned(),
    };
    let table = [
        ("/store/real.fd", present.clone()),
        ("/fw/relative.fd", present.clone()),
        ("/fw/absolute.fd", present.clone()),
        ("/fw/chain.fd", present.clone()),
        ("/fw/above.fd", present.clone()),
        ("/linked-directory/real.fd", present),
        (
            "/fw/loop.fd",
            unusable("cannot be read: too many levels of symbolic links"),
        ),
        (
            "/fw/missing.fd",
            unusable("cannot be read: No such file or directory (os error 2)"),
        ),
        ("/store", unusable("cannot be read: not a regular file")),
        ("store/real.fd", unusable("is not an absolute path")),
    ];
    for (path, expected) in table {
        assert_eq!(host.code(path, "raw"), expected, "{path}");
    }
}

#[test]
fn qcow2_says_its_virtual_size() {
    const FLASH: u64 = 64 << 20;
    let host = Host::new();
    let table = [
        (qcow2(3, 0, FLASH), Ok(FLASH)),
        (qcow2(2, 0, 540_672), Ok(540_672)),
        (
            qcow2(3, 104, FLASH),
            Err("has a backing file, so that a copy is not whole"),
        ),
        (
            qcow2(4, 0, FLASH),
            Err("is qcow2 of version 4 (expected 2 or 3)"),
        ),
        (vec![0; 4096], Err("is not qcow2")),
        (
            qcow2(3, 0, FLASH)[..31].to_vec(),
            Err("is not qcow2: too short for a header"),
        ),
        (Vec::new(), Err("is not qcow2")),
    ];
    for (content, expected) in table {
        host.file("/fw/code.qcow2", &content);
        let expected = match expected {
            Ok(flash_bytes) => FlashState::Present { flash_bytes },
            Err(reason) => FlashState::Unusable {
                reason: reason.to_owned(),
            },
        };
        assert_eq!(host.code("/fw/code.qcow2", "qcow2"), expected);
    }
}

#[test]
fn candidates_round_trip_and_refuse_unknown_fields() {
    let host = Host::new();
    host.file("/fw/code.fd", [0; 512])
        .file(&format!("{SHARE}/10.json"), "broken")
        .file(
            &format!("{SHARE}/20.json"),
            descriptor("/fw/code.fd", "raw"),
        )
        .file(&format!("{SHARE}/30.json"), descriptor("/fw/none", "qcow2"));
    let candidates = host.described();
    let text = serde_json::to_string(&candidates).expect("serialisable");
    let back: Vec<FirmwareCandidate> = serde_json::from_str(&text).expect("round trip");
    assert_eq!(back, candidates);
    for field in [
        "origin",
        "reason",
        "interface_types",
        "device",
        "path",
        "flash_bytes",
    ] {
        let added = text.replacen(&format!("\"{field}\""), &format!("\"x\":1,\"{field}\""), 1);
        assert_ne!(added, text, "{field}");
        let error = serde_json::from_str::<Vec<FirmwareCandidate>>(&added);
        assert!(error.is_err(), "beside {field}");
    }
}

#[test]
fn formats_have_the_names_of_qemu() {
    for (format, name) in [(FlashFormat::Raw, "raw"), (FlashFormat::Qcow2, "qcow2")] {
        assert_eq!(format.to_string(), name);
        assert_eq!(
            serde_json::to_value(format).expect("serialisable"),
            serde_json::Value::from(name)
        );
    }
}
