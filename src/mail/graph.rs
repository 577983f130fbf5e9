//! Microsoft Graph's `sendMail`, with the whole message as base64 (`POST /v1.0/users/USER/sendMail`, `Content-Type: text/plain`).
//!
//! 202 means accepted and has no body. Graph takes the recipients from the message's own To and Cc, which are the envelope's
//! in everything kigen builds. Invariant: a request that may have gone out whole and had no clear answer is unknown.

use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use super::message::well_formed;
use super::outcome::one_line;
use super::token::Tokens;
use super::{MailError, Outgoing, Transport};
use crate::config::GraphConfig;
use crate::domain::delivery::{Attempt, Outcome};
use crate::secret::Secret;

/// The section of the configuration, for errors.
const SECTION: &str = "mail.graph";
/// What an answer may hold; Graph's errors are some hundred bytes.
const ANSWER_MAX: usize = 64 * 1024;
/// The answer to a whole mail is waited for so long at least: a short wait makes duplicates.
const ANSWER_WAIT: Duration = Duration::from_secs(120);
/// The longest pause asked for that is kept before the next mail; a longer one is left to the retries.
const PAUSE_MAX: Duration = Duration::from_secs(120);

/// The transport `graph`.
pub struct Graph {
    endpoint: Url,
    client: reqwest::Client,
    tokens: Tokens,
    timeout: Duration,
    quiet_until: Option<Instant>,
}

#[derive(Deserialize)]
struct Refusal {
    error: RefusalWords,
}

#[derive(Deserialize)]
struct RefusalWords {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Graph {
    /// Reads the secret; connects to nothing.
    ///
    /// # Errors
    /// [`MailError`]
    pub fn new(config: &GraphConfig) -> Result<Self, MailError> {
        let mut endpoint = config.url.clone();
        endpoint.path_segments_mut().map_err(|()| MailError::GraphUrl)?.pop_if_empty().extend([
            "v1.0",
            "users",
            config.user.as_str(),
            "sendMail",
        ]);
        let secret = config.client_secret.read().map_err(|e| MailError::Secret(SECTION, e))?;
        let tokens = Tokens::new(
            SECTION,
            config.token_url.clone(),
            config.client_id.clone(),
            secret,
            config.scope.clone(),
            config.timeout,
            None,
        )?;
        // No redirect: it would carry token and mail to another place.
        let mut builder = reqwest::Client::builder()
            .connect_timeout(config.timeout)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never());
        if config.url.scheme() == "http" {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(MailError::GraphClient)?;
        Ok(Self { endpoint, client, tokens, timeout: config.timeout.max(ANSWER_WAIT), quiet_until: None })
    }

    /// One request, its answer not judged yet; `Err`: no clear answer.
    async fn post(&self, token: &Secret, body: String) -> Result<(u16, Option<Duration>, Vec<u8>), Attempt> {
        let request = self
            .client
            .post(self.endpoint.clone())
            .bearer_auth(token.expose())
            .header(CONTENT_TYPE, "text/plain")
            .timeout(self.timeout)
            .body(body);
        let mut response = request.send().await.map_err(|error| lost(&error))?;
        let status = response.status().as_u16();
        let pause = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let mut answer = Vec::new();
        // The status has decided already; a broken-off text only tells less.
        while let Ok(Some(piece)) = response.chunk().await {
            if answer.len() + piece.len() > ANSWER_MAX {
                break;
            }
            answer.extend_from_slice(&piece);
        }
        Ok((status, pause.map(Duration::from_secs), answer))
    }

    async fn try_send(&mut self, mail: &Outgoing) -> Attempt {
        if let Some(until) = self.quiet_until.take() {
            tokio::time::sleep_until(until).await;
        }
        let body = BASE64.encode(&mail.message);
        // A token may be revoked before its end: one fresh one is tried. 401 means that nothing was taken.
        for last in [false, true] {
            let token = match self.tokens.current().await {
                Ok(token) => token,
                Err(failure) => return Attempt::whole(failure.outcome, failure.reply),
            };
            let (status, pause, answer) = match self.post(&token, body.clone()).await {
                Ok(answered) => answered,
                Err(attempt) => return attempt,
            };
            if status == 401 && self.tokens.forget() && !last {
                continue;
            }
            if let Some(pause) = pause {
                self.quiet_until = Some(Instant::now() + pause.min(PAUSE_MAX));
            }
            return judge(status, pause.is_some(), &answer);
        }
        Attempt::whole(Outcome::Blocked, "Graph refuses the token")
    }
}

#[async_trait]
impl Transport for Graph {
    async fn send(&mut self, mail: &Outgoing) -> Attempt {
        if let Err(why) = well_formed(&mail.message) {
            return Attempt::whole(Outcome::Rejected, format!("the message is not well-formed: {why}"));
        }
        self.try_send(mail).await
    }

