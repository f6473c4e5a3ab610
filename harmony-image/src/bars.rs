//! Progress, drawn on a terminal.

use std::sync::{Mutex, PoisonError};

use harmony::modules::image::progress::{Logged, Progress, Silent, Step};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Nothing when quiet, a bar on a terminal, else a log line every few seconds.
pub fn progress(quiet: bool, terminal: bool) -> Box<dyn Progress> {
    match (quiet, terminal) {
        (true, _) => Box::new(Silent),
        (false, true) => Box::new(Bar::default()),
        (false, false) => Box::new(Logged::default()),
    }
}

/// One bar on standard error.
#[derive(Default)]
struct Bar(Mutex<Option<ProgressBar>>);

const SIZED: &str = "{bar:30} {bytes}/{total_bytes}  {msg}";
const UNSIZED: &str = "{spinner} {bytes}  {msg}";

impl Progress for Bar {
    fn report(&self, step: &Step<'_>) {
        // The bar is one value: a thread that panicked cannot have left half of it.
        let mut bar = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match step {
            Step::Started { url, at, total } => {
                let new = ProgressBar::with_draw_target(*total, ProgressDrawTarget::stderr());
                let template = if total.is_some() { SIZED } else { UNSIZED };
                if let Ok(style) = ProgressStyle::with_template(template) {
                    new.set_style(style);
                }
                new.set_position(*at);
                new.println(*url);
                *bar = Some(new);
            }
            Step::Moved(pace) => {
                if let Some(bar) = &*bar {
                    bar.set_position(pace.received);
                    bar.set_message(pace_text(pace.bytes_per_second, pace.left));
                }
            }
            Step::Settling => {
                if let Some(bar) = &*bar {
                    bar.set_message("writing out");
                }
            }
            Step::Ended => {
                if let Some(bar) = bar.take() {
                    bar.finish_and_clear();
                }
            }
        }
    }
}

fn pace_text(bytes_per_second: f64, left: Option<std::time::Duration>) -> String {
    let rate = format!("{:.1} MiB/s", bytes_per_second / f64::from(1 << 20));
    match left.map(|left| left.as_secs()) {
        Some(left) => format!("{rate}, {}:{:02} left", left / 60, left % 60),
        None => rate,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::pace_text;

    #[test]
    fn the_pace_has_a_rate_and_the_time_left() {
        let left = Some(Duration::from_secs(125));
        assert_eq!(pace_text(3.5 * 1_048_576.0, left), "3.5 MiB/s, 2:05 left");
        assert_eq!(pace_text(0.0, None), "0.0 MiB/s");
    }
}
