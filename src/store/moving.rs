//! Moves a state from an SQLite file into an empty PostgreSQL database: every table, in one transaction, proved by counts
//! and hashes before it is committed.
//!
//! Invariants: the source is only read while nobody leads it, and held afterwards, so that mail never leaves from both; a
//! target that holds anything is refused; what cannot be proved is not committed.

use std::path::Path;

use futures_util::TryStreamExt;
use sha2::{Digest, Sha256};
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row};

use crate::config::PostgresState;
use crate::domain::Timestamp;

use super::postgres::Postgres;
use super::sql::{Tx, desk, failed};
use super::sqlite::Sqlite;
use super::{Lead, Result, StoreError};

/// Every table with a history, those that others refer to first. Not among them: the fence, which belongs to a place, and
/// what only lives while nodes do.
const TABLES: [&str; 18] = [
    "customers",
    "observations",
    "sites",
    "cases",
    "case_sites",
    "deliveries",
    "messages",
    "recipients",
    "attempts",
    "runs",
    "holds",
    "events",
    "memos",
    "alerts",
    "operator_mails",
    "days",
    "dead_contacts",
    "bounces",
];

/// Tables that are left behind, by name, so that a new one must be put into one of the two lists.
#[cfg(test)]
const LEFT: [&str; 8] = ["fence", "flights", "hosts", "nodes", "shares", "parts", "turns", "_sqlx_migrations"];

/// Rows to one statement.
const CHUNK: usize = 500;

/// One table that was moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// Its name.
    pub table: &'static str,
    /// Its rows.
    pub rows: u64,
    /// The sum of its rows' SHA-256, in hexadecimal: the same whatever their order.
    pub sha256: String,
}

/// A column, as PostgreSQL types it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number,
    Text,
    Bytes,
}

/// A column's values.
enum Column {
    Numbers(Vec<Option<i64>>),
    Texts(Vec<Option<String>>),
    Bytes(Vec<Option<Vec<u8>>>),
}

/// Moves the state.
///
/// # Errors
/// When a daemon leads the source, when the target is not empty, when either fails, when the copy is not the same.
pub async fn move_state(from: &Path, to: &PostgresState, now: Timestamp) -> Result<Vec<Moved>> {
    if !from.is_file() {
        return Err(refused(from, "there is no such file".to_owned()));
    }
    let source = Sqlite::open(from).await?;
    let moved = match source.take_lead("kigen migrate-state", now).await? {
        Lead::HeldBy(who) => Err(refused(from, format!("it is in use ({who}); stop the daemon first"))),
        Lead::Taken => into_empty(&source, to, now).await,
    };
    source.close().await;
    moved
}

fn refused(what: &Path, remedy: String) -> StoreError {
    StoreError::Open { what: what.display().to_string(), remedy, source: None }
}

async fn into_empty(source: &Sqlite, to: &PostgresState, now: Timestamp) -> Result<Vec<Moved>> {
    let target = Postgres::open(to).await?;
    let moved = copy(source, &target, to).await;
    target.close().await;
    let moved = moved?;
    // From here on the file is the past: a daemon that is started on it by mistake sends nothing.
    const WHAT: &str = "hold the state that was moved";
    let mut tx = source.write(WHAT).await?;
    let reason = format!("this state was moved to {}; only if it is to be used again here, `kigen resume`", to.name());
    desk::hold_restored(&mut tx, &reason, now, WHAT).await?;
    tx.commit().await.map_err(failed(WHAT))?;
    Ok(moved)
}

