//! Each way in which a server may misbehave, and what becomes of it: the right file, byte for byte, or an
//! error of its own and nothing left.

use std::fs;

use futures::stream::{self, StreamExt};

use super::replies::{
    CUT, beyond, beyond_the_whole, busy, chunks_without_end, cut, cut_chunks, cut_dated,
    cut_just_changed, cut_tagged, cut_weakly_tagged, elsewhere, endless, forbidden, hang_up, huge,
    in_circles, more_than_announced, no_http, no_length, partial_unasked, rest, rest_cut_again,
    rest_from_elsewhere, rest_in_parts, rest_of_another_file, rest_of_another_size,
    rest_that_ends_too_soon, rest_that_is_made_up, rest_with_overflow, rest_without_range, silence,
    stall, too_many, trickle, two_lengths,
};
use super::server::{Server, Step};
use super::{body, digest, files, good, impatient, kept, not_found, page};
use crate::modules::image::error::ImageError;
use crate::modules::image::fetch::Fetcher;
use crate::modules::image::progress::Silent;
use crate::modules::image::source::PinnedUrl;

/// All of them at once would keep each other from answering in time.
async fn a_few_at_a_time(rows: impl Iterator<Item = impl Future<Output = ()>>) {
    stream::iter(rows).buffer_unordered(6).collect::<()>().await;
}

