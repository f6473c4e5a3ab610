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

/// `text`, cut to what is published.
pub fn bounded(text: &str) -> String {
    match text.char_indices().nth(MAX_DETAIL_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::bounded;

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        assert_eq!(bounded("ä"), "ä");
        assert_eq!(bounded(&"ä".repeat(1000)), "ä".repeat(1000));
        assert_eq!(bounded(&"ä".repeat(1001)), format!("{}…", "ä".repeat(1000)));
    }
}
