//! What the guest runs: the plan's script, and after it what makes the disk an image. Pure.
//!
//! cloud-init hands over to a unit of the guest's own, so that what it has made is there to be removed when
//! the script has ended.

use harmony_base::words::{NulInWord, ShellWord};

use super::products::GUEST_SCRIPT;
use crate::modules::image::catalog::serial_console;
use crate::modules::image::recipe::{BuildPlan, SCRIPT_ENVIRONMENT};

/// The login user that the seed makes; removed with everything else of the build.
pub(super) const BUILD_USER: &str = "harmony-build";
/// The tag of the disk that files leave the guest on.
pub(super) const OUT_DISK: &str = "harmony-out";
/// What [`GUEST_SCRIPT`] says when the disk is an image.
const CLEAN: &str = "harmony-build: clean";
/// What it says when it cannot make it one.
const FAILED: &str = "harmony-build: failed to ";

/// Stands for the gateway, and for the release's name, until the guest knows them.
pub(super) const GATEWAY: &str = "@gateway@";
pub(super) const CODENAME: &str = "@codename@";

/// What the guest says at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// The disk is an image.
    Clean,
    /// It could not be made one.
    Failed(String),
}

impl Said {
    /// Reads a line of the console.
    pub(super) fn parse(line: &str) -> Option<Self> {
        if line.contains(CLEAN) {
            return Some(Self::Clean);
        }
        let (_, what) = line.split_once(FAILED)?;
        Some(Self::Failed(what.trim_end().to_owned()))
    }
}

/// Where the guest gets its packages from while it is built.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Mirrors {
    /// For each distribution, as `/etc/os-release` has its name, the lines of a `sources.list`.
    pub(super) sources: Vec<(&'static str, String)>,
    /// The proxy for HTTP.
    pub(super) proxy: Option<String>,
}

/// The script for cloud-init.
pub(super) fn setup_script(
    plan: &BuildPlan,
    mirrors: &Mirrors,
    copied_out: &[(&str, &'static str)],
) -> Result<String, NulInWord> {
    let mut files = vec![
        ("setup".to_owned(), plan.setup_script.clone()),
        ("main".to_owned(), main_script(plan, copied_out)?),
        ("apt.conf".to_owned(), apt_config(mirrors)),
    ];
    for (distribution, lines) in &mirrors.sources {
        files.push((format!("sources.{distribution}"), lines.clone()));
    }
    let mut script = "#!/bin/sh\nset -eu\numask 077\nmkdir -p /run/harmony-build\n".to_owned();
    for (name, content) in files {
        let content = ShellWord::new(&content)?;
        script.push_str(&format!("printf %s {content} >/run/harmony-build/{name}\n"));
    }
    script
        .push_str("systemd-run --no-block --unit=harmony-build /bin/sh /run/harmony-build/main\n");
    Ok(script)
}

fn main_script(plan: &BuildPlan, copied_out: &[(&str, &'static str)]) -> Result<String, NulInWord> {
    let said = |path: &str| plan.files.iter().any(|file| file.path == path);
    let mut script = format!(
        "console=/dev/{}\nout=/dev/disk/by-id/virtio-{OUT_DISK}\nbuild_user={BUILD_USER}\n\
         keep_hostname={}\nexport {SCRIPT_ENVIRONMENT}=guest\n{GUEST_SCRIPT}",
        serial_console(plan.architecture),
        if said("/etc/hostname") { "yes" } else { "no" },
    );
    if !copied_out.is_empty() {
        script.push_str("try 'copy files out' copy_all");
        for (path, name) in copied_out {
            script.push_str(&format!(" {} {name}", ShellWord::new(path)?));
        }
        script.push('\n');
    }
    script.push_str("finish\n");
    Ok(script)
}

fn apt_config(mirrors: &Mirrors) -> String {
    let mut config = String::new();
    if let Some(proxy) = &mirrors.proxy {
        config.push_str(&format!("Acquire::http::Proxy \"{proxy}\";\n"));
    }
    config
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::{Command, Stdio};

    use super::{CODENAME, Mirrors, Said, setup_script};
    use crate::domain::topology::virtualization::VmArchitecture;
    use crate::modules::image::recipe::{BuildPlan, Recipe};

    fn plan(files: &str) -> BuildPlan {
        let text = format!("[base]\ncatalog = 'debian-12'\n{files}");
        let recipe = Recipe::parse(&text, Path::new("test.toml")).expect("a recipe");
        let plan = recipe.plan(VmArchitecture::Aarch64, None, Path::new("/"));
        plan.expect("a plan")
    }

    fn mirrors() -> Mirrors {
        Mirrors {
            sources: vec![("debian", format!("deb http://m/ {CODENAME} main\n"))],
            proxy: Some("http://@gateway@:3128/".to_owned()),
        }
    }

    /// What the shell makes of the script with its `systemd-run` and its directory replaced.
    fn unpacked(script: &str, dir: &Path) {
        let script = script
            .replace("/run/harmony-build", &dir.display().to_string())
            .replace("systemd-run", ": systemd-run");
        let run = Command::new("sh")
            .args(["-c", &script])
            .stdin(Stdio::null())
            .status();
        assert!(run.expect("a shell").success());
    }

    #[test]
    fn the_guest_gets_exactly_the_files_and_its_shell_reads_them() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let files = "[files.'/etc/x']\ncontent = \"a 'b' $c \\\\n `d`\"\n";
        let plan = plan(files);
        let copied_out = [("/boot/it's", "vmlinuz")];
        let script = setup_script(&plan, &mirrors(), &copied_out).expect("no NUL");
        unpacked(&script, dir.path());
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect(name);
        assert_eq!(read("setup"), plan.setup_script);
        assert_eq!(read("sources.debian"), "deb http://m/ @codename@ main\n");
        assert_eq!(
            read("apt.conf"),
            "Acquire::http::Proxy \"http://@gateway@:3128/\";\n"
        );
        let main = read("main");
        assert!(main.contains("console=/dev/ttyAMA0\n"), "{main}");
        assert!(main.contains("keep_hostname=no\n"), "{main}");
        let mut check = Command::new("sh");
        let checked = check.arg("-n").arg(dir.path().join("main")).status();
        assert!(checked.expect("a shell").success());
        let copy = main.lines().find(|line| line.contains(" vmlinuz"));
        let words = shlex::split(copy.expect("a line")).expect("words");
        let expected = ["try", "copy files out", "copy_all", "/boot/it's", "vmlinuz"];
        assert_eq!(words, expected);
    }

    #[test]
    fn a_host_name_of_the_recipes_is_kept_and_nothing_is_copied_unasked() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let plan = plan("[files.'/etc/hostname']\ncontent = 'edge'\n");
        let script = setup_script(&plan, &Mirrors::default(), &[]).expect("no NUL");
        unpacked(&script, dir.path());
        let main = std::fs::read_to_string(dir.path().join("main")).expect("written");
        assert!(main.contains("keep_hostname=yes\n"));
        assert!(!main.contains("try 'copy files out'"));
        assert!(main.ends_with("finish\n"));
    }

    #[test]
    fn the_guests_last_words_are_understood() {
        let failed = Said::Failed("reset the disk (exit status 1)".to_owned());
        let table = [
            ("edge login: harmony-build: clean\r", Some(Said::Clean)),
            (
                "harmony-build: failed to reset the disk (exit status 1)\r",
                Some(failed),
            ),
            ("harmony-build: else", None),
        ];
        for (line, expected) in table {
            assert_eq!(Said::parse(line), expected, "{line}");
        }
    }
}
