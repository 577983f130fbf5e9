//! What the store remembers for the operators: alerts, the mails to them, and the fleet's numbers day by day.
//!
//! Invariants: what was raised is told once, in a mail that is queued in the same transaction; a mail to the operators is
//! kept back by nothing but its own `not_before`; none of this touches a customer, a case or a delivery.

use async_trait::async_trait;
use chrono::NaiveDate;

use super::{Message, Result, SiteCounts};
use crate::domain::Timestamp;
use crate::domain::alert::Cause;
use crate::domain::campaign::{CampaignId, Standing};
use crate::domain::case::Reference;
use crate::domain::customer::Address;
use crate::domain::delivery::{Attempt, DeliveryState, Recipient};
use crate::domain::site::CustomerId;

/// Something to tell the operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAlert {
    /// Why.
    pub cause: Cause,
    /// What of this cause it is about: the same key again is one more of it.
    pub key: String,
    /// Id and name of the customer it is about.
    pub customer: Option<(String, String)>,
    /// One line: no address, no secret, nothing of a page.
    pub detail: String,
}

/// What is not told yet of one cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertGroup {
    /// The cause.
    pub cause: Cause,
    /// How many things.
    pub count: u64,
    /// How often in all.
    pub times: u64,
    /// When the first was raised.
    pub first_at: Timestamp,
    /// The newest one's number: later ones are not in this group.
    pub upto: i64,
    /// When this cause was told last.
    pub last_told: Option<Timestamp>,
}

/// One alert as it was raised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertRow {
    /// Id and name of the customer it is about.
    pub customer: Option<(String, String)>,
    /// One line.
    pub detail: String,
    /// How often.
    pub times: u64,
    /// It ended before it was told.
    pub over: bool,
}

/// Which mail to the operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperatorMailKind {
    /// An alert.
    Alert,
    /// The morning's digest.
    Digest,
}

impl OperatorMailKind {
    /// The word in the store and in output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::Digest => "digest",
        }
    }

    /// The kind whose [`as_str`](Self::as_str) this is.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Alert, Self::Digest].into_iter().find(|v| v.as_str() == text)
    }
}

/// A mail to the operators, whole.
#[derive(Debug, Clone)]
pub struct NewOperatorMail {
    /// Unique: the same one is not queued twice.
    pub key: String,
    /// Which.
    pub kind: OperatorMailKind,
    /// The operators; never empty.
    pub to: Vec<Address>,
    /// With angle brackets.
    pub message_id: String,
    /// The subject, decoded.
    pub subject: String,
    /// MAIL FROM.
    pub envelope_from: Address,
    /// The whole message, CRLF line ends.
    pub raw: Vec<u8>,
}

/// A mail to the operators in the queue, without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorMail {
    /// Its number.
    pub id: i64,
    /// Which.
    pub kind: OperatorMailKind,
    /// Where it stands; never held, never dropped.
    pub state: DeliveryState,
    /// The last reply, where it was not taken.
    pub detail: Option<String>,
    /// Who gets it.
    pub recipients: Vec<Recipient>,
    /// Attempts so far, the running one included.
    pub attempts: u32,
    /// Of these, the ones that the server refused because of us.
    pub blocked: u32,
    /// Whether an attempt ended unknown.
    pub unknown_before: bool,
    /// The subject.
    pub subject: String,
    /// When it was queued.
    pub created_at: Timestamp,
    /// When it came to its present state.
    pub state_at: Timestamp,
}

/// A mail to the operators that is being sent.
#[derive(Debug, Clone)]
pub struct SendingOperatorMail {
    /// The row.
    pub mail: OperatorMail,
    /// MAIL FROM.
    pub envelope_from: Address,
    /// The bytes.
    pub raw: Vec<u8>,
}

/// A customer with something to do whom no mail about it has reached in this round: of no mail there is a recipient whose
/// server took it and has not sent it back since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untold {
    /// Whom.
    pub customer: CustomerId,
    /// Its name.
    pub name: String,
    /// In which campaign.
    pub campaign: CampaignId,
    /// The case's number.
    pub reference: Reference,
    /// What it has to do: affected, or (if no site is) consent missing.
    pub standing: Standing,
    /// The newest delivery about it in the round, as a word of [`DeliveryState`]; `None`: there is none.
    pub delivery: Option<String>,
    /// Why that delivery stands so.
    pub detail: Option<String>,
}

