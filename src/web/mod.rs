//! What the service answers over HTTP: `/healthz`, `/readyz`, `/metrics`, and the dashboard.
//!
//! Invariants: GET changes nothing; every value is escaped by the templates; no page leaves without its headers; the
//! store is asked in tasks of their own, a few at a time, so that neither a reader who goes away nor many readers at
//! once touch a scan or a mail; full mail addresses are never shown.

mod acting;
mod audit;
mod calls;
mod chart;
mod customer;
mod customers;
mod glance;
mod guard;
mod health;
mod listen;
mod mails;
mod overview;
pub mod password;
mod plan;
mod render;
mod runs;
mod session;
mod settings;
mod visit;
mod words;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;

use crate::daemon::Context;
use crate::daemon::reload::Live;
use crate::domain::Timestamp;

/// What the web listener works with.
pub struct Parts {
    /// What runs now.
    pub live: Arc<Live>,
    /// When the schedules were looked at last.
    pub heartbeat: watch::Receiver<Instant>,
    /// Wakes the deliverer after a person released something.
    pub wake_mail: Arc<Notify>,
    /// Ends it.
    pub stop: CancellationToken,
}

/// What the handlers see.
struct Inner {
    parts: Parts,
    pages: render::Pages,
    sessions: session::Sessions,
    /// So many requests of people may ask the store at once.
    desks: Arc<Semaphore>,
    /// The same for machines: a page that takes long must not look as if the service were ill.
    gauges: Arc<Semaphore>,
    glance: glance::Glance,
    started: Timestamp,
}

type Shared = Arc<Inner>;

/// Requests that ask the store at once: fewer than the store has readers.
const DESKS: usize = 2;

/// `/readyz` and `/metrics`, beside them.
const GAUGES: usize = 1;

/// One request, the wait for its turn included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a page cannot be shown.
#[derive(Debug)]
enum Fail {
    /// There is no such thing.
    NotFound,
    /// The store or the machine does not answer.
    Broken(String),
}

impl IntoResponse for Fail {
    fn into_response(self) -> Response {
        match self {
            Self::NotFound => (StatusCode::NOT_FOUND, "not found\n").into_response(),
            Self::Broken(why) => {
                tracing::error!("the dashboard cannot show a page: {why}");
                (StatusCode::SERVICE_UNAVAILABLE, "the store does not answer; see the log\n").into_response()
            }
        }
    }
}

impl Inner {
    fn context(&self) -> Context {
        self.parts.live.context()
    }

    /// Asks the store, in a task of its own: a request that goes away must not drop a database future half-way.
    async fn ask<T, E, F, A>(&self, ask: A) -> Result<T, Fail>
    where
        T: Send + 'static,
        E: std::fmt::Display + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        A: FnOnce(Context) -> F,
    {
        self.ask_at(&self.desks, ask).await
    }

    /// The same at one of these places. A request that goes away, or whose time is over, leaves its place only when the
    /// store has answered: there are never more questions under way than places.
    async fn ask_at<T, E, F, A>(&self, places: &Arc<Semaphore>, ask: A) -> Result<T, Fail>
    where
        T: Send + 'static,
        E: std::fmt::Display + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        A: FnOnce(Context) -> F,
    {
        let desk = Arc::clone(places).acquire_owned().await.map_err(|e| Fail::Broken(e.to_string()))?;
        let future = ask(self.context());
        let asked = tokio::spawn(async move {
            let _desk = desk;
            future.await
        });
        match asked.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(Fail::Broken(error.to_string())),
            Err(error) => Err(Fail::Broken(error.to_string())),
        }
    }

    /// Work for the processor alone, beside the threads that serve.
    async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Fail> {
        tokio::task::spawn_blocking(work).await.map_err(|e| Fail::Broken(e.to_string()))
    }
}

/// Serves until told to stop.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, parts: Parts) -> std::io::Result<()> {
    let stop = parts.stop.clone();
    let started = parts.live.context().now();
    let shared = Arc::new(Inner {
        parts,
        pages: render::Pages::new(),
        sessions: session::Sessions::default(),
        desks: Arc::new(Semaphore::new(DESKS)),
        gauges: Arc::new(Semaphore::new(GAUGES)),
        glance: glance::Glance::default(),
        started,
    });
    tokio::spawn(glance::keep_warm(Arc::clone(&shared)));
    listen::serve(listener, router(shared), listen::Limits::default(), stop).await
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/", get(overview::page))
        .route("/customers", get(customers::page))
        .route("/customers.csv", get(customers::csv))
        .route("/customers/{id}", get(customer::page))
        .route("/customers/{id}/scan", post(acting::scan))
        .route("/outbox", get(mails::outbox))
        .route("/outbox/act", post(acting::outbox))
        .route("/mails/{id}", get(mails::page))
        .route("/mails/{id}/html", get(mails::html))
        .route("/plan", get(plan::page))
        .route("/calls", get(calls::page))
        .route("/runs", get(runs::page))
        .route("/audit", get(audit::page))
        .route("/configuration", get(settings::page))
        .route("/pause", post(acting::pause))
        .route("/resume", post(acting::resume))
        .route("/sign-in", get(acting::sign_in_page).post(acting::sign_in))
        .route("/sign-out", post(acting::sign_out))
        .route("/assets/app.css", get(render::css))
        .route("/assets/app.js", get(render::js))
        .route("/assets/icon.svg", get(render::icon))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .fallback(|| async { Fail::NotFound })
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, REQUEST_TIMEOUT))
        .layer(RequestBodyLimitLayer::new(64 * 1024))
        .layer(middleware::map_response(guard::headers))
        .with_state(shared)
}
