//! What a disk image has, and whether an arm64 guest can start from it. Nothing but the file is looked at.
//! `cargo run -p harmony --example inspect_image -- IMAGE`
#![expect(clippy::print_stdout, reason = "a program, and not the library")]

use std::path::PathBuf;

use harmony::modules::image::inspect::{BootPath, Limits, conformance_for, inspect};
use harmony::prelude::*;

fn main() -> harmony::Result<()> {
    let image = std::env::args_os().nth(1).unwrap_or("disk.qcow2".into());
    let facts = inspect(&PathBuf::from(image), &Limits::default())?;
    println!("{}, a disk of {} bytes", facts.format, facts.virtual_bytes);

    let report = conformance_for(&facts, Aarch64, BootPath::Uefi);
    println!("{report}");
    for clause in report.failures() {
        println!("does not pass: {clause}");
    }
    Ok(())
}
