//! The hosts' breakers of one run: a scan's, or a notice pass's.
//!
//! Each run begins with every host believed well: what was given up in the morning is asked anew by the next run.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Context;
use crate::connector::breaker::{Admission, Breaker, Sign};
use crate::domain::observation::Failure;

/// How often a look that waits for another's probe asks whether it ended.
const PROBE_LOOK: Duration = Duration::from_millis(200);

/// See the module.
#[derive(Default)]
pub struct Circuit(Mutex<HashMap<String, Breaker>>);

impl Circuit {
    /// What may be done for the next customer of a host; `None`: nobody over a network is asked.
    pub fn admit(&self, ctx: &Context, host: Option<&str>, now: Instant) -> Admission {
        let Some(host) = host else { return Admission::Go };
        let mut breakers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(breaker) = breakers.get_mut(host) {
            return breaker.admit(now);
        }
        let patience = &ctx.snapshot.config.patience;
        let breaker = Breaker::new(host, patience.host_failures, patience.host_pause);
        breakers.entry(host.to_owned()).or_insert(breaker).admit(now)
    }

    /// What a look says of its host. Returns what is new for the log.
    pub fn note(&self, host: Option<&str>, sign: &Sign, probe: bool) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(host?)?.note(sign, probe, Instant::now())
    }

    /// From when on a host's probe may go; `None`: it is not paused, or a probe is under way.
    #[must_use]
    pub fn reopens_at(&self, host: &str) -> Option<Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(host)?.reopens_at()
    }

    /// Waits for this customer's turn. `Ok(probe)`: look now, and note what it says. The wait is bounded, as the breaker's
    /// pauses are.
    ///
    /// # Errors
    /// `Some`: the host is given up for this run, and why; `None`: the run is told to stop.
    pub async fn turn(
        &self,
        ctx: &Context,
        host: Option<&str>,
        stop: &CancellationToken,
    ) -> Result<bool, Option<Failure>> {
        loop {
            let now = Instant::now();
            let until = match self.admit(ctx, host, now) {
                Admission::Go => return Ok(false),
                Admission::Probe => return Ok(true),
                Admission::GivenUp(failure) => return Err(Some(failure)),
                Admission::Later(until) => until.unwrap_or(now + PROBE_LOOK),
            };
            tokio::select! {
                () = stop.cancelled() => return Err(None),
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }
}
