//! What an image has, and whether a device of the asked-for kind can boot it.

use std::path::Path;
use std::process::ExitCode;

use harmony::domain::error::ExecutorError;
use harmony::domain::topology::virtualization::{FirmwareChoice, VmArchitecture};
use harmony::modules::image::inspect::{
    BootPath, ConformanceReport, ImageFacts, Limits, conformance_for, inspect,
};
use serde::Serialize;

use crate::args::Args;
use crate::output::{print, print_json};

/// One inspection, as JSON has it.
#[derive(Debug, Serialize)]
struct Inspection<'a> {
    image: &'a Path,
    conforms: bool,
    report: ConformanceReport,
    facts: ImageFacts,
}

/// Prints the report; exit code 1 when the image does not conform. Reads the image and nothing else.
pub(crate) fn run(args: &Args, image: &Path) -> Result<ExitCode, ExecutorError> {
    let facts = inspect(image, &Limits::default())?;
    let report = conformance_for(&facts, args.arch, boot_path(args));
    let conforms = report.conforms();
    if args.json {
        print_json(&Inspection {
            image,
            conforms,
            report,
            facts,
        })?;
    } else {
        print(&format!("{}\n\n{report}\n", summary(image, &facts)))?;
    }
    Ok(ExitCode::from(u8::from(!conforms)))
}

/// What the device would have for firmware: as the spec's `auto` decides.
fn boot_path(args: &Args) -> BootPath {
    match (args.arch, args.firmware) {
        (VmArchitecture::X86_64, FirmwareChoice::Auto | FirmwareChoice::Bios) => BootPath::Bios,
        (VmArchitecture::X86_64, FirmwareChoice::Uefi) | (VmArchitecture::Aarch64, _) => {
            BootPath::Uefi
        }
    }
}

fn summary(image: &Path, facts: &ImageFacts) -> String {
    format!(
        "{}: {}, a disk of {} bytes in a file of {}",
        image.display(),
        facts.format,
        facts.virtual_bytes,
        facts.file_bytes
    )
}
