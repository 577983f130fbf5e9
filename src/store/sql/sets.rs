//! The hot calls of deliverers, many at once: claim, begin and record as statements on sets.
//!
//! Each does for a list what its namesake in `outbox` and `attempts` does for one, with a handful of statements however
//! long the list is, inside a transaction that [`super::writer`] owns. Invariant: no two entries of one list are about
//! the same delivery, so that what one of them changes no other one sees.

use std::collections::HashMap;

use crate::domain::delivery::{Attempt, DeliveryId, DeliveryState, Outcome, Recipient};

use super::super::{Claimed, HistoryKind, Result};
use super::attempts::{END_LOST_ATTEMPT, settled_text};
use super::events::{self, Event, Notice};
use super::outbox::{free_of_holds, load_to_send};
use super::rows::{json, millis, time};
use super::{Tx, db, failed};

pub(super) const CLAIMABLE: &str = concat!(
    "SELECT d.id FROM deliveries AS d WHERE d.state = 'queued' AND d.not_before <= ?1 \
         AND (d.lease_until IS NULL OR d.lease_until <= ?1) AND ",
    free_of_holds!(),
    " ORDER BY d.priority, d.id LIMIT ?2"
);

pub(super) const CLAIM_SET: &str = "UPDATE deliveries SET owner = j.value ->> 1, \
         lease_until = CAST(j.value ->> 2 AS BIGINT) \
     FROM json_each(?1) AS j WHERE deliveries.id = CAST(j.value ->> 0 AS BIGINT)";

pub(super) const BEGIN_SET: &str = concat!(
    "UPDATE deliveries AS d SET state = 'sending', attempts = d.attempts + 1, \
         lease_until = CAST(j.value ->> 3 AS BIGINT), state_at = CAST(j.value ->> 2 AS BIGINT) \
     FROM json_each(?1) AS j WHERE d.id = CAST(j.value ->> 0 AS BIGINT) AND d.owner = j.value ->> 1 AND d.state = 'queued' AND ",
    free_of_holds!(),
    " RETURNING id, attempts"
);

pub(super) const OPEN_ATTEMPT_SET: &str = "INSERT INTO attempts (delivery, number, owner, started_at) \
     SELECT CAST(value ->> 0 AS BIGINT), CAST(value ->> 1 AS BIGINT), value ->> 2, CAST(value ->> 3 AS BIGINT) \
     FROM json_each(?1)";

pub(super) const GIVE_BACK_SET: &str = "UPDATE deliveries SET owner = NULL, lease_until = NULL \
     FROM json_each(?1) AS j \
     WHERE deliveries.id = CAST(j.value ->> 0 AS BIGINT) AND deliveries.owner = j.value ->> 1 AND deliveries.state = 'queued'";

pub(super) const SETTLE_SET: &str = "UPDATE deliveries SET state = j.value ->> 2, held = j.value ->> 3, \
         not_before = coalesce(CAST(j.value ->> 4 AS BIGINT), deliveries.not_before), detail = j.value ->> 5, \
         unknown_before = CASE WHEN CAST(j.value ->> 6 AS BIGINT) = 1 THEN 1 ELSE deliveries.unknown_before END, owner = NULL, lease_until = NULL, \
         state_at = CAST(j.value ->> 7 AS BIGINT) \
     FROM json_each(?1) AS j \
     WHERE deliveries.id = CAST(j.value ->> 0 AS BIGINT) AND deliveries.owner = j.value ->> 1 AND deliveries.state = 'sending' \
     RETURNING id, customer, campaign, kind, milestone, attempts";

pub(super) const END_ATTEMPT_SET: &str = "UPDATE attempts SET finished_at = CAST(j.value ->> 2 AS BIGINT), \
         outcome = j.value ->> 3, reply = j.value ->> 4 FROM json_each(?1) AS j \
     WHERE attempts.delivery = CAST(j.value ->> 0 AS BIGINT) AND attempts.number = CAST(j.value ->> 1 AS BIGINT) AND attempts.finished_at IS NULL";

pub(super) const SETTLE_RECIPIENTS_SET: &str = "UPDATE recipients SET state = j.value ->> 2, reply = j.value ->> 3 \
     FROM json_each(?1) AS j WHERE recipients.delivery = CAST(j.value ->> 0 AS BIGINT) AND recipients.address = j.value ->> 1";

/// As [`super::outbox::claim`] takes it; instants in UNIX milliseconds.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) owner: String,
    pub(super) now: i64,
    pub(super) lease_until: i64,
}

/// As [`super::attempts::begin_attempt`] takes it.
#[derive(Debug)]
pub(super) struct Begin {
    pub(super) id: DeliveryId,
    pub(super) owner: String,
    pub(super) now: i64,
    pub(super) lease_until: i64,
}

/// As [`super::attempts::record_attempt`] takes it.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) id: DeliveryId,
    pub(super) owner: String,
    pub(super) attempt: Attempt,
    pub(super) state: DeliveryState,
    pub(super) recipients: Vec<Recipient>,
    pub(super) now: i64,
}

