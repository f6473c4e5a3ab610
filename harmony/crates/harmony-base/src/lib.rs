//! The floor beneath harmony's modules: what they all need of files, locks, programs and words, written once.
//!
//! Nothing here knows of machines, images or devices. Each room has the subtle rules of one thing, so that no module
//! states them again:
//!
//! - [`digest`]: digests in hexadecimal, read, written and computed.
//! - [`words`]: quoting for a shell.
//! - [`mod@write`]: files that are there as a whole or not at all.
//! - [`lock`]: one process at a time.
//! - [`stamp`]: which file it is, and whether it has changed.
//! - [`sparse`]: zeros that take no space.
//! - [`process`]: programs that end with their caller, in bounded time and with bounded output.
//! - [`blocking`]: work that blocks, off the runtime.
//! - [`wait`]: looking again and again, up to a bound.
//! - [`qcow2`]: the header of a disk image.

pub mod blocking;
pub mod digest;
pub mod lock;
pub mod process;
pub mod qcow2;
pub mod sparse;
pub mod stamp;
pub mod wait;
pub mod words;
pub mod write;
