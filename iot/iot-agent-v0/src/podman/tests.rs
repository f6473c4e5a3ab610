//! The client against a real socket: what it sends, and what it makes of the answers.

#[path = "image_tests.rs"]
mod images;
#[path = "left_tests.rs"]
mod left;
#[path = "real_tests.rs"]
mod real;
#[path = "v1_tests.rs"]
mod v1;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use super::{Podman, PodmanError};
use crate::container::{ContainerKey, ContainerSpec, ContainerState, ObservedContainer, Role};
use crate::plan::{Action, Step, Volumes};
use crate::reconcile::Executor;
use crate::service::Terms;

/// How long an exchange may take that needs no time at all.
const LIMIT: Duration = Duration::from_secs(10);

/// Answers one connection after the other with the given raw answers, and gives the requests back.
async fn serve(listener: UnixListener, answers: &[(u16, &str)]) -> Vec<String> {
    let mut requests = Vec::new();
    for (status, body) in answers {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !is_complete(&request) {
            assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
        }
        let answer = match status {
            204 | 304 => format!("HTTP/1.1 {status} x\r\n\r\n"),
            _ => format!(
                "HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            ),
        };
        stream.write_all(answer.as_bytes()).await.unwrap();
        requests.push(String::from_utf8(request).unwrap());
    }
    requests
}

fn is_complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.map_or(0, |length| length.parse().unwrap())
}

/// Runs `work` against `answers`; the requests come without their unimportant headers.
async fn exchange<T>(
    work: impl AsyncFnOnce(&Podman) -> T,
    answers: &[(u16, &str)],
) -> (T, Vec<String>) {
    let state = tempfile::tempdir().unwrap();
    exchange_in(state.path(), work, answers).await
}

/// The same, by an agent with that state directory.
async fn exchange_in<T>(
    state: &Path,
    work: impl AsyncFnOnce(&Podman) -> T,
    answers: &[(u16, &str)],
) -> (T, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("podman.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let podman = Podman::new(socket).keeping_in(Some(state.to_owned()));
    let both = async { tokio::join!(work(&podman), serve(listener, answers)) };
    let (result, requests) = tokio::time::timeout(LIMIT, both)
        .await
        .expect("a request is missing");
    let gist = |request: &String| {
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        format!("{} {body}", head.lines().next().unwrap())
            .trim_end()
            .to_owned()
    };
    (result, requests.iter().map(gist).collect())
}

/// Runs one step against `answers`.
async fn step(action: Action, answers: &[(u16, &str)]) -> (Result<(), PodmanError>, Vec<String>) {
    let step = Step {
        key: spec().key,
        action,
    };
    exchange(async |podman| podman.execute(&step).await, answers).await
}

async fn pull(answers: &[(u16, &str)]) -> (Result<(), PodmanError>, Vec<String>) {
    let image = spec().service.image().clone();
    exchange(async |podman| podman.pull(&image, None).await, answers).await
}

fn spec() -> ContainerSpec {
    let score = r#"{"type":"PodmanV0","data":{"services":[{"name":"front","image":"host:5000/web:1",
        "command":["serve"],"env":{"A":"b c"},"ports":["8080:80"]}]}}"#;
    spec_of(score)
}

/// The container of the first service of a score.
fn spec_of(score: &str) -> ContainerSpec {
    let services = crate::value::read(score.as_bytes()).unwrap().services();
    ContainerSpec {
        key: ContainerKey {
            deployment: "web".parse().unwrap(),
            service: "front".parse().unwrap(),
        },
        service: services[0].clone(),
        volumes_from: None,
    }
}

#[tokio::test]
async fn creates_and_starts() {
    let created = r#"{"Id":"abc","Warnings":[]}"#;
    let (result, requests) = step(Action::Run(spec()), &[(201, created), (204, "")]).await;
    result.unwrap();
    let body = concat!(
        r#"{"name":"harmony.web.front","image":"host:5000/web:1","command":["serve"],"#,
        r#""env":{"A":"b c"},"labels":{"harmony.deployment":"web","harmony.digest":"DIGEST","#,
        r#""harmony.managed-by":"iot-agent-v0","harmony.service":"front"},"#,
        r#""log_configuration":{"size":10485760},"#,
        r#""portmappings":[{"host_port":8080,"container_port":80,"protocol":"tcp"}]}"#
    );
    assert_eq!(
        requests,
        [
            format!(
                "POST /v4.0.0/libpod/containers/create HTTP/1.1 {}",
                body.replace("DIGEST", &spec().service.digest)
            ),
            "POST /v4.0.0/libpod/containers/abc/start HTTP/1.1".to_owned(),
        ]
    );
}

