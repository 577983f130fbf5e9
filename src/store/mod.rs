//! What kigen remembers, behind one small trait named by use. No thought of one database above this room.
//!
//! Invariants: every change that belongs together is one transaction; a customer's cases change only together with its
//! `version` (a stale writer is refused and decides again); a delivery row holds the whole message before a byte leaves;
//! `now` is always passed in, the database's own clock is never asked.

pub mod sqlite;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::NaiveDate;

use crate::config::StateUrl;
use crate::domain::Timestamp;
use crate::domain::campaign::CampaignId;
use crate::domain::case::{Case, CaseEvent, LookKind};
use crate::domain::delivery::{Attempt, DeliveryFacts, DeliveryId, DeliveryKey, DeliveryState, Held, Recipient};
use crate::domain::observation::{Observation, Verdict};
use crate::domain::site::{CustomerId, SiteName};

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
    /// A row contradicts itself.
    #[error("the state holds a row that contradicts itself: {0}")]
    Corrupt(String),
}

/// The store's results.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// A run's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub i64);

/// What runs on a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RunKind {
    /// A scan of the fleet.
    Scan,
    /// A notice pass.
    Notices,
    /// The operators' digest.
    Digest,
    /// Reading the bounce mailbox.
    Bounces,
}

impl RunKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Scan, Self::Notices, Self::Digest, Self::Bounces];

    /// The word used in output, in the store and in `[schedule]`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scan => "scan",
            Self::Notices => "notices",
            Self::Digest => "digest",
            Self::Bounces => "bounces",
        }
    }

    /// The kind whose [`as_str`](Self::as_str) this is.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|v| v.as_str() == text)
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunOutcome {
    /// It did all it had to.
    Done,
    /// It was stopped before the end, by a guard, a signal or a crash.
    Interrupted,
    /// It could not do its work.
    Failed,
}

impl RunOutcome {
    /// The word used in output and in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
        }
    }

    /// The outcome whose [`as_str`](Self::as_str) this is.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Done, Self::Interrupted, Self::Failed].into_iter().find(|v| v.as_str() == text)
    }
}

/// One run, past or present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its number.
    pub id: RunId,
    /// What ran.
    pub kind: RunKind,
    /// The schedule's time it stands for; `None` for a run by command.
    pub due_at: Option<Timestamp>,
    /// Who runs it: `host:pid`, for people.
    pub owner: String,
    /// When it began.
    pub started_at: Timestamp,
    /// Until when it is believed alive without a sign of life.
    pub lease_until: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// How it ended.
    pub outcome: Option<RunOutcome>,
    /// What it did, in numbers.
    pub counts: RunCounts,
    /// Why it failed or stopped.
    pub detail: Option<String>,
}

/// A run's numbers; those that do not belong to its kind stay 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunCounts {
    /// Customers looked at.
    pub customers: u64,
    /// Sites observed.
    pub sites: u64,
    /// Of these, unreadable.
    pub unreadable: u64,
    /// Notices queued.
    pub queued: u64,
    /// Notices held.
    pub held: u64,
}

/// What became of the wish to begin a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// It is ours.
    Started(RunId),
    /// This schedule time was run already.
    AlreadyDone,
    /// One of its kind is running.
    Running(Box<Run>),
}

/// A customer of the file, as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub id: CustomerId,
    /// Its name.
    pub name: String,
}

/// What a look or a pass needs to know of a customer before it decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomerState {
    /// Whose.
    pub id: CustomerId,
    /// Must be handed back with the change.
    pub version: i64,
    /// When and with which entry (see `fleet::Member::fingerprint`) its logon was refused last, if the last one was.
    pub refused: Option<Refused>,
    /// Its open and resolved cases, one a campaign.
    pub cases: Vec<Case>,
    /// Its listed sites' newest observations; empty before the first scan that could list them.
    pub sites: Vec<Observation>,
}

/// A refused logon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// When.
    pub at: Timestamp,
    /// The entry's fingerprint then.
    pub fingerprint: String,
}

/// What a look at one customer changes: written as a whole or not at all.
#[derive(Debug, Clone)]
pub struct LookChange {
    /// Whose.
    pub customer: CustomerId,
    /// The version it was decided on.
    pub version: i64,
    /// Whether it counts as a scan: only a scan takes sites that are not listed any more off the list.
    pub kind: LookKind,
    /// What was seen. One observation without a site: no site could be listed, and every listed site becomes unreadable
    /// for that reason (or the customer gets a row without a site, if none is known).
    pub seen: Vec<Observation>,
    /// The refused logon to remember; `None` forgets it.
    pub refused: Option<Refused>,
    /// The cases as they stand now: state, round and sites; `told` is not written.
    pub cases: Vec<Case>,
    /// What happened to them.
    pub events: Vec<(CampaignId, CaseEvent)>,
    /// When.
    pub at: Timestamp,
}

