//! From the outbox to the server: claim, look again, send, record.
//!
//! A worker owns one connection and settles each mail before it takes the next, so a crash leaves at most one mail a
//! connection in doubt. Nothing here is cancelled between the first byte and the record of its outcome; a stop takes
//! effect between two mails.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use chrono::TimeDelta;
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;

use super::look;
use super::mailing::{self, Subject};
use super::progress::Progress;
use super::{Context, alert, operators, reload::Live};
use crate::config::{MailConfig, Mode, TransportConfig};
use crate::domain::Timestamp;
use crate::domain::campaign::Standing;
use crate::domain::case::Case;
use crate::domain::customer::Customer;
use crate::domain::delivery::{Attempt, DeliveryState, Outcome, RecipientState, RetryPolicy, settle};
use crate::domain::plan::{self, Due, NoticeKind};
use crate::mail::pace::Pace;
use crate::mail::{Outgoing, Transport};
use crate::store::{Claimed, Delivery, RunCounts, SiteCounts};

/// How long a claim lasts: longer than the longest wait for an answer (10 minutes after the final dot).
const LEASE: TimeDelta = TimeDelta::minutes(20);

/// How often the outbox is looked at without being woken: another process may have put something in.
const POLL: Duration = Duration::from_secs(5);

/// How long a delivery waits whose site could not be read right before sending.
const UNREADABLE_WAIT: TimeDelta = TimeDelta::minutes(15);

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
    pace: Mutex<Option<Pace>>,
    done: Mutex<Delivered>,
    until: Until,
    wake: Arc<Notify>,
    stop: CancellationToken,
    /// While the server refuses our account nobody sends.
    blocked_until: Mutex<Option<Timestamp>>,
}

/// Delivers what the outbox holds, with as many workers as the configuration has connections.
///
/// First settles what an earlier process left `sending` (`all_orphans`: this process has the lead, so nobody else sends).
///
/// # Errors
/// When the store fails or a transport cannot be made (a secret that cannot be read).
pub async fn deliver(
    live: Arc<Live>,
    until: Until,
    all_orphans: bool,
    wake: Arc<Notify>,
    stop: CancellationToken,
    progress: Arc<dyn Progress>,
) -> anyhow::Result<Delivered> {
    let ctx = live.context();
    recover(&ctx, all_orphans).await.context("cannot settle what an earlier run left in flight")?;
    let mail = &ctx.snapshot.config.mail;
    let (connections, pace) = match &mail.transport {
        TransportConfig::Smtp(smtp) => {
            (smtp.connections, Some(Pace::new(smtp.rate, ctx.store.last_attempt_at().await?)))
        }
        TransportConfig::Graph(graph) => (1, Some(Pace::new(graph.rate, ctx.store.last_attempt_at().await?))),
        TransportConfig::Maildir(_) => (1, None),
    };
    let shared = Arc::new(Shared {
        live,
        pace: Mutex::new(pace),
        done: Mutex::default(),
        until,
        wake,
        stop,
        blocked_until: Mutex::default(),
    });
    let mut workers = tokio::task::JoinSet::new();
    for number in 0..connections {
        let (shared, progress) = (Arc::clone(&shared), Arc::clone(&progress));
        workers.spawn(async move { worker(&shared, number, progress.as_ref()).await });
    }
    let mut first_error = None;
    while let Some(ended) = workers.join_next().await {
        if let Err(error) = ended.map_err(anyhow::Error::from).and_then(|result| result) {
            tracing::error!("a mail worker ended: {error:#}");
            first_error.get_or_insert(error);
        }
    }
    let done = *shared.done.lock().await;
    first_error.map_or(Ok(done), Err)
}

/// What was in flight when its process died may or may not have arrived: it is settled as unknown, and said so.
async fn recover(ctx: &Context, all: bool) -> anyhow::Result<()> {
    let now = ctx.now();
    if all {
        ctx.store.free_claims(&ctx.owner).await?;
        ctx.store.free_operator_mails(&ctx.owner, now).await?;
    }
    for orphan in ctx.store.take_orphans(&ctx.owner, all, now, now + LEASE).await? {
        let attempt = Attempt::whole(Outcome::Unknown, "the sending process ended before it heard the answer");
        tracing::warn!(delivery = %orphan.delivery.id, "was in flight when its process ended: acceptance unknown");
        record(ctx, &orphan.delivery, &attempt).await?;
    }
    Ok(())
}

