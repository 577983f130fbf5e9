//! What a person sees of the outbox and does with it: listing, approve, retry, cancel, holds.
//!
//! Invariants: what a deliverer has is left alone; every action is written down with who and when; an action that changes
//! what counts as told makes decisions that rest on the old picture stale.

use std::collections::HashMap;

use crate::domain::Timestamp;
use crate::domain::delivery::{DeliveryId, DeliveryState, Held, Recipient};

use super::super::{
    Acted, AttemptRow, By, Claimed, Delivery, HistoryKind, Hold, HoldKind, OutboxAction, OutboxFilter, Result,
    StoreError,
};
use super::events::{self, Event, Notice};
use super::outbox::{changed, load, nothing_more_to_send, unreadable};
use super::rows::{
    AttemptLine, DeliveryRow, HoldRow, RecipientRow, count, delivery_columns, delivery_state, json, millis,
};
use super::{Sql, Tx, db, failed};

pub(super) const LIST: &str = concat!(
    "SELECT ",
    delivery_columns!(),
    " FROM deliveries AS d WHERE (?1 = '[]' OR d.state IN (SELECT value FROM json_each(?1))) \
      AND (CAST(?2 AS TEXT) IS NULL OR d.customer = ?2) ORDER BY d.id DESC LIMIT ?3"
);

pub(super) const RECIPIENTS: &str = "SELECT delivery, address, state, reply FROM recipients \
     WHERE delivery IN (SELECT CAST(value AS BIGINT) FROM json_each(?1)) ORDER BY delivery, position";

pub(super) const ATTEMPTS: &str = "SELECT delivery, number, started_at, finished_at, outcome, reply FROM attempts \
     WHERE delivery = ?1 ORDER BY number";

pub(super) const COUNTS: &str = "SELECT state, count(*) FROM deliveries GROUP BY state";

pub(super) const STANDING: &str = "SELECT d.id, d.customer, d.campaign, d.kind, d.milestone, d.state, d.held, \
         d.not_before, d.lease_until, \
         NOT EXISTS (SELECT 1 FROM recipients AS r WHERE r.delivery = d.id AND r.state <> 'rejected') AS all_rejected \
     FROM deliveries AS d WHERE d.id IN (SELECT CAST(value AS BIGINT) FROM json_each(?1))";

pub(super) const APPROVE: &str = "UPDATE deliveries SET state = 'queued', held = NULL, not_before = ?2, day = ?3, \
         approved_by = ?4, approved_at = ?2, state_at = ?2 WHERE id IN (SELECT CAST(value AS BIGINT) FROM json_each(?1))";

pub(super) const RETRY: &str = "UPDATE deliveries SET state = 'queued', held = NULL, not_before = ?2, \
         owner = NULL, lease_until = NULL, state_at = ?2 WHERE id IN (SELECT CAST(value AS BIGINT) FROM json_each(?1))";

pub(super) const ASK_ALL_AGAIN: &str =
    "UPDATE recipients SET state = 'pending' WHERE delivery IN (SELECT CAST(value AS BIGINT) FROM json_each(?1))";

pub(super) const CANCEL: &str = concat!(
    "UPDATE deliveries SET state = ",
    nothing_more_to_send!(),
    ", cancelled = CASE WHEN (",
    nothing_more_to_send!(),
    ") = 'dropped' THEN 1 ELSE 0 END, held = NULL, owner = NULL, lease_until = NULL, detail = ?3, state_at = ?2 \
      WHERE id IN (SELECT CAST(value AS BIGINT) FROM json_each(?1))"
);

pub(super) const HOLDS: &str = "SELECT kind, reason, set_by, set_at FROM holds ORDER BY set_at, kind";
pub(super) const SET_HOLD: &str =
    "INSERT INTO holds (kind, reason, set_by, set_at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
pub(super) const CLEAR_HOLDS: &str = "DELETE FROM holds";
pub(super) const HELD_FOR_THEM: &str = "SELECT id, customer, campaign, kind, milestone FROM deliveries \
     WHERE state = 'held' AND held = 'hold' ORDER BY id";

pub(super) async fn deliveries(store: &Sql, filter: &OutboxFilter) -> Result<Vec<Delivery>> {
    const WHAT: &str = "list the deliveries";
    let mut tx = store.read(WHAT).await?;
    let rows: Vec<DeliveryRow> = db::query_as(LIST)
        .bind(json(&filter.states))
        .bind(filter.customer.as_ref().map(|id| id.as_str()))
        .bind(filter.limit.map_or(i64::MAX, i64::from))
        .fetch_all(&mut tx)
        .await
        .map_err(failed(WHAT))?;
    let ids = json(&rows.iter().map(|row| row.id).collect::<Vec<_>>());
    let mut recipients = recipients_of(&mut tx, &ids, WHAT).await?;
    tx.commit().await.map_err(failed(WHAT))?;
    Ok(rows
        .into_iter()
        .filter_map(|row| {
            let id = row.id;
            let recipients = recipients.remove(&id).unwrap_or_else(|| Ok(Vec::new()));
            row.listed(recipients).inspect_err(|error| unlisted(id, error)).ok()
        })
        .collect())
}

/// A row that cannot even be shown must not hide the others.
pub(super) fn unlisted(id: i64, error: &StoreError) {
    tracing::error!("delivery {id} cannot be listed: {error}");
}

/// The recipients of these deliveries, in the order of their envelopes; `ids` is a JSON list.
pub(super) async fn load_recipients(
    tx: &mut Tx,
    ids: &str,
    what: &'static str,
) -> Result<HashMap<i64, Vec<Recipient>>> {
    let recipients = recipients_of(tx, ids, what).await?;
    recipients.into_iter().map(|(delivery, recipients)| Ok((delivery, recipients?))).collect()
}

