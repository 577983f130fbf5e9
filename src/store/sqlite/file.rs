//! The database file: made, opened, brought up to date, copied.
//!
//! Invariants: nobody but the owner can read it, from its first instant; a file of a newer kigen or of another program is
//! refused and not touched.

use std::fs::{OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Connection, Row};
use tokio::sync::Mutex;

use super::super::{Result, StoreError};

static MIGRATIONS: Migrator = sqlx::migrate!("src/store/migrations/sqlite");

/// How long a statement waits for another process that writes. Their transactions take milliseconds, a checkpoint on a
/// slow disk seconds; and a stop has 10 s.
const BUSY_TIMEOUT: Duration = Duration::from_secs(8);

/// How many rows a reader's thread hands over before it waits for whoever takes them: with few the two wake each other in turn,
/// which cost more than reading. Large rows are asked for a few at a time.
const READ_AHEAD: usize = 500;

/// How long a caller waits for a connection, behind everybody else of this process.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(120);

/// Connections that read; one more than the machine has cores gains nothing.
const READERS: u32 = 4;

/// The cache of a connection that reads, in KiB (the minus sign says so); what it lacks the system has in its own cache.
const READER_CACHE: &str = "-2048";

/// That of the one that writes: large enough for the pages that a batch of looks or mails changes.
const WRITER_CACHE: &str = "-4096";

const SCHEMA: &str = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = '_sqlx_migrations'), \
                      EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table')";
const VERSION: &str = "SELECT coalesce(max(version), 0) FROM _sqlx_migrations";
const CHECKPOINT: &str = "PRAGMA busy_timeout = 500; PRAGMA optimize; PRAGMA wal_checkpoint(TRUNCATE);";
const COPY: &str = "VACUUM INTO ?1";

/// The writer and the readers.
pub(super) struct Pools {
    pub(super) writer: SqlitePool,
    pub(super) readers: SqlitePool,
}

/// One at a time in this process: POSIX takes away all locks a process has on a file when it closes any handle of it,
/// so [`make`] must be through before SQLite comes.
static OPENING: Mutex<()> = Mutex::const_new(());

/// How often, and how long apart.
const BUSY_TRIES: u32 = 250;
const BUSY_WAIT: Duration = Duration::from_millis(20);

/// Opens or makes the file and brings its schema up to date.
///
/// Tries again while other processes are busy: SQLite does not wait by itself when a new file is switched to WAL.
pub(super) async fn open(path: &Path) -> Result<Pools> {
    let _alone = OPENING.lock().await;
    let mut tries = BUSY_TRIES;
    loop {
        match open_once(path).await {
            Err(StoreError::Open { source: Some(e), .. }) if busy(&e) && tries > 0 => tries -= 1,
            done => return done,
        }
        tokio::time::sleep(BUSY_WAIT).await;
    }
}

async fn open_once(path: &Path) -> Result<Pools> {
    make(path).map_err(|e| open_error(path, sqlx::Error::Io(e)))?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("cache_size", READER_CACHE)
        .pragma("temp_store", "MEMORY");
    let writing = options
        .clone()
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("cache_size", WRITER_CACHE)
        .pragma("journal_size_limit", "67108864");
    // One writer: writes of this process wait here in turn instead of failing on each other.
    let writer = pool(1).connect_with(writing).await.map_err(|e| open_error(path, e))?;
    let migrated = match writer.acquire().await {
        Ok(mut connection) => migrate(path, &mut connection).await,
        Err(e) => Err(open_error(path, e)),
    };
    if let Err(e) = migrated {
        writer.close().await;
        return Err(e);
    }
    let reading = options.read_only(true).row_buffer_size(READ_AHEAD);
    let readers = pool(READERS).connect_with(reading).await.map_err(|e| open_error(path, e))?;
    Ok(Pools { writer, readers })
}

fn pool(size: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(size)
        .min_connections(1)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
}

/// Makes the file, so that SQLite does not make it with the mode of the day; its `-wal` and `-shm` take after it.
fn make(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => file.set_permissions(Permissions::from_mode(0o600)),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(e),
    }
}

/// Migrates in one transaction that others wait for: two commands may find a new file at the same time.
async fn migrate(path: &Path, connection: &mut SqliteConnection) -> Result<()> {
    let known = MIGRATIONS.iter().map(|m| m.version).max().unwrap_or(0);
    let found = schema(path, connection).await?;
    if found > known {
        return Err(StoreError::Newer { what: path.display().to_string(), found, known });
    }
    if found == known {
        return Ok(());
    }
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await.map_err(|e| open_error(path, e))?;
    // `run` would do the same, but its future is not provably `Send`.
    MIGRATIONS.run_direct(None, &mut *tx, false).await.map_err(|e| match e {
        MigrateError::Execute(e) | MigrateError::ExecuteMigration(e, _) => open_error(path, e),
        other => StoreError::Open {
            what: path.display().to_string(),
            remedy: format!("its schema cannot be brought up to date ({other}); restore a backup and report this"),
            source: None,
        },
    })?;
    tx.commit().await.map_err(|e| open_error(path, e))
}

