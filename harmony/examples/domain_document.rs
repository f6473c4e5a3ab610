//! The libvirt document of a machine on a host that is known by its facts only, with the reason of each knob.
//! `cargo run -p harmony --example domain_document [-- FACTS]`, where FACTS is a file with a host's facts as JSON.
#![expect(clippy::print_stdout, reason = "a program, and not the library")]

use std::error::Error;

use harmony::modules::host::HostFacts;
use harmony::modules::kvm::preview::preview;
use harmony::prelude::*;

/// A host without KVM for arm64, as it was recorded.
const RECORDED: &str = include_str!("../tests/fixtures/hosts/debian-13.json");

fn main() -> Result<(), Box<dyn Error>> {
    let facts = match std::env::args_os().nth(1) {
        Some(file) => std::fs::read_to_string(file)?,
        None => RECORDED.to_owned(),
    };
    let facts: HostFacts = serde_json::from_str(&facts)?;
    let spec = VirtualMachineSpec {
        cpu: CpuProfile::RaspberryPi5,
        memory_mib: 2048,
        image: Some("/images/debian-12-arm64.qcow2".into()),
        ..VirtualMachineSpec::new_aarch64("edge-01")
    };
    let machine = preview(&spec, &facts)?;
    println!("{}\n{}", machine.xml, machine.decisions);
    Ok(())
}
