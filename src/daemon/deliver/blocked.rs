//! While the mail server refuses our account nobody sends: until when, remembered over a restart.
//!
//! A daemon that is started again and again (by its supervisor, by hand) must not ask a provider each time that has just
//! said "tomorrow". A command that delivers is another matter: a person who has mended something wants to know whether it
//! works, so it asks once and learns it. Invariant: it never lasts longer than [`BLOCKED_WAIT`] from now, whatever the
//! store or a clock that was set back says.

use tokio::sync::Mutex;

use super::Until;
use crate::daemon::{Context, local};
use crate::domain::Timestamp;
use crate::domain::delivery::BLOCKED_WAIT;

/// UNIX milliseconds.
const MEMO: &str = "mail.blocked_until";

pub(super) struct Blocked(Mutex<Option<Timestamp>>);

impl Blocked {
    /// What the process before this one was told.
    pub(super) async fn load(ctx: &Context, until: Until) -> crate::store::Result<Self> {
        let remembered = match until {
            Until::Stopped => ctx.store.memo(MEMO).await?,
            Until::Drained => None,
        };
        let now = ctx.now();
        let at = remembered.and_then(|text| Timestamp::from_timestamp_millis(text.parse().ok()?));
        let at = at.filter(|at| *at > now).map(|at| at.min(now + BLOCKED_WAIT));
        if let Some(at) = at {
            tracing::warn!(
                "the mail server refused our account before this start, nothing leaves before {}",
                local(ctx, at)
            );
        }
        Ok(Self(Mutex::new(at)))
    }

    pub(super) async fn stands(&self, now: Timestamp) -> bool {
        self.0.lock().await.is_some_and(|until| now < until)
    }

    /// From now on, for all workers, and for whoever comes after this process.
    pub(super) async fn set(&self, ctx: &Context, until: Timestamp) {
        *self.0.lock().await = Some(until);
        if let Err(error) = ctx.store.set_memo(MEMO, &until.timestamp_millis().to_string()).await {
            tracing::error!("the refusal will be forgotten by a restart: {:#}", anyhow::Error::from(error));
        }
    }
}
