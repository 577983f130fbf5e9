//! The state in one SQLite file, shared by the daemon and the commands beside it.
//!
//! Invariants: one connection of this process writes, and every write is one `BEGIN IMMEDIATE` transaction; readers see
//! one consistent picture; statements work on sets, so that their number does not grow with the fleet; all SQL is static.
//!
//! A file a concern: `looks` (what was seen), `cases`, `outbox` and `attempts` (notices and their delivery), `desk` (what a person does
//! with them), `runs`, `reading`, `alerts`, `contacts`, `reports`, `scanning`, `dashboard`; `fence` sees a restored state,
//! `file` opens and copies, `rows` turns rows into domain types.

mod alerts;
mod attempts;
mod cases;
mod contacts;
mod dashboard;
mod desk;
mod events;
mod fence;
mod file;
mod lock;
mod looks;
mod outbox;
mod reading;
mod reports;
mod rows;
mod runs;
mod scanning;

#[cfg(test)]
mod plans;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use chrono::NaiveDate;
use sqlx::{Sqlite as Database, Transaction};

use crate::domain::Timestamp;
use crate::domain::case::Case;
use crate::domain::delivery::{Attempt, DeliveryId, DeliveryKey, DeliveryState, Recipient};
use crate::domain::site::CustomerId;

use super::{
    Acted, AttemptRow, Begun, BounceFinding, By, Claimed, Committed, Concerns, CustomerFilter, CustomerLine,
    CustomerSheet, CustomerState, DeadContact, Deed, Delivery, Entry, HistoryEntry, Hold, Lead, LookChange, MailFilter,
    MailLine, Message, OutboxAction, OutboxFilter, PassChange, Proof, Result, Run, RunCounts, RunId, RunKind,
    RunOutcome, ScanTurn, SiteCounts, SiteRow, Store, StoreError, UntoldLine,
};
use lock::{Lock, Locked};

/// A transaction.
type Tx = Transaction<'static, Database>;

/// The state in one SQLite file.
pub struct Sqlite {
    path: PathBuf,
    pools: file::Pools,
    lead: Mutex<Option<Lock>>,
}

impl Sqlite {
    /// Opens or makes the file and brings its schema up to date. Several processes may have it open.
    ///
    /// # Errors
    /// [`StoreError::Open`] with what to do; [`StoreError::Newer`].
    pub async fn open(path: &Path) -> Result<Self> {
        let pools = file::open(path).await?;
        Ok(Self { path: path.to_owned(), pools, lead: Mutex::new(None) })
    }

    /// Whether we have the lead.
    fn leads(&self) -> bool {
        self.lead.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Begins to write: waits for others to be done, then nobody else writes.
    async fn write(&self, what: &'static str) -> Result<Tx> {
        self.pools.writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed(what))
    }

    /// Begins to read: one picture until it ends.
    async fn read(&self, what: &'static str) -> Result<Tx> {
        self.pools.readers.begin().await.map_err(failed(what))
    }
}

/// The error of a statement that was to do `what`.
fn failed(what: &'static str) -> impl Fn(sqlx::Error) -> StoreError + Copy {
    move |source| StoreError::Query { what, source }
}

#[async_trait]
impl Store for Sqlite {
    async fn sync_customers(&self, entries: &[Entry], at: Timestamp) -> Result<()> {
        looks::sync_customers(self, entries, at).await
    }

    async fn customer_states(&self, ids: &[CustomerId]) -> Result<Vec<CustomerState>> {
        looks::customer_states(self, ids).await
    }

    async fn commit_looks(&self, changes: &[LookChange]) -> Result<Vec<Committed>> {
        looks::commit(self, changes).await
    }

    async fn open_cases(&self) -> Result<Vec<Case>> {
        cases::open(self).await
    }

    async fn cases_to_plan(&self, day: NaiveDate) -> Result<Vec<Case>> {
        reports::cases_to_plan(self, day).await
    }

    async fn commit_pass(&self, change: &PassChange) -> Result<Committed> {
        outbox::commit_pass(self, change).await
    }

    async fn claim(&self, owner: &str, now: Timestamp, lease_until: Timestamp) -> Result<Option<Claimed>> {
        outbox::claim(self, owner, now, lease_until).await
    }

    async fn replace_message(&self, id: DeliveryId, owner: &str, message: &Message) -> Result<bool> {
        outbox::replace_message(self, id, owner, message).await
    }

