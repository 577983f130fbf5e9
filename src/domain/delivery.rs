//! One mail, from planned to settled: its states, and what an outcome makes of it.

use std::fmt;

use chrono::{NaiveDate, TimeDelta};

use super::Timestamp;
use super::campaign::CampaignId;
use super::customer::Address;
use super::plan::NoticeKind;
use super::site::CustomerId;

/// A delivery's number in the outbox, given by the store, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId(pub i64);

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What makes a notice unique: the store refuses a second one with the same key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryKey {
    /// Whose case.
    pub customer: CustomerId,
    /// In which campaign.
    pub campaign: CampaignId,
    /// In which round.
    pub round: u32,
    /// Which kind.
    pub kind: NoticeKind,
    /// See [`super::plan::Due::occasion`].
    pub occasion: String,
}

impl fmt::Display for DeliveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}/{}", self.campaign, self.customer, self.round, self.kind, self.occasion)
    }
}

/// Why a delivery is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Held {
    /// `mode = "review"`: a person approves each mail.
    Review,
    /// More first notices in one pass than `safety.max_new_notices`.
    Cap,
    /// A hold was active when it was planned; `resume` releases it.
    Hold,
    /// Its acceptance is unknown and `mail.unknown = "hold"`.
    Unknown,
}

impl Held {
    /// Every reason.
    pub const ALL: [Self; 4] = [Self::Review, Self::Cap, Self::Hold, Self::Unknown];

    /// The word used in output and in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Review => "review",
            Self::Cap => "cap",
            Self::Hold => "hold",
            Self::Unknown => "unknown",
        }
    }

    /// The reason whose [`as_str`](Self::as_str) this is.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|v| v.as_str() == text)
    }
}

/// Where a delivery stands. `Sent`, `Failed`, `Dropped` are final; `Unknown` is too, unless a person retries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryState {
    /// Kept back until a person approves it.
    Held(Held),
    /// Waits for its turn, not before that instant.
    Queued {
        /// Retries wait.
        not_before: Timestamp,
    },
    /// A deliverer has it.
    Sending,
    /// Every recipient's server took it, or some did and the others refused for good.
    Sent,
    /// The message went out whole, the answer was never heard.
    Unknown,
    /// Refused for good, or given up; an operator must look.
    Failed,
    /// Overtaken or cancelled before its turn came.
    Dropped,
}

impl DeliveryState {
    /// The words, in the order of reports.
    pub const WORDS: [&'static str; 7] = ["held", "queued", "sending", "sent", "unknown", "failed", "dropped"];

    /// The word used in output and in the store.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Held(_) => "held",
            Self::Queued { .. } => "queued",
            Self::Sending => "sending",
            Self::Sent => "sent",
            Self::Unknown => "unknown",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
        }
    }
}

/// What became of one recipient so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecipientState {
    /// Not taken yet.
    Pending,
    /// The server took the mail for it.
    Accepted,
    /// The server refused it for good.
    Rejected,
}

impl RecipientState {
    /// The word used in output and in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
        }
    }

    /// The state whose [`as_str`](Self::as_str) this is.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Accepted, Self::Rejected].into_iter().find(|v| v.as_str() == text)
    }
}

/// A recipient of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// Its address.
    pub address: Address,
    /// What became of it.
    pub state: RecipientState,
    /// The server's last words for it, addresses masked.
    pub reply: Option<String>,
}

/// How one attempt ended, for the mail as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The server answered 250 to the end of the message; `recipients` of the attempt say for whom.
    Accepted,
    /// Not taken, and trying again can help.
    Deferred,
    /// Refused for good: trying again cannot help.
    Rejected,
    /// The message went out whole and the answer was never heard: it may or may not have arrived.
    Unknown,
    /// The server refuses *us* (account, quota, authentication): nothing can leave, the queue waits.
    Blocked,
}

impl Outcome {
    /// The word used in output and in the store.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Deferred => "deferred",
            Self::Rejected => "rejected",
            Self::Unknown => "unknown",
            Self::Blocked => "blocked",
        }
    }

    /// Whether such an attempt counts against [`RetryPolicy::attempts_max`]: a server that refuses *us* says nothing of
    /// this mail, and a weekend of it must not use up the mail's tries.
    #[must_use]
    pub fn counts(&self) -> bool {
        match self {
            Self::Accepted | Self::Deferred | Self::Rejected | Self::Unknown => true,
            Self::Blocked => false,
        }
    }
}

/// One attempt to deliver: what the transport reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// For the mail as a whole.
    pub outcome: Outcome,
    /// The decisive reply or error, one line, addresses masked.
    pub reply: String,
    /// What the server said of single recipients, where it said something.
    pub recipients: Vec<(Address, RecipientState, String)>,
}

impl Attempt {
    /// An attempt that ended before any recipient was spoken of.
    #[must_use]
    pub fn whole(outcome: Outcome, reply: impl Into<String>) -> Self {
        Self { outcome, reply: reply.into(), recipients: Vec::new() }
    }
}

