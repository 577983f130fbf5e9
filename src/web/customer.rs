//! One customer: its sites, its cases as a time line with reasons, its mails, and what comes next and why.

use axum::extract::{Path, State};
use axum::response::Response;
use chrono::TimeDelta;
use minijinja::{Value, context};

use super::visit::Visit;
use super::{Fail, Shared, mails, render};
use crate::daemon::Context;
use crate::domain::Timestamp;
use crate::domain::case::{Case, CaseState};
use crate::domain::customer::{Customer, Language};
use crate::domain::plan::{Decision, decide, walk};
use crate::domain::site::CustomerId;
use crate::store::{DeadContact, HistoryEntry, HistoryKind, OutboxFilter, SiteLine, StoreError, contact_fingerprint};

/// The newest lines and mails that are shown.
const SHOWN: usize = 300;

/// How far ahead the next notice is looked for.
const AHEAD: TimeDelta = TimeDelta::days(120);

pub(super) async fn page(State(shared): State<Shared>, visit: Visit, Path(id): Path<String>) -> Result<Response, Fail> {
    let id = CustomerId::new(&id).map_err(|_| Fail::NotFound)?;
    let asked = id.clone();
    let found = shared
        .ask(move |ctx| async move {
            let store = &ctx.store;
            let Some(sheet) = store.customer_sheet(&asked).await? else { return Ok(None) };
            let history = store.history(&asked).await?.unwrap_or_default();
            let cases = store.customer_states(std::slice::from_ref(&asked)).await?.pop().map(|s| s.cases);
            let filter = OutboxFilter { customer: Some(asked), limit: Some(100), ..OutboxFilter::default() };
            let mails = store.deliveries(&filter).await?;
            let dead = store.dead_contacts().await?;
            Ok::<_, StoreError>(Some((sheet, history, cases.unwrap_or_default(), mails, dead, store.holds().await?)))
        })
        .await?;
    let Some((sheet, history, cases, deliveries, dead, holds)) = found else { return Err(Fail::NotFound) };
    let ctx = shared.context();
    let config = &ctx.snapshot.config;
    let known = ctx.snapshot.customers.get(&id);
    let known = known.as_ref();
    let quarantined = ctx.snapshot.fleet.quarantined.iter().find(|q| q.id.as_ref() == Some(&id));
    let left_out = history.len().saturating_sub(SHOWN);
    let content = context! {
        id => id.as_str(),
        name => sheet.name.clone(),
        gone => render::at_or_none(config, sheet.gone_at),
        contact => known.and_then(|c| c.contact_name.clone()),
        phone => known.and_then(|c| c.phone.clone()),
        to => known.map(|c| contacts(&ctx, c, &dead)),
        notify => known.map(|c| c.notify),
        opted_out => known.map(|c| c.opted_out),
        row_errors => quarantined.map(|q| q.errors.iter().map(|e| context! {
            line => e.line, column => e.column.clone(), message => e.message.clone(),
        }).collect::<Vec<_>>()),
        sites => sheet.sites.iter().map(|s| site(&ctx, s)).collect::<Vec<_>>(),
        cases => cases.iter().map(|c| case(&ctx, c, visit.language)).collect::<Vec<_>>(),
        history => history.iter().skip(left_out).rev().map(|e| entry(&ctx, e)).collect::<Vec<_>>(),
        left_out,
        mails => deliveries.iter().map(|d| mails::line(config, d, &sheet.name)).collect::<Vec<_>>(),
    };
    shared.page_with(&visit, "customer.html", &holds, content)
}

/// The addresses of the file, masked, and which of them are known to be dead.
fn contacts(ctx: &Context, customer: &Customer, dead: &[DeadContact]) -> Vec<Value> {
    let addresses = customer.email.iter().chain(&customer.cc).chain(&customer.fallback_email);
    addresses
        .map(|address| {
            let print = contact_fingerprint(&customer.id, address.as_str());
            let dead = dead.iter().find(|d| d.customer == customer.id && d.fingerprint == print);
            context! {
                address => address.masked(),
                fallback => customer.fallback_email.contains(address),
                dead => dead.map(|d| context! {
                    since => render::at(&ctx.snapshot.config, d.since), why => d.why.clone(), delivery => d.delivery.0,
                }),
            }
        })
        .collect()
}

