//! For machines: whether it works, and its numbers. The paths and words are promises.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::TimeDelta;
use std::time::Duration;

use super::Shared;
use crate::daemon::Context;
use crate::daemon::systemd::HEARTBEAT_MAX;
use crate::metrics::Levels;

/// Who asks whether we are ready wants to know soon.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn ready(State(shared): State<Shared>) -> Response {
    if let Some(why) = shared.context().life.rests() {
        return (StatusCode::SERVICE_UNAVAILABLE, format!("this node takes no work: {why}\n")).into_response();
    }
    // The wait ends, the question does not: it is a task of its own and never dropped half-way.
    let asked = shared.ask_at(&shared.gauges, |ctx| async move { ctx.store.ping().await });
    if !matches!(tokio::time::timeout(ANSWER_TIMEOUT, asked).await, Ok(Ok(()))) {
        return (StatusCode::SERVICE_UNAVAILABLE, "the store does not answer\n").into_response();
    }
    if shared.parts.heartbeat.borrow().elapsed() > HEARTBEAT_MAX {
        return (StatusCode::SERVICE_UNAVAILABLE, "the schedules do not run\n").into_response();
    }
    "ready\n".into_response()
}

pub(super) async fn metrics(State(shared): State<Shared>) -> Response {
    let ctx = shared.context();
    let levels = match shared.ask_at(&shared.gauges, levels).await {
        Ok(levels) => levels,
        Err(fail) => return fail.into_response(),
    };
    match ctx.metrics.encode(&levels) {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-store")], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn levels(ctx: Context) -> crate::store::Result<Levels> {
    let now = ctx.now();
    let counts = ctx.store.site_counts().await?;
    let sites = vec![
        ("affected", counts.affected),
        ("switched", counts.switched),
        ("consent_missing", counts.consent_missing),
        ("not_exchange_online", counts.not_exchange_online),
        ("unreadable", counts.unreadable),
    ];
    let today = ctx.snapshot.config.calendar.day(now);
    let days =
        |c: &crate::config::CampaignConfig| (c.campaign.id.to_string(), (c.campaign.deadline - today).num_days());
    let oldest = ctx.store.next_due().await?.map_or(TimeDelta::zero(), |at| (now - at).max(TimeDelta::zero()));
    #[allow(clippy::cast_precision_loss, reason = "seconds fit an f64")]
    let oldest_due_seconds = oldest.num_milliseconds() as f64 / 1000.0;
    Ok(Levels {
        sites,
        outbox: ctx.store.outbox_counts().await?,
        days_left: ctx.snapshot.config.campaigns.iter().map(days).collect(),
        oldest_due_seconds,
    })
}
