//! What looks saw, written in batches: each customer's change against the version it was decided on.
//!
//! Invariant: a stale change is decided again on the customer's new state, twice at most; then the next scan has it.

use anyhow::Context as _;

use super::super::{RUN_LEASE, alert, cluster, look};
use super::{Pending, Scan, newly_affected, shares};
use crate::domain::case::LookKind;
use crate::domain::observation::Observation;
use crate::domain::site::CustomerId;
use crate::store::{Committed, LookChange};

impl Scan<'_> {
    pub(super) async fn write(&mut self, pending: &mut Vec<Pending>) -> anyhow::Result<()> {
        let now = self.ctx.now();
        if self.request.no_save {
            pending.clear();
            return Ok(());
        }
        if let Some(shares) = &mut self.shares
            && !pending.is_empty()
        {
            shares.forget_lost(self.ctx).await?;
            pending.retain(|p| shares.is_ours(&p.state.id));
        }
        let ids: Vec<CustomerId> = pending.iter().map(|p| p.state.id.clone()).collect();
        // Two tries: a customer that somebody else keeps changing is left for the next scan.
        for _ in 0..2 {
            if pending.is_empty() {
                break;
            }
            let changes: Vec<LookChange> = pending
                .iter()
                .map(|p| look::change(&p.state, &self.campaigns, &p.seen, p.refused.clone(), self.kind(p), p.at))
                .collect();
            let committed = self.ctx.store.commit_looks(&changes).await.context("cannot write what was seen")?;
            for (change, done) in changes.iter().zip(&committed) {
                if *done != Committed::Stale {
                    self.report.newly_affected += u64::from(newly_affected(change));
                }
            }
            let written = changes.iter().zip(&committed).filter(|(_, done)| **done != Committed::Stale);
            alert::of_looks(self.ctx, written.map(|(change, _)| change)).await;
            // After it, not before: who is noted and not written would be left out of a resumed scan.
            let noted: Vec<&CustomerId> = pending
                .iter()
                .zip(&committed)
                .filter(|(p, done)| p.asked && **done != Committed::Stale)
                .map(|(p, _)| &p.state.id)
                .collect();
            self.ctx.store.note_scanned(&noted, now).await.context("cannot note who was scanned")?;
            let mut done = committed.iter();
            pending.retain(|_| done.next() == Some(&Committed::Stale));
            self.refresh(pending).await?;
            if let Some(shares) = &self.shares {
                // Another node, or our own statement whose answer was lost, wrote a look of this run: one counts.
                pending
                    .retain(|p| p.state.sites.is_empty() || p.state.sites.iter().any(|o| o.observed_at < shares.since));
            }
        }
        for left in pending.drain(..) {
            tracing::warn!(customer = %left.state.id, "changed by somebody else at the same time; left for the next scan");
        }
        match (&mut self.shares, self.run_id) {
            (Some(shares), _) => {
                // First what was seen, then that it is done: whoever finds all done sums up.
                let part = shares::part(&self.report, self.known_before);
                self.ctx.store.note_part(shares.run, &shares.taker, &part).await?;
                shares.written(self.ctx, &ids).await?;
            }
            (None, Some(run)) => {
                let lease = now + cluster::lease(self.ctx, RUN_LEASE);
                self.ctx.store.extend_run(run, self.report.counts, lease).await?;
            }
            (None, None) => {}
        }
        Ok(())
    }

    /// A file that was exported once and is looked at twice is one piece of evidence: it confirms nothing a second time.
    fn kind(&self, pending: &Pending) -> LookKind {
        let known = |o: &Observation| {
            o.site.is_some() && pending.state.sites.iter().any(|s| s.site == o.site && s.observed_at >= o.observed_at)
        };
        let again = pending.at < self.began_at && pending.seen.iter().all(known);
        if again { LookKind::Check } else { LookKind::Scan }
    }

    async fn refresh(&self, pending: &mut [Pending]) -> anyhow::Result<()> {
        let ids: Vec<CustomerId> = pending.iter().map(|p| p.state.id.clone()).collect();
        if ids.is_empty() {
            return Ok(());
        }
        for fresh in self.ctx.store.customer_states(&ids).await? {
            if let Some(stale) = pending.iter_mut().find(|p| p.state.id == fresh.id) {
                stale.state = fresh;
            }
        }
        Ok(())
    }
}
