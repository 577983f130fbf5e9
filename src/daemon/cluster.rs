//! This process as one node of several: its sign of life, and what follows from the others'.
//!
//! Invariants: nothing happens where a state has one process (SQLite); what this node has is its own as long as it beats; a
//! node that was silent for longer than a lease (frozen, cut off from the database) has lost what it had and finds out
//! before it sends or writes, for every such step asks for the lease in the statement that takes it. A node that is older
//! than the schema, or is about to be, takes no work, and says so; the store lets it write nothing then.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;

use super::reload::Live;
use super::{Context, alert};
use crate::domain::Timestamp;
use crate::store::{Node, StoreError};

/// What a process knows of itself as a node. All copies of its [`Context`] share it.
pub struct Life {
    /// Until when the last sign of life holds, in UNIX milliseconds.
    alive_until: AtomicI64,
    /// Why it takes no work just now.
    rests: RwLock<Option<String>>,
    /// How often it joined a run that is shared out.
    joined: AtomicU64,
}

const NEVER: i64 = i64::MIN;

impl Default for Life {
    fn default() -> Self {
        Self { alive_until: AtomicI64::new(NEVER), rests: RwLock::new(None), joined: AtomicU64::new(0) }
    }
}

impl Life {
    /// Why this node takes no work, if it takes none.
    #[must_use]
    pub fn rests(&self) -> Option<String> {
        self.rests.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A number that no earlier joining of this process has.
    #[must_use]
    pub fn joined(&self) -> u64 {
        self.joined.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes no work from now on, or works again. Logged when it changes.
    fn rest(&self, why: Option<String>) {
        let mut rests = self.rests.write().unwrap_or_else(PoisonError::into_inner);
        match (&*rests, &why) {
            (before, Some(why)) if before.as_ref() != Some(why) => tracing::error!("this node takes no work: {why}"),
            (Some(_), None) => tracing::info!("this node works again"),
            _ => {}
        }
        *rests = why;
    }
}

/// For how long something is believed alive without a sign of life: by the configuration where nodes share a state, else
/// what the caller knows of its kind of work (a command gives no signs of life, so neither for it).
#[must_use]
pub fn lease(ctx: &Context, alone: TimeDelta) -> TimeDelta {
    if ctx.store.shared() && ctx.life.alive_until.load(Ordering::SeqCst) != NEVER {
        ctx.snapshot.config.cluster.lease
    } else {
        alone
    }
}

/// Gives signs of life until told to stop.
pub async fn run(live: Arc<Live>, stop: CancellationToken) {
    let ctx = live.context();
    if !ctx.store.shared() {
        return;
    }
    let started_at = ctx.now();
    let (mut known, mut behind) = (0, None);
    loop {
        let ctx = live.context();
        match beat(&ctx, started_at).await {
            Ok(alive) => {
                if alive.len() != known {
                    known = alive.len();
                    tracing::info!("{known} node(s) work on this state");
                }
                tell_who_is_behind(&ctx, &alive, &mut behind).await;
            }
            // Said when it began.
            Err(StoreError::Newer { .. }) => {}
            Err(error) => tracing::error!("no sign of life of this node: {:#}", anyhow::Error::from(error)),
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(pause(&ctx)) => {}
        }
    }
}

/// A beat more costs little, and a node that joins is seen soon. (A newer kigen counts on it: `store/postgres/upgrading`.)
const BEAT_MAX: Duration = Duration::from_secs(10);

/// A newer kigen is not kept waiting.
const BEAT_AT_REST: Duration = Duration::from_millis(500);

fn pause(ctx: &Context) -> Duration {
    let pause = (ctx.snapshot.config.cluster.lease / 4).to_std().unwrap_or(Duration::from_secs(1)).min(BEAT_MAX);
    if ctx.life.rests().is_some() { pause.min(BEAT_AT_REST) } else { pause }
}

/// One sign of life; the nodes that are alive, this one included.
///
/// # Errors
/// When the store fails; [`StoreError::Newer`]: this node is older than the state, and rests from now on.
pub async fn beat(ctx: &Context, started_at: Timestamp) -> crate::store::Result<Vec<Node>> {
    let now = ctx.now();
    let lease = ctx.snapshot.config.cluster.lease;
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let node = Node { name: ctx.owner.clone(), version, started_at, beat_at: now, resting: false };
    let waits = ctx.store.upgrade_waits().await?;
    if waits {
        let rested = ctx.life.rests().is_some();
        ctx.life.rest(Some(format!("a newer kigen brings the state up to date; install it here too ({WAITS})")));
        // By then whoever saw that it works has begun what it wanted to begin.
        if rested && !ctx.store.in_flight(&node.name).await? {
            ctx.store.rest(&node).await?;
            return Ok(ctx.store.nodes().await?.into_iter().filter(|node| node.beat_at > now - lease).collect());
        }
    }
    let alive = match ctx.store.beat(&node, now - lease, now + lease).await {
        Err(newer @ StoreError::Newer { .. }) => {
            ctx.life.rest(Some(newer.to_string()));
            ctx.store.rest(&node).await?;
            return Err(newer);
        }
        alive => alive?,
    };
    if !waits {
        ctx.life.rest(None);
    }
    // From before the statement on: a beat that took long is none that counts.
    ctx.life.alive_until.store((now + lease).timestamp_millis(), Ordering::SeqCst);
    ctx.metrics.nodes(alive.iter().filter(|node| !node.resting).count());
    Ok(alive)
}

/// What a node that rests for an upgrade promises.
const WAITS: &str = "what it has under way ends first";

/// Tells the operators of nodes that do nothing because they are older than the state; they cannot do it themselves.
async fn tell_who_is_behind(ctx: &Context, alive: &[Node], told: &mut Option<BTreeSet<String>>) {
    if ctx.life.rests().is_some() {
        return;
    }
    let behind: BTreeSet<String> = alive.iter().filter(|node| node.resting).map(|node| node.name.clone()).collect();
    if told.as_ref() != Some(&behind) {
        alert::of_nodes(ctx, alive.iter().filter(|node| node.resting)).await;
        *told = Some(behind);
    }
}

/// Whether what this node took then for so long is surely still its own: asked right before a mail's first byte, for a
/// node may have been frozen just then.
#[must_use]
pub fn still_ours(ctx: &Context, taken: Timestamp, lease: TimeDelta) -> bool {
    let now = ctx.now();
    let alive_until = ctx.life.alive_until.load(Ordering::SeqCst);
    !ctx.store.shared() || now < taken + lease || now.timestamp_millis() < alive_until
}
