//! From the outbox to the server: claim, look again, send, record.
//!
//! A worker owns one connection and settles each mail before it takes the next, so a crash leaves at most one mail a
//! connection in doubt. Nothing here is cancelled between the first byte and the record of its outcome; a stop takes
//! effect between two mails. A worker that meets an error goes on with the next mail: one bad mail, a busy disk or a secret
//! that cannot be read just now must not end the delivery of all others.

mod blocked;
mod hosts;
mod line;
mod ready;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use chrono::TimeDelta;
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;

use self::blocked::Blocked;
use self::hosts::Hosts;
use self::line::{Line, Place};
use self::ready::{Prepared, prepare};
use super::progress::Progress;
use super::{Context, alert, cluster, local, operators, reload::Live};
use crate::config::{MailConfig, Mode, TransportConfig};
use crate::domain::delivery::{
    Attempt, BLOCKED_WAIT, DeliveryId, DeliveryState, Outcome, RecipientState, RetryPolicy, settle,
};
use crate::mail::pace::Pace;
use crate::mail::{Outgoing, StillOurs, Transport};
use crate::store::{Claimed, Delivery, RunCounts, SiteCounts, StoreError};

/// How long a claim lasts where no node gives signs of life: longer than the longest wait for an answer (10 minutes after
/// the final dot).
const LEASE: TimeDelta = TimeDelta::minutes(20);

/// How often the outbox is looked at without being woken: another process may have put something in.
const POLL: Duration = Duration::from_secs(5);

/// How long a delivery waits that could not be made ready: a site that cannot be read, a template that fails.
const UNREADY_WAIT: TimeDelta = TimeDelta::minutes(15);

/// How long a worker rests after an error that is not a mail's own: the store, a secret.
const ERROR_WAIT: Duration = Duration::from_secs(15);

/// How long a mail in flight may take to its end once a stop is asked for. Then it is left to the next start, which settles
/// it as unknown: a server may take 10 minutes for its answer, a service has 10 seconds to stop.
const STOP_GRACE: Duration = Duration::from_secs(8);

/// How an outcome that cannot be written down is held on to: what the server said is worth more than the next mail.
const RECORD_WAIT: Duration = Duration::from_secs(2);
/// How often a command tries; the daemon never gives up.
const RECORD_TRIES: u32 = 30;

/// How often it is asked whether another node died with a mail in flight.
const ORPHANS_EVERY: Duration = Duration::from_secs(2);

/// Never spins: a queued delivery may be kept back by a hold although its time has come.
const MIN_WAIT: Duration = Duration::from_millis(200);

/// When the workers end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// When they are told to stop.
    Stopped,
    /// When nothing is left whose time has come.
    Drained,
}

/// What the workers did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Delivered {
    /// Taken by the server.
    pub sent: u64,
    /// To be tried again.
    pub deferred: u64,
    /// Refused for good.
    pub failed: u64,
    /// Never heard of.
    pub unknown: u64,
    /// Overtaken before their turn.
    pub dropped: u64,
}

/// What all workers share.
struct Shared {
    live: Arc<Live>,
    line: Line,
    done: Mutex<Delivered>,
    until: Until,
    wake: Arc<Notify>,
    stop: CancellationToken,
    blocked: Blocked,
    hosts: Hosts,
}

/// A name for claims that no process before this one had: in a container the host and the process number are the same
/// after every restart, and what that name had in flight would look like our own.
fn claimant(ctx: &Context) -> String {
    static STARTS: AtomicU64 = AtomicU64::new(0);
    let start = STARTS.fetch_add(1, Ordering::Relaxed);
    format!("{}/{:x}-{start}", ctx.owner, ctx.now().timestamp_micros())
}

