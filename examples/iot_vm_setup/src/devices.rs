//! Devices: brought up, and removed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use harmony::domain::error::{ExecutorError, error_chain};
use harmony::domain::inventory::Inventory;
use harmony::domain::topology::virtualization::{
    Accelerator, OnChange, VirtualMachineHost, VmArchitecture,
};
use harmony::modules::host::HostFacts;
use harmony::modules::iot::device::ServerCa;
use harmony::modules::iot::fleet::{FailedDevice, FleetError, bring_up_fleet, destroy_fleet};
use harmony::modules::iot::platform::Platform;
use harmony::modules::iot::preflight::run_preflight_on;
use harmony::modules::iot::virtual_device::{ReadyDevice, Stages, VirtualDevice, bring_up};
use harmony::modules::kvm::params::choose_accelerator;
use harmony::modules::kvm::topology::KvmVirtualMachineHost;
use harmony::modules::kvm::{VmConfig, VmName};
use harmony::modules::ssh::{SshKeyPair, ensure_key_pair};
use serde_json::json;
use tracing::{error, info};

use crate::agent::{agent_binary, agent_config, check_reach, known_by, nats_ca, platform_config};
use crate::args::Args;
use crate::deployments::Deployments;
use crate::image::{self, DeviceImage, RecipeArg};
use crate::output::{Device, print, print_json};
use crate::release::releases_ca;
use crate::setup::{images_dir, keys_dir, planned_spec, preflight_options, spec};

/// What all devices have in common, and this host is ready for.
struct Common {
    platform: Platform,
    agent_binary: PathBuf,
    nats_ca: Option<ServerCa>,
    releases_ca: Option<ServerCa>,
    keys: SshKeyPair,
    deployments: Deployments,
    /// Whether devices go on from a checkpoint.
    warm: bool,
}

impl Common {
    /// Everything that can be wrong with the request or the host is found before anything is made.
    async fn prepare(
        args: &Args,
        first: &VmName,
        host: &KvmVirtualMachineHost,
        data_dir: &Path,
        stages: &mut Stages,
    ) -> Result<Self, ExecutorError> {
        let agent_binary = agent_binary(args)?;
        let releases_ca = releases_ca(args)?;
        let deployments = Deployments::read(args)?;
        agent_config(args, first)?;
        known_by(args)?;
        let nats_ca = nats_ca(args)?;
        check_reach(args)?;
        VmConfig::try_from(&planned_spec(args, first, data_dir, host.facts().await)?)?;
        run_preflight_on(&preflight_options(args, data_dir), host)
            .await
            .into_result()?;
        let platform = Platform::connect(&platform_config(args).await?).await?;
        if args.reset_nvram {
            host.reset_nvram(first.as_str()).await?;
        }
        stages.end("preflight", "this host can run the device");

        Ok(Self {
            platform,
            agent_binary,
            nats_ca,
            releases_ca,
            deployments,
            keys: ensure_key_pair(&keys_dir(data_dir), "id_ed25519")?,
            warm: is_warm(args, host.facts().await)?,
        })
    }

    fn device(
        &self,
        args: &Args,
        name: &VmName,
        image: DeviceImage,
    ) -> Result<VirtualDevice, ExecutorError> {
        Ok(VirtualDevice {
            spec: spec(args, name, image, &self.keys),
            on_change: if args.replace {
                OnChange::Replace
            } else {
                OnChange::Refuse
            },
            warm: self.warm,
            reset: args.reset,
            agent: agent_config(args, name)?,
            known_by: known_by(args)?,
            nats_ca: self.nats_ca.clone(),
            releases_ca: self.releases_ca.clone(),
            agent_binary: self.agent_binary.clone(),
            insecure_registries: args.insecure_registry.clone(),
            keys: self.keys.clone(),
        })
    }
}

/// Booting an emulated arm64 device takes a minute, and going on from a checkpoint seconds. A plain image may have no
/// agent for the guest, without which there is no checkpoint of it.
fn is_warm(args: &Args, facts: &HostFacts) -> Result<bool, ExecutorError> {
    let plain = args.image.is_some() || args.recipe == Some(RecipeArg::None);
    if args.warm || args.cold || plain || args.arch != VmArchitecture::Aarch64 {
        return Ok(args.warm);
    }
    let chosen = choose_accelerator(args.arch, args.accel, &args.cpu, facts)?;
    Ok(chosen.accelerator == Accelerator::Tcg)
}

