//! The host tier: real domains on a real libvirt, never booted to an operating system. Everything is
//! called `harmony-test-*` and destroyed by the test that made it.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use harmony::domain::error::{ErrorKind, ExecutorError};
use harmony::domain::topology::virtualization::{
    AcceleratorChoice, DataDisk, DiskSource, Ensured, FirstBoot, OnChange, ShareDriver,
    SharedDirectory, StoppedWhileWaiting, VirtualMachineHost, VirtualMachineSpec, VmNetwork,
    VmStatus, while_running,
};
use harmony::modules::kvm::KvmError;
use harmony::modules::kvm::connection::ConnectionUri;
use harmony::modules::kvm::firmware::CandidateContent;
use harmony::modules::kvm::topology::KvmVirtualMachineHost;

use crate::bootable::write_arm64_disk;

struct Bench {
    dir: tempfile::TempDir,
    host: KvmVirtualMachineHost,
    /// What was in the pool before.
    pool: Vec<PathBuf>,
}

impl Drop for Bench {
    /// The pool keeps copies of images for later VMs; those of a test's image are of no use to anybody.
    fn drop(&mut self) {
        for path in pool_listing(&self.host) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("harmony-base-") && !self.pool.contains(&path) {
                std::fs::remove_file(&path).expect("removed");
            }
        }
    }
}

fn pool_listing(host: &KvmVirtualMachineHost) -> Vec<PathBuf> {
    // The session's pool is made with its first VM.
    let Ok(entries) = std::fs::read_dir(host.pool()) else {
        return Vec::new();
    };
    entries
        .map(|entry| entry.expect("readable").path())
        .collect()
}

impl Bench {
    async fn new() -> Self {
        let uri = ConnectionUri::choose(None).await.expect("a connection");
        let dir = tempfile::tempdir().expect("temporary directory");
        let host = KvmVirtualMachineHost::new(uri, dir.path().join("iot"));
        let pool = pool_listing(&host);
        Self { dir, host, pool }
    }

    /// A VM whose disk has nothing that runs, so that only the firmware does.
    fn spec(&self, name: &str) -> VirtualMachineSpec {
        let image = self.dir.path().join("disk.raw");
        write_arm64_disk(&image);
        VirtualMachineSpec {
            image: Some(image),
            memory_mib: 256,
            accelerator: AcceleratorChoice::Tcg,
            first_boot: Some(FirstBoot {
                user: "harmony".to_owned(),
                authorized_keys: vec!["ssh-ed25519 AAAA test".to_owned()],
                ..FirstBoot::default()
            }),
            ..VirtualMachineSpec::new_aarch64(name)
        }
    }

    fn pool_files(&self, name: &str) -> Vec<PathBuf> {
        pool_listing(&self.host)
            .into_iter()
            .filter(|path| path.to_string_lossy().contains(name))
            .collect()
    }
}

#[tokio::test]
#[ignore = "needs libvirt, QEMU and firmware: defines, runs and destroys harmony-test-life"]
async fn a_vm_lives_and_leaves_nothing_behind() {
    let bench = Bench::new().await;
    let (host, name) = (&bench.host, "harmony-test-life");
    host.destroy_vm(name).await.expect("swept");
    let spec = bench.spec(name);

    let ensure =
        |spec: VirtualMachineSpec| async move { host.ensure_vm(&spec, OnChange::Refuse).await };
    assert_eq!(ensure(spec.clone()).await.expect("made"), Ensured::Created);
    assert_eq!(
        host.vm_status(name).await.expect("known"),
        VmStatus::Running
    );
    assert_eq!(
        ensure(spec.clone()).await.expect("kept"),
        Ensured::Unchanged
    );

    let nvram = host.nvram(name).expect("a valid name");
    let metadata = std::fs::metadata(&nvram).expect("the variable store");
    assert_eq!(metadata.len(), 64 << 20);
    assert!(
        metadata.blocks() * 512 <= 1 << 20,
        "{} blocks",
        metadata.blocks()
    );

    let bigger = VirtualMachineSpec {
        vcpus: 1,
        ..spec.clone()
    };
    let refused = ensure(bigger).await.expect_err("differs");
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert_eq!(
        refused.to_string(),
        format!("the virtual machine '{name}' exists and differs: vcpus is 2, asked for 1")
    );

    host.power_cycle_vm(name).await.expect("power-cycled");
    assert_eq!(
        host.vm_status(name).await.expect("known"),
        VmStatus::Running
    );

    assert!(host.destroy_vm(name).await.expect("destroyed"));
    assert!(!host.destroy_vm(name).await.expect("nothing left"));
    assert_eq!(host.vm_status(name).await.expect("known"), VmStatus::Absent);
    assert_eq!(bench.pool_files(name), Vec::<PathBuf>::new());
    let scope = if host.uri() == ConnectionUri::System {
        "system"
    } else {
        "session"
    };
    let states = bench.dir.path().join("iot/vms").join(scope);
    let states = std::fs::read_dir(states).expect("the state directories");
    assert_eq!(states.count(), 0, "no state is left");
}

