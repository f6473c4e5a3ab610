//! The floors as `docs/architecture.md` draws them.

/// Where they are on the page: in the first block after this heading.
const HEADING: &str = "## Floors";

/// Each room with those that it may know, the lowest first.
pub(super) struct Floors(Vec<(String, Vec<String>)>);

impl Floors {
    /// Reads lines of the form `room: other other`. A room may know only those that were drawn before it, so no circle can
    /// be drawn.
    pub(super) fn parse(page: &str) -> Self {
        let (_, after) = page.split_once(HEADING).expect("the heading");
        let block = after.split("```").nth(1).expect("a block");
        let mut floors = Vec::<(String, Vec<String>)>::new();
        for line in block.lines().skip(1).filter(|line| !line.is_empty()) {
            let (room, knows) = line.split_once(':').unwrap_or_else(|| panic!("{line}"));
            let knows: Vec<String> = knows.split_whitespace().map(str::to_owned).collect();
            for other in &knows {
                let before = floors.iter().any(|(lower, _)| lower == other);
                assert!(before, "{room} is drawn before {other}, which it may know");
            }
            floors.push((room.trim().to_owned(), knows));
        }
        Self(floors)
    }

    pub(super) fn rooms(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(room, _)| room.as_str())
    }

    pub(super) fn allow(&self, from: &str, to: &str) -> bool {
        let knows = |(room, knows): &(String, Vec<String>)| {
            room == from && knows.iter().any(|other| other == to)
        };
        self.0.iter().any(knows)
    }
}

#[test]
fn the_drawing_is_read() {
    let page = "# A\n\n## Floors\n\n```text\na:\nb: a\nc:  a  b\n```\n\n```text\nd:\n```\n";
    let floors = Floors::parse(page);
    assert_eq!(floors.rooms().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert!(floors.allow("c", "b") && floors.allow("b", "a"));
    assert!(!floors.allow("a", "b") && !floors.allow("b", "c"));
}
