//! The outbox: a deliverer takes mail out. How a pass puts it in is in `passes`, what happens once it leaves in `attempts`.
//!
//! Invariants: whoever has no claim (any more) changes nothing; while a hold is set, only what was approved after it is
//! given out.

use std::collections::HashMap;

use crate::domain::Timestamp;
use crate::domain::delivery::{DeliveryId, DeliveryKey};

use super::super::{Claimed, HistoryKind, Message, Result, SetAside, StoreError};
use super::attempts::GIVE_BACK;
use super::desk::load_recipients;
use super::events::{self, Event, Notice};
use super::rows::{DeliveryRow, delivery_columns, json, millis, sites_text, time};
use super::{Sql, Tx, db, failed, lock_customers};

/// A delivery that no hold keeps back. (Not asked of each hold: PostgreSQL would believe that hardly any delivery is free, and
/// sort the whole queue instead of walking it.)
macro_rules! free_of_holds {
    () => {
        "(NOT EXISTS (SELECT 1 FROM holds) OR d.approved_at > (SELECT max(h.set_at) FROM holds AS h))"
    };
}
pub(super) use free_of_holds;

/// What a delivery becomes when nothing more is to be sent: what a server may hold is never called dropped.
macro_rules! nothing_more_to_send {
    () => {
        "CASE WHEN EXISTS (SELECT 1 FROM recipients AS r WHERE r.delivery = deliveries.id AND r.state = 'accepted') \
              THEN 'sent' WHEN unknown_before = 1 THEN 'unknown' ELSE 'dropped' END"
    };
}
pub(super) use nothing_more_to_send;

/// The next ones in the order of the queue.
pub(super) const CLAIMABLE: &str = concat!(
    "SELECT d.id FROM deliveries AS d INDEXED BY deliveries_queue WHERE d.state = 'queued' AND d.not_before <= ?1 \
         AND (d.lease_until IS NULL OR d.lease_until <= ?1) \
         AND NOT EXISTS (SELECT 1 FROM flights AS f WHERE f.delivery = d.id) AND ",
    free_of_holds!(),
    " ORDER BY d.priority, d.id LIMIT ?2 /*postgres: FOR NO KEY UPDATE SKIP LOCKED*/"
);

pub(super) const CLAIM: &str = "UPDATE deliveries SET owner = ?1, lease_until = ?2 \
     WHERE id IN (SELECT CAST(value AS BIGINT) FROM json_each(?3))";

pub(super) const CLAIMED: &str = concat!(
    "SELECT ",
    delivery_columns!(),
    ", m.raw FROM deliveries AS d JOIN messages AS m ON m.delivery = d.id \
      WHERE d.id IN (SELECT CAST(value AS BIGINT) FROM json_each(?1)) ORDER BY d.id"
);

/// An attempt that ended deferred, blocked or rejected left no copy anywhere.
pub(super) const REPLACE: &str = "UPDATE deliveries SET message_id = ?3, subject = ?4, envelope_from = ?5, \
         rendered_for = ?6, evidence_at = ?7, sites = ?8 \
     WHERE id = ?1 AND owner = ?2 AND state = 'queued' \
         AND NOT EXISTS (SELECT 1 FROM attempts AS a WHERE a.delivery = deliveries.id \
                         AND (a.outcome IS NULL OR a.outcome IN ('accepted', 'unknown'))) \
         AND NOT EXISTS (SELECT 1 FROM recipients AS r WHERE r.delivery = deliveries.id AND r.state = 'accepted')";

pub(super) const REPLACE_RAW: &str = "UPDATE messages SET raw = ?2 WHERE delivery = ?1";

pub(super) const RELEASE: &str = "UPDATE deliveries SET owner = NULL, lease_until = NULL, not_before = ?3, detail = ?4, \
         state_at = ?5 WHERE id = ?1 AND owner = ?2 AND state = 'queued'";

