use std::path::Path;

use super::super::{Recipe, RecipeError};
use super::{BASE, parse, violations};
use crate::domain::error::{ErrorKind, HintedError};
use crate::domain::topology::virtualization::VmArchitecture;

/// Below [`BASE`], which has two lines: text, then line, field and value of the one broken rule, and words of what
/// is expected and of the fix.
type Refusal = (
    &'static str,
    usize,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
);

#[rustfmt::skip] // One row a line.
const REFUSALS: &[Refusal] = &[
    ("[packages]\na = [\"Podman\"]", 4, "packages.a[0]", "Podman", "Debian package", "binary package"),
    ("[packages]\na = [\"jq\",\n \"x\"]", 5, "packages.a[1]", "x", "at least 2", ""),
    ("[packages]\na = [\"-y\"]", 4, "packages.a[0]", "-y", "Debian", ""),
    ("[packages]\na = [\"jq-\"]", 4, "packages.a[0]", "jq-", "Debian", ""),
    ("[packages]\na = [\"jq=1.6\"]", 4, "packages.a[0]", "jq=1.6", "Debian", "without version"),
    ("[packages]\na = [\"jq; reboot\"]", 4, "packages.a[0]", "jq; reboot", "Debian", ""),
    ("[services]\nenable = [\"ssh\"]", 4, "services.enable[0]", "ssh", "suffix", "'ssh.service'"),
    ("[services]\nmask = [\"a b.timer\"]", 4, "services.mask[0]", "a b.timer", "letters", ""),
    ("[services]\nmask = [\"../x.timer\"]", 4, "services.mask[0]", "../x.timer", "letters", ""),
    ("[services]\nmask = [\"-x.timer\"]", 4, "services.mask[0]", "-x.timer", "letters", ""),
    ("[services]\nmask = [\".timer\"]", 4, "services.mask[0]", ".timer", "letters", ""),
    ("[services]\nenable = [\"a.path\"]\nmask = [\"a.path\"]", 5, "services.mask[0]", "a.path", "not in services.enable", ""),
    ("[files.\"etc/x\"]\ncontent = ''", 3, "files.\"etc/x\"", "etc/x", "absolute", "'/etc/x'"),
    ("[files.\"/etc/../x\"]\ncontent = ''", 3, "files.\"/etc/../x\"", "/etc/../x", "absolute", ""),
    ("[files.\"/etc//x\"]\ncontent = ''", 3, "files.\"/etc//x\"", "/etc//x", "absolute", ""),
    ("[files.\"/etc/x/\"]\ncontent = ''", 3, "files.\"/etc/x/\"", "/etc/x/", "absolute", ""),
    ("[files.\"/\"]\ncontent = ''", 3, "files.\"/\"", "/", "absolute", ""),
    ("[files.\"/a\\nb\"]\ncontent = ''", 3, "files.\"/a\\nb\"", "/a b", "control", ""),
    ("[files.\"/run/x\"]\ncontent = ''", 3, "files.\"/run/x\"", "/run/x", "/run", "tmpfiles.d"),
    ("[files.\"/a\"]\ncontent = ''\n[files.\"/a/b\"]\ncontent = ''", 5, "files.\"/a/b\"", "/a/b", "not below the file /a", ""),
    ("[files.\"/a\"]\ncontent = \"\\u0000\"", 4, "files.\"/a\".content", "1 bytes", "without NUL", ""),
    ("[files.\"/a\"]\ncontent = ''\nmode = '10000'", 5, "files.\"/a\".mode", "10000", "7777", "0644"),
    ("[files.\"/a\"]\ncontent = ''\nmode = '0o644'", 5, "files.\"/a\".mode", "0o644", "octal", ""),
    ("[files.\"/a\"]\ncontent = ''\nmode = '0888'", 5, "files.\"/a\".mode", "0888", "octal", ""),
    ("[files.\"/a\"]\ncontent = ''\nmode = '+64'", 5, "files.\"/a\".mode", "+64", "octal", ""),
    ("[files.\"/a\"]\ncontent = ''\nmode = ''", 5, "files.\"/a\".mode", "", "octal", ""),
    ("[files.\"/a\"]\ncontent = ''\nowner = 'root'", 5, "files.\"/a\".owner", "root", "user:group", "root:root"),
    ("[files.\"/a\"]\ncontent = ''\nowner = 'a b:c'", 5, "files.\"/a\".owner", "a b:c", "user:group", ""),
    ("[files.\"/a\"]\ncontent = ''\nowner = ':'", 5, "files.\"/a\".owner", ":", "user:group", ""),
    ("[files.\"/a\"]\ncontent = ''\nowner = '0:4294967296'", 5, "files.\"/a\".owner", "0:4294967296", "user:group", ""),
    ("[fstab]\nremove_patterns = ['(']", 4, "fstab.remove_patterns[0]", "(", "unclosed group", ""),
    ("[fstab]\nremove_patterns = ['\\d']", 4, "fstab.remove_patterns[0]", "\\d", "POSIX", "[0-9]"),
    ("[fstab]\nremove_patterns = ['(?i)swap']", 4, "fstab.remove_patterns[0]", "(?i)swap", "POSIX", ""),
    ("[fstab]\nremove_patterns = ['a+?b']", 4, "fstab.remove_patterns[0]", "a+?b", "POSIX", ""),
    ("[fstab]\nremove_patterns = ['[a-z--c]']", 4, "fstab.remove_patterns[0]", "[a-z--c]", "POSIX", ""),
    ("[fstab]\nremove_patterns = ['[\\n]']", 4, "fstab.remove_patterns[0]", "[\\n]", "POSIX", ""),
    ("[fstab]\nremove_patterns = ['.*']", 4, "fstab.remove_patterns[0]", ".*", "not match every line", ""),
    ("[fstab]\nremove_patterns = ['']", 4, "fstab.remove_patterns[0]", "", "not match every line", ""),
    ("[fstab]\nnofail = ['boot']", 4, "fstab.nofail[0]", "boot", "absolute", "'/boot'"),
    ("[cleanup]\nremove_dirs = ['/']", 4, "cleanup.remove_dirs[0]", "/", "do without", ""),
    ("[cleanup]\nremove_dirs = ['/etc']", 4, "cleanup.remove_dirs[0]", "/etc", "do without", "in it"),
    ("[cleanup]\nremove_dirs = ['/usr']", 4, "cleanup.remove_dirs[0]", "/usr", "do without", ""),
    ("[cleanup]\nremove_dirs = ['/usr/lib']", 4, "cleanup.remove_dirs[0]", "/usr/lib", "do without", ""),
    ("[cleanup]\nremove_dirs = ['/var/lib']", 4, "cleanup.remove_dirs[0]", "/var/lib", "do without", ""),
    ("[cleanup]\nremove_dirs = ['/usr/share']", 4, "cleanup.remove_dirs[0]", "/usr/share", "do without", ""),
    ("[cleanup]\nremove_dirs = ['/var/../etc']", 4, "cleanup.remove_dirs[0]", "/var/../etc", "absolute", ""),
    ("[cleanup]\nremove_dirs = ['/proc/x']", 4, "cleanup.remove_dirs[0]", "/proc/x", "/proc", ""),
    ("[cleanup]\nremove_dirs = ['x']", 4, "cleanup.remove_dirs[0]", "x", "absolute", ""),
    ("[kernel.aarch64]\nkernel = {}", 4, "kernel.aarch64.kernel", "nothing", "path, or url and digest", ""),
    ("[kernel.aarch64]\nkernel = { path = '/k', url = 'http://h/k' }", 4, "kernel.aarch64.kernel", "path and url", "path, or", ""),
    ("[kernel.aarch64]\nkernel = { path = 'k' }", 4, "kernel.aarch64.kernel.path", "k", "absolute", ""),
    ("[kernel.aarch64]\nkernel = { url = 'http://h/k', digest = 'md5=00' }", 4, "kernel.aarch64.kernel.digest", "md5=00", "sha256=", "signed"),
    ("[kernel.x86_64]\nkernel = { path = '/k' }\narguments = ['a b']", 5, "kernel.x86_64.arguments[0]", "a b", "one argument", "element"),
    ("[profiles.a.x86_64]\nboot_arguments = ['a\"$(x)']", 4, "profiles.a.x86_64.boot_arguments[0]", "a\"$(x)", "one argument", ""),
    ("[profiles.A.x86_64]\n", 3, "profiles.A", "A", "lower case", ""),
    ("[profiles.a.x86_64]\npackages = ['A']", 4, "profiles.a.x86_64.packages[0]", "A", "Debian", ""),
    ("[profiles.a.x86_64]\nbuild_inputs = ['../x']", 4, "profiles.a.x86_64.build_inputs[0]", "../x", "relative", ""),
    ("[profiles.a.x86_64]\nbuild_inputs = ['/x']", 4, "profiles.a.x86_64.build_inputs[0]", "/x", "relative", ""),
    ("[profiles.a.x86_64]\nbuild_inputs = ['a***']", 4, "profiles.a.x86_64.build_inputs[0]", "a***", "glob", ""),
    // Values of another type.
    ("[services]\nenable = 'a.service'", 4, "services.enable", "'a.service'", "expected a sequence", ""),
    ("[services]\nenable = [1]", 4, "services.enable[0]", "1", "expected a string", ""),
    ("[files.\"/a\"]\nmode = '0644'", 3, "files.\"/a\"", "[files.\"/a\"]", "missing field `content`", ""),
];

