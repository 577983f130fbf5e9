//! One notice pass: plan the day from the stored cases, look again at those who have a notice coming, and put each mail,
//! whole, into the outbox. Sending is [`super::deliver`]'s.

use std::collections::VecDeque;
use std::sync::Arc;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use super::bounces::{self, Dead};
use super::circuit::Circuit;
use super::corroborate;
use super::look;
use super::mailing::{self, Subject};
use super::progress::Progress;
use super::running;

use super::{Context, RUN_LEASE, Snapshot, cluster};
use crate::config::Mode;
use crate::connector::breaker::Sign;
use crate::domain::Timestamp;
use crate::domain::calendar::DayOff;
use crate::domain::campaign::Standing;
use crate::domain::case::{Case, CaseEvent, CaseState};
use crate::domain::customer::Customer;
use crate::domain::delivery::{DeliveryFacts, DeliveryId, Held};
use crate::domain::guard;
use crate::domain::plan::{self, Decision, Due, NoticeKind, Planned};
use crate::fleet::Member;
use crate::store::{
    Begun, Committed, CustomerState, NewDelivery, PassChange, Run, RunCounts, RunKind, RunOutcome, SiteCounts,
};

/// How often a pass says that it lives, much more often than [`RUN_LEASE`] asks for: its numbers are shown.
const SIGN_OF_LIFE: chrono::TimeDelta = chrono::TimeDelta::seconds(2);

/// How often a notice is made anew because its customer was changed meanwhile.
const STALE_TRIES: usize = 5;

/// What became of one planned notice.
#[derive(Debug, Clone)]
pub struct Notified {
    /// The plan.
    pub planned: Planned,
    /// What became of it.
    pub fate: Fate,
}

/// What became of a planned notice.
#[derive(Debug, Clone)]
pub enum Fate {
    /// It is in the outbox and leaves in the next window.
    Queued(DeliveryId),
    /// It is in the outbox and waits for a person.
    Held(DeliveryId, Held),
    /// `dry-run`: it was rendered and would have been queued.
    WouldQueue,
    /// The look right before showed something else: nothing is sent.
    Overtaken(String),
    /// None of its sites could be read just now: the next pass tries again.
    NotFresh(String),
    /// It was in the outbox already.
    Duplicate,
    /// It could not be made: the operators must look.
    Failed(String),
}

impl Fate {
    /// The word in output and metrics.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Queued(_) => "queued",
            Self::Held(..) => "held",
            Self::WouldQueue => "would_queue",
            Self::Overtaken(_) | Self::NotFresh(_) | Self::Duplicate => "dropped",
            Self::Failed(_) => "not_made",
        }
    }
}

/// How a pass went.
#[derive(Debug, Clone, Default)]
pub struct PassReport {
    /// Every planned notice, most urgent first.
    pub notices: Vec<Notified>,
    /// Cases resolved without a word.
    pub resolved_silently: u64,
    /// Why nothing was sent at all: no business day.
    pub day_off: Option<DayOff>,
    /// It was cancelled before its end.
    pub interrupted: bool,
}

impl PassReport {
    /// The run's numbers.
    #[must_use]
    pub fn counts(&self) -> RunCounts {
        let count = |wanted: fn(&Fate) -> bool| self.notices.iter().filter(|n| wanted(&n.fate)).count() as u64;
        RunCounts {
            customers: self.notices.len() as u64,
            queued: count(|f| matches!(f, Fate::Queued(_))),
            held: count(|f| matches!(f, Fate::Held(..))),
            ..RunCounts::default()
        }
    }
}

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
    let result = Pass { ctx, snapshot: &ctx.snapshot, run, firsts: 0 }.run(&mut report, stop, progress).await;
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

struct Pass<'a> {
    ctx: &'a Context,
    snapshot: &'a Snapshot,
    run: crate::store::RunId,
    /// First notices queued so far, for the cap.
    firsts: usize,
}

/// A notice that was looked at again and decided again.
struct Ready {
    state: CustomerState,
    case: Case,
    due: Due,
    recipients: Vec<crate::domain::customer::Address>,
    message: crate::store::Message,
}

