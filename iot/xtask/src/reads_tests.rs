//! What the sets say is held against the files of the repository.

use std::collections::BTreeSet;
use std::fs::read_to_string;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{GUIDES, MACHINES, UNTESTED, fits, has};
use crate::host::Host;
use crate::lanes::{ALL, FULL, Lane};
use crate::step::Plan;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The files that git has. Where it does not know the tree, as on a machine that has only the tree: those that are there.
fn files() -> BTreeSet<String> {
    let git = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(root())
        .output();
    let files: BTreeSet<String> = match git {
        Ok(said) if said.status.success() => {
            let said = String::from_utf8(said.stdout).expect("names in UTF-8");
            let names = said.split('\0').filter(|name| !name.is_empty());
            // What is deleted and not yet committed is read by nobody.
            names
                .map(str::to_owned)
                .filter(|name| root().join(name).exists())
                .collect()
        }
        _ => found(""),
    };
    assert!(
        files.len() > 500 && files.contains("Cargo.toml"),
        "{files:?}"
    );
    files
}

fn found(below: &str) -> BTreeSet<String> {
    let mut files = BTreeSet::new();
    for entry in root().join(below).read_dir().expect("a directory") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("a name in UTF-8");
        let path = format!("{below}{name}");
        if [".git", "target", "figures"].contains(&path.as_str()) {
            continue;
        }
        if entry.file_type().expect("a type").is_dir() {
            files.append(&mut found(&format!("{path}/")));
        } else {
            files.insert(path);
        }
    }
    files
}

fn text(path: &str) -> String {
    read_to_string(root().join(path)).unwrap_or_default()
}

fn lane(name: &str) -> &'static Lane {
    ALL.iter().find(|lane| lane.name == name).expect("a lane")
}

#[test]
fn the_last_pattern_that_fits_decides() {
    let table = [
        ("a/b", "a/b", true),
        ("a/b", "a/b/c", false),
        ("a/", "a/b/c", true),
        ("a/", "b/a/c", false),
        ("*.rs", "a/b.rs", true),
        ("*.rs", "a/b.rs.orig", false),
        ("a/*tests/*", "a/b/x_tests/c.rs", true),
        ("a/*tests/*", "a/b/tests.rs", false),
        ("a*a", "a", false),
        ("*ä*", "é/ä/ö", true),
    ];
    for (pattern, path, expected) in table {
        assert_eq!(fits(pattern, path), expected, "{pattern} {path}");
    }
    let set = &["a/", "!a/b/", "a/b/c/"];
    let has = ["a/x", "a/b/x", "a/b/c/x", "x"].map(|path| has(set, path));
    assert_eq!(has, [true, false, true, false]);
}

#[test]
fn each_file_is_read_by_a_lane_or_is_one_that_nothing_tests() {
    for file in files() {
        let readers: Vec<_> = ALL.iter().filter(|lane| lane.reads(&file)).collect();
        let is_untested = has(UNTESTED, &file);
        let names: Vec<_> = readers.iter().map(|lane| lane.name).collect();
        assert!(
            readers.is_empty() == is_untested,
            "{file}: read by {names:?}, and in UNTESTED: {is_untested} (iot/xtask/src/reads.rs)"
        );
    }
}

#[test]
fn no_pattern_is_of_files_that_are_gone() {
    let files = files();
    let sets = ALL.iter().chain(&FULL).flat_map(|lane| lane.reads);
    for set in sets.chain([&super::EVERY, &UNTESTED]) {
        for pattern in *set {
            let fits = |file: &String| fits(pattern.trim_start_matches('!'), file);
            // Which tests there are depends on the crate.
            let is_general = pattern.starts_with("!*");
            assert!(is_general || files.iter().any(fits), "{pattern} in {set:?}");
        }
    }
}

/// A member of the workspace.
struct Member {
    directory: String,
    name: String,
    manifest: String,
}

fn members() -> Vec<Member> {
    let manifests = files()
        .into_iter()
        .filter(|file| file.ends_with("/Cargo.toml"));
    let member = |file: String| {
        let manifest = text(&file);
        let name = manifest
            .lines()
            .find_map(|line| line.strip_prefix("name = "));
        Member {
            directory: file.trim_end_matches("Cargo.toml").to_owned(),
            name: name.expect("a name").trim_matches('"').to_owned(),
            manifest,
        }
    };
    manifests.map(member).collect()
}

