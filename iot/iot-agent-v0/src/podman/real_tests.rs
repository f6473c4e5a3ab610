//! A whole life of a container of the second version, by a real Podman.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hyper::StatusCode;

use super::spec_of;
use crate::container::{ContainerSpec, ContainerState, Health, ObservedContainer};
use crate::plan::{Action, Step, Volumes};
use crate::podman::http::Call;
use crate::podman::{Podman, REQUEST_LIMIT};
use crate::reconcile::Executor;

/// How long anything may take here.
const LIMIT: Duration = Duration::from_secs(60);

/// A Podman of its own, which ends with this.
struct Service {
    dir: tempfile::TempDir,
    child: Child,
}

impl Service {
    /// Where it runs there may be cgroups of both versions at once, which crun takes none of, and no right to raise
    /// limits. Without systemd nothing runs health checks: the test asks for each.
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let conf = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\nnetns = \"host\"\n";
        std::fs::write(dir.path().join("containers.conf"), conf).unwrap();
        let script = "umount /sys/fs/cgroup/unified 2> /dev/null; exec podman \"$@\"";
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            script,
            "sh",
        ]);
        command.args(arguments(dir.path()));
        command.args(["system", "service", "--time", "0"]);
        command.arg(format!("unix://{}", socket(dir.path()).display()));
        environment(&mut command, dir.path());
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        Self { dir, child }
    }

    fn volume(&self, name: &str) -> PathBuf {
        self.dir
            .path()
            .join("root/volumes")
            .join(name)
            .join("_data")
    }

    /// Makes `localhost/harmony-test-sh:1` of this machine's shell and a few programs.
    fn import_image(&self) {
        let script = r#"set -e
            mkdir -p "$1/tree/tmp" "$1/tree/run" "$1/tree/var/tmp" "$1/tree/etc" "$1/tree/bin"
            for program in sh cat id stat sleep test touch
            do
                path=$(readlink -f "/usr/bin/$program")
                cp "$path" "$1/tree/bin/$program"
                ldd "$path" | grep -o '/[^ ]*' | while read -r library
                do
                    mkdir -p "$1/tree/${library%/*}"
                    cp -L "$library" "$1/tree/$library"
                done
            done
            tar -C "$1/tree" -cf "$1/image.tar" ."#;
        let mut tree = Command::new("sh");
        run(tree.args(["-c", script, "sh"]).arg(self.dir.path()));
        let mut import = Command::new("podman");
        import.args(arguments(self.dir.path()));
        import.args(["import", "--quiet", "--change", "VOLUME=/anonymous"]);
        import.arg(self.dir.path().join("image.tar"));
        import.arg("localhost/harmony-test-sh:1");
        environment(&mut import, self.dir.path());
        run(&mut import);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let mut remove = Command::new("podman");
        remove.args(arguments(self.dir.path()));
        remove.args(["rm", "--all", "--force", "--time", "0"]);
        environment(&mut remove, self.dir.path());
        // What cannot be removed goes with the directory.
        let _ = remove.output();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

fn arguments(dir: &Path) -> Vec<String> {
    let path = |name: &str| dir.join(name).display().to_string();
    let (root, run) = (path("root"), path("run"));
    let arguments = [
        "--root",
        &root,
        "--runroot",
        &run,
        "--storage-driver",
        "vfs",
    ];
    let more = ["--cgroup-manager", "cgroupfs"];
    arguments
        .into_iter()
        .chain(more)
        .map(str::to_owned)
        .collect()
}

fn environment(command: &mut Command, dir: &Path) {
    command.env("CONTAINERS_CONF", dir.join("containers.conf"));
    command.env("DISABLE_HC_SYSTEMD", "true");
}

fn socket(dir: &Path) -> PathBuf {
    dir.join("podman.sock")
}

/// Asks until there is an answer, and panics with what was seen last.
async fn until<T, E: std::fmt::Debug>(mut ask: impl AsyncFnMut() -> Result<T, E>) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(seen) => assert!(Instant::now() < end, "{seen:?}"),
        }
        // Another process does it, and tells nobody.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl Podman {
    async fn text(&self, path: &[&str]) -> String {
        let call = Call::get("ask".to_owned()).path(path).limit(REQUEST_LIMIT);
        let reply = self.api.send(call).await.unwrap();
        let reply = reply.expect(&[StatusCode::OK]).unwrap();
        String::from_utf8(reply.body.to_vec()).unwrap()
    }

    async fn only(&self) -> ObservedContainer {
        let mut all = self.observe().await.unwrap();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    /// Runs the check as the timer would.
    async fn checked(&self, id: &str) -> Option<Health> {
        self.text(&["containers", id, "healthcheck"]).await;
        let all = self.observe().await.unwrap();
        all.into_iter().find(|one| one.id == id).unwrap().health
    }

    async fn volumes(&self) -> Vec<String> {
        let list: serde_json::Value =
            serde_json::from_str(&self.text(&["volumes", "json"]).await).unwrap();
        let names = list.as_array().unwrap().iter();
        names
            .map(|volume| volume["Name"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Where each volume of the container is.
    async fn mounted(&self, id: &str) -> Vec<(String, String)> {
        let inspected: serde_json::Value =
            serde_json::from_str(&self.text(&["containers", id, "json"]).await).unwrap();
        let mounts = inspected["Mounts"].as_array().unwrap().iter();
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let mut mounted: Vec<_> = mounts
            .map(|mount| (text(&mount["Destination"]), text(&mount["Name"])))
            .collect();
        mounted.sort();
        mounted
    }

    async fn does(&self, action: Action) {
        let key = first().key;
        self.execute(&Step { key, action }).await.unwrap();
    }
}

const FACTS: &str = "{ id -u; cat /etc/app.conf; cat /run/secrets/key; stat -c '%a %u' /etc/app.conf /run/secrets/key; touch /x || echo read-only; touch /tmp/x && echo writable; stat -c %t:%T /dev/mine; while read -r line; do case $line in CapEff*) echo $line;; esac; done < /proc/self/status; } > /data/facts.new 2>&1; cat /data/facts.new > /data/facts; sleep 1000";

fn first() -> ContainerSpec {
    let score = serde_json::json!({"type": "PodmanV1", "data": {
        "volumes": {"data": {}, "cache": {"on_removal": "remove"}},
        "services": [{"name": "front", "image": "localhost/harmony-test-sh:1",
            "command": ["sh", "-c", FACTS],
            "volumes": [{"name": "data", "path": "/data"}, {"name": "cache", "path": "/cache"}],
            "files": [{"path": "/etc/app.conf", "content": "s3cr3t-1\n"}],
            "secrets": [{"path": "/run/secrets/key", "content": "s3cr3t-2\n"}],
            "devices": ["/dev/null:/dev/mine:rw"], "user": "1000:1000", "read_only": true,
            "capabilities": {"add": ["NET_RAW"], "drop": ["ALL"]},
            "memory_mib": 64, "cpu_millis": 500, "pids": 50, "log_max_mib": 1,
            "stop_timeout_seconds": 0,
            "health": {"command": ["test", "-s", "/data/facts"], "retries": 2}}]}});
    spec_of(&score.to_string())
}

fn second(before: &str) -> ContainerSpec {
    let score = serde_json::json!({"type": "PodmanV1", "data": {
        "volumes": {"data": {}, "cache": {"on_removal": "remove"}},
        "services": [{"name": "front", "image": "localhost/harmony-test-sh:1",
            "command": ["sleep", "1000"],
            "volumes": [{"name": "data", "path": "/elsewhere"}, {"name": "cache", "path": "/cache"}],
            "stop_timeout_seconds": 0,
            "health": {"command": ["test", "-e", "/missing"], "retries": 2}}]}});
    ContainerSpec {
        volumes_from: Some(before.to_owned()),
        ..spec_of(&score.to_string())
    }
}

#[tokio::test]
#[ignore = "needs root and Podman 4: makes, updates and removes a container"]
async fn a_service_has_all_that_its_score_says_and_its_data_survive_an_update() {
    let service = Service::start();
    service.import_image();
    let podman = Podman::new(socket(service.dir.path()));
    until(async || podman.observe().await).await;

    podman.does(Action::Run(first())).await;
    let observed = podman.only().await;
    assert_eq!(observed.state, ContainerState::Running);
    assert_eq!(observed.health, Some(Health::Starting));
    assert_eq!(observed.terms, first().service.terms());
    assert_eq!(observed.digest, first().service.digest);
    assert!(observed.image_digest.unwrap().starts_with("sha256:"));
    let id = observed.id;
    until(async || match podman.checked(&id).await {
        Some(Health::Healthy) => Ok(()),
        // A slow machine's first checks fail.
        seen => Err(seen),
    })
    .await;

    let facts = std::fs::read_to_string(service.volume("harmony.web.data").join("facts")).unwrap();
    let facts: Vec<_> = facts.lines().collect();
    let expected = [
        "1000",
        "s3cr3t-1",
        "s3cr3t-2",
        "444 1000",
        "400 1000",
        "touch: cannot touch '/x': Read-only file system",
        "read-only",
        "writable",
        "1:3",
        "CapEff: 0000000000002000",
    ];
    assert_eq!(facts, expected);
    let inspected = podman.text(&["containers", &id, "json"]).await;
    assert!(!inspected.contains("s3cr3t"), "{inspected}");
    assert_eq!(podman.text(&["secrets", "json"]).await.trim(), "[]");
    let left = podman.store("harmony.web.front.7", b"s3cr3t-3").await;
    left.unwrap().expect(&[StatusCode::OK]).unwrap();
    assert!(podman.text(&["secrets", "json"]).await.contains("front.7"));
    assert_eq!(podman.images().await.unwrap().len(), 1);
    assert_eq!(podman.text(&["secrets", "json"]).await.trim(), "[]");
    let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    let host = &inspected["HostConfig"];
    let limits = ["Memory", "MemorySwap", "CpuQuota", "CpuPeriod", "PidsLimit"];
    let limits = limits.map(|limit| host[limit].as_i64().unwrap());
    assert_eq!(limits, [67_108_864, 67_108_864, 50_000, 100_000, 50]);
    assert_eq!(host["LogConfig"]["Size"], "1.049MB");

    let before = podman.mounted(&id).await;
    let anonymous = before[0].clone();
    assert_eq!(anonymous.0, "/anonymous");
    podman.does(Action::SetAside { id: id.clone() }).await;
    podman.does(Action::Run(second(&id))).await;
    let volumes = Volumes::Anonymous;
    podman.does(Action::Remove { id, volumes }).await;
    let id = podman.only().await.id;
    let after = podman.mounted(&id).await;
    let named = |path: &str, name: &str| (path.to_owned(), format!("harmony.web.{name}"));
    let expected = [
        anonymous.clone(),
        named("/cache", "cache"),
        named("/elsewhere", "data"),
    ];
    assert_eq!(after, expected);
    assert!(service.volume("harmony.web.data").join("facts").exists());

    assert_eq!(podman.checked(&id).await, Some(Health::Starting));
    assert_eq!(podman.checked(&id).await, Some(Health::Unhealthy));
    podman.does(Action::Stop { id: id.clone() }).await;
    podman.does(Action::Start { id: id.clone() }).await;
    assert_eq!(podman.only().await.health, Some(Health::Starting));

    let volumes = Volumes::Passing;
    podman.does(Action::Remove { id, volumes }).await;
    assert_eq!(podman.observe().await.unwrap(), []);
    assert_eq!(podman.volumes().await, ["harmony.web.data"]);
}
