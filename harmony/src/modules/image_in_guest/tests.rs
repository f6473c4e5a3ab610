//! The builder in a guest.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{InGuest, disk_gib, products, vm_name};
use crate::domain::topology::virtualization::AcceleratorChoice;
use crate::modules::image::build::{BuildError, ImageBuilder};
use crate::modules::image::digest::Sha256Digest;
use crate::modules::image::recipe::{BuildPlan, Recipe};
use crate::modules::image::test_images::{TestImages, architecture};
use crate::modules::kvm::connection::ConnectionUri;
use crate::modules::kvm::topology::KvmVirtualMachineHost;

#[test]
fn a_build_has_a_disk_of_its_base_or_more() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("base");
    let gib = |header: &[u8], length: u64| {
        fs::write(&path, header).expect("writable");
        let file = fs::OpenOptions::new().write(true).open(&path);
        file.expect("open").set_len(length).expect("sized");
        disk_gib(&path).expect("readable")
    };
    let qcow2 = |bytes: u64| {
        let start = b"QFI\xfb\0\0\0\x03".as_slice();
        [start, &[0; 16], &bytes.to_be_bytes(), &[0; 72]].concat()
    };
    assert_eq!(gib(&qcow2(2 << 30), 4096), 4);
    assert_eq!(gib(&qcow2((5 << 30) + 1), 4096), 6);
    assert_eq!(gib(&[0; 512], 7 << 30), 7);
    fs::write(&path, b"QFI\xfb\0\0\0\x04").expect("writable");
    let file = fs::OpenOptions::new().write(true).open(&path);
    file.expect("open").set_len(4096).expect("sized");
    assert!(disk_gib(&path).is_err(), "of a version that nobody knows");
    fs::write(&path, "short").expect("writable");
    assert!(disk_gib(&path).is_err());
}

#[test]
fn builds_for_two_stores_have_two_machines() {
    let names = [("a", "/x"), ("a", "/y"), ("b", "/x")];
    let names = names.map(|(stem, store)| vm_name(stem, Path::new(store)));
    assert!(names[0] != names[1] && names[0] != names[2]);
    assert!(names.iter().all(|name| name.len() < 64));
}

/// The plan of a recipe on a plain Debian 12.
async fn plan(images: &TestImages, text: &str) -> BuildPlan {
    let arch = architecture();
    let base = images.debian_12(arch).await;
    let digest = Sha256Digest::of_file(&base).expect("readable");
    let base = base.display();
    let text = format!("[base.{arch}]\nurl = 'file://{base}'\ndigest = 'sha256={digest}'\n{text}");
    let recipe = Recipe::parse(&text, Path::new("test.toml")).expect("a recipe");
    recipe.plan(arch, None, Path::new("/")).expect("a plan")
}

async fn host(dir: &Path) -> KvmVirtualMachineHost {
    let uri = ConnectionUri::choose(None).await.expect("libvirt");
    KvmVirtualMachineHost::new(uri, dir)
}

#[tokio::test]
#[ignore = "needs libvirt, the image builder and a Debian mirror: builds in a guest, 3 to 20 min"]
async fn an_image_is_built_in_a_guest_with_its_kernel() {
    let temporary = tempfile::tempdir_in("/var/tmp").expect("a temporary directory");
    let store = temporary.path().join("store");
    let images = TestImages::new();
    let arch = architecture();
    let text = format!(
        "[packages]\na = ['jq']\n[kernel.{arch}]\nkernel = {{ path = '/vmlinuz' }}\n\
         initrd = {{ path = '/initrd.img' }}\narguments = ['root=LABEL=root']\n"
    );
    let plan = plan(&images, &text).await;
    let host = host(temporary.path()).await;
    let builder = InGuest::new(
        &host,
        temporary.path().join("bases"),
        AcceleratorChoice::Tcg,
    );
    let image = builder.build(&plan, &store).await.expect("built");
    let kernel = image.kernel.clone().expect("a kernel");
    for file in [
        &image.path,
        &kernel.image,
        kernel.initrd.as_ref().expect("an initrd"),
    ] {
        let length = fs::metadata(file).expect("there").len();
        assert!(length > 1 << 20, "{}: {length} bytes", file.display());
    }
    let name = vm_name(&products(&plan).stem, &store);
    assert_eq!(host.recorded_spec(&name).await.expect("an answer"), None);
    let started = Instant::now();
    let again = builder.build(&plan, &store).await.expect("cached");
    assert!(started.elapsed() < Duration::from_millis(100));
    assert!(!again.built_now && again.path == image.path);
}

#[tokio::test]
#[ignore = "needs libvirt, the image builder and a Debian mirror: a set-up that fails in a guest, 1 to 5 min"]
async fn a_failed_step_in_a_guest_is_reported_and_leaves_nothing() {
    let temporary = tempfile::tempdir_in("/var/tmp").expect("a temporary directory");
    let store = temporary.path().join("store");
    let text = "[services]\nenable = ['no-such.service']\n";
    let images = TestImages::new();
    let plan = plan(&images, text).await;
    let host = host(temporary.path()).await;
    let builder = InGuest::new(
        &host,
        temporary.path().join("bases"),
        AcceleratorChoice::Tcg,
    );
    match builder.build(&plan, &store).await {
        Err(BuildError::StepFailed {
            place,
            output,
            console: Some(_),
        }) => {
            assert!(place.contains("enable"), "{place}");
            assert!(output.contains("no-such.service"), "{output}");
        }
        other => panic!("{other:?}"),
    }
    let name = vm_name(&products(&plan).stem, &store);
    assert_eq!(host.recorded_spec(&name).await.expect("an answer"), None);
    assert!(!host.disk(&name).expect("a path").exists());
    let left = fs::read_dir(&store).expect("readable");
    let left: Vec<_> = left.map(|entry| entry.expect("readable").path()).collect();
    assert!(
        left.len() == 1 && left[0].extension().is_some_and(|e| e == "lock"),
        "{left:?}"
    );
}

#[tokio::test]
#[ignore = "needs libvirt, the image builder and a Debian mirror: a build that is given up, 10 s"]
async fn a_build_that_is_given_up_leaves_no_machine() {
    let temporary = tempfile::tempdir_in("/var/tmp").expect("a temporary directory");
    let store = temporary.path().join("store");
    let images = TestImages::new();
    let plan = plan(&images, "[packages]\na = ['jq']\n").await;
    let host = host(temporary.path()).await;
    let builder = InGuest::new(
        &host,
        temporary.path().join("bases"),
        AcceleratorChoice::Tcg,
    );
    let name = vm_name(&products(&plan).stem, &store);
    let appeared = async {
        while !host.disk(&name).expect("a path").exists() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
    };
    tokio::select! {
        built = builder.build(&plan, &store) => panic!("{built:?}"),
        () = appeared => {}
    }
    assert_eq!(host.recorded_spec(&name).await.expect("an answer"), None);
    assert!(!host.disk(&name).expect("a path").exists());
    assert_eq!(
        fs::read_dir(&store).expect("readable").count(),
        1,
        "the lock"
    );
}
