//! What kigen remembers, behind one small trait named by use. No thought of one database above this room.
//!
//! Invariants: every change that belongs together is one transaction; a customer's cases change only together with its
//! `version` (a stale writer is refused and decides again); a delivery row holds the whole message before a byte leaves;
//! `now` is always passed in, the database's own clock is never asked. Instants are kept to the millisecond.
//!
//! No future of this room may be dropped half-way (no `timeout`, no `select!` around it): a transaction would be left to
//! chance. Stopping happens between calls.

mod alerts;
mod cluster;
mod contacts;
mod dashboard;
mod listing;
mod moving;
mod postgres;
mod records;
mod sql;
mod sqlite;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use chrono::NaiveDate;

use crate::config::StateUrl;
use crate::domain::Timestamp;
use crate::domain::case::Case;
use crate::domain::delivery::{Attempt, DeliveryId, DeliveryKey, DeliveryState, Recipient};
use crate::domain::site::CustomerId;

pub use alerts::*;
pub use cluster::*;
pub use contacts::*;
pub use dashboard::*;
pub use moving::{Moved, move_state};
pub use records::*;

use postgres::Postgres;
use sql::{Engine, Sql};
use sqlite::Sqlite;

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database could not be opened.
    #[error("cannot open the state in {what}: {remedy}")]
    Open {
        /// The file or server, without credentials.
        what: String,
        /// What to do.
        remedy: String,
        /// Why.
        #[source]
        source: Option<sqlx::Error>,
    },
    /// It was written by a newer kigen.
    #[error(
        "the state in {what} was written by a newer kigen (schema {found}, this one knows {known}); install that version"
    )]
    Newer {
        /// The file or server.
        what: String,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// A statement failed.
    #[error("the store failed to {what}")]
    Query {
        /// The operation.
        what: &'static str,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// A file beside the database could not be used.
    #[error("the store cannot {what} {}", path.display())]
    File {
        /// The operation.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What is asked for is done with another tool.
    #[error("{0}")]
    Elsewhere(&'static str),
    /// A row contradicts itself.
    #[error("the state holds a row that contradicts itself: {0}")]
    Corrupt(String),
    /// A mail's row contradicts itself; the mail was taken out of the queue, and that is written down. The next one can be
    /// asked for.
    #[error("{0}")]
    SetAside(SetAside),
}

/// A mail that cannot be sent because its row contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// Its number.
    pub delivery: DeliveryId,
    /// Whose it is, as the row says.
    pub customer: String,
    /// What is wrong with the row; no address.
    pub why: String,
}

impl fmt::Display for SetAside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "delivery {} of {} was set aside: {}", self.delivery, self.customer, self.why)
    }
}

/// The store's results.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// The durable state.
#[async_trait]
pub trait Store: Operators + Cluster + Send + Sync {
    // --- the fleet and what is known of it -------------------------------------------------------------------------

    /// Takes note of the customers file: new and renamed customers; those not in `entries` are marked as gone (their
    /// cases and history stay, but they are in no listing and no count). Idempotent. `entries` come in the order of their
    /// ids, each once; not all of them are in memory at once. If it fails, the first of them may have been noted.
    async fn sync_customers(&self, entries: &mut (dyn Iterator<Item = Entry> + Send), at: Timestamp) -> Result<()>;

    /// The states of these customers, in the order asked; unknown ids are left out. One consistent picture.
    async fn customer_states(&self, ids: &[CustomerId]) -> Result<Vec<CustomerState>>;

    /// Writes what looks changed, all in one transaction; each change is checked against its customer's version, and a
    /// stale one (or one of a customer that was never synced) leaves the others alone.
    async fn commit_looks(&self, changes: &[LookChange]) -> Result<Vec<Committed>>;

    /// Every open case, with everything told in it.
    async fn open_cases(&self) -> Result<Vec<Case>>;

    /// Every open case, and of the resolved ones those in which something was told on `day`: what a pass on that day must
    /// know to tell no customer twice.
    async fn cases_to_plan(&self, day: NaiveDate) -> Result<Vec<Case>>;

    /// The same, but only of the next `limit` customers after `after`, in the order of their ids. A customer's cases stand in
    /// one page; each page is a picture of its own.
    async fn cases_page(&self, day: NaiveDate, after: Option<&CustomerId>, limit: u32) -> Result<CasesPage>;

    // --- the outbox ------------------------------------------------------------------------------------------------

