//! One scan: every customer looked at once, politely and at bounded concurrency, and what was seen written in batches.
//!
//! Memory does not grow with the fleet: customers and their order lie outside of it, states are loaded in chunks, looks are
//! written as they come. A scan that is cancelled, or longer than `scan.max_duration`,
//! leaves what it wrote and is marked `interrupted`; its schedule time is then run again, with whom it did not reach.
//! Where nodes share a state, a scheduled scan is shared out (`shares`, `together`).

mod queue;
mod shares;
mod together;
mod turns;
mod writing;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use chrono::TimeDelta;
use futures_util::FutureExt;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use self::queue::{Next, Queue, Waiting};
use self::shares::Shares;
use self::together::{begin, joins};
use self::turns::Turns;
use super::alert;
use super::corroborate;
use super::look::{self, Logon, Looked};
use super::progress::Progress;
use super::{Context, Snapshot};
use crate::connector::breaker::Sign;
use crate::domain::Timestamp;
use crate::domain::campaign::{Campaign, Standing};
use crate::domain::case::{Case, CaseEvent};
use crate::domain::guard::{self, RefusalStreak};
use crate::domain::layout::{HostLayouts, Misread};
use crate::domain::observation::{Consent, CustomerLook, Failure, Observation, Reason, Verdict, observations};
use crate::domain::site::CustomerId;
use crate::fleet::Quarantined;
use crate::microsoft::Told;
use crate::store::{
    Begun, CustomerState, Hold, HoldKind, LookChange, Refused, Run, RunCounts, RunKind, RunOutcome, SiteCounts,
};

/// What to scan.
#[derive(Debug, Clone, Default)]
pub struct ScanRequest {
    /// Only these customers; empty = all.
    pub only: Vec<CustomerId>,
    /// `false`: look and report, write nothing.
    pub no_save: bool,
    /// The schedule's time it stands for.
    pub due_at: Option<Timestamp>,
}

/// How a scan went.
#[derive(Debug, Clone, Default)]
pub struct ScanReport {
    /// Customers, sites, unreadable.
    pub counts: RunCounts,
    /// Sites by verdict.
    pub sites: SiteCounts,
    /// Customers that had no affected site before and have one now.
    pub newly_affected: u64,
    /// Customers whose pages did not look as they should; so many of them mean that the tool changed. One alert, not a thousand.
    pub misread: Misread,
    /// What the pages that were read are made of.
    pub layouts: Vec<HostLayouts>,
    /// Why a guard stopped it, if one did.
    pub stopped: Option<String>,
    /// It was cancelled before its end, or its time was over.
    pub interrupted: bool,
    /// It took longer than `scan.max_duration`; it is `interrupted` then.
    pub out_of_time: bool,
    /// It went on with what an interrupted scan of the same schedule time had not reached.
    pub resumed: bool,
    /// Customers that were really asked: not those with a bad row, a refused password or a host that was given up.
    pub asked: u64,
    /// Unreadable sites (or customers none of whose sites could be listed) by reason.
    pub unreadable_by_reason: BTreeMap<Reason, u64>,
    /// Customers that were not asked because their host was given up (`scan.host_failures`).
    pub not_asked: u64,
}

/// What became of the wish to scan.
pub enum Scanned {
    /// It ran.
    Ran(Box<ScanReport>),
    /// This schedule time was scanned already.
    AlreadyDone,
    /// Another scan is running.
    Running(Box<Run>),
    /// Several nodes ran it, and another one summed it up; this is what this node saw.
    Helped(Box<ScanReport>),
}

/// Looks that are written at once.
const CHUNK: usize = 128;

/// A sign of life, and what waits is written, at least so often.
const SIGN: Duration = Duration::from_secs(10);

/// Signs from one line in the log to the next.
const SIGNS_A_LINE: u32 = 6;

/// How often old observations are looked for.
const PRUNE_EVERY: TimeDelta = TimeDelta::hours(20);

