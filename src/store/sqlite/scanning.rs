//! In which order customers are scanned, where an interrupted scan goes on, and how long history is kept.
//!
//! Invariant: what is pruned is neither a site's newest observation nor an observation of a customer with an open case.

use crate::domain::Timestamp;
use crate::domain::campaign::CampaignId;
use crate::domain::site::CustomerId;

use super::super::{Result, RunKind, ScanTurn, StoreError};
use super::rows::{self, json, millis, time};
use super::{Sqlite, failed};

pub(super) const TURNS: &str = "SELECT c.id, c.scanned_at, (SELECT json_group_array(k.campaign) FROM cases AS k \
         WHERE k.customer = c.id AND k.state = 'open') AS open \
     FROM customers AS c WHERE c.id > ?1 AND c.gone_at IS NULL ORDER BY c.id LIMIT ?2";

pub(super) const SCANNED: &str = "UPDATE customers SET scanned_at = ?2 WHERE id IN (SELECT value FROM json_each(?1))";

pub(super) const BEGUN_FIRST: &str = "SELECT min(started_at) FROM runs WHERE kind = ?1 AND due_at = ?2 AND id <> ?3";

pub(super) const OBSERVATION_NUMBERS: &str =
    "SELECT coalesce((SELECT min(id) FROM observations), 1), coalesce((SELECT max(id) FROM observations), 0)";

pub(super) const PRUNE: &str = "DELETE FROM observations WHERE id BETWEEN ?1 AND ?2 AND last_seen_at < ?3 \
     AND NOT EXISTS (SELECT 1 FROM sites AS s WHERE s.observation = observations.id) \
     AND NOT EXISTS (SELECT 1 FROM cases AS k WHERE k.customer = observations.customer AND k.state = 'open')";

/// Numbers to one transaction, so that nobody waits long for the writer.
const WINDOW: i64 = 10_000;

#[derive(sqlx::FromRow)]
struct TurnRow {
    id: String,
    scanned_at: Option<i64>,
    open: String,
}

pub(super) async fn turns(store: &Sqlite, after: Option<&CustomerId>, limit: u32) -> Result<Vec<ScanTurn>> {
    let query = sqlx::query_as(TURNS).bind(after.map_or("", CustomerId::as_str)).bind(limit);
    let rows: Vec<TurnRow> = query.fetch_all(&store.pools.readers).await.map_err(failed("read the order of a scan"))?;
    rows.into_iter()
        .map(|row| {
            let open: Vec<String> =
                serde_json::from_str(&row.open).map_err(|_| StoreError::Corrupt("no list of campaigns".to_owned()))?;
            Ok(ScanTurn {
                customer: rows::customer(&row.id)?,
                scanned_at: row.scanned_at.map(time).transpose()?,
                open: open.into_iter().map(CampaignId).collect(),
            })
        })
        .collect()
}

pub(super) async fn scanned(store: &Sqlite, customers: &[&CustomerId], at: Timestamp) -> Result<()> {
    let ids: Vec<_> = customers.iter().map(|id| id.as_str()).collect();
    let query = sqlx::query(SCANNED).bind(json(&ids)).bind(millis(at)).execute(&store.pools.writer);
    query.await.map_err(failed("note who was scanned"))?;
    Ok(())
}

pub(super) async fn begun_first(
    store: &Sqlite,
    kind: RunKind,
    due_at: Timestamp,
    but: super::RunId,
) -> Result<Option<Timestamp>> {
    let query = sqlx::query_scalar(BEGUN_FIRST).bind(kind.as_str()).bind(millis(due_at)).bind(but.0);
    let first: Option<i64> =
        query.fetch_one(&store.pools.readers).await.map_err(failed("read when a run began first"))?;
    first.map(time).transpose()
}

pub(super) async fn prune(store: &Sqlite, before: Timestamp) -> Result<u64> {
    const WHAT: &str = "prune old observations";
    let query = sqlx::query_as(OBSERVATION_NUMBERS).fetch_one(&store.pools.readers);
    let (mut from, last): (i64, i64) = query.await.map_err(failed(WHAT))?;
    let mut pruned = 0;
    while from <= last {
        let to = from.saturating_add(WINDOW - 1);
        let query = sqlx::query(PRUNE).bind(from).bind(to).bind(millis(before)).execute(&store.pools.writer);
        pruned += query.await.map_err(failed(WHAT))?.rows_affected();
        from = to.saturating_add(1);
    }
    Ok(pruned)
}