/// Delivers what the outbox holds, with as many workers as the configuration has connections.
///
/// First settles what an earlier process left `sending` (`all_orphans`: this process has the lead, so nobody else sends).
///
/// # Errors
/// When the store fails at the start, or with [`Until::Drained`] when it fails later or a transport cannot be made (a secret
/// that cannot be read); a daemon goes on, and tries again.
pub async fn deliver(
    live: Arc<Live>,
    until: Until,
    all_orphans: bool,
    wake: Arc<Notify>,
    stop: CancellationToken,
    progress: Arc<dyn Progress>,
) -> anyhow::Result<Delivered> {
    let ctx = live.context();
    let owner = claimant(&ctx);
    recover(&ctx, &owner, all_orphans).await.context("cannot settle what an earlier run left in flight")?;
    let (connections, pace) = match &ctx.snapshot.config.mail.transport {
        TransportConfig::Smtp(smtp) => {
            (smtp.connections, Some(Pace::new(smtp.rate, ctx.store.last_attempt_at().await?)))
        }
        TransportConfig::Graph(graph) => (1, Some(Pace::new(graph.rate, ctx.store.last_attempt_at().await?))),
        TransportConfig::Maildir(_) => (1, None),
    };
    let shared = Arc::new(Shared {
        blocked: Blocked::load(&ctx, until).await?,
        hosts: Hosts::new(),
        line: match (pace, ctx.store.shared()) {
            (Some(pace), true) => Line::of_all_nodes(pace, Arc::clone(&ctx.store), ctx.now()),
            (pace, _) => Line::new(pace, ctx.now()),
        },
        live,
        done: Mutex::default(),
        until,
        wake,
        stop: stop.child_token(),
    });
    let mut workers = tokio::task::JoinSet::new();
    for number in 0..connections {
        let (shared, progress) = (Arc::clone(&shared), Arc::clone(&progress));
        // Each with a name of its own, so that no worker can go on with what another one has.
        let owner = format!("{owner}#{number}");
        workers.spawn(async move { worker(&shared, number, &owner, progress.as_ref()).await });
    }
    let first_error = join(&mut workers, &shared.stop, &stop).await;
    let done = *shared.done.lock().await;
    first_error.map_or(Ok(done), Err)
}

/// Waits for the workers. The first one that ends with an error ends the others, between two mails.
async fn join(
    workers: &mut tokio::task::JoinSet<anyhow::Result<()>>,
    all: &CancellationToken,
    stop: &CancellationToken,
) -> Option<anyhow::Error> {
    let mut first_error = None;
    let patience = async {
        stop.cancelled().await;
        tokio::time::sleep(STOP_GRACE).await;
    };
    tokio::pin!(patience);
    loop {
        tokio::select! {
            ended = workers.join_next() => match ended {
                None => return first_error,
                Some(ended) => if let Err(error) = ended.map_err(anyhow::Error::from).and_then(|result| result) {
                    tracing::error!("a mail worker ended: {error:#}");
                    first_error.get_or_insert(error);
                    all.cancel();
                }
            },
            () = &mut patience => {
                tracing::warn!("{} mail(s) in flight are left behind; the next start settles them", workers.len());
                // Not aborted: a transaction must not be cut in the middle. The process ends before them.
                workers.detach_all();
                return first_error;
            }
        }
    }
}

/// What was in flight when its process died may or may not have arrived: it is settled as unknown, and said so.
async fn recover(ctx: &Context, owner: &str, all: bool) -> anyhow::Result<()> {
    let now = ctx.now();
    let lease = cluster::lease(ctx, LEASE);
    if all {
        ctx.store.free_claims(owner).await?;
        ctx.store.free_operator_mails(owner, now).await?;
    }
    let orphans = loop {
        match ctx.store.take_orphans(owner, all, now, now + lease).await {
            Err(StoreError::SetAside(aside)) => alert::of_set_aside(ctx, &aside).await,
            orphans => break orphans?,
        }
    };
    for orphan in orphans {
        let attempt = Attempt::whole(Outcome::Unknown, "the sending process ended before it heard the answer");
        tracing::warn!(delivery = %orphan.delivery.id, "{} was in flight when its process ended: acceptance unknown", named(&orphan.delivery));
        record(ctx, owner, &orphan.delivery, &attempt).await?;
    }
    Ok(())
}

/// Settles an attempt by the policy and writes it down.
async fn record(
    ctx: &Context,
    owner: &str,
    delivery: &Delivery,
    attempt: &Attempt,
) -> crate::store::Result<DeliveryState> {
    let now = ctx.now();
    let retry = RetryPolicy { unknown: ctx.snapshot.config.mail.unknown, ..RetryPolicy::default() };
    // A server that refuses *us* says nothing of the mail: such attempts do not use up its tries.
    let tries = delivery.attempts.saturating_sub(delivery.blocked);
    let (state, recipients) = settle(tries, delivery.unknown_before, &delivery.recipients, attempt, &retry, now);
    let kept = ctx.store.record_attempt(delivery.id, owner, attempt, &state, &recipients, now).await?;
    if !kept {
        tracing::error!(delivery = %delivery.id, "the claim of the {} was lost while it was sent; the attempt is recorded", named(delivery));
    }
    alert::of_attempt(ctx, delivery, attempt, &state).await;
    Ok(state)
}

