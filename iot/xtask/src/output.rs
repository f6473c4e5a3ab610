//! What the lines of a program say of tests. Pure.

/// Tests that were counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tests that passed.
    pub passed: usize,
    /// Tests that failed.
    pub failed: usize,
    /// What was skipped, with the reason.
    pub skipped: Vec<String>,
}

impl Counts {
    /// Takes the next line of a program's output: the result line of a test binary, or a row of a table of checks
    /// (`  ok    `, `  FAIL  `, `  skip  `).
    pub fn take(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix("test result: ") {
            self.passed += number_before(result, " passed");
            self.failed += number_before(result, " failed");
        } else if line.starts_with("  ok    ") {
            self.passed += 1;
        } else if line.starts_with("  FAIL  ") {
            self.failed += 1;
        } else if let Some(reason) = line.strip_prefix("  skip  ") {
            self.skipped.push(reason.trim_end().to_owned());
        }
    }

    /// Adds what another program counted.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped.extend(other.skipped);
    }
}

/// The number that stands before `word`; 0 when there is none.
fn number_before(text: &str, word: &str) -> usize {
    let before = text.split_once(word).map_or("", |(before, _)| before);
    let digits = before.rsplit(|c: char| !c.is_ascii_digit()).next();
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::Counts;

    #[test]
    fn test_binaries_and_tables_are_counted() {
        let mut counts = Counts::default();
        let lines = [
            "running 3 tests",
            "test a ... ok",
            "test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 1 filtered out; finished in 0.01s",
            "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out",
            "  ok    gic: 3",
            "  FAIL  uname: expected aarch64, found x86_64",
            "  skip  share: expected mounted, but the kernel has no 9p",
            "ok    emulator     QEMU 10.0",
        ];
        lines.iter().for_each(|line| counts.take(line));
        assert_eq!((counts.passed, counts.failed), (15, 2));
        assert_eq!(
            counts.skipped,
            ["share: expected mounted, but the kernel has no 9p"]
        );
        counts.take("test result: ok. x passed");
        assert_eq!(counts.passed, 15);
    }
}
