//! What is sent for a score of the second version.

use super::{exchange, spec_of, step};
use crate::container::{ContainerState, Health};
use crate::plan::{Action, Volumes};
use crate::podman::files::Storing;
use crate::podman::{Podman, PodmanError};
use crate::reconcile::Executor;

const SCORE: &str = r#"{"type":"PodmanV1","data":{
    "volumes":{"data":{},"cache":{"on_removal":"remove"}},
    "services":[{"name":"front","image":"host/web:1",
        "registry_login":{"username":"me","password":"hunter2"},
        "ports":["8080:80","127.0.0.1:53:53/udp"],
        "volumes":[{"name":"data","path":"/data"},{"name":"cache","path":"/cache","read_only":true}],
        "files":[{"path":"/etc/front.conf","content":"s3cr3t-1"}],
        "secrets":[{"path":"/run/secrets/key","content":"s3cr3t-2","mode":"0440","gid":7}],
        "devices":["/dev/ttyUSB0:/dev/modem:rw"],"user":"1000:dialout","read_only":true,
        "capabilities":{"add":["NET_RAW"],"drop":["ALL"]},
        "memory_mib":64,"cpu_millis":500,"pids":100,"log_max_mib":5,
        "restart":"on-failure","stop_timeout_seconds":30,
        "health":{"command":["test","-e","/x"],"interval_seconds":5,"timeout_seconds":2,"retries":4,
            "start_period_seconds":60}}]}}"#;

const TERMS: &str = r#"{"restart":"on-failure","stop_seconds":30,"healthy_within_seconds":118,"files":2,"volumes":["data"],"passing_volumes":["cache"]}"#;

