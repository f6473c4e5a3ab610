//! What a built Debian 12 image consists of: data, from which its name is derived.

use serde::Serialize;

use crate::domain::topology::virtualization::VmArchitecture;
use crate::modules::image::catalog::serial_console;
use crate::modules::image::digest::Sha256Digest;

/// Raised when the builder makes another image of the same recipe.
const LAYOUT_VERSION: u32 = 1;

/// Everything that decides what is in the image, but for the versions of the packages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Recipe {
    layout_version: u32,
    pub(super) architecture: VmArchitecture,
    pub(super) suite: &'static str,
    pub(super) packages: Vec<&'static str>,
    pub(super) apt_options: Vec<&'static str>,
    pub(super) dpkg_options: Vec<&'static str>,
    /// Written before the packages are configured: they decide what the initramfs contains.
    pub(super) early_files: Vec<TreeFile>,
    /// Written when the packages are configured, over what these left.
    pub(super) files: Vec<TreeFile>,
    pub(super) links: Vec<TreeLink>,
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

/// What an IoT device needs to be provisioned and to run containers without root.
const PACKAGES: [&str; 23] = [
    "ca-certificates",
    "catatonit",
    "cloud-guest-utils",
    "cloud-init",
    "crun",
    "dbus",
    "dbus-user-session",
    "e2fsprogs",
    "gdisk",
    "initramfs-tools",
    "iproute2",
    "netbase",
    "netplan.io",
    "openssh-server",
    "podman",
    "procps",
    "qemu-guest-agent",
    "slirp4netns",
    "sudo",
    "systemd-resolved",
    "systemd-sysv",
    "udev",
    "uidmap",
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

impl Recipe {
    /// Debian 12 as an IoT device.
    pub(super) fn debian_12(architecture: VmArchitecture) -> Self {
        let mut packages = PACKAGES.to_vec();
        packages.extend(match architecture {
            VmArchitecture::X86_64 => [
                "linux-image-cloud-amd64",
                "grub-pc-bin",
                "grub-efi-amd64-bin",
            ]
            .as_slice(),
            VmArchitecture::Aarch64 => ["linux-image-cloud-arm64", "grub-efi-arm64-bin"].as_slice(),
        });
        Self {
            layout_version: LAYOUT_VERSION,
            architecture,
            suite: "bookworm",
            packages,
            apt_options: vec!["Acquire::Languages \"none\"", "Acquire::Retries \"3\""],
            dpkg_options: vec![
                "force-unsafe-io",
                "path-exclude=/usr/share/doc/*",
                "path-exclude=/usr/share/man/*",
                "path-exclude=/usr/share/locale/*",
            ],
            early_files: early_files(),
            files: files(architecture),
            links: links(),
            removed: vec![("etc/ssh", "ssh_host_"), ("var/lib/dbus", "machine-id")],
            boot_loaders: boot_loaders(architecture),
            grub_early_config: GRUB_EARLY_CONFIG,
            mke2fs_config: MKE2FS_CONFIG,
            esp_mib: 64,
            root_mib: 2048,
        }
    }

    /// The image's file name: another one for each recipe.
    pub(super) fn file_name(&self) -> String {
        let text = serde_json::to_vec(self).unwrap_or_else(|error| {
            // A struct of strings, numbers and lists has no value that JSON lacks.
            unreachable!("the recipe is JSON: {error}")
        });
        let digest = Sha256Digest::of(&text).to_string();
        format!("debian-12-{}-{}.qcow2", self.architecture, &digest[..16])
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
    ]
}

fn files(architecture: VmArchitecture) -> Vec<TreeFile> {
    let console = serial_console(architecture);
    vec![
        file(
            "etc/fstab",
            "LABEL=root / ext4 defaults 0 1\nLABEL=ESP /boot/efi vfat umask=0077,nofail 0 0\n",
        ),
        file("etc/hostname", "localhost\n"),
        file(
            "etc/hosts",
            "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n",
        ),
        file("etc/machine-id", ""),
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
        // The links to the newest kernel are the distribution's: a kernel's upgrade needs no other file.
        file(
            "boot/grub/grub.cfg",
            format!(
                "set timeout=0\n\
                 search --label root --set=root\n\
                 linux /vmlinuz root=LABEL=root ro console={console}\n\
                 initrd /initrd.img\n\
                 boot\n"
            ),
        ),
    ]
}

fn links() -> Vec<TreeLink> {
    let masked = |path| TreeLink {
        path,
        target: "/dev/null",
    };
    vec![
        masked("etc/systemd/system/apt-daily.timer"),
        masked("etc/systemd/system/apt-daily-upgrade.timer"),
        TreeLink {
            path: "etc/resolv.conf",
            target: "../run/systemd/resolve/stub-resolv.conf",
        },
    ]
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

    use super::Recipe;
    use crate::domain::topology::virtualization::VmArchitecture;

    #[test]
    fn the_name_changes_with_whatever_is_in_the_image() {
        let recipe = Recipe::debian_12(VmArchitecture::Aarch64);
        let name = recipe.file_name();
        assert_eq!(
            name,
            recipe.clone().file_name(),
            "the same recipe, the same name"
        );
        let (stem, digest) = name.rsplit_once('-').expect("dashes");
        assert_eq!(stem, "debian-12-aarch64");
        assert_eq!(digest.len(), 16 + ".qcow2".len());

        let changed = |change: fn(&mut Recipe)| {
            let mut other = recipe.clone();
            change(&mut other);
            other.file_name()
        };
        let names = HashSet::from([
            name,
            Recipe::debian_12(VmArchitecture::X86_64).file_name(),
            changed(|recipe| recipe.layout_version += 1),
            changed(|recipe| recipe.packages.push("jq")),
            changed(|recipe| recipe.files[0].content.push('#')),
            changed(|recipe| recipe.files[0].mode = 0o600),
            changed(|recipe| recipe.early_files[1].content.push_str("9p\n")),
            changed(|recipe| recipe.links[0].target = "/dev/zero"),
            changed(|recipe| recipe.boot_loaders[0].modules.push("serial")),
            changed(|recipe| recipe.root_mib += 1),
        ]);
        assert_eq!(names.len(), 10);
    }

    #[test]
    fn paths_stay_inside_the_image_and_lists_have_no_repeats() {
        for architecture in VmArchitecture::ALL {
            let recipe = Recipe::debian_12(architecture);
            let files = recipe.early_files.iter().chain(&recipe.files);
            let paths: Vec<_> = files
                .map(|file| file.path)
                .chain(recipe.links.iter().map(|link| link.path))
                .collect();
            for path in &paths {
                assert!(!path.starts_with('/') && !path.contains(".."), "{path}");
            }
            assert_eq!(paths.iter().collect::<HashSet<_>>().len(), paths.len());
            let packages: HashSet<_> = recipe.packages.iter().collect();
            assert_eq!(packages.len(), recipe.packages.len());
        }
    }
}
