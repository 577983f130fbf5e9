//! The hosts that are looked at right before sending: one that fails is left in peace, as in a scan.
//!
//! A deliverer has no runs, so what it believes of the hosts lasts for a while only. Invariant: nobody waits here for a host:
//! a mail whose customer cannot be looked at now gives its place in the line to the next one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::TimeDelta;
use tokio::time::Instant;

use super::super::circuit::Circuit;
use super::super::look;
use crate::connector::breaker::{Admission, Sign};
use crate::daemon::Context;
use crate::fleet::Member;
use crate::store::CustomerState;

/// After that long every host is believed well again. By then a mail that was put off comes back.
const MEMORY: Duration = Duration::from_secs(15 * 60);

/// What the nodes' words of hosts are said for here.
const SCOPE: &str = "deliveries";

pub(super) struct Hosts(Mutex<(Instant, Arc<Circuit>)>);

pub(super) enum Look {
    Seen(Box<CustomerState>),
    /// The customer is not in the store.
    Gone,
    /// Its host fails; not asked, and why.
    NotNow(String),
}

impl Hosts {
    pub(super) fn new() -> Self {
        Self(Mutex::new((Instant::now(), Arc::default())))
    }

    fn circuit(&self) -> Arc<Circuit> {
        let now = Instant::now();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(kept.0) >= MEMORY {
            *kept = (now, Arc::default());
        }
        Arc::clone(&kept.1)
    }

    /// Looks at the customer, if its host is not left in peace just now.
    pub(super) async fn look(&self, ctx: &Context, member: &Member) -> anyhow::Result<Look> {
        let circuit = self.circuit();
        if ctx.store.shared() {
            circuit.exchange(ctx, SCOPE, ctx.now() - TimeDelta::from_std(MEMORY).unwrap_or_default()).await;
        }
        let host = ctx.snapshot.config.connector.host(member.logon.url.as_ref());
        let probe = match circuit.admit(ctx, host.as_deref(), Instant::now()) {
            Admission::Go => false,
            Admission::Probe => true,
            Admission::Later(_) => {
                let host = host.as_deref().unwrap_or_default();
                return Ok(Look::NotNow(format!(
                    "not looked at again before sending: {host} fails and is left in peace"
                )));
            }
            Admission::GivenUp(failure) => return Ok(Look::NotNow(failure.detail)),
        };
        let checked = look::check_for_sign(ctx, member).await;
        let sign = checked.as_ref().ok().and_then(|c| c.as_ref()).map_or(&Sign::Nothing, |(_, sign)| sign);
        if let Some(news) = circuit.note(host.as_deref(), sign, probe) {
            tracing::warn!("{news}");
            if ctx.store.shared() {
                circuit.exchange(ctx, SCOPE, ctx.now()).await;
            }
        }
        Ok(checked?.map_or(Look::Gone, |(state, _)| Look::Seen(Box::new(state))))
    }
}
