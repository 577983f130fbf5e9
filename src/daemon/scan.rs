//! One scan: every customer looked at once, politely and at bounded concurrency, and what was seen written in batches.
//!
//! Memory does not grow with the fleet beyond the customers file itself: states are loaded in chunks, looks are written as
//! they come. A cancelled scan leaves what it wrote and is marked `interrupted`; its schedule time is then run again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::AssertUnwindSafe;

use anyhow::Context as _;
use chrono::TimeDelta;
use futures_util::FutureExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::alert::{self, Changed};
use super::look::{self, Logon, Looked};
use super::progress::Progress;
use super::{Context, Snapshot};
use crate::domain::Timestamp;
use crate::domain::campaign::{Campaign, Standing};
use crate::domain::case::{CaseEvent, LookKind};
use crate::domain::guard::{self, RefusalStreak};
use crate::domain::observation::{Consent, CustomerLook, Failure, Observation, Reason, Verdict, observations};
use crate::domain::site::CustomerId;
use crate::fleet::{Member, Quarantined};
use crate::store::{
    Begun, Committed, CustomerState, Hold, HoldKind, LookChange, Refused, Run, RunCounts, RunKind, RunOutcome,
    SiteCounts,
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
    /// Customers whose pages did not look as they should.
    pub changed: Changed,
    /// Why a guard stopped it, if one did.
    pub stopped: Option<String>,
    /// It was cancelled before its end.
    pub interrupted: bool,
}

/// What became of the wish to scan.
pub enum Scanned {
    /// It ran.
    Ran(Box<ScanReport>),
    /// This schedule time was scanned already.
    AlreadyDone,
    /// Another scan is running.
    Running(Box<Run>),
}

/// For how long a run is believed alive without a sign of life.
pub const RUN_LEASE: TimeDelta = TimeDelta::minutes(2);

/// Customers whose states are loaded at once, and looks that are written at once.
const CHUNK: usize = 128;

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
    let store = &ctx.store;
    let snapshot = &ctx.snapshot;
    let now = ctx.now();
    if request.no_save {
        let mut scan = Scan::new(ctx, request, progress);
        scan.run(stop, &mut each).await?;
        return Ok(Scanned::Ran(Box::new(scan.report)));
    }
    store.sync_customers(&snapshot.entries(), now).await.context("cannot take note of the customers file")?;
    let begun = store.begin_run(RunKind::Scan, request.due_at, &ctx.owner, now, now + RUN_LEASE).await?;
    let run = match begun {
        Begun::Started(run) => run,
        Begun::AlreadyDone => return Ok(Scanned::AlreadyDone),
        Begun::Running(run) => return Ok(Scanned::Running(run)),
    };
    super::running::remember(ctx, "scan").await;
    let mut scan = Scan::new(ctx, request, progress);
    scan.run_id = Some(run);
    let result = scan.run(stop, &mut each).await;
    let report = scan.report;
    let (outcome, detail) = match &result {
        Err(error) => (RunOutcome::Failed, Some(format!("{error:#}"))),
        Ok(()) if report.interrupted => (RunOutcome::Interrupted, Some("stopped before its end".to_owned())),
        Ok(()) => (RunOutcome::Done, report.stopped.clone()),
    };
    let finished = store.finish_run(run, outcome, report.counts, detail.as_deref(), ctx.now()).await;
    result?;
    finished?;
    ctx.metrics.scan_finished(ctx.now() - now, ctx.now(), outcome == RunOutcome::Done);
    hold_if_suspicious(ctx, &report, scan.known_before).await?;
    alert::after_scan(ctx, request, &report).await;
    Ok(Scanned::Ran(Box::new(report)))
}

async fn hold_if_suspicious(ctx: &Context, report: &ScanReport, known_before: usize) -> anyhow::Result<()> {
    let share = ctx.snapshot.config.safety.hold_if_newly_affected;
    let newly = usize::try_from(report.newly_affected).unwrap_or(usize::MAX);
    if !guard::newly_affected_trips(share, newly, known_before) {
        return Ok(());
    }
    let reason = format!(
        "one scan found {newly} newly affected customers of {known_before} (safety.hold_if_newly_affected): \
         this looks like a misreading; look at `kigen sites --verdict affected`, then `kigen resume`"
    );
    tracing::error!("all customer mail is held: {reason}");
    let hold = Hold { kind: HoldKind::NewlyAffected, reason, set_by: "kigen scan".to_owned(), set_at: ctx.now() };
    ctx.store.set_hold(&hold).await.context("cannot set the hold")
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
    last_sign: Timestamp,
}

