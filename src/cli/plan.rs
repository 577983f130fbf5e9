//! `kigen plan`: who would get which notice when, and why then. Sends nothing, changes nothing.

use std::process::ExitCode;

use chrono::{NaiveDate, NaiveTime, TimeDelta};
use clap::Args;
use serde_json::json;

use super::check;
use super::output::{self, FormatArg, Listing, Shown};
use super::time::TimeArg;
use super::{Global, Usage};
use crate::app;
use crate::config::{Config, Mode, TransportConfig};
use crate::daemon::bounces::{self, Dead};
use crate::daemon::planning::{DayPlan, Pages, Planner};
use crate::daemon::{Context, mailing};
use crate::domain::Timestamp;
use crate::domain::calendar::Calendar;
use crate::domain::customer::Address;
use crate::domain::guard;
use crate::domain::plan::{Planned, cap, walk};
use crate::domain::site::CustomerId;

#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// The day, or time, to plan for: 2022-09-01, "2022-09-01 10:00", or with an offset; now if not given
    #[arg(long, value_name = "TIME")]
    at: Option<TimeArg>,
    /// Walk day by day until then, as if nobody changed anything
    #[arg(long, value_name = "TIME")]
    until: Option<TimeArg>,
    #[command(flatten)]
    format: FormatArg,
}

const COLUMNS: &[&str] = &["at", "customer", "campaign", "kind", "milestone", "sites", "to", "because", "held"];

const SHOWN: &[Shown] = &[
    Shown::one("leaves", &["at"]),
    Shown::one("customer", &["customer"]),
    Shown::if_varied("campaign", &["campaign"]),
    Shown::joined("notice", &["kind", "milestone"], " "),
    Shown::one("sites", &["sites"]),
    Shown::one("because", &["because"]),
    Shown::one("held", &["held"]),
];

/// The farthest that `--until` walks, in days.
const WALK_MAX: i64 = 1100;

pub(super) async fn run(global: &Global, args: &PlanArgs) -> anyhow::Result<ExitCode> {
    let ctx = app::open(&global.config).await?;
    let result = listing(&ctx, args).await;
    ctx.store.close().await;
    result?.print(args.format.format)?;
    Ok(ExitCode::SUCCESS)
}

async fn listing(ctx: &Context, args: &PlanArgs) -> anyhow::Result<Listing> {
    let snapshot = &ctx.snapshot;
    let calendar = &snapshot.config.calendar;
    let at = args.at.map_or_else(|| ctx.now(), |time| time.at(calendar));
    let from = calendar.day(at);
    let to = args.until.map_or(from, |time| calendar.day(time.at(calendar)));
    if to < from {
        return Err(Usage(format!("--until {to} lies before {from}")).into());
    }
    if (to - from).num_days() > WALK_MAX {
        return Err(Usage(format!("--until {to} is more than {WALK_MAX} days after {from}")).into());
    }
    let held = held(ctx).await?;
    let dead = Dead::load(ctx).await?;
    let (planned, left) = match from == to {
        true => one_day(ctx, &dead, from).await?,
        false => walked(ctx, &dead, from, to).await?,
    };
    if planned.is_empty() {
        match calendar.day_off(from) {
            Some(off) if from == to => output::say!("nothing is sent on {from}: {off}"),
            _ if from == to => output::say!("nothing is due on {from}"),
            _ => output::say!("nothing is due from {from} to {to}"),
        }
    } else if snapshot.config.mode == Mode::DryRun {
        output::say!("note: mode = \"dry-run\": this is what would leave; nothing does");
    }
    let waiting = ctx.store.outbox_counts().await?.into_iter().find_map(|(state, n)| (state == "held").then_some(n));
    if let Some(waiting) = waiting.filter(|n| *n > 0) {
        output::say!(
            "note: {waiting} mail(s) are held in the outbox already; they leave once approved (kigen outbox list --state held)"
        );
    }
    if left > 0 {
        output::say!("note: {left} open case(s) are left alone: {}", check::LEFT_OUT);
    }
    let mut departures = Departures::new(&snapshot.config);
    let mut listing = Listing::new(COLUMNS).shown(SHOWN).as_they_come(args.format.format);
    for (day, planned) in planned {
        let pass = if args.until.is_none() { at } else { pass_time(ctx, day).max(at) };
        let to = recipients(ctx, &dead, &planned.customer);
        let nobody = to.is_empty().then_some("every address of the customer is dead: it must be called");
        let held = nobody.or(held.as_deref()).or(planned.held.as_deref());
        // Who is held waits for a person, not for its turn.
        let leaves = if held.is_some() { pass } else { departures.next(pass, calendar) };
        listing.row(row(&planned, &to, &output::time(leaves, calendar.zone), held));
    }
    Ok(listing)
}

/// What is due, by day, and how many open cases are left alone.
type Due = (Vec<(NaiveDate, Planned)>, usize);

/// One day, from a page of cases after the other.
async fn one_day(ctx: &Context, dead: &Dead, day: NaiveDate) -> anyhow::Result<Due> {
    let (store, snapshot) = (ctx.store.as_ref(), ctx.snapshot.as_ref());
    let campaigns = snapshot.campaigns();
    let planner = Planner { store, snapshot, campaigns: &campaigns, dead, day };
    let (mut plan, mut left) = (DayPlan::default(), 0);
    let mut pages = Pages::new(store, day);
    while let Some(cases) = pages.next().await? {
        left += check::left_out(snapshot, &cases);
        plan.add(planner.page(&cases).await?);
    }
    let mut plan = plan.in_order(day);
    cap(&mut plan.planned, allowed(ctx));
    Ok((plan.planned.into_iter().chain(plan.again).map(|planned| (day, planned)).collect(), left))
}

