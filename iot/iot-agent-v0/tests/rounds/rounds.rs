//! A device through rounds of a fault: what it is asked for in each, what it must have done, and how soon.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use fastrand::Rng;
use iot_contracts::{AgentStatus, ServiceState};

use crate::device::{Access, Device};
use crate::platform::Platform;
use crate::podman::{Call, Did, Podman, State};
use crate::site::By;

/// The variable with the number of rounds of each kind.
const ROUNDS: &str = "HARMONY_ROUNDS";
/// The rounds without it: the share that CI runs.
const FEW: u32 = 1;
/// The variable that has times judged.
const JUDGE: &str = "HARMONY_JUDGE";
/// The variable with the seed that all chance of a run comes from.
const SEED: &str = "HARMONY_SEED";

/// How long any awaited event may take, however busy the machine is.
pub const LIMIT: Duration = Duration::from_secs(60);
/// How soon what was changed has to be there in 95 % of the rounds, on a machine with nothing else to do.
const WANTED: Duration = Duration::from_secs(5);

/// How many rounds there are. What is promised is promised of the default device; the other one has half of its rounds.
pub fn count(by: By) -> u32 {
    let rounds = number(ROUNDS).map_or(FEW, |rounds| rounds.try_into().unwrap());
    match by {
        By::Key => rounds,
        By::Password => rounds.div_ceil(2),
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{variable}={text:?} (expected a number)")))
}

/// What is told while the tests run, past what the harness keeps for itself.
pub fn tell(line: &str) {
    let told = writeln!(std::io::stderr(), "{line}");
    told.unwrap();
}

/// The times of a kind of rounds.
pub struct Figures {
    kind: String,
    wanted: Option<Duration>,
    times: Vec<Duration>,
}

impl Figures {
    /// Of rounds of which 95 % are wanted within `wanted`.
    pub fn of(kind: &str, wanted: Option<Duration>) -> Self {
        Self {
            kind: kind.to_owned(),
            wanted,
            times: Vec::new(),
        }
    }

    pub fn note(&mut self, time: Duration) {
        self.times.push(time);
    }

    /// One row: kind, rounds, those that were as soon as wanted, median, 95 %, longest.
    ///
    /// # Panics
    ///
    /// When times are judged, and 95 % of the rounds are not as soon as wanted.
    pub fn tell(&mut self) {
        self.times.sort();
        let rounds = self.times.len();
        let rank = |percent: usize| self.times[(rounds * percent).div_ceil(100).max(1) - 1];
        let limit = self.wanted.unwrap_or(WANTED);
        let soon = self.times.iter().filter(|time| **time <= limit).count();
        let seconds = |time: Duration| format!("{:.2}", time.as_secs_f64());
        let (median, most, longest) = (rank(50), rank(95), rank(100));
        let kind = &self.kind;
        tell(&format!(
            "| {kind} | {rounds} | {soon} | {} | {} | {} |",
            seconds(median),
            seconds(most),
            seconds(longest),
        ));
        if let (Some(wanted), Some(1)) = (self.wanted, number(JUDGE)) {
            assert!(
                most <= wanted,
                "LATE: {kind}: 95 % within {most:.2?} (wanted: {wanted:?}), all: {:.2?}",
                self.times
            );
        }
    }
}

/// Where all chance of a kind comes from. It says its seed, which gives the same numbers again.
pub fn chance(kind: &str, by: By) -> Rng {
    let seed = number(SEED).unwrap_or_else(|| fastrand::u64(..1_000_000));
    let server = crate::server::version();
    tell(&format!(
        "{kind}: {} rounds, {SEED}={seed}, nats-server {server}",
        count(by)
    ));
    // Each kind has numbers of its own.
    let own = kind.bytes().fold(seed, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(byte.into())
    });
    Rng::with_seed(own)
}

/// A random time.
pub fn between(chance: &mut Rng, seconds: std::ops::Range<f64>) -> Duration {
    let (from, to) = (seconds.start, seconds.end);
    Duration::from_secs_f64(from + (to - from) * chance.f64())
}

/// A device and what is asked of it: `keep` never changes, `web` is another image in each round, `job` comes and goes.
pub struct Bench {
    pub device: Device,
    pub podman: Podman,
    pub platform: Platform,
    pub chance: Rng,
    kind: String,
    round: u32,
    /// What it waited for in this round, one after the other: the fault lasted for the last ones.
    waits: Vec<Duration>,
    figures: Figures,
    webs: Vec<String>,
    jobs: Vec<String>,
    jobs_deleted: usize,
}

impl Bench {
    /// Has the agent run, and the first desired state with it.
    pub async fn start(
        (kind, by): (String, By),
        dir: &Path,
        access: &Access,
        namespace: Option<String>,
        platform: Platform,
    ) -> Self {
        let mut device = Device::new(dir, access, namespace);
        let podman = Podman::start(&device.socket(), false);
        platform.make_buckets("b0").await;
        platform.put("keep", "host/keep:1").await;
        device.start();
        let mut bench = Self {
            device,
            podman,
            platform,
            chance: chance(&kind, by),
            figures: Figures::of(&kind, Some(WANTED)),
            kind,
            round: 0,
            waits: Vec::new(),
            webs: Vec::new(),
            jobs: Vec::new(),
            jobs_deleted: 0,
        };
        bench.change().await;
        bench.is_applied_and_reported().await;
        bench
    }

