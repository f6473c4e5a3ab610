//! Files: compared by content hash, replaced atomically.

use harmony_base::digest::Sha256Digest;
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

/// Makes files of standard input, one after the other, and prints a line for each: what it did. Six parameters a file:
/// path, directory, hash, owner, mode, and how many bytes are its. Nobody but root can read a file before it is
/// complete; it is on disk before it is in place.
const UPLOAD: Script = Script {
    name: "upload-files",
    text: r#"set -eu
umask 022
new=
trap '[ -z "$new" ] || rm -f -- "$new"' EXIT
trap 'exit 1' HUP INT TERM
while [ $# -gt 0 ]; do
  path=$1 directory=$2 hash=$3 owner=$4 mode=$5 size=$6
  shift 6
  done=written
  if [ -f "$path" ] && [ ! -L "$path" ]; then
    found=$(sha256sum <"$path")
    if [ "$(stat -c '%U:%G %a' -- "$path") ${found%% *}" = "$owner $mode $hash" ]; then done=unchanged; fi
  elif [ -e "$path" ] && [ ! -L "$path" ]; then
    done=other
  fi
  if [ "$done" != written ]; then
    head -c "$size" >/dev/null
    echo "$done"
    continue
  fi
  [ -d "$directory" ] || mkdir -p -- "$directory"
  new=$(mktemp -- "$directory/.harmony-XXXXXXXXXX")
  head -c "$size" >"$new"
  found=$(sha256sum <"$new")
  if [ "${found%% *}" != "$hash" ]; then
    echo "$path arrived with sha256 ${found%% *} (expected $hash)" >&2
    exit 1
  fi
  chown -- "$owner" "$new"
  chmod -- "$mode" "$new"
  sync -- "$new"
  mv -fT -- "$new" "$path"
  new=
  sync -- "$directory"
  echo written
done
"#,
};

/// A file that is larger is asked for before it is sent, in bytes.
const ASK_FIRST: usize = 64 << 10;

/// Ensures files in their order, with one command for all that may have to be sent.
pub(super) async fn ensure(
    host: &dyn Shell,
    files: &[HostFile],
) -> Result<Vec<Change>, ExecutorError> {
    let mut wanted = Vec::with_capacity(files.len());
    for file in files {
        wanted.push((file, check(file)?, Regular::of(file)));
    }
    let mut changes = vec![Change::Unchanged; files.len()];
    let (mut parameters, mut input, mut sent) = (Vec::new(), Vec::new(), Vec::new());
    for (place, (file, directory, regular)) in wanted.iter().enumerate() {
        if file.content.len() > ASK_FIRST {
            let found = parse(&host.expect_script(&PROBE, &[&file.path]).await?)?;
            if found == Found::Regular(regular.clone()) {
                continue;
            }
        }
        let (mode, size) = (format!("{:o}", regular.mode), file.content.len());
        parameters.extend([file.path.clone(), (*directory).to_owned()]);
        parameters.extend([regular.sha256.clone(), regular.owner.clone(), mode]);
        parameters.push(size.to_string());
        input.extend_from_slice(&file.content);
        sent.push((place, *file, regular));
    }
    if sent.is_empty() {
        return Ok(changes);
    }
    let parameters: Vec<&str> = parameters.iter().map(String::as_str).collect();
    let upload = UPLOAD.command(&parameters).as_root();
    let said = host.expect(&upload, &input).await?;
    let mut lines = said.lines();
    for (place, file, regular) in sent {
        changes[place] = outcome(lines.next().unwrap_or_default(), file, regular)?;
    }
    Ok(changes)
}

/// What a line of [`UPLOAD`] says of a file.
fn outcome(said: &str, file: &HostFile, wanted: &Regular) -> Result<Change, LinuxError> {
    match said {
        "unchanged" => Ok(Change::Unchanged),
        "written" => {
            let (path, bytes) = (&file.path, file.content.len());
            info!(%path, bytes, sha256 = %wanted.sha256, "written");
            Ok(Change::Changed)
        }
        "other" => Err(LinuxError::NotARegularFile {
            path: file.path.clone(),
        }),
        said => Err(LinuxError::UnexpectedOutput {
            command: UPLOAD.name,
            output: said.chars().take(200).collect(),
            expected: "unchanged, written or other",
        }),
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

impl Regular {
    fn of(file: &HostFile) -> Self {
        Self {
            owner: file.owner.clone(),
            mode: file.mode,
            sha256: Sha256Digest::of(&file.content).to_string(),
        }
    }
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
