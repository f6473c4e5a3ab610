//! The variable store of one VM: made from the firmware's template, kept as long as the VM.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::error::KvmError;

/// Zeros in runs of this many bytes become holes.
const BLOCK_BYTES: usize = 64 * 1024;

/// Makes the variable store at `target` as a copy of `template`, unless it is there already. Returns
/// whether it was made.
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
    let directory = target.parent().unwrap_or(Path::new("."));
    let mut source = File::open(template).map_err(KvmError::io("read the template", template))?;
    let mut copy = tempfile::Builder::new()
        .prefix(".nvram-")
        .permissions(std::fs::Permissions::from_mode(0o600))
        .tempfile_in(directory)
        .map_err(KvmError::io("make a file in", directory))?;
    copy_sparsely(&mut source, copy.as_file_mut())
        .and_then(|()| copy.as_file().sync_all())
        .map_err(KvmError::io("write the variable store", target))?;
    copy.persist_noclobber(target)
        .map_err(|e| KvmError::io("make", target)(e.error))?;
    Ok(true)
}

fn copy_sparsely(source: &mut File, target: &mut File) -> std::io::Result<()> {
    let length = source.metadata()?.len();
    let mut block = vec![0_u8; BLOCK_BYTES];
    loop {
        let read = source.read(&mut block)?;
        if read == 0 {
            break;
        }
        if block[..read].iter().all(|&byte| byte == 0) {
            target.seek(SeekFrom::Current(i64::try_from(read).unwrap_or(0)))?;
        } else {
            target.write_all(&block[..read])?;
        }
    }
    target.set_len(length)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::ensure_nvram;
    use crate::modules::kvm::error::KvmError;

    #[test]
    fn copies_sparsely_once_and_keeps_what_is_there() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (template, target) = (dir.path().join("template"), dir.path().join("vm-VARS.fd"));
        let mut content = vec![0_u8; 4 << 20];
        content[1_000_000] = 7;
        fs::write(&template, &content).expect("written");
        assert!(ensure_nvram(&template, &target).expect("made"));
        assert_eq!(fs::read(&target).expect("read"), content);
        let metadata = fs::metadata(&target).expect("there");
        assert!(
            metadata.blocks() * 512 <= 128 * 1024,
            "{} blocks",
            metadata.blocks()
        );
        assert_eq!(metadata.mode() & 0o777, 0o600);

        fs::write(&target, b"the guest's own").expect("written");
        assert!(!ensure_nvram(&template, &target).expect("kept"));
        assert_eq!(fs::read(&target).expect("read"), b"the guest's own");
    }

    #[test]
    fn a_failure_leaves_nothing() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let template = dir.path().join("absent");
        let error = ensure_nvram(&template, &dir.path().join("vm-VARS.fd"));
        assert!(
            matches!(&error, Err(KvmError::Io { path, .. }) if *path == template),
            "{error:?}"
        );
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 0);
    }
}
