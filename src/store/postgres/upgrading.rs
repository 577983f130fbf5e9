//! A rolling upgrade: a newer kigen brings the schema up to date while older nodes work on it.
//!
//! Before it does, it says so (a lock that everybody can see, and that goes with it if it dies) and waits a while until each
//! node at work has ended what it has under way and says that it rests. Then it goes on whatever they do: what makes it safe
//! is that no older program can begin to write afterwards (`enter_state`); the waiting only spares a mail in flight the
//! doubt whether it was sent.
//!
//! Invariant: the wait has an end, and nobody's clock is asked.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::postgres::{PgConnection, PgPool};
use tokio::time::Instant;

/// Held from the announcement to the end of the migration.
const ANNOUNCE: &str = "SELECT pg_advisory_xact_lock(461482751344)";

/// Whether somebody holds it. (A lock by one 64-bit number stands in the view in two halves.)
const ANNOUNCED: &str = "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted \
     AND classid = (461482751344 >> 32)::oid AND objid = (461482751344 & 4294967295)::oid AND objsubid = 1 \
     AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))";

/// Who may be at work, but for those that were silent long before the others.
const AT_WORK: &str = "SELECT name, beat_at FROM nodes WHERE resting = 0 \
     AND beat_at > (SELECT max(beat_at) FROM nodes) - 120000";

/// From this schema on nodes know what the announcement means.
const POLITE: i64 = 13;

/// A node beats more often than this, or it is gone.
const SILENT: Duration = Duration::from_secs(12);

/// No longer: whoever starts beside us waits for us, and gives up after a minute.
const PATIENCE: Duration = Duration::from_secs(40);

/// How often it is looked whether they rest.
const LOOK: Duration = Duration::from_millis(250);

/// Whether a newer kigen waits for us to rest.
pub(super) async fn waits(pool: &PgPool) -> sqlx::Result<bool> {
    sqlx::query_scalar(ANNOUNCED).fetch_one(pool).await
}

/// Announces the upgrade in this transaction, and waits for the nodes at work.
pub(super) async fn let_others_rest(tx: &mut PgConnection, found: i64, known: i64) -> sqlx::Result<()> {
    if found < POLITE {
        return Ok(());
    }
    sqlx::query(ANNOUNCE).execute(&mut *tx).await?;
    let began = Instant::now();
    let mut said = false;
    let mut heard: HashMap<String, (i64, Instant)> = HashMap::new();
    loop {
        let at_work: Vec<(String, i64)> = sqlx::query_as(AT_WORK).fetch_all(&mut *tx).await?;
        let now = Instant::now();
        let mut working = 0;
        for (name, beat_at) in at_work {
            let last = heard.entry(name).or_insert((beat_at, now));
            if last.0 != beat_at {
                *last = (beat_at, now);
            }
            working += usize::from(now.duration_since(last.1) < SILENT);
        }
        if working == 0 {
            return Ok(());
        }
        if began.elapsed() >= PATIENCE {
            tracing::warn!(
                "{working} older node(s) did not come to rest; the schema is brought up to date all the same, and they \
                 can write nothing any more"
            );
            return Ok(());
        }
        if !std::mem::replace(&mut said, true) {
            tracing::info!(
                "the schema is brought up to date (from {found} to {known}) once {working} older node(s) rest, in {} s \
                 at the latest",
                PATIENCE.as_secs()
            );
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use sqlx::Connection;

    use super::*;
    use crate::config::PostgresState;
    use crate::store::postgres::Postgres;
    use crate::store::sql::plans::server;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_upgrade_waits_for_who_is_at_work() {
        let url = server::Server::shared().database().await;
        let directory = tempfile::tempdir().unwrap();
        let state = PostgresState { url: url.parse().unwrap(), password: None, directory: directory.path().to_owned() };
        let store = Postgres::open(&state).await.unwrap();
        let mut other = PgConnection::connect(&url).await.unwrap();
        let nodes = "INSERT INTO nodes (name, version, started_at, beat_at, resting) \
            VALUES ('at work', '1', 0, 1000000, 0), ('rests', '1', 0, 1000000, 1), ('gone since yesterday', '1', 0, 1, 0)";
        sqlx::raw_sql(nodes).execute(&mut other).await.unwrap();
        assert!(!store.upgrade_waits().await.unwrap());
        let (began, mut newer) = (Instant::now(), PgConnection::connect(&url).await.unwrap());
        let upgrade = tokio::spawn(async move {
            let mut tx = newer.begin().await.unwrap();
            let_others_rest(&mut tx, POLITE - 1, POLITE).await.unwrap();
            let_others_rest(&mut tx, POLITE, POLITE + 1).await.unwrap();
            tx.commit().await.unwrap();
        });
        while !store.upgrade_waits().await.unwrap() {
            assert!(began.elapsed() < PATIENCE, "it is announced");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(!upgrade.is_finished(), "one is at work");
        sqlx::raw_sql("UPDATE nodes SET resting = 1 WHERE name = 'at work'").execute(&mut other).await.unwrap();
        upgrade.await.unwrap();
        assert!(began.elapsed() < SILENT, "it waited for nobody else");
        assert!(!store.upgrade_waits().await.unwrap(), "the announcement is over with it");
    }
}
