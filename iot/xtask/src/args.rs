//! The command line.

use std::ffi::OsString;
use std::fmt;

use lexopt::{Arg, Parser, ValueExt};

use crate::choice::Scope;

/// What `--help` prints.
pub const HELP: &str = "\
Runs the project's checks, lane by lane: those that run each time and a third of the others, or those that are
asked for.

Usage: test.sh [--quick | --all | --turn N | --since REV | --lane NAME...] [--seed N]
       test.sh --full [--lane NAME...]
       test.sh --list

  --quick      only the lanes that need no guest: format, lints, documentation, unit and golden tests
  --all        every lane
  --turn N     which third: any three numbers in a row run every lane (default: drawn, and printed)
  --since REV  the lanes that read something that has changed since that commit, uncommitted changes included
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
    /// The revision since which something has to have changed that a lane reads.
    pub since: Option<String>,
    /// The lanes of faults, in full.
    pub full: bool,
    /// The lanes that are named.
    pub lanes: Vec<String>,
    /// The order's seed.
    pub seed: Option<u64>,
}

/// Why a command line is refused.
#[derive(Debug)]
pub enum ArgsError {
    /// It has a word that is not understood.
    NotUnderstood(lexopt::Error),
    /// Two of its options say each which lanes run.
    Exclusive {
        /// The first of them.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// One of them is given twice, with another value.
    Twice(&'static str),
}

impl fmt::Display for ArgsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUnderstood(error) => fmt::Display::fmt(error, f),
            Self::Exclusive { first, second } => write!(
                f,
                "{first} and {second} exclude each other (expected one of --quick, --all, --turn, --since, and --full or --lane)"
            ),
            Self::Twice(option) => write!(f, "{option} is given twice (expected one value)"),
        }
    }
}

impl std::error::Error for ArgsError {}

impl From<lexopt::Error> for ArgsError {
    fn from(error: lexopt::Error) -> Self {
        Self::NotUnderstood(error)
    }
}

impl Args {
    /// Reads it, with the program's name and the word `test` before the options.
    ///
    /// # Errors
    /// What is not understood, and options that exclude each other.
    pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Self, ArgsError> {
        let mut args = Self {
            request: Request::Test,
            scope: None,
            since: None,
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
            Some(other) => return Err(other.unexpected().into()),
        }
        let mut choice = Choice::default();
        while let Some(arg) = parser.next()? {
            match arg {
                Arg::Long("quick") => {
                    args.scope = choice.once("--quick", Scope::Quick, args.scope)?
                }
                Arg::Long("all") => args.scope = choice.once("--all", Scope::All, args.scope)?,
                Arg::Long("turn") => {
                    let turn = Scope::Turn(parser.value()?.parse()?);
                    args.scope = choice.once("--turn", turn, args.scope)?;
                }
                Arg::Long("since") => {
                    let revision = parser.value()?.string()?;
                    args.since = choice.once("--since", revision, args.since)?;
                }
                Arg::Long("full") => args.full = choice.is_by("--full").map(|()| true)?,
                Arg::Long("lane") => {
                    choice.is_by("--lane")?;
                    args.lanes.push(parser.value()?.string()?);
                }
                Arg::Long("seed") => args.seed = Some(parser.value()?.parse()?),
                Arg::Long("list") => args.request = Request::List,
                Arg::Short('h') | Arg::Long("help") => args.request = Request::Help,
                other => return Err(other.unexpected().into()),
            }
        }
        Ok(args)
    }
}

/// The option that says which lanes run.
#[derive(Debug, Default)]
struct Choice(Option<&'static str>);

impl Choice {
    /// Takes an option; `--full` and `--lane` go together.
    fn is_by(&mut self, option: &'static str) -> Result<(), ArgsError> {
        let goes_with = |other| {
            other == option
                || matches!((other, option), ("--full", "--lane") | ("--lane", "--full"))
        };
        match self.0.replace(option) {
            Some(first) if !goes_with(first) => Err(ArgsError::Exclusive {
                first,
                second: option,
            }),
            _ => Ok(()),
        }
    }

    /// Takes an option with its value; `before` is the one that it had.
    fn once<T: PartialEq>(
        &mut self,
        option: &'static str,
        value: T,
        before: Option<T>,
    ) -> Result<Option<T>, ArgsError> {
        self.is_by(option)?;
        match before {
            Some(before) if before != value => Err(ArgsError::Twice(option)),
            _ => Ok(Some(value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Args, ArgsError, Request};
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
        let args = parse("xtask test --since main --seed 3 --since main").expect("understood");
        assert_eq!(args.since.as_deref(), Some("main"));
        assert_eq!((args.scope, args.seed), (None, Some(3)));
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
            ("xtask test --since", "--since"),
            ("xtask test --turn 1 --turn 2", "--turn is given twice"),
            ("xtask test --since a --since b", "--since is given twice"),
        ];
        for (line, expected) in table {
            let error = parse(line).expect_err("refused");
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
    #[test]
    fn what_says_which_lanes_run_is_said_once() {
        let options = [
            "--quick",
            "--all",
            "--turn 1",
            "--since main",
            "--full",
            "--lane unit",
        ];
        let name = |option: &str| option.split(' ').next().map(str::to_owned);
        for one in options {
            for other in options.into_iter().filter(|other| *other != one) {
                let line = format!("xtask test {one} {other}");
                let args = Args::parse(line.split(' ').map(Into::into));
                if [one, other]
                    .iter()
                    .all(|o| matches!(*o, "--full" | "--lane unit"))
                {
                    assert!(
                        args.is_ok_and(|args| args.full && args.lanes == ["unit"]),
                        "{line}"
                    );
                    continue;
                }
                let Err(ArgsError::Exclusive { first, second }) = args else {
                    panic!("{line}: {args:?}");
                };
                let given = (Some(first.to_owned()), Some(second.to_owned()));
                assert_eq!(given, (name(one), name(other)), "{line}");
            }
        }
    }
}
