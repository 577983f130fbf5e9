//! The notices: from a customer, its sites and a campaign's dates to subject, text and HTML.
//!
//! Pure: nothing here connects, and the only files read are an operator's own templates. Which facts a kind of notice
//! holds is decided by its template; whether a fact that expires is still true is decided by `view`, by the day of
//! sending. Invariants: one notice is made from one customer alone; a name is data, never markup, header or formula.

mod attachment;
mod check;
mod format;
pub mod render;
mod sources;
mod view;
pub mod wrap;

use chrono::NaiveDate;
use chrono_tz::Tz;
use url::Url;

use crate::config::Support;
use crate::domain::campaign::Campaign;
use crate::domain::case::{Evidence, Reference};
use crate::domain::customer::Customer;
use crate::domain::plan::NoticeKind;
use crate::domain::site::SiteName;

pub use render::{TemplateError, Templates};

/// One site a notice speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoticeSite {
    /// Its name.
    pub name: SiteName,
    /// What was read now.
    pub now: Evidence,
    /// What was read when it last was affected (for `resolved`: "before"); equal to `now` while it is affected.
    pub before: Evidence,
    /// The tool does not list it any more (`resolved` only).
    pub gone: bool,
}

/// Everything a notice is made from: one customer, one case, one day.
#[derive(Debug, Clone)]
pub struct Notice<'a> {
    /// Its kind.
    pub kind: NoticeKind,
    /// To whom.
    pub customer: &'a Customer,
    /// The case's number.
    pub reference: &'a Reference,
    /// The sites it speaks of; never empty except for `resolved`.
    pub sites: Vec<NoticeSite>,
    /// Dates and source.
    pub campaign: &'a Campaign,
    /// The customer's deadline.
    pub deadline: NaiveDate,
    /// For `rescheduled`: the date it was told before.
    pub previous_deadline: Option<NaiveDate>,
    /// The civil day of sending: decides what is still true, and the days left.
    pub today: NaiveDate,
    /// For `regressed`: the day the change back was noticed.
    pub noticed_on: NaiveDate,
    /// Whether the tenant is federated; `None` = unknown.
    pub federated: Option<bool>,
    /// Whom to ask.
    pub support: &'a Support,
    /// Where administrators log on.
    pub logon_url: &'a Url,
    /// The product management site.
    pub portal_url: &'a Url,
    /// Times are shown in this zone.
    pub zone: Tz,
}

/// A notice as text, before it becomes a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// One line, no control characters.
    pub subject: String,
    /// Complete by itself; lines of at most 72 half-width columns, LF line ends.
    pub text: String,
    /// A whole HTML document, LF line ends.
    pub html: String,
    /// The full list of sites where the mail's own list was cut.
    pub attachments: Vec<Attachment>,
}

/// A file attached to a notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// ASCII file name.
    pub name: String,
    /// Such as `text/csv; charset=utf-8`.
    pub content_type: String,
    /// The bytes.
    pub content: Vec<u8>,
}