/// The words of a text that is no comment.
fn words(text: &str) -> Vec<String> {
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    let separates = |c: char| c.is_whitespace() || "\"'()$;,".contains(c);
    let words = lines.flat_map(|line| line.split(separates));
    words
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// What a lane's steps say, and the scripts that they call, one by another.
fn said(lane: &Lane) -> (Vec<String>, BTreeSet<String>) {
    let Plan::Run { steps, .. } = (lane.plan)(&Host::for_tests(true)) else {
        panic!("{} does not run", lane.name);
    };
    let mut waiting: Vec<_> = steps.iter().flat_map(|step| words(&step.words())).collect();
    let (mut all, mut scripts) = (Vec::new(), BTreeSet::new());
    while let Some(word) = waiting.pop() {
        let script = word
            .rsplit_once('/')
            .map(|(_, name)| format!("iot/scripts/{name}"));
        let script =
            script.filter(|script| script.ends_with(".sh") && root().join(script).exists());
        if let Some(script) = script.filter(|script| scripts.insert(script.clone())) {
            waiting.extend(words(&text(&script)));
        }
        all.push(word);
    }
    (all, scripts)
}

/// The members that are named, and those that they depend on.
fn with_dependencies<'a>(members: &'a [Member], named: &[&str]) -> Vec<&'a Member> {
    let mut needed: Vec<&Member> = Vec::new();
    let mut waiting: Vec<_> = members
        .iter()
        .filter(|member| named.contains(&member.name.as_str()))
        .collect();
    while let Some(member) = waiting.pop() {
        if needed.iter().any(|other| other.name == member.name) {
            continue;
        }
        let depends = |other: &&Member| {
            let starts = [".", " ="].map(|end| format!("\n{}{end}", other.name));
            starts.iter().any(|start| member.manifest.contains(start))
        };
        waiting.extend(members.iter().filter(depends));
        needed.push(member);
    }
    needed
}

#[test]
fn a_lane_reads_the_scripts_that_it_runs_and_the_crates_that_they_build() {
    let (members, files) = (members(), files());
    let names: Vec<_> = members.iter().map(|member| member.name.as_str()).collect();
    let (mut scripts_seen, mut crates_seen) = (0, 0);
    for lane in ALL.iter().chain(&FULL) {
        let (words, scripts) = said(lane);
        for script in &scripts {
            assert!(lane.reads(script), "{} does not read {script}", lane.name);
            scripts_seen += 1;
        }
        // A test of a filter names its crate; what the whole workspace is tested for is in the tests below.
        let is_named = |name: &&str| {
            let forms = [(*name).to_owned(), format!("package={name}")];
            words.iter().any(|word| forms.contains(word))
        };
        let named = names.iter().copied().filter(is_named);
        // What each lane reads of the runner is in EVERY.
        let named: Vec<_> = named.filter(|name| *name != "xtask").collect();
        for member in with_dependencies(&members, &named) {
            let directory = &member.directory;
            let sources = ["Cargo.toml", "src/main.rs", "src/lib.rs"]
                .map(|file| format!("{directory}{file}"));
            for file in sources.iter().filter(|file| files.contains(*file)) {
                assert!(lane.reads(file), "{} does not read {file}", lane.name);
                crates_seen += 1;
            }
        }
        for word in words {
            let program = format!("iot/iot-smoke/src/bin/{word}/main.rs");
            if files.contains(&program) {
                assert!(
                    lane.reads(&program),
                    "{} does not read {program}",
                    lane.name
                );
            }
        }
    }
    assert!(
        scripts_seen > 50 && crates_seen > 100,
        "{scripts_seen} {crates_seen}"
    );
}