    async fn begin_attempt(&self, id: DeliveryId, owner: &str, now: Timestamp, lease_until: Timestamp) -> Result<bool> {
        attempts::begin_attempt(self, id, owner, now, lease_until).await
    }

    async fn record_attempt(
        &self,
        id: DeliveryId,
        owner: &str,
        attempt: &Attempt,
        state: &DeliveryState,
        recipients: &[Recipient],
        now: Timestamp,
    ) -> Result<bool> {
        attempts::record_attempt(self, id, owner, attempt, state, recipients, now).await
    }

    async fn release(
        &self,
        id: DeliveryId,
        owner: &str,
        not_before: Timestamp,
        why: &str,
        now: Timestamp,
    ) -> Result<()> {
        outbox::release(self, id, owner, not_before, why, now).await
    }

    async fn drop_claimed(&self, id: DeliveryId, owner: &str, why: &str, now: Timestamp) -> Result<()> {
        outbox::drop_claimed(self, id, owner, why, now).await
    }

    async fn take_orphans(
        &self,
        owner: &str,
        all: bool,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<Vec<Claimed>> {
        attempts::take_orphans(self, owner, all, now, lease_until).await
    }

    async fn free_claims(&self, owner: &str) -> Result<u64> {
        outbox::free_claims(self, owner).await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>> {
        outbox::next_due(self).await
    }

    async fn last_attempt_at(&self) -> Result<Option<Timestamp>> {
        attempts::last_attempt_at(self).await
    }

    async fn deliveries(&self, filter: &OutboxFilter) -> Result<Vec<Delivery>> {
        desk::deliveries(self, filter).await
    }

    async fn delivery(&self, id: DeliveryId) -> Result<Option<(Claimed, Vec<AttemptRow>)>> {
        desk::delivery(self, id).await
    }

    async fn thread(&self, key: &DeliveryKey) -> Result<Vec<String>> {
        outbox::thread(self, key).await
    }

    async fn act(&self, ids: &[DeliveryId], action: OutboxAction, by: &By) -> Result<Vec<Acted>> {
        desk::act(self, ids, action, by).await
    }

    async fn outbox_counts(&self) -> Result<Vec<(&'static str, u64)>> {
        desk::outbox_counts(self).await
    }

    async fn holds(&self) -> Result<Vec<Hold>> {
        desk::holds(self).await
    }

    async fn set_hold(&self, hold: &Hold) -> Result<()> {
        desk::set_hold(self, hold).await
    }

    async fn clear_holds(&self, by: &By) -> Result<Vec<Hold>> {
        desk::clear_holds(self, by).await
    }

    async fn begin_run(
        &self,
        kind: RunKind,
        due_at: Option<Timestamp>,
        owner: &str,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<Begun> {
        let begun = runs::begin(self, kind, due_at, owner, now, lease_until).await?;
        if self.leads() && matches!(begun, Begun::Started(_)) {
            fence::advance(self).await?;
        }
        Ok(begun)
    }

    async fn extend_run(&self, id: RunId, counts: RunCounts, lease_until: Timestamp) -> Result<()> {
        runs::extend(self, id, counts, lease_until).await
    }

    async fn finish_run(
        &self,
        id: RunId,
        outcome: RunOutcome,
        counts: RunCounts,
        detail: Option<&str>,
        now: Timestamp,
    ) -> Result<()> {
        runs::finish(self, id, outcome, counts, detail, now).await
    }

    async fn interrupt_runs(&self, now: Timestamp) -> Result<u64> {
        runs::interrupt(self, now).await
    }

    async fn last_run(&self, kind: RunKind, finished: bool) -> Result<Option<Run>> {
        runs::last(self, kind, finished).await
    }

    async fn last_scheduled(&self, kind: RunKind) -> Result<Option<Run>> {
        runs::last_scheduled(self, kind).await
    }

    async fn runs(&self, limit: u32) -> Result<Vec<Run>> {
        runs::list(self, limit).await
    }

    async fn sites(&self, verdicts: &[String]) -> Result<Vec<SiteRow>> {
        reading::sites(self, verdicts).await
    }

    async fn site_counts(&self) -> Result<SiteCounts> {
        reading::site_counts(self).await
    }

    async fn customer_count(&self) -> Result<u64> {
        reading::customer_count(self).await
    }

    async fn history(&self, customer: &CustomerId) -> Result<Option<Vec<HistoryEntry>>> {
        reading::history(self, customer).await
    }

    async fn dead_contacts(&self) -> Result<Vec<DeadContact>> {
        contacts::dead(self).await
    }

    async fn delivery_of_message_id(&self, message_id: &str) -> Result<Option<DeliveryId>> {
        contacts::of_message_id(self, message_id).await
    }

    async fn deliveries_of_reference(&self, reference: &str) -> Result<Vec<DeliveryId>> {
        contacts::of_reference(self, reference).await
    }

    async fn record_bounce(
        &self,
        digest: &str,
        class: &str,
        findings: &[BounceFinding],
        at: Timestamp,
    ) -> Result<bool> {
        contacts::record(self, digest, class, findings, at).await
    }

    async fn forget_contacts(&self, dead: &[DeadContact]) -> Result<()> {
        contacts::forget(self, dead).await
    }

    async fn proofs(&self, customer: Option<&CustomerId>) -> Result<Vec<Proof>> {
        reports::proofs(self, customer).await
    }

    async fn customer_lines(&self, filter: &CustomerFilter) -> Result<Vec<CustomerLine>> {
        dashboard::customers(self, filter).await
    }

    async fn customer_sheet(&self, id: &CustomerId) -> Result<Option<CustomerSheet>> {
        dashboard::customer(self, id).await
    }

    async fn mail_lines(&self, filter: &MailFilter) -> Result<Vec<MailLine>> {
        dashboard::mails(self, filter).await
    }

    async fn site_counts_at(&self, at: Timestamp) -> Result<SiteCounts> {
        dashboard::counts_at(self, at).await
    }

    async fn affected_moves(&self) -> Result<Vec<(Timestamp, i64)>> {
        dashboard::affected_moves(self).await
    }

    async fn concerns(&self, unreadable_after: u32) -> Result<Concerns> {
        dashboard::concerns(self, unreadable_after).await
    }

    async fn untold(&self, limit: u32) -> Result<Vec<UntoldLine>> {
        dashboard::untold(self, limit).await
    }

    async fn deeds(&self, before: Option<i64>, limit: u32) -> Result<Vec<Deed>> {
        dashboard::deeds(self, before, limit).await
    }

    async fn note_asked(&self, customer: &CustomerId, by: &By) -> Result<()> {
        dashboard::note_asked(self, customer, by).await
    }

    async fn memo(&self, key: &str) -> Result<Option<String>> {
        runs::memo(self, key).await
    }

    async fn set_memo(&self, key: &str, value: &str) -> Result<()> {
        runs::set_memo(self, key, value).await
    }

    async fn scan_turns(&self, after: Option<&CustomerId>, limit: u32) -> Result<Vec<ScanTurn>> {
        scanning::turns(self, after, limit).await
    }

    async fn note_scanned(&self, customers: &[&CustomerId], at: Timestamp) -> Result<()> {
        scanning::scanned(self, customers, at).await
    }

    async fn begun_first(&self, kind: RunKind, due_at: Timestamp, but: RunId) -> Result<Option<Timestamp>> {
        scanning::begun_first(self, kind, due_at, but).await
    }

    async fn prune_observations(&self, before: Timestamp) -> Result<u64> {
        scanning::prune(self, before).await
    }

    async fn ping(&self) -> Result<()> {
        runs::ping(self).await
    }

    async fn take_lead(&self, who: &str, now: Timestamp) -> Result<Lead> {
        if self.leads() {
            return Ok(Lead::Taken);
        }
        match Lock::take(&self.path, who, now)? {
            Locked::Ours(lock) => {
                fence::check(self, now).await?;
                *self.lead.lock().unwrap_or_else(PoisonError::into_inner) = Some(lock);
                Ok(Lead::Taken)
            }
            Locked::Theirs(who) => Ok(Lead::HeldBy(who)),
        }
    }

    async fn backup(&self, to: &Path) -> Result<()> {
        file::backup(&self.pools, to).await?;
        // What happens from here on the copy does not know.
        fence::advance(self).await
    }

    async fn close(&self) {
        if self.leads()
            && let Err(e) = fence::advance(self).await
        {
            tracing::debug!(error = %e, "the state was closed without a mark");
        }
        file::close(&self.pools).await;
        drop(self.lead.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
