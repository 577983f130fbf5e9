//! The numbers of the whole fleet, read once for all who look.
//!
//! They are read when the service starts and about once a minute, so that the first reader in the morning does not wait for
//! the whole fleet to be counted.
//!
//! Invariant: there is at most one reading under way. Who comes while the numbers are old waits a moment for new ones; in a
//! large fleet a reading takes longer than that, and the last numbers are shown with their instant. Numbers that are too
//! old for that, or that a person just changed, are waited for.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{NaiveDate, NaiveTime};
use tokio::sync::watch;

use super::{Fail, Inner, Shared};
use crate::daemon::{Context, schedule, untold};
use crate::domain::Timestamp;
use crate::store::{Concerns, DeadContact, Hold, Run, RunKind, SiteCounts, StoreError};

/// What the overview reads of the store.
pub(super) struct Seen {
    /// When it was read.
    pub(super) at: Timestamp,
    pub(super) counts: SiteCounts,
    pub(super) customers: u64,
    pub(super) past: Arc<Past>,
    pub(super) concerns: Concerns,
    /// The length of the list of calls.
    pub(super) untold: u64,
    pub(super) dead: Vec<DeadContact>,
    pub(super) outbox: Vec<(&'static str, u64)>,
    pub(super) holds: Vec<Hold>,
    pub(super) last: Vec<(RunKind, Option<Run>)>,
}

/// What earlier days looked like. It is the costly part, and moves only with a run or at midnight.
pub(super) struct Past {
    today: NaiveDate,
    runs: Vec<Option<Run>>,
    pub(super) yesterday: SiteCounts,
    pub(super) moves: Vec<(Timestamp, i64)>,
}

type Reading = watch::Receiver<Option<Result<Arc<Seen>, String>>>;

/// The last reading, and the one under way.
#[derive(Default)]
struct Kept {
    seen: Option<(Instant, Arc<Seen>)>,
    under_way: Option<Reading>,
    past: Option<Arc<Past>>,
    /// One more with every deed: what was read before it is not shown after it.
    deeds: u64,
}

#[derive(Default)]
pub(super) struct Glance(Mutex<Kept>);

/// Numbers of this age are new.
const FRESH: Duration = Duration::from_secs(5);

/// How long somebody waits for new ones when there are others to show.
const PATIENCE: Duration = Duration::from_millis(30);

/// Numbers of this age are read anew although nobody looks, so that whoever does next finds some.
const WARM: Duration = Duration::from_secs(60);

/// Numbers older than this are shown to nobody.
const STALE: Duration = Duration::from_secs(120);

async fn past(ctx: &Context, today: NaiveDate, runs: Vec<Option<Run>>) -> Result<Past, StoreError> {
    let midnight = ctx.snapshot.config.calendar.instant(today, NaiveTime::MIN);
    let yesterday = ctx.store.site_counts_at(midnight).await?;
    Ok(Past { today, runs, yesterday, moves: ctx.store.affected_moves().await? })
}

async fn read(ctx: Context, before: Option<Arc<Past>>) -> anyhow::Result<Seen> {
    let store = &ctx.store;
    let config = &ctx.snapshot.config;
    let at = ctx.now();
    let mut last = Vec::new();
    for kind in schedule::KINDS.into_iter().filter(|kind| schedule::is_on(config, *kind)) {
        last.push((kind, store.last_run(kind, false).await?));
    }
    // A command's run is no schedule's, but it is a run.
    let runs = vec![store.last_run(RunKind::Scan, false).await?, store.last_run(RunKind::Notices, false).await?];
    let today = config.calendar.day(at);
    let past = match before {
        // While a run is on its looks come in.
        Some(past) if past.today == today && past.runs == runs && runs.iter().flatten().all(ended) => past,
        _ => Arc::new(past(&ctx, today, runs).await?),
    };
    Ok(Seen {
        at,
        counts: store.site_counts().await?,
        customers: store.customer_count().await?,
        past,
        untold: untold::count(&ctx).await?,
        concerns: store.concerns(config.alerts.unreadable_after).await?,
        dead: store.dead_contacts().await?,
        outbox: store.outbox_counts().await?,
        holds: store.holds().await?,
        last,
    })
}

fn ended(run: &Run) -> bool {
    run.finished_at.is_some()
}

/// What there is to show, and what is on its way.
enum Offer {
    Fresh(Arc<Seen>),
    Wait(Reading, Option<Arc<Seen>>),
}

impl Glance {
    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What changed by a person's hand is seen at once.
    pub(super) fn forget(&self) {
        let mut kept = self.kept();
        kept.seen = None;
        kept.under_way = None;
        kept.deeds += 1;
    }

