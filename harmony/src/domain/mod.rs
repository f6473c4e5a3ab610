//! Types and traits: no I/O, no libvirt, no command line, no runtime.

pub mod change;
pub mod error;
pub mod interpret;
pub mod inventory;
pub mod maestro;
pub mod score;
pub mod topology;
