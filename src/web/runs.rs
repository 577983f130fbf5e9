//! Scans and notice passes: when, how long, how they ended.

use axum::extract::State;
use axum::response::Response;
use minijinja::context;

use super::visit::Visit;
use super::{Fail, Shared, render};
use crate::domain::Timestamp;

/// The newest runs.
const SHOWN: u32 = 200;

pub(super) async fn page(State(shared): State<Shared>, visit: Visit) -> Result<Response, Fail> {
    let runs = shared.ask(|ctx| async move { ctx.store.runs(SHOWN).await }).await?;
    let ctx = shared.context();
    let config = &ctx.snapshot.config;
    let lines: Vec<_> = runs
        .iter()
        .map(|r| {
            context! {
                id => r.id.0, kind => r.kind.as_str(), by_command => r.due_at.is_none(), owner => r.owner.clone(),
                started => render::at(config, r.started_at),
                took => r.finished_at.map(|end| took(r.started_at, end)),
                outcome => r.outcome.map_or("running", |o| o.as_str()),
                customers => r.counts.customers, sites => r.counts.sites, unreadable => r.counts.unreadable,
                queued => r.counts.queued, held => r.counts.held, detail => r.detail.clone(),
            }
        })
        .collect();
    shared.page(&visit, "runs.html", context! { lines, shown => SHOWN }).await
}

fn took(from: Timestamp, to: Timestamp) -> String {
    let ms = (to - from).num_milliseconds().max(0);
    match ms / 1000 {
        0..=9 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        s @ 10..=119 => format!("{s} s"),
        s => format!("{} min {} s", s / 60, s % 60),
    }
}
