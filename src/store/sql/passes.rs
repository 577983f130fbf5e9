//! What a notice pass decided, many customers in one transaction: with a commit for each, a pass waited for the disk most of
//! its time.
//!
//! Invariants: case, events and mail of one customer are written together or not at all, whatever becomes of the others; what
//! was decided on another version of the customer is refused; the unique key decides whether a notice stands here already; if
//! a statement fails nothing of the list stands, and each is done alone, so that one bad row hurts nobody else.

use std::collections::HashMap;

use serde_json::json;

use crate::domain::Timestamp;
use crate::domain::delivery::{DeliveryId, Held};
use crate::domain::site::CustomerId;

use super::super::{Committed, HistoryKind, NewDelivery, PassChange, Result, StoreError};
use super::events::{self, Event, Notice};
use super::rows::{self, millis, sites_text};
use super::{Sql, Tx, cases, db, failed, lock_customers};

pub(super) const VERSIONS: &str = "SELECT id, version FROM customers WHERE id IN (SELECT value FROM json_each(?1))";

pub(super) const NEXT_VERSIONS: &str =
    "UPDATE customers SET version = version + 1 WHERE id IN (SELECT value FROM json_each(?1))";

/// In the order of the list, so that the queue is.
pub(super) const QUEUE: &str = "INSERT INTO deliveries (customer, campaign, round, kind, occasion, milestone, day, \
         deadline, because, state, held, not_before, priority, message_id, subject, envelope_from, rendered_for, \
         evidence_at, sites, created_at, state_at) \
     SELECT value ->> 0, value ->> 1, CAST(value ->> 2 AS BIGINT), value ->> 3, value ->> 4, value ->> 5, value ->> 6, \
         value ->> 7, value ->> 8, value ->> 9, value ->> 10, CAST(value ->> 11 AS BIGINT), CAST(value ->> 12 AS BIGINT), \
         value ->> 13, value ->> 14, value ->> 15, value ->> 16, CAST(value ->> 17 AS BIGINT), value ->> 18, CAST(value ->> 11 AS BIGINT), CAST(value ->> 11 AS BIGINT) \
     FROM jsonb_each(?1) WHERE true ORDER BY key \
     ON CONFLICT (customer, campaign, round, kind, occasion) WHERE state <> 'dropped' OR cancelled = 1 DO NOTHING \
     RETURNING id, customer";

pub(super) const ADDRESS: &str = "INSERT INTO recipients (delivery, position, address, state) \
     SELECT CAST(value ->> 0 AS BIGINT), CAST(value ->> 1 AS BIGINT), value ->> 2, 'pending' FROM jsonb_each(?1)";

/// The mails' bytes come one behind the other: JSON holds no bytes, and a statement each would cost as much as all else.
pub(super) const STORE_RAW: &str = "INSERT INTO messages (delivery, raw) \
     SELECT CAST(value ->> 0 AS BIGINT), substr(?2/*postgres: ::bytea*/, CAST(value ->> 1 AS INTEGER), CAST(value ->> 2 AS INTEGER)) \
     FROM jsonb_each(?1)";

const WHAT: &str = "write what a pass decided";

/// See [`Store::commit_passes`](super::super::Store::commit_passes).
pub(super) async fn commit(store: &Sql, changes: &[PassChange]) -> Result<Vec<Result<Committed>>> {
    if changes.is_empty() {
        return Ok(Vec::new());
    }
    match written(store, changes).await? {
        Ok(committed) => return Ok(committed.into_iter().map(Ok).collect()),
        Err(error) if changes.len() == 1 => return Ok(vec![Err(error)]),
        Err(error) => tracing::debug!("{} decisions of a pass are written one by one: {error}", changes.len()),
    }
    let mut all = Vec::new();
    for change in changes {
        let committed = written(store, std::slice::from_ref(change)).await.flatten();
        all.push(committed.map(|of_one| *of_one.first().expect("what became of one is one")));
    }
    Ok(all)
}

/// All in one transaction. The inner error: one of them cannot be written, and none was.
async fn written(store: &Sql, changes: &[PassChange]) -> Result<Result<Vec<Committed>>> {
    let mut tx = store.write_beside_mail(WHAT).await?;
    let committed = write(&mut tx, changes).await;
    match committed {
        Ok(_) => tx.commit().await,
        Err(_) => tx.rollback().await,
    }
    .map_err(failed(WHAT))?;
    Ok(committed)
}

async fn write(tx: &mut Tx, changes: &[PassChange]) -> Result<Vec<Committed>> {
    if changes.iter().any(mixes_customers) {
        return Err(StoreError::Corrupt("a pass mixes two customers".to_owned()));
    }
    let fresh = fresh(tx, changes).await?;
    let new: Vec<(&NewDelivery, Timestamp)> = changes
        .iter()
        .zip(&fresh)
        .filter(|(_, fresh)| **fresh)
        .filter_map(|(c, _)| Some((c.delivery.as_ref()?, c.at)))
        .collect();
    // Before anything else is written of them: who has the notice already is left as it is.
    let numbers = queue(tx, &new).await?;
    let became = |change: &PassChange, fresh: bool| match &change.delivery {
        _ if !fresh => Committed::Stale,
        None => Committed::Done(None),
        Some(_) => numbers.get(change.customer.as_str()).map_or(Committed::Duplicate, |id| Committed::Done(Some(*id))),
    };
    let committed: Vec<Committed> = changes.iter().zip(fresh).map(|(change, fresh)| became(change, fresh)).collect();
    let done = changes.iter().zip(&committed).filter_map(|(change, committed)| match committed {
        Committed::Done(id) => Some((change, *id)),
        Committed::Stale | Committed::Duplicate => None,
    });
    write_customers(tx, &done.collect::<Vec<_>>()).await?;
    Ok(committed)
}

