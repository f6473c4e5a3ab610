//! A test of a device, as it stands in `tests/` of a crate that makes what runs there.
//! `cargo test -p harmony --features kvm --example device_test -- --ignored`

fn main() {}

#[cfg(test)]
mod tests {
    use harmony::prelude::*;

    #[tokio::test]
    #[ignore = "needs libvirt, and builds the default image when it is not there: boots edge-04 twice"]
    async fn a_device_of_the_built_image_is_the_same_one_after_a_power_cut() -> harmony::Result<()>
    {
        let host = Host::local().await?;
        let vm = host.vm("edge-04").arch(Aarch64).ephemeral().start().await?;
        let id = ["/etc/machine-id"];
        let before = vm.login().await?.run("cat", id).await?.expect_success()?;

        vm.power_cycle().await?;

        let after = vm.login().await?.run("cat", id).await?.expect_success()?;
        assert_eq!(before, after);
        vm.close().await
    }
}
