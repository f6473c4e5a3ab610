//! `cargo xtask`: the project's own checks. `iot/scripts/test.sh` prepares the host and calls it.
//!
//! ```text
//! lanes.rs    what there is to run, and what each lane needs      data
//! plans.rs    what lanes run that is more than a command          pure
//! step.rs     what a lane consists of                             data
//! reads.rs    what lanes read, as sets of paths                   data
//! changed.rs  which files have changed since a revision
//! choice.rs   which lanes, in which order                         pure
//! output.rs   what a program's lines say of tests                 pure
//! run.rs      runs the programs and follows their output
//! report.rs   the table of lanes and the closing line             pure
//! ```

mod args;
mod changed;
mod choice;
mod host;
mod lanes;
mod output;
mod plans;
mod reads;
mod report;
mod run;
mod step;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use args::{Args, Request};
use choice::{Scope, Touched};
use host::Host;
use lanes::Lane;
use report::Untouched;

fn main() -> ExitCode {
    let args = match Args::parse(std::env::args_os()) {
        Ok(args) => args,
        Err(error) => {
            complain(&format!("error: {error}"));
            return ExitCode::from(2);
        }
    };
    match args.request {
        Request::Help => say(args::HELP),
        Request::List => say(&report::list(&lanes::ALL)),
        Request::Test => return test(&args),
    }
    ExitCode::SUCCESS
}

fn test(args: &Args) -> ExitCode {
    let files;
    let chosen = match args.since.as_deref() {
        None => chosen(args).map(|lanes| (lanes, Untouched::default())),
        Some(revision) => match changed::since(Path::new("."), revision) {
            Ok(changed) => {
                files = changed;
                Ok(touched(revision, &files))
            }
            Err(error) => Err(error.to_string()),
        },
    };
    let (mut chosen, untouched) = match chosen {
        Ok(chosen) => chosen,
        Err(error) => {
            complain(&format!("error: {error}"));
            return ExitCode::from(2);
        }
    };
    let seed = args
        .seed
        .or_else(|| in_ci().then(|| fastrand::u64(..1_000_000)));
    if let Some(seed) = seed {
        choice::shuffle(&mut chosen, seed);
        complain(&format!(
            "the lanes run in the order of seed {seed}: --seed {seed} gives it again"
        ));
    }
    let results = run::lanes(&chosen, &Host::look(), &mut std::io::stdout());
    if let Some(seed) = seed {
        complain(&format!("the order was that of seed {seed}"));
    }
    say(&report::table(&results, &untouched));
    if results.iter().all(|result| result.holds()) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The lanes that are named, those of a scope, or those whose turn it is.
fn chosen(args: &Args) -> Result<Vec<&'static Lane>, String> {
    let drawn = || Scope::Turn(fastrand::u64(..lanes::TURNS));
    let scope = args.scope.unwrap_or_else(drawn);
    let (all, scope) = match args.full {
        true => (lanes::FULL.as_slice(), Scope::All),
        false => (lanes::ALL.as_slice(), scope),
    };
    let chosen = choice::choose(all, &args.lanes, scope).map_err(|error| error.to_string())?;
    if let (Scope::Turn(turn), []) = (scope, args.lanes.as_slice()) {
        complain(&format!(
            "{} of {} lanes run: --turn {turn} chooses them again, --all runs everything",
            chosen.len(),
            all.len()
        ));
    }
    Ok(chosen)
}

/// The lanes that files which have changed can touch, and the others.
fn touched<'a>(revision: &'a str, changed: &'a [String]) -> (Vec<&'a Lane>, Untouched<'a>) {
    let Touched {
        lanes,
        others,
        unclaimed,
    } = choice::touched(&lanes::ALL, changed);
    for file in unclaimed {
        complain(&format!(
            "no lane says whether it reads '{file}' (iot/xtask/src/reads.rs): every lane runs"
        ));
    }
    complain(&format!(
        "{} of {} lanes read something of the {} files that have changed since {revision}",
        lanes.len(),
        lanes.len() + others.len(),
        changed.len()
    ));
    let untouched = Untouched {
        lanes: others,
        since: revision,
    };
    (lanes, untouched)
}

fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty())
}

/// Prints a result.
fn say(text: &str) {
    // Nobody is left to tell when standard output is closed.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Says what is going on.
fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "xtask: {text}");
}
