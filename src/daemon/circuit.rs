//! The hosts' breakers of one run: a scan's, or a notice pass's.
//!
//! Each run begins with every host believed well: what was given up in the morning is asked anew by the next run.
//!
//! Where several nodes are at one run they tell each other what they find out, when it changes. That is politeness, not
//! truth: a word that is lost or late costs a host some looks more.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::TimeDelta;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Context;
use crate::connector::breaker::{Admission, Breaker, Sign, Standing};
use crate::domain::Timestamp;
use crate::domain::observation::Failure;
use crate::store::{HostStanding, HostWord};

/// How often a look that waits for another's probe asks whether it ended.
const PROBE_LOOK: Duration = Duration::from_millis(200);

/// How often it is asked what the other nodes say.
const HEAR_EVERY: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Default)]
pub struct Circuit(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    breakers: HashMap<String, Breaker>,
    /// Hosts whose standing changed here since the others were told.
    news: BTreeSet<String>,
    /// When the last word on each host was said, ours or another's.
    last_words: HashMap<String, Timestamp>,
    heard_at: Option<Instant>,
}

impl Inner {
    fn breaker(&mut self, ctx: &Context, host: &str) -> &mut Breaker {
        let patience = &ctx.snapshot.config.patience;
        let new = || Breaker::new(host, patience.host_failures, patience.host_pause);
        self.breakers.entry(host.to_owned()).or_insert_with(new)
    }
}

impl Circuit {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What may be done for the next customer of a host; `None`: nobody over a network is asked.
    pub fn admit(&self, ctx: &Context, host: Option<&str>, now: Instant) -> Admission {
        let Some(host) = host else { return Admission::Go };
        let mut inner = self.inner();
        if let Some(breaker) = inner.breakers.get_mut(host) {
            return breaker.admit(now);
        }
        inner.breaker(ctx, host).admit(now)
    }

    /// What a look says of its host. Returns what is new for the log.
    pub fn note(&self, host: Option<&str>, sign: &Sign, probe: bool) -> Option<String> {
        let (host, mut inner) = (host?, self.inner());
        let new = inner.breakers.get_mut(host)?.note(sign, probe, Instant::now())?;
        inner.news.insert(host.to_owned());
        Some(new)
    }

    /// From when on a host's probe may go; `None`: it is not paused, or a probe is under way.
    #[must_use]
    pub fn reopens_at(&self, host: &str) -> Option<Instant> {
        self.inner().breakers.get(host)?.reopens_at()
    }

    /// Tells the other nodes what changed here, and from time to time hears what changed there. `scope`: at what; `since`:
    /// older words say nothing.
    pub async fn exchange(&self, ctx: &Context, scope: &str, since: Timestamp) {
        if let Err(error) = self.tell(ctx, scope).await {
            tracing::warn!("the other nodes are not told of a host: {:#}", anyhow::Error::from(error));
        }
        let due = self.inner().heard_at.is_none_or(|at| at.elapsed() >= HEAR_EVERY);
        if due && let Err(error) = self.hear(ctx, scope, since).await {
            tracing::warn!("what the other nodes say of hosts is not heard: {:#}", anyhow::Error::from(error));
        }
    }

    async fn tell(&self, ctx: &Context, scope: &str) -> crate::store::Result<()> {
        loop {
            let (word, now) = {
                let mut inner = self.inner();
                let Some(host) = inner.news.first().cloned() else { return Ok(()) };
                let now = ctx.now();
                let Some(standing) = inner.breakers.get(&host).and_then(Breaker::standing) else {
                    // Its probe will tell; that is news of its own.
                    inner.news.remove(&host);
                    continue;
                };
                (HostWord { host, told_at: now, standing: to_the_wall(standing, now) }, now)
            };
            ctx.store.tell_host(scope, &word).await?;
            let mut inner = self.inner();
            inner.last_words.insert(word.host.clone(), now);
            let same = inner.breakers.get(&word.host).and_then(Breaker::standing).map(|s| to_the_wall(s, now));
            // What changed while it was written is told next.
            if same.is_none_or(|standing| alike(&standing, &word.standing)) {
                inner.news.remove(&word.host);
            }
        }
    }

    async fn hear(&self, ctx: &Context, scope: &str, since: Timestamp) -> crate::store::Result<()> {
        let words = ctx.store.host_words(scope, since).await?;
        let mut inner = self.inner();
        inner.heard_at = Some(Instant::now());
        let now = ctx.now();
        for HostWord { host, told_at, standing } in words {
            // Our own last word too is in the list.
            if inner.last_words.get(&host).is_some_and(|last| *last >= told_at) || inner.news.contains(&host) {
                continue;
            }
            tracing::info!("{host}: another node says {}", said(&standing));
            inner.breaker(ctx, &host).hear(from_the_wall(standing, now));
            inner.last_words.insert(host, told_at);
        }
        Ok(())
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

/// Pauses end at instants that every node's clock shows.
fn to_the_wall(standing: Standing, now: Timestamp) -> HostStanding {
    match standing {
        Standing::Well => HostStanding::Well,
        Standing::Paused { until, probes } => {
            let left = TimeDelta::from_std(until.saturating_duration_since(Instant::now())).unwrap_or_default();
            HostStanding::Paused { until: now + left, probes }
        }
        Standing::GivenUp(Failure { reason, detail, .. }) => HostStanding::GivenUp { reason, detail },
    }
}

fn from_the_wall(standing: HostStanding, now: Timestamp) -> Standing {
    match standing {
        HostStanding::Well => Standing::Well,
        HostStanding::Paused { until, probes } => {
            let left = (until - now).to_std().unwrap_or_default().min(PAUSE_MAX);
            Standing::Paused { until: Instant::now() + left, probes }
        }
        HostStanding::GivenUp { reason, detail } => Standing::GivenUp(Failure::new(reason, detail)),
    }
}

/// No word of another node, whose clock may be wrong, pauses a host for longer.
const PAUSE_MAX: Duration = Duration::from_secs(15 * 60);

/// The same, but for how precisely an instant can be said.
fn alike(one: &HostStanding, other: &HostStanding) -> bool {
    match (one, other) {
        (HostStanding::Paused { probes, .. }, HostStanding::Paused { probes: others, .. }) => probes == others,
        (one, other) => one == other,
    }
}

fn said(standing: &HostStanding) -> &'static str {
    match standing {
        HostStanding::Well => "that it answers again",
        HostStanding::Paused { .. } => "that it fails: paused here too",
        HostStanding::GivenUp { .. } => "that it is given up: so it is here",
    }
}
