//! The operators' digest, each business morning: gathers the facts, has them rendered, queues the mail.
//!
//! Invariant: at most one digest a civil day, whatever happens in between: its key is the day.

use std::collections::BTreeMap;

use anyhow::Context as _;
use chrono::NaiveDate;

use super::bounces::Dead;
use super::planning::{Pages, Planner};
use super::untold::{self, ToCall};
use super::{Context, RUN_LEASE, Snapshot, cluster, operators};
use crate::alert::{self as texts, Call, DigestFacts, Grouped, Hold, LastScan, ToSwitch, submission, words};
use crate::domain::Timestamp;
use crate::domain::campaign::{Campaign, Standing};
use crate::domain::case::{Case, CaseState};
use crate::domain::plan::NoticeKind;
use crate::store::{Begun, OperatorMailKind, Run, RunCounts, RunKind, RunOutcome, SiteCounts, SiteRow};

/// Days of the chart.
const DAYS: u32 = 14;

/// Customers named at one line.
const NAMED: usize = 10;

/// What became of the wish for a digest.
pub enum Digested {
    /// It is in the queue.
    Queued,
    /// No business day, or nobody to mail to.
    Nothing(String),
    /// This schedule time, or this day, had one already.
    AlreadyDone,
    /// Another one is being made.
    Running(Box<Run>),
}

/// Makes the digest for the schedule's time `due_at`.
///
/// # Errors
/// When the store fails; the next look at the schedule is the retry.
pub async fn digest(ctx: &Context, due_at: Option<Timestamp>) -> anyhow::Result<Digested> {
    let now = ctx.now();
    let run = match ctx
        .store
        .begin_run(RunKind::Digest, due_at, &ctx.owner, now, now + cluster::lease(ctx, RUN_LEASE))
        .await?
    {
        Begun::Started(run) => run,
        Begun::AlreadyDone => return Ok(Digested::AlreadyDone),
        Begun::Running(run) => return Ok(Digested::Running(run)),
    };
    let result = queue(ctx, now).await;
    let (outcome, detail) = match &result {
        Err(error) => (RunOutcome::Failed, Some(format!("{error:#}"))),
        Ok(Digested::Nothing(why)) => (RunOutcome::Done, Some(why.clone())),
        Ok(_) => (RunOutcome::Done, None),
    };
    ctx.store.finish_run(run, outcome, RunCounts::default(), detail.as_deref(), ctx.now()).await?;
    result
}

const LAST: &str = "digest.last";

async fn queue(ctx: &Context, now: Timestamp) -> anyhow::Result<Digested> {
    let config = &ctx.snapshot.config;
    let today = config.calendar.day(now);
    if let Some(off) = config.calendar.day_off(today) {
        return Ok(Digested::Nothing(format!("no business day: {off}")));
    }
    let facts = facts(ctx, now).await?;
    let texts = texts::digest(&facts, config.alerts.language)?;
    let key = format!("digest/{today}");
    let Some(mail) = operators::compose(ctx, OperatorMailKind::Digest, &key, &texts, now)? else {
        return Ok(Digested::Nothing("nobody to mail it to (alerts.to is empty)".to_owned()));
    };
    if !ctx.store.queue_operator_mail(&mail, now).await? {
        return Ok(Digested::AlreadyDone);
    }
    ctx.store.set_memo(LAST, &now.timestamp_millis().to_string()).await?;
    Ok(Digested::Queued)
}

/// Everything the digest says, from the state as it is.
///
/// # Errors
/// When the store fails.
pub async fn facts(ctx: &Context, now: Timestamp) -> anyhow::Result<DigestFacts> {
    let (store, snapshot) = (&ctx.store, &ctx.snapshot);
    let config = &snapshot.config;
    let today = config.calendar.day(now);
    let since = store.memo(LAST).await?.and_then(|text| Timestamp::from_timestamp_millis(text.parse().ok()?));
    let since = since.filter(|at| *at < now);
    let (to_switch, planned) = of_cases(ctx, today).await?;
    let happened = store.happened_since(since.unwrap_or(Timestamp::UNIX_EPOCH), NAMED as u32).await?;
    let days = store.days(DAYS).await?;
    let (calls, calls_coming) = calls(ctx).await?;
    Ok(DigestFacts {
        now,
        today,
        zone: config.calendar.zone,
        mode: config.mode.as_str(),
        since,
        campaigns: campaigns(snapshot, today),
        days: days.iter().map(|day| (day.day, day.sites.affected)).collect(),
        sites: words(&store.site_counts().await?),
        happened: happened
            .into_iter()
            .filter(|h| SAID.contains(&h.word.as_str()))
            .map(|h| (h.word, h.count, h.customers))
            .collect(),
        to_switch,
        calls,
        calls_coming,
        planned,
        unreadable: unreadable(store.sites(&["unreadable".to_owned()]).await?),
        last_scan: store.last_run(RunKind::Scan, false).await?.map(|run| last_scan(snapshot, run)),
        outbox: store.outbox_counts().await?,
        holds: store
            .holds()
            .await?
            .into_iter()
            .map(|h| {
                let reason = words::hold(config.alerts.language, h.kind.as_str(), &h.reason);
                Hold { reason, by: h.set_by, at: h.set_at }
            })
            .collect(),
        bad_rows: snapshot.fleet.quarantined.len() as u64,
        warning: submission::warning(&config.mail, config.alerts.language, today),
    })
}

