//! One mail after the other over one connection: what became of the first is written down together with the beginning of
//! the second, so that a mail costs one wait for the disk and not two.
//!
//! Invariants: a mail begins only when the one before it is on disk, or comes there with it (its envelope may be on the wire by
//! then: without the message nobody gets anything); between two mails it is asked
//! whether anything has changed (a stop, new files, the hour, the server's mood), and the store asks for holds; whatever is
//! in hand and does not begin goes back to the queue or stays this worker's next one.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::outcome::{End, log, named, record_surely, recorded};
use super::ready::{Prepared, prepare};
use super::stock::{InHand, Order, Supply, Turn};
use super::{LEASE, UNREADY_WAIT, Worker, block, give_back, may_send, open, turn, wait_for};
use crate::daemon::{Context, cluster};
use crate::domain::Timestamp;
use crate::domain::delivery::{Attempt, Outcome, Recipient, RecipientState};
use crate::mail::{Outgoing, StillOurs, Transport};
use crate::store::{AttemptStart, Claimed, Delivery};

/// How long it goes on without a look at anything else: mail to the operators, what other nodes left.
const AT_MOST: Duration = Duration::from_secs(1);

/// What one round of a worker came to.
pub(super) enum Step {
    /// There may be more to do at once.
    Again,
    /// Something is due, but its turn by the rate is that far away.
    NotYet(Duration),
    /// Nothing is to be done for that long.
    Idle(Duration),
}

/// What a worker knows of its next mail.
pub(super) enum Next {
    Unasked,
    Asked(Order),
    Mail(Box<InHand>),
}

/// A mail that may leave as soon as its attempt is on disk.
struct Packed {
    /// As it stands while the attempt is made.
    delivery: Delivery,
    outgoing: Outgoing,
    /// Since when and for how long it is ours.
    at: Timestamp,
    lease: chrono::TimeDelta,
}

impl Packed {
    fn new(ctx: &Context, claimed: Claimed) -> Self {
        let Claimed { mut delivery, message } = claimed;
        delivery.attempts += 1;
        let pending = |r: &&Recipient| r.state == RecipientState::Pending;
        let outgoing = Outgoing {
            envelope_from: message.envelope_from,
            recipients: delivery.recipients.iter().filter(pending).map(|r| r.address.clone()).collect(),
            message: message.raw,
        };
        Self { delivery, outgoing, at: ctx.now(), lease: cluster::lease(ctx, LEASE) }
    }

    fn start(&self, owner: &str) -> AttemptStart {
        let (id, at) = (self.delivery.id, self.at);
        AttemptStart { id, owner: owner.to_owned(), at, lease_until: at + self.lease }
    }

    /// Hands it to the server.
    async fn transmit(&self, ctx: &Context, way: &mut dyn Transport) -> Attempt {
        let (at, lease) = (self.at, self.lease);
        way.ask_before_message(ctx.store.shared().then(|| -> StillOurs {
            let ctx = ctx.clone();
            Arc::new(move || cluster::still_ours(&ctx, at, lease))
        }));
        way.send(&self.outgoing).await
    }
}

impl Worker {
    /// Sends mails one right after the other, for a while or until there is none.
    pub(super) async fn send_some(&mut self, ctx: &Context) -> anyhow::Result<Step> {
        let order = match std::mem::replace(&mut self.next, Next::Unasked) {
            Next::Mail(mail) => return self.send_from(ctx, *mail).await,
            Next::Asked(order) => order,
            Next::Unasked => self.orders.ask(),
        };
        match order.answer().await? {
            Supply::Mail(mail) => self.send_from(ctx, *mail).await,
            Supply::Nothing(step) => Ok(step),
        }
    }

