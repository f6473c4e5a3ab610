//! The stages of a build: from the packages to the compressed image.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use harmony_base::sparse;

use super::composition::Composition;
use super::{Privileges, mmdebstrap, tree};
use crate::domain::topology::virtualization::VmArchitecture;
use crate::modules::image::bios_boot::{boot_code, embedded_core};
use crate::modules::image::build::{BuildError, IMAGE};
use crate::modules::image::disk::{DiskLayout, write_esp, write_partition_table};
use crate::modules::image::error::ImageError;
use crate::modules::image::store::io_error;
use crate::modules::image::tool::tool;

/// Where files are made in the tree that do not stay there.
const WORK_DIR: &str = "boot/grub/build";

/// One build in its directory.
pub(super) struct Build<'a> {
    pub(super) composition: &'a Composition,
    pub(super) privileges: Privileges,
    /// Files of the image to keep: their path in it, and their name in the directory.
    pub(super) copied_out: &'a [(&'a str, &'static str)],
    pub(super) dir: &'a Path,
}

impl Build<'_> {
    /// Runs all stages, up to the compressed image in the build directory.
    pub(super) async fn run(&self) -> Result<(), BuildError> {
        let tar = self.dir.join("root.tar");
        mmdebstrap::bootstrap(self.composition, self.privileges, self.dir, &tar).await?;
        let tree = self.unpack(&tar).await?;
        fs::remove_file(&tar).map_err(|source| io_error("remove", &tar, source))?;
        tree::finish(&tree, self.composition)?;
        for (path, name) in self.copied_out {
            self.copy_out(&tree, path, name).await?;
        }
        let boot_loaders = self.boot_loaders(&tree).await?;
        let layout = DiskLayout::new(
            self.composition.architecture,
            self.composition.esp_mib,
            self.composition.root_mib,
        );
        let disk = self.dir.join("disk.raw");
        boot_loaders.write(&disk, &layout, self.composition.architecture)?;
        self.fill_root(&tree, &disk, &layout).await?;
        self.compress(&disk).await?;
        Ok(())
    }

    async fn unpack(&self, tar: &Path) -> Result<PathBuf, ImageError> {
        let tree = self.dir.join("tree");
        fs::create_dir(&tree).map_err(|source| io_error("create", &tree, source))?;
        self.privileges
            .tool("tar")
            .args([
                "--extract",
                "--numeric-owner",
                "--same-owner",
                "--preserve-permissions",
            ])
            .args(["--xattrs", "--xattrs-include=security.capability"])
            // The guest's kernel fills /dev, and a namespace may not make devices.
            .arg("--exclude=./dev/*")
            .arg("--directory")
            .arg(&tree)
            .arg("--file")
            .arg(tar)
            .run()
            .await?;
        Ok(tree)
    }

    /// Makes the boot loaders with the image's own GRUB, so that program and modules fit each other.
    async fn boot_loaders(&self, tree: &Path) -> Result<BootLoaders, ImageError> {
        tracing::info!("making the boot loaders");
        let work = tree.join(WORK_DIR);
        fs::create_dir_all(&work).map_err(|source| io_error("create", &work, source))?;
        let config = work.join("early.cfg");
        fs::write(&config, self.composition.grub_early_config)
            .map_err(|source| io_error("write", &config, source))?;
        let mut loaders = BootLoaders::default();
        for image in &self.composition.boot_loaders {
            self.privileges
                .tool("chroot")
                .arg(tree)
                .args(["/usr/bin/grub-mkimage", "--format", image.format])
                .args(["--prefix", "/boot/grub"])
                .args(["--config", &format!("/{WORK_DIR}/early.cfg")])
                .args(["--output", &format!("/{WORK_DIR}/{}", image.format)])
                .args(image.modules.iter().copied())
                .run()
                .await?;
            let made = read(&work.join(image.format))?;
            if image.format == "i386-pc" {
                let boot_img = read(&tree.join("usr/lib/grub/i386-pc/boot.img"))?;
                loaders.bios = Some(BiosBoot {
                    boot_img,
                    core_img: made,
                });
            } else {
                loaders.efi = made;
            }
        }
        fs::remove_dir_all(&work).map_err(|source| io_error("remove", &work, source))?;
        Ok(loaders)
    }

    /// Copies a file of the image into the build directory. Its links are followed where they lead in the
    /// image.
    async fn copy_out(&self, tree: &Path, path: &str, name: &str) -> Result<(), ImageError> {
        let work = tree.join(WORK_DIR);
        fs::create_dir_all(&work).map_err(|source| io_error("create", &work, source))?;
        self.privileges
            .tool("chroot")
            .arg(tree)
            .args(["cp", "-L", "--", path, &format!("/{WORK_DIR}/file")])
            .run()
            .await?;
        let copy = work.join("file");
        let kept = self.dir.join(name);
        fs::rename(&copy, &kept).map_err(|source| io_error("keep", &copy, source))?;
        fs::remove_dir_all(&work).map_err(|source| io_error("remove", &work, source))
    }

    async fn fill_root(
        &self,
        tree: &Path,
        disk: &Path,
        layout: &DiskLayout,
    ) -> Result<(), ImageError> {
        tracing::info!("writing the root file system");
        let config = self.dir.join("mke2fs.conf");
        fs::write(&config, self.composition.mke2fs_config)
            .map_err(|source| io_error("write", &config, source))?;
        let extended = format!(
            "offset={},root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0",
            layout.root.offset
        );
        self.privileges
            .tool("mke2fs")
            .env("MKE2FS_CONFIG", config)
            .args([
                "-q", "-F", "-t", "ext4", "-L", "root", "-E", &extended, "-d",
            ])
            .arg(tree)
            .arg(disk)
            .arg(format!("{}k", layout.root.length / 1024))
            .run()
            .await?;
        Ok(())
    }

    async fn compress(&self, disk: &Path) -> Result<(), ImageError> {
        tracing::info!("compressing the image");
        let image = self.dir.join(IMAGE);
        tool("qemu-img")
            .args(["convert", "-f", "raw", "-O", "qcow2", "-c"])
            .args([disk.as_os_str(), image.as_os_str()] as [&OsStr; 2])
            .run()
            .await?;
        Ok(())
    }
}