/// A message in the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// With angle brackets.
    pub message_id: String,
    /// The subject, decoded.
    pub subject: String,
    /// MAIL FROM.
    pub envelope_from: crate::domain::customer::Address,
    /// The whole message, CRLF line ends.
    pub raw: Vec<u8>,
    /// The civil day it was rendered for: what it says of days left is true on that day.
    pub rendered_for: NaiveDate,
    /// The age of the evidence it rests on: the oldest look at one of its sites.
    pub evidence_at: Timestamp,
    /// The sites it speaks of.
    pub sites: Vec<SiteName>,
}

/// A delivery to be put into the outbox.
#[derive(Debug, Clone)]
pub struct NewDelivery {
    /// Key, day, deadline, reason.
    pub facts: DeliveryFacts,
    /// `Some`: held, and why.
    pub held: Option<Held>,
    /// The envelope's recipients.
    pub recipients: Vec<crate::domain::customer::Address>,
    /// The whole mail.
    pub message: Message,
    /// Its place in the queue: the smaller, the sooner.
    pub priority: i64,
}

/// What a notice pass changes for one customer: written as a whole or not at all.
#[derive(Debug, Clone)]
pub struct PassChange {
    /// Whose.
    pub customer: CustomerId,
    /// The version it was decided on.
    pub version: i64,
    /// The case as it stands now (a `resolved` notice resolves it); `told` is not written.
    pub case: Case,
    /// What happened to it.
    pub events: Vec<CaseEvent>,
    /// The mail, if one is due.
    pub delivery: Option<NewDelivery>,
    /// When.
    pub at: Timestamp,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// It is durable; with the delivery's number, if there was one.
    Done(Option<DeliveryId>),
    /// Somebody else changed the customer meanwhile: read it again and decide again.
    Stale,
    /// A delivery with this key exists; nothing was changed.
    Duplicate,
}

/// A delivery as the outbox keeps it, without the message's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its number.
    pub id: DeliveryId,
    /// Key, day, deadline, reason.
    pub facts: DeliveryFacts,
    /// Where it stands.
    pub state: DeliveryState,
    /// Why it stands there: a drop's reason, a failure's last reply.
    pub detail: Option<String>,
    /// Who gets it, and what became of each.
    pub recipients: Vec<Recipient>,
    /// Attempts so far, the running one included.
    pub attempts: u32,
    /// Whether an attempt ended unknown.
    pub unknown_before: bool,
    /// With angle brackets.
    pub message_id: String,
    /// The subject, decoded.
    pub subject: String,
    /// The sites it speaks of.
    pub sites: Vec<SiteName>,
    /// The civil day it was rendered for.
    pub rendered_for: NaiveDate,
    /// The oldest look it rests on.
    pub evidence_at: Timestamp,
    /// When it was put into the outbox.
    pub created_at: Timestamp,
    /// When it came to its present state.
    pub state_at: Timestamp,
    /// Who approved it, and when.
    pub approved: Option<(String, Timestamp)>,
}

/// A delivery in a deliverer's hands.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// The row.
    pub delivery: Delivery,
    /// The mail.
    pub message: Message,
}

/// One attempt in the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRow {
    /// Of which delivery.
    pub delivery: DeliveryId,
    /// From 1.
    pub number: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended; `None`: it has not, or its process died.
    pub finished_at: Option<Timestamp>,
    /// The outcome's word.
    pub outcome: Option<String>,
    /// The decisive reply, addresses masked.
    pub reply: Option<String>,
}

/// Why nothing leaves just now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// What tripped: see [`HoldKind`].
    pub kind: HoldKind,
    /// In words.
    pub reason: String,
    /// Who or what set it.
    pub set_by: String,
    /// When.
    pub set_at: Timestamp,
}

/// What holds all customer mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HoldKind {
    /// A person paused it.
    Paused,
    /// `safety.hold_if_newly_affected` tripped.
    NewlyAffected,
    /// The database was restored or copied.
    Restored,
}