#[test]
fn what_needs_a_host_is_read_by_a_lane_that_runs_such_tests() {
    let of_host = ["host", "images", "guest-builder", "idle-agent", "faults"];
    let mark = concat!("#[", "ignore");
    let sources = files().into_iter().filter(|file| file.ends_with(".rs"));
    // Examples are compiled; who learns from one runs it.
    let sources = sources.filter(|file| !file.contains("/examples/"));
    let ignored: Vec<_> = sources.filter(|file| text(file).contains(mark)).collect();
    assert!(ignored.len() > 30, "{ignored:?}");
    for file in ignored {
        let read = of_host.iter().any(|name| lane(name).reads(&file));
        assert!(read, "{file} has tests that no lane of {of_host:?} reads");
    }
}

/// The files that a source file includes, and whether each is part of the documentation.
fn included(file: &str) -> Vec<(String, bool)> {
    let (directory, source) = (root().join(file), text(file));
    let lines = source.lines().filter_map(|line| {
        let (before, rest) = line.split_once("include_str!(\"")?;
        let (name, _) = rest.split_once('"')?;
        // A test may write the text of such a line into a file of its own.
        let path = directory.parent()?.join(name).canonicalize().ok()?;
        let path = path
            .strip_prefix(root().canonicalize().ok()?)
            .ok()?
            .to_str()?;
        Some((path.to_owned(), before.contains("doc = ")))
    });
    lines.collect()
}

#[test]
fn what_code_includes_is_read_by_the_lanes_that_compile_it() {
    let (mut seen, mut guides) = (0, BTreeSet::new());
    for file in files().iter().filter(|file| file.ends_with(".rs")) {
        for (included, is_documentation) in included(file) {
            assert!(
                lane("unit").reads(&included),
                "unit does not read {included}"
            );
            seen += 1;
            if is_documentation && included.ends_with(".md") {
                guides.insert(included);
            }
        }
    }
    assert!(seen > 15, "{seen}");
    assert_eq!(
        guides,
        GUIDES.iter().map(|guide| (*guide).to_owned()).collect()
    );
    for guide in GUIDES {
        for name in ["docs", "lints", "unit", "no-features"] {
            assert!(lane(name).reads(guide), "{name} does not read {guide}");
        }
    }
}

#[test]
fn what_programs_are_without_is_compiled_for_tests_only() {
    let files = files();
    let of_tests = |file: &&String| {
        file.contains("/src/") && file.ends_with("tests.rs") && !file.contains("tests/")
    };
    let mut seen = 0;
    for file in files.iter().filter(of_tests) {
        let (directory, name) = file.rsplit_once('/').expect("below a directory");
        let module = name.trim_end_matches(".rs");
        let parents = [
            format!("{directory}.rs"),
            format!("{directory}/mod.rs"),
            format!("{directory}/main.rs"),
            format!("{directory}/lib.rs"),
        ];
        let is_near = |other: &&String| {
            parents.contains(other)
                || other
                    .rsplit_once('/')
                    .is_some_and(|(near, _)| near == directory)
        };
        let declarations = [format!("mod {module};"), format!("{name}\"]")];
        let declared = files.iter().filter(is_near).any(|other| {
            let source = text(other);
            let lines: Vec<_> = source.lines().collect();
            // What a test declares is a test.
            let is_test = other.ends_with("tests.rs");
            lines.windows(2).any(|pair| {
                let is_for_tests =
                    is_test || ["#[cfg(test)]", "#[cfg(any(test, fuzzing))]"].contains(&pair[0]);
                is_for_tests && declarations.iter().any(|d| pair[1].ends_with(d))
            })
        });
        assert!(declared, "nothing declares {file} below #[cfg(test)]");
        seen += 1;
    }
    assert!(seen > 60, "{seen}");
}

#[test]
fn machines_and_images_use_nothing_of_devices() {
    let uses = ["modules::iot", "super::iot", "iot::"];
    let mut sources = files();
    sources.retain(|file| {
        file.ends_with(".rs") && has(MACHINES, file) && file.starts_with("harmony/")
    });
    assert!(sources.len() > 100, "{sources:?}");
    for file in sources {
        let source = text(&file);
        let line = source.lines().find(|line| {
            let line = line.trim_start();
            !line.starts_with("//") && uses.iter().any(|used| line.contains(used))
        });
        assert_eq!(
            line, None,
            "{file}: lanes of machines would have to read modules/iot"
        );
    }
}
