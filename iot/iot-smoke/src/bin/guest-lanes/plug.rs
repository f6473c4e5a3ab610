//! Plugging devices into the running guest, and out of it.

use harmony::domain::error::ExecutorError;
use harmony::domain::topology::linux_host::HostCommand;
use harmony::domain::topology::virtualization::{
    DiskHandle, NetworkCard, NetworkHandle, VirtualMachineHost, VmNetwork,
};
use harmony::modules::kvm::KvmError;
use iot_smoke::Failure;
use iot_smoke::guest::Guest;

use crate::facts::GuestFacts;
use crate::lane::blank_disk;
use crate::session::Session;
use crate::table::Row;

const FIRST_DISK: &str = "plugged-a";
const SECOND_DISK: &str = "plugged-b";
/// The one for which there is no port left.
const FIFTH: &str = "plugged-e";
const FIRST_CARD: &str = "52:54:00:1a:7e:01";
const SECOND_CARD: &str = "52:54:00:1a:7e:02";

/// Waits, for at most 60 s, until there is a block device `$1`, and writes `$2` to it. Prints its size.
const WRITE_DISK: &str = r#"
udevadm wait --timeout=60 "$1" || exit 1
printf '%-512s' "$2" | dd of="$1" bs=512 seek=2048 oflag=direct status=none || exit 1
blockdev --getsize64 "$1"
"#;

/// Waits, for at most 60 s, until there is a block device `$1`, and prints what was written to it, past the
/// cache.
const READ_DISK: &str = r#"
udevadm wait --timeout=60 "$1" || exit 1
dd if="$1" bs=512 skip=2048 count=1 iflag=direct status=none
"#;

/// Waits, for at most 60 s, until there is no `$1`.
const DISK_GONE: &str = r#"udevadm wait --timeout=60 --removed "$1""#;