impl Pass<'_> {
    async fn run(
        mut self,
        report: &mut PassReport,
        stop: &CancellationToken,
        progress: &dyn Progress,
    ) -> anyhow::Result<()> {
        let snapshot = self.snapshot;
        let calendar = &snapshot.config.calendar;
        let day = calendar.day(self.ctx.now());
        if let Some(off) = calendar.day_off(day) {
            report.day_off = Some(off);
            return Ok(());
        }
        let cases = self.ctx.store.cases_to_plan(day).await.context("cannot read the open cases")?;
        let campaigns = snapshot.campaigns();
        let mut plan = plan::plan(&cases, &*snapshot.customers, &campaigns, calendar, snapshot.policy(), day);
        bounces::forget_changed(self.ctx).await.context("cannot look through the dead contacts")?;
        let circuit = Arc::new(Circuit::default());
        let dead = Arc::new(Dead::load(self.ctx).await.context("cannot read the dead contacts")?);
        let store = self.ctx.store.as_ref();
        plan.planned.extend(bounces::told_again(store, snapshot, &campaigns, &dead, &cases, &plan.planned).await?);
        for (customer, campaign, why) in &plan.nothing {
            tracing::debug!(%customer, %campaign, "no notice: {why}");
        }
        report.resolved_silently = self.resolve_silently(&plan.resolved_silently).await?;

        progress.total(plan.planned.len() as u64);
        let mut extended = self.ctx.now();
        let mut waiting = plan.planned.into_iter();
        // Tasks, not futures in this one: what holds the store's writer must go on while a notice is queued here.
        let mut preparing = VecDeque::new();
        loop {
            while preparing.len() < snapshot.config.scan.concurrency.max(1) {
                let Some(planned) = waiting.next() else { break };
                preparing.push_back(tokio::spawn(prepare_unless_stopped(
                    self.ctx.clone(),
                    Arc::clone(&dead),
                    Arc::clone(&circuit),
                    planned,
                    stop.clone(),
                )));
            }
            let Some(ready) = preparing.pop_front() else { break };
            let (planned, ready) = ready.await.context("making a notice ended early")?;
            let fate = match ready {
                None => {
                    report.interrupted = true;
                    continue;
                }
                Some(Err(error)) => Fate::Failed(format!("{error:#}")),
                Some(Ok(Err(fate))) => fate,
                Some(Ok(Ok(ready))) => match self.settle(ready, &planned, &dead, &circuit, stop).await? {
                    Some(fate) => fate,
                    None => {
                        report.interrupted = true;
                        continue;
                    }
                },
            };
            log(&planned, &fate);
            self.ctx.metrics.notice(planned.due.kind, fate.word());
            report.notices.push(Notified { planned, fate });
            progress.step(&report.counts(), &SiteCounts::default());
            let now = self.ctx.now();
            // Not with every notice: that would be as many waits for the disk again.
            if now < extended || now - extended >= SIGN_OF_LIFE {
                self.ctx.store.extend_run(self.run, report.counts(), now + cluster::lease(self.ctx, RUN_LEASE)).await?;
                extended = now;
            }
        }
        Ok(())
    }

    async fn resolve_silently(
        &self,
        cases: &[(crate::domain::site::CustomerId, crate::domain::campaign::CampaignId)],
    ) -> anyhow::Result<u64> {
        let mut done = 0;
        let at = self.ctx.now();
        for (customer, campaign) in cases {
            let Some(state) = self.ctx.store.customer_states(std::slice::from_ref(customer)).await?.pop() else {
                continue;
            };
            let Some(mut case) = state.cases.iter().find(|c| c.campaign == *campaign).cloned() else { continue };
            if !case.confirmed_clear(self.snapshot.policy().confirm_resolved) {
                continue;
            }
            case.state = CaseState::Resolved { at };
            let events = vec![CaseEvent::Resolved { silently: true }];
            let change =
                PassChange { customer: customer.clone(), version: state.version, case, events, delivery: None, at };
            done += u64::from(matches!(self.ctx.store.commit_pass(&change).await?, Committed::Done(_)));
        }
        Ok(done)
    }

    /// Puts a notice into the outbox. A customer that a scan or a person changed since it was made is decided anew: to
    /// leave it to the next pass would tell it a day late.
    ///
    /// `None`: the pass is told to stop.
    async fn settle(
        &mut self,
        mut ready: Ready,
        planned: &Planned,
        dead: &Dead,
        circuit: &Circuit,
        stop: &CancellationToken,
    ) -> anyhow::Result<Option<Fate>> {
        for _ in 0..STALE_TRIES {
            if let Some(fate) = self.queue(ready).await? {
                return Ok(Some(fate));
            }
            ready = match prepare(self.ctx, dead, circuit, planned, stop).await {
                Ok(None) => return Ok(None),
                Ok(Some(Ok(again))) => again,
                Ok(Some(Err(fate))) => return Ok(Some(fate)),
                Err(error) => return Ok(Some(Fate::Failed(format!("{error:#}")))),
            };
        }
        Ok(Some(Fate::Overtaken("the customer was changed by others again and again".to_owned())))
    }

    /// Puts a notice into the outbox, held if a rule says so. `None`: the customer was changed since it was made.
    async fn queue(&mut self, ready: Ready) -> anyhow::Result<Option<Fate>> {
        let held = self.held(ready.due.kind).await?;
        if self.snapshot.config.mode == Mode::DryRun {
            return Ok(Some(Fate::WouldQueue));
        }
        let Ready { state, mut case, due, recipients, message } = ready;
        let at = self.ctx.now();
        let facts = DeliveryFacts {
            key: mailing::key(&case, &due),
            milestone: due.milestone.map(|m| m.to_string()),
            day: self.snapshot.config.calendar.day(at),
            deadline: due.deadline,
            because: due.because.clone(),
        };
        let mut events = Vec::new();
        if due.kind == NoticeKind::Resolved {
            case.state = CaseState::Resolved { at };
            events.push(CaseEvent::Resolved { silently: false });
        }
        let delivery = NewDelivery { priority: priority(&due, facts.day), facts, held, recipients, message };
        let change = PassChange {
            customer: case.customer.clone(),
            version: state.version,
            case,
            events,
            delivery: Some(delivery),
            at,
        };
        Ok(Some(match self.ctx.store.commit_pass(&change).await.context("cannot put the notice into the outbox")? {
            Committed::Done(Some(id)) => {
                if due.kind == NoticeKind::First && held.is_none() {
                    self.firsts += 1;
                }
                held.map_or(Fate::Queued(id), |held| Fate::Held(id, held))
            }
            Committed::Done(None) => Fate::Failed("the store gave the delivery no number".to_owned()),
            Committed::Stale => return Ok(None),
            Committed::Duplicate => Fate::Duplicate,
        }))
    }

    async fn held(&self, kind: NoticeKind) -> anyhow::Result<Option<Held>> {
        if !self.ctx.store.holds().await?.is_empty() {
            return Ok(Some(Held::Hold));
        }
        if self.snapshot.config.mode == Mode::Review {
            return Ok(Some(Held::Review));
        }
        let allowed =
            guard::new_notices_allowed(self.snapshot.config.safety.max_new_notices, self.snapshot.customers.len());
        Ok((kind == NoticeKind::First && self.firsts >= allowed).then_some(Held::Cap))
    }
}

