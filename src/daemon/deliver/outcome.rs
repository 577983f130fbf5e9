//! What became of a mail is written down, and told to whom it concerns.
//!
//! Invariant: what the server said is worth more than the next mail: a store that fails is asked again and again.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::{Shared, Until};
use crate::daemon::{Context, alert, local};
use crate::domain::delivery::{Attempt, DeliveryState, Outcome, RetryPolicy, settle};
use crate::store::{AttemptEnd, Delivery, StoreError};

/// How an outcome that cannot be written down is held on to.
const RECORD_WAIT: Duration = Duration::from_secs(2);
/// How often a command tries; the daemon never gives up.
const RECORD_TRIES: u32 = 30;

/// How an attempt at a delivery ended, settled by the policy.
pub(super) struct End {
    pub(super) delivery: Delivery,
    pub(super) row: AttemptEnd,
}

impl End {
    /// `delivery`: as it stood while the attempt was made.
    pub(super) fn new(ctx: &Context, owner: &str, delivery: Delivery, attempt: Attempt) -> Self {
        let at = ctx.now();
        let retry = RetryPolicy { unknown: ctx.snapshot.config.mail.unknown, ..RetryPolicy::default() };
        // A server that refuses *us* says nothing of the mail: such attempts do not use up its tries.
        let tries = delivery.attempts.saturating_sub(delivery.blocked);
        let (state, recipients) = settle(tries, delivery.unknown_before, &delivery.recipients, &attempt, &retry, at);
        let row = AttemptEnd { id: delivery.id, owner: owner.to_owned(), attempt, state, recipients, at };
        Self { delivery, row }
    }
}

/// Writes it down.
pub(super) async fn record(ctx: &Context, end: &End, way_out: &WayOut) -> crate::store::Result<()> {
    let AttemptEnd { id, owner, attempt, state, recipients, at } = &end.row;
    let kept = ctx.store.record_attempt(*id, owner, attempt, state, recipients, *at).await?;
    recorded(ctx, end, kept, way_out).await;
    Ok(())
}

/// It is written down; `kept`: and settles its delivery.
pub(super) async fn recorded(ctx: &Context, end: &End, kept: bool, way_out: &WayOut) {
    let (delivery, attempt) = (&end.delivery, &end.row.attempt);
    if !kept {
        tracing::error!(delivery = %delivery.id, "the claim of the {} was lost while it was sent; the attempt is recorded", named(delivery));
    }
    alert::of_attempt(ctx, delivery, attempt, &end.row.state).await;
    if way_out.is_news(&attempt.outcome) {
        alert::way_out(ctx, attempt).await;
    }
}

/// The same, and does not let go: a full or busy disk must not turn what the server said into "unknown".
pub(super) async fn record_surely(shared: &Shared, ctx: &Context, end: &End) -> anyhow::Result<()> {
    let mut tries = 0_u32;
    loop {
        tries = tries.saturating_add(1);
        let stopping = shared.stop.is_cancelled();
        match record(ctx, end, &shared.way_out).await {
            Ok(()) => return Ok(()),
            // It will never be ours to write: another node settles it as unknown.
            Err(error @ StoreError::Newer { .. }) => {
                return Err(error).context("what became of a mail cannot be written down");
            }
            Err(error) if stopping || (shared.until == Until::Drained && tries >= RECORD_TRIES) => {
                return Err(error).context("what became of a mail cannot be written down");
            }
            Err(error) => {
                let (id, error) = (end.row.id, anyhow::Error::from(error));
                tracing::error!(delivery = %id, "what became of the {} cannot be written down: {error:#}", named(&end.delivery));
            }
        }
        tokio::select! {
            () = shared.stop.cancelled() => {}
            () = tokio::time::sleep(RECORD_WAIT) => {}
        }
    }
}

/// Whether an accepted mail may end a standing alert: the store is asked that once a second, not with every mail.
#[derive(Default)]
pub(super) struct WayOut(Mutex<Option<Instant>>);

impl WayOut {
    const ASK_EVERY: Duration = Duration::from_secs(1);

    fn is_news(&self, outcome: &Outcome) -> bool {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *outcome != Outcome::Accepted {
            // The next one that is accepted asks.
            *asked = None;
            return true;
        }
        if asked.is_some_and(|at| at.elapsed() < Self::ASK_EVERY) {
            return false;
        }
        *asked = Some(Instant::now());
        true
    }
}

/// The journal shows the message alone, so whose notice it is stands in it too.
pub(super) fn log(ctx: &Context, end: &End) {
    let delivery = &end.delivery;
    let AttemptEnd { id, attempt, state, .. } = &end.row;
    let (customer, kind) = (&delivery.facts.key.customer, delivery.facts.key.kind);
    let (reply, attempts) = (&attempt.reply, delivery.attempts);
    match state {
        DeliveryState::Sent => {
            tracing::info!(delivery = %id, %customer, %kind, "{} sent: {reply}", named(delivery));
        }
        DeliveryState::Queued { not_before } => {
            let (what, outcome, again) = (named(delivery), attempt.outcome.as_str(), local(ctx, *not_before));
            tracing::warn!(delivery = %id, %customer, %kind, attempts, "{what} {outcome}, again at {again}: {reply}");
        }
        DeliveryState::Unknown | DeliveryState::Held(_) | DeliveryState::Sending | DeliveryState::Dropped => {
            let what = named(delivery);
            tracing::warn!(delivery = %id, %customer, %kind, attempts, "{what} {}: {reply}", state.as_str());
        }
        DeliveryState::Failed => {
            tracing::error!(delivery = %id, %customer, %kind, attempts, "{} failed: {reply}", named(delivery));
        }
    }
}

/// Such as `first notice of C0001 (delivery 12)`.
pub(super) fn named(delivery: &Delivery) -> String {
    format!("{} notice of {} (delivery {})", delivery.facts.key.kind, delivery.facts.key.customer, delivery.id)
}
