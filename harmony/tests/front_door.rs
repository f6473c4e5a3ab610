//! What a program at the front door can rely on without any host.

use harmony::modules::kvm::connection::ConnectionUri;
use harmony::modules::kvm::preview::Preview;
use harmony::modules::kvm::topology::KvmVirtualMachineHost;
use harmony::modules::kvm::{KvmError, VmConfig};
use harmony::modules::ssh::SshLinuxHost;
use harmony::prelude::{
    Aarch64, ErrorKind, Host, ImageSource, Login, Output, VirtualMachineSpec, Vm, VmBuilder, X86_64,
};

fn is_shared<T: Send + Sync>() {}

fn is_sent<T: Send>(_: &T) {}

/// Never called: what it compiles is the test.
fn futures(vm: &Vm, login: &Login) {
    is_sent(&vm.login());
    is_sent(&vm.address());
    is_sent(&vm.power_cycle());
    is_sent(&login.run("uname", ["-m"]));
    is_sent(&login.copy("/from", "/to"));
}

#[test]
fn what_the_front_door_hands_out_goes_to_any_thread() {
    is_shared::<Host>();
    is_shared::<VmBuilder>();
    is_shared::<Vm>();
    is_shared::<Login>();
    is_shared::<Output>();
    is_shared::<harmony::Error>();
    is_shared::<KvmVirtualMachineHost>();
    is_shared::<KvmError>();
    is_shared::<SshLinuxHost>();
    is_shared::<VirtualMachineSpec>();
    is_shared::<VmConfig>();
    is_shared::<ImageSource>();
    is_shared::<Preview>();
    let host = Host::new(ConnectionUri::Session, "/nowhere");
    is_sent(&host.vm("edge-01").start());
    is_sent(&host.sweep());
    let _: fn(&Vm, &Login) = futures;
}

#[tokio::test]
async fn a_wrong_request_is_refused_before_anything_is_made() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let data_dir = dir.path().join("iot");
    // Neither a connection nor an image is there.
    let host = Host::new(ConnectionUri::Session, &data_dir);
    let image = dir.path().join("disk.qcow2");
    let vm = |name: &str| host.vm(name).image(&image);
    let table = [
        ("no name", vm("edge/01")),
        ("no image's name", vm("edge-01").image("")),
        ("no memory", vm("edge-01").arch(Aarch64).memory_mib(1)),
        ("no CPU", vm("edge-01").arch(X86_64).vcpus(0)),
        ("a digest that is none", vm("edge-01").image("/x#sha256=12")),
    ];
    for (what, vm) in table {
        let error = vm.ephemeral().start().await.expect_err(what);
        assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{what}: {error:?}");
        assert!(!data_dir.join("ephemeral").exists(), "{what}");
    }
}

#[test]
fn the_readmes_program_is_the_first_example() {
    let readme = include_str!("../../README.md");
    let example = include_str!("../examples/uname.rs");
    let (_, program) = readme.split_once("```rust\n").expect("a program");
    let (program, _) = program.split_once("```").expect("its end");
    let (_, example) = example.split_once("\n\n").expect("its first lines");
    assert_eq!(program, example);
    let lines = program.lines().count();
    assert!(lines <= 12, "{lines} lines");
}
