//! Attempts: what happens to a delivery from its first byte on.
//!
//! Invariants: an attempt is on disk before the first byte of its message leaves and never rewritten once it is known how it ended; whoever
//! lost the claim changes nothing of the delivery, only the record of its own attempt.

use crate::domain::Timestamp;
use crate::domain::delivery::{Attempt, DeliveryState, Outcome, Recipient, RecipientState};

use super::super::{AttemptEnd, AttemptStart, Claimed, HistoryKind, Result, SetAside, StoreError};
use super::events::{self, Event, Notice};
use super::outbox::{free_of_holds, load_to_send, set_aside};
use super::rows::{json, millis, time};
use super::{Sql, Tx, db, failed};

pub(super) const BEGIN: &str = concat!(
    "UPDATE deliveries AS d SET state = 'sending', attempts = attempts + 1, lease_until = ?4, state_at = ?3 \
     WHERE d.id = ?1 AND d.owner = ?2 AND d.state = 'queued' AND d.lease_until > ?3 AND ",
    free_of_holds!(),
    " RETURNING attempts"
);

pub(super) const OPEN_ATTEMPT: &str =
    "INSERT INTO attempts (delivery, number, owner, started_at) VALUES (?1, ?2, ?3, ?4)";

pub(super) const GIVE_BACK: &str = "UPDATE deliveries SET owner = NULL, lease_until = NULL \
     WHERE id = ?1 AND owner = ?2 AND state = 'queued'";

pub(super) const SETTLE: &str = "UPDATE deliveries SET state = ?3, held = ?4, not_before = coalesce(?5, not_before), \
         detail = ?6, unknown_before = CASE WHEN ?7 THEN 1 ELSE unknown_before END, owner = NULL, lease_until = NULL, state_at = ?8 \
     WHERE id = ?1 AND owner = ?2 AND state = 'sending' RETURNING id, customer, campaign, kind, milestone";

pub(super) const END_ATTEMPT: &str = "UPDATE attempts SET finished_at = ?2, outcome = ?3, reply = ?4 \
     WHERE delivery = ?1 AND number = (SELECT attempts FROM deliveries WHERE id = ?1) AND finished_at IS NULL";

/// Whoever settled it for us could only say "unknown"; we know better.
pub(super) const END_LOST_ATTEMPT: &str = "UPDATE attempts SET finished_at = ?2, outcome = ?3, reply = ?4 \
     WHERE delivery = ?1 AND number = (SELECT max(number) FROM attempts WHERE delivery = ?1 AND owner = ?5) \
         AND (finished_at IS NULL OR outcome = 'unknown')";

pub(super) const SETTLE_RECIPIENTS: &str = "UPDATE recipients SET state = j.value ->> 1, reply = j.value ->> 2 \
     FROM jsonb_each(?2) AS j WHERE recipients.delivery = ?1 AND recipients.address = j.value ->> 0";

pub(super) const TAKE_ORPHANS: &str = "UPDATE deliveries SET owner = ?1, lease_until = ?4 \
     WHERE state = 'sending' AND owner <> ?1 AND (?2 OR lease_until <= ?3) RETURNING id";

pub(super) const ORPHANS_WAIT: &str =
    "SELECT EXISTS (SELECT 1 FROM deliveries WHERE state = 'sending' AND owner <> ?1 AND lease_until <= ?2)";
/// What cannot be taken over yet goes back as it was, with nobody behind it.
pub(super) const LEAVE_ORPHANS: &str = "UPDATE deliveries SET owner = 'nobody', lease_until = ?2 \
     WHERE id IN (SELECT CAST(value AS BIGINT) FROM json_each(?1)) AND state = 'sending'";

pub(super) const END_UNHEARD: &str = "UPDATE attempts SET finished_at = ?2, outcome = 'unknown', reply = ?3 \
     WHERE delivery = ?1 AND finished_at IS NULL";

pub(super) const LAST_ATTEMPT: &str = "SELECT max(started_at) FROM attempts";

pub(super) async fn begin_attempt(store: &Sql, start: &AttemptStart) -> Result<bool> {
    const WHAT: &str = "begin an attempt";
    let (id, owner, now) = (start.id.0, &start.owner, millis(start.at));
    let mut tx = store.write_beside(WHAT).await?;
    let query = db::query_scalar(BEGIN).bind(id).bind(owner).bind(now).bind(millis(start.lease_until));
    let number: Option<i64> = query.fetch_optional(&mut tx).await.map_err(failed(WHAT))?;
    match number {
        Some(number) => db::query(OPEN_ATTEMPT).bind(id).bind(number).bind(owner).bind(now),
        // Lost, or held since: then it goes back to the queue and waits there.
        None => db::query(GIVE_BACK).bind(id).bind(owner),
    }
    .execute(&mut tx)
    .await
    .map_err(failed(WHAT))?;
    tx.commit().await.map_err(failed(WHAT))?;
    Ok(number.is_some())
}

