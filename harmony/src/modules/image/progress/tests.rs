use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::{Logged, Meter, Pace, Progress, Rate, Step, pace};

#[test]
fn the_rate_is_that_of_the_last_seconds_and_gives_the_time_left() {
    let start = Instant::now();
    let at = |seconds: u64| start + Duration::from_secs(seconds);
    let mut rate = Rate::new(start, 5000);
    assert_eq!(rate.bytes_per_second(), 0.0);
    // The 5000 bytes from before the transfer count for nothing.
    rate.note(at(1), 6000);
    assert_eq!(rate.bytes_per_second(), 1000.0);
    // A stall: after a window, only what came within it counts.
    rate.note(at(30), 6000);
    rate.note(at(31), 6100);
    assert_eq!(rate.bytes_per_second(), 100.0);

    let left = |received, total, rate| pace(received, total, rate).left;
    assert_eq!(left(600, Some(1000), 100.0), Some(Duration::from_secs(4)));
    assert_eq!(left(600, None, 100.0), None);
    assert_eq!(left(600, Some(1000), 0.0), None, "never is no duration");
    assert_eq!(left(0, Some(0), 0.0), None);
    assert_eq!(left(2000, Some(1000), 100.0), Some(Duration::ZERO));
}

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Progress for Heard {
    fn report(&self, step: &Step<'_>) {
        let text = match step {
            Step::Started { at, total, .. } => format!("started at {at} of {total:?}"),
            Step::Moved(Pace { received, .. }) => format!("moved to {received}"),
            Step::Settling => "settling".to_owned(),
            Step::Ended => "ended".to_owned(),
        };
        self.0.lock().expect("not poisoned").push(text);
    }
}

#[test]
fn a_transfer_is_told_from_its_start_to_its_end_and_not_too_often() {
    let heard = Heard::default();
    let mut meter = Meter::start(&heard, "http://e.org/d.img", 10, Some(100_010));
    for _ in 0..100_000 {
        meter.moved(1);
    }
    meter.settling();
    drop(meter);
    let heard = heard.0.into_inner().expect("not poisoned");
    assert_eq!(heard[0], "started at 10 of Some(100010)");
    assert_eq!(heard[heard.len() - 2..], ["settling", "ended"]);
    assert!(heard.len() < 1000, "{} steps", heard.len());
}

#[test]
fn log_lines_come_every_few_seconds() {
    let start = Instant::now();
    let logged = Logged::every(Duration::from_secs(5));
    let due = |seconds| logged.is_due(start + Duration::from_secs(seconds));
    let told: Vec<u64> = (0..14).filter(|s| due(*s)).collect();
    assert_eq!(told, [0, 5, 10]);
}
