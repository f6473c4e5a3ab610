//! The call of `mmdebstrap`, which makes the root file system as a tar archive.

use std::ffi::OsString;
use std::path::Path;

use super::Privileges;
use super::recipe::{Recipe, TreeFile};
use crate::modules::image::error::ImageError;
use crate::modules::image::tool::{HostProgram, Tool};

/// The fields of a package index that [`sources`] reads.
const INDEX_FORMAT: &str = "$(REPO_URI) $(CODENAME) $(LABEL)";

/// Makes the archive `tar` from `recipe`.
pub(super) async fn bootstrap(
    recipe: &Recipe,
    privileges: Privileges,
    tar: &Path,
) -> Result<(), ImageError> {
    let sources = host_sources(recipe.suite).await;
    tracing::info!(?sources, "installing the packages");
    // A root file system is too large for a /tmp in memory.
    let tmp = std::env::var_os("TMPDIR").unwrap_or_else(|| OsString::from("/var/tmp"));
    Tool::new("mmdebstrap")
        .env("TMPDIR", tmp)
        .args(options(recipe, privileges)?)
        .arg(recipe.suite)
        .arg(tar)
        .args(sources)
        .run()
        .await
        .map(drop)
}

fn options(recipe: &Recipe, privileges: Privileges) -> Result<Vec<String>, ImageError> {
    let mode = match privileges {
        Privileges::Root => "root",
        Privileges::User => "unshare",
    };
    let mut options = vec![
        format!("--mode={mode}"),
        format!("--architectures={}", recipe.architecture.debian_name()),
        "--variant=minbase".to_owned(),
        "--format=tar".to_owned(),
    ];
    let each = |name: &str, values: &[&str]| -> Vec<String> {
        values.iter().map(|v| format!("--{name}={v}")).collect()
    };
    options.extend(each("aptopt", &recipe.apt_options));
    options.extend(each("dpkgopt", &recipe.dpkg_options));
    for file in &recipe.early_files {
        options.push(format!("--essential-hook={}", write_file_hook(file)?));
    }
    options.push(format!("--include={}", recipe.packages.join(",")));
    Ok(options)
}

/// A shell command that writes `file` below the directory in its first argument.
fn write_file_hook(file: &TreeFile) -> Result<String, ImageError> {
    let quote = |text: &str| {
        shlex::try_quote(text)
            .map(std::borrow::Cow::into_owned)
            .map_err(|source| ImageError::Layout {
                part: "hooks",
                source: Box::new(source),
            })
    };
    let path = quote(file.path)?;
    let content = quote(&file.content)?;
    Ok(format!(
        "mkdir -p \"$(dirname \"$1\"/{path})\" && printf %s {content} >\"$1\"/{path} && chmod {:04o} \"$1\"/{path}",
        file.mode
    ))
}

/// The `sources.list` lines of `suite` from the mirrors that this host uses. Without any, mmdebstrap takes
/// its own default.
async fn host_sources(suite: &str) -> Vec<String> {
    let apt_get = HostProgram {
        program: "apt-get",
        debian_package: "apt",
    };
    if !apt_get.is_installed() {
        return Vec::new();
    }
    let targets = Tool::new("apt-get")
        .args(["indextargets", "--format", INDEX_FORMAT])
        .arg("Created-By: Packages")
        .run()
        .await;
    match targets {
        Ok(targets) => sources(&targets, suite),
        Err(error) => {
            tracing::warn!(%error, "cannot read this host's package sources, using mmdebstrap's default");
            Vec::new()
        }
    }
}

/// The lines from `targets`, whose lines have the form of [`INDEX_FORMAT`]. A host with another release of
/// Debian has its mirrors too: they are told by the label.
fn sources(targets: &str, suite: &str) -> Vec<String> {
    let of_label = |wanted: &str| {
        targets.lines().find_map(|line| {
            let (uri, rest) = line.split_once(' ')?;
            let (_, label) = rest.split_once(' ')?;
            let usable = uri.starts_with("http://") || uri.starts_with("https://");
            (label == wanted && usable).then_some(uri)
        })
    };
    let line = |uri: &str, suite: String| format!("deb {uri} {suite} main");
    let Some(main) = of_label("Debian") else {
        return Vec::new();
    };
    let mut lines = vec![line(main, suite.to_owned())];
    if targets.lines().any(|l| l.contains("-updates ")) {
        lines.push(line(main, format!("{suite}-updates")));
    }
    if let Some(security) = of_label("Debian-Security") {
        lines.push(line(security, format!("{suite}-security")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::{options, sources, write_file_hook};
    use crate::domain::topology::virtualization::VmArchitecture;
    use crate::modules::image::debian::Privileges;
    use crate::modules::image::debian::recipe::{Recipe, TreeFile};
    use crate::modules::image::tool::Tool;

    #[test]
    fn sources_are_the_mirrors_of_a_debian_host() {
        let bookworm = "http://m/backports/ bookworm-backports Debian Backports\n\
                        http://m/debian/ bookworm Debian\n\
                        http://m/debian/ bookworm-updates Debian\n\
                        http://m/security/ bookworm-security Debian-Security\n\
                        https://other/ cloud-sdk \n";
        let three: &[&str] = &[
            "deb http://m/debian/ bookworm main",
            "deb http://m/debian/ bookworm-updates main",
            "deb http://m/security/ bookworm-security main",
        ];
        let table = [
            (bookworm.to_owned(), three),
            (bookworm.replace("bookworm", "trixie"), three),
            (
                "https://m/ trixie Debian\n".to_owned(),
                &["deb https://m/ bookworm main"],
            ),
            ("http://u/ubuntu/ noble Ubuntu\n".to_owned(), &[]),
            ("cdrom:[x]/ bookworm Debian\n".to_owned(), &[]),
            (String::new(), &[]),
        ];
        for (targets, expected) in table {
            assert_eq!(sources(&targets, "bookworm"), expected, "{targets}");
        }
    }

    #[test]
    fn options_follow_the_recipe_and_the_privileges() {
        let recipe = Recipe::debian_12(VmArchitecture::Aarch64);
        let root = options(&recipe, Privileges::Root).expect("quotable");
        let user = options(&recipe, Privileges::User).expect("quotable");
        assert_eq!(root[0], "--mode=root");
        assert_eq!(user[0], "--mode=unshare");
        assert_eq!(root[1..], user[1..]);
        assert!(root.contains(&"--architectures=arm64".to_owned()));
        let include = root.last().expect("options");
        assert!(include.starts_with("--include=") && include.contains("linux-image-cloud-arm64"));
    }

    #[tokio::test]
    async fn hooks_write_exactly_the_content() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let content = "a 'b' \"$c\" \\n %s `d`\n\n";
        let file = TreeFile {
            path: "etc/x y/z",
            mode: 0o640,
            content: content.to_owned(),
        };
        let hook = write_file_hook(&file).expect("quotable");
        let run = Tool::new("sh").args(["-c", &hook, "sh"]).arg(dir.path());
        run.run().await.expect("success");
        let written = std::fs::read_to_string(dir.path().join(file.path)).expect("written");
        assert_eq!(written, content);
    }
}
