//! The agent's program as it is released.

use std::path::Path;

use harmony_base::digest::Sha256Digest;
use iot_contracts::{ReleaseUrl, ReleasedProgram};

use super::binary;
use super::error::DeviceError;
use crate::domain::topology::virtualization::VmArchitecture;

/// The agent's program in the file at `path`, as it can be released for devices of that architecture; `url` is where they
/// fetch it. [`Operator::release`](crate::modules::iot::operator::Operator::release) signs it.
///
/// # Errors
/// When it cannot be read, is no program, one for another architecture, or larger than what a device takes.
pub fn released_program(
    path: &Path,
    architecture: VmArchitecture,
    url: ReleaseUrl,
) -> Result<ReleasedProgram, DeviceError> {
    let program = binary::checked(path, std::fs::read(path), architecture)?;
    let sha256 = *Sha256Digest::of(&program).bytes();
    // A size that does not fit is too large for every device.
    let size = u64::try_from(program.len()).unwrap_or(u64::MAX);
    ReleasedProgram::new(architecture.as_str(), sha256.into(), size, url)
        .map_err(DeviceError::Release)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use harmony_base::digest::Sha256Digest;
    use iot_contracts::{ContractError, ReleaseUrl};

    use super::released_program;
    use crate::domain::topology::virtualization::VmArchitecture::{self, Aarch64, X86_64};
    use crate::modules::iot::device::DeviceError;
    use crate::modules::iot::operator::Operator;

    fn url() -> ReleaseUrl {
        "https://releases.example/agent".parse().expect("valid")
    }

    /// A file that begins as a program for that architecture does, with `size` bytes.
    fn program(architecture: VmArchitecture, size: usize) -> Vec<u8> {
        let mut bytes = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0];
        bytes.resize(16, 0);
        let machine: u16 = if architecture == Aarch64 { 183 } else { 62 };
        bytes.extend([3_u16, machine].map(u16::to_le_bytes).concat());
        bytes.extend(1_u32.to_le_bytes());
        bytes.resize(size, 0);
        bytes
    }

    #[test]
    fn the_file_says_what_is_released() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("agent");
        let operator = Operator::ensure(&dir.path().join("key")).expect("made");
        for architecture in [Aarch64, X86_64] {
            let bytes = program(architecture, 100);
            fs::write(&path, &bytes).expect("written");
            let released = released_program(&path, architecture, url()).expect("a program");
            let release = operator.release(&released).expect("signed");
            let digest = *Sha256Digest::of(&bytes).bytes();
            assert_eq!(release.sha256(), digest.into());
            assert_eq!((release.size(), release.url()), (100, &url()));
            assert_eq!(release.architecture(), architecture.as_str());
        }
    }

    #[test]
    fn what_no_device_would_take_is_refused() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("agent");
        let refused = || released_program(&path, Aarch64, url()).expect_err("refused");
        assert!(matches!(refused(), DeviceError::BinaryUnreadable { .. }));
        fs::write(&path, program(X86_64, 100)).expect("written");
        assert!(
            matches!(refused(), DeviceError::BinaryArchitecture { found, expected: Aarch64, .. } if found == "x86_64")
        );
        fs::write(&path, "#!/bin/sh\n").expect("written");
        assert!(matches!(refused(), DeviceError::NotAProgram { .. }));
        fs::write(&path, program(Aarch64, 32 * 1024 * 1024 + 1)).expect("written");
        assert!(matches!(
            refused(),
            DeviceError::Release(ContractError::Release { what: "size", .. })
        ));
    }
}
