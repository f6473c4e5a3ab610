//! What a server may answer: a step of a misbehaviour each.

use super::server::{Reply, Request, Then, chunks, reply};
use super::{body, length, status};

pub(super) const CUT: usize = 100_000;
pub(super) const TAG: &str = "etag: \"one\"";

/// The head of the whole file, and the file until the cut.
pub(super) fn cut_with(headers: &[&str]) -> Reply {
    let length = length(body());
    reply(
        "200 OK",
        &[&[length.as_str()], headers].concat(),
        &body()[..CUT],
    )
}

pub(super) fn cut(_: &Request) -> Reply {
    cut_with(&[])
}

pub(super) fn cut_tagged(_: &Request) -> Reply {
    cut_with(&[TAG])
}

pub(super) fn cut_weakly_tagged(_: &Request) -> Reply {
    cut_with(&["etag: W/\"one\""])
}

pub(super) fn cut_dated(_: &Request) -> Reply {
    cut_with(&[
        "last-modified: Sat, 01 Aug 2026 10:00:00 GMT",
        "date: Sat, 01 Aug 2026 11:00:00 GMT",
    ])
}

pub(super) fn cut_just_changed(_: &Request) -> Reply {
    cut_with(&[
        "last-modified: Sat, 01 Aug 2026 10:00:00 GMT",
        "date: Sat, 01 Aug 2026 10:00:00 GMT",
    ])
}

pub(super) fn cut_chunks(_: &Request) -> Reply {
    reply(
        "200 OK",
        &["transfer-encoding: chunked", TAG],
        &chunks(&body()[..CUT]),
    )
}

pub(super) fn chunks_without_end(_: &Request) -> Reply {
    reply(
        "200 OK",
        &["transfer-encoding: chunked", TAG],
        &chunks(body()),
    )
}

pub(super) fn range(first: usize, last: usize, total: usize) -> String {
    format!("content-range: bytes {first}-{last}/{total}")
}

/// The rest as it should be.
pub(super) fn rest(request: &Request) -> Reply {
    let from = request.from.expect("asked for the rest");
    assert!(
        ["\"one\"", "Sat, 01 Aug 2026 10:00:00 GMT"]
            .contains(&request.if_range.as_deref().expect("conditional")),
        "{request:?}"
    );
    let part = &body()[from..];
    let range = range(from, body().len() - 1, body().len());
    reply("206 Partial", &[&length(part), &range, TAG], part)
}

pub(super) fn rest_cut_again(request: &Request) -> Reply {
    let mut reply = rest(request);
    reply.bytes.truncate(reply.bytes.len() - 50_000);
    reply
}

/// The rest with a wrong head, the right bytes behind it.
pub(super) fn rest_with(request: &Request, headers: &[&str]) -> Reply {
    let part = &body()[request.from.unwrap_or(0)..];
    reply(
        "206 Partial",
        &[&[length(part).as_str()], headers].concat(),
        part,
    )
}

pub(super) fn rest_from_elsewhere(request: &Request) -> Reply {
    rest_with(request, &[&range(CUT + 4, body().len() - 1, body().len())])
}

pub(super) fn rest_of_another_size(request: &Request) -> Reply {
    rest_with(request, &[&range(CUT, body().len(), body().len() + 1)])
}

pub(super) fn rest_that_ends_too_soon(request: &Request) -> Reply {
    rest_with(request, &[&range(CUT, CUT + 9, body().len())])
}

pub(super) fn rest_without_range(request: &Request) -> Reply {
    rest_with(request, &[])
}

pub(super) fn rest_of_another_file(request: &Request) -> Reply {
    rest_with(
        request,
        &[&range(CUT, body().len() - 1, body().len()), "etag: \"two\""],
    )
}

pub(super) fn rest_in_parts(request: &Request) -> Reply {
    rest_with(request, &["content-type: multipart/byteranges; boundary=x"])
}

pub(super) fn rest_with_overflow(request: &Request) -> Reply {
    rest_with(
        request,
        &["content-range: bytes 100000-18446744073709551615/*"],
    )
}

/// A right head with the wrong bytes behind it.
pub(super) fn rest_that_is_made_up(request: &Request) -> Reply {
    let mut reply = rest(request);
    let from = reply.bytes.len() - 1000;
    reply.bytes[from..].fill(0);
    reply
}

pub(super) fn beyond(_: &Request) -> Reply {
    status("416 Range Not Satisfiable")
}

pub(super) fn beyond_the_whole(_: &Request) -> Reply {
    let range = format!("content-range: bytes */{}", body().len());
    reply(
        "416 Range Not Satisfiable",
        &[&range, "content-length: 0"],
        b"",
    )
}

pub(super) fn busy(_: &Request) -> Reply {
    status("503 Busy")
}

pub(super) fn too_many(_: &Request) -> Reply {
    status("429 Too Many Requests")
}

pub(super) fn forbidden(_: &Request) -> Reply {
    status("403 Forbidden")
}

pub(super) fn partial_unasked(_: &Request) -> Reply {
    reply(
        "206 Partial",
        &[&range(0, 9, body().len()), "content-length: 10"],
        &body()[..10],
    )
}

pub(super) fn stall(_: &Request) -> Reply {
    Reply {
        then: Then::Nothing,
        ..cut_with(&[])
    }
}

pub(super) fn trickle(_: &Request) -> Reply {
    Reply {
        then: Then::Trickle,
        ..reply("200 OK", &[&length(body())], b"")
    }
}

pub(super) fn silence(_: &Request) -> Reply {
    Reply {
        bytes: Vec::new(),
        then: Then::Nothing,
    }
}

pub(super) fn hang_up(_: &Request) -> Reply {
    Reply {
        bytes: Vec::new(),
        then: Then::HangUp,
    }
}

pub(super) fn no_http(_: &Request) -> Reply {
    Reply {
        bytes: b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
        then: Then::HangUp,
    }
}

pub(super) fn two_lengths(_: &Request) -> Reply {
    reply("200 OK", &[&length(body()), "content-length: 7"], body())
}

pub(super) fn more_than_announced(_: &Request) -> Reply {
    reply(
        "200 OK",
        &[&length(body())],
        &[body(), b"and more"].concat(),
    )
}

pub(super) fn no_length(_: &Request) -> Reply {
    reply("200 OK", &[], body())
}

pub(super) fn elsewhere(_: &Request) -> Reply {
    reply("302 Found", &["location: /b.img", "content-length: 0"], b"")
}

pub(super) fn in_circles(request: &Request) -> Reply {
    let to = format!("location: {}", request.path);
    reply("302 Found", &[&to, "content-length: 0"], b"")
}

pub(super) fn huge(_: &Request) -> Reply {
    reply("200 OK", &["content-length: 9223372036854775807"], b"")
}

pub(super) fn endless(_: &Request) -> Reply {
    let body = vec![7; 2 << 20];
    reply("200 OK", &["transfer-encoding: chunked"], &chunks(&body))
}
