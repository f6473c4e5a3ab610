//! Recipes: a TOML file that says what a device image is.
//!
//! ```text
//! text -> Recipe (as written) -> CheckedRecipe (valid) -> BuildPlan (one architecture, one profile)
//! ```
//! [`CheckedRecipe::plan`] makes a [`BuildPlan`] of plain data: what the image is built from, the shell script
//! that sets it up, and with a builder its name, which is the digest of everything that decides what is in it.
//! Nothing here changes the host; only the recipe and its build inputs are read.

mod check;
mod checked;
mod error;
mod field;
mod inputs;
mod keys;
mod name;
mod plan;
mod planning;
mod progress;
mod rules;
mod script;
mod wire;

pub use checked::CheckedRecipe;
pub use error::{RecipeError, RecipeViolation};
pub use plan::{
    BootFile, BuildInput, BuildPlan, BuilderKind, PlannedBase, PlannedFstab, PlannedKernel,
    PlannedServices,
};
pub use progress::ScriptProgress;
pub use script::SCRIPT_ENVIRONMENT;
pub use wire::{
    BaseTable, BootFileTable, CleanupTable, FileTable, FstabTable, KernelTable, PerArchitecture,
    PinTable, ProfileTable, Recipe, ServicesTable,
};

#[cfg(test)]
mod tests;

/// The guide's code is compiled with the documentation's tests.
#[cfg(doctest)]
#[doc = include_str!("../../../../docs/guides/recipes.md")]
struct Guide;