/// The same, and does not let go: a full or busy disk must not turn what the server said into "unknown".
async fn record_surely(
    shared: &Shared,
    ctx: &Context,
    owner: &str,
    delivery: &Delivery,
    attempt: &Attempt,
) -> anyhow::Result<DeliveryState> {
    let mut tries = 0_u32;
    loop {
        tries = tries.saturating_add(1);
        let stopping = shared.stop.is_cancelled();
        match record(ctx, owner, delivery, attempt).await {
            Ok(state) => return Ok(state),
            // It will never be ours to write: another node settles it as unknown.
            Err(error @ StoreError::Newer { .. }) => {
                return Err(error).context("what became of a mail cannot be written down");
            }
            Err(error) if stopping || (shared.until == Until::Drained && tries >= RECORD_TRIES) => {
                return Err(error).context("what became of a mail cannot be written down");
            }
            Err(error) => {
                let error = anyhow::Error::from(error);
                tracing::error!(delivery = %delivery.id, "what became of the {} cannot be written down: {error:#}", named(delivery));
            }
        }
        tokio::select! {
            () = shared.stop.cancelled() => {}
            () = tokio::time::sleep(RECORD_WAIT) => {}
        }
    }
}

async fn worker(shared: &Shared, number: usize, owner: &str, progress: &dyn Progress) -> anyhow::Result<()> {
    let mut transport: Option<Box<dyn Transport>> = None;
    let mut next = Next::Unasked;
    let mut counts = RunCounts::default();
    let mut result = Ok(());
    let mut orphans_at = tokio::time::Instant::now();
    while !shared.stop.is_cancelled() {
        // Register for the wake-up before looking, or one between the look and the wait would be lost.
        let woken = shared.wake.notified();
        let ctx = shared.live.context();
        if ctx.life.rests().is_some() {
            if let Next::Mail(mail) = std::mem::replace(&mut next, Next::Unasked) {
                give_back(&ctx, owner, mail.claimed.delivery.id, "this node takes no work any more").await;
            }
            tokio::select! {
                () = shared.stop.cancelled() => {}
                () = tokio::time::sleep(POLL) => {}
            }
            continue;
        }
        if number == 0 && ctx.store.shared() && orphans_at.elapsed() >= ORPHANS_EVERY {
            orphans_at = tokio::time::Instant::now();
            if let Err(error) = recover(&ctx, owner, false).await {
                tracing::error!("what other nodes left in flight is not settled yet: {error:#}");
            }
        }
        let told = match number {
            0 => tell_operators(shared, &ctx, owner, &mut transport).await,
            _ => Ok(false),
        };
        match told {
            Ok(true) => continue,
            Ok(false) => {}
            // Customers' mail goes on; the next round tries again.
            Err(error) => tracing::error!("the operators' mail rests: {error:#}"),
        }
        let wait = match step(shared, &ctx, owner, &mut transport, &mut next).await {
            Ok(Step::Settled(state)) => {
                tally(shared, &state).await;
                counts.queued += 1;
                progress.step(&counts, &SiteCounts::default());
                continue;
            }
            Ok(Step::GivenBack) => continue,
            Ok(Step::NotYet(wait)) => wait,
            Ok(Step::Idle(_)) if shared.until == Until::Drained => break,
            Ok(Step::Idle(wait)) => wait.min(POLL),
            Err(error) if shared.until == Until::Drained => {
                result = Err(error);
                break;
            }
            Err(error) => {
                tracing::error!("mail delivery rests for {} s: {error:#}", ERROR_WAIT.as_secs());
                ERROR_WAIT
            }
        };
        if let Some(mut idle) = transport.take() {
            idle.close().await;
        }
        tokio::select! {
            () = woken => {}
            () = shared.stop.cancelled() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
    if let Next::Mail(mail) = next {
        give_back(&shared.live.context(), owner, mail.claimed.delivery.id, "the sender stopped before its turn").await;
    }
    if let Some(mut transport) = transport {
        transport.close().await;
    }
    tracing::debug!(owner, "mail worker ends");
    result
}

/// Sends one mail to the operators, if one waits: at any hour, in any mode, whatever is held. Only a server that refuses
/// our account keeps it back.
async fn tell_operators(
    shared: &Shared,
    ctx: &Context,
    owner: &str,
    transport: &mut Option<Box<dyn Transport>>,
) -> anyhow::Result<bool> {
    let now = ctx.now();
    if shared.blocked.stands_anywhere(ctx, now).await? {
        return Ok(false);
    }
    let Ok(place) = shared.line.enter().await? else { return Ok(false) };
    let Some(mail) = ctx.store.claim_operator_mail(owner, now, now + cluster::lease(ctx, LEASE)).await? else {
        return Ok(false);
    };
    let way = match transport {
        _ if !turn(shared, place).await? => Err("the sender stopped before its turn".to_owned()),
        Some(way) => Ok(way),
        // Not an end of the worker: in a dry run nobody may have set up the way out yet.
        None => match open(&ctx.snapshot.config.mail) {
            Ok(way) => Ok(transport.insert(way)),
            Err(error) => Err(format!("{error:#}")),
        },
    };
    if let Some(until) = operators::send(ctx, owner, mail, way).await? {
        shared.blocked.set(ctx, until).await;
    }
    Ok(true)
}

/// What one round of a worker came to.
enum Step {
    /// One mail was sent, or dropped, and that is written down.
    Settled(DeliveryState),
    /// One was claimed and went back to the queue.
    GivenBack,
    /// Something is due, but its turn by the rate is that far away.
    NotYet(Duration),
    /// Nothing is to be done for that long.
    Idle(Duration),
}

/// A mail in a worker's hands, and its place in the line.
struct InHand<'a> {
    claimed: Claimed,
    place: Place<'a>,
}

/// What a worker knows of its next mail.
enum Next<'a> {
    Unasked,
    /// Claimed while the outcome of the one before was written down: one wait for the disk instead of two.
    Mail(Box<InHand<'a>>),
    /// It could not be claimed, which is the next round's to say.
    Trouble(anyhow::Error),
}

async fn step<'a>(
    shared: &'a Shared,
    ctx: &Context,
    owner: &str,
    transport: &mut Option<Box<dyn Transport>>,
    next: &mut Next<'a>,
) -> anyhow::Result<Step> {
    let mail = match std::mem::replace(next, Next::Unasked) {
        Next::Mail(mail) => *mail,
        Next::Trouble(error) => return Err(error),
        Next::Unasked => match take(shared, ctx, owner).await? {
            Ok(mail) => mail,
            Err(nothing) => return Ok(nothing),
        },
    };
    let id = mail.claimed.delivery.id;
    let sent = send(shared, ctx, owner, mail, transport, next).await;
    if sent.is_err() {
        // If it has not left, somebody may try again before the lease runs out; if it has, this changes nothing.
        give_back(ctx, owner, id, "an error came between").await;
    }
    Ok(sent?.map_or(Step::GivenBack, Step::Settled))
}

