//! What goes wrong for a customer, and what an honest look must say of it.

use crate::domain::observation::Reason;

/// One thing that goes wrong, for one customer or (as [`World::outage`](super::World::outage)) for the whole tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// The password in the customers file is not the one the tool knows.
    PasswordRefused,
    /// The account is locked, whatever password comes.
    AccountLocked,
    /// The password is right and has expired.
    PasswordChangeRequired,
    /// A 503 with the maintenance page.
    Maintenance503,
    /// The maintenance page with a 200.
    Maintenance200,
    /// No answer at all.
    Hang,
    /// ASP.NET's yellow page with a 500.
    ServerError,
    /// The label [Exchange サーバーの認証方式] is gone: another word stands there.
    LabelMissing,
    /// The tab \[ExLookサイト設定\] is gone.
    TabMissing,
    /// [Exchange サーバーの種類] shows a text nobody knows.
    UnknownServerType,
    /// [Exchange サーバーの認証方式] shows a text nobody knows.
    UnknownAuthMethod,
    /// Exchange Online with the on-premises method.
    ImpossiblePair,
    /// The session ends at every request after a log-on.
    SessionLostAlways,
    /// A page that never ends.
    EndlessPage,
    /// A redirect to another origin.
    RedirectElsewhere,
    /// Two controls for one label that say different things.
    DisagreeingControls,
    /// Whatever site is chosen, the first one is shown (and marked as selected).
    WrongSiteShown,
    /// The connection closes in the middle of the page, every time.
    ClosedMidBody,
    /// The customers file names a site that the tool does not list.
    SiteMissing,
    /// The customer's row in the customers file cannot be used; the tool itself is well.
    BrokenRow,
    /// The session ends once: a postback is answered with a 302 to the log-on page.
    SessionLostOnce,
    /// The session ends once: a postback is answered with the log-on page itself.
    SessionLostOnceInPlace,
    /// A 429 with `Retry-After`, once.
    TooManyRequestsOnce,
    /// A 503 with `Retry-After`, once.
    UnavailableOnce,
    /// The connection closes in the middle of the page, once.
    ClosedOnce,
}

/// At which step a fault shows, for the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The answer to the log-on.
    LogOn,
    /// The first page after it, and every page of the session.
    Pages,
    /// Postbacks of the session only.
    PostBacks,
    /// In what the settings page shows.
    Content,
    /// Not in the tool.
    Elsewhere,
}

impl Fault {
    /// Every fault; those that make a customer or its sites unreadable come first.
    pub const ALL: [Self; 25] = [
        Self::PasswordRefused,
        Self::LabelMissing,
        Self::UnknownAuthMethod,
        Self::SiteMissing,
        Self::AccountLocked,
        Self::Maintenance503,
        Self::PasswordChangeRequired,
        Self::ServerError,
        Self::ImpossiblePair,
        Self::BrokenRow,
        Self::Hang,
        Self::SessionLostAlways,
        Self::Maintenance200,
        Self::DisagreeingControls,
        Self::WrongSiteShown,
        Self::RedirectElsewhere,
        Self::ClosedMidBody,
        Self::UnknownServerType,
        Self::EndlessPage,
        Self::TabMissing,
        Self::SessionLostOnce,
        Self::SessionLostOnceInPlace,
        Self::TooManyRequestsOnce,
        Self::UnavailableOnce,
        Self::ClosedOnce,
    ];

    /// The reason a look must give; `None`: the fault passes, and the sites are read all the same.
    #[must_use]
    pub fn expected_reason(self) -> Option<Reason> {
        match self {
            Self::PasswordRefused => Some(Reason::LogonRefused),
            Self::AccountLocked => Some(Reason::AccountLocked),
            Self::PasswordChangeRequired => Some(Reason::PasswordChangeRequired),
            Self::Maintenance503 | Self::Maintenance200 => Some(Reason::Maintenance),
            Self::Hang => Some(Reason::Timeout),
            Self::ServerError | Self::RedirectElsewhere => Some(Reason::HttpStatus),
            Self::LabelMissing | Self::TabMissing | Self::DisagreeingControls | Self::WrongSiteShown => {
                Some(Reason::LayoutChanged)
            }
            Self::UnknownServerType | Self::UnknownAuthMethod | Self::ImpossiblePair => Some(Reason::UnknownValue),
            Self::SessionLostAlways => Some(Reason::SessionLost),
            Self::EndlessPage => Some(Reason::TooLarge),
            Self::ClosedMidBody => Some(Reason::Connect),
            Self::SiteMissing => Some(Reason::SiteMissing),
            Self::BrokenRow => Some(Reason::InventoryError),
            Self::SessionLostOnce
            | Self::SessionLostOnceInPlace
            | Self::TooManyRequestsOnce
            | Self::UnavailableOnce
            | Self::ClosedOnce => None,
        }
    }

    /// Whether the customer's sites can be listed in spite of it.
    #[must_use]
    pub fn lists_sites(self) -> bool {
        let shows_list = self.stage() == Stage::Content && self != Self::TabMissing;
        shows_list || self == Self::SiteMissing || self.is_once()
    }

    /// Whether it happens once in the life of the world and then never again.
    #[must_use]
    pub fn is_once(self) -> bool {
        self.expected_reason().is_none()
    }

    pub(super) fn stage(self) -> Stage {
        match self {
            Self::PasswordRefused
            | Self::AccountLocked
            | Self::PasswordChangeRequired
            | Self::Maintenance503
            | Self::Maintenance200 => Stage::LogOn,
            Self::Hang
            | Self::ServerError
            | Self::SessionLostAlways
            | Self::EndlessPage
            | Self::RedirectElsewhere
            | Self::ClosedMidBody
            | Self::TooManyRequestsOnce
            | Self::UnavailableOnce
            | Self::ClosedOnce => Stage::Pages,
            Self::SessionLostOnce | Self::SessionLostOnceInPlace => Stage::PostBacks,
            Self::LabelMissing
            | Self::TabMissing
            | Self::UnknownServerType
            | Self::UnknownAuthMethod
            | Self::ImpossiblePair
            | Self::DisagreeingControls
            | Self::WrongSiteShown => Stage::Content,
            Self::SiteMissing | Self::BrokenRow => Stage::Elsewhere,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_that_a_tool_on_loopback_can_cause_has_a_fault() {
        let caused: BTreeSet<_> = Fault::ALL.into_iter().filter_map(Fault::expected_reason).collect();
        // A name server, a certificate and a guard are not the tool's.
        let others = [Reason::Dns, Reason::Tls, Reason::Skipped];
        assert_eq!(caused, Reason::ALL.into_iter().filter(|r| !others.contains(r)).collect());
        assert_eq!(Fault::ALL.into_iter().collect::<BTreeSet<_>>().len(), Fault::ALL.len());
    }
}
