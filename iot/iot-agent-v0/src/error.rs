//! How errors are told.

use std::error::Error;

/// The longest text that is published for a deployment, in characters.
const MAX_DETAIL_CHARS: usize = 1000;

/// An error and its causes on one line.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// `text`, as it is published: cut, and on one line. A control character would take six bytes of the report.
pub fn bounded(text: &str) -> String {
    cut(&text.replace(char::is_control, " "), MAX_DETAIL_CHARS)
}

/// `text`, when it has more than `max_chars` cut to that many and marked as cut.
pub fn cut(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The shortest secret that is looked for: what is shorter is in every text.
const MIN_SECRET_CHARS: usize = 4;

/// `text` without any of `secrets`, also where it has them as JSON or as Go quotes them.
pub fn masked<'a>(text: &str, secrets: impl IntoIterator<Item = &'a str>) -> String {
    let secrets = secrets
        .into_iter()
        .filter(|secret| secret.chars().count() >= MIN_SECRET_CHARS);
    let mut forms: Vec<_> = secrets.flat_map(forms).collect();
    // One may be a part of another.
    forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
    let hide = |text: String, form: String| text.replace(&form, "…");
    forms.into_iter().fold(text.to_owned(), hide)
}

/// How `secret` may be written.
fn forms(secret: &str) -> [String; 5] {
    let styles: [fn(char) -> Escape; 5] = [plain, json, go_json, old_go_json, go_quoted];
    styles.map(|style| {
        let written = secret.chars().map(|c| {
            let code = u32::from(c);
            style(c).map_or_else(
                || c.to_string(),
                |form| form.replace("XX", &format!("{code:02x}")),
            )
        });
        written.collect()
    })
}

type Escape = Option<&'static str>;

/// How a style writes a character that it does not write as it is; `XX` stands for its number.
fn plain(_: char) -> Escape {
    None
}

fn common(c: char) -> Escape {
    match c {
        '"' => Some("\\\""),
        '\\' => Some("\\\\"),
        '\n' => Some("\\n"),
        '\r' => Some("\\r"),
        '\t' => Some("\\t"),
        _ => None,
    }
}

fn json(c: char) -> Escape {
    common(c).or(match c {
        '\u{8}' => Some("\\b"),
        '\u{c}' => Some("\\f"),
        '\0'..' ' => Some("\\u00XX"),
        _ => None,
    })
}

/// Go makes its JSON fit for HTML.
fn go_json(c: char) -> Escape {
    json(c).or(match c {
        '<' | '>' | '&' => Some("\\u00XX"),
        '\u{2028}' | '\u{2029}' => Some("\\uXX"),
        _ => None,
    })
}

/// Before its version 1.22.
fn old_go_json(c: char) -> Escape {
    match c {
        '\u{8}' | '\u{c}' => Some("\\u00XX"),
        _ => go_json(c),
    }
}

/// Its `%q`.
fn go_quoted(c: char) -> Escape {
    common(c).or(match c {
        '\u{7}' => Some("\\a"),
        '\u{8}' => Some("\\b"),
        '\u{b}' => Some("\\v"),
        '\u{c}' => Some("\\f"),
        '\0'..' ' | '\u{7f}' => Some("\\xXX"),
        '\u{80}'..='\u{a0}' => Some("\\u00XX"),
        '\u{2028}' | '\u{2029}' => Some("\\uXX"),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::{bounded, masked};

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        assert_eq!(bounded("ä"), "ä");
        assert_eq!(bounded(&"ä".repeat(1000)), "ä".repeat(1000));
        assert_eq!(bounded(&"ä".repeat(1001)), format!("{}…", "ä".repeat(1000)));
        assert_eq!(bounded("a\nb\u{1}c\u{9b}d"), "a b c d");
    }

    #[test]
    fn secrets_are_masked() {
        let text = "cannot log in with hunter2 or hunter22";
        let masked = masked(text, ["hunter2", "hunter22", "", "in", "1"]);
        assert_eq!(masked, "cannot log in with … or …");
    }

    #[test]
    fn secrets_are_masked_as_json_and_as_go_write_them() {
        let secret = "a\"b\\c\nd<&>\u{2028}e\u{1}\u{8}f";
        let as_go = "a\\\"b\\\\c\\nd\\u003c\\u0026\\u003e\\u2028e\\u0001\\u0008f";
        let newer_go = "a\\\"b\\\\c\\nd\\u003c\\u0026\\u003e\\u2028e\\u0001\\bf";
        let quoted = "a\\\"b\\\\c\\nd<&>\\u2028e\\x01\\bf";
        let json = serde_json::to_string(secret).unwrap();
        let json = json.trim_matches('"');
        for form in [secret, json, as_go, newer_go, quoted] {
            let text = format!("invalid value \"{form}\"");
            assert_eq!(masked(&text, [secret]), "invalid value \"…\"", "{form}");
        }
        // What is written differently is not shorter than what is looked for.
        assert_eq!(masked("\\\"\\\"", ["\"\""]), "\\\"\\\"");
    }
}
