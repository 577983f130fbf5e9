//! What is worth telling the operators: noticed where it happens, written down at once, and told by [`super::operators`].
//!
//! Invariant: raising never fails its caller: what cannot be written down is logged, and the work goes on.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use super::Context;
use super::notify::{Fate, PassReport};
use super::scan::{ScanReport, ScanRequest};
use crate::domain::Timestamp;
use crate::domain::alert::{Cause, tool_changed};
use crate::domain::campaign::Standing;
use crate::domain::case::CaseEvent;
use crate::domain::delivery::{Attempt, DeliveryState, Held, Outcome};
use crate::domain::observation::{Observation, Reason, Verdict};
use crate::domain::site::CustomerId;
use crate::store::{Day, Delivery, LookChange, NewAlert};

/// A deadline is near from this many days before on.
const NEAR_DAYS: i64 = 7;

/// Customers whose pages changed that are named.
const NAMED: usize = 10;

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
                    (Cause::Relapsed, format!("{}/{campaign}/{round}", change.customer), format!("round {round}"))
                }
                CaseEvent::SiteMoved { site, from, to } if *to != Standing::Clear && *from != Some(*to) => (
                    Cause::NewlyAffected,
                    format!("{}/{campaign}/{site}", change.customer),
                    format!("{site} ({})", to.as_str()),
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

/// Customers of one scan whose pages did not look as they should.
#[derive(Debug, Clone, Default)]
pub struct Changed {
    customers: BTreeSet<CustomerId>,
    looked: u64,
}

impl Changed {
    /// One customer was looked at.
    pub fn note(&mut self, seen: &[Observation]) {
        self.looked += 1;
        let changed =
            |o: &&Observation| matches!(o.verdict, Verdict::Unreadable(Reason::LayoutChanged | Reason::UnknownValue));
        if let Some(o) = seen.iter().find(changed) {
            self.customers.insert(o.customer.clone());
        }
    }

    /// How many were looked at, and whose pages changed.
    pub(super) fn numbers(&self) -> (u64, &BTreeSet<CustomerId>) {
        (self.looked, &self.customers)
    }

    /// What another node saw.
    pub(super) fn add(&mut self, looked: u64, customers: impl Iterator<Item = CustomerId>) {
        self.looked += looked;
        self.customers.extend(customers);
    }
}

/// What a scan as a whole says.
pub async fn after_scan(ctx: &Context, request: &ScanRequest, report: &ScanReport) {
    unreadable(ctx).await;
    if let Some(why) = &report.stopped {
        let key = ctx.now().timestamp_millis().to_string();
        raise(ctx, &[NewAlert { cause: Cause::LogonsRefused, key, customer: None, detail: why.clone() }]).await;
    }
    // A part of the fleet, or half a scan, says nothing of the whole.
    if !request.only.is_empty() || report.interrupted {
        return;
    }
    failure_rate(ctx, report).await;
    layout_changed(ctx, &report.changed).await;
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

/// Rows with an error and skipped looks have alerts of their own.
async fn unreadable(ctx: &Context) {
    let rows = match ctx.store.sites(&[Verdict::Unreadable(Reason::Timeout).as_str().to_owned()]).await {
        Ok(rows) => rows,
        Err(error) => {
            tracing::error!("the unreadable sites cannot be listed: {:#}", anyhow::Error::from(error));
            return;
        }
    };
    let after = ctx.snapshot.config.alerts.unreadable_after;
    let alerts = rows.into_iter().filter(|row| row.unreadable_scans >= after).filter_map(|row| {
        let reason = row.seen.verdict.reason()?;
        if matches!(reason, Reason::InventoryError | Reason::Skipped) {
            return None;
        }
        let site = row.seen.site.as_ref().map(ToString::to_string).unwrap_or_default();
        let shown = if site.is_empty() { String::new() } else { format!("{site}: ") };
        Some(NewAlert {
            cause: Cause::Unreadable,
            key: format!("{}/{site}", row.seen.customer),
            customer: Some((row.seen.customer.to_string(), row.customer_name)),
            detail: format!("{shown}{} ({} scans)", reason.as_str(), row.unreadable_scans),
        })
    });
    stands(ctx, Cause::Unreadable, alerts.collect()).await;
}

async fn failure_rate(ctx: &Context, report: &ScanReport) {
    let (sites, unreadable) = (report.counts.sites, report.counts.unreadable);
    let share = ctx.snapshot.config.alerts.scan_failure_rate;
    let allowed = share.of(usize::try_from(sites).unwrap_or(usize::MAX)) as u64;
    let alert = (unreadable > allowed).then(|| NewAlert {
        cause: Cause::FailureRate,
        key: String::new(),
        customer: None,
        detail: format!("{unreadable} of {sites} sites ({} %)", unreadable * 100 / sites.max(1)),
    });
    stands(ctx, Cause::FailureRate, alert.into_iter().collect()).await;
}

async fn layout_changed(ctx: &Context, changed: &Changed) {
    let many = changed.customers.len() as u64;
    let alert = tool_changed(many, changed.looked).then(|| {
        let ids: Vec<&str> = changed.customers.iter().take(NAMED).map(CustomerId::as_str).collect();
        let more = if changed.customers.len() > NAMED { ", …" } else { "" };
        NewAlert {
            cause: Cause::LayoutChanged,
            key: String::new(),
            customer: None,
            detail: format!("{many} of {} customers: {}{more}", changed.looked, ids.join(", ")),
        }
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
                detail: format!("{kind} ({}), delivery {id}", why.as_str()),
            }),
            Fate::Failed(why) => alerts.push(NewAlert {
                cause: Cause::NoticeFailed,
                key: format!("{}/{}/{kind}", planned.customer, planned.campaign),
                customer,
                detail: format!("{kind}: {why}"),
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
    let snapshot = &ctx.snapshot;
    let today = snapshot.config.calendar.day(ctx.now());
    let campaigns = snapshot.campaigns();
    let mut alerts = Vec::new();
    for untold in ctx.store.untold_customers().await? {
        let Some(customer) = snapshot.customers.get(&untold.customer).filter(|c| c.notify) else { continue };
        let Some(campaign) = campaigns.iter().find(|c| c.id == untold.campaign) else { continue };
        let left = (campaign.deadline_of(customer) - today).num_days();
        // What is about to leave is not worth an alert yet; should it fail, that is one of its own.
        let leaving = matches!(untold.delivery.as_deref(), Some("queued" | "sending"));
        if (0..=NEAR_DAYS).contains(&left) && !leaving {
            let stands = untold.delivery.as_deref().unwrap_or("no notice");
            alerts.push(NewAlert {
                cause: Cause::DeadlineNear,
                key: format!("{}/{}", untold.customer, untold.campaign),
                customer: Some((customer.id.to_string(), customer.name.clone())),
                detail: format!("{} ({left} d): {stands}", campaign.deadline_of(customer)),
            });
        }
    }
    stands(ctx, Cause::DeadlineNear, alerts).await;
    Ok(())
}

/// What became of a notice that was sent, and what that says of the way out.
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
        let detail = format!("{}, delivery {}: {}", key.kind, delivery.id, attempt.reply);
        let customer = named(ctx, &key.customer);
        raise(ctx, &[NewAlert { cause, key: delivery.id.to_string(), customer, detail }]).await;
    }
    way_out(ctx, attempt).await;
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
        detail: format!("{} ({}): {}", hold.kind.as_str(), hold.set_by, hold.reason),
    };
    let alerts: Vec<NewAlert> = ctx.store.holds().await?.into_iter().map(alert).collect();
    stands(ctx, Cause::Held, alerts).await;
    Ok(())
}

fn millis(at: Timestamp) -> i64 {
    at.timestamp_millis()
}
