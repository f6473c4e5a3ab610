//! Telling a nats-server to read its configuration again.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::RegistryError;

/// What the program is called; a process id in a file outlives its process, and then it is another's.
const PROGRAM: &str = "nats-server";

/// Tells the server whose process id is in `pid_file`.
///
/// # Errors
/// [`RegistryError::Server`]: no server runs by that id. [`RegistryError::Another`]: another program does; it is not told
/// anything, as most end when they are.
pub(super) fn reload(pid_file: &Path) -> Result<(), RegistryError> {
    let unknown = || RegistryError::Server {
        path: pid_file.into(),
    };
    let text = fs::read_to_string(pid_file).map_err(|_| unknown())?;
    let number = text.trim().parse().ok().filter(|number| *number > 0);
    let pid = number.and_then(Pid::from_raw).ok_or_else(unknown)?;
    // From here on it is the same process that is looked at and told, whoever ends meanwhile.
    let process = pidfd_open(pid, PidfdFlags::empty()).map_err(|_| unknown())?;
    let name = format!("/proc/{}/comm", pid.as_raw_nonzero());
    let name = fs::read_to_string(name).map_err(|_| unknown())?;
    let name = name.trim_end();
    if name != PROGRAM {
        return Err(RegistryError::Another {
            path: pid_file.into(),
            pid: pid.as_raw_nonzero().get(),
            name: name.to_owned(),
        });
    }
    pidfd_send_signal(process, Signal::HUP).map_err(|_| unknown())
}
