//! What is worth telling the operators: noticed where it happens, written down at once, and told by [`super::operators`].
//!
//! Invariant: raising never fails its caller: what cannot be written down is logged, and the work goes on.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use sha2::{Digest, Sha256};

use super::Context;
use super::contacts::{self, DeadLine};
use super::layouts;
use super::notify::{Fate, PassReport};
use super::scan::{ScanReport, ScanRequest};
use super::untold::{self, Why};
use crate::alert::words;
use crate::domain::Timestamp;
use crate::domain::alert::Cause;
use crate::domain::campaign::Standing;
use crate::domain::case::CaseEvent;
use crate::domain::customer::Language;
use crate::domain::delivery::{Attempt, DeliveryId, DeliveryKey, DeliveryState, Held, Outcome};
use crate::domain::guard;
use crate::domain::observation::{Reason, Verdict};
use crate::domain::site::CustomerId;
use crate::store::{Day, Delivery, LookChange, NewAlert, Node, SetAside};

/// A deadline is near from this many days before on.
const NEAR_DAYS: i64 = 7;

/// Who left the customers file longer ago was taken out on purpose: nobody put it back.
const GONE_OF_LATE: TimeDelta = TimeDelta::days(7);

async fn raise(ctx: &Context, alerts: &[NewAlert]) {
    if let Err(error) = ctx.store.raise(alerts, ctx.now()).await {
        tracing::error!("an alert could not be written down: {:#}", anyhow::Error::from(error));
    }
}

async fn over(ctx: &Context, cause: Cause, still: &[String]) {
    if let Err(error) = ctx.store.over(cause, still, ctx.now()).await {
        tracing::error!("the end of an alert could not be written down: {:#}", anyhow::Error::from(error));
    }
}

/// What lasts is raised as a whole: what is not among `alerts` is over.
async fn stands(ctx: &Context, cause: Cause, alerts: Vec<NewAlert>) {
    let keys: Vec<String> = alerts.iter().map(|a| a.key.clone()).collect();
    over(ctx, cause, &keys).await;
    raise(ctx, &alerts).await;
}

fn named(ctx: &Context, id: &CustomerId) -> Option<(String, String)> {
    let name = ctx.snapshot.customers.get(id).map_or_else(|| id.to_string(), |c| c.name.clone());
    Some((id.to_string(), name))
}

/// What is told is told in the operators' language.
fn language(ctx: &Context) -> Language {
    ctx.snapshot.config.alerts.language
}

fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes())[..8].iter().map(|b| format!("{b:02x}")).collect()
}

/// Sites that became affected, and cases that began anew, by what was just written.
pub async fn of_looks<'a>(ctx: &Context, changes: impl Iterator<Item = &'a LookChange>) {
    let mut alerts = Vec::new();
    for change in changes {
        let customer = || named(ctx, &change.customer);
        for (campaign, event) in &change.events {
            let (cause, key, detail) = match event {
                CaseEvent::Reopened { round } => {
                    let detail = words::round(language(ctx), *round);
                    (Cause::Relapsed, format!("{}/{campaign}/{round}", change.customer), detail)
                }
                CaseEvent::SiteMoved { site, from, to } if *to != Standing::Clear && *from != Some(*to) => (
                    Cause::NewlyAffected,
                    format!("{}/{campaign}/{site}", change.customer),
                    format!("{site} ({})", words::standing(language(ctx), *to)),
                ),
                CaseEvent::SiteMoved { .. }
                | CaseEvent::Opened
                | CaseEvent::SiteAbsent { .. }
                | CaseEvent::Resolved { .. } => continue,
            };
            alerts.push(NewAlert { cause, key, customer: customer(), detail });
        }
    }
    if !alerts.is_empty() {
        raise(ctx, &alerts).await;
    }
}

/// Nodes that take no work because they are older than the state.
pub async fn of_nodes(ctx: &Context, behind: impl Iterator<Item = &Node>) {
    let alert = |node: &Node| NewAlert {
        cause: Cause::NodeBehind,
        key: node.name.clone(),
        customer: None,
        detail: format!("{} (kigen {})", node.name, node.version),
    };
    stands(ctx, Cause::NodeBehind, behind.map(alert).collect()).await;
}

