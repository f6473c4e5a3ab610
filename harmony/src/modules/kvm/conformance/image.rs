//! Whether an image can start a VM: asked before anything of the VM is made.

use std::path::Path;

use harmony_base::blocking::blocking;
use tracing::warn;

use crate::modules::image::inspect::{
    BootPath, ConformanceReport, ImageFacts, InspectError, Limits, conformance_for, inspect,
};
use crate::modules::kvm::error::KvmError;
use crate::modules::kvm::params::{DomainXmlParams, Firmware};
use crate::modules::kvm::types::VmConfig;

/// What starts the guest of such a VM.
pub(in crate::modules::kvm) fn boot_path(config: &VmConfig, params: &DomainXmlParams) -> BootPath {
    match (config.kernel(), &params.firmware) {
        (Some(_), _) => BootPath::Kernel,
        (None, Firmware::Uefi(_)) => BootPath::Uefi,
        (None, Firmware::Bios) => BootPath::Bios,
    }
}

/// Checks that the image conforms as far as this VM needs it to.
///
/// # Errors
/// [`KvmError::UnreadableImage`] and [`KvmError::NonConformingImage`]. An image with what QEMU reads and
/// [`inspect`] does not, as zstd compression, is let through with a warning.
pub(in crate::modules::kvm) async fn check_image(
    config: &VmConfig,
    boot: BootPath,
) -> Result<(), KvmError> {
    let path = config.image();
    let report = match look_into(path).await? {
        Ok(facts) => conformance_for(&facts, config.architecture(), boot),
        Err(error @ InspectError::Unsupported { .. }) => {
            warn!(image = %path.display(), %error, "whether the image can boot is not known");
            return Ok(());
        }
        Err(source) => {
            return Err(KvmError::UnreadableImage {
                name: config.name().to_string(),
                path: path.to_owned(),
                source: Box::new(source),
            });
        }
    };
    judged(config, &report)
}

async fn look_into(path: &Path) -> Result<Result<ImageFacts, InspectError>, KvmError> {
    let file = path.to_owned();
    let look = move || inspect(&file, &Limits::default());
    Ok(blocking("look into the image", look).await?)
}

fn judged(config: &VmConfig, report: &ConformanceReport) -> Result<(), KvmError> {
    if report.conforms() {
        return Ok(());
    }
    Err(KvmError::NonConformingImage {
        name: config.name().to_string(),
        path: config.image().to_owned(),
        architecture: report.architecture,
        clauses: report.violations().cloned().collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::{BootPath, KvmError, check_image};
    use crate::domain::error::{HintedError, error_chain};
    use crate::domain::topology::virtualization::VirtualMachineSpec;
    use crate::domain::topology::virtualization::VmArchitecture::{self, Aarch64, X86_64};
    use crate::modules::image::inspect::ClauseId;
    use crate::modules::kvm::types::VmConfig;

    /// What is said of a raw image for a VM.
    async fn said(raw: &[u8], architecture: VmArchitecture, boot: BootPath) -> Option<KvmError> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), raw).expect("written");
        let spec = VirtualMachineSpec {
            name: "edge-01".to_owned(),
            architecture,
            image: Some(file.path().to_owned()),
            ..VirtualMachineSpec::default()
        };
        let config = VmConfig::try_from(&spec).expect("valid");
        check_image(&config, boot).await.err()
    }

    #[tokio::test]
    async fn a_refusal_names_every_clause_that_fails_and_what_to_do() {
        let error = said(&[0; 4096], Aarch64, BootPath::Uefi).await;
        let error = error.expect("refused");
        let text = error.to_string();
        assert!(
            text.ends_with(
                "cannot start the aarch64 guest 'edge-01': \
                 protective-mbr (Image Format): found data without a partition table, \
                 expected a record of type 0xee from sector 1 on; \
                 primary-gpt (Image Format): found no 'EFI PART' in sector 1, expected a valid table; \
                 backup-gpt (Image Format): found no 'EFI PART' in sector 7, expected a valid table"
            ),
            "{text}"
        );
        let hint = error.hint().expect("a hint");
        assert!(hint.starts_with("name an image for aarch64"), "{hint}");
    }

    #[tokio::test]
    async fn a_bios_needs_boot_code_and_nothing_else() {
        let mut old = vec![0; 1 << 20];
        old[0] = 0xfa;
        old[510..512].copy_from_slice(&[0x55, 0xaa]);
        assert!(said(&old, X86_64, BootPath::Bios).await.is_none());
        old[0] = 0;
        let error = said(&old, X86_64, BootPath::Bios).await.expect("refused");
        assert!(
            matches!(&error, KvmError::NonConformingImage { clauses, .. }
                if clauses.len() == 1 && clauses[0].id == ClauseId::BiosBootCode),
            "{error}"
        );
        let hint = error.hint().expect("a hint");
        assert!(hint.starts_with("give the guest UEFI firmware"), "{hint}");
        assert!(said(&old, X86_64, BootPath::Kernel).await.is_none());
    }

    #[tokio::test]
    async fn only_what_qemu_reads_all_the_same_is_let_through() {
        let mut header = vec![0; 1 << 17];
        header[..8].copy_from_slice(b"QFI\xfb\0\0\0\x09");
        let error = said(&header, Aarch64, BootPath::Uefi).await;
        let error = error.expect("refused");
        assert!(
            matches!(error, KvmError::UnreadableImage { .. }),
            "{error:?}"
        );
        let chain = error_chain(&error);
        assert!(chain.contains("has version 9 (expected 2 or 3)"), "{chain}");

        // Version 3, whose compressed clusters are zstd's.
        header[7] = 3;
        header[23] = 16;
        header[79] = 8;
        header[103] = 104;
        let error = said(&header, Aarch64, BootPath::Uefi).await;
        assert!(error.is_none(), "{error:?}");
    }
}
