//! Mails on the wire, on SQLite: what must be on disk between two mails of a connection, in one statement.
//!
//! That the first mail was taken and the second begins is written where it belongs by eight statements, into some twenty
//! pages and as many index entries: more than the mail itself costs. So between the two it is written here, one row a mail
//! ([`go_on`]), and lands in deliveries, attempts, recipients and history soon after, many mails at once ([`land`]).
//!
//! Invariants: a delivery with a row here is `queued`, claimed by the row's owner, and never claimed again; nobody changes it
//! before the row has landed, since every transaction that may touch a delivery in somebody's hands lands first
//! ([`super::Sql::write`], [`super::Sql::write_beside`], the `writer`, and [`land_rest`] when the file is opened); only mails
//! that were taken for everybody end here, all other ends are recorded where they belong at once.

use std::collections::HashSet;

use sqlx::SqlitePool;

use crate::domain::Timestamp;
use crate::domain::delivery::{DeliveryId, DeliveryState, Outcome, RecipientState};

use super::super::{AttemptEnd, AttemptStart, HistoryKind, Result};
use super::events::{self, Event, Notice};
use super::outbox::free_of_holds;
use super::rows::{json, millis, time};
use super::{Tx, db, failed};

/// Which rows land: those of mails that began until `?1`, that were taken until `?2`, and that are listed in `?3`.
macro_rules! landing {
    () => {
        "(f.began_at <= ?1 OR f.taken_at <= ?2 OR f.delivery IN (SELECT CAST(value AS BIGINT) FROM json_each(?3)))"
    };
}

/// One ends, the next one begins: both by a row of `(delivery, owner, began_at, lease_until, taken_at, reply, recipients, the
/// one that ends)`. Neither is written unless the one that ends is here and not taken yet; the next one must be ours still,
/// and free of holds.
pub(super) const GO_ON: &str = concat!(
    "INSERT INTO flights (delivery, owner, began_at, lease_until, taken_at, reply, recipients) \
     SELECT d.id, d.owner, CAST(j.value ->> 2 AS BIGINT), CAST(j.value ->> 3 AS BIGINT), CAST(j.value ->> 4 AS BIGINT), \
         j.value ->> 5, j.value ->> 6 \
     FROM jsonb_each(?1) AS j CROSS JOIN deliveries AS d ON d.id = CAST(j.value ->> 0 AS BIGINT) \
     WHERE d.owner = j.value ->> 1 AND d.state = 'queued' \
         AND EXISTS (SELECT 1 FROM flights AS f WHERE f.delivery = CAST(j.value ->> 7 AS BIGINT) \
                     AND f.owner = d.owner AND f.taken_at IS NULL) \
         AND (j.value ->> 4 IS NOT NULL \
              OR d.lease_until > CAST(j.value ->> 2 AS BIGINT) \
                  AND NOT EXISTS (SELECT 1 FROM flights AS f WHERE f.delivery = d.id) AND ",
    free_of_holds!(),
    ") ON CONFLICT (delivery) DO UPDATE SET taken_at = excluded.taken_at, reply = excluded.reply, \
         recipients = excluded.recipients \
     RETURNING delivery"
);

/// The first of a connection begins.
pub(super) const TAKE_OFF: &str = concat!(
    "INSERT INTO flights (delivery, owner, began_at, lease_until) \
     SELECT d.id, d.owner, CAST(j.value ->> 2 AS BIGINT), CAST(j.value ->> 3 AS BIGINT) \
     FROM jsonb_each(?1) AS j CROSS JOIN deliveries AS d ON d.id = CAST(j.value ->> 0 AS BIGINT) \
     WHERE d.owner = j.value ->> 1 AND d.state = 'queued' AND d.lease_until > CAST(j.value ->> 2 AS BIGINT) \
         AND NOT EXISTS (SELECT 1 FROM flights AS f WHERE f.delivery = d.id) AND ",
    free_of_holds!(),
    " RETURNING delivery"
);

pub(super) const ALOFT: &str = "SELECT EXISTS (SELECT 1 FROM flights)";

// (`+f.delivery`: SQLite is to begin with the few rows here, not to walk all deliveries and look each up here.)
pub(super) const LAND: &str = concat!(
    "UPDATE deliveries NOT INDEXED SET attempts = deliveries.attempts + 1, state_at = coalesce(f.taken_at, f.began_at), \
         state = CASE WHEN f.taken_at IS NULL THEN 'sending' ELSE 'sent' END, \
         owner = CASE WHEN f.taken_at IS NULL THEN f.owner END, \
         lease_until = CASE WHEN f.taken_at IS NULL THEN f.lease_until END, \
         detail = CASE WHEN f.taken_at IS NULL THEN deliveries.detail END \
     FROM flights AS f \
     WHERE deliveries.id = +f.delivery AND deliveries.state = 'queued' AND ",
    landing!(),
    " RETURNING id, customer, campaign, kind, milestone, state, state_at"
);

