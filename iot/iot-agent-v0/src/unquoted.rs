//! What is wrong with a document, told by place and kind, and never by what is there: it may be a secret in the wrong place.

use serde_path_to_error::{Path, Segment};

/// Where it is. `fields` are the names that a document may have, which a path may therefore show; all others are its own.
pub fn path(path: &Path, fields: &[&str]) -> String {
    let mut text = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => text.push_str(&format!("[{index}]")),
            Segment::Map { key } if fields.contains(&key.as_str()) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(key);
            }
            Segment::Enum { .. } => {}
            Segment::Map { .. } | Segment::Unknown => text.push_str(".?"),
        }
    }
    text
}

/// What kind of error serde's `message` tells of. Only what was expected is passed on of it.
pub fn kind(message: &str) -> String {
    let fixed = ["missing field ", "duplicate field "];
    if fixed.iter().any(|start| message.starts_with(start)) {
        return message.to_owned();
    }
    let kinds = [
        "invalid type",
        "invalid value",
        "invalid length",
        "unknown variant",
        "unknown field",
    ];
    // What was expected comes last, and has no such words in it.
    let kind = kinds.iter().find(|kind| message.starts_with(**kind));
    match kind {
        Some(kind) => match message.rfind(", expected ") {
            Some(expected) => format!("{kind}{}", &message[expected..]),
            None => (*kind).to_owned(),
        },
        None => match message.rfind(" (expected ") {
            Some(expected) => format!("not valid{}", &message[expected..]),
            None => "not valid".to_owned(),
        },
    }
}
