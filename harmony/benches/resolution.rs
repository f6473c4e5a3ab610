//! How long it takes from a spec to a domain's document, and to the facts of this host.
//!
//! `cargo bench -p harmony --features kvm`

use std::hint::black_box;
use std::path::Path;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use harmony::domain::topology::virtualization::{
    DataDisk, DiskSource, FirstBoot, KernelBoot, ShareDriver, SharedDirectory, VirtualMachineSpec,
    VmNetwork,
};
use harmony::modules::host::HostFacts;
use harmony::modules::kvm::VmConfig;
use harmony::modules::kvm::params::DomainXmlParams;
use harmony::modules::kvm::preview::preview;

fn host() -> HostFacts {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hosts/debian-12-backports.json");
    let text = std::fs::read_to_string(file).expect("the fixture");
    serde_json::from_str(&text).expect("facts")
}

fn disks(count: usize) -> Vec<DataDisk> {
    let disk = |n| DataDisk {
        tag: format!("disk-{n}"),
        source: DiskSource::File {
            path: format!("/srv/disk-{n}.qcow2").into(),
        },
        read_only: n % 2 == 0,
    };
    (0..count).map(disk).collect()
}

fn device(disk_count: usize) -> VirtualMachineSpec {
    VirtualMachineSpec {
        image: Some("/images/device.qcow2".into()),
        disks: disks(disk_count),
        first_boot: Some(FirstBoot {
            user: "harmony".to_owned(),
            authorized_keys: vec!["ssh-ed25519 AAAA".to_owned()],
            ..FirstBoot::default()
        }),
        ..VirtualMachineSpec::new_aarch64("edge-01")
    }
}

/// Eight networks, three disks, two shares, a kernel: what the golden documents call `full`.
fn full_featured() -> VirtualMachineSpec {
    let network = |text: &str| text.parse::<VmNetwork>().expect("a network").into();
    let share = |tag: &str| SharedDirectory {
        tag: tag.to_owned(),
        path: "/srv".into(),
        driver: ShareDriver::NineP,
        read_only: true,
    };
    VirtualMachineSpec {
        networks: [
            "user:8080:80",
            "nat",
            "nat:a",
            "nat:b",
            "bridge:br0",
            "bridge:br1",
            "bridge:br2",
            "user",
        ]
        .map(network)
        .into(),
        shares: ["sources", "results"].map(share).into(),
        kernel: Some(KernelBoot {
            image: "/boot/vmlinuz".into(),
            initrd: Some("/boot/initrd.img".into()),
            arguments: vec!["console=ttyAMA0".to_owned()],
        }),
        serial: Some("10000000abcdef01".to_owned()),
        ..device(3)
    }
}

fn documents(c: &mut Criterion) {
    let host = host();
    let full = full_featured();
    c.bench_function("spec to document, full-featured device", |b| {
        b.iter(|| preview(black_box(&full), black_box(&host)).expect("resolved"));
    });
    c.bench_function("check alone, full-featured device", |b| {
        b.iter(|| VmConfig::try_from(black_box(&full)).expect("valid"));
    });
    let config = VmConfig::try_from(&full).expect("valid");
    c.bench_function("resolution alone, full-featured device", |b| {
        b.iter(|| {
            DomainXmlParams::resolve(black_box(&config), black_box(&host)).expect("resolved")
        });
    });
    let mut group = c.benchmark_group("spec to document, by data disks");
    for count in [1, 4, 16, 63] {
        let spec = device(count);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_with_input(BenchmarkId::from_parameter(count), &spec, |b, spec| {
            b.iter(|| preview(black_box(spec), black_box(&host)).expect("resolved"));
        });
    }
    group.finish();
}

/// Emulators, firmware, space and libvirt's capabilities, with what is cached in the cache.
#[cfg(feature = "kvm")]
fn facts(c: &mut Criterion) {
    use harmony::modules::kvm::connection::ConnectionUri;
    use harmony::modules::kvm::topology::KvmVirtualMachineHost;

    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let uri = runtime
        .block_on(ConnectionUri::choose(None))
        .expect("a connection");
    let directory = std::env::temp_dir();
    c.bench_function("facts of this host, warm", |b| {
        b.iter(|| {
            runtime.block_on(async {
                let host = KvmVirtualMachineHost::new(uri, &directory);
                black_box(host.facts().await);
            });
        });
    });
}

#[cfg(not(feature = "kvm"))]
fn facts(_: &mut Criterion) {}

criterion_group!(benches, documents, facts);
criterion_main!(benches);
