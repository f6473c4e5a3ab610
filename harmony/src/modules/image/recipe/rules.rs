//! The rules for single values of a recipe.

use regex::Regex;

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

/// An absolute path in its shortest form.
pub(super) fn path(path: &str) -> Result<(), Broken> {
    let expected = || broken("an absolute path without '.', '..', '//' or a final '/'");
    let Some(rest) = path.strip_prefix('/') else {
        return Err(expected().fix(format!("write '/{path}'")));
    };
    let normal = rest.split('/').all(|part| !["", ".", ".."].contains(&part));
    rule(normal, expected)?;
    let printable = !path.chars().any(char::is_control);
    rule(printable && path.len() <= PATH_BYTES, || {
        broken(format!(
            "at most {PATH_BYTES} bytes without control characters"
        ))
    })
}

/// The path of a file that is in the image when the guest is off.
pub(super) fn file_path(value: &str) -> Result<(), Broken> {
    path(value)?;
    let volatile = ["/proc", "/sys", "/dev", "/run", "/tmp"];
    rule(!volatile.iter().any(|dir| is_below(value, dir)), || {
        broken("a path outside of /proc, /sys, /dev, /run, /tmp")
            .fix("have systemd-tmpfiles make it: write a file in /etc/tmpfiles.d")
    })
}

fn is_below(path: &str, dir: &str) -> bool {
    path.strip_prefix(dir)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Directories that no image is without. What they are in is kept as well.
const KEPT: [&str; 43] = [
    "/bin",
    "/boot/efi",
    "/boot/grub",
    "/dev",
    "/etc/alternatives",
    "/etc/apt",
    "/etc/cloud",
    "/etc/default",
    "/etc/pam.d",
    "/etc/ssh",
    "/etc/ssl",
    "/etc/systemd/network",
    "/etc/systemd/system",
    "/home",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/media",
    "/mnt",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr/bin",
    "/usr/lib/modules",
    "/usr/lib/systemd/system",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/share/keyrings",
    "/var/backups",
    "/var/cache",
    "/var/lib/cloud",
    "/var/lib/dpkg/info",
    "/var/lib/systemd",
    "/var/log",
    "/var/tmp",
];

/// A directory that may be removed.
pub(super) fn removable(value: &str) -> Result<(), Broken> {
    if value == "/" {
        return Err(not_removable("/"));
    }
    path(value)?;
    if let Some(kept) = KEPT.iter().find(|kept| is_below(kept, value)) {
        return Err(not_removable(kept));
    }
    let volatile = ["/proc", "/sys", "/dev", "/run"];
    rule(!volatile.iter().any(|dir| is_below(value, dir)), || {
        broken("a directory outside of /proc, /sys, /dev, /run").fix("remove the line")
    })
}

fn not_removable(kept: &str) -> Broken {
    broken(format!(
        "a directory that the system can do without, and not one with {kept}"
    ))
    .fix("name the directories in it that can go")
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
    let set_operators = ["&&", "--", "~~"];
    let mut in_class = false;
    let mut previous = ' ';
    let mut chars = pattern.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' if in_class => return false,
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
    !set_operators
        .iter()
        .any(|operator| pattern.contains(operator))
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
