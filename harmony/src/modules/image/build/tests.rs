//! A builder's names and files.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{BuilderKind, Products, copied_out};
use crate::domain::topology::virtualization::VmArchitecture;
use crate::modules::image::recipe::{BuildPlan, Recipe};

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

#[test]
fn an_image_is_there_only_with_its_kernel() {
    let store = tempfile::tempdir().expect("a temporary directory");
    let plan = plan("catalog = 'debian-12'", true);
    let wanted = [("/vmlinuz", "vmlinuz"), ("/initrd.img", "initrd")];
    assert_eq!(copied_out(&plan), wanted);
    let products = Products::new(&plan, BuilderKind::FromPackages, 1);
    let names: Vec<_> = products
        .to_make(&plan)
        .into_iter()
        .map(|p| p.name)
        .collect();
    let extensions = ["vmlinuz", "initrd", "qcow2"];
    assert_eq!(names, extensions.map(|e| format!("{}.{e}", products.stem)));
    let image = || products.image(&plan, store.path(), false);
    for name in names.iter().rev() {
        assert!(!image().is_finished(), "{name}");
        finish(&store.path().join(name));
    }
    let image = image();
    assert!(image.is_finished());
    assert_eq!(image.path, store.path().join(&names[2]));
    let kernel = image.kernel.expect("a kernel");
    assert_eq!(kernel.image, store.path().join(&names[0]));
    assert_eq!(kernel.initrd, Some(store.path().join(&names[1])));
    assert_eq!(kernel.arguments, ["root=LABEL=root"]);
}