#[tokio::test]
#[ignore = "needs libvirt, QEMU and firmware: runs harmony-test-wait and destroys it"]
async fn waiting_for_a_guest_that_is_off_fails_at_once() {
    let bench = Bench::new().await;
    let (host, name) = (&bench.host, "harmony-test-wait");
    host.destroy_vm(name).await.expect("swept");
    let spec = bench.spec(name);
    host.ensure_vm(&spec, OnChange::Refuse).await.expect("made");

    let error = host.wait_for_address(name, Duration::from_secs(1)).await;
    let error = error.expect_err("the firmware has no SSH");
    assert_eq!(error.kind(), ErrorKind::TimedOut);

    // An empty disk has no guest that could answer the power button, so the wait runs into its bound.
    let error = host.stop_vm(name, Duration::from_secs(1)).await;
    assert_eq!(error.expect_err("still on").kind(), ErrorKind::TimedOut);

    host.destroy_vm(name).await.expect("destroyed");
    let error = host.wait_for_address(name, Duration::from_secs(60)).await;
    let error = error.expect_err("there is no such VM");
    assert!(
        matches!(error.downcast_ref(), Some(KvmError::NotFound { .. })),
        "{error:?}"
    );
}

#[tokio::test]
#[ignore = "needs libvirt, QEMU and firmware: tries to make harmony-test-bad"]
async fn what_is_refused_leaves_nothing_behind() {
    let bench = Bench::new().await;
    let (host, name) = (&bench.host, "harmony-test-bad");
    host.destroy_vm(name).await.expect("swept");
    let good = bench.spec(name);
    let dir = bench.dir.path();
    std::fs::write(dir.join("page.qcow2"), "<html>not found</html>").expect("written");
    std::fs::write(dir.join("cut.qcow2"), b"QFI\xfb\0\0\0\x09").expect("written");
    qemu_img(dir, "create -q -f qcow2 -F raw -b disk.raw backed.qcow2");
    qemu_img(
        dir,
        "create -q -f qcow2 -o data_file=elsewhere.raw,data_file_raw=on split.qcow2 1M",
    );
    qemu_img(dir, "create -q -f qcow2 empty.qcow2 16M");
    let images = [
        "absent.qcow2",
        "empty.qcow2",
        "page.qcow2",
        "cut.qcow2",
        "backed.qcow2",
        "split.qcow2",
    ];
    let with_image = |name: &str| VirtualMachineSpec {
        image: Some(dir.join(name)),
        ..good.clone()
    };
    let mut cases: Vec<VirtualMachineSpec> = images.into_iter().map(&with_image).collect();
    cases.push(VirtualMachineSpec {
        vcpus: 0,
        ..good.clone()
    });
    cases.push(VirtualMachineSpec {
        accelerator: AcceleratorChoice::Kvm,
        ..good.clone()
    });
    for network in ["nat:harmony-test-absent", "bridge:htestabsent0"] {
        cases.push(VirtualMachineSpec {
            networks: vec![network.parse::<VmNetwork>().expect("valid").into()],
            ..good.clone()
        });
    }
    for spec in cases {
        let error = host
            .ensure_vm(&spec, OnChange::Refuse)
            .await
            .expect_err("refused");
        assert!(error.downcast_ref::<KvmError>().is_some(), "{error:?}");
        assert_eq!(bench.pool_files(name), Vec::<PathBuf>::new(), "{error}");
        assert_eq!(host.vm_status(name).await.expect("known"), VmStatus::Absent);
    }
    let empty = with_image("empty.qcow2");
    let error = host.ensure_vm(&empty, OnChange::Refuse).await;
    let error = error.expect_err("refused");
    let Some(KvmError::NonConformingImage { clauses, .. }) = error.downcast_ref() else {
        panic!("{error:?}");
    };
    let ids: Vec<&str> = clauses.iter().map(|clause| clause.id.as_str()).collect();
    assert_eq!(ids, ["protective-mbr", "primary-gpt", "backup-gpt"]);
}

