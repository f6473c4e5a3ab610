//! What one fetch leaves and another goes on with; what the store has and what is doubted.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::server::{Reply, Request, Server, Step, reply};
use super::{body, digest, fetch, files, good, kept, length};
use crate::modules::image::error::ImageError;
use crate::modules::image::source::PinnedUrl;
use crate::modules::image::store::record::ImageRecord;
use crate::modules::image::store::{StoreLock, part_note_path, part_path};

const CUT: usize = 100_000;

/// A well-behaved server which breaks off after so many bytes.
fn cut(request: &Request) -> Reply {
    let mut reply = whole_or_rest(request);
    let head = reply.bytes.windows(4).position(|w| w == b"\r\n\r\n");
    reply.bytes.truncate(head.expect("a head") + 4 + CUT);
    reply
}

fn whole_or_rest(request: &Request) -> Reply {
    let tag = "etag: \"one\"";
    match request
        .from
        .filter(|_| request.if_range.as_deref() == Some("\"one\""))
    {
        None => reply("200 OK", &[&length(body()), tag], body()),
        Some(from) => {
            let range = format!(
                "content-range: bytes {from}-{}/{}",
                body().len() - 1,
                body().len()
            );
            let part = &body()[from..];
            reply("206 Partial", &[&length(part), &range, tag], part)
        }
    }
}

/// A fetch that broke off after the first attempt.
async fn left_behind(server: &Server, dir: &Path) -> PinnedUrl {
    let pin = server.pin("/a.img");
    let once = crate::modules::image::fetch::Fetcher {
        attempts: 1,
        ..super::impatient()
    };
    let silent = crate::modules::image::progress::Silent;
    let error = once
        .fetch(std::slice::from_ref(&pin), dir, &silent)
        .await
        .expect_err("cut");
    assert!(matches!(error, ImageError::Transfer { .. }), "{error:?}");
    let name = pin.file_name();
    let left = [format!(".{name}.part"), format!(".{name}.part.json")];
    assert_eq!(files(dir), left);
    assert_eq!(
        fs::read(part_path(dir, &name)).expect("there"),
        &body()[..CUT]
    );
    pin
}

#[tokio::test]
async fn a_later_fetch_goes_on_where_one_ended() {
    let server = Server::start(vec![("/a.img", vec![cut as Step, whole_or_rest])]).await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let pin = left_behind(&server, dir.path()).await;
    let path = fetch(std::slice::from_ref(&pin), dir.path())
        .await
        .expect("resumed");
    assert!(fs::read(path).expect("readable") == body());
    assert_eq!(server.ranges(), [None, Some(CUT)]);
    assert_eq!(files(dir.path()), kept(&pin));
}

type Damage = fn(&Path, &Path);

#[tokio::test]
async fn what_was_left_and_is_damaged_gives_the_right_file_all_the_same() {
    let table: [(&str, Damage, &[Option<usize>]); 7] = [
        (
            "its note is gone",
            |_, note| fs::remove_file(note).expect("there"),
            &[None],
        ),
        (
            "its note is half",
            |_, note| fs::write(note, "{\"url\":").expect("there"),
            &[None],
        ),
        (
            "its bytes are gone",
            |part, _| fs::remove_file(part).expect("there"),
            &[None],
        ),
        (
            "it lost its end",
            |part, _| {
                let file = OpenOptions::new().write(true).open(part).expect("there");
                file.set_len(77).expect("shortened");
            },
            &[Some(77)],
        ),
        // As after a crash of the host: the length is there, the bytes are not.
        (
            "its end is zeros",
            |part, _| {
                let file = OpenOptions::new().write(true).open(part).expect("there");
                file.set_len(500).expect("shortened");
                file.set_len(CUT as u64).expect("zeros");
            },
            &[Some(CUT), None],
        ),
        (
            "it is longer than the whole",
            |part, _| {
                fs::write(part, vec![1; body().len() + 1]).expect("there");
            },
            &[None],
        ),
        (
            "it is whole and wrong",
            |part, _| {
                fs::write(part, vec![1; body().len()]).expect("there");
            },
            &[None],
        ),
    ];
    for (name, damage, ranges) in table {
        let server = Server::start(vec![("/a.img", vec![cut as Step, whole_or_rest])]).await;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let pin = left_behind(&server, dir.path()).await;
        let file = pin.file_name();
        damage(
            &part_path(dir.path(), &file),
            &part_note_path(dir.path(), &file),
        );
        let path = fetch(std::slice::from_ref(&pin), dir.path())
            .await
            .expect(name);
        assert!(fs::read(path).expect("readable") == body(), "{name}");
        assert_eq!(server.ranges()[1..], *ranges, "{name}");
        assert_eq!(files(dir.path()), kept(&pin), "{name}");
    }
}