    fn is_younger_than(&self, age: Duration) -> bool {
        self.kept().seen.as_ref().is_some_and(|(at, _)| at.elapsed() < age)
    }

    fn offer(&self, shared: &Shared) -> Offer {
        let mut kept = self.kept();
        let seen = kept.seen.as_ref().map(|(at, seen)| (at.elapsed(), Arc::clone(seen)));
        if let Some((age, seen)) = &seen
            && *age < FRESH
        {
            return Offer::Fresh(Arc::clone(seen));
        }
        let last = seen.filter(|(age, _)| *age < STALE).map(|(_, seen)| seen);
        let reading = match &kept.under_way {
            Some(reading) => reading.clone(),
            None => {
                let reading = begin(shared, kept.deeds, kept.past.clone());
                kept.under_way = Some(reading.clone());
                reading
            }
        };
        Offer::Wait(reading, last)
    }
}

/// Reads in a task of its own, which ends whoever goes away.
fn begin(shared: &Shared, deeds: u64, past: Option<Arc<Past>>) -> Reading {
    let (tell, reading) = watch::channel(None);
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let read = shared.ask(|ctx| read(ctx, past)).await;
        let result = match read {
            Ok(seen) => Ok(Arc::new(seen)),
            Err(Fail::Broken(why)) => Err(why),
            Err(Fail::NotFound) => Err("nothing was found".to_owned()),
        };
        let mut kept = shared.glance.kept();
        if let Ok(seen) = &result {
            kept.past = Some(Arc::clone(&seen.past));
        }
        if kept.deeds == deeds {
            kept.under_way = None;
            if let Ok(seen) = &result {
                kept.seen = Some((Instant::now(), Arc::clone(seen)));
            }
        }
        drop(kept);
        // Nobody may be waiting any more.
        let _ = tell.send(Some(result));
    });
    reading
}

/// Reads now and from time to time, so that no reader waits for a whole reading. Until told to stop.
pub(super) async fn keep_warm(shared: Shared) {
    let stop = shared.parts.stop.clone();
    while !stop.is_cancelled() {
        if !shared.glance.is_younger_than(WARM)
            && let Offer::Wait(mut reading, _) = shared.glance.offer(&shared)
        {
            // The reading is a task of its own: dropped here, it goes on. What went wrong, the next reader is told.
            tokio::select! {
                () = stop.cancelled() => return,
                _ = reading.wait_for(Option::is_some) => {}
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(FRESH) => {}
        }
    }
}

impl Inner {
    /// The numbers of the fleet.
    pub(super) async fn glance(shared: &Shared) -> Result<Arc<Seen>, Fail> {
        let (mut reading, last) = match shared.glance.offer(shared) {
            Offer::Fresh(seen) => return Ok(seen),
            Offer::Wait(reading, last) => (reading, last),
        };
        let read = reading.wait_for(Option::is_some);
        let told = match last {
            Some(last) => match tokio::time::timeout(PATIENCE, read).await {
                Ok(told) => told,
                Err(_) => return Ok(last),
            },
            None => read.await,
        };
        match told.map(|told| told.clone()) {
            Ok(Some(Ok(seen))) => Ok(seen),
            Ok(Some(Err(why))) => Err(Fail::Broken(why)),
            Ok(None) | Err(_) => Err(Fail::Broken("the reading of the fleet's numbers ended without them".to_owned())),
        }
    }
}