/// The fleet after the last scan of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day {
    /// The civil day.
    pub day: NaiveDate,
    /// Sites by verdict.
    pub sites: SiteCounts,
}

/// A case's or a mail's event, for the digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happened {
    /// The event's word: `opened`, `reopened`, `resolved`, `sent`, `failed`, `unknown`.
    pub word: String,
    /// How many.
    pub count: u64,
    /// The first few customers, id and name.
    pub customers: Vec<(String, String)>,
}

/// The part of the store that is for the operators.
#[async_trait]
pub trait Operators: Send + Sync {
    /// Notes what the operators are to be told. What stands there already is counted, not repeated.
    async fn raise(&self, alerts: &[NewAlert], at: Timestamp) -> Result<()>;

    /// Ends what lasts of a cause, but for these keys.
    async fn over(&self, cause: Cause, still: &[String], at: Timestamp) -> Result<()>;

    /// What is not told yet, by cause.
    async fn untold_alerts(&self) -> Result<Vec<AlertGroup>>;

    /// The first alerts of a group.
    async fn alerts_of(&self, group: &AlertGroup, limit: u32) -> Result<Vec<AlertRow>>;

    /// Marks a group as told and queues its mail (if there is anybody to mail to), in one transaction. `false`: somebody
    /// else told it meanwhile, and nothing was queued.
    async fn tell(&self, group: &AlertGroup, mail: Option<&NewOperatorMail>, at: Timestamp) -> Result<bool>;

    /// Queues a mail to the operators; `false`: one with this key stands there.
    async fn queue_operator_mail(&self, mail: &NewOperatorMail, at: Timestamp) -> Result<bool>;

    /// Takes the next mail to the operators and marks it `sending`. One whose sender's lease ran out is taken again as
    /// unheard: an alert twice is better than none.
    async fn claim_operator_mail(
        &self,
        owner: &str,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<Option<SendingOperatorMail>>;

    /// Records how the attempt ended.
    async fn record_operator_mail(
        &self,
        id: i64,
        owner: &str,
        attempt: &Attempt,
        state: &DeliveryState,
        recipients: &[Recipient],
        now: Timestamp,
    ) -> Result<()>;

    /// Puts what dead processes were sending back into the queue, as unheard.
    async fn free_operator_mails(&self, owner: &str, now: Timestamp) -> Result<u64>;

    /// Mails to the operators, the newest first.
    async fn operator_mails(&self, limit: u32) -> Result<Vec<OperatorMail>>;

    /// The same, counted by state: those that were ever queued.
    async fn operator_mail_counts(&self) -> Result<Vec<(String, u64)>>;

    /// Customers of open cases whom no mail of the round has reached, by id: see [`Untold`].
    async fn untold_customers(&self) -> Result<Vec<Untold>>;

    /// How many open cases there are, and how many of them are of customers who left the customers file after that instant.
    /// Who left it earlier counts in neither.
    async fn left_open(&self, after: Timestamp) -> Result<(u64, u64)>;

    /// Remembers the fleet's numbers for a day; later ones of the same day win.
    async fn note_day(&self, day: &Day) -> Result<()>;

    /// The newest days, the oldest of them first.
    async fn days(&self, limit: u32) -> Result<Vec<Day>>;

    /// What happened to cases and mails after that instant, by word, with at most `listed` customers each.
    async fn happened_since(&self, after: Timestamp, listed: u32) -> Result<Vec<Happened>>;
}

impl NewOperatorMail {
    /// The parts of a message that was composed.
    #[must_use]
    pub fn new(key: String, kind: OperatorMailKind, to: Vec<Address>, message: Message) -> Self {
        let Message { message_id, subject, envelope_from, raw, .. } = message;
        Self { key, kind, to, message_id, subject, envelope_from, raw }
    }
}