/// The same; one that cannot be read spoils its own delivery.
pub(super) async fn recipients_of(
    tx: &mut Tx,
    ids: &str,
    what: &'static str,
) -> Result<HashMap<i64, Result<Vec<Recipient>>>> {
    let query = db::query_as(RECIPIENTS).bind(ids);
    let rows: Vec<RecipientRow> = query.fetch_all(&mut *tx).await.map_err(unreadable(what))?;
    let mut all: HashMap<i64, Result<Vec<Recipient>>> = HashMap::new();
    for row in rows {
        let known = all.entry(row.delivery).or_insert_with(|| Ok(Vec::new()));
        match (known.as_mut(), row.recipient()) {
            (Ok(recipients), Ok(recipient)) => recipients.push(recipient),
            (Ok(_), Err(error)) => *known = Err(error),
            (Err(_), _) => {}
        }
    }
    Ok(all)
}

pub(super) async fn delivery(store: &Sql, id: DeliveryId) -> Result<Option<(Claimed, Vec<AttemptRow>)>> {
    const WHAT: &str = "read a delivery";
    let mut tx = store.read(WHAT).await?;
    let claimed = load(&mut tx, &[id.0], WHAT).await?.pop();
    let attempts: Vec<AttemptLine> =
        db::query_as(ATTEMPTS).bind(id.0).fetch_all(&mut tx).await.map_err(failed(WHAT))?;
    tx.commit().await.map_err(failed(WHAT))?;
    let attempts = attempts.into_iter().map(AttemptLine::attempt).collect::<Result<_>>()?;
    Ok(claimed.map(|claimed| (claimed, attempts)))
}

pub(super) async fn outbox_counts(store: &Sql) -> Result<Vec<(&'static str, u64)>> {
    let query = db::query_as(COUNTS).fetch_all(&store.readers);
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

pub(super) async fn act(store: &Sql, ids: &[DeliveryId], action: OutboxAction, by: &By) -> Result<Vec<Acted>> {
    const WHAT: &str = "act on deliveries";
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut tx = store.write(WHAT).await?;
    let asked = json(&ids.iter().map(|id| id.0).collect::<Vec<_>>());
    let rows: Vec<Standing> = db::query_as(STANDING).bind(asked).fetch_all(&mut tx).await.map_err(failed(WHAT))?;
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
            db::query(ASK_ALL_AGAIN).bind(json(&again)).execute(&mut tx).await.map_err(failed(WHAT))?;
            let query = db::query(RETRY).bind(json(&done)).bind(millis(by.at));
            query.execute(&mut tx).await.map_err(failed(WHAT))?;
        }
        OutboxAction::Cancel => {
            let detail = format!("cancelled by {}", by.who);
            let query = db::query(CANCEL).bind(json(&done)).bind(millis(by.at)).bind(detail);
            query.execute(&mut tx).await.map_err(failed(WHAT))?;
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
    db::query(APPROVE)
        .bind(json(&ids))
        .bind(millis(by.at))
        .bind(by.day.to_string())
        .bind(&by.who)
        .execute(&mut *tx)
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

pub(super) async fn holds(store: &Sql) -> Result<Vec<Hold>> {
    let query = db::query_as(HOLDS).fetch_all(&store.readers);
    let rows: Vec<HoldRow> = query.await.map_err(failed("read the holds"))?;
    rows.into_iter().map(HoldRow::hold).collect()
}

pub(super) async fn set_hold(store: &Sql, hold: &Hold) -> Result<()> {
    const WHAT: &str = "set a hold";
    let mut tx = store.write(WHAT).await?;
    let set = db::query(SET_HOLD)
        .bind(hold.kind.as_str())
        .bind(&hold.reason)
        .bind(&hold.set_by)
        .bind(millis(hold.set_at))
        .execute(&mut tx)
        .await
        .map_err(failed(WHAT))?;
    if set.rows_affected() == 1 {
        let text = format!("all mail held ({}) by {}: {}", hold.kind.as_str(), hold.set_by, hold.reason);
        events::write(&mut tx, &[Event::of_all(hold.set_at, "hold", text)], WHAT).await?;
    }
    tx.commit().await.map_err(failed(WHAT))
}

/// Holds all mail of a state that is not the one that was here, and writes it down.
pub(in crate::store) async fn hold_restored(
    tx: &mut Tx,
    reason: &str,
    now: Timestamp,
    what: &'static str,
) -> Result<()> {
    let query = db::query(SET_HOLD).bind(HoldKind::Restored.as_str()).bind(reason).bind("kigen");
    let set = query.bind(millis(now)).execute(&mut *tx).await.map_err(failed(what))?;
    if set.rows_affected() == 1 {
        let text = format!("all mail held ({}): {reason}", HoldKind::Restored.as_str());
        events::write(tx, &[Event::of_all(now, "hold", text)], what).await?;
    }
    Ok(())
}

pub(super) async fn clear_holds(store: &Sql, by: &By) -> Result<Vec<Hold>> {
    const WHAT: &str = "clear the holds";
    let mut tx = store.write(WHAT).await?;
    let rows: Vec<HoldRow> = db::query_as(HOLDS).fetch_all(&mut tx).await.map_err(failed(WHAT))?;
    let cleared = rows.into_iter().map(HoldRow::hold).collect::<Result<Vec<_>>>()?;
    db::query(CLEAR_HOLDS).execute(&mut tx).await.map_err(failed(WHAT))?;
    let held: Vec<Notice> = db::query_as(HELD_FOR_THEM).fetch_all(&mut tx).await.map_err(failed(WHAT))?;
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