/// Scans. `each` is given a customer's observations as they come.
///
/// # Errors
/// When the store fails; what was written stays.
pub async fn scan(
    ctx: &Context,
    request: &ScanRequest,
    stop: &CancellationToken,
    progress: &dyn Progress,
    mut each: impl FnMut(&[Observation]),
) -> anyhow::Result<Scanned> {
    let (store, snapshot) = (&ctx.store, &ctx.snapshot);
    let now = ctx.now();
    corroborate::begin(ctx).await;
    if request.no_save {
        let mut scan = Scan::new(ctx, request, progress);
        scan.run(stop, &mut each).await?;
        return Ok(Scanned::Ran(Box::new(scan.report)));
    }
    let shared = store.shared() && request.due_at.is_some() && request.only.is_empty();
    if !shared {
        store.sync_customers(&mut snapshot.entries(), now).await.context("cannot take note of the customers file")?;
    }
    let (run, since, lead) = match begin(ctx, request, shared, stop).await? {
        Begun::Started(run) => (run, now, true),
        Begun::AlreadyDone => return Ok(Scanned::AlreadyDone),
        Begun::Running(run) if shared && joins(ctx, request, &run) => (run.id, run.started_at, false),
        Begun::Running(run) => return Ok(Scanned::Running(run)),
    };
    super::running::remember(ctx, "scan").await;
    let mut scan = Scan::new(ctx, request, progress);
    scan.run_id = Some(run);
    if shared {
        // What an earlier try of ours could not give back, as the database was away, would count as under work for ever.
        store.free_shares(run, &ctx.owner).await.context("cannot give back the shares of an earlier try")?;
        scan.shares = Some(Shares::new(ctx, run, since));
        scan.joins = !lead;
    }
    let result = match (shared && lead, request.due_at) {
        (true, _) => {
            store.sync_customers(&mut snapshot.entries(), now).await.context("cannot take note of the customers file")
        }
        (false, _) => Ok(()),
    };
    if let (Some(due_at), true) = (request.due_at, lead) {
        scan.resume_since = store.begun_first(RunKind::Scan, due_at, run).await?;
    }
    let result = match result {
        Ok(()) => scan.run(stop, &mut each).await,
        Err(error) => Err(error),
    };
    corroborate::end_of_scan(ctx).await;
    if shared {
        return scan.end_of_part(run, since, lead, result).await;
    }
    let report = scan.report;
    let (outcome, detail) = outcome(&report, &result);
    let finished = store.finish_run(run, outcome, report.counts, detail.as_deref(), ctx.now()).await;
    result?;
    finished?;
    ctx.metrics.scan_finished(ctx.now() - now, ctx.now(), outcome == RunOutcome::Done);
    hold_if_suspicious(ctx, &report, scan.known_before).await?;
    after(ctx, request, &report, outcome).await;
    Ok(Scanned::Ran(Box::new(report)))
}

fn outcome(report: &ScanReport, result: &anyhow::Result<()>) -> (RunOutcome, Option<String>) {
    match result {
        Err(error) => (RunOutcome::Failed, Some(format!("{error:#}"))),
        Ok(()) if report.out_of_time => (RunOutcome::Interrupted, Some("longer than scan.max_duration".to_owned())),
        Ok(()) if report.interrupted => (RunOutcome::Interrupted, Some("stopped before its end".to_owned())),
        Ok(()) => (RunOutcome::Done, report.stopped.clone()),
    }
}

/// What a scan is followed by.
async fn after(ctx: &Context, request: &ScanRequest, report: &ScanReport, outcome: RunOutcome) {
    alert::after_scan(ctx, request, report).await;
    if request.only.is_empty() {
        strangers(ctx).await;
    }
    if outcome == RunOutcome::Done && report.stopped.is_none() && request.only.is_empty() {
        prune(ctx).await;
    }
}

/// Says how much of an export file is of nobody in the customers file: somebody may be missing there.
async fn strangers(ctx: &Context) {
    /// Ids as another system writes them: of any length, and of any characters.
    const SHOWN: usize = 40;
    let (connector, snapshot) = (Arc::clone(&ctx.connector), Arc::clone(&ctx.snapshot));
    let counting =
        tokio::task::spawn_blocking(move || connector.strangers(&mut snapshot.entries().map(|entry| entry.id)));
    match counting.await {
        Ok(strangers) if strangers.rows > 0 => {
            let shown = |id: &String| id.chars().take(SHOWN).collect::<String>().escape_debug().to_string();
            let first: Vec<String> = strangers.first.iter().map(shown).collect();
            let more = if strangers.customers > first.len() as u64 { ", …" } else { "" };
            let (rows, customers, first) = (strangers.rows, strangers.customers, first.join(", "));
            tracing::warn!(
                rows,
                customers,
                "{rows} row(s) of the export file are of {customers} customer(s) that are not in the customers file: {first}{more}"
            );
        }
        Ok(_) => {}
        Err(error) => tracing::error!("whose rows the export file holds could not be counted: {error}"),
    }
}

