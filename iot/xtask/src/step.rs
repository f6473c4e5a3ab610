//! What a lane consists of.

/// What a lane runs on a host.
#[derive(Debug)]
pub enum Plan {
    /// Nothing, and why.
    Skip(&'static str),
    /// These.
    Run {
        /// One after the other; the first that fails ends the lane.
        steps: Vec<Step>,
        /// The tests that are left out, each with the reason.
        skips: Vec<String>,
    },
}

/// A program to run.
#[derive(Debug, Clone)]
pub struct Step {
    /// What its success means.
    pub kind: Kind,
    /// The program.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Variables that are set for it.
    pub environment: Vec<(&'static str, String)>,
}

/// What a step's success means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing yet.
    Preparation,
    /// One check passed, or those that its table lists.
    Check,
    /// One check passed, whatever else it counts.
    One,
    /// The tests passed that it counts; none is a failure.
    Tests,
}

impl Step {
    /// Counts as one.
    pub fn one(self) -> Self {
        Self {
            kind: Kind::One,
            ..self
        }
    }

    /// A check.
    pub fn new<'a>(program: &str, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            kind: Kind::Check,
            program: program.to_owned(),
            arguments: arguments.into_iter().map(str::to_owned).collect(),
            environment: Vec::new(),
        }
    }

    /// A check, written as on a command line: words with blanks between them.
    pub fn of_line(line: &str) -> Self {
        let mut words = line.split_whitespace();
        let program = words.next().unwrap_or_default();
        Self::new(program, words)
    }

    /// As what others need.
    pub fn preparation(self) -> Self {
        Self {
            kind: Kind::Preparation,
            ..self
        }
    }

    /// Tests that say how many they are.
    pub fn tests(line: &str) -> Self {
        Self {
            kind: Kind::Tests,
            ..Self::of_line(line)
        }
    }

    /// With a variable set.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    /// How it is told of.
    pub fn words(&self) -> String {
        let words = std::iter::once(&self.program).chain(&self.arguments);
        let words: Vec<_> = words.map(String::as_str).collect();
        words.join(" ")
    }
}

/// A lane that leaves nothing out.
pub fn all(steps: impl IntoIterator<Item = Step>) -> Plan {
    Plan::Run {
        steps: steps.into_iter().collect(),
        skips: Vec::new(),
    }
}
