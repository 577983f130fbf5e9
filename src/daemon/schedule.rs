//! When runs are due. The truth is computed from the stored runs, the cron expressions and the clock; tokio-cron-scheduler
//! only says "look now", so that a lost, late or double tick does no harm.
//!
//! A schedule time that passed while the daemon was down is run once, at the next start. Runs of one kind never overlap,
//! and of one look at the schedules a scan goes before a notice pass: the pass then works with today's truth.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use chrono::TimeDelta;
use tokio::sync::{Mutex, Notify, mpsc};
use tokio::time::Instant;
use tokio_cron_scheduler::{Job, JobScheduler};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::progress::Progress;
use super::reload::Live;
use super::scan::{ScanRequest, Scanned};
use super::{Context, bounces, digest, local, notify, scan, webhook};
use crate::config::{Config, Cron, ScheduleConfig};
use crate::domain::Timestamp;
use crate::store::{Result, RunKind};

/// The kinds that this version runs, in the order in which those due at the same look are run.
pub const KINDS: [RunKind; 4] = [RunKind::Bounces, RunKind::Scan, RunKind::Digest, RunKind::Notices];

/// Whether a kind has anything to do by this configuration.
#[must_use]
pub fn is_on(config: &Config, kind: RunKind) -> bool {
    KINDS.contains(&kind) && (kind != RunKind::Bounces || config.mail.bounces.is_some())
}

/// How often the schedules are looked at without a tick.
const RECONCILE: Duration = Duration::from_secs(30);

/// How often it is asked whether the clock was set.
const CLOCK_LOOK: Duration = Duration::from_secs(2);

/// How long a run that failed is left alone.
const FAILED_WAIT: TimeDelta = TimeDelta::minutes(5);

/// The expression of a kind.
#[must_use]
pub fn cron(schedule: &ScheduleConfig, kind: RunKind) -> &Cron {
    match kind {
        RunKind::Scan => &schedule.scan,
        RunKind::Notices => &schedule.notices,
        RunKind::Digest => &schedule.digest,
        RunKind::Bounces => &schedule.bounces,
    }
}

/// The schedule time that is due for a kind now, if one is.
///
/// `last`: the newest schedule time that was run; `since`: from when on this expression counts (a changed one, or the
/// first start, makes nothing due that lies before it). Many missed times are one run, for the latest of them.
#[must_use]
pub fn due(latest: Option<Timestamp>, last: Option<Timestamp>, since: Timestamp) -> Option<Timestamp> {
    latest.filter(|at| *at > since && last.is_none_or(|last| *at > last))
}

/// From when on a kind's expression counts: remembered with the expression, and begun anew when it changes.
async fn since(ctx: &Context, kind: RunKind, expression: &str, now: Timestamp) -> Result<Timestamp> {
    let key = format!("schedule.{}", kind.as_str());
    let known = ctx.store.memo(&key).await?;
    let remembered = known.as_deref().and_then(|text| text.split_once(' ')).and_then(|(millis, known)| {
        (known == expression).then(|| Timestamp::from_timestamp_millis(millis.parse().ok()?)).flatten()
    });
    match remembered {
        // A clock that was set back must not make a schedule wait for the old time to come again.
        Some(since) if since <= now => Ok(since),
        _ => {
            ctx.store.set_memo(&key, &format!("{} {expression}", now.timestamp_millis())).await?;
            Ok(now)
        }
    }
}

/// What is due now, in the order to run it.
async fn due_now(ctx: &Context) -> Result<Vec<(RunKind, Timestamp)>> {
    let now = ctx.now();
    let config = &ctx.snapshot.config;
    let mut all = Vec::new();
    for kind in KINDS.into_iter().filter(|kind| is_on(config, *kind)) {
        let cron = cron(&config.schedule, kind);
        let since = since(ctx, kind, &format!("{} {}", cron.as_str(), config.calendar.zone), now).await?;
        let last = ctx.store.last_scheduled(kind).await?.and_then(|run| run.due_at);
        // A run "in the future" is one from before the clock was set back; it says nothing.
        let last = last.filter(|at| *at <= now);
        let mut at = due(cron.last_until(now, config.calendar.zone), last, since);
        if at.is_none() && kind == RunKind::Scan {
            at = shared_out(ctx).await?;
        }
        all.extend(at.map(|at| (kind, at)));
    }
    Ok(all)
}

