//! The state in a PostgreSQL database that several nodes share: opened, brought up to date, closed. The statements are in
//! `sql`, which also says why several writers are right.
//!
//! Invariants: a pool of bounded size; no statement and no lock is waited for without end; the database's own clock is never
//! asked; a database of a newer kigen or of another program is refused and not touched. Nobody puts a `timeout` around a
//! database future (a dropped `begin` would leave its connection inside a transaction, sqlx#4385): waiting ends by the
//! server's own limits.

mod fence;
mod listening;
mod upgrading;

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgDatabaseError, PgPool, PgPoolOptions};
use sqlx::{Connection, Executor};
use tokio_util::sync::CancellationToken;

use crate::config::PostgresState;
use crate::domain::Timestamp;

use super::sql::{Readers, Tx, failed};
use super::{Lead, Result, StoreError, Word};

#[cfg(test)]
pub(super) use fence::{ADOPT, ADVANCE, HOME, MARK};

static MIGRATIONS: Migrator = sqlx::migrate!("src/store/migrations/postgres");

/// Connections of one node. Looks, passes, deliveries and the dashboard hardly ever use more at once.
const CONNECTIONS: u32 = 10;

/// How long a caller waits for a connection; as long, it is tried again while the server starts or refuses connections.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);

/// What each connection asks of the server. A statement takes milliseconds, a first import of a large customers file
/// seconds; who waits for a lock waits for such statements of others. The isolation is the one that `sql` counts on: with
/// another default of the server's, what was read after a lock would be older than the lock.
///
/// `random_page_cost`: disks have no heads any more; with the server's default a batch of a hundred customers would walk the
/// whole fleet.
pub(in crate::store) const SETTINGS: &str = "SET statement_timeout = '120s'; SET lock_timeout = '60s'; \
     SET idle_in_transaction_session_timeout = '120s'; SET jit = off; SET random_page_cost = 1.1; SET TimeZone = 'UTC'; \
     SET default_transaction_isolation = 'read committed'; SET default_transaction_read_only = off; \
     SET client_min_messages = warning";

/// Takes the advisory lock of the state, shared by writers beside each other, exclusive for a writer alone (461482751342,
/// "kigen" as a number), and refuses a schema that is newer than we know: see `migrations/postgres/0013_nodes.sql`.
const ENTER: &str = "SELECT enter_state($1, $2)";

/// The SQLSTATE of that refusal; its detail is the schema's version.
const NEWER: &str = "KG001";

/// The same lock, for a migration: it waits for whoever writes, and who comes later finds the new schema.
const STATE_LOCK: &str = "SELECT pg_advisory_xact_lock(461482751342)";

/// Held while the schema changes, so that two nodes may start at once.
const SCHEMA_LOCK: &str = "SELECT pg_advisory_xact_lock(461482751343)";

const USED: &str = "SELECT EXISTS (SELECT 1 FROM pg_tables WHERE schemaname = current_schema() \
                    AND tablename = '_sqlx_migrations'), \
                    EXISTS (SELECT 1 FROM pg_tables WHERE schemaname = current_schema())";
const VERSION: &str = "SELECT coalesce(max(version), 0) FROM _sqlx_migrations";

/// The state in a PostgreSQL database.
pub(super) struct Postgres {
    pool: PgPool,
    /// For connections besides the pool's.
    state: PostgresState,
    /// The schema that this program knows.
    known: i64,
    /// The file in which this node remembers which state it saw.
    witness: PathBuf,
}

impl Postgres {
    /// Connects, and brings the schema up to date.
    ///
    /// # Errors
    /// [`StoreError::Open`] with what to do; [`StoreError::Newer`].
    pub(super) async fn open(state: &PostgresState) -> Result<Self> {
        let what = state.name();
        let options = options(state)?;
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .min_connections(0)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .idle_timeout(Duration::from_secs(300))
            // A restarted server is noticed here and not in the middle of somebody's work.
            .test_before_acquire(true)
            .after_connect(|connection, _| Box::pin(async move { connection.execute(SETTINGS).await.map(|_| ()) }))
            .connect_with(options)
            .await
            .map_err(|e| open_error(&what, e))?;
        let migrated = match pool.acquire().await {
            Ok(mut connection) => migrate(&what, &mut connection).await,
            Err(e) => Err(open_error(&what, e)),
        };
        if let Err(e) = migrated {
            pool.close().await;
            return Err(e);
        }
        Ok(Self { pool, state: state.clone(), known: known(), witness: fence::path_of(state) })
    }

