//! What goes in and out of the store: plain data, the same for every database.

use chrono::NaiveDate;

use crate::domain::Timestamp;
use crate::domain::campaign::CampaignId;
use crate::domain::case::{Case, CaseEvent, LookKind};
use crate::domain::customer::Address;
use crate::domain::delivery::{Attempt, DeliveryFacts, DeliveryId, DeliveryState, Held, Recipient};
use crate::domain::observation::{Observation, Verdict};
use crate::domain::site::{CustomerId, SiteName};

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
    /// It is shared out among the nodes: recognises the customers file it was made from.
    pub fleet: Option<String>,
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

/// What decides when a customer's turn in a scan comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanTurn {
    /// Whose.
    pub customer: CustomerId,
    /// When a scan looked at it last; `None`: none ever did.
    pub scanned_at: Option<Timestamp>,
    /// The campaigns in which it has an open case.
    pub open: Vec<CampaignId>,
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
    pub envelope_from: Address,
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
    pub recipients: Vec<Address>,
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

/// The cases of some customers, and where to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CasesPage {
    /// In the order of customer and campaign.
    pub cases: Vec<Case>,
    /// After whom the next page begins; `None`: this was the last.
    pub next: Option<CustomerId>,
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
    /// Of these, the ones that the server refused because of us: they do not count against the mail.
    pub blocked: u32,
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

/// How an attempt ended, see [`Store::record_attempt`](super::Store::record_attempt).
#[derive(Debug, Clone)]
pub struct AttemptEnd {
    /// Of which delivery.
    pub id: DeliveryId,
    /// Who had it.
    pub owner: String,
    /// What was heard.
    pub attempt: Attempt,
    /// What becomes of the delivery.
    pub state: DeliveryState,
    /// What becomes of its recipients.
    pub recipients: Vec<Recipient>,
    /// When.
    pub at: Timestamp,
}

/// An attempt that is to begin, see [`Store::begin_attempt`](super::Store::begin_attempt).
#[derive(Debug, Clone)]
pub struct AttemptStart {
    /// Of which delivery.
    pub id: DeliveryId,
    /// Who has it.
    pub owner: String,
    /// When.
    pub at: Timestamp,
    /// Until when it is believed alive.
    pub lease_until: Timestamp,
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

/// The proof of one mail: what left, when, and what its bytes were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The row, with its recipients and what the servers said of each.
    pub delivery: Delivery,
    /// When its first attempt began.
    pub first_attempt_at: Timestamp,
    /// When its last attempt that ended did so.
    pub answered_at: Option<Timestamp>,
    /// Its Date header.
    pub date: Option<String>,
    /// Its bytes.
    pub length: u64,
    /// Their SHA-256, in hexadecimal.
    pub sha256: String,
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

/// Who may deliver, among those who share one state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lead {
    /// We.
    Taken,
    /// Somebody else: which process and what it is, for people.
    HeldBy(String),
}
