//! A bar on a terminal, nothing in a pipe.

use indicatif::{ProgressBar, ProgressStyle};

use crate::daemon::progress::Progress;
use crate::store::{RunCounts, SiteCounts};

/// A bar on stderr; hidden by itself where stderr is no terminal.
pub struct Bar {
    bar: ProgressBar,
}

impl Bar {
    /// A bar with a word before it.
    #[must_use]
    pub fn new(what: &'static str) -> Self {
        let bar = ProgressBar::new(0).with_prefix(what);
        let style = "{prefix} {wide_bar} {pos}/{len} {per_sec} eta {eta} {msg}";
        bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Progress for Bar {
    fn total(&self, steps: u64) {
        self.bar.set_length(steps);
    }

    fn step(&self, counts: &RunCounts, sites: &SiteCounts) {
        self.bar.inc(1);
        if sites.total() > 0 {
            self.bar.set_message(format!("{} affected, {} unreadable", sites.affected, sites.unreadable));
        } else {
            self.bar.set_message(format!("{} queued, {} held", counts.queued, counts.held));
        }
    }
}
