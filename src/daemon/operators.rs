//! Mail to the operators: what was raised becomes one mail of a cause and hour, and a webhook call; and its way out.
//!
//! Invariant: mode, holds, pause and business hours keep nothing back here, and nothing here goes to a customer. The mail
//! is queued in the transaction that marks its alerts as told; the webhook is called after it, best effort.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::reload::Live;
use super::{Context, Snapshot, alert, local, webhook};
use crate::alert::{self as texts, AlertFacts, Item, LISTED, Texts};
use crate::domain::Timestamp;
use crate::domain::alert::{Cause, EVERY};
use crate::domain::delivery::{Attempt, DeliveryState, Outcome, RecipientState, RetryPolicy, UnknownPolicy, settle};
use crate::mail::message::{self, Parts};
use crate::mail::{Outgoing, Transport};
use crate::store::{AlertGroup, AlertRow, Message, NewOperatorMail, OperatorMailKind, RunKind, SendingOperatorMail};

/// How often it is looked at what there is to tell. "At once" for a person.
const LOOK: Duration = Duration::from_secs(3);

/// What was seen at the last look, so that the store is written only when something changed.
#[derive(Default)]
pub struct Tending {
    snapshot: Option<Arc<Snapshot>>,
    holds: Option<Vec<Timestamp>>,
}