/// What a scan as a whole says.
pub async fn after_scan(ctx: &Context, request: &ScanRequest, report: &ScanReport) {
    unreadable(ctx).await;
    if let Some(why) = &report.stopped {
        let key = ctx.now().timestamp_millis().to_string();
        let detail = words::logons_refused(language(ctx), ctx.snapshot.config.safety.logon_failures, why);
        raise(ctx, &[NewAlert { cause: Cause::LogonsRefused, key, customer: None, detail }]).await;
    }
    // A part of the fleet, or half a scan, says nothing of the whole.
    if !request.only.is_empty() || report.interrupted {
        return;
    }
    customers_gone(ctx).await;
    failure_rate(ctx, report).await;
    layout_changed(ctx, report).await;
    match ctx.store.site_counts().await {
        Ok(sites) => {
            let day = Day { day: ctx.snapshot.config.calendar.day(ctx.now()), sites };
            if let Err(error) = ctx.store.note_day(&day).await {
                tracing::error!("the day's numbers could not be written down: {:#}", anyhow::Error::from(error));
            }
        }
        Err(error) => tracing::error!("the sites cannot be counted: {:#}", anyhow::Error::from(error)),
    }
}

/// Rows with an error and skipped looks have alerts of their own. A good row whose password cannot be read has none.
async fn unreadable(ctx: &Context) {
    let rows = match ctx.store.sites(&[Verdict::Unreadable(Reason::Timeout).as_str().to_owned()]).await {
        Ok(rows) => rows,
        Err(error) => {
            tracing::error!("the unreadable sites cannot be listed: {:#}", anyhow::Error::from(error));
            return;
        }
    };
    let after = ctx.snapshot.config.alerts.unreadable_after;
    let bad_rows: BTreeSet<&CustomerId> = ctx.snapshot.fleet.quarantined.iter().filter_map(|q| q.id.as_ref()).collect();
    let alerts = rows.into_iter().filter(|row| row.unreadable_scans >= after).filter_map(|row| {
        let reason = row.seen.verdict.reason()?;
        if reason == Reason::Skipped || reason == Reason::InventoryError && bad_rows.contains(&row.seen.customer) {
            return None;
        }
        let site = row.seen.site.as_ref().map(ToString::to_string).unwrap_or_default();
        Some(NewAlert {
            cause: Cause::Unreadable,
            key: format!("{}/{site}", row.seen.customer),
            customer: Some((row.seen.customer.to_string(), row.customer_name)),
            detail: words::unreadable(language(ctx), &site, reason, row.unreadable_scans),
        })
    });
    stands(ctx, Cause::Unreadable, alerts.collect()).await;
}

/// A customers file that was cut off is well-formed, and whoever it lost would be left in silence.
async fn customers_gone(ctx: &Context) {
    let (open, gone) = match ctx.store.left_open(ctx.now() - GONE_OF_LATE).await {
        Ok(counted) => counted,
        Err(error) => {
            tracing::error!("who left the customers file cannot be counted: {:#}", anyhow::Error::from(error));
            return;
        }
    };
    let alert = guard::too_many_left(open, gone).then(|| NewAlert {
        cause: Cause::CustomersGone,
        key: String::new(),
        customer: None,
        detail: words::customers_gone(language(ctx), gone, open),
    });
    stands(ctx, Cause::CustomersGone, alert.into_iter().collect()).await;
}

async fn failure_rate(ctx: &Context, report: &ScanReport) {
    let (sites, unreadable) = (report.counts.sites, report.counts.unreadable);
    let share = ctx.snapshot.config.alerts.scan_failure_rate;
    let allowed = share.of(usize::try_from(sites).unwrap_or(usize::MAX)) as u64;
    let alert = (unreadable > allowed).then(|| NewAlert {
        cause: Cause::FailureRate,
        key: String::new(),
        customer: None,
        detail: words::failure_rate(language(ctx), unreadable, sites),
    });
    stands(ctx, Cause::FailureRate, alert.into_iter().collect()).await;
}

/// One alert, whatever of it is seen: pages that cannot be understood, and pages that can and are made of other parts.
async fn layout_changed(ctx: &Context, report: &ScanReport) {
    let misread = &report.misread;
    let mut details = Vec::new();
    if misread.tool_changed() {
        let mut ids: Vec<&str> = misread.first.iter().map(CustomerId::as_str).collect();
        ids.sort_unstable();
        let more = if misread.customers > ids.len() as u64 { ", …" } else { "" };
        details.push(format!("{} of {} customers: {}{more}", misread.customers, misread.asked, ids.join(", ")));
    }
    let news = layouts::news(ctx, &report.layouts).await;
    details.extend(news.iter().map(|(host, news)| layouts::told(host, news)));
    let alert = (!details.is_empty()).then(|| NewAlert {
        cause: Cause::LayoutChanged,
        key: String::new(),
        customer: None,
        detail: details.join(" / "),
    });
    stands(ctx, Cause::LayoutChanged, alert.into_iter().collect()).await;
}

