//! Copies a program into an arm64 guest and runs it there.
//! `cargo run -p harmony --features kvm --example run_an_agent -- PROGRAM [ARGUMENT]…`
#![expect(clippy::print_stdout, reason = "a program, and not the library")]

use harmony::prelude::*;

const IN_GUEST: &str = "/usr/local/bin/agent";

#[tokio::main]
async fn main() -> harmony::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let program = arguments.next().unwrap_or("agent".into());

    let host = Host::local().await?;
    let vm = host.vm("edge-03").arch(Aarch64).memory_mib(512);
    let vm = vm.ephemeral().start().await?;
    let guest = vm.login().await?;
    guest.copy(program, IN_GUEST).await?;
    let agent = guest.run(IN_GUEST, arguments).await?;
    println!("exit code {}\n{}", agent.exit_code(), agent.stdout());
    vm.close().await
}
