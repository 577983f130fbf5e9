//! What the service answers over HTTP: `/healthz`, `/readyz`, `/metrics`. Reads only; GET changes nothing.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use chrono::TimeDelta;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;

use crate::daemon::Context;
use crate::daemon::reload::Live;
use crate::daemon::systemd::HEARTBEAT_MAX;
use crate::metrics::Levels;

/// What the handlers see.
#[derive(Clone)]
struct Shared {
    live: Arc<Live>,
    heartbeat: watch::Receiver<Instant>,
}

/// Serves until told to stop. `heartbeat`: when the schedules were looked at last.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    live: Arc<Live>,
    heartbeat: watch::Receiver<Instant>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let app = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, Duration::from_secs(10)))
        .layer(RequestBodyLimitLayer::new(64 * 1024))
        .with_state(Shared { live, heartbeat });
    axum::serve(listener, app).with_graceful_shutdown(async move { stop.cancelled().await }).await
}

async fn ready(State(shared): State<Shared>) -> Response {
    let ctx = shared.live.context();
    // In a task of its own: a request that goes away must not drop a database future half-way.
    let store = Arc::clone(&ctx.store);
    let answered = tokio::spawn(async move { store.ping().await }).await;
    if !matches!(answered, Ok(Ok(()))) {
        return (StatusCode::SERVICE_UNAVAILABLE, "the store does not answer\n").into_response();
    }
    if shared.heartbeat.borrow().elapsed() > HEARTBEAT_MAX {
        return (StatusCode::SERVICE_UNAVAILABLE, "the schedules do not run\n").into_response();
    }
    "ready\n".into_response()
}

async fn metrics(State(shared): State<Shared>) -> Response {
    let ctx = shared.live.context();
    let levels = match tokio::spawn(levels(ctx.clone())).await {
        Ok(Ok(levels)) => levels,
        Ok(Err(error)) => {
            tracing::error!("cannot read the levels for /metrics: {error}");
            return (StatusCode::SERVICE_UNAVAILABLE, "the store does not answer\n").into_response();
        }
        Err(_) => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
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
