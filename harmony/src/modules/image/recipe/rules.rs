//! The rules for single values of a recipe.

mod paths;

use regex::Regex;

pub(super) use paths::{file_path, path, removable};

/// The longest path and unit name, and more than any kernel's command line, in bytes.
const PATH_BYTES: usize = 1024;
const UNIT_BYTES: usize = 255;

/// A file's content, in bytes.
pub(super) const CONTENT_BYTES: usize = 1 << 20;

/// What a value should have been, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) expected: String,
    pub(super) fix: Option<String>,
}

pub(super) fn broken(expected: impl Into<String>) -> Broken {
    Broken {
        expected: expected.into(),
        fix: None,
    }
}

impl Broken {
    fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

fn rule(holds: bool, broken: impl FnOnce() -> Broken) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(broken()) }
}

/// Debian's rule; a final `-` would ask apt-get for removal.
pub(super) fn package(name: &str) -> Result<(), Broken> {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let holds = name.len() >= 2
        && name.bytes().next().is_some_and(alphanumeric)
        && !name.ends_with('-')
        && name.bytes().all(|b| alphanumeric(b) || b"+-.".contains(&b));
    rule(holds, || {
        broken("a Debian package name: lower case letters, digits, '+', '-', '.', at least 2")
            .fix("write the binary package's name, without version or architecture")
    })
}

/// systemd's rule, with the suffix.
pub(super) fn unit(name: &str) -> Result<(), Broken> {
    const SUFFIXES: [&str; 11] = [
        "service",
        "socket",
        "timer",
        "path",
        "target",
        "mount",
        "automount",
        "swap",
        "slice",
        "device",
        "scope",
    ];
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b);
    let (stem, suffix) = name.rsplit_once('.').unwrap_or((name, ""));
    rule(SUFFIXES.contains(&suffix), || {
        broken("a unit's name with its suffix").fix(format!("write '{name}.service'"))
    })?;
    let holds = !stem.is_empty()
        && !stem.starts_with(['-', '.', '@'])
        && name.len() <= UNIT_BYTES
        && name.bytes().all(allowed);
    rule(holds, || {
        broken(format!(
            "letters, digits, ':', '-', '_', '.', '\\', '@', at most {UNIT_BYTES} bytes"
        ))
    })
}

/// `user:group`, each a name or a number.
pub(super) fn owner(value: &str) -> Result<(), Broken> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    let part = |part: &str| {
        let first = part.bytes().next();
        let name = first.is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
            && part.len() <= 32
            && part.bytes().all(word);
        name || (part.bytes().all(|b| b.is_ascii_digit()) && part.parse::<u32>().is_ok())
    };
    let holds = value
        .split_once(':')
        .is_some_and(|(user, group)| part(user) && part(group));
    rule(holds, || {
        broken("user:group, by names or numbers of the image").fix("write 'root:root'")
    })
}

/// The permission bits of an octal text.
pub(super) fn mode(value: &str) -> Result<u32, Broken> {
    let octal = (3..=5).contains(&value.len()) && value.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let bits = u32::from_str_radix(value, 8)
        .ok()
        .filter(|bits| octal && *bits <= 0o7777);
    bits.ok_or_else(|| broken("octal permission bits, 0000 to 7777").fix("write '0644'"))
}

/// Text that a shell can be told.
pub(super) fn content(value: &str) -> Result<(), Broken> {
    rule(
        value.len() <= CONTENT_BYTES && !value.contains('\0'),
        || broken(format!("at most {CONTENT_BYTES} bytes without NUL")),
    )
}

/// A pattern in the part of extended regular expressions on which POSIX and everyone else agree.
pub(super) fn pattern(value: &str) -> Result<(), Broken> {
    if let Err(error) = Regex::new(value) {
        let error = error.to_string();
        let reason = error.lines().last().unwrap_or_default();
        let reason = reason.strip_prefix("error: ").unwrap_or(reason);
        return Err(broken(format!("an extended regular expression: {reason}")));
    }
    rule(is_common(value), || {
        broken("a POSIX extended regular expression").fix(
            "write [0-9], [[:space:]] or the like, without \\d, (?…), *?, +?, ?? or set operators",
        )
    })?;
    // An empty line matches `.*` and `^`: such a pattern takes every line, the root file system's too.
    let matches_all = Regex::new(value).is_ok_and(|pattern| pattern.is_match(""));
    rule(!matches_all && !value.contains('\n'), || {
        broken("a pattern that does not match every line")
            .fix("write what the line has, for example 'LABEL=cloudimg-rootfs'")
    })
}

