//! What a person sees of the outbox and does with it: listing, approve, retry, cancel, holds.
//!
//! Invariants: what a deliverer has is left alone; every action is written down with who and when; an action that changes
//! what counts as told makes decisions that rest on the old picture stale.

use std::collections::HashMap;

use crate::domain::delivery::{DeliveryId, DeliveryState, Held, Recipient};

use super::super::{Acted, AttemptRow, By, Claimed, Delivery, HistoryKind, Hold, OutboxAction, OutboxFilter, Result};
use super::events::{self, Event, Notice};
use super::outbox::{changed, load, nothing_more_to_send};
use super::rows::{
    AttemptLine, DeliveryRow, HoldRow, RecipientRow, count, delivery_columns, delivery_state, json, millis,
};
use super::{Sqlite, Tx, failed};

pub(super) const LIST: &str = concat!(
    "SELECT ",
    delivery_columns!(),
    " FROM deliveries AS d WHERE (?1 = '[]' OR d.state IN (SELECT value FROM json_each(?1))) \
      AND (?2 IS NULL OR d.customer = ?2) ORDER BY d.id DESC LIMIT ?3"
);

pub(super) const RECIPIENTS: &str = "SELECT delivery, address, state, reply FROM recipients \
     WHERE delivery IN (SELECT value FROM json_each(?1)) ORDER BY delivery, position";

pub(super) const ATTEMPTS: &str = "SELECT delivery, number, started_at, finished_at, outcome, reply FROM attempts \
     WHERE delivery = ?1 ORDER BY number";

pub(super) const COUNTS: &str = "SELECT state, count(*) FROM deliveries GROUP BY state";

pub(super) const STANDING: &str = "SELECT d.id, d.customer, d.campaign, d.kind, d.milestone, d.state, d.held, \
         d.not_before, d.lease_until, \
         NOT EXISTS (SELECT 1 FROM recipients AS r WHERE r.delivery = d.id AND r.state <> 'rejected') AS all_rejected \
     FROM deliveries AS d WHERE d.id IN (SELECT value FROM json_each(?1))";

pub(super) const APPROVE: &str = "UPDATE deliveries SET state = 'queued', held = NULL, not_before = ?2, day = ?3, \
         approved_by = ?4, approved_at = ?2, state_at = ?2 WHERE id IN (SELECT value FROM json_each(?1))";

pub(super) const RETRY: &str = "UPDATE deliveries SET state = 'queued', held = NULL, not_before = ?2, \
         owner = NULL, lease_until = NULL, state_at = ?2 WHERE id IN (SELECT value FROM json_each(?1))";

pub(super) const ASK_ALL_AGAIN: &str =
    "UPDATE recipients SET state = 'pending' WHERE delivery IN (SELECT value FROM json_each(?1))";

pub(super) const CANCEL: &str = concat!(
    "UPDATE deliveries SET state = ",
    nothing_more_to_send!(),
    ", cancelled = (",
    nothing_more_to_send!(),
    ") = 'dropped', held = NULL, owner = NULL, lease_until = NULL, detail = ?3, state_at = ?2 \
      WHERE id IN (SELECT value FROM json_each(?1))"
);

pub(super) const HOLDS: &str = "SELECT kind, reason, set_by, set_at FROM holds ORDER BY set_at, kind";
pub(super) const SET_HOLD: &str =
    "INSERT INTO holds (kind, reason, set_by, set_at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
pub(super) const CLEAR_HOLDS: &str = "DELETE FROM holds";
pub(super) const HELD_FOR_THEM: &str = "SELECT id, customer, campaign, kind, milestone FROM deliveries \
     WHERE state = 'held' AND held = 'hold' ORDER BY id";

pub(super) async fn deliveries(store: &Sqlite, filter: &OutboxFilter) -> Result<Vec<Delivery>> {
    const WHAT: &str = "list the deliveries";
    let mut tx = store.read(WHAT).await?;
    let rows: Vec<DeliveryRow> = sqlx::query_as(LIST)
        .bind(json(&filter.states))
        .bind(filter.customer.as_ref().map(|id| id.as_str()))
        .bind(filter.limit.map_or(-1, i64::from))
        .fetch_all(&mut *tx)
        .await
        .map_err(failed(WHAT))?;
    let ids = json(&rows.iter().map(|row| row.id).collect::<Vec<_>>());
    let mut recipients = load_recipients(&mut tx, &ids, WHAT).await?;
    tx.commit().await.map_err(failed(WHAT))?;
    rows.into_iter()
        .map(|row| {
            let recipients = recipients.remove(&row.id).unwrap_or_default();
            row.delivery(recipients)
        })
        .collect()
}