pub(super) const DROP: &str = concat!(
    "UPDATE deliveries SET state = ",
    nothing_more_to_send!(),
    ", detail = ?3, owner = NULL, lease_until = NULL, state_at = ?4 \
      WHERE id = ?1 AND owner = ?2 AND state = 'queued' RETURNING id, customer, campaign, kind, milestone"
);

/// As [`nothing_more_to_send`], and never called dropped: nobody decided that it is not to be sent.
pub(super) const SET_ASIDE: &str = "UPDATE deliveries SET state = \
         CASE WHEN EXISTS (SELECT 1 FROM recipients AS r WHERE r.delivery = deliveries.id AND r.state = 'accepted') \
              THEN 'sent' WHEN unknown_before = 1 OR state = 'sending' THEN 'unknown' ELSE 'failed' END, \
         detail = ?3, owner = NULL, lease_until = NULL, state_at = ?4 \
     WHERE id = ?1 AND owner = ?2 AND state IN ('queued', 'sending') RETURNING id, customer, campaign, kind, milestone";

pub(super) const CUSTOMER_OF: &str = "SELECT customer FROM deliveries WHERE id = ?1";

pub(super) const CHANGED: &str = "UPDATE customers SET version = version + 1 \
     WHERE id IN (SELECT d.customer FROM json_each(?1) AS j CROSS JOIN deliveries AS d ON d.id = CAST(j.value AS BIGINT))";

pub(super) const FREE_CLAIMS: &str = "UPDATE deliveries SET owner = NULL, lease_until = NULL \
     WHERE state = 'queued' AND owner IS NOT NULL AND owner <> ?1";

pub(super) const NEXT_DUE: &str = concat!(
    "SELECT min(CASE WHEN d.lease_until > d.not_before THEN d.lease_until ELSE d.not_before END) FROM deliveries AS d \
     WHERE d.state = 'queued' AND ",
    free_of_holds!()
);

pub(super) const THREAD: &str = "SELECT message_id FROM deliveries WHERE customer = ?1 AND campaign = ?2 \
         AND state IN ('sent', 'unknown') AND NOT (round = ?3 AND kind = ?4 AND occasion = ?5) ORDER BY id";

/// As [`Store::claim_several`](super::super::Store::claim_several) takes it.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    pub(super) owner: String,
    pub(super) most: u32,
    pub(super) now: Timestamp,
    pub(super) lease_until: Timestamp,
}

pub(super) async fn claim(store: &Sql, asked: &Claim) -> Result<Vec<Claimed>> {
    const WHAT: &str = "take deliveries from the queue";
    let mut tx = store.write_beside(WHAT).await?;
    let ids = take(&mut tx, asked, WHAT).await?;
    if ids.is_empty() {
        return tx.rollback().await.map_err(failed(WHAT)).map(|()| Vec::new());
    }
    let claimed = match load_to_send(&mut tx, &ids, WHAT).await {
        Err(StoreError::Corrupt(_)) => Err(set_claim_aside(&mut tx, &ids, asked, WHAT).await?),
        loaded => Ok(loaded?),
    };
    tx.commit().await.map_err(failed(WHAT))?;
    claimed.map_err(StoreError::SetAside)
}

/// Marks the next ones as claimed, in the order of the queue.
pub(super) async fn take(tx: &mut Tx, asked: &Claim, what: &'static str) -> Result<Vec<i64>> {
    let Claim { owner, most, now, lease_until } = asked;
    let query = db::query_scalar(CLAIMABLE).bind(millis(*now)).bind(*most);
    let ids: Vec<i64> = query.fetch_all(&mut *tx).await.map_err(failed(what))?;
    if !ids.is_empty() {
        let query = db::query(CLAIM).bind(owner).bind(millis(*lease_until)).bind(json(&ids));
        query.execute(&mut *tx).await.map_err(failed(what))?;
    }
    Ok(ids)
}