fn is_common(pattern: &str) -> bool {
    let mut in_class = false;
    let mut previous = ' ';
    let mut chars = pattern.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' if in_class => return false,
            '&' | '-' | '~' if in_class && previous == char => return false,
            '\\' => {
                if chars.next().is_none_or(|next| next.is_alphanumeric()) {
                    return false;
                }
                previous = ' ';
                continue;
            }
            '[' => in_class = true,
            ']' => in_class = false,
            '?' if !in_class && "(*+?}".contains(previous) => return false,
            '*' | '+' if !in_class && "(|*+?^".contains(previous) => return false,
            _ => {}
        }
        previous = char;
    }
    true
}

/// An argument of the kernel, as GRUB and a shell take it without quotes.
pub(super) fn boot_argument(value: &str) -> Result<(), Broken> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.:,=/@+%~-".contains(&b);
    let holds = !value.is_empty() && value.len() <= PATH_BYTES && value.bytes().all(allowed);
    rule(holds, || {
        broken("one argument of letters, digits and _.:,=/@+%~-")
            .fix("write each argument as an element of its own")
    })
}

/// A glob below the recipe's directory.
pub(super) fn glob_below(value: &str) -> Result<(), Broken> {
    let inside = !value.starts_with('/')
        && value
            .split('/')
            .all(|part| !["", ".", ".."].contains(&part))
        && !value.chars().any(char::is_control);
    rule(inside, || {
        broken("a glob relative to the recipe's directory, without '.' and '..'")
    })?;
    match glob::Pattern::new(value) {
        Ok(_) => Ok(()),
        Err(error) => Err(broken(format!("a glob: {}", error.msg))),
    }
}

/// A profile's name.
pub(super) fn profile(name: &str) -> Result<(), Broken> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let holds =
        (1..=64).contains(&name.len()) && !name.starts_with('-') && name.bytes().all(allowed);
    rule(holds, || {
        broken("lower case letters, digits and '-', at most 64")
    })
}

#[cfg(test)]
mod tests {
    use super::{
        Broken, boot_argument, file_path, glob_below, mode, owner, package, pattern, removable,
        unit,
    };

    #[test]
    fn what_is_right_is_taken() {
        type Rule = fn(&str) -> Result<(), Broken>;
        let table: [(Rule, &[&str]); 8] = [
            (
                package,
                &[
                    "jq",
                    "g++",
                    "libstdc++6",
                    "0ad",
                    "python3.11",
                    "dbus-user-session",
                ],
            ),
            (
                unit,
                &[
                    "ssh.service",
                    "getty@.service",
                    "getty@tty1.service",
                    "dev-disk-by\\x2dlabel.swap",
                    "a:b.path",
                ],
            ),
            (
                file_path,
                &["/etc/a b", "/etc/runner", "/processes/x", "/é"],
            ),
            (
                removable,
                &[
                    "/usr/share/doc",
                    "/var/lib/apt/lists",
                    "/var/cache/apt",
                    "/boot/old",
                    "/opt/vendor",
                ],
            ),
            (
                owner,
                &["root:root", "0:0", "_apt:nogroup", "4294967295:a.b-c"],
            ),
            (
                pattern,
                &[
                    "swap",
                    "^LABEL=(a|b)[[:space:]]",
                    "a{2}",
                    "\\.",
                    "x-[0-9]+",
                    "a*b?c",
                    "[^a]*x",
                    "\\(x\\)",
                    "--",
                ],
            ),
            (
                boot_argument,
                &[
                    "quiet",
                    "console=ttyAMA0,115200",
                    "root=PARTUUID=1-2",
                    "a.b=/x@y%z~+",
                ],
            ),
            (glob_below, &["a", "a/*.sh", "**/x", "[a-c]/?", ".hidden"]),
        ];
        for (rule, values) in table {
            for value in values {
                assert_eq!(rule(value), Ok(()), "{value}");
            }
        }
        for (text, bits) in [
            ("0644", 0o644),
            ("755", 0o755),
            ("07777", 0o7777),
            ("0000", 0),
        ] {
            assert_eq!(mode(text), Ok(bits));
        }
    }
}
