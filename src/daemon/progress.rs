//! How a long run tells how far it is: to a bar on a terminal, to `STATUS=`, or to nobody.

use crate::store::{RunCounts, SiteCounts};

/// Told of a run's progress. Called often: must be quick.
pub trait Progress: Send + Sync {
    /// There are so many steps in all.
    fn total(&self, _steps: u64) {}
    /// One more step is done.
    fn step(&self, _counts: &RunCounts, _sites: &SiteCounts) {}
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {}
