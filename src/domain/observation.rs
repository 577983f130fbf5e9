//! From two settings to a verdict. We never guess: what is not recognised is [`Verdict::Unreadable`] with a reason.

use super::Timestamp;
use super::site::{AuthMethod, CustomerId, ServerType, SiteName};

/// Why a site could not be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The customer's row in the customers file has an error.
    InventoryError,
    /// The tool refused account or password.
    LogonRefused,
    /// The tool says the account is locked.
    AccountLocked,
    /// The tool wants the password changed first.
    PasswordChangeRequired,
    /// The tool shows its maintenance page.
    Maintenance,
    /// No answer in time.
    Timeout,
    /// The host's name could not be resolved, or resolved to an address we refuse.
    Dns,
    /// No connection, or it broke.
    Connect,
    /// TLS failed: a certificate for another name, expired, not trusted.
    Tls,
    /// An HTTP status that is neither a page nor a redirect we follow.
    HttpStatus,
    /// The page does not have what we look for, or it contradicts itself.
    LayoutChanged,
    /// A setting's text that we do not know, or a pair that cannot be.
    UnknownValue,
    /// The session ended twice.
    SessionLost,
    /// A page larger than `scan.max_page`.
    TooLarge,
    /// A site named in the customers file that the tool does not list.
    SiteMissing,
    /// A guard stopped the scan before this site.
    Skipped,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 16] = [
        Self::InventoryError,
        Self::LogonRefused,
        Self::AccountLocked,
        Self::PasswordChangeRequired,
        Self::Maintenance,
        Self::Timeout,
        Self::Dns,
        Self::Connect,
        Self::Tls,
        Self::HttpStatus,
        Self::LayoutChanged,
        Self::UnknownValue,
        Self::SessionLost,
        Self::TooLarge,
        Self::SiteMissing,
        Self::Skipped,
    ];

    /// The word used in output and in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InventoryError => "inventory_error",
            Self::LogonRefused => "logon_refused",
            Self::AccountLocked => "account_locked",
            Self::PasswordChangeRequired => "password_change_required",
            Self::Maintenance => "maintenance",
            Self::Timeout => "timeout",
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::HttpStatus => "http_status",
            Self::LayoutChanged => "layout_changed",
            Self::UnknownValue => "unknown_value",
            Self::SessionLost => "session_lost",
            Self::TooLarge => "too_large",
            Self::SiteMissing => "site_missing",
            Self::Skipped => "skipped",
        }
    }

    /// The reason whose [`as_str`](Self::as_str) this is.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|v| v.as_str() == text)
    }
}

/// What an observation says of a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Exchange Online with basic authentication.
    Affected,
    /// Exchange Online with OAuth (and consent verified, where that check is on).
    Switched,
    /// OAuth chosen, but the tenant has not consented: nobody can log on.
    ConsentMissing,
    /// An on-premises server: nothing to do.
    NotExchangeOnline,
    /// Anything we could not read or do not recognise.
    Unreadable(Reason),
}

impl Verdict {
    /// The words of the five verdicts, in the order of reports.
    pub const WORDS: [&'static str; 5] =
        ["affected", "switched", "consent_missing", "not_exchange_online", "unreadable"];

    /// The word used in output and in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Affected => "affected",
            Self::Switched => "switched",
            Self::ConsentMissing => "consent_missing",
            Self::NotExchangeOnline => "not_exchange_online",
            Self::Unreadable(_) => "unreadable",
        }
    }

    /// Why it is unreadable, if it is.
    #[must_use]
    pub fn reason(self) -> Option<Reason> {
        match self {
            Self::Unreadable(reason) => Some(reason),
            _ => None,
        }
    }

    /// The verdict of a stored pair of words.
    #[must_use]
    pub fn parse(word: &str, reason: Option<&str>) -> Option<Self> {
        match (word, reason) {
            ("affected", None) => Some(Self::Affected),
            ("switched", None) => Some(Self::Switched),
            ("consent_missing", None) => Some(Self::ConsentMissing),
            ("not_exchange_online", None) => Some(Self::NotExchangeOnline),
            ("unreadable", Some(reason)) => Reason::parse(reason).map(Self::Unreadable),
            _ => None,
        }
    }
}

/// The two settings as the page words them; `None` where the page did not show one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RawSettings {
    /// The text beside [Exchange サーバーの種類].
    pub server_type: Option<String>,
    /// The text beside [Exchange サーバーの認証方式].
    pub auth_method: Option<String>,
}

/// Two settings that were read: the texts, and what they mean where we know them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `None`: a text we do not know.
    pub server_type: Option<ServerType>,
    /// `None`: a text we do not know.
    pub auth_method: Option<AuthMethod>,
    /// The texts.
    pub raw: RawSettings,
}

/// Why a look failed, for one site or for the customer as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The class.
    pub reason: Reason,
    /// What happened, to what, what to do. English, one line, no secret and no page content.
    pub detail: String,
    /// What was read all the same.
    pub raw: RawSettings,
    /// The tool had let this customer in before: then it says nothing of the host as a whole.
    pub inside: bool,
}

impl Failure {
    /// A failure that read nothing.
    #[must_use]
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), raw: RawSettings::default(), inside: false }
    }
}

/// What a connector saw of one site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteLook {
    /// The site.
    pub site: SiteName,
    /// The settings, or why they could not be read.
    pub read: Result<Settings, Failure>,
    /// When.
    pub at: Timestamp,
}