async fn hold_if_suspicious(ctx: &Context, report: &ScanReport, known_before: usize) -> anyhow::Result<()> {
    let share = ctx.snapshot.config.safety.hold_if_newly_affected;
    let newly = usize::try_from(report.newly_affected).unwrap_or(usize::MAX);
    if !guard::newly_affected_trips(share, newly, known_before) {
        return Ok(());
    }
    let reason = format!(
        "one scan found {newly} newly affected customers of {known_before} (safety.hold_if_newly_affected): \
         this looks like a misreading; look at `kigen sites --verdict affected --verdict consent_missing`, then \
         `kigen resume`"
    );
    tracing::error!("all customer mail is held: {reason}");
    let hold = Hold { kind: HoldKind::NewlyAffected, reason, set_by: "kigen scan".to_owned(), set_at: ctx.now() };
    ctx.store.set_hold(&hold).await.context("cannot set the hold")
}

/// Forgets what `retention.observations` says. A failure is no failure of the scan.
async fn prune(ctx: &Context) {
    match pruned(ctx).await {
        Ok(0) => {}
        Ok(pruned) => tracing::info!("{pruned} old observations forgotten (retention.observations)"),
        Err(error) => tracing::error!("cannot forget old observations: {:#}", anyhow::Error::from(error)),
    }
}

/// Once a day or so.
async fn pruned(ctx: &Context) -> crate::store::Result<u64> {
    const MEMO: &str = "retention.pruned";
    let now = ctx.now();
    let last = ctx.store.memo(MEMO).await?.and_then(|text| text.parse().ok());
    let last = last.and_then(Timestamp::from_timestamp_millis).filter(|at| *at <= now);
    if last.is_some_and(|at| now - at < PRUNE_EVERY) {
        return Ok(0);
    }
    let before = now - ctx.snapshot.config.retention.observations;
    let pruned = ctx.store.prune_observations(before).await?;
    ctx.store.set_memo(MEMO, &now.timestamp_millis().to_string()).await?;
    Ok(pruned)
}

/// One scan in progress.
struct Scan<'a> {
    ctx: &'a Context,
    snapshot: &'a Snapshot,
    campaigns: Vec<Campaign>,
    request: &'a ScanRequest,
    progress: &'a dyn Progress,
    run_id: Option<crate::store::RunId>,
    streak: RefusalStreak,
    report: ScanReport,
    known_before: usize,
    /// The first run of this schedule time began then.
    resume_since: Option<Timestamp>,
    began_at: Timestamp,
    total: usize,
    /// It is shared out among nodes.
    shares: Option<Shares>,
    /// Another node began it.
    joins: bool,
    /// Logons that the other nodes have not heard of: whether one was accepted, and how many were refused after it.
    logons: (bool, u32),
}

/// A customer's look, waiting to be written.
struct Pending {
    state: CustomerState,
    seen: Vec<Observation>,
    refused: Option<Refused>,
    at: Timestamp,
    asked: bool,
}

impl<'a> Scan<'a> {
    fn new(ctx: &'a Context, request: &'a ScanRequest, progress: &'a dyn Progress) -> Self {
        let snapshot = ctx.snapshot.as_ref();
        Self {
            ctx,
            snapshot,
            campaigns: snapshot.campaigns(),
            request,
            progress,
            run_id: None,
            streak: RefusalStreak::new(snapshot.config.safety.logon_failures),
            report: ScanReport::default(),
            known_before: 0,
            resume_since: None,
            began_at: ctx.now(),
            total: 0,
            shares: None,
            joins: false,
            logons: (false, 0),
        }
    }

