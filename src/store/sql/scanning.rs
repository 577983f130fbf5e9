//! In which order customers are scanned, where an interrupted scan goes on, and how long history is kept.
//!
//! Invariant: what is pruned is neither a site's newest observation nor an observation of a customer with an open case.

use crate::domain::Timestamp;
use crate::domain::campaign::CampaignId;
use crate::domain::site::CustomerId;

use super::super::{Result, RunId, RunKind, ScanTurn};
use super::rows::{self, json, millis, time};
use super::{Sql, db, failed, lock_customers};

pub(super) const TURNS: &str = "SELECT c.id, c.scanned_at, k.campaign \
     FROM (SELECT id, scanned_at FROM customers WHERE id > ?1 AND gone_at IS NULL ORDER BY id LIMIT ?2) AS c \
     LEFT JOIN cases AS k ON k.customer = c.id AND k.state = 'open' ORDER BY c.id, k.campaign";

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
    campaign: Option<String>,
}

pub(super) async fn turns(store: &Sql, after: Option<&CustomerId>, limit: u32) -> Result<Vec<ScanTurn>> {
    let query = db::query_as(TURNS).bind(after.map_or("", CustomerId::as_str)).bind(limit);
    let rows: Vec<TurnRow> = query.fetch_all(&store.readers).await.map_err(failed("read the order of a scan"))?;
    let mut turns: Vec<ScanTurn> = Vec::new();
    for row in rows {
        let customer = rows::customer(&row.id)?;
        if turns.last().is_none_or(|turn| turn.customer != customer) {
            let scanned_at = row.scanned_at.map(time).transpose()?;
            turns.push(ScanTurn { customer, scanned_at, open: Vec::new() });
        }
        if let (Some(turn), Some(campaign)) = (turns.last_mut(), row.campaign) {
            turn.open.push(CampaignId(campaign));
        }
    }
    Ok(turns)
}

pub(super) async fn scanned(store: &Sql, customers: &[&CustomerId], at: Timestamp) -> Result<()> {
    const WHAT: &str = "note who was scanned";
    let ids = json(&customers.iter().map(|id| id.as_str()).collect::<Vec<_>>());
    let mut tx = store.write_beside_mail(WHAT).await?;
    lock_customers(&mut tx, &ids, WHAT).await?;
    db::query(SCANNED).bind(&ids).bind(millis(at)).execute(&mut tx).await.map_err(failed(WHAT))?;
    tx.commit().await.map_err(failed(WHAT))
}

pub(super) async fn begun_first(
    store: &Sql,
    kind: RunKind,
    due_at: Timestamp,
    but: RunId,
) -> Result<Option<Timestamp>> {
    let query = db::query_scalar(BEGUN_FIRST).bind(kind.as_str()).bind(millis(due_at)).bind(but.0);
    let first: Option<i64> = query.fetch_one(&store.readers).await.map_err(failed("read when a run began first"))?;
    first.map(time).transpose()
}

pub(super) async fn prune(store: &Sql, before: Timestamp) -> Result<u64> {
    const WHAT: &str = "prune old observations";
    let query = db::query_as(OBSERVATION_NUMBERS).fetch_one(&store.readers);
    let (mut from, last): (i64, i64) = query.await.map_err(failed(WHAT))?;
    let mut pruned = 0;
    while from <= last {
        let to = from.saturating_add(WINDOW - 1);
        pruned += store.change(WHAT, db::query(PRUNE).bind(from).bind(to).bind(millis(before))).await?;
        from = to.saturating_add(1);
    }
    Ok(pruned)
}
