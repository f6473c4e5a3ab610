//! Files: compared by content hash, replaced atomically.

use sha2::{Digest, Sha256};
use tracing::info;

use super::error::LinuxError;
use super::shell::{Script, Shell};
use crate::domain::error::ExecutorError;
use crate::domain::interpret::Change;
use crate::domain::topology::linux_host::HostFile;

/// Prints what is at `$1`: a word, and for a regular file a line each with owner, mode and hash.
const PROBE: Script = Script {
    name: "probe-file",
    text: r#"set -eu
if [ -L "$1" ]; then echo link
elif [ -f "$1" ]; then
  stat -c 'file
%U:%G
%a' -- "$1"
  sha256sum <"$1"
elif [ -e "$1" ]; then echo other
else echo absent
fi
"#,
};

/// Makes `$2`/… (the file `$1`) of standard input, which must have hash `$3`, with owner `$4` and
/// mode `$5`, and prints what it did. Nobody but root can read it before it is complete; it is on disk before it is in
/// place. Standard input is left alone when there is nothing to do.
const UPLOAD: Script = Script {
    name: "upload-file",
    text: r#"set -eu
if [ -f "$1" ] && [ ! -L "$1" ]; then
  hash=$(sha256sum <"$1")
  if [ "$(stat -c '%U:%G %a' -- "$1") ${hash%% *}" = "$4 $5 $3" ]; then echo unchanged; exit; fi
elif [ -e "$1" ] && [ ! -L "$1" ]; then
  echo other
  exit
fi
umask 022
mkdir -p -- "$2"
umask 077
new=$(mktemp -- "$2/.harmony-XXXXXXXXXX")
trap 'rm -f -- "$new"' EXIT
trap 'exit 1' HUP INT TERM
cat >"$new"
hash=$(sha256sum <"$new")
if [ "${hash%% *}" != "$3" ]; then
  echo "arrived with sha256 ${hash%% *} (expected $3)" >&2
  exit 1
fi
chown -- "$4" "$new"
chmod -- "$5" "$new"
sync -- "$new"
mv -fT -- "$new" "$1"
sync -- "$2"
trap - EXIT
echo written
"#,
};

/// A file that is larger is asked for before it is sent, in bytes.
const ASK_FIRST: usize = 64 << 10;

pub(super) async fn ensure(host: &dyn Shell, file: &HostFile) -> Result<Change, ExecutorError> {
    let directory = check(file)?;
    let wanted = Regular {
        owner: file.owner.clone(),
        mode: file.mode,
        sha256: sha256(&file.content),
    };
    if file.content.len() > ASK_FIRST {
        let found = parse(&host.expect_script(&PROBE, &[&file.path]).await?)?;
        if found == Found::Regular(wanted.clone()) {
            return Ok(Change::Unchanged);
        }
    }
    let mode = format!("{:o}", wanted.mode);
    let parameters = [&file.path, directory, &wanted.sha256, &wanted.owner, &mode];
    let upload = UPLOAD.command(&parameters).as_root();
    let done = host.expect(&upload, &file.content).await?;
    match done.trim() {
        "unchanged" => Ok(Change::Unchanged),
        "written" => {
            let (path, bytes) = (&file.path, file.content.len());
            info!(%path, bytes, sha256 = %wanted.sha256, "written");
            Ok(Change::Changed)
        }
        "other" => Err(LinuxError::NotARegularFile {
            path: file.path.clone(),
        }
        .into()),
        said => Err(LinuxError::UnexpectedOutput {
            command: UPLOAD.name,
            output: said.chars().take(200).collect(),
            expected: "unchanged, written or other",
        }
        .into()),
    }
}

/// What is at a path.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Absent,
    Link,
    Other,
    Regular(Regular),
}

/// What is compared of a regular file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Regular {
    owner: String,
    mode: u32,
    sha256: String,
}

fn parse(probed: &str) -> Result<Found, LinuxError> {
    let lines: Vec<&str> = probed.lines().collect();
    let found = match lines.as_slice() {
        ["absent"] => Some(Found::Absent),
        ["link"] => Some(Found::Link),
        ["other"] => Some(Found::Other),
        ["file", owner, mode, hash] => {
            let mode = u32::from_str_radix(mode, 8).ok();
            let sha256 = hash.split_whitespace().next();
            mode.zip(sha256).map(|(mode, sha256)| {
                Found::Regular(Regular {
                    owner: (*owner).to_owned(),
                    mode,
                    sha256: sha256.to_owned(),
                })
            })
        }
        _ => None,
    };
    found.ok_or_else(|| LinuxError::UnexpectedOutput {
        command: PROBE.name,
        output: probed.chars().take(200).collect(),
        expected: "absent, link, other, or file with owner, mode and hash",
    })
}

