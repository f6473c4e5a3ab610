//! What each module of the library mentions: a scanner for lines, and no parser of Rust.
//!
//! Code that is compiled for tests alone is passed over.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A place in the library: its room, and the module in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) room: String,
    pub(super) part: Option<String>,
}

/// That one place names another.
#[derive(Debug, Clone)]
pub(super) struct Mention {
    pub(super) from: Place,
    pub(super) to: Place,
    pub(super) file: String,
    pub(super) line: usize,
    pub(super) path: String,
    /// Whether it does so in its documentation.
    pub(super) is_link: bool,
}

/// The files that are no tests, by their modules' paths.
pub(super) struct Sources {
    root: PathBuf,
    modules: BTreeMap<Vec<String>, (PathBuf, String)>,
}

impl Sources {
    pub(super) fn read(root: &Path) -> Self {
        let mut modules = BTreeMap::new();
        let mut tests = BTreeSet::new();
        for file in files_below(root) {
            let relative = file.strip_prefix(root).expect("below the root");
            let text = std::fs::read_to_string(&file).expect("readable");
            tests.extend(test_files(&file, &text));
            modules.insert(module_path(relative), (file.clone(), without_tests(&text)));
        }
        // What only such a file declares is below it, or is called as it is.
        let is_test = |file: &Path| {
            let file = file.with_extension("");
            let below = |test: &PathBuf| file.starts_with(test.with_extension(""));
            file.to_string_lossy().ends_with("_tests") || tests.iter().any(below)
        };
        modules.retain(|_, (file, _)| !is_test(file));
        let root = root.to_owned();
        Self { root, modules }
    }

    pub(super) fn rooms(&self) -> impl Iterator<Item = &str> {
        let rooms = self.modules.keys().filter_map(|module| room_of(module));
        rooms
            .map(|(room, _)| room)
            .collect::<BTreeSet<_>>()
            .into_iter()
    }

    pub(super) fn mentions(&self) -> Vec<Mention> {
        let mut all = Vec::new();
        for (module, (file, text)) in &self.modules {
            let Some(from) = self.place(module) else {
                continue;
            };
            let file = file.strip_prefix(&self.root).expect("below the root");
            let lines: Vec<&str> = text.lines().collect();
            for (line, path) in paths(text) {
                let is_link = lines[line - 1].trim_start().starts_with("//");
                if let Some(to) = absolute(module, &path).and_then(|path| self.place(&path)) {
                    all.push(Mention {
                        from: from.clone(),
                        to,
                        file: format!("harmony/src/{}", file.display()),
                        line,
                        path,
                        is_link,
                    });
                }
            }
        }
        all
    }

    /// Where a path leads to. What a room has from one of its modules is that module's.
    fn place(&self, path: &[String]) -> Option<Place> {
        let (room, depth) = room_of(path)?;
        let inside = |part: &str| {
            let module = [&path[..depth], &[part.to_owned()]].concat();
            self.modules.contains_key(&module)
        };
        let part = path.get(depth).and_then(|name| match inside(name) {
            true => Some(name.clone()),
            false => self.handed_on(&path[..depth], name),
        });
        Some(Place {
            room: room.to_owned(),
            part,
        })
    }

    /// The module that a room has a name from, by `pub use MODULE::NAME`.
    fn handed_on(&self, room: &[String], name: &str) -> Option<String> {
        let (_, text) = self.modules.get(room)?;
        let found = uses(text)
            .into_iter()
            .map(|(_, path)| path)
            .find(|path| path.rsplit("::").next() == Some(name) && !path.starts_with("crate::"));
        found?.split("::").next().map(str::to_owned)
    }
}

/// The room that a path is in, and how many of its segments that takes.
fn room_of(path: &[String]) -> Option<(&str, usize)> {
    match path {
        [first, ..] if first == "domain" => Some((first, 1)),
        [first, room, ..] if first == "modules" => Some((room, 2)),
        _ => None,
    }
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

fn module_path(relative: &Path) -> Vec<String> {
    let path = relative.with_extension("");
    let segments = path.iter().map(|s| s.to_string_lossy().into_owned());
    segments.filter(|s| s != "mod" && s != "lib").collect()
}

fn is_for_tests(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("#[cfg(test)]")
        || line.starts_with("#[cfg(all(test")
        || line.starts_with("#[cfg(all(doctest")
}

/// The files of the modules that `file` declares for tests alone.
fn test_files(file: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let lines: Vec<&str> = text.lines().collect();
    for (at, _) in lines.iter().enumerate().filter(|(_, l)| is_for_tests(l)) {
        let mut attribute = None;
        for line in lines[at + 1..].iter().map(|line| line.trim()) {
            if let Some(path) = line.strip_prefix("#[path = \"") {
                attribute = path.strip_suffix("\"]");
            } else if !line.starts_with("#[") {
                let name = line
                    .rsplit_once("mod ")
                    .and_then(|(_, n)| n.strip_suffix(';'));
                let directory = file.parent().expect("in a directory");
                found.extend(match (name, attribute) {
                    (Some(_), Some(path)) => Some(directory.join(path)),
                    (Some(name), None) if file.ends_with("mod.rs") || file.ends_with("lib.rs") => {
                        Some(directory.join(format!("{name}.rs")))
                    }
                    (Some(name), None) => Some(file.with_extension("").join(format!("{name}.rs"))),
                    (None, _) => None,
                });
                break;
            }
        }
    }
    found
}

/// The text with each item for tests alone left empty, so that lines keep their numbers.
fn without_tests(text: &str) -> String {
    let mut kept = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        kept.push('\n');
        if !is_for_tests(line) {
            kept.insert_str(kept.len() - 1, line);
            continue;
        }
        let indent = &line[..line.len() - line.trim_start().len()];
        // An item ends with the first line that is as far to the left as it begins, and closes it.
        let end = |line: &str| {
            let own = line.strip_prefix(indent).unwrap_or_default();
            !own.starts_with(' ') && (own.ends_with(';') || own.starts_with('}'))
        };
        for line in lines.by_ref() {
            kept.push('\n');
            if end(line) {
                break;
            }
        }
    }
    kept
}

