//! The serial console's log: what a guest says before anything else works.

mod follower;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

pub(crate) use follower::ConsoleFollower;

/// How much of the end is looked at.
const TAIL_BYTES: u64 = 16 * 1024;

/// The last `lines` lines of a console log, readable: without control sequences and blank lines. A log
/// that is not there is said to be so.
pub(super) fn tail(path: Option<&Path>, lines: usize) -> String {
    let Some(path) = path else {
        return "(the console is not logged)".to_owned();
    };
    match read_end(path) {
        Ok(bytes) => last_lines(&String::from_utf8_lossy(&bytes), lines),
        Err(error) => format!("(no console log: {error})"),
    }
}

fn read_end(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn last_lines(text: &str, lines: usize) -> String {
    let clean = without_control_sequences(text);
    let kept: Vec<&str> = clean
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect();
    kept[kept.len().saturating_sub(lines)..].join("\n")
}

/// Drops ANSI escape sequences (`ESC [ … final`) and other control characters.
pub(crate) fn without_control_sequences(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\u{1b}' => {
                if characters.next_if_eq(&'[').is_some() {
                    for c in characters.by_ref() {
                        if ('@'..='~').contains(&c) {
                            break;
                        }
                    }
                } else {
                    characters.next();
                }
            }
            '\r' => clean.push('\n'),
            '\n' | '\t' => clean.push(c),
            c if c.is_control() => {}
            c => clean.push(c),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{last_lines, tail};

    #[test]
    fn the_last_lines_without_control_sequences() {
        let log = "one\r\n\u{1b}[2J\u{1b}[01;01HUEFI\r\n\r\n\u{1b}[0;32m  OK  \u{1b}[0m Started\u{7}\r\nlogin: ";
        assert_eq!(last_lines(log, 2), "  OK   Started\nlogin:");
        assert_eq!(last_lines(log, 99), "one\nUEFI\n  OK   Started\nlogin:");
        assert_eq!(last_lines("", 3), "");
    }

    #[test]
    fn a_missing_log_is_said() {
        let text = tail(Some(Path::new("/nonexistent/console.log")), 5);
        assert!(text.starts_with("(no console log: "), "{text}");
        assert_eq!(tail(None, 5), "(the console is not logged)");
    }
}
