//! The script for real, in a Debian tree of its own.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::super::{CheckedRecipe, SCRIPT_ENVIRONMENT, ScriptProgress};
use super::{BASE, plan, plan_for};
use crate::domain::topology::virtualization::VmArchitecture;

/// Bytes that a shell, a terminal or a careless reader could take for something else.
const HOSTILE: &str =
    "'\"$(touch /pwned)`touch /pwned`${IFS}\\\\x\\n!1 %s\tä\r\nEOF\nEND\n' ;touch /pwned; '\nlast";

const FSTAB: &str = "# LABEL=swap is a comment\nLABEL=root / ext4 defaults 0 1\nLABEL=ESP\t/boot/efi\tvfat\tumask=0077 0 1\n\
                     LABEL=swap none swap sw 0 0\nLABEL=boot /boot ext4 defaults,nofail 0 2";

/// The smallest Debian, removed with the value.
struct Tree {
    dir: tempfile::TempDir,
}

impl Tree {
    fn make() -> Self {
        let dir = tempfile::tempdir_in("/var/tmp").expect("a temporary directory");
        let made = Command::new("mmdebstrap")
            .args(["--quiet", "--mode=root", "--variant=minbase", "bookworm"])
            .arg(dir.path().join("tree"))
            .output()
            .expect("mmdebstrap");
        assert!(made.status.success(), "{made:?}");
        Self { dir }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir
            .path()
            .join("tree")
            .join(path.trim_start_matches('/'))
    }

    /// Runs a script there; returns its exit status and output.
    fn run(&self, script: &str) -> (i32, String) {
        self.run_in(script, Some("chroot"))
    }