/// Settles an attempt by the policy and writes it down.
async fn record(ctx: &Context, delivery: &Delivery, attempt: &Attempt) -> anyhow::Result<DeliveryState> {
    let now = ctx.now();
    let retry = RetryPolicy { unknown: ctx.snapshot.config.mail.unknown, ..RetryPolicy::default() };
    // A server that refuses *us* says nothing of the mail: such attempts do not use up its tries.
    let tries = delivery.attempts.saturating_sub(delivery.blocked);
    let (state, recipients) = settle(tries, delivery.unknown_before, &delivery.recipients, attempt, &retry, now);
    let kept = ctx.store.record_attempt(delivery.id, &ctx.owner, attempt, &state, &recipients, now).await?;
    if !kept {
        tracing::error!(delivery = %delivery.id, "its claim was lost while it was sent; the attempt is recorded");
    }
    alert::of_attempt(ctx, delivery, attempt, &state).await;
    Ok(state)
}

async fn worker(shared: &Shared, number: usize, progress: &dyn Progress) -> anyhow::Result<()> {
    let mut transport: Option<Box<dyn Transport>> = None;
    let mut counts = RunCounts::default();
    while !shared.stop.is_cancelled() {
        // Register for the wake-up before looking, or one between the look and the wait would be lost.
        let woken = shared.wake.notified();
        let ctx = shared.live.context();
        let now = ctx.now();
        if number == 0 && tell_operators(shared, &ctx, now, &mut transport).await? {
            continue;
        }
        let wait = match next_step(shared, &ctx, now).await? {
            Step::Send(claimed) => {
                if let Some(settled) = send(shared, &ctx, *claimed, &mut transport).await? {
                    tally(shared, &settled).await;
                    counts.queued += 1;
                    progress.step(&counts, &SiteCounts::default());
                }
                continue;
            }
            Step::Wait(wait) => wait,
        };
        if shared.until == Until::Drained {
            break;
        }
        if let Some(mut idle) = transport.take() {
            idle.close().await;
        }
        tokio::select! {
            () = woken => {}
            () = shared.stop.cancelled() => {}
            () = tokio::time::sleep(wait.min(POLL)) => {}
        }
    }
    if let Some(mut transport) = transport {
        transport.close().await;
    }
    tracing::debug!(number, "mail worker ends");
    Ok(())
}

/// Sends one mail to the operators, if one waits: at any hour, in any mode, whatever is held. Only a server that refuses
/// our account keeps it back.
async fn tell_operators(
    shared: &Shared,
    ctx: &Context,
    now: Timestamp,
    transport: &mut Option<Box<dyn Transport>>,
) -> anyhow::Result<bool> {
    if shared.blocked_until.lock().await.is_some_and(|until| now < until) {
        return Ok(false);
    }
    let Some(mail) = ctx.store.claim_operator_mail(&ctx.owner, now, now + LEASE).await? else { return Ok(false) };
    let way = match transport {
        _ if !turn(shared, ctx).await => Err("the sender stopped before its turn".to_owned()),
        Some(way) => Ok(way),
        // Not an end of the worker: in a dry run nobody may have set up the way out yet.
        None => match open(&ctx.snapshot.config.mail) {
            Ok(way) => Ok(transport.insert(way)),
            Err(error) => Err(format!("{error:#}")),
        },
    };
    if let Some(until) = operators::send(ctx, mail, way).await? {
        *shared.blocked_until.lock().await = Some(until);
    }
    Ok(true)
}

enum Step {
    Send(Box<Claimed>),
    Wait(Duration),
}

async fn next_step(shared: &Shared, ctx: &Context, now: Timestamp) -> anyhow::Result<Step> {
    let config = &ctx.snapshot.config;
    if config.mode == Mode::DryRun || !config.calendar.is_open(now) {
        return Ok(Step::Wait(POLL));
    }
    if shared.blocked_until.lock().await.is_some_and(|until| now < until) {
        return Ok(Step::Wait(POLL));
    }
    if let Some(claimed) = ctx.store.claim(&ctx.owner, now, now + LEASE).await? {
        return Ok(Step::Send(Box::new(claimed)));
    }
    let next = ctx.store.next_due().await?;
    Ok(Step::Wait(next.map_or(POLL, |at| (at - now).to_std().unwrap_or(Duration::ZERO).max(MIN_WAIT))))
}

