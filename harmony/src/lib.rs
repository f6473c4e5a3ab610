//! Infrastructure as code for fleets of devices.
//!
//! A caller states what should exist (a [`Score`](domain::score::Score)), a
//! [`Topology`](domain::topology::Topology) offers capabilities (a host that can run virtual
//! machines, a Linux host that can be configured), and an
//! [`Interpret`](domain::interpret::Interpret) makes it so, idempotently.
//!
//! The first product built on it is the virtual IoT device: an arm64 (or x86_64) guest on any Linux
//! host, with or without KVM, with or without root.
//!
//! Most programs begin at the [front door](front): a [`Host`](front::Host), a [`Vm`](front::Vm) of it, a
//! [`Login`](front::Login) in that, by `use harmony::prelude::*;`.
//!
//! Feature `kvm` adds the libvirt adapter; without it the crate needs no libvirt and builds for
//! aarch64.

pub mod domain;
pub mod front;
pub mod modules;
pub mod prelude;

pub use front::{Error, Result};
