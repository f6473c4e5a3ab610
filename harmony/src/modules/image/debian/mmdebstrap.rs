//! The call of `mmdebstrap`, which makes the root file system as a tar archive.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use harmony_base::words::ShellWord;

use super::Privileges;
use super::composition::{Composition, TreeFile, TreeLink};
use super::native::{self, NativePrograms};
use crate::domain::topology::virtualization::VmArchitecture;
use crate::modules::image::build::{BuildError, Progress};
use crate::modules::image::error::ImageError;
use crate::modules::image::recipe::SCRIPT_ENVIRONMENT;
use crate::modules::image::store::io_error;
use crate::modules::image::tool::tool;

/// `mmdebstrap`'s own way to a tree whose `/bin` and `/lib` are links into `/usr` from the beginning, for releases
/// that have a package for it.
const MAYBE_MERGED_USR: &str = "/usr/share/mmdebstrap/hooks/maybe-merged-usr";

/// Where the set-up script is while it runs.
const SETUP_SCRIPT: &str = "/harmony-setup";

/// Makes the archive `tar` from `composition`, with `dir` for what is needed on the way.
pub(super) async fn bootstrap(
    composition: &Composition,
    privileges: Privileges,
    dir: &Path,
    tar: &Path,
) -> Result<(), BuildError> {
    let sources = composition.suite.host_sources().await;
    let native = NativePrograms::for_tree(composition, privileges, dir, &sources).await?;
    let usually = usual_time(composition.architecture, native.as_ref());
    tracing::info!(?sources, usually, "installing the packages");
    // A root file system is too large for a /tmp in memory.
    let tmp = std::env::var_os("TMPDIR").unwrap_or_else(|| OsString::from("/var/tmp"));
    let mut program = tool("mmdebstrap").env("TMPDIR", tmp).args(options(
        composition,
        privileges,
        native.as_ref(),
    )?);
    if native.is_some() {
        let (name, value) = native::NO_INITRAMFS;
        program = program.first_on_path(native::PATH).env(name, value);
    }
    if let Some(script) = &composition.setup_script {
        let path = dir.join("setup.sh");
        write_private(&path, script)?;
        program = program.args(script_hooks(&path)?);
    }
    if let Some(native) = &native {
        program = program.args(native.leave_hooks()?);
    }
    let mut progress = Progress::default();
    let run = program
        .arg(composition.suite.codename)
        .arg(tar)
        .args(sources)
        .run_watched(&mut |line| {
            progress.take(line);
            tell_stage(line);
        })
        .await;
    let run = run.map_err(ImageError::from);
    outcome(run, &progress, composition.setup_script.is_some())
}

/// How long it takes on two cores, for who waits.
fn usual_time(architecture: VmArchitecture, native: Option<&NativePrograms>) -> &'static str {
    match native {
        _ if VmArchitecture::of_host() == Some(architecture) => "1 min",
        Some(_) => "3 min, in part emulated",
        None => "10 min, emulated",
    }
}

/// Passes on what `mmdebstrap` says of its longer stages.
fn tell_stage(line: &str) {
    const STAGES: [&str; 4] = ["downloading", "extracting", "installing", "creating"];
    let stage = line.strip_prefix("I: ").unwrap_or_default();
    if STAGES.iter().any(|known| stage.starts_with(known)) {
        tracing::info!("{}", stage.trim_end_matches('.'));
    }
}

/// The script may have secrets in it.
fn write_private(path: &Path, text: &str) -> Result<(), ImageError> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|source| io_error("write", path, source))
}

/// What came of it: a failed program is a failed step when the script was at one.
fn outcome(
    run: Result<String, ImageError>,
    progress: &Progress,
    has_script: bool,
) -> Result<(), BuildError> {
    match run {
        Err(_) if progress.has_failed() => Err(BuildError::StepFailed {
            place: progress.place(),
            output: progress.output(),
            console: None,
        }),
        Err(error) => Err(error.into()),
        Ok(_) if has_script && !progress.is_done() => Err(BuildError::Unfinished {
            place: progress.place(),
            how: progress.output(),
            console: None,
        }),
        Ok(_) => Ok(()),
    }
}

fn options(
    composition: &Composition,
    privileges: Privileges,
    native: Option<&NativePrograms>,
) -> Result<Vec<String>, ImageError> {
    let mut options = vec![
        format!("--mode={}", privileges.mmdebstrap_mode()),
        format!("--architectures={}", composition.architecture.debian_name()),
        "--variant=minbase".to_owned(),
        "--format=tar".to_owned(),
    ];
    // A tree that is merged from the beginning needs no package, and no perl, that merges it.
    if Path::new(MAYBE_MERGED_USR).exists() {
        options.push(format!("--hook-dir={MAYBE_MERGED_USR}"));
    }
    if let Some(native) = native {
        options.extend(native.enter_hooks()?);
    }
    let each = |name: &str, values: &[&str]| -> Vec<String> {
        values.iter().map(|v| format!("--{name}={v}")).collect()
    };
    options.extend(each("aptopt", &composition.apt_options));
    options.extend(each("dpkgopt", &composition.dpkg_options));
    for file in &composition.early_files {
        options.push(format!("--essential-hook={}", write_file_hook(file)?));
    }
    if let Some(native) = native {
        options.extend(native.take_hooks());
    }
    options.push(format!("--include={}", composition.packages.join(",")));
    for file in &composition.files {
        options.push(format!("--customize-hook={}", write_file_hook(file)?));
    }
    for link in &composition.links {
        options.push(format!("--customize-hook={}", link_hook(link)?));
    }
    Ok(options)
}