    /// The same, beginning with that one.
    async fn send_from(&mut self, ctx: &Context, mail: InHand) -> anyhow::Result<Step> {
        let id = mail.claimed.delivery.id;
        let sent = match self.way.take().map_or_else(|| open(&ctx.snapshot.config.mail), Ok) {
            Ok(mut way) => {
                let sent = self.chain(ctx, mail, way.as_mut()).await;
                self.way = Some(way);
                sent
            }
            Err(error) => Err(error),
        };
        if sent.is_err() {
            // If it has not left, somebody may try again before the lease runs out; if it has, this changes nothing.
            give_back(ctx, &self.shared.owner, id, "an error came between").await;
        }
        sent.map(|()| Step::Again)
    }

    async fn chain(&mut self, ctx: &Context, mail: InHand, way: &mut dyn Transport) -> anyhow::Result<()> {
        let Some(mut packed) = self.begin(ctx, mail).await? else { return Ok(()) };
        let until = Instant::now() + AT_MOST;
        loop {
            if matches!(self.next, Next::Unasked) {
                self.next = Next::Asked(self.orders.ask());
            }
            let attempt = packed.transmit(ctx, way).await;
            if attempt.outcome == Outcome::Blocked {
                block(&self.shared, ctx, &attempt).await;
            }
            let end = End::new(ctx, &self.shared.owner, packed.delivery, attempt);
            let next = match self.follows(ctx, until).await {
                Some(mail) => {
                    if end.row.attempt.outcome == Outcome::Accepted {
                        way.announce(&mail.outgoing).await;
                    }
                    self.record_and_begin(ctx, &end, mail).await?
                }
                None => {
                    record_surely(&self.shared, ctx, &end).await?;
                    None
                }
            };
            log(ctx, &end);
            ctx.metrics.delivery(end.delivery.facts.key.kind, &end.row.attempt.outcome);
            self.tally(&end.row.state).await;
            let Some(next) = next else { return Ok(()) };
            packed = next;
        }
    }

    /// Begins a mail by itself. `None`: it does not leave now, and that is written down.
    async fn begin(&mut self, ctx: &Context, mail: InHand) -> anyhow::Result<Option<Packed>> {
        let (shared, id) = (Arc::clone(&self.shared), mail.claimed.delivery.id);
        let ready = mail.is_ready(ctx);
        let InHand { claimed, turn: mails_turn, .. } = mail;
        let claimed = if ready { Some(claimed) } else { self.prepare(ctx, claimed).await? };
        let Some(claimed) = claimed else { return Ok(None) };
        let its_turn = match mails_turn {
            Turn::Place(place) => turn(&shared, place).await?,
            Turn::At(at) => wait_for(&shared, at.saturating_duration_since(Instant::now())).await,
        };
        if !its_turn || !may_send(&shared, ctx).await {
            ctx.store.release(id, &shared.owner, ctx.now(), "its turn by the rate did not come", ctx.now()).await?;
            return Ok(None);
        }
        if shared.blocked.stands_anywhere(ctx, ctx.now()).await? {
            ctx.store.release(id, &shared.owner, ctx.now(), "the mail server refuses our account", ctx.now()).await?;
            return Ok(None);
        }
        let packed = Packed::new(ctx, claimed);
        let start = packed.start(&shared.owner);
        match ctx.store.begin_attempt(id, &start.owner, start.at, start.lease_until).await {
            Ok(true) => self.unless_frozen(ctx, packed).await,
            Ok(false) => Ok(None),
            Err(error) => {
                self.nothing_left(ctx, packed.delivery).await?;
                Err(error.into())
            }
        }
    }

    /// Asks again whether it is to be sent, and as what. `None`: not now.
    async fn prepare(&mut self, ctx: &Context, claimed: Claimed) -> anyhow::Result<Option<Claimed>> {
        let (id, what) = (claimed.delivery.id, named(&claimed.delivery));
        let owner = &self.shared.owner;
        match prepare(ctx, &self.shared.hosts, owner, claimed).await? {
            Prepared::Ready(claimed) => Ok(Some(*claimed)),
            Prepared::Settled(state, why) => {
                tracing::info!(delivery = %id, "{what} {}: {why}", state.as_str());
                ctx.store.drop_claimed(id, owner, &why, ctx.now()).await?;
                self.tally(&state).await;
                Ok(None)
            }
            Prepared::Later(why) => {
                tracing::warn!(delivery = %id, "{what} not sent now: {why}");
                ctx.store.release(id, owner, ctx.now() + UNREADY_WAIT, &why, ctx.now()).await?;
                Ok(None)
            }
        }
    }

