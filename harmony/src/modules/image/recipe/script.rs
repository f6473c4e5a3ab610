//! The script that sets an image up.
//!
//! Its functions are fixed text (`setup.sh`), which data reaches as quoted arguments only.

use harmony_base::words::{NulInWord, ShellWord};

use super::check::Layer;
use crate::domain::topology::linux_host::HostFile;

/// The variable that tells the script where it runs: `guest`, booted and as root, where its output goes to the
/// console; or `chroot`, where nothing is running and its output is its standard output.
pub const SCRIPT_ENVIRONMENT: &str = "HARMONY_RECIPE_ENVIRONMENT";

const FUNCTIONS: &str = include_str!("setup.sh");

/// What decides how packages are installed is written before they are.
const EARLY: [&str; 3] = ["/etc/apt/", "/etc/dpkg/", "/etc/initramfs-tools/"];

/// One step: what it says, and its body of shell commands.
struct Step {
    what: String,
    body: String,
}

/// The script for a merged recipe. Equal recipes have equal scripts.
pub(super) fn generate(layer: &Layer, boot_arguments: &[String]) -> Result<String, NulInWord> {
    let (early, late): (Vec<_>, Vec<_>) = layer
        .files
        .values()
        .partition(|file| EARLY.iter().any(|dir| file.path.starts_with(dir)));
    let steps = [
        on_all("mask {} units", "mask_units", &layer.mask),
        put("write {} files of the package manager", &early),
        on_all("install {} packages", "install_packages", &layer.packages),
        put("write {} files", &late),
        on_all(
            "remove the lines of /etc/fstab that match {} patterns",
            "fstab_lines without_matches",
            &layer.fstab_remove,
        ),
        on_all(
            "set nofail for {} mount points in /etc/fstab",
            "fstab_lines with_nofail",
            &layer.fstab_nofail,
        ),
        grub(boot_arguments),
        on_all("disable {} units", "disable_units", &layer.disable),
        on_all("enable {} units", "enable_units", &layer.enable),
        on_all(
            "remove {} directories",
            "remove_directories",
            &layer.cleanup,
        ),
    ];
    let steps: Result<Vec<Option<Step>>, _> = steps.into_iter().collect();
    let steps: Vec<Step> = steps?.into_iter().flatten().collect();
    let mut script = format!(
        "#!/bin/sh\n# Sets up a device image, as root. Generated from a recipe by harmony.\n{FUNCTIONS}\nsteps={}\n",
        steps.len()
    );
    for (index, step) in steps.iter().enumerate() {
        let number = index + 1;
        script.push_str(&format!(
            "\nstep_{number}() {{\n{}}}\nstep {number} {} step_{number}\n",
            step.body,
            ShellWord::new(&step.what)?
        ));
    }
    script.push_str("\nfinished=yes\n");
    Ok(script)
}

/// A step that gives all the values to one command; `{}` in what it says becomes their number.
fn on_all<'a>(
    what: &str,
    command: &str,
    values: impl IntoIterator<Item = &'a String>,
) -> Result<Option<Step>, NulInWord> {
    let mut body = format!("  {command}");
    let mut number = 0;
    for value in values {
        body.push_str(&format!(" \\\n    {}", ShellWord::new(value)?));
        number += 1;
    }
    body.push('\n');
    let what = what.replace("{}", &number.to_string());
    Ok((number > 0).then_some(Step { what, body }))
}

fn put(what: &str, files: &[&HostFile]) -> Result<Option<Step>, NulInWord> {
    let mut body = String::new();
    for file in files {
        body.push_str(&format!(
            "  put_file {} {} {:04o} {}\n",
            ShellWord::new(&file.path)?,
            ShellWord::new(&file.owner)?,
            file.mode,
            ShellWord::new(&String::from_utf8_lossy(&file.content))?
        ));
    }
    let what = what.replace("{}", &files.len().to_string());
    Ok((!files.is_empty()).then_some(Step { what, body }))
}

fn grub(arguments: &[String]) -> Result<Option<Step>, NulInWord> {
    if arguments.is_empty() {
        return Ok(None);
    }
    // The arguments are free of what a shell or GRUB takes for something else.
    let arguments = arguments.join(" ");
    let config = format!("GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX {arguments}\"\n");
    Ok(Some(Step {
        what: format!("give the kernel {arguments}"),
        body: format!("  set_boot_arguments {}\n", ShellWord::new(&config)?),
    }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::process::Command;

    use proptest::collection::btree_set;
    use proptest::test_runner::{Config, TestRunner};

    use super::{on_all, put};
    use crate::domain::topology::linux_host::HostFile;

    /// What `sh` gives to a command that the script calls.
    fn words(functions: &str, body: &str) -> Vec<String> {
        let output = Command::new("sh")
            .args(["-euc", &format!("{functions}\n{body}")])
            .output()
            .expect("a shell");
        assert!(output.status.success(), "{body}: {output:?}");
        let text = String::from_utf8(output.stdout).expect("text");
        text.split_terminator('\0').map(str::to_owned).collect()
    }

    #[test]
    fn data_reaches_the_script_s_functions_as_words_whatever_is_in_it() {
        let show = "show() { printf '%s\\0' \"$@\"; }\nput_file() { show \"$@\"; }";
        let anything = btree_set("[^\u{0}]{0,12}|[ $`'\"\\\\\n;&|<>(){}*?~!#-]{1,12}", 1..5);
        let mut runner = TestRunner::new(Config {
            failure_persistence: None,
            ..Config::with_cases(64)
        });
        let tried = runner.run(&anything, |values: BTreeSet<String>| {
            let all = on_all("", "show", &values).expect("no NUL");
            let all = all.expect("a step");
            let expected: Vec<_> = values.iter().cloned().collect();
            proptest::prop_assert_eq!(words(show, &all.body), expected);
            for value in &values {
                let file = HostFile {
                    path: value.clone(),
                    content: value.clone().into_bytes(),
                    owner: "root:root".to_owned(),
                    mode: 0o640,
                };
                let step = put("", &[&file]).expect("no NUL").expect("a step");
                let expected = [value, "root:root", "0640", value];
                proptest::prop_assert_eq!(words(show, &step.body), expected);
            }
            Ok(())
        });
        tried.unwrap_or_else(|error| panic!("{error}"));
    }
}
