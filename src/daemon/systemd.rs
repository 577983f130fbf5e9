//! What the service tells systemd: ready, reloading, stopping, a status line, and a watchdog that proves real progress.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::domain::Timestamp;
use crate::store::Store;

/// Tells systemd; outside it, or when the socket is gone, nothing happens.
pub fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("cannot tell systemd: {error}");
    }
}

/// A look at the schedules is never older than this while the scheduler lives.
const HEARTBEAT_MAX: TimeDelta = TimeDelta::minutes(2);

/// Pings the watchdog at half its time, but only while the scheduler's heartbeat moves and the store answers.
pub async fn watchdog(
    heartbeat: watch::Receiver<Timestamp>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let period = (limit / 2).max(Duration::from_millis(100));
    loop {
        // Not `tokio::select!` around the store: a database future is never dropped half-way.
        let alive = (clock.now() - *heartbeat.borrow()).abs() < HEARTBEAT_MAX;
        match store.ping().await {
            Ok(()) if alive => tell(&[NotifyState::Watchdog]),
            Ok(()) => {
                tracing::error!("the scheduler has not looked at its schedules for two minutes: no watchdog ping")
            }
            Err(error) => tracing::error!("the store does not answer, no watchdog ping: {error}"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(period) => {}
        }
    }
}
