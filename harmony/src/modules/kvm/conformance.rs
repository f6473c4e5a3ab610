//! What is judged before a VM is made, by the clauses of [`inspect`](crate::modules::image::inspect): the machine that
//! its parameters make, and the image that is to start on it.
//!
//! ```
//! use harmony::modules::image::inspect::{InspectError, Limits, conformance, inspect};
//! use harmony::modules::kvm::conformance::domain_conformance;
//! use harmony::modules::kvm::params::DomainXmlParams;
//!
//! /// Why this machine would not start from this image.
//! fn objections(
//!     image: &std::path::Path,
//!     machine: &DomainXmlParams,
//! ) -> Result<Vec<String>, InspectError> {
//!     let facts = inspect(image, &Limits::default())?;
//!     let report = conformance(&facts, machine.arch).with(domain_conformance(machine));
//!     Ok(report.violations().map(ToString::to_string).collect())
//! }
//! ```

#[cfg(feature = "kvm")]
mod image;
mod machine;

#[cfg(feature = "kvm")]
pub(super) use image::{boot_path, check_image};
pub use machine::domain_conformance;

#[cfg(test)]
mod tests;
