//! Whether this host can run a device, before anything is fetched or made.
//!
//! A preflight is a list of values: every check is run and reported, none hides another. It looks at
//! the same connection and the same directories that the run will use, and changes nothing.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::domain::error::{ErrorKind, ExecutorError, HintedError};
use crate::domain::topology::virtualization::{AcceleratorChoice, VmArchitecture, VmNetwork};
use crate::modules::host::{
    Distribution, HostFacts, HostPackage, KvmProof, QemuVersion, find_emulator, find_program,
};
use crate::modules::kvm::discover_aarch64_firmware;

/// Less free space than this fails: one overlay's first boot and a base image do not fit.
const MIN_FREE_MIB: u64 = 2 * 1024;
/// Less than this is worth a warning: a few devices fill it.
const COMFORTABLE_FREE_MIB: u64 = 8 * 1024;

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "result", rename_all = "lowercase")]
pub enum CheckResult {
    /// As it should be.
    Ok {
        /// What was found.
        detail: String,
    },
    /// It will work, but not well.
    Warn {
        /// What was found.
        cause: String,
        /// What to do.
        hint: String,
    },
    /// It cannot work.
    Fail {
        /// What was found.
        cause: String,
        /// What to do.
        hint: String,
    },
    /// It was not looked at.
    Skipped {
        /// Why not.
        reason: String,
    },
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// A short name.
    pub name: &'static str,
    /// What it is needed for.
    pub why: &'static str,
    /// What came of it.
    #[serde(flatten)]
    pub result: CheckResult,
}

/// All checks, in the order in which a run needs them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PreflightReport {
    /// The checks.
    pub checks: Vec<Check>,
}

impl PreflightReport {
    /// The checks that failed.
    pub fn failures(&self) -> impl Iterator<Item = &Check> {
        self.checks
            .iter()
            .filter(|check| matches!(check.result, CheckResult::Fail { .. }))
    }

    /// The report, unless a check failed.
    ///
    /// # Errors
    /// [`PreflightFailed`] with the whole report.
    pub fn into_result(self) -> Result<Self, ExecutorError> {
        if self.failures().next().is_none() {
            Ok(self)
        } else {
            Err(PreflightFailed { report: self }.into())
        }
    }
}

impl fmt::Display for PreflightReport {
    /// A table: one line a check, and a line for each remedy.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            let (mark, text, hint) = match &check.result {
                CheckResult::Ok { detail } => ("ok  ", detail, None),
                CheckResult::Warn { cause, hint } => ("warn", cause, Some(hint)),
                CheckResult::Fail { cause, hint } => ("FAIL", cause, Some(hint)),
                CheckResult::Skipped { reason } => ("skip", reason, None),
            };
            writeln!(f, "{mark}  {:<12} {text}", check.name)?;
            if let Some(hint) = hint {
                writeln!(f, "      {:<12} needed for {}; {hint}", "", check.why)?;
            }
        }
        Ok(())
    }
}

/// At least one check failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this host cannot run the device yet: {}", failed_names(report))]
pub struct PreflightFailed {
    /// Every check, also those that passed.
    pub report: PreflightReport,
}

fn failed_names(report: &PreflightReport) -> String {
    let causes: Vec<String> = report
        .failures()
        .map(|check| match &check.result {
            CheckResult::Fail { cause, .. } => format!("{} ({cause})", check.name),
            _ => check.name.to_owned(),
        })
        .collect();
    causes.join("; ")
}

impl HintedError for PreflightFailed {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Unavailable
    }

    fn hint(&self) -> Option<String> {
        let hints: Vec<&str> = self
            .report
            .failures()
            .filter_map(|check| match &check.result {
                CheckResult::Fail { hint, .. } => Some(hint.as_str()),
                _ => None,
            })
            .collect();
        Some(hints.join("; "))
    }
}

/// What the run will use.
#[derive(Debug, Clone)]
pub struct PreflightOptions {
    /// The guest's architecture.
    pub architecture: VmArchitecture,
    /// The accelerator that will be asked for.
    pub accelerator: AcceleratorChoice,
    /// The network.
    pub network: VmNetwork,
    /// The libvirt connection; none chooses as the run does.
    #[cfg(feature = "kvm")]
    pub connect: Option<crate::modules::kvm::connection::ConnectionUri>,
    /// The directory for images, keys and state.
    pub data_dir: PathBuf,
}

