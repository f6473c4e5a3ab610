//! The variable store of one VM: made from the firmware's template, kept as long as the VM.

use std::fs::File;
use std::path::Path;

use harmony_base::sparse;
use harmony_base::write::{self, Draft, Durability};

use super::error::KvmError;

/// Makes the variable store at `target` as a copy of `template`, unless it is there already. Returns
/// whether it was made. A qcow2 template gives a qcow2 store: the file is copied as it is.
///
/// # Guarantees
/// `target` appears whole or not at all, readable by its owner alone, and takes only the space of what
/// is not zero: a fresh store of 64 MiB takes none.
///
/// # Errors
/// [`KvmError::Io`] naming the file.
pub fn ensure_nvram(template: &Path, target: &Path) -> Result<bool, KvmError> {
    if target.exists() {
        return Ok(false);
    }
    private_copy(template, target)?
        .create(target, 0o600, Durability::State)
        .map_err(KvmError::io("make", target))
}

/// Makes the variable store at `target` a fresh copy of `template`: boot entries and enrolled keys that
/// the guest has stored are lost. The guest must be off.
///
/// # Guarantees
/// As [`ensure_nvram`]; until the new store is whole and on the disk, the old one stays as it is.
///
/// # Errors
/// [`KvmError::Io`] naming the file.
pub fn replace_nvram(template: &Path, target: &Path) -> Result<(), KvmError> {
    private_copy(template, target)?
        .replace(target, 0o600, Durability::State)
        .map_err(KvmError::io("replace", target))
}

/// Gives zeros in a variable store back to the file system. QEMU writes the whole store when a guest is restored.
/// Nothing may be written meanwhile.
///
/// # Errors
/// [`KvmError::Io`] naming the file; the store has the same content all the same.
#[cfg(feature = "kvm")]
pub(super) fn release_zeros(store: &Path) -> Result<(), KvmError> {
    let opened = File::options().read(true).write(true).open(store);
    opened
        .and_then(|file| sparse::release_zeros(&file))
        .map_err(KvmError::io("release zeros of", store))
}

/// A copy of the template beside `target`, gone again unless it is given its name.
fn private_copy(template: &Path, target: &Path) -> Result<Draft, KvmError> {
    let source = File::open(template).map_err(KvmError::io("read the template", template))?;
    let directory = write::directory_of(target);
    let mut copy = Draft::in_directory(directory, ".nvram-")
        .map_err(KvmError::io("make a file in", directory))?;
    sparse::copy(source, copy.file()).map_err(KvmError::io("write the variable store", target))?;
    Ok(copy)
}

#[cfg(test)]
mod tests;