#[test]
fn each_broken_rule_is_told_with_line_field_value_bound_and_fix() {
    for &(text, line, field, value, expected, fix) in REFUSALS {
        let found = violations(&format!("{BASE}{text}\n"));
        let [found] = found.as_slice() else {
            panic!("{text}: {found:?}");
        };
        assert_eq!(found.line, Some(line), "{text}: {found:?}");
        assert_eq!(found.field, field, "{text}");
        assert_eq!(found.value.as_deref(), Some(value), "{text}");
        assert!(found.expected.contains(expected), "{text}: {found:?}");
        assert!(
            found.fix.contains(fix) && !found.fix.is_empty(),
            "{text}: {found:?}"
        );
    }
}

#[test]
fn an_unknown_key_is_told_with_the_nearest_known_one() {
    let table = [
        (
            "pakages = 1",
            1,
            "pakages",
            "write 'packages' for 'pakages'",
        ),
        ("[Files]", 1, "Files", "write 'files' for 'Files'"),
        ("[service]", 1, "service", "write 'services' for 'service'"),
        (
            "[services]\nenabel = []",
            2,
            "services.enabel",
            "write 'enable' for 'enabel'",
        ),
        (
            "[services]\nstart = []",
            2,
            "services.start",
            "remove 'start'",
        ),
        (
            "[files.\"/x\"]\ncontent = ''\nowners = ''",
            3,
            "files.\"/x\".owners",
            "write 'owner' for 'owners'",
        ),
        (
            "[fstab]\nremove_pattern = []",
            2,
            "fstab.remove_pattern",
            "write 'remove_patterns' for 'remove_pattern'",
        ),
        (
            "[kernel.arm64]",
            1,
            "kernel.arm64",
            "write 'aarch64' for 'arm64'",
        ),
        (
            "[profiles.a.aarch64]\nboot_args = []",
            2,
            "profiles.a.aarch64.boot_args",
            "write 'boot_arguments' for 'boot_args'",
        ),
        (
            "[profiles.a.aarch64.services]\nmasked = []",
            2,
            "profiles.a.aarch64.services.masked",
            "write 'mask' for 'masked'",
        ),
        (
            "[profiles.a]\nx86-64 = {}",
            2,
            "profiles.a.x86-64",
            "write 'x86_64' for 'x86-64'",
        ),
    ];
    for (text, line, field, fix) in table {
        let found = violations(&format!("{text}\n{BASE}"));
        let [found] = found.as_slice() else {
            panic!("{text}: {found:?}");
        };
        assert_eq!((found.line, found.field.as_str()), (Some(line), field));
        assert_eq!((found.value.as_deref(), found.fix.as_str()), (None, fix));
        assert!(found.expected.contains(", "), "{found:?}");
    }
}