/// Never spins: a queued delivery may be kept back by a hold although its time has come.
const MIN_WAIT: Duration = Duration::from_millis(200);

async fn send(
    shared: &Shared,
    ctx: &Context,
    claimed: Claimed,
    transport: &mut Option<Box<dyn Transport>>,
) -> anyhow::Result<Option<DeliveryState>> {
    let id = claimed.delivery.id;
    let claimed = match prepare(ctx, claimed).await? {
        Prepared::Ready(claimed) => *claimed,
        Prepared::Settled(state, why) => {
            tracing::info!(delivery = %id, "{}: {why}", state.as_str());
            ctx.store.drop_claimed(id, &ctx.owner, &why, ctx.now()).await?;
            return Ok(Some(state));
        }
        Prepared::Later(why) => {
            tracing::warn!(delivery = %id, "not sent now: {why}");
            ctx.store.release(id, &ctx.owner, ctx.now() + UNREADABLE_WAIT, &why, ctx.now()).await?;
            return Ok(None);
        }
    };
    if !turn(shared, ctx).await || !ctx.snapshot.config.calendar.is_open(ctx.now()) {
        ctx.store.release(id, &ctx.owner, ctx.now(), "the sender stopped before its turn", ctx.now()).await?;
        return Ok(None);
    }
    let way = match transport {
        Some(way) => way,
        None => transport.insert(open(&ctx.snapshot.config.mail)?),
    };
    let now = ctx.now();
    if !ctx.store.begin_attempt(id, &ctx.owner, now, now + LEASE).await? {
        return Ok(None);
    }
    let mut delivery = claimed.delivery;
    delivery.attempts += 1;
    let pending = |r: &&crate::domain::delivery::Recipient| r.state == RecipientState::Pending;
    let outgoing = Outgoing {
        envelope_from: claimed.message.envelope_from,
        recipients: delivery.recipients.iter().filter(pending).map(|r| r.address.clone()).collect(),
        message: claimed.message.raw,
    };
    let attempt = way.send(&outgoing).await;
    let state = record(ctx, &delivery, &attempt).await?;
    log(&delivery, &attempt, &state);
    ctx.metrics.delivery(delivery.facts.key.kind, &attempt.outcome);
    if attempt.outcome == Outcome::Blocked
        && let DeliveryState::Queued { not_before } = state
    {
        tracing::error!("the mail server refuses our account, nothing leaves before {not_before}: {}", attempt.reply);
        *shared.blocked_until.lock().await = Some(not_before);
    }
    Ok(Some(state))
}

fn open(mail: &MailConfig) -> anyhow::Result<Box<dyn Transport>> {
    crate::mail::transport(mail).context("cannot make the way out for mail")
}

/// Waits for this mail's turn by the configured rate; `false`: told to stop meanwhile.
async fn turn(shared: &Shared, ctx: &Context) -> bool {
    let wait = {
        let mut pace = shared.pace.lock().await;
        let now = ctx.now();
        pace.as_mut().map_or(Duration::ZERO, |pace| (pace.next_at(now) - now).to_std().unwrap_or_default())
    };
    tokio::select! {
        () = shared.stop.cancelled() => false,
        () = tokio::time::sleep(wait) => !shared.stop.is_cancelled(),
    }
}

enum Prepared {
    Ready(Box<Claimed>),
    /// Overtaken: nothing more is to be sent.
    Settled(DeliveryState, String),
    /// Cannot be said just now.
    Later(String),
}