/// Claims the next mail whose turn comes soon; else what to do instead.
async fn take<'a>(shared: &'a Shared, ctx: &Context, owner: &str) -> anyhow::Result<Result<InHand<'a>, Step>> {
    let now = ctx.now();
    if !may_send(shared, ctx).await {
        return Ok(Err(Step::Idle(POLL)));
    }
    let place = match shared.line.enter().await? {
        Ok(place) => place,
        Err(far) => {
            let due = ctx.store.next_due().await?.is_some_and(|at| at <= now);
            return Ok(Err(if due { Step::NotYet(far.min(POLL)) } else { Step::Idle(far) }));
        }
    };
    let Some(claimed) = claim(ctx, owner).await? else {
        let next = ctx.store.next_due().await?;
        let wait = next.map_or(POLL, |at| (at - now).to_std().unwrap_or(Duration::ZERO).max(MIN_WAIT));
        return Ok(Err(Step::Idle(wait)));
    };
    Ok(Ok(InHand { claimed, place }))
}

/// Claims the next mail, if it may leave at once.
async fn take_next<'a>(shared: &'a Shared, ctx: &Context, owner: &str) -> Next<'a> {
    if shared.stop.is_cancelled() || !may_send(shared, ctx).await {
        return Next::Unasked;
    }
    let place = match shared.line.enter().await {
        Ok(Ok(place)) => place,
        Ok(Err(_far)) => return Next::Unasked,
        Err(error) => return Next::Trouble(error.into()),
    };
    match claim(ctx, owner).await {
        Ok(claimed) => claimed.map_or(Next::Unasked, |claimed| Next::Mail(Box::new(InHand { claimed, place }))),
        Err(error) => Next::Trouble(error.into()),
    }
}