fn qemu_img(dir: &std::path::Path, arguments: &str) {
    let mut command = std::process::Command::new("qemu-img");
    let status = command.args(arguments.split(' ')).current_dir(dir).status();
    assert!(
        status.expect("qemu-img on PATH").success(),
        "qemu-img {arguments}"
    );
}

fn virsh(arguments: &[&str]) {
    let mut command = std::process::Command::new("virsh");
    let output = command.args(arguments).output().expect("virsh on PATH");
    assert!(
        output.status.success(),
        "virsh {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
#[ignore = "needs libvirt and virsh: defines and undefines harmony-test-foreign"]
async fn what_harmony_did_not_make_is_never_touched() {
    let bench = Bench::new().await;
    let (host, name) = (&bench.host, "harmony-test-foreign");
    let uri = host.uri().as_str();
    let xml = bench.dir.path().join("foreign.xml");
    let text = "<domain type='qemu'><name>harmony-test-foreign</name><memory unit='MiB'>64</memory>\
                <os><type arch='x86_64'>hvm</type></os></domain>";
    std::fs::write(&xml, text).expect("written");
    virsh(&["-c", uri, "define", xml.to_str().expect("UTF-8")]);
    let made = host.ensure_vm(&bench.spec(name), OnChange::Replace).await;
    let destroyed = host.destroy_vm(name).await;
    let status = host.vm_status(name).await;
    virsh(&["-c", uri, "undefine", name]);
    for refused in [made.map(|_| ()), destroyed.map(|_| ())] {
        let error = refused.expect_err("it is somebody else's");
        assert!(
            matches!(error.downcast_ref(), Some(KvmError::NameTaken { .. })),
            "{error:?}"
        );
        assert_eq!(error.kind(), ErrorKind::Conflict);
    }
    assert_eq!(status.expect("known"), VmStatus::Off);

    // A disk of that name that somebody else has put there is not overwritten either.
    let disk = host.pool().join(format!("{name}.qcow2"));
    std::fs::create_dir_all(host.pool()).expect("the pool");
    std::fs::write(&disk, "precious").expect("written");
    let made = host.ensure_vm(&bench.spec(name), OnChange::Replace).await;
    let destroyed = host.destroy_vm(name).await;
    let content = std::fs::read_to_string(&disk);
    std::fs::remove_file(&disk).expect("removed");
    let error = made.expect_err("refused");
    assert!(
        matches!(error.downcast_ref(), Some(KvmError::FileTaken { .. })),
        "{error:?}"
    );
    assert!(!destroyed.expect("nothing of ours is there"));
    assert_eq!(content.expect("still there"), "precious");
}

#[tokio::test]
#[ignore = "needs libvirt, virsh, QEMU and firmware: runs harmony-test-stops, suspends and destroys it"]
async fn a_guest_that_stops_ends_every_wait_at_once() {
    let bench = Bench::new().await;
    let (host, name) = (&bench.host, "harmony-test-stops");
    host.destroy_vm(name).await.expect("swept");
    let spec = bench.spec(name);
    host.ensure_vm(&spec, OnChange::Refuse).await.expect("made");
    let uri = host.uri().as_str();

    // Nothing ends these waits but the change of the guest's state.
    for (action, expected) in [
        ("suspend", VmStatus::Paused("User".to_owned())),
        ("destroy", VmStatus::Off),
    ] {
        host.start_vm(name).await.expect("runs");
        let never = std::future::pending::<Result<(), ExecutorError>>();
        let waited = while_running(host, name, "what never comes", never);
        let (outcome, ()) = tokio::join!(waited, async {
            virsh(&["-c", uri, action, name]);
        });
        let error = outcome.expect_err("it stopped");
        let stopped = error.downcast_ref::<StoppedWhileWaiting>().expect("typed");
        assert_eq!(stopped.status, expected);
        assert_eq!(stopped.awaited, "what never comes");
        // The same in the wait for SSH.
        let error = host.wait_for_address(name, Duration::from_secs(600)).await;
        let error = error.expect_err("it does not run");
        assert!(
            matches!(error.downcast_ref(), Some(KvmError::NotRunning { status, .. }) if *status == expected),
            "{error:?}"
        );
    }
    host.destroy_vm(name).await.expect("destroyed");
}

#[tokio::test]
#[ignore = "needs libvirt, virsh, QEMU and firmware: runs harmony-test-firmware with firmware of its own"]
async fn a_vm_whose_firmware_has_gone_says_so_until_its_variable_store_is_reset() {
    let bench = Bench::new().await;
    let name = "harmony-test-firmware";
    bench.host.destroy_vm(name).await.expect("swept");
    // A copy of this host's firmware, which can go without harm.
    let facts = bench.host.facts().await.clone();
    let mine = bench.dir.path().join("code.fd");
    let usual = harmony::modules::kvm::discover_aarch64_firmware().expect("firmware");
    std::fs::copy(&usual.code, &mine).expect("copied");
    open_for_all(bench.dir.path());
    let mut changed = facts.clone();
    for candidate in &mut changed.firmware {
        if let CandidateContent::Described(described) = &mut candidate.content
            && let Some(code) = described.code.as_mut().filter(|c| c.path == usual.code)
        {
            code.path.clone_from(&mine);
        }
    }
    let data_dir = bench.dir.path().join("iot");
    let host = KvmVirtualMachineHost::new(bench.host.uri(), &data_dir).with_facts(changed);
    let spec = bench.spec(name);
    host.ensure_vm(&spec, OnChange::Refuse).await.expect("made");

    let error = host.reset_nvram(name).await.expect_err("it runs");
    assert!(
        matches!(
            error.downcast_ref(),
            Some(KvmError::NotOff {
                status: VmStatus::Running,
                ..
            })
        ),
        "{error:?}"
    );
    virsh(&["-c", host.uri().as_str(), "destroy", name]);

    // It changes its kind, then it goes.
    std::fs::File::options()
        .write(true)
        .open(&mine)
        .and_then(|file| file.set_len(1 << 20))
        .expect("cut");
    let refused = async || {
        let error = host.start_vm(name).await.expect_err("refused");
        assert!(error.hint().is_some_and(|h| h.contains("--reset-nvram")));
        match error.downcast_ref() {
            Some(KvmError::FirmwareChanged { path, problem, .. }) if *path == mine => {
                problem.clone()
            }
            _ => panic!("{error:?}"),
        }
    };
    assert_eq!(refused().await, "has 1048576 bytes (expected 67108864)");
    std::fs::remove_file(&mine).expect("removed");
    assert!(refused().await.starts_with("cannot be read: "));
    let error = host.power_cycle_vm(name).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Unavailable);

    // The host's own firmware takes its place; identity and disk stay.
    let before = host.identity(name).await.expect("known");
    let nvram = host.nvram(name).expect("a valid name");
    std::fs::write(&nvram, "the guest's variables").expect("written");
    let host = KvmVirtualMachineHost::new(bench.host.uri(), &data_dir).with_facts(facts);
    host.reset_nvram(name).await.expect("reset");
    assert_eq!(std::fs::metadata(&nvram).expect("there").len(), 64 << 20);
    assert_eq!(host.identity(name).await.expect("known"), before);
    host.start_vm(name).await.expect("starts again");
    assert_eq!(
        host.ensure_vm(&spec, OnChange::Refuse).await.expect("kept"),
        Ensured::Unchanged
    );
    host.destroy_vm(name).await.expect("destroyed");
}

/// libvirt's QEMU user is another one in the system lane.
fn open_for_all(dir: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).expect("opened");
}

