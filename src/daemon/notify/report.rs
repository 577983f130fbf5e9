//! What a pass says of itself: every planned notice with what became of it, and the numbers of the run.
//!
//! Invariant: the numbers are those of the notices, counted as they come.

use crate::domain::calendar::DayOff;
use crate::domain::delivery::{DeliveryId, Held};
use crate::domain::plan::Planned;
use crate::store::RunCounts;

/// What became of one planned notice.
#[derive(Debug, Clone)]
pub struct Notified {
    /// The plan.
    pub planned: Planned,
    /// What became of it.
    pub fate: Fate,
}

/// What became of a planned notice.
#[derive(Debug, Clone)]
pub enum Fate {
    /// It is in the outbox and leaves in the next window.
    Queued(DeliveryId),
    /// It is in the outbox and waits for a person.
    Held(DeliveryId, Held),
    /// `dry-run`: it was rendered and would have been queued.
    WouldQueue,
    /// The look right before showed something else: nothing is sent.
    Overtaken(String),
    /// None of its sites could be read just now: the next pass tries again.
    NotFresh(String),
    /// It was in the outbox already.
    Duplicate,
    /// It could not be made: the operators must look.
    Failed(String),
}

impl Fate {
    /// The word in output and metrics.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Queued(_) => "queued",
            Self::Held(..) => "held",
            Self::WouldQueue => "would_queue",
            Self::Overtaken(_) | Self::NotFresh(_) | Self::Duplicate => "dropped",
            Self::Failed(_) => "not_made",
        }
    }
}

/// How a pass went.
#[derive(Debug, Clone, Default)]
pub struct PassReport {
    /// Every planned notice, most urgent first.
    pub notices: Vec<Notified>,
    /// Cases resolved without a word.
    pub resolved_silently: u64,
    /// Why nothing was sent at all: no business day.
    pub day_off: Option<DayOff>,
    /// It was cancelled before its end.
    pub interrupted: bool,
    counts: RunCounts,
}

impl PassReport {
    /// The run's numbers.
    #[must_use]
    pub fn counts(&self) -> RunCounts {
        self.counts
    }

    /// Takes the next notice.
    pub(super) fn add(&mut self, notified: Notified) {
        self.counts.customers += 1;
        match notified.fate {
            Fate::Queued(_) => self.counts.queued += 1,
            Fate::Held(..) => self.counts.held += 1,
            Fate::WouldQueue | Fate::Overtaken(_) | Fate::NotFresh(_) | Fate::Duplicate | Fate::Failed(_) => {}
        }
        self.notices.push(notified);
    }
}

/// The journal shows the message alone, so whose notice it is stands in it too.
pub(super) fn log(planned: &Planned, fate: &Fate) {
    let (customer, kind, because) = (&planned.customer, planned.due.kind, &planned.due.because);
    match fate {
        Fate::Queued(id) => {
            tracing::info!(%customer, %kind, delivery = %id, "{kind} notice of {customer} queued (delivery {id}): {because}");
        }
        Fate::Held(id, held) => {
            let held = held.as_str();
            tracing::warn!(%customer, %kind, delivery = %id, "{kind} notice of {customer} held, {held} (delivery {id}): {because}");
        }
        Fate::WouldQueue => {
            tracing::info!(%customer, %kind, "dry-run, {kind} notice of {customer} not queued: {because}")
        }
        Fate::Overtaken(why) => tracing::info!(%customer, %kind, "{kind} notice of {customer} overtaken: {why}"),
        Fate::NotFresh(why) => tracing::warn!(%customer, %kind, "{kind} notice of {customer} not sent: {why}"),
        Fate::Duplicate => tracing::info!(%customer, %kind, "{kind} notice of {customer} is in the outbox already"),
        Fate::Failed(why) => tracing::error!(%customer, %kind, "{kind} notice of {customer} could not be made: {why}"),
    }
}
