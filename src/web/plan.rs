//! The coming weeks as a calendar: what the planner would do on each day if nobody changed anything.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;
use chrono::{Datelike, NaiveDate, TimeDelta};
use minijinja::context;

use super::visit::Visit;
use super::{Fail, Shared, render};
use crate::domain::calendar::DayOff;
use crate::domain::guard;
use crate::domain::plan::{Planned, walk};

/// Weeks shown.
const WEEKS: i64 = 6;

/// Customers named on one day; the others are counted.
const NAMED: usize = 200;

pub(super) async fn page(State(shared): State<Shared>, visit: Visit) -> Result<Response, Fail> {
    let cases = shared.ask(|ctx| async move { ctx.store.open_cases().await }).await?;
    let ctx = shared.context();
    let today = ctx.snapshot.config.calendar.day(ctx.now());
    let from = today - TimeDelta::days(i64::from(today.weekday().num_days_from_monday()));
    let to = from + TimeDelta::days(WEEKS * 7 - 1);
    let snapshot = std::sync::Arc::clone(&ctx.snapshot);
    let planned = shared
        .work(move || {
            let config = &snapshot.config;
            let allowed = guard::new_notices_allowed(config.safety.max_new_notices, snapshot.customers.len());
            let campaigns = snapshot.campaigns();
            walk(&cases, &*snapshot.customers, &campaigns, &config.calendar, snapshot.policy(), today, to, allowed)
        })
        .await?;
    let mut days: BTreeMap<NaiveDate, Vec<Planned>> = BTreeMap::new();
    for (day, planned) in planned {
        days.entry(day).or_default().push(planned);
    }
    let config = &ctx.snapshot.config;
    let deadlines: Vec<(NaiveDate, &str)> = config
        .campaigns
        .iter()
        .flat_map(|c| {
            [
                (Some(c.campaign.deadline), "deadline"),
                (c.campaign.postponed_to, "postponed"),
                (c.campaign.last_day, "final"),
            ]
        })
        .filter_map(|(day, word)| Some((day?, word)))
        .collect();
    let cell = |day: NaiveDate| {
        let none = Vec::new();
        let planned = days.get(&day).unwrap_or(&none);
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for p in planned {
            *kinds.entry(p.due.kind.as_str()).or_default() += 1;
        }
        let (off, holiday) = match config.calendar.day_off(day) {
            None => (None, None),
            Some(DayOff::Weekday(_)) => (Some("weekday"), None),
            Some(DayOff::Holiday(name)) => (Some("holiday"), Some(name)),
            Some(DayOff::Closed) => (Some("closed"), None),
        };
        context! {
            iso => day.to_string(), day => day.day(), month => day.month(), first => day.day() == 1 || day == from,
            past => day < today, today => day == today, off, holiday,
            marks => deadlines.iter().filter(|(d, _)| *d == day).map(|(_, word)| *word).collect::<Vec<_>>(),
            kinds => kinds.into_iter().map(|(word, n)| context! { word, n }).collect::<Vec<_>>(),
            total => planned.len(),
        }
    };
    let weeks: Vec<Vec<_>> =
        (0..WEEKS).map(|w| (0..7).map(|d| cell(from + TimeDelta::days(w * 7 + d))).collect()).collect();
    let lists: Vec<_> = days
        .iter()
        .map(|(day, planned)| {
            context! {
                iso => day.to_string(),
                day => render::day(*day, visit.language),
                total => planned.len(),
                more => planned.len().saturating_sub(NAMED),
                notices => planned.iter().take(NAMED).map(|p| context! {
                    customer => p.customer.as_str(),
                    name => ctx.snapshot.customers.get(&p.customer).map(|c| c.name.clone()),
                    kind => p.due.kind.as_str(),
                    milestone => p.due.milestone.map(|m| m.to_string()),
                    because => p.due.because.clone(),
                    held => p.held.clone(),
                }).collect::<Vec<_>>(),
            }
        })
        .collect();
    let total: usize = days.values().map(Vec::len).sum();
    shared.page(&visit, "plan.html", context! { weeks, lists, total }).await
}