fn site(ctx: &Context, line: &SiteLine) -> Value {
    let config = &ctx.snapshot.config;
    let seen = &line.seen;
    context! {
        name => seen.site.as_ref().map(|s| s.as_str()),
        verdict => seen.verdict.as_str(),
        reason => seen.verdict.reason().map(|r| r.as_str()),
        server_type => seen.server_type.map(|v| v.as_str()),
        auth_method => seen.auth_method.map(|v| v.as_str()),
        raw_server_type => seen.raw.server_type.clone(),
        raw_auth_method => seen.raw.auth_method.clone(),
        detail => seen.detail.clone(),
        since => render::at(config, line.since),
        seen => render::at(config, seen.observed_at),
        listed => line.listed,
        unreadable_scans => line.unreadable_scans,
    }
}

fn case(ctx: &Context, case: &Case, language: Language) -> Value {
    let config = &ctx.snapshot.config;
    let resolved = match case.state {
        CaseState::Open => None,
        CaseState::Resolved { at } => Some(render::at(config, at)),
    };
    context! {
        campaign => case.campaign.0.clone(),
        reference => case.reference.0.clone(),
        round => case.round,
        opened => render::at(config, case.opened_at),
        round_at => render::at(config, case.round_at),
        resolved,
        sites => case.sites.iter().map(|(name, s)| context! {
            name => name.as_str(), standing => s.standing.as_str(), since => render::at(config, s.since),
        }).collect::<Vec<_>>(),
        next => next(ctx, case, language),
    }
}

/// What today's pass would decide and why, and the next notice if nothing changes.
fn next(ctx: &Context, case: &Case, language: Language) -> Option<Value> {
    let snapshot = &ctx.snapshot;
    let calendar = &snapshot.config.calendar;
    let customer = snapshot.customers.get(&case.customer)?;
    let campaign = snapshot.config.campaigns.iter().map(|c| &c.campaign).find(|c| c.id == case.campaign)?;
    let today = calendar.day(ctx.now());
    let (decision, because) = match decide(case, &customer, campaign, calendar, snapshot.policy(), today) {
        Decision::Tell(due) => (due.kind.as_str(), Some(due.because)),
        Decision::ResolveSilently => ("resolve_silently", None),
        Decision::Nothing(why) => ("nothing", Some(why)),
    };
    let cases = std::slice::from_ref(case);
    let campaigns = std::slice::from_ref(campaign);
    let policy = snapshot.policy();
    let coming = match case.state {
        CaseState::Open => {
            walk(cases, &*snapshot.customers, campaigns, calendar, policy, today, today + AHEAD, usize::MAX)
        }
        CaseState::Resolved { .. } => Vec::new(),
    };
    Some(context! {
        decision, because,
        deadline => render::day(campaign.deadline_of(&customer), language),
        coming => coming.iter().take(6).map(|(day, planned)| context! {
            day => render::day(*day, language), kind => planned.due.kind.as_str(),
            milestone => planned.due.milestone.map(|m| m.to_string()), because => planned.due.because.clone(),
        }).collect::<Vec<_>>(),
    })
}

fn entry(ctx: &Context, entry: &HistoryEntry) -> Value {
    let config = &ctx.snapshot.config;
    // The end of what was seen is an instant: shown as the others are.
    let (text, until) = match entry.text.rsplit_once("; seen until ") {
        Some((text, until)) if entry.what == HistoryKind::Seen => (text, until.parse::<Timestamp>().ok()),
        _ => (entry.text.as_str(), None),
    };
    context! {
        at => render::at(config, entry.at), what => entry.what.as_str(), text,
        until => render::at_or_none(config, until),
    }
}
