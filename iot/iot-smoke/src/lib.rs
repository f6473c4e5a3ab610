//! What the tests on real guests have in common: the devices of the example, logging in to them, what they are asked
//! for, being a program, servers.

mod containers;
pub mod deployment;
pub mod example;
pub mod guest;
pub mod identity;
mod nats;
pub mod options;
pub mod program;
pub mod registry;
pub mod server;
pub mod workload;

/// An error of such a test: something that was expected did not hold.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Fails with both values when they differ.
///
/// # Errors
/// When they do.
pub fn expect(what: &str, got: &str, expected: &str) -> Result<(), Failure> {
    if got == expected {
        Ok(())
    } else {
        Err(format!("{what}: got '{got}', expected '{expected}'").into())
    }
}
