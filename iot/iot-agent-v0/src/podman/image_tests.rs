//! Images and the space for them.

use super::{exchange, pull, spec, step};
use crate::plan::Action;
use crate::podman::{Podman, PodmanError};
use crate::reconcile::Executor;
use crate::room::Image;

/// Podman 4.3's own words.
#[tokio::test]
async fn images_are_listed_and_removed_by_each_name() {
    let list = r#"[{"Id":"bd0a","ParentId":"","RepoTags":["host/x:2","host/x:latest"],"RepoDigests":["host/x@sha256:8ee2"],"Created":1795950357,"Size":1997945,"SharedSize":0,"VirtualSize":1997945,"Labels":null,"Containers":1,"Names":["host/x:2"],"Digest":"sha256:8ee2"},{"Id":"db9f","RepoTags":null,"Containers":0}]"#;
    let (listed, requests) = exchange(
        async |podman| podman.images().await.unwrap(),
        &[(200, "[]"), (200, list)],
    )
    .await;
    assert_eq!(requests[1], "GET /v4.0.0/libpod/images/json HTTP/1.1");
    let image = Image {
        id: "bd0a".to_owned(),
        tags: vec!["host/x:2".to_owned(), "host/x:latest".to_owned()],
        digests: vec!["host/x@sha256:8ee2".to_owned()],
        is_used: true,
    };
    let nameless = Image {
        id: "db9f".to_owned(),
        tags: Vec::new(),
        digests: Vec::new(),
        is_used: false,
    };
    assert_eq!(listed, [image.clone(), nameless]);
    let answers = [(200, "{}"), (200, "{}"), (404, "{}")];
    let (result, requests) = exchange(async |podman| podman.discard(&image).await, &answers).await;
    result.unwrap();
    let delete = |name| format!("DELETE /v4.0.0/libpod/images/{name} HTTP/1.1");
    let all = ["host%2Fx%3A2", "host%2Fx%3Alatest", "bd0a"].map(delete);
    assert_eq!(requests, all);
    let used = r#"{"cause":"image is in use by a container","message":"image used by d168","response":409}"#;
    let (result, _) = exchange(async |podman| podman.discard(&image).await, &[(409, used)]).await;
    assert!(matches!(
        result,
        Err(PodmanError::Refused { status: 409, .. })
    ));
}

#[tokio::test]
async fn the_space_is_that_of_podmans_storage() {
    let dir = tempfile::tempdir().unwrap();
    let info = serde_json::json!({"host": {}, "store": {"graphRoot": dir.path()}}).to_string();
    let twice = async |podman: &Podman| [podman.space().await, podman.space().await];
    let (spaces, requests) = exchange(twice, &[(200, &info)]).await;
    assert_eq!(requests, ["GET /v4.0.0/libpod/info HTTP/1.1"]);
    for space in spaces {
        let space = space.unwrap();
        assert!(space.free > 0 && space.free < space.total, "{space:?}");
    }
    let elsewhere = r#"{"store":{"graphRoot":"/nonexistent"}}"#;
    let once = async |podman: &Podman| podman.space().await;
    assert_eq!(exchange(once, &[(200, elsewhere)]).await.0, None);
}

#[tokio::test]
async fn a_full_disk_is_told_as_such() {
    let message = "creating container storage: mkdir /x: no space left on device";
    let refusal = serde_json::json!({"message": message}).to_string();
    let (result, _) = step(Action::Create(spec()), &[(500, &refusal)]).await;
    let error = result.unwrap_err();
    assert!(Podman::is_no_space(&error));
    let told =
        format!("create container harmony.web.front: no space left on the device: {message}");
    assert_eq!(error.to_string(), told);
    let log = "{\"error\":\"writing blob: write /x: no space left on device\"}\n";
    let (result, _) = pull(&[(200, log)]).await;
    assert!(Podman::is_no_space(&result.unwrap_err()));
}
