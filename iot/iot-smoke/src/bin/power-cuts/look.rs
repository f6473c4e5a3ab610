//! A look at a device from inside.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use harmony::domain::topology::linux_host::HostCommand;
use harmony::modules::iot::device::{AGENT_HOME, AGENT_UNIT, CONTAINERS_USER};
use iot_smoke::Failure;
use iot_smoke::guest::Guest;
use serde_json::Value;

/// What each section begins with.
const SECTION: &str = "\n=== ";

/// Prints a section for each thing that is looked at. `$1` is the agent's state directory, `$2` its unit, `$3` the
/// containers' user.
const SCRIPT: &str = r#"set -eu
section() { printf '\n=== %s\n' "$1"; }
section state-directory
find "$1" -mindepth 1 -printf '%y %P\n'
section program
pid=$(systemctl show --value --property=MainPID "$2")
if ! sha256sum "/proc/$pid/exe" 2>/dev/null; then echo gone; fi
section record
if [ -e "$1/slots/record" ]; then cat "$1/slots/record"; fi
section desired-state
if [ -e "$1/desired-state" ]; then cat "$1/desired-state"; fi
section kernel
journalctl --no-pager --quiet --boot --dmesg --output=cat
section file-system
tune2fs -l "$(findmnt --noheadings --output=SOURCE /)"
section failed
systemctl list-units --failed --plain --no-legend
runuser -u "$3" -- env --chdir=/ "XDG_RUNTIME_DIR=/run/user/$(id -u "$3")" \
  systemctl --user list-units --failed --plain --no-legend
section system
# Its status says the same as its word.
systemctl is-system-running || :
"#;

/// A container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FoundContainer {
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) image: String,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// All containers, also those that only Podman's storage knows.
    pub(crate) containers: Vec<FoundContainer>,
    /// What is in the agent's state directory: types and paths, as find(1) has them.
    pub(crate) state_directory: Vec<String>,
    /// The digest of the agent's running program, or `gone`.
    pub(crate) program: String,
    /// The agent's record of its updates.
    pub(crate) record: Option<String>,
    /// The agent's file with what it follows.
    pub(crate) desired_state: String,
    /// What the kernel has said since the boot.
    pub(crate) kernel: String,
    /// The superblock of the root file system, as tune2fs(8) has it.
    pub(crate) file_system: String,
    /// The word of `systemctl is-system-running`.
    pub(crate) system: String,
    /// The units that have failed, also of the containers' user.
    pub(crate) failed_units: BTreeSet<String>,
}

impl Found {
    /// Looks.
    pub(crate) async fn on(guest: &Guest) -> Result<Self, Failure> {
        let script = HostCommand::new("sh").args(["-c", SCRIPT, "look"]);
        let script = script.args([AGENT_HOME, AGENT_UNIT, CONTAINERS_USER]);
        let said = guest.output(script.as_root()).await?;
        Self::read(&said, &guest.containers_and_leftovers().await?)
    }

    fn read(said: &str, listed: &[Value]) -> Result<Self, Failure> {
        let sections: BTreeMap<&str, &str> = said
            .split(SECTION)
            .filter_map(|section| section.split_once('\n'))
            .collect();
        let section = |name: &str| {
            let section = sections.get(name).copied();
            section.ok_or_else(|| format!("the look has no section '{name}': {said}"))
        };
        let first_words = |text: &str| {
            let lines = text
                .lines()
                .filter_map(|line| line.split_whitespace().next());
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let record = section("record")?;
        let program = first_words(section("program")?);
        Ok(Self {
            containers: listed.iter().map(container).collect(),
            state_directory: section("state-directory")?
                .lines()
                .map(str::to_owned)
                .collect(),
            program: program.into_iter().next().unwrap_or_default(),
            record: (!record.is_empty()).then(|| record.to_owned()),
            desired_state: section("desired-state")?.to_owned(),
            kernel: section("kernel")?.to_owned(),
            file_system: section("file-system")?.to_owned(),
            system: section("system")?.trim().to_owned(),
            failed_units: first_words(section("failed")?).into_iter().collect(),
        })
    }
}

/// One of Podman's list.
fn container(listed: &Value) -> FoundContainer {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    FoundContainer {
        name: text(&listed["Names"][0]),
        state: text(&listed["State"]),
        image: text(&listed["Image"]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Found;

    const SAID: &str = "\n=== state-directory\nf desired-state\nd slots\n\n=== program\n00aa  /proc/7/exe\n\
        \n=== record\n\n=== desired-state\nhead 1\n{\"a\":1}\n=== kernel\nBooting\n\n=== file-system\nFilesystem state: clean\n\
        \n=== failed\na.service loaded failed failed A\n\n=== system\nrunning\n";

    #[test]
    fn sections_are_read_to_the_byte() {
        let listed = [
            json!({ "Names": ["harmony.web.workload"], "State": "running", "Image": "r/a:1", "Pid": 7 }),
            json!({ "Names": ["left"], "State": "storage", "Image": "" }),
        ];
        let found = Found::read(SAID, &listed).unwrap();
        assert_eq!(found.state_directory, ["f desired-state", "d slots"]);
        assert_eq!(found.program, "00aa");
        assert_eq!(found.record, None);
        assert_eq!(found.desired_state, "head 1\n{\"a\":1}");
        assert_eq!(found.kernel, "Booting\n");
        assert_eq!(found.system, "running");
        assert_eq!(found.failed_units, ["a.service".to_owned()].into());
        let names: Vec<_> = found.containers.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["harmony.web.workload", "left"]);
        assert_eq!(found.containers[1].state, "storage");
    }

    #[test]
    fn a_look_that_broke_off_is_none() {
        let (cut, _) = SAID.split_once("\n=== failed").unwrap();
        let error = Found::read(cut, &[]).unwrap_err();
        assert!(error.to_string().contains("no section"), "{error}");
    }
}