impl HoldKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Paused, Self::NewlyAffected, Self::Restored];

    /// The word used in output and in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::NewlyAffected => "newly_affected",
            Self::Restored => "restored",
        }
    }

    /// The kind whose [`as_str`](Self::as_str) this is.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|v| v.as_str() == text)
    }
}

/// A site with its newest observation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteRow {
    /// The customer's name.
    pub customer_name: String,
    /// The newest observation; without a site for a customer none of whose sites was ever listed.
    pub seen: Observation,
    /// Scans in a row in which it could not be read.
    pub unreadable_scans: u32,
}

/// Sites by verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SiteCounts {
    /// See [`Verdict::Affected`].
    pub affected: u64,
    /// See [`Verdict::Switched`].
    pub switched: u64,
    /// See [`Verdict::ConsentMissing`].
    pub consent_missing: u64,
    /// See [`Verdict::NotExchangeOnline`].
    pub not_exchange_online: u64,
    /// See [`Verdict::Unreadable`].
    pub unreadable: u64,
}

impl SiteCounts {
    /// Counts one more.
    pub fn add(&mut self, verdict: Verdict, n: u64) {
        match verdict {
            Verdict::Affected => self.affected += n,
            Verdict::Switched => self.switched += n,
            Verdict::ConsentMissing => self.consent_missing += n,
            Verdict::NotExchangeOnline => self.not_exchange_online += n,
            Verdict::Unreadable(_) => self.unreadable += n,
        }
    }

    /// All sites.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.affected + self.switched + self.consent_missing + self.not_exchange_online + self.unreadable
    }
}

/// One line of a customer's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// When.
    pub at: Timestamp,
    /// Which kind of thing.
    pub what: HistoryKind,
    /// In words, English, addresses masked.
    pub text: String,
}

/// What a history entry tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryKind {
    /// What was seen.
    Seen,
    /// What a look or a pass decided.
    Decided,
    /// What went out, or did not.
    Sent,
    /// What a server answered.
    Answered,
}

impl HistoryKind {
    /// The word used in output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Seen => "seen",
            Self::Decided => "decided",
            Self::Sent => "sent",
            Self::Answered => "answered",
        }
    }
}

/// What a person does with deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutboxAction {
    /// Releases held ones.
    Approve,
    /// Puts failed, unknown or waiting ones back into the queue at once.
    Retry,
    /// Drops held or queued ones: they count as had.
    Cancel,
}

/// What became of one delivery a person acted on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acted {
    /// It moved.
    Done,
    /// There is none with that number.
    Unknown,
    /// It stands where the action makes no sense.
    NotNow(DeliveryState),
}

/// Who acts, and when.
#[derive(Debug, Clone)]
pub struct By {
    /// The person: the system's user name.
    pub who: String,
    /// When.
    pub at: Timestamp,
    /// The civil day of `at`: an approved notice counts as told on that day.
    pub day: NaiveDate,
}

/// Which deliveries to list.
#[derive(Debug, Clone, Default)]
pub struct OutboxFilter {
    /// Only these states' words; empty = all.
    pub states: Vec<String>,
    /// Only this customer's.
    pub customer: Option<CustomerId>,
    /// At most so many, the newest first; `None` = all.
    pub limit: Option<u32>,
}

/// The durable state.
#[async_trait]
pub trait Store: Send + Sync {
    // --- the fleet and what is known of it -------------------------------------------------------------------------

    /// Takes note of the customers file: new and renamed customers; those not in `entries` are marked as gone (their
    /// cases and history stay, but they are in no listing and no count). Idempotent.
    async fn sync_customers(&self, entries: &[Entry], at: Timestamp) -> Result<()>;

    /// The states of these customers, in the order asked; unknown ids are left out.
    async fn customer_states(&self, ids: &[CustomerId]) -> Result<Vec<CustomerState>>;

    /// Writes what looks changed, all in one transaction; each change is checked against its customer's version.
    async fn commit_looks(&self, changes: &[LookChange]) -> Result<Vec<Committed>>;

    /// Every open case, with everything told in it.
    async fn open_cases(&self) -> Result<Vec<Case>>;

    // --- the outbox ------------------------------------------------------------------------------------------------

    /// Writes one customer's decision of a pass: case, events and delivery in one transaction.
    ///
    /// A delivery with the same key that is not dropped makes it [`Committed::Duplicate`].
    async fn commit_pass(&self, change: &PassChange) -> Result<Committed>;

