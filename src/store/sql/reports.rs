//! What a pass needs beyond the open cases, and the proof of what was sent.
//!
//! Invariant: a proof's hash is taken of the stored bytes when it is asked for, never of something kept beside them.

use std::collections::HashMap;

use chrono::NaiveDate;
use sha2::{Digest, Sha256};

use crate::domain::case::{Case, CaseState};
use crate::domain::site::CustomerId;

use super::super::{CasesPage, Proof, Result, StoreError};
use super::desk::load_recipients;
use super::rows::{self, DeliveryRow, delivery_columns, json, time};
use super::{Sql, cases, db, failed};

/// Resolved cases in which something was told on a day: a `resolved` notice, or a held one that was approved then.
pub(super) const RESOLVED_TOLD: &str = "SELECT c.customer FROM cases AS c WHERE c.state = 'resolved' AND EXISTS ( \
         SELECT 1 FROM deliveries AS d WHERE d.customer = c.customer AND d.campaign = c.campaign AND d.day = ?1 \
             AND (d.state <> 'dropped' OR d.cancelled = 1))";

/// The next customers with an open case, or with a resolved one in which something was told on a day. (`OFFSET` keeps
/// PostgreSQL from gathering all deliveries of the day for each page.)
pub(super) const TO_PLAN: &str = "SELECT DISTINCT c.customer FROM cases AS c WHERE c.customer > ?1 AND (c.state = 'open' OR EXISTS ( \
         SELECT 1 FROM deliveries AS d WHERE d.customer = c.customer AND d.campaign = c.campaign AND d.day = ?2 \
             AND (d.state <> 'dropped' OR d.cancelled = 1) /*postgres: OFFSET 0*/)) ORDER BY c.customer LIMIT ?3";

pub(super) const PROOFS: &str = concat!(
    "SELECT ",
    delivery_columns!(),
    " FROM deliveries AS d WHERE d.attempts > 0 AND (CAST(?1 AS TEXT) IS NULL OR d.customer = ?1) ORDER BY d.id"
);

pub(super) const PROOF_ATTEMPTS: &str = "SELECT delivery, min(started_at), max(finished_at) FROM attempts \
     WHERE delivery IN (SELECT CAST(value AS BIGINT) FROM json_each(?1)) GROUP BY delivery";

pub(super) const PROOF_BYTES: &str =
    "SELECT delivery, raw FROM messages WHERE delivery IN (SELECT CAST(value AS BIGINT) FROM json_each(?1))";

/// Mails whose bytes are in memory at once.
const BYTES_OF: usize = 64;

pub(super) async fn cases_to_plan(store: &Sql, day: NaiveDate) -> Result<Vec<Case>> {
    const WHAT: &str = "read the cases to plan";
    let mut tx = store.read(WHAT).await?;
    let mut all = cases::open_in(&mut tx, WHAT).await?;
    let query = db::query_scalar(RESOLVED_TOLD).bind(day.to_string());
    let told: Vec<String> = query.fetch_all(&mut tx).await.map_err(failed(WHAT))?;
    let of_told = if told.is_empty() { Default::default() } else { cases::of(&mut tx, &json(&told), WHAT).await? };
    tx.commit().await.map_err(failed(WHAT))?;
    all.extend(of_told.into_iter().filter(|(_, case)| case.state != CaseState::Open && told_on(case, day)));
    Ok(all.into_values().collect())
}

fn told_on(case: &Case, day: NaiveDate) -> bool {
    case.told.iter().any(|told| told.counts && told.day == day)
}

pub(super) async fn cases_page(
    store: &Sql,
    day: NaiveDate,
    after: Option<&CustomerId>,
    limit: u32,
) -> Result<CasesPage> {
    const WHAT: &str = "read a page of the cases to plan";
    let mut tx = store.read(WHAT).await?;
    let query = db::query_scalar(TO_PLAN).bind(after.map_or("", CustomerId::as_str)).bind(day.to_string()).bind(limit);
    let customers: Vec<String> = query.fetch_all(&mut tx).await.map_err(failed(WHAT))?;
    let all = match customers.is_empty() {
        true => Default::default(),
        false => cases::of(&mut tx, &json(&customers), WHAT).await?,
    };
    tx.commit().await.map_err(failed(WHAT))?;
    let next = customers.last().filter(|_| customers.len() >= limit as usize);
    Ok(CasesPage {
        next: next.map(|id| rows::customer(id)).transpose()?,
        cases: all.into_values().filter(|case| case.state == CaseState::Open || told_on(case, day)).collect(),
    })
}

pub(super) async fn proofs(store: &Sql, customer: Option<&CustomerId>) -> Result<Vec<Proof>> {
    const WHAT: &str = "read what was sent";
    let mut tx = store.read(WHAT).await?;
    let query = db::query_as(PROOFS).bind(customer.map(CustomerId::as_str));
    let rows: Vec<DeliveryRow> = query.fetch_all(&mut tx).await.map_err(failed(WHAT))?;
    let ids = json(&rows.iter().map(|row| row.id).collect::<Vec<_>>());
    let mut recipients = load_recipients(&mut tx, &ids, WHAT).await?;
    let attempts: Vec<(i64, i64, Option<i64>)> =
        db::query_as(PROOF_ATTEMPTS).bind(&ids).fetch_all(&mut tx).await.map_err(failed(WHAT))?;
    let attempts: HashMap<i64, _> = attempts.into_iter().map(|(id, first, last)| (id, (first, last))).collect();
    let mut bytes: HashMap<i64, Bytes> = HashMap::new();
    // A few at a time: the bytes of a whole campaign need not fit into memory.
    for some in rows.chunks(BYTES_OF) {
        let ids = json(&some.iter().map(|row| row.id).collect::<Vec<_>>());
        let read = db::query_as::<(i64, Vec<u8>)>(PROOF_BYTES).bind(&ids).fetch_all(&mut tx);
        bytes.extend(read.await.map_err(failed(WHAT))?.into_iter().map(|(id, raw)| (id, Bytes::of(&raw))));
    }
    tx.commit().await.map_err(failed(WHAT))?;
    let incomplete = || StoreError::Corrupt("a delivery without its bytes or its attempts".to_owned());
    rows.into_iter()
        .map(|row| {
            let id = row.id;
            let Bytes { length, sha256, date } = bytes.remove(&id).ok_or_else(incomplete)?;
            let (first, last) = attempts.get(&id).copied().ok_or_else(incomplete)?;
            Ok(Proof {
                delivery: row.delivery(recipients.remove(&id).unwrap_or_default())?,
                first_attempt_at: time(first)?,
                answered_at: last.map(time).transpose()?,
                date,
                length,
                sha256,
            })
        })
        .collect()
}

/// What is told of a message's bytes.
struct Bytes {
    length: u64,
    sha256: String,
    date: Option<String>,
}

impl Bytes {
    fn of(raw: &[u8]) -> Self {
        let sha256 = Sha256::digest(raw).iter().map(|byte| format!("{byte:02x}")).collect();
        Self { length: raw.len() as u64, sha256, date: date(raw) }
    }
}

/// The Date header, as it stands in the message.
fn date(raw: &[u8]) -> Option<String> {
    let lines = raw.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end).take_while(|line| !line.is_empty());
    let mut values = lines.filter_map(|line| line.strip_prefix(b"Date:"));
    values.next().map(|value| String::from_utf8_lossy(value.trim_ascii()).into_owned())
}