    /// Writes what a pass decided for several customers in one transaction, and says what became of each, in their order.
    ///
    /// Case, events and delivery of one customer are written together or not at all. One whose customer changed meanwhile
    /// ([`Committed::Stale`]; so is the second one of a customer) and one with a delivery whose key stands there already, not
    /// dropped ([`Committed::Duplicate`]), leave the others alone. So does one that cannot be written, whose error stands in its
    /// place. The case of a delivery is there already.
    ///
    /// If the transaction cannot be begun or committed that is the error of all: what was written is not known then.
    async fn commit_passes(&self, changes: &[PassChange]) -> Result<Vec<Result<Committed>>>;

    /// Takes the next queued deliveries whose time has come, `most` at most and in the order of the queue, for `owner`,
    /// until `lease_until`. They stay `queued` (nothing has left yet) but nobody else gets them, unless the lease runs out.
    /// While a hold is set only deliveries approved after it was set are given.
    ///
    /// One whose row contradicts itself is taken out of the queue, and none is given: [`StoreError::SetAside`].
    async fn claim_several(
        &self,
        owner: &str,
        most: u32,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<Vec<Claimed>>;

    /// The same for one.
    async fn claim(&self, owner: &str, now: Timestamp, lease_until: Timestamp) -> Result<Option<Claimed>> {
        Ok(self.claim_several(owner, 1, now, lease_until).await?.pop())
    }

    /// Replaces a claimed delivery's message before its first byte leaves (it was rendered on another day, or a site
    /// changed). Refused (`false`) when the claim was lost or a server may already hold a copy.
    async fn replace_message(&self, id: DeliveryId, owner: &str, message: &Message) -> Result<bool>;

    /// Marks a claimed delivery `sending` and opens its attempt: from here on a crash makes it unknown.
    /// `false` when the claim was lost; a hold set since then takes it away too, so that a pause works at once.
    async fn begin_attempt(&self, id: DeliveryId, owner: &str, now: Timestamp, lease_until: Timestamp) -> Result<bool>;

    /// Records how the attempt ended: attempt row, recipients, new state, in one transaction. `false` when the claim was
    /// lost (then only the attempt is recorded).
    async fn record_attempt(
        &self,
        id: DeliveryId,
        owner: &str,
        attempt: &Attempt,
        state: &DeliveryState,
        recipients: &[Recipient],
        now: Timestamp,
    ) -> Result<bool>;

    /// Records how one attempt ended, then begins the next one of the same connection, with all that
    /// [`record_attempt`](Self::record_attempt) and [`begin_attempt`](Self::begin_attempt) promise and ask: the next one
    /// begins only if the end of the first is on disk, or comes there with it. What became of each: an error of the second
    /// alone leaves the first recorded; of the first, neither may have been done, or both.
    async fn record_and_begin(&self, end: &AttemptEnd, next: &AttemptStart) -> Result<(bool, Result<bool>)>;

    /// Gives a claimed delivery back to the queue without an attempt, not before that instant.
    async fn release(
        &self,
        id: DeliveryId,
        owner: &str,
        not_before: Timestamp,
        why: &str,
        now: Timestamp,
    ) -> Result<()>;

    /// Drops a claimed delivery that was overtaken; its key becomes free again. Records a history event. If a server may
    /// hold a copy (an earlier attempt ended unknown, or a part of the recipients was accepted) it becomes `unknown` or
    /// `sent` instead, and keeps its key: what may have been read is never called dropped.
    async fn drop_claimed(&self, id: DeliveryId, owner: &str, why: &str, now: Timestamp) -> Result<()>;

    /// Takes over deliveries that are `sending` for somebody whose lease ran out, or (`all`) for anybody but `owner`.
    /// The caller settles them as unknown.
    async fn take_orphans(
        &self,
        owner: &str,
        all: bool,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<Vec<Claimed>>;

    /// Frees what is claimed but not `sending` by anybody but `owner`: nothing had left.
    async fn free_claims(&self, owner: &str) -> Result<u64>;

    /// When the next queued delivery's time comes: its own, or the end of the lease it is claimed under. `None`: nothing
    /// waits, or holds keep back all that does.
    async fn next_due(&self) -> Result<Option<Timestamp>>;

    /// When the last attempt began, over all deliveries: the rate limit goes on from there after a restart.
    async fn last_attempt_at(&self) -> Result<Option<Timestamp>>;

    /// Deliveries, the newest first.
    async fn deliveries(&self, filter: &OutboxFilter) -> Result<Vec<Delivery>>;

    /// One delivery with its mail and its attempts.
    async fn delivery(&self, id: DeliveryId) -> Result<Option<(Claimed, Vec<AttemptRow>)>>;

    /// The Message-IDs of this case's earlier notices that were sent, the oldest first: a reminder answers them.
    async fn thread(&self, key: &DeliveryKey) -> Result<Vec<String>>;

    /// Does what a person wants with deliveries, and records who and when. An empty slice does nothing.
    ///
    /// Approve releases what is held, but not [`Held::Unknown`](crate::domain::delivery::Held::Unknown): to send that once more is a retry. Retry means the
    /// recipients that are not settled, or all if the servers refused all. Cancel leaves nothing to send; what a server may
    /// hold becomes `unknown` or `sent`, as in [`drop_claimed`](Self::drop_claimed). What a deliverer has is left alone.
    async fn act(&self, ids: &[DeliveryId], action: OutboxAction, by: &By) -> Result<Vec<Acted>>;

    /// Deliveries by state, in the order of [`DeliveryState::WORDS`], zeroes included.
    async fn outbox_counts(&self) -> Result<Vec<(&'static str, u64)>>;

    // --- holds -----------------------------------------------------------------------------------------------------

    /// The holds that are set.
    async fn holds(&self) -> Result<Vec<Hold>>;

    /// Sets a hold; one of its kind that is set already stays as it is. Recorded.
    async fn set_hold(&self, hold: &Hold) -> Result<()>;

    /// Clears every hold and releases what was held for them ([`Held::Hold`](crate::domain::delivery::Held::Hold)). Returns the holds that were set.
    async fn clear_holds(&self, by: &By) -> Result<Vec<Hold>>;

    // --- runs ------------------------------------------------------------------------------------------------------

    /// Begins a run, unless its schedule time was run to its end already or one of its kind is alive (unfinished, and its
    /// lease not over). A schedule time whose run was interrupted or failed is begun again, as a run of its own.
    async fn begin_run(
        &self,
        kind: RunKind,
        due_at: Option<Timestamp>,
        owner: &str,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<Begun>;

    /// A sign of life. Nothing happens to a run that was ended meanwhile.
    async fn extend_run(&self, id: RunId, counts: RunCounts, lease_until: Timestamp) -> Result<()>;

    /// Ends a run, once: one that was ended meanwhile stays as it is.
    async fn finish_run(
        &self,
        id: RunId,
        outcome: RunOutcome,
        counts: RunCounts,
        detail: Option<&str>,
        now: Timestamp,
    ) -> Result<()>;

    /// Marks the unfinished runs of daemons before this one as interrupted: their process is gone.
    async fn interrupt_runs(&self, now: Timestamp) -> Result<u64>;

    /// The newest run of a kind; `finished` = only those that ended `done`.
    async fn last_run(&self, kind: RunKind, finished: bool) -> Result<Option<Run>>;

    /// The newest run of a kind that stands for a schedule time and ended `done`: what is due is computed from it.
    async fn last_scheduled(&self, kind: RunKind) -> Result<Option<Run>>;

    /// Runs, the newest first.
    async fn runs(&self, limit: u32) -> Result<Vec<Run>>;

    // --- reading ---------------------------------------------------------------------------------------------------

    /// Listed sites of customers in the file with their newest observation, by customer and name; `verdicts` are
    /// [`Verdict::as_str`](crate::domain::observation::Verdict::as_str) words, empty = all.
    async fn sites(&self, verdicts: &[String]) -> Result<Vec<SiteRow>>;

    /// The same, counted.
    async fn site_counts(&self) -> Result<SiteCounts>;

    /// Customers in the file.
    async fn customer_count(&self) -> Result<u64>;

    /// What was seen, decided, sent and answered for one customer, oldest first; `None`: never heard of it.
    async fn history(&self, customer: &CustomerId) -> Result<Option<Vec<HistoryEntry>>>;

    // --- what came back --------------------------------------------------------------------------------------------

    /// Every contact whose address is dead.
    async fn dead_contacts(&self) -> Result<Vec<DeadContact>>;

    /// The newest delivery with this Message-ID.
    async fn delivery_of_message_id(&self, message_id: &str) -> Result<Option<DeliveryId>>;

    /// A case's deliveries by its reference number, the newest first, a hundred at most.
    async fn deliveries_of_reference(&self, reference: &str) -> Result<Vec<DeliveryId>>;

    /// Writes down what a report means, once: `false` when one with this digest was dealt with already. A contact that dies
    /// makes decisions that rest on it stale.
    async fn record_bounce(&self, digest: &str, class: &str, findings: &[BounceFinding], at: Timestamp)
    -> Result<bool>;

    /// Forgets dead contacts: their addresses are not in the customers file any more.
    async fn forget_contacts(&self, contacts: &[DeadContact]) -> Result<()>;

    /// Dead contacts count as alive again because a person says so; written down in their customers' histories.
    async fn revive_contacts(&self, contacts: &[DeadContact], by: &By) -> Result<()>;

    /// What was sent, or may have been: every delivery with an attempt, the oldest first, with the hash of its bytes;
    /// `customer`: only this one's.
    async fn proofs(&self, customer: Option<&CustomerId>) -> Result<Vec<Proof>>;

    // --- for the dashboard -----------------------------------------------------------------------------------------

    /// One page of customers in the file.
    async fn customer_lines(&self, filter: &CustomerFilter) -> Result<Vec<CustomerLine>>;

    /// One customer with its sites; `None`: never heard of it.
    async fn customer_sheet(&self, id: &CustomerId) -> Result<Option<CustomerSheet>>;

    /// One page of mails, the newest first.
    async fn mail_lines(&self, filter: &MailFilter) -> Result<Vec<MailLine>>;

    /// The sites that are listed now, by the verdict they had right before `at`.
    async fn site_counts_at(&self, at: Timestamp) -> Result<SiteCounts>;

    /// How the number of affected sites moved, oldest first: instants (to the quarter of an hour) and differences.
    async fn affected_moves(&self) -> Result<Vec<(Timestamp, i64)>>;

    /// What waits for a person; sites count once they were unreadable in so many scans in a row.
    async fn concerns(&self, unreadable_after: u32) -> Result<Concerns>;

    /// What people did, the newest first, behind the deed `before`.
    async fn deeds(&self, before: Option<i64>, limit: u32) -> Result<Vec<Deed>>;

    /// Writes into a customer's history who asked for a scan of it.
    async fn note_asked(&self, customer: &CustomerId, by: &By) -> Result<()>;
    // --- itself ----------------------------------------------------------------------------------------------------

    /// A remembered word, such as a schedule's expression.
    async fn memo(&self, key: &str) -> Result<Option<String>>;

    /// Remembers a word.
    async fn set_memo(&self, key: &str, value: &str) -> Result<()>;

    // --- scanning --------------------------------------------------------------------------------------------------

    /// What decides when a customer's turn in a scan comes, by id, from the first id after `after` on, at most `limit`.
    async fn scan_turns(&self, after: Option<&CustomerId>, limit: u32) -> Result<Vec<ScanTurn>>;

    /// Remembers that a scan looked at these customers at that instant, whatever it saw.
    async fn note_scanned(&self, customers: &[&CustomerId], at: Timestamp) -> Result<()>;

    /// When the first run for that schedule time began, `but` not counted: a run that is begun again goes on from there.
    async fn begun_first(&self, kind: RunKind, due_at: Timestamp, but: RunId) -> Result<Option<Timestamp>>;

    /// Forgets observations last seen before that instant, but never a site's newest one, nor any of a customer with an
    /// open case. Returns how many.
    async fn prune_observations(&self, before: Timestamp) -> Result<u64>;

    /// A round trip that proves the store can be read and written.
    async fn ping(&self) -> Result<()>;

    /// Takes the lead over everybody who shares this state: who delivers mail must have it. It is held until the store is
    /// closed or the process ends, however it ends; taking it again is harmless. `who` says what it is, for the others'
    /// messages: `kigen run`.
    async fn take_lead(&self, who: &str, now: Timestamp) -> Result<Lead>;

    /// Writes a consistent copy of the state to a new file while it is in use; never over an existing one.
    async fn backup(&self, to: &Path) -> Result<()>;

    /// Ends all work and closes; what was committed is on disk.
    async fn close(&self);
}

/// Opens the state and brings its schema up to date.
///
/// # Errors
/// [`StoreError::Open`] or [`StoreError::Newer`].
pub async fn open(state: &StateUrl) -> Result<Arc<dyn Store>> {
    match state {
        StateUrl::Sqlite(path) => Ok(Arc::new(Sql::new(Engine::Sqlite(Sqlite::open(path).await?)))),
        StateUrl::Postgres(state) => Ok(Arc::new(Sql::new(Engine::Postgres(Postgres::open(state).await?)))),
    }
}
