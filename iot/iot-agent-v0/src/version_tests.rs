//! Which value a report speaks of.

use iot_contracts::{DesiredVersion, Phase, Refusal, RefusedEntry};

use super::{Bench, score};
use crate::desired::Wanted;

#[tokio::test(start_paused = true)]
async fn a_report_says_of_which_value_it_speaks_and_which_one_ran() {
    let bench = Bench::new();
    let put = |revision, tag: &str, refused: Option<Refusal>| {
        let wanted = Wanted {
            good: Some(
                crate::value::read(score(tag).as_bytes())
                    .unwrap()
                    .services(),
            ),
            error: None,
            version: Some(DesiredVersion {
                revision,
                digest: format!("sha256:{tag}"),
                counter: None,
            }),
            refused: refused.map(|why| RefusedEntry { revision: 9, why }),
        };
        let web = "web".parse().unwrap();
        bench
            .desired
            .send_modify(|desired| desired.set(web, wanted));
    };
    let told = || {
        let statuses = bench.statuses.borrow();
        let web = &statuses[&"web".parse().unwrap()];
        let revision = |version: &Option<DesiredVersion>| version.as_ref().map(|v| v.revision);
        let refused = web.refused.as_ref().map(|refused| refused.revision);
        (
            web.phase,
            revision(&web.desired),
            revision(&web.ran),
            refused,
        )
    };
    put(1, "1", None);
    bench.podman.hang("image host/x:1");
    bench.pass().await;
    assert_eq!(told(), (Phase::Pending, Some(1), None, None));
    bench.podman.heal();
    bench.pass().await;
    assert_eq!(told(), (Phase::Running, Some(1), Some(1), None));
    // The same value again is another revision, and restarts nothing.
    bench.podman.take_log();
    put(2, "1", None);
    bench.pass().await;
    assert_eq!(told(), (Phase::Running, Some(2), Some(2), None));
    assert!(bench.podman.take_log().is_empty());
    bench.podman.fail("image host/x:2");
    put(3, "2", Some(Refusal::Unsigned));
    bench.pass().await;
    assert_eq!(told(), (Phase::Failed, Some(3), Some(2), Some(9)));
    // Also where nothing is known of its containers.
    bench.podman.set_absent(true);
    bench.pass().await;
    assert_eq!(told(), (Phase::Failed, Some(3), Some(2), Some(9)));
    // What is refused harms nothing of what is obeyed.
    bench.podman.set_absent(false);
    put(4, "1", Some(Refusal::Unsigned));
    bench.pass().await;
    assert_eq!(told(), (Phase::Running, Some(4), Some(4), Some(9)));
}