    /// Takes the next queued delivery whose time has come, for `owner`, until `lease_until`. It stays `queued` (nothing
    /// has left yet) but nobody else gets it. While a hold is set only deliveries approved after it was set are given.
    async fn claim(&self, owner: &str, now: Timestamp, lease_until: Timestamp) -> Result<Option<Claimed>>;

    /// Replaces a claimed delivery's message before its first byte leaves (it was rendered on another day, or a site
    /// changed). Refused (`false`) when the claim was lost or a server may already hold a copy.
    async fn replace_message(&self, id: DeliveryId, owner: &str, message: &Message) -> Result<bool>;

    /// Marks a claimed delivery `sending` and opens its attempt: from here on a crash makes it unknown.
    /// `false` when the claim was lost.
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

    /// Gives a claimed delivery back to the queue without an attempt, not before that instant.
    async fn release(
        &self,
        id: DeliveryId,
        owner: &str,
        not_before: Timestamp,
        why: &str,
        now: Timestamp,
    ) -> Result<()>;

    /// Drops a claimed delivery that was overtaken; its key becomes free again. Records a history event.
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

    /// When the next queued, unclaimed delivery's time comes; `None`: the queue is empty.
    async fn next_due(&self) -> Result<Option<Timestamp>>;

    /// When the last attempt began, over all deliveries: the rate limit goes on from there after a restart.
    async fn last_attempt_at(&self) -> Result<Option<Timestamp>>;

    /// Deliveries, the newest first.
    async fn deliveries(&self, filter: &OutboxFilter) -> Result<Vec<Delivery>>;

    /// One delivery with its mail and its attempts.
    async fn delivery(&self, id: DeliveryId) -> Result<Option<(Claimed, Vec<AttemptRow>)>>;

    /// The Message-IDs of this case's earlier notices that were sent, the oldest first: a reminder answers them.
    async fn thread(&self, key: &DeliveryKey) -> Result<Vec<String>>;

    /// Does what a person wants with deliveries, and records who and when.
    async fn act(&self, ids: &[DeliveryId], action: OutboxAction, by: &By) -> Result<Vec<Acted>>;

    /// Deliveries by state, in the order of [`DeliveryState::WORDS`], zeroes included.
    async fn outbox_counts(&self) -> Result<Vec<(&'static str, u64)>>;

    // --- holds -----------------------------------------------------------------------------------------------------

    /// The holds that are set.
    async fn holds(&self) -> Result<Vec<Hold>>;

    /// Sets a hold; one of its kind that is set already stays as it is.
    async fn set_hold(&self, hold: &Hold) -> Result<()>;

    /// Clears every hold and releases what was held for them ([`Held::Hold`]). Returns the holds that were set.
    async fn clear_holds(&self, by: &By) -> Result<Vec<Hold>>;

    // --- runs ------------------------------------------------------------------------------------------------------

    /// Begins a run, unless its schedule time was run to its end already or one of its kind is alive.
    /// A run of the same schedule time that was interrupted is begun again.
    async fn begin_run(
        &self,
        kind: RunKind,
        due_at: Option<Timestamp>,
        owner: &str,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<Begun>;

    /// A sign of life.
    async fn extend_run(&self, id: RunId, counts: RunCounts, lease_until: Timestamp) -> Result<()>;

    /// Ends a run.
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
    /// [`Verdict::as_str`] words, empty = all.
    async fn sites(&self, verdicts: &[String]) -> Result<Vec<SiteRow>>;

    /// The same, counted.
    async fn site_counts(&self) -> Result<SiteCounts>;

    /// Customers in the file.
    async fn customer_count(&self) -> Result<u64>;

    /// What was seen, decided, sent and answered for one customer, oldest first; `None`: never heard of it.
    async fn history(&self, customer: &CustomerId) -> Result<Option<Vec<HistoryEntry>>>;

    // --- itself ----------------------------------------------------------------------------------------------------

    /// A remembered word, such as a schedule's expression.
    async fn memo(&self, key: &str) -> Result<Option<String>>;

    /// Remembers a word.
    async fn set_memo(&self, key: &str, value: &str) -> Result<()>;

    /// A round trip that proves the store can be read and written.
    async fn ping(&self) -> Result<()>;

    /// Writes a consistent copy of the state while it is in use.
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
        StateUrl::Sqlite(_) => Err(StoreError::Corrupt("not written".to_owned())),
        StateUrl::Postgres(_) => Err(StoreError::Open {
            what: "postgres".to_owned(),
            remedy: "this version keeps its state in SQLite only; write state = \"sqlite:kigen.db\"".to_owned(),
            source: None,
        }),
    }
}
