//! The fleet at a glance: days left, the course of the affected sites, verdicts, what waits for a person, what runs next.

use axum::extract::State;
use axum::response::Response;
use chrono::NaiveDate;
use minijinja::context;

use super::visit::Visit;
use super::{Fail, Inner, Shared, chart, render};
use crate::daemon::{Context, schedule};
use crate::domain::Timestamp;
use crate::domain::campaign::Affects;

pub(super) async fn page(State(shared): State<Shared>, visit: Visit) -> Result<Response, Fail> {
    let seen = Inner::glance(&shared).await?;
    let ctx = shared.context();
    let config = &ctx.snapshot.config;
    let today = config.calendar.day(ctx.now());
    let of = |state: &str| seen.outbox.iter().find(|(s, _)| *s == state).map_or(0, |(_, n)| *n);
    let course = course(&ctx, &seen.past.moves, today);
    let campaigns: Vec<_> = config
        .campaigns
        .iter()
        .map(|c| &c.campaign)
        .map(|c| {
            context! {
                id => c.id.0.clone(),
                days_left => (c.deadline - today).num_days(),
                deadline => render::day(c.deadline, visit.language),
                postponed => c.postponed_to.map(|d| render::day(d, visit.language)),
                last_day => c.last_day.map(|d| render::day(d, visit.language)),
                begins => c.begins.map(|d| render::day(d, visit.language)),
                // The course counts verdicts `affected`: it is that of basic authentication and of nothing else.
                chart => (c.affects == Affects::BasicAuth)
                    .then(|| chart::burn_down(&course, today, c.deadline, visit.language)),
                sites => seen.counts.affected + seen.counts.switched + seen.counts.consent_missing,
                done => ctx.snapshot.customers.values().filter(|customer| c.is_done_by(customer)).count(),
                by_word => c.affects == Affects::ExchangeOnline,
                business_days => today.iter_days().take(3660).take_while(|d| *d < c.deadline)
                    .filter(|d| config.calendar.is_business_day(*d)).count(),
            }
        })
        .collect();
    let yesterday = render::verdicts(&seen.past.yesterday);
    let total = seen.counts.total();
    let known_yesterday = seen.past.yesterday.total() > 0;
    let verdicts: Vec<_> = render::verdicts(&seen.counts).into_iter().zip(yesterday).map(|((word, n), (_, before))| {
        let change = i64::try_from(n).unwrap_or(0) - i64::try_from(before).unwrap_or(0);
        context! { word, n, change => known_yesterday.then_some(change), share => (n * 100).checked_div(total).unwrap_or(0) }
    }).collect();
    let runs: Vec<_> = seen
        .last
        .iter()
        .map(|(kind, run)| {
            context! {
                kind => kind.as_str(),
                next => render::at_or_none(config, schedule::next(&ctx, *kind)),
                cron => schedule::cron(&config.schedule, *kind).as_str(),
                last => run.as_ref().map(|r| render::at(config, r.started_at)),
                outcome => run.as_ref().map(|r| r.outcome.map_or("running", |o| o.as_str())),
            }
        })
        .collect();
    let content = context! {
        campaigns, verdicts, runs, total,
        customers => seen.customers,
        held => of("held"), unknown => of("unknown"), failed => of("failed"), queued => of("queued") + of("sending"), sent => of("sent"),
        untold => seen.untold,
        // Only those of customers in the file: nobody can put another right.
        dead => seen.dead.iter().filter(|d| ctx.snapshot.customers.contains_key(&d.customer)).count(),
        refused => shared.parts.live.last_reload().is_some_and(|r| r.refused.is_some()),
        unreadable => seen.concerns.unreadable,
        unreadable_after => config.alerts.unreadable_after,
        numbers_at => render::at(config, seen.at),
        quarantined => ctx.snapshot.fleet.quarantined.len(),
    };
    shared.page_with(&visit, "overview.html", &seen.holds, content)
}

/// Affected sites at the end of each day, from the first look until today.
fn course(ctx: &Context, moves: &[(Timestamp, i64)], today: NaiveDate) -> Vec<(NaiveDate, i64)> {
    let calendar = &ctx.snapshot.config.calendar;
    let Some(first) = moves.first().map(|(at, _)| calendar.day(*at)) else { return Vec::new() };
    let mut moves = moves.iter().peekable();
    let mut affected = 0;
    first
        .iter_days()
        .take_while(|day| *day <= today)
        .take(3660)
        .map(|day| {
            while let Some((_, moved)) = moves.next_if(|(at, _)| calendar.day(*at) <= day) {
                affected += moved;
            }
            (day, affected.max(0))
        })
        .collect()
}