async fn copy(source: &Sqlite, target: &Postgres, to: &PostgresState) -> Result<Vec<Moved>> {
    const WHAT: &str = "move the state";
    let Tx::Sqlite(mut from) = source.read(WHAT).await? else { return Err(mixed()) };
    let Tx::Postgres(mut into) = target.write(WHAT).await? else { return Err(mixed()) };
    let mut moved = Vec::new();
    for table in TABLES {
        let count = format!("SELECT EXISTS (SELECT 1 FROM {table})");
        let used: bool = sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(&mut *into).await.map_err(failed(WHAT))?;
        if used {
            let remedy = format!("it is not empty (table {table}); move into a new database");
            return Err(StoreError::Open { what: to.name(), remedy, source: None });
        }
    }
    for table in TABLES {
        let columns = columns(&mut into, table).await?;
        let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
        let select = format!("SELECT {} FROM {table}", names.join(", "));
        let mut seen = Sum::default();
        {
            let mut rows = sqlx::query(AssertSqlSafe(select.clone())).fetch(&mut *from);
            let mut waiting = empty(&columns);
            let mut n = 0;
            while let Some(row) = rows.try_next().await.map_err(failed(WHAT))? {
                seen.add(take(&row, &mut waiting).map_err(failed(WHAT))?);
                n += 1;
                if n == CHUNK {
                    insert(&mut into, table, &names, std::mem::replace(&mut waiting, empty(&columns))).await?;
                    n = 0;
                }
            }
            if n > 0 {
                insert(&mut into, table, &names, waiting).await?;
            }
        }
        let mut arrived = Sum::default();
        let mut rows = sqlx::query(AssertSqlSafe(select)).fetch(&mut *into);
        while let Some(row) = rows.try_next().await.map_err(failed(WHAT))? {
            arrived.add(hash(&row, &columns).map_err(failed(WHAT))?);
        }
        drop(rows);
        if seen != arrived {
            return Err(StoreError::Corrupt(format!("table {table} did not arrive as it left; nothing was moved")));
        }
        moved.push(Moved { table, rows: seen.rows, sha256: seen.hex() });
    }
    numbers_go_on(&mut from, &mut into).await?;
    from.rollback().await.map_err(failed(WHAT))?;
    into.commit().await.map_err(failed(WHAT))?;
    Ok(moved)
}

fn mixed() -> StoreError {
    StoreError::Corrupt("the two databases were mixed up".to_owned())
}

type Into<'a> = sqlx::Transaction<'static, sqlx::Postgres>;

async fn columns(into: &mut Into<'_>, table: &str) -> Result<Vec<(String, Kind)>> {
    const WHAT: &str = "read a table's columns";
    const COLUMNS: &str = "SELECT column_name::text, data_type::text FROM information_schema.columns \
         WHERE table_schema = current_schema() AND table_name = $1 ORDER BY ordinal_position";
    let rows: Vec<(String, String)> =
        sqlx::query_as(COLUMNS).bind(table).fetch_all(&mut **into).await.map_err(failed(WHAT))?;
    rows.into_iter()
        .map(|(name, kind)| match kind.as_str() {
            "bigint" => Ok((name, Kind::Number)),
            "text" => Ok((name, Kind::Text)),
            "bytea" => Ok((name, Kind::Bytes)),
            other => Err(StoreError::Corrupt(format!("{table}.{name} is of a type that is not known: {other}"))),
        })
        .collect()
}

fn empty(columns: &[(String, Kind)]) -> Vec<Column> {
    let column = |(_, kind): &(String, Kind)| match kind {
        Kind::Number => Column::Numbers(Vec::new()),
        Kind::Text => Column::Texts(Vec::new()),
        Kind::Bytes => Column::Bytes(Vec::new()),
    };
    columns.iter().map(column).collect()
}

/// Puts a row behind those that wait; its hash.
fn take(row: &SqliteRow, waiting: &mut [Column]) -> sqlx::Result<[u8; 32]> {
    let mut hash = RowHash::default();
    for (n, column) in waiting.iter_mut().enumerate() {
        match column {
            Column::Numbers(all) => all.push(hash.number(row.try_get(n)?)),
            Column::Texts(all) => {
                let text: Option<String> = row.try_get(n)?;
                all.push(hash.text(text.map(|text| super::sql::storable(&text))));
            }
            Column::Bytes(all) => all.push(hash.bytes(row.try_get(n)?)),
        }
    }
    Ok(hash.done())
}

fn hash(row: &PgRow, columns: &[(String, Kind)]) -> sqlx::Result<[u8; 32]> {
    let mut hash = RowHash::default();
    for (n, (_, kind)) in columns.iter().enumerate() {
        match kind {
            Kind::Number => drop(hash.number(row.try_get(n)?)),
            Kind::Text => drop(hash.text(row.try_get(n)?)),
            Kind::Bytes => drop(hash.bytes(row.try_get(n)?)),
        }
    }
    Ok(hash.done())
}