/// What a connector saw of one customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomerLook {
    /// The sites that were listed (and those asked for but missing), or why none could be.
    pub sites: Result<Vec<SiteLook>, Failure>,
    /// When the look ended.
    pub at: Timestamp,
}

/// Whether the customer's tenant has consented to the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consent {
    /// The check is off: the settings alone decide.
    #[default]
    NotChecked,
    /// Verified.
    Given,
    /// Verified to be missing or disabled.
    Missing,
    /// It was asked, and the answer says neither.
    Unsure,
}

/// One site at one instant: a verdict and what it rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// Whose.
    pub customer: CustomerId,
    /// Which; `None` for a customer none of whose sites could be listed.
    pub site: Option<SiteName>,
    /// What it means.
    pub verdict: Verdict,
    /// The recognised setting.
    pub server_type: Option<ServerType>,
    /// The recognised setting.
    pub auth_method: Option<AuthMethod>,
    /// The texts on the page.
    pub raw: RawSettings,
    /// Why it is unreadable, in words.
    pub detail: Option<String>,
    /// When it was seen.
    pub observed_at: Timestamp,
}

/// What two settings mean. The whole of the judgement is this match.
#[must_use]
pub fn judge(settings: &Settings, consent: Consent) -> (Verdict, Option<String>) {
    let unknown = |detail: String| (Verdict::Unreadable(Reason::UnknownValue), Some(detail));
    // A strange page may put anything here; the whole text is in `raw`.
    let shown = |text: &Option<String>| text.iter().flat_map(|t| t.chars()).take(SHOWN_CHARS).collect::<String>();
    let raw = &settings.raw;
    match (settings.server_type, settings.auth_method) {
        (None, _) => unknown(format!("server type {:?} is not a known text", shown(&raw.server_type))),
        (_, None) => unknown(format!("authentication method {:?} is not a known text", shown(&raw.auth_method))),
        (Some(ServerType::OnPremises), Some(_)) => (Verdict::NotExchangeOnline, None),
        (Some(ServerType::ExchangeOnline), Some(AuthMethod::Basic)) => (Verdict::Affected, None),
        (Some(ServerType::ExchangeOnline), Some(AuthMethod::OAuth)) => match consent {
            Consent::Missing => (Verdict::ConsentMissing, None),
            Consent::Given | Consent::NotChecked | Consent::Unsure => (Verdict::Switched, None),
        },
        (Some(ServerType::ExchangeOnline), Some(AuthMethod::OnPremisesBasic)) => {
            unknown("Exchange Online with the on-premises authentication method: a pair that cannot be".to_owned())
        }
    }
}

/// How much of an unknown text a detail quotes, in characters.
const SHOWN_CHARS: usize = 80;

/// Turns a connector's look into observations: one a site, or one for the customer as a whole; never none, so that no
/// customer falls out of sight.
#[must_use]
pub fn observations(customer: &CustomerId, look: &CustomerLook, consent: Consent) -> Vec<Observation> {
    match &look.sites {
        Err(failure) => vec![failed(customer, None, failure, look.at)],
        // An empty list proves nothing: it is as likely our misreading as a customer without sites.
        Ok(sites) if sites.is_empty() => {
            let failure = Failure::new(Reason::SiteMissing, "the tool lists no site for this customer");
            vec![failed(customer, None, &failure, look.at)]
        }
        Ok(sites) => sites.iter().map(|site| observation(customer, site, consent)).collect(),
    }
}

/// Puts what was said of the consent into the observations it decided, where `before` is what was seen last.
///
/// Where it could not be told, a site of which it was known to be missing stays so, as of that time: a service that is down
/// is no consent. The evidence is as old as the answer, so no notice goes out on it.
pub fn corroborate(seen: &mut [Observation], consent: Consent, said: Option<&str>, before: &[Observation]) {
    for o in seen.iter_mut().filter(|o| matches!(o.verdict, Verdict::Switched | Verdict::ConsentMissing)) {
        o.detail = said.map(str::to_owned);
        let known = before.iter().find(|b| b.site == o.site && b.verdict == Verdict::ConsentMissing);
        if consent == Consent::Unsure
            && let Some(known) = known
        {
            o.verdict = Verdict::ConsentMissing;
            o.observed_at = known.observed_at;
            o.detail = Some(format!("{}; it was missing when last asked", said.unwrap_or("consent not verified")));
        }
    }
}

fn observation(customer: &CustomerId, look: &SiteLook, consent: Consent) -> Observation {
    let settings = match &look.read {
        Ok(settings) => settings,
        Err(failure) => return failed(customer, Some(look.site.clone()), failure, look.at),
    };
    let (verdict, detail) = judge(settings, consent);
    Observation {
        customer: customer.clone(),
        site: Some(look.site.clone()),
        verdict,
        server_type: settings.server_type,
        auth_method: settings.auth_method,
        raw: settings.raw.clone(),
        detail,
        observed_at: look.at,
    }
}

fn failed(customer: &CustomerId, site: Option<SiteName>, failure: &Failure, at: Timestamp) -> Observation {
    Observation {
        customer: customer.clone(),
        site,
        verdict: Verdict::Unreadable(failure.reason),
        server_type: None,
        auth_method: None,
        raw: failure.raw.clone(),
        detail: Some(failure.detail.clone()),
        observed_at: at,
    }
}

#[cfg(test)]
mod tests;
