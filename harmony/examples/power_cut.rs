//! What a power cut takes away: a file that was not written through, and what it leaves.
//! `cargo run -p harmony --features kvm --example power_cut`
#![expect(clippy::print_stdout, reason = "a program, and not the library")]

use harmony::prelude::*;

const WRITE: &str = "echo kept > /var/tmp/kept && sync /var/tmp/kept && echo lost > /var/tmp/lost";

#[tokio::main]
async fn main() -> harmony::Result<()> {
    let host = Host::local().await?;
    let vm = host.vm("edge-02").arch(Aarch64).ephemeral().start().await?;
    let guest = vm.login().await?;
    guest.run("sh", ["-c", WRITE]).await?.expect_success()?;

    vm.power_cycle().await?;

    // The session of before is gone with the power.
    let guest = vm.login().await?;
    for file in ["/var/tmp/kept", "/var/tmp/lost"] {
        let there = guest.run("test", ["-s", file]).await?.success();
        println!("{file}: {}", if there { "is there" } else { "is gone" });
    }
    vm.close().await
}
