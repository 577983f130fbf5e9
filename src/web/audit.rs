//! Who did what: approvals, cancellations, holds, scans asked for, the newest first.

use axum::extract::{Query, State};
use axum::response::Response;
use minijinja::context;
use serde::Deserialize;

use super::visit::Visit;
use super::{Fail, Shared, render};

/// Deeds on one page.
const PAGE: u32 = 100;

#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    before: Option<i64>,
}

pub(super) async fn page(
    State(shared): State<Shared>,
    visit: Visit,
    Query(asked): Query<Asked>,
) -> Result<Response, Fail> {
    let mut deeds = shared.ask(move |ctx| async move { ctx.store.deeds(asked.before, PAGE + 1).await }).await?;
    let more = deeds.len() > PAGE as usize;
    deeds.truncate(PAGE as usize);
    let ctx = shared.context();
    let config = &ctx.snapshot.config;
    let lines: Vec<_> = deeds
        .iter()
        .map(|deed| {
            context! {
                at => render::at(config, deed.at),
                customer => deed.customer.as_ref().map(|(id, name)| context! { id => id.as_str(), name }),
                delivery => deed.delivery.map(|id| id.0),
                word => deed.word.clone(), text => deed.text.clone(),
            }
        })
        .collect();
    let content = context! {
        lines,
        first => asked.before.is_some(),
        next => if more { deeds.last().map(|deed| deed.id) } else { None },
    };
    shared.page(&visit, "audit.html", content).await
}
