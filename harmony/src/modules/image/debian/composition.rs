//! What an image built from packages consists of: data, from which its name is derived.

use serde::Serialize;

use super::suite::{Distribution, Suite};
use crate::domain::topology::virtualization::VmArchitecture;
use crate::modules::image::catalog::serial_console;
use crate::modules::image::digest::Sha256Digest;
use crate::modules::image::recipe::BuildPlan;

/// Raised when the builder makes another image of the same composition.
const LAYOUT_VERSION: u32 = 3;

/// Everything that decides what is in the image, but for the versions of the packages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Composition {
    layout_version: u32,
    pub(super) architecture: VmArchitecture,
    pub(super) suite: Suite,
    pub(super) packages: Vec<String>,
    pub(super) apt_options: Vec<&'static str>,
    pub(super) dpkg_options: Vec<&'static str>,
    /// Written before the packages are configured: they decide what the initramfs contains.
    pub(super) early_files: Vec<TreeFile>,
    /// Written when the packages are configured, over what these left, and before the set-up script.
    pub(super) files: Vec<TreeFile>,
    pub(super) links: Vec<TreeLink>,
    /// Run in the tree after that, for an image of a recipe.
    pub(super) setup_script: Option<String>,
    /// Written at last: what every device has to find empty.
    pub(super) late_files: Vec<TreeFile>,
    pub(super) late_links: Vec<TreeLink>,
    /// Removed at last: directory, and the beginning of the file names.
    pub(super) removed: Vec<(&'static str, &'static str)>,
    pub(super) boot_loaders: Vec<GrubImage>,
    /// GRUB's embedded configuration: finds the root file system and goes on with its `grub.cfg`.
    pub(super) grub_early_config: &'static str,
    /// `mke2fs.conf`: the features that GRUB 2.06 reads, whatever the host's defaults are.
    pub(super) mke2fs_config: &'static str,
    pub(super) esp_mib: u64,
    pub(super) root_mib: u64,
}

/// A file of the image's root file system, owned by root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct TreeFile {
    /// The path without its leading `/`.
    pub(super) path: &'static str,
    pub(super) mode: u32,
    pub(super) content: String,
}

/// A symbolic link of the image's root file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct TreeLink {
    /// The path without its leading `/`.
    pub(super) path: &'static str,
    pub(super) target: &'static str,
}

/// A GRUB image to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct GrubImage {
    /// GRUB's name for the platform.
    pub(super) format: &'static str,
    pub(super) modules: Vec<&'static str>,
}

const GRUB_MODULES: [&str; 12] = [
    "part_gpt",
    "fat",
    "ext2",
    "search",
    "search_label",
    "normal",
    "configfile",
    "linux",
    "boot",
    "echo",
    "test",
    "gzio",
];

/// What a cloud image has: a guest that boots, grows its disk, is set up by cloud-init and is logged in to.
const PACKAGES: [&str; 17] = [
    "ca-certificates",
    "cloud-guest-utils",
    "cloud-init",
    "dbus",
    "e2fsprogs",
    "gdisk",
    "initramfs-tools",
    "iproute2",
    "netbase",
    "netplan.io",
    "openssh-server",
    "procps",
    "qemu-guest-agent",
    "sudo",
    "systemd-resolved",
    "systemd-sysv",
    "udev",
];

const MKE2FS_CONFIG: &str = "\
[defaults]
base_features = sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr
default_mntopts = acl,user_xattr
enable_periodic_fsck = 0
blocksize = 4096
inode_size = 256
inode_ratio = 16384

[fs_types]
ext4 = {
features = has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize
}
";

const GRUB_EARLY_CONFIG: &str = "\
search --label root --set=root
set prefix=($root)/boot/grub
configfile ($root)/boot/grub/grub.cfg
";

impl Composition {
    /// A release as its publisher's cloud image would be.
    pub(super) fn plain(suite: Suite, architecture: VmArchitecture) -> Self {
        let mut packages: Vec<_> = PACKAGES.map(str::to_owned).into();
        packages.extend(boot_packages(suite, architecture).map(str::to_owned));
        Self {
            layout_version: LAYOUT_VERSION,
            architecture,
            suite,
            packages,
            apt_options: vec!["Acquire::Languages \"none\"", "Acquire::Retries \"3\""],
            dpkg_options: vec![
                "force-unsafe-io",
                "path-exclude=/usr/share/doc/*",
                "path-exclude=/usr/share/man/*",
                "path-exclude=/usr/share/locale/*",
            ],
            early_files: early_files(),
            files: files(suite, architecture, &[]),
            links: links(),
            setup_script: None,
            late_files: late_files(),
            late_links: late_links(),
            removed: vec![
                ("etc/ssh", "ssh_host_"),
                ("var/lib/dbus", "machine-id"),
                ("var/lib/systemd", "random-seed"),
            ],
            boot_loaders: boot_loaders(architecture),
            grub_early_config: GRUB_EARLY_CONFIG,
            mke2fs_config: MKE2FS_CONFIG,
            esp_mib: 64,
            root_mib: 2048,
        }
    }