    pub(super) fn readers(&self) -> Readers {
        Readers::Postgres(self.pool.clone())
    }

    /// Begins to write alone: nobody else is in a writing transaction until it ends.
    pub(super) async fn write(&self, what: &'static str) -> Result<Tx> {
        self.enter(true, what).await
    }

    /// Begins to write beside others who do the same.
    pub(super) async fn write_beside(&self, what: &'static str) -> Result<Tx> {
        self.enter(false, what).await
    }

    /// The lock by a statement of its own: what the next ones see is then what others committed until they had to wait.
    async fn enter(&self, alone: bool, what: &'static str) -> Result<Tx> {
        let mut tx = self.pool.begin().await.map_err(failed(what))?;
        let entered = sqlx::query(ENTER).bind(alone).bind(self.known).execute(&mut *tx).await;
        entered.map_err(|e| self.newer(&e).unwrap_or_else(|| failed(what)(e)))?;
        Ok(Tx::Postgres(tx))
    }

    /// The refusal of a schema that is newer than ours.
    fn newer(&self, error: &sqlx::Error) -> Option<StoreError> {
        let error = error.as_database_error()?.try_downcast_ref::<PgDatabaseError>()?;
        let found = (error.code() == NEWER).then(|| error.detail()?.parse().ok()).flatten()?;
        Some(StoreError::Newer { what: self.state.name(), found, known: self.known })
    }

    /// Begins to write whatever the schema is: only what every version may write (see [`Cluster::rest`](super::Cluster::rest)).
    pub(super) async fn write_at_any_schema(&self, what: &'static str) -> Result<Tx> {
        self.pool.begin().await.map(Tx::Postgres).map_err(failed(what))
    }

    /// See [`Cluster::upgrade_waits`](super::Cluster::upgrade_waits).
    pub(super) async fn upgrade_waits(&self) -> Result<bool> {
        upgrading::waits(&self.pool).await.map_err(failed("ask whether a newer kigen waits"))
    }

    /// See [`Cluster::listen`](super::Cluster::listen).
    pub(super) async fn listen(&self, wake: &(dyn Fn(Word) + Send + Sync), stop: &CancellationToken) {
        listening::listen(&self.state, wake, stop).await;
    }

    /// Begins to read: one picture until it ends.
    pub(super) async fn read(&self, what: &'static str) -> Result<Tx> {
        let begun = self.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await;
        begun.map(Tx::Postgres).map_err(failed(what))
    }

    /// Every node may deliver: leases, not a lead, decide who has what. See [`Store::take_lead`](super::Store::take_lead).
    pub(super) async fn take_lead(&self, now: Timestamp) -> Result<Lead> {
        fence::check(self, now).await?;
        Ok(Lead::Taken)
    }

    /// A run is when a restored state can do harm, and when a copy made until now becomes old.
    pub(super) async fn run_began(&self, now: Timestamp) -> Result<()> {
        fence::check(self, now).await
    }

