//! The digests of images' manifests. They are only for the report, and no look waits for them for longer than a moment.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hyper::StatusCode;
use tokio::time::Instant;

use super::error::PodmanError;
use super::http::{Api, Call};
use super::{REQUEST_LIMIT, wire};
use crate::error::chain;
use crate::questions::Questions;

/// How long after a failure an image is asked for again.
pub const RETRY: Duration = Duration::from_secs(300);

/// What is known of images, by their ids.
#[derive(Default)]
pub struct Digests {
    pub(super) known: BTreeMap<String, String>,
    /// Those that could not be told, and when they are asked for again.
    refused: BTreeMap<String, Instant>,
    questions: Questions<'static, String, Result<String, PodmanError>>,
}

impl Digests {
    /// The digests of those of `images` whose digests are known; the others are asked for beside. All others are
    /// forgotten.
    pub async fn of(&mut self, api: &Api, images: BTreeSet<String>) -> BTreeMap<String, String> {
        let now = Instant::now();
        self.known.retain(|image, _| images.contains(image));
        self.refused
            .retain(|image, until| images.contains(image) && now < *until);
        let is_unknown =
            |image: &String| !self.known.contains_key(image) && !self.refused.contains_key(image);
        let unknown = images.into_iter().filter(is_unknown).collect();
        let ask = |image: String| digest(api.clone(), image);
        for (image, answer) in self.questions.answers(unknown, ask).await {
            match answer {
                Ok(digest) => drop(self.known.insert(image, digest)),
                Err(error) => {
                    tracing::debug!(image, error = chain(&error), "its digest is not to be had");
                    self.refused.insert(image, Instant::now() + RETRY);
                }
            }
        }
        self.known.clone()
    }
}

async fn digest(api: Api, image: String) -> Result<String, PodmanError> {
    let inspect = Call::get(format!("inspect image {image}"))
        .path(&["images", &image, "json"])
        .limit(REQUEST_LIMIT);
    let reply = api.send(inspect).await?.expect(&[StatusCode::OK])?;
    let inspected: wire::InspectedImage = reply.json()?;
    Ok(inspected.digest)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;
    use tokio::time::Instant;

    use super::Digests;
    use crate::podman::http::Api;
    use crate::questions::PATIENCE;

    /// Answers what is asked of image `a`, refuses what is asked of `b`, and is silent about every other one.
    async fn serve(listener: UnixListener, refused: &AtomicUsize) {
        let mut silent = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
            }
            let request = String::from_utf8(request).unwrap();
            if request.contains("/images/a/") {
                let answer = b"HTTP/1.1 200 x\r\ncontent-length: 18\r\n\r\n{\"Digest\":\"sha:a\"}";
                stream.write_all(answer).await.unwrap();
            } else if request.contains("/images/b/") {
                refused.fetch_add(1, Ordering::Relaxed);
                let answer = b"HTTP/1.1 500 x\r\ncontent-length: 0\r\n\r\n";
                stream.write_all(answer).await.unwrap();
            } else {
                silent.push(stream);
            }
        }
    }

    #[tokio::test]
    async fn one_that_is_not_to_be_had_delays_a_look_once_and_hides_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("podman.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (api, refused) = (Api::new(socket), AtomicUsize::new(0));
        let images = || -> BTreeSet<_> { ["a", "b", "c", "d"].map(str::to_owned).into() };
        let looks = async {
            let mut digests = Digests::default();
            let begin = Instant::now();
            for _ in 0..5 {
                let known = digests.of(&api, images()).await;
                let expected = [("a".to_owned(), "sha:a".to_owned())];
                assert_eq!(known, BTreeMap::from(expected));
            }
            assert!(begin.elapsed() < 2 * PATIENCE, "{:?}", begin.elapsed());
            assert_eq!(refused.load(Ordering::Relaxed), 1);
        };
        tokio::select! {
            () = looks => {}
            () = serve(listener, &refused) => {}
        }
    }
}