/// The next mail that can be read. Ends: each one that cannot has left the queue.
async fn claim(ctx: &Context, owner: &str) -> crate::store::Result<Option<Claimed>> {
    loop {
        let now = ctx.now();
        match ctx.store.claim(owner, now, now + cluster::lease(ctx, LEASE)).await {
            Err(StoreError::SetAside(aside)) => alert::of_set_aside(ctx, &aside).await,
            claimed => return claimed,
        }
    }
}

/// A claimed mail goes back to the queue, if it has not left.
async fn give_back(ctx: &Context, owner: &str, id: DeliveryId, why: &str) {
    let now = ctx.now();
    if let Err(error) = ctx.store.release(id, owner, now, why, now).await {
        tracing::debug!(delivery = %id, "delivery {id} stays claimed until its lease ends: {error}");
    }
}

/// Whether anything may leave now, as far as the configuration, the calendar and the server's mood go. Holds are the
/// store's to see.
async fn may_send(shared: &Shared, ctx: &Context) -> bool {
    let (config, now) = (&ctx.snapshot.config, ctx.now());
    let open = config.mode != Mode::DryRun && config.calendar.is_open(now);
    open && ctx.life.rests().is_none() && !shared.blocked.stands(now).await
}

async fn send<'a>(
    shared: &'a Shared,
    ctx: &Context,
    owner: &str,
    InHand { claimed, place }: InHand<'a>,
    transport: &mut Option<Box<dyn Transport>>,
    next: &mut Next<'a>,
) -> anyhow::Result<Option<DeliveryState>> {
    let (id, what) = (claimed.delivery.id, named(&claimed.delivery));
    let claimed = match prepare(ctx, &shared.hosts, owner, claimed).await? {
        Prepared::Ready(claimed) => *claimed,
        Prepared::Settled(state, why) => {
            tracing::info!(delivery = %id, "{what} {}: {why}", state.as_str());
            ctx.store.drop_claimed(id, owner, &why, ctx.now()).await?;
            return Ok(Some(state));
        }
        Prepared::Later(why) => {
            tracing::warn!(delivery = %id, "{what} not sent now: {why}");
            ctx.store.release(id, owner, ctx.now() + UNREADY_WAIT, &why, ctx.now()).await?;
            return Ok(None);
        }
    };
    if !turn(shared, place).await? || !may_send(shared, ctx).await {
        ctx.store.release(id, owner, ctx.now(), "its turn by the rate did not come", ctx.now()).await?;
        return Ok(None);
    }
    if shared.blocked.stands_anywhere(ctx, ctx.now()).await? {
        ctx.store.release(id, owner, ctx.now(), "the mail server refuses our account", ctx.now()).await?;
        return Ok(None);
    }
    let way = match transport {
        Some(way) => way,
        None => transport.insert(open(&ctx.snapshot.config.mail)?),
    };
    let mut delivery = claimed.delivery;
    delivery.attempts += 1;
    let (now, lease) = (ctx.now(), cluster::lease(ctx, LEASE));
    match ctx.store.begin_attempt(id, owner, now, now + lease).await {
        Ok(true) if !cluster::still_ours(ctx, now, lease) => {
            let frozen =
                Attempt::whole(Outcome::Deferred, "this node stood still for longer than its lease, nothing left");
            return record_surely(shared, ctx, owner, &delivery, &frozen).await.map(Some);
        }
        Ok(true) => {}
        Ok(false) => return Ok(None),
        Err(error) => {
            // It may have been written all the same, and would stand as `sending` until the next start.
            let nothing_left = Attempt::whole(Outcome::Deferred, "the attempt could not be written down, nothing left");
            record_surely(shared, ctx, owner, &delivery, &nothing_left).await?;
            return Err(error.into());
        }
    }
    let pending = |r: &&crate::domain::delivery::Recipient| r.state == RecipientState::Pending;
    let outgoing = Outgoing {
        envelope_from: claimed.message.envelope_from,
        recipients: delivery.recipients.iter().filter(pending).map(|r| r.address.clone()).collect(),
        message: claimed.message.raw,
    };
    way.ask_before_message(ctx.store.shared().then(|| -> StillOurs {
        let ctx = ctx.clone();
        Arc::new(move || cluster::still_ours(&ctx, now, lease))
    }));
    let attempt = way.send(&outgoing).await;
    if attempt.outcome == Outcome::Blocked {
        block(shared, ctx, &attempt).await;
    }
    // Both are asked for at once, so that they can share a commit. The next one begins only when this one is written down.
    let recorded = record_surely(shared, ctx, owner, &delivery, &attempt);
    let (state, claimed) = tokio::join!(recorded, take_next(shared, ctx, owner));
    *next = claimed;
    let state = state?;
    log(ctx, &delivery, &attempt, &state);
    ctx.metrics.delivery(delivery.facts.key.kind, &attempt.outcome);
    Ok(Some(state))
}

