//! From a recipe as written to a valid one: every broken rule is collected.

mod sources;

use std::collections::{BTreeMap, BTreeSet};

use super::error::RecipeViolation;
use super::field::Field;
use super::plan::{BootFile, PlannedBase};
use super::rules::{self, Broken};
use super::wire::{FileTable, PerArchitecture, ProfileTable, Recipe, ServicesTable};
use crate::domain::topology::linux_host::HostFile;

/// More than a kernel takes: arm64 has 2048 bytes for its whole command line.
const BOOT_ARGUMENTS_BYTES: usize = 1536;

/// A part of a recipe: its own, or that of a profile.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Layer {
    pub(super) packages: BTreeSet<String>,
    pub(super) enable: BTreeSet<String>,
    pub(super) disable: BTreeSet<String>,
    pub(super) mask: BTreeSet<String>,
    pub(super) files: BTreeMap<String, HostFile>,
    pub(super) fstab_remove: BTreeSet<String>,
    pub(super) fstab_nofail: BTreeSet<String>,
    pub(super) cleanup: BTreeSet<String>,
}

/// A profile for one architecture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Profile {
    pub(super) description: String,
    pub(super) boot_arguments: Vec<String>,
    pub(super) build_inputs: BTreeSet<String>,
    pub(super) layer: Layer,
}

/// A kernel for one architecture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kernel {
    pub(super) kernel: BootFile,
    pub(super) initrd: Option<BootFile>,
    pub(super) arguments: Vec<String>,
}

/// What the checks have made of a recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Checked {
    pub(super) description: String,
    pub(super) bases: PerArchitecture<PlannedBase>,
    pub(super) layer: Layer,
    pub(super) kernels: PerArchitecture<Kernel>,
    pub(super) profiles: BTreeMap<String, PerArchitecture<Profile>>,
}

/// Checks all of a recipe.
///
/// # Errors
/// Every broken rule with its field.
pub(super) fn check(recipe: &Recipe) -> Result<Checked, Vec<(Field, RecipeViolation)>> {
    let mut checker = Checker::default();
    let root = Field::default();
    let bases = checker.bases(&recipe.base, &root.key("base"));
    let layer = checker.recipe_layer(recipe, &root);
    let mut kernels = PerArchitecture::default();
    for (architecture, table) in recipe.kernel.iter() {
        let field = root.key("kernel").key(architecture.as_str());
        *kernels.get_mut(architecture) = checker.kernel(table, &field);
    }
    let mut profiles = BTreeMap::new();
    for (name, tables) in &recipe.profiles {
        let field = root.key("profiles").key(name);
        checker.rule(rules::profile(name), &field, name);
        let mut parts = PerArchitecture::default();
        for (architecture, table) in tables.iter() {
            let part = checker.profile(table, &field.key(architecture.as_str()));
            *parts.get_mut(architecture) = Some(part);
        }
        profiles.insert(name.clone(), parts);
    }
    if !checker.broken.is_empty() {
        return Err(checker.broken);
    }
    Ok(Checked {
        description: recipe.description.clone(),
        bases,
        layer,
        kernels,
        profiles,
    })
}

#[derive(Debug, Default)]
struct Checker {
    broken: Vec<(Field, RecipeViolation)>,
}

