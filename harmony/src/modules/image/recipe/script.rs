//! The script that sets an image up.
//!
//! Its functions are fixed text (`setup.sh`), which data reaches as quoted arguments only.

use std::borrow::Cow;

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
pub(super) fn generate(layer: &Layer, boot_arguments: &[String]) -> String {
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
    let steps: Vec<Step> = steps.into_iter().flatten().collect();
    let mut script = format!(
        "#!/bin/sh\n# Sets up a device image, as root. Generated from a recipe by harmony.\n{FUNCTIONS}\nsteps={}\n",
        steps.len()
    );
    for (index, step) in steps.iter().enumerate() {
        let number = index + 1;
        script.push_str(&format!(
            "\nstep_{number}() {{\n{}}}\nstep {number} {} step_{number}\n",
            step.body,
            quote(&step.what)
        ));
    }
    script.push_str("\nfinished=yes\n");
    script
}

/// A step that gives all the values to one command; `{}` in what it says becomes their number.
fn on_all<'a>(
    what: &str,
    command: &str,
    values: impl IntoIterator<Item = &'a String>,
) -> Option<Step> {
    let words: Vec<_> = values.into_iter().map(|value| quote(value)).collect();
    if words.is_empty() {
        return None;
    }
    Some(Step {
        what: what.replace("{}", &words.len().to_string()),
        body: format!("  {command} \\\n    {}\n", words.join(" \\\n    ")),
    })
}

fn put(what: &str, files: &[&HostFile]) -> Option<Step> {
    if files.is_empty() {
        return None;
    }
    let lines = files.iter().map(|file| {
        let content = String::from_utf8_lossy(&file.content);
        format!(
            "  put_file {} {} {:04o} {}\n",
            quote(&file.path),
            quote(&file.owner),
            file.mode,
            quote(&content)
        )
    });
    Some(Step {
        what: what.replace("{}", &files.len().to_string()),
        body: lines.collect(),
    })
}

fn grub(arguments: &[String]) -> Option<Step> {
    if arguments.is_empty() {
        return None;
    }
    // The arguments are free of what a shell or GRUB takes for something else.
    let arguments = arguments.join(" ");
    let config = format!("GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX {arguments}\"\n");
    Some(Step {
        what: format!("give the kernel {arguments}"),
        body: format!("  set_boot_arguments {}\n", quote(&config)),
    })
}

/// One word of the shell. NUL, which none can have, was refused by the checks.
fn quote(text: &str) -> Cow<'_, str> {
    shlex::try_quote(text)
        .unwrap_or_else(|_| Cow::Owned(quote(&text.replace('\0', "")).into_owned()))
}
