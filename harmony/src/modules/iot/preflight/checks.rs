//! The checks that are made on the host's facts alone.

use std::path::Path;

use crate::domain::error::HintedError;
use crate::domain::topology::virtualization::{Accelerator, FirmwareChoice, VmArchitecture};
use crate::modules::host::{
    Distribution, EmulatorFact, FreeSpace, HostFacts, HostPackage, QemuVersion, older_than_mttcg,
};
use crate::modules::kvm::params::{choose_accelerator, select_host_firmware};

use super::PreflightOptions;
use super::report::{Check, CheckResult};

/// Less free space than this fails: one overlay's first boot and a base image do not fit.
const MIN_FREE_MIB: u64 = 2 * 1024;
/// Less than this is worth a warning: a few devices fill it.
const COMFORTABLE_FREE_MIB: u64 = 8 * 1024;

/// What QEMU is to run, and with what.
pub(super) fn local(options: &PreflightOptions, facts: &HostFacts) -> Vec<Check> {
    vec![
        emulator(options.architecture, facts),
        firmware(options, facts),
        accelerator(options, facts),
        disk_images(facts),
    ]
}

/// Where disks are to be, and what they are made from.
pub(super) fn space_and_images(options: &PreflightOptions, facts: &HostFacts) -> Vec<Check> {
    let mut checks: Vec<Check> = facts.space.iter().map(space).collect();
    if !facts.space.iter().any(|s| s.directory == options.data_dir) {
        checks.push(unknown_space(&options.data_dir));
    }
    checks.push(image_builder(options.architecture));
    checks
}

fn install(package: HostPackage) -> String {
    Distribution::of_host().install_command(package)
}

fn emulator(architecture: VmArchitecture, facts: &HostFacts) -> Check {
    let package = match architecture {
        VmArchitecture::X86_64 => HostPackage::QemuX86,
        VmArchitecture::Aarch64 => HostPackage::QemuAarch64,
    };
    let result = match facts.emulators.get(architecture.as_str()) {
        None => CheckResult::Fail {
            cause: format!("qemu-system-{architecture} is not on PATH"),
            hint: install(package),
        },
        Some(broken @ EmulatorFact::Broken { .. }) => CheckResult::Fail {
            cause: broken.to_string(),
            hint: format!("mend it, or {}", install(package)),
        },
        Some(usable @ EmulatorFact::Usable { version, .. }) => {
            let old = older_than_mttcg(*version);
            match old.filter(|_| architecture == VmArchitecture::Aarch64) {
                Some(cause) => CheckResult::Warn {
                    cause,
                    hint: format!(
                        "{} or newer emulates arm64 faster; look into your distribution's backports",
                        QemuVersion::MTTCG
                    ),
                },
                None => CheckResult::Ok {
                    detail: usable.to_string(),
                },
            }
        }
    };
    Check {
        name: "emulator",
        why: "executing the guest",
        result,
    }
}

fn firmware(options: &PreflightOptions, facts: &HostFacts) -> Check {
    let (architecture, choice) = (options.architecture, options.firmware);
    let bios = choice == FirmwareChoice::Bios
        || (architecture, choice) == (VmArchitecture::X86_64, FirmwareChoice::Auto);
    let result = if bios {
        CheckResult::Skipped {
            reason: "the guest boots with the BIOS that is part of QEMU".to_owned(),
        }
    } else {
        uefi(architecture, facts)
    };
    Check {
        name: "firmware",
        why: "booting the guest through UEFI",
        result,
    }
}

fn uefi(architecture: VmArchitecture, facts: &HostFacts) -> CheckResult {
    let known = facts.capabilities(architecture, Accelerator::Tcg);
    let (any_machine, package) = match architecture {
        VmArchitecture::X86_64 => ("pc-q35-0.0", HostPackage::FirmwareX86),
        VmArchitecture::Aarch64 => ("virt-0.0", HostPackage::FirmwareAarch64),
    };
    let machine = known.map_or(any_machine, |c| &c.machine);
    match select_host_firmware(architecture, machine, facts) {
        Ok(selection) => CheckResult::Ok {
            detail: selection.firmware.code.display().to_string(),
        },
        Err(error) => CheckResult::Fail {
            cause: error.to_string(),
            hint: install(package),
        },
    }
}

fn accelerator(options: &PreflightOptions, facts: &HostFacts) -> Check {
    let PreflightOptions {
        architecture,
        accelerator,
        cpu,
        ..
    } = options;
    let result = match choose_accelerator(*architecture, *accelerator, cpu, facts) {
        Ok(choice) => match choice.warning {
            Some(cause) => CheckResult::Warn {
                cause,
                hint: "check that virtualisation is enabled, and nested when this is a guest"
                    .to_owned(),
            },
            None => CheckResult::Ok {
                detail: format!("{}: {}", choice.accelerator, choice.reason),
            },
        },
        Err(error) => CheckResult::Fail {
            cause: error.to_string(),
            hint: error.hint().unwrap_or_default(),
        },
    };
    Check {
        name: "accelerator",
        why: "speed",
        result,
    }
}

fn disk_images(facts: &HostFacts) -> Check {
    let result = match &facts.programs.qemu_img {
        Some(path) => CheckResult::Ok {
            detail: path.display().to_string(),
        },
        None => CheckResult::Fail {
            cause: "qemu-img is not on PATH".to_owned(),
            hint: install(HostPackage::QemuImg),
        },
    };
    Check {
        name: "qemu-img",
        why: "the guest's disk",
        result,
    }
}

fn space(space: &FreeSpace) -> Check {
    let FreeSpace {
        directory,
        free_mib,
    } = space;
    let found = format!("{free_mib} MiB free for {}", directory.display());
    let hint = "free some, or set HARMONY_DATA_DIR to another file system".to_owned();
    let result = match *free_mib {
        ..MIN_FREE_MIB => CheckResult::Fail {
            cause: format!("{found} (at least {MIN_FREE_MIB} are needed)"),
            hint,
        },
        MIN_FREE_MIB..COMFORTABLE_FREE_MIB => CheckResult::Warn { cause: found, hint },
        _ => CheckResult::Ok { detail: found },
    };
    Check {
        name: "disk space",
        why: "images and disks",
        result,
    }
}

fn unknown_space(data_dir: &Path) -> Check {
    Check {
        name: "disk space",
        why: "images and disks",
        result: CheckResult::Fail {
            cause: format!("the space for {} cannot be told", data_dir.display()),
            hint: "set HARMONY_DATA_DIR to an absolute path that can be read".to_owned(),
        },
    }
}

fn image_builder(architecture: VmArchitecture) -> Check {
    let result = match crate::modules::image::debian::check_host(architecture) {
        Ok(()) => CheckResult::Ok {
            detail: "a Debian image can be built here".to_owned(),
        },
        Err(error) => CheckResult::Warn {
            hint: error
                .hint()
                .unwrap_or_else(|| install(HostPackage::ImageBuilder)),
            cause: error.to_string(),
        },
    };
    Check {
        name: "image build",
        why: "making an image where no image host can be reached",
        result,
    }
}