/// The steps, and from where on each request must have wanted the file.
type Survived = (&'static str, Vec<Step>, Vec<Option<usize>>);

fn survived() -> Vec<Survived> {
    let (all, the_rest) = (None, Some(CUT));
    vec![
        ("busy twice", vec![busy, too_many, good], vec![all; 3]),
        ("hangs up at once", vec![hang_up, good], vec![all; 2]),
        ("speaks something else", vec![no_http, good], vec![all; 2]),
        ("says two lengths", vec![two_lengths, good], vec![all; 2]),
        ("says nothing", vec![silence, good], vec![all; 2]),
        ("stalls", vec![stall, good], vec![all; 2]),
        ("trickles", vec![trickle, good], vec![all; 2]),
        ("cuts, without a validator", vec![cut, good], vec![all; 2]),
        (
            "cuts, with a weak one",
            vec![cut_weakly_tagged, good],
            vec![all; 2],
        ),
        (
            "cuts, changed just now",
            vec![cut_just_changed, good],
            vec![all; 2],
        ),
        (
            "cuts, with a tag",
            vec![cut_tagged, rest],
            vec![all, the_rest],
        ),
        (
            "cuts, with a date",
            vec![cut_dated, rest],
            vec![all, the_rest],
        ),
        ("cuts chunks", vec![cut_chunks, rest], vec![all, the_rest]),
        (
            "cuts twice",
            vec![cut_tagged, rest_cut_again, rest],
            vec![all, the_rest, Some(body().len() - 50_000)],
        ),
        ("changed since", vec![cut_tagged, good], vec![all, the_rest]),
        (
            "changed since, cut again",
            vec![cut_tagged, cut, good],
            vec![all, the_rest, all],
        ),
        (
            "forgets the last chunk",
            vec![chunks_without_end, beyond_the_whole],
            vec![all, Some(body().len())],
        ),
        (
            "refuses the range",
            vec![cut_tagged, beyond, good],
            vec![all, the_rest, all],
        ),
        (
            "sends a rest from elsewhere",
            vec![cut_tagged, rest_from_elsewhere, good],
            vec![all, the_rest, all],
        ),
        (
            "sends a rest of another size",
            vec![cut_tagged, rest_of_another_size, good],
            vec![all, the_rest, all],
        ),
        (
            "sends less than the rest",
            vec![cut_tagged, rest_that_ends_too_soon, good],
            vec![all, the_rest, all],
        ),
        (
            "does not say what part it sends",
            vec![cut_tagged, rest_without_range, good],
            vec![all, the_rest, all],
        ),
        (
            "sends the rest of another file",
            vec![cut_tagged, rest_of_another_file, good],
            vec![all, the_rest, all],
        ),
        (
            "sends many parts",
            vec![cut_tagged, rest_in_parts, good],
            vec![all, the_rest, all],
        ),
        (
            "sends a rest up to the last number there is",
            vec![cut_tagged, rest_with_overflow, good],
            vec![all, the_rest, all],
        ),
        (
            "makes up the rest",
            vec![cut_tagged, rest_that_is_made_up, good],
            vec![all, the_rest, all],
        ),
        (
            "sends more than it says",
            vec![more_than_announced],
            vec![all],
        ),
        ("does not say a length", vec![no_length], vec![all]),
    ]
}

#[tokio::test]
async fn misbehaviour_that_passes_is_survived_byte_for_byte() {
    let rows = survived()
        .into_iter()
        .map(|(name, steps, ranges)| async move {
            let server = Server::start(vec![("/a.img", steps)]).await;
            let dir = tempfile::tempdir().expect("a temporary directory");
            let pin = server.pin("/a.img");
            let path = super::fetch(std::slice::from_ref(&pin), dir.path())
                .await
                .unwrap_or_else(|error| panic!("{name}: {error:?}"));
            assert!(fs::read(&path).expect("readable") == body(), "{name}");
            assert_eq!(server.ranges(), ranges, "{name}");
            assert_eq!(files(dir.path()), kept(&pin), "{name}");
        });
    a_few_at_a_time(rows).await;
}

#[tokio::test]
async fn a_redirect_is_followed_and_a_mirror_is_taken() {
    let script: [(&'static str, Step); 5] = [
        ("/redirected.img", elsewhere),
        ("/gone.img", not_found),
        ("/forbidden.img", forbidden),
        ("/circles.img", in_circles),
        ("/cut.img", cut_tagged),
    ];
    for (path, step) in script {
        let server = Server::start(vec![(path, vec![step]), ("/b.img", vec![good])]).await;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let pin = server.pin(path);
        let pin = pin.with_mirror(&server.url("/b.img")).expect("a URL");
        let got = super::fetch(std::slice::from_ref(&pin), dir.path())
            .await
            .unwrap_or_else(|error| panic!("{path}: {error:?}"));
        assert!(fs::read(&got).expect("readable") == body(), "{path}");
        assert_eq!(files(dir.path()), kept(&pin), "{path}");
        let last = server.requests().pop().expect("asked");
        assert_eq!((last.path.as_str(), last.from), ("/b.img", None), "{path}");
    }
}

/// The step, the pinned size, the requests that it takes, the error.
type Refused = (
    &'static str,
    Step,
    Option<u64>,
    usize,
    fn(&ImageError) -> bool,
);

fn refused() -> Vec<Refused> {
    vec![
        (
            "gone",
            not_found,
            None,
            1,
            |e| matches!(e, ImageError::Gone { urls } if urls.len() == 1),
        ),
        ("forbidden", forbidden, None, 1, |e| {
            matches!(e, ImageError::HttpStatus { status: 403, .. })
        }),
        ("part of the file, unasked", partial_unasked, None, 1, |e| {
            matches!(e, ImageError::HttpStatus { status: 206, .. })
        }),
        ("no range, unasked", beyond, None, 1, |e| {
            matches!(e, ImageError::HttpStatus { status: 416, .. })
        }),
        ("busy for ever", busy, None, 2, |e| {
            matches!(e, ImageError::HttpStatus { status: 503, .. })
        }),
        (
            "always cut",
            cut,
            None,
            2,
            |e| matches!(e, ImageError::Transfer { received, .. } if *received == CUT as u64),
        ),
        (
            "always stalled",
            stall,
            None,
            2,
            |e| matches!(e, ImageError::Stalled { received, .. } if *received == CUT as u64),
        ),
        ("always silent", silence, None, 2, |e| {
            matches!(e, ImageError::Stalled { received: 0, .. })
        }),
        ("in circles", in_circles, None, 11, |e| {
            matches!(e, ImageError::Transfer { received: 0, .. })
        }),
        ("as large as no disk", huge, None, 1, |e| {
            matches!(e, ImageError::NoSpace { .. })
        }),
        ("without end", endless, None, 1, |e| {
            matches!(
                e,
                ImageError::Endless {
                    bound: 0x10_0000,
                    ..
                }
            )
        }),
        ("a page of another size", page, Some(300_004), 1, |e| {
            matches!(
                e,
                ImageError::WrongSize {
                    size: 28,
                    expected: 300_004,
                    ..
                }
            )
        }),
        (
            "more than pinned, unannounced",
            no_length,
            Some(4),
            1,
            |e| matches!(e, ImageError::WrongSize { expected: 4, .. }),
        ),
        (
            "less than pinned, unannounced",
            no_length,
            Some(300_005),
            2,
            |e| {
                matches!(
                    e,
                    ImageError::Transfer {
                        received: 300_004,
                        ..
                    }
                )
            },
        ),
    ]
}

#[tokio::test]
async fn misbehaviour_that_lasts_is_an_error_of_its_own_and_leaves_nothing() {
    let rows = refused()
        .into_iter()
        .map(|(name, step, size, requests, expected)| async move {
            let server = Server::start(vec![("/a.img", vec![step])]).await;
            let dir = tempfile::tempdir().expect("a temporary directory");
            let fetcher = Fetcher {
                attempts: 2,
                ..impatient()
            };
            let mut pin = PinnedUrl::new(&server.url("/a.img"), digest(body())).expect("a URL");
            if let Some(size) = size {
                pin = pin.with_size(size);
            }
            let error = fetcher
                .fetch(&[pin], dir.path(), &Silent)
                .await
                .expect_err(name);
            assert!(expected(&error), "{name}: {error:?}");
            assert_eq!(server.requests().len(), requests, "{name}");
            assert_eq!(files(dir.path()), [""; 0], "{name}");
        });
    a_few_at_a_time(rows).await;
}

/// A file system of its own, unmounted when dropped.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount(size: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let options = format!("size={size}");
        let status = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(dir.path())
            .status();
        assert!(status.expect("mount").success());
        Self(dir)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let status = std::process::Command::new("umount")
            .arg(self.0.path())
            .status();
        assert!(status.is_ok_and(|status| status.success()), "unmounted");
    }
}

#[tokio::test]
#[ignore = "needs root: mounts a file system of 160 KiB and fills it"]
async fn a_disk_that_fills_up_on_the_way_is_said_to_be_full_and_nothing_is_left() {
    let server = Server::start(vec![("/a.img", vec![no_length as Step])]).await;
    let disk = Tmpfs::mount("160k");
    let pins = [server.pin("/a.img")];
    let error = super::fetch(&pins, disk.0.path()).await.expect_err("full");
    assert!(matches!(error, ImageError::NoSpace { .. }), "{error:?}");
    assert_eq!(files(disk.0.path()), [""; 0]);
    assert_eq!(server.requests().len(), 1);
}
