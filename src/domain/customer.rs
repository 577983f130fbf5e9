//! A customer company: whom to tell, in which language, and what is known of it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use super::campaign::CampaignId;
use super::site::{CustomerId, SiteName};

/// One mail address, checked for the characters that could leave its header or its SMTP command.
///
/// Looser than RFC 5321 on purpose: old Japanese carrier addresses such as `foo..bar@docomo.ne.jp` and `foo.@ezweb.ne.jp`
/// are in use and are accepted.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(String);

/// Why a text is no mail address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadAddress {
    /// No `@`, or nothing on one side of it.
    NoAt,
    /// A character that has no place in an address: white space, a control character, `<>(),;:"[]\`.
    Character(char),
    /// A letter outside ASCII: that needs SMTPUTF8, which the relays do not promise.
    NotAscii(char),
    /// The part before the `@` is longer than 64 octets (RFC 5321 4.5.3.1.1) or the whole than 254.
    TooLong,
    /// The domain is not made of labels of letters, digits and hyphens with a dot between.
    Domain,
}

impl fmt::Display for BadAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAt => write!(f, "has no name before or no domain after an @"),
            Self::Character(c) => write!(f, "holds {c:?}, which has no place in an address"),
            Self::NotAscii(c) => write!(f, "holds {c:?}, which is not ASCII"),
            Self::TooLong => write!(f, "is too long (64 octets before the @, 254 in all)"),
            Self::Domain => write!(f, "has a domain that cannot be one"),
        }
    }
}

impl std::error::Error for BadAddress {}

impl Address {
    /// Trims and checks.
    ///
    /// # Errors
    /// [`BadAddress`] says what is wrong with the text.
    pub fn new(text: &str) -> Result<Self, BadAddress> {
        let text = text.trim();
        for c in text.chars() {
            if c.is_whitespace() || c.is_control() || "<>(),;:\"[]\\".contains(c) {
                return Err(BadAddress::Character(c));
            }
            if !c.is_ascii() {
                return Err(BadAddress::NotAscii(c));
            }
        }
        let (local, domain) = text.rsplit_once('@').ok_or(BadAddress::NoAt)?;
        if local.is_empty() || domain.is_empty() {
            return Err(BadAddress::NoAt);
        }
        if local.contains('@') {
            return Err(BadAddress::Character('@'));
        }
        if local.len() > 64 || text.len() > 254 {
            return Err(BadAddress::TooLong);
        }
        let label = |l: &str| {
            !l.is_empty()
                && l.len() <= 63
                && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !l.starts_with('-')
                && !l.ends_with('-')
        };
        if !domain.split('.').all(label) {
            return Err(BadAddress::Domain);
        }
        Ok(Self(text.to_owned()))
    }

    /// The address in full: for envelopes, headers and an operator's own terminal only.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The domain after the `@`.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.0.rsplit_once('@').map_or("", |(_, domain)| domain)
    }

    /// The address for logs and stored reasons: `t***@example.jp`.
    #[must_use]
    pub fn masked(&self) -> String {
        let first = self.0.chars().next().unwrap_or('*');
        format!("{first}***@{}", self.domain())
    }
}

/// Shows the masked form, so that no log line made with `{:?}` holds an address.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

/// The language a customer's mails are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Language {
    /// Japanese.
    #[default]
    Ja,
    /// English; the screens' labels stay Japanese.
    En,
}

impl Language {
    /// The word in files and output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ja => "ja",
            Self::En => "en",
        }
    }
}

/// A company with contacts and sites, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Customer {
    /// The id in the customers file.
    pub id: CustomerId,
    /// The company's name, for greeting and lists. At most 300 characters, no control characters.
    pub name: String,
    /// Whom notices go to; never empty.
    pub email: Vec<Address>,
    /// The person greeted, if known.
    pub contact_name: Option<String>,
    /// Who gets a copy.
    pub cc: Vec<Address>,
    /// Who is told when the addresses above are dead.
    pub fallback_email: Vec<Address>,
    /// For the telephone list.
    pub phone: Option<String>,
    /// The notices' language.
    pub language: Language,
    /// The customer's Microsoft 365 domain, for corroboration.
    pub tenant_domain: Option<String>,
    /// Whether feature phones are used; `None` = unknown.
    pub feature_phone: Option<bool>,
    /// Whether smartphones are used; `None` = unknown.
    pub smartphone: Option<bool>,
    /// The customer opted out: its deadline is the campaign's postponed one.
    pub opted_out: bool,
    /// The campaigns in which it has done its part, by its own word: see [`super::campaign::Campaign::is_done_by`].
    pub done: Vec<CampaignId>,
    /// `false`: scanned and reported to the operators, never mailed.
    pub notify: bool,
    /// The sites to look at; empty = all that the tool lists.
    pub sites: Vec<SiteName>,
}

/// Customers by id, however they are kept.
pub trait Customers {
    /// The customer, if there is one with that id.
    fn customer(&self, id: &CustomerId) -> Option<Cow<'_, Customer>>;
}

impl Customers for BTreeMap<CustomerId, Customer> {
    fn customer(&self, id: &CustomerId) -> Option<Cow<'_, Customer>> {
        self.get(id).map(Cow::Borrowed)
    }
}

#[cfg(test)]
mod tests;
