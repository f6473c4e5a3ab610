use std::fs;
use std::path::{Path, PathBuf};

use super::{AarchFirmware, discover_in};
use crate::modules::kvm::error::KvmError;

/// A root directory that looks like a host's.
struct Host(tempfile::TempDir);

impl Host {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("temporary directory"))
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    fn text(&self, path: &str, text: &str) -> &Self {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("has a parent")).expect("created");
        fs::write(path, text).expect("written");
        self
    }

    /// A sparse file of pflash size.
    fn flash(&self, path: &str) -> &Self {
        self.text(path, "");
        let file = fs::File::options().write(true).open(self.path(path));
        file.and_then(|f| f.set_len(64 << 20)).expect("sized");
        self
    }

    fn discover(&self) -> Result<AarchFirmware, KvmError> {
        let directories = ["/etc/qemu/firmware", "/usr/share/qemu/firmware"].map(PathBuf::from);
        discover_in(self.0.path(), &directories)
    }

    fn found(&self) -> (String, String) {
        let firmware = self.discover().expect("firmware is found");
        let name = |p: &Path| {
            let below = p.strip_prefix(self.0.path()).expect("below the root");
            format!("/{}", below.display())
        };
        (name(&firmware.code), name(&firmware.vars_template))
    }
}

fn descriptor(code: &str, vars: &str, features: &str) -> String {
    format!(
        r#"{{"interface-types":["uefi"],"mapping":{{"device":"flash",
        "executable":{{"filename":"{code}","format":"raw"}},
        "nvram-template":{{"filename":"{vars}","format":"raw"}}}},
        "targets":[{{"architecture":"aarch64","machines":["virt-*"]}}],"features":[{features}]}}"#
    )
}

/// Debian 12: the first descriptor enrols keys, the second names a file that is not there.
#[test]
fn debian_12_takes_the_third_descriptor() {
    let host = Host::new();
    let dir = "/usr/share/qemu/firmware";
    let (code, vars) = (
        "/usr/share/AAVMF/AAVMF_CODE.fd",
        "/usr/share/AAVMF/AAVMF_VARS.fd",
    );
    host.flash(code).flash(vars);
    host.text(
        &format!("{dir}/40-enrolled.json"),
        &descriptor(code, vars, r#""enrolled-keys","secure-boot""#),
    );
    host.text(
        &format!("{dir}/50-secure.json"),
        &descriptor(
            "/usr/share/AAVMF/AAVMF_CODE.secboot.fd",
            vars,
            r#""secure-boot""#,
        ),
    );
    host.text(
        &format!("{dir}/60-plain.json"),
        &descriptor(code, vars, r#""verbose-static""#),
    );
    assert_eq!(host.found(), (code.to_owned(), vars.to_owned()));
}

#[test]
fn an_earlier_directory_masks_and_an_empty_file_hides() {
    let host = Host::new();
    for name in ["a", "b", "c"] {
        host.flash(&format!("/fw/{name}.fd"));
        host.text(
            &format!("/usr/share/qemu/firmware/{name}.json"),
            &descriptor(&format!("/fw/{name}.fd"), "/fw/a.fd", ""),
        );
    }
    assert_eq!(host.found().0, "/fw/a.fd");
    host.text("/etc/qemu/firmware/a.json", "");
    assert_eq!(host.found().0, "/fw/b.fd");
    host.text(
        "/etc/qemu/firmware/b.json",
        &descriptor("/fw/c.fd", "/fw/a.fd", ""),
    );
    assert_eq!(host.found().0, "/fw/c.fd");
}

#[test]
fn a_broken_descriptor_is_not_the_end() {
    let host = Host::new();
    host.text("/usr/share/qemu/firmware/10-broken.json", "{ not json");
    host.flash("/usr/share/edk2/aarch64/QEMU_EFI.fd");
    host.flash("/usr/share/edk2/aarch64/QEMU_VARS.fd");
    assert_eq!(host.found().0, "/usr/share/edk2/aarch64/QEMU_EFI.fd");
}

#[test]
fn nothing_found_says_why_for_each_candidate() {
    let host = Host::new();
    let dir = "/usr/share/qemu/firmware";
    host.text("/fw/short.fd", "too short");
    let x86 = descriptor("/fw/x.fd", "/fw/x.fd", "").replace("aarch64", "x86_64");
    host.text(&format!("{dir}/10-x86.json"), &x86);
    host.text(
        &format!("{dir}/20-short.json"),
        &descriptor("/fw/short.fd", "/fw/short.fd", ""),
    );
    let qcow2 = descriptor("/fw/q.fd", "/fw/q.fd", "").replace("raw", "qcow2");
    host.text(&format!("{dir}/30-qcow2.json"), &qcow2);
    let Err(KvmError::MissingFirmware { rejected }) = host.discover() else {
        panic!("must not be found");
    };
    let reasons: Vec<&str> = rejected.iter().map(|r| r.reason.as_str()).take(3).collect();
    assert_eq!(reasons[0], "is not for aarch64 machines of type virt");
    assert!(
        reasons[1].ends_with("has 9 bytes, and pflash needs 67108864"),
        "{}",
        reasons[1]
    );
    assert_eq!(reasons[2], "has format qcow2, not raw");
    assert_eq!(rejected.len(), 3 + super::KNOWN_PATHS.len());
}

/// The machine that runs this must find what `setup-host.sh` installed.
#[test]
#[ignore = "needs the package of UEFI firmware for aarch64: reads /usr/share"]
fn this_host_has_firmware() {
    let firmware = super::discover_aarch64_firmware().expect("found");
    assert!(firmware.code.is_file() && firmware.vars_template.is_file());
}
