//! A program of one instruction that a Cortex-A76 does not have.
//!
//! FJCVTZS converts a floating-point number to an integer as JavaScript does. It came with Armv8.3-A
//! (FEAT_JSCVT); the Raspberry Pi 5's core is Armv8.2-A. A static ELF of 140 bytes needs neither a compiler
//! here nor a C library there.

/// Where the file is mapped.
const BASE: u64 = 0x40_0000;

const FILE_HEADER_BYTES: u16 = 64;
const PROGRAM_HEADER_BYTES: u16 = 56;

/// The Linux exit status of a program that an undefined instruction ended: 128 + SIGILL.
pub(crate) const KILLED_BY_SIGILL: u32 = 128 + 4;

/// Converts 7.0, takes 7 off, and exits with what is left: 0 when the conversion was executed.
const CODE: [u32; 5] = [
    0x1e63_9000, // fmov    d0, #7.0
    0x1e7e_0000, // fjcvtzs w0, d0
    0x5100_1c00, // sub     w0, w0, #7
    0xd280_0ba8, // mov     x8, #93        exit
    0xd400_0001, // svc     #0
];

/// The program, as a file.
pub(crate) fn program() -> Vec<u8> {
    let code: Vec<u8> = CODE.iter().flat_map(|word| word.to_le_bytes()).collect();
    let headers = u64::from(FILE_HEADER_BYTES + PROGRAM_HEADER_BYTES);
    let length = headers + code.len() as u64;
    [file_header(BASE + headers), program_header(length), code].concat()
}

/// `Elf64_Ehdr`.
fn file_header(entry: u64) -> Vec<u8> {
    // 64-bit, little endian, version 1, System V.
    let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    bytes.extend(2_u16.to_le_bytes()); // e_type: ET_EXEC
    bytes.extend(183_u16.to_le_bytes()); // e_machine: EM_AARCH64
    bytes.extend(1_u32.to_le_bytes()); // e_version
    bytes.extend(entry.to_le_bytes()); // e_entry
    bytes.extend(u64::from(FILE_HEADER_BYTES).to_le_bytes()); // e_phoff
    bytes.extend(0_u64.to_le_bytes()); // e_shoff: no sections
    bytes.extend(0_u32.to_le_bytes()); // e_flags
    bytes.extend(FILE_HEADER_BYTES.to_le_bytes()); // e_ehsize
    bytes.extend(PROGRAM_HEADER_BYTES.to_le_bytes()); // e_phentsize
    bytes.extend(1_u16.to_le_bytes()); // e_phnum
    bytes.extend([0; 6]); // e_shentsize, e_shnum, e_shstrndx
    bytes
}

/// `Elf64_Phdr`: the whole file, readable and executable.
fn program_header(length: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(1_u32.to_le_bytes()); // p_type: PT_LOAD
    bytes.extend(5_u32.to_le_bytes()); // p_flags: PF_R | PF_X
    bytes.extend(0_u64.to_le_bytes()); // p_offset
    bytes.extend(BASE.to_le_bytes()); // p_vaddr
    bytes.extend(BASE.to_le_bytes()); // p_paddr
    bytes.extend(length.to_le_bytes()); // p_filesz
    bytes.extend(length.to_le_bytes()); // p_memsz
    bytes.extend(0x1_0000_u64.to_le_bytes()); // p_align: the largest page size of arm64
    bytes
}

#[cfg(test)]
mod tests {
    use super::program;

    #[test]
    fn headers_have_their_sizes_and_the_entry_is_the_first_instruction() {
        let program = program();
        assert_eq!(program.len(), 64 + 56 + 20);
        assert_eq!(program[24..32], 0x40_0078_u64.to_le_bytes());
        assert_eq!(program[64 + 32..64 + 40], 140_u64.to_le_bytes());
        assert_eq!(program[120..124], 0x1e63_9000_u32.to_le_bytes());
    }
}