/// Hands out as many deliveries as there are claims and due ones, in the order of the queue. One that nobody can read is
/// an error: alone, its claimant sets it aside.
pub(super) async fn claim(tx: &mut Tx, claims: &[&Claim]) -> Result<Vec<Option<Claimed>>> {
    const WHAT: &str = "take deliveries from the queue";
    // The earliest of their clocks: what is due by it is due for all.
    let Some(now) = claims.iter().map(|c| c.now).min() else { return Ok(Vec::new()) };
    let most = i64::try_from(claims.len()).unwrap_or(i64::MAX);
    let ids: Vec<i64> =
        db::query_scalar(CLAIMABLE).bind(now).bind(most).fetch_all(&mut *tx).await.map_err(failed(WHAT))?;
    if ids.is_empty() {
        return Ok(claims.iter().map(|_| None).collect());
    }
    let rows: Vec<_> = ids.iter().zip(claims).map(|(id, c)| (id, &c.owner, c.lease_until)).collect();
    db::query(CLAIM_SET).bind(json(&rows)).execute(&mut *tx).await.map_err(failed(WHAT))?;
    let loaded = load_to_send(tx, &ids, WHAT).await?;
    let mut loaded: HashMap<DeliveryId, Claimed> = loaded.into_iter().map(|c| (c.delivery.id, c)).collect();
    let mut given = ids.into_iter();
    Ok(claims.iter().map(|_| given.next().and_then(|id| loaded.remove(&DeliveryId(id)))).collect())
}

/// Which of them began; a claim that was lost, or is held since, is given back.
pub(super) async fn begin(tx: &mut Tx, begins: &[&Begin]) -> Result<Vec<bool>> {
    const WHAT: &str = "begin attempts";
    if begins.is_empty() {
        return Ok(Vec::new());
    }
    let asked: Vec<_> = begins.iter().map(|b| (b.id.0, &b.owner, b.now, b.lease_until)).collect();
    let begun: Vec<(i64, i64)> =
        db::query_as(BEGIN_SET).bind(json(&asked)).fetch_all(&mut *tx).await.map_err(failed(WHAT))?;
    let begun: HashMap<i64, i64> = begun.into_iter().collect();
    let opened: Vec<_> = begins.iter().filter_map(|b| Some((b.id.0, begun.get(&b.id.0)?, &b.owner, b.now))).collect();
    let lost: Vec<_> = begins.iter().filter(|b| !begun.contains_key(&b.id.0)).map(|b| (b.id.0, &b.owner)).collect();
    if !opened.is_empty() {
        db::query(OPEN_ATTEMPT_SET).bind(json(&opened)).execute(&mut *tx).await.map_err(failed(WHAT))?;
    }
    if !lost.is_empty() {
        db::query(GIVE_BACK_SET).bind(json(&lost)).execute(&mut *tx).await.map_err(failed(WHAT))?;
    }
    Ok(begins.iter().map(|b| begun.contains_key(&b.id.0)).collect())
}

/// What is settled, with the number of its attempt.
#[derive(sqlx::FromRow)]
struct Settled {
    #[sqlx(flatten)]
    notice: Notice,
    attempts: i64,
}

/// Which of them settled their delivery; of those whose claim was lost only the attempt is recorded.
pub(super) async fn record(tx: &mut Tx, records: &[&Record]) -> Result<Vec<bool>> {
    const WHAT: &str = "record attempts";
    if records.is_empty() {
        return Ok(Vec::new());
    }
    let asked: Vec<_> = records.iter().map(|r| settle_row(r)).collect();
    let settled: Vec<Settled> =
        db::query_as(SETTLE_SET).bind(json(&asked)).fetch_all(&mut *tx).await.map_err(failed(WHAT))?;
    let settled: HashMap<i64, Settled> = settled.into_iter().map(|s| (s.notice.id, s)).collect();
    let mut ends = Vec::new();
    let mut recipients = Vec::new();
    let mut happened = Vec::new();
    for record in records {
        let (id, attempt) = (record.id.0, &record.attempt);
        let Some(Settled { notice, attempts }) = settled.get(&id) else {
            end_lost(tx, record, WHAT).await?;
            continue;
        };
        ends.push((id, attempts, record.now, attempt.outcome.as_str(), &attempt.reply));
        let settled = |r| -> (i64, &str, &str, Option<&str>) { recipient_row(id, r) };
        recipients.extend(record.recipients.iter().map(settled));
        if let Some(text) = settled_text(&record.state, attempt, &record.recipients) {
            let (at, word) = (time(record.now)?, record.state.as_str());
            happened.push(Event::of_delivery(at, notice, HistoryKind::Sent, word, &text));
        }
    }
    if !ends.is_empty() {
        db::query(END_ATTEMPT_SET).bind(json(&ends)).execute(&mut *tx).await.map_err(failed(WHAT))?;
        db::query(SETTLE_RECIPIENTS_SET).bind(json(&recipients)).execute(&mut *tx).await.map_err(failed(WHAT))?;
    }
    events::write(tx, &happened, WHAT).await?;
    Ok(records.iter().map(|r| settled.contains_key(&r.id.0)).collect())
}

fn settle_row(record: &Record) -> impl serde::Serialize {
    let (held, not_before) = match &record.state {
        DeliveryState::Held(held) => (Some(held.as_str()), None),
        DeliveryState::Queued { not_before } => (None, Some(millis(*not_before))),
        _ => (None, None),
    };
    let detail = (record.state != DeliveryState::Sent).then_some(&record.attempt.reply);
    let unknown = u8::from(record.attempt.outcome == Outcome::Unknown);
    (record.id.0, &record.owner, record.state.as_str(), held, not_before, detail, unknown, record.now)
}

fn recipient_row(id: i64, recipient: &Recipient) -> (i64, &str, &str, Option<&str>) {
    (id, recipient.address.as_str(), recipient.state.as_str(), recipient.reply.as_deref())
}

async fn end_lost(tx: &mut Tx, record: &Record, what: &'static str) -> Result<()> {
    db::query(END_LOST_ATTEMPT)
        .bind(record.id.0)
        .bind(record.now)
        .bind(record.attempt.outcome.as_str())
        .bind(&record.attempt.reply)
        .bind(&record.owner)
        .execute(&mut *tx)
        .await
        .map_err(failed(what))?;
    Ok(())
}