/// Sets the first of them aside that nobody can read, and gives the others back to be asked for again.
async fn set_claim_aside(tx: &mut Tx, ids: &[i64], asked: &Claim, what: &'static str) -> Result<SetAside> {
    let mut aside = None;
    for id in ids {
        match load_to_send(tx, &[*id], what).await {
            Err(StoreError::Corrupt(why)) if aside.is_none() => {
                aside = Some(set_aside(tx, *id, &asked.owner, &why, asked.now, what).await?);
            }
            _ => {
                let query = db::query(GIVE_BACK).bind(*id).bind(&asked.owner);
                query.execute(&mut *tx).await.map_err(failed(what))?;
            }
        }
    }
    aside.ok_or_else(|| StoreError::Corrupt("deliveries that cannot be read together".to_owned()))
}

/// Takes one that `owner` has, and nobody can read, out of the queue: the mails behind it must not wait for it.
pub(super) async fn set_aside(
    tx: &mut Tx,
    id: i64,
    owner: &str,
    why: &str,
    now: Timestamp,
    what: &'static str,
) -> Result<SetAside> {
    let why = format!("the row contradicts itself: {why}");
    let query = db::query_as(SET_ASIDE).bind(id).bind(owner).bind(&why).bind(millis(now));
    let notice: Option<Notice> = query.fetch_optional(&mut *tx).await.map_err(failed(what))?;
    let Some(notice) = notice else { return Err(StoreError::Corrupt(format!("delivery {id}: {why}"))) };
    let event = Event::of_delivery(now, &notice, HistoryKind::Sent, "failed", &format!("set aside: {why}"));
    events::write(tx, &[event], what).await?;
    Ok(SetAside { delivery: DeliveryId(id), customer: notice.customer, why })
}

#[derive(sqlx::FromRow)]
struct ClaimedRow {
    #[sqlx(flatten)]
    delivery: DeliveryRow,
    raw: Vec<u8>,
}

/// These deliveries in this order, each with a mail and somebody to send it to.
pub(super) async fn load_to_send(tx: &mut Tx, ids: &[i64], what: &'static str) -> Result<Vec<Claimed>> {
    let mut loaded = load(tx, ids, what).await?;
    if loaded.len() != ids.len() {
        return Err(StoreError::Corrupt("its message is missing".to_owned()));
    }
    if loaded.iter().any(|claimed| claimed.delivery.recipients.is_empty()) {
        return Err(StoreError::Corrupt("it has no recipient".to_owned()));
    }
    let place: HashMap<i64, usize> = ids.iter().enumerate().map(|(place, id)| (*id, place)).collect();
    loaded.sort_by_key(|claimed| place.get(&claimed.delivery.id.0));
    Ok(loaded)
}

/// Those of these deliveries that there are, with their mails, by number.
pub(super) async fn load(tx: &mut Tx, ids: &[i64], what: &'static str) -> Result<Vec<Claimed>> {
    let ids = json(&ids);
    let mut recipients = load_recipients(tx, &ids, what).await?;
    let rows: Vec<ClaimedRow> = db::query_as(CLAIMED).bind(&ids).fetch_all(&mut *tx).await.map_err(unreadable(what))?;
    rows.into_iter()
        .map(|row| {
            let message = row.delivery.message(row.raw)?;
            let recipients = recipients.remove(&row.delivery.id).unwrap_or_default();
            Ok(Claimed { delivery: row.delivery.delivery(recipients)?, message })
        })
        .collect()
}

/// The error of a statement whose rows may be what is wrong: text that is none.
pub(super) fn unreadable(what: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    move |error| match error {
        sqlx::Error::ColumnDecode { index, .. } => StoreError::Corrupt(format!("column {index} cannot be read")),
        error => failed(what)(error),
    }
}

