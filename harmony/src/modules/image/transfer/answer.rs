//! What a server's answer is, told from its head: the whole file, the rest of it, or neither.
//!
//! A server may lie. The head of an answer is compared with what was asked for and with what the file is
//! known to be before a byte of it is taken; the digest has the last word in any case.

use reqwest::StatusCode;
use reqwest::header::{self, HeaderMap};
use serde::{Deserialize, Serialize};

use super::failure::Failure;
use crate::modules::image::error::ImageError;

/// By what a server tells whether its file is the one that a transfer began with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Validator {
    /// A strong entity tag.
    Etag(String),
    /// The time of the last change, where the answer was made later than that.
    LastModified(String),
}

impl Validator {
    /// The strong validator of an answer. Weak ones do not vouch for every byte.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(etag) = text(header::ETAG)
            && etag.len() > 2
            && etag.starts_with('"')
            && etag.ends_with('"')
        {
            return Some(Self::Etag(etag.to_owned()));
        }
        let modified = text(header::LAST_MODIFIED)?;
        let answered = text(header::DATE)?;
        (modified != answered).then(|| Self::LastModified(modified.to_owned()))
    }

    /// What `If-Range` says.
    pub(super) fn as_header(&self) -> &str {
        match self {
            Self::Etag(text) | Self::LastModified(text) => text,
        }
    }

    /// Whether an answer says that it is of another file. What it leaves out it does not contradict.
    fn is_contradicted_by(&self, headers: &HeaderMap) -> bool {
        let (name, expected) = match self {
            Self::Etag(tag) => (header::ETAG, tag),
            Self::LastModified(time) => (header::LAST_MODIFIED, time),
        };
        headers
            .get(name)
            .is_some_and(|value| value.as_bytes() != expected.as_bytes())
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    /// The URL, without secrets.
    pub(super) url: &'a str,
    /// The file's pinned size.
    pub(super) size: Option<u64>,
    /// Only the rest from this byte on, if the file is still this one, whose length was this.
    pub(super) rest: Option<(u64, &'a Validator, Option<u64>)>,
}

/// What comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// The file from its beginning.
    Whole { total: Option<u64> },
    /// What was missing; so many bytes.
    Rest { total: Option<u64> },
    /// Nothing was missing.
    Complete,
}

/// Tells what the answer with this head is.
pub(super) fn judge(
    asked: Asked<'_>,
    status: StatusCode,
    headers: &HeaderMap,
) -> Result<Answer, Failure> {
    let refused = || ImageError::HttpStatus {
        url: asked.url.to_owned(),
        status: status.as_u16(),
    };
    match (status, asked.rest) {
        (StatusCode::OK, _) => whole(asked, content_length(headers)),
        (StatusCode::PARTIAL_CONTENT, Some((offset, validator, length))) => {
            rest(asked, headers, offset, validator, length)
        }
        (StatusCode::RANGE_NOT_SATISFIABLE, Some((offset, ..))) => {
            beyond_the_end(asked, headers, offset)
        }
        (StatusCode::NOT_FOUND | StatusCode::GONE, _) => Err(Failure::Gone),
        (StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS, _) => {
            Err(Failure::Transient(refused()))
        }
        (status, _) if status.is_server_error() => Err(Failure::Transient(refused())),
        _ => Err(Failure::Refused(refused())),
    }
}

fn whole(asked: Asked<'_>, total: Option<u64>) -> Result<Answer, Failure> {
    match (total, asked.size) {
        (Some(size), Some(expected)) if size != expected => {
            Err(Failure::Refused(ImageError::WrongSize {
                url: asked.url.to_owned(),
                size,
                expected,
            }))
        }
        _ => Ok(Answer::Whole {
            total: total.or(asked.size),
        }),
    }
}

fn rest(
    asked: Asked<'_>,
    headers: &HeaderMap,
    offset: u64,
    validator: &Validator,
    length: Option<u64>,
) -> Result<Answer, Failure> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let answer = text(header::CONTENT_RANGE).unwrap_or("no Content-Range");
    let known = length.or(asked.size);
    let lie = |expected: String| {
        Failure::NotTheRest(ImageError::FalseRange {
            url: asked.url.to_owned(),
            offset,
            answer: answer.to_owned(),
            expected,
        })
    };
    if validator.is_contradicted_by(headers) {
        return Err(lie(format!("the file {}", validator.as_header())));
    }
    let range = ContentRange::parse(answer);
    let (first, last, total) = match range {
        Some(ContentRange::Part { first, last, total }) => (first, last, total),
        _ => return Err(lie(format!("Content-Range: bytes {offset}-LAST/SIZE"))),
    };
    // To the end, of a file as long as it was, in a body as long as it says.
    let total = total.or(known);
    let wrong_end = total.is_some_and(|total| last.checked_add(1) != Some(total));
    let wrong_total = known.is_some_and(|known| total != Some(known));
    let wrong_body = content_length(headers)
        .is_some_and(|body| last.checked_sub(first).and_then(|n| n.checked_add(1)) != Some(body));
    if first != offset || wrong_end || wrong_total || wrong_body {
        let size = known.map_or("SIZE".to_owned(), |known| known.to_string());
        return Err(lie(format!("the bytes {offset} to the end, of {size}")));
    }
    Ok(Answer::Rest { total })
}

fn beyond_the_end(asked: Asked<'_>, headers: &HeaderMap, offset: u64) -> Result<Answer, Failure> {
    let text = headers
        .get(header::CONTENT_RANGE)
        .and_then(|value| value.to_str().ok());
    let answer = text.unwrap_or("status 416");
    match ContentRange::parse(answer) {
        Some(ContentRange::Size { total }) if total == offset => Ok(Answer::Complete),
        _ => Err(Failure::NotTheRest(ImageError::FalseRange {
            url: asked.url.to_owned(),
            offset,
            answer: answer.to_owned(),
            expected: format!("the bytes {offset} to the end"),
        })),
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ContentRange {
    Part {
        first: u64,
        last: u64,
        total: Option<u64>,
    },
    Size {
        total: u64,
    },
}

impl ContentRange {
    fn parse(text: &str) -> Option<Self> {
        let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
        if range == "*" {
            let total = total.parse().ok()?;
            return Some(Self::Size { total });
        }
        let (first, last) = range.split_once('-')?;
        let total = match total {
            "*" => None,
            total => Some(total.parse().ok()?),
        };
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        (first <= last).then_some(Self::Part { first, last, total })
    }
}

#[cfg(test)]
mod tests;
