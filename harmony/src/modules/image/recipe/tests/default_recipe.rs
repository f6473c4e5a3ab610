use std::path::Path;
use std::process::Command;

use super::super::{CheckedRecipe, PlannedBase, Recipe};
use super::parse;
use crate::domain::error::HintedError;
use crate::domain::topology::virtualization::VmArchitecture;
use crate::modules::image::catalog::CatalogName;

/// What a device is provisioned with, and boots, is found and reached with.
const NEEDED: [&str; 25] = [
    "aardvark-dns",
    "ca-certificates",
    "catatonit",
    "cloud-guest-utils",
    "cloud-init",
    "crun",
    "dbus",
    "dbus-user-session",
    "e2fsprogs",
    "gdisk",
    "iproute2",
    "netavark",
    "netbase",
    "netplan.io",
    "openssh-server",
    "passt",
    "podman",
    "procps",
    "qemu-guest-agent",
    "slirp4netns",
    "sudo",
    "systemd-resolved",
    "systemd-sysv",
    "udev",
    "uidmap",
];

#[test]
fn the_default_recipe_has_what_a_device_needs_and_not_the_agent() {
    let recipe = CheckedRecipe::edge_device().expect("valid");
    for architecture in VmArchitecture::ALL {
        let plan = recipe
            .plan(architecture, None, Path::new("/nowhere"))
            .expect("planned");
        assert_eq!(plan.packages, NEEDED);
        assert_eq!(plan.base, PlannedBase::Catalog(CatalogName::Debian12));
        assert_eq!(
            plan.services.mask,
            [
                "apt-daily-upgrade.timer",
                "apt-daily.timer",
                "podman-auto-update.service",
                "podman-auto-update.timer",
                "podman-restart.service",
            ]
        );
        assert_eq!(plan.fstab.nofail, ["/boot/efi"]);
        assert!(!plan.setup_script.contains("iot-agent"));
        assert_eq!(plan.boot_arguments.len(), 0);
    }
}

#[test]
fn the_default_image_sets_itself_up_and_leaves_the_rest_to_cloud_init() {
    let recipe = CheckedRecipe::edge_device().expect("valid");
    let plan = recipe.plan(VmArchitecture::Aarch64, None, Path::new("/nowhere"));
    let plan = plan.expect("planned");
    let file = |path: &str| {
        let found = plan.files.iter().find(|file| file.path == path);
        let found = found.unwrap_or_else(|| panic!("{path}"));
        (String::from_utf8_lossy(&found.content), found.mode)
    };
    for name in ["first-boot", "grow-root"] {
        let (script, mode) = file(&format!("/usr/lib/harmony/{name}"));
        assert_eq!(mode, 0o755);
        assert!(script.starts_with("#!/bin/sh\n"), "{script}");
        let checked = Command::new("sh").args(["-n", "-c", &script]).status();
        assert!(checked.expect("a shell").success(), "{name}");
        let unit = format!("harmony-{name}.service");
        assert!(plan.services.enable.contains(&unit), "{unit}");
        let (unit, _) = file(&format!("/etc/systemd/system/{unit}"));
        assert!(unit.contains(&format!("\nExecStart=/usr/lib/harmony/{name}\n")));
    }
    // Each stage of cloud-init is passed over when the script has come to its end, and only then.
    let (script, _) = file("/usr/lib/harmony/first-boot");
    assert!(script.ends_with("\n: >\"$mine/first-boot\"\n"), "{script}");
    for stage in [
        "cloud-init-local",
        "cloud-init",
        "cloud-config",
        "cloud-final",
    ] {
        let (drop_in, _) = file(&format!(
            "/etc/systemd/system/{stage}.service.d/50-harmony.conf"
        ));
        assert!(drop_in.contains("\nConditionPathExists=!/run/harmony/first-boot\n"));
    }
}

#[test]
fn a_slow_guest_waits_longer_and_starts_less_on_both_architectures() {
    let recipe = CheckedRecipe::edge_device().expect("valid");
    let plans = VmArchitecture::ALL.map(|architecture| {
        assert_eq!(recipe.profiles(architecture), ["slow-guest"]);
        recipe
            .plan(architecture, Some("slow-guest"), Path::new("/nowhere"))
            .expect("planned")
    });
    for plan in &plans {
        assert_ne!(plan.description, "");
        for unit in [
            "ModemManager.service",
            "apt-daily.timer",
            "e2scrub_all.timer",
            "fstrim.timer",
            "man-db.timer",
            "motd-news.timer",
            "multipathd.service",
            "snapd.service",
            "snapd.socket",
            "udisks2.service",
        ] {
            assert!(plan.services.mask.iter().any(|m| m == unit), "{unit}");
        }
        let timeouts = plan
            .files
            .iter()
            .find(|file| file.path == "/etc/systemd/system.conf.d/50-slow-guest.conf")
            .expect("timeouts");
        let timeouts = String::from_utf8_lossy(&timeouts.content);
        assert!(timeouts.contains("\nDefaultDeviceTimeoutSec=600s\n"));
    }
    assert_eq!(plans[0].setup_script, plans[1].setup_script);
}

fn guide() -> String {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guides/recipes.md");
    std::fs::read_to_string(guide).expect("the guide")
}

/// The blocks of one language in the guide.
fn blocks<'a>(guide: &'a str, language: &str) -> Vec<&'a str> {
    guide
        .split(&format!("```{language}\n"))
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap_or_default())
        .collect()
}

#[test]
fn the_guide_s_example_is_a_recipe_with_every_key() {
    let guide = guide();
    let [example, base] = blocks(&guide, "toml")[..] else {
        panic!("two examples");
    };
    let recipe = parse(example);
    assert_eq!(recipe.profiles(VmArchitecture::Aarch64), ["slow-guest"]);
    let missing: Vec<_> = super::super::keys::all_keys()
        .into_iter()
        .filter(|key| {
            !example.contains(&format!("{key} = "))
                && !example.contains(&format!("{key}."))
                && !example.contains(&format!("{key}]"))
        })
        .collect();
    assert_eq!(missing, Vec::<&str>::new());
    let own_image = parse(base).plan(VmArchitecture::Aarch64, None, Path::new("/nowhere"));
    assert!(matches!(
        own_image.expect("planned").base,
        PlannedBase::Url(_)
    ));
}

#[test]
fn the_guide_says_what_is_said() {
    let guide = guide();
    let [refused, said] = blocks(&guide, "text")[..] else {
        panic!("two texts");
    };
    let error = Recipe::parse(refused, Path::new("kiosk.toml")).expect_err("refused");
    let hint = error.hint().expect("a hint");
    assert_eq!(format!("{error}\nhint: {hint}\n"), said);
}

#[test]
fn a_recipe_is_read_from_its_file() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("device.toml");
    assert!(matches!(
        Recipe::read(&path),
        Err(super::RecipeError::Read { .. })
    ));
    std::fs::write(&path, super::BASE).expect("writable");
    assert_eq!(Recipe::read(&path).expect("valid"), parse(super::BASE));
    let file = std::fs::File::create(&path).expect("writable");
    file.set_len(1 << 30).expect("a sparse file");
    assert!(matches!(
        Recipe::read(&path),
        Err(super::RecipeError::Read { .. })
    ));
}