/// What to do with a mail whose acceptance was never heard (`mail.unknown`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownPolicy {
    /// Send the same bytes once more.
    #[default]
    Resend,
    /// Hold it for a person.
    Hold,
}

/// When a mail is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts before a deferred mail is given up.
    pub attempts_max: u32,
    /// The first wait; each further one doubles.
    pub first_wait: TimeDelta,
    /// The longest wait.
    pub longest_wait: TimeDelta,
    /// What to do with unheard answers.
    pub unknown: UnknownPolicy,
}

impl Default for RetryPolicy {
    /// 1 min, 2 min, 4 min … 4 h: 24 attempts reach over two and a half days, past a weekend of a broken relay.
    fn default() -> Self {
        Self {
            attempts_max: 24,
            first_wait: TimeDelta::minutes(1),
            longest_wait: TimeDelta::hours(4),
            unknown: UnknownPolicy::Resend,
        }
    }
}

impl RetryPolicy {
    /// The wait after the `attempt`-th attempt (from 1).
    #[must_use]
    pub fn wait(&self, attempt: u32) -> TimeDelta {
        let doublings = attempt.saturating_sub(1).min(16);
        self.first_wait.checked_mul(1 << doublings).map_or(self.longest_wait, |wait| wait.min(self.longest_wait))
    }
}

/// What the attempt makes of the delivery: its new state and its recipients. No clock, no IO, no wildcard arm.
///
/// `attempt` counts from 1, without those that do not count (see [`Outcome::counts`]); `unknown_before` says whether an
/// earlier attempt ended unknown (then this one was the resend). After an unheard answer nobody can say "failed" any more:
/// what is given up or refused then is `Unknown`.
#[must_use]
pub fn settle(
    attempt: u32,
    unknown_before: bool,
    recipients: &[Recipient],
    done: &Attempt,
    retry: &RetryPolicy,
    now: Timestamp,
) -> (DeliveryState, Vec<Recipient>) {
    let recipients: Vec<Recipient> = recipients.iter().map(|r| updated(r, done)).collect();
    let pending = recipients.iter().any(|r| r.state == RecipientState::Pending);
    let accepted = recipients.iter().any(|r| r.state == RecipientState::Accepted);
    let unheard = unknown_before || done.outcome == Outcome::Unknown;
    let finished = match (accepted, unheard) {
        (true, _) => DeliveryState::Sent,
        (false, true) => DeliveryState::Unknown,
        (false, false) => DeliveryState::Failed,
    };
    let again = DeliveryState::Queued { not_before: now + retry.wait(attempt) };
    let state = match done.outcome {
        // Nobody is left to send to.
        Outcome::Accepted | Outcome::Deferred | Outcome::Rejected | Outcome::Unknown | Outcome::Blocked if !pending => {
            finished
        }
        // The one resend went unheard too. Some recipients may have had an answer of their own before.
        Outcome::Unknown if unknown_before => DeliveryState::Unknown,
        Outcome::Unknown => match retry.unknown {
            UnknownPolicy::Resend => again,
            UnknownPolicy::Hold => DeliveryState::Held(Held::Unknown),
        },
        Outcome::Blocked => DeliveryState::Queued { not_before: now + retry.longest_wait.min(BLOCKED_WAIT) },
        // Pending after a refusal is a recipient that the server put off by name: it is tried again all the same.
        Outcome::Accepted | Outcome::Deferred | Outcome::Rejected if attempt < retry.attempts_max => again,
        // Given up: what was accepted was accepted.
        Outcome::Accepted | Outcome::Deferred | Outcome::Rejected => finished,
    };
    (state, recipients)
}

/// How long the queue waits when the server refuses our account: soon enough to notice a repair, not a hammer.
pub const BLOCKED_WAIT: TimeDelta = TimeDelta::minutes(15);

fn updated(recipient: &Recipient, done: &Attempt) -> Recipient {
    let said = done.recipients.iter().find(|(address, _, _)| *address == recipient.address);
    match (recipient.state, said) {
        (RecipientState::Pending, Some((_, state, reply))) => {
            Recipient { address: recipient.address.clone(), state: *state, reply: Some(reply.clone()) }
        }
        (RecipientState::Pending, None) => {
            let state = match done.outcome {
                Outcome::Accepted => RecipientState::Accepted,
                Outcome::Rejected => RecipientState::Rejected,
                Outcome::Deferred | Outcome::Unknown | Outcome::Blocked => RecipientState::Pending,
            };
            Recipient { address: recipient.address.clone(), state, reply: Some(done.reply.clone()) }
        }
        (RecipientState::Accepted | RecipientState::Rejected, _) => recipient.clone(),
    }
}

/// The civil facts of a delivery that the planner and the outbox share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryFacts {
    /// Its key.
    pub key: DeliveryKey,
    /// The milestone's text, for reminders.
    pub milestone: Option<String>,
    /// The civil day it was queued or approved.
    pub day: NaiveDate,
    /// The deadline it names.
    pub deadline: NaiveDate,
    /// Why it was planned.
    pub because: String,
}

#[cfg(test)]
mod tests;
