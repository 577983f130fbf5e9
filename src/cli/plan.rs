//! `kigen plan`: who would get which notice when, and why then. Sends nothing, changes nothing.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use chrono::{NaiveDate, NaiveDateTime, NaiveTime};
use clap::Args;
use serde_json::json;

use super::Global;
use super::output::{self, FormatArg, Listing};
use crate::app;
use crate::config::Mode;
use crate::daemon::Context;
use crate::domain::Timestamp;
use crate::domain::calendar::Calendar;
use crate::domain::guard;
use crate::domain::plan::{Planned, walk};

#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// The day, or time, to plan for: 2022-09-01, "2022-09-01 10:00", or with an offset; now if not given
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Walk day by day until then, as if nobody changed anything
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    #[command(flatten)]
    format: FormatArg,
}

const COLUMNS: &[&str] = &["at", "customer", "campaign", "kind", "milestone", "sites", "to", "because", "held"];

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
    let zone = calendar.zone;
    let at = match &args.at {
        Some(text) => parse_time(text, calendar).with_context(|| format!("--at {text:?}"))?,
        None => ctx.now(),
    };
    let from = calendar.day(at);
    let to = match &args.until {
        Some(text) => calendar.day(parse_time(text, calendar).with_context(|| format!("--until {text:?}"))?),
        None => from,
    };
    if to < from {
        bail!("--until {to} lies before {from}");
    }
    if (to - from).num_days() > WALK_MAX {
        bail!("--until {to} is more than {WALK_MAX} days after {from}");
    }
    let cases = ctx.store.open_cases().await?;
    let held = held(ctx).await?;
    let allowed = guard::new_notices_allowed(snapshot.config.safety.max_new_notices, snapshot.customers.len());
    let campaigns = snapshot.campaigns();
    let planned = walk(&cases, &snapshot.customers, &campaigns, calendar, snapshot.policy(), from, to, allowed);
    if planned.is_empty() && from == to {
        match calendar.day_off(from) {
            Some(off) => eprintln!("nothing is sent on {from}: {off}"),
            None => eprintln!("nothing is due on {from}"),
        }
    }
    let mut listing = Listing::new(COLUMNS);
    for (day, planned) in planned {
        let at = if args.until.is_none() { at } else { pass_time(ctx, day) };
        listing.row(row(ctx, &planned, &output::time(at, zone), held.as_deref()));
    }
    Ok(listing)
}

fn row(ctx: &Context, planned: &Planned, at: &str, held: Option<&str>) -> Vec<serde_json::Value> {
    let to = ctx.snapshot.customers.get(&planned.customer).map(crate::daemon::mailing::recipients).unwrap_or_default();
    vec![
        json!(at),
        json!(planned.customer.as_str()),
        json!(planned.campaign.0),
        json!(planned.due.kind.as_str()),
        json!(planned.due.milestone.map(|m| m.to_string())),
        json!(planned.sites.iter().map(|s| s.as_str()).collect::<Vec<_>>()),
        json!(to.iter().map(|a| a.as_str()).collect::<Vec<_>>()),
        json!(planned.due.because),
        json!(held.or(planned.held.as_deref())),
    ]
}

/// Why every notice of a pass now would be held, if it would.
async fn held(ctx: &Context) -> anyhow::Result<Option<String>> {
    if let Some(hold) = ctx.store.holds().await?.first() {
        return Ok(Some(hold.reason.clone()));
    }
    Ok((ctx.snapshot.config.mode == Mode::Review).then(|| "review: a person approves each mail".to_owned()))
}

/// When the pass of that day runs.
fn pass_time(ctx: &Context, day: NaiveDate) -> Timestamp {
    let calendar = &ctx.snapshot.config.calendar;
    let midnight = calendar.instant(day, NaiveTime::MIN);
    let before = midnight - chrono::TimeDelta::seconds(1);
    let cron = &ctx.snapshot.config.schedule.notices;
    cron.next_after(before, calendar.zone).filter(|at| calendar.day(*at) == day).unwrap_or(midnight)
}

/// A time as people write it: a date, a date and time in the configured zone, or RFC 3339 with an offset.
pub(super) fn parse_time(text: &str, calendar: &Calendar) -> anyhow::Result<Timestamp> {
    let text = text.trim();
    if let Ok(at) = chrono::DateTime::parse_from_rfc3339(text) {
        return Ok(at.to_utc());
    }
    for form in ["%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S"] {
        if let Ok(local) = NaiveDateTime::parse_from_str(text, form) {
            return Ok(calendar.instant(local.date(), local.time()));
        }
    }
    match NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        Ok(day) => Ok(calendar.instant(day, calendar.opens)),
        Err(_) => bail!("is no time; write 2022-09-01, \"2022-09-01 10:00\" or 2022-09-01T10:00:00+09:00"),
    }
}
