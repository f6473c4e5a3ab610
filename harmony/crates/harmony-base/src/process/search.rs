//! Where programs are looked for.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Where root's programs are, which an ordinary user's `PATH` often lacks.
const ROOTS: [&str; 2] = ["/usr/sbin", "/sbin"];

/// The directories of `PATH`, and then `/usr/sbin` and `/sbin`.
pub fn program_directories() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        // An empty name stands for the directory that the process is in, where no program of the host is.
        .filter(|dir| !dir.as_os_str().is_empty())
        .chain(ROOTS.map(PathBuf::from))
        .collect()
}

/// The same as a value of the variable `PATH`.
pub fn search_path() -> OsString {
    // What came out of a list can be put into one.
    std::env::join_paths(program_directories()).unwrap_or_default()
}

/// A program in the [`program_directories`].
pub fn find_program(name: &str) -> Option<PathBuf> {
    program_directories()
        .into_iter()
        .map(|dir| dir.join(name))
        .find(|candidate| is_executable(candidate))
}

/// Whether it is a file that somebody may execute.
pub fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::{find_program, is_executable, program_directories, search_path};

    #[test]
    fn programs_are_found_where_ordinary_users_do_not_look() {
        assert!(find_program("sh").is_some());
        assert_eq!(find_program("no-such-program-of-harmony"), None);
        let directories = program_directories();
        assert!(directories.ends_with(&["/usr/sbin".into(), "/sbin".into()]));
        let again: Vec<_> = std::env::split_paths(&search_path()).collect();
        assert_eq!(again, directories);
    }

    #[test]
    fn a_file_is_a_program_when_it_may_be_executed() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        assert!(!is_executable(file.path()));
        let mode = std::fs::Permissions::from_mode(0o755);
        file.as_file().set_permissions(mode).expect("its owner");
        assert!(is_executable(file.path()));
        assert!(!is_executable("/usr".as_ref()));
    }
}
