//! What every guest is looked at for, from inside.

use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use harmony::domain::topology::linux_host::{HostCommand, HostFile, LinuxHost};
use harmony::domain::topology::virtualization::{MachineIdentity, VmArchitecture};
use iot_smoke::Failure;
use iot_smoke::guest::Guest;
use tokio::time::{Instant, sleep};

use crate::facts::GuestFacts;
use crate::instruction;
use crate::lane::{DATA_GIB, DATA_TAG, Lane, SHARES};
use crate::session::Session;
use crate::table::Row;

/// How far the guest's real-time clock may be from this host's clock.
const CLOCK_BOUND_SECONDS: u64 = 60;

/// How long a line may take from the guest's console into the log: it goes through libvirt's log daemon.
const CONSOLE_BOUND: Duration = Duration::from_secs(10);

/// The root ports that a guest can be plugged into.
const SPARE_PORTS: usize = 4;

const GIB: u64 = 1 << 30;

/// Every row about a guest that has just booted for the first time.
pub(crate) async fn examine(session: &mut Session<'_>, guest: &Guest) -> Result<(), Failure> {
    let before = unix_seconds();
    let facts = GuestFacts::ask(guest).await?;
    let asked = before..=unix_seconds();
    let identity = session.identity().await?;
    let lane = session.lane;
    session.rows.extend(machine_rows(lane, &facts));
    session.add(clock_row(&facts, &asked));
    session.rows.extend(identity_rows("", &facts, &identity));
    session.rows.extend(device_rows("", &facts));
    session.add(Row::equal(
        "empty root ports",
        SPARE_PORTS,
        facts.empty_root_ports(),
    ));
    session.add(Row::equal(
        "devices of shares",
        SHARES.len(),
        facts.all("share").count(),
    ));
    let second = identity.macs.get(1).map_or("", String::as_str);
    let address = session.card_address(guest, &facts, second).await?;
    let has_one = address.parse::<std::net::Ipv4Addr>().is_ok();
    session.add(Row::holds(
        "second card's address",
        "an IPv4 address",
        address,
        has_one,
    ));
    session.add(console_row(session, guest).await?);
    if lane.architecture() == VmArchitecture::Aarch64 {
        session.add(instruction_row(lane, guest).await?);
    }
    Ok(())
}

/// CPU, interrupt controller, console, firmware, sources of randomness and channels.
fn machine_rows(lane: Lane, facts: &GuestFacts) -> Vec<Row> {
    let equal = |name: &str, key: &str, expected: &str| Row::equal(name, expected, facts.get(key));
    let mut rows = vec![
        equal("uname -m", "machine", lane.architecture().as_str()),
        equal("CPUs", "cpus", "2"),
        Row::equal("UEFI", yes_no(lane.has_uefi()), facts.get("efi")),
        equal("real-time clock", "rtc", "yes"),
        Row::holds(
            "source of randomness",
            "virtio_rng",
            facts.get("rng"),
            facts
                .get("rng")
                .split(' ')
                .any(|rng| rng.starts_with("virtio_rng")),
        ),
        equal("guest agent's channel", "agent_channel", "yes"),
    ];
    rows.extend(match lane {
        Lane::X86Bios | Lane::X86Uefi => vec![
            // QEMU's CPU `max` has AVX2; its default, qemu64, has not.
            feature_row(facts, "avx2", true),
            equal("interrupt controller", "interrupts", "IO-APIC"),
            equal("console", "console", "ttyS0"),
            equal("ACPI", "acpi", "yes"),
        ],
        Lane::ArmFastest | Lane::ArmRaspberryPi5 => arm_rows(lane, facts),
    });
    rows
}

fn arm_rows(lane: Lane, facts: &GuestFacts) -> Vec<Row> {
    // MIDR_EL1: QEMU's `max` calls itself implementer 0, part 0x51; Cortex-A76 is Arm's part 0xd0b.
    let (cpu, is_newest) = match lane {
        Lane::ArmRaspberryPi5 => ("0x41 0xd0b", false),
        _ => ("0x00 0x051", true),
    };
    vec![
        Row::equal("CPU implementer, part", cpu, facts.get("cpu")),
        // Left out of the fastest CPU, and not there in the Raspberry Pi 5's.
        feature_row(facts, "paca", false),
        feature_row(facts, "pacg", false),
        feature_row(facts, "jscvt", is_newest),
        feature_row(facts, "atomics", true),
        Row::equal(
            "interrupt controller, device tree",
            "arm,gic-v3",
            facts.get("gic"),
        ),
        Row::equal(
            "interrupt controller, in use",
            "GICv3",
            facts.get("interrupts"),
        ),
        Row::equal("console", "ttyAMA0", facts.get("console")),
        Row::equal("device tree", "yes", facts.get("device_tree")),
        Row::equal("ACPI", "no", facts.get("acpi")),
    ]
}

