//! The statements and rows of the state, written once for SQLite and PostgreSQL.
//!
//! Invariants: whoever writes does so in [`Sql::write`], where nobody else writes, or in [`Sql::write_beside`], where only
//! others of its like do; readers see one consistent picture; statements work on sets, so that their number does not grow
//! with the fleet; all SQL is static, and what the two databases read otherwise stands in `dialect`.
//!
//! **Why several writers are right on PostgreSQL** (READ COMMITTED; on SQLite there is one writer). `write` takes the
//! state's advisory lock for itself, so that reading, deciding and writing in it is as on SQLite: nobody else is in a writing
//! transaction, and each statement sees all that others committed. `write_beside` takes it shared, for the few that are
//! frequent, and each of these is right beside all the others:
//!
//! - looks, passes, `scanned` and drops lock their customers' rows first, in the order of ids ([`lock_customers`]), and
//!   check the version under that lock; sites, observations, cases and new deliveries belong to one customer, so that the
//!   lock covers them. Locks are `FOR NO KEY UPDATE`: the history's reference to a customer does not wait for them.
//! - claims take one row that nobody has locked (`SKIP LOCKED`); every later step of a delivery changes that one row under
//!   the condition that it is still ours (`owner`, state, lease), and asks for the holds in the same statement; holds are set
//!   in `write`, never beside it.
//! - runs live and end by one statement on their own row, under the condition that they have not ended.
//!
//! Customers are locked before deliveries, deliveries before anything that hangs on them: no two can wait for each other.
//!
//! A file a concern: `looks` (what was seen), `cases`, `passes`, `outbox` and `attempts` (notices and their delivery), `desk` (what a person does
//! with them), `runs`, `reading`, `alerts`, `contacts`, `reports`, `scanning`, `dashboard`; `rows` turns rows into domain types,
//! `db` asks either database; `writer`, `sets` and `states` let deliverers share commits and reads; `flights` is what must be on
//! disk between two mails of a connection.

mod alerts;
mod attempts;
mod cases;
mod cluster;
mod contacts;
mod dashboard;
pub(super) mod db;
pub(super) mod desk;
mod dialect;
pub(super) mod events;
pub(super) mod flights;
mod looks;
mod outbox;
mod passes;
mod reading;
mod reports;
pub(super) mod rows;
mod runs;
mod scanning;
mod sets;
mod states;
mod text;
mod writer;

#[cfg(test)]
pub(super) mod plans;

use std::path::Path;

use async_trait::async_trait;
use chrono::NaiveDate;

use crate::domain::Timestamp;
use crate::domain::case::Case;
use crate::domain::delivery::{Attempt, DeliveryId, DeliveryKey, DeliveryState, Recipient};
use crate::domain::site::CustomerId;

use super::postgres::Postgres;
use super::sqlite::Sqlite;
use super::{
    Acted, AttemptEnd, AttemptRow, AttemptStart, Begun, BounceFinding, By, CasesPage, Claimed, Committed, Concerns,
    CustomerFilter, CustomerLine, CustomerSheet, CustomerState, DeadContact, Deed, Delivery, Entry, HistoryEntry, Hold,
    Lead, LookChange, MailFilter, MailLine, Message, OutboxAction, OutboxFilter, PassChange, Proof, Result, Run,
    RunCounts, RunId, RunKind, RunOutcome, ScanTurn, SiteCounts, SiteRow, Store, StoreError,
};
pub(super) use db::{Readers, Tx};
pub(super) use dialect::storable;
use outbox::Claim;
use states::States;
use writer::{Answer, Writer};

/// The database that keeps the state.
pub(super) enum Engine {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

/// The state in one of the two databases.
pub(super) struct Sql {
    /// Before the engine: it has a handle of the writer's, which is closed before the readers.
    writer: Option<Writer>,
    states: States,
    engine: Engine,
    readers: Readers,
}

impl Sql {
    pub(super) fn new(engine: Engine) -> Self {
        let (readers, writer) = match &engine {
            Engine::Sqlite(engine) => (engine.readers(), Some(Writer::new(engine.writer()))),
            Engine::Postgres(engine) => (engine.readers(), None),
        };
        Self { writer, states: States::default(), engine, readers }
    }