/// Several days. Whom the caps hold back on one day decides over the next ones, so all cases are walked at once.
async fn walked(ctx: &Context, dead: &Dead, from: NaiveDate, to: NaiveDate) -> anyhow::Result<Due> {
    let snapshot = &ctx.snapshot;
    let (calendar, campaigns) = (&snapshot.config.calendar, snapshot.campaigns());
    let cases = ctx.store.cases_to_plan(from).await?;
    let policy = snapshot.policy();
    let mut planned = walk(&cases, &*snapshot.customers, &campaigns, calendar, policy, from, to, allowed(ctx));
    // What came back is told again by the pass of that day.
    if calendar.day_off(from).is_none() && !dead.is_empty() {
        let today: Vec<Planned> = planned.iter().filter(|(day, _)| *day == from).map(|(_, p)| p.clone()).collect();
        let again = bounces::told_again(ctx.store.as_ref(), snapshot, &campaigns, dead, &cases, &today).await?;
        let end = today.len();
        planned.splice(end..end, again.into_iter().map(|p| (from, p)));
    }
    Ok((planned, check::left_out(snapshot, &cases)))
}

/// How many first notices one pass may queue.
fn allowed(ctx: &Context) -> usize {
    guard::new_notices_allowed(ctx.snapshot.config.safety.max_new_notices, ctx.snapshot.customers.len())
}

/// Who really gets it: without the dead, with `fallback_email` in their place.
fn recipients(ctx: &Context, dead: &Dead, customer: &CustomerId) -> Vec<Address> {
    let customer = ctx.snapshot.customers.get(customer);
    let reached = customer.as_ref().and_then(|customer| dead.reachable(customer));
    reached.map(|customer| mailing::recipients(&customer)).unwrap_or_default()
}

fn row(planned: &Planned, to: &[Address], at: &str, held: Option<&str>) -> Vec<serde_json::Value> {
    vec![
        json!(at),
        json!(planned.customer.as_str()),
        json!(planned.campaign.0),
        json!(planned.due.kind.as_str()),
        json!(planned.due.milestone.map(|m| m.to_string())),
        json!(planned.sites.iter().map(|s| s.as_str()).collect::<Vec<_>>()),
        json!(to.iter().map(|a| a.as_str()).collect::<Vec<_>>()),
        json!(planned.due.because),
        json!(held),
    ]
}

/// Why every notice of a pass now would be held, if it would.
async fn held(ctx: &Context) -> anyhow::Result<Option<String>> {
    if let Some(hold) = ctx.store.holds().await?.first() {
        return Ok(Some(hold.reason.clone()));
    }
    Ok((ctx.snapshot.config.mode == Mode::Review).then(|| "review: a person approves each mail".to_owned()))
}

/// When the pass of that day runs; on a day on which the schedule has none, when the day's business hours begin.
fn pass_time(ctx: &Context, day: NaiveDate) -> Timestamp {
    let calendar = &ctx.snapshot.config.calendar;
    let midnight = calendar.instant(day, NaiveTime::MIN);
    let cron = &ctx.snapshot.config.schedule.notices;
    cron.next_after(midnight - TimeDelta::seconds(1), calendar.zone)
        .filter(|at| calendar.day(*at) == day)
        .unwrap_or_else(|| calendar.instant(day, calendar.opens))
}

/// When mails leave: one after the other at the configured rate, inside business hours.
struct Departures {
    interval: TimeDelta,
    free_at: Option<Timestamp>,
}

impl Departures {
    fn new(config: &Config) -> Self {
        let interval = match &config.mail.transport {
            TransportConfig::Smtp(smtp) => interval(smtp.rate.count, smtp.rate.per),
            _ => TimeDelta::zero(),
        };
        Self { interval, free_at: None }
    }

    fn next(&mut self, queued: Timestamp, calendar: &Calendar) -> Timestamp {
        let turn = self.free_at.map_or(queued, |free| free.max(queued));
        let leaves = calendar.opens_at(turn).unwrap_or(turn);
        self.free_at = Some(leaves + self.interval);
        leaves
    }
}

fn interval(mails: u32, per: std::time::Duration) -> TimeDelta {
    TimeDelta::from_std(per / mails.max(1)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::calendar::Holidays;

    #[test]
    fn mails_leave_one_after_the_other_inside_business_hours() {
        let hour = |h| NaiveTime::from_hms_opt(h, 0, 0).unwrap();
        let calendar = Calendar {
            zone: chrono_tz::Asia::Tokyo,
            days: [true, true, true, true, true, false, false],
            opens: hour(9),
            closes: Some(hour(18)),
            holidays: Holidays::Japan,
            closed: Vec::new(),
        };
        let mut departures = Departures { interval: interval(60, Duration::from_secs(3600)), free_at: None };
        let at = |text: &str| TimeArg::Instant(text.parse().unwrap()).at(&calendar);
        // Thursday, the eve of a public holiday and a weekend: what does not get its turn any more leaves on Monday.
        let mut leaves = |queued: &str| output::time(departures.next(at(queued), &calendar), calendar.zone);
        assert_eq!(leaves("2022-09-22T17:58:00+09:00"), "2022-09-22T17:58:00+09:00");
        assert_eq!(leaves("2022-09-22T17:58:00+09:00"), "2022-09-22T17:59:00+09:00");
        assert_eq!(leaves("2022-09-22T17:58:00+09:00"), "2022-09-26T09:00:00+09:00");
        assert_eq!(leaves("2022-09-22T17:58:00+09:00"), "2022-09-26T09:01:00+09:00");
        assert_eq!(leaves("2022-09-26T10:00:00+09:00"), "2022-09-26T10:00:00+09:00");
    }
}
