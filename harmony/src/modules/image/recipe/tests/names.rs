//! The name of an image follows what is in it, and nothing else.

mod model;

use std::path::Path;

use model::{Model, recipe};
use proptest::prelude::{Just, Strategy, any};
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::super::{BuilderKind, Recipe};
use super::plan;
use crate::domain::topology::virtualization::VmArchitecture::{self, Aarch64, X86_64};

/// The digest of a recipe's image for its profile, with its inputs in a directory of its own.
fn digest_of(model: &Model, architecture: VmArchitecture, builder: BuilderKind) -> String {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for (path, content) in &model.inputs {
        std::fs::write(dir.path().join(path), content).expect("writable");
    }
    let text = model.toml();
    let recipe =
        Recipe::parse(&text, Path::new("r.toml")).unwrap_or_else(|error| panic!("{text}\n{error}"));
    let plan = recipe
        .plan(architecture, Some(&model.profile), dir.path())
        .unwrap_or_else(|error| panic!("{text}\n{error}"));
    plan.digest(builder, 1).to_string()
}

fn digest(model: &Model) -> String {
    digest_of(model, Aarch64, BuilderKind::InGuest)
}

fn check<S>(strategy: &S, test: impl Fn(S::Value) -> Result<(), TestCaseError>)
where
    S: Strategy,
    S::Value: std::fmt::Debug,
{
    let mut runner = TestRunner::new_with_rng(
        Config::with_cases(128),
        proptest::test_runner::TestRng::deterministic_rng(
            proptest::test_runner::RngAlgorithm::ChaCha,
        ),
    );
    runner.run(strategy, test).unwrap_or_else(|e| panic!("{e}"));
}

/// What does not matter: order within lists, groups and their names, repeats, comments, descriptions, the names of
/// profiles, where a pinned file comes from, and where the inputs are on the host.
#[test]
fn what_does_not_matter_gives_the_same_name() {
    let pairs = recipe().prop_flat_map(|model| {
        let packages = Just(model.packages.clone()).prop_shuffle();
        let mask = Just(model.mask.clone()).prop_shuffle();
        let remove = Just(model.fstab_remove.clone()).prop_shuffle();
        let cleanup = Just(model.cleanup.clone()).prop_shuffle();
        let groups = 1..4_usize;
        (
            Just(model),
            packages,
            mask,
            remove,
            cleanup,
            groups,
            any::<bool>(),
        )
    });
    check(
        &pairs,
        |(model, packages, mask, remove, cleanup, groups, doubled)| {
            let mut other = model.clone();
            other.packages = packages;
            other.mask = mask;
            other.fstab_remove = remove;
            other.cleanup = cleanup;
            if doubled {
                other
                    .packages
                    .extend(model.packages.iter().take(2).cloned());
                other.cleanup.extend(model.cleanup.iter().take(1).cloned());
            }
            other.groups = groups;
            other.group_name = "other".to_owned();
            other.comment = "# What it is for: $(reboot)\n".to_owned();
            other.description = "another".to_owned();
            other.profile = "other-name".to_owned();
            other.host = "mirror.example".to_owned();
            proptest::prop_assert_eq!(digest(&model), digest(&other));
            Ok(())
        },
    );
}

/// One change to a recipe that matters.
type Change = (&'static str, fn(&mut Model));

const CHANGES: [Change; 22] = [
    ("a package", |m| m.packages.push("zz-added".to_owned())),
    ("a package less", |m| drop(m.packages.pop())),
    ("a profile's package", |m| {
        m.profile_packages.push("zz-other".to_owned())
    }),
    ("an enabled unit", |m| {
        m.enable.push("zz-added.service".to_owned())
    }),
    ("a disabled unit", |m| {
        m.disable.push("zz-added.service".to_owned())
    }),
    ("a masked unit", |m| {
        m.mask.push("zz-added.service".to_owned())
    }),
    ("disabled instead of masked", |m| {
        m.disable.extend(m.mask.pop())
    }),
    ("a file", |m| {
        drop(m.files.insert("/srv/added".to_owned(), Default::default()))
    }),
    ("a file's content", |m| m.first_file().content.push('x')),
    ("a file's final line end", |m| {
        m.first_file().content.push('\n')
    }),
    ("a file's mode", |m| m.first_file().mode = "4711".to_owned()),
    ("a file's owner", |m| {
        m.first_file().owner = "daemon:root".to_owned()
    }),
    ("a pattern", |m| m.fstab_remove.push("added".to_owned())),
    ("a mount point", |m| m.nofail.push("/zz-added".to_owned())),
    ("a directory", |m| {
        m.cleanup.push("/var/cache/zz-added".to_owned())
    }),
    ("a boot argument", |m| {
        m.boot_arguments.push("zz.added=1".to_owned())
    }),
    ("the order of boot arguments", |m| {
        m.boot_arguments.rotate_left(1)
    }),
    ("the kernel's path", |m| m.kernel.push('2')),
    ("the kernel's argument", |m| m.kernel_argument.push('2')),
    ("the initial file system's digest", |m| {
        m.initrd_digest = 'b'
    }),
    ("an input's content", |m| m.inputs[0].1.push('x')),
    ("an input's path", |m| m.inputs[0].0.push('x')),
];

#[test]
fn whatever_matters_gives_another_name() {
    check(&(recipe(), 0..CHANGES.len()), |(model, index)| {
        let (what, change) = CHANGES[index];
        let mut other = model.clone();
        change(&mut other);
        proptest::prop_assert_ne!(digest(&model), digest(&other), "{}", what);
        Ok(())
    });
}

#[test]
fn each_change_is_another_image() {
    let model = Model::example();
    let mut digests: Vec<_> = CHANGES
        .iter()
        .map(|(_, change)| {
            let mut other = model.clone();
            change(&mut other);
            digest(&other)
        })
        .collect();
    digests.push(digest(&model));
    digests.push(digest_of(&model, X86_64, BuilderKind::InGuest));
    digests.push(digest_of(&model, Aarch64, BuilderKind::FromPackages));
    let count = digests.len();
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), count);
}

#[test]
fn a_base_counts_by_its_content_in_a_guest_and_by_its_name_from_packages() {
    let pin = |host: &str, digit: char| {
        let digest = digit.to_string().repeat(64);
        plan(&format!(
            "[base.aarch64]\nurl = 'https://{host}/i.img'\ndigest = 'sha256={digest}'\n"
        ))
    };
    let name = |plan: &super::BuildPlan| plan.image_name(BuilderKind::InGuest, 1);
    assert_eq!(name(&pin("a.example", 'a')), name(&pin("b.example", 'a')));
    assert_ne!(name(&pin("a.example", 'a')), name(&pin("a.example", 'b')));
    let catalog = |name: &str| plan(&format!("[base]\ncatalog = '{name}'\n"));
    let (debian, ubuntu) = (catalog("debian-12"), catalog("ubuntu-24.04"));
    for builder in [BuilderKind::InGuest, BuilderKind::FromPackages] {
        assert_ne!(debian.digest(builder, 1), ubuntu.digest(builder, 1));
        assert_ne!(debian.digest(builder, 1), debian.digest(builder, 2));
    }
    let name = debian.image_name(BuilderKind::InGuest, 1);
    let digest = name.strip_prefix("device-aarch64-").expect("the prefix");
    assert_eq!(digest.len(), 16);
}
