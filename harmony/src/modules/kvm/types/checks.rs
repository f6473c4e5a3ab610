//! The rules of a virtual machine's spec. Every function names its bound once.

mod devices;

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::domain::topology::virtualization::{
    ConsoleLog, CpuProfile, FirmwareChoice, FirstBoot, KernelBoot, VirtualMachineSpec,
    VmArchitecture,
};

use super::name::is_plain;
use super::{VmConfig, VmName};
use crate::modules::kvm::violation::{Violation, Violations};
#[cfg(feature = "kvm")]
pub(in crate::modules::kvm) use devices::{check_card, check_disk};
use devices::{check_disks, check_networks, check_shares};

/// `COMMAND_LINE_SIZE` of x86_64 and arm64 Linux is 2048 bytes with the terminating NUL.
const MAX_COMMAND_LINE_BYTES: usize = 2047;

/// What a seed of 1 MiB holds beside its other documents, however much of it JSON has to escape.
const MAX_SETUP_SCRIPT_BYTES: usize = 256 * 1024;

/// The checked configuration, or every rule that the spec breaks.
pub(super) fn check(spec: VirtualMachineSpec) -> Result<VmConfig, Vec<Violation>> {
    // Exhaustive, so that a new field cannot be forgotten here.
    let VirtualMachineSpec {
        name,
        architecture,
        vcpus,
        memory_mib,
        memory_overcommit,
        disk_gib,
        image,
        networks,
        disks,
        shares,
        accelerator,
        cpu,
        machine,
        firmware,
        kernel,
        console,
        uuid,
        serial,
        first_boot,
    } = spec;
    let mut found = Violations::default();
    let name = found.keep(name.parse::<VmName>());
    in_range(&mut found, "vcpus", vcpus.into(), 1..=255, "");
    in_range(
        &mut found,
        "memory_mib",
        memory_mib,
        128..=16_777_216,
        " MiB",
    );
    in_range(&mut found, "disk_gib", disk_gib, 1..=65_536, " GiB");
    let image = found.keep(check_image(image));
    let networks = check_networks(&mut found, &networks);
    let disks = check_disks(&mut found, &disks);
    let shares = check_shares(&mut found, &shares);
    check_cpu(&mut found, architecture, &cpu);
    check_machine(&mut found, architecture, machine.as_deref());
    found.require(
        (architecture, firmware) != (VmArchitecture::Aarch64, FirmwareChoice::Bios),
        || Violation::new("firmware", firmware, "auto or uefi for an aarch64 guest"),
    );
    if let Some(kernel) = &kernel {
        check_kernel(&mut found, kernel);
    }
    if let ConsoleLog::File { path } = &console {
        found.keep(check_path("console.path", path, "a file"));
    }
    found.require(uuid != Some(Uuid::nil()), || {
        Violation::new("uuid", Uuid::nil(), "a UUID that is not nil")
    });
    // A profile's name is the profile, however it was given.
    let cpu = CpuProfile::from(String::from(cpu));
    let serial = serial.and_then(|serial| found.keep(serial.parse()));
    if let Some(first_boot) = &first_boot {
        check_first_boot(&mut found, first_boot);
    }
    let violations = found.into_vec();
    match (name, image) {
        (Some(name), Some(image)) if violations.is_empty() => Ok(VmConfig {
            name,
            architecture,
            vcpus,
            memory_mib,
            memory_overcommit,
            disk_gib,
            image,
            networks,
            disks,
            shares,
            accelerator,
            cpu,
            machine,
            firmware,
            kernel,
            console,
            uuid,
            serial,
            first_boot,
        }),
        _ => Err(violations),
    }
}

fn in_range(
    found: &mut Violations,
    field: &str,
    value: u64,
    bounds: RangeInclusive<u64>,
    unit: &str,
) {
    found.require(bounds.contains(&value), || {
        let (first, last) = bounds.into_inner();
        Violation::new(field, value, format!("{first} to {last}{unit}"))
    });
}

/// A path that a domain's XML can carry: absolute, UTF-8, without control characters.
fn check_path(field: &str, path: &Path, what: &str) -> Result<(), Violation> {
    let text = path.to_str();
    let good = |text: &str| path.is_absolute() && !text.chars().any(char::is_control);
    if text.is_some_and(good) {
        return Ok(());
    }
    let expected = format!("the absolute path of {what}, in UTF-8 without control characters");
    Err(Violation::new(field, path.display(), expected))
}

