//! What a container finds in its file system.

use std::fmt;

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

use crate::error::ContractError;
use crate::name::VolumeName;
use crate::secret::SecretString;

/// The longest path, in characters.
const MAX_PATH_CHARS: usize = 512;

/// The largest file, in bytes.
const MAX_FILE_BYTES: usize = 128 * 1024;

/// Something that is mounted from the score.
#[derive(Debug, Clone, Copy)]
pub enum Mount<'a> {
    /// A volume of the deployment.
    Volume(&'a VolumeMount),
    /// A file.
    File(&'a MountedFile),
    /// A file that only its owner may read.
    Secret(&'a MountedFile),
}

impl<'a> Mount<'a> {
    /// Where.
    pub fn path(self) -> &'a MountPath {
        match self {
            Self::Volume(volume) => &volume.path,
            Self::File(file) | Self::Secret(file) => &file.path,
        }
    }
}

/// A path in a container: absolute, at most 512 characters, without `.`, `..`, empty parts, `:`, `,` and control
/// characters, and not the root itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(extend("pattern" = "^/[^:,]+$")))]
#[cfg_attr(test, schemars(extend("maxLength" = 512)))]
#[serde(try_from = "String", into = "String")]
pub struct MountPath(String);

impl MountPath {
    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for MountPath {
    type Error = ContractError;

    fn try_from(value: String) -> Result<Self, ContractError> {
        let part = |part: &str| {
            let allowed = |c: char| !c.is_control() && c != ':' && c != ',';
            !matches!(part, "" | "." | "..") && part.chars().all(allowed)
        };
        let parts = value.strip_prefix('/').map(|path| path.split('/'));
        if value.chars().count() <= MAX_PATH_CHARS && parts.is_some_and(|mut all| all.all(part)) {
            return Ok(Self(value));
        }
        Err(ContractError::MountPath {
            value,
            max_chars: MAX_PATH_CHARS,
        })
    }
}

impl std::str::FromStr for MountPath {
    type Err = ContractError;

    fn from_str(value: &str) -> Result<Self, ContractError> {
        Self::try_from(value.to_owned())
    }
}

impl From<MountPath> for String {
    fn from(path: MountPath) -> Self {
        path.0
    }
}

impl fmt::Display for MountPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A volume of the deployment, as a service has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct VolumeMount {
    /// Which.
    pub name: VolumeName,
    /// Where. A new volume begins with what the image has there.
    pub path: MountPath,
    /// Whether it can only be read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

/// A file that a container finds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "MountedFileWire", into = "MountedFileWire")]
pub struct MountedFile {
    /// Where.
    pub path: MountPath,
    /// What is in it.
    pub content: Content,
    /// Who may read it; absent for everyone, or for the owner alone when it is a secret.
    pub mode: Option<FileMode>,
    /// Whose it is, by the number in the container; absent for the service's user where that is a number, else 0.
    pub uid: Option<u32>,
    /// Its group; absent for the service's group where that is a number, else 0.
    pub gid: Option<u32>,
}

impl MountedFile {
    /// A file with the default owner and mode.
    pub fn new(path: MountPath, content: Content) -> Self {
        Self {
            path,
            content,
            mode: None,
            uid: None,
            gid: None,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct MountedFileWire {
    path: MountPath,
    /// Text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content: Option<SecretString>,
    /// Anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<SecretString>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<FileMode>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gid: Option<u32>,
}

impl TryFrom<MountedFileWire> for MountedFile {
    type Error = ContractError;

    fn try_from(wire: MountedFileWire) -> Result<Self, ContractError> {
        let MountedFileWire {
            path,
            content,
            base64,
            mode,
            uid,
            gid,
        } = wire;
        let bytes = match (content, base64) {
            (Some(text), None) => text.expose().as_bytes().to_vec(),
            (None, Some(text)) => BASE64
                .decode(text.expose().as_bytes())
                .map_err(|_| ContractError::FileContent)?,
            _ => return Err(ContractError::FileContent),
        };
        Ok(Self {
            path,
            content: Content::new(bytes)?,
            mode,
            uid,
            gid,
        })
    }
}

impl From<MountedFile> for MountedFileWire {
    fn from(file: MountedFile) -> Self {
        let bytes = file.content.expose();
        let text = std::str::from_utf8(bytes).ok().map(SecretString::new);
        let base64 = match text {
            Some(_) => None,
            None => Some(SecretString::new(BASE64.encode(bytes))),
        };
        Self {
            path: file.path,
            content: text,
            base64,
            mode: file.mode,
            uid: file.uid,
            gid: file.gid,
        }
    }
}

/// What is in a file: 1 to 131072 bytes, which are taken for a secret. Podman's store takes no empty ones.
#[derive(Clone, PartialEq, Eq)]
pub struct Content(Vec<u8>);

impl Content {
    /// These bytes.
    ///
    /// # Errors
    ///
    /// [`ContractError::FileSize`] when they are none or too many.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, ContractError> {
        let bytes = bytes.into();
        if (1..=MAX_FILE_BYTES).contains(&bytes.len()) {
            return Ok(Self(bytes));
        }
        Err(ContractError::FileSize {
            bytes: bytes.len(),
            max_bytes: MAX_FILE_BYTES,
        })
    }

    /// The bytes; hand them only to what mounts them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Content(redacted)")
    }
}

/// Who may read and run a file: three or four octal digits, as `chmod` takes them, without set-user-id and the like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(extend("pattern" = "^0?[0-7]{3}$")))]
#[serde(try_from = "String", into = "String")]
pub struct FileMode(u16);

impl FileMode {
    /// Everyone may read.
    pub const FOR_ALL: Self = Self(0o444);
    /// The owner may read.
    pub const FOR_OWNER: Self = Self(0o400);

    /// The bits.
    pub fn bits(self) -> u16 {
        self.0
    }
}

impl TryFrom<String> for FileMode {
    type Error = ContractError;

    fn try_from(value: String) -> Result<Self, ContractError> {
        let octal = value.bytes().all(|b| b.is_ascii_digit()) && (3..=4).contains(&value.len());
        let bits = u16::from_str_radix(&value, 8).ok();
        match bits.filter(|bits| octal && *bits <= 0o777) {
            Some(bits) => Ok(Self(bits)),
            None => Err(ContractError::FileMode { value }),
        }
    }
}

impl From<FileMode> for String {
    fn from(mode: FileMode) -> Self {
        format!("{:04o}", mode.0)
    }
}
