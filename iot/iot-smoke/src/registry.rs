//! A private container registry, and an image of one program pushed to it.

use std::net::Ipv4Addr;
use std::path::Path;

use harmony::domain::topology::virtualization::VmArchitecture;
use harmony::modules::host::find_program;
use harmony::modules::image::Sha256Digest;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::Failure;
use crate::server::{Server, free_address};

/// Where Debian's and other packages put the registry's program.
const PROGRAMS: [&str; 2] = ["docker-registry", "registry"];

/// Starts a registry that keeps its blobs below `dir`.
///
/// # Errors
/// When there is no such program, or it does not start.
pub async fn start(dir: &Path, ip: Ipv4Addr) -> Result<Server, Failure> {
    let program = PROGRAMS
        .iter()
        .find_map(|name| find_program(name))
        .ok_or("docker-registry is not on PATH")?;
    let address = free_address(ip)?;
    // JSON is YAML.
    let config = json!({
        "version": "0.1",
        "log": { "level": "warn" },
        "storage": {
            "filesystem": { "rootdirectory": dir.join("registry") },
            "delete": { "enabled": false },
        },
        "http": { "addr": address.to_string(), "secret": "one process, one host" },
    });
    let path = dir.join("registry.yml");
    std::fs::write(&path, config.to_string())?;
    let mut command = Command::new(program);
    command.arg("serve").arg(&path);
    Server::start(command, address, &dir.join("registry.log")).await
}

/// Pushes an image whose only file is `program`, as `repository:1`.
///
/// # Errors
/// When the program cannot be read, or the registry does not take it.
pub async fn push(
    registry: &Server,
    repository: &str,
    architecture: VmArchitecture,
    program: &Path,
) -> Result<(), Failure> {
    let layer = layer(program)?;
    let base = format!("http://{}/v2/{repository}", registry.address);
    // The client wants to know whose cryptography to use, also where there is none; a second call fails,
    // and changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder().no_proxy().build()?;
    let layer_digest = upload(&client, &base, &layer).await?;
    let config = json!({
        "architecture": architecture.debian_name(),
        "os": "linux",
        "config": { "Entrypoint": ["/workload"] },
        "rootfs": { "type": "layers", "diff_ids": [layer_digest] },
    });
    let config = serde_json::to_vec(&config)?;
    let config_digest = upload(&client, &base, &config).await?;
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest: Value = json!({
        "schemaVersion": 2,
        "mediaType": kind,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": config_digest,
            "size": config.len(),
        },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": layer_digest,
            "size": layer.len(),
        }],
    });
    let response = client
        .put(format!("{base}/manifests/1"))
        .header("content-type", kind)
        .body(manifest.to_string())
        .send()
        .await?;
    expect(StatusCode::CREATED, response).await
}

/// A tar archive with the program as `/workload`.
fn layer(program: &Path) -> Result<Vec<u8>, Failure> {
    let content = std::fs::read(program)?;
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len().try_into()?);
    header.set_mode(0o755);
    header.set_mtime(0);
    header.set_cksum();
    archive.append_data(&mut header, "workload", content.as_slice())?;
    Ok(archive.into_inner()?)
}

/// Uploads a blob in one piece and returns its digest.
async fn upload(client: &Client, base: &str, blob: &[u8]) -> Result<String, Failure> {
    let digest = format!("sha256:{}", Sha256Digest::of(blob));
    let started = client.post(format!("{base}/blobs/uploads/")).send().await?;
    let location = started
        .headers()
        .get("location")
        .ok_or("the registry named no place for the upload")?
        .to_str()?
        .to_owned();
    let mut url = reqwest::Url::parse(&location)?;
    url.query_pairs_mut().append_pair("digest", &digest);
    let response = client.put(url).body(blob.to_vec()).send().await?;
    expect(StatusCode::CREATED, response).await?;
    Ok(digest)
}

async fn expect(expected: StatusCode, response: reqwest::Response) -> Result<(), Failure> {
    let status = response.status();
    if status == expected {
        return Ok(());
    }
    let said = response.text().await.unwrap_or_default();
    Err(format!("the registry answered {status}, expected {expected}: {said}").into())
}
