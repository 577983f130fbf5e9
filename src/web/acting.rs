//! What signed-in people do. Every one of these is a POST with the session's form token; who did it goes to the store.

use axum::Form;
use axum::extract::{Path, State};
use axum::http::header::{LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use minijinja::context;
use serde::Deserialize;
use subtle::ConstantTimeEq as _;

use super::visit::{self, Stranger, Visit};
use super::{Fail, Shared, password, render};
use crate::daemon::progress::Silent;
use crate::daemon::scan::{ScanRequest, Scanned, scan as scan_fleet};
use crate::domain::delivery::DeliveryId;
use crate::domain::site::CustomerId;
use crate::store::{Acted, By, Hold, HoldKind, OutboxAction, OutboxFilter};

/// What every form sends.
#[derive(Deserialize)]
pub(super) struct Sent {
    #[serde(default)]
    csrf: String,
    #[serde(default)]
    action: String,
    #[serde(default)]
    id: Option<i64>,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    back: String,
    #[serde(default)]
    user: String,
    #[serde(default)]
    password: String,
}

/// Why nothing was done.
pub(super) enum Refused {
    Forbidden,
    Bad(&'static str),
    Fail(Fail),
}

impl From<Fail> for Refused {
    fn from(fail: Fail) -> Self {
        Self::Fail(fail)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        match self {
            Self::Forbidden => {
                (StatusCode::FORBIDDEN, "only for signed-in users, from this dashboard's own forms\n").into_response()
            }
            Self::Bad(why) => (StatusCode::BAD_REQUEST, why).into_response(),
            Self::Fail(fail) => fail.into_response(),
        }
    }
}

/// Who acts, if the form is one of ours.
fn actor(visit: &Visit, sent: &Sent) -> Result<String, Refused> {
    let session = visit.session.as_ref().ok_or(Refused::Forbidden)?;
    if bool::from(session.csrf.as_bytes().ct_eq(sent.csrf.as_bytes())) {
        Ok(session.user.clone())
    } else {
        Err(Refused::Forbidden)
    }
}

fn by(shared: &Shared, who: String) -> By {
    let ctx = shared.context();
    let at = ctx.now();
    By { who, at, day: ctx.snapshot.config.calendar.day(at) }
}

/// Back to a page of ours.
fn back(to: &str) -> Response {
    let ours = to.starts_with('/') && !to.starts_with("//") && to.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    (StatusCode::SEE_OTHER, [(LOCATION, if ours { to } else { "/" }.to_owned())]).into_response()
}

pub(super) async fn outbox(
    State(shared): State<Shared>,
    visit: Visit,
    Form(sent): Form<Sent>,
) -> Result<Response, Refused> {
    let who = actor(&visit, &sent)?;
    let action = match sent.action.as_str() {
        "approve" | "approve_all" => OutboxAction::Approve,
        "retry" => OutboxAction::Retry,
        "cancel" => OutboxAction::Cancel,
        _ => return Err(Refused::Bad("an unknown action\n")),
    };
    let by = by(&shared, who);
    let (id, all) = (sent.id.map(DeliveryId), sent.action == "approve_all");
    let acted = shared
        .ask(move |ctx| async move {
            let ids = if all {
                let filter = OutboxFilter { states: vec!["held".to_owned()], ..OutboxFilter::default() };
                let held = ctx.store.deliveries(&filter).await?;
                held.iter().map(|d| d.id).rev().collect()
            } else {
                Vec::from_iter(id)
            };
            ctx.store.act(&ids, action, &by).await
        })
        .await?;
    shared.parts.wake_mail.notify_waiters();
    shared.glance.forget();
    let done = acted.iter().filter(|a| **a == Acted::Done).count();
    if done == acted.len() || all {
        return Ok(back(&sent.back));
    }
    Ok(shared.page(&visit, "done.html", context! { back => "/outbox" }).await?)
}

pub(super) async fn pause(
    State(shared): State<Shared>,
    visit: Visit,
    Form(sent): Form<Sent>,
) -> Result<Response, Refused> {
    let who = actor(&visit, &sent)?;
    let reason: String = sent.reason.trim().chars().filter(|c| !c.is_control()).take(300).collect();
    if reason.is_empty() {
        return Err(Refused::Bad("a pause needs its reason\n"));
    }
    let hold = Hold { kind: HoldKind::Paused, reason, set_by: who, set_at: shared.context().now() };
    shared.ask(move |ctx| async move { ctx.store.set_hold(&hold).await }).await?;
    shared.glance.forget();
    Ok(back("/"))
}

pub(super) async fn resume(
    State(shared): State<Shared>,
    visit: Visit,
    Form(sent): Form<Sent>,
) -> Result<Response, Refused> {
    let by = by(&shared, actor(&visit, &sent)?);
    shared.ask(move |ctx| async move { ctx.store.clear_holds(&by).await }).await?;
    shared.parts.wake_mail.notify_waiters();
    shared.glance.forget();
    Ok(back("/"))
}

pub(super) async fn scan(
    State(shared): State<Shared>,
    visit: Visit,
    Path(id): Path<String>,
    Form(sent): Form<Sent>,
) -> Result<Response, Refused> {
    let by = by(&shared, actor(&visit, &sent)?);
    let ctx = shared.context();
    let id = CustomerId::new(&id).ok().filter(|id| ctx.snapshot.member(id).is_some()).ok_or(Fail::NotFound)?;
    let request = ScanRequest { only: vec![id.clone()], ..ScanRequest::default() };
    let stop = shared.parts.stop.clone();
    let address = format!("/customers/{}", render::path_part(id.as_str()));
    let (asked, who) = (id.clone(), by.who.clone());
    shared.ask(move |ctx| async move { ctx.store.note_asked(&asked, &by).await }).await?;
    // Not waited for: a slow admin tool must not hold the page; the runs' page tells how it went.
    tokio::spawn(async move {
        tracing::info!(customer = %id, who, "a scan of one customer, asked for on the dashboard");
        match scan_fleet(&ctx, &request, &stop, &Silent, |_| {}).await {
            Ok(Scanned::Ran(_)) => {}
            Ok(_) => tracing::warn!(customer = %id, "another scan runs; this customer is seen by that one"),
            Err(error) => tracing::error!(customer = %id, "the scan failed: {error:#}"),
        }
    });
    Ok(back(&address))
}

pub(super) async fn sign_in_page(
    State(shared): State<Shared>,
    Stranger { visit, .. }: Stranger,
) -> Result<Response, Fail> {
    if !visit.users || visit.session.is_some() {
        return Ok(back("/"));
    }
    shared.page_with(&visit, "sign-in.html", &[], context! { failed => false, waits => false })
}

pub(super) async fn sign_in(
    State(shared): State<Shared>,
    stranger: Stranger,
    headers: HeaderMap,
    Form(sent): Form<Sent>,
) -> Result<Response, Refused> {
    // Another site must not sign somebody in as it likes.
    let site = headers.get(HeaderName::from_static("sec-fetch-site")).and_then(|v| v.to_str().ok());
    if site == Some("cross-site") || !stranger.visit.users {
        return Err(Refused::Forbidden);
    }
    let ctx = shared.context();
    let (visit, peer) = (stranger.visit, stranger.peer);
    if !shared.sessions.may_try(peer, &sent.user, ctx.now()) {
        tracing::warn!("too many failed sign-ins from {peer}; refused for a while");
        let page = shared.page_with(&visit, "sign-in.html", &[], context! { failed => false, waits => true })?;
        return Ok((StatusCode::TOO_MANY_REQUESTS, page).into_response());
    }
    let hash = ctx.snapshot.config.web.users.get(&sent.user).cloned();
    let password = sent.password;
    let right =
        shared
            .ask(move |_| async move {
                tokio::task::spawn_blocking(move || password::verify(&password, hash.as_ref())).await
            })
            .await?;
    if !right {
        tracing::warn!("a sign-in from {peer} failed");
        let page = shared.page_with(&visit, "sign-in.html", &[], context! { failed => true, waits => false })?;
        return Ok((StatusCode::UNAUTHORIZED, page).into_response());
    }
    shared.sessions.succeeded(peer, &sent.user);
    let token = shared.sessions.begin(&sent.user, ctx.now()).ok_or_else(|| Fail::Broken("no randomness".to_owned()))?;
    tracing::info!(who = sent.user, "signed in to the dashboard from {peer}");
    let web = &ctx.snapshot.config.web;
    let secure = if visit::is_https(web) { "; Secure" } else { "" };
    let cookie = format!("{}={token}; Path=/; HttpOnly; SameSite=Lax{secure}", visit::session_cookie(web));
    Ok((StatusCode::SEE_OTHER, [(LOCATION, "/".to_owned()), (SET_COOKIE, cookie)]).into_response())
}

pub(super) async fn sign_out(
    State(shared): State<Shared>,
    visit: Visit,
    Form(sent): Form<Sent>,
) -> Result<Response, Refused> {
    actor(&visit, &sent)?;
    shared.sessions.end(&sent.csrf);
    Ok(back("/sign-in"))
}