/// The recipients of these deliveries, in the order of their envelopes; `ids` is a JSON list.
pub(super) async fn load_recipients(
    tx: &mut Tx,
    ids: &str,
    what: &'static str,
) -> Result<HashMap<i64, Vec<Recipient>>> {
    let rows: Vec<RecipientRow> =
        sqlx::query_as(RECIPIENTS).bind(ids).fetch_all(&mut **tx).await.map_err(failed(what))?;
    let mut recipients: HashMap<i64, Vec<Recipient>> = HashMap::new();
    for row in rows {
        recipients.entry(row.delivery).or_default().push(row.recipient()?);
    }
    Ok(recipients)
}

pub(super) async fn delivery(store: &Sqlite, id: DeliveryId) -> Result<Option<(Claimed, Vec<AttemptRow>)>> {
    const WHAT: &str = "read a delivery";
    let mut tx = store.read(WHAT).await?;
    let claimed = load(&mut tx, &[id.0], WHAT).await?.pop();
    let attempts: Vec<AttemptLine> =
        sqlx::query_as(ATTEMPTS).bind(id.0).fetch_all(&mut *tx).await.map_err(failed(WHAT))?;
    tx.commit().await.map_err(failed(WHAT))?;
    let attempts = attempts.into_iter().map(AttemptLine::attempt).collect::<Result<_>>()?;
    Ok(claimed.map(|claimed| (claimed, attempts)))
}

pub(super) async fn outbox_counts(store: &Sqlite) -> Result<Vec<(&'static str, u64)>> {
    let query = sqlx::query_as(COUNTS).fetch_all(&store.pools.readers);
    let rows: Vec<(String, i64)> = query.await.map_err(failed("count the deliveries"))?;
    let rows: HashMap<String, i64> = rows.into_iter().collect();
    DeliveryState::WORDS.iter().map(|w| Ok((*w, count(rows.get(*w).copied().unwrap_or(0))?))).collect()
}

/// A delivery that a person wants something of.
#[derive(sqlx::FromRow)]
struct Standing {
    #[sqlx(flatten)]
    notice: Notice,
    state: String,
    held: Option<String>,
    not_before: i64,
    lease_until: Option<i64>,
    all_rejected: bool,
}

impl Standing {
    /// Whether the action makes sense where it stands.
    fn allows(&self, action: OutboxAction, state: &DeliveryState, by: &By) -> bool {
        let taken = self.lease_until.is_some_and(|until| until > millis(by.at));
        match (action, state) {
            (OutboxAction::Approve, DeliveryState::Held(held)) => *held != Held::Unknown,
            (OutboxAction::Retry, DeliveryState::Held(held)) => *held == Held::Unknown,
            (OutboxAction::Retry, DeliveryState::Failed | DeliveryState::Unknown)
            | (OutboxAction::Cancel, DeliveryState::Held(_)) => true,
            (OutboxAction::Retry | OutboxAction::Cancel, DeliveryState::Queued { .. }) => !taken,
            _ => false,
        }
    }
}

pub(super) async fn act(store: &Sqlite, ids: &[DeliveryId], action: OutboxAction, by: &By) -> Result<Vec<Acted>> {
    const WHAT: &str = "act on deliveries";
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut tx = store.write(WHAT).await?;
    let asked = json(&ids.iter().map(|id| id.0).collect::<Vec<_>>());
    let rows: Vec<Standing> = sqlx::query_as(STANDING).bind(asked).fetch_all(&mut *tx).await.map_err(failed(WHAT))?;
    let mut acted = HashMap::new();
    let mut moved = Vec::new();
    for row in rows {
        let state = delivery_state(&row.state, row.held.as_deref(), row.not_before)?;
        let allowed = row.allows(action, &state, by);
        acted.insert(row.notice.id, if allowed { Acted::Done } else { Acted::NotNow(state) });
        moved.extend(allowed.then_some(row));
    }
    let done: Vec<i64> = moved.iter().map(|row| row.notice.id).collect();
    match action {
        OutboxAction::Approve => approve(&mut tx, &done, by, WHAT).await?,
        OutboxAction::Retry => {
            let again: Vec<i64> = moved.iter().filter(|row| row.all_rejected).map(|row| row.notice.id).collect();
            sqlx::query(ASK_ALL_AGAIN).bind(json(&again)).execute(&mut *tx).await.map_err(failed(WHAT))?;
            let query = sqlx::query(RETRY).bind(json(&done)).bind(millis(by.at));
            query.execute(&mut *tx).await.map_err(failed(WHAT))?;
        }
        OutboxAction::Cancel => {
            let detail = format!("cancelled by {}", by.who);
            let query = sqlx::query(CANCEL).bind(json(&done)).bind(millis(by.at)).bind(detail);
            query.execute(&mut *tx).await.map_err(failed(WHAT))?;
        }
    }
    let word = match action {
        OutboxAction::Approve => "approved",
        OutboxAction::Retry => "retried",
        OutboxAction::Cancel => "cancelled",
    };
    record(&mut tx, moved.iter().map(|row| &row.notice), word, by, WHAT).await?;
    tx.commit().await.map_err(failed(WHAT))?;
    Ok(ids.iter().map(|id| acted.get(&id.0).cloned().unwrap_or(Acted::Unknown)).collect())
}

