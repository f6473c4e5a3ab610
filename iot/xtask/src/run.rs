//! Runs lanes: one program after the other, each followed line by line.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::complain;
use crate::host::Host;
use crate::lanes::Lane;
use crate::output::Counts;
use crate::report::LaneResult;
use crate::step::{Kind, Plan, Step};

/// The exit code of `timeout` when it had to end its program.
const TIMED_OUT: i32 = 124;

/// All of them, also when one fails; what they print goes to `out`.
pub fn lanes(lanes: &[&Lane], host: &Host, out: &mut dyn Write) -> Vec<LaneResult> {
    let count = lanes.len();
    let mut results = Vec::new();
    for (number, lane) in (1..).zip(lanes) {
        complain(&format!(
            "== lane {number} of {count}, {}: {} (about {} min on 2 cores without KVM)",
            lane.name, lane.what, lane.about_minutes
        ));
        let result = run(lane, host, out);
        complain(&format!(
            "== {}: {} after {} s",
            lane.name,
            result.verdict(),
            result.seconds
        ));
        results.push(result);
    }
    results
}

fn run(lane: &Lane, host: &Host, out: &mut dyn Write) -> LaneResult {
    let since = Instant::now();
    let mut result = LaneResult {
        name: lane.name,
        seconds: 0,
        counts: Counts::default(),
        ended_at: None,
    };
    match (lane.plan)(host) {
        Plan::Skip(reason) => result.counts.skipped.push(reason.to_owned()),
        Plan::Run { steps, skips } => {
            result.counts.skipped = skips;
            // A step that cannot go on without those before it would fail for their reason.
            for step in steps {
                match run_step(&step, bound(lane), out) {
                    Ok(counts) => result.counts.add(counts),
                    Err(StepFailure { counts, why }) => {
                        result.counts.add(counts);
                        result.ended_at = Some(format!("{}: {why}", step.words()));
                        break;
                    }
                }
            }
            if result.ended_at.is_some() && result.counts.failed == 0 {
                result.counts.failed = 1;
            }
        }
    }
    result.seconds = since.elapsed().as_secs();
    result
}

/// How long a step of a lane may take, in seconds: three times what the lane does on a slow machine, and some.
fn bound(lane: &Lane) -> u64 {
    u64::from(lane.about_minutes) * 180 + 600
}

/// A step that failed.
#[derive(Debug)]
struct StepFailure {
    /// What it had counted.
    counts: Counts,
    /// Why, in words.
    why: String,
}

/// What a step counted. It and all that it started is ended after `seconds`, and with this process.
fn run_step(step: &Step, seconds: u64, out: &mut dyn Write) -> Result<Counts, StepFailure> {
    complain(&format!("-- {}", step.words()));
    let mut counts = Counts::default();
    let failure = |counts, why: String| Err(StepFailure { counts, why });
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "TERM", "--", "timeout", "--kill-after=60"])
        .arg(seconds.to_string())
        .arg(&step.program)
        .args(&step.arguments)
        .envs(step.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return failure(counts, error.to_string()),
    };
    if let Some(stdout) = child.stdout.take() {
        follow(BufReader::new(stdout), out, &mut counts);
    }
    match child.wait() {
        Ok(status) if status.success() => {}
        Ok(status) if status.code() == Some(TIMED_OUT) => {
            return failure(counts, format!("not done after {seconds} s"));
        }
        Ok(status) => return failure(counts, status.to_string()),
        Err(error) => return failure(counts, error.to_string()),
    }
    let one = Counts {
        passed: 1,
        ..Counts::default()
    };
    match step.kind {
        Kind::Preparation => Ok(Counts::default()),
        Kind::One => Ok(one),
        Kind::Check if counts == Counts::default() => Ok(one),
        Kind::Check if counts.failed > 0 => failure(counts, "a row of its table failed".to_owned()),
        Kind::Tests if counts.passed == 0 => failure(counts, "ran no test".to_owned()),
        Kind::Check | Kind::Tests => Ok(counts),
    }
}