/// Waits, for at most 60 s, until there is a card of Ethernet address `$1` (`$2` is yes) or none (no), and
/// prints the seconds. What its interface will be called is not known, so there is no event to wait for.
const AWAIT_CARD: &str = r#"
for tenth in $(seq 0 600); do
  if grep -qxF "$1" /sys/class/net/*/address; then there=yes; else there=no; fi
  if test $there = "$2"; then exit 0; fi
  sleep 0.1
done
exit 1
"#;

/// Plugs in and out as many devices as there are ports for. Leaves two disks and a card plugged in.
pub(crate) async fn plug(session: &mut Session<'_>, guest: &Guest) -> Result<(), Failure> {
    let disk = plug_first_disk(session, guest).await?;
    let card = fill_up(session, guest).await?;
    refuse(session, &disk).await?;
    unplug(session, guest, &disk, &card).await
}

async fn plug_first_disk(session: &mut Session<'_>, guest: &Guest) -> Result<DiskHandle, Failure> {
    let (host, name) = (session.host, session.name.clone());
    let disk = host.attach_disk(&name, &blank_disk(FIRST_DISK, 1)).await?;
    session.add(use_disk(guest, FIRST_DISK, 1 << 30).await?);
    let again = host.attach_disk(&name, &blank_disk(FIRST_DISK, 1)).await;
    session.add(refusal(
        "the same tag again",
        "device taken",
        again.map(drop),
    ));
    let spec_tag = blank_disk(crate::lane::DATA_TAG, 1);
    let again = host.attach_disk(&name, &spec_tag).await;
    session.add(refusal(
        "the tag of the spec's disk",
        "device taken",
        again.map(drop),
    ));
    Ok(disk)
}

/// Until no port is left.
async fn fill_up(session: &mut Session<'_>, guest: &Guest) -> Result<NetworkHandle, Failure> {
    let (host, name) = (session.host, session.name.clone());
    let card = host.attach_network(&name, &user_card(FIRST_CARD)).await?;
    host.attach_network(&name, &user_card(SECOND_CARD)).await?;
    host.attach_disk(&name, &blank_disk(SECOND_DISK, 2)).await?;
    for mac in [FIRST_CARD, SECOND_CARD] {
        let there = in_guest(guest, AWAIT_CARD, &[mac, "yes"]).await?;
        session.add(Row::equal(
            format!("plugged-in card {mac}"),
            "there",
            there_or(there),
        ));
    }
    session.add(use_disk(guest, SECOND_DISK, 2 << 30).await?);
    let facts = GuestFacts::ask(guest).await?;
    session.add(Row::equal(
        "empty root ports, all four used",
        0,
        facts.empty_root_ports(),
    ));
    let again = host.attach_network(&name, &user_card(FIRST_CARD)).await;
    session.add(refusal(
        "the same card again",
        "device taken",
        again.map(drop),
    ));
    let fifth = host.attach_disk(&name, &blank_disk(FIFTH, 1)).await;
    session.add(refusal("a fifth device", "no room", fifth.map(drop)));
    let left = host.pool().join(format!("{name}@{FIFTH}.qcow2")).exists();
    let left = if left { "there" } else { "gone" };
    session.add(Row::equal("the fifth device's file", "gone", left));
    Ok(card)
}

/// What is not there cannot be unplugged.
async fn refuse(session: &mut Session<'_>, disk: &DiskHandle) -> Result<(), Failure> {
    let (host, name) = (session.host, session.name.clone());
    let unknown = host.detach_disk(&name, &DiskHandle::of("nothing")).await;
    let mut rows = vec![refusal("unplugging an unknown disk", "no device", unknown)];
    let unknown = host.detach_network(&name, &NetworkHandle::of(7)).await;
    rows.push(refusal("unplugging an unknown card", "no device", unknown));
    rows.push(Row::equal("the disk's handle", FIRST_DISK, disk.tag()));
    session.rows.extend(rows);
    Ok(())
}

async fn unplug(
    session: &mut Session<'_>,
    guest: &Guest,
    disk: &DiskHandle,
    card: &NetworkHandle,
) -> Result<(), Failure> {
    let (host, name) = (session.host, session.name.clone());
    host.detach_disk(&name, disk).await?;
    let gone = in_guest(guest, DISK_GONE, &[&by_id(FIRST_DISK)]).await?;
    session.add(Row::equal("unplugged disk", "gone", gone_or(gone)));
    host.detach_network(&name, card).await?;
    let gone = in_guest(guest, AWAIT_CARD, &[FIRST_CARD, "no"]).await?;
    session.add(Row::equal("unplugged card", "gone", gone_or(gone)));
    let again = host.detach_disk(&name, disk).await;
    session.add(refusal("unplugging the disk again", "no device", again));
    let facts = GuestFacts::ask(guest).await?;
    session.add(Row::equal(
        "empty root ports, two unplugged",
        2,
        facts.empty_root_ports(),
    ));
    plug_again(session, guest).await
}

/// What was unplugged comes back with its content, and not as another disk.
async fn plug_again(session: &mut Session<'_>, guest: &Guest) -> Result<(), Failure> {
    let (host, name) = (session.host, session.name.clone());
    let other = host.attach_disk(&name, &blank_disk(FIRST_DISK, 2)).await;
    session.add(refusal(
        "the disk again, of another size",
        "unsuitable",
        other.map(drop),
    ));
    host.attach_disk(&name, &blank_disk(FIRST_DISK, 1)).await?;
    let content = run(guest, READ_DISK, &[&by_id(FIRST_DISK)]).await?;
    session.add(Row::equal(
        "the disk again, its content",
        FIRST_DISK,
        content,
    ));
    Ok(())
}

fn user_card(mac: &str) -> NetworkCard {
    NetworkCard {
        network: VmNetwork::USER,
        mac: Some(mac.to_owned()),
    }
}

fn by_id(tag: &str) -> String {
    format!("/dev/disk/by-id/virtio-{tag}")
}

fn there_or(there: bool) -> &'static str {
    if there { "there" } else { "not within 60 s" }
}

fn gone_or(gone: bool) -> &'static str {
    if gone { "gone" } else { "there after 60 s" }
}

/// Whether a script succeeds in the guest.
async fn in_guest(guest: &Guest, script: &str, parameters: &[&str]) -> Result<bool, Failure> {
    let command = HostCommand::new("sh").args(["-c", script, "plugged"]);
    let command = command.args(parameters.iter().copied()).as_root();
    Ok(guest.run(&command).await?.status == 0)
}

/// What a script prints in the guest, or why it failed.
async fn run(guest: &Guest, script: &str, parameters: &[&str]) -> Result<String, Failure> {
    let command = HostCommand::new("sh").args(["-c", script, "plugged"]);
    let command = command.args(parameters.iter().copied()).as_root();
    let output = guest.run(&command).await?;
    Ok(match output.status {
        0 => output.stdout.trim().to_owned(),
        status => format!("exit status {status}: {}", output.stderr.trim()),
    })
}

async fn use_disk(guest: &Guest, tag: &str, bytes: u64) -> Result<Row, Failure> {
    let size = run(guest, WRITE_DISK, &[&by_id(tag), tag]).await?;
    let content = run(guest, READ_DISK, &[&by_id(tag)]).await?;
    let found = format!("{size} {content}");
    Ok(Row::equal(
        format!("plugged-in disk {tag}, bytes and content"),
        format!("{bytes} {tag}"),
        found,
    ))
}

/// That something was refused, and how.
pub(crate) fn refusal(what: &str, expected: &str, result: Result<(), ExecutorError>) -> Row {
    let found = match &result {
        Ok(()) => "done".to_owned(),
        Err(error) => match error.downcast_ref::<KvmError>() {
            Some(KvmError::DeviceTaken { .. }) => "device taken".to_owned(),
            Some(KvmError::NoDevice { .. }) => "no device".to_owned(),
            Some(KvmError::NoRoom { .. }) => "no room".to_owned(),
            Some(KvmError::UnsuitableDisk { .. }) => "unsuitable".to_owned(),
            Some(KvmError::NotOff { .. }) => "not off".to_owned(),
            _ => harmony::domain::error::error_chain(error).replace('\n', ";"),
        },
    };
    Row::equal(format!("refused: {what}"), expected, found)
}