    async fn run(&mut self, stop: &CancellationToken, each: &mut impl FnMut(&[Observation])) -> anyhow::Result<()> {
        if self.joins {
            tracing::info!("this node takes a part in the scan that another one began");
            return self.look_at_all(Queue::new(Turns::none(), false), stop, each).await;
        }
        let snapshot = self.snapshot;
        let wanted: BTreeSet<&CustomerId> = self.request.only.iter().collect();
        let chosen = |id: &CustomerId| wanted.is_empty() || wanted.contains(id);
        let bad: Vec<&Quarantined> =
            snapshot.fleet.quarantined.iter().filter(|q| q.id.as_ref().is_some_and(chosen)).collect();
        let turns = turns::order(self.ctx, chosen, self.resume_since).await?;
        self.total = turns.len() + bad.len();
        self.report.resumed = self.resume_since.is_some();
        if self.report.resumed {
            tracing::info!("the scan goes on where it was cut short: {} customers are left", turns.len());
        }
        self.progress.total(self.total as u64);
        self.quarantined(&bad, each).await?;
        drop(self.ctx.connector.take_layouts()); // of looks before this scan
        let turns = match &self.shares {
            Some(shares) => {
                shares.put(self.ctx, turns).await?;
                Turns::none()
            }
            None => turns,
        };
        self.look_at_all(Queue::new(turns, self.request.no_save), stop, each).await?;
        self.report.layouts = self.ctx.connector.take_layouts();
        if self.shares.is_none() {
            self.suspect_layout();
        }
        Ok(())
    }

    fn suspect_layout(&self) {
        let misread = &self.report.misread;
        if misread.tool_changed() {
            tracing::error!(
                "the pages of {} of {} customers are not as they were (layout_changed, unknown_value): the admin tool \
                 itself seems to have changed; look at `kigen sites --verdict unreadable`, and at connector.exlook.labels",
                misread.customers,
                misread.asked
            );
        }
    }

    async fn look_at_all(
        &mut self,
        mut queue: Queue,
        stop: &CancellationToken,
        each: &mut impl FnMut(&[Observation]),
    ) -> anyhow::Result<()> {
        let config = &self.snapshot.config;
        let concurrency = config.scan.concurrency.max(1);
        let began = Instant::now();
        let out_of_time = tokio::time::sleep_until(began + config.patience.max_duration);
        tokio::pin!(out_of_time);
        let mut signs = tokio::time::interval_at(began + SIGN, SIGN);
        signs.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut signed = 0;
        let halt = CancellationToken::new();
        let stop = stop.child_token();
        // Tasks, not futures in this one: a look must go on while what others saw is written.
        let mut looking = JoinSet::new();
        let mut pending = Vec::new();
        loop {
            let mut wake = None;
            while looking.len() < concurrency && !stop.is_cancelled() {
                let (waiting, failure) = match queue.next(self.ctx, self.shares.as_mut()).await? {
                    Next::Look(waiting) if !halt.is_cancelled() => {
                        looking.spawn(look_unless_stopped(self.ctx.clone(), waiting, halt.clone(), stop.clone()));
                        continue;
                    }
                    Next::Look(waiting) => {
                        queue.note(waiting.host.as_deref(), &Sign::Nothing, waiting.probe);
                        (waiting, self.skipped())
                    }
                    Next::GivenUp(waiting, failure) => {
                        self.report.not_asked += 1;
                        (waiting, failure)
                    }
                    Next::Wait(until) => {
                        wake = until;
                        break;
                    }
                    Next::End => break,
                };
                self.take_unasked(waiting, failure, &mut pending, each);
                if pending.len() >= CHUNK {
                    self.write(&mut pending).await?;
                }
            }
            if looking.is_empty() && (wake.is_none() || stop.is_cancelled()) {
                if self.shares.is_some() && !pending.is_empty() && !stop.is_cancelled() {
                    // Only what is written is done; then all nodes together may not be through yet.
                    self.write(&mut pending).await?;
                    continue;
                }
                break;
            }
            if looking.is_empty() && self.shares.is_some() {
                self.write(&mut pending).await?;
            }
            tokio::select! {
                Some(ended) = looking.join_next() => {
                    let (waiting, looked) = ended.context("a look ended early")?;
                    self.ended(waiting, looked, &mut queue, &halt, &stop, &mut pending, each);
                    if self.logons.1 > 0 {
                        self.tell_logons(&halt).await?;
                    }
                    if pending.len() >= CHUNK {
                        self.write(&mut pending).await?;
                    }
                }
                () = wait_until(wake) => {}
                () = stop.cancelled(), if looking.is_empty() => {}
                () = &mut out_of_time, if !self.report.out_of_time => {
                    tracing::warn!("the scan took longer than scan.max_duration; what it did not reach is resumed");
                    self.report.out_of_time = true;
                    stop.cancel();
                }
                _ = signs.tick() => {
                    self.write(&mut pending).await?;
                    self.sign(&halt).await?;
                    signed += 1;
                    if signed % SIGNS_A_LINE == 0 {
                        self.tell(began.elapsed());
                    }
                }
            }
        }
        self.report.interrupted |= stop.is_cancelled();
        self.write(&mut pending).await
    }

