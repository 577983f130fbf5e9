//! From the outbox to the server: claim, look again, send, record.
//!
//! A worker owns one connection and settles each mail before the next one begins, so a crash leaves at most one mail a
//! connection in doubt. Nothing here is cancelled between the first byte and the record of its outcome; a stop takes
//! effect between two mails. A worker that meets an error goes on with the next mail: one bad mail, a busy disk or a secret
//! that cannot be read just now must not end the delivery of all others.
//!
//! `stock` claims mails ahead for all workers, `line` gives turns by the rate, `ready` looks again, `chain` sends one mail
//! after the other, `outcome` writes down what became of each.

mod blocked;
mod chain;
mod hosts;
mod line;
mod outcome;
mod ready;
mod stock;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use chrono::TimeDelta;
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;

use self::blocked::Blocked;
use self::chain::{Next, Step};
use self::hosts::Hosts;
use self::line::{Line, Place};
use self::outcome::{End, WayOut, named};
use self::stock::{Orders, Supply};
use super::progress::Progress;
use super::{Context, alert, cluster, local, operators, reload::Live};
use crate::config::{MailConfig, Mode, TransportConfig};
use crate::domain::delivery::{Attempt, BLOCKED_WAIT, DeliveryId, DeliveryState, Outcome};
use crate::mail::Transport;
use crate::mail::pace::Pace;
use crate::store::{RunCounts, SiteCounts, StoreError};

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
    /// In whose name mails are claimed, begun and recorded. One for all workers: a mail is in the hands of one of them, and
    /// the statements that begin and record it go through once.
    owner: String,
    line: Arc<Line>,
    done: Mutex<Delivered>,
    until: Until,
    wake: Arc<Notify>,
    stop: CancellationToken,
    blocked: Blocked,
    hosts: Hosts,
    way_out: WayOut,
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
        way_out: WayOut::default(),
        line: Arc::new(match (pace, ctx.store.shared()) {
            (Some(pace), true) => Line::of_all_nodes(pace, Arc::clone(&ctx.store), ctx.now()),
            (pace, _) => Line::new(pace, ctx.now()),
        }),
        owner,
        live,
        done: Mutex::default(),
        until,
        wake,
        stop: stop.child_token(),
    });
    let mut workers = tokio::task::JoinSet::new();
    let (orders, clerk) = stock::open(Arc::clone(&shared), connections);
    workers.spawn(clerk);
    for number in 0..connections {
        let (shared, orders, progress) = (Arc::clone(&shared), orders.clone(), Arc::clone(&progress));
        let (counts, next) = (RunCounts::default(), Next::Unasked);
        let worker = Worker { shared, number, orders, progress, counts, way: None, next };
        workers.spawn(worker.run());
    }
    // The workers' are the last ones: with them the stock ends.
    drop(orders);
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
        let end = End::new(ctx, owner, orphan.delivery, attempt);
        outcome::record(ctx, &end, &WayOut::default()).await?;
    }
    Ok(())
}

/// One connection, and what is known of the mail after this one.
struct Worker {
    shared: Arc<Shared>,
    number: usize,
    orders: Orders,
    progress: Arc<dyn Progress>,
    counts: RunCounts,
    way: Option<Box<dyn Transport>>,
    next: Next,
}

impl Worker {
    async fn run(mut self) -> anyhow::Result<()> {
        let result = self.rounds().await;
        self.give_back_next().await;
        if let Some(mut way) = self.way.take() {
            way.close().await;
        }
        tracing::debug!(number = self.number, "mail worker ends");
        result
    }

