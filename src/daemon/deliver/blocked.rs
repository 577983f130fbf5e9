//! While the mail server refuses our account nobody sends: until when, remembered over a restart and for the other nodes.
//!
//! A daemon that is started again and again (by its supervisor, by hand) must not ask a provider each time that has just
//! said "tomorrow", nor must each of several nodes. A command that delivers is another matter: a person who has mended
//! something wants to know whether it works, so it asks once and learns it. Invariant: it never lasts longer than
//! [`BLOCKED_WAIT`] from now, whatever the store or a clock that was set back says.

use chrono::TimeDelta;
use tokio::sync::Mutex;

use super::Until;
use crate::daemon::{Context, local};
use crate::domain::Timestamp;
use crate::domain::delivery::BLOCKED_WAIT;

/// UNIX milliseconds.
const MEMO: &str = "mail.blocked_until";

/// What lies further ahead than the clocks of two nodes may differ was said by a clock that was wrong.
const SKEW: TimeDelta = TimeDelta::minutes(1);

pub(super) struct Blocked {
    until: Mutex<Option<Timestamp>>,
    /// Other nodes find it out too, and what they were told counts here.
    shared: bool,
}

impl Blocked {
    /// What the process before this one was told.
    pub(super) async fn load(ctx: &Context, until: Until) -> crate::store::Result<Self> {
        let daemon = until == Until::Stopped;
        let now = ctx.now();
        let at = if daemon { remembered(ctx, now).await?.map(|at| at.min(now + BLOCKED_WAIT)) } else { None };
        if let Some(at) = at {
            tracing::warn!(
                "the mail server refused our account before this start, nothing leaves before {}",
                local(ctx, at)
            );
        }
        Ok(Self { until: Mutex::new(at), shared: daemon && ctx.store.shared() })
    }

    /// As far as this process knows.
    pub(super) async fn stands(&self, now: Timestamp) -> bool {
        self.until.lock().await.is_some_and(|until| now < until)
    }

    /// As far as any node knows: asked right before the server is.
    pub(super) async fn stands_anywhere(&self, ctx: &Context, now: Timestamp) -> crate::store::Result<bool> {
        if self.shared && !self.stands(now).await {
            let Some(until) = remembered(ctx, now).await?.filter(|until| *until <= now + BLOCKED_WAIT + SKEW) else {
                return Ok(false);
            };
            let mut ours = self.until.lock().await;
            if ours.is_none_or(|ours| ours < until) {
                *ours = Some(until);
                tracing::warn!(
                    "the mail server refuses our account, as another node found out; nothing leaves before {}",
                    local(ctx, until)
                );
            }
        }
        Ok(self.stands(now).await)
    }

    /// From now on, for all workers of all nodes, and for whoever comes after this process.
    pub(super) async fn set(&self, ctx: &Context, until: Timestamp) {
        *self.until.lock().await = Some(until);
        if let Err(error) = ctx.store.set_memo(MEMO, &until.timestamp_millis().to_string()).await {
            tracing::error!("the refusal will be forgotten by a restart: {:#}", anyhow::Error::from(error));
        }
    }
}

/// What stands in the store, if it is not over.
async fn remembered(ctx: &Context, now: Timestamp) -> crate::store::Result<Option<Timestamp>> {
    let text = ctx.store.memo(MEMO).await?;
    let at = text.and_then(|text| Timestamp::from_timestamp_millis(text.parse().ok()?));
    Ok(at.filter(|at| *at > now))
}
