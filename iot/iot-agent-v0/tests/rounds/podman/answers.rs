//! What it answers, and what it does thereby.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use super::{Call, Container, Did, State, now};

impl State {
    /// The status and the content of the answer to a request.
    pub(super) fn answer(
        &mut self,
        method: &str,
        path: &[&str],
        query: &BTreeMap<String, String>,
        body: &[u8],
    ) -> (u16, Value) {
        match (method, path) {
            ("GET", ["containers", "json"]) => {
                let listed = self.containers.iter().map(|(id, c)| c.listed(id));
                (200, listed.collect())
            }
            ("GET", ["images", "json"]) => {
                let listed = self.images.iter().map(|image| {
                    let used = self.containers.values().filter(|c| c.image == *image);
                    json!({ "Id": image, "RepoTags": [image], "Containers": used.count() })
                });
                (200, listed.collect())
            }
            ("GET", ["images", image, "exists"]) => match self.images.contains(*image) {
                true => (204, Value::Null),
                false => refused(404, "no such image"),
            },
            ("GET", ["images", _, "json"]) => (200, json!({ "Digest": "sha256:00" })),
            ("POST", ["images", "pull"]) => {
                let image = query.get("reference").cloned().unwrap_or_default();
                self.images.insert(image.clone());
                self.calls.push(Call {
                    did: Did::Pull,
                    name: image.clone(),
                    image: image.clone(),
                });
                (200, json!({ "id": image }))
            }
            ("DELETE", ["images", image]) => self.remove_image(image),
            // No file system of that name: its space cannot be told, and no pull waits for it.
            ("GET", ["info"]) => (200, json!({ "store": { "graphRoot": "/nonexistent" } })),
            ("POST", ["containers", "create"]) => self.create(body),
            ("GET", ["containers", name, "exists"]) => match self.named(name) {
                Some(_) => (204, Value::Null),
                None => refused(404, "no such container"),
            },
            ("GET", ["containers", _, "logs"]) => (200, json!("")),
            (_, ["containers", id, rest @ ..]) if self.containers.contains_key(*id) => {
                self.act(method, id, rest, query)
            }
            (_, ["containers", ..]) => refused(404, "no such container"),
            _ => {
                self.unknown.push(format!("{method} {}", path.join("/")));
                refused(404, "this test does not know that")
            }
        }
    }

    fn remove_image(&mut self, image: &str) -> (u16, Value) {
        if self.containers.values().any(|c| c.image == image) {
            return refused(409, "image is in use");
        }
        if !self.images.remove(image) {
            return refused(404, "no such image");
        }
        self.calls.push(Call {
            did: Did::RemoveImage,
            name: image.to_owned(),
            image: image.to_owned(),
        });
        (200, json!({}))
    }

    fn create(&mut self, body: &[u8]) -> (u16, Value) {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let (name, image) = (text("name"), text("image"));
        if self.named(&name).is_some() {
            return refused(500, "the container name is already in use");
        }
        if !self.images.contains(&image) {
            return refused(404, "image not known");
        }
        self.made += 1;
        let id = format!("{:064x}", self.made);
        let container = Container {
            name,
            image,
            runs: false,
            since: Instant::now(),
            labels: body["labels"].clone(),
            started_at: 0,
            exited_at: 0,
            was_started: false,
            pid: 0,
        };
        self.containers.insert(id.clone(), container);
        self.did(Did::Create, &id);
        (201, json!({ "Id": id, "Warnings": [] }))
    }

    fn act(
        &mut self,
        method: &str,
        id: &str,
        path: &[&str],
        query: &BTreeMap<String, String>,
    ) -> (u16, Value) {
        let runs = self.containers[id].runs;
        match (method, path) {
            ("POST", ["start"]) if self.is_over => refused(500, "the test is over"),
            ("POST", ["start"]) if runs => (304, Value::Null),
            ("POST", ["start"]) => {
                self.did(Did::Start, id);
                let process = self.has_processes.then(sleeping);
                if let Some(container) = self.containers.get_mut(id) {
                    container.runs = true;
                    container.was_started = true;
                    container.since = Instant::now();
                    container.started_at = now();
                    container.pid = process.as_ref().map_or(0, Child::id);
                }
                if let Some(process) = process {
                    self.processes.insert(id.to_owned(), process);
                }
                (204, Value::Null)
            }
            ("POST", ["stop"]) if !runs => (304, Value::Null),
            ("POST", ["stop"]) => {
                self.did(Did::Stop, id);
                self.end(id);
                (204, Value::Null)
            }
            ("POST", ["unpause"]) => refused(500, "it is not paused"),
            ("POST", ["rename"]) => {
                let name = query.get("name").cloned().unwrap_or_default();
                if self.named(&name).is_some() {
                    return refused(500, "the container name is already in use");
                }
                self.did(Did::Rename, id);
                if let Some(container) = self.containers.get_mut(id) {
                    container.name = name;
                }
                (204, Value::Null)
            }
            ("DELETE", []) => {
                self.did(Did::Remove, id);
                self.end(id);
                self.containers.remove(id);
                (200, json!([]))
            }
            _ => {
                self.unknown.push(format!("{method} {}", path.join("/")));
                refused(404, "this test does not know that")
            }
        }
    }

    fn end(&mut self, id: &str) {
        if let Some(mut process) = self.processes.remove(id) {
            let _ = process.kill();
            let _ = process.wait();
        }
        self.containers
            .entry(id.to_owned())
            .and_modify(Container::end);
    }
}

fn refused(status: u16, message: &str) -> (u16, Value) {
    (
        status,
        json!({ "cause": message, "message": message, "response": status }),
    )
}

/// A main process of a container, which ends by itself in the end.
fn sleeping() -> Child {
    let mut command = Command::new("sleep");
    command.arg("1800").stdin(Stdio::null());
    command.spawn().unwrap()
}