/// Every path from the crate's root or from a parent, with its line.
fn paths(text: &str) -> Vec<(usize, String)> {
    let mut all = uses(text);
    for (at, line) in text.lines().enumerate() {
        let is_use = use_tree(line).is_some();
        for start in ["crate::", "harmony::", "super::"] {
            let mut rest = line;
            while let Some((before, after)) = rest.split_once(start) {
                let fresh =
                    !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
                let end = after.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
                let path = after[..end.unwrap_or(after.len())].trim_end_matches(':');
                if fresh && !is_use {
                    all.push((at + 1, format!("{start}{path}")));
                }
                rest = after;
            }
        }
    }
    all
}

/// What a line imports, as far as the line has it.
fn use_tree(line: &str) -> Option<&str> {
    let line = line
        .trim_start()
        .trim_start_matches("//!")
        .trim_start_matches("///");
    let line = line.trim_start().trim_start_matches("# ");
    let item = match line.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(") ")?.1,
        Some(rest) => rest.trim_start(),
        None => line,
    };
    item.strip_prefix("use ")
}

/// Every path of every import, with the line that it begins in.
fn uses(text: &str) -> Vec<(usize, String)> {
    let mut all = Vec::new();
    let lines: Vec<&str> = text.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let Some(first) = use_tree(line) else {
            continue;
        };
        let mut tree = first.to_owned();
        for next in &lines[at + 1..] {
            if tree.contains(';') {
                break;
            }
            tree.push_str(next.trim_start_matches(['/', '!', ' ']));
        }
        if let Some((tree, _)) = tree.split_once(';') {
            let mut paths = Vec::new();
            expand("", tree, &mut paths);
            all.extend(paths.into_iter().map(|path| (at + 1, path)));
        }
    }
    all
}

/// The paths of a tree such as `a::{b, c::{self, d as e}}`.
fn expand(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let tree = tree.trim();
    let Some((head, body)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        let path = format!("{prefix}{path}");
        paths.push(path.trim_end_matches("::self").to_owned());
        return;
    };
    let prefix = format!("{prefix}{}", head.trim());
    let body = body.rsplit_once('}').map_or(body, |(inner, _)| inner);
    let mut depth = 0_usize;
    let parts = body.split(|c| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    for part in parts.filter(|part| !part.trim().is_empty()) {
        expand(&prefix, part, paths);
    }
}

/// A path of the module `module`, from the crate's root.
fn absolute(module: &[String], path: &str) -> Option<Vec<String>> {
    let mut segments = path.split("::").peekable();
    let mut base = match segments.peek()? {
        &"crate" | &"harmony" => {
            segments.next();
            Vec::new()
        }
        &"super" => module.to_vec(),
        _ => return None,
    };
    while segments.next_if_eq(&"super").is_some() {
        base.pop();
    }
    base.extend(segments.map(str::to_owned));
    Some(base)
}

#[test]
fn imports_of_every_form_are_read_and_tests_are_not() {
    let text = "//! [`x`](crate::modules::a::x)\nuse crate::{\n    domain::b, modules::{c::{self, d}, e as f},\n};\n\
                #[cfg(test)]\nmod tests {\n    use crate::g;\n}\npub(super) use super::h;\n\
                fn i() { crate::j::k(); }\n#[cfg(test)]\nuse crate::l;\n";
    let found = paths(&without_tests(text));
    let mut found: Vec<(usize, &str)> = found.iter().map(|(l, p)| (*l, p.as_str())).collect();
    found.sort_unstable();
    let expected = [
        (1, "crate::modules::a::x"),
        (2, "crate::domain::b"),
        (2, "crate::modules::c"),
        (2, "crate::modules::c::d"),
        (2, "crate::modules::e"),
        (9, "super::h"),
        (10, "crate::j::k"),
    ];
    assert_eq!(found, expected);
}