/// Passes the lines on as they come.
fn follow(mut output: impl BufRead, out: &mut dyn Write, counts: &mut Counts) {
    let mut line = Vec::new();
    loop {
        line.clear();
        match output.read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(_) => {
                // Nobody is left to tell when standard output is closed.
                let _ = out.write_all(&line);
                counts.take(String::from_utf8_lossy(&line).trim_end_matches('\n'));
            }
            Err(error) => {
                complain(&format!("cannot read the program's output: {error}"));
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{run, run_step};
    use crate::host::Host;
    use crate::lanes::{Lane, When};
    use crate::step::{Kind, Plan, Step};

    fn lane(plan: fn(&Host) -> Plan) -> Lane {
        Lane {
            name: "x",
            what: "x",
            needs: "nothing",
            about_minutes: 1,
            when: When::Always,
            reads: &[],
            plan,
        }
    }

    fn steps(steps: &[(Kind, &str)]) -> Plan {
        let step = |(kind, script): &(Kind, &str)| Step {
            kind: *kind,
            ..Step::new("sh", ["-c", script])
        };
        Plan::Run {
            steps: steps.iter().map(step).collect(),
            skips: Vec::new(),
        }
    }

    #[test]
    fn a_lane_counts_what_its_programs_say_and_a_check_is_one() {
        let result = run(
            &lane(|_| {
                steps(&[
                    (
                        Kind::Preparation,
                        "echo 'test result: ok. 9 passed; 0 failed'",
                    ),
                    (Kind::Check, "true"),
                    (Kind::Check, "printf '  ok    a: 1\\n  skip  b: no c\\n'"),
                    (Kind::Tests, "echo 'test result: ok. 4 passed; 0 failed'"),
                ])
            }),
            &Host::for_tests(false),
            &mut Vec::new(),
        );
        assert!(result.holds(), "{result:?}");
        assert_eq!(result.counts.passed, 6);
        assert_eq!(result.counts.skipped, ["b: no c"]);
    }

    #[test]
    fn what_fails_ends_its_lane_and_counts_once() {
        type Case = (fn(&Host) -> Plan, usize, &'static str);
        let table: [Case; 4] = [
            (
                |_| steps(&[(Kind::Check, "exit 3"), (Kind::Check, "true")]),
                1,
                "exit status: 3",
            ),
            (
                |_| {
                    steps(&[(
                        Kind::Tests,
                        "echo 'test result: FAILED. 1 passed; 2 failed'; exit 101",
                    )])
                },
                2,
                "101",
            ),
            (
                |_| steps(&[(Kind::Tests, "echo nothing")]),
                1,
                "ran no test",
            ),
            (
                |_| steps(&[(Kind::Preparation, "exit 1")]),
                1,
                "exit status: 1",
            ),
        ];
        for (plan, failed, expected) in table {
            let result = run(&lane(plan), &Host::for_tests(false), &mut Vec::new());
            assert!(!result.holds());
            assert_eq!(result.counts.failed, failed, "{expected}");
            let why = result.ended_at.expect("a step");
            assert!(why.contains(expected), "{why}");
        }
        let missing = run(
            &lane(|_| Plan::Run {
                steps: vec![Step::new("no-such-program-of-harmony", [])],
                skips: Vec::new(),
            }),
            &Host::for_tests(false),
            &mut Vec::new(),
        );
        assert_eq!(missing.counts.failed, 1);
    }

    #[test]
    fn a_step_that_does_not_end_is_ended_with_what_it_started() {
        let step = Step::new("sh", ["-c", "sleep 60 & echo started; sleep 60"]);
        let since = std::time::Instant::now();
        let failure = run_step(&step, 1, &mut Vec::new()).expect_err("too long");
        assert_eq!(failure.why, "not done after 1 s");
        // Its output is read to the end, which comes when the last of its processes has ended.
        assert!(since.elapsed().as_secs() < 30);
    }

    #[test]
    fn a_lane_that_cannot_run_here_says_why_and_passes_nothing() {
        let result = run(
            &lane(|_| Plan::Skip("needs root")),
            &Host::for_tests(false),
            &mut Vec::new(),
        );
        assert_eq!(result.counts.passed, 0);
        assert_eq!(result.counts.skipped, ["needs root"]);
    }
}
