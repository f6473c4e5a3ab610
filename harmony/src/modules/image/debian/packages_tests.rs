//! The builder from packages: its caching, and what it builds.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{BuildError, FromPackages, ImageBuilder, products};
use crate::domain::topology::virtualization::VmArchitecture;
use crate::modules::image::format::{DiskFormat, sniff_file};
use crate::modules::image::recipe::{BuildPlan, CheckedRecipe, Recipe};
use crate::modules::image::test_images::{TestImages, architecture};

/// The plan of a recipe on `base` with a kernel out of the image.
fn plan(base: &str, kernel: bool) -> BuildPlan {
    let mut text = format!("[base]\n{base}\n[packages]\na = ['podman']\n");
    if kernel {
        text.push_str(
            "[kernel.aarch64]\nkernel = { path = '/vmlinuz' }\ninitrd = { path = '/initrd.img' }\n\
             arguments = ['root=LABEL=root']\n",
        );
    }
    let recipe = Recipe::parse(&text, Path::new("test.toml")).expect("a recipe");
    let plan = recipe.plan(VmArchitecture::Aarch64, None, Path::new("/"));
    plan.expect("a plan")
}

fn finish(path: &Path) {
    fs::write(path, "x").expect("writable");
    fs::set_permissions(path, Permissions::from_mode(0o444)).expect("permitted");
}

#[tokio::test]
async fn a_cached_image_is_returned_in_no_time_and_nothing_is_touched() {
    let store = tempfile::tempdir().expect("a temporary directory");
    let plan = plan("catalog = 'debian-12'", true);
    let products = products(&plan).expect("a release");
    for product in products.to_make(&plan) {
        finish(&store.path().join(product.name));
    }
    let before = fs::read_dir(store.path()).expect("readable").count();
    let started = Instant::now();
    let image = FromPackages
        .build(&plan, store.path())
        .await
        .expect("cached");
    let taken = started.elapsed();
    assert!(taken < Duration::from_millis(100), "{taken:?}");
    assert!(!image.built_now);
    assert_eq!(FromPackages.built(&plan, store.path()), Some(image));
    let after = fs::read_dir(store.path()).expect("readable").count();
    assert_eq!(before, after);
}

#[test]
fn only_releases_of_the_catalog_are_built_from_packages() {
    let digest = "0".repeat(64);
    let url =
        format!("aarch64 = {{ url = 'https://example.org/x.img', digest = 'sha256={digest}' }}");
    assert!(FromPackages::builds(&plan("catalog = 'debian-12'", false)));
    assert!(FromPackages::builds(&plan(
        "catalog = 'ubuntu-24.04'",
        false
    )));
    assert!(!FromPackages::builds(&plan(&url, false)));
}

#[tokio::test]
#[ignore = "needs root or subordinate ids, mmdebstrap and a Debian mirror: builds the edge device, 1 to 5 min"]
async fn the_edge_device_is_built_from_packages() {
    let images = TestImages::new();
    let recipe = CheckedRecipe::edge_device().expect("valid");
    let plan = recipe.plan(architecture(), Some("slow-guest"), Path::new("/"));
    let plan = plan.expect("a plan");
    let image = FromPackages
        .build(&plan, images.dir())
        .await
        .expect("built");
    assert_eq!(
        sniff_file(&image.path).expect("an image"),
        DiskFormat::Qcow2
    );
    let again = FromPackages
        .build(&plan, images.dir())
        .await
        .expect("cached");
    assert!(!again.built_now);
    assert_eq!(again.path, image.path);
}

#[tokio::test]
#[ignore = "needs root or subordinate ids, mmdebstrap and a Debian mirror: a set-up that fails, 1 min"]
async fn a_failed_step_is_reported_and_leaves_no_image() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let text = "[base]\ncatalog = 'debian-12'\n[services]\nenable = ['no-such.service']\n";
    let recipe = Recipe::parse(text, Path::new("test.toml")).expect("a recipe");
    let plan = recipe.plan(architecture(), None, Path::new("/"));
    let built = FromPackages.build(&plan.expect("a plan"), dir.path()).await;
    match built {
        Err(BuildError::StepFailed { place, output, .. }) => {
            assert!(place.contains("enable"), "{place}");
            assert!(output.contains("no-such.service"), "{output}");
        }
        other => panic!("{other:?}"),
    }
    let left = fs::read_dir(dir.path()).expect("readable");
    let left: Vec<_> = left.map(|entry| entry.expect("readable").path()).collect();
    assert!(
        left.len() == 1 && left[0].extension().is_some_and(|e| e == "lock"),
        "{left:?}"
    );
}
