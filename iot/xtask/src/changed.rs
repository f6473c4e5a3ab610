//! Which files have changed since a revision: what git says.

use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Why it cannot be told.
#[derive(Debug, PartialEq, Eq)]
pub enum ChangedError {
    /// Git knows no such commit.
    UnknownRevision {
        /// What was given.
        revision: String,
        /// What git said.
        git: String,
    },
    /// Git could not be run, or failed.
    Git {
        /// Its arguments.
        arguments: String,
        /// Why.
        reason: String,
    },
}

impl fmt::Display for ChangedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownRevision { revision, git } => write!(
                f,
                "unknown revision '{revision}' (expected a commit, a branch or a tag of this repository): {git}"
            ),
            Self::Git { arguments, reason } => write!(f, "git {arguments}: {reason}"),
        }
    }
}

impl std::error::Error for ChangedError {}

/// The files of the working tree in `root` that are not as they are in `revision`, without those that git ignores: changed,
/// new, deleted, committed or not. A file that was renamed has both names.
///
/// # Errors
/// That there is no such revision, or that git cannot be asked.
pub fn since(root: &Path, revision: &str) -> Result<Vec<String>, ChangedError> {
    let commit = format!("{revision}^{{commit}}");
    let verify = ["rev-parse", "--verify", "--end-of-options", &commit];
    let commit = git(root, &verify)?.map_err(|git| ChangedError::UnknownRevision {
        revision: revision.to_owned(),
        git,
    })?;
    let commit = commit.trim();
    let differing = ["diff", "--name-only", "--no-renames", "-z", commit, "--"];
    let unknown = ["ls-files", "--others", "--exclude-standard", "-z"];
    let mut files = Vec::new();
    for arguments in [differing.as_slice(), &unknown] {
        let said = git(root, arguments)?.map_err(|reason| ChangedError::Git {
            arguments: arguments.join(" "),
            reason,
        })?;
        files.extend(names(&said));
    }
    files.sort_unstable();
    files.dedup();
    Ok(files)
}

/// Names that end with a zero byte each.
fn names(said: &str) -> impl Iterator<Item = String> {
    let names = said.split('\0').filter(|name| !name.is_empty());
    names.map(str::to_owned)
}

/// What git prints; when it fails, what it says of that.
fn git(root: &Path, arguments: &[&str]) -> Result<Result<String, String>, ChangedError> {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(root)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| ChangedError::Git {
            arguments: arguments.join(" "),
            reason: error.to_string(),
        })?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr).trim().replace('\n', "; "))
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir, remove_file, rename, write};
    use std::path::Path;

    use tempfile::TempDir;

    use super::{ChangedError, git, since};

    /// A repository of five files and one commit.
    fn repository() -> TempDir {
        let dir = TempDir::with_prefix("harmony-test-").expect("a directory");
        let at = |name: &str| dir.path().join(name);
        create_dir(at("docs")).expect("made");
        for name in ["same", "committed", "staged", "gone", "docs/from"] {
            write(at(name), format!("{name}\n").repeat(9)).expect("written");
        }
        write(at(".gitignore"), "/target\n").expect("written");
        run(dir.path(), &["init", "--quiet"]);
        commit(dir.path());
        dir
    }

    fn run(root: &Path, arguments: &[&str]) -> String {
        let identity = [
            "-c",
            "user.name=harmony-test",
            "-c",
            "user.email=test@invalid",
        ];
        let unsigned = ["-c", "commit.gpgsign=false"];
        let arguments = [&identity[..], &unsigned, arguments].concat();
        git(root, &arguments).expect("git runs").expect("done")
    }

    fn commit(root: &Path) {
        run(root, &["add", "--all"]);
        run(root, &["commit", "--quiet", "--message", "x"]);
    }

    #[test]
    fn what_is_committed_staged_written_new_gone_or_renamed_has_changed() {
        let dir = repository();
        let root = dir.path();
        assert_eq!(since(root, "HEAD").expect("files"), Vec::<String>::new());
        run(root, &["tag", "before"]);
        write(root.join("committed"), "other").expect("written");
        rename(root.join("docs/from"), root.join("docs/to")).expect("renamed");
        commit(root);
        write(root.join("staged"), "other").expect("written");
        run(root, &["add", "staged"]);
        remove_file(root.join("gone")).expect("removed");
        write(root.join("new\nfile ä"), "").expect("written");
        write(root.join("target"), "ignored").expect("written");
        let expected = [
            "committed",
            "docs/from",
            "docs/to",
            "gone",
            "new\nfile ä",
            "staged",
        ];
        assert_eq!(since(root, "before").expect("files"), expected);
        assert_eq!(
            since(root, "HEAD").expect("files"),
            ["gone", "new\nfile ä", "staged"]
        );
    }

    #[test]
    fn an_unknown_revision_is_named() {
        let dir = repository();
        for unknown in ["no-such-branch", "--all", "", "HEAD:docs", "HEAD..HEAD"] {
            let error = since(dir.path(), unknown).expect_err("no commit");
            assert!(
                matches!(&error, ChangedError::UnknownRevision { revision, .. } if revision == unknown),
                "{error:?}"
            );
            let text = error.to_string();
            let start = format!("unknown revision '{unknown}' (expected ");
            assert!(text.starts_with(&start), "{text}");
        }
    }
}
