//! What the service tells systemd: ready, reloading, stopping, a status line, and a watchdog that proves real progress.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::store::Store;

/// Tells systemd; outside it, or when the socket is gone, nothing happens.
pub fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("cannot tell systemd: {error}");
    }
}

/// A state of last year is brought up to date at the start, and a large one takes its time.
const OPENING_MAX_USEC: u32 = 10 * 60 * 1_000_000;

/// Tells that the state is being opened, so that a long migration is no failed start.
pub fn opening() {
    tell(&[NotifyState::Status("opening the state"), NotifyState::ExtendTimeoutUsec(OPENING_MAX_USEC)]);
}

/// How often the status line is made anew.
const STATUS_PERIOD: Duration = Duration::from_secs(15);

/// Keeps `STATUS=` true: `line` is asked anew every so often, and told when it changed.
pub async fn status_line<F: Future<Output = String> + Send>(line: impl Fn() -> F + Send, stop: CancellationToken) {
    let mut told = String::new();
    loop {
        let text = line().await;
        if text != told {
            tell(&[NotifyState::Status(&text)]);
            told = text;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(STATUS_PERIOD) => {}
        }
    }
}

/// A look at the schedules is never older than this while the scheduler lives.
pub const HEARTBEAT_MAX: Duration = Duration::from_secs(120);

/// Pings the watchdog at half its time, but only while the scheduler's heartbeat moves and the store answers.
pub async fn watchdog(heartbeat: watch::Receiver<Instant>, store: Arc<dyn Store>, stop: CancellationToken) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let period = (limit / 2).max(Duration::from_millis(100));
    loop {
        // Not `tokio::select!` around the store: a database future is never dropped half-way.
        let alive = heartbeat.borrow().elapsed() < HEARTBEAT_MAX;
        // A server that is down is not cured by a restart of ours: that is ridden out. A file of our own may be.
        let answered = if store.shared() { Ok(()) } else { store.ping().await };
        match answered {
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