/// Asks again right before the irreversible act: is it still due, is the evidence fresh, is what it says still true?
async fn prepare(ctx: &Context, claimed: Claimed) -> anyhow::Result<Prepared> {
    let delivery = &claimed.delivery;
    let key = &delivery.facts.key;
    // After an unheard answer the customer may have it already: then nothing is dropped, it stays unknown.
    let overtaken = |why: &str| {
        let state = if delivery.unknown_before { DeliveryState::Unknown } else { DeliveryState::Dropped };
        Ok(Prepared::Settled(state, why.to_owned()))
    };
    let Some(member) = ctx.snapshot.member(&key.customer) else {
        return overtaken("the customer is not in the customers file any more");
    };
    let id = std::slice::from_ref(&key.customer);
    let Some(mut state) = ctx.store.customer_states(id).await?.pop() else {
        return overtaken("the customer is not in the store any more");
    };
    let not_before = mailing::not_before(ctx);
    let looked = delivery.evidence_at < not_before;
    if looked {
        match look::check(ctx, member).await? {
            Some(fresh) => state = fresh,
            None => return overtaken("the customer is not in the store any more"),
        }
    }
    let Some(case) = state.cases.into_iter().find(|c| c.campaign == key.campaign) else {
        return overtaken("the case is gone");
    };
    if let Some(why) = not_due(ctx, delivery, &case, &member.customer)? {
        return overtaken(&why);
    }
    let sites = mailing::sites(&case, key.kind, not_before);
    if sites.is_empty() && key.kind.speaks_of() != Standing::Clear {
        return Ok(Prepared::Later("none of its sites could be read right before sending".to_owned()));
    }
    let names: Vec<_> = sites.iter().map(|s| s.name.clone()).collect();
    let today = ctx.snapshot.config.calendar.day(ctx.now());
    if !looked && names == delivery.sites && today == delivery.rendered_for {
        return Ok(Prepared::Ready(Box::new(claimed)));
    }
    let due = due(delivery, &case);
    let dead = super::bounces::Dead::load(ctx).await?;
    let Some(customer) = dead.reachable(&member.customer) else {
        return overtaken("every address of the customer is dead");
    };
    let subject = Subject { snapshot: &ctx.snapshot, customer: &customer, case: &case, due: &due, sites };
    let thread = ctx.store.thread(key).await?;
    let mut message = mailing::compose(&subject, thread, ctx.now())?;
    mailing::seal(ctx, &case, &mut message).await?;
    // Refused once a server may hold a copy: then the same bytes go out again, Date and all.
    if ctx.store.replace_message(delivery.id, &ctx.owner, &message).await? {
        return Ok(Prepared::Ready(Box::new(Claimed { message, ..claimed })));
    }
    Ok(Prepared::Ready(Box::new(claimed)))
}

/// Why a queued notice is not due any more, if it is not.
fn not_due(ctx: &Context, delivery: &Delivery, case: &Case, customer: &Customer) -> anyhow::Result<Option<String>> {
    let key = &delivery.facts.key;
    let campaign = mailing::campaign(&ctx.snapshot, &key.campaign)?;
    let calendar = &ctx.snapshot.config.calendar;
    let today = calendar.day(ctx.now());
    Ok(plan::overtaken(&delivery.facts, case, customer, campaign, calendar, today))
}

/// The due notice a delivery was made from.
fn due(delivery: &Delivery, case: &Case) -> Due {
    let facts = &delivery.facts;
    let previous =
        case.told.iter().filter(|t| t.counts && t.occasion != facts.key.occasion).map(|t| t.deadline).next_back();
    Due {
        kind: facts.key.kind,
        round: facts.key.round,
        milestone: None,
        occasion: facts.key.occasion.clone(),
        deadline: facts.deadline,
        previous_deadline: previous.filter(|_| facts.key.kind == NoticeKind::Rescheduled),
        because: facts.because.clone(),
    }
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

fn log(delivery: &Delivery, attempt: &Attempt, state: &DeliveryState) {
    let (id, customer, kind) = (delivery.id, &delivery.facts.key.customer, delivery.facts.key.kind);
    let reply = &attempt.reply;
    let attempts = delivery.attempts;
    match state {
        DeliveryState::Sent => tracing::info!(delivery = %id, %customer, %kind, "sent: {reply}"),
        DeliveryState::Queued { not_before } => {
            tracing::warn!(delivery = %id, %customer, %kind, attempts, "{}, again at {not_before}: {reply}", attempt.outcome.as_str());
        }
        DeliveryState::Unknown | DeliveryState::Held(_) | DeliveryState::Sending | DeliveryState::Dropped => {
            tracing::warn!(delivery = %id, %customer, %kind, attempts, "{}: {reply}", state.as_str());
        }
        DeliveryState::Failed => tracing::error!(delivery = %id, %customer, %kind, attempts, "failed: {reply}"),
    }
}
