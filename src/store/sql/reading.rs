//! The fleet at a glance, and one customer's history.
//!
//! Invariant: a history line never changes what it says; only "seen until" moves.

use chrono::SecondsFormat;

use crate::domain::Timestamp;
use crate::domain::observation::Observation;
use crate::domain::site::CustomerId;

use super::super::{AttemptRow, HistoryEntry, HistoryKind, Result, SiteCounts, SiteRow, StoreError};
use super::events::Notice;
use super::rows::{
    self, AttemptLine, ListedRow, ObservationRow, count, json, observation_columns, time, verdict_counts,
};
use super::{Sql, Tx, db, failed};

pub(super) const SITES: &str = concat!(
    "SELECT c.name, s.unreadable_scans, ",
    observation_columns!(),
    " FROM customers AS c CROSS JOIN sites AS s ON s.customer = c.id \
      CROSS JOIN observations AS o ON o.id = s.observation \
      WHERE c.gone_at IS NULL AND s.listed = 1 \
          AND (?1 = '[]' OR o.verdict IN (SELECT value FROM json_each(?1))) ORDER BY c.id, s.site"
);

pub(super) const SITE_COUNTS: &str = concat!(
    "SELECT ",
    verdict_counts!(),
    " FROM customers AS c CROSS JOIN sites AS s ON s.customer = c.id CROSS JOIN observations AS o ON o.id = s.observation \
      WHERE c.gone_at IS NULL AND s.listed = 1"
);

pub(super) const CUSTOMER_COUNT: &str = "SELECT count(*) FROM customers WHERE gone_at IS NULL";

pub(super) const HEARD_OF: &str = "SELECT EXISTS (SELECT 1 FROM customers WHERE id = ?1)";

pub(super) const OBSERVATIONS: &str = concat!(
    "SELECT ",
    observation_columns!(),
    " FROM observations AS o WHERE o.customer = ?1 ORDER BY o.first_seen_at, o.id"
);

pub(super) const EVENTS: &str = "SELECT at, what, text FROM events WHERE customer = ?1 ORDER BY at, id";

pub(super) const ATTEMPTS: &str = "SELECT d.id, d.customer, d.campaign, d.kind, d.milestone, \
         a.delivery, a.number, a.started_at, a.finished_at, a.outcome, a.reply \
     FROM deliveries AS d CROSS JOIN attempts AS a ON a.delivery = d.id WHERE d.customer = ?1 ORDER BY d.id, a.number";

pub(super) async fn sites(store: &Sql, verdicts: &[String]) -> Result<Vec<SiteRow>> {
    let query = db::query_as(SITES).bind(json(&verdicts)).fetch_all(&store.readers);
    let rows: Vec<ListedRow> = query.await.map_err(failed("list the sites"))?;
    rows.into_iter().map(ListedRow::site).collect()
}

pub(super) async fn site_counts(store: &Sql) -> Result<SiteCounts> {
    let query = db::query_as(SITE_COUNTS).fetch_one(&store.readers);
    rows::site_counts(query.await.map_err(failed("count the sites"))?)
}

pub(super) async fn customer_count(store: &Sql) -> Result<u64> {
    let query = db::query_scalar(CUSTOMER_COUNT).fetch_one(&store.readers);
    count(query.await.map_err(failed("count the customers"))?)
}

const HISTORY: &str = "read a customer's history";

pub(super) async fn history(store: &Sql, customer: &CustomerId) -> Result<Option<Vec<HistoryEntry>>> {
    let mut tx = store.read(HISTORY).await?;
    let query = db::query_scalar(HEARD_OF).bind(customer.as_str());
    if !query.fetch_one(&mut tx).await.map_err(failed(HISTORY))? {
        return Ok(None);
    }
    let mut entries = seen(&mut tx, customer).await?;
    entries.extend(happened(&mut tx, customer).await?);
    entries.extend(attempted(&mut tx, customer).await?);
    tx.commit().await.map_err(failed(HISTORY))?;
    entries.sort_by_key(|(rank, entry)| (entry.at, *rank));
    Ok(Some(entries.into_iter().map(|(_, entry)| entry).collect()))
}