    /// That with what a recipe adds.
    pub(super) fn of_plan(suite: Suite, plan: &BuildPlan) -> Self {
        let mut composition = Self::plain(suite, plan.architecture);
        composition.packages.extend(plan.packages.iter().cloned());
        composition.packages.sort_unstable();
        composition.packages.dedup();
        // What the recipe says itself is not put back.
        let said = |path: &str| plan.files.iter().any(|file| file.path[1..] == *path);
        composition.late_files.retain(|file| !said(file.path));
        composition.late_links.retain(|link| !said(link.path));
        Self {
            files: files(suite, plan.architecture, &plan.boot_arguments),
            setup_script: Some(plan.setup_script.clone()),
            // The disk just fits into 4 GiB. What is not used takes no space.
            root_mib: 4096 - 80,
            ..composition
        }
    }

    /// What tells this composition from every other.
    pub(super) fn digest(&self) -> Sha256Digest {
        let text = serde_json::to_vec(self).unwrap_or_else(|error| {
            // A struct of strings, numbers and lists has no value that JSON lacks.
            unreachable!("the composition is JSON: {error}")
        });
        Sha256Digest::of(&text)
    }

    /// A plain image's file name: another one for each composition.
    pub(super) fn file_name(&self) -> String {
        let Self {
            suite,
            architecture,
            ..
        } = self;
        let digest = self.digest().to_string();
        format!("{}-{architecture}-{}.qcow2", suite.name, &digest[..16])
    }
}

fn boot_packages(suite: Suite, architecture: VmArchitecture) -> impl Iterator<Item = &'static str> {
    let kernel = match (suite.distribution, architecture) {
        (Distribution::Debian, VmArchitecture::X86_64) => "linux-image-cloud-amd64",
        (Distribution::Debian, VmArchitecture::Aarch64) => "linux-image-cloud-arm64",
        (Distribution::Ubuntu, _) => "linux-image-virtual",
    };
    let loaders: &[&str] = match architecture {
        VmArchitecture::X86_64 => &["grub-pc-bin", "grub-efi-amd64-bin"],
        VmArchitecture::Aarch64 => &["grub-efi-arm64-bin"],
    };
    std::iter::once(kernel).chain(loaders.iter().copied())
}

/// The distribution's links to the newest kernel and its initial file system: a kernel's upgrade needs no
/// other file.
pub(super) fn kernel_links(suite: Suite) -> [&'static str; 2] {
    match suite.distribution {
        Distribution::Debian => ["/vmlinuz", "/initrd.img"],
        Distribution::Ubuntu => ["/boot/vmlinuz", "/boot/initrd.img"],
    }
}

fn file(path: &'static str, content: impl Into<String>) -> TreeFile {
    TreeFile {
        path,
        mode: 0o644,
        content: content.into(),
    }
}

/// Only what a virtual machine boots from: with all drivers, making the initramfs under user-mode emulation
/// takes over ten minutes.
fn early_files() -> Vec<TreeFile> {
    vec![
        file("etc/initramfs-tools/conf.d/driver-policy", "MODULES=list\n"),
        file(
            "etc/initramfs-tools/modules",
            "virtio_pci\nvirtio_blk\nvirtio_scsi\nvirtio_net\next4\n",
        ),
        // No keys are made where there are files; these are removed at last.
        file("etc/ssh/ssh_host_rsa_key", ""),
        file("etc/ssh/ssh_host_ecdsa_key", ""),
        file("etc/ssh/ssh_host_ed25519_key", ""),
    ]
}

fn files(suite: Suite, architecture: VmArchitecture, boot_arguments: &[String]) -> Vec<TreeFile> {
    vec![
        file(
            "etc/fstab",
            "LABEL=root / ext4 defaults 0 1\nLABEL=ESP /boot/efi vfat umask=0077,nofail 0 0\n",
        ),
        file(
            "etc/cloud/cloud.cfg.d/90_dpkg.cfg",
            "datasource_list: [ NoCloud, None ]\n",
        ),
        // No locales are installed to choose from, and one host key is enough for a slow guest to make.
        file(
            "etc/cloud/cloud.cfg.d/95_harmony.cfg",
            "locale: \"false\"\nssh_genkeytypes: [ ed25519 ]\n",
        ),
        // An emulated guest is slow: a late disk must not end in emergency mode.
        file(
            "etc/systemd/system.conf.d/50-slow-guest.conf",
            "[Manager]\nDefaultDeviceTimeoutSec=300s\n",
        ),
        file(
            "boot/grub/grub.cfg",
            grub_config(suite, architecture, boot_arguments),
        ),
    ]
}

fn grub_config(suite: Suite, architecture: VmArchitecture, boot_arguments: &[String]) -> String {
    let console = serial_console(architecture);
    let [kernel, initrd] = kernel_links(suite);
    let quoted = |argument: &String| format!(" '{}'", argument.replace('\'', "'\\''"));
    let arguments: String = boot_arguments.iter().map(quoted).collect();
    format!(
        "set timeout=0\n\
         search --label root --set=root\n\
         linux {kernel} root=LABEL=root ro console={console}{arguments}\n\
         initrd {initrd}\n\
         boot\n"
    )
}