pub(super) async fn record_attempt(store: &Sql, end: &AttemptEnd) -> Result<bool> {
    const WHAT: &str = "record an attempt";
    let AttemptEnd { id, owner, attempt, state, recipients, at } = end;
    let (held, not_before) = held_or_again(state);
    let mut tx = store.write_beside(WHAT).await?;
    let settled: Option<Notice> = db::query_as(SETTLE)
        .bind(id.0)
        .bind(owner)
        .bind(state.as_str())
        .bind(held)
        .bind(not_before)
        .bind((*state != DeliveryState::Sent).then_some(&attempt.reply))
        .bind(attempt.outcome == Outcome::Unknown)
        .bind(millis(*at))
        .fetch_optional(&mut tx)
        .await
        .map_err(failed(WHAT))?;
    let end = if settled.is_some() { END_ATTEMPT } else { END_LOST_ATTEMPT };
    let query = db::query(end).bind(id.0).bind(millis(*at)).bind(attempt.outcome.as_str()).bind(&attempt.reply);
    // The fifth is the lost attempt's owner.
    let query = if settled.is_some() { query } else { query.bind(owner) };
    query.execute(&mut tx).await.map_err(failed(WHAT))?;
    if let Some(notice) = &settled {
        let rows: Vec<_> =
            recipients.iter().map(|r| (r.address.as_str(), r.state.as_str(), r.reply.as_deref())).collect();
        let query = db::query(SETTLE_RECIPIENTS).bind(id.0).bind(json(&rows));
        query.execute(&mut tx).await.map_err(failed(WHAT))?;
        let text = settled_text(state, attempt, recipients);
        let event = text.map(|text| Event::of_delivery(*at, notice, HistoryKind::Sent, state.as_str(), &text));
        events::write(&mut tx, event.as_slice(), WHAT).await?;
    }
    tx.commit().await.map_err(failed(WHAT))?;
    Ok(settled.is_some())
}

/// What keeps it, or when it is tried again.
pub(super) fn held_or_again(state: &DeliveryState) -> (Option<&'static str>, Option<i64>) {
    match state {
        DeliveryState::Held(held) => (Some(held.as_str()), None),
        DeliveryState::Queued { not_before } => (None, Some(millis(*not_before))),
        _ => (None, None),
    }
}

/// What the history says of the end of a delivery; a mail that is tried again has not ended.
pub(super) fn settled_text(state: &DeliveryState, attempt: &Attempt, recipients: &[Recipient]) -> Option<String> {
    let refused: Vec<_> =
        recipients.iter().filter(|r| r.state == RecipientState::Rejected).map(|r| r.address.masked()).collect();
    let refused = if refused.is_empty() { String::new() } else { format!("; refused for {}", refused.join(", ")) };
    match state {
        DeliveryState::Queued { .. } | DeliveryState::Sending => None,
        DeliveryState::Sent => Some(format!("sent{refused}")),
        DeliveryState::Held(held) => Some(format!("held ({}): {}", held.as_str(), attempt.reply)),
        DeliveryState::Unknown | DeliveryState::Failed | DeliveryState::Dropped => {
            Some(format!("{}: {}{refused}", state.as_str(), attempt.reply))
        }
    }
}

pub(super) async fn take_orphans(
    store: &Sql,
    owner: &str,
    all: bool,
    now: Timestamp,
    lease_until: Timestamp,
) -> Result<Vec<Claimed>> {
    const WHAT: &str = "take over what a dead process was sending";
    // The reader is asked first: nodes ask this again and again, and hardly ever is there one.
    let query = db::query_scalar(ORPHANS_WAIT).bind(owner).bind(millis(now));
    if !all && !query.fetch_one(&store.readers).await.map_err(failed(WHAT))? {
        return Ok(Vec::new());
    }
    let mut tx = store.write(WHAT).await?;
    let query = db::query_scalar(TAKE_ORPHANS).bind(owner).bind(all).bind(millis(now)).bind(millis(lease_until));
    let ids: Vec<i64> = query.fetch_all(&mut tx).await.map_err(failed(WHAT))?;
    let orphans = match load_to_send(&mut tx, &ids, WHAT).await {
        Err(StoreError::Corrupt(_)) => Err(set_orphan_aside(&mut tx, &ids, owner, now, WHAT).await?),
        orphans => Ok(orphans?),
    };
    tx.commit().await.map_err(failed(WHAT))?;
    orphans.map_err(StoreError::SetAside)
}

/// Sets the first of them aside that nobody can read, and leaves the others to be asked for again.
async fn set_orphan_aside(
    tx: &mut Tx,
    ids: &[i64],
    owner: &str,
    now: Timestamp,
    what: &'static str,
) -> Result<SetAside> {
    for id in ids {
        let Err(StoreError::Corrupt(why)) = load_to_send(tx, &[*id], what).await else { continue };
        let aside = set_aside(tx, *id, owner, &why, now, what).await?;
        let query = db::query(END_UNHEARD).bind(*id).bind(millis(now)).bind(&aside.why);
        query.execute(&mut *tx).await.map_err(failed(what))?;
        let query = db::query(LEAVE_ORPHANS).bind(json(&ids)).bind(millis(now));
        query.execute(&mut *tx).await.map_err(failed(what))?;
        return Ok(aside);
    }
    Err(StoreError::Corrupt("deliveries in flight that cannot be read together".to_owned()))
}

pub(super) async fn last_attempt_at(store: &Sql) -> Result<Option<Timestamp>> {
    let query = db::query_scalar(LAST_ATTEMPT).fetch_one(&store.readers);
    let at: Option<i64> = query.await.map_err(failed("ask when the last attempt began"))?;
    at.map(time).transpose()
}
