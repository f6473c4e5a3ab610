//! The client against a real socket: what it sends, and what it makes of the answers.

use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use super::{Podman, PodmanError};
use crate::plan::{
    Action, ContainerKey, ContainerSpec, ContainerState, ObservedContainer, Step, service_digest,
};
use crate::reconcile::Executor;

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

/// Runs `action` against `answers`; the requests come without their unimportant headers.
async fn exchange(
    action: Action,
    answers: &[(u16, &str)],
) -> (Result<(), PodmanError>, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("podman.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let podman = Podman::new(socket);
    let step = Step {
        key: spec().key,
        action,
    };
    let both = async { tokio::join!(podman.execute(&step), serve(listener, answers)) };
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

fn spec() -> ContainerSpec {
    let service = serde_json::from_str(
        r#"{"name":"front","image":"host:5000/web:1","command":["serve"],
            "env":{"A":"b c"},"ports":["8080:80"]}"#,
    )
    .unwrap();
    ContainerSpec {
        key: ContainerKey {
            deployment: "web".parse().unwrap(),
            service: "front".parse().unwrap(),
        },
        digest: service_digest(&service),
        service,
    }
}

fn ensure_image() -> Action {
    Action::EnsureImage {
        image: spec().service.image,
    }
}

#[tokio::test]
async fn creates_and_starts() {
    let created = r#"{"Id":"abc","Warnings":[]}"#;
    let (result, requests) = exchange(Action::Create(spec()), &[(201, created), (204, "")]).await;
    result.unwrap();
    let body = concat!(
        r#"{"name":"harmony.web.front","image":"host:5000/web:1","command":["serve"],"#,
        r#""env":{"A":"b c"},"labels":{"harmony.deployment":"web","harmony.digest":"DIGEST","#,
        r#""harmony.managed-by":"iot-agent-v0","harmony.service":"front"},"#,
        r#""portmappings":[{"host_port":8080,"container_port":80,"protocol":"tcp"}]}"#
    );
    assert_eq!(
        requests,
        [
            format!(
                "POST /v4.0.0/libpod/containers/create HTTP/1.1 {}",
                body.replace("DIGEST", &spec().digest)
            ),
            "POST /v4.0.0/libpod/containers/abc/start HTTP/1.1".to_owned(),
        ]
    );
}

#[tokio::test]
async fn a_refusal_is_told_in_podmans_words() {
    let refusal = r#"{"cause":"c","message":"that name is already in use","response":500}"#;
    let (result, _) = exchange(Action::Create(spec()), &[(500, refusal)]).await;
    assert_eq!(
        result.unwrap_err().to_string(),
        "create container harmony.web.front: Podman answered 500: that name is already in use"
    );
}

#[tokio::test]
async fn removes_gracefully_and_accepts_that_it_is_gone() {
    for answer in [(200, "[]"), (204, ""), (404, "{}")] {
        let remove = Action::Remove {
            id: "abc".to_owned(),
        };
        let (result, requests) = exchange(remove, &[answer]).await;
        result.unwrap();
        assert_eq!(
            requests,
            ["DELETE /v4.0.0/libpod/containers/abc?force=true&v=true&timeout=10 HTTP/1.1"]
        );
    }
}

#[tokio::test]
async fn pulls_only_what_is_not_there() {
    let exists = "GET /v4.0.0/libpod/images/host%3A5000%2Fweb%3A1/exists HTTP/1.1";
    let (result, requests) = exchange(ensure_image(), &[(204, "")]).await;
    result.unwrap();
    assert_eq!(requests, [exists]);

    let log = "{\"stream\":\"Trying to pull\\n\"}\n{\"images\":[\"1\"],\"id\":\"1\"}\n";
    let (result, requests) = exchange(ensure_image(), &[(404, "{}"), (200, log)]).await;
    result.unwrap();
    let pull = "POST /v4.0.0/libpod/images/pull?reference=host%3A5000%2Fweb%3A1 HTTP/1.1";
    assert_eq!(requests, [exists, pull]);
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
        let (result, _) = exchange(ensure_image(), &[(404, "{}"), (200, log)]).await;
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
        r#"[{{"Id":"1","State":"exited","ExitCode":3,"Labels":{{{labels},"harmony.digest":"d"}},"Pid":0}},
            {{"Id":"2","State":"running","ExitCode":0,"Labels":{{{labels}}}}},
            {{"Id":"3","State":"running","ExitCode":0,"Labels":{{"harmony.managed-by":"iot-agent-v0"}}}},
            {{"Id":"4","State":"running","ExitCode":0,"Labels":null}},
            {{"Id":"5","State":"running","ExitCode":0,"Labels":{{"harmony.managed-by":"another","harmony.deployment":"web","harmony.service":"front"}}}}]"#
    );
    let answers = [(200, list.as_str())];
    let (observed, requests) = tokio::join!(podman.observe(), serve(listener, &answers));
    let container = |id: &str, digest: &str, state| ObservedContainer {
        id: id.to_owned(),
        key: spec().key,
        digest: digest.to_owned(),
        state,
    };
    assert_eq!(
        observed.unwrap(),
        [
            container("1", "d", ContainerState::Exited { code: 3 }),
            container("2", "", ContainerState::Running),
        ]
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
