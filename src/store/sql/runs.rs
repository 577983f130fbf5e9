//! Runs, memos, and whether the store answers.
//!
//! Invariant: of a kind at most one run is unfinished, and a schedule time is run to its end at most once; two unique
//! indices decide.

use crate::domain::Timestamp;

use super::super::{Begun, Result, Run, RunCounts, RunId, RunKind, RunOutcome};
use super::rows::{RunRow, millis};
use super::{Sql, db, failed};

pub(super) const DONE_ALREADY: &str =
    "SELECT EXISTS (SELECT 1 FROM runs WHERE kind = ?1 AND due_at = ?2 AND outcome = 'done')";
pub(super) const UNFINISHED: &str = "SELECT * FROM runs WHERE kind = ?1 AND finished_at IS NULL";
pub(super) const LAPSE: &str = "UPDATE runs SET finished_at = ?2, outcome = 'interrupted', \
         detail = 'it gave no sign of life until its lease was over' WHERE kind = ?1 AND finished_at IS NULL";
pub(super) const BEGIN: &str = "INSERT INTO runs (kind, due_at, owner, started_at, lease_until) \
     VALUES (?1, ?2, ?3, ?4, ?5) RETURNING id";
pub(super) const EXTEND: &str = "UPDATE runs SET lease_until = ?2, customers = ?3, sites = ?4, unreadable = ?5, \
         queued = ?6, held = ?7 WHERE id = ?1 AND finished_at IS NULL";
pub(super) const FINISH: &str = "UPDATE runs SET finished_at = ?2, customers = ?3, sites = ?4, unreadable = ?5, \
         queued = ?6, held = ?7, outcome = ?8, detail = ?9 WHERE id = ?1 AND finished_at IS NULL";
pub(super) const INTERRUPT: &str = "UPDATE runs SET finished_at = ?1, outcome = 'interrupted', \
         detail = 'its process ended' WHERE finished_at IS NULL AND due_at IS NOT NULL AND fleet IS NULL \
         AND (?2 OR lease_until <= ?1)";
pub(super) const LAST: &str = "SELECT * FROM runs WHERE kind = ?1 ORDER BY id DESC LIMIT 1";
pub(super) const LAST_DONE: &str = "SELECT * FROM runs WHERE kind = ?1 AND outcome = 'done' ORDER BY id DESC LIMIT 1";
pub(super) const LAST_SCHEDULED: &str = "SELECT * FROM runs WHERE kind = ?1 AND outcome = 'done' \
         AND due_at IS NOT NULL ORDER BY due_at DESC LIMIT 1";
pub(super) const LIST: &str = "SELECT * FROM runs ORDER BY id DESC LIMIT ?1";
pub(super) const MEMO: &str = "SELECT value FROM memos WHERE key = ?1";
pub(super) const SET_MEMO: &str =
    "INSERT INTO memos (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";

pub(super) async fn begin(
    store: &Sql,
    kind: RunKind,
    due_at: Option<Timestamp>,
    owner: &str,
    now: Timestamp,
    lease_until: Timestamp,
) -> Result<Begun> {
    const WHAT: &str = "begin a run";
    let mut tx = store.write(WHAT).await?;
    let due_at = due_at.map(millis);
    let query = db::query_scalar(DONE_ALREADY).bind(kind.as_str()).bind(due_at);
    if query.fetch_one(&mut tx).await.map_err(failed(WHAT))? {
        tx.rollback().await.map_err(failed(WHAT))?;
        return Ok(Begun::AlreadyDone);
    }
    let query = db::query_as(UNFINISHED).bind(kind.as_str());
    let running: Option<RunRow> = query.fetch_optional(&mut tx).await.map_err(failed(WHAT))?;
    if let Some(running) = running.map(RunRow::run).transpose()? {
        // Shared out and not over: whoever comes joins it, even if the one who began it is gone.
        let joined = running.fleet.is_some() && running.due_at.map(millis) == due_at;
        if running.lease_until > now || joined {
            tx.rollback().await.map_err(failed(WHAT))?;
            return Ok(Begun::Running(Box::new(running)));
        }
        let query = db::query(LAPSE).bind(kind.as_str()).bind(millis(now));
        query.execute(&mut tx).await.map_err(failed(WHAT))?;
    }
    let id = db::query_scalar(BEGIN)
        .bind(kind.as_str())
        .bind(due_at)
        .bind(owner)
        .bind(millis(now))
        .bind(millis(lease_until))
        .fetch_one(&mut tx)
        .await
        .map_err(failed(WHAT))?;
    tx.commit().await.map_err(failed(WHAT))?;
    Ok(Begun::Started(RunId(id)))
}