#[tokio::test]
async fn a_refusal_is_told_in_podmans_words() {
    let refusal = r#"{"cause":"c","message":"no such network","response":500}"#;
    let (result, _) = step(Action::Run(spec()), &[(500, refusal)]).await;
    assert_eq!(
        result.unwrap_err().to_string(),
        "create container harmony.web.front: Podman answered 500: no such network"
    );
}

/// As Podman 4.3 answers when the power went while a container was made.
#[tokio::test]
async fn a_name_that_only_the_storage_has_is_freed_once() {
    let taken = r#"{"cause":"that name is already in use","message":"creating container storage: the container name \"harmony.web.front\" is already in use by bb6c. You have to remove that container to be able to reuse that name: that name is already in use","response":500}"#;
    let unknown = r#"{"cause":"no such container","message":"no such container","response":404}"#;
    let created = r#"{"Id":"abc","Warnings":[]}"#;
    let post = "POST /v4.0.0/libpod/containers/create HTTP/1.1";
    let exists = "GET /v4.0.0/libpod/containers/harmony.web.front/exists HTTP/1.1";
    let delete = "DELETE /v4.0.0/libpod/containers/harmony.web.front?force=true HTTP/1.1";
    let gist = |requests: Vec<String>| -> Vec<String> {
        let first = |request: String| request.split(" {").next().unwrap().to_owned();
        requests.into_iter().map(first).collect()
    };
    let answers = [(500, taken), (404, unknown), (200, "[]"), (201, created)];
    let (result, requests) = step(Action::Create(spec()), &answers).await;
    result.unwrap();
    assert_eq!(gist(requests), [post, exists, delete, post]);
    // What Podman knows is another's and is left.
    let (result, requests) = step(Action::Create(spec()), &[(500, taken), (204, "")]).await;
    assert!(matches!(
        result,
        Err(PodmanError::Refused { status: 500, .. })
    ));
    assert_eq!(gist(requests), [post, exists]);
    let answers = [(500, taken), (404, unknown), (200, "[]"), (500, taken)];
    let (result, _) = step(Action::Create(spec()), &answers).await;
    assert!(matches!(
        result,
        Err(PodmanError::Refused { status: 500, .. })
    ));
}

#[tokio::test]
async fn a_damaged_image_is_known_by_what_is_said_of_it() {
    let cases = [
        (
            "stat /x/storage/overlay/aaaa: no such file or directory",
            true,
        ),
        ("unexpected end of JSON input", true),
        ("crun: exec: Exec format error: OCI runtime error", true),
        ("layer not known", true),
        (
            "executable file `/nope` not found in $PATH: No such file or directory",
            false,
        ),
        ("localhost/nope:1: image not known", false),
    ];
    for (message, damaged) in cases {
        let refusal = serde_json::json!({"cause": "", "message": message, "response": 500});
        let (result, _) = step(Action::Create(spec()), &[(500, &refusal.to_string())]).await;
        let error = result.unwrap_err();
        assert_eq!(
            matches!(error, PodmanError::Damaged { .. }),
            damaged,
            "{message}"
        );
        assert_eq!(Podman::is_damage(&error), damaged);
    }
}

/// Podman 4.3 with crun starts a program that is empty without a complaint; the container's log has it.
#[tokio::test]
async fn a_container_is_examined_by_what_its_runtime_wrote() {
    let examine = || Action::Examine {
        id: "abc".to_owned(),
    };
    let runtime = "\u{2}\0\0\0\0\0\0v{\"msg\":\"exec container process `/bin/empty`: Exec format error\",\"level\":\"error\",\"time\":\"2026-11-29T11:07:55.465741Z\"}\n";
    let (result, requests) = step(examine(), &[(200, runtime)]).await;
    assert!(
        matches!(result, Err(PodmanError::Damaged { .. })),
        "{result:?}"
    );
    let request = "GET /v4.0.0/libpod/containers/abc/logs?stdout=false&stderr=true&tail=5 HTTP/1.1";
    assert_eq!(requests, [request]);
    for log in [
        "\u{2}\0\0\0\0\0\0vsh: x: Exec format error\n",
        "{\"msg\":\"Exec format error\",\"level\":\"x\"}",
        "",
    ] {
        step(examine(), &[(200, log)]).await.0.unwrap();
    }
    step(examine(), &[(404, "{}")]).await.0.unwrap();
}