    /// Begins to write: waits for others to be done, then nobody else writes.
    async fn write(&self, what: &'static str) -> Result<Tx> {
        match &self.engine {
            Engine::Sqlite(engine) => flights::begin_landed(&engine.writer(), what).await,
            Engine::Postgres(engine) => engine.write(what).await,
        }
    }

    /// Begins to write beside others that do the same; the module's page says who may, and why.
    async fn write_beside(&self, what: &'static str) -> Result<Tx> {
        match &self.engine {
            Engine::Sqlite(engine) => flights::begin_landed(&engine.writer(), what).await,
            Engine::Postgres(engine) => engine.write_beside(what).await,
        }
    }

    /// The same for the frequent ones that leave alone what a deliverer has: mails on the wire need not land for them.
    async fn write_beside_mail(&self, what: &'static str) -> Result<Tx> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.write(what).await,
            Engine::Postgres(engine) => engine.write_beside(what).await,
        }
    }

    /// What this process sent shows wherever it is read.
    async fn settle(&self) {
        if let Some(writer) = &self.writer {
            writer.settle().await;
        }
    }

    /// Begins to read: one picture until it ends.
    async fn read(&self, what: &'static str) -> Result<Tx> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.read(what).await,
            Engine::Postgres(engine) => engine.read(what).await,
        }
    }

    /// Writes one statement, see [`write`](Self::write).
    async fn change(&self, what: &'static str, query: db::Query<'_>) -> Result<u64> {
        done(self.write(what).await?, what, query).await
    }

    /// Writes one statement, see [`write_beside`](Self::write_beside).
    async fn change_beside(&self, what: &'static str, query: db::Query<'_>) -> Result<u64> {
        done(self.write_beside(what).await?, what, query).await
    }

    /// Whether others may work on this state for long besides us: other nodes, each with leases of its own.
    fn shared(&self) -> bool {
        matches!(self.engine, Engine::Postgres(_))
    }
}

async fn done(mut tx: Tx, what: &'static str, query: db::Query<'_>) -> Result<u64> {
    let done = query.execute(&mut tx).await.map_err(failed(what))?;
    tx.commit().await.map_err(failed(what))?;
    Ok(done.rows_affected())
}

pub(super) const LOCK_CUSTOMERS: &str = "SELECT id FROM customers \
     WHERE id IN (SELECT value FROM json_each(?1)) ORDER BY id /*postgres: FOR NO KEY UPDATE*/";

/// What belongs to these customers is ours until the transaction ends; `ids` is a JSON list. Where one writes it is anyway.
async fn lock_customers(tx: &mut Tx, ids: &str, what: &'static str) -> Result<()> {
    if let Tx::Postgres(_) = tx {
        let _: Vec<String> =
            db::query_scalar(LOCK_CUSTOMERS).bind(ids).fetch_all(&mut *tx).await.map_err(failed(what))?;
    }
    Ok(())
}

/// The error of a statement that was to do `what`.
pub(super) fn failed(what: &'static str) -> impl Fn(sqlx::Error) -> StoreError + Copy {
    move |source| StoreError::Query { what, source }
}

#[async_trait]
impl Store for Sql {
    async fn sync_customers(&self, entries: &mut (dyn Iterator<Item = Entry> + Send), at: Timestamp) -> Result<()> {
        looks::sync_customers(self, entries, at).await
    }

