//! Numbers with bounds.

use serde::{Deserialize, Serialize};

use crate::error::ContractError;

/// A whole number within bounds.
macro_rules! bounded {
    ($(#[$doc:meta])* $type:ident, $what:literal, $min:literal, $max:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(test, derive(schemars::JsonSchema))]
        #[cfg_attr(test, schemars(extend("minimum" = $min)))]
        #[cfg_attr(test, schemars(extend("maximum" = $max)))]
        #[serde(try_from = "i64", into = "i64")]
        pub struct $type(u32);

        impl $type {
            /// The least.
            pub const MIN: u32 = $min;
            /// The most.
            pub const MAX: u32 = $max;

            /// The number.
            pub fn get(self) -> u32 {
                self.0
            }
        }

        impl TryFrom<i64> for $type {
            type Error = ContractError;

            fn try_from(value: i64) -> Result<Self, ContractError> {
                u32::try_from(value)
                    .ok()
                    .filter(|number| (Self::MIN..=Self::MAX).contains(number))
                    .map(Self)
                    .ok_or(ContractError::OutOfRange {
                        what: $what,
                        value,
                        min: Self::MIN.into(),
                        max: Self::MAX.into(),
                    })
            }
        }

        impl From<$type> for i64 {
            fn from(number: $type) -> Self {
                number.0.into()
            }
        }
    };
}

pub(super) use bounded;

bounded!(
    /// Memory, in MiB: 8 to 1048576. With less the runtime itself does not come up.
    MemoryMib,
    "memory_mib",
    8,
    1_048_576
);
bounded!(
    /// Processor time, in thousandths of one processor: 10, which is the least that the kernel takes, to 1024000.
    CpuMillis,
    "cpu_millis",
    10,
    1_024_000
);
bounded!(
    /// A number of processes and threads: 4 to 4194304. A health check needs some beside the program.
    Pids,
    "pids",
    4,
    4_194_304
);
bounded!(
    /// The size of a log, in MiB: 1 to 1024.
    LogMib,
    "log_max_mib",
    1,
    1024
);
bounded!(
    /// How long a container has to stop by itself, in seconds: 0, for being killed at once, to 600; 10 by default.
    StopSeconds,
    "stop_timeout_seconds",
    0,
    600
);

impl StopSeconds {
    /// Whether it is the default.
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for StopSeconds {
    fn default() -> Self {
        Self(10)
    }
}