async fn insert(into: &mut Into<'_>, table: &str, names: &[&str], rows: Vec<Column>) -> Result<()> {
    let list: Vec<String> = rows
        .iter()
        .enumerate()
        .map(|(n, column)| {
            let kind = match column {
                Column::Numbers(_) => "bigint",
                Column::Texts(_) => "text",
                Column::Bytes(_) => "bytea",
            };
            format!("${}::{kind}[]", n + 1)
        })
        .collect();
    let sql = format!("INSERT INTO {table} ({}) SELECT * FROM unnest({})", names.join(", "), list.join(", "));
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for column in rows {
        query = match column {
            Column::Numbers(all) => query.bind(all),
            Column::Texts(all) => query.bind(all),
            Column::Bytes(all) => query.bind(all),
        };
    }
    query.execute(&mut **into).await.map_err(failed("write a table that is moved"))?;
    Ok(())
}

/// New rows get numbers behind all that were ever given.
async fn numbers_go_on(from: &mut sqlx::Transaction<'static, sqlx::Sqlite>, into: &mut Into<'_>) -> Result<()> {
    const WHAT: &str = "let the numbers go on";
    for table in ["observations", "deliveries", "runs", "events", "alerts", "operator_mails"] {
        let given: Option<i64> = sqlx::query_scalar("SELECT seq FROM sqlite_sequence WHERE name = ?1")
            .bind(table)
            .fetch_optional(&mut **from)
            .await
            .map_err(failed(WHAT))?;
        let sql = format!(
            "SELECT setval(pg_get_serial_sequence('{table}', 'id'), \
                 greatest($1, (SELECT coalesce(max(id), 0) FROM {table})) + 1, false)"
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(given.unwrap_or(0));
        query.execute(&mut **into).await.map_err(failed(WHAT))?;
    }
    Ok(())
}

/// A row's hash: every value with its kind and its length.
#[derive(Default)]
struct RowHash(Sha256);

impl RowHash {
    fn number(&mut self, n: Option<i64>) -> Option<i64> {
        self.value(b'n', n.map(i64::to_be_bytes).as_ref().map(|bytes| &bytes[..]));
        n
    }

    fn text(&mut self, text: Option<String>) -> Option<String> {
        self.value(b't', text.as_ref().map(String::as_bytes));
        text
    }

    fn bytes(&mut self, bytes: Option<Vec<u8>>) -> Option<Vec<u8>> {
        self.value(b'b', bytes.as_deref());
        bytes
    }

    fn value(&mut self, kind: u8, bytes: Option<&[u8]>) {
        self.0.update([kind, u8::from(bytes.is_some())]);
        let bytes = bytes.unwrap_or_default();
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    fn done(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

/// The rows of a table and the sum of their hashes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Sum {
    rows: u64,
    sum: [u64; 4],
}

impl Sum {
    fn add(&mut self, hash: [u8; 32]) {
        self.rows += 1;
        for (sum, bytes) in self.sum.iter_mut().zip(hash.chunks_exact(8)) {
            let mut part = [0; 8];
            part.copy_from_slice(bytes);
            *sum = sum.wrapping_add(u64::from_be_bytes(part));
        }
    }

    fn hex(&self) -> String {
        self.sum.iter().map(|part| format!("{part:016x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_differ_in_one_value_or_its_kind_differ_in_the_sum() {
        let row = |values: &[Option<&str>]| {
            let mut hash = RowHash::default();
            for value in values {
                hash.text(value.map(ToOwned::to_owned));
            }
            hash.done()
        };
        let rows =
            [row(&[Some("a"), Some("bc")]), row(&[Some("ab"), Some("c")]), row(&[None, Some("c")]), row(&[Some("")])];
        for (n, one) in rows.iter().enumerate() {
            assert!(rows.iter().skip(n + 1).all(|other| one != other));
        }
        let (mut here, mut there) = (Sum::default(), Sum::default());
        rows.iter().for_each(|row| here.add(*row));
        rows.iter().rev().for_each(|row| there.add(*row));
        assert_eq!(here, there, "the order is no matter");
    }

    #[test]
    fn every_table_is_moved_or_left_behind_on_purpose() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/migrations/postgres");
        let mut made = std::collections::BTreeSet::from(["_sqlx_migrations".to_owned()]);
        for file in std::fs::read_dir(directory).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            let names = text.lines().filter_map(|line| line.strip_prefix("CREATE TABLE "));
            made.extend(names.filter_map(|rest| rest.split_whitespace().next()).map(ToOwned::to_owned));
        }
        let known = TABLES.iter().chain(&LEFT).map(|name| (*name).to_owned()).collect();
        assert_eq!(made, known);
    }
}
