//! Images built by a guest of this host, and the choice between that and building from packages.
//!
//! An image builder as any other ([`ImageBuilder`](crate::modules::image::build::ImageBuilder)), and an application of
//! virtual machines: so it is above both.

#[cfg(feature = "kvm")]
mod builder;
mod choice;
#[cfg(feature = "kvm")]
mod mirrors;
mod products;
#[cfg(feature = "kvm")]
mod script;
#[cfg(feature = "kvm")]
mod watch;

#[cfg(feature = "kvm")]
pub use builder::InGuest;
#[cfg(feature = "kvm")]
pub use choice::build_image;
pub use choice::{BuilderChoice, UnknownBuilder, planned_choice, planned_image};