/// The schedule time of a scan that another node has shared out and that is not over. It is everybody's: whoever began it may
/// be gone, and a node that read a new expression after that time would leave it alone.
async fn shared_out(ctx: &Context) -> Result<Option<Timestamp>> {
    if !ctx.store.shared() {
        return Ok(None);
    }
    let run = ctx.store.last_run(RunKind::Scan, false).await?;
    Ok(run.filter(|run| run.finished_at.is_none() && run.fleet.is_some()).and_then(|run| run.due_at))
}

/// When a kind runs next.
#[must_use]
pub fn next(ctx: &Context, kind: RunKind) -> Option<Timestamp> {
    let config = &ctx.snapshot.config;
    cron(&config.schedule, kind).next_after(ctx.now(), config.calendar.zone)
}

/// What the schedule shares with the watchdog and the runs.
pub struct Scheduler {
    live: Arc<Live>,
    wake_mail: Arc<Notify>,
    stop: CancellationToken,
    tracker: TaskTracker,
    progress: Arc<dyn Progress>,
    /// Beats once a look at the schedules: the watchdog's proof of life.
    /// By the clock that nobody sets: setting the other one must not look like death.
    pub heartbeat: Arc<tokio::sync::watch::Sender<Instant>>,
}

impl Scheduler {
    /// Runs what is due, until told to stop. `wake_mail` is woken when a pass put something into the outbox.
    #[must_use]
    pub fn new(
        live: Arc<Live>,
        wake_mail: Arc<Notify>,
        stop: CancellationToken,
        tracker: TaskTracker,
        progress: Arc<dyn Progress>,
    ) -> Self {
        let now = Instant::now();
        Self { live, wake_mail, stop, tracker, progress, heartbeat: Arc::new(tokio::sync::watch::Sender::new(now)) }
    }

    /// The loop: on every tick, on `changed` (a reload), and every 30 seconds.
    ///
    /// # Errors
    /// When the store fails at the first look; later failures are logged and the next look is the retry.
    pub async fn run(self, changed: Arc<Notify>) -> anyhow::Result<()> {
        let (tick, mut ticks) = mpsc::channel(16);
        let mut ticker = Ticker::start(tick).await;
        ticker.register(&self.live.context()).await;
        let slots = Arc::new(Mutex::new(Slots::default()));
        due_now(&self.live.context()).await.context("cannot look at the schedules")?;
        let mut steps = ClockSteps::new(self.live.context().now());
        loop {
            self.reconcile(&slots).await;
            self.heartbeat.send_replace(Instant::now());
            let until = Instant::now() + self.reconcile_every();
            let mut idle = true;
            while idle && Instant::now() < until {
                tokio::select! {
                    () = self.stop.cancelled() => idle = false,
                    _ = ticks.recv() => idle = false,
                    () = changed.notified() => {
                        ticker.register(&self.live.context()).await;
                        idle = false;
                    }
                    () = tokio::time::sleep(CLOCK_LOOK) => {}
                }
                if let Some(step) = steps.look(self.live.context().now()) {
                    tracing::warn!(
                        "the clock moved by {} s besides the time that passed (it was set, or the machine slept); the \
                         schedules follow it",
                        step.num_seconds()
                    );
                    ticker.renew(&self.live.context()).await;
                    idle = false;
                }
            }
            if self.stop.is_cancelled() {
                break;
            }
        }
        ticker.stop().await;
        Ok(())
    }

    /// Nodes look as often as one of them may die.
    fn reconcile_every(&self) -> Duration {
        let ctx = self.live.context();
        let lease = ctx.snapshot.config.cluster.lease.to_std().unwrap_or(RECONCILE);
        if ctx.store.shared() { RECONCILE.min(lease) } else { RECONCILE }
    }