/// A customer's look, waiting to be written.
struct Pending {
    state: CustomerState,
    seen: Vec<Observation>,
    refused: Option<Refused>,
    at: Timestamp,
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
            last_sign: ctx.now(),
        }
    }

    async fn run(&mut self, stop: &CancellationToken, each: &mut impl FnMut(&[Observation])) -> anyhow::Result<()> {
        let snapshot = self.snapshot;
        let wanted: BTreeSet<&CustomerId> = self.request.only.iter().collect();
        let chosen = |id: &CustomerId| wanted.is_empty() || wanted.contains(id);
        let members = &snapshot.fleet.members;
        let numbers: Vec<usize> = (0..members.len()).filter(|n| chosen(&members[*n].customer.id)).collect();
        let bad: Vec<&Quarantined> =
            snapshot.fleet.quarantined.iter().filter(|q| q.id.as_ref().is_some_and(chosen)).collect();
        self.progress.total((numbers.len() + bad.len()) as u64);

        self.quarantined(&bad, each).await?;
        let (ctx, no_save) = (self.ctx, self.request.no_save);
        let concurrency = snapshot.config.scan.concurrency.max(1);
        let halt = CancellationToken::new();
        let mut chunks = numbers.chunks(CHUNK);
        let mut waiting = VecDeque::new();
        // Tasks, not futures in this one: a look must go on while what others saw is written.
        let mut looking = JoinSet::new();
        let mut pending = Vec::new();
        loop {
            while looking.len() < concurrency {
                if waiting.is_empty() {
                    let Some(chunk) = chunks.next() else { break };
                    waiting = states(ctx, chunk, no_save).await?;
                    continue;
                }
                let Some((number, state)) = waiting.pop_front() else { break };
                looking.spawn(look_unless_stopped(ctx.clone(), number, state, halt.clone(), stop.clone()));
            }
            let Some(ended) = looking.join_next().await else { break };
            let (number, state, looked) = ended.context("a look ended early")?;
            if looked.is_none() && stop.is_cancelled() {
                self.report.interrupted = true;
                continue;
            }
            let looked = looked.unwrap_or_else(|| self.skipped());
            self.note_logon(&looked, &halt);
            self.take(&members[number], state, looked, &mut pending, each);
            if pending.len() >= CHUNK || self.sign_due() {
                self.write(&mut pending).await?;
            }
        }
        self.write(&mut pending).await
    }

    /// The guard stopped the scan: the rest of the fleet is not looked at, and says so.
    fn skipped(&self) -> Looked {
        let why = self.report.stopped.clone().unwrap_or_else(|| "a guard stopped the scan".to_owned());
        let at = self.ctx.now();
        let sites = Err(Failure::new(Reason::Skipped, why));
        Looked { look: CustomerLook { sites, at }, logon: Logon::NotTried, refused: None }
    }

    fn note_logon(&mut self, looked: &Looked, halt: &CancellationToken) {
        match looked.logon {
            Logon::Good => self.streak.note(false),
            Logon::Refused => self.streak.note(true),
            Logon::NotTried => return,
        }
        if self.streak.tripped() && !halt.is_cancelled() {
            let limit = self.snapshot.config.safety.logon_failures;
            let why = format!(
                "{limit} logons in a row were refused (safety.logon_failures): the scan stopped so that no account is \
                 locked; look at the admin tool and the customers file"
            );
            tracing::error!("{why}");
            self.report.stopped = Some(why);
            halt.cancel();
        }
    }

    fn take(
        &mut self,
        member: &Member,
        state: CustomerState,
        looked: Looked,
        pending: &mut Vec<Pending>,
        each: &mut impl FnMut(&[Observation]),
    ) {
        let seen = observations(&member.customer.id, &looked.look, Consent::NotChecked);
        // A skipped look says nothing of the password: what was remembered stays.
        let skipped = seen.iter().any(|o| o.verdict == Verdict::Unreadable(Reason::Skipped));
        let refused = if skipped { state.refused.clone() } else { looked.refused };
        if state.sites.iter().any(|o| o.site.is_some()) {
            self.known_before += 1;
        }
        self.report.changed.note(&seen);
        self.count(&seen, each);
        pending.push(Pending { state, seen, refused, at: looked.look.at });
    }

    fn count(&mut self, seen: &[Observation], each: &mut impl FnMut(&[Observation])) {
        self.report.counts.customers += 1;
        self.report.counts.sites += seen.len() as u64;
        for observation in seen {
            self.report.sites.add(observation.verdict, 1);
            if let Verdict::Unreadable(reason) = observation.verdict {
                self.report.counts.unreadable += 1;
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
                let state = states.iter().find(|s| s.id == id).cloned().unwrap_or_else(|| unknown(&id));
                pending.push(Pending { refused: state.refused.clone(), state, seen, at });
            }
            self.write(&mut pending).await?;
        }
        Ok(())
    }

    fn sign_due(&self) -> bool {
        self.ctx.now() - self.last_sign >= TimeDelta::seconds(10)
    }

    async fn write(&mut self, pending: &mut Vec<Pending>) -> anyhow::Result<()> {
        let now = self.ctx.now();
        self.last_sign = now;
        if self.request.no_save {
            pending.clear();
            return Ok(());
        }
        // Two tries: a customer that somebody else keeps changing is left for the next scan.
        for _ in 0..2 {
            if pending.is_empty() {
                break;
            }
            let changes: Vec<LookChange> = pending
                .iter()
                .map(|p| look::change(&p.state, &self.campaigns, &p.seen, p.refused.clone(), LookKind::Scan, p.at))
                .collect();
            let committed = self.ctx.store.commit_looks(&changes).await.context("cannot write what was seen")?;
            for (change, done) in changes.iter().zip(&committed) {
                if *done != Committed::Stale {
                    self.report.newly_affected += u64::from(newly_affected(change));
                }
            }
            let written = changes.iter().zip(&committed).filter(|(_, done)| **done != Committed::Stale);
            alert::of_looks(self.ctx, written.map(|(change, _)| change)).await;
            let mut done = committed.iter();
            pending.retain(|_| done.next() == Some(&Committed::Stale));
            self.refresh(pending).await?;
        }
        for left in pending.drain(..) {
            tracing::warn!(customer = %left.state.id, "changed by somebody else at the same time; left for the next scan");
        }
        if let Some(run) = self.run_id {
            self.ctx.store.extend_run(run, self.report.counts, now + RUN_LEASE).await?;
        }
        Ok(())
    }

    async fn refresh(&self, pending: &mut [Pending]) -> anyhow::Result<()> {
        let ids: Vec<CustomerId> = pending.iter().map(|p| p.state.id.clone()).collect();
        if ids.is_empty() {
            return Ok(());
        }
        for fresh in self.ctx.store.customer_states(&ids).await? {
            if let Some(stale) = pending.iter_mut().find(|p| p.state.id == fresh.id) {
                stale.state = fresh;
            }
        }
        Ok(())
    }
}

