//! What binaries share that bring images to a host: progress that is drawn on a terminal.

pub mod bars;
