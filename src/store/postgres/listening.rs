//! Hears that somebody made something due (`NOTIFY`, by the triggers of `migrations/postgres/0013_nodes.sql`), by one
//! connection besides the pool's.
//!
//! Only a wake-up, never the truth: whoever is woken looks for itself, and looks without it too, so that a lost connection
//! costs nothing but the seconds until the next look. Nothing is written here and no transaction is open, so that a wait for
//! the server's word may be dropped (sqlx's reading of a message is made for it).
//!
//! Invariants: it ends only when told to stop; many words within [`SHORT`] are one wake-up.

use std::collections::BTreeSet;
use std::time::Duration;

use sqlx::Executor;
use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::PostgresState;

use super::super::Word;
use super::{ACQUIRE_TIMEOUT, options};

const CHANNEL: &str = "kigen";

/// A pass that queues a mail every few milliseconds must not make every node ask as often.
const SHORT: Duration = Duration::from_millis(100);

/// A server that went away without a word is noticed by asking something after so much silence.
const SILENCE: Duration = Duration::from_secs(60);

/// How long until the next try to connect: at first, and at most.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// See the module. `wake` is also called with each connection, for what was said while there was none.
pub(super) async fn listen(state: &PostgresState, wake: &(dyn Fn(Word) + Send + Sync), stop: &CancellationToken) {
    let mut lost = false;
    let mut pause = RETRY_FIRST;
    while !stop.is_cancelled() {
        let mut heard = false;
        let result = attend(state, wake, stop, || {
            heard = true;
            if std::mem::take(&mut lost) {
                tracing::info!("this node hears from the others again");
            }
        })
        .await;
        let Err(error) = result else { return };
        if !std::mem::replace(&mut lost, true) {
            tracing::warn!("this node does not hear from the others, and looks for itself as often as ever: {error}");
        }
        pause = if heard { RETRY_FIRST } else { (pause * 2).min(RETRY_MAX) };
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Listens until told to stop; an error when the connection is lost. `connected` is called once it stands.
async fn attend(
    state: &PostgresState,
    wake: &(dyn Fn(Word) + Send + Sync),
    stop: &CancellationToken,
    connected: impl FnOnce(),
) -> Result<(), String> {
    let options = options(state).map_err(|e| e.to_string())?;
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_lazy_with(options.application_name("kigen listener"));
    let error = |e: sqlx::Error| e.to_string();
    let mut listener = PgListener::connect_with(&pool).await.map_err(error)?;
    listener.eager_reconnect(false);
    listener.listen(CHANNEL).await.map_err(error)?;
    connected();
    // What was said while nobody listened.
    let mut words = BTreeSet::from([Word::Mail, Word::Scan]);
    let mut due = Instant::now();
    loop {
        let until = if words.is_empty() { Instant::now() + SILENCE } else { due };
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            heard = listener.try_recv() => match heard.map_err(error)? {
                Some(heard) => {
                    words.insert(if heard.payload() == "scan" { Word::Scan } else { Word::Mail });
                }
                None => return Err("the connection was lost".to_owned()),
            },
            () = tokio::time::sleep_until(until) => {
                if words.is_empty() {
                    listener.execute("SELECT 1").await.map_err(error)?;
                }
                while let Some(word) = words.pop_first() {
                    wake(word);
                }
                due = Instant::now() + SHORT;
            }
        }
    }
}
