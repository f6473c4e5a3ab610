//! What the tests on real guests have in common: logging in, being a program, servers.

pub mod guest;
pub mod program;
pub mod server;

/// An error of such a test: something that was expected did not hold.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
