//! A device's power, cut as hard as it can be: its emulator is killed and gets to do nothing any more.
//!
//! libvirt's `destroy` ends the emulator politely first, and then it writes out what it knows of the disk. Here it does not.
//! What the guest has not sent to its disk is lost, and so is what the emulator has not written to the disk's file: where
//! in it new clusters lie is only there after the guest has asked for its disk's cache to be written out. What the emulator
//! has written stays, as the host goes on.

use std::io;

use harmony::domain::topology::virtualization::VirtualMachineHost;
use harmony::modules::kvm::topology::KvmVirtualMachineHost;
use iot_smoke::Failure;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Cuts the power of a VM; it is off afterwards.
///
/// # Errors
/// When there is no such process, it cannot be killed, or its disk is not one that loses anything.
pub(crate) async fn cut(host: &KvmVirtualMachineHost, name: &str) -> Result<(), Failure> {
    let pid = emulator_of(name)?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    // The number may have become another process's before the descriptor was had.
    let arguments = arguments_of(pid)?;
    if !is_emulator_of(&arguments, name) {
        return Err(format!("the emulator of '{name}' ended by itself").into());
    }
    check_cache(&arguments)?;
    pidfd_send_signal(&process, Signal::KILL)?;
    host.wait_until_not_running(name).await?;
    Ok(())
}

fn emulator_of(name: &str) -> Result<Pid, Failure> {
    for entry in std::fs::read_dir("/proc")? {
        let file_name = entry?.file_name();
        let number = file_name.to_str().and_then(|text| text.parse().ok());
        let Some(pid) = number.and_then(Pid::from_raw) else {
            continue;
        };
        match arguments_of(pid) {
            Ok(arguments) if is_emulator_of(&arguments, name) => return Ok(pid),
            Ok(_) => {}
            // It has ended meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(format!("there is no emulator of '{name}'").into())
}

fn arguments_of(pid: Pid) -> io::Result<Vec<String>> {
    let text = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero()))?;
    let text = String::from_utf8_lossy(&text);
    Ok(text.split('\0').map(str::to_owned).collect())
}

/// libvirt names the guest in `-name guest=NAME,…`.
fn is_emulator_of(arguments: &[String], name: &str) -> bool {
    let beginning = format!("guest={name},");
    let mut pairs = arguments.windows(2);
    pairs.any(|pair| pair[0] == "-name" && pair[1].starts_with(&beginning))
}

/// With no mode in libvirt's document the emulator has the one that it calls write-back: the guest knows of a volatile cache
/// and asks for it to be written out, and that is done. Another one would prove something else.
fn check_cache(arguments: &[String]) -> Result<(), Failure> {
    let other = [
        "\"no-flush\":true",
        "\"direct\":true",
        "cache=",
        "\"write-cache\":",
    ];
    let found = arguments.iter().find(|argument| {
        let is_disk = argument.contains("-storage") || argument.contains("virtio-blk");
        is_disk && other.iter().any(|other| argument.contains(other))
    });
    match found {
        Some(argument) => Err(format!("a disk has a cache mode of its own: {argument}").into()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{check_cache, is_emulator_of};

    fn arguments(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn an_emulator_is_known_by_its_guests_name() {
        let own = arguments("/usr/bin/qemu-system-aarch64 -name guest=edge-1,debug-threads=on -S");
        assert!(is_emulator_of(&own, "edge-1"));
        assert!(!is_emulator_of(&own, "edge"));
        assert!(!is_emulator_of(
            &arguments("grep -e guest=edge-1,"),
            "edge-1"
        ));
    }

    #[test]
    fn only_the_emulators_own_cache_mode_is_taken() {
        let plain = r#"-blockdev {"driver":"file","filename":"/p/a.qcow2","node-name":"libvirt-2-storage","read-only":false}"#;
        check_cache(&arguments(plain)).unwrap();
        let unsafe_ = plain.replace(
            "\"read",
            "\"cache\":{\"direct\":false,\"no-flush\":true},\"read",
        );
        check_cache(&arguments(&unsafe_)).unwrap_err();
        let device =
            r#"-device {"driver":"virtio-blk-pci","drive":"libvirt-2-format","id":"virtio-disk0"}"#;
        check_cache(&arguments(device)).unwrap();
        let through = device.replace("\"id", "\"write-cache\":\"off\",\"id");
        check_cache(&arguments(&through)).unwrap_err();
    }
}