fn mixes_customers(change: &PassChange) -> bool {
    let of_another = |customer: &CustomerId| *customer != change.customer;
    of_another(&change.case.customer) || change.delivery.as_ref().is_some_and(|d| of_another(&d.facts.key.customer))
}

/// Which of them were decided on what stands here. A second one of a customer was not: the first one changes it.
async fn fresh(tx: &mut Tx, changes: &[PassChange]) -> Result<Vec<bool>> {
    let ids = rows::json(&changes.iter().map(|c| c.customer.as_str()).collect::<Vec<_>>());
    lock_customers(tx, &ids, WHAT).await?;
    let versions: Vec<(String, i64)> =
        db::query_as(VERSIONS).bind(&ids).fetch_all(&mut *tx).await.map_err(failed(WHAT))?;
    let mut versions: HashMap<String, i64> = versions.into_iter().collect();
    Ok(changes.iter().map(|c| versions.remove(c.customer.as_str()) == Some(c.version)).collect())
}

/// Puts mails into the outbox; the number of each that was not there yet, by customer.
async fn queue(tx: &mut Tx, new: &[(&NewDelivery, Timestamp)]) -> Result<HashMap<String, DeliveryId>> {
    if new.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = rows::json(&new.iter().map(|(new, at)| delivery_row(new, *at)).collect::<Vec<_>>());
    let queued: Vec<(i64, String)> = db::query_as(QUEUE).bind(rows).fetch_all(&mut *tx).await.map_err(failed(WHAT))?;
    let numbers: HashMap<String, DeliveryId> =
        queued.into_iter().map(|(id, customer)| (customer, DeliveryId(id))).collect();
    let mut addresses = Vec::new();
    let mut places = Vec::new();
    let mut bytes: Vec<u8> = Vec::new();
    for (new, _) in new {
        let Some(id) = numbers.get(new.facts.key.customer.as_str()) else { continue };
        addresses.extend(new.recipients.iter().enumerate().map(|(position, a)| (id.0, position, a.as_str())));
        // SQL counts from 1.
        places.push((id.0, bytes.len() + 1, new.message.raw.len()));
        bytes.extend_from_slice(&new.message.raw);
    }
    if !places.is_empty() {
        db::query(ADDRESS).bind(rows::json(&addresses)).execute(&mut *tx).await.map_err(failed(WHAT))?;
        db::query(STORE_RAW).bind(rows::json(&places)).bind(bytes).execute(&mut *tx).await.map_err(failed(WHAT))?;
    }
    Ok(numbers)
}

/// The columns in the order of [`QUEUE`]. (A tuple of so many is none for serde.)
fn delivery_row(new: &NewDelivery, at: Timestamp) -> Vec<serde_json::Value> {
    let (facts, key, message) = (&new.facts, &new.facts.key, &new.message);
    vec![
        json!(key.customer.as_str()),
        json!(key.campaign.0),
        json!(key.round),
        json!(key.kind.as_str()),
        json!(key.occasion),
        json!(facts.milestone),
        json!(facts.day.to_string()),
        json!(facts.deadline.to_string()),
        json!(facts.because),
        json!(if new.held.is_some() { "held" } else { "queued" }),
        json!(new.held.map(Held::as_str)),
        json!(millis(at)),
        json!(new.priority),
        json!(message.message_id),
        json!(message.subject),
        json!(message.envelope_from.as_str()),
        json!(message.rendered_for.to_string()),
        json!(millis(message.evidence_at)),
        json!(sites_text(&message.sites)),
    ]
}

/// What is written of everybody, beside the mail.
async fn write_customers(tx: &mut Tx, done: &[(&PassChange, Option<DeliveryId>)]) -> Result<()> {
    if done.is_empty() {
        return Ok(());
    }
    let ids = rows::json(&done.iter().map(|(c, _)| c.customer.as_str()).collect::<Vec<_>>());
    db::query(NEXT_VERSIONS).bind(ids).execute(&mut *tx).await.map_err(failed(WHAT))?;
    cases::write(tx, &done.iter().map(|(c, _)| &c.case).collect::<Vec<_>>(), WHAT).await?;
    let mut happened = Vec::new();
    for (change, id) in done {
        let of_case = |event| Event::of_case(change.at, &change.customer, &change.case.campaign, event);
        happened.extend(change.events.iter().map(of_case));
        happened.extend(change.delivery.as_ref().zip(*id).map(|(new, id)| planned(id, new, change.at)));
    }
    events::write(tx, &happened, WHAT).await
}

fn planned(id: DeliveryId, new: &NewDelivery, at: Timestamp) -> Event {
    let key = &new.facts.key;
    let notice = Notice::new(id, &key.customer, &key.campaign, key.kind, new.facts.milestone.as_deref());
    let (word, state) = match new.held {
        None => ("queued", "queued".to_owned()),
        Some(held) => ("held", format!("held ({})", held.as_str())),
    };
    let to: Vec<_> = new.recipients.iter().map(|a| a.masked()).collect();
    let sites: Vec<_> = new.message.sites.iter().map(|s| s.as_str()).collect();
    let text = format!("{state}, to {}, about {}: {}", to.join(", "), sites.join(", "), new.facts.because);
    Event::of_delivery(at, &notice, HistoryKind::Decided, word, &text)
}
