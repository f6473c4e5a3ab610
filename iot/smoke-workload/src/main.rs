//! What runs in the container of the smoke test: says on which architecture, then waits to be stopped.
//!
//! It has no dependency and is built statically for the guest, so that an image with this one file is
//! enough.

use std::io::Write;

fn main() -> std::io::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "smoke-workload runs on {}", std::env::consts::ARCH)?;
    out.flush()?;
    // Parking may end without a reason, so it stands in a loop.
    loop {
        std::thread::park();
    }
}