/// What a notice pass says: what waits for a person, what could not be made, and who is still untold near the deadline.
pub async fn after_pass(ctx: &Context, report: &PassReport) {
    let mut alerts = Vec::new();
    for notified in &report.notices {
        let planned = &notified.planned;
        let customer = named(ctx, &planned.customer);
        let kind = planned.due.kind;
        match &notified.fate {
            Fate::Held(id, why) => alerts.push(NewAlert {
                cause: Cause::Waiting,
                key: id.to_string(),
                customer,
                detail: format!("{}: {}", words::delivery(language(ctx), kind, id), words::held(language(ctx), *why)),
            }),
            Fate::Failed(why) => alerts.push(NewAlert {
                cause: Cause::NoticeFailed,
                key: format!("{}/{}/{kind}", planned.customer, planned.campaign),
                customer,
                detail: format!("{}: {why}", words::kind(language(ctx), kind)),
            }),
            Fate::Queued(_) | Fate::WouldQueue | Fate::Overtaken(_) | Fate::NotFresh(_) | Fate::Duplicate => {}
        }
    }
    raise(ctx, &alerts).await;
    if report.day_off.is_none()
        && let Err(error) = deadline_near(ctx).await
    {
        tracing::error!("who is not told yet cannot be listed: {error:#}");
    }
}

async fn deadline_near(ctx: &Context) -> anyhow::Result<()> {
    let today = ctx.snapshot.config.calendar.day(ctx.now());
    let mut alerts = Vec::new();
    for call in untold::to_call(ctx).await? {
        // Who must not be mailed, or cannot be, is known; what is about to leave is not worth an alert yet. Should it fail,
        // that is one of its own.
        if matches!(call.why, Why::NotifyNo | Why::BadRow | Why::Leaving) {
            continue;
        }
        let Some(deadline) = call.deadline else { continue };
        let left = (deadline - today).num_days();
        if (0..=NEAR_DAYS).contains(&left) {
            alerts.push(NewAlert {
                cause: Cause::DeadlineNear,
                key: format!("{}/{}", call.customer, call.campaign),
                customer: Some((call.customer.to_string(), call.name)),
                detail: words::deadline(language(ctx), deadline, left, call.why.text(language(ctx))),
            });
        }
    }
    stands(ctx, Cause::DeadlineNear, alerts).await;
    Ok(())
}

/// The contacts that are dead now: each is told once, and is over when it is revived or leaves the customers file.
pub async fn of_contacts(ctx: &Context) {
    let dead = match contacts::dead(ctx).await {
        Ok(dead) => dead,
        Err(error) => {
            tracing::error!("the dead contacts cannot be listed: {error:#}");
            return;
        }
    };
    let alert = |DeadLine { contact, name, left }: DeadLine| NewAlert {
        cause: Cause::DeadContact,
        key: format!("{}/{}", contact.customer, contact.fingerprint),
        customer: Some((contact.customer.to_string(), name)),
        detail: words::dead_contact(language(ctx), &contact.masked, left.text(language(ctx)), &contact.why),
    };
    stands(ctx, Cause::DeadContact, dead.into_iter().map(alert).collect()).await;
}

/// What became of a notice that was sent. What that says of the way out is [`way_out`]'s.
pub async fn of_attempt(ctx: &Context, delivery: &Delivery, attempt: &Attempt, state: &DeliveryState) {
    let key = &delivery.facts.key;
    let cause = match state {
        DeliveryState::Failed => Some(Cause::NoticeFailed),
        DeliveryState::Unknown | DeliveryState::Held(Held::Unknown) => Some(Cause::NoticeUnknown),
        DeliveryState::Held(_)
        | DeliveryState::Queued { .. }
        | DeliveryState::Sending
        | DeliveryState::Sent
        | DeliveryState::Dropped => None,
    };
    if let Some(cause) = cause {
        let detail = format!("{}: {}", words::delivery(language(ctx), key.kind, delivery.id), attempt.reply);
        let customer = named(ctx, &key.customer);
        raise(ctx, &[NewAlert { cause, key: delivery.id.to_string(), customer, detail }]).await;
    }
}

