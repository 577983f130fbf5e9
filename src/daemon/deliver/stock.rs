//! Mails that are claimed ahead: one task, the clerk, has several claimed and looked at together, and meanwhile hands what
//! it has to the workers.
//!
//! A claim costs a transaction, and the question whether a notice is still true a picture of its customer: for one mail as
//! much as for twenty. So while mails are on the wire the next ones are made ready. Invariants: the stock is bounded, and
//! holds only mails whose turn by the rate comes soon; each has been handed to nobody else; what is left of it goes back to
//! the queue at a stop, and when nothing may leave. A hold is nothing to ask for here: the store asks for it when a mail
//! begins, and takes it back then.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use chrono::{NaiveDate, TimeDelta};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::chain::Step;
use super::line::{self, Place};
use super::ready::as_it_stands;
use super::{LEASE, MIN_WAIT, POLL, Shared, give_back, may_send};
use crate::daemon::{Context, Snapshot, alert, cluster};
use crate::domain::Timestamp;
use crate::domain::site::CustomerId;
use crate::store::{Claimed, CustomerState, StoreError};

/// Mails claimed ahead for each connection, and some more: one connection alone would claim too often.
const PER_CONNECTION: usize = 4;
const MORE: usize = 28;

/// A mail in somebody's hands, and when it may leave.
pub(super) struct InHand {
    pub(super) claimed: Claimed,
    pub(super) turn: Turn,
    checked: Option<Checked>,
}

/// A mail's turn by the rate.
pub(super) enum Turn {
    /// Not given yet.
    Place(Place),
    /// Then.
    At(Instant),
}

/// By what it was found to be still due and still true.
struct Checked {
    at: Timestamp,
    day: NaiveDate,
    snapshot: Arc<Snapshot>,
}

impl InHand {
    /// Whether it was found to be still due and still true just now, and by the files that count. (As long ago as a mail may
    /// wait for its turn.)
    pub(super) fn is_ready(&self, ctx: &Context) -> bool {
        let now = ctx.now();
        let patience = TimeDelta::from_std(line::PATIENCE).unwrap_or_default();
        self.checked.as_ref().is_some_and(|checked| {
            (now - checked.at).abs() <= patience
                && checked.day == ctx.snapshot.config.calendar.day(now)
                && Arc::ptr_eq(&checked.snapshot, &ctx.snapshot)
        })
    }

    /// With its turn, and when that is. (Where the turns are those of this process alone.)
    pub(super) fn with_turn(self) -> (Self, Instant) {
        let at = match self.turn {
            Turn::Place(place) => Instant::now() + place.turn_now(),
            Turn::At(at) => at,
        };
        (Self { turn: Turn::At(at), ..self }, at)
    }
}

/// What the clerk has for a worker.
pub(super) enum Supply {
    Mail(Box<InHand>),
    /// Nothing, and what to do instead.
    Nothing(Step),
}

type Answer = anyhow::Result<Supply>;

/// The way to the clerk. Never more orders than workers wait in it.
#[derive(Clone)]
pub(super) struct Orders(mpsc::UnboundedSender<oneshot::Sender<Answer>>);

impl Orders {
    /// Asks for a mail.
    pub(super) fn ask(&self) -> Order {
        let (reply, answer) = oneshot::channel();
        // Without a clerk the answer says so.
        let _ = self.0.send(reply);
        Order(answer)
    }
}

/// A mail is on its way. Not to be dropped: it would lie claimed until its lease ends.
pub(super) struct Order(oneshot::Receiver<Answer>);

impl Order {
    /// What came, if anything has.
    pub(super) fn now(&mut self) -> Option<Answer> {
        match self.0.try_recv() {
            Ok(answer) => Some(answer),
            Err(oneshot::error::TryRecvError::Empty) => None,
            Err(oneshot::error::TryRecvError::Closed) => Some(closed()),
        }
    }

    pub(super) async fn answer(self) -> Answer {
        self.0.await.unwrap_or_else(|_| closed())
    }
}

/// The clerk ends before the workers at a stop alone.
fn closed() -> Answer {
    Ok(Supply::Nothing(Step::NotYet(MIN_WAIT)))
}

/// A stock for so many connections, and the task that keeps it: it ends at a stop, or when nobody can order any more.
pub(super) fn open(shared: Arc<Shared>, connections: usize) -> (Orders, impl Future<Output = anyhow::Result<()>>) {
    let (orders, ordered) = mpsc::unbounded_channel();
    let most = PER_CONNECTION * connections + MORE;
    let clerk = Clerk { shared, most, stock: VecDeque::new(), dry: false, fetching: JoinSet::new() };
    (Orders(orders), clerk.run(ordered))
}

struct Clerk {
    shared: Arc<Shared>,
    most: usize,
    stock: VecDeque<InHand>,
    /// The queue gave less than was asked for.
    dry: bool,
    /// Mails are being claimed while those in stock are handed out: one task at most.
    fetching: JoinSet<anyhow::Result<Fetched>>,
}

/// What a look into the queue brought.
enum Fetched {
    Mails {
        mails: Vec<InHand>,
        dry: bool,
    },
    /// Nothing whose turn comes soon, and what to do instead.
    Nothing(Step),
}

