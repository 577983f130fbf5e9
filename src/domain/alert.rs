//! Why the operators are told something. The causes group: of one cause at most one mail an hour leaves.

use std::fmt;

use chrono::TimeDelta;

/// At most one mail of one cause in this time.
pub const EVERY: TimeDelta = TimeDelta::hours(1);

/// Why an alert is raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// Sites are affected that were not before.
    NewlyAffected,
    /// A resolved case has an affected site again.
    Relapsed,
    /// A site could not be read for `alerts.unreadable_after` scans in a row.
    Unreadable,
    /// More of one scan's sites than `alerts.scan_failure_rate` could not be read.
    FailureRate,
    /// Many customers' pages do not look as they should, at once: the tool itself changed.
    LayoutChanged,
    /// A hold keeps back all customer mail.
    Held,
    /// Notices wait for a person (review, the cap on first notices).
    Waiting,
    /// Refused logons in a row stopped a scan.
    LogonsRefused,
    /// The mail server refuses our account.
    MailRefused,
    /// Microsoft refuses our own credential: consent is not verified.
    MicrosoftRefused,
    /// A notice failed for good, or could not be made.
    NoticeFailed,
    /// Nobody knows whether a notice arrived.
    NoticeUnknown,
    /// A contact's address is dead.
    DeadContact,
    /// The deadline is near and nobody told the customer.
    DeadlineNear,
    /// Edited files were refused; the running ones stay.
    BadEdit,
    /// A row of the customers file has an error.
    BadRow,
    /// Many customers with an open case left the customers file at once: it looks cut off.
    CustomersGone,
    /// The mailbox that undeliverable mail comes back to cannot be read.
    BouncesUnread,
    /// A recipient's server sent a notice back because of us: our address, our authentication, our account.
    OwnFault,
    /// A node of several is older than the state, and takes no work.
    NodeBehind,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 20] = [
        Self::NewlyAffected,
        Self::Relapsed,
        Self::Unreadable,
        Self::FailureRate,
        Self::LayoutChanged,
        Self::Held,
        Self::Waiting,
        Self::LogonsRefused,
        Self::MailRefused,
        Self::MicrosoftRefused,
        Self::NoticeFailed,
        Self::NoticeUnknown,
        Self::DeadContact,
        Self::DeadlineNear,
        Self::BadEdit,
        Self::BadRow,
        Self::CustomersGone,
        Self::BouncesUnread,
        Self::OwnFault,
        Self::NodeBehind,
    ];

    /// The word in the store, in webhooks and in logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NewlyAffected => "newly_affected",
            Self::Relapsed => "relapsed",
            Self::Unreadable => "unreadable",
            Self::FailureRate => "failure_rate",
            Self::LayoutChanged => "layout_changed",
            Self::Held => "held",
            Self::Waiting => "waiting",
            Self::LogonsRefused => "logons_refused",
            Self::MailRefused => "mail_refused",
            Self::MicrosoftRefused => "microsoft_refused",
            Self::NoticeFailed => "notice_failed",
            Self::NoticeUnknown => "notice_unknown",
            Self::DeadContact => "dead_contact",
            Self::DeadlineNear => "deadline_near",
            Self::BadEdit => "bad_edit",
            Self::BadRow => "bad_row",
            Self::CustomersGone => "customers_gone",
            Self::BouncesUnread => "bounces_unread",
            Self::OwnFault => "own_fault",
            Self::NodeBehind => "node_behind",
        }
    }

    /// The cause whose [`as_str`](Self::as_str) this is.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|v| v.as_str() == text)
    }

    /// Whether it is a state that lasts until it is over (told once), and not something that happened.
    #[must_use]
    pub fn lasts(self) -> bool {
        match self {
            Self::Unreadable
            | Self::FailureRate
            | Self::LayoutChanged
            | Self::Held
            | Self::MailRefused
            | Self::MicrosoftRefused
            | Self::DeadContact
            | Self::DeadlineNear
            | Self::BadEdit
            | Self::BadRow
            | Self::BouncesUnread
            | Self::CustomersGone
            | Self::NodeBehind => true,
            Self::NewlyAffected
            | Self::Relapsed
            | Self::Waiting
            | Self::LogonsRefused
            | Self::NoticeFailed
            | Self::NoticeUnknown
            | Self::OwnFault => false,
        }
    }

    /// Whether a scan finds it bit by bit: such an alert waits for the scan's end, so that it is one mail and not two.
    #[must_use]
    pub fn grows_in_a_scan(self) -> bool {
        matches!(self, Self::NewlyAffected | Self::Relapsed)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_causes_are_the_same() {
        for cause in Cause::ALL {
            assert_eq!(Cause::parse(cause.as_str()), Some(cause));
        }
    }
}