pub(super) const LAND_ATTEMPTS: &str = concat!(
    "INSERT INTO attempts (delivery, number, owner, started_at, finished_at, outcome, reply) \
     SELECT f.delivery, d.attempts, f.owner, f.began_at, f.taken_at, CASE WHEN f.taken_at IS NOT NULL THEN 'accepted' END, f.reply \
     FROM flights AS f CROSS JOIN deliveries AS d ON d.id = f.delivery WHERE ",
    landing!(),
    " ON CONFLICT DO NOTHING"
);

pub(super) const LAND_RECIPIENTS: &str = concat!(
    "UPDATE recipients SET state = j.value ->> 1, reply = j.value ->> 2 \
     FROM flights AS f CROSS JOIN jsonb_each(f.recipients) AS j \
     WHERE f.taken_at IS NOT NULL AND recipients.delivery = +f.delivery AND recipients.address = j.value ->> 0 AND ",
    landing!()
);

pub(super) const LANDED: &str = concat!("DELETE FROM flights AS f WHERE ", landing!());

pub(super) const WHICH: &str = "SELECT delivery FROM flights ORDER BY delivery";
const BEFORE_ONE: &str = "SAVEPOINT one";
const UNDO_ONE: &str = "ROLLBACK TO one";
const AFTER_ONE: &str = "RELEASE one";

/// Whether the end of an attempt can be written here: everybody it went to was accepted.
pub(super) fn fits(end: &AttemptEnd) -> bool {
    end.state == DeliveryState::Sent
        && end.attempt.outcome == Outcome::Accepted
        && end.recipients.iter().all(|recipient| recipient.state == RecipientState::Accepted)
}

/// For each: the first ends, the second begins. Returns the deliveries for which that is written: both, the first alone (the
/// second was lost, or is held), or neither (the first is not here).
pub(super) async fn go_on(
    on: impl Into<db::Link<'_>>,
    joints: &[&(AttemptEnd, AttemptStart)],
) -> Result<HashSet<DeliveryId>> {
    const WHAT: &str = "go on to the next mails";
    if joints.is_empty() {
        return Ok(HashSet::new());
    }
    let mut rows = Vec::new();
    for (end, next) in joints {
        let said =
            |r: &crate::domain::delivery::Recipient| (r.address.as_str().to_owned(), r.state.as_str(), r.reply.clone());
        let recipients = json(&end.recipients.iter().map(said).collect::<Vec<_>>());
        let at = millis(end.at);
        rows.push((end.id.0, &end.owner, at, at, Some(at), Some(&end.attempt.reply), Some(recipients), end.id.0));
        let (at, until) = (millis(next.at), millis(next.lease_until));
        rows.push((next.id.0, &next.owner, at, until, None, None, None, end.id.0));
    }
    let written: Vec<i64> = db::query_scalar(GO_ON).bind(json(&rows)).fetch_all(on).await.map_err(failed(WHAT))?;
    Ok(written.into_iter().map(DeliveryId).collect())
}

/// Which of them began; all others were lost, or are held since.
pub(super) async fn take_off(tx: &mut Tx, begins: &[&AttemptStart]) -> Result<HashSet<DeliveryId>> {
    const WHAT: &str = "begin the next mails";
    if begins.is_empty() {
        return Ok(HashSet::new());
    }
    let rows: Vec<_> = begins.iter().map(|b| (b.id.0, &b.owner, millis(b.at), millis(b.lease_until))).collect();
    let begun: Vec<i64> =
        db::query_scalar(TAKE_OFF).bind(json(&rows)).fetch_all(&mut *tx).await.map_err(failed(WHAT))?;
    Ok(begun.into_iter().map(DeliveryId).collect())
}

/// What lands.
#[derive(Debug)]
pub(super) enum Landing {
    All,
    /// Mails that were taken, those that are on the wire since then or for longer, and these.
    Over(Timestamp, Vec<DeliveryId>),
    One(DeliveryId),
}

