//! Words of a POSIX shell: data that a script or a command line takes as one word, whatever is in it.

use std::borrow::Cow;
use std::fmt;

/// A text that no shell can be told. It is not shown: it may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "byte {at} of {bytes} is NUL, which no word of a shell can have (expected text without NUL)"
)]
pub struct NulInWord {
    /// Where the first NUL is, counted from 0.
    pub at: usize,
    /// The text's length, in bytes.
    pub bytes: usize,
}

/// One word, quoted where that is needed. Displays as what a script has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShellWord<'a>(Cow<'a, str>);

impl<'a> ShellWord<'a> {
    /// The word that a shell takes for `text`.
    ///
    /// # Errors
    /// When there is a NUL byte in it.
    pub fn new(text: &'a str) -> Result<Self, NulInWord> {
        let quoted = shlex::try_quote(text);
        quoted.map(Self).map_err(|_| refused(text.as_bytes()))
    }

    /// The words that a shell takes for `texts`, with a space between them.
    ///
    /// # Errors
    /// When there is a NUL byte in one of them.
    pub fn line<'b>(texts: impl IntoIterator<Item = &'b str>) -> Result<String, NulInWord> {
        let words: Result<Vec<_>, _> = texts.into_iter().map(ShellWord::new).collect();
        let words = words?;
        let words: Vec<&str> = words.iter().map(|word| word.0.as_ref()).collect();
        Ok(words.join(" "))
    }
}

/// The word that a shell takes for bytes that need not be UTF-8, such as a path.
///
/// # Errors
/// When there is a NUL byte in it.
pub fn quoted_bytes(bytes: &[u8]) -> Result<Cow<'_, [u8]>, NulInWord> {
    shlex::bytes::try_quote(bytes).map_err(|_| refused(bytes))
}

/// NUL is all that cannot be quoted.
fn refused(bytes: &[u8]) -> NulInWord {
    let at = bytes.iter().position(|byte| *byte == 0);
    NulInWord {
        at: at.unwrap_or(bytes.len()),
        bytes: bytes.len(),
    }
}

impl fmt::Display for ShellWord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;
    use std::process::Command;

    use super::{NulInWord, ShellWord, quoted_bytes};

    const NASTY: [&str; 8] = [
        "",
        "plain",
        "two words",
        "it's",
        "$(x) `y` \"z\"",
        "a\nb",
        "é*?~",
        "-n",
    ];

    #[test]
    fn a_shell_takes_each_word_for_what_it_was() {
        let line = ShellWord::line(NASTY).expect("no NUL");
        let script = format!("printf '%s\\0' {line}");
        let output = Command::new("sh").args(["-c", &script]).output();
        let said = String::from_utf8(output.expect("a shell").stdout).expect("text");
        let words: Vec<&str> = said.split_terminator('\0').collect();
        assert_eq!(words, NASTY);
        for word in NASTY {
            let one = ShellWord::new(word).expect("no NUL");
            let bytes = quoted_bytes(word.as_bytes()).expect("no NUL");
            assert_eq!(one.to_string().as_bytes(), &*bytes);
        }
    }

    #[test]
    fn a_path_that_is_no_text_is_a_word_too() {
        let path = b"/tmp/a b\xff";
        let mut script = b"printf %s ".to_vec();
        script.extend_from_slice(&quoted_bytes(path).expect("no NUL"));
        let mut shell = Command::new("sh");
        let output = shell.arg("-c").arg(std::ffi::OsStr::from_bytes(&script));
        assert_eq!(output.output().expect("a shell").stdout, path);
    }

    #[test]
    fn a_nul_is_refused_everywhere_and_the_text_is_not_shown() {
        let refused = Err(NulInWord { at: 1, bytes: 3 });
        assert_eq!(ShellWord::new("a\0b").map(drop), refused);
        assert_eq!(ShellWord::line(["x", "a\0b"]).map(drop), refused);
        assert_eq!(quoted_bytes(b"a\0b").map(drop), refused);
        let error = ShellWord::new("secret\0").expect_err("a NUL").to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