/// The events worth a line.
const SAID: [&str; 6] = ["opened", "reopened", "resolved", "sent", "failed", "unknown"];

/// The nearest deadline that is ahead first; of those that are past, the latest.
fn campaigns(snapshot: &Snapshot, today: NaiveDate) -> Vec<(String, NaiveDate)> {
    let mut all: Vec<_> = snapshot.campaigns().into_iter().map(|c| (c.id.0, c.deadline)).collect();
    all.sort_by_key(|(_, on)| (*on < today, (*on - today).num_days().abs()));
    all
}

fn words(sites: &SiteCounts) -> Vec<(&'static str, u64)> {
    vec![
        ("affected", sites.affected),
        ("switched", sites.switched),
        ("consent_missing", sites.consent_missing),
        ("not_exchange_online", sites.not_exchange_online),
        ("unreadable", sites.unreadable),
    ]
}

/// How many notices of each kind a pass would make.
type Planned = Vec<(&'static str, u64)>;

/// Who still has to switch, and what a pass today would make.
async fn of_cases(ctx: &Context, today: NaiveDate) -> anyhow::Result<(Vec<ToSwitch>, Planned)> {
    let (store, snapshot) = (ctx.store.as_ref(), ctx.snapshot.as_ref());
    let (campaigns, dead) = (snapshot.campaigns(), Dead::load(ctx).await?);
    let planner = Planner { store, snapshot, campaigns: &campaigns, dead: &dead, day: today };
    let mut planned: BTreeMap<NoticeKind, u64> = BTreeMap::new();
    let mut all = Vec::new();
    let mut pages = Pages::new(store, today);
    while let Some(cases) = pages.next().await.context("cannot read the open cases")? {
        all.extend(to_switch(snapshot, &campaigns, &cases));
        let page = planner.page(&cases).await?;
        page.notices().for_each(|notice| *planned.entry(notice.due.kind).or_default() += 1);
    }
    all.sort_by(|a, b| (a.deadline, a.told, &a.id).cmp(&(b.deadline, b.told, &b.id)));
    let by_kind = |kind: NoticeKind| Some((kind.as_str(), *planned.get(&kind)?));
    Ok((all, NoticeKind::ALL.into_iter().filter_map(by_kind).collect()))
}

fn to_switch(snapshot: &Snapshot, campaigns: &[Campaign], cases: &[Case]) -> Vec<ToSwitch> {
    cases
        .iter()
        .filter(|case| case.state == CaseState::Open && case.any(Standing::Affected))
        .filter_map(|case| {
            let customer = snapshot.customers.get(&case.customer)?;
            let campaign = campaigns.iter().find(|c| c.id == case.campaign && !c.is_done_by(&customer))?;
            Some(ToSwitch {
                id: customer.id.to_string(),
                name: customer.name.clone(),
                campaign: (campaigns.len() > 1).then(|| campaign.id.0.clone()),
                sites: case.standing(Standing::Affected).count() as u64,
                deadline: campaign.deadline_of(&customer),
                told: case.told_this_round().map(|t| t.day).max(),
            })
        })
        .collect()
}

/// Whom no mail has reached and none is about to, and how many are left whom one is.
async fn calls(ctx: &Context) -> anyhow::Result<(Vec<Call>, u64)> {
    let language = ctx.snapshot.config.alerts.language;
    let (coming, calls): (Vec<_>, Vec<_>) = untold::to_call(ctx).await?.into_iter().partition(|c| c.why.is_coming());
    let call = |c: ToCall| Call { id: c.customer.to_string(), name: c.name, phone: c.phone, why: c.why.text(language) };
    Ok((calls.into_iter().map(call).collect(), coming.len() as u64))
}

fn unreadable(rows: Vec<SiteRow>) -> Vec<Grouped> {
    let mut groups: BTreeMap<&'static str, Grouped> = BTreeMap::new();
    for row in rows {
        let Some(reason) = row.seen.verdict.reason() else { continue };
        let reason = reason.as_str();
        let group = groups.entry(reason).or_insert_with(|| Grouped { reason, count: 0, customers: Vec::new() });
        group.count += 1;
        let customer = (row.seen.customer.to_string(), row.customer_name);
        if group.customers.len() < NAMED && group.customers.last() != Some(&customer) {
            group.customers.push(customer);
        }
    }
    let mut all: Vec<Grouped> = groups.into_values().collect();
    all.sort_by_key(|g| std::cmp::Reverse(g.count));
    all
}

fn last_scan(snapshot: &Snapshot, run: Run) -> LastScan {
    let (language, limit) = (snapshot.config.alerts.language, snapshot.config.safety.logon_failures);
    let outcome = run.outcome.map(RunOutcome::as_str);
    LastScan {
        at: run.started_at,
        outcome,
        sites: run.counts.sites,
        unreadable: run.counts.unreadable,
        detail: run.detail.map(|detail| words::scan_detail(language, outcome, limit, &detail)),
    }
}