impl Landing {
    /// As [`landing!`] wants it.
    fn values(&self) -> (i64, i64, String) {
        let list = |ids: &[DeliveryId]| json(&ids.iter().map(|id| id.0).collect::<Vec<_>>());
        match self {
            Self::All => (i64::MAX, i64::MAX, list(&[])),
            Self::Over(began_until, ids) => (millis(*began_until), i64::MAX, list(ids)),
            Self::One(id) => (i64::MIN, i64::MIN, list(&[*id])),
        }
    }
}

/// Takes rows to where they belong.
pub(super) async fn land(tx: &mut Tx, landing: &Landing, what: &'static str) -> Result<()> {
    let (began, taken, ids) = landing.values();
    let query = db::query_as(LAND).bind(began).bind(taken).bind(&ids);
    let landed: Vec<Landed> = query.fetch_all(&mut *tx).await.map_err(failed(what))?;
    for statement in [LAND_ATTEMPTS, LAND_RECIPIENTS] {
        let query = db::query(statement).bind(began).bind(taken).bind(&ids);
        query.execute(&mut *tx).await.map_err(failed(what))?;
    }
    let sent: Vec<Event> = landed.iter().filter_map(Landed::event).collect();
    events::write(tx, &sent, what).await?;
    let query = db::query(LANDED).bind(began).bind(taken).bind(&ids).execute(&mut *tx);
    let gone = query.await.map_err(failed(what))?.rows_affected();
    if gone != landed.len() as u64 {
        tracing::error!("of {gone} mails on the wire only {} still stood in the queue", landed.len());
    }
    Ok(())
}

/// Begins to write, with all mails on the wire where they belong. One that cannot land keeps none of the others from it.
pub(in crate::store) async fn begin_landed(writer: &SqlitePool, what: &'static str) -> Result<Tx> {
    let mut tx = begin(writer, what).await?;
    let aloft: bool = db::query_scalar(ALOFT).fetch_one(&mut tx).await.map_err(failed(what))?;
    if !aloft {
        return Ok(tx);
    }
    let Err(error) = land(&mut tx, &Landing::All, what).await else { return Ok(tx) };
    tracing::debug!("mails on the wire land one by one: {error}");
    tx.rollback().await.map_err(failed(what))?;
    let mut tx = begin(writer, what).await?;
    land_each(&mut tx, what).await?;
    Ok(tx)
}

async fn begin(writer: &SqlitePool, what: &'static str) -> Result<Tx> {
    writer.begin_with("BEGIN IMMEDIATE").await.map(Tx::Sqlite).map_err(failed(what))
}

async fn land_each(tx: &mut Tx, what: &'static str) -> Result<()> {
    let ids: Vec<i64> = db::query_scalar(WHICH).fetch_all(&mut *tx).await.map_err(failed(what))?;
    for id in ids {
        db::query(BEFORE_ONE).execute(&mut *tx).await.map_err(failed(what))?;
        if let Err(error) = land(tx, &Landing::One(DeliveryId(id)), what).await {
            let error = anyhow::Error::from(error);
            tracing::error!(delivery = %id, "delivery {id} was handed to a server, and that cannot be recorded where it belongs: {error:#}");
            db::query(UNDO_ONE).execute(&mut *tx).await.map_err(failed(what))?;
        }
        db::query(AFTER_ONE).execute(&mut *tx).await.map_err(failed(what))?;
    }
    Ok(())
}

/// What an earlier process left here, for everybody who reads.
///
/// Another process may be sending just now: its mails land too, and it sees to that.
pub(in crate::store) async fn land_rest(writer: &SqlitePool) {
    const WHAT: &str = "take in what an earlier process sent";
    let landed = async {
        let aloft = db::query_scalar::<bool>(ALOFT).fetch_one(db::Link::SqlitePool(writer));
        if aloft.await.map_err(failed(WHAT))? {
            begin_landed(writer, WHAT).await?.commit().await.map_err(failed(WHAT))?;
        }
        Ok::<(), super::super::StoreError>(())
    };
    if let Err(error) = landed.await {
        let error = anyhow::Error::from(error);
        tracing::warn!("what an earlier process sent still looks queued: {error:#}");
    }
}

#[derive(sqlx::FromRow)]
struct Landed {
    #[sqlx(flatten)]
    notice: Notice,
    state: String,
    state_at: i64,
}

impl Landed {
    /// What the history says of it, if it was taken. (An instant that is none must not keep all others from landing.)
    fn event(&self) -> Option<Event> {
        let sent = DeliveryState::Sent.as_str();
        let at = time(self.state_at).ok().filter(|_| self.state == sent)?;
        Some(Event::of_delivery(at, &self.notice, HistoryKind::Sent, sent, sent))
    }
}