#[test]
fn everything_is_told_at_once_in_the_order_of_the_lines() {
    let text = "descripton = ''\n[base]\ncatalog = 'debian-21'\n[packages]\na = ['A', 'B']\n\
                [services]\nenabel = []\n[files.\"/a\"]\ncontent = ''\nmode = '9'\n";
    let error = Recipe::parse(text, Path::new("r.toml")).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    let message = error.to_string();
    let fields: Vec<_> = violations(text).into_iter().map(|v| v.field).collect();
    let expected = [
        "descripton",
        "base.catalog",
        "packages.a[0]",
        "packages.a[1]",
        "services.enabel",
        "files.\"/a\".mode",
    ];
    assert_eq!(fields, expected);
    for word in [
        "r.toml: line 1: unknown key descripton",
        "line 3: base.catalog is 'debian-21'",
    ] {
        assert!(message.contains(word), "{message}");
    }
    let hint = error.hint().expect("a hint");
    assert!(hint.contains("write 'debian-12'"), "{hint}");

    // A value of another type, and an unknown key, at once.
    let text = format!("{BASE}[services]\nenabel = []\nmask = 3\n");
    let fields: Vec<_> = violations(&text).into_iter().map(|v| v.field).collect();
    assert_eq!(fields, ["services.enabel", "services.mask"]);
}

