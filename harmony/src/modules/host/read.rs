//! Reading the facts of this host. Nothing is changed but a small cache of what is costly to find out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use futures::future::join_all;

use crate::domain::topology::virtualization::VmArchitecture;

use super::cache::HostCache;
use super::distribution::Distribution;
use super::facts::{FreeSpace, HostCpu, HostDistribution, HostFacts, HostPrograms, LibvirtFacts};
use super::firmware::read_firmware_candidates;
use super::kvm_probe::{KvmProof, kvm_obstacle, prove_kvm};
use super::qemu::{EmulatorFact, ask_version, find_program, system_emulators};

/// Where distributions put virtiofsd, which is on nobody's PATH.
const VIRTIOFSD_PATHS: [&str; 4] = [
    "/usr/libexec/virtiofsd",
    "/usr/lib/qemu/virtiofsd",
    "/usr/lib/virtiofsd",
    "/usr/bin/virtiofsd",
];

impl HostFacts {
    /// Reads everything but libvirt's part: looks up `PATH`, asks each emulator for its version, proves
    /// KVM, reads firmware descriptors, and asks for the free space of `directories`.
    ///
    /// Versions are asked anew when the program has changed, and KVM is proven once for each boot of the
    /// host: both are kept in the user's cache directory.
    pub async fn read(directories: &[PathBuf]) -> Self {
        let mut cache = HostCache::open();
        let architecture = VmArchitecture::of_host();
        let emulators = read_emulators(&mut cache).await;
        let own = architecture.map(|own| (own, emulators.get(own.as_str())));
        let kvm = match own {
            Some((own, Some(EmulatorFact::Usable { path, .. }))) => {
                read_kvm(&mut cache, own, path).await
            }
            _ => KvmProof::Absent {
                reason: "no emulator for the host's own architecture".to_owned(),
            },
        };
        cache.store();
        Self {
            architecture,
            cpu: read_cpu(),
            memory_mib: read_memory_mib(),
            distribution: HostDistribution {
                family: Distribution::of_host(),
                name: Distribution::name_of_host(),
            },
            emulators,
            kvm,
            libvirt: LibvirtFacts::Unasked,
            firmware: read_firmware_candidates(),
            programs: HostPrograms {
                passt: find_program("passt"),
                virtiofsd: find_virtiofsd(),
                qemu_img: find_program("qemu-img"),
            },
            space: directories.iter().filter_map(|d| free_space(d)).collect(),
        }
    }
}

async fn read_emulators(cache: &mut HostCache) -> BTreeMap<String, EmulatorFact> {
    let found = system_emulators();
    let asked = found.into_iter().map(|(guest, path)| {
        let known = cache.emulator(&path);
        async move {
            let fact = match known {
                Some(fact) => fact,
                None => ask_version(path).await,
            };
            (guest, fact)
        }
    });
    let emulators: BTreeMap<_, _> = join_all(asked).await.into_iter().collect();
    for fact in emulators.values() {
        cache.keep_emulator(fact);
    }
    emulators
}

async fn read_kvm(cache: &mut HostCache, own: VmArchitecture, emulator: &Path) -> KvmProof {
    if let Some(absent) = kvm_obstacle() {
        return absent;
    }
    if let Some(proof) = cache.kvm(emulator) {
        return proof;
    }
    let proof = prove_kvm(own, emulator).await;
    // What kept the test guest from being tried may be gone the next time.
    if !matches!(proof, KvmProof::Absent { .. }) {
        cache.keep_kvm(emulator, &proof);
    }
    proof
}

fn read_cpu() -> HostCpu {
    let count = std::thread::available_parallelism().map_or(1, |n| n.get());
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    HostCpu {
        count: u32::try_from(count).unwrap_or(u32::MAX),
        model: cpu_model(&text),
    }
}

/// The features of this host's first processor, as the kernel lists them; empty where it does not.
#[cfg(feature = "kvm")]
pub(crate) fn cpu_features() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let listed = cpuinfo_value(&text, "flags").or_else(|| cpuinfo_value(&text, "Features"));
    listed.unwrap_or_default()
}

fn cpuinfo_value(cpuinfo: &str, key: &str) -> Option<String> {
    let mut pairs = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    pairs
        .find(|(k, _)| k.trim() == key)
        .map(|(_, v)| v.trim().to_owned())
}

/// What `/proc/cpuinfo` calls the first processor.
fn cpu_model(cpuinfo: &str) -> String {
    let value = |key| cpuinfo_value(cpuinfo, key);
    match (value("CPU implementer"), value("CPU part")) {
        (Some(implementer), Some(part)) => format!("arm implementer {implementer} part {part}"),
        _ => value("model name").unwrap_or_else(|| "unknown".to_owned()),
    }
}

/// `MemTotal`, or none to speak of where it cannot be read: then every guest's memory is refused unless
/// overcommitted, which says why.
fn read_memory_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    mem_total_mib(&text).unwrap_or(0)
}

fn mem_total_mib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

fn find_virtiofsd() -> Option<PathBuf> {
    let known = VIRTIOFSD_PATHS.map(PathBuf::from);
    known.into_iter().find(|path| path.is_file())
}

/// The space on the file system of a directory that need not exist yet: its nearest ancestor that does
/// tells.
fn free_space(directory: &Path) -> Option<FreeSpace> {
    let nearest = directory.ancestors().find(|dir| dir.is_dir())?;
    let stat = rustix::fs::statvfs(nearest).ok()?;
    Some(FreeSpace {
        directory: directory.to_owned(),
        free_mib: stat.f_bavail.saturating_mul(stat.f_frsize) >> 20,
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{cpu_model, free_space, mem_total_mib};
    use crate::modules::host::HostCpu;

    #[test]
    fn processors() {
        let intel = "processor\t: 0\nmodel name\t: Intel(R) Xeon(R)\nmodel name\t: other\n";
        assert_eq!(cpu_model(intel), "Intel(R) Xeon(R)");
        let pi =
            "processor\t: 0\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: 0xd0b\n";
        assert_eq!(cpu_model(pi), HostCpu::CORTEX_A76);
        assert_eq!(cpu_model(""), "unknown");
    }

    #[test]
    fn memory() {
        assert_eq!(
            mem_total_mib("MemTotal:       8052000 kB\nMemFree: 1 kB\n"),
            Some(7863)
        );
        assert_eq!(mem_total_mib("MemFree: 1 kB\n"), None);
    }

    #[test]
    fn the_nearest_directory_that_exists_tells_the_space() {
        let absent = PathBuf::from("/nonexistent/directory");
        let space = free_space(&absent).expect("the root exists");
        assert_eq!(space.directory, absent);
    }
}