    /// See [`Store::close`](super::Store::close).
    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

/// Options of the address that name files. A connection would fail without them, and not say which.
const FILES: [&str; 3] = ["sslrootcert", "sslcert", "sslkey"];

fn options(state: &PostgresState) -> Result<PgConnectOptions> {
    let what = state.name();
    let options = PgConnectOptions::from_str(state.url.as_str()).map_err(|e| open_error(&what, e))?;
    let options = options.application_name("kigen");
    for (key, file) in state.url.query_pairs().filter(|(key, _)| FILES.contains(&key.as_ref())) {
        if let Err(e) = std::fs::File::open(file.as_ref()) {
            return Err(StoreError::Open { what, remedy: format!("{key}: cannot read {file}: {e}"), source: None });
        }
    }
    match &state.password {
        None => Ok(options),
        Some(source) => match source.read() {
            Ok(password) => Ok(options.password(password.expose())),
            Err(e) => Err(StoreError::Open { what, remedy: format!("state_password: {e}"), source: None }),
        },
    }
}

/// The schema that this program knows.
fn known() -> i64 {
    MIGRATIONS.iter().map(|m| m.version).max().unwrap_or(0)
}

/// In one transaction that other nodes wait for. Nodes at work are given the time to end what they have under way.
async fn migrate(what: &str, connection: &mut PgConnection) -> Result<()> {
    let known = known();
    let error = |e| open_error(what, e);
    let mut tx = connection.begin().await.map_err(error)?;
    sqlx::query(SCHEMA_LOCK).execute(&mut *tx).await.map_err(error)?;
    let (ours, used): (bool, bool) = sqlx::query_as(USED).fetch_one(&mut *tx).await.map_err(error)?;
    let found: i64 = match (ours, used) {
        (true, _) => sqlx::query_scalar(VERSION).fetch_one(&mut *tx).await.map_err(error)?,
        (false, false) => 0,
        (false, true) => {
            return Err(StoreError::Open {
                what: what.to_owned(),
                remedy: "another program's tables are in it; let `state` name a database of kigen's own".to_owned(),
                source: None,
            });
        }
    };
    if found > known {
        return Err(StoreError::Newer { what: what.to_owned(), found, known });
    }
    if found < known {
        upgrading::let_others_rest(&mut tx, found, known).await.map_err(error)?;
        sqlx::query(STATE_LOCK).execute(&mut *tx).await.map_err(error)?;
        // Our own lock, which ends with the transaction, in the place of the migrator's, which ends with the session.
        let migrator = Migrator { locking: false, migrations: MIGRATIONS.migrations.clone(), ..Migrator::DEFAULT };
        migrator.run_direct(None, &mut *tx, false).await.map_err(|e| match e {
            MigrateError::Execute(e) | MigrateError::ExecuteMigration(e, _) => open_error(what, e),
            other => StoreError::Open {
                what: what.to_owned(),
                remedy: format!("its schema cannot be brought up to date ({other}); report this"),
                source: None,
            },
        })?;
    }
    tx.commit().await.map_err(error)
}

fn open_error(what: &str, source: sqlx::Error) -> StoreError {
    StoreError::Open { what: what.to_owned(), remedy: remedy(&source).to_owned(), source: Some(source) }
}

/// What to do about it, by SQLSTATE (<https://www.postgresql.org/docs/15/errcodes-appendix.html>).
fn remedy(error: &sqlx::Error) -> &'static str {
    let code = error.as_database_error().and_then(|e| e.code());
    match code.as_deref() {
        Some("28P01" | "28000") => {
            "the server refuses the user or the password; see state_password (or the file that PGPASSFILE names, mode 0600) \
             and pg_hba.conf"
        }
        Some("3D000") => "make the database: createdb --owner=USER DATABASE",
        Some("42501") => "the user must own the database, or may at least create tables in it",
        Some("53300") => "the server has no connection left; raise max_connections",
        Some(_) => "look into the server's log",
        None if untrusted(error) => "the connection cannot be encrypted; see sslmode and sslrootcert",
        None => "is the server running, and does it listen there?",
    }
}

/// TLS failed: it is off there, or the certificate is not one that we trust (rustls says so in an error of the stream).
fn untrusted(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Tls(_) => true,
        sqlx::Error::Io(error) => error.kind() == std::io::ErrorKind::InvalidData,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::MIGRATIONS;

    #[test]
    fn both_databases_have_the_same_migrations() {
        let names = |database: &str| {
            let directory =
                std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/migrations").join(database);
            let names = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
            names.collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(names("sqlite"), names("postgres"));
        assert_eq!(MIGRATIONS.iter().count(), names("postgres").len(), "all are embedded");
    }
}