impl Checker {
    /// Notes the rule when it is broken; returns what it gave otherwise.
    fn rule<T>(&mut self, result: Result<T, Broken>, field: &Field, value: &str) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(broken) => {
                let name = field.to_string();
                self.broken.push((
                    field.clone(),
                    RecipeViolation {
                        line: None,
                        fix: broken
                            .fix
                            .unwrap_or_else(|| format!("set {name} to {}", broken.expected)),
                        field: name,
                        value: Some(shown(value)),
                        expected: broken.expected,
                    },
                ));
                None
            }
        }
    }

    /// Checks each element; returns all of them in their order.
    fn list(
        &mut self,
        values: &[String],
        field: &Field,
        rule: fn(&str) -> Result<(), Broken>,
    ) -> Vec<String> {
        for (index, value) in values.iter().enumerate() {
            self.rule(rule(value), &field.index(index), value);
        }
        values.to_vec()
    }

    fn set(
        &mut self,
        values: &[String],
        field: &Field,
        rule: fn(&str) -> Result<(), Broken>,
    ) -> BTreeSet<String> {
        self.list(values, field, rule).into_iter().collect()
    }

    fn recipe_layer(&mut self, recipe: &Recipe, root: &Field) -> Layer {
        let mut packages = BTreeSet::new();
        for (group, names) in &recipe.packages {
            let field = root.key("packages").key(group);
            packages.extend(self.set(names, &field, rules::package));
        }
        Layer {
            packages,
            files: self.files(&recipe.files, &root.key("files")),
            fstab_remove: self.set(
                &recipe.fstab.remove_patterns,
                &root.key("fstab").key("remove_patterns"),
                rules::pattern,
            ),
            fstab_nofail: self.set(
                &recipe.fstab.nofail,
                &root.key("fstab").key("nofail"),
                rules::path,
            ),
            cleanup: self.set(
                &recipe.cleanup.remove_dirs,
                &root.key("cleanup").key("remove_dirs"),
                rules::removable,
            ),
            ..self.services(&recipe.services, &root.key("services"))
        }
    }

    fn profile(&mut self, table: &ProfileTable, field: &Field) -> Profile {
        let boot_arguments =
            self.boot_arguments(&table.boot_arguments, &field.key("boot_arguments"));
        // A profile has what a recipe has, but for the groups of packages.
        let part = Recipe {
            services: table.services.clone(),
            files: table.files.clone(),
            fstab: table.fstab.clone(),
            cleanup: table.cleanup.clone(),
            ..Recipe::default()
        };
        let mut layer = self.recipe_layer(&part, field);
        layer.packages = self.set(&table.packages, &field.key("packages"), rules::package);
        Profile {
            description: table.description.clone(),
            boot_arguments,
            build_inputs: self.set(
                &table.build_inputs,
                &field.key("build_inputs"),
                rules::glob_below,
            ),
            layer,
        }
    }

    fn boot_arguments(&mut self, values: &[String], field: &Field) -> Vec<String> {
        let values = self.list(values, field, rules::boot_argument);
        let bytes: usize = values.iter().map(|value| value.len() + 1).sum();
        if bytes > BOOT_ARGUMENTS_BYTES {
            let expected = format!("at most {BOOT_ARGUMENTS_BYTES} bytes together");
            let given = format!("{bytes} bytes");
            self.rule::<()>(Err(rules::broken(expected)), field, &given);
        }
        values
    }

    /// The units; one in two lists contradicts itself.
    fn services(&mut self, table: &ServicesTable, field: &Field) -> Layer {
        let lists = [
            ("enable", &table.enable),
            ("disable", &table.disable),
            ("mask", &table.mask),
        ];
        let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, units) in lists {
            for (index, unit) in units.iter().enumerate() {
                let earlier = *seen.entry(unit).or_insert(name);
                if earlier != name {
                    let expected = format!("a unit that is not in {}", field.key(earlier));
                    let field = field.key(name).index(index);
                    self.rule::<()>(Err(rules::broken(expected)), &field, unit);
                }
            }
        }
        Layer {
            enable: self.set(&table.enable, &field.key("enable"), rules::unit),
            disable: self.set(&table.disable, &field.key("disable"), rules::unit),
            mask: self.set(&table.mask, &field.key("mask"), rules::unit),
            ..Layer::default()
        }
    }

    fn files(
        &mut self,
        tables: &BTreeMap<String, FileTable>,
        field: &Field,
    ) -> BTreeMap<String, HostFile> {
        let mut files = BTreeMap::new();
        for (path, table) in tables {
            let field = field.key(path);
            self.rule(rules::file_path(path), &field, path);
            let above = tables.keys().find(|other| {
                path.strip_prefix(other.as_str())
                    .is_some_and(|rest| rest.starts_with('/'))
            });
            if let Some(above) = above {
                let expected = format!("a path that is not below the file {above}");
                self.rule::<()>(Err(rules::broken(expected)), &field, path);
            }
            let given = format!("{} bytes", table.content.len());
            self.rule(
                rules::content(&table.content),
                &field.key("content"),
                &given,
            );
            self.rule(
                rules::owner(&table.owner),
                &field.key("owner"),
                &table.owner,
            );
            let mode = self.rule(rules::mode(&table.mode), &field.key("mode"), &table.mode);
            let file = HostFile {
                path: path.clone(),
                content: table.content.clone().into_bytes(),
                owner: table.owner.clone(),
                mode: mode.unwrap_or_default(),
            };
            files.insert(path.clone(), file);
        }
        files
    }
}

/// A value as an error shows it: on one line, and not endless.
fn shown(value: &str) -> String {
    const CHARS: usize = 120;
    let line: String = value
        .chars()
        .take(CHARS)
        .map(|char| if char.is_control() { ' ' } else { char })
        .collect();
    if value.chars().nth(CHARS).is_some() {
        return format!("{line}…");
    }
    line
}
