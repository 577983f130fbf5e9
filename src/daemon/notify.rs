//! One notice pass: plan the day from the stored cases, look again at those who have a notice coming, and put each mail,
//! whole, into the outbox. Sending is [`super::deliver`]'s.

mod outbox;
mod prepare;
mod report;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use self::outbox::{CHUNK, Chunk};
use self::prepare::{Prepared, prepare_unless_stopped};
pub use self::report::{Fate, Notified, PassReport};
use super::bounces::{self, Dead};
use super::circuit::Circuit;
use super::corroborate;
use super::planning::{DayPlan, Pages, Planner};
use super::progress::Progress;
use super::running;
use super::{Context, RUN_LEASE, Snapshot, cluster};
use crate::domain::Timestamp;
use crate::domain::campaign::CampaignId;
use crate::domain::case::{CaseEvent, CaseState};
use crate::domain::plan::Planned;
use crate::domain::site::CustomerId;
use crate::store::{Begun, Committed, CustomerState, PassChange, Run, RunId, RunKind, RunOutcome};

/// How often a pass says that it lives, much more often than [`RUN_LEASE`] asks for: its numbers are shown.
const SIGN_OF_LIFE: chrono::TimeDelta = chrono::TimeDelta::seconds(2);

/// How often a notice is made anew because its customer was changed meanwhile.
const STALE_TRIES: usize = 5;

/// How long made notices wait for others to share their commit, while customers are looked at again.
const GATHERED: Duration = Duration::from_secs(1);

/// What became of the wish to pass.
pub enum Passed {
    /// It ran.
    Ran(PassReport),
    /// This schedule time was passed already.
    AlreadyDone,
    /// Another pass is running.
    Running(Box<Run>),
}

/// Runs one pass for the schedule's time `due_at`, or by command.
///
/// # Errors
/// When the store fails; what was queued stays queued.
pub async fn pass(
    ctx: &Context,
    due_at: Option<Timestamp>,
    stop: &CancellationToken,
    progress: &dyn Progress,
) -> anyhow::Result<Passed> {
    let now = ctx.now();
    ctx.store
        .sync_customers(&mut ctx.snapshot.entries(), now)
        .await
        .context("cannot take note of the customers file")?;
    let run = match ctx
        .store
        .begin_run(RunKind::Notices, due_at, &ctx.owner, now, now + cluster::lease(ctx, RUN_LEASE))
        .await?
    {
        Begun::Started(run) => run,
        Begun::AlreadyDone => return Ok(Passed::AlreadyDone),
        Begun::Running(run) => return Ok(Passed::Running(run)),
    };
    running::remember(ctx, "notice pass").await;
    corroborate::begin(ctx).await;
    let mut report = PassReport::default();
    let result = day(ctx, run, &mut report, stop, progress).await;
    corroborate::end(ctx).await;
    let (outcome, detail) = match &result {
        Err(error) => (RunOutcome::Failed, Some(format!("{error:#}"))),
        Ok(()) if report.interrupted => (RunOutcome::Interrupted, Some("stopped before its end".to_owned())),
        Ok(()) => (RunOutcome::Done, report.day_off.map(|off| format!("no business day: {off}"))),
    };
    let finished = ctx.store.finish_run(run, outcome, report.counts(), detail.as_deref(), ctx.now()).await;
    result?;
    finished?;
    super::alert::after_pass(ctx, &report).await;
    Ok(Passed::Ran(report))
}

/// Plans and works the day off, unless it is none.
async fn day(
    ctx: &Context,
    run: RunId,
    report: &mut PassReport,
    stop: &CancellationToken,
    progress: &dyn Progress,
) -> anyhow::Result<()> {
    let snapshot = ctx.snapshot.as_ref();
    let calendar = &snapshot.config.calendar;
    let day = calendar.day(ctx.now());
    if let Some(off) = calendar.day_off(day) {
        report.day_off = Some(off);
        return Ok(());
    }
    bounces::forget_changed(ctx).await.context("cannot look through the dead contacts")?;
    let dead = Arc::new(Dead::load(ctx).await.context("cannot read the dead contacts")?);
    let extended = ctx.now();
    let circuit = Arc::new(Circuit::default());
    let pass = Pass { ctx, snapshot, run, dead, circuit, stop, progress, report, firsts: 0, extended };
    let DayPlan { planned, again, resolved_silently } = pass.plan(day).await?;
    pass.report.resolved_silently = pass.resolve_silently(resolved_silently).await?;
    progress.total((planned.len() + again.len()) as u64);
    pass.work(planned.into_iter().chain(again)).await
}

struct Pass<'a> {
    ctx: &'a Context,
    snapshot: &'a Snapshot,
    run: RunId,
    dead: Arc<Dead>,
    circuit: Arc<Circuit>,
    stop: &'a CancellationToken,
    progress: &'a dyn Progress,
    report: &'a mut PassReport,
    /// First notices queued so far, for the cap.
    firsts: usize,
    /// When it said last that it lives.
    extended: Timestamp,
}

