//! From an answer's status and bytes to what it means. Pure: every answer of the login service is judged here.
//!
//! Invariants: an answer that is not understood is [`Outcome::Unknown`] or [`Outcome::Transient`], never "no consent";
//! nothing of a body gets into a detail but error words, numbers and the identifiers that Microsoft's support asks for.

use serde_json::{Map, Value};

use super::claims;
use super::codes::{self, Meaning};

/// What became of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The application is in the tenant and has every role that is asked for.
    Given,
    /// It is not, or lacks a role.
    Missing,
    /// The tenant disabled it.
    Disabled,
    /// The tenant has no Exchange Online.
    NoExchangeOnline,
    /// There is no such tenant.
    NoTenant,
    /// Our own credential is not accepted.
    OwnCredential,
    /// We were told to ask less.
    Throttled,
    /// The service, or the way there, is in trouble.
    Transient,
    /// An answer that says nothing we know.
    Unknown,
}

impl Outcome {
    /// The word in details and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::Missing => "missing",
            Self::Disabled => "disabled",
            Self::NoExchangeOnline => "no_exchange_online",
            Self::NoTenant => "no_tenant",
            Self::OwnCredential => "own_credential",
            Self::Throttled => "throttled",
            Self::Transient => "transient",
            Self::Unknown => "unknown",
        }
    }

    /// Whether the answer shows that it is the service that is in trouble.
    #[must_use]
    pub fn is_trouble(self) -> bool {
        matches!(self, Self::Throttled | Self::Transient)
    }
}

/// An outcome, with its reason in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// What became of it.
    pub outcome: Outcome,
    /// English, one line, no secret, no token.
    pub detail: String,
}

impl Said {
    /// Puts both together.
    #[must_use]
    pub fn new(outcome: Outcome, detail: impl Into<String>) -> Self {
        Self { outcome, detail: detail.into() }
    }
}

/// Who checks the passwords of a domain's users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Realm {
    /// Microsoft.
    Managed,
    /// A server of the customer's own (AD FS or the like).
    Federated,
    /// The domain is not one of Microsoft 365.
    Unknown,
}

/// A tenant as the domain's configuration names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its id, a GUID.
    pub id: String,
    /// `tenant_region_scope` and, where there is one, `tenant_region_sub_scope`: `AS`, `NA/GCC`.
    pub region: Option<String>,
}

/// `/common/userrealm/…` (`account_type`) and `/getuserrealm.srf` (`NameSpaceType`), whose `State` numbers are the same for
/// managed and unknown domains and so are not looked at.
///
/// # Errors
/// What became of it instead.
pub fn realm(status: u16, body: &[u8]) -> Result<Realm, Said> {
    let document = object(status, body)?;
    if status != 200 {
        return Err(refused(status, &document));
    }
    let word = ["account_type", "NameSpaceType"].into_iter().find_map(|key| document.get(key)).and_then(Value::as_str);
    match word.map(str::to_ascii_lowercase).as_deref() {
        Some("managed") => Ok(Realm::Managed),
        Some("federated") => Ok(Realm::Federated),
        Some("unknown") => Ok(Realm::Unknown),
        Some(_) => Err(Said::new(Outcome::Unknown, "a kind of realm that is not known")),
        None => Err(Said::new(Outcome::Unknown, "the answer names no kind of realm")),
    }
}

