//! What a site is called and the two settings it has.

use std::fmt;

/// A customer's id as the customers file gives it: never empty, no control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CustomerId(String);

/// A site's name as the admin tool's list shows it, trimmed; never empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteName(String);

/// Why a text is no id or name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadName {
    /// Nothing but white space.
    Empty,
    /// Longer than the limit, in characters.
    TooLong(usize),
    /// A control character (a line break would end up in a mail header).
    Control,
}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "is empty"),
            Self::TooLong(limit) => write!(f, "is longer than {limit} characters"),
            Self::Control => write!(f, "holds a control character such as a line break"),
        }
    }
}

impl std::error::Error for BadName {}

fn checked(text: &str, limit: usize) -> Result<String, BadName> {
    let text = text.trim();
    if text.is_empty() {
        Err(BadName::Empty)
    } else if text.chars().any(char::is_control) {
        Err(BadName::Control)
    } else if text.chars().count() > limit {
        Err(BadName::TooLong(limit))
    } else {
        Ok(text.to_owned())
    }
}

impl CustomerId {
    /// The longest id, in characters.
    pub const MAX: usize = 64;

    /// Trims and checks.
    ///
    /// # Errors
    /// [`BadName`] when the text is empty, too long or holds control characters.
    pub fn new(text: &str) -> Result<Self, BadName> {
        checked(text, Self::MAX).map(Self)
    }

    /// The id's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SiteName {
    /// The longest name, in characters.
    pub const MAX: usize = 300;

    /// Trims and checks.
    ///
    /// # Errors
    /// [`BadName`] when the text is empty, too long or holds control characters.
    pub fn new(text: &str) -> Result<Self, BadName> {
        checked(text, Self::MAX).map(Self)
    }

    /// The name's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CustomerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SiteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The setting [Exchange サーバーの種類].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServerType {
    /// [Exchange Online に接続する]
    ExchangeOnline,
    /// A server of the customer's own, such as [Exchange サーバーに接続する].
    OnPremises,
}

/// The setting [Exchange サーバーの認証方式].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AuthMethod {
    /// [基本認証 (Office 365の場合)]
    Basic,
    /// [OAuth認証 (Office 365の場合)]
    OAuth,
    /// [基本認証 (オンプレミスの場合)]
    OnPremisesBasic,
}

impl ServerType {
    /// Every value.
    pub const ALL: [Self; 2] = [Self::ExchangeOnline, Self::OnPremises];

    /// The word used in output, in the store and in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ExchangeOnline => "exchange_online",
            Self::OnPremises => "on_premises",
        }
    }

    /// The value whose [`as_str`](Self::as_str) this is.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|v| v.as_str() == text)
    }
}

impl AuthMethod {
    /// Every value.
    pub const ALL: [Self; 3] = [Self::Basic, Self::OAuth, Self::OnPremisesBasic];

    /// The word used in output, in the store and in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::OAuth => "oauth",
            Self::OnPremisesBasic => "on_premises_basic",
        }
    }

    /// The value whose [`as_str`](Self::as_str) this is.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|v| v.as_str() == text)
    }
}

#[cfg(test)]
mod tests;