/// Checks what is asked for, and returns the directory that the file is in.
fn check(file: &HostFile) -> Result<&str, LinuxError> {
    let invalid = |what, value: String, expected| {
        Err(LinuxError::InvalidRequest {
            what,
            value,
            expected,
        })
    };
    let parts: Vec<&str> = file.path.split('/').collect();
    let plain = |part: &&str| !part.is_empty() && !matches!(*part, "." | "..");
    let [root, directories @ .., name] = parts.as_slice() else {
        return invalid("path", file.path.clone(), "an absolute path of a file");
    };
    if !root.is_empty() || !plain(name) || !directories.iter().all(plain) {
        return invalid(
            "path",
            file.path.clone(),
            "an absolute path without '.' or '..'",
        );
    }
    let owner_parts: Vec<&str> = file.owner.split(':').collect();
    if owner_parts.len() != 2 || owner_parts.iter().any(|part| !is_account_name(part)) {
        return invalid("owner", file.owner.clone(), "user:group by name");
    }
    if file.mode > 0o7777 {
        return invalid("mode", format!("{:#o}", file.mode), "at most 0o7777");
    }
    match &file.path[..file.path.len() - name.len() - 1] {
        "" => Ok("/"),
        directory => Ok(directory),
    }
}

/// The portable rule for names of users and groups, as useradd has it.
pub(super) fn is_account_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let first = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    bytes.next().is_some_and(first)
        && name.len() <= 32
        && bytes.all(|byte| first(byte) || byte.is_ascii_digit() || byte == b'-')
}

fn sha256(content: &[u8]) -> String {
    let digest = Sha256::digest(content);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::{Found, Regular, check, parse};
    use crate::domain::topology::linux_host::HostFile;
    use crate::modules::linux::LinuxError;

    #[test]
    fn probes_are_read() {
        let regular = Found::Regular(Regular {
            owner: "root:iot-agent".to_owned(),
            mode: 0o640,
            sha256: "abc".to_owned(),
        });
        let table = [
            ("absent\n", Some(Found::Absent)),
            ("link\n", Some(Found::Link)),
            ("other\n", Some(Found::Other)),
            ("file\nroot:iot-agent\n640\nabc  -\n", Some(regular)),
            ("file\nroot:root\n9z\nabc  -\n", None),
            ("file\nroot:root\n", None),
            ("", None),
        ];
        for (probed, expected) in table {
            match parse(probed) {
                Ok(found) => assert_eq!(Some(found), expected, "{probed:?}"),
                Err(LinuxError::UnexpectedOutput { .. }) => {
                    assert_eq!(None, expected, "{probed:?}")
                }
                Err(error) => panic!("{error:?}"),
            }
        }
    }

    #[test]
    fn requests_are_checked() {
        let table = [
            ("/etc/x/y.conf", "root:root", 0o644, Ok("/etc/x")),
            ("/x", "_a-1:users", 0o4755, Ok("/")),
            ("etc/x", "root:root", 0o644, Err("path")),
            ("/etc/", "root:root", 0o644, Err("path")),
            ("/", "root:root", 0o644, Err("path")),
            ("", "root:root", 0o644, Err("path")),
            ("/etc/../x", "root:root", 0o644, Err("path")),
            ("/etc//x", "root:root", 0o644, Err("path")),
            ("/x", "root", 0o644, Err("owner")),
            ("/x", "root:", 0o644, Err("owner")),
            ("/x", "--reference=/x:root", 0o644, Err("owner")),
            ("/x", "root:root", 0o10000, Err("mode")),
        ];
        for (path, owner, mode, expected) in table {
            let file = HostFile {
                path: path.to_owned(),
                content: Vec::new(),
                owner: owner.to_owned(),
                mode,
            };
            match check(&file) {
                Ok(directory) => assert_eq!(Ok(directory), expected, "{file:?}"),
                Err(LinuxError::InvalidRequest { what, .. }) => {
                    assert_eq!(Err(what), expected, "{file:?}");
                }
                Err(error) => panic!("{error:?}"),
            }
        }
    }
}