    fn run_in(&self, script: &str, environment: Option<&str>) -> (i32, String) {
        fs::write(self.at("/root/setup.sh"), script).expect("writable");
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--pid", "--fork", "--kill-child"])
            .arg(format!("--mount-proc={}", self.at("/proc").display()))
            .arg("chroot")
            .arg(self.at("/"))
            .args(["/bin/sh", "/root/setup.sh"])
            .env_remove(SCRIPT_ENVIRONMENT);
        if let Some(environment) = environment {
            command.env(SCRIPT_ENVIRONMENT, environment);
        }
        let Output {
            status,
            stdout,
            stderr,
        } = command.output().expect("unshare");
        let output = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
        (status.code().expect("an exit status"), output)
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Everything that lasts: type and mode, owners, time of the last change and size, or a link's target.
    fn snapshot(&self) -> BTreeMap<PathBuf, String> {
        let mut all = BTreeMap::new();
        let mut open = vec![self.at("/")];
        let passed_over = ["/proc", "/dev", "/tmp", "/root"].map(|path| self.at(path));
        while let Some(path) = open.pop() {
            if passed_over.contains(&path) {
                continue;
            }
            let meta = fs::symlink_metadata(&path).expect("there");
            let link = fs::read_link(&path).unwrap_or_default();
            let what = format!(
                "{:o} {}:{} {}.{} {} {}",
                meta.mode(),
                meta.uid(),
                meta.gid(),
                meta.mtime(),
                meta.mtime_nsec(),
                meta.size(),
                link.display()
            );
            if meta.is_dir() {
                let entries = fs::read_dir(&path).expect("readable");
                open.extend(entries.map(|entry| entry.expect("readable").path()));
            }
            all.insert(path, what);
        }
        all
    }
}

fn progress(output: &str) -> Vec<ScriptProgress> {
    output.lines().filter_map(ScriptProgress::parse).collect()
}

fn recipe() -> String {
    let hostile = format!("{HOSTILE:?}").replace("\\'", "'");
    format!(
        "{BASE}[packages]\na = [\"systemd-sysv\"]\nb = [\"cron\", \"jq\"]\n\
         [services]\nenable = [\"systemd-networkd.service\"]\n\
         disable = [\"cron.service\", \"not-there.service\"]\n\
         mask = [\"apt-daily.timer\", \"not-there-either.service\"]\n\
         [files.\"/etc/apt/apt.conf.d/50-test\"]\ncontent = 'Acquire::Languages \"none\";'\n\
         [files.\"/srv/it's $(touch /pwned)/a b\"]\ncontent = {hostile}\nowner = 'games:0'\nmode = '4750'\n\
         [files.\"/etc/link\"]\ncontent = 'a file now'\nmode = '0600'\n\
         [fstab]\nremove_patterns = ['^LABEL=(swap|other)[[:space:]]']\nnofail = ['/boot/efi', '/boot']\n\
         [cleanup]\nremove_dirs = ['/usr/share/doc', '/not/there']\n\
         [profiles.p.aarch64]\nboot_arguments = ['console=ttyAMA0', 'quiet']\n"
    )
}

#[test]
#[ignore = "needs root, mmdebstrap and a Debian mirror: sets a tree up in a chroot, 1 to 5 min"]
fn a_tree_is_set_up_once_and_as_the_recipe_says() {
    let tree = Tree::make();
    fs::write(tree.at("/etc/fstab"), FSTAB).expect("writable");
    fs::write(tree.at("/etc/precious"), "kept").expect("writable");
    symlink("precious", tree.at("/etc/link")).expect("linked");
    let script = plan_for(&recipe(), VmArchitecture::Aarch64, Some("p")).setup_script;
    shellcheck(&script);

    let (status, output) = tree.run(&script);
    assert_eq!(status, 0, "{output}");
    let said = progress(&output);
    assert_eq!(said.len(), 11, "{said:?}");
    for (index, step) in said[..10].iter().enumerate() {
        let expected = index + 1;
        assert!(
            matches!(step, ScriptProgress::Step { number, total: 10, .. } if *number == expected),
            "{said:?}"
        );
    }
    assert_eq!(said[10], ScriptProgress::Done);
    is_as_the_recipe_says(&tree);

    let before = tree.snapshot();
    let (status, output) = tree.run(&script);
    assert_eq!(status, 0, "{output}");
    let after = tree.snapshot();
    let changed: Vec<_> = after
        .iter()
        .filter(|(path, what)| before.get(*path) != Some(*what))
        .collect();
    assert!(changed.is_empty(), "{changed:#?}\n{output}");
    assert_eq!(before.len(), after.len());
}

fn is_as_the_recipe_says(tree: &Tree) {
    assert!(!tree.at("/pwned").exists());
    assert_eq!(tree.read("/srv/it's $(touch /pwned)/a b"), HOSTILE);
    let meta = fs::metadata(tree.at("/srv/it's $(touch /pwned)/a b")).expect("there");
    assert_eq!(
        (meta.mode() & 0o7777, meta.uid(), meta.gid()),
        (0o4750, 5, 0)
    );
    let meta = fs::symlink_metadata(tree.at("/etc/link")).expect("there");
    assert!(meta.is_file() && meta.mode() & 0o7777 == 0o600);
    assert_eq!(tree.read("/etc/precious"), "kept");
    assert_eq!(
        tree.read("/etc/fstab"),
        "# LABEL=swap is a comment\nLABEL=root / ext4 defaults 0 1\n\
         LABEL=ESP /boot/efi vfat umask=0077,nofail 0 1\nLABEL=boot /boot ext4 defaults,nofail 0 2\n"
    );
    assert_eq!(
        tree.read("/etc/default/grub.d/60-harmony-recipe.cfg"),
        "GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX console=ttyAMA0 quiet\"\n"
    );
    let wants = "/etc/systemd/system/multi-user.target.wants";
    let is_link = |path: &str| fs::symlink_metadata(tree.at(path)).is_ok();
    assert!(is_link(&format!("{wants}/systemd-networkd.service")));
    assert!(!is_link(&format!("{wants}/cron.service")));
    for unit in ["apt-daily.timer", "not-there-either.service"] {
        let target = fs::read_link(tree.at(&format!("/etc/systemd/system/{unit}")));
        assert_eq!(target.expect("a mask"), Path::new("/dev/null"));
    }
    assert!(tree.at("/usr/bin/jq").exists());
    assert!(!tree.at("/usr/share/doc").exists());
    assert!(!tree.at("/usr/sbin/policy-rc.d").exists());
}

#[test]
#[ignore = "needs root, mmdebstrap and a Debian mirror: runs scripts that must fail, 1 to 5 min"]
fn a_step_that_fails_ends_the_script_and_is_named() {
    let tree = Tree::make();
    let script = |more: &str| plan(&format!("{BASE}{more}")).setup_script;
    fs::create_dir(tree.at("/usr/lib/precious")).expect("made");
    fs::create_dir(tree.at("/srv/directory")).expect("made");
    let unit = tree.at("/etc/systemd/system/own.service");
    fs::create_dir_all(unit.parent().expect("a directory")).expect("made");
    fs::write(&unit, "[Unit]\n").expect("writable");
    // What is done, the step that fails, and what it says.
    let table = [
        (
            "[packages]\na = ['no-such-package-of-anyone']\n[files.\"/srv/after\"]\ncontent = ''",
            1,
            "Unable to locate package no-such-package-of-anyone",
        ),
        (
            "[files.\"/srv/x\"]\ncontent = ''\nowner = 'nobody-at-all:root'",
            1,
            "nobody-at-all",
        ),
        (
            "[files.\"/srv/directory\"]\ncontent = ''",
            1,
            "is a directory",
        ),
        (
            "[services]\nmask = ['own.service']",
            1,
            "own.service is no link",
        ),
        (
            "[files.\"/srv/before\"]\ncontent = ''\n[cleanup]\nremove_dirs = ['/lib/precious']",
            2,
            "/lib/precious is /usr/lib/precious",
        ),
    ];
    for (text, number, words) in table {
        let (status, output) = tree.run(&script(text));
        assert_ne!(status, 0, "{text}: {output}");
        assert!(output.contains(words), "{text}: {output}");
        let said = progress(&output);
        let failed = ScriptProgress::Failed {
            number,
            status: u32::try_from(status).expect("positive"),
        };
        assert_eq!(said.last(), Some(&failed), "{output}");
        assert!(!output.contains("harmony-recipe: done"), "{output}");
        assert!(!tree.at("/usr/sbin/policy-rc.d").exists());
    }
    assert!(tree.at("/srv/before").exists());
    assert!(!tree.at("/srv/after").exists());
    assert!(tree.at("/usr/lib/precious").is_dir());

    let (status, output) =
        tree.run_in(&script("[cleanup]\nremove_dirs = ['/srv/directory']"), None);
    assert_eq!(status, 64, "{output}");
    assert!(tree.at("/srv/directory").is_dir());
}

#[test]
#[ignore = "needs root, mmdebstrap and a Debian mirror: sets the default recipe up in a chroot, 1 to 5 min"]
fn the_default_recipe_is_set_up() {
    let tree = Tree::make();
    let recipe = CheckedRecipe::edge_device().expect("valid");
    for architecture in VmArchitecture::ALL {
        for profile in [None, Some("slow-guest")] {
            let plan = recipe.plan(architecture, profile, Path::new("/nowhere"));
            let plan = plan.expect("planned");
            for file in &plan.files {
                if file.content.starts_with(b"#!/bin/sh\n") {
                    shellcheck(&String::from_utf8_lossy(&file.content));
                }
            }
            let script = plan.setup_script;
            shellcheck(&script);
            let (status, output) = tree.run(&script);
            assert_eq!(status, 0, "{output}");
            assert_eq!(progress(&output).last(), Some(&ScriptProgress::Done));
        }
    }
    for unit in ["harmony-first-boot", "harmony-grow-root"] {
        let wanted = format!("/etc/systemd/system/multi-user.target.wants/{unit}.service");
        assert!(fs::symlink_metadata(tree.at(&wanted)).is_ok(), "{wanted}");
    }
    for program in [
        "bin/podman",
        "bin/crun",
        "bin/cloud-init",
        "sbin/netplan",
        "bin/passt",
        "bin/newuidmap",
        "sbin/sshd",
        "sbin/qemu-ga",
    ] {
        assert!(tree.at(&format!("/usr/{program}")).exists(), "{program}");
    }
    assert!(
        tree.read("/etc/systemd/system.conf.d/50-slow-guest.conf")
            .contains("600s")
    );
}

/// Has `shellcheck` look at a script, where there is one.
fn shellcheck(script: &str) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("setup.sh");
    fs::write(&path, script).expect("writable");
    // The data is in quotes, of either kind where it has some itself, so that nothing in it expands.
    let mut command = Command::new("shellcheck");
    command.arg("--exclude=SC2016,SC1078,SC1079").arg(&path);
    match command.output() {
        Ok(found) => assert!(
            found.status.success(),
            "{}",
            String::from_utf8_lossy(&found.stdout)
        ),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
    }
}