/// Looks again and again, until told to stop.
pub async fn run(live: Arc<Live>, wake_mail: Arc<Notify>, stop: CancellationToken) {
    let mut tending = Tending::default();
    while !stop.is_cancelled() {
        let ctx = live.context();
        let told = if ctx.life.rests().is_some() { Ok(0) } else { tend(&ctx, &mut tending).await };
        match told {
            Ok(0) => {}
            Ok(_) => wake_mail.notify_waiters(),
            Err(error) => tracing::error!("the operators could not be told: {error:#}"),
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Notices what lasts (holds, bad rows) and tells what was raised and is due. Returns how many alerts were told.
///
/// # Errors
/// When the store fails, or a mail cannot be made.
pub async fn tend(ctx: &Context, tending: &mut Tending) -> anyhow::Result<u64> {
    if tending.snapshot.as_ref().is_none_or(|seen| !Arc::ptr_eq(seen, &ctx.snapshot)) {
        alert::of_rows(ctx).await;
        alert::of_contacts(ctx).await;
        tending.snapshot = Some(Arc::clone(&ctx.snapshot));
    }
    let holds: Vec<Timestamp> = ctx.store.holds().await?.iter().map(|hold| hold.set_at).collect();
    if tending.holds.as_ref() != Some(&holds) {
        alert::of_holds(ctx).await?;
        tending.holds = Some(holds);
    }
    let now = ctx.now();
    let mut told = 0;
    let mut scanning = None;
    for group in ctx.store.untold_alerts().await? {
        // A clock that was set back must not silence anything.
        if group.last_told.is_some_and(|last| last <= now && now - last < EVERY) {
            continue;
        }
        if group.cause.grows_in_a_scan() {
            let running = match scanning {
                Some(running) => running,
                None => *scanning.insert(is_scanning(ctx, now).await?),
            };
            if running {
                continue;
            }
        }
        told += u64::from(tell(ctx, &group, now).await?);
    }
    Ok(told)
}

async fn is_scanning(ctx: &Context, now: Timestamp) -> anyhow::Result<bool> {
    let run = ctx.store.last_run(RunKind::Scan, false).await?;
    Ok(run.is_some_and(|run| run.finished_at.is_none() && run.lease_until > now))
}

async fn tell(ctx: &Context, group: &AlertGroup, now: Timestamp) -> anyhow::Result<bool> {
    let config = &ctx.snapshot.config;
    let item = |row: AlertRow| Item { customer: row.customer, detail: row.detail, times: row.times, over: row.over };
    let facts = AlertFacts {
        cause: group.cause,
        count: group.count,
        times: group.times,
        first_at: group.first_at,
        items: ctx.store.alerts_of(group, LISTED).await?.into_iter().map(item).collect(),
        mode: config.mode.as_str(),
        zone: config.calendar.zone,
        now,
    };
    let texts = texts::alert(&facts, config.alerts.language)?;
    let key = format!("alert/{}/{}/{}", group.cause, group.upto, group.first_at.timestamp_millis());
    let mail = compose(ctx, OperatorMailKind::Alert, &key, &texts, now)?;
    if !ctx.store.tell(group, mail.as_ref(), now).await? {
        return Ok(false);
    }
    log(group, &texts, mail.is_some());
    if let Some(hook) = &config.alerts.webhook {
        let (url, body, cause) = (hook.url.clone(), texts::webhook_body(hook.format, &facts, &texts), group.cause);
        // Apart: a host that does not answer must hold up neither the next alert nor a stop.
        tokio::spawn(async move {
            if let Err(why) = webhook::post(&url, &body).await {
                tracing::error!(%cause, "the webhook could not be called (alerts.webhook): {why}");
            }
        });
    }
    Ok(true)
}

fn log(group: &AlertGroup, texts: &Texts, mailed: bool) {
    let to = if mailed { "" } else { "; nobody to mail it to (alerts.to is empty)" };
    let AlertGroup { cause, count, .. } = group;
    match cause {
        Cause::MailRefused | Cause::Held | Cause::LogonsRefused | Cause::BadEdit | Cause::LayoutChanged => {
            tracing::error!(%cause, count, "alert: {}{to}", texts.subject);
        }
        _ => tracing::warn!(%cause, count, "alert: {}{to}", texts.subject),
    }
}

/// The whole mail; `None`: there is nobody to mail to.
///
/// # Errors
/// When the message builder refuses.
pub fn compose(
    ctx: &Context,
    kind: OperatorMailKind,
    key: &str,
    texts: &Texts,
    now: Timestamp,
) -> anyhow::Result<Option<NewOperatorMail>> {
    let config = &ctx.snapshot.config;
    if config.alerts.to.is_empty() {
        return Ok(None);
    }
    let domain = config.mail.from.address.domain();
    let message_id = message::message_id(&format!("operators/{key}"), domain);
    let parts = Parts {
        from: config.mail.from.clone(),
        reply_to: None,
        to: config.alerts.to.clone(),
        cc: Vec::new(),
        subject: texts.subject.clone(),
        text: texts.text.clone(),
        html: Some(texts.html.clone()),
        attachments: Vec::new(),
        message_id: message_id.clone(),
        date: now.with_timezone(&config.calendar.zone).fixed_offset(),
        thread: Vec::new(),
        list_id: Some(format!("kigen-operators.{domain}")),
    };
    let message = Message {
        message_id,
        subject: texts.subject.clone(),
        envelope_from: config.mail.envelope_from.clone(),
        raw: message::build(&parts).context("the mail to the operators cannot be built")?,
        rendered_for: config.calendar.day(now),
        evidence_at: now,
        sites: Vec::new(),
    };
    Ok(Some(NewOperatorMail::new(key.to_owned(), kind, config.alerts.to.clone(), message)))
}

/// Sends one mail to the operators and records how it went; returns until when the server refuses us, if it does.
///
/// `way`: the worker's own connection, or why there is none.
///
/// # Errors
/// When the store fails.
pub async fn send(
    ctx: &Context,
    owner: &str,
    sending: SendingOperatorMail,
    way: Result<&mut Box<dyn Transport>, String>,
) -> anyhow::Result<Option<Timestamp>> {
    let SendingOperatorMail { mail, envelope_from, raw } = sending;
    let pending = mail.recipients.iter().filter(|r| r.state == RecipientState::Pending);
    let outgoing = Outgoing { envelope_from, recipients: pending.map(|r| r.address.clone()).collect(), message: raw };
    let attempt = match way {
        Ok(way) => way.send(&outgoing).await,
        Err(why) => Attempt::whole(Outcome::Deferred, why),
    };
    let now = ctx.now();
    // An alert twice is better than none, whatever `mail.unknown` says of customers' mail.
    let retry = RetryPolicy { unknown: UnknownPolicy::Resend, ..RetryPolicy::default() };
    let tries = mail.attempts.saturating_sub(mail.blocked);
    let (state, recipients) = settle(tries, mail.unknown_before, &mail.recipients, &attempt, &retry, now);
    ctx.store.record_operator_mail(mail.id, owner, &attempt, &state, &recipients, now).await?;
    alert::way_out(ctx, &attempt).await;
    let (id, kind, reply) = (mail.id, mail.kind.as_str(), &attempt.reply);
    match &state {
        DeliveryState::Sent => tracing::info!(id, kind, "the operators' mail ({kind}) is sent"),
        DeliveryState::Queued { not_before } => {
            tracing::error!(
                id,
                kind,
                "the operators' mail ({kind}) did not leave, again at {}: {reply}",
                local(ctx, *not_before)
            );
        }
        _ => tracing::error!(id, kind, "the operators' mail ({kind}) failed ({}): {reply}", state.as_str()),
    }
    let blocked = attempt.outcome == Outcome::Blocked;
    Ok(match state {
        DeliveryState::Queued { not_before } if blocked => Some(not_before),
        _ => None,
    })
}
