//! What the dashboard reads: pages of customers, mails and deeds, and the numbers behind the overview. Plain data.

use crate::domain::Timestamp;
use crate::domain::delivery::DeliveryId;
use crate::domain::observation::Observation;
use crate::domain::plan::NoticeKind;
use crate::domain::site::CustomerId;

use super::{Delivery, SiteCounts};

/// In which order customers are listed; each is one that an index keeps, so that a page costs the same at any place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CustomerOrder {
    /// By id.
    #[default]
    Id,
    /// By id, the last first.
    IdDown,
    /// By name.
    Name,
    /// By name, the last first.
    NameDown,
}

/// Which customers to list.
#[derive(Debug, Clone, Default)]
pub struct CustomerFilter {
    /// A part of id or name; empty = all.
    pub search: String,
    /// With a site of this verdict's word; empty = all.
    pub verdict: String,
    /// That had a notice of this kind (not dropped).
    pub kind: Option<NoticeKind>,
    /// In which order.
    pub order: CustomerOrder,
    /// Behind this customer, in that order: its name and id, where the page before ended.
    pub after: Option<(String, String)>,
    /// At most so many.
    pub limit: u32,
}

/// One customer in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomerLine {
    /// Its id.
    pub id: CustomerId,
    /// Its name.
    pub name: String,
    /// Its listed sites by their newest verdict.
    pub sites: SiteCounts,
    /// When one of them was seen last.
    pub seen_at: Option<Timestamp>,
    /// Whether it has an open case.
    pub open: bool,
    /// The kind, state and instant of the newest mail in the outbox.
    pub last_mail: Option<(NoticeKind, String, Timestamp)>,
}

/// A customer as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomerSheet {
    /// Its name.
    pub name: String,
    /// When it left the customers file.
    pub gone_at: Option<Timestamp>,
    /// Its sites, those that the tool no longer lists last.
    pub sites: Vec<SiteLine>,
}

/// One site on its customer's page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteLine {
    /// The newest observation.
    pub seen: Observation,
    /// Since when the same is seen.
    pub since: Timestamp,
    /// Whether the tool lists it.
    pub listed: bool,
    /// Scans in a row in which it could not be read.
    pub unreadable_scans: u32,
}

/// Which mails to list, the newest first.
#[derive(Debug, Clone, Default)]
pub struct MailFilter {
    /// Only these states' words; empty = all.
    pub states: Vec<String>,
    /// Only older ones than this.
    pub before: Option<DeliveryId>,
    /// At most so many.
    pub limit: u32,
}

/// One mail in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailLine {
    /// The customer's name.
    pub customer_name: String,
    /// The delivery.
    pub delivery: Delivery,
}

/// What waits for a person, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Concerns {
    /// Sites unreadable for so many scans in a row as was asked.
    pub unreadable: u64,
}

/// What a person did: approved, retried or cancelled a mail, stopped or resumed all mail, asked for a scan. What the service
/// did by itself in the same words (a hold after a restore) stands there too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed {
    /// Its place; the next page begins behind it.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// The customer it concerns, with its name; `None`: all.
    pub customer: Option<(CustomerId, String)>,
    /// The mail it concerns.
    pub delivery: Option<DeliveryId>,
    /// What kind of deed, in a word.
    pub word: String,
    /// The same with who did it, in English.
    pub text: String,
}