async fn prepare_unless_stopped(
    ctx: Context,
    dead: Arc<Dead>,
    circuit: Arc<Circuit>,
    planned: Planned,
    stop: CancellationToken,
) -> (Planned, Option<anyhow::Result<Result<Ready, Fate>>>) {
    if stop.is_cancelled() {
        return (planned, None);
    }
    let ready = prepare(&ctx, &dead, &circuit, &planned, &stop).await;
    (planned, ready.transpose())
}

/// Looks again where the evidence is too old (its host's circuit permitting), then makes the notice.
///
/// `None`: the pass is told to stop while a host is paused.
async fn prepare(
    ctx: &Context,
    dead: &Dead,
    circuit: &Circuit,
    planned: &Planned,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Result<Ready, Fate>>> {
    let Some(member) = ctx.snapshot.member(&planned.customer) else {
        return Ok(Some(Err(Fate::Overtaken("the customer is not in the customers file".to_owned()))));
    };
    let id = std::slice::from_ref(&planned.customer);
    let Some(mut state) = ctx.store.customer_states(id).await?.pop() else {
        return Ok(Some(Err(Fate::Overtaken("the customer is not in the store".to_owned()))));
    };
    let case = state.cases.iter().find(|c| c.campaign == planned.campaign);
    if case.is_some_and(|case| !mailing::is_fresh(case, planned.due.kind, mailing::not_before(ctx))) {
        let host = ctx.snapshot.config.connector.host(member.logon.url.as_ref());
        let probe = match circuit.turn(ctx, host.as_deref(), stop).await {
            Ok(probe) => probe,
            Err(None) => return Ok(None),
            Err(Some(failure)) => return Ok(Some(Err(Fate::NotFresh(failure.detail)))),
        };
        let checked = look::check_for_sign(ctx, &member).await;
        let sign = checked.as_ref().ok().and_then(|c| c.as_ref()).map_or(&Sign::Nothing, |(_, sign)| sign);
        if let Some(news) = circuit.note(host.as_deref(), sign, probe) {
            tracing::warn!("{news}");
        }
        match checked? {
            Some((fresh, _)) => state = fresh,
            None => return Ok(Some(Err(Fate::Overtaken("the customer is not in the store".to_owned())))),
        }
    }
    make(ctx, dead, planned, &member, state).await.map(Some)
}

/// Decides again, and renders the whole mail.
async fn make(
    ctx: &Context,
    dead: &Dead,
    planned: &Planned,
    member: &Member,
    state: CustomerState,
) -> anyhow::Result<Result<Ready, Fate>> {
    let snapshot = &ctx.snapshot;
    let Some(case) = state.cases.iter().find(|c| c.campaign == planned.campaign).cloned() else {
        return Ok(Err(Fate::Overtaken("the case is gone".to_owned())));
    };
    let decided = if bounces::is_told_again(&planned.due) {
        still_true(ctx, &case, &member.customer, &planned.due)?
    } else {
        let today = snapshot.config.calendar.day(ctx.now());
        if state.cases.iter().flat_map(|c| &c.told).any(|told| told.counts && told.day == today) {
            // Of another campaign, or by somebody who approved a held mail a moment ago.
            return Ok(Err(Fate::Overtaken("the customer was told today already".to_owned())));
        }
        decide_again(ctx, &case, &member.customer)?
    };
    let due = match decided {
        Ok(due) => due,
        Err(why) => return Ok(Err(Fate::Overtaken(why))),
    };
    let sites = mailing::sites(&case, due.kind, mailing::not_before(ctx));
    if sites.is_empty() && due.kind.speaks_of() != Standing::Clear {
        let why = "none of its sites could be read just now; the next pass tries again".to_owned();
        return Ok(Err(Fate::NotFresh(why)));
    }
    let Some(customer) = dead.reachable(&member.customer) else {
        let why = "every address of the customer is dead and no fallback_email is left; correct the customers file";
        return Ok(Err(Fate::Failed(why.to_owned())));
    };
    let thread = ctx.store.thread(&mailing::key(&case, &due)).await?;
    let federated = corroborate::federated(ctx, &customer).await;
    let subject = Subject { snapshot, customer: &customer, case: &case, due: &due, sites, federated };
    let mut message = mailing::compose(&subject, thread, ctx.now())?;
    mailing::seal(ctx, &case, &mut message).await?;
    Ok(Ok(Ready { recipients: mailing::recipients(&customer), state, case, due, message }))
}

/// A notice that is told again was decided before: it only must not be overtaken.
fn still_true(ctx: &Context, case: &Case, customer: &Customer, due: &Due) -> anyhow::Result<Result<Due, String>> {
    let campaign = mailing::campaign(&ctx.snapshot, &case.campaign)?;
    let calendar = &ctx.snapshot.config.calendar;
    let day = calendar.day(ctx.now());
    let facts = DeliveryFacts {
        key: mailing::key(case, due),
        milestone: due.milestone.map(|m| m.to_string()),
        day,
        deadline: due.deadline,
        because: due.because.clone(),
    };
    Ok(plan::overtaken(&facts, case, customer, campaign, calendar, day).map_or_else(|| Ok(due.clone()), Err))
}

fn decide_again(ctx: &Context, case: &Case, customer: &Customer) -> anyhow::Result<Result<Due, String>> {
    let snapshot = &ctx.snapshot;
    let calendar = &snapshot.config.calendar;
    let campaign = mailing::campaign(snapshot, &case.campaign)?;
    let day = calendar.day(ctx.now());
    Ok(match plan::decide(case, customer, campaign, calendar, snapshot.policy(), day) {
        Decision::Tell(due) => Ok(due),
        Decision::Nothing(why) => Err(why),
        Decision::ResolveSilently => Err("no site is affected any more".to_owned()),
    })
}

/// The smaller, the sooner: first what a customer must act on, then the nearest deadline.
fn priority(due: &Due, day: chrono::NaiveDate) -> i64 {
    let class = match due.kind.speaks_of() {
        Standing::Affected => 0,
        Standing::ConsentMissing => 1,
        Standing::Clear => 2,
    };
    class * 1_000_000 + (due.deadline - day).num_days().clamp(-400_000, 400_000)
}

/// The journal shows the message alone, so whose notice it is stands in it too.
fn log(planned: &Planned, fate: &Fate) {
    let (customer, kind, because) = (&planned.customer, planned.due.kind, &planned.due.because);
    match fate {
        Fate::Queued(id) => {
            tracing::info!(%customer, %kind, delivery = %id, "{kind} notice of {customer} queued (delivery {id}): {because}");
        }
        Fate::Held(id, held) => {
            let held = held.as_str();
            tracing::warn!(%customer, %kind, delivery = %id, "{kind} notice of {customer} held, {held} (delivery {id}): {because}");
        }
        Fate::WouldQueue => {
            tracing::info!(%customer, %kind, "dry-run, {kind} notice of {customer} not queued: {because}")
        }
        Fate::Overtaken(why) => tracing::info!(%customer, %kind, "{kind} notice of {customer} overtaken: {why}"),
        Fate::NotFresh(why) => tracing::warn!(%customer, %kind, "{kind} notice of {customer} not sent: {why}"),
        Fate::Duplicate => tracing::info!(%customer, %kind, "{kind} notice of {customer} is in the outbox already"),
        Fate::Failed(why) => tracing::error!(%customer, %kind, "{kind} notice of {customer} could not be made: {why}"),
    }
}
