//! The command line. It has few options, for which a parser of a few kilobytes will do.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::{Arg, Parser};

/// What `--help` prints.
pub const HELP: &str = "\
Runs the containers that this device's desired state in NATS asks for, and reports on them.

Usage: iot-agent-v0 --config PATH [--check | [--launch] [--await-config]]

  --config PATH   the configuration file (TOML)
  --check         check the configuration and exit: 0 when it is valid, 2 when not
  --await-config  wait while there is no such file; its directory has to exist
  --launch        run the update of the agent that was fetched and has proved itself, where there is one
  -h, --help      print this
  -V, --version   print the version
";

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// Run with the configuration file, or only check that.
    Agent {
        /// The configuration file.
        config: PathBuf,
        /// What is done with it.
        purpose: Purpose,
        /// Whether an update of the agent runs in its place.
        launches: bool,
    },
    /// Print [`HELP`].
    Help,
    /// Print the version.
    Version,
}

/// What is done with a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Run.
    Run,
    /// Run, as soon as it is there.
    AwaitAndRun,
    /// Only check it.
    Check,
}

/// A command line that is not understood.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// There is no configuration.
    #[error("--config is missing (expected --config PATH)")]
    NoConfig,
    /// What is only checked has to be there, and is not run.
    #[error("--check excludes --await-config and --launch (expected it alone)")]
    CheckAndRun,
    /// An argument is unknown, or its value is missing or not wanted.
    #[error("the command line is not understood (--help prints what is)")]
    Argument(#[from] lexopt::Error),
}

/// Reads `arguments`, the program's name not among them.
///
/// # Errors
///
/// [`UsageError`]: they are not understood.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Request, UsageError> {
    let mut parser = Parser::from_args(arguments);
    let (mut config, mut check, mut wait, mut launches) = (None, false, false, false);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("config") => config = Some(PathBuf::from(parser.value()?)),
            Arg::Long("check") => check = true,
            Arg::Long("await-config") => wait = true,
            Arg::Long("launch") => launches = true,
            Arg::Long("help") | Arg::Short('h') => return Ok(Request::Help),
            Arg::Long("version") | Arg::Short('V') => return Ok(Request::Version),
            unknown => return Err(unknown.unexpected().into()),
        }
    }
    let config = config.ok_or(UsageError::NoConfig)?;
    let purpose = match (check, wait) {
        (false, false) => Purpose::Run,
        (false, true) => Purpose::AwaitAndRun,
        (true, false) if !launches => Purpose::Check,
        (true, _) => return Err(UsageError::CheckAndRun),
    };
    Ok(Request::Agent {
        config,
        purpose,
        launches,
    })
}

#[cfg(test)]
mod tests {
    use super::{Purpose, Request, UsageError, parse};
    use crate::error::chain;

    fn parsed(line: &str) -> Result<Request, UsageError> {
        parse(line.split_whitespace().map(Into::into))
    }

    #[test]
    fn what_is_understood() {
        let agent = |config: &str, purpose| Request::Agent {
            config: config.into(),
            purpose,
            launches: false,
        };
        let cases = [
            ("--config a.toml", agent("a.toml", Purpose::Run)),
            ("--config=a.toml --check", agent("a.toml", Purpose::Check)),
            ("--check --config --check", agent("--check", Purpose::Check)),
            (
                "--await-config --config a",
                agent("a", Purpose::AwaitAndRun),
            ),
            (
                "--launch --config a --await-config",
                Request::Agent {
                    config: "a".into(),
                    purpose: Purpose::AwaitAndRun,
                    launches: true,
                },
            ),
            ("--help", Request::Help),
            ("--config a -h", Request::Help),
            ("-V", Request::Version),
            ("--version", Request::Version),
        ];
        for (line, expected) in cases {
            assert_eq!(parsed(line).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn what_is_not() {
        let no_config = "--config is missing (expected --config PATH)";
        for line in ["", "--check"] {
            let error = parsed(line).unwrap_err();
            assert!(matches!(error, UsageError::NoConfig), "{line}");
            assert_eq!(chain(&error), no_config);
        }
        for other in ["--await-config", "--launch"] {
            let error = parsed(&format!("--config a {other} --check")).unwrap_err();
            assert!(matches!(error, UsageError::CheckAndRun), "{error:?}");
        }
        let cases = [
            ("--config", "missing argument for option '--config'"),
            ("--config a b", "unexpected argument \"b\""),
            (
                "--check=yes --config a",
                "unexpected argument for option '--check': \"yes\"",
            ),
            ("-x", "invalid option '-x'"),
            ("--conf a", "invalid option '--conf'"),
        ];
        for (line, expected) in cases {
            let error = parsed(line).unwrap_err();
            assert!(matches!(error, UsageError::Argument(_)), "{line}");
            assert!(chain(&error).ends_with(expected), "{}", chain(&error));
        }
    }
}
