//! What a new configuration takes away from a device.

use super::{Paper, execute, score};

#[tokio::test]
async fn keys_that_a_device_loses_are_told_of_once() {
    let host = Paper::new(std::env::consts::ARCH);
    let plain = score("tls://x");
    let mut guarded = plain.clone();
    let key = "ODVEU3DD4KOFECV66VIHWEZOYX4ZKR3WV27L464SIIPOU2IUI3JCZAW4";
    let keys = format!("keys = [\"{key}\"]");
    guarded.config.update = Some(toml::from_str(&keys).expect("valid"));
    guarded.config.operator = Some(toml::from_str(&keys).expect("valid"));
    let taken = ["[update] is taken away", "[operator] is taken away"];
    for (score, expected) in [
        (&plain, &[][..]),
        (&guarded, &[]),
        (&guarded, &[]),
        (&plain, &taken),
        (&plain, &[]),
    ] {
        let outcome = execute(score, &host).await.expect("provisioned");
        let told = outcome
            .details
            .iter()
            .filter(|told| told.ends_with("taken away"));
        assert_eq!(told.collect::<Vec<_>>(), expected);
    }
}