/// Notices that came back because of us, and what the recipients' servers said: told at once, every further mail may go the
/// same way.
pub async fn of_own_fault(ctx: &Context, notices: impl Iterator<Item = (DeliveryKey, DeliveryId, String)>) {
    let alert = |(key, id, said): (DeliveryKey, DeliveryId, String)| NewAlert {
        cause: Cause::OwnFault,
        key: id.to_string(),
        customer: named(ctx, &key.customer),
        detail: format!("{}: {said}", words::delivery(language(ctx), key.kind, id)),
    };
    let alerts: Vec<NewAlert> = notices.map(alert).collect();
    if !alerts.is_empty() {
        raise(ctx, &alerts).await;
    }
}

/// A mail was taken out of the queue because nobody can read its row.
pub async fn of_set_aside(ctx: &Context, aside: &SetAside) {
    tracing::error!(delivery = %aside.delivery, customer = aside.customer, "{aside}");
    let customer = CustomerId::new(&aside.customer).ok().and_then(|id| named(ctx, &id));
    let detail = words::set_aside(language(ctx), aside.delivery, &aside.why);
    let key = aside.delivery.to_string();
    raise(ctx, &[NewAlert { cause: Cause::NoticeFailed, key, customer, detail }]).await;
}

/// The server refuses our account, or takes mail (again).
pub async fn way_out(ctx: &Context, attempt: &Attempt) {
    match attempt.outcome {
        Outcome::Blocked => {
            let detail = attempt.reply.clone();
            let alert = NewAlert { cause: Cause::MailRefused, key: String::new(), customer: None, detail };
            raise(ctx, &[alert]).await;
        }
        Outcome::Accepted => {
            // Asked first: this happens with every mail, and hardly ever is there anything to end.
            if ctx.store.memo(REFUSED).await.ok().flatten().is_some_and(|word| word == "yes") {
                over(ctx, Cause::MailRefused, &[]).await;
                let _ = ctx.store.set_memo(REFUSED, "no").await;
            }
            return;
        }
        Outcome::Deferred | Outcome::Rejected | Outcome::Unknown => return,
    }
    if let Err(error) = ctx.store.set_memo(REFUSED, "yes").await {
        tracing::error!("the refusal cannot be remembered: {:#}", anyhow::Error::from(error));
    }
}

const REFUSED: &str = "alert.mail_refused";

/// Edited files were refused, or taken.
pub async fn of_reload(ctx: &Context, refused: Option<&str>) {
    match refused {
        Some(text) => {
            let first: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).take(6).collect();
            let detail = crate::alert::without_paths(&first.join(" / "));
            let alert = NewAlert { cause: Cause::BadEdit, key: hash(text), customer: None, detail };
            raise(ctx, &[alert]).await;
        }
        None => over(ctx, Cause::BadEdit, &[]).await,
    }
}

/// Microsoft refuses our own credential, or takes it (again).
pub async fn of_credential(ctx: &Context, refused: Option<&str>) {
    let alert = refused.map(|why| NewAlert {
        cause: Cause::MicrosoftRefused,
        key: String::new(),
        customer: None,
        detail: why.to_owned(),
    });
    stands(ctx, Cause::MicrosoftRefused, alert.into_iter().collect()).await;
}

/// Rows of the customers file that the running snapshot leaves out.
pub async fn of_rows(ctx: &Context) {
    let mut alerts: BTreeMap<String, NewAlert> = BTreeMap::new();
    for row in &ctx.snapshot.fleet.quarantined {
        let errors: Vec<String> = row.errors.iter().map(ToString::to_string).collect();
        let detail = errors.join("; ");
        let id = row.id.as_ref().map(ToString::to_string);
        let key = format!("{}/{}", id.as_deref().unwrap_or_default(), hash(&detail));
        let customer = id.map(|id| (id.clone(), row.name.clone().unwrap_or(id)));
        alerts.insert(key.clone(), NewAlert { cause: Cause::BadRow, key, customer, detail });
    }
    stands(ctx, Cause::BadRow, alerts.into_values().collect()).await;
}

/// The holds that are set, whoever set them.
pub async fn of_holds(ctx: &Context) -> crate::store::Result<()> {
    let alert = |hold: crate::store::Hold| NewAlert {
        cause: Cause::Held,
        key: format!("{}/{}", hold.kind.as_str(), millis(hold.set_at)),
        customer: None,
        detail: format!(
            "{} ({}): {}",
            hold.kind.as_str(),
            hold.set_by,
            words::hold(language(ctx), hold.kind.as_str(), &hold.reason)
        ),
    };
    let alerts: Vec<NewAlert> = ctx.store.holds().await?.into_iter().map(alert).collect();
    stands(ctx, Cause::Held, alerts).await;
    Ok(())
}

fn millis(at: Timestamp) -> i64 {
    at.timestamp_millis()
}
