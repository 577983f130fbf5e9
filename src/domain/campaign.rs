//! One deprecation as data: its dates, whom it affects, its reminders. Dates move, so nothing here is a constant.

use std::fmt;

use chrono::{NaiveDate, TimeDelta};

use super::customer::{Customer, Language};
use super::observation::{Observation, Verdict};
use super::site::ServerType;

/// A campaign's id, such as `exchange-online-basic-auth`: lower-case letters, digits and hyphens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CampaignId(pub String);

impl CampaignId {
    /// The longest id, in characters.
    pub const MAX: usize = 64;

    /// The id, if the text is one.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let good = !text.is_empty()
            && text.len() <= Self::MAX
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-');
        good.then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for CampaignId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whom a campaign affects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Affects {
    /// Sites on Exchange Online that sign in with basic authentication.
    BasicAuth,
    /// Every site on Exchange Online, whatever its method.
    ExchangeOnline,
}

/// Where a site stands in a campaign by one conclusive observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// The campaign's condition holds.
    Affected,
    /// OAuth without consent: nobody can log on.
    ConsentMissing,
    /// Nothing to do.
    Clear,
}

impl Standing {
    /// The word used in output and in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Affected => "affected",
            Self::ConsentMissing => "consent_missing",
            Self::Clear => "clear",
        }
    }

    /// The standing whose [`as_str`](Self::as_str) this is.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Affected, Self::ConsentMissing, Self::Clear].into_iter().find(|v| v.as_str() == text)
    }
}

impl Affects {
    /// The word in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BasicAuth => "basic_auth",
            Self::ExchangeOnline => "exchange_online",
        }
    }

    /// Where the observed site stands; `None` where the observation is not conclusive and so changes nothing.
    #[must_use]
    pub fn standing(self, seen: &Observation) -> Option<Standing> {
        match (self, seen.verdict) {
            (_, Verdict::Unreadable(_)) => None,
            (Self::BasicAuth, Verdict::Affected) => Some(Standing::Affected),
            (Self::BasicAuth, Verdict::ConsentMissing) => Some(Standing::ConsentMissing),
            (Self::BasicAuth, Verdict::Switched | Verdict::NotExchangeOnline) => Some(Standing::Clear),
            (Self::ExchangeOnline, _) if seen.server_type == Some(ServerType::ExchangeOnline) => {
                Some(Standing::Affected)
            }
            (Self::ExchangeOnline, _) => Some(Standing::Clear),
        }
    }
}

/// One reminder's distance from the deadline, in days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Milestone {
    /// Days before the deadline.
    pub days: u32,
}

impl Milestone {
    /// No campaign is announced earlier than a hundred years before; a greater distance counts as this one.
    pub const FARTHEST: u32 = 36_500;
}

impl fmt::Display for Milestone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}d", self.days)
    }
}

/// What a notice must say of the vendor's product where the customer has to name it to Microsoft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// Its application id in Microsoft Entra: a GUID, in lower case.
    pub app_id: String,
    /// What the vendor says it will do, in its own words; nothing is promised without them.
    pub plan_ja: Option<String>,
    /// The same for customers who read English.
    pub plan_en: Option<String>,
}

impl Product {
    /// The vendor's words in this language; never those of the other.
    #[must_use]
    pub fn plan(&self, language: Language) -> Option<&str> {
        match language {
            Language::Ja => self.plan_ja.as_deref(),
            Language::En => self.plan_en.as_deref(),
        }
    }
}

/// One deprecation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Campaign {
    /// Its id.
    pub id: CampaignId,
    /// Whom it affects.
    pub affects: Affects,
    /// The day it begins, where that is earlier than the deadline: Microsoft goes from tenant to tenant until then.
    pub begins: Option<NaiveDate>,
    /// The day the reminders count to; the day it begins, unless `begins` is another.
    pub deadline: NaiveDate,
    /// The deadline of customers who opted out.
    pub postponed_to: Option<NaiveDate>,
    /// From this day on there is no way back.
    pub last_day: Option<NaiveDate>,
    /// The reminders' distances, the farthest first.
    pub reminders: Vec<Milestone>,
    /// Days between two overdue notices; `None`: from the deadline on nobody is told that a site is affected.
    pub overdue_every: Option<u32>,
    /// Days between two consent notices.
    pub consent_every: u32,
    /// Where the dates come from, a link.
    pub source: Option<String>,
    /// What the customer must tell Microsoft of the vendor's product.
    pub product: Option<Product>,
}

impl Campaign {
    /// The day Microsoft begins.
    #[must_use]
    pub fn begins_on(&self) -> NaiveDate {
        self.begins.unwrap_or(self.deadline)
    }

    /// Whether the customers file says that this customer has done its part, in a campaign where no look at its sites can
    /// show it. Where a look can, only the look is believed.
    #[must_use]
    pub fn is_done_by(&self, customer: &Customer) -> bool {
        self.affects == Affects::ExchangeOnline && customer.done.contains(&self.id)
    }

    /// The deadline that counts for this customer.
    #[must_use]
    pub fn deadline_of(&self, customer: &Customer) -> NaiveDate {
        match self.postponed_to {
            Some(postponed) if customer.opted_out => postponed,
            _ => self.deadline,
        }
    }

    /// The civil day a milestone stands for, before the calendar moves it to a business day.
    #[must_use]
    pub fn milestone_day(deadline: NaiveDate, milestone: Milestone) -> NaiveDate {
        deadline - TimeDelta::days(i64::from(milestone.days.min(Milestone::FARTHEST)))
    }

    /// How basic authentication can be postponed on `day` (NOTICE-FACTS W2).
    #[must_use]
    pub fn postponing(&self, day: NaiveDate) -> Postponing {
        match self.postponed_to {
            Some(_) if day < self.deadline => Postponing::OptOut,
            Some(postponed) if day <= postponed => Postponing::TurnOnAgain,
            _ => Postponing::Never,
        }
    }

    /// Whether a site can still be set back to basic authentication and work (NOTICE-FACTS R1).
    #[must_use]
    pub fn way_back(&self, day: NaiveDate) -> bool {
        self.last_day.is_none_or(|last| day < last)
    }
}

/// What the customer can do to gain time, on a given day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Postponing {
    /// Before the deadline: opt out per protocol.
    OptOut,
    /// From the deadline to the postponed one: turn it on again, once per protocol.
    TurnOnAgain,
    /// Neither: it is off for good.
    Never,
}

#[cfg(test)]
mod tests;
