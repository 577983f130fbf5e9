//! The rules that stop: refused logons, a scan that looks like our own misreading, too many new notices at once.

use chrono::TimeDelta;

use super::Timestamp;

/// For how long a refused logon is not tried again unless the customer's entry changed.
pub const REFUSED_FOR: TimeDelta = TimeDelta::hours(24);

/// A share of the fleet or a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// Hundredths of a percent, so that `0.5%` is 50.
    BasisPoints(u32),
    /// So many.
    Count(u32),
}

impl Share {
    /// The number of `whole` that this share is, rounded up.
    #[must_use]
    pub fn of(self, whole: usize) -> usize {
        match self {
            Self::BasisPoints(points) => (whole * points as usize).div_ceil(10_000),
            Self::Count(count) => count as usize,
        }
    }
}

/// The fewest first notices that `safety.max_new_notices` lets through in one pass.
pub const NEW_NOTICES_MIN: usize = 20;

/// The first notices that one pass may queue; the rest is held for approval.
#[must_use]
pub fn new_notices_allowed(share: Share, fleet: usize) -> usize {
    share.of(fleet).max(NEW_NOTICES_MIN)
}

/// Whether a scan found so many newly affected customers that it looks like our misreading: the share itself is enough.
///
/// The first scan of a fleet knows no "before": everything is new then and nothing is held for it.
#[must_use]
pub fn newly_affected_trips(share: Share, newly_affected: usize, known_before: usize) -> bool {
    known_before > 0 && newly_affected >= NEWLY_AFFECTED_MIN && newly_affected >= share.of(known_before)
}

/// Fewer newly affected customers than this never trip the guard: one or two relapses are no mass mistake, whatever
/// their share of a small fleet.
pub const NEWLY_AFFECTED_MIN: usize = 3;

/// Whether so many customers with an open case left the customers file of late that it looks cut off: all of them, or 3 and
/// more than a twentieth.
#[must_use]
pub fn too_many_left(open: u64, left: u64) -> bool {
    left > 0 && (left == open || left >= 3 && left.saturating_mul(20) > open)
}

/// Whether a refused logon may be tried again.
#[must_use]
pub fn logon_allowed(refused_at: Option<Timestamp>, entry_changed: bool, now: Timestamp) -> bool {
    match refused_at {
        Some(at) => entry_changed || now - at >= REFUSED_FOR,
        None => true,
    }
}

/// Counts refused logons in a row over the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefusalStreak {
    limit: u32,
    row: u32,
}

impl RefusalStreak {
    /// Stops after `limit` refusals in a row; 0 counts as 1, for a scan that may not begin is no scan.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        Self { limit: limit.max(1), row: 0 }
    }

    /// Takes note of one logon; other failures say nothing about passwords and are not noted.
    pub fn note(&mut self, refused: bool) {
        self.row = if refused { self.row.saturating_add(1) } else { 0 };
    }

    /// Whether the scan must stop.
    #[must_use]
    pub fn tripped(&self) -> bool {
        self.row >= self.limit
    }
}

#[cfg(test)]
mod tests;
