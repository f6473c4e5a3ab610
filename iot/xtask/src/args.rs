//! The command line.

use std::ffi::OsString;

use lexopt::{Arg, Parser, ValueExt};

use crate::choice::Scope;

const EXCLUSIVE: &str =
    "--quick, --all, --turn, and --full or --lane exclude each other (expected one of them)";

/// What `--help` prints.
pub const HELP: &str = "\
Runs the project's checks, lane by lane: those that run each time and a third of the others, or those that are
asked for.

Usage: test.sh [--quick | --all | --turn N | --lane NAME...] [--seed N]
       test.sh --full [--lane NAME...]
       test.sh --list

  --quick      only the lanes that need no guest: format, lints, documentation, unit and golden tests
  --all        every lane
  --turn N     which third: any three numbers in a row run every lane (default: drawn, and printed)
  --lane NAME  this lane; may be repeated
  --full       the lanes of faults only, with all the rounds whose figures are in docs/reliability.md; takes about two hours
  --seed N     shuffle the lanes; where CI is set they are shuffled by a seed that is printed
  --list       print the lanes, what each needs and about how long it takes
  -h, --help   print this

All lanes run, also when one fails. The last lines are the table of lanes, the reason of each skip, and the
number of tests that passed, failed and were skipped. Exit code 1 when one failed, 2 for a wrong command line.
";

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Run lanes.
    Test,
    /// Print them.
    List,
    /// Print [`HELP`].
    Help,
}

/// The command line.
#[derive(Debug, PartialEq, Eq)]
pub struct Args {
    /// What is asked for.
    pub request: Request,
    /// Which lanes, when none is named; without it a turn is drawn.
    pub scope: Option<Scope>,
    /// The lanes of faults, in full.
    pub full: bool,
    /// The lanes that are named.
    pub lanes: Vec<String>,
    /// The order's seed.
    pub seed: Option<u64>,
}

impl Args {
    /// Reads it, with the program's name and the word `test` before the options.
    pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Self, lexopt::Error> {
        let mut args = Self {
            request: Request::Test,
            scope: None,
            full: false,
            lanes: Vec::new(),
            seed: None,
        };
        let mut parser = Parser::from_iter(words);
        match parser.next()? {
            Some(Arg::Value(verb)) if verb == "test" => {}
            Some(Arg::Short('h') | Arg::Long("help")) | None => {
                args.request = Request::Help;
                return Ok(args);
            }
            Some(other) => return Err(other.unexpected()),
        }
        while let Some(arg) = parser.next()? {
            match arg {
                Arg::Long("quick") => args.choose(Scope::Quick)?,
                Arg::Long("all") => args.choose(Scope::All)?,
                Arg::Long("full") => args.full = true,
                Arg::Long("turn") => args.choose(Scope::Turn(parser.value()?.parse()?))?,
                Arg::Long("lane") => args.lanes.push(parser.value()?.string()?),
                Arg::Long("seed") => args.seed = Some(parser.value()?.parse()?),
                Arg::Long("list") => args.request = Request::List,
                Arg::Short('h') | Arg::Long("help") => args.request = Request::Help,
                other => return Err(other.unexpected()),
            }
        }
        if args.scope.is_some() && (args.full || !args.lanes.is_empty()) {
            return Err(EXCLUSIVE.into());
        }
        Ok(args)
    }

    fn choose(&mut self, scope: Scope) -> Result<(), lexopt::Error> {
        match self.scope.replace(scope) {
            Some(other) if other != scope => Err(EXCLUSIVE.into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Args, Request};
    use crate::choice::Scope;

    fn parse(line: &str) -> Result<Args, String> {
        let words = line.split_whitespace().map(Into::into);
        Args::parse(words).map_err(|error| error.to_string())
    }

    #[test]
    fn lanes_and_a_seed_are_read() {
        let args = parse("xtask test --lane host --seed 7 --lane unit").expect("understood");
        assert_eq!(args.lanes, ["host", "unit"]);
        assert_eq!((args.seed, args.request), (Some(7), Request::Test));
        assert_eq!(args.scope, None);
        for (line, scope) in [
            ("xtask test --all", Scope::All),
            ("xtask test --quick --quick", Scope::Quick),
            ("xtask test --turn 283", Scope::Turn(283)),
        ] {
            assert_eq!(
                parse(line).expect("understood").scope,
                Some(scope),
                "{line}"
            );
        }
        assert!(
            parse("xtask test --full --lane fuzz")
                .expect("understood")
                .full
        );
        let list = parse("xtask test --list").expect("understood");
        assert_eq!(list.request, Request::List);
        assert_eq!(parse("xtask").expect("understood").request, Request::Help);
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let table = [
            ("xtask best", "best"),
            ("xtask test --lanes", "--lanes"),
            ("xtask test --lane", "--lane"),
            ("xtask test --seed x", "x"),
            ("xtask test --turn -1", "-1"),
            ("xtask test --quick --lane unit", "exclude"),
            ("xtask test --all --quick", "exclude"),
            ("xtask test --turn 1 --turn 2", "exclude"),
            ("xtask test --full --all", "exclude"),
        ];
        for (line, expected) in table {
            let error = parse(line).expect_err("refused");
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
