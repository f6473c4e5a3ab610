//! What a guest says of itself, asked with one script: a login costs an emulated guest a second.

use std::collections::BTreeMap;

use harmony::domain::topology::linux_host::HostCommand;
use iot_smoke::Failure;
use iot_smoke::guest::Guest;

/// Prints `key value` lines; a key may come more than once. Runs as root. The shell's own words do most of it:
/// starting a program takes an emulated guest long.
const SCRIPT: &str = r#"
say() { printf '%s %s\n' "$1" "$2"; }
first_line() { line=; { read -r line; } 2>/dev/null <"$1"; }
file() { first_line "$2"; say "$1" "$line"; }
whether() { if test "$2" "$3"; then say "$1" yes; else say "$1" no; fi; }
say machine "$(uname -m)"
file kernel /proc/sys/kernel/osrelease
file cmdline /proc/cmdline
awk -F '\t*: ' '
  /^processor/ { cpus++ }
  /^CPU implementer/ { implementer = $2 }
  /^CPU part/ { part = $2 }
  /^(Features|flags)/ { features = $2 }
  END { print "cpus", cpus; print "cpu", implementer, part; print "cpu_features", features }
' /proc/cpuinfo
say gic "$(cat /proc/device-tree/intc*/compatible 2>/dev/null | tr '\0' ' ')"
say interrupts "$(grep -oE 'IO-APIC|GIC[v-][0-9]+' /proc/interrupts | sort -u | tr '\n' ' ')"
file console /sys/class/tty/console/active
whether efi -d /sys/firmware/efi
whether device_tree -d /proc/device-tree
whether acpi -d /sys/firmware/acpi/tables
whether agent_channel -c /dev/virtio-ports/org.qemu.guest_agent.0
whether rtc -c /dev/rtc0
file rtc_seconds /sys/class/rtc/rtc0/since_epoch
file rng /sys/class/misc/hw_random/rng_available
file product_uuid /sys/class/dmi/id/product_uuid
file product_serial /sys/class/dmi/id/product_serial
for card in /sys/class/net/*; do
  if test -e "$card/device"; then first_line "$card/address"; say card "$line ${card##*/}"; fi
done
for disk in /dev/disk/by-id/virtio-*; do
  if test -b "$disk"; then say disk "${disk#/dev/disk/by-id/virtio-} $(blockdev --getsize64 "$disk")"; fi
done
for port in /sys/bus/pci/devices/*; do
  first_line "$port/class"
  if test "$line" = 0x060400; then
    holds=nothing
    for device in "$port"/????:??:??.?; do if test -e "$device"; then holds=${device##*/}; fi; done
    say root_port "$holds"
  fi
done
for device in /sys/bus/virtio/devices/*; do
  first_line "$device/device"
  if test "$line" = 0x0009; then say share "${device##*/}"; fi
done
"#;

/// What a guest said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GuestFacts(BTreeMap<String, Vec<String>>);

impl GuestFacts {
    /// Asks the guest.
    pub(crate) async fn ask(guest: &Guest) -> Result<Self, Failure> {
        let command = HostCommand::new("sh").args(["-c", SCRIPT, "guest-facts"]);
        Ok(Self::parse(&guest.output(command.as_root()).await?))
    }

    fn parse(text: &str) -> Self {
        let mut facts: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in text.lines() {
            let (key, value) = line.split_once(' ').unwrap_or((line, ""));
            let values = facts.entry(key.to_owned()).or_default();
            values.push(value.trim().to_owned());
        }
        Self(facts)
    }

    /// The only or first value; empty when there is none.
    pub(crate) fn get(&self, key: &str) -> &str {
        self.all(key).next().unwrap_or_default()
    }

    /// All values.
    pub(crate) fn all(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.get(key).into_iter().flatten().map(String::as_str)
    }

    /// Whether a value that is a list of words has this one.
    pub(crate) fn has_word(&self, key: &str, word: &str) -> bool {
        self.get(key).split_whitespace().any(|w| w == word)
    }

    /// The second word of the value whose first word this is, as for disks and cards.
    pub(crate) fn of(&self, key: &str, first: &str) -> Option<&str> {
        self.all(key).find_map(|value| {
            let (name, rest) = value.split_once(' ').unwrap_or((value, ""));
            (name == first).then_some(rest)
        })
    }

    /// PCIe root ports without a device.
    pub(crate) fn empty_root_ports(&self) -> usize {
        self.all("root_port")
            .filter(|holds| *holds == "nothing")
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::GuestFacts;

    #[test]
    fn facts_are_read_line_by_line() {
        let text = "machine aarch64\ncpu_features fp pacafoo jscvt\ngic\ndisk data 1073741824\n\
                    disk other 5\nroot_port nothing\nroot_port 0000:01:00.0\nroot_port nothing\n";
        let facts = GuestFacts::parse(text);
        assert_eq!(facts.get("machine"), "aarch64");
        assert_eq!(facts.get("gic"), "");
        assert_eq!(facts.get("absent"), "");
        assert!(facts.has_word("cpu_features", "jscvt"));
        assert!(!facts.has_word("cpu_features", "paca"));
        assert_eq!(facts.of("disk", "data"), Some("1073741824"));
        assert_eq!(facts.of("disk", "dat"), None);
        assert_eq!(facts.all("disk").count(), 2);
        assert_eq!(facts.empty_root_ports(), 2);
    }
}