/// From now on they count as told, on the day of the approval.
async fn approve(tx: &mut Tx, ids: &[i64], by: &By, what: &'static str) -> Result<()> {
    sqlx::query(APPROVE)
        .bind(json(&ids))
        .bind(millis(by.at))
        .bind(by.day.to_string())
        .bind(&by.who)
        .execute(&mut **tx)
        .await
        .map_err(failed(what))?;
    Ok(())
}

/// Writes down who did what, and makes decisions on the old picture stale.
async fn record<'a>(
    tx: &mut Tx,
    notices: impl Iterator<Item = &'a Notice> + Clone,
    word: &'static str,
    by: &By,
    what: &'static str,
) -> Result<()> {
    let text = format!("{word} by {}", by.who);
    let happened: Vec<_> =
        notices.clone().map(|n| Event::of_delivery(by.at, n, HistoryKind::Decided, word, &text)).collect();
    events::write(tx, &happened, what).await?;
    changed(tx, &notices.map(|n| n.id).collect::<Vec<_>>(), what).await
}

pub(super) async fn holds(store: &Sqlite) -> Result<Vec<Hold>> {
    let query = sqlx::query_as(HOLDS).fetch_all(&store.pools.readers);
    let rows: Vec<HoldRow> = query.await.map_err(failed("read the holds"))?;
    rows.into_iter().map(HoldRow::hold).collect()
}

pub(super) async fn set_hold(store: &Sqlite, hold: &Hold) -> Result<()> {
    const WHAT: &str = "set a hold";
    let mut tx = store.write(WHAT).await?;
    let set = sqlx::query(SET_HOLD)
        .bind(hold.kind.as_str())
        .bind(&hold.reason)
        .bind(&hold.set_by)
        .bind(millis(hold.set_at))
        .execute(&mut *tx)
        .await
        .map_err(failed(WHAT))?;
    if set.rows_affected() == 1 {
        let text = format!("all mail held ({}) by {}: {}", hold.kind.as_str(), hold.set_by, hold.reason);
        events::write(&mut tx, &[Event::of_all(hold.set_at, "hold", text)], WHAT).await?;
    }
    tx.commit().await.map_err(failed(WHAT))
}

pub(super) async fn clear_holds(store: &Sqlite, by: &By) -> Result<Vec<Hold>> {
    const WHAT: &str = "clear the holds";
    let mut tx = store.write(WHAT).await?;
    let rows: Vec<HoldRow> = sqlx::query_as(HOLDS).fetch_all(&mut *tx).await.map_err(failed(WHAT))?;
    let cleared = rows.into_iter().map(HoldRow::hold).collect::<Result<Vec<_>>>()?;
    sqlx::query(CLEAR_HOLDS).execute(&mut *tx).await.map_err(failed(WHAT))?;
    let held: Vec<Notice> = sqlx::query_as(HELD_FOR_THEM).fetch_all(&mut *tx).await.map_err(failed(WHAT))?;
    approve(&mut tx, &held.iter().map(|n| n.id).collect::<Vec<_>>(), by, WHAT).await?;
    record(&mut tx, held.iter(), "released", by, WHAT).await?;
    if !cleared.is_empty() {
        let kinds: Vec<_> = cleared.iter().map(|hold| hold.kind.as_str()).collect();
        let text = format!("resumed by {}: {}", by.who, kinds.join(", "));
        events::write(&mut tx, &[Event::of_all(by.at, "resume", text)], WHAT).await?;
    }
    tx.commit().await.map_err(failed(WHAT))?;
    Ok(cleared)
}