pub(super) async fn replace_message(store: &Sql, id: DeliveryId, owner: &str, message: &Message) -> Result<bool> {
    const WHAT: &str = "replace a message";
    let mut tx = store.write_beside(WHAT).await?;
    let replaced = db::query(REPLACE)
        .bind(id.0)
        .bind(owner)
        .bind(&message.message_id)
        .bind(&message.subject)
        .bind(message.envelope_from.as_str())
        .bind(message.rendered_for.to_string())
        .bind(millis(message.evidence_at))
        .bind(sites_text(&message.sites))
        .execute(&mut tx)
        .await
        .map_err(failed(WHAT))?
        .rows_affected()
        == 1;
    if replaced {
        let query = db::query(REPLACE_RAW).bind(id.0).bind(&message.raw);
        query.execute(&mut tx).await.map_err(failed(WHAT))?;
    }
    tx.commit().await.map_err(failed(WHAT))?;
    Ok(replaced)
}

pub(super) async fn release(
    store: &Sql,
    id: DeliveryId,
    owner: &str,
    not_before: Timestamp,
    why: &str,
    now: Timestamp,
) -> Result<()> {
    const WHAT: &str = "give a delivery back to the queue";
    let mut tx = store.write_beside(WHAT).await?;
    db::query(RELEASE)
        .bind(id.0)
        .bind(owner)
        .bind(millis(not_before))
        .bind(why)
        .bind(millis(now))
        .execute(&mut tx)
        .await
        .map_err(failed(WHAT))?;
    tx.commit().await.map_err(failed(WHAT))
}

pub(super) async fn drop_claimed(store: &Sql, id: DeliveryId, owner: &str, why: &str, now: Timestamp) -> Result<()> {
    const WHAT: &str = "drop a delivery";
    let mut tx = store.write_beside(WHAT).await?;
    // Its customer is locked before it, as everywhere.
    let customer: Vec<String> =
        db::query_scalar(CUSTOMER_OF).bind(id.0).fetch_all(&mut tx).await.map_err(failed(WHAT))?;
    lock_customers(&mut tx, &json(&customer), WHAT).await?;
    let query = db::query_as(DROP).bind(id.0).bind(owner).bind(why).bind(millis(now));
    let dropped: Option<Notice> = query.fetch_optional(&mut tx).await.map_err(failed(WHAT))?;
    if let Some(notice) = dropped {
        // Its case was told one notice less: who decided on the old picture decides again.
        changed(&mut tx, &[id.0], WHAT).await?;
        let text = format!("dropped before it left: {why}");
        let event = Event::of_delivery(now, &notice, HistoryKind::Sent, "dropped", &text);
        events::write(&mut tx, &[event], WHAT).await?;
    }
    tx.commit().await.map_err(failed(WHAT))
}

/// What was told to the customers of these deliveries changed.
pub(super) async fn changed(tx: &mut Tx, ids: &[i64], what: &'static str) -> Result<()> {
    db::query(CHANGED).bind(json(&ids)).execute(&mut *tx).await.map_err(failed(what))?;
    Ok(())
}

pub(super) async fn free_claims(store: &Sql, owner: &str) -> Result<u64> {
    const WHAT: &str = "free what a dead process had claimed";
    let mut tx = store.write(WHAT).await?;
    let freed = db::query(FREE_CLAIMS).bind(owner).execute(&mut tx).await.map_err(failed(WHAT))?;
    tx.commit().await.map_err(failed(WHAT))?;
    Ok(freed.rows_affected())
}

pub(super) async fn next_due(store: &Sql) -> Result<Option<Timestamp>> {
    let query = db::query_scalar(NEXT_DUE).fetch_one(&store.readers);
    let due: Option<i64> = query.await.map_err(failed("ask when the next delivery is due"))?;
    due.map(time).transpose()
}

pub(super) async fn thread(store: &Sql, key: &DeliveryKey) -> Result<Vec<String>> {
    db::query_scalar(THREAD)
        .bind(key.customer.as_str())
        .bind(&key.campaign.0)
        .bind(key.round)
        .bind(key.kind.as_str())
        .bind(&key.occasion)
        .fetch_all(&store.readers)
        .await
        .map_err(failed("read what was sent of a case"))
}
