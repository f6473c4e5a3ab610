//! What is costly to find out about a host and stays true until a program changes or the host reboots.
//!
//! One JSON file in the user's cache directory. It is never needed: a file that cannot be read or written
//! only costs the time of finding out again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use harmony_base::stamp::FileIdentity;
use harmony_base::write::{self, Durability};
use serde::{Deserialize, Serialize};
use tracing::debug;

use super::kvm_probe::KvmProof;
use super::qemu::EmulatorFact;

/// What is kept, and the file that it is kept in.
#[derive(Debug)]
pub(super) struct HostCache {
    file: Option<PathBuf>,
    content: Content,
    stored: Content,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Content {
    /// By the emulator's path.
    emulators: BTreeMap<PathBuf, (FileIdentity, EmulatorFact)>,
    kvm: Option<KeptProof>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptProof {
    boot_id: String,
    emulator: PathBuf,
    identity: FileIdentity,
    proof: KvmProof,
}

/// The user's cache of harmony: for what can be found out again.
pub(crate) fn cache_directory() -> Option<PathBuf> {
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let directory = cache.filter(|dir| dir.is_absolute()).or_else(home)?;
    Some(directory.join("harmony"))
}

impl HostCache {
    /// The cache of this user.
    pub(super) fn open() -> Self {
        Self::at(cache_directory().map(|dir| dir.join("host-facts.json")))
    }

    fn at(file: Option<PathBuf>) -> Self {
        let text = file.as_ref().and_then(|f| std::fs::read(f).ok());
        let content: Content = match text.map(|text| serde_json::from_slice(&text)) {
            None => Content::default(),
            Some(Ok(content)) => content,
            Some(Err(error)) => {
                debug!(%error, "the cache of host facts is not understood and made anew");
                Content::default()
            }
        };
        Self {
            file,
            stored: content.clone(),
            content,
        }
    }

    /// What this very program said the last time.
    pub(super) fn emulator(&self, program: &Path) -> Option<EmulatorFact> {
        let (identity, fact) = self.content.emulators.get(program)?;
        (FileIdentity::of(program).ok() == Some(*identity)).then(|| fact.clone())
    }

    /// Keeps what a program says. One that is broken is asked again the next time: what it lacks, a
    /// library for example, may come without a change of the program.
    pub(super) fn keep_emulator(&mut self, fact: &EmulatorFact) {
        match fact {
            EmulatorFact::Usable { path, .. } => {
                if let Ok(identity) = FileIdentity::of(path) {
                    let kept = (identity, fact.clone());
                    self.content.emulators.insert(path.clone(), kept);
                }
            }
            EmulatorFact::Broken { path, .. } => {
                self.content.emulators.remove(path);
            }
        }
    }

    /// The proof that was made with this emulator since the host booted.
    pub(super) fn kvm(&self, emulator: &Path) -> Option<KvmProof> {
        let kept = self.content.kvm.as_ref()?;
        let same = Some(&kept.boot_id) == boot_id().as_ref()
            && kept.emulator == emulator
            && Some(kept.identity) == FileIdentity::of(emulator).ok();
        same.then(|| kept.proof.clone())
    }

    pub(super) fn keep_kvm(&mut self, emulator: &Path, proof: &KvmProof) {
        let identity = FileIdentity::of(emulator).ok();
        self.content.kvm = boot_id()
            .zip(identity)
            .map(|(boot_id, identity)| KeptProof {
                boot_id,
                emulator: emulator.to_owned(),
                identity,
                proof: proof.clone(),
            });
    }

    /// Writes what has changed.
    pub(super) fn store(self) {
        let Some(file) = self.file.filter(|_| self.content != self.stored) else {
            return;
        };
        if let Err(error) = keep(&file, &self.content) {
            debug!(file = %file.display(), %error, "the cache of host facts cannot be written");
        }
    }
}

fn keep(file: &Path, content: &Content) -> std::io::Result<()> {
    std::fs::create_dir_all(write::directory_of(file))?;
    write::replace(
        file,
        &serde_json::to_vec(content)?,
        0o600,
        Durability::Cache,
    )
}

fn boot_id() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::HostCache;
    use crate::modules::host::{EmulatorFact, KvmProof, QemuVersion};

    fn open(dir: &Path) -> HostCache {
        HostCache::at(Some(dir.join("cache/host-facts.json")))
    }

    #[test]
    fn what_was_kept_is_known_until_the_program_changes() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let program = dir.path().join("qemu-system-aarch64");
        std::fs::write(&program, "1").expect("written");
        let fact = EmulatorFact::Usable {
            path: program.clone(),
            version: QemuVersion::MTTCG,
        };
        let mut cache = open(dir.path());
        assert_eq!(cache.emulator(&program), None);
        cache.keep_emulator(&fact);
        cache.keep_kvm(&program, &KvmProof::Executes);
        cache.store();

        let cache = open(dir.path());
        assert_eq!(cache.emulator(&program), Some(fact));
        assert_eq!(cache.kvm(&program), Some(KvmProof::Executes));
        assert_eq!(cache.kvm(Path::new("/another")), None);

        std::fs::write(&program, "22").expect("written");
        assert_eq!(
            (cache.emulator(&program), cache.kvm(&program)),
            (None, None)
        );
    }

    #[test]
    fn a_damaged_file_and_another_boot_cost_no_more_than_time() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let program = dir.path().join("qemu");
        std::fs::write(&program, "1").expect("written");
        let mut cache = open(dir.path());
        cache.keep_kvm(&program, &KvmProof::Executes);
        if let Some(kept) = cache.content.kvm.as_mut() {
            kept.boot_id = "another".to_owned();
        }
        cache.store();
        assert_eq!(open(dir.path()).kvm(&program), None);

        std::fs::write(dir.path().join("cache/host-facts.json"), "{").expect("written");
        let mut cache = open(dir.path());
        assert_eq!(cache.kvm(&program), None);
        cache.keep_kvm(&program, &KvmProof::Executes);
        cache.store();
        assert_eq!(open(dir.path()).kvm(&program), Some(KvmProof::Executes));
    }
}
