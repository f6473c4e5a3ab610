use std::ffi::OsStr;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

use super::{CommandError, QemuCommand, QemuDisk, QemuDiskFormat, QemuMachine};
use crate::domain::topology::virtualization::{Accelerator, VmArchitecture};
use crate::modules::qemu::resolved::FirmwarePair;

pub(in crate::modules::qemu) fn arm() -> QemuMachine {
    QemuMachine {
        name: "device-1".to_owned(),
        arch: VmArchitecture::Aarch64,
        machine: "virt-10.0,gic-version=3".to_owned(),
        cpu: "cortex-a76".to_owned(),
        accelerator: Accelerator::Tcg,
        vcpus: 2,
        memory_mib: 1024,
        firmware: Some(FirmwarePair {
            code: "/store/firmware/AAVMF_CODE.fd".into(),
            vars: "/vm/VARS.fd".into(),
        }),
        disks: vec![
            QemuDisk {
                path: "/vm/a,b c.qcow2".into(),
                format: QemuDiskFormat::Qcow2,
                read_only: false,
            },
            QemuDisk {
                path: "/vm/seed.img".into(),
                format: QemuDiskFormat::Raw,
                read_only: true,
            },
        ],
        user_network_ssh_port: NonZeroU16::new(20022),
        console_log: "/vm/,console.log".into(),
        qmp_socket: "/run/vm/qmp,,sock".into(),
    }
}

fn argv(machine: &QemuMachine) -> Vec<String> {
    let emulator = Path::new("/usr/bin/qemu");
    let command = QemuCommand::new(emulator, machine).expect("valid");
    assert_eq!(command.emulator(), emulator);
    let to_command = command.to_command();
    assert!(to_command.get_args().eq(command.arguments().iter()));
    let words = command.arguments().iter();
    words
        .map(|w| w.to_str().expect("text").to_owned())
        .collect()
}

#[test]
fn the_command_line_of_an_arm64_guest_under_tcg() {
    let expected = "-name|guest=device-1|\
        -machine|virt-10.0,gic-version=3|\
        -accel|tcg|\
        -cpu|cortex-a76|\
        -smp|2|\
        -m|1024M|\
        -drive|if=pflash,unit=0,format=raw,readonly=on,file=/store/firmware/AAVMF_CODE.fd|\
        -drive|if=pflash,unit=1,format=raw,readonly=off,file=/vm/VARS.fd|\
        -blockdev|driver=qcow2,node-name=disk0,read-only=off,file.driver=file,file.filename=/vm/a,,b c.qcow2|\
        -device|virtio-blk-pci,drive=disk0|\
        -blockdev|driver=raw,node-name=disk1,read-only=on,file.driver=file,file.filename=/vm/seed.img|\
        -device|virtio-blk-pci,drive=disk1|\
        -netdev|user,id=net0,hostfwd=tcp:127.0.0.1:20022-:22|\
        -device|virtio-net-pci,netdev=net0,romfile=|\
        -device|virtio-rng-pci|\
        -chardev|file,id=console,path=/vm/,,console.log,append=on|\
        -serial|chardev:console|\
        -chardev|socket,id=qmp,path=/run/vm/qmp,,,,sock,server=on,wait=off|\
        -mon|chardev=qmp,mode=control|\
        -display|none|-nodefaults|-no-user-config";
    assert_eq!(argv(&arm()).join("|"), expected);
}

#[test]
fn the_command_line_of_a_bare_x86_64_guest_under_kvm() {
    let machine = QemuMachine {
        arch: VmArchitecture::X86_64,
        machine: "q35".to_owned(),
        cpu: "host".to_owned(),
        accelerator: Accelerator::Kvm,
        firmware: None,
        disks: Vec::new(),
        user_network_ssh_port: None,
        console_log: "/vm/console.log".into(),
        qmp_socket: "/vm/qmp".into(),
        ..arm()
    };
    let expected = "-name|guest=device-1|-machine|q35|-accel|kvm|-cpu|host|-smp|2|-m|1024M|\
        -device|virtio-rng-pci|\
        -chardev|file,id=console,path=/vm/console.log,append=on|-serial|chardev:console|\
        -chardev|socket,id=qmp,path=/vm/qmp,server=on,wait=off|-mon|chardev=qmp,mode=control|\
        -display|none|-nodefaults|-no-user-config";
    assert_eq!(argv(&machine).join("|"), expected);
}

#[test]
fn what_cannot_be_is_refused_by_field() {
    type Change = fn(&mut QemuMachine);
    let table: [(&str, &str, Change); 14] = [
        ("name", "", |m| m.name.clear()),
        ("name", "a,b", |m| m.name = "a,b".to_owned()),
        ("machine", "", |m| m.machine.clear()),
        ("machine", "virt -S", |m| m.machine = "virt -S".to_owned()),
        ("cpu", "-S", |m| m.cpu = "-S".to_owned()),
        ("vcpus", "0", |m| m.vcpus = 0),
        ("vcpus", "256", |m| m.vcpus = 256),
        ("memory_mib", "127", |m| m.memory_mib = 127),
        ("firmware", "none", |m| m.firmware = None),
        ("disks", "64", |m| m.disks = vec![m.disks[0].clone(); 64]),
        ("disks[1].path", "seed.img", |m| {
            m.disks[1].path = "seed.img".into()
        }),
        ("console_log", "/a\0", |m| m.console_log = "/a\0".into()),
        ("firmware.vars", "vars", |m| {
            if let Some(pair) = &mut m.firmware {
                pair.vars = "vars".into();
            }
        }),
        (
            "qmp_socket",
            "/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            |m| m.qmp_socket = PathBuf::from(format!("/{}", "x".repeat(107))),
        ),
    ];
    for (field, value, change) in table {
        let mut machine = arm();
        change(&mut machine);
        let error = QemuCommand::new(Path::new("/usr/bin/qemu"), &machine).expect_err(field);
        let CommandError {
            field: found,
            value: said,
            ..
        } = error;
        assert_eq!((found.as_str(), said.as_str()), (field, value));
    }
    let relative = QemuCommand::new(Path::new("qemu"), &arm()).expect_err("relative");
    assert_eq!(relative.field, "emulator");
    let longest = QemuMachine {
        qmp_socket: PathBuf::from(format!("/{}", "x".repeat(106))),
        ..arm()
    };
    QemuCommand::new(Path::new("/usr/bin/qemu"), &longest).expect("107 bytes");
}

/// A path may be any bytes.
#[test]
fn paths_need_not_be_text() {
    use std::os::unix::ffi::OsStrExt;
    let log = OsStr::from_bytes(b"/vm/\xff,log");
    let machine = QemuMachine {
        console_log: log.into(),
        ..arm()
    };
    let command = QemuCommand::new(Path::new("/usr/bin/qemu"), &machine).expect("valid");
    let expected = OsStr::from_bytes(b"file,id=console,path=/vm/\xff,,log,append=on");
    assert!(command.arguments().iter().any(|word| word == expected));
}
