//! A scan that several nodes do together: who begins it, what they tell each other meanwhile, who sums it up.
//!
//! Invariant: whoever finds that no share is left sums up, and the store decides who of them ends the run.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::{Context, RUN_LEASE, cluster};
use super::{Scan, ScanRequest, Scanned, after, hold_if_suspicious, outcome, shares};
use crate::domain::Timestamp;
use crate::store::{Begun, Node, Run, RunId, RunKind, RunOutcome};

/// How long a run that another node has just begun is given until it is shared out.
const SHARED_WAIT: Duration = Duration::from_secs(120);

/// Begins the run, or finds it begun and shared out by another node.
pub(super) async fn begin(
    ctx: &Context,
    request: &ScanRequest,
    shared: bool,
    stop: &CancellationToken,
) -> crate::store::Result<Begun> {
    let asked = Instant::now();
    loop {
        let now = ctx.now();
        let lease = now + cluster::lease(ctx, RUN_LEASE);
        let begun = ctx.store.begin_run(RunKind::Scan, request.due_at, &ctx.owner, now, lease).await?;
        match &begun {
            Begun::Running(run) if shared && run.due_at == request.due_at && run.fleet.is_none() => {}
            _ => return Ok(begun),
        }
        if stop.is_cancelled() || asked.elapsed() > SHARED_WAIT {
            return Ok(begun);
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// Whether this node takes a part in a run that another one began.
pub(super) fn joins(ctx: &Context, request: &ScanRequest, run: &Run) -> bool {
    if run.due_at != request.due_at || run.fleet.is_none() {
        return false;
    }
    let same = run.fleet.as_deref() == Some(shares::fleet(&ctx.snapshot).as_str());
    if !same {
        tracing::warn!("the customers file here is not the one of {}: this node takes no part in the scan", run.owner);
    }
    same
}

impl Scan<'_> {
    /// The guard over all nodes: tells them of our logons, and hears whether the scan must stop.
    pub(super) async fn tell_logons(&mut self, halt: &CancellationToken) -> anyhow::Result<()> {
        let Some(run) = self.shares.as_ref().map(|shares| shares.run) else { return Ok(()) };
        let (accepted, refused) = std::mem::take(&mut self.logons);
        let guard = self.ctx.store.note_logons(run, accepted, refused).await?;
        let tripped = guard.refused_row >= self.snapshot.config.safety.logon_failures.max(1);
        let why = match guard.stopped {
            Some(why) => why,
            None if tripped => {
                let why = self.too_many_refused();
                self.ctx.store.stop_run(run, &why).await?;
                why
            }
            None => return Ok(()),
        };
        if !halt.is_cancelled() {
            tracing::error!("{why}");
            self.report.stopped = Some(why);
            halt.cancel();
        }
        Ok(())
    }

    /// A sign of life to the other nodes: what was seen so far.
    pub(super) async fn sign(&mut self, halt: &CancellationToken) -> anyhow::Result<()> {
        let Some(shares) = &self.shares else { return Ok(()) };
        let (run, taker) = (shares.run, shares.taker.clone());
        self.tell_logons(halt).await?;
        let (ctx, now) = (self.ctx, self.ctx.now());
        ctx.store.note_part(run, &taker, &shares::part(&self.report, self.known_before)).await?;
        let (together, _) = shares::together(ctx, run).await?;
        let lease = now + cluster::lease(ctx, RUN_LEASE);
        ctx.store.adopt_run(run, &ctx.owner, now, lease).await?;
        ctx.store.extend_run(run, together.counts, lease).await?;
        Ok(())
    }

    /// This node has no more to do in a shared-out scan. Whoever finds that nothing is left for anybody sums up, once.
    pub(super) async fn end_of_part(
        mut self,
        run: RunId,
        since: Timestamp,
        lead: bool,
        result: anyhow::Result<()>,
    ) -> anyhow::Result<Scanned> {
        let (ctx, store) = (self.ctx, &self.ctx.store);
        let taker = self.shares.as_ref().map_or(&ctx.owner, |shares| &shares.taker);
        let noted = store.note_part(run, taker, &shares::part(&self.report, self.known_before)).await;
        if result.is_err() || self.report.interrupted {
            store.free_shares(run, &ctx.owner).await?;
            let lease = ctx.snapshot.config.cluster.lease;
            let alive = |node: &Node| node.name != ctx.owner && node.beat_at > ctx.now() - lease;
            if lead && !store.nodes().await?.iter().any(alive) {
                let (outcome, detail) = outcome(&self.report, &result);
                store.finish_run(run, outcome, self.report.counts, detail.as_deref(), ctx.now()).await?;
            }
            result?;
            return Ok(Scanned::Ran(Box::new(self.report)));
        }
        noted?;
        let (mut report, known_before) = shares::together(ctx, run).await?;
        report.newly_affected = store.newly_affected(since).await?;
        report.stopped = store.note_logons(run, false, 0).await?.stopped;
        report.resumed = self.report.resumed;
        // Before it ends: whoever ends it may die right after, and setting a hold twice is harmless.
        hold_if_suspicious(ctx, &report, known_before).await?;
        let ended = store.close_run(run, RunOutcome::Done, report.counts, report.stopped.as_deref(), ctx.now()).await?;
        ctx.metrics.scan_finished(ctx.now() - since, ctx.now(), true);
        if !ended {
            return Ok(Scanned::Helped(Box::new(self.report)));
        }
        self.report = report;
        self.suspect_layout();
        after(ctx, self.request, &self.report, RunOutcome::Done).await;
        Ok(Scanned::Ran(Box::new(self.report)))
    }
}