    async fn customer_states(&self, ids: &[CustomerId]) -> Result<Vec<CustomerState>> {
        match ids {
            [id] => states::one(self, id).await,
            _ => looks::customer_states(self, ids).await,
        }
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

    async fn cases_page(&self, day: NaiveDate, after: Option<&CustomerId>, limit: u32) -> Result<CasesPage> {
        reports::cases_page(self, day, after, limit).await
    }

    async fn commit_passes(&self, changes: &[PassChange]) -> Result<Vec<Result<Committed>>> {
        passes::commit(self, changes).await
    }

    async fn claim_several(
        &self,
        owner: &str,
        most: u32,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<Vec<Claimed>> {
        let asked = Claim { owner: owner.to_owned(), most, now, lease_until };
        if let Some(writer) = &self.writer
            && let Answer::Done(claimed) = writer.claim(asked.clone()).await?
        {
            return Ok(claimed);
        }
        outbox::claim(self, &asked).await
    }

    async fn replace_message(&self, id: DeliveryId, owner: &str, message: &Message) -> Result<bool> {
        outbox::replace_message(self, id, owner, message).await
    }

    async fn begin_attempt(&self, id: DeliveryId, owner: &str, now: Timestamp, lease_until: Timestamp) -> Result<bool> {
        let start = AttemptStart { id, owner: owner.to_owned(), at: now, lease_until };
        if let Some(writer) = &self.writer
            && let Answer::Done(begun) = writer.begin(start.clone()).await?
        {
            return Ok(begun);
        }
        attempts::begin_attempt(self, &start).await
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
        let end = AttemptEnd {
            id,
            owner: owner.to_owned(),
            attempt: attempt.clone(),
            state: state.clone(),
            recipients: recipients.to_vec(),
            at: now,
        };
        if let Some(writer) = &self.writer
            && let Answer::Done(kept) = writer.record(end.clone()).await?
        {
            return Ok(kept);
        }
        attempts::record_attempt(self, &end).await
    }

    async fn record_and_begin(&self, end: &AttemptEnd, next: &AttemptStart) -> Result<(bool, Result<bool>)> {
        if let Some(writer) = &self.writer
            && end.id != next.id
            && let Answer::Done((kept, begun)) = writer.record_and_begin(end.clone(), next.clone()).await?
        {
            return Ok((kept, Ok(begun)));
        }
        // Two transactions, in this order. (On PostgreSQL one that has two deliveries locked and a node's sign of life,
        // which moves the leases of all, could wait for each other.)
        let kept = attempts::record_attempt(self, end).await?;
        Ok((kept, attempts::begin_attempt(self, next).await))
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
        attempts::take_orphans(self, owner, all && !self.shared(), now, lease_until).await
    }

    async fn free_claims(&self, owner: &str) -> Result<u64> {
        // Beside other nodes they may be alive; a claim whose lease ran out is free anyway.
        if self.shared() { Ok(0) } else { outbox::free_claims(self, owner).await }
    }

    async fn next_due(&self) -> Result<Option<Timestamp>> {
        outbox::next_due(self).await
    }

    async fn last_attempt_at(&self) -> Result<Option<Timestamp>> {
        attempts::last_attempt_at(self).await
    }

    async fn deliveries(&self, filter: &OutboxFilter) -> Result<Vec<Delivery>> {
        self.settle().await;
        desk::deliveries(self, filter).await
    }

    async fn delivery(&self, id: DeliveryId) -> Result<Option<(Claimed, Vec<AttemptRow>)>> {
        self.settle().await;
        desk::delivery(self, id).await
    }

    async fn thread(&self, key: &DeliveryKey) -> Result<Vec<String>> {
        outbox::thread(self, key).await
    }

    async fn act(&self, ids: &[DeliveryId], action: OutboxAction, by: &By) -> Result<Vec<Acted>> {
        desk::act(self, ids, action, by).await
    }

    async fn outbox_counts(&self) -> Result<Vec<(&'static str, u64)>> {
        self.settle().await;
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
        if matches!(begun, Begun::Started(_)) {
            match &self.engine {
                Engine::Sqlite(engine) => engine.run_began().await?,
                Engine::Postgres(engine) => engine.run_began(now).await?,
            }
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
        runs::finish(self, id, outcome, counts, detail, now).await.map(|_| ())
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

    async fn revive_contacts(&self, dead: &[DeadContact], by: &By) -> Result<()> {
        contacts::revive(self, dead, by).await
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
        match &self.engine {
            Engine::Sqlite(engine) => engine.take_lead(who, now).await,
            Engine::Postgres(engine) => engine.take_lead(now).await,
        }
    }

    async fn backup(&self, to: &Path) -> Result<()> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.backup(to).await,
            Engine::Postgres(_) => Err(StoreError::Elsewhere(
                "the state is in PostgreSQL: use pg_dump, or the server's own backup; kigen sees at its next start that \
                 such a copy was restored, and holds",
            )),
        }
    }

    async fn close(&self) {
        if let Some(writer) = &self.writer {
            writer.finish().await;
        }
        match &self.engine {
            Engine::Sqlite(engine) => engine.close().await,
            Engine::Postgres(engine) => engine.close().await,
        }
    }
}
