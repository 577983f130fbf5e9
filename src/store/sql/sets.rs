//! The hot calls of deliverers, many at once: claim, begin and record as statements on sets.
//!
//! Each does for a list what its namesake in `outbox` and `attempts` does for one, with a handful of statements however
//! long the list is, inside a transaction that [`super::writer`] owns. Invariant: no two entries of one list are about
//! the same delivery, so that what one of them changes no other one sees.
//!
//! Deliveries are looked up by number, and SQLite is told so (`NOT INDEXED`): by itself it would walk all that are in the
//! same state, the whole queue, and compare each with the list.

use std::collections::HashMap;

use crate::domain::delivery::{DeliveryState, Outcome, Recipient};

use super::super::{AttemptEnd, AttemptStart, Claimed, HistoryKind, Result};
use super::attempts::{END_LOST_ATTEMPT, held_or_again, settled_text};
use super::events::{self, Event, Notice};
use super::outbox::{Claim, free_of_holds, load_to_send, take};
use super::rows::{json, millis};
use super::{Tx, db, failed};

pub(super) const BEGIN_SET: &str = concat!(
    "UPDATE deliveries AS d NOT INDEXED SET state = 'sending', attempts = d.attempts + 1, \
         lease_until = CAST(j.value ->> 3 AS BIGINT), state_at = CAST(j.value ->> 2 AS BIGINT) \
     FROM jsonb_each(?1) AS j WHERE d.id = CAST(j.value ->> 0 AS BIGINT) AND d.owner = j.value ->> 1 AND d.state = 'queued' AND ",
    free_of_holds!(),
    " RETURNING id, attempts"
);

pub(super) const OPEN_ATTEMPT_SET: &str = "INSERT INTO attempts (delivery, number, owner, started_at) \
     SELECT CAST(value ->> 0 AS BIGINT), CAST(value ->> 1 AS BIGINT), value ->> 2, CAST(value ->> 3 AS BIGINT) \
     FROM jsonb_each(?1)";

pub(super) const GIVE_BACK_SET: &str = "UPDATE deliveries NOT INDEXED SET owner = NULL, lease_until = NULL \
     FROM jsonb_each(?1) AS j \
     WHERE deliveries.id = CAST(j.value ->> 0 AS BIGINT) AND deliveries.owner = j.value ->> 1 AND deliveries.state = 'queued'";

pub(super) const SETTLE_SET: &str = "UPDATE deliveries NOT INDEXED SET state = j.value ->> 2, held = j.value ->> 3, \
         not_before = coalesce(CAST(j.value ->> 4 AS BIGINT), deliveries.not_before), detail = j.value ->> 5, \
         unknown_before = CASE WHEN CAST(j.value ->> 6 AS BIGINT) = 1 THEN 1 ELSE deliveries.unknown_before END, owner = NULL, lease_until = NULL, \
         state_at = CAST(j.value ->> 7 AS BIGINT) \
     FROM jsonb_each(?1) AS j \
     WHERE deliveries.id = CAST(j.value ->> 0 AS BIGINT) AND deliveries.owner = j.value ->> 1 AND deliveries.state = 'sending' \
     RETURNING id, customer, campaign, kind, milestone, attempts";

pub(super) const END_ATTEMPT_SET: &str = "UPDATE attempts SET finished_at = CAST(j.value ->> 2 AS BIGINT), \
         outcome = j.value ->> 3, reply = j.value ->> 4 FROM jsonb_each(?1) AS j \
     WHERE attempts.delivery = CAST(j.value ->> 0 AS BIGINT) AND attempts.number = CAST(j.value ->> 1 AS BIGINT) AND attempts.finished_at IS NULL";

pub(super) const SETTLE_RECIPIENTS_SET: &str = "UPDATE recipients SET state = j.value ->> 2, reply = j.value ->> 3 \
     FROM jsonb_each(?1) AS j WHERE recipients.delivery = CAST(j.value ->> 0 AS BIGINT) AND recipients.address = j.value ->> 1";

