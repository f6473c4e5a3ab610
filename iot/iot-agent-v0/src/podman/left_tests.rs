//! What a container leaves behind that goes for the sake of its image.

use super::{exchange, exchange_in, spec, step};
use crate::plan::{Action, Step, Volumes};
use crate::podman::Podman;
use crate::reconcile::Executor;

/// The agent may end, or the power go, at any time in between.
#[tokio::test]
async fn what_is_left_of_a_container_is_given_to_the_next_one() {
    let state = tempfile::tempdir().unwrap();
    let volume = "7adaa913088f60f01209afff2a5bff07f867b35fa790c9aa9f0403224e07cec6";
    let inspected = format!(
        r#"{{"Mounts":[{{"Type":"volume","Name":"{volume}","Destination":"/data"}},
            {{"Type":"bind","Source":"/dev/x","Destination":"/dev/x"}}]}}"#
    );
    let created = r#"{"Id":"abc","Warnings":null}"#;
    let key = spec().key;
    let remove = async |podman: &Podman| podman.remove("old", &key, Volumes::Kept).await.unwrap();
    let answers = [(200, inspected.as_str()), (200, "[]")];
    let ((), requests) = exchange_in(state.path(), remove, &answers).await;
    let expected = [
        "GET /v4.0.0/libpod/containers/old/json HTTP/1.1",
        "DELETE /v4.0.0/libpod/containers/old?force=true&volumes=false&timeout=10 HTTP/1.1",
    ];
    assert_eq!(requests, expected);
    let create = async |podman: &Podman| {
        let before = podman.orphans();
        podman.create(&spec()).await.unwrap();
        (before, podman.orphans().len())
    };
    let (orphans, requests) = exchange_in(state.path(), &create, &[(201, created)]).await;
    assert_eq!(orphans, ([key.clone()].into(), 0));
    let expected = format!(
        r#","volumes":[{{"Name":"{volume}","Dest":"/data","Options":["rprivate","rw","nodev","exec"]}}]}}"#
    );
    assert!(requests[0].ends_with(&expected), "{requests:?}");
    let (orphans, requests) = exchange_in(state.path(), &create, &[(201, created)]).await;
    assert_eq!(orphans, ([].into(), 0));
    assert!(!requests[0].contains(volume), "{requests:?}");
}

#[tokio::test]
async fn what_waits_for_no_container_any_more_is_removed() {
    let work = async |podman: &Podman| {
        let key = spec().key;
        podman.remove("old", &key, Volumes::Kept).await.unwrap();
        let remove = Step {
            action: Action::RemoveVolumes,
            key,
        };
        podman.execute(&remove).await.unwrap();
        assert!(podman.orphans().is_empty());
    };
    let inspected = r#"{"Mounts":[{"Type":"volume","Name":"7ada","Destination":"/data"}]}"#;
    let answers = [(200, inspected), (200, "[]"), (204, "")];
    let ((), requests) = exchange(work, &answers).await;
    assert_eq!(requests[2], "DELETE /v4.0.0/libpod/volumes/7ada HTTP/1.1");
    // What is not known of a container is not lost with it.
    let remove = Action::Remove {
        id: "old".to_owned(),
        volumes: Volumes::Kept,
    };
    let (result, requests) = step(remove, &[(500, "{}")]).await;
    result.unwrap_err();
    assert_eq!(requests.len(), 1);
}
