//! Whatever happens, and whenever the power goes: in the end there is what is desired, with the data that it had.

use std::time::Duration;

use iot_contracts::Phase;

use super::{Bench, score};
use crate::container::ContainerState;
use crate::desired::DesiredState;

/// The same numbers in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        // Knuth's MMIX; the low bits are poor.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn one_of(&mut self, all: &[&'static str]) -> &'static str {
        let which = self.below(all.len() as u64);
        all[usize::try_from(which).unwrap()]
    }
}

const STEPS: [&str; 10] = [
    "image host/x:2",
    "create web.a",
    "start web.a",
    "set aside web.a",
    "stop web.a",
    "remove web.a",
    "remove web.a.previous",
    "rename web.a web.a.failed",
    "rename web.a.previous web.a",
    "only create web.a",
];

/// Something that happens; its name.
fn happens(chance: &mut Chance, bench: &Bench, step: &'static str) -> &'static str {
    match chance.below(9) {
        0..3 => {
            let tag = chance.one_of(&["1", "2", "3"]);
            bench.put("web", &score(tag));
            tag
        }
        3 => {
            bench.podman.fail(step);
            "fails"
        }
        4 => {
            bench.podman.hang(step);
            "hangs"
        }
        5 => {
            let image = chance.one_of(&["host/x:1", "host/x:2", "host/x:3"]);
            bench.podman.exits(image);
            image
        }
        6 => {
            bench.podman.set_state("web.a", ContainerState::Between);
            "between"
        }
        7 => {
            bench.podman.end("web.a", 1);
            "ends"
        }
        _ => {
            bench.podman.heal();
            "heals"
        }
    }
}

/// One life of a device: what happens in it, one agent after the other, and power cuts between.
async fn live(seed: u64) {
    let mut chance = Chance(seed);
    let bench = Bench::new();
    bench.known();
    bench.put("web", &score("1"));
    bench.pass().await;
    let mut story = vec![];
    for _ in 0..12 {
        let step = chance.one_of(&STEPS);
        let what = happens(&mut chance, &bench, step);
        let time = [1, 900, 5_000, 12_000, 70_000][usize::try_from(chance.below(5)).unwrap()];
        story.push(format!("{what} {step}, {time} ms"));
        bench.run_for(Duration::from_millis(time)).await;
        if chance.below(3) == 0 {
            story.push("power cut".to_owned());
            bench.podman.cut_power();
        }
        if chance.below(4) == 0 {
            // The platform is away at first.
            let known = bench.desired.send_replace(DesiredState::default());
            bench.run_for(Duration::from_secs(1)).await;
            bench.desired.send_replace(known);
        }
    }
    bench.podman.heal();
    let tag = chance.one_of(&["1", "2", "3"]);
    bench.put("web", &score(tag));
    story.push(format!("in the end {tag}"));
    bench.run_for(Duration::from_secs(4 * 3600)).await;
    let expected = [format!("web.a host/x:{tag} runs")];
    assert_eq!(bench.podman.containers(), expected, "{seed}: {story:#?}");
    assert_eq!(
        bench.podman.volumes(),
        ["harmony.web.a v1"],
        "{seed}: {story:#?}"
    );
    assert_eq!(
        bench.status("web"),
        (Phase::Running, None),
        "{seed}: {story:#?}"
    );
}

#[tokio::test(start_paused = true)]
async fn every_life_of_a_device_ends_well() {
    for seed in 780..840 {
        live(seed).await;
    }
}
