//! Waits that grow, and differ from device to device: after an outage they do not all come at once.

use std::time::Duration;

/// How long to wait before the `number`-th try, counted from 1: `first`, doubled with each further one, up to `most`;
/// and then half of that to all of it, at random.
pub fn wait(number: u32, first: Duration, most: Duration) -> Duration {
    let doublings = number.saturating_sub(1);
    let wait = first
        .saturating_mul(2_u32.saturating_pow(doublings))
        .min(most);
    wait.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::wait;

    #[test]
    fn waits_double_up_to_a_bound_and_are_spread_over_half_of_it() {
        let ms = Duration::from_millis;
        let cases = [
            (0, 100),
            (1, 100),
            (2, 200),
            (5, 1600),
            (6, 2500),
            (40, 2500),
            (u32::MAX, 2500),
        ];
        for (number, most) in cases {
            let waits: Vec<_> = (0..64).map(|_| wait(number, ms(100), ms(2500))).collect();
            let (least, most) = (ms(most / 2), ms(most));
            assert!(
                waits.iter().all(|wait| (least..=most).contains(wait)),
                "try {number}: {waits:?}"
            );
            assert!(
                waits.iter().any(|wait| *wait != waits[0]),
                "try {number}: all devices wait {:?}",
                waits[0]
            );
        }
    }
}