#[tokio::test]
async fn a_container_that_replaces_another_has_its_volumes() {
    let created = r#"{"Id":"abc","Warnings":null}"#;
    let spec = ContainerSpec {
        volumes_from: Some("old".to_owned()),
        ..spec()
    };
    let (result, requests) = step(Action::Create(spec), &[(201, created)]).await;
    result.unwrap();
    assert!(
        requests[0].ends_with(r#","volumes_from":["old"]}"#),
        "{requests:?}"
    );
}

#[tokio::test]
async fn sets_aside_and_brings_back() {
    let id = || "abc".to_owned();
    let stop = "POST /v4.0.0/libpod/containers/abc/stop?timeout=10 HTTP/1.1";
    let aside =
        "POST /v4.0.0/libpod/containers/abc/rename?name=harmony.web.front.previous HTTP/1.1";
    let back = "POST /v4.0.0/libpod/containers/abc/rename?name=harmony.web.front HTTP/1.1";
    for stopped in [204, 304] {
        let (result, requests) =
            step(Action::SetAside { id: id() }, &[(stopped, ""), (204, "")]).await;
        result.unwrap();
        assert_eq!(requests, [stop, aside]);
    }
    let rename = Action::Rename {
        id: id(),
        role: Role::Current,
    };
    let (result, requests) = step(rename, &[(204, "")]).await;
    result.unwrap();
    assert_eq!(requests, [back]);
}

#[tokio::test]
async fn unpauses_and_accepts_that_it_is_not_paused() {
    let going = r#"{"message":"\"abc\" is not paused, can't unpause: container state improper"}"#;
    for (answer, accepted) in [
        ((204, ""), true),
        ((500, going), true),
        ((500, "{}"), false),
    ] {
        let unpause = Action::Unpause {
            id: "abc".to_owned(),
        };
        let (result, requests) = step(unpause, &[answer]).await;
        assert_eq!(result.is_ok(), accepted, "{answer:?}");
        let request = "POST /v4.0.0/libpod/containers/abc/unpause HTTP/1.1";
        assert_eq!(requests, [request]);
    }
}

#[tokio::test]
async fn removes_gracefully_and_accepts_that_it_is_gone() {
    for (answer, volumes) in [
        ((200, "[]"), Volumes::Anonymous),
        ((404, "{}"), Volumes::Passing),
    ] {
        let remove = Action::Remove {
            id: "abc".to_owned(),
            volumes,
        };
        let (result, requests) = step(remove, &[answer]).await;
        result.unwrap();
        let request =
            "DELETE /v4.0.0/libpod/containers/abc?force=true&volumes=true&timeout=10 HTTP/1.1";
        assert_eq!(requests, [request]);
    }
}

#[tokio::test]
async fn looks_for_images_and_pulls_them() {
    let image = spec().service.image().clone();
    for (answer, is_there) in [
        ((204, ""), true),
        ((404, "{}"), false),
        ((400, "{}"), false),
    ] {
        let (found, requests) =
            exchange(async |podman| podman.has_image(&image).await, &[answer]).await;
        assert_eq!(found.unwrap(), is_there);
        let exists = "GET /v4.0.0/libpod/images/host%3A5000%2Fweb%3A1/exists HTTP/1.1";
        assert_eq!(requests, [exists]);
    }
    let log = "{\"stream\":\"Trying to pull\\n\"}\n{\"images\":[\"1\"],\"id\":\"1\"}\n";
    let (result, requests) = pull(&[(200, log)]).await;
    result.unwrap();
    let request = "POST /v4.0.0/libpod/images/pull?reference=host%3A5000%2Fweb%3A1 HTTP/1.1";
    assert_eq!(requests, [request]);
}

#[tokio::test]
async fn a_pull_fails_although_its_status_is_200() {
    let cases = [
        (
            "{\"stream\":\"Trying\"}\n{\"error\":\"manifest unknown\"}\n",
            "manifest unknown",
        ),
        (
            "{\"stream\":\"Trying\"}\n",
            "the registry's answer broke off",
        ),
        ("", "the registry's answer broke off"),
    ];
    for (log, expected) in cases {
        let (result, _) = pull(&[(200, log)]).await;
        assert!(
            matches!(&result, Err(PodmanError::Pull { message, .. }) if message == expected),
            "{result:?}"
        );
    }
}

#[tokio::test]
async fn observes_its_own_containers_only() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("podman.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let podman = Podman::new(socket);
    let labels = r#""harmony.managed-by":"iot-agent-v0","harmony.deployment":"web","harmony.service":"front""#;
    let list = format!(
        r#"[{{"Id":"1","State":"exited","ExitCode":3,"Labels":{{{labels},"harmony.digest":"d"}},"Pid":0,
              "Names":["harmony.web.front.previous"],"StartedAt":-62135596800}},
            {{"Id":"2","State":"running","ExitCode":0,"Labels":{{{labels}}},"StartedAt":1795950436,
              "Names":["harmony.web.front"],"Status":"unhealthy"}},
            {{"Id":"3","State":"running","ExitCode":0,"Labels":{{"harmony.managed-by":"iot-agent-v0"}}}},
            {{"Id":"4","State":"running","ExitCode":0,"Labels":null}},
            {{"Id":"5","State":"running","ExitCode":0,"Labels":{{"harmony.managed-by":"another","harmony.deployment":"web","harmony.service":"front"}}}}]"#
    );
    let answers = [(200, list.as_str())];
    let (observed, requests) = tokio::join!(podman.observe(), serve(listener, &answers));
    let container = |id: &str, role, digest: &str, state| ObservedContainer {
        id: id.to_owned(),
        key: spec().key,
        role,
        digest: digest.to_owned(),
        terms: Terms::default(),
        health: None,
        state,
        image: String::new(),
        image_digest: None,
        started_at: 0,
        exited_at: 0,
    };
    let exited = ContainerState::Exited { code: 3 };
    // An image's own check is not heeded.
    let running = ObservedContainer {
        started_at: 1_795_950_436,
        ..container("2", Role::Current, "", ContainerState::Running)
    };
    assert_eq!(
        observed.unwrap(),
        [container("1", Role::Previous, "d", exited), running]
    );
    assert!(
        requests[0].starts_with(
            "GET /v4.0.0/libpod/containers/json?all=true&filters=%7B%22label%22%3A%5B%22\
             harmony.managed-by%3Diot-agent-v0%22%5D%7D HTTP/1.1\r\n"
        ),
        "{}",
        requests[0]
    );
}