fn links() -> Vec<TreeLink> {
    let masked = |path| TreeLink {
        path,
        target: "/dev/null",
    };
    vec![
        masked("etc/systemd/system/apt-daily.timer"),
        masked("etc/systemd/system/apt-daily-upgrade.timer"),
    ]
}

/// What making the file system needed in another form.
fn late_files() -> Vec<TreeFile> {
    vec![
        file("etc/hostname", "localhost\n"),
        file(
            "etc/hosts",
            "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n",
        ),
        file("etc/machine-id", ""),
    ]
}

fn late_links() -> Vec<TreeLink> {
    vec![TreeLink {
        path: "etc/resolv.conf",
        target: "../run/systemd/resolve/stub-resolv.conf",
    }]
}

fn boot_loaders(architecture: VmArchitecture) -> Vec<GrubImage> {
    let with = |format, more: &[&'static str]| {
        let modules = [GRUB_MODULES.as_slice(), more].concat();
        GrubImage { format, modules }
    };
    match architecture {
        VmArchitecture::X86_64 => vec![
            with("x86_64-efi", &["efi_gop", "efi_uga"]),
            with("i386-pc", &["biosdisk"]),
        ],
        VmArchitecture::Aarch64 => vec![with("arm64-efi", &[])],
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{Composition, grub_config};
    use crate::domain::topology::virtualization::VmArchitecture;
    use crate::modules::image::debian::suite::Suite;

    #[test]
    fn the_name_changes_with_whatever_is_in_the_image() {
        let composition = Composition::plain(Suite::DEBIAN_12, VmArchitecture::Aarch64);
        let name = composition.file_name();
        assert_eq!(
            name,
            composition.clone().file_name(),
            "the same composition, the same name"
        );
        let (stem, digest) = name.rsplit_once('-').expect("dashes");
        assert_eq!(stem, "debian-12-aarch64");
        assert_eq!(digest.len(), 16 + ".qcow2".len());

        let changed = |change: fn(&mut Composition)| {
            let mut other = composition.clone();
            change(&mut other);
            other.file_name()
        };
        let names = HashSet::from([
            name,
            Composition::plain(Suite::DEBIAN_12, VmArchitecture::X86_64).file_name(),
            Composition::plain(Suite::DEBIAN_13, VmArchitecture::Aarch64).file_name(),
            changed(|composition| composition.layout_version += 1),
            changed(|composition| composition.packages.push("jq".to_owned())),
            changed(|composition| composition.files[0].content.push('#')),
            changed(|composition| composition.files[0].mode = 0o600),
            changed(|composition| composition.late_files[0].content.push('#')),
            changed(|composition| composition.early_files[1].content.push_str("9p\n")),
            changed(|composition| composition.links[0].target = "/dev/zero"),
            changed(|composition| composition.setup_script = Some(String::new())),
            changed(|composition| composition.boot_loaders[0].modules.push("serial")),
            changed(|composition| composition.root_mib += 1),
        ]);
        assert_eq!(names.len(), 13);
    }

    #[test]
    fn paths_stay_inside_the_image_and_lists_have_no_repeats() {
        for architecture in VmArchitecture::ALL {
            for suite in [Suite::DEBIAN_12, Suite::DEBIAN_13, Suite::UBUNTU_24_04] {
                let composition = Composition::plain(suite, architecture);
                let Composition {
                    early_files,
                    files,
                    late_files,
                    links,
                    late_links,
                    ..
                } = &composition;
                let files = early_files.iter().chain(files).chain(late_files);
                let links = links.iter().chain(late_links);
                let paths: Vec<_> = files
                    .map(|file| file.path)
                    .chain(links.map(|link| link.path))
                    .collect();
                for path in &paths {
                    assert!(!path.starts_with('/') && !path.contains(".."), "{path}");
                }
                assert_eq!(paths.iter().collect::<HashSet<_>>().len(), paths.len());
                let packages: HashSet<_> = composition.packages.iter().collect();
                assert_eq!(packages.len(), composition.packages.len());
            }
        }
    }

    #[test]
    fn the_boot_loader_gives_the_kernel_exactly_the_arguments() {
        let arguments = ["quiet".to_owned(), "a='$b;'".to_owned()];
        let config = grub_config(Suite::DEBIAN_12, VmArchitecture::Aarch64, &arguments);
        let linux = config.lines().find(|line| line.starts_with("linux"));
        let expected = r"linux /vmlinuz root=LABEL=root ro console=ttyAMA0 'quiet' 'a='\''$b;'\'''";
        assert_eq!(linux, Some(expected));
        let plain = grub_config(Suite::UBUNTU_24_04, VmArchitecture::X86_64, &[]);
        let expected = "linux /boot/vmlinuz root=LABEL=root ro console=ttyS0";
        assert!(plain.lines().any(|line| line == expected), "{plain}");
    }
}