/// The file's schema version; 0 for a new file.
async fn schema(path: &Path, connection: &mut SqliteConnection) -> Result<i64> {
    let failed = |e| open_error(path, e);
    let row = sqlx::query(SCHEMA).fetch_one(&mut *connection).await.map_err(failed)?;
    let ours: bool = row.try_get(0).map_err(failed)?;
    let used: bool = row.try_get(1).map_err(failed)?;
    match (ours, used) {
        (true, _) => sqlx::query_scalar(VERSION).fetch_one(connection).await.map_err(failed),
        (false, false) => Ok(0),
        (false, true) => Err(StoreError::Open {
            what: path.display().to_string(),
            remedy: "it is the database of another program; let `state` name another file".to_owned(),
            source: None,
        }),
    }
}

fn open_error(path: &Path, source: sqlx::Error) -> StoreError {
    StoreError::Open { what: path.display().to_string(), remedy: remedy(path, &source), source: Some(source) }
}

/// SQLite's primary result code, <https://www.sqlite.org/rescode.html>: the low byte.
fn code(error: &sqlx::Error) -> Option<i32> {
    error.as_database_error().and_then(|e| e.code()?.parse::<i32>().ok()).map(|code| code & 0xff)
}

/// Another process has it just now (SQLITE_BUSY, SQLITE_LOCKED).
fn busy(error: &sqlx::Error) -> bool {
    matches!(code(error), Some(5 | 6))
}

/// What to do about it.
fn remedy(path: &Path, error: &sqlx::Error) -> String {
    let directory = path.parent().unwrap_or(Path::new("."));
    let code = code(error);
    let missing = matches!(error, sqlx::Error::Io(e) if e.kind() == io::ErrorKind::NotFound);
    match code {
        _ if missing || !directory.is_dir() => format!("make the directory {}", directory.display()),
        Some(26) => "it is no SQLite database; let `state` name another file".to_owned(),
        Some(11) => "it is damaged; restore a backup".to_owned(),
        Some(5 | 6) => "another process has been writing for too long; try again".to_owned(),
        Some(13) => "the disk is full".to_owned(),
        _ if path.is_dir() => "it is a directory; let `state` name a file".to_owned(),
        _ => format!(
            "the file and the directory {} must be writable; run this as the user that owns them (sudo -u kigen kigen ...)",
            directory.display()
        ),
    }
}

/// Closes: readers first, so that the writer can put everything into the file itself.
pub(super) async fn close(pools: &Pools) {
    pools.readers.close().await;
    // Only tidying, and not for long (a command beside us may be reading): what was committed is safe in the -wal file.
    if let Err(e) = sqlx::raw_sql(CHECKPOINT).execute(&pools.writer).await {
        tracing::debug!(error = %e, "the state was closed without a checkpoint");
    }
    pools.writer.close().await;
}

/// Copies the database as it is at one instant into a new file.
pub(super) async fn backup(pools: &Pools, to: &Path) -> Result<()> {
    let to = std::path::absolute(to).map_err(|e| file_error("write a backup to", to, e))?;
    let Some(name) = to.to_str() else {
        return Err(file_error("write a backup to", &to, io::Error::new(io::ErrorKind::InvalidInput, "not UTF-8")));
    };
    // VACUUM INTO takes an empty file: made here, it is ours alone and overwrites nothing.
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&to)
        .and_then(|file| file.set_permissions(Permissions::from_mode(0o600)))
        .map_err(|e| file_error("write a backup to", &to, e))?;
    let copied = sqlx::query(COPY).bind(name).execute(&pools.readers).await;
    let synced = match copied {
        Ok(_) => sync(&to).map_err(|e| file_error("write a backup to", &to, e)),
        Err(source) => Err(StoreError::Query { what: "write a backup", source }),
    };
    if synced.is_err() {
        // Half a backup must not be taken for one; the first error is the one that counts.
        let _ = std::fs::remove_file(&to);
    }
    synced
}

/// The copy and its name are on disk.
fn sync(path: &Path) -> io::Result<()> {
    std::fs::File::open(path)?.sync_all()?;
    std::fs::File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

fn file_error(what: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::File { what, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::MIGRATIONS;

    #[test]
    fn every_migration_is_embedded_once_and_in_order() {
        // A file added without a rebuild of this one would be missing.
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/migrations/sqlite");
        let files = std::fs::read_dir(directory).unwrap().count();
        let versions: Vec<_> = MIGRATIONS.iter().map(|m| m.version).collect();
        assert_eq!(versions.len(), files);
        assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
    }
}
