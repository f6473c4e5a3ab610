//! A credentials file: a user's JWT and the seed of its key, each below a line that begins it.

use std::io;
use std::path::{Path, PathBuf};

use async_nats::Auth;
use nkeys::KeyPair;

/// A credentials file that cannot be used. No variant carries its text.
#[derive(Debug, thiserror::Error)]
pub enum CredsError {
    /// It cannot be read.
    #[error("cannot read NATS credentials '{path}'")]
    Read {
        /// Where it is.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its content is another one.
    #[error(
        "NATS credentials '{path}' are not valid (expected a user JWT and an NKey seed, each after a BEGIN line)"
    )]
    Invalid {
        /// Where it is.
        path: PathBuf,
    },
}

/// What the server is told, with its `nonce` signed.
///
/// # Errors
///
/// [`CredsError`]: the file cannot be read or understood.
pub fn auth(path: &Path, nonce: &[u8]) -> Result<Auth, CredsError> {
    let text = std::fs::read_to_string(path).map_err(|source| CredsError::Read {
        path: path.to_owned(),
        source,
    })?;
    let invalid = || CredsError::Invalid {
        path: path.to_owned(),
    };
    let (jwt, seed) = jwt_and_seed(&text).ok_or_else(invalid)?;
    let key = KeyPair::from_seed(seed).map_err(|_| invalid())?;
    let mut auth = Auth::new();
    auth.jwt = Some(jwt.to_owned());
    auth.signature = Some(key.sign(nonce).map_err(|_| invalid())?);
    Ok(auth)
}

fn jwt_and_seed(text: &str) -> Option<(&str, &str)> {
    let mut lines = text.lines().map(str::trim);
    let mut after = |mark: &str| {
        lines.find(|line| line.starts_with("---") && line.contains(mark))?;
        lines.find(|line| !line.is_empty())
    };
    let jwt = after("BEGIN NATS USER JWT")?;
    let seed = after("BEGIN USER NKEY SEED")?;
    Some((jwt, seed))
}

#[cfg(test)]
mod tests {
    use super::{CredsError, auth};
    use nkeys::KeyPair;

    #[test]
    fn a_file_is_read_anew_each_time_and_signs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.creds");
        for jwt in ["eyJ0.a.b", "eyJ0.c.d"] {
            let key = KeyPair::new_user();
            let seed = key.seed().unwrap();
            let text = format!(
                "-----BEGIN NATS USER JWT-----\r\n{jwt}\r\n------END NATS USER JWT------\r\n\r\n\
                 ************************* IMPORTANT *************************\r\n\
                 -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
            );
            std::fs::write(&path, text).unwrap();
            let auth = auth(&path, b"nonce").unwrap();
            assert_eq!(auth.jwt.as_deref(), Some(jwt));
            key.verify(b"nonce", &auth.signature.unwrap()).unwrap();
        }
    }

    #[test]
    fn what_is_no_such_file_is_named_and_not_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.creds");
        assert!(matches!(auth(&path, b""), Err(CredsError::Read { .. })));
        let jwt = "-----BEGIN NATS USER JWT-----\nhunter2\n------END NATS USER JWT------\n";
        for text in [
            "",
            "hunter2",
            jwt,
            &format!("{jwt}-----BEGIN USER NKEY SEED-----\nhunter2"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = auth(&path, b"").err().unwrap();
            assert!(matches!(error, CredsError::Invalid { .. }), "{error:?}");
            assert!(!crate::error::chain(&error).contains("hunter2"));
        }
    }
}
