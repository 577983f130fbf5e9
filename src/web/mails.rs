//! The outbox, and one mail exactly as it was sent, but for addresses, which are masked.

use axum::extract::{Path, Query, State};
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use mail_parser::MessageParser;
use minijinja::{Value, context};
use serde::Deserialize;

use super::visit::Visit;
use super::{Fail, Shared, guard, render};
use crate::config::Config;
use crate::domain::customer::Address;
use crate::domain::delivery::{DeliveryId, DeliveryState};
use crate::store::{AttemptRow, Claimed, Delivery, MailFilter};

/// Mails on one page.
const PAGE: u32 = 50;

/// What the outbox is asked for.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    state: String,
    #[serde(default)]
    before: Option<i64>,
}

pub(super) async fn outbox(
    State(shared): State<Shared>,
    visit: Visit,
    Query(asked): Query<Asked>,
) -> Result<Response, Fail> {
    let state = DeliveryState::WORDS.iter().find(|w| **w == asked.state).copied();
    let filter = MailFilter {
        states: state.map(|s| vec![s.to_owned()]).unwrap_or_default(),
        before: asked.before.map(DeliveryId),
        limit: PAGE + 1,
    };
    let (mut lines, counts) = shared
        .ask(move |ctx| async move {
            let lines = ctx.store.mail_lines(&filter).await?;
            Ok::<_, crate::store::StoreError>((lines, ctx.store.outbox_counts().await?))
        })
        .await?;
    let more = lines.len() > PAGE as usize;
    lines.truncate(PAGE as usize);
    let ctx = shared.context();
    let config = &ctx.snapshot.config;
    let content = context! {
        state,
        counts => counts.into_iter().map(|(word, n)| context! { word, n }).collect::<Vec<_>>(),
        next => if more { lines.last().map(|l| l.delivery.id.0) } else { None },
        first => asked.before.is_some(),
        lines => lines.iter().map(|l| line(config, &l.delivery, &l.customer_name)).collect::<Vec<_>>(),
    };
    shared.page(&visit, "outbox.html", content).await
}

/// A mail in a list.
pub(super) fn line(config: &Config, d: &Delivery, name: &str) -> Value {
    let held = match &d.state {
        DeliveryState::Held(why) => Some(why.as_str()),
        _ => None,
    };
    let not_before = match &d.state {
        DeliveryState::Queued { not_before } => Some(render::at(config, *not_before)),
        _ => None,
    };
    let word = d.state.as_str();
    context! {
        id => d.id.0,
        customer => d.facts.key.customer.as_str(),
        name,
        kind => d.facts.key.kind.as_str(),
        milestone => d.facts.milestone.clone(),
        round => d.facts.key.round,
        campaign => d.facts.key.campaign.0.clone(),
        state => word,
        held, not_before,
        because => d.facts.because.clone(),
        detail => d.detail.as_deref().map(|text| masked(text, &addresses(d))),
        subject => d.subject.clone(),
        attempts => d.attempts,
        created => render::at(config, d.created_at),
        at => render::at(config, d.state_at),
        approved => d.approved.as_ref().map(|(who, at)| context! { who, at => render::at(config, *at) }),
        can_approve => matches!(&d.state, DeliveryState::Held(why) if *why != crate::domain::delivery::Held::Unknown),
        can_retry => matches!(word, "failed" | "unknown") || held == Some("unknown"),
        can_cancel => matches!(word, "held" | "queued"),
    }
}

fn addresses(d: &Delivery) -> Vec<&Address> {
    d.recipients.iter().map(|r| &r.address).collect()
}

/// A text without the recipients' addresses.
fn masked(text: &str, addresses: &[&Address]) -> String {
    addresses.iter().fold(text.to_owned(), |text, address| text.replace(address.as_str(), &address.masked()))
}

async fn load(shared: &Shared, id: i64) -> Result<(Claimed, Vec<AttemptRow>), Fail> {
    let found = shared.ask(move |ctx| async move { ctx.store.delivery(DeliveryId(id)).await }).await?;
    found.ok_or(Fail::NotFound)
}

pub(super) async fn page(State(shared): State<Shared>, visit: Visit, Path(id): Path<i64>) -> Result<Response, Fail> {
    let (claimed, attempts) = load(&shared, id).await?;
    let ctx = shared.context();
    let config = &ctx.snapshot.config;
    let d = &claimed.delivery;
    let name = ctx
        .snapshot
        .customers
        .get(&d.facts.key.customer)
        .map_or_else(|| d.facts.key.customer.to_string(), |c| c.name.clone());
    let parsed = MessageParser::default().parse(&claimed.message.raw);
    let addresses = addresses(d);
    let text = parsed.as_ref().and_then(|m| m.body_text(0)).map(|t| masked(&t, &addresses));
    let attachments: Vec<String> = parsed
        .iter()
        .flat_map(|m| m.attachments())
        .filter_map(|a| {
            use mail_parser::MimeHeaders as _;
            a.attachment_name().map(ToOwned::to_owned)
        })
        .collect();
    let content = context! {
        mail => line(config, d, &name),
        recipients => d.recipients.iter().map(|r| context! {
            address => r.address.masked(), state => r.state.as_str(), reply => r.reply.clone(),
        }).collect::<Vec<_>>(),
        attempts => attempts.iter().map(|a| context! {
            number => a.number, started => render::at(config, a.started_at), ended => render::at_or_none(config, a.finished_at),
            outcome => a.outcome.clone(), reply => a.reply.clone(),
        }).collect::<Vec<_>>(),
        html => parsed.as_ref().is_some_and(|m| m.html_body_count() > 0),
        text, attachments,
        headers => headers(&claimed.message.raw, &addresses),
        evidence => render::at(config, d.evidence_at),
        rendered_for => render::day(d.rendered_for, visit.language),
        sites => d.sites.iter().map(ToString::to_string).collect::<Vec<_>>(),
        message_id => d.message_id.clone(),
    };
    shared.page(&visit, "mail.html", content).await
}

/// The header fields as they went out, encoded words and all.
fn headers(raw: &[u8], addresses: &[&Address]) -> String {
    let end = raw.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or(raw.len()).min(64 * 1024);
    masked(&String::from_utf8_lossy(&raw[..end]), addresses)
}

/// The HTML part alone, for the frame.
pub(super) async fn html(State(shared): State<Shared>, _visit: Visit, Path(id): Path<i64>) -> Result<Response, Fail> {
    let (claimed, _) = load(&shared, id).await?;
    let parsed = MessageParser::default().parse(&claimed.message.raw);
    let html = parsed.as_ref().and_then(|m| m.body_html(0)).ok_or(Fail::NotFound)?;
    let html = masked(&html, &addresses(&claimed.delivery));
    let headers = [(CONTENT_TYPE, "text/html; charset=utf-8"), (CONTENT_SECURITY_POLICY, guard::MAIL_POLICY)];
    Ok((headers, html).into_response())
}