impl Clerk {
    async fn run(mut self, mut ordered: mpsc::UnboundedReceiver<oneshot::Sender<Answer>>) -> anyhow::Result<()> {
        let stop = self.shared.stop.clone();
        loop {
            let reply = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                reply = ordered.recv() => reply,
            };
            let Some(reply) = reply else { break };
            let ctx = self.shared.live.context();
            let answer = self.serve(&ctx).await;
            if let Err(Ok(Supply::Mail(mail))) = reply.send(answer) {
                self.stock.push_front(*mail);
            }
            if self.stock.len() < self.most / 2 && !self.dry && self.fetching.is_empty() {
                self.fetch(&ctx);
            }
        }
        // Whoever found the stock empty would have met an error; nobody is left to.
        let _ = self.take_in().await;
        self.empty(&self.shared.live.context(), "the sender stopped before its turn").await;
        Ok(())
    }

    async fn serve(&mut self, ctx: &Context) -> Answer {
        if !may_send(&self.shared, ctx).await {
            let _ = self.take_in().await;
            self.empty(ctx, "nothing may leave just now").await;
            return Ok(Supply::Nothing(Step::Idle(POLL)));
        }
        if let Some(fetched) = self.fetching.try_join_next()
            && let Err(error) = self.put_in(fetched)
        {
            // Whoever finds the stock empty meets the error, and waits.
            tracing::debug!("no mail was claimed ahead: {error:#}");
        }
        if self.stock.is_empty() {
            if self.fetching.is_empty() {
                self.fetch(ctx);
            }
            if let Some(nothing) = self.take_in().await? {
                return Ok(Supply::Nothing(nothing));
            }
        }
        Ok(self.stock.pop_front().map_or(Supply::Nothing(Step::Again), |mail| Supply::Mail(Box::new(mail))))
    }

    /// Begins to claim what is missing.
    fn fetch(&mut self, ctx: &Context) {
        let (shared, ctx, missing) = (Arc::clone(&self.shared), ctx.clone(), self.most - self.stock.len());
        self.fetching.spawn(async move { fetch(&shared, &ctx, missing).await });
    }

    /// Waits for what is being claimed; what to do instead, if it is nothing.
    async fn take_in(&mut self) -> anyhow::Result<Option<Step>> {
        match self.fetching.join_next().await {
            Some(fetched) => self.put_in(fetched),
            None => Ok(None),
        }
    }

    fn put_in(&mut self, fetched: Result<anyhow::Result<Fetched>, JoinError>) -> anyhow::Result<Option<Step>> {
        match fetched.context("the mails to send next could not be claimed")?? {
            Fetched::Mails { mails, dry } => {
                self.dry = dry;
                self.stock.extend(mails);
                Ok(None)
            }
            Fetched::Nothing(step) => {
                self.dry = true;
                Ok(Some(step))
            }
        }
    }

    /// All of it goes back to the queue.
    async fn empty(&mut self, ctx: &Context, why: &str) {
        for mail in self.stock.drain(..) {
            give_back(ctx, &self.shared.owner, mail.claimed.delivery.id, why).await;
        }
    }
}

/// Claims so many, if there are any whose turn comes soon.
async fn fetch(shared: &Shared, ctx: &Context, missing: usize) -> anyhow::Result<Fetched> {
    let now = ctx.now();
    let places = match shared.line.enter(missing).await? {
        Ok(places) => places,
        Err(far) => {
            let due = ctx.store.next_due().await?.is_some_and(|at| at <= now);
            return Ok(Fetched::Nothing(if due { Step::NotYet(far.min(POLL)) } else { Step::Idle(far) }));
        }
    };
    let claimed = claim(ctx, &shared.owner, places.len()).await?;
    if claimed.is_empty() {
        let next = ctx.store.next_due().await?;
        let wait = next.map_or(POLL, |at| (at - now).to_std().unwrap_or(Duration::ZERO).max(MIN_WAIT));
        return Ok(Fetched::Nothing(Step::Idle(wait)));
    }
    let dry = claimed.len() < places.len();
    let states = states(ctx, &claimed).await;
    let day = ctx.snapshot.config.calendar.day(now);
    let in_hand = |(claimed, place): (Claimed, Place)| {
        let state = states.get(&claimed.delivery.facts.key.customer);
        let ready = state.is_some_and(|state| as_it_stands(ctx, &claimed.delivery, state));
        let checked = ready.then(|| Checked { at: now, day, snapshot: Arc::clone(&ctx.snapshot) });
        InHand { claimed, turn: Turn::Place(place), checked }
    };
    Ok(Fetched::Mails { mails: claimed.into_iter().zip(places).map(in_hand).collect(), dry })
}

/// The next mails that can be read. Ends: each one that cannot has left the queue.
async fn claim(ctx: &Context, owner: &str, most: usize) -> crate::store::Result<Vec<Claimed>> {
    let most = u32::try_from(most).unwrap_or(u32::MAX);
    loop {
        let now = ctx.now();
        match ctx.store.claim_several(owner, most, now, now + cluster::lease(ctx, LEASE)).await {
            Err(StoreError::SetAside(aside)) => alert::of_set_aside(ctx, &aside).await,
            claimed => return claimed,
        }
    }
}

/// How their customers stand. A picture that cannot be taken is taken again by each worker for itself, which then knows
/// whose it is.
async fn states(ctx: &Context, claimed: &[Claimed]) -> HashMap<CustomerId, CustomerState> {
    let mut ids: Vec<CustomerId> = claimed.iter().map(|claimed| claimed.delivery.facts.key.customer.clone()).collect();
    ids.sort_unstable();
    ids.dedup();
    match ctx.store.customer_states(&ids).await {
        Ok(states) => states.into_iter().map(|state| (state.id.clone(), state)).collect(),
        Err(error) => {
            tracing::debug!("customers are not looked up together: {:#}", anyhow::Error::from(error));
            HashMap::new()
        }
    }
}