    async fn reconcile(&self, slots: &Arc<Mutex<Slots>>) {
        let ctx = self.live.context();
        if ctx.life.rests().is_some() {
            return;
        }
        let due = match due_now(&ctx).await {
            Ok(due) => due,
            Err(error) => {
                tracing::error!("cannot look at the schedules: {:#}", anyhow::Error::from(error));
                return;
            }
        };
        // Another node may die in a run that is not ours: then it is ours soon.
        let wait = if ctx.store.shared() { ctx.snapshot.config.cluster.lease.min(FAILED_WAIT) } else { FAILED_WAIT };
        let batch = slots.lock().await.take(due, ctx.now(), wait);
        if batch.is_empty() {
            return;
        }
        let (stop, wake, progress, slots) =
            (self.stop.clone(), Arc::clone(&self.wake_mail), Arc::clone(&self.progress), Arc::clone(slots));
        self.tracker.spawn(async move {
            for (kind, at) in batch {
                let mut done_already = false;
                if !stop.is_cancelled() {
                    done_already = run(&ctx, kind, at, &stop, progress.as_ref()).await;
                    wake.notify_waiters();
                }
                slots.lock().await.ended(kind, at, done_already);
            }
        });
    }
}

/// The schedule times in hand: what runs, what failed a moment ago, what turned out to be done.
#[derive(Debug, Default)]
struct Slots {
    busy: BTreeSet<RunKind>,
    /// When each was begun. A run is believed failed until the store says otherwise: a panic must not become a loop.
    failed: BTreeMap<(RunKind, Timestamp), Timestamp>,
    /// After the clock was set back the same times come again: each is asked about once, not every five minutes.
    done: BTreeMap<RunKind, Timestamp>,
}

impl Slots {
    /// What of `due` is to be run now; what failed waits that long.
    fn take(&mut self, due: Vec<(RunKind, Timestamp)>, now: Timestamp, wait: TimeDelta) -> Vec<(RunKind, Timestamp)> {
        self.failed.retain(|_, at| now - *at < wait && *at <= now);
        let batch: Vec<_> = due
            .into_iter()
            .filter(|(kind, at)| !self.busy.contains(kind) && self.done.get(kind) != Some(at))
            .filter(|slot| !self.failed.contains_key(slot))
            .collect();
        for (kind, at) in &batch {
            self.busy.insert(*kind);
            self.failed.insert((*kind, *at), now);
        }
        batch
    }

    fn ended(&mut self, kind: RunKind, at: Timestamp, done_already: bool) {
        self.busy.remove(&kind);
        if done_already {
            self.done.insert(kind, at);
        }
    }
}

/// Sees the clock being set: it then moves otherwise than the time that passes.
struct ClockSteps {
    wall: Timestamp,
    passed: Instant,
}

impl ClockSteps {
    /// Less is a clock being kept right.
    const LEAST: TimeDelta = TimeDelta::seconds(5);

    fn new(now: Timestamp) -> Self {
        Self { wall: now, passed: Instant::now() }
    }

    /// How far it was set since the last look, if it was.
    fn look(&mut self, now: Timestamp) -> Option<TimeDelta> {
        let passed = TimeDelta::from_std(self.passed.elapsed()).unwrap_or(TimeDelta::MAX);
        let step = now.signed_duration_since(self.wall).checked_sub(&passed)?;
        *self = Self::new(now);
        (step.abs() >= Self::LEAST).then_some(step)
    }
}

/// One scheduled run, to its end; what goes wrong is logged here, once. `true`: this time had been run to its end before.
async fn run(ctx: &Context, kind: RunKind, at: Timestamp, stop: &CancellationToken, progress: &dyn Progress) -> bool {
    let (word, due) = (kind.as_str(), local(ctx, at));
    tracing::info!(kind = word, "{word} run due at {due} begins");
    let result = match kind {
        RunKind::Scan => {
            let request = ScanRequest { due_at: Some(at), ..ScanRequest::default() };
            let scanned = scan::scan(ctx, &request, stop, progress, |_| {}).await;
            if let Ok(Scanned::Ran(report)) = &scanned
                && !report.interrupted
                && report.stopped.is_none()
            {
                heartbeat(ctx);
            }
            scanned.map(self::scanned)
        }
        RunKind::Notices => {
            let passed = notify::pass(ctx, Some(at), stop, progress).await;
            if let Ok(notify::Passed::Ran(report)) = &passed
                && !report.interrupted
            {
                heartbeat(ctx);
            }
            passed.map(self::passed)
        }
        RunKind::Digest => digest::digest(ctx, Some(at)).await.map(digested),
        RunKind::Bounces => bounces::read(ctx, Some(at), stop).await.map(came_back),
    };
    let done_already = matches!(result, Ok(None));
    match result {
        Ok(Some(text)) => tracing::info!(kind = word, "{word} run due at {due}: {text}"),
        Ok(None) => tracing::info!(kind = word, "{word} run due at {due}: done already"),
        Err(error) => tracing::error!(kind = word, "{word} run due at {due} failed: {error:#}"),
    }
    done_already
}

