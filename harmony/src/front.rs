//! The front door: a host, a virtual machine as a handle, a login, commands.
//!
//! ```text
//! Host::local() --vm(NAME)--> VmBuilder --start()--> Vm --login()--> Login --run()--> Output
//! ```
//! It decides nothing about machines. It puts together what the modules offer: the connection and the host's facts,
//! the default image, the key pair, the first boot's user, the wait for SSH with the pinned host key. A [`Vm`] knows
//! its own name; no method takes one a second time.
//!
//! An ephemeral VM belongs to the program that started it. While it is there a *claim* names that program
//! (`ephemeral/SCOPE/NAME.json` in the data directory); whoever starts a VM next removes the VMs of programs that are
//! gone.
//!
//! | file | owns | pure |
//! |---|---|---|
//! | `error` | the error of the front door | yes |
//! | `host`, `builder`, `vm`, `devices`, `login` | the handles | no |
//! | `image` | which image a VM gets | no |
//! | `owner` | whether the program of a claim is still there | judging |
//! | `claims`, `lease` | claims: taken, given back, swept | no |

mod error;

#[cfg(feature = "kvm")]
mod builder;
#[cfg(feature = "kvm")]
mod claims;
#[cfg(feature = "kvm")]
mod devices;
#[cfg(feature = "kvm")]
mod host;
#[cfg(feature = "kvm")]
mod image;
#[cfg(feature = "kvm")]
mod lease;
#[cfg(feature = "kvm")]
mod login;
#[cfg(feature = "kvm")]
mod owner;
#[cfg(feature = "kvm")]
mod problem;
#[cfg(all(test, feature = "kvm"))]
mod tests;
#[cfg(feature = "kvm")]
mod vm;

pub use error::{Error, Result};

#[cfg(feature = "kvm")]
pub use builder::VmBuilder;
#[cfg(feature = "kvm")]
pub use host::Host;
#[cfg(feature = "kvm")]
pub use login::{Login, Output};
#[cfg(feature = "kvm")]
pub use problem::VmError;
#[cfg(feature = "kvm")]
pub use vm::Vm;

/// The guide's code is compiled with the documentation's tests.
#[cfg(all(doctest, feature = "kvm"))]
#[doc = include_str!("../../docs/guides/a-device-test.md")]
struct Guide;

/// So is the first example, which is the README's program.
#[cfg(all(doctest, feature = "kvm"))]
#[doc = concat!("```rust,no_run\n", include_str!("../examples/uname.rs"), "```")]
struct FirstProgram;