/// `/{domain}/v2.0/.well-known/openid-configuration`: a domain that is none of a tenant is 400, not 404.
///
/// # Errors
/// What became of it instead.
pub fn tenant(status: u16, body: &[u8]) -> Result<Tenant, Said> {
    let document = object(status, body)?;
    if status != 200 {
        return Err(refused(status, &document));
    }
    let id = |key: &str| document.get(key).and_then(Value::as_str).and_then(guid_in);
    let region = |key: &str| {
        let text = document.get(key).and_then(Value::as_str)?;
        let fits = (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
        fits.then(|| text.to_owned())
    };
    let id = match (id("issuer"), id("token_endpoint")) {
        (Some(one), Some(other)) if one != other => {
            return Err(Said::new(Outcome::Unknown, "issuer and token_endpoint name different tenants"));
        }
        (Some(id), _) | (None, Some(id)) => id,
        (None, None) => return Err(Said::new(Outcome::Unknown, "the configuration names no tenant id")),
    };
    let region = match (region("tenant_region_scope"), region("tenant_region_sub_scope")) {
        (Some(scope), Some(sub)) => Some(format!("{scope}/{sub}")),
        (scope, _) => scope,
    };
    Ok(Tenant { id, region })
}

/// The token endpoint's answer to the client credentials grant. `tenant`: the id that was asked, where one is known.
///
/// That a token comes means that the application is in the tenant and enabled; what was granted stands in its `roles`.
#[must_use]
pub fn token(status: u16, body: &[u8], tenant: Option<&str>, roles: &[String]) -> Said {
    let document = match object(status, body) {
        Ok(document) => document,
        Err(said) => return said,
    };
    if status != 200 {
        return refused(status, &document);
    }
    let text = |key: &str| document.get(key).and_then(Value::as_str);
    if !text("token_type").is_some_and(|kind| kind.eq_ignore_ascii_case("bearer")) {
        return Said::new(Outcome::Unknown, "the answer is no bearer token");
    }
    let Some(token) = text("access_token") else {
        return Said::new(Outcome::Unknown, "the answer holds no token");
    };
    let claims = match claims::read(token) {
        Ok(claims) => claims,
        Err(why) => return Said::new(Outcome::Unknown, why),
    };
    if let Some(asked) = tenant
        && !claims.tenant.as_deref().is_some_and(|tid| tid.eq_ignore_ascii_case(asked))
    {
        return Said::new(Outcome::Unknown, "the token is not for the tenant that was asked (tid)");
    }
    let lacking: Vec<&str> = roles.iter().filter(|role| !claims.roles.contains(role)).map(String::as_str).collect();
    match lacking.is_empty() {
        true => Said::new(Outcome::Given, "granted"),
        false => {
            let detail = format!("the application is in the tenant without the role {}", lacking.join(", "));
            Said::new(Outcome::Missing, detail)
        }
    }
}

/// The body as an object, or what its absence means. Trouble of the service goes before whatever it says of itself.
fn object(status: u16, body: &[u8]) -> Result<Map<String, Value>, Said> {
    let document = serde_json::from_slice::<Value>(body).ok();
    if status == 429 {
        let ids = document.as_ref().and_then(Value::as_object).map_or_else(String::new, support_ids);
        return Err(Said::new(Outcome::Throttled, format!("answered 429, too many requests{ids}")));
    }
    if status >= 500 {
        let ids = document.as_ref().and_then(Value::as_object).map_or_else(String::new, support_ids);
        return Err(Said::new(Outcome::Transient, format!("answered {status}{ids}")));
    }
    match document {
        Some(Value::Object(document)) => Ok(document),
        Some(_) => Err(Said::new(Outcome::Unknown, format!("answered {status} with JSON of another shape"))),
        None if body.trim_ascii_start().starts_with(b"<") => {
            Err(Said::new(Outcome::Transient, format!("answered {status} with a web page instead of JSON")))
        }
        None => Err(Said::new(Outcome::Transient, format!("answered {status} without JSON"))),
    }
}

fn refused(status: u16, document: &Map<String, Value>) -> Said {
    let word = document.get("error").and_then(Value::as_str).unwrap_or_default();
    let numbers = match document.get("error_codes") {
        None => Some(Vec::new()),
        Some(value) => value.as_array().and_then(|list| list.iter().map(Value::as_u64).collect()),
    };
    let shown = error_word(word);
    let ids = support_ids(document);
    let Some(numbers) = numbers else {
        return Said::new(Outcome::Unknown, format!("answered {status} {shown} with error_codes of another type{ids}"));
    };
    if let Some(code) = codes::meaning(word, &numbers) {
        let outcome = match code.meaning {
            Meaning::Missing => Outcome::Missing,
            Meaning::Disabled => Outcome::Disabled,
            Meaning::NoExchangeOnline => Outcome::NoExchangeOnline,
            Meaning::NoTenant => Outcome::NoTenant,
            Meaning::OwnCredential => Outcome::OwnCredential,
            Meaning::Throttled => Outcome::Throttled,
            Meaning::Transient => Outcome::Transient,
        };
        return Said::new(outcome, format!("{} (AADSTS{}, {shown}{ids})", code.says, code.number));
    }
    // RFC 6749 4.1.2.1 has these two words for trouble of the server itself.
    if numbers.is_empty() && matches!(word, "temporarily_unavailable" | "server_error") {
        return Said::new(Outcome::Transient, format!("answered {status} {shown}{ids}"));
    }
    let numbers: Vec<String> = numbers.iter().take(5).map(|n| format!("AADSTS{n}")).collect();
    let numbers = if numbers.is_empty() { "no number".to_owned() } else { numbers.join(" ") };
    Said::new(Outcome::Unknown, format!("answered {status} {shown}, {numbers}{ids}: not known to kigen"))
}

/// An error word as it may be shown.
fn error_word(word: &str) -> &str {
    let fits = (1..=40).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    if fits { word } else { "with no known error word" }
}

/// Microsoft's support asks for these; a GUID is all that is let through.
fn support_ids(document: &Map<String, Value>) -> String {
    let id = |key: &str| {
        let text = document.get(key).and_then(Value::as_str).filter(|text| is_guid(text))?;
        Some(format!("; {key} {text}"))
    };
    ["trace_id", "correlation_id"].into_iter().filter_map(id).collect()
}

/// The first GUID among an URL's path segments, in lower case.
fn guid_in(url: &str) -> Option<String> {
    url.split('/').find(|part| is_guid(part)).map(str::to_ascii_lowercase)
}

/// 8-4-4-4-12 hexadecimal digits.
#[must_use]
pub fn is_guid(text: &str) -> bool {
    let dashes = [8, 13, 18, 23];
    text.len() == 36
        && text.bytes().enumerate().all(|(n, b)| if dashes.contains(&n) { b == b'-' } else { b.is_ascii_hexdigit() })
}

#[cfg(test)]
mod tests;