#[test]
fn a_base_is_named_one_way() {
    let digest = format!("digest = 'sha256={}'", "a".repeat(64));
    let both = format!("{BASE}[base.aarch64]\nurl = 'http://h/i'\n{digest}\n");
    let ftp = format!("[base.aarch64]\nurl = 'ftp://user:secret@h/i'\n{digest}\n");
    for (text, field, value) in [
        (String::new(), "base", "nothing"),
        (both, "base", "catalog and URL"),
        (ftp, "base.aarch64.url", "ftp://"),
    ] {
        let found = violations(&text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].field, field);
        assert_eq!(found[0].value.as_deref(), Some(value));
    }
    let one = format!("[base.aarch64]\nurl = 'http://h/i'\n{digest}\n");
    let recipe = parse(&one);
    let plan = |architecture| recipe.plan(architecture, None, Path::new("/nowhere"));
    assert!(plan(VmArchitecture::Aarch64).is_ok());
    assert!(matches!(
        plan(VmArchitecture::X86_64),
        Err(RecipeError::NoBase {
            architecture: VmArchitecture::X86_64
        })
    ));
}

#[test]
fn text_that_is_no_toml_is_told_with_its_place() {
    let table = [
        ("[base\n", 1, 6),
        ("a = 1\nb = = 2\n", 2, 5),
        ("a = 1\na = 2\n", 2, 1),
    ];
    for (text, line, column) in table {
        match Recipe::parse(text, Path::new("r.toml")) {
            Err(RecipeError::Syntax {
                line: l, column: c, ..
            }) => assert_eq!((l, c), (line, column), "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn a_profile_that_is_not_there_is_told_with_the_nearest() {
    let recipe = parse(&format!("{BASE}[profiles.slow-guest.aarch64]\n"));
    let plan = |architecture, name| recipe.plan(architecture, Some(name), Path::new("/nowhere"));
    let near = plan(VmArchitecture::Aarch64, "slowguest").expect_err("refused");
    assert_eq!(near.hint().as_deref(), Some("did you mean 'slow-guest'?"));
    let other = plan(VmArchitecture::X86_64, "slow-guest").expect_err("refused");
    assert_eq!(
        other.to_string(),
        "the recipe has no profile 'slow-guest' for x86_64 (expected no profile)"
    );
}
