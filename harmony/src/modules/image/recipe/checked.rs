//! Reading and checking recipes.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use toml::de::{DeTable, Deserializer};

use super::check::{self, Checked};
use super::error::{RecipeError, RecipeViolation};
use super::field::Field;
use super::keys;
use super::wire::Recipe;

/// The longest recipe, in bytes.
const RECIPE_BYTES: u64 = 4 << 20;

/// The recipe of an edge device like a Raspberry Pi 5.
const EDGE_DEVICE: &str = include_str!("edge-device.toml");

/// A valid recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedRecipe(pub(super) Checked);

impl CheckedRecipe {
    /// The default: an edge device like a Raspberry Pi 5, with the profile `slow-guest` for emulation.
    ///
    /// # Errors
    /// Never, as a test checks.
    pub fn edge_device() -> Result<Self, RecipeError> {
        Recipe::parse(EDGE_DEVICE, Path::new("edge-device.toml"))
    }
}

impl Recipe {
    /// Reads and checks the recipe in `path`.
    ///
    /// # Errors
    /// [`RecipeError::Read`], and those of [`Recipe::parse`].
    pub fn read(path: &Path) -> Result<CheckedRecipe, RecipeError> {
        let failed = |source| RecipeError::Read {
            path: path.to_owned(),
            source,
        };
        let mut text = String::new();
        let file = File::open(path).map_err(failed)?;
        let read = file.take(RECIPE_BYTES + 1).read_to_string(&mut text);
        if read.map_err(failed)? as u64 > RECIPE_BYTES {
            return Err(failed(std::io::ErrorKind::FileTooLarge.into()));
        }
        Self::parse(&text, path)
    }

    /// Checks the recipe in `text`; `path` is what errors call it.
    ///
    /// # Errors
    /// [`RecipeError::Syntax`] when it is no TOML; [`RecipeError::Invalid`] with every unknown key and every
    /// broken rule. Values are only checked when all of them are of the right type.
    pub fn parse(text: &str, path: &Path) -> Result<CheckedRecipe, RecipeError> {
        let mut tree = DeTable::parse(text).map_err(|error| syntax(text, path, &error))?;
        let mut found = keys::take_unknown(tree.get_mut());
        match Self::deserialize(Deserializer::from(tree.clone())) {
            Err(error) => found.push(of_type(text, tree.get_ref(), &error)),
            Ok(recipe) => match check::check(&recipe) {
                Ok(checked) if found.is_empty() => return Ok(CheckedRecipe(checked)),
                Ok(_) => {}
                Err(broken) => found.extend(broken.into_iter().map(|(field, violation)| {
                    (field.offset(tree.get_ref()).unwrap_or_default(), violation)
                })),
            },
        }
        found.sort_by_key(|(offset, _)| *offset);
        let violations = found.into_iter().map(|(offset, mut violation)| {
            violation.line = Some(line_and_column(text, offset).0);
            violation
        });
        Err(RecipeError::Invalid {
            path: path.to_owned(),
            violations: violations.collect(),
        })
    }

    /// Checks a recipe that was not read from text.
    ///
    /// # Errors
    /// [`RecipeError::Invalid`] with every broken rule.
    pub fn check(&self) -> Result<CheckedRecipe, RecipeError> {
        let invalid = |broken: Vec<(Field, RecipeViolation)>| RecipeError::Invalid {
            path: Path::new("recipe").to_owned(),
            violations: broken.into_iter().map(|(_, violation)| violation).collect(),
        };
        check::check(self).map(CheckedRecipe).map_err(invalid)
    }
}

fn syntax(text: &str, path: &Path, error: &toml::de::Error) -> RecipeError {
    let offset = error.span().map_or(0, |span| span.start);
    let (line, column) = line_and_column(text, offset);
    RecipeError::Syntax {
        path: path.to_owned(),
        line,
        column,
        message: error.message().replace('\n', ", "),
    }
}

/// A value of the wrong type, or a key that is missing.
fn of_type(text: &str, tree: &DeTable<'_>, error: &toml::de::Error) -> (usize, RecipeViolation) {
    let span = error.span().unwrap_or_default();
    let field = Field::at(tree, span.start).to_string();
    let value = text.get(span.clone()).unwrap_or_default();
    let message = error.message().replace('\n', ", ");
    let violation = RecipeViolation {
        line: None,
        value: Some(value.lines().next().unwrap_or_default().to_owned()),
        fix: format!("correct {field}"),
        field,
        expected: message,
    };
    (span.start, violation)
}

/// Both counted from 1; the column in bytes.
fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (
        before.matches('\n').count() + 1,
        before.len() - line_start + 1,
    )
}