#[tokio::test]
#[ignore = "needs libvirt, QEMU and firmware: makes harmony-test-identity twice"]
async fn a_rebuilt_vm_is_the_same_machine() {
    let bench = Bench::new().await;
    let (host, name) = (&bench.host, "harmony-test-identity");
    host.destroy_vm(name).await.expect("swept");
    let spec = VirtualMachineSpec {
        networks: vec![VmNetwork::USER.into(), VmNetwork::USER.into()],
        ..bench.spec(name)
    };
    host.ensure_vm(&spec, OnChange::Refuse).await.expect("made");
    let identity = host.identity(name).await.expect("known");
    host.destroy_vm(name).await.expect("destroyed");
    let stored = serde_json::to_string(&identity).expect("serialisable");

    let given_back = serde_json::from_str(&stored).expect("readable");
    let mut spec = spec.with_identity(&given_back).expect("as many cards");
    host.ensure_vm(&spec, OnChange::Refuse).await.expect("made");
    assert_eq!(host.identity(name).await.expect("known"), identity);
    // The same address in another spelling is no change.
    spec.networks[1].mac = identity.macs.get(1).map(|mac| mac.to_uppercase());
    let kept = host.ensure_vm(&spec, OnChange::Refuse).await;
    assert_eq!(kept.expect("the same"), Ensured::Unchanged);
    host.destroy_vm(name).await.expect("destroyed");
}