/// Tells the dead man's switch outside that a run went well.
fn heartbeat(ctx: &Context) {
    if let Some(url) = ctx.snapshot.config.alerts.heartbeat.clone() {
        // Apart: neither the next run nor a stop waits for it.
        tokio::spawn(async move { webhook::heartbeat(&url).await });
    }
}

/// How each kind ended, in words; `None`: done already.
fn digested(digested: digest::Digested) -> Option<String> {
    Some(match digested {
        digest::Digested::Queued => "queued for the operators".to_owned(),
        digest::Digested::Nothing(why) => format!("no digest: {why}"),
        digest::Digested::AlreadyDone => return None,
        digest::Digested::Running(run) => format!("another one is being made since {} ({})", run.started_at, run.owner),
    })
}

fn scanned(scanned: Scanned) -> Option<String> {
    Some(match scanned {
        Scanned::Ran(report) => {
            let (c, s) = (report.counts, report.sites);
            format!(
                "{} customers, {} sites: {} affected, {} switched, {} consent_missing, {} not_exchange_online, \
                 {} unreadable{}",
                c.customers,
                c.sites,
                s.affected,
                s.switched,
                s.consent_missing,
                s.not_exchange_online,
                s.unreadable,
                if report.interrupted { "; stopped before its end" } else { "" },
            )
        }
        Scanned::Helped(report) => {
            let c = report.counts;
            format!("this node's part: {} customers, {} sites, {} unreadable", c.customers, c.sites, c.unreadable)
        }
        Scanned::AlreadyDone => return None,
        Scanned::Running(run) => format!("another scan runs since {} ({})", run.started_at, run.owner),
    })
}

fn came_back(bounces: bounces::Bounces) -> Option<String> {
    Some(match bounces {
        bounces::Bounces::Ran(counts) => bounces::describe(&counts),
        bounces::Bounces::AlreadyDone => return None,
        bounces::Bounces::Running(run) => format!("another one reads since {} ({})", run.started_at, run.owner),
        bounces::Bounces::Off => "off".to_owned(),
    })
}

fn passed(passed: notify::Passed) -> Option<String> {
    Some(match passed {
        notify::Passed::Ran(report) => {
            let counts = report.counts();
            match report.day_off {
                Some(off) => format!("nothing is sent today: {off}"),
                None => format!("{} planned, {} queued, {} held", report.notices.len(), counts.queued, counts.held),
            }
        }
        notify::Passed::AlreadyDone => return None,
        notify::Passed::Running(run) => format!("another pass runs since {} ({})", run.started_at, run.owner),
    })
}

/// tokio-cron-scheduler as a mere ticker: its jobs only knock. One scheduler for the life of the process; on a change of
/// expression or zone the job is added anew and the old one removed (0.15 leaks when schedulers are replaced).
struct Ticker {
    scheduler: Option<JobScheduler>,
    jobs: BTreeMap<RunKind, (String, uuid::Uuid)>,
    tick: mpsc::Sender<()>,
}

/// No call into the scheduler may hang the daemon: without ticks the 30-second look carries on.
const TICKER_TIMEOUT: Duration = Duration::from_secs(5);

