//! What an entry of the desired state orders, and whether the device obeys it. Pure.
//!
//! Where the configuration names no operator, whatever is in the bucket is obeyed, and a signature is not looked at.

use iot_contracts::{AgentConfig, DesiredVersion, DeviceId, OperatorConfig, Refusal, SignedOrder};

use crate::digest::sha256;
use crate::followed::Entry;
use crate::service::Score;
use crate::value::{self, Kind};

/// Whose orders a device obeys.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rules(Option<(DeviceId, OperatorConfig)>);

/// An order that is obeyed.
#[derive(Debug)]
pub struct Obeyed {
    /// What is ordered.
    pub order: Order,
    /// The value that orders it, where it is one.
    pub version: Option<DesiredVersion>,
}

/// What is ordered of a deployment.
#[derive(Debug)]
pub enum Order {
    /// That this runs; or why that cannot be read.
    Run(Result<Score, String>),
    /// That nothing of it is there.
    Remove,
}

impl Rules {
    /// As the agent's configuration has them.
    pub fn of(config: &AgentConfig) -> Self {
        let operator = config.operator.clone();
        Self(operator.map(|operator| (config.device_id.clone(), operator)))
    }

    /// How many keys are obeyed; 0 where no signature is needed.
    pub fn keys(&self) -> usize {
        let keys = self.0.as_ref().map(|(_, operator)| operator.obeyed());
        keys.map_or(0, Iterator::count)
    }

    /// Whether an order has to be signed.
    pub fn are_signed(&self) -> bool {
        self.0.is_some()
    }

    /// What `entry` orders; `before` is the version of its deployment that was obeyed last, and below `floor` lie the
    /// counters of those that are forgotten.
    ///
    /// # Errors
    ///
    /// [`Refusal`]: it is not to be obeyed.
    pub fn judge(
        &self,
        entry: &Entry,
        before: Option<&DesiredVersion>,
        floor: u64,
    ) -> Result<Obeyed, Refusal> {
        let Some(value) = &entry.value else {
            return match self.are_signed() {
                true => Err(Refusal::UnsignedRemoval),
                false => Ok(Obeyed {
                    order: Order::Remove,
                    version: None,
                }),
            };
        };
        let version = |counter| DesiredVersion {
            revision: entry.revision,
            digest: format!("sha256:{}", sha256(value)),
            counter,
        };
        let (order, counter) = match (&self.0, value::kind(value)) {
            (None, Kind::Signed(signed)) => (read(&signed), None),
            (None, Kind::Broken) => (Order::Run(Err(Refusal::Malformed.to_string())), None),
            (None, Kind::Plain | Kind::NoJson) => (Order::Run(value::read(value)), None),
            (Some(_), Kind::Plain) => return Err(Refusal::Unsigned),
            (Some(_), Kind::NoJson | Kind::Broken) => return Err(Refusal::Malformed),
            (Some((device_id, operator)), Kind::Signed(signed)) => {
                signed.check(operator, device_id, &entry.name)?;
                let now = version(Some(signed.counter));
                check_counter(&signed, &now, before, floor)?;
                (read(&signed), now.counter)
            }
        };
        Ok(Obeyed {
            order,
            version: Some(version(counter)),
        })
    }
}

/// The same value may come again and again, any other one only with a higher counter.
fn check_counter(
    signed: &SignedOrder,
    now: &DesiredVersion,
    before: Option<&DesiredVersion>,
    floor: u64,
) -> Result<(), Refusal> {
    let is_again = before.is_some_and(|b| b.digest == now.digest && b.counter == now.counter);
    // The removal of what was removed and forgotten long ago changes nothing.
    let is_idle = before.is_none() && signed.score.is_none();
    let highest = before.and_then(|before| before.counter);
    let highest = highest.unwrap_or_default().max(floor);
    if is_again || is_idle || signed.counter > highest {
        return Ok(());
    }
    Err(Refusal::CounterNotAbove {
        counter: signed.counter,
        highest,
    })
}

fn read(signed: &SignedOrder) -> Order {
    match &signed.score {
        Some(score) => Order::Run(value::read(score.as_bytes())),
        None => Order::Remove,
    }
}
