//! The programs of this host that the builder needs: where they are looked for, and what package has them.

use std::ffi::OsString;

/// A program that must be on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostProgram {
    /// Its name, as it is looked up on the `PATH` and in `/usr/sbin` and `/sbin`.
    pub program: &'static str,
    /// The Debian package that has it.
    pub debian_package: &'static str,
}

impl HostProgram {
    /// Whether it is on this host.
    pub fn is_installed(&self) -> bool {
        std::env::split_paths(&search_path()).any(|dir| dir.join(self.program).is_file())
    }
}

/// The `PATH` with the directories that ordinary users of Debian lack in theirs.
pub(super) fn search_path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    path
}

#[cfg(test)]
mod tests {
    use super::HostProgram;

    #[test]
    fn programs_are_found_where_ordinary_users_do_not_look() {
        let found = |program| {
            HostProgram {
                program,
                debian_package: "x",
            }
            .is_installed()
        };
        assert!(found("sh"));
        assert!(!found("no-such-program-of-harmony"));
    }
}