impl Pass<'_> {
    async fn plan(&self, day: chrono::NaiveDate) -> anyhow::Result<DayPlan> {
        let (store, campaigns) = (self.ctx.store.as_ref(), self.snapshot.campaigns());
        let planner = Planner { store, snapshot: self.snapshot, campaigns: &campaigns, dead: &self.dead, day };
        let mut plan = DayPlan::default();
        let mut pages = Pages::new(store, day);
        while let Some(cases) = pages.next().await.context("cannot read the open cases")? {
            let page = planner.page(&cases).await?;
            for (customer, campaign, why) in &page.pass.nothing {
                tracing::debug!(%customer, %campaign, "no notice: {why}");
            }
            plan.add(page);
        }
        Ok(plan.in_order(day))
    }

    /// Makes the notices, several at once, and puts them into the outbox in their order.
    async fn work(mut self, mut waiting: impl Iterator<Item = Planned>) -> anyhow::Result<()> {
        // Tasks, not futures in this one: what holds the store's writer must go on while notices are queued here.
        let mut preparing: VecDeque<JoinHandle<(Planned, Prepared)>> = VecDeque::new();
        let mut chunk = Chunk::default();
        let mut gathered_since = Instant::now();
        loop {
            while preparing.len() < self.snapshot.config.scan.concurrency.max(1) {
                let Some(planned) = waiting.next() else { break };
                preparing.push_back(self.prepare(planned));
            }
            let Some(next) = preparing.front_mut() else { break };
            let made = match chunk.is_empty() {
                true => Some(next.await),
                false => timeout_at(gathered_since + GATHERED, next).await.ok(),
            };
            if let Some(made) = made {
                preparing.pop_front();
                let (planned, made) = made.context("making a notice ended early")?;
                if chunk.is_empty() {
                    gathered_since = Instant::now();
                }
                match made {
                    None => self.report.interrupted = true,
                    Some(made) => {
                        chunk.add(planned, made.unwrap_or_else(|error| Err(Fate::Failed(format!("{error:#}")))));
                    }
                }
                if !chunk.is_full() {
                    continue;
                }
            }
            self.commit(&mut chunk).await?;
            self.live().await?;
        }
        self.commit(&mut chunk).await
    }

    fn prepare(&self, planned: Planned) -> JoinHandle<(Planned, Prepared)> {
        let (dead, circuit) = (Arc::clone(&self.dead), Arc::clone(&self.circuit));
        tokio::spawn(prepare_unless_stopped(self.ctx.clone(), dead, circuit, planned, self.stop.clone()))
    }

    /// Says every so often that the pass lives.
    async fn live(&mut self) -> anyhow::Result<()> {
        let now = self.ctx.now();
        if now < self.extended || now - self.extended >= SIGN_OF_LIFE {
            let lease_until = now + cluster::lease(self.ctx, RUN_LEASE);
            self.ctx.store.extend_run(self.run, self.report.counts(), lease_until).await?;
            self.extended = now;
        }
        Ok(())
    }

    /// Resolves these cases; how many it did. One that is not to be resolved any more is left, and so is a customer that
    /// others keep changing: the next pass decides anew.
    async fn resolve_silently(&self, cases: Vec<(CustomerId, CampaignId)>) -> anyhow::Result<u64> {
        let mut done = 0;
        for chunk in cases.chunks(CHUNK) {
            let mut left = chunk.to_vec();
            // Of several cases of one customer each round resolves one.
            for _ in 0..STALE_TRIES {
                let (changes, ids) = self.resolved(&left).await?;
                let committed = self.ctx.store.commit_passes(&changes).await?;
                left.clear();
                for (committed, id) in committed.into_iter().zip(ids) {
                    match committed? {
                        Committed::Done(_) => done += 1,
                        Committed::Stale => left.push(id),
                        Committed::Duplicate => {}
                    }
                }
                if left.is_empty() {
                    break;
                }
            }
        }
        Ok(done)
    }

    async fn resolved(
        &self,
        cases: &[(CustomerId, CampaignId)],
    ) -> anyhow::Result<(Vec<PassChange>, Vec<(CustomerId, CampaignId)>)> {
        let at = self.ctx.now();
        let customers: Vec<CustomerId> = cases.iter().map(|(customer, _)| customer.clone()).collect();
        let states = self.ctx.store.customer_states(&customers).await?;
        let change = |(customer, campaign): &(CustomerId, CampaignId)| {
            let state: &CustomerState = states.iter().find(|state| state.id == *customer)?;
            let mut case = state.cases.iter().find(|case| case.campaign == *campaign)?.clone();
            if !case.confirmed_clear(self.snapshot.policy().confirm_resolved) {
                return None;
            }
            case.state = CaseState::Resolved { at };
            let events = vec![CaseEvent::Resolved { silently: true }];
            let (customer, version) = (customer.clone(), state.version);
            let id = (customer.clone(), campaign.clone());
            Some((PassChange { customer, version, case, events, delivery: None, at }, id))
        };
        Ok(cases.iter().filter_map(change).unzip())
    }
}