/// One look, or none where the scan is told to stop or a guard stopped it. A panic costs this customer's look only.
async fn look_unless_stopped(
    ctx: Context,
    number: usize,
    state: CustomerState,
    halt: CancellationToken,
    stop: CancellationToken,
) -> (usize, CustomerState, Option<Looked>) {
    if halt.is_cancelled() || stop.is_cancelled() {
        return (number, state, None);
    }
    let member = &ctx.snapshot.fleet.members[number];
    let looked = tokio::select! {
        // A look writes nothing, so it may be dropped half-way.
        () = stop.cancelled() => None,
        looked = AssertUnwindSafe(look::look(&ctx, member, &state)).catch_unwind() => {
            Some(looked.unwrap_or_else(|_| panicked(&ctx, &state)))
        }
    };
    (number, state, looked)
}

fn panicked(ctx: &Context, state: &CustomerState) -> Looked {
    tracing::error!(customer = %state.id, "looking at this customer failed inside kigen; please report it");
    let failure = Failure::new(Reason::LayoutChanged, "looking at this customer failed inside kigen; see the log");
    let look = CustomerLook { sites: Err(failure), at: ctx.now() };
    Looked { look, logon: Logon::NotTried, refused: state.refused.clone() }
}

/// The customers of a chunk, by their number in the file, with their states; one that is unknown to the store
/// (`--no-save` before the first scan) has a blank state.
async fn states(ctx: &Context, chunk: &[usize], no_save: bool) -> anyhow::Result<VecDeque<(usize, CustomerState)>> {
    let id = |number: &usize| &ctx.snapshot.fleet.members[*number].customer.id;
    let ids: Vec<CustomerId> = chunk.iter().map(|n| id(n).clone()).collect();
    let mut known: BTreeMap<CustomerId, CustomerState> =
        ctx.store.customer_states(&ids).await?.into_iter().map(|s| (s.id.clone(), s)).collect();
    let state = |number: &usize| {
        let state = known.remove(id(number));
        if state.is_none() && !no_save {
            tracing::error!(customer = %id(number), "the store does not know this customer");
        }
        (*number, state.unwrap_or_else(|| unknown(id(number))))
    };
    Ok(chunk.iter().map(state).collect())
}

fn unknown(id: &CustomerId) -> CustomerState {
    CustomerState { id: id.clone(), version: 0, refused: None, cases: Vec::new(), sites: Vec::new() }
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

fn newly_affected(change: &LookChange) -> bool {
    let begun = |event: &CaseEvent| matches!(event, CaseEvent::Opened | CaseEvent::Reopened { .. });
    change.events.iter().any(|(campaign, event)| {
        begun(event) && change.cases.iter().any(|c| c.campaign == *campaign && c.any(Standing::Affected))
    })
}