#[tokio::test]
async fn an_absent_service_is_named() {
    let podman = Podman::new(PathBuf::from("/nonexistent/podman.sock"));
    let error = podman.observe().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot connect to Podman at '/nonexistent/podman.sock'"
    );
}

/// Podman 4.3's own words.
#[tokio::test]
async fn a_container_is_told_with_its_image_and_times() {
    let list = r#"[{"AutoRemove":false,"Command":["/bin/sh","-c","exit 7"],"Created":"2026-11-29T11:07:20.57Z","CreatedAt":"","Exited":true,"ExitedAt":1795950441,"ExitCode":7,"Id":"a45121","Image":"localhost/x:1","ImageID":"db9f6cd3c754","IsInfra":false,"Labels":{"harmony.deployment":"web","harmony.digest":"d1","harmony.managed-by":"iot-agent-v0","harmony.service":"front"},"Mounts":["/data"],"Names":["harmony.web.front"],"Namespaces":{},"Networks":[],"Pid":0,"Pod":"","PodName":"","Ports":null,"Size":null,"StartedAt":1795950440,"State":"stopped","Status":""}]"#;
    let image = r#"{"Id":"db9f6cd3c754","Digest":"sha256:8ee2","RepoTags":["localhost/x:1"]}"#;
    let look = async |podman: &Podman| {
        let first = podman.observe().await.unwrap().remove(0);
        [first, podman.observe().await.unwrap().remove(0)]
    };
    let answers = [(200, list), (404, "{}"), (200, list)];
    let (looks, _) = exchange(look, &answers).await;
    assert_eq!(looks.map(|look| look.image_digest), [None, None]);
    let answers = [(200, list), (200, image), (200, list)];
    let (looks, requests) = exchange(look, &answers).await;
    let expected = ObservedContainer {
        id: "a45121".to_owned(),
        key: spec().key,
        role: Role::Current,
        digest: "d1".to_owned(),
        terms: Terms::default(),
        health: None,
        state: ContainerState::Exited { code: 7 },
        image: "localhost/x:1".to_owned(),
        image_digest: Some("sha256:8ee2".to_owned()),
        started_at: 1_795_950_440,
        exited_at: 1_795_950_441,
    };
    assert_eq!(looks, [expected.clone(), expected]);
    assert_eq!(
        requests[1],
        "GET /v4.0.0/libpod/images/db9f6cd3c754/json HTTP/1.1"
    );
}

#[tokio::test]
async fn what_is_known_of_an_image_goes_with_its_last_container() {
    let list = r#"[{"Id":"1","State":"running","ImageID":"db9f","Labels":{"harmony.managed-by":"iot-agent-v0","harmony.deployment":"web","harmony.service":"front"}}]"#;
    let image = r#"{"Id":"db9f","Digest":"sha256:8ee2"}"#;
    let known = async |podman: &Podman| {
        podman.observe().await.unwrap();
        let before = podman.digests.lock().await.known.len();
        podman.observe().await.unwrap();
        (before, podman.digests.lock().await.known.len())
    };
    let answers = [(200, list), (200, image), (200, "[]")];
    assert_eq!(exchange(known, &answers).await.0, (1, 0));
}
