//! An agent that is kept running.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// The agent, started again whenever it ends, as the service manager does.
pub struct Device {
    ends: Arc<AtomicBool>,
    agent: Arc<Mutex<Child>>,
    keeper: Option<JoinHandle<()>>,
}

impl Device {
    /// Starts the installed program, with the configuration in `dir`.
    pub fn start(dir: &Path, program: &Path) -> Self {
        let (dir, program) = (dir.to_owned(), program.to_owned());
        let start = move || {
            let mut agent = Command::new(&program);
            agent
                .args(["--launch", "--config"])
                .arg(dir.join("config.toml"))
                .env("STATE_DIRECTORY", dir.join("state"))
                .stderr(log(&dir))
                // All of it ends together, as a service's control group does.
                .process_group(0);
            agent.spawn().unwrap()
        };
        let agent = Arc::new(Mutex::new(start()));
        let ends = Arc::new(AtomicBool::new(false));
        let (kept, ending) = (Arc::clone(&agent), Arc::clone(&ends));
        let keeper = std::thread::spawn(move || {
            while !ending.load(Ordering::SeqCst) {
                // The lock is let go, so that others can kill it.
                let ended = kept.lock().unwrap().try_wait().unwrap().is_some();
                if ended && !ending.load(Ordering::SeqCst) {
                    *kept.lock().unwrap() = start();
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Self {
            ends,
            agent,
            keeper: Some(keeper),
        }
    }

    /// As a power cut does, but for what was not written through.
    pub fn cut_power(&self) {
        self.cut_power_while(|| ());
    }

    /// The same, and something happens before the power is back.
    pub fn cut_power_while(&self, happens: impl FnOnce()) {
        let mut agent = self.agent.lock().unwrap();
        let group = Pid::from_raw(agent.id().try_into().unwrap()).unwrap();
        // It may have ended just now.
        let _ = kill_process_group(group, Signal::KILL);
        agent.wait().unwrap();
        happens();
    }
}

impl Device {
    /// Asks it to end, as the service manager does.
    pub fn stop(&self) {
        let mut agent = self.agent.lock().unwrap();
        let pid = Pid::from_raw(agent.id().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        agent.wait().unwrap();
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        self.keeper.take().unwrap().join().unwrap();
        self.cut_power();
    }
}

fn log(dir: &Path) -> Stdio {
    let mut options = std::fs::File::options();
    let log = options
        .create(true)
        .append(true)
        .open(dir.join("agent.log"));
    log.unwrap().into()
}