/// The server refuses us: nobody sends for a while. Before the outcome is written, so that no other worker meets it too.
async fn block(shared: &Shared, ctx: &Context, attempt: &Attempt) {
    let until = ctx.now() + BLOCKED_WAIT;
    tracing::error!(
        "the mail server refuses our account, nothing leaves before {}: {}",
        local(ctx, until),
        attempt.reply
    );
    shared.blocked.set(ctx, until).await;
}

fn open(mail: &MailConfig) -> anyhow::Result<Box<dyn Transport>> {
    crate::mail::transport(mail).context("cannot make the way out for mail")
}

/// Waits for this mail's turn by the configured rate; `false`: told to stop meanwhile, or other nodes took the near ones.
async fn turn(shared: &Shared, place: Place<'_>) -> anyhow::Result<bool> {
    let Some(wait) = place.turn().await? else { return Ok(false) };
    Ok(tokio::select! {
        () = shared.stop.cancelled() => false,
        () = tokio::time::sleep(wait) => !shared.stop.is_cancelled(),
    })
}

async fn tally(shared: &Shared, state: &DeliveryState) {
    let mut done = shared.done.lock().await;
    match state {
        DeliveryState::Sent => done.sent += 1,
        DeliveryState::Queued { .. } | DeliveryState::Held(_) | DeliveryState::Sending => done.deferred += 1,
        DeliveryState::Failed => done.failed += 1,
        DeliveryState::Unknown => done.unknown += 1,
        DeliveryState::Dropped => done.dropped += 1,
    }
}

/// The journal shows the message alone, so whose notice it is stands in it too.
fn log(ctx: &Context, delivery: &Delivery, attempt: &Attempt, state: &DeliveryState) {
    let (id, customer, kind) = (delivery.id, &delivery.facts.key.customer, delivery.facts.key.kind);
    let (reply, attempts) = (&attempt.reply, delivery.attempts);
    let what = named(delivery);
    match state {
        DeliveryState::Sent => tracing::info!(delivery = %id, %customer, %kind, "{what} sent: {reply}"),
        DeliveryState::Queued { not_before } => {
            let (outcome, again) = (attempt.outcome.as_str(), local(ctx, *not_before));
            tracing::warn!(delivery = %id, %customer, %kind, attempts, "{what} {outcome}, again at {again}: {reply}");
        }
        DeliveryState::Unknown | DeliveryState::Held(_) | DeliveryState::Sending | DeliveryState::Dropped => {
            tracing::warn!(delivery = %id, %customer, %kind, attempts, "{what} {}: {reply}", state.as_str());
        }
        DeliveryState::Failed => tracing::error!(delivery = %id, %customer, %kind, attempts, "{what} failed: {reply}"),
    }
}

/// Such as `first notice of C0001 (delivery 12)`.
fn named(delivery: &Delivery) -> String {
    format!("{} notice of {} (delivery {})", delivery.facts.key.kind, delivery.facts.key.customer, delivery.id)
}
