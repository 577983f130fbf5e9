//! Access tokens by the OAuth 2 client credentials grant (RFC 6749 section 4.4), kept until shortly before they expire.
//!
//! Neither the token nor the secret nor a page's text gets into an error: only the endpoint's `error` word and, for Entra,
//! the `AADSTS` number.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use super::MailError;
use super::smtp::Failure;
use crate::domain::delivery::Outcome;
use crate::secret::Secret;

/// An answer is some kilobytes; more is not read.
const ANSWER_MAX: usize = 64 * 1024;
/// A token this close to its end is not used any more.
const SPARE: Duration = Duration::from_secs(120);

/// Gets tokens and keeps the newest.
pub(super) struct Tokens {
    /// Whose `token_url` it is, for errors.
    section: &'static str,
    url: Url,
    client_id: String,
    client_secret: Secret,
    scope: String,
    client: reqwest::Client,
    kept: Option<(Secret, Instant)>,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    token_type: String,
    #[serde(default)]
    expires_in: Option<u64>,
}

#[derive(Deserialize)]
struct Refused {
    error: String,
    #[serde(default)]
    error_description: String,
}

impl Tokens {
    pub(super) fn new(
        section: &'static str,
        url: Url,
        client_id: String,
        client_secret: Secret,
        scope: String,
        timeout: Duration,
        tls: Option<&rustls::ClientConfig>,
    ) -> Result<Self, MailError> {
        if url.scheme() != "https" && !(url.scheme() == "http" && loopback(&url)) {
            return Err(MailError::TokenUrl(section));
        }
        // No redirect: it would carry the secret to another place.
        let mut builder = reqwest::Client::builder().timeout(timeout).redirect(reqwest::redirect::Policy::none());
        if let Some(tls) = tls {
            builder = builder.tls_backend_preconfigured(tls.clone());
        }
        if loopback(&url) {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|e| MailError::TokenClient(section, e))?;
        Ok(Self { section, url, client_id, client_secret, scope, client, kept: None })
    }

    /// The kept token, or a new one.
    pub(super) async fn current(&mut self) -> Result<Secret, Failure> {
        if let Some((token, until)) = &self.kept
            && Instant::now() < *until
        {
            return Ok(token.clone());
        }
        let granted = self.fetch().await?;
        let lifetime = Duration::from_secs(granted.expires_in.unwrap_or(0).min(86_400));
        let token = Secret::new(granted.access_token);
        self.kept = Some((token.clone(), Instant::now() + lifetime.saturating_sub(SPARE)));
        Ok(token)
    }

    /// Drops the kept token; whether there was one.
    pub(super) fn forget(&mut self) -> bool {
        self.kept.take().is_some()
    }

    async fn fetch(&self) -> Result<Granted, Failure> {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &self.client_id),
            ("client_secret", self.client_secret.expose()),
            ("scope", &self.scope),
        ];
        let section = self.section;
        let unreachable = |error: reqwest::Error| {
            Failure::new(Outcome::Deferred, format!("{section}.token_url: {}", describe(&error.without_url())))
        };
        let mut response = self.client.post(self.url.clone()).form(&form).send().await.map_err(unreachable)?;
        let status = response.status();
        let mut answer = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(unreachable)? {
            if answer.len() + piece.len() > ANSWER_MAX {
                return Err(Failure::new(Outcome::Deferred, format!("{section}.token_url: the answer is too long")));
            }
            answer.extend_from_slice(&piece);
        }
        read_answer(section, status.as_u16(), &answer)
    }
}

fn read_answer(section: &str, status: u16, answer: &[u8]) -> Result<Granted, Failure> {
    // Of the moment: the endpoint's trouble and its throttling. Everything else lasts until somebody mends it.
    let outcome = if status == 429 || status >= 500 { Outcome::Deferred } else { Outcome::Blocked };
    let failure = |what: String| Failure::new(outcome.clone(), format!("{section}.token_url: {what}"));
    if status == 200
        && let Ok(granted) = serde_json::from_slice::<Granted>(answer)
    {
        let usable = |b: u8| b.is_ascii_graphic();
        if !granted.token_type.eq_ignore_ascii_case("bearer") {
            return Err(failure("the token is no bearer token".to_owned()));
        }
        if granted.access_token.is_empty() || !granted.access_token.bytes().all(usable) {
            return Err(failure("the token is empty or no token".to_owned()));
        }
        return Ok(granted);
    }
    if let Ok(refused) = serde_json::from_slice::<Refused>(answer) {
        let number = aadsts(&refused.error_description).map_or_else(String::new, |n| format!(" ({n})"));
        let word: String = refused.error.chars().take(60).collect();
        return Err(failure(format!("refused with {status} {word}{number}")));
    }
    let start = String::from_utf8_lossy(&answer[..answer.len().min(256)]).trim_start().to_ascii_lowercase();
    if start.starts_with("<!doctype") || start.starts_with("<html") || start.starts_with('<') {
        return Err(failure(format!("answered {status} with a web page instead of a token; is the address right?")));
    }
    Err(failure(format!("answered {status} without a token")))
}

/// `AADSTS7000222: The provided …` -> `AADSTS7000222`.
fn aadsts(description: &str) -> Option<&str> {
    let start = description.find("AADSTS")?;
    let digits = description[start + 6..].bytes().take_while(u8::is_ascii_digit).count();
    (digits > 0).then(|| &description[start..start + 6 + digits])
}

fn loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// The error with its causes, which reqwest leaves out of its own text.
fn describe(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_token_or_says_why_not_without_secrets() {
        let good = br#"{"token_type":"Bearer","expires_in":3599,"access_token":"abc.def"}"#;
        assert_eq!(read_answer("mail.graph", 200, good).map(|g| g.access_token).ok().as_deref(), Some("abc.def"));
        let rows: &[(u16, &str, Outcome, &str)] = &[
            (
                401,
                r#"{"error":"invalid_client","error_description":"AADSTS7000222: expired for taro@example.jp"}"#,
                Outcome::Blocked,
                "mail.graph.token_url: refused with 401 invalid_client (AADSTS7000222)",
            ),
            (503, r#"{"error":"temporarily_unavailable"}"#, Outcome::Deferred, "refused with 503"),
            (200, "<!DOCTYPE html><p>s3cret", Outcome::Blocked, "answered 200 with a web page"),
            (502, "<html>bad gateway", Outcome::Deferred, "answered 502 with a web page"),
            (429, "", Outcome::Deferred, "answered 429 without a token"),
            (302, "", Outcome::Blocked, "answered 302 without a token"),
            (200, r#"{"token_type":"mac","access_token":"x"}"#, Outcome::Blocked, "no bearer"),
            (200, r#"{"token_type":"Bearer","access_token":"a\r\nb"}"#, Outcome::Blocked, "no token"),
        ];
        for (status, answer, outcome, says) in rows {
            let failure = read_answer("mail.graph", *status, answer.as_bytes()).err().unwrap();
            assert_eq!(failure.outcome, *outcome, "{answer}");
            assert!(failure.reply.contains(says), "{}", failure.reply);
            assert!(!failure.reply.contains("s3cret"));
        }
    }
}
