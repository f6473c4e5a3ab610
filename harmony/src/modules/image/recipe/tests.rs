//! What the parts do together: recipes as text, what is refused, the plan and its name.

mod chroot;
mod default_recipe;
mod names;
mod refusals;

use std::path::Path;

use super::{BuildPlan, CheckedRecipe, Recipe, RecipeError, RecipeViolation};
use crate::domain::topology::virtualization::VmArchitecture;

/// The least that a recipe is.
const BASE: &str = "[base]\ncatalog = \"debian-12\"\n";

fn parse(text: &str) -> CheckedRecipe {
    Recipe::parse(text, Path::new("r.toml")).unwrap_or_else(|error| panic!("{text}\n{error}"))
}

fn plan(text: &str) -> BuildPlan {
    plan_for(text, VmArchitecture::Aarch64, None)
}

fn plan_for(text: &str, architecture: VmArchitecture, profile: Option<&str>) -> BuildPlan {
    parse(text)
        .plan(architecture, profile, Path::new("/nowhere"))
        .unwrap_or_else(|error| panic!("{text}\n{error}"))
}

fn violations(text: &str) -> Vec<RecipeViolation> {
    match Recipe::parse(text, Path::new("r.toml")) {
        Err(RecipeError::Invalid { violations, .. }) => violations,
        other => panic!("{text}\n{other:?}"),
    }
}