/// Checks whether this host can run the IoT smoke with guests of an architecture: user networking, the
/// accelerator chosen by proof, harmony's own data directory.
///
/// # Errors
/// [`PreflightFailed`] with every finding when at least one check fails, and an error when no data
/// directory can be determined.
pub async fn check_iot_smoke_preflight_for_arch(
    architecture: VmArchitecture,
) -> Result<PreflightReport, ExecutorError> {
    let options = PreflightOptions {
        architecture,
        accelerator: AcceleratorChoice::Auto,
        network: VmNetwork::User,
        #[cfg(feature = "kvm")]
        connect: None,
        data_dir: super::assets::data_dir()?,
    };
    run_preflight(&options).await.into_result()
}

/// The same for the x86_64 device.
///
/// # Errors
/// As [`check_iot_smoke_preflight_for_arch`].
pub async fn check_iot_smoke_preflight() -> Result<PreflightReport, ExecutorError> {
    check_iot_smoke_preflight_for_arch(VmArchitecture::X86_64).await
}

/// Runs every check.
pub async fn run_preflight(options: &PreflightOptions) -> PreflightReport {
    let mut checks = vec![
        emulator(options.architecture).await,
        firmware(options.architecture),
        accelerator(options).await,
        program(
            "qemu-img",
            "the guest's disk",
            "qemu-img",
            HostPackage::QemuImg,
        ),
    ];
    checks.extend(connection_checks(options).await);
    checks.push(space(&options.data_dir));
    checks.push(image_builder(options.architecture));
    PreflightReport { checks }
}

fn install(package: HostPackage) -> String {
    Distribution::of_host().install_command(package)
}

async fn emulator(architecture: VmArchitecture) -> Check {
    let package = match architecture {
        VmArchitecture::X86_64 => HostPackage::QemuX86,
        VmArchitecture::Aarch64 => HostPackage::QemuAarch64,
    };
    let result = match find_emulator(architecture).await {
        Err(error) => CheckResult::Fail {
            cause: error.to_string(),
            hint: install(package),
        },
        Ok(found)
            if architecture == VmArchitecture::Aarch64 && found.version < QemuVersion::MTTCG =>
        {
            CheckResult::Warn {
                cause: format!("QEMU {} at {}", found.version, found.path.display()),
                hint: format!(
                    "{} or newer emulates arm64 faster; look into your distribution's backports",
                    QemuVersion::MTTCG
                ),
            }
        }
        Ok(found) => CheckResult::Ok {
            detail: format!("QEMU {} at {}", found.version, found.path.display()),
        },
    };
    Check {
        name: "emulator",
        why: "executing the guest",
        result,
    }
}

fn firmware(architecture: VmArchitecture) -> Check {
    let result = match architecture {
        VmArchitecture::X86_64 => CheckResult::Skipped {
            reason: "x86_64 guests boot with the BIOS that is part of QEMU".to_owned(),
        },
        VmArchitecture::Aarch64 => match discover_aarch64_firmware() {
            Ok(firmware) => CheckResult::Ok {
                detail: firmware.code.display().to_string(),
            },
            Err(error) => CheckResult::Fail {
                cause: error.to_string(),
                hint: install(HostPackage::FirmwareAarch64),
            },
        },
    };
    Check {
        name: "firmware",
        why: "booting arm64 guests through UEFI",
        result,
    }
}

async fn accelerator(options: &PreflightOptions) -> Check {
    let native = VmArchitecture::of_host() == Some(options.architecture);
    let ok = |detail: &str| CheckResult::Ok {
        detail: detail.to_owned(),
    };
    let result = match (options.accelerator, native) {
        (AcceleratorChoice::Tcg, _) => ok("TCG, as asked for"),
        (AcceleratorChoice::Auto, false) => ok("TCG: the guest's architecture is not the host's"),
        (AcceleratorChoice::Kvm, false) => CheckResult::Fail {
            cause: format!("KVM cannot run {} guests here", options.architecture),
            hint: "leave the accelerator at auto".to_owned(),
        },
        (choice, true) => match (HostFacts::read().await.kvm, choice) {
            (KvmProof::Executes, _) => ok("KVM: a test guest executed"),
            (KvmProof::Absent { reason } | KvmProof::Broken { reason }, AcceleratorChoice::Kvm) => {
                CheckResult::Fail {
                    cause: reason,
                    hint: "leave the accelerator at auto, or ask for tcg".to_owned(),
                }
            }
            (KvmProof::Absent { reason }, _) => ok(&format!("TCG: {reason}")),
            (KvmProof::Broken { reason }, _) => CheckResult::Warn {
                cause: format!("KVM is here but does not work, so TCG is used: {reason}"),
                hint: "check that virtualisation is enabled, and nested when this is a guest"
                    .to_owned(),
            },
        },
    };
    Check {
        name: "accelerator",
        why: "speed",
        result,
    }
}

