//! What harmony adds to the making of domains: from specs to domains that run, on libvirt's test driver, which makes
//! them in memory and starts nothing. Each domain should cost the same, however many there are.
//!
//! `cargo bench -p harmony --features kvm --bench creation`

#[cfg(feature = "kvm")]
mod on_test_driver {
    use std::path::Path;

    use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
    use harmony::domain::topology::virtualization::{FirstBoot, VirtualMachineSpec};
    use harmony::modules::host::HostFacts;
    use harmony::modules::kvm::preview::preview;
    use uuid::Uuid;
    use virt::connect::Connect;
    use virt::sys::VIR_DOMAIN_DEFINE_VALIDATE;

    /// Its domains are those of this process, and are gone with its last connection.
    const TEST_DRIVER: &str = "test:///default";

    const COUNTS: [u32; 4] = [1, 10, 100, 1000];

    fn host() -> HostFacts {
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures/hosts/debian-12-backports.json");
        let text = std::fs::read_to_string(file).expect("the fixture");
        serde_json::from_str(&text).expect("facts")
    }

    fn spec(number: u32) -> VirtualMachineSpec {
        VirtualMachineSpec {
            image: Some("/images/device.qcow2".into()),
            uuid: Some(Uuid::from_u128(u128::from(number) + 1)),
            first_boot: Some(FirstBoot {
                user: "harmony".to_owned(),
                authorized_keys: vec!["ssh-ed25519 AAAA".to_owned()],
                ..FirstBoot::default()
            }),
            ..VirtualMachineSpec::new_aarch64(format!("edge-{number}"))
        }
    }

    /// The domain's document for this driver: it knows one type of domain, and its own.
    fn document(number: u32, host: &HostFacts) -> String {
        let preview = preview(&spec(number), host).expect("resolved");
        preview
            .xml
            .replacen("<domain type=\"qemu\"", "<domain type=\"test\"", 1)
    }

    fn make(libvirt: &Connect, document: &str) {
        let domain = libvirt
            .define_domain_xml_flags(document, VIR_DOMAIN_DEFINE_VALIDATE)
            .expect("defined");
        domain.create().expect("started");
    }

    pub(super) fn creation(c: &mut Criterion) {
        let host = host();
        let connect = || Connect::open(Some(TEST_DRIVER)).expect("libvirt's test driver");
        let mut group = c.benchmark_group("specs to running domains");
        for count in COUNTS {
            group.throughput(Throughput::Elements(count.into()));
            let id = BenchmarkId::from_parameter(count);
            group.bench_with_input(id, &count, |b, &count| {
                b.iter_batched(
                    connect,
                    |libvirt| {
                        for number in 0..count {
                            make(&libvirt, &document(number, &host));
                        }
                        // Closed after the measurement.
                        libvirt
                    },
                    BatchSize::PerIteration,
                );
            });
        }
        group.finish();

        let mut group = c.benchmark_group("of that, libvirt alone");
        for count in COUNTS {
            let documents: Vec<String> = (0..count).map(|n| document(n, &host)).collect();
            group.throughput(Throughput::Elements(count.into()));
            let id = BenchmarkId::from_parameter(count);
            group.bench_with_input(id, &documents, |b, documents| {
                b.iter_batched(
                    connect,
                    |libvirt| {
                        for document in documents {
                            make(&libvirt, document);
                        }
                        libvirt
                    },
                    BatchSize::PerIteration,
                );
            });
        }
        group.finish();
    }
}

#[cfg(feature = "kvm")]
criterion::criterion_group!(benches, on_test_driver::creation);
#[cfg(feature = "kvm")]
criterion::criterion_main!(benches);

#[cfg(not(feature = "kvm"))]
fn main() {}
