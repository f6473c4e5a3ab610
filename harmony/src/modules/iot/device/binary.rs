//! What a program file is for, read from its ELF header. Pure.

use std::path::Path;

use object::Endianness;
use object::elf::{self, FileHeader64};
use object::read::elf::FileHeader;

use super::error::DeviceError;
use crate::domain::topology::virtualization::VmArchitecture;

/// The program that was read from the file at `path`, if it is one for `expected`.
///
/// # Errors
/// When it could not be read, or as [`check_program`].
pub(super) fn checked(
    path: &Path,
    read: std::io::Result<Vec<u8>>,
    expected: VmArchitecture,
) -> Result<Vec<u8>, DeviceError> {
    let program = read.map_err(|source| DeviceError::BinaryUnreadable {
        path: path.to_owned(),
        source,
    })?;
    check_program(path, &program, expected)?;
    Ok(program)
}

/// Checks that `content`, the file at `path`, is a program for `expected`.
///
/// # Errors
/// When it is no 64-bit ELF executable, or one for another machine.
fn check_program(path: &Path, content: &[u8], expected: VmArchitecture) -> Result<(), DeviceError> {
    let no_program = |found: &str| DeviceError::NotAProgram {
        path: path.to_owned(),
        found: found.to_owned(),
    };
    let header = FileHeader64::<Endianness>::parse(content).map_err(|_| {
        no_program(match content {
            [] => "empty",
            content if content.starts_with(&elf::ELFMAG) => "another kind of ELF file",
            content if content.starts_with(b"#!") => "a script",
            _ => "no ELF file",
        })
    })?;
    if header.is_big_endian() {
        return Err(no_program("a big-endian ELF file"));
    }
    let endian = Endianness::Little;
    // Position-independent executables have the type of shared libraries.
    match header.e_type(endian) {
        elf::ET_EXEC | elf::ET_DYN => {}
        elf::ET_REL => return Err(no_program("an ELF object file")),
        _ => return Err(no_program("an ELF file that is no executable")),
    }
    let found = match header.e_machine(endian) {
        elf::EM_X86_64 => Ok(VmArchitecture::X86_64),
        elf::EM_AARCH64 => Ok(VmArchitecture::Aarch64),
        other => Err(format!("ELF machine {}", other.0)),
    };
    if found == Ok(expected) {
        return Ok(());
    }
    Err(DeviceError::BinaryArchitecture {
        path: path.to_owned(),
        found: found.map_or_else(|other| other, |found| found.to_string()),
        expected,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::check_program;
    use crate::domain::topology::virtualization::VmArchitecture;
    use crate::modules::iot::device::DeviceError;

    /// The header of an ELF file, and nothing else.
    fn header(class: u8, data: u8, kind: u16, machine: u16) -> Vec<u8> {
        let mut bytes = vec![0x7f, b'E', b'L', b'F', class, data, 1, 0];
        bytes.resize(16, 0);
        bytes.extend(kind.to_le_bytes());
        bytes.extend(machine.to_le_bytes());
        bytes.extend(1_u32.to_le_bytes());
        bytes.resize(64, 0);
        bytes
    }

    #[test]
    fn the_header_decides() {
        use VmArchitecture::{Aarch64, X86_64};
        let program = |path: &Path, content: &[u8], expected| {
            check_program(path, content, expected).map_err(|error| match error {
                DeviceError::NotAProgram { found, .. }
                | DeviceError::BinaryArchitecture { found, .. } => found,
                error => panic!("{error:?}"),
            })
        };
        let table = [
            (header(2, 1, 3, 183), Aarch64, Ok(())),
            (header(2, 1, 2, 183), Aarch64, Ok(())),
            (header(2, 1, 3, 62), X86_64, Ok(())),
            (header(2, 1, 3, 62), Aarch64, Err("x86_64")),
            (header(2, 1, 3, 183), X86_64, Err("aarch64")),
            (header(2, 1, 3, 243), Aarch64, Err("ELF machine 243")),
            (header(2, 1, 1, 183), Aarch64, Err("an ELF object file")),
            (
                header(2, 1, 4, 183),
                Aarch64,
                Err("an ELF file that is no executable"),
            ),
            (header(2, 2, 3, 183), Aarch64, Err("a big-endian ELF file")),
            (
                header(1, 1, 3, 40),
                Aarch64,
                Err("another kind of ELF file"),
            ),
            (
                header(2, 1, 3, 183)[..63].to_vec(),
                Aarch64,
                Err("another kind of ELF file"),
            ),
            (b"#!/bin/sh\n".to_vec(), Aarch64, Err("a script")),
            (b"MZ".to_vec(), Aarch64, Err("no ELF file")),
            (Vec::new(), Aarch64, Err("empty")),
        ];
        for (content, expected, result) in table {
            let got = program(Path::new("/agent"), &content, expected);
            assert_eq!(got, result.map_err(str::to_owned), "{content:?}");
        }
    }

    #[test]
    fn this_test_is_a_program_for_its_host() {
        let path = std::env::current_exe().expect("Linux");
        let content = std::fs::read(&path).expect("readable");
        for architecture in VmArchitecture::ALL {
            let own = VmArchitecture::of_host() == Some(architecture);
            assert_eq!(check_program(&path, &content, architecture).is_ok(), own);
        }
    }
}