fn program(name: &'static str, why: &'static str, program: &str, package: HostPackage) -> Check {
    let result = match find_program(program) {
        Some(path) => CheckResult::Ok {
            detail: path.display().to_string(),
        },
        None => CheckResult::Fail {
            cause: format!("{program} is not on PATH"),
            hint: install(package),
        },
    };
    Check { name, why, result }
}

fn space(data_dir: &Path) -> Check {
    // The directory may not be there yet; its nearest ancestor that is tells the file system.
    let nearest = data_dir.ancestors().find(|dir| dir.is_dir());
    let result = match nearest.map(rustix::fs::statvfs) {
        Some(Ok(stat)) => {
            let free_mib = stat.f_bavail.saturating_mul(stat.f_frsize) >> 20;
            let found = format!("{free_mib} MiB free for {}", data_dir.display());
            let hint = "free some, or set HARMONY_DATA_DIR to another file system".to_owned();
            match free_mib {
                ..MIN_FREE_MIB => CheckResult::Fail {
                    cause: format!("{found} (at least {MIN_FREE_MIB} are needed)"),
                    hint,
                },
                MIN_FREE_MIB..COMFORTABLE_FREE_MIB => CheckResult::Warn { cause: found, hint },
                _ => CheckResult::Ok { detail: found },
            }
        }
        Some(Err(error)) => CheckResult::Fail {
            cause: format!("{}: {error}", data_dir.display()),
            hint: "set HARMONY_DATA_DIR to a directory that can be read".to_owned(),
        },
        None => CheckResult::Fail {
            cause: format!("{} has no directory above it", data_dir.display()),
            hint: "set HARMONY_DATA_DIR to an absolute path".to_owned(),
        },
    };
    Check {
        name: "disk space",
        why: "images and disks",
        result,
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

#[cfg(not(feature = "kvm"))]
async fn connection_checks(_: &PreflightOptions) -> Vec<Check> {
    vec![Check {
        name: "libvirt",
        why: "managing the guest",
        result: CheckResult::Skipped {
            reason: "this build has no libvirt (feature kvm)".to_owned(),
        },
    }]
}

#[cfg(feature = "kvm")]
async fn connection_checks(options: &PreflightOptions) -> Vec<Check> {
    super::preflight_libvirt::connection_checks(options).await
}

#[cfg(test)]
mod tests {
    use super::{Check, CheckResult, PreflightFailed, PreflightReport};
    use crate::domain::error::{ErrorKind, ExecutorError};

    fn report() -> PreflightReport {
        let check = |name, result| Check {
            name,
            why: "testing",
            result,
        };
        PreflightReport {
            checks: vec![
                check(
                    "one",
                    CheckResult::Ok {
                        detail: "here".to_owned(),
                    },
                ),
                check(
                    "two",
                    CheckResult::Fail {
                        cause: "gone".to_owned(),
                        hint: "bring it".to_owned(),
                    },
                ),
                check(
                    "three",
                    CheckResult::Warn {
                        cause: "old".to_owned(),
                        hint: "renew it".to_owned(),
                    },
                ),
                check(
                    "four",
                    CheckResult::Skipped {
                        reason: "not asked".to_owned(),
                    },
                ),
            ],
        }
    }

    #[test]
    fn a_failure_carries_every_finding() {
        let error: ExecutorError = report().into_result().expect_err("two failed");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(error.hint(), Some("bring it"));
        let failed = error
            .downcast_ref::<PreflightFailed>()
            .expect("its own type");
        assert_eq!(failed.report.checks.len(), 4);
        assert_eq!(
            error.to_string(),
            "this host cannot run the device yet: two (gone)"
        );
    }

    #[test]
    fn warnings_and_skips_do_not_fail() {
        let mut report = report();
        report.checks.remove(1);
        assert_eq!(report.clone().into_result().expect("no failure"), report);
    }

    #[test]
    fn the_table_and_the_json() {
        assert_eq!(
            report().to_string(),
            "ok    one          here\n\
             FAIL  two          gone\n\
            \x20                  needed for testing; bring it\n\
             warn  three        old\n\
            \x20                  needed for testing; renew it\n\
             skip  four         not asked\n"
        );
        let json = serde_json::to_value(report()).expect("serialisable");
        assert_eq!(json["checks"][1]["result"], "fail");
        assert_eq!(json["checks"][1]["hint"], "bring it");
    }
}
