//! An arm64 guest that says so. `cargo run -p harmony --features kvm --example uname`
#![expect(clippy::print_stdout, reason = "a program, and not the library")]

use harmony::prelude::*;

#[tokio::main]
async fn main() -> harmony::Result<()> {
    let host = Host::local().await?;
    let vm = host.vm("edge-01").arch(Aarch64).ephemeral().start().await?;
    println!("{}", vm.login().await?.run("uname", ["-m"]).await?.stdout());
    vm.close().await
}
