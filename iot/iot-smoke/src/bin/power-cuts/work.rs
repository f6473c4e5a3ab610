//! What the device is doing while its power is cut.

use std::path::Path;
use std::time::Duration;

use harmony::domain::topology::virtualization::VmArchitecture;
use iot_contracts::{AgentStatus, DeploymentName};
use iot_smoke::Failure;
use tokio::time::Instant;

use crate::device::{BOUND, Bench};
use crate::images::{Images, Size, score};
use crate::moments::Kind;
use crate::releases::Releases;

/// How often the desired state changes while the agent writes it down.
const CHANGES: usize = 30;

/// What is needed to have the device do something.
pub(crate) struct Work<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) arch: VmArchitecture,
    pub(crate) images: Images,
    pub(crate) releases: Releases,
    /// The agent that was installed.
    pub(crate) agent: Vec<u8>,
    /// The image of what always runs.
    pub(crate) base: String,
    /// The two images that an update goes between; the first is that of the container that runs.
    pub(crate) pair: [String; 2],
    /// The image that is pulled next.
    pub(crate) next: String,
    /// Counts what is put, so that no two values are the same.
    pub(crate) change: usize,
}

/// The deployment of a kind; that which always runs is the last one's.
fn deployment(kind: Kind) -> Result<DeploymentName, Failure> {
    let name = match kind {
        Kind::Pull => "pulled",
        Kind::Create => "made",
        Kind::Update => "updated",
        Kind::Agent | Kind::State => "base",
    };
    Ok(name.parse()?)
}

impl Work<'_> {
    /// Has the device run what always runs.
    pub(crate) async fn start(&mut self, bench: &mut Bench<'_>) -> Result<(), Failure> {
        let (base, change) = (self.base.clone(), self.next_change());
        bench.put(&deployment(Kind::State)?, &base, change).await?;
        bench.converge(Instant::now()).await?;
        Ok(())
    }

    fn next_change(&mut self) -> usize {
        self.change += 1;
        self.change
    }

    /// Brings the device where what is to be done is not done yet.
    pub(crate) async fn prepare(
        &mut self,
        kind: Kind,
        bench: &mut Bench<'_>,
    ) -> Result<(), Failure> {
        let name = deployment(kind)?;
        match kind {
            Kind::Pull => {
                bench.remove(&name).await?;
                let image = format!("pulled-{}", self.next_change());
                self.next = self.images.push(self.dir, &image, Size::Large).await?;
            }
            Kind::Create => bench.remove(&name).await?,
            Kind::Update if !bench.wanted.deployments.contains_key(&name) => {
                // Both are on the device then.
                let [runs, other] = self.pair.clone();
                for image in [other, runs] {
                    let change = self.next_change();
                    bench.put(&name, &image, change).await?;
                    bench.converge(Instant::now()).await?;
                }
            }
            Kind::Update | Kind::Agent | Kind::State => {}
        }
        Ok(())
    }

    /// Asks for it.
    pub(crate) async fn begin(&mut self, kind: Kind, bench: &mut Bench<'_>) -> Result<(), Failure> {
        let (name, change) = (deployment(kind)?, self.next_change());
        match kind {
            Kind::Pull => bench.put(&name, &self.next, change).await,
            Kind::Create => bench.put(&name, &self.base, change).await,
            Kind::Update => {
                self.pair.rotate_left(1);
                bench.put(&name, &self.pair[0], change).await
            }
            Kind::Agent => {
                let release = self.releases.next(&self.agent, self.arch)?;
                bench.platform.put_release(&bench.id, &release).await?;
                bench.wanted.update_to(release.sha256());
                Ok(())
            }
            // What it does begins with the first change.
            Kind::State => Ok(()),
        }
    }

    /// Changes the desired state again and again, each time when the device has followed the last change. The values are the
    /// same, and their revisions are not: the agent writes each down, and has nothing else to do.
    async fn change_often(&self, bench: &Bench<'_>) -> Result<(), Failure> {
        let name = deployment(Kind::State)?;
        let desired = &bench.wanted.deployments[&name];
        let score = score(&desired.image, desired.change)?;
        let mut known = revision(bench, &name, 0).await?;
        for _ in 0..CHANGES {
            bench.platform.put_score(&bench.id, &name, &score).await?;
            known = revision(bench, &name, known).await?;
        }
        Ok(())
    }

    /// What it does goes on by itself, but for changes of the desired state. Returns when it has ended, or at `until`.
    pub(crate) async fn go_on_until(
        &mut self,
        kind: Kind,
        bench: &mut Bench<'_>,
        until: Instant,
    ) -> Result<(), Failure> {
        if kind == Kind::State {
            let changes = tokio::time::timeout_at(until, self.change_often(bench));
            if let Ok(ended) = changes.await {
                ended?;
            }
        }
        tokio::time::sleep_until(until).await;
        Ok(())
    }

    /// Asks for what has to be there in the end.
    pub(crate) async fn finish(
        &mut self,
        kind: Kind,
        bench: &mut Bench<'_>,
    ) -> Result<(), Failure> {
        if kind == Kind::State {
            let (base, change) = (self.base.clone(), self.next_change());
            bench.put(&deployment(kind)?, &base, change).await?;
        }
        Ok(())
    }

    /// How long it takes when nothing is cut: until the device says that it is done. What this program does to look after
    /// it is none of it, since a cut during that is one of a device at rest.
    pub(crate) async fn measure(
        &mut self,
        kind: Kind,
        bench: &mut Bench<'_>,
    ) -> Result<Duration, Failure> {
        self.prepare(kind, bench).await?;
        let since = Instant::now();
        self.begin(kind, bench).await?;
        if kind == Kind::State {
            self.change_often(bench).await?;
            return Ok(since.elapsed());
        }
        Ok(bench.converge(since).await?.to_report)
    }
}

/// The revision that the device follows of a deployment, when it is a higher one.
async fn revision(bench: &Bench<'_>, name: &DeploymentName, known: u64) -> Result<u64, Failure> {
    let of = |status: &AgentStatus| {
        let told = status.deployments.get(name)?;
        Some(told.desired.as_ref()?.revision)
    };
    let is_higher = |status: &AgentStatus| of(status).is_some_and(|now| now > known);
    let awaited = "a report of the changed desired state";
    let status = bench.status(awaited, BOUND, is_higher).await?;
    Ok(of(&status).unwrap_or(known))
}