fn feature_row(facts: &GuestFacts, feature: &str, expected: bool) -> Row {
    let found = facts.has_word("cpu_features", feature);
    Row::equal(
        format!("CPU feature {feature}"),
        yes_no(expected),
        yes_no(found),
    )
}

fn yes_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

fn unix_seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// `asked` is when the guest was asked, by the host's clock.
fn clock_row(facts: &GuestFacts, asked: &RangeInclusive<u64>) -> Row {
    let expected = format!("at most {CLOCK_BOUND_SECONDS} s from the host's clock");
    match facts.get("rtc_seconds").parse::<u64>() {
        Ok(rtc) => {
            let early = asked.start().saturating_sub(rtc);
            let off = early + rtc.saturating_sub(*asked.end());
            let near = off <= CLOCK_BOUND_SECONDS;
            Row::holds("time", expected, format!("{off} s from it"), near)
        }
        Err(_) => Row::holds("time", expected, "no time", false),
    }
}

/// What the machine is known by. `when` begins the rows' names.
pub(crate) fn identity_rows(
    when: &str,
    facts: &GuestFacts,
    identity: &MachineIdentity,
) -> Vec<Row> {
    let mut found: Vec<&str> = facts
        .all("card")
        .filter_map(|card| card.split(' ').next())
        .collect();
    let mut expected: Vec<&str> = identity.macs.iter().map(String::as_str).collect();
    found.sort_unstable();
    expected.sort_unstable();
    vec![
        Row::equal(
            format!("{when}UUID"),
            identity.uuid,
            facts.get("product_uuid"),
        ),
        Row::equal(
            format!("{when}serial number"),
            &identity.serial,
            facts.get("product_serial"),
        ),
        Row::equal(
            format!("{when}Ethernet addresses"),
            expected.join(" "),
            found.join(" "),
        ),
    ]
}

/// The disks that the spec says, and no others. `when` begins the row's name.
pub(crate) fn device_rows(when: &str, facts: &GuestFacts) -> Vec<Row> {
    let found: Vec<&str> = facts.all("disk").collect();
    let expected = format!("{DATA_TAG} {}", DATA_GIB * GIB);
    vec![Row::equal(
        format!("{when}data disks, bytes"),
        expected,
        found.join(", "),
    )]
}

/// A line that the guest's root writes to the console, in the host's log.
async fn console_row(session: &Session<'_>, guest: &Guest) -> Result<Row, Failure> {
    let log = session.host.console_log(&session.name)?;
    let line = format!("harmony-lane-{}", unix_seconds());
    let write = HostCommand::new("sh").args(["-c", "echo \"$1\" >/dev/console", "say", &line]);
    guest.output(write.as_root()).await?;
    let deadline = Instant::now() + CONSOLE_BOUND;
    let found = loop {
        let found = match std::fs::read(&log) {
            Ok(bytes) if String::from_utf8_lossy(&bytes).contains(&line) => yes_no(true).to_owned(),
            Ok(_) => yes_no(false).to_owned(),
            Err(error) => format!("{}: {error}", log.display()),
        };
        if found == yes_no(true) || Instant::now() >= deadline {
            break found;
        }
        // The log daemon tells nobody when it has written.
        sleep(Duration::from_millis(100)).await;
    };
    Ok(Row::equal(
        "console log has what the guest says",
        yes_no(true),
        found,
    ))
}

/// An instruction that the Raspberry Pi 5 does not have.
async fn instruction_row(lane: Lane, guest: &Guest) -> Result<Row, Failure> {
    let path = "/var/tmp/harmony-fjcvtzs";
    let file = HostFile {
        path: path.to_owned(),
        content: instruction::program(),
        owner: "root:root".to_owned(),
        mode: 0o755,
    };
    guest.host().ensure_files(&[file]).await?;
    let status = guest.run(&HostCommand::new(path)).await?.status;
    let expected = match lane {
        Lane::ArmRaspberryPi5 => instruction::KILLED_BY_SIGILL,
        _ => 0,
    };
    Ok(Row::equal(
        "instruction FJCVTZS, exit status",
        expected,
        status,
    ))
}