const STORED: (u16, &str) = (200, r#"{"ID":"72f8709adb9267c4a2c75089e"}"#);

fn store(index: u32, content: &str) -> String {
    format!("POST /v4.0.0/libpod/secrets/create?name=harmony.web.front.{index} HTTP/1.1 {content}")
}

fn discard(index: u32) -> String {
    format!("DELETE /v4.0.0/libpod/secrets/harmony.web.front.{index} HTTP/1.1")
}

#[tokio::test]
async fn all_of_a_service_is_asked_for_and_its_files_go_beside() {
    let created = r#"{"Id":"abc","Warnings":[]}"#;
    let answers = [STORED, STORED, (201, created), (204, ""), (204, "")];
    let spec = spec_of(SCORE);
    let digest = spec.service.digest.clone();
    let (result, requests) = step(Action::Create(spec), &answers).await;
    result.unwrap();
    let body = concat!(
        r#"{"name":"harmony.web.front","image":"host/web:1","#,
        r#""labels":{"harmony.deployment":"web","harmony.digest":"DIGEST","#,
        r#""harmony.managed-by":"iot-agent-v0","harmony.service":"front","harmony.terms":TERMS},"#,
        r#""log_configuration":{"driver":"k8s-file","size":5242880},"#,
        r#""portmappings":[{"host_port":8080,"container_port":80,"protocol":"tcp"},"#,
        r#"{"host_port":53,"container_port":53,"protocol":"udp","host_ip":"127.0.0.1"}],"#,
        r#""volumes":[{"Name":"harmony.web.data","Dest":"/data","Options":["rw"]},"#,
        r#"{"Name":"harmony.web.cache","Dest":"/cache","Options":["ro"]}],"#,
        r#""secrets":[{"Source":"harmony.web.front.0","Target":"/etc/front.conf","UID":1000,"GID":0,"Mode":292},"#,
        r#"{"Source":"harmony.web.front.1","Target":"/run/secrets/key","UID":1000,"GID":7,"Mode":288}],"#,
        r#""mounts":[{"destination":"/run","type":"tmpfs","source":"tmpfs","options":["rprivate","rw","nosuid","nodev","tmpcopyup"]},"#,
        r#"{"destination":"/tmp","type":"tmpfs","source":"tmpfs","options":["rprivate","rw","nosuid","nodev","tmpcopyup"]},"#,
        r#"{"destination":"/var/tmp","type":"tmpfs","source":"tmpfs","options":["rprivate","rw","nosuid","nodev","tmpcopyup"]}],"#,
        r#""devices":[{"path":"/dev/ttyUSB0:/dev/modem:rw"}],"#,
        r#""annotations":{"run.oci.keep_original_groups":"1"},"#,
        r#""user":"1000:dialout","read_only_filesystem":true,"cap_add":["NET_RAW"],"cap_drop":["ALL"],"#,
        r#""resource_limits":{"memory":{"limit":67108864,"swap":67108864},"#,
        r#""cpu":{"quota":50000,"period":100000},"pids":{"limit":100}},"stop_timeout":30,"#,
        r#""healthconfig":{"Test":["CMD","test","-e","/x"],"StartPeriod":60000000000,"#,
        r#""Interval":5000000000,"Timeout":2000000000,"Retries":4}}"#
    );
    let terms = serde_json::to_string(TERMS).unwrap();
    let body = body.replace("DIGEST", &digest).replace("TERMS", &terms);
    let create = format!("POST /v4.0.0/libpod/containers/create HTTP/1.1 {body}");
    let expected = [
        store(0, "s3cr3t-1"),
        store(1, "s3cr3t-2"),
        create,
        discard(0),
        discard(1),
    ];
    assert_eq!(requests, expected);
}

#[tokio::test]
async fn a_secret_is_its_owners_alone_and_what_is_mounted_lies_under_nothing() {
    let created = r#"{"Id":"abc","Warnings":[]}"#;
    let answers = [STORED, (201, created), (204, "")];
    let score = r#"{"type":"PodmanV1","data":{"volumes":{"data":{}},"services":[{"name":"front",
        "image":"host/web:1","read_only":true,"volumes":[{"name":"data","path":"/tmp"}],
        "secrets":[{"path":"/run/secrets/key","content":"s3cr3t"}]}]}}"#;
    let (result, requests) = step(Action::Create(spec_of(score)), &answers).await;
    result.unwrap();
    let body = requests[1].rsplit_once(" HTTP/1.1 ").unwrap().1;
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["secrets"][0]["Mode"], 0o400);
    let mounts = body["mounts"].as_array().unwrap().iter();
    let mounts: Vec<_> = mounts.map(|mount| &mount["destination"]).collect();
    assert_eq!(mounts, ["/run", "/var/tmp"]);
}

/// As Podman 4.3 answers when an earlier creation was cut off.
#[tokio::test]
async fn a_file_that_was_left_in_the_store_is_replaced_and_none_stays_there() {
    let taken = r#"{"cause":"secret name in use","message":"harmony.web.front.0: secret name in use","response":500}"#;
    let full = r#"{"cause":"x","message":"no space left on device","response":500}"#;
    let answers = [
        (500, taken),
        (204, ""),
        STORED,
        (500, full),
        (204, ""),
        (404, "{}"),
    ];
    let (result, requests) = step(Action::Create(spec_of(SCORE)), &answers).await;
    assert!(
        matches!(result, Err(PodmanError::NoSpace { .. })),
        "{result:?}"
    );
    let expected = [
        store(0, "s3cr3t-1"),
        discard(0),
        store(0, "s3cr3t-1"),
        store(1, "s3cr3t-2"),
        discard(0),
        discard(1),
    ];
    assert_eq!(requests, expected);
}