/// The numbers as SQLite takes them; none of them comes near the limit.
fn numbers(counts: RunCounts) -> [i64; 5] {
    [counts.customers, counts.sites, counts.unreadable, counts.queued, counts.held]
        .map(|n| i64::try_from(n).unwrap_or(i64::MAX))
}

pub(super) async fn extend(store: &Sql, id: RunId, counts: RunCounts, lease_until: Timestamp) -> Result<()> {
    let mut query = db::query(EXTEND).bind(id.0).bind(millis(lease_until));
    for n in numbers(counts) {
        query = query.bind(n);
    }
    store.change_beside("extend a run", query).await?;
    Ok(())
}

pub(super) async fn finish(
    store: &Sql,
    id: RunId,
    outcome: RunOutcome,
    counts: RunCounts,
    detail: Option<&str>,
    now: Timestamp,
) -> Result<bool> {
    let mut query = db::query(FINISH).bind(id.0).bind(millis(now));
    for n in numbers(counts) {
        query = query.bind(n);
    }
    let query = query.bind(outcome.as_str()).bind(detail);
    Ok(store.change_beside("end a run", query).await? == 1)
}

pub(super) async fn interrupt(store: &Sql, now: Timestamp) -> Result<u64> {
    // Beside other nodes only a lease that ran out says that a process is gone.
    store.change("mark interrupted runs", db::query(INTERRUPT).bind(millis(now)).bind(!store.shared())).await
}

async fn one(store: &Sql, sql: &'static str, kind: RunKind) -> Result<Option<Run>> {
    let query = db::query_as(sql).bind(kind.as_str()).fetch_optional(&store.readers);
    let row: Option<RunRow> = query.await.map_err(failed("read a run"))?;
    row.map(RunRow::run).transpose()
}

pub(super) async fn last(store: &Sql, kind: RunKind, finished: bool) -> Result<Option<Run>> {
    one(store, if finished { LAST_DONE } else { LAST }, kind).await
}

pub(super) async fn last_scheduled(store: &Sql, kind: RunKind) -> Result<Option<Run>> {
    one(store, LAST_SCHEDULED, kind).await
}

pub(super) async fn list(store: &Sql, limit: u32) -> Result<Vec<Run>> {
    let query = db::query_as(LIST).bind(limit).fetch_all(&store.readers);
    let rows: Vec<RunRow> = query.await.map_err(failed("list the runs"))?;
    rows.into_iter().map(RunRow::run).collect()
}

pub(super) async fn memo(store: &Sql, key: &str) -> Result<Option<String>> {
    let query = db::query_scalar(MEMO).bind(key).fetch_optional(&store.readers);
    query.await.map_err(failed("read a memo"))
}

pub(super) async fn set_memo(store: &Sql, key: &str, value: &str) -> Result<()> {
    store.change("write a memo", db::query(SET_MEMO).bind(key).bind(value)).await?;
    Ok(())
}

/// Reads, and writes without a trace: a health check must not wear out the disk.
pub(super) async fn ping(store: &Sql) -> Result<()> {
    const WHAT: &str = "answer";
    let query = db::query_scalar(MEMO).bind("ping").fetch_optional(&store.readers);
    let _: Option<String> = query.await.map_err(failed(WHAT))?;
    let mut tx = store.write(WHAT).await?;
    db::query(SET_MEMO).bind("ping").bind("").execute(&mut tx).await.map_err(failed(WHAT))?;
    tx.rollback().await.map_err(failed(WHAT))
}
