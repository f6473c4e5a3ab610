//! What the command line asks for.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use harmony::domain::error::ExecutorError;
use harmony::domain::topology::virtualization::{FirstBoot, VirtualMachineSpec};
use harmony::modules::host::HostFacts;
use harmony::modules::iot::assets;
use harmony::modules::iot::preflight::{PreflightOptions, run_preflight};
use harmony::modules::kvm::VmName;
use harmony::modules::kvm::connection::ConnectionUri;
use harmony::modules::kvm::preview::{Preview, preview};
use harmony::modules::kvm::topology::KvmVirtualMachineHost;
use harmony::modules::ssh::SshKeyPair;
use serde_json::json;

use crate::agent;
use crate::args::Args;
use crate::devices;
use crate::error::SetupError;
use crate::image::{self, DeviceImage};
use crate::inspect;
use crate::output::{explanation, print, print_json};
use crate::release;

/// The user that cloud-init makes in the guest.
const LOGIN_USER: &str = "harmony";

/// Does what the command line says.
pub(crate) async fn run(args: &Args) -> Result<ExitCode, ExecutorError> {
    if let Some(image) = &args.inspect {
        return inspect::run(args, image);
    }
    if let Some(registry) = agent::registry(args).filter(|_| args.init_registry) {
        return print(&agent::init_registry(args, &registry)?);
    }
    // The name is checked first: it becomes part of paths and keys.
    let name: VmName = args.vm_name().parse().map_err(invalid_name)?;
    let names = args.vm_names().into_iter();
    let names = names.map(|name| name.parse().map_err(invalid_name));
    let names: Vec<VmName> = names.collect::<Result<_, _>>()?;
    if let (Some(url), Some(key)) = (&args.release, &args.release_key) {
        return release::run(args, key, url, &names).await;
    }
    let data_dir = assets::data_dir()?;
    if args.preflight {
        return preflight_only(args, &data_dir).await;
    }
    if let Some(file) = &args.facts {
        return dry_run_elsewhere(args, &name, &data_dir, file);
    }
    let uri = ConnectionUri::choose(args.connect).await?;
    let host = KvmVirtualMachineHost::new(uri, &data_dir);
    if args.print_facts {
        let facts = host.facts().await;
        return if args.json {
            print_json(facts)
        } else {
            print(&facts.to_string())
        };
    }
    if args.destroy {
        return devices::destroy(args, &names, &host).await;
    }
    if args.dry_run {
        let spec = planned_spec(args, &name, &data_dir, host.facts().await)?;
        let preview = host.preview(&spec).await?;
        return print_preview(args, &preview);
    }
    if args.image_only {
        let image = image::ensure(args, &name, &host, &images_dir(&data_dir)).await?;
        return print_image(args, &image);
    }
    match args.count {
        None => devices::set_up(args, &name, &host, &data_dir).await,
        Some(_) => devices::set_up_fleet(args, &names, &host, &data_dir).await,
    }
}

fn print_image(args: &Args, image: &DeviceImage) -> Result<ExitCode, ExecutorError> {
    if args.json {
        return print_json(&json!({"image": image.path, "origin": image.origin}));
    }
    print(&format!("{}\n", image.path.display()))
}

fn invalid_name(violation: harmony::modules::kvm::types::Violation) -> ExecutorError {
    harmony::modules::kvm::KvmError::Invalid {
        violations: vec![violation],
    }
    .into()
}

/// The spec before there is an image or a key.
pub(crate) fn planned_spec(
    args: &Args,
    name: &VmName,
    data_dir: &Path,
    facts: &HostFacts,
) -> Result<VirtualMachineSpec, ExecutorError> {
    let image = image::planned(args, facts, &images_dir(data_dir))?;
    Ok(spec(args, name, image, &planned_keys(data_dir)))
}

/// What would be made on the host that a file tells of. libvirt is not asked for anything.
fn dry_run_elsewhere(
    args: &Args,
    name: &VmName,
    data_dir: &Path,
    file: &Path,
) -> Result<ExitCode, ExecutorError> {
    let unreadable = |reason: String| SetupError::Facts {
        path: file.to_owned(),
        reason,
    };
    let text = std::fs::read_to_string(file).map_err(|e| unreadable(e.to_string()))?;
    let facts: HostFacts = serde_json::from_str(&text).map_err(|e| unreadable(e.to_string()))?;
    let preview = preview(&planned_spec(args, name, data_dir, &facts)?, &facts)?;
    print_preview(args, &preview)
}

fn print_preview(args: &Args, preview: &Preview) -> Result<ExitCode, ExecutorError> {
    for warning in &preview.warnings {
        tracing::warn!("{warning}");
    }
    match (args.json, args.explain) {
        (true, _) => print_json(preview),
        (false, true) => print(&format!("{}\n{}", preview.xml, explanation(preview))),
        (false, false) => print(&preview.xml),
    }
}

pub(crate) fn preflight_options(args: &Args, data_dir: &Path) -> PreflightOptions {
    PreflightOptions {
        architecture: args.arch,
        accelerator: args.accel,
        cpu: args.cpu.clone(),
        firmware: args.firmware,
        networks: args.network.clone(),
        connect: args.connect,
        data_dir: data_dir.to_owned(),
    }
}

async fn preflight_only(args: &Args, data_dir: &Path) -> Result<ExitCode, ExecutorError> {
    let report = run_preflight(&preflight_options(args, data_dir)).await;
    if args.json {
        print_json(&report)?;
    } else {
        print(&report.to_string())?;
    }
    let failed = report.failures().next().is_some();
    Ok(ExitCode::from(u8::from(failed)))
}

pub(crate) fn images_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("images")
}

pub(crate) fn keys_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("keys")
}

/// For a dry run, which makes no key: a place holder where none is there yet.
fn planned_keys(data_dir: &Path) -> SshKeyPair {
    let private_key_path = keys_dir(data_dir).join("id_ed25519");
    let public = private_key_path.with_extension("pub");
    let public_key_line = std::fs::read_to_string(public).map_or_else(
        |_| "ssh-ed25519 (made by the first run)".to_owned(),
        |line| line.trim_end().to_owned(),
    );
    SshKeyPair {
        private_key_path,
        public_key_line,
    }
}

pub(crate) fn spec(
    args: &Args,
    name: &VmName,
    image: DeviceImage,
    keys: &SshKeyPair,
) -> VirtualMachineSpec {
    VirtualMachineSpec {
        name: name.to_string(),
        architecture: args.arch,
        vcpus: args.vcpus,
        memory_mib: args.memory_mib,
        memory_overcommit: args.memory_overcommit,
        disk_gib: args.disk_gib,
        image: Some(image.path),
        kernel: image.kernel,
        networks: args.network.iter().cloned().map(Into::into).collect(),
        accelerator: args.accel,
        cpu: args.cpu.clone(),
        firmware: args.firmware,
        machine: args.machine.clone(),
        first_boot: Some(FirstBoot {
            user: LOGIN_USER.to_owned(),
            authorized_keys: vec![keys.public_key_line.clone()],
            ..FirstBoot::default()
        }),
        ..VirtualMachineSpec::default()
    }
}