/// The boot loaders of one image.
#[derive(Debug, Default)]
struct BootLoaders {
    efi: Vec<u8>,
    bios: Option<BiosBoot>,
}

#[derive(Debug)]
struct BiosBoot {
    boot_img: Vec<u8>,
    core_img: Vec<u8>,
}

impl BootLoaders {
    /// Makes the file `disk` with its partitions, all but the root file system filled.
    fn write(
        &self,
        disk: &Path,
        layout: &DiskLayout,
        architecture: VmArchitecture,
    ) -> Result<(), ImageError> {
        let bios = match (&self.bios, layout.bios_boot) {
            (Some(bios), Some(place)) => {
                let code = boot_code(&bios.boot_img, place.first_lba())?;
                let core = embedded_core(&bios.core_img, place.first_lba(), place.sectors())?;
                Some((code, core, place))
            }
            _ => None,
        };
        let mut file = create_disk(disk)?;
        write_partition_table(&mut file, layout, bios.as_ref().map(|(code, ..)| *code))?;
        if let Some((_, core, place)) = bios {
            sparse::write_at(&file, place.offset, &core)
                .map_err(|source| io_error("write", disk, source))?;
        }
        write_esp(&file, layout.esp, architecture, &self.efi)
    }
}

fn create_disk(path: &Path) -> Result<File, ImageError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(|source| io_error("create", path, source))
}

fn read(path: &Path) -> Result<Vec<u8>, ImageError> {
    fs::read(path).map_err(|source| io_error("read", path, source))
}
