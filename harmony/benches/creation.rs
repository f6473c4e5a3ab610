//! What harmony adds to the making of domains: from specs to domains that run, on libvirt's test driver, which makes
//! them in memory and starts nothing; and beside it libvirt alone, which is given the same documents ready-made. Each
//! domain should cost the same, however many there are.
//!
//! `cargo bench -p harmony --features kvm --bench creation` prints a table, and the figures as JSON to its output.

#![cfg_attr(
    feature = "kvm",
    expect(clippy::print_stdout, clippy::print_stderr, reason = "its figures")
)]

#[cfg(feature = "kvm")]
mod spread;

#[cfg(feature = "kvm")]
mod on_test_driver {
    use std::hint::black_box;
    use std::path::Path;
    use std::time::Instant;

    use harmony::domain::topology::virtualization::{FirstBoot, VirtualMachineSpec};
    use harmony::modules::host::HostFacts;
    use harmony::modules::kvm::preview::preview;
    use serde_json::{Value, json};
    use uuid::Uuid;
    use virt::connect::Connect;
    use virt::sys::VIR_DOMAIN_DEFINE_VALIDATE;

    use crate::spread::Spread;

    /// Its domains are those of this process, and are gone with its last connection.
    const TEST_DRIVER: &str = "test:///default";

    const COUNTS: [u32; 4] = [1, 10, 100, 1000];

    /// Each is measured so often, in turns.
    const ROUNDS: usize = 5;

    /// Who makes the documents' domains.
    #[derive(Clone, Copy)]
    enum Maker {
        /// From specs.
        Harmony,
        /// From documents that are there.
        Libvirt,
    }

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

    /// Milliseconds for each domain.
    fn time(maker: Maker, count: u32, host: &HostFacts) -> f64 {
        let ready: Vec<String> = match maker {
            Maker::Harmony => Vec::new(),
            Maker::Libvirt => (0..count).map(|n| document(n, host)).collect(),
        };
        // The driver's domains end with its last connection.
        let libvirt = Connect::open(Some(TEST_DRIVER)).expect("libvirt's test driver");
        let started = Instant::now();
        match maker {
            Maker::Harmony => (0..count).for_each(|n| make(&libvirt, &document(n, host))),
            Maker::Libvirt => ready.iter().for_each(|document| make(&libvirt, document)),
        }
        let milliseconds = started.elapsed().as_secs_f64() * 1e3 / f64::from(count);
        black_box(&libvirt);
        milliseconds
    }

    pub(super) fn creation() -> Value {
        let host = host();
        let mut measured = vec![[Vec::new(), Vec::new()]; COUNTS.len()];
        for _ in 0..ROUNDS {
            for (&count, [harmony, libvirt]) in COUNTS.iter().zip(&mut measured) {
                harmony.push(time(Maker::Harmony, count, &host));
                libvirt.push(time(Maker::Libvirt, count, &host));
            }
        }
        eprintln!("domains  harmony, ms each  libvirt alone  harmony's own");
        let rows = COUNTS.iter().zip(&measured).map(|(count, each)| {
            let median = |values: &[f64]| Spread::of(values.iter().copied()).median;
            let (harmony, libvirt) = (median(&each[0]), median(&each[1]));
            let own = Spread::of(each[0].iter().zip(&each[1]).map(|(h, l)| h - l)).median;
            eprintln!("{count:>7}  {harmony:>16.2}  {libvirt:>13.2}  {own:>13.2}");
            json!({
                "domains": count,
                "rounds": ROUNDS,
                "harmony_ms_each": harmony,
                "libvirt_alone_ms_each": libvirt,
                "harmony_s_own_ms_each": own,
            })
        });
        let rows: Vec<Value> = rows.collect();
        // Of the same round.
        let growth = |maker: usize| {
            let (ten, thousand) = (&measured[1][maker], &measured[3][maker]);
            Spread::of(thousand.iter().zip(ten).map(|(t, o)| t / o)).median
        };
        let (harmony, libvirt) = (growth(0), growth(1));
        eprintln!(
            "a domain of 1000 by one of 10: harmony {harmony:.3}, libvirt alone {libvirt:.3}"
        );
        json!({ "rows": rows, "growth": { "harmony": harmony, "libvirt_alone": libvirt } })
    }
}

#[cfg(feature = "kvm")]
fn main() {
    println!("{:#}", on_test_driver::creation());
}

#[cfg(not(feature = "kvm"))]
fn main() {}