    /// Lets a part of a round pass.
    pub async fn sleep(&mut self, seconds: std::ops::Range<f64>) {
        let time = between(&mut self.chance, seconds);
        self.waits.push(time);
        tokio::time::sleep(time).await;
    }

    /// The next round begins a random moment after the last one ended: an update may still have to prove itself.
    pub async fn begin(&mut self) {
        self.round += 1;
        self.waits.clear();
        self.sleep(0.0..4.0).await;
    }

    fn image(&self) -> String {
        format!("host/web:{}", self.webs.len())
    }

    /// Has `web` become another image, and `job` come or go. Gives when the server had confirmed the first of it.
    pub async fn change(&mut self) -> Instant {
        self.webs.push(String::new());
        let image = self.image();
        *self.webs.last_mut().unwrap() = image.clone();
        self.platform.put("web", &image).await;
        let confirmed = Instant::now();
        if self.jobs.len() == self.jobs_deleted {
            let image = format!("host/job:{}", self.jobs.len() + 1);
            self.platform.put("job", &image).await;
            self.jobs.push(image);
        } else {
            self.platform.delete("job").await;
            self.jobs_deleted += 1;
        }
        confirmed
    }

    /// All of it once more, as for a bucket that was made anew.
    pub async fn put_the_rest(&self) {
        self.platform.put("keep", "host/keep:1").await;
    }

    fn job(&self) -> Option<&String> {
        let is_there = self.jobs.len() > self.jobs_deleted;
        self.jobs.last().filter(|_| is_there)
    }

    /// Whether Podman has what was asked for last.
    pub fn has_applied(&self, state: &State) -> bool {
        let job = match self.job() {
            Some(image) => state.runs("job", image),
            None => state.named("harmony.job.a").is_none(),
        };
        job && state.runs("web", self.webs.last().unwrap())
    }

    /// Waits until it is there, and until the report says so; gives when it was there.
    async fn is_applied_and_reported(&mut self) -> Instant {
        let applied = self.podman.wait(LIMIT, |state| self.has_applied(state));
        let Some(at) = applied.await else {
            panic!("LOST: what was asked for is not there within {LIMIT:?}");
        };
        let image = self.webs.last().unwrap().clone();
        let has_job = self.job().is_some();
        let says_so = |report: &AgentStatus| {
            let service = |deployment: &str| {
                let status = report.deployments.get(&deployment.parse().unwrap())?;
                status.services.get(&"a".parse().unwrap())
            };
            let web = service("web");
            web.is_some_and(|web| web.image == image && web.state == ServiceState::Running)
                && service("keep").is_some_and(|keep| keep.state == ServiceState::Running)
                && service("job").is_some() == has_job
                && self.platform.is_well(report)
        };
        let reported = self.platform.reported(says_so).await;
        if let Err(last) = reported {
            panic!("UNTRUE: the report does not say what is, the last one: {last:?}");
        }
        at
    }

    /// Ends a round: what was asked for is there, once, and nothing else was touched.
    pub async fn end(&mut self, returned: Instant) {
        let at = self.is_applied_and_reported().await;
        if let Some(ended) = self.device.ended() {
            panic!("the agent ended: {ended}");
        }
        let time = at.saturating_duration_since(returned);
        if time > WANTED {
            let (kind, round, waits) = (&self.kind, self.round, &self.waits);
            tell(&format!(
                "{kind}: round {round} after waits of {waits:.1?}: applied after {time:.1?}"
            ));
        }
        self.figures.note(time);
        self.judge();
    }

    /// What was done in all rounds: each change exactly once and in its order, and nothing to what did not change.
    fn judge(&self) {
        let state = self.podman.state();
        let of = |name: &str, did: Did| -> Vec<String> {
            let is_it = |call: &&Call| call.name == name && call.did == did;
            let calls = state.calls.iter().filter(is_it);
            calls.map(|call| call.image.clone()).collect()
        };
        let keep: Vec<_> = state
            .calls
            .iter()
            .filter(|c| c.name.starts_with("harmony.keep."))
            .collect();
        assert_eq!(keep.len(), 2, "HARMED: {keep:?}");
        for (name, asked) in [("harmony.web.a", &self.webs), ("harmony.job.a", &self.jobs)] {
            assert_eq!(of(name, Did::Create), *asked, "TWICE or LOST: {name}");
            assert_eq!(of(name, Did::Start), *asked, "TWICE or LOST: {name}");
        }
        let removed = of("harmony.job.a", Did::Remove).len();
        assert_eq!(removed, self.jobs_deleted, "TWICE or LOST: the end of job");
        assert!(state.unknown.is_empty(), "{:?}", state.unknown);
    }

    /// Tells the figures of all rounds.
    pub fn tell(&mut self) {
        self.figures.tell();
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (kind, round) = (&self.kind, self.round);
            let words = self.device.last_words();
            let calls = self.podman.state().calls.clone();
            let calls = &calls[calls.len().saturating_sub(20)..];
            tell(&format!(
                "{kind}: round {round}; the agent's last words:\n{words}\nPodman's last calls: {calls:#?}"
            ));
        }
    }
}
