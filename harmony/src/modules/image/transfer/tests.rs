use std::time::{Duration, Instant};

use super::{TRICKLE, Watch};

#[test]
fn a_server_that_sends_next_to_nothing_has_stalled() {
    let bound = Duration::from_secs(60);
    let mut watch = Watch::new(bound);
    let at = |watch: &Watch, seconds| watch.since + Duration::from_secs(seconds);
    let start = at(&watch, 0);
    let later = |seconds: u64| -> Instant { start + Duration::from_secs(seconds) };
    assert!(!watch.has_stalled(1, later(59)));
    assert!(!watch.has_stalled(TRICKLE, later(60)), "enough came");
    assert!(!watch.has_stalled(1, later(119)));
    assert!(watch.has_stalled(1, later(121)), "two bytes in a minute");
}
