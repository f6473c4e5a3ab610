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

/// `text` without any of `secrets`.
pub fn masked<'a>(text: &str, secrets: impl IntoIterator<Item = &'a str>) -> String {
    let mut secrets: Vec<_> = secrets
        .into_iter()
        .filter(|secret| secret.chars().count() >= MIN_SECRET_CHARS)
        .collect();
    // One may be a part of another.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    let hide = |text: String, secret: &str| text.replace(secret, "…");
    secrets.into_iter().fold(text.to_owned(), hide)
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
}
