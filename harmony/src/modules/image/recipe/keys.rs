//! The keys that a recipe may have.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::RecipeViolation;
use super::field::Field;

/// What a value consists of.
enum Shape {
    /// No table.
    Value,
    /// A table with these keys.
    Keys(&'static [(&'static str, Shape)]),
    /// A table whose keys are names.
    Names(&'static Shape),
}

use Shape::{Keys, Names, Value};

const PIN: Shape = Keys(&[("url", Value), ("digest", Value)]);
const SERVICES: Shape = Keys(&[("enable", Value), ("disable", Value), ("mask", Value)]);
const FILES: Shape = Names(&Keys(&[
    ("content", Value),
    ("owner", Value),
    ("mode", Value),
]));
const FSTAB: Shape = Keys(&[("remove_patterns", Value), ("nofail", Value)]);
const CLEANUP: Shape = Keys(&[("remove_dirs", Value)]);
const BOOT_FILE: Shape = Keys(&[("path", Value), ("url", Value), ("digest", Value)]);
const KERNEL: Shape = Keys(&[
    ("kernel", BOOT_FILE),
    ("initrd", BOOT_FILE),
    ("arguments", Value),
]);
const PROFILE: Shape = Keys(&[
    ("description", Value),
    ("boot_arguments", Value),
    ("packages", Value),
    ("build_inputs", Value),
    ("services", SERVICES),
    ("files", FILES),
    ("fstab", FSTAB),
    ("cleanup", CLEANUP),
]);
const RECIPE: Shape = Keys(&[
    ("description", Value),
    (
        "base",
        Keys(&[("catalog", Value), ("x86_64", PIN), ("aarch64", PIN)]),
    ),
    ("packages", Names(&Value)),
    ("services", SERVICES),
    ("files", FILES),
    ("fstab", FSTAB),
    ("cleanup", CLEANUP),
    ("kernel", Keys(&[("x86_64", KERNEL), ("aarch64", KERNEL)])),
    (
        "profiles",
        Names(&Keys(&[("x86_64", PROFILE), ("aarch64", PROFILE)])),
    ),
]);

/// Takes the unknown keys out of a recipe; returns each with its place.
pub(super) fn take_unknown(root: &mut DeTable<'_>) -> Vec<(usize, RecipeViolation)> {
    let mut unknown = Vec::new();
    take(root, &RECIPE, &Field::default(), &mut unknown);
    unknown
}

fn take(
    table: &mut DeTable<'_>,
    shape: &Shape,
    field: &Field,
    unknown: &mut Vec<(usize, RecipeViolation)>,
) {
    if let Keys(keys) = shape {
        let strange: Vec<Spanned<_>> = table
            .keys()
            .filter(|key| keys.iter().all(|(known, _)| known != key.get_ref()))
            .cloned()
            .collect();
        for key in strange {
            unknown.push((key.span().start, violation(field, key.get_ref(), keys)));
            table.remove(&key);
        }
    }
    for (key, value) in table.iter_mut() {
        let DeValue::Table(inner) = value.get_mut() else {
            continue;
        };
        let below = match shape {
            Value => None,
            Names(shape) => Some(*shape),
            Keys(keys) => keys
                .iter()
                .find(|(known, _)| known == key.get_ref())
                .map(|(_, shape)| shape),
        };
        if let Some(shape) = below {
            take(inner, shape, &field.key(key.get_ref()), unknown);
        }
    }
}

fn violation(field: &Field, key: &str, keys: &[(&'static str, Shape)]) -> RecipeViolation {
    let known: Vec<&str> = keys.iter().map(|(known, _)| *known).collect();
    RecipeViolation {
        line: None,
        field: field.key(key).to_string(),
        value: None,
        expected: known.join(", "),
        fix: match nearest(key, known) {
            Some(nearest) => format!("write '{nearest}' for '{key}'"),
            None => format!("remove '{key}'"),
        },
    }
}

/// The name that is written most alike, when it is alike enough to be meant.
pub(super) fn nearest<'a>(
    given: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(given, name), name))
        .min()
        .filter(|(distance, name)| *distance <= 1 + given.len().max(name.len()) / 3)
        .map(|(_, name)| name)
}

/// Every key of every table.
#[cfg(test)]
pub(super) fn all_keys() -> Vec<&'static str> {
    fn collect(shape: &Shape, all: &mut Vec<&'static str>) {
        match shape {
            Value => {}
            Names(inner) => collect(inner, all),
            Keys(keys) => {
                for (key, inner) in *keys {
                    all.push(key);
                    collect(inner, all);
                }
            }
        }
    }
    let mut all = Vec::new();
    collect(&RECIPE, &mut all);
    all.sort_unstable();
    all.dedup();
    all
}
