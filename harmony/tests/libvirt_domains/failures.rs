//! What is refused, foreign, broken or cannot be made, and what becomes of it.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use harmony::domain::error::ErrorKind;
use harmony::domain::topology::virtualization::{
    AcceleratorChoice, DataDisk, DiskSource, Ensured, OnChange, ShareDriver, SharedDirectory,
    VirtualMachineHost, VirtualMachineSpec, VmNetwork, VmStatus,
};
use harmony::modules::kvm::KvmError;
use harmony::modules::kvm::firmware::CandidateContent;
use harmony::modules::kvm::topology::KvmVirtualMachineHost;

use super::{Bench, open_for_all, qemu_img, virsh};

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
