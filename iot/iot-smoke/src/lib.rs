//! What the tests on real guests have in common: logging in, and being a program.

pub mod guest;
pub mod program;

/// An error of such a test: something that was expected did not hold.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