/// A creation that a change has overtaken is dropped where it stands, and the container that follows may have no files.
#[tokio::test]
async fn files_that_a_creation_left_go_with_the_next_sweep_and_no_others() {
    let listed = |names: &[&str]| {
        let listed = names.iter().map(|name| {
            serde_json::json!({"ID": "1", "CreatedAt": "x", "UpdatedAt": "x", "Spec": {"Name": name}})
        });
        serde_json::Value::from_iter(listed).to_string()
    };
    let list = listed(&[
        "harmony.web.front.0",
        "harmony.db.a.1",
        "harmony.db.a.01",
        "harmony.db.a",
        "harmony.db.a.x",
        "db.a.0",
        "mine",
    ]);
    let answers = [(200, list.as_str()), (204, ""), (500, "{}")];
    let work = async |podman: &Podman| {
        let key = spec_of(SCORE).key;
        let _storing = Storing::of(podman, &key);
        podman.images().await.unwrap_err();
    };
    let ((), requests) = exchange(work, &answers).await;
    let expected = [
        "GET /v4.0.0/libpod/secrets/json HTTP/1.1",
        "DELETE /v4.0.0/libpod/secrets/harmony.db.a.1 HTTP/1.1",
        "GET /v4.0.0/libpod/images/json HTTP/1.1",
    ];
    assert_eq!(requests, expected);
    // It is not being made any more.
    let left = listed(&["harmony.web.front.0"]);
    let work = async |podman: &Podman| {
        drop(Storing::of(podman, &spec_of(SCORE).key));
        podman.images().await.unwrap();
    };
    let answers = [(200, left.as_str()), (204, ""), (200, "[]")];
    let ((), requests) = exchange(work, &answers).await;
    assert_eq!(requests[1], discard(0));
}

/// The answer of Podman 4.3 to `containers/json`, shortened, with the container of [`SCORE`].
fn listed(state: &str, status: &str) -> String {
    let labels = serde_json::json!({
        "harmony.deployment": "web", "harmony.digest": "d", "harmony.managed-by": "iot-agent-v0",
        "harmony.service": "front", "harmony.terms": TERMS,
    });
    format!(
        r#"[{{"Id":"old","State":"{state}","Status":"{status}","ExitCode":0,"Labels":{labels},
            "Names":["harmony.web.front"],"StartedAt":1795950436,"Pid":0}}]"#
    )
}