/// Hands out due deliveries to each in turn. One that nobody can read is an error: alone, its claimant sets it aside.
pub(super) async fn claim(tx: &mut Tx, claims: &[&Claim]) -> Result<Vec<Vec<Claimed>>> {
    const WHAT: &str = "take deliveries from the queue";
    let mut all = Vec::new();
    for asked in claims {
        let ids = take(tx, asked, WHAT).await?;
        all.push(if ids.is_empty() { Vec::new() } else { load_to_send(tx, &ids, WHAT).await? });
    }
    Ok(all)
}

/// Which of them began; a claim that was lost, or is held since, is given back.
pub(super) async fn begin(tx: &mut Tx, begins: &[&AttemptStart]) -> Result<Vec<bool>> {
    const WHAT: &str = "begin attempts";
    if begins.is_empty() {
        return Ok(Vec::new());
    }
    let asked: Vec<_> = begins.iter().map(|b| (b.id.0, &b.owner, millis(b.at), millis(b.lease_until))).collect();
    let begun: Vec<(i64, i64)> =
        db::query_as(BEGIN_SET).bind(json(&asked)).fetch_all(&mut *tx).await.map_err(failed(WHAT))?;
    let begun: HashMap<i64, i64> = begun.into_iter().collect();
    let opened: Vec<_> =
        begins.iter().filter_map(|b| Some((b.id.0, begun.get(&b.id.0)?, &b.owner, millis(b.at)))).collect();
    let lost: Vec<_> = begins.iter().copied().filter(|b| !begun.contains_key(&b.id.0)).collect();
    if !opened.is_empty() {
        db::query(OPEN_ATTEMPT_SET).bind(json(&opened)).execute(&mut *tx).await.map_err(failed(WHAT))?;
    }
    give_back(tx, &lost).await?;
    Ok(begins.iter().map(|b| begun.contains_key(&b.id.0)).collect())
}

/// What was claimed and does not begin goes back to the queue.
pub(super) async fn give_back(tx: &mut Tx, lost: &[&AttemptStart]) -> Result<()> {
    if lost.is_empty() {
        return Ok(());
    }
    let lost: Vec<_> = lost.iter().map(|b| (b.id.0, &b.owner)).collect();
    let query = db::query(GIVE_BACK_SET).bind(json(&lost)).execute(&mut *tx);
    query.await.map(drop).map_err(failed("give claims back"))
}

/// What is settled, with the number of its attempt.
#[derive(sqlx::FromRow)]
struct Settled {
    #[sqlx(flatten)]
    notice: Notice,
    attempts: i64,
}

/// Which of them settled their delivery; of those whose claim was lost only the attempt is recorded.
pub(super) async fn record(tx: &mut Tx, records: &[&AttemptEnd]) -> Result<Vec<bool>> {
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
        ends.push((id, attempts, millis(record.at), attempt.outcome.as_str(), &attempt.reply));
        let settled = |r| -> (i64, &str, &str, Option<&str>) { recipient_row(id, r) };
        recipients.extend(record.recipients.iter().map(settled));
        if let Some(text) = settled_text(&record.state, attempt, &record.recipients) {
            let (at, word) = (record.at, record.state.as_str());
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

fn settle_row(record: &AttemptEnd) -> impl serde::Serialize {
    let (held, not_before) = held_or_again(&record.state);
    let detail = (record.state != DeliveryState::Sent).then_some(&record.attempt.reply);
    let unknown = u8::from(record.attempt.outcome == Outcome::Unknown);
    (record.id.0, &record.owner, record.state.as_str(), held, not_before, detail, unknown, millis(record.at))
}

fn recipient_row(id: i64, recipient: &Recipient) -> (i64, &str, &str, Option<&str>) {
    (id, recipient.address.as_str(), recipient.state.as_str(), recipient.reply.as_deref())
}

async fn end_lost(tx: &mut Tx, record: &AttemptEnd, what: &'static str) -> Result<()> {
    db::query(END_LOST_ATTEMPT)
        .bind(record.id.0)
        .bind(millis(record.at))
        .bind(record.attempt.outcome.as_str())
        .bind(&record.attempt.reply)
        .bind(&record.owner)
        .execute(&mut *tx)
        .await
        .map_err(failed(what))?;
    Ok(())
}