/// Puts in order what happened in one instant; lines of one rank stay as they were written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Seen,
    Decided,
    Attempted,
    Answered,
    Settled,
}

type Ranked = (Rank, HistoryEntry);

async fn seen(tx: &mut Tx, customer: &CustomerId) -> Result<Vec<Ranked>> {
    let query = db::query_as(OBSERVATIONS).bind(customer.as_str());
    let rows: Vec<ObservationRow> = query.fetch_all(&mut *tx).await.map_err(failed(HISTORY))?;
    rows.into_iter()
        .map(|row| {
            let at = time(row.first_seen_at)?;
            let text = seen_text(&row.observation()?, at);
            Ok((Rank::Seen, HistoryEntry { at, what: HistoryKind::Seen, text }))
        })
        .collect()
}

fn seen_text(seen: &Observation, since: Timestamp) -> String {
    let mut text = match &seen.site {
        Some(site) => format!("site {site}: {}", seen.verdict.as_str()),
        None => format!("no site could be listed: {}", seen.verdict.as_str()),
    };
    if let Some(reason) = seen.verdict.reason() {
        text.push_str(&format!(" ({})", reason.as_str()));
    }
    let raw = [&seen.raw.server_type, &seen.raw.auth_method];
    let raw: Vec<_> = raw.iter().filter_map(|text| text.as_deref()).collect();
    if !raw.is_empty() {
        text.push_str(&format!(" [{}]", raw.join(" / ")));
    }
    if let Some(detail) = &seen.detail {
        text.push_str(&format!(": {detail}"));
    }
    if seen.observed_at > since {
        text.push_str(&format!("; seen until {}", seen.observed_at.to_rfc3339_opts(SecondsFormat::Secs, true)));
    }
    text
}

async fn happened(tx: &mut Tx, customer: &CustomerId) -> Result<Vec<Ranked>> {
    let query = db::query_as(EVENTS).bind(customer.as_str());
    let rows: Vec<(i64, String, String)> = query.fetch_all(&mut *tx).await.map_err(failed(HISTORY))?;
    rows.into_iter()
        .map(|(at, what, text)| {
            let (rank, what) = match what.as_str() {
                "decided" => (Rank::Decided, HistoryKind::Decided),
                "sent" => (Rank::Settled, HistoryKind::Sent),
                other => return Err(StoreError::Corrupt(format!("an unknown word: {other:?}"))),
            };
            Ok((rank, HistoryEntry { at: time(at)?, what, text }))
        })
        .collect()
}

#[derive(sqlx::FromRow)]
struct Attempted {
    #[sqlx(flatten)]
    notice: Notice,
    #[sqlx(flatten)]
    attempt: AttemptLine,
}

async fn attempted(tx: &mut Tx, customer: &CustomerId) -> Result<Vec<Ranked>> {
    let query = db::query_as(ATTEMPTS).bind(customer.as_str());
    let rows: Vec<Attempted> = query.fetch_all(&mut *tx).await.map_err(failed(HISTORY))?;
    let mut entries = Vec::new();
    for row in rows {
        let label = row.notice.label();
        let AttemptRow { number, started_at, finished_at, outcome, reply, .. } = row.attempt.attempt()?;
        let text = format!("{label}: attempt {number}");
        entries.push((Rank::Attempted, HistoryEntry { at: started_at, what: HistoryKind::Sent, text }));
        if let (Some(at), Some(outcome)) = (finished_at, outcome) {
            let reply = reply.unwrap_or_default();
            let text = format!("{label}: attempt {number} {outcome}: {reply}");
            entries.push((Rank::Answered, HistoryEntry { at, what: HistoryKind::Answered, text }));
        }
    }
    Ok(entries)
}
