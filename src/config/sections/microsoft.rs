//! `[microsoft]`: what the Microsoft side is asked, and as whom.

use std::path::Path;

use toml::de::DeValue;

use crate::config::section::Section;
use crate::config::values::{self, Bad, quoted};
use crate::config::{ConsentConfig, ConsentCredential, MicrosoftConfig};

pub(in crate::config) fn microsoft(s: &mut Section<'_, '_>, base: &Path) -> MicrosoftConfig {
    s.section("microsoft", |s| MicrosoftConfig {
        realm: s.or("realm", false, values::flag),
        login_url: s.or("login_url", "https://login.microsoftonline.com", login_url),
        consent: s.section("consent", |s| consent(s, base)),
    })
}

/// Secrets go there, and paths are put behind it.
fn login_url(value: &DeValue<'_>) -> Result<url::Url, Bad> {
    let url = values::secure_url(value)?;
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        let hint = "such as \"https://login.microsoftonline.com\"; kigen adds the tenant and the rest";
        return Err(Bad::new("must be a host alone, without a path").hint(hint));
    }
    Ok(url)
}

fn consent(s: &mut Section<'_, '_>, base: &Path) -> Option<ConsentConfig> {
    let client_id = s.opt("client_id", values::text);
    let secret = s.opt("client_secret", values::secret(base));
    let certificate = s.opt("certificate", values::existing_file(base));
    let key = s.opt("key", values::secret(base));
    let roles = s.list("roles", &["full_access_as_app"], values::text);
    let scope = s.or("scope", "https://outlook.office365.com/.default", values::text);
    let home_tenant = s.opt("home_tenant", tenant);
    if !s.is_there() {
        return None;
    }
    if !s.has("client_id") {
        s.problem(
            "client_id",
            "must be set in microsoft.consent",
            "the product's application id in Microsoft Entra ID",
        );
    }
    let (one, other) = (s.has("client_secret"), s.has("certificate") || s.has("key"));
    match (one, other) {
        (true, true) => {
            let hint = "keep client_secret, or certificate and key; take the other out";
            s.problem("client_secret", "and a certificate are both set: only one can prove who we are", hint);
        }
        (false, false) => {
            let hint = "such as client_secret = { credential = \"entra\" }, or certificate and key";
            s.problem("client_secret", "must be set in microsoft.consent, or `certificate` and `key`", hint);
        }
        (false, true) => {
            for name in ["certificate", "key"].into_iter().filter(|name| !s.has(name)).collect::<Vec<_>>() {
                s.problem(name, "must be set: `certificate` and `key` belong together", "PEM, both of them");
            }
        }
        (true, false) => {}
    }
    let credential = match (secret, certificate, key) {
        (Some(secret), None, None) => ConsentCredential::Secret(secret),
        (None, Some(certificate), Some(key)) => ConsentCredential::Certificate { certificate, key },
        _ => return None,
    };
    Some(ConsentConfig { client_id: client_id?, credential, roles, scope, home_tenant })
}

/// A domain or a GUID: it becomes one part of a URL's path.
fn tenant(value: &DeValue<'_>) -> Result<String, Bad> {
    let text = values::text(value)?;
    let fits = text.len() <= 253 && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
    let named = text.contains('.') || text.len() == 36;
    if fits && named && !text.starts_with('.') && !text.contains("..") {
        return Ok(text);
    }
    Err(Bad::new(format!("{} is neither a domain nor a tenant's id", quoted(&text)))
        .hint("such as \"example.onmicrosoft.com\""))
}
