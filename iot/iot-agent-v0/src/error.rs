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

/// What serde says of JSON that it cannot read, without the value that it found there: that may be a secret in the wrong
/// place.
pub fn without_value(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if !error.is_data() {
        return text;
    }
    let found = text
        .split_once("string \"")
        .filter(|(before, _)| before.ends_with(": "));
    if let Some((before, rest)) = found {
        return format!("{before}a string{}", after_quoted(rest, '"'));
    }
    // A key in which someone wrote `NAME=VALUE`.
    let key = text
        .split_once(" `")
        .filter(|(before, _)| before.starts_with("unknown"));
    if let Some((before, rest)) = key
        && let Some((key, rest)) = rest.split_once('`')
        && let Some((name, _)) = key.split_once('=')
    {
        return format!("{before} `{name}=…`{rest}");
    }
    text
}

/// What comes behind the end of a quoted text.
fn after_quoted(text: &str, quote: char) -> &str {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return &text[at + 1..],
            _ => {}
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::{bounded, masked, without_value};
    use iot_contracts::IotScore;

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
    fn what_cannot_be_read_is_not_quoted() {
        let service = |rest: &str| {
            format!(
                r#"{{"type":"PodmanV0","data":{{"services":[{{"name":"a","image":"x",{rest}}}]}}}}"#
            )
        };
        let cases = [
            (
                service(r#""env":"DB=s3cr3t""#),
                "invalid type: a string, expected a map",
            ),
            (
                service(r#""env":"DB=\"s3cr3t""#),
                "invalid type: a string, expected a map",
            ),
            (
                service(r#""env":{"DB=s3cr3t":"x"}"#),
                "environment variable 'DB=…' is not valid",
            ),
            (
                service(r#""env":{"DB":["s3cr3t"]}"#),
                "invalid type: sequence, expected a string",
            ),
            (
                service(r#""command":"x -p s3cr3t""#),
                "invalid type: a string, expected a sequence",
            ),
            (
                service(r#""DB=s3cr3t":"x""#),
                "unknown field `DB=…`, expected one of",
            ),
            (
                service(r#""env":{"DB":"s3cr3t}"#),
                "EOF while parsing a string",
            ),
            (
                r#"{"type":"x","data":{}}"#.to_owned(),
                "unknown variant `x`",
            ),
        ];
        for (json, expected) in cases {
            let error = serde_json::from_str::<IotScore>(&json).unwrap_err();
            let told = without_value(&error);
            assert!(told.contains(expected), "{json}: {told}");
            assert!(!told.contains("s3cr3t"), "{json}: {told}");
        }
    }
}
