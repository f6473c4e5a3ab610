//! The programs of this host that the builder needs: where they are looked for, and what package has them.

use harmony_base::process::find_program;

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
        find_program(self.program).is_some()
    }
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
