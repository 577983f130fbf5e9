//! This process as one node of several: its sign of life, and what follows from the others'.
//!
//! Invariants: nothing happens where a state has one process (SQLite); what this node has is its own as long as it beats; a
//! node that was silent for longer than a lease (frozen, cut off from the database) has lost what it had and finds out
//! before it sends or writes, for every such step asks for the lease in the statement that takes it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;

use super::Context;
use super::reload::Live;
use crate::domain::Timestamp;
use crate::store::Node;

/// For how long something is believed alive without a sign of life: by the configuration where nodes share a state, else
/// what the caller knows of its kind of work (a command gives no signs of life, so neither for it).
#[must_use]
pub fn lease(ctx: &Context, alone: TimeDelta) -> TimeDelta {
    if ctx.store.shared() && alive_until().load(Ordering::SeqCst) != NEVER {
        ctx.snapshot.config.cluster.lease
    } else {
        alone
    }
}

/// Gives signs of life until told to stop, then leaves.
pub async fn run(live: Arc<Live>, stop: CancellationToken) {
    let ctx = live.context();
    if !ctx.store.shared() {
        return;
    }
    let started_at = ctx.now();
    let mut known = 0;
    loop {
        let ctx = live.context();
        match beat(&ctx, started_at).await {
            Ok(alive) if alive != known => {
                tracing::info!("{alive} node(s) work on this state");
                known = alive;
            }
            Ok(_) => {}
            Err(error) => tracing::error!("no sign of life of this node: {:#}", anyhow::Error::from(error)),
        }
        let pause = (ctx.snapshot.config.cluster.lease / 4).to_std().unwrap_or(Duration::from_secs(1));
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(pause.min(BEAT_MAX)) => {}
        }
    }
}

/// A beat more costs little, and a node that joins is seen soon.
const BEAT_MAX: Duration = Duration::from_secs(10);

/// One sign of life; how many nodes are alive, this one included.
///
/// # Errors
/// When the store fails.
pub async fn beat(ctx: &Context, started_at: Timestamp) -> crate::store::Result<usize> {
    let now = ctx.now();
    let lease = ctx.snapshot.config.cluster.lease;
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let node = Node { name: ctx.owner.clone(), version, started_at, beat_at: now };
    let alive = ctx.store.beat(&node, now - lease, now + lease).await?.len();
    // From before the statement on: a beat that took long is none that counts.
    alive_until().store((now + lease).timestamp_millis(), Ordering::SeqCst);
    ctx.metrics.nodes(alive);
    Ok(alive)
}

/// Until when the last sign of life of this process holds, in UNIX milliseconds.
fn alive_until() -> &'static AtomicI64 {
    static UNTIL: OnceLock<AtomicI64> = OnceLock::new();
    UNTIL.get_or_init(|| AtomicI64::new(NEVER))
}

const NEVER: i64 = i64::MIN;

/// Whether what this node took then for so long is surely still its own: asked right before a mail's first byte, for a
/// node may have been frozen just then.
#[must_use]
pub fn still_ours(ctx: &Context, taken: Timestamp, lease: TimeDelta) -> bool {
    let now = ctx.now();
    !ctx.store.shared() || now < taken + lease || now.timestamp_millis() < alive_until().load(Ordering::SeqCst)
}
