//! The host's files that an image depends on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::error::RecipeError;
use super::plan::BuildInput;
use crate::modules::image::digest::Sha256Digest;

/// How many files one glob may match.
const FILES: usize = 10_000;

/// Reads what the globs match below `root`, by relative path. Hidden files are only matched by a pattern that
/// names the dot; directories are passed over.
///
/// # Errors
/// When a glob matches no file or too many, or a file leads out of `root` or cannot be read.
pub(super) fn read(
    patterns: &BTreeSet<String>,
    root: &Path,
) -> Result<Vec<BuildInput>, RecipeError> {
    if patterns.is_empty() {
        return Ok(Vec::new());
    }
    let unreadable = |path: &Path, source| RecipeError::Input {
        path: path.to_owned(),
        source,
    };
    let real_root = fs::canonicalize(root).map_err(|source| unreadable(root, source))?;
    let mut found = BTreeMap::new();
    for pattern in patterns {
        let before = found.len();
        let mut files = 0;
        for path in matches(pattern, &real_root)? {
            let real = fs::canonicalize(&path).map_err(|source| unreadable(&path, source))?;
            let meta = fs::metadata(&real).map_err(|source| unreadable(&path, source))?;
            if !meta.is_file() {
                continue;
            }
            if !real.starts_with(&real_root) {
                return Err(RecipeError::InputOutside {
                    path,
                    root: real_root,
                });
            }
            files += 1;
            found.insert(relative(&path, &real_root), real);
        }
        tracing::debug!(%pattern, files, new = found.len() - before, "build inputs");
        if files == 0 {
            return Err(RecipeError::NoInput {
                pattern: pattern.clone(),
                root: root.to_owned(),
            });
        }
    }
    found
        .into_iter()
        .map(|(path, real)| {
            let digest =
                Sha256Digest::of_file(&real).map_err(|source| unreadable(&real, source))?;
            Ok(BuildInput { path, digest })
        })
        .collect()
}

fn matches(pattern: &str, root: &Path) -> Result<Vec<PathBuf>, RecipeError> {
    let whole = format!(
        "{}/{pattern}",
        glob::Pattern::escape(&root.to_string_lossy())
    );
    let options = glob::MatchOptions {
        require_literal_separator: true,
        require_literal_leading_dot: true,
        ..glob::MatchOptions::default()
    };
    let invalid = |_| RecipeError::NoInput {
        pattern: pattern.to_owned(),
        root: root.to_owned(),
    };
    let mut paths = Vec::new();
    for path in glob::glob_with(&whole, options).map_err(invalid)? {
        paths.push(path.map_err(|error| RecipeError::Input {
            path: error.path().to_owned(),
            source: error.into(),
        })?);
        if paths.len() > FILES {
            return Err(RecipeError::TooManyInputs {
                pattern: pattern.to_owned(),
                bound: FILES,
            });
        }
    }
    Ok(paths)
}

fn relative(path: &Path, root: &Path) -> String {
    let rest = path.strip_prefix(root).unwrap_or(path);
    let parts = rest.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_string_lossy()),
        _ => None,
    });
    parts.collect::<Vec<_>>().join("/")
}
