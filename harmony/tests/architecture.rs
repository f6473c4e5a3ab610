//! The library's structure: which part may know which, as `docs/architecture.md` draws it.
//!
//! A room is `domain` or a module of `modules`. An arrow is an import or an inline path from one room to another, or from
//! one module of a room to another of the same room. Between rooms a link of the documentation is one as well: it breaks
//! when they become crates.

mod floors;
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use floors::Floors;
use sources::{Mention, Sources};

/// Arrows with the places that they are drawn by.
type Graph = BTreeMap<(String, String), Vec<Mention>>;

fn library() -> Sources {
    Sources::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
}

fn drawn() -> Floors {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/architecture.md");
    Floors::parse(&std::fs::read_to_string(page).expect("the page"))
}

fn between_rooms(mentions: &[Mention]) -> Graph {
    let mut graph = Graph::new();
    for mention in mentions {
        if mention.from.room != mention.to.room {
            let arrow = (mention.from.room.clone(), mention.to.room.clone());
            graph.entry(arrow).or_default().push(mention.clone());
        }
    }
    graph
}

fn inside_rooms(mentions: &[Mention]) -> Graph {
    let mut graph = Graph::new();
    for mention in mentions {
        let (from, to) = (&mention.from, &mention.to);
        if from.room == to.room
            && let (Some(a), Some(b)) = (&from.part, &to.part)
            && a != b
            && !mention.is_link
        {
            let name = |part: &str| format!("{}::{part}", from.room);
            graph
                .entry((name(a), name(b)))
                .or_default()
                .push(mention.clone());
        }
    }
    graph
}

/// The arrows that lie on a circle.
fn circles(graph: &Graph) -> Vec<&(String, String)> {
    let leads_back = |from: &str, to: &str| {
        let mut seen = BTreeSet::from([to]);
        let mut open = vec![to];
        while let Some(at) = open.pop() {
            if at == from {
                return true;
            }
            let next = graph
                .keys()
                .filter(|(a, _)| a == at)
                .map(|(_, b)| b.as_str());
            open.extend(next.filter(|b| seen.insert(b)));
        }
        false
    };
    let arrows = graph.keys();
    arrows.filter(|(from, to)| leads_back(from, to)).collect()
}

/// Each arrow with the files and lines that draw it.
fn told<'a>(graph: &Graph, arrows: impl IntoIterator<Item = &'a (String, String)>) -> String {
    let mut text = String::new();
    for arrow in arrows {
        for Mention {
            file, line, path, ..
        } in &graph[arrow]
        {
            let (from, to) = arrow;
            writeln!(text, "{from} -> {to}: {file}:{line}: {path}").expect("a text grows");
        }
    }
    text
}

#[test]
fn every_room_is_drawn_and_every_drawn_room_is_there() {
    let floors = drawn();
    let drawn: BTreeSet<&str> = floors.rooms().collect();
    let sources = library();
    let there: BTreeSet<&str> = sources.rooms().collect();
    assert_eq!(drawn, there);
}

#[test]
fn no_arrow_goes_where_none_is_drawn() {
    let floors = drawn();
    let graph = between_rooms(&library().mentions());
    assert!(graph.len() > 10, "{} arrows were found", graph.len());
    let wrong = graph.keys().filter(|(from, to)| !floors.allow(from, to));
    let text = told(&graph, wrong);
    assert!(
        text.is_empty(),
        "not drawn in docs/architecture.md:\n{text}"
    );
}

#[test]
fn no_modules_of_a_room_import_each_other_in_a_circle() {
    let graph = inside_rooms(&library().mentions());
    assert!(graph.len() > 100, "{} arrows were found", graph.len());
    let text = told(&graph, circles(&graph));
    assert!(text.is_empty(), "on a circle:\n{text}");
}

#[test]
fn what_the_default_recipe_leaves_is_what_is_waited_for() {
    use harmony::domain::topology::virtualization::VmArchitecture;
    use harmony::modules::image::recipe::CheckedRecipe;
    use harmony::modules::linux::{FIRST_BOOT_NOTE, GROW_ROOT_UNIT};

    let recipe = CheckedRecipe::edge_device().expect("valid");
    let plan = recipe.plan(VmArchitecture::Aarch64, None, Path::new("/nowhere"));
    let plan = plan.expect("planned");
    let unit = |name: &str| {
        let path = format!("/etc/systemd/system/{name}");
        let file = plan.files.iter().find(|file| file.path == path);
        String::from_utf8_lossy(&file.expect(name).content).into_owned()
    };
    let condition = format!("\nConditionPathExists={FIRST_BOOT_NOTE}\n");
    assert!(unit(GROW_ROOT_UNIT).contains(&condition));
}
