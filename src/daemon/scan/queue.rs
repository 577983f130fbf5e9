//! Who is looked at next in a scan: the fleet in its order, in chunks, except customers of a host that is paused.
//!
//! Invariant: at most `PARKED` customers of paused hosts wait in memory with their states; then the rest waits too.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::Context;
use super::shares::{NextPart, Shares};
use super::turns::Turns;
use crate::connector::breaker::{Admission, Sign};
use crate::daemon::circuit::Circuit;
use crate::domain::observation::Failure;
use crate::domain::site::CustomerId;
use crate::store::CustomerState;

/// Customers whose states are loaded at once.
const CHUNK: usize = 128;

/// Customers of paused hosts that wait in memory.
const PARKED: usize = 8 * CHUNK;

/// How long until it is asked again whether another node's part is free.
const OTHERS_WAIT: Duration = Duration::from_millis(500);

/// A customer in the row.
pub struct Waiting {
    /// Its number in the fleet.
    pub number: usize,
    /// What is known of it.
    pub state: CustomerState,
    /// Whom its look asks; `None`: nobody over a network.
    pub host: Option<String>,
    /// The look decides whether its host is asked for others.
    pub probe: bool,
}

/// What comes next.
pub enum Next {
    /// Look at this customer.
    Look(Waiting),
    /// Its host is given up: this is its look's failure.
    GivenUp(Waiting, Failure),
    /// All that are left wait: for a look under way, or until that instant.
    Wait(Option<Instant>),
    /// Nobody is left.
    End,
}

/// The row, and the hosts' breakers.
pub struct Queue {
    turns: Turns,
    waiting: VecDeque<Waiting>,
    parked: BTreeMap<String, VecDeque<Waiting>>,
    parked_count: usize,
    circuit: Circuit,
    no_save: bool,
}

impl Queue {
    /// In that order. `no_save`: the store need not know everybody.
    #[must_use]
    pub fn new(turns: Turns, no_save: bool) -> Self {
        Self {
            turns,
            waiting: VecDeque::new(),
            parked: BTreeMap::new(),
            parked_count: 0,
            circuit: Circuit::default(),
            no_save,
        }
    }

    /// The next customer: of the order, or of this node's shares.
    ///
    /// # Errors
    /// When the states cannot be read.
    pub async fn next(&mut self, ctx: &Context, mut shares: Option<&mut Shares>) -> anyhow::Result<Next> {
        let mut others = false;
        if let Some(shares) = shares.as_deref() {
            self.circuit.exchange(ctx, &format!("run {}", shares.run.0), shares.since).await;
        }
        loop {
            let now = Instant::now();
            if let Some(next) = self.unpark(ctx, now) {
                return Ok(next);
            }
            let Some(waiting) = self.waiting.pop_front() else {
                if self.parked_count < PARKED && self.turns.len() > 0 {
                    let numbers = self.turns.take(CHUNK)?;
                    self.load(ctx, numbers).await?;
                    continue;
                }
                if self.parked_count < PARKED
                    && let Some(shares) = shares.as_deref_mut()
                {
                    match shares.next(ctx).await? {
                        NextPart::Look(numbers) => {
                            self.load(ctx, numbers).await?;
                            continue;
                        }
                        NextPart::Others => others = true,
                        NextPart::End => {}
                    }
                }
                let reopens_at = self.reopens_at();
                return Ok(match (self.parked_count, others) {
                    (0, false) => Next::End,
                    (_, false) => Next::Wait(reopens_at),
                    (_, true) => Next::Wait(Some(reopens_at.unwrap_or(now + OTHERS_WAIT).min(now + OTHERS_WAIT))),
                });
            };
            match self.circuit.admit(ctx, waiting.host.as_deref(), now) {
                Admission::Go => return Ok(Next::Look(waiting)),
                Admission::Probe => return Ok(Next::Look(Waiting { probe: true, ..waiting })),
                Admission::GivenUp(failure) => return Ok(Next::GivenUp(waiting, failure)),
                Admission::Later(_) => {
                    self.parked_count += 1;
                    self.parked.entry(waiting.host.clone().unwrap_or_default()).or_default().push_back(waiting);
                }
            }
        }
    }

    /// What a look says of its host. Returns what is new for the log.
    pub fn note(&self, host: Option<&str>, sign: &Sign, probe: bool) -> Option<String> {
        self.circuit.note(host, sign, probe)
    }

    /// The first of a paused host that may go now.
    fn unpark(&mut self, ctx: &Context, now: Instant) -> Option<Next> {
        for (host, parked) in &mut self.parked {
            if parked.is_empty() {
                continue;
            }
            let admission = self.circuit.admit(ctx, Some(host), now);
            if matches!(admission, Admission::Later(_)) {
                continue;
            }
            let Some(waiting) = parked.pop_front() else { continue };
            self.parked_count -= 1;
            return Some(match admission {
                Admission::GivenUp(failure) => Next::GivenUp(waiting, failure),
                admission => Next::Look(Waiting { probe: admission == Admission::Probe, ..waiting }),
            });
        }
        None
    }

    fn reopens_at(&self) -> Option<Instant> {
        let paused = self.parked.iter().filter(|(_, parked)| !parked.is_empty());
        paused.filter_map(|(host, _)| self.circuit.reopens_at(host)).min()
    }

    /// These customers with their states; one that is unknown to the store (`--no-save` before the first
    /// scan) has a blank state.
    async fn load(&mut self, ctx: &Context, numbers: Vec<usize>) -> anyhow::Result<()> {
        let snapshot = &ctx.snapshot;
        let ids: Vec<CustomerId> = numbers.iter().map(|number| snapshot.fleet.members.id_at(*number)).collect();
        let mut known: HashMap<CustomerId, CustomerState> =
            ctx.store.customer_states(&ids).await?.into_iter().map(|s| (s.id.clone(), s)).collect();
        for (number, id) in numbers.into_iter().zip(&ids) {
            let state = known.remove(id);
            if state.is_none() && !self.no_save {
                tracing::error!(customer = %id, "the store does not know this customer");
            }
            let member = snapshot.fleet.members.at(number);
            self.waiting.push_back(Waiting {
                number,
                state: state.unwrap_or_else(|| unknown(id)),
                host: snapshot.config.connector.host(member.logon.url.as_ref()),
                probe: false,
            });
        }
        Ok(())
    }
}

/// A customer of which nothing is known.
#[must_use]
pub fn unknown(id: &CustomerId) -> CustomerState {
    CustomerState { id: id.clone(), version: 0, refused: None, cases: Vec::new(), sites: Vec::new() }
}
