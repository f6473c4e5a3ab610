//! The host's files that an image depends on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::error::RecipeError;
use super::plan::BuildInput;
use crate::modules::image::digest::Sha256Digest;

/// How many files one glob may match.
const FILES: usize = 10_000;

/// Reads what the globs match below `root`, by relative path. Directories are passed over, and so is what has a
/// name that begins with a dot in its path, unless the pattern has one too.
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
        ..glob::MatchOptions::default()
    };
    let invalid = |_| RecipeError::NoInput {
        pattern: pattern.to_owned(),
        root: root.to_owned(),
    };
    let with_hidden = pattern.split('/').any(|part| part.starts_with('.'));
    let mut paths = Vec::new();
    for path in glob::glob_with(&whole, options).map_err(invalid)? {
        let path = path.map_err(|error| RecipeError::Input {
            path: error.path().to_owned(),
            source: error.into(),
        })?;
        let hidden = relative(&path, root).split('/').any(|p| p.starts_with('.'));
        if hidden && !with_hidden {
            continue;
        }
        paths.push(path);
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::{RecipeError, read};
    use crate::modules::image::digest::Sha256Digest;

    fn patterns(patterns: &[&str]) -> BTreeSet<String> {
        patterns
            .iter()
            .map(|pattern| (*pattern).to_owned())
            .collect()
    }

    #[test]
    fn inputs_are_the_files_that_the_globs_match_by_relative_path() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        // Not a glob itself, whatever it is called.
        let root = dir.path().join("a[b]*");
        fs::create_dir_all(root.join("ci/deep/.hidden")).expect("made");
        for path in [
            "ci/a.sh",
            "ci/deep/b.sh",
            "ci/deep/.c.sh",
            "ci/deep/.hidden/d.sh",
            "version",
        ] {
            fs::write(root.join(path), path).expect("writable");
        }
        symlink("a.sh", root.join("ci/link.sh")).expect("linked");
        let table: [(&[&str], &[&str]); 5] = [
            (&[], &[]),
            (&["version", "v*"], &["version"]),
            (&["ci/*.sh"], &["ci/a.sh", "ci/link.sh"]),
            (
                &["version", "**/*.sh"],
                &["ci/a.sh", "ci/deep/b.sh", "ci/link.sh", "version"],
            ),
            (&["ci/deep/.*.sh"], &["ci/deep/.c.sh"]),
        ];
        for (globs, expected) in table {
            let inputs = read(&patterns(globs), &root).expect("read");
            let paths: Vec<_> = inputs.iter().map(|input| input.path.as_str()).collect();
            assert_eq!(paths, expected, "{globs:?}");
            for input in inputs {
                let content = input.path.replace("link", "a");
                assert_eq!(input.digest, Sha256Digest::of(content.as_bytes()));
            }
        }
    }

    #[test]
    fn inputs_that_are_nowhere_or_elsewhere_are_refused() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = dir.path().join("recipes");
        fs::create_dir_all(root.join("empty")).expect("made");
        fs::write(dir.path().join("secret"), "").expect("writable");
        symlink("../secret", root.join("out")).expect("linked");
        symlink("nowhere", root.join("dangling")).expect("linked");
        let failed = |glob: &str| read(&patterns(&[glob]), &root).expect_err(glob);
        for glob in ["nothing*", "empty", "empty/*"] {
            let error = failed(glob);
            assert!(
                matches!(error, RecipeError::NoInput { ref pattern, .. } if pattern == glob),
                "{error:?}"
            );
        }
        assert!(matches!(failed("out"), RecipeError::InputOutside { .. }));
        let error = failed("dang*");
        assert!(
            matches!(
                error,
                RecipeError::NoInput { .. } | RecipeError::Input { .. }
            ),
            "{error:?}"
        );
        let missing = read(&patterns(&["x"]), &dir.path().join("none"));
        assert!(matches!(missing, Err(RecipeError::Input { .. })));
    }
}
