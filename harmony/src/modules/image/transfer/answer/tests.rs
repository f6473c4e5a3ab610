use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::{Answer, Asked, ContentRange, Validator, judge};

fn headers(fields: Fields) -> HeaderMap {
    fields
        .iter()
        .map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        })
        .collect()
}

type Fields = &'static [(&'static str, &'static str)];

#[test]
fn only_strong_validators_count() {
    let table: [(Fields, Option<Validator>); 7] = [
        (
            &[("etag", "\"a\"")],
            Some(Validator::Etag("\"a\"".to_owned())),
        ),
        (&[("etag", "W/\"a\"")], None),
        (&[("etag", "a")], None),
        (&[("etag", "\"\"")], None),
        (&[("last-modified", "then")], None),
        (&[("last-modified", "then"), ("date", "then")], None),
        (
            &[
                ("etag", "W/\"a\""),
                ("last-modified", "then"),
                ("date", "now"),
            ],
            Some(Validator::LastModified("then".to_owned())),
        ),
    ];
    for (fields, expected) in table {
        let map = headers(fields);
        assert_eq!(Validator::of(&map), expected, "{map:?}");
    }
}

#[test]
fn ranges_are_parsed_and_nonsense_is_none() {
    let part = |first, last, total| Some(ContentRange::Part { first, last, total });
    let table = [
        ("bytes 5-9/10", part(5, 9, Some(10))),
        ("bytes 5-9/*", part(5, 9, None)),
        ("bytes */10", Some(ContentRange::Size { total: 10 })),
        ("bytes 9-5/10", None),
        ("bytes 5-9", None),
        ("bytes -9/10", None),
        ("bytes 5-99999999999999999999/10", None),
        ("items 5-9/10", None),
        ("", None),
    ];
    for (text, expected) in table {
        assert_eq!(ContentRange::parse(text), expected, "{text}");
    }
}

#[test]
fn a_rest_is_one_only_when_it_reaches_to_the_end_of_the_same_file() {
    let validator = Validator::Etag("\"a\"".to_owned());
    let ask = |length, fields: Fields| {
        let asked = Asked {
            url: "http://e.org/d.img",
            size: None,
            rest: Some((5, &validator, length)),
        };
        judge(asked, StatusCode::PARTIAL_CONTENT, &headers(fields)).ok()
    };
    let rest = |total| Some(Answer::Rest { total });
    assert_eq!(
        ask(Some(10), &[("content-range", "bytes 5-9/10")]),
        rest(Some(10))
    );
    assert_eq!(
        ask(None, &[("content-range", "bytes 5-9/10")]),
        rest(Some(10))
    );
    assert_eq!(
        ask(Some(10), &[("content-range", "bytes 5-9/*")]),
        rest(Some(10))
    );
    assert_eq!(ask(None, &[("content-range", "bytes 5-9/*")]), rest(None));
    let lies: [Fields; 6] = [
        &[("content-range", "bytes 4-9/10")],
        &[("content-range", "bytes 5-8/10")],
        &[("content-range", "bytes 5-9/11")],
        &[("content-range", "bytes 5-10/11")],
        &[("content-range", "bytes 5-9/10"), ("content-length", "6")],
        &[("content-range", "bytes 5-9/10"), ("etag", "\"b\"")],
    ];
    for lie in lies {
        assert_eq!(ask(Some(10), lie), None, "{lie:?}");
    }
}