#[tokio::test]
#[ignore = "needs libvirt, virsh, QEMU and firmware: replaces harmony-test-replace, and fails to"]
async fn a_vm_is_not_given_up_for_one_that_cannot_be() {
    let bench = Bench::new().await;
    let (host, name) = (&bench.host, "harmony-test-replace");
    host.destroy_vm(name).await.expect("swept");
    let blank = DataDisk {
        tag: "data".to_owned(),
        source: DiskSource::Blank { size_gib: 1 },
        read_only: false,
    };
    let spec = VirtualMachineSpec {
        networks: vec!["user:28080:80".parse::<VmNetwork>().expect("valid").into()],
        disks: vec![blank.clone()],
        ..bench.spec(name)
    };
    host.ensure_vm(&spec, OnChange::Refuse).await.expect("made");
    let identity = host.identity(name).await.expect("known");
    let data = host.pool().join(format!("{name}@data.qcow2"));
    let inode = || std::fs::metadata(&data).expect("there").ino();
    let before = inode();
    // While it is open, no other file gets its number.
    let held = std::fs::File::open(&data).expect("readable");

    let own_file = DataDisk {
        source: DiskSource::File { path: data.clone() },
        ..blank
    };
    let share = SharedDirectory {
        tag: "src".to_owned(),
        path: "/nonexistent".into(),
        driver: ShareDriver::NineP,
        read_only: true,
    };
    let impossible = [
        // libvirt alone knows which machine types there are.
        VirtualMachineSpec {
            machine: Some("virt-99.0".to_owned()),
            ..spec.clone()
        },
        VirtualMachineSpec {
            shares: vec![share],
            ..spec.clone()
        },
        // It would be removed with the VM that it is to outlive.
        VirtualMachineSpec {
            disks: vec![own_file],
            ..spec.clone()
        },
    ];
    for wanted in impossible {
        let error = host.ensure_vm(&wanted, OnChange::Replace).await;
        let error = error.expect_err("refused");
        assert!(error.downcast_ref::<KvmError>().is_some(), "{error:?}");
        assert_eq!(inode(), before, "{error}");
        assert_eq!(
            host.vm_status(name).await.expect("known"),
            VmStatus::Running
        );
    }

    // Its own ports are no obstacle, and it stays the same machine.
    let bigger = VirtualMachineSpec { vcpus: 1, ..spec };
    let replaced = host.ensure_vm(&bigger, OnChange::Replace).await;
    assert_eq!(replaced.expect("possible"), Ensured::Replaced);
    assert_eq!(host.identity(name).await.expect("known"), identity);
    assert_ne!(inode(), before);
    drop(held);

    // Somebody's pause is no reason to cut the power.
    let uri = host.uri().as_str();
    virsh(&["-c", uri, "suspend", name]);
    let kept = host.ensure_vm(&bigger, OnChange::Refuse).await;
    assert_eq!(kept.expect("goes on"), Ensured::Started);
    assert_eq!(
        host.vm_status(name).await.expect("known"),
        VmStatus::Running
    );
    host.destroy_vm(name).await.expect("destroyed");
}