pub(crate) async fn set_up(
    args: &Args,
    name: &VmName,
    host: &KvmVirtualMachineHost,
    data_dir: &Path,
) -> Result<ExitCode, ExecutorError> {
    let mut stages = Stages::default();
    let common = Common::prepare(args, name, host, data_dir, &mut stages).await?;
    let image = image::ensure(args, name, host, &images_dir(data_dir)).await?;
    let outcome = format!("{} ({})", image.path.display(), image.origin);
    stages.end("image", outcome);
    let device = common.device(args, name, image)?;
    let inventory = Inventory::new(data_dir);
    let ready = bring_up(host, &common.platform, &inventory, &device, stages).await?;
    let (platform, id) = (&common.platform, &device.agent.device_id);
    common.deployments.apply(platform, id).await?;
    let device = Device::new(host, &device, ready)?;
    if args.json {
        print_json(&device)
    } else {
        print(&device.to_text())
    }
}

pub(crate) async fn set_up_fleet(
    args: &Args,
    names: &[VmName],
    host: &KvmVirtualMachineHost,
    data_dir: &Path,
) -> Result<ExitCode, ExecutorError> {
    let Some(first) = names.first() else {
        return Ok(ExitCode::SUCCESS);
    };
    let mut stages = Stages::default();
    let common = Common::prepare(args, first, host, data_dir, &mut stages).await?;
    let mut devices = Vec::with_capacity(names.len());
    for name in names {
        // A device that is there keeps its image; those that are not get what is the default now.
        let image = image::ensure(args, name, host, &images_dir(data_dir)).await?;
        devices.push(common.device(args, name, image)?);
    }
    stages.end("images", "they are here");
    let inventory = Inventory::new(data_dir);
    let tell = |ended: Result<&ReadyDevice, &FailedDevice>| match ended {
        Ok(device) => info!("{}", device.summary()),
        Err(FailedDevice {
            name,
            error,
            diagnosis,
        }) => error!(device = %name, "{}\n{diagnosis}", error_chain(error)),
    };
    let (platform, at_once) = (&common.platform, args.at_once);
    let fleet = bring_up_fleet(host, platform, &inventory, &devices, at_once, tell).await?;
    for ready in &fleet.ready {
        if let Some(device) = devices.iter().find(|d| d.spec.name == ready.name) {
            let id = &device.agent.device_id;
            common.deployments.apply(platform, id).await?;
        }
    }
    let made = fleet.ready.into_iter().filter_map(|ready| {
        let device = devices
            .iter()
            .find(|device| device.spec.name == ready.name)?;
        Some(Device::new(host, device, ready))
    });
    let made = made.collect::<Result<Vec<_>, _>>()?;
    if args.json {
        print_json(&made)?;
    } else {
        for device in &made {
            print(&device.to_text())?;
        }
    }
    let (count, failed) = (devices.len(), fleet.failed);
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(FleetError::Partial { count, failed }.into())
}

/// Removes what the command line names.
pub(crate) async fn destroy(
    args: &Args,
    names: &[VmName],
    host: &KvmVirtualMachineHost,
) -> Result<ExitCode, ExecutorError> {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let existed = match names.as_slice() {
        [name] if host.destroy_vm(name).await? => vec![name.clone()],
        [_] => Vec::new(),
        names => destroy_fleet(host, names).await?,
    };
    let destroyed: Vec<_> = names
        .iter()
        .map(|name| (name, existed.contains(name)))
        .collect();
    if args.json {
        let each = destroyed.iter();
        let each = each.map(|(name, existed)| json!({ "name": name, "existed": existed }));
        let each: Vec<_> = each.collect();
        return match (args.count, each.as_slice()) {
            (None, [one]) => print_json(one),
            _ => print_json(&each),
        };
    }
    let lines = destroyed.iter().map(|(name, existed)| {
        let what = if *existed {
            "destroyed"
        } else {
            "was not there"
        };
        format!("{name}: {what}\n")
    });
    print(&lines.collect::<String>())
}
