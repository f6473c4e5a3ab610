//! Whether a fleet fits into the host's memory.

use crate::domain::error::ExecutorError;
use crate::domain::topology::virtualization::{VirtualMachineHost, VmStatus};
use crate::modules::iot::virtual_device::VirtualDevice;
use crate::modules::kvm::topology::KvmVirtualMachineHost;

use super::FleetError;

/// Where Linux says how much memory programs may still get without swapping.
const MEMINFO: &str = "/proc/meminfo";

/// Checks that the devices that do not run yet fit into what is free. One that may overcommit is not counted.
pub(super) async fn check(
    host: &KvmVirtualMachineHost,
    devices: &[VirtualDevice],
) -> Result<(), ExecutorError> {
    let mut wanted = Vec::new();
    for device in devices {
        let spec = &device.spec;
        if !spec.memory_overcommit && host.vm_status(&spec.name).await? != VmStatus::Running {
            wanted.push(spec.memory_mib);
        }
    }
    // Where it is not Linux that runs this, each guest's own check has to do.
    let text = std::fs::read_to_string(MEMINFO).unwrap_or_default();
    Ok(fits(&wanted, available_mib(&text))?)
}

fn fits(wanted_mib: &[u64], available_mib: Option<u64>) -> Result<(), FleetError> {
    let needed_mib = wanted_mib
        .iter()
        .fold(0, |sum: u64, mib| sum.saturating_add(*mib));
    match available_mib {
        Some(available_mib) if needed_mib > available_mib => Err(FleetError::Memory {
            count: wanted_mib.len(),
            needed_mib,
            available_mib,
        }),
        _ => Ok(()),
    }
}

/// `MemAvailable`, which Linux has from 3.14 on.
fn available_mib(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::{available_mib, fits};
    use crate::domain::error::HintedError;

    #[test]
    fn what_does_not_fit_is_refused_with_the_number_that_does() {
        let meminfo = "MemTotal:       24689528 kB\nMemAvailable:    4194304 kB\nBuffers: 1 kB\n";
        assert_eq!(available_mib(meminfo), Some(4096));
        assert_eq!(available_mib("MemTotal: 1 kB\n"), None);
        fits(&[1024; 4], Some(4096)).expect("fits");
        fits(&[u64::MAX, 1], None).expect("not known");
        fits(&[], Some(0)).expect("nothing is wanted");
        let error = fits(&[1024; 10], Some(4096)).expect_err("too much");
        let text = error.to_string();
        for part in ["10 more devices", "10240 MiB", "at most 4096 MiB"] {
            assert!(text.contains(part), "{text}");
        }
        let hint = error.hint().expect("a hint");
        assert!(hint.contains("at most 4 of them"), "{hint}");
        fits(&[u64::MAX, 1], Some(4096)).expect_err("too much");
    }
}