    /// A line in the log, once a minute.
    fn tell(&self, took: Duration) {
        let (done, sites) = (self.report.counts.customers, self.report.sites);
        let rate = done as f64 / took.as_secs_f64().max(1.0);
        let left = (self.total as u64).saturating_sub(done) as f64 / rate.max(0.01);
        // A node knows of a shared-out scan what is its own: how much of the rest will be, nobody knows.
        let share = match &self.shares {
            Some(_) => format!("{done} customers by this node, {rate:.1} a second"),
            None => {
                format!("{done} of {} customers, {rate:.1} a second, about {:.0} min left", self.total, left / 60.0)
            }
        };
        tracing::info!(
            "scanning: {share}; {} affected, {} switched, {} consent_missing, {} not_exchange_online, {} unreadable",
            sites.affected,
            sites.switched,
            sites.consent_missing,
            sites.not_exchange_online,
            sites.unreadable,
        );
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one loop")]
    fn ended(
        &mut self,
        waiting: Waiting,
        looked: Option<Looked>,
        queue: &mut Queue,
        halt: &CancellationToken,
        stop: &CancellationToken,
        pending: &mut Vec<Pending>,
        each: &mut impl FnMut(&[Observation]),
    ) {
        let Some(looked) = looked else {
            // Cancelled: no look at all. Halted: it says so, as the rest of the fleet does.
            queue.note(waiting.host.as_deref(), &Sign::Nothing, waiting.probe);
            if !stop.is_cancelled() {
                self.take_unasked(waiting, self.skipped(), pending, each);
            }
            return;
        };
        if let Some(news) = queue.note(waiting.host.as_deref(), &looked.sign(), waiting.probe) {
            tracing::warn!("{news}");
        }
        self.note_logon(&looked, halt);
        self.take(waiting, looked, pending, each);
    }

    /// The guard stopped the scan: the rest of the fleet is not looked at, and says so.
    fn skipped(&self) -> Failure {
        let why = self.report.stopped.clone().unwrap_or_else(|| "a guard stopped the scan".to_owned());
        Failure::new(Reason::Skipped, why)
    }

    /// What was not asked says nothing of the password: what was remembered stays.
    fn take_unasked(
        &mut self,
        waiting: Waiting,
        failure: Failure,
        pending: &mut Vec<Pending>,
        each: &mut impl FnMut(&[Observation]),
    ) {
        let look = CustomerLook { sites: Err(failure), at: self.ctx.now() };
        let refused = waiting.state.refused.clone();
        let told = Told::default();
        self.take(waiting, Looked { look, logon: Logon::NotTried, refused, asked: false, told }, pending, each);
    }

    fn note_logon(&mut self, looked: &Looked, halt: &CancellationToken) {
        if self.shares.is_some() {
            match looked.logon {
                Logon::Good => self.logons = (true, 0),
                Logon::Refused => self.logons.1 += 1,
                Logon::NotTried => {}
            }
            return;
        }
        match looked.logon {
            Logon::Good => self.streak.note(false),
            Logon::Refused => self.streak.note(true),
            Logon::NotTried => return,
        }
        if self.streak.tripped() && !halt.is_cancelled() {
            let why = self.too_many_refused();
            tracing::error!("{why}");
            self.report.stopped = Some(why);
            halt.cancel();
        }
    }

    fn too_many_refused(&self) -> String {
        let limit = self.snapshot.config.safety.logon_failures;
        format!(
            "{limit} logons in a row were refused (safety.logon_failures): the scan stopped so that no account is \
             locked; look at the admin tool and the customers file"
        )
    }

    fn take(
        &mut self,
        waiting: Waiting,
        looked: Looked,
        pending: &mut Vec<Pending>,
        each: &mut impl FnMut(&[Observation]),
    ) {
        let Waiting { state, .. } = waiting;
        let seen = looked.observations(&state.id, &state.sites);
        if looked.asked {
            self.report.asked += 1;
            self.report.misread.note(&seen);
        }
        if state.sites.iter().any(|o| o.site.is_some()) {
            self.known_before += 1;
        }
        self.count(&seen, each);
        pending.push(Pending { state, seen, refused: looked.refused, at: looked.look.at, asked: looked.asked });
    }

    fn count(&mut self, seen: &[Observation], each: &mut impl FnMut(&[Observation])) {
        self.report.counts.customers += 1;
        self.report.counts.sites += seen.len() as u64;
        for observation in seen {
            self.report.sites.add(observation.verdict, 1);
            if let Verdict::Unreadable(reason) = observation.verdict {
                self.report.counts.unreadable += 1;
                *self.report.unreadable_by_reason.entry(reason).or_default() += 1;
                tracing::debug!(
                    customer = %observation.customer,
                    site = observation.site.as_ref().map(ToString::to_string),
                    reason = reason.as_str(),
                    "unreadable: {}",
                    observation.detail.as_deref().unwrap_or_default()
                );
            }
        }
        each(seen);
        self.progress.step(&self.report.counts, &self.report.sites);
    }

    /// Rows with an error: those customers are unreadable, and the rest of the fleet goes on.
    async fn quarantined(&mut self, bad: &[&Quarantined], each: &mut impl FnMut(&[Observation])) -> anyhow::Result<()> {
        let mut done = BTreeSet::new();
        for chunk in bad.chunks(CHUNK) {
            let mut pending = Vec::new();
            let ids: Vec<CustomerId> = chunk.iter().filter_map(|q| q.id.clone()).collect();
            let states = if self.request.no_save { Vec::new() } else { self.ctx.store.customer_states(&ids).await? };
            for row in chunk {
                let Some(id) = row.id.clone() else { continue };
                if !done.insert(id.clone()) || self.snapshot.customers.contains_key(&id) {
                    continue;
                }
                let at = self.ctx.now();
                let look = CustomerLook { sites: Err(inventory_error(row)), at };
                let seen = observations(&id, &look, Consent::NotChecked);
                self.count(&seen, each);
                let state = states.iter().find(|s| s.id == id).cloned().unwrap_or_else(|| queue::unknown(&id));
                pending.push(Pending { refused: state.refused.clone(), state, seen, at, asked: false });
            }
            self.write(&mut pending).await?;
        }
        Ok(())
    }
}

/// Ends at that instant; without one, never.
async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// One look, or none where the scan is told to stop or a guard stopped it. A panic costs this customer's look only.
async fn look_unless_stopped(
    ctx: Context,
    waiting: Waiting,
    halt: CancellationToken,
    stop: CancellationToken,
) -> (Waiting, Option<Looked>) {
    if halt.is_cancelled() || stop.is_cancelled() {
        return (waiting, None);
    }
    let member = &ctx.snapshot.fleet.members.at(waiting.number);
    let looked = tokio::select! {
        // A look writes nothing, so it may be dropped half-way.
        () = stop.cancelled() => None,
        looked = AssertUnwindSafe(look::look(&ctx, member, &waiting.state)).catch_unwind() => {
            Some(looked.unwrap_or_else(|_| panicked(&ctx, &waiting.state)))
        }
    };
    (waiting, looked)
}

fn panicked(ctx: &Context, state: &CustomerState) -> Looked {
    tracing::error!(customer = %state.id, "looking at this customer failed inside kigen; please report it");
    let failure = Failure::new(Reason::LayoutChanged, "looking at this customer failed inside kigen; see the log");
    let look = CustomerLook { sites: Err(failure), at: ctx.now() };
    Looked { look, logon: Logon::NotTried, refused: state.refused.clone(), asked: false, told: Told::default() }
}

fn inventory_error(row: &Quarantined) -> Failure {
    let errors: Vec<String> = row
        .errors
        .iter()
        .map(|e| match &e.column {
            Some(column) => format!("line {}, column {column}: {}", e.line, e.message),
            None => format!("line {}: {}", e.line, e.message),
        })
        .collect();
    Failure::new(Reason::InventoryError, format!("the customers file has an error in this row: {}", errors.join("; ")))
}

/// Without consent counts too: our own mistake (a wrong client_id) would show just so.
fn newly_affected(change: &LookChange) -> bool {
    let to_do = |case: &Case| case.any(Standing::Affected) || case.any(Standing::ConsentMissing);
    let begun = |event: &CaseEvent| matches!(event, CaseEvent::Opened | CaseEvent::Reopened { .. });
    change
        .events
        .iter()
        .any(|(campaign, event)| begun(event) && change.cases.iter().any(|c| c.campaign == *campaign && to_do(c)))
}