fn check_image(image: Option<PathBuf>) -> Result<PathBuf, Violation> {
    const WHAT: &str = "a qcow2 or raw disk image";
    match image {
        Some(path) => check_path("image", &path, WHAT).map(|()| path),
        None => Err(Violation::new(
            "image",
            "none",
            format!("the absolute path of {WHAT}"),
        )),
    }
}

fn check_cpu(found: &mut Violations, architecture: VmArchitecture, cpu: &CpuProfile) {
    match cpu {
        CpuProfile::RaspberryPi5 => found.require(architecture == VmArchitecture::Aarch64, || {
            let expected = format!("another CPU for an {architecture} guest");
            Violation::new("cpu", cpu, expected).fix("set architecture to aarch64, or cpu to fastest")
        }),
        CpuProfile::Named(model) => found.require(is_plain(model) && model.len() <= 64, || {
            let expected =
                "fastest, raspberry-pi-5, max, host, or a model's name of 1 to 64 letters, digits, '-', '_' or '.'";
            Violation::new("cpu", model, expected)
        }),
        CpuProfile::Fastest | CpuProfile::Max | CpuProfile::Host => {}
    }
}

fn check_machine(found: &mut Violations, architecture: VmArchitecture, machine: Option<&str>) {
    let Some(machine) = machine else { return };
    let (prefix, example) = match architecture {
        VmArchitecture::X86_64 => ("pc-q35-", "pc-q35-9.2"),
        VmArchitecture::Aarch64 => ("virt-", "virt-9.2"),
    };
    let version = machine.strip_prefix(prefix);
    let good = version.is_some_and(|v| v.starts_with(|c: char| c.is_ascii_alphanumeric()));
    found.require(good && is_plain(machine) && machine.len() <= 40, || {
        let expected = format!("a versioned {architecture} machine type, for example {example}");
        Violation::new("machine", machine, expected)
    });
}

fn check_kernel(found: &mut Violations, kernel: &KernelBoot) {
    let KernelBoot {
        image,
        initrd,
        arguments,
    } = kernel;
    found.keep(check_path("kernel.image", image, "a kernel's image"));
    if let Some(initrd) = initrd {
        found.keep(check_path("kernel.initrd", initrd, "an initial RAM disk"));
    }
    for (n, argument) in arguments.iter().enumerate() {
        let good = |c: char| !c.is_whitespace() && !c.is_control();
        found.require(!argument.is_empty() && argument.chars().all(good), || {
            let field = format!("kernel.arguments[{n}]");
            Violation::new(field, argument, "one argument without white space")
        });
    }
    let bytes = arguments.join(" ").len();
    found.require(bytes <= MAX_COMMAND_LINE_BYTES, || {
        let expected = format!("at most {MAX_COMMAND_LINE_BYTES} bytes in all");
        Violation::new("kernel.arguments", format!("{bytes} bytes"), expected)
    });
}

fn check_first_boot(found: &mut Violations, first_boot: &FirstBoot) {
    let FirstBoot {
        user,
        authorized_keys,
        setup_script,
    } = first_boot;
    let good_char = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let good_first = user.starts_with(|c: char| c.is_ascii_lowercase());
    found.require(
        good_first && user.len() <= 32 && user.chars().all(good_char),
        || {
            let expected = "1 to 32 lower-case letters, digits or '-', beginning with a letter";
            Violation::new("first_boot.user", user, expected)
        },
    );
    found.require(!authorized_keys.is_empty(), || {
        let expected = "at least one public key, each on one line";
        Violation::new("first_boot.authorized_keys", "0 keys", expected)
    });
    for (n, key) in authorized_keys.iter().enumerate() {
        let good = !key.is_empty() && !key.chars().any(char::is_control);
        found.require(good, || {
            let field = format!("first_boot.authorized_keys[{n}]");
            Violation::new(field, key, "a public key in OpenSSH's one-line form")
        });
    }
    if let Some(script) = setup_script {
        let good = script.starts_with("#!") && script.len() <= MAX_SETUP_SCRIPT_BYTES;
        found.require(good, || {
            let value = format!("{} bytes", script.len());
            let expected = format!(
                "a script that begins with '#!', of at most {MAX_SETUP_SCRIPT_BYTES} bytes"
            );
            Violation::new("first_boot.setup_script", value, expected)
        });
    }
}
