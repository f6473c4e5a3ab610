//! How long it takes to look into the images that were built on this host; the bound is a second each.
//!
//! `cargo bench -p harmony --bench inspection`. Without such images it measures nothing.

use std::hint::black_box;
use std::path::{Path, PathBuf};

use criterion::{Criterion, criterion_group, criterion_main};
use harmony::domain::topology::virtualization::VmArchitecture;
use harmony::modules::image::inspect::{Limits, conformance, inspect};

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

fn inspection(c: &mut Criterion) {
    for architecture in VmArchitecture::ALL {
        for image in built(architecture) {
            let name = image.file_name().unwrap_or_default().to_string_lossy();
            c.bench_function(&format!("look into {name}"), |b| {
                b.iter(|| {
                    let facts = inspect(black_box(&image), &Limits::default()).expect("readable");
                    conformance(&facts, architecture)
                });
            });
        }
    }
}

criterion_group!(benches, inspection);
criterion_main!(benches);
