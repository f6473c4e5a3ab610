//! The check: a device, and one cut after another.

use std::collections::BTreeMap;

use harmony::domain::error::error_chain;
use harmony::domain::topology::linux_host::HostCommand;
use harmony::modules::iot::assets;
use harmony::modules::kvm::topology::KvmVirtualMachineHost;
use iot_smoke::deployment::{as_guest_sees, connect};
use iot_smoke::example::{self, Device};
use iot_smoke::options::Surroundings;
use iot_smoke::server::start_nats;
use iot_smoke::{Failure, expect, registry};
use tempfile::TempDir;
use tokio::time::Instant;
use tracing::info;

use crate::Args;
use crate::device::Bench;
use crate::evidence;
use crate::images::{Images, Size};
use crate::moments::{Cut, cuts};
use crate::releases::{Releases, sha256};
use crate::table::Table;
use crate::work::Work;

/// Writes a file of 1 MiB that is on the disk, and one that is not yet.
const WRITE: &str = r#"set -eu
head -c 1048576 /dev/urandom >/var/tmp/harmony-written-through
sync
head -c 1048576 /dev/urandom >/var/tmp/harmony-not-written-through
"#;

/// Prints how large both are.
const SIZES: &str = r#"cd /var/tmp
for name in harmony-written-through harmony-not-written-through; do
  if [ -e "$name" ]; then stat -c %s "$name"; else echo 0; fi
done
rm -f harmony-written-through harmony-not-written-through
"#;

pub(crate) async fn check(
    args: &Args,
    seed: u64,
    host: &KvmVirtualMachineHost,
    table: &mut Table,
) -> Result<(), Failure> {
    let dir = TempDir::with_prefix("harmony-cuts-")?;
    let nats = start_nats(dir.path(), args.device.listen).await?;
    let registry = registry::start(dir.path(), args.device.listen).await?;
    let built = args.device.programs().await?;
    let platform = connect(&nats.registry, &nats.url).await?;
    let insecure = registry.address.to_string();
    let surroundings = Surroundings::new(built.agent.clone(), &nats, insecure.clone());
    let device = make(args, &surroundings).await?;
    info!(device = device.name, "made from a checkpoint");

    let gateway = device.default_gateway.as_deref();
    let mut images = Images {
        seen_at: as_guest_sees(&insecure, gateway)?,
        registry,
        arch: args.device.arch,
        workload: built.workload,
        chance: fastrand::Rng::with_seed(seed),
    };
    let agent = std::fs::read(&built.agent)?;
    let mut work = Work {
        dir: dir.path(),
        arch: args.device.arch,
        base: images.push(dir.path(), "base", Size::Small).await?,
        pair: [
            images.push(dir.path(), "one", Size::Small).await?,
            images.push(dir.path(), "other", Size::Small).await?,
        ],
        images,
        releases: Releases::start(dir.path(), args.device.listen.into(), gateway).await?,
        agent,
        next: String::new(),
        change: 0,
    };
    let mut bench = Bench::meet(host, &platform, &device, sha256(&work.agent)).await?;
    let cut = cut_all(args, seed, &mut work, &mut bench, table).await;
    if let Err(error) = &cut {
        let cause = error_chain(error.as_ref());
        evidence::keep(host, &device, &assets::data_dir()?, &cause).await;
    }
    cut?;
    work.images.registry.stop().await?;
    nats.stop().await
}

async fn make(args: &Args, surroundings: &Surroundings) -> Result<Device, Failure> {
    let mut command = args.device.example();
    command.arg("--warm");
    surroundings.tell(&mut command);
    let devices = example::devices(&mut command).await?;
    let device = devices.into_iter().next().ok_or("no device was made")?;
    expect("made from a checkpoint", &device.forked.to_string(), "true")?;
    Ok(device)
}

async fn cut_all(
    args: &Args,
    seed: u64,
    work: &mut Work<'_>,
    bench: &mut Bench<'_>,
    table: &mut Table,
) -> Result<(), Failure> {
    bench.take_updates_of(&work.releases).await?;
    work.start(bench).await?;
    lose_what_is_not_written_through(bench).await?;
    let mut takes = BTreeMap::new();
    for cut in cuts(args.count.get(), seed, args.only) {
        let whole = match takes.get(&cut.kind) {
            Some(whole) => *whole,
            None => {
                let whole = work.measure(cut.kind, bench).await?;
                let seconds = format!("{:.1}", whole.as_secs_f64());
                info!(
                    kind = cut.kind.what(),
                    seconds, "takes so long without a cut"
                );
                *takes.entry(cut.kind).or_insert(whole)
            }
        };
        let after = cut.after(whole);
        let told = format!(
            "cut {}, while {}, {:.3} s after its beginning (of {:.1} s)",
            cut.number,
            cut.kind.what(),
            after.as_secs_f64(),
            whole.as_secs_f64()
        );
        info!("{told}");
        let came_back = one(cut, after, work, bench, table).await;
        came_back.map_err(|error| format!("{told}: {}", error_chain(error.as_ref())))?;
    }
    Ok(())
}

/// One cut. The delay is what this is about: it is counted from the moment at which the device was asked.
async fn one(
    cut: Cut,
    after: std::time::Duration,
    work: &mut Work<'_>,
    bench: &mut Bench<'_>,
    table: &mut Table,
) -> Result<(), Failure> {
    work.prepare(cut.kind, bench).await?;
    let begun = Instant::now();
    work.begin(cut.kind, bench).await?;
    work.go_on_until(cut.kind, bench, begun + after).await?;
    table.cut(cut.kind);
    let on = bench.cut_power().await?;
    work.finish(cut.kind, bench).await?;
    let taken = bench.come_back(on).await?;
    info!(
        seconds = format!("{:.1}", taken.as_secs_f64()),
        "is as it should be"
    );
    table.converged(cut.kind, taken);
    Ok(())
}

/// A cut that loses nothing would prove nothing.
async fn lose_what_is_not_written_through(bench: &mut Bench<'_>) -> Result<(), Failure> {
    let script = |script| HostCommand::new("sh").args(["-c", script]).as_root();
    bench.guest().await?.output(script(WRITE)).await?;
    let on = bench.cut_power().await?;
    let taken = bench.come_back(on).await?;
    let sizes = bench.guest().await?.output(script(SIZES)).await?;
    let [kept, lost] = sizes.lines().collect::<Vec<_>>()[..] else {
        return Err(format!("the sizes of both files are '{sizes}'").into());
    };
    expect("the size of what was written through", kept, "1048576")?;
    if lost == "1048576" {
        return Err("the cut lost nothing: a file that was not written through is whole".into());
    }
    let seconds = format!("{:.1}", taken.as_secs_f64());
    info!(
        seconds,
        lost, "a cut at rest lost what was not written through, and nothing else"
    );
    Ok(())
}