#[tokio::test]
async fn what_came_whole_and_was_not_named_yet_is_not_fetched_again() {
    let server = Server::start(vec![("/a.img", vec![cut as Step])]).await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let pin = left_behind(&server, dir.path()).await;
    fs::write(part_path(dir.path(), &pin.file_name()), body()).expect("there");
    let path = fetch(std::slice::from_ref(&pin), dir.path())
        .await
        .expect("whole");
    assert!(fs::read(path).expect("readable") == body());
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn bytes_are_only_ever_added_from_the_same_url() {
    let script = vec![
        ("/a.img", vec![cut as Step]),
        ("/b.img", vec![whole_or_rest]),
    ];
    let server = Server::start(script).await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    left_behind(&server, dir.path()).await;
    let path = fetch(&[server.pin("/b.img")], dir.path())
        .await
        .expect("fetched");
    assert!(fs::read(path).expect("readable") == body());
    assert_eq!(server.ranges(), [None, None]);
}

#[tokio::test]
async fn a_fetch_that_is_given_up_lets_go_of_its_lock_when_nothing_is_written_any_more() {
    let server = Server::start(vec![(
        "/a.img",
        vec![
            (|request: &Request| Reply {
                then: super::server::Then::Nothing,
                ..cut(request)
            }) as Step,
            whole_or_rest,
        ],
    )])
    .await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let pin = server.pin("/a.img");
    let part = part_path(dir.path(), &pin.file_name());
    let all_there = async {
        while fs::metadata(&part).map_or(0, |m| m.len()) < CUT as u64 {
            tokio::task::yield_now().await;
        }
    };
    let pins = [pin.clone()];
    tokio::select! {
        result = fetch(&pins, dir.path()) => panic!("{result:?}"),
        () = all_there => {}
    }
    let path = fetch(&pins, dir.path()).await.expect("resumed");
    assert!(fs::read(path).expect("readable") == body());
    assert_eq!(server.ranges(), [None, Some(CUT)]);
    let lock = StoreLock::try_acquire(dir.path(), &pin.file_name());
    assert!(lock.expect("lockable").is_some(), "nobody holds it");
}

#[tokio::test]
async fn what_looks_otherwise_than_its_record_says_is_hashed_again() {
    type Change = fn(&Path);
    let table: [(&str, Change, usize, bool); 5] = [
        ("untouched", |_| {}, 0, false),
        (
            "without a record",
            |path| {
                fs::remove_file(format!("{}.json", path.display())).expect("there");
            },
            0,
            false,
        ),
        (
            "writable",
            |path| {
                fs::set_permissions(path, Permissions::from_mode(0o644)).expect("ours");
            },
            0,
            false,
        ),
        (
            "rewritten as it was",
            |path| {
                fs::remove_file(path).expect("there");
                fs::write(path, body()).expect("writable");
            },
            0,
            false,
        ),
        (
            "damaged",
            |path| {
                fs::remove_file(path).expect("there");
                fs::write(path, &body()[..9]).expect("writable");
            },
            1,
            true,
        ),
    ];
    for (name, change, requests, rejected) in table {
        let server = Server::start(vec![("/a.img", vec![good as Step])]).await;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let pin = server.pin("/a.img");
        let pins = [pin.clone()];
        let path = fetch(&pins, dir.path()).await.expect("fetched");
        change(&path);
        for _ in 0..2 {
            assert_eq!(fetch(&pins, dir.path()).await.expect(name), path);
            assert!(fs::read(&path).expect("readable") == body(), "{name}");
        }
        assert_eq!(server.requests().len() - 1, requests, "{name}");
        let mut expected = kept(&pin).to_vec();
        if rejected {
            expected.push(format!("{}.rejected", pin.file_name()));
        }
        assert_eq!(files(dir.path()), expected, "{name}");
        let record = ImageRecord::load(&path).expect("a record");
        assert_eq!((record.digest, record.size), (digest(body()), 300_004));
    }
}

#[tokio::test]
async fn a_packed_image_is_unpacked_on_the_way_also_when_resumed() {
    fn packed() -> Vec<u8> {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
        writer.write_all(body()).expect("in memory");
        writer.finish().expect("in memory")
    }
    fn serve(request: &Request) -> Reply {
        let packed = packed();
        let tag = "etag: \"one\"";
        match request.from {
            None => reply("200 OK", &[&length(&packed), tag], &packed[..CUT]),
            Some(from) => {
                let range = format!(
                    "content-range: bytes {from}-{}/{}",
                    packed.len() - 1,
                    packed.len()
                );
                let part = &packed[from..];
                reply("206 Partial", &[&length(part), &range, tag], part)
            }
        }
    }
    let server = Server::start(vec![("/a.qcow2.gz", vec![serve as Step])]).await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let pin = PinnedUrl::new(&server.url("/a.qcow2.gz"), digest(&packed())).expect("a URL");
    let pins = [pin.clone()];
    let path = fetch(&pins, dir.path()).await.expect("fetched");
    assert!(fs::read(&path).expect("readable") == body());
    let name = digest(body()).file_name("qcow2");
    assert_eq!(path, dir.path().join(&name));
    assert_eq!(files(dir.path()), [name.clone(), format!("{name}.json")]);
    let source = ImageRecord::load(&path).expect("a record").source;
    assert_eq!(source.digest, *pin.digest());
    assert_eq!(fetch(&pins, dir.path()).await.expect("stored"), path);
    assert_eq!(server.ranges(), [None, Some(CUT)]);

    // What is asked for as it is published is that.
    let verbatim = [pin.clone().verbatim()];
    let path = fetch(&verbatim, dir.path()).await.expect("fetched");
    assert!(fs::read(&path).expect("readable") == packed());
    assert_eq!(path, dir.path().join(pin.file_name()));
}

#[tokio::test]
async fn a_verified_file_that_cannot_be_unpacked_is_an_error_and_leaves_nothing() {
    const BROKEN: &[u8] = b"\x1f\x8b\x08\0no deflate stream at all";
    fn broken(_: &Request) -> Reply {
        reply("200 OK", &[&length(BROKEN)], BROKEN)
    }
    let server = Server::start(vec![("/a.img.gz", vec![broken as Step])]).await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let pin = PinnedUrl::new(&server.url("/a.img.gz"), digest(BROKEN)).expect("a URL");
    let error = fetch(&[pin], dir.path()).await.expect_err("broken");
    assert!(matches!(error, ImageError::Unpack { .. }), "{error:?}");
    assert_eq!(files(dir.path()), [""; 0]);
}