impl Ticker {
    async fn start(tick: mpsc::Sender<()>) -> Self {
        let started = tokio::time::timeout(TICKER_TIMEOUT, async {
            let scheduler = JobScheduler::new_with_channel_size(1024).await?;
            scheduler.start().await?;
            Ok::<_, tokio_cron_scheduler::JobSchedulerError>(scheduler)
        });
        let scheduler = match started.await {
            Ok(Ok(scheduler)) => Some(scheduler),
            Ok(Err(error)) => {
                tracing::error!("the ticker did not start, schedules are looked at every 30 s: {error}");
                None
            }
            Err(_) => {
                tracing::error!("the ticker did not start in time, schedules are looked at every 30 s");
                None
            }
        };
        Self { scheduler, jobs: BTreeMap::new(), tick }
    }

    async fn register(&mut self, ctx: &Context) {
        let Some(scheduler) = &self.scheduler else { return };
        let config = &ctx.snapshot.config;
        let zone = config.calendar.zone;
        for kind in KINDS.into_iter().filter(|kind| is_on(config, *kind)) {
            let expression = cron(&config.schedule, kind).six_fields();
            let wanted = format!("{expression} {zone}");
            if self.jobs.get(&kind).is_some_and(|(known, _)| *known == wanted) {
                continue;
            }
            let tick = self.tick.clone();
            let job = Job::new_async_tz(expression.as_str(), zone, move |_, _| {
                let tick = tick.clone();
                Box::pin(async move {
                    // A full channel means that a look is due anyway.
                    let _ = tick.try_send(());
                })
            });
            let added = match job {
                Ok(job) => tokio::time::timeout(TICKER_TIMEOUT, scheduler.add(job)).await,
                Err(error) => Ok(Err(error)),
            };
            match added {
                Ok(Ok(id)) => {
                    if let Some((_, old)) = self.jobs.insert(kind, (wanted, id)) {
                        let _ = tokio::time::timeout(TICKER_TIMEOUT, scheduler.remove(&old)).await;
                    }
                }
                Ok(Err(error)) => tracing::error!(kind = kind.as_str(), "no ticks, looked at every 30 s: {error}"),
                Err(_) => tracing::error!(kind = kind.as_str(), "no ticks, looked at every 30 s: the ticker hangs"),
            }
        }
    }

    /// All jobs anew: they count from the clock as it is now.
    async fn renew(&mut self, ctx: &Context) {
        for (known, _) in self.jobs.values_mut() {
            known.clear();
        }
        self.register(ctx).await;
    }

    async fn stop(mut self) {
        if let Some(mut scheduler) = self.scheduler.take() {
            let _ = tokio::time::timeout(TICKER_TIMEOUT, scheduler.shutdown()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn a_time_that_was_run_before_the_clock_was_set_back_is_asked_about_once() {
        let (six, now) = (at("2022-09-01T06:00:00Z"), at("2022-09-01T06:00:10Z"));
        let due = || vec![(RunKind::Scan, six), (RunKind::Notices, six)];
        let mut slots = Slots::default();
        assert_eq!(slots.take(due(), now, FAILED_WAIT), due());
        assert_eq!(slots.take(due(), now, FAILED_WAIT), [], "both run");
        slots.ended(RunKind::Scan, six, true);
        slots.ended(RunKind::Notices, six, false);
        assert_eq!(
            slots.take(due(), now + TimeDelta::minutes(1), FAILED_WAIT),
            [],
            "the pass failed just now, the scan was done"
        );
        let later = now + TimeDelta::minutes(6);
        assert_eq!(
            slots.take(due(), later, FAILED_WAIT),
            [(RunKind::Notices, six)],
            "what failed is tried again, what is done is not"
        );
        let next = (RunKind::Scan, six + TimeDelta::hours(12));
        assert_eq!(slots.take(vec![next], six + TimeDelta::hours(12), FAILED_WAIT), [next], "the next time is another");
    }

    #[test]
    fn what_was_begun_in_a_future_that_is_gone_says_nothing() {
        let six = at("2022-09-01T06:00:00Z");
        let mut slots = Slots::default();
        slots.take(vec![(RunKind::Scan, six)], six + TimeDelta::minutes(3), FAILED_WAIT);
        slots.ended(RunKind::Scan, six, false);
        assert_eq!(slots.take(vec![(RunKind::Scan, six)], six, FAILED_WAIT), [(RunKind::Scan, six)]);
    }
}