    /// The next mail, if it may begin this instant; otherwise the outcome that waits is not kept waiting for it.
    async fn follows(&mut self, ctx: &Context, until: Instant) -> Option<Packed> {
        if let Next::Asked(order) = &mut self.next
            && let Some(answer) = order.now()
        {
            // Nothing, or an error: that is the next round's to find out.
            self.next = match answer {
                Ok(Supply::Mail(mail)) => Next::Mail(mail),
                Ok(Supply::Nothing(_)) | Err(_) => Next::Unasked,
            };
        }
        // Where nodes share a state a turn is the store's to give, and two transactions cost no more than one.
        let go_on = !ctx.store.shared()
            && Instant::now() < until
            && !self.shared.stop.is_cancelled()
            && Arc::ptr_eq(&ctx.snapshot, &self.shared.live.context().snapshot)
            && may_send(&self.shared, ctx).await;
        let mail = match std::mem::replace(&mut self.next, Next::Unasked) {
            Next::Mail(mail) if go_on && mail.is_ready(ctx) => mail,
            other => {
                self.next = other;
                return None;
            }
        };
        let (mail, at) = mail.with_turn();
        if at > Instant::now() {
            self.next = Next::Mail(Box::new(mail));
            return None;
        }
        Some(Packed::new(ctx, mail.claimed))
    }

    /// One ends, the next one begins. `None`: it does not, and that is written down.
    async fn record_and_begin(&mut self, ctx: &Context, end: &End, next: Packed) -> anyhow::Result<Option<Packed>> {
        let id = next.delivery.id;
        match ctx.store.record_and_begin(&end.row, &next.start(&self.shared.owner)).await {
            Ok((kept, begun)) => {
                recorded(ctx, end, kept, &self.shared.way_out).await;
                match begun {
                    Ok(true) => return self.unless_frozen(ctx, next).await,
                    Ok(false) => return Ok(None),
                    Err(error) => tracing::error!(delivery = %id, "{:#}", anyhow::Error::from(error)),
                }
            }
            Err(error) => {
                let error = anyhow::Error::from(error);
                tracing::error!(delivery = %end.row.id, "what became of the {} cannot be written down: {error:#}", named(&end.delivery));
                record_surely(&self.shared, ctx, end).await?;
            }
        }
        self.nothing_left(ctx, next.delivery).await?;
        give_back(ctx, &self.shared.owner, id, "an error came between").await;
        Ok(None)
    }

    /// A node that stood still for longer than its lease has lost the mail to another one.
    async fn unless_frozen(&mut self, ctx: &Context, packed: Packed) -> anyhow::Result<Option<Packed>> {
        if cluster::still_ours(ctx, packed.at, packed.lease) {
            return Ok(Some(packed));
        }
        let frozen = Attempt::whole(Outcome::Deferred, "this node stood still for longer than its lease, nothing left");
        let end = End::new(ctx, &self.shared.owner, packed.delivery, frozen);
        record_surely(&self.shared, ctx, &end).await?;
        self.tally(&end.row.state).await;
        Ok(None)
    }

    /// It could not be heard whether the attempt is on disk: it may be, and would stand as `sending` until the next start.
    async fn nothing_left(&mut self, ctx: &Context, delivery: Delivery) -> anyhow::Result<()> {
        let nothing = Attempt::whole(Outcome::Deferred, "the attempt could not be written down, nothing left");
        record_surely(&self.shared, ctx, &End::new(ctx, &self.shared.owner, delivery, nothing)).await
    }
}