#[tokio::test]
async fn its_health_comes_with_the_list() {
    let cases = [
        ("starting", Health::Starting),
        ("healthy", Health::Healthy),
        ("unhealthy", Health::Unhealthy),
        ("", Health::Starting),
    ];
    for (status, health) in cases {
        let list = listed("running", status);
        let observe = async |podman: &Podman| podman.observe().await.unwrap().remove(0);
        let (observed, requests) = exchange(observe, &[(200, &list)]).await;
        assert_eq!(observed.health, Some(health), "{status}");
        assert_eq!(observed.terms, spec_of(SCORE).service.terms());
        assert_eq!(requests.len(), 1);
    }
    // An image's own check is not heeded.
    let terms = serde_json::to_string(TERMS).unwrap();
    let plain = listed("running", "unhealthy").replace(&format!(r#","harmony.terms":{terms}"#), "");
    let observe = async |podman: &Podman| podman.observe().await.unwrap().remove(0);
    let (observed, _) = exchange(observe, &[(200, &plain)]).await;
    assert_eq!(observed.health, None);
    assert_eq!(observed.state, ContainerState::Running);
}

#[tokio::test]
async fn it_is_stopped_and_removed_by_its_own_terms() {
    let list = listed("running", "healthy");
    let work = async |podman: &Podman| {
        podman.observe().await.unwrap();
        let key = spec_of(SCORE).key;
        podman.stop("old", &key).await.unwrap();
        podman
            .remove("old", &key, Volumes::Anonymous)
            .await
            .unwrap();
        podman.remove("old", &key, Volumes::Passing).await.unwrap();
    };
    let used =
        r#"{"cause":"volume is being used","message":"volume is being used","response":409}"#;
    let answers = [
        (200, list.as_str()),
        (204, ""),
        (200, "[]"),
        (200, "[]"),
        (204, ""),
        (404, "{}"),
        (409, used),
    ];
    let ((), requests) = exchange(work, &answers).await;
    let expected = [
        "POST /v4.0.0/libpod/containers/old/stop?timeout=30 HTTP/1.1".to_owned(),
        "DELETE /v4.0.0/libpod/containers/old?force=true&volumes=true&timeout=30 HTTP/1.1"
            .to_owned(),
        "DELETE /v4.0.0/libpod/containers/old?force=true&volumes=true&timeout=30 HTTP/1.1"
            .to_owned(),
        discard(0),
        discard(1),
        "DELETE /v4.0.0/libpod/volumes/harmony.web.cache HTTP/1.1".to_owned(),
    ];
    assert_eq!(requests[1..], expected);
}

/// `volumes_from` would bring back a named volume that the score has dropped.
#[tokio::test]
async fn only_anonymous_volumes_are_handed_on_beside_named_ones() {
    let list = listed("exited", "");
    let anonymous = "7adaa913088f60f01209afff2a5bff07f867b35fa790c9aa9f0403224e07cec6";
    let hidden = "d19a382fd933be71bce6d19a382fd933be71bce6d19a382fd933be71bce60000";
    let inspected = format!(
        r#"{{"Id":"old","Mounts":[
            {{"Type":"volume","Name":"{anonymous}","Destination":"/anon","Driver":"local","RW":true}},
            {{"Type":"volume","Name":"{hidden}","Destination":"/cache","Driver":"local","RW":true}},
            {{"Type":"volume","Name":"harmony.web.data","Destination":"/data","RW":true}},
            {{"Type":"bind","Source":"/dev/x","Destination":"/dev/x","RW":true}}]}}"#
    );
    let created = r#"{"Id":"abc","Warnings":[]}"#;
    for version in ["PodmanV0", "PodmanV1"] {
        let score = format!(
            r#"{{"type":"{version}","data":{{"services":[{{"name":"front","image":"host/web:2"}}]}}}}"#
        );
        let mut spec = spec_of(&score);
        spec.volumes_from = Some("old".to_owned());
        let work = async |podman: &Podman| {
            podman.observe().await.unwrap();
            podman.create(&spec).await.unwrap();
        };
        let answers = [(200, list.as_str()), (200, &inspected), (201, created)];
        let ((), requests) = exchange(work, &answers).await;
        let volumes = [(anonymous, "/anon"), (hidden, "/cache")].map(|(name, path)| {
            format!(
                r#"{{"Name":"{name}","Dest":"{path}","Options":["rprivate","rw","nodev","exec"]}}"#
            )
        });
        let expected = format!(r#","volumes":[{}]}}"#, volumes.join(","));
        assert_eq!(
            requests[1],
            "GET /v4.0.0/libpod/containers/old/json HTTP/1.1"
        );
        assert!(
            requests[2].ends_with(&expected),
            "{version}: {}",
            requests[2]
        );
    }
    // What the score mounts at that path is there instead.
    let mut spec = spec_of(SCORE);
    spec.volumes_from = Some("old".to_owned());
    let work = async |podman: &Podman| podman.inherited(&spec).await.unwrap();
    let (inherited, _) = exchange(work, &[(200, &inspected)]).await;
    let inherited = format!("{inherited:?}");
    assert!(
        inherited.contains(anonymous) && !inherited.contains(hidden),
        "{inherited}"
    );
}

#[tokio::test]
async fn a_registry_is_logged_in_to_by_a_header() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("podman.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let podman = Podman::new(socket);
    let definition = spec_of(SCORE).service.definition;
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
        }
        let answer = b"HTTP/1.1 500 x\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        String::from_utf8(request).unwrap()
    };
    let pull = podman.pull(&definition.image, definition.registry_login.as_ref());
    let (result, request) = tokio::join!(pull, serve);
    result.unwrap_err();
    let login = data_encoding::BASE64URL.encode(br#"{"username":"me","password":"hunter2"}"#);
    let header = format!("\r\nx-registry-auth: {login}\r\n");
    assert!(request.contains(&header), "{request}");
}
