//! How long it takes to look into the images that were built on this host; the bound is a second each.
//!
//! `cargo bench -p harmony --bench inspection` prints a table, and the figures as JSON to its output. Without such images
//! it measures nothing.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its figures")]

mod spread;

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;

use harmony::domain::topology::virtualization::VmArchitecture;
use harmony::modules::image::inspect::{Limits, conformance, inspect};
use serde_json::{Value, json};

use crate::spread::Spread;

/// How often each image is looked into.
const ROUNDS: usize = 5;

/// The built images of an architecture, in the cache.
fn built(architecture: VmArchitecture) -> Vec<PathBuf> {
    let Some(home) = std::env::var_os("HOME") else {
        return Vec::new();
    };
    let Ok(entries) = std::fs::read_dir(Path::new(&home).join(".cache/harmony/images")) else {
        return Vec::new();
    };
    let infix = format!("-{architecture}-");
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let of_architecture = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|n| n.contains(&infix) && n.ends_with(".qcow2") && !n.starts_with('.'))
    };
    paths.filter(of_architecture).collect()
}

/// Seconds.
fn inspection(image: &Path, architecture: VmArchitecture) -> Spread {
    Spread::of([0.0; ROUNDS].map(|_: f64| {
        let started = Instant::now();
        let facts = inspect(black_box(image), &Limits::default()).expect("readable");
        black_box(conformance(&facts, architecture));
        started.elapsed().as_secs_f64()
    }))
}

fn main() {
    let mut rows: Vec<Value> = Vec::new();
    for architecture in VmArchitecture::ALL {
        for image in built(architecture) {
            let name = image.file_name().unwrap_or_default().to_string_lossy();
            let seconds = inspection(&image, architecture);
            eprintln!("{name:<44} {seconds} s; wanted: at most 1");
            rows.push(
                json!({ "image": name, "rounds": ROUNDS, "median_seconds": seconds.median, "bound": 1 }),
            );
        }
    }
    println!("{:#}", Value::from(rows));
}