    async fn rounds(&mut self) -> anyhow::Result<()> {
        let shared = Arc::clone(&self.shared);
        let mut orphans_at = tokio::time::Instant::now();
        while !shared.stop.is_cancelled() {
            // Register for the wake-up before looking, or one between the look and the wait would be lost.
            let woken = shared.wake.notified();
            let ctx = shared.live.context();
            if ctx.life.rests().is_some() {
                self.give_back_next().await;
                tokio::select! {
                    () = shared.stop.cancelled() => {}
                    () = tokio::time::sleep(POLL) => {}
                }
                continue;
            }
            let first = self.number == 0;
            if first && ctx.store.shared() && orphans_at.elapsed() >= ORPHANS_EVERY {
                orphans_at = tokio::time::Instant::now();
                // In a name of its own: what this node itself had for too long is an orphan too.
                if let Err(error) = recover(&ctx, &format!("{}#0", shared.owner), false).await {
                    tracing::error!("what other nodes left in flight is not settled yet: {error:#}");
                }
            }
            match if first { tell_operators(&shared, &ctx, &mut self.way).await } else { Ok(false) } {
                Ok(true) => continue,
                Ok(false) => {}
                // Customers' mail goes on; the next round tries again.
                Err(error) => tracing::error!("the operators' mail rests: {error:#}"),
            }
            let wait = match self.send_some(&ctx).await {
                Ok(Step::Again) => continue,
                Ok(Step::NotYet(wait)) => wait,
                Ok(Step::Idle(_)) if shared.until == Until::Drained => return Ok(()),
                Ok(Step::Idle(wait)) => wait.min(POLL),
                Err(error) if shared.until == Until::Drained => return Err(error),
                Err(error) => {
                    tracing::error!("mail delivery rests for {} s: {error:#}", ERROR_WAIT.as_secs());
                    ERROR_WAIT
                }
            };
            if let Some(mut idle) = self.way.take() {
                idle.close().await;
            }
            tokio::select! {
                () = woken => {}
                () = shared.stop.cancelled() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        Ok(())
    }

    /// What is in hand or on its way here goes back to the queue.
    async fn give_back_next(&mut self) {
        let mail = match std::mem::replace(&mut self.next, Next::Unasked) {
            Next::Unasked => None,
            Next::Mail(mail) => Some(mail),
            Next::Asked(order) => match order.answer().await {
                Ok(Supply::Mail(mail)) => Some(mail),
                Ok(Supply::Nothing(_)) | Err(_) => None,
            },
        };
        if let Some(mail) = mail {
            let ctx = self.shared.live.context();
            give_back(&ctx, &self.shared.owner, mail.claimed.delivery.id, "the sender stopped before its turn").await;
        }
    }

    /// One mail is settled.
    async fn tally(&mut self, state: &DeliveryState) {
        let mut done = self.shared.done.lock().await;
        match state {
            DeliveryState::Sent => done.sent += 1,
            DeliveryState::Queued { .. } | DeliveryState::Held(_) | DeliveryState::Sending => done.deferred += 1,
            DeliveryState::Failed => done.failed += 1,
            DeliveryState::Unknown => done.unknown += 1,
            DeliveryState::Dropped => done.dropped += 1,
        }
        drop(done);
        self.counts.queued += 1;
        self.progress.step(&self.counts, &SiteCounts::default());
    }
}

/// Sends one mail to the operators, if one waits: at any hour, in any mode, whatever is held. Only a server that refuses
/// our account keeps it back.
async fn tell_operators(
    shared: &Shared,
    ctx: &Context,
    transport: &mut Option<Box<dyn Transport>>,
) -> anyhow::Result<bool> {
    let (now, owner) = (ctx.now(), shared.owner.as_str());
    if shared.blocked.stands_anywhere(ctx, now).await? {
        return Ok(false);
    }
    let Some(place) = shared.line.enter(1).await?.ok().and_then(|mut places| places.pop()) else { return Ok(false) };
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
async fn turn(shared: &Shared, place: Place) -> anyhow::Result<bool> {
    let Some(wait) = place.turn().await? else { return Ok(false) };
    Ok(wait_for(shared, wait).await)
}

/// `false`: told to stop meanwhile.
async fn wait_for(shared: &Shared, wait: Duration) -> bool {
    if wait.is_zero() {
        return !shared.stop.is_cancelled();
    }
    tokio::select! {
        () = shared.stop.cancelled() => false,
        () = tokio::time::sleep(wait) => !shared.stop.is_cancelled(),
    }
}