    async fn close(&mut self) {}
}

/// A request without an answer: only what never connected is known not to have arrived.
fn lost(error: &reqwest::Error) -> Attempt {
    let mut text = String::new();
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        text = format!("{text}{}{error}", if text.is_empty() { "" } else { ": " });
        cause = error.source();
    }
    let text = one_line(&text.replace(error.url().map_or("\u{0}", Url::as_str), "Graph"));
    if error.is_connect() || error.is_builder() {
        return Attempt::whole(Outcome::Deferred, format!("cannot reach Graph: {text}"));
    }
    Attempt::whole(Outcome::Unknown, format!("the request went out, no answer came: {text}"))
}

/// Words of Graph that speak of us and not of this mail.
const OUR_FAULT: [&str; 6] = [
    "ErrorSendAsDenied",
    "ErrorAccessDenied",
    "ErrorQuotaExceeded",
    "ErrorExceededMessageLimit",
    "ErrorMessageSubmissionBlocked",
    "ErrorMailboxStoreUnavailable",
];

/// What an answer means. `pause`: it came with Retry-After.
fn judge(status: u16, pause: bool, answer: &[u8]) -> Attempt {
    let words = serde_json::from_slice::<Refusal>(answer).map(|r| r.error).ok();
    let code = words.as_ref().map_or("", |w| w.code.as_str());
    let outcome = match status {
        202 => Outcome::Accepted,
        // Nothing else is a promise, but it may have been taken.
        200..=299 => Outcome::Unknown,
        // A gateway lost what was behind it.
        502 | 504 if !pause => Outcome::Unknown,
        408 | 409 | 429 | 500..=599 => Outcome::Deferred,
        401 | 403 | 404 => Outcome::Blocked,
        _ if OUR_FAULT.contains(&code) => Outcome::Blocked,
        400..=499 => Outcome::Rejected,
        _ => Outcome::Blocked,
    };
    let said = words.map_or_else(String::new, |w| format!(" {}: {}", w.code, w.message));
    Attempt::whole(outcome, one_line(&format!("Graph answered {status}{said}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_has_its_meaning() {
        let rows = [
            (202, false, "", Outcome::Accepted, "the only success"),
            (200, false, "", Outcome::Unknown, "no promise"),
            (429, true, "", Outcome::Deferred, "throttled"),
            (503, true, "", Outcome::Deferred, "busy"),
            (503, false, "", Outcome::Deferred, "busy"),
            (504, false, "", Outcome::Unknown, "a gateway that heard nothing"),
            (504, true, "", Outcome::Deferred, "asked to come again"),
            (401, false, "", Outcome::Blocked, "our token"),
            (403, false, r#"{"error":{"code":"ErrorAccessDenied","message":"x"}}"#, Outcome::Blocked, "our permission"),
            (404, false, "", Outcome::Blocked, "our mailbox"),
            (400, false, r#"{"error":{"code":"ErrorMimeContentInvalidBase64String"}}"#, Outcome::Rejected, "this mail"),
            (400, false, r#"{"error":{"code":"ErrorQuotaExceeded"}}"#, Outcome::Blocked, "our quota"),
            (413, false, "", Outcome::Rejected, "too large"),
            (302, false, "", Outcome::Blocked, "another place"),
        ];
        for (status, pause, answer, expected, why) in rows {
            assert_eq!(judge(status, pause, answer.as_bytes()).outcome, expected, "{status} {why}");
        }
        let said = judge(400, false, br#"{"error":{"code":"ErrorInvalidRecipients","message":"no taro@example.jp"}}"#);
        assert_eq!(said.reply, "Graph answered 400 ErrorInvalidRecipients: no t***@example.jp");
    }
}
