//! Makes GRUB start from a GPT disk on a machine with a BIOS: what `grub-bios-setup` does, on bytes.
//!
//! The BIOS runs the first sector (`boot.img`), which loads the first sector of the BIOS boot partition
//! (the head of `core.img`), which loads the rest. Each knows where the next part is from a number
//! written into it here. Offsets are those of GRUB 2's `include/grub/i386/pc/boot.h`.

use super::error::ImageError;

/// The bytes of the first sector that belong to the boot loader; the partition table follows.
pub(super) const BOOT_CODE_BYTES: usize = 440;

const SECTOR: usize = 512;
/// In `boot.img`: the sector of `core.img`, 64 bits.
const KERNEL_SECTOR: usize = 0x5c;
/// In `boot.img`: a jump over the drive number's check, replaced by two `nop` on a hard disk, because some
/// BIOSes pass a wrong number.
const DRIVE_CHECK: usize = 0x66;
const DRIVE_CHECK_JUMP: [u8; 2] = [0xeb, 0x05];
const NOP_NOP: [u8; 2] = [0x90, 0x90];
/// In the head of `core.img`: where the rest is (sector, 64 bits; length, 16; segment, 16).
const BLOCK_LIST: usize = SECTOR - 12;
/// The segment that the rest is loaded to: behind the head, which is at 0x8000.
const REST_SEGMENT: u16 = 0x820;

/// `boot.img` as the first 440 bytes of a disk whose `core.img` begins at sector `core_lba`.
///
/// # Errors
/// [`ImageError::BootLoader`] when it is no `boot.img`.
pub(super) fn boot_code(
    boot_img: &[u8],
    core_lba: u64,
) -> Result<[u8; BOOT_CODE_BYTES], ImageError> {
    let wrong = |problem: String, expected: &str| ImageError::BootLoader {
        file: "boot.img",
        problem,
        expected: expected.to_owned(),
    };
    if boot_img.len() != SECTOR {
        let problem = format!("has {} bytes", boot_img.len());
        return Err(wrong(problem, "512 bytes"));
    }
    if boot_img[510..] != [0x55, 0xaa] {
        let problem = format!("ends with {:02x?}", &boot_img[510..]);
        return Err(wrong(problem, "the boot signature 55 aa"));
    }
    let drive_check = &boot_img[DRIVE_CHECK..DRIVE_CHECK + 2];
    if drive_check != DRIVE_CHECK_JUMP {
        let problem = format!("has {drive_check:02x?} at 0x66");
        return Err(wrong(problem, "the jump eb 05 of GRUB 2"));
    }
    let mut code = [0; BOOT_CODE_BYTES];
    code.copy_from_slice(&boot_img[..BOOT_CODE_BYTES]);
    code[KERNEL_SECTOR..KERNEL_SECTOR + 8].copy_from_slice(&core_lba.to_le_bytes());
    code[DRIVE_CHECK..DRIVE_CHECK + 2].copy_from_slice(&NOP_NOP);
    Ok(code)
}

/// `core.img` as the content of a BIOS boot partition that begins at sector `core_lba` and has room for
/// `capacity` sectors; padded to whole sectors.
///
/// # Errors
/// [`ImageError::BootLoader`] when it is no `core.img` or too long.
pub(super) fn embedded_core(
    core_img: &[u8],
    core_lba: u64,
    capacity: u64,
) -> Result<Vec<u8>, ImageError> {
    let wrong = |problem: String, expected: String| ImageError::BootLoader {
        file: "core.img",
        problem,
        expected,
    };
    let sectors = core_img.len().div_ceil(SECTOR);
    let rest = u16::try_from(sectors.saturating_sub(1)).unwrap_or(u16::MAX);
    if rest == 0 || sectors as u64 > capacity.min(u64::from(u16::MAX)) {
        let problem = format!("has {sectors} sectors");
        return Err(wrong(problem, format!("2 to {capacity}")));
    }
    let segment = [core_img[SECTOR - 2], core_img[SECTOR - 1]];
    if segment != REST_SEGMENT.to_le_bytes() {
        let problem = format!("has load segment {:#x}", u16::from_le_bytes(segment));
        return Err(wrong(problem, format!("{REST_SEGMENT:#x}")));
    }
    let mut core = core_img.to_vec();
    core.resize(sectors * SECTOR, 0);
    core[BLOCK_LIST..BLOCK_LIST + 8].copy_from_slice(&(core_lba + 1).to_le_bytes());
    core[BLOCK_LIST + 8..BLOCK_LIST + 10].copy_from_slice(&rest.to_le_bytes());
    Ok(core)
}

#[cfg(test)]
mod tests {
    use super::{boot_code, embedded_core};
    use crate::modules::image::error::ImageError;

    fn boot_img() -> Vec<u8> {
        let mut image = vec![0x11; 512];
        image[0x5c..0x64].copy_from_slice(&1_u64.to_le_bytes());
        image[0x66..0x68].copy_from_slice(&[0xeb, 0x05]);
        image[510..].copy_from_slice(&[0x55, 0xaa]);
        image
    }

    fn core_img(bytes: usize) -> Vec<u8> {
        let mut image = vec![0x22; bytes];
        image[500..512].copy_from_slice(&[2, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0x20, 0x08]);
        image
    }

    #[test]
    fn boot_code_is_boot_img_but_for_the_sector_and_the_drive_check() {
        let code = boot_code(&boot_img(), 0x1_0000_0800).expect("a boot.img");
        let mut expected = boot_img();
        expected[0x5c..0x64].copy_from_slice(&[0, 8, 0, 0, 1, 0, 0, 0]);
        expected[0x66..0x68].copy_from_slice(&[0x90, 0x90]);
        assert_eq!(code[..], expected[..440]);
    }

    #[test]
    fn core_is_padded_and_knows_where_its_rest_is() {
        let core = embedded_core(&core_img(1300), 2048, 2048).expect("a core.img");
        let mut expected = core_img(1300);
        expected.resize(1536, 0);
        expected[500..512].copy_from_slice(&[1, 8, 0, 0, 0, 0, 0, 0, 2, 0, 0x20, 0x08]);
        assert_eq!(core, expected);
    }

    #[test]
    fn files_that_are_not_grubs_are_refused() {
        let mut unsigned = boot_img();
        unsigned[511] = 0;
        let mut other = boot_img();
        other[0x66] = 0x90;
        for (image, wanted) in [
            (boot_img()[..511].to_vec(), "512 bytes"),
            (unsigned, "the boot signature 55 aa"),
            (other, "the jump eb 05 of GRUB 2"),
        ] {
            match boot_code(&image, 2048) {
                Err(ImageError::BootLoader { expected, .. }) => assert_eq!(expected, wanted),
                other => panic!("{other:?}"),
            }
        }
        let mut segment = core_img(1024);
        segment[511] = 0;
        for (image, capacity, wanted) in [
            (core_img(512), 2048, "2 to 2048"),
            (Vec::new(), 2048, "2 to 2048"),
            (core_img(512 * 9), 8, "2 to 8"),
            (segment, 2048, "0x820"),
        ] {
            match embedded_core(&image, 2048, capacity) {
                Err(ImageError::BootLoader { expected, .. }) => assert_eq!(expected, wanted),
                other => panic!("{other:?}"),
            }
        }
    }
}
