//! Runs, memos, and whether the store answers.
//!
//! Invariant: of a kind at most one run is unfinished, and a schedule time is run to its end at most once; two unique
//! indices decide.

use crate::domain::Timestamp;

use super::super::{Begun, Result, Run, RunCounts, RunId, RunKind, RunOutcome};
use super::rows::{RunRow, millis};
use super::{Sqlite, failed};

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
         detail = 'its process ended' WHERE finished_at IS NULL AND due_at IS NOT NULL";
pub(super) const LAST: &str = "SELECT * FROM runs WHERE kind = ?1 ORDER BY id DESC LIMIT 1";
pub(super) const LAST_DONE: &str = "SELECT * FROM runs WHERE kind = ?1 AND outcome = 'done' ORDER BY id DESC LIMIT 1";
pub(super) const LAST_SCHEDULED: &str = "SELECT * FROM runs WHERE kind = ?1 AND outcome = 'done' \
         AND due_at IS NOT NULL ORDER BY due_at DESC LIMIT 1";
pub(super) const LIST: &str = "SELECT * FROM runs ORDER BY id DESC LIMIT ?1";
pub(super) const MEMO: &str = "SELECT value FROM memos WHERE key = ?1";
pub(super) const SET_MEMO: &str =
    "INSERT INTO memos (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";

pub(super) async fn begin(
    store: &Sqlite,
    kind: RunKind,
    due_at: Option<Timestamp>,
    owner: &str,
    now: Timestamp,
    lease_until: Timestamp,
) -> Result<Begun> {
    const WHAT: &str = "begin a run";
    let mut tx = store.write(WHAT).await?;
    let due_at = due_at.map(millis);
    let query = sqlx::query_scalar(DONE_ALREADY).bind(kind.as_str()).bind(due_at);
    if query.fetch_one(&mut *tx).await.map_err(failed(WHAT))? {
        tx.rollback().await.map_err(failed(WHAT))?;
        return Ok(Begun::AlreadyDone);
    }
    let query = sqlx::query_as(UNFINISHED).bind(kind.as_str());
    let running: Option<RunRow> = query.fetch_optional(&mut *tx).await.map_err(failed(WHAT))?;
    if let Some(running) = running.map(RunRow::run).transpose()? {
        if running.lease_until > now {
            tx.rollback().await.map_err(failed(WHAT))?;
            return Ok(Begun::Running(Box::new(running)));
        }
        let query = sqlx::query(LAPSE).bind(kind.as_str()).bind(millis(now));
        query.execute(&mut *tx).await.map_err(failed(WHAT))?;
    }
    let id = sqlx::query_scalar(BEGIN)
        .bind(kind.as_str())
        .bind(due_at)
        .bind(owner)
        .bind(millis(now))
        .bind(millis(lease_until))
        .fetch_one(&mut *tx)
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

pub(super) async fn extend(store: &Sqlite, id: RunId, counts: RunCounts, lease_until: Timestamp) -> Result<()> {
    let mut query = sqlx::query(EXTEND).bind(id.0).bind(millis(lease_until));
    for n in numbers(counts) {
        query = query.bind(n);
    }
    query.execute(&store.pools.writer).await.map_err(failed("extend a run"))?;
    Ok(())
}

pub(super) async fn finish(
    store: &Sqlite,
    id: RunId,
    outcome: RunOutcome,
    counts: RunCounts,
    detail: Option<&str>,
    now: Timestamp,
) -> Result<()> {
    let mut query = sqlx::query(FINISH).bind(id.0).bind(millis(now));
    for n in numbers(counts) {
        query = query.bind(n);
    }
    let query = query.bind(outcome.as_str()).bind(detail);
    query.execute(&store.pools.writer).await.map_err(failed("end a run"))?;
    Ok(())
}

pub(super) async fn interrupt(store: &Sqlite, now: Timestamp) -> Result<u64> {
    let query = sqlx::query(INTERRUPT).bind(millis(now)).execute(&store.pools.writer);
    Ok(query.await.map_err(failed("mark interrupted runs"))?.rows_affected())
}

async fn one(store: &Sqlite, sql: &'static str, kind: RunKind) -> Result<Option<Run>> {
    let query = sqlx::query_as(sql).bind(kind.as_str()).fetch_optional(&store.pools.readers);
    let row: Option<RunRow> = query.await.map_err(failed("read a run"))?;
    row.map(RunRow::run).transpose()
}

pub(super) async fn last(store: &Sqlite, kind: RunKind, finished: bool) -> Result<Option<Run>> {
    one(store, if finished { LAST_DONE } else { LAST }, kind).await
}

pub(super) async fn last_scheduled(store: &Sqlite, kind: RunKind) -> Result<Option<Run>> {
    one(store, LAST_SCHEDULED, kind).await
}

pub(super) async fn list(store: &Sqlite, limit: u32) -> Result<Vec<Run>> {
    let query = sqlx::query_as(LIST).bind(limit).fetch_all(&store.pools.readers);
    let rows: Vec<RunRow> = query.await.map_err(failed("list the runs"))?;
    rows.into_iter().map(RunRow::run).collect()
}

pub(super) async fn memo(store: &Sqlite, key: &str) -> Result<Option<String>> {
    let query = sqlx::query_scalar(MEMO).bind(key).fetch_optional(&store.pools.readers);
    query.await.map_err(failed("read a memo"))
}

pub(super) async fn set_memo(store: &Sqlite, key: &str, value: &str) -> Result<()> {
    let query = sqlx::query(SET_MEMO).bind(key).bind(value).execute(&store.pools.writer);
    query.await.map_err(failed("write a memo"))?;
    Ok(())
}

/// Reads, and writes without a trace: a health check must not wear out the disk.
pub(super) async fn ping(store: &Sqlite) -> Result<()> {
    const WHAT: &str = "answer";
    let query = sqlx::query_scalar(MEMO).bind("ping").fetch_optional(&store.pools.readers);
    let _: Option<String> = query.await.map_err(failed(WHAT))?;
    let mut tx = store.write(WHAT).await?;
    sqlx::query(SET_MEMO).bind("ping").bind("").execute(&mut *tx).await.map_err(failed(WHAT))?;
    tx.rollback().await.map_err(failed(WHAT))
}