/// The hooks that run the set-up script, which is the host's file `path`: it may have secrets in it, which
/// are not for a command line.
fn script_hooks(path: &Path) -> Result<Vec<String>, ImageError> {
    let path = path.to_string_lossy();
    let path = ShellWord::new(&path)?;
    Ok(vec![
        format!("--customize-hook=upload {path} {SETUP_SCRIPT}"),
        format!(
            "--customize-hook=chroot \"$1\" env {SCRIPT_ENVIRONMENT}=chroot sh {SETUP_SCRIPT} </dev/null >&2"
        ),
        format!("--customize-hook=rm \"$1\"{SETUP_SCRIPT}"),
    ])
}

/// A shell command that writes `file` below the directory in its first argument.
fn write_file_hook(file: &TreeFile) -> Result<String, ImageError> {
    let path = ShellWord::new(file.path)?;
    let content = ShellWord::new(&file.content)?;
    Ok(format!(
        "mkdir -p \"$(dirname \"$1\"/{path})\" && printf %s {content} >\"$1\"/{path} && chmod {:04o} \"$1\"/{path}",
        file.mode
    ))
}

/// A shell command that makes `link` below the directory in its first argument.
fn link_hook(link: &TreeLink) -> Result<String, ImageError> {
    let path = ShellWord::new(link.path)?;
    let target = ShellWord::new(link.target)?;
    Ok(format!(
        "mkdir -p \"$(dirname \"$1\"/{path})\" && ln -sfn {target} \"$1\"/{path}"
    ))
}

#[cfg(test)]
mod tests {
    use super::{link_hook, options, outcome, write_file_hook};
    use crate::domain::topology::virtualization::VmArchitecture;
    use crate::modules::image::build::{BuildError, Progress};
    use crate::modules::image::debian::Privileges;
    use crate::modules::image::debian::composition::{Composition, TreeFile, TreeLink};
    use crate::modules::image::debian::suite::Suite;
    use crate::modules::image::error::ImageError;
    use crate::modules::image::tool::tool;

    #[test]
    fn options_follow_the_composition_and_the_privileges() {
        let composition = Composition::plain(Suite::DEBIAN_12, VmArchitecture::Aarch64);
        let root = options(&composition, Privileges::Root, None).expect("quotable");
        let user = options(&composition, Privileges::User, None).expect("quotable");
        assert_eq!(root[0], "--mode=root");
        assert_eq!(user[0], "--mode=unshare");
        assert_eq!(root[1..], user[1..]);
        assert!(root.contains(&"--architectures=arm64".to_owned()));
        let include = root.iter().find(|o| o.starts_with("--include="));
        assert!(include.is_some_and(|o| o.contains("linux-image-cloud-arm64")));
    }

    #[tokio::test]
    async fn hooks_write_exactly_the_content_and_the_link() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let content = "a 'b' \"$c\" \\n %s `d`\n\n";
        let file = TreeFile {
            path: "etc/x y/z",
            mode: 0o640,
            content: content.to_owned(),
        };
        let link = TreeLink {
            path: "etc/x y/link",
            target: "/dev/null",
        };
        let run = async |hook: String| {
            let run = tool("sh").args(["-c", &hook, "sh"]).arg(dir.path());
            run.run().await.expect("success");
        };
        run(write_file_hook(&file).expect("quotable")).await;
        run(link_hook(&link).expect("quotable")).await;
        run(link_hook(&link).expect("quotable")).await;
        let written = std::fs::read_to_string(dir.path().join(file.path)).expect("written");
        assert_eq!(written, content);
        let target = std::fs::read_link(dir.path().join(link.path)).expect("a link");
        assert_eq!(target, std::path::Path::new("/dev/null"));
    }

    #[test]
    fn a_failed_step_is_told_from_a_failed_program() {
        let tool = || {
            Err(ImageError::Tool {
                program: "mmdebstrap",
                status: "exit status 25".to_owned(),
                stderr_tail: "E: x".to_owned(),
            })
        };
        let mut progress = Progress::default();
        let early = outcome(tool(), &progress, true);
        assert!(matches!(
            early,
            Err(BuildError::Image(ImageError::Tool { .. }))
        ));
        for line in [
            "harmony-recipe: step 2/5: services",
            "Unit x.service does not exist",
            "harmony-recipe: failed step 2 (exit status 1)",
        ] {
            progress.take(line);
        }
        match outcome(tool(), &progress, true) {
            Err(BuildError::StepFailed {
                place,
                output,
                console: None,
            }) => {
                assert_eq!(place, "step 2/5 (services)");
                assert_eq!(output, "Unit x.service does not exist");
            }
            other => panic!("{other:?}"),
        }
        let silent = outcome(Ok(String::new()), &Progress::default(), true);
        assert!(matches!(silent, Err(BuildError::Unfinished { .. })));
        assert!(outcome(Ok(String::new()), &Progress::default(), false).is_ok());
    }
}
