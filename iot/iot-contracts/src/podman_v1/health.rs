//! How a container is told to work.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::bounds::bounded;
use crate::error::ContractError;

bounded!(
    /// A time of a health check, in seconds: 1 to 3600.
    HealthSeconds,
    "a time of a health check",
    1,
    3600
);
bounded!(
    /// A number of failures in a row: 1 to 100.
    Retries,
    "retries",
    1,
    100
);
bounded!(
    /// A time that may be none, in seconds: 0 to 3600.
    StartPeriod,
    "start_period_seconds",
    0,
    3600
);

/// A command that is run in the container again and again; it works while the command ends with 0. The defaults are
/// those of Podman and Docker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// The program and its arguments, without a shell.
    pub command: HealthCommand,
    /// The time from the end of one run to the next; 30 by default.
    #[serde(default = "thirty_seconds", skip_serializing_if = "is_thirty_seconds")]
    pub interval_seconds: HealthSeconds,
    /// A run that takes longer has failed; 30 by default.
    #[serde(default = "thirty_seconds", skip_serializing_if = "is_thirty_seconds")]
    pub timeout_seconds: HealthSeconds,
    /// That many failures in a row make it unhealthy; 3 by default.
    #[serde(default, skip_serializing_if = "Retries::is_default")]
    pub retries: Retries,
    /// For so long after its start failures do not count; 0 by default.
    #[serde(default, skip_serializing_if = "StartPeriod::is_default")]
    pub start_period_seconds: StartPeriod,
}

/// How much longer than its checks may take a container has for becoming healthy.
const SLACK: Duration = Duration::from_secs(30);

impl HealthCheck {
    /// A check by `command` with all defaults.
    ///
    /// # Errors
    ///
    /// [`ContractError::HealthCommand`] when there is no program, or an argument has a NUL.
    pub fn new(command: Vec<String>) -> Result<Self, ContractError> {
        Ok(Self {
            command: HealthCommand::try_from(command)?,
            interval_seconds: thirty_seconds(),
            timeout_seconds: thirty_seconds(),
            retries: Retries::default(),
            start_period_seconds: StartPeriod::default(),
        })
    }

    /// How long a container has for becoming healthy: the start period and `retries` whole runs, and 30 s more.
    pub fn bound(&self) -> Duration {
        let seconds = |number: u32| Duration::from_secs(number.into());
        let run = seconds(self.interval_seconds.get()) + seconds(self.timeout_seconds.get());
        seconds(self.start_period_seconds.get()) + run * self.retries.get() + SLACK
    }
}

fn thirty_seconds() -> HealthSeconds {
    HealthSeconds(30)
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands a reference to what decides about skipping"
)]
fn is_thirty_seconds(seconds: &HealthSeconds) -> bool {
    *seconds == thirty_seconds()
}

impl Retries {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Retries {
    fn default() -> Self {
        Self(3)
    }
}

impl StartPeriod {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[expect(
    clippy::derivable_impls,
    reason = "the macro that makes the type derives the same for all"
)]
impl Default for StartPeriod {
    fn default() -> Self {
        Self(0)
    }
}

/// A program and its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(extend("minItems" = 1)))]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct HealthCommand(Vec<String>);

impl HealthCommand {
    /// The program, and its arguments after it.
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }
}

impl TryFrom<Vec<String>> for HealthCommand {
    type Error = ContractError;

    fn try_from(command: Vec<String>) -> Result<Self, ContractError> {
        let has_program = command.first().is_some_and(|program| !program.is_empty());
        if has_program && command.iter().all(|word| !word.contains('\0')) {
            return Ok(Self(command));
        }
        Err(ContractError::HealthCommand)
    }
}

impl From<HealthCommand> for Vec<String> {
    fn from(command: HealthCommand) -> Self {
        command.0
    }
}
