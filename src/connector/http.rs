//! The polite client: one connection pool, requests per second and concurrency limited per host over all customers, pages
//! capped while they are read, retries only where they can help.
//!
//! It follows no redirect, keeps no cookie and judges no page: that is its callers' work. Invariant: it never connects to
//! an address that the configuration refuses, whatever a name resolves to.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::cookie::{CookieStore, Jar};
use reqwest::header::{CONTENT_TYPE, COOKIE, HeaderMap, LOCATION, RETRY_AFTER, SET_COOKIE};
use reqwest::{Client, Method};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use url::Url;

use super::ConnectorError;
use super::addresses::{Guarded, PrivateAddress, Unresolved, is_private, refused_text};
use crate::clock::Clock;
use crate::config::ScanConfig;
use crate::domain::Timestamp;
use crate::domain::observation::{Failure, Reason};
use crate::metrics::Metrics;

/// What the client says it is.
pub const USER_AGENT: &str = concat!("kigen/", env!("CARGO_PKG_VERSION"));
/// The first wait between two tries of one request; doubled each time.
const BACKOFF: Duration = Duration::from_millis(250);
/// The longest of those waits.
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// The longest `Retry-After` that is waited for within a session.
const QUIET_MAX: Duration = Duration::from_secs(60);
/// The longest time that a host is left alone because of a longer one.
const ALONE_MAX: Duration = Duration::from_secs(600);

/// Which failures of a request may be followed by another try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// All that may pass: the request does no harm when it arrives twice.
    Idempotent,
    /// Only when nothing was sent, or the server said it did not take it (429, 503 with `Retry-After`): a password.
    Unsent,
    /// None.
    Never,
}

/// One request.
#[derive(Debug, Clone)]
pub struct Request {
    /// Where.
    pub url: Url,
    /// A form to post; `None`: GET.
    pub form: Option<String>,
    /// What may be tried again.
    pub retry: Retry,
    /// Whether an answer stands as it is, though its status is one that often passes.
    pub stands: fn(&Answer) -> bool,
}

/// One answer, read whole within the cap.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// `Content-Type`
    pub content_type: Option<String>,
    /// `Location`
    pub location: Option<String>,
    /// `Retry-After`, at most a day.
    pub retry_after: Option<Duration>,
    /// Whether a cookie came with it.
    pub set_cookie: bool,
    /// The body, decompressed.
    pub body: Vec<u8>,
}

/// See the module.
pub struct Polite {
    client: Client,
    clock: Arc<dyn Clock>,
    hosts: Mutex<HashMap<String, Arc<Host>>>,
    scan: ScanConfig,
    metrics: Option<Arc<Metrics>>,
    /// Which of the metrics counts a request.
    tally: fn(&Metrics, &'static str),
}

/// One host's limits, shared by everybody who talks to it.
struct Host {
    permits: Semaphore,
    next: Mutex<Instant>,
    /// Until when the host asked to be left alone, and what it was then.
    alone: Mutex<Option<(Instant, Failure)>>,
}

impl Polite {
    /// Builds the client. A machine without root certificates is no error until an `https` URL is met.
    ///
    /// # Errors
    /// `scan.ca_file` cannot be read, or the TLS library refuses its configuration.
    pub fn new(scan: &ScanConfig, clock: Arc<dyn Clock>) -> Result<Self, ConnectorError> {
        let client = Client::builder()
            .tls_backend_preconfigured(tls(scan)?)
            .user_agent(USER_AGENT)
            .redirect(reqwest::redirect::Policy::none())
            .dns_resolver(Arc::new(Guarded { allow_private: scan.allow_private_hosts }))
            // A proxy from the environment would be sent the passwords, and would resolve names past our refusals.
            .no_proxy()
            .connect_timeout(scan.timeout)
            .timeout(scan.timeout)
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(scan.concurrency.clamp(1, 64))
            .tcp_nodelay(true)
            .build()
            .map_err(ConnectorError::Client)?;
        Ok(Self {
            client,
            clock,
            hosts: Mutex::new(HashMap::new()),
            scan: scan.clone(),
            metrics: None,
            tally: Metrics::scan_request,
        })
    }

    /// Sends one request and reads its answer, with at most `scan.attempts` tries before `deadline`.
    ///
    /// # Errors
    /// A classified failure; its detail names the path, never the query, the fields or the body.
    pub async fn send(&self, jar: &Jar, request: &Request, deadline: Instant) -> Result<Answer, Failure> {
        self.send_with(jar, request, &HeaderMap::new(), deadline).await
    }

    /// The same with headers of the caller's own, which take the place of ours.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn send_with(
        &self,
        jar: &Jar,
        request: &Request,
        headers: &HeaderMap,
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        self.refuse_literal(&request.url)?;
        let host = self.host(&request.url);
        let mut tries = 1;
        loop {
            host.left_alone()?;
            let outcome = self.once(jar, request, headers, &host).await;
            let last = tries >= self.scan.attempts.max(1) || request.retry == Retry::Never;
            let wait = match &outcome {
                Ok((answer, after)) => wait_after(answer, *after, request, tries),
                Err(Broken { may_retry, unsent, .. }) => {
                    (*may_retry && (*unsent || request.retry == Retry::Idempotent)).then(|| backoff(tries))
                }
            };
            let wait = wait.filter(|wait| !last && Instant::now() + *wait < deadline);
            self.count(outcome.is_ok(), wait.is_some());
            let Some(wait) = wait else {
                if let Ok((answer, Some(after))) = &outcome
                    && matches!(answer.status, 429 | 503)
                    && *after > QUIET_MAX
                {
                    host.leave_alone(*after, (request.stands)(answer), answer.status);
                }
                return outcome.map(|(answer, _)| answer).map_err(|broken| broken.failure);
            };
            tracing::debug!(host = host_name(&request.url), path = request.url.path(), tries, "trying again");
            if matches!(&outcome, Ok((_, Some(_)))) {
                host.hold(wait); // the server asked for quiet: everybody keeps it
            }
            tokio::time::sleep(wait).await;
            tries += 1;
        }
    }

    /// Counts every request in these metrics.
    #[must_use]
    pub fn counted(self, metrics: Arc<Metrics>) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    /// The same, in another of them.
    #[must_use]
    pub fn counted_as(self, tally: fn(&Metrics, &'static str), metrics: Arc<Metrics>) -> Self {
        Self { metrics: Some(metrics), tally, ..self }
    }

    fn count(&self, answered: bool, again: bool) {
        let outcome = match (answered, again) {
            (_, true) => "retry",
            (true, false) => "ok",
            (false, false) => "error",
        };
        if let Some(metrics) = &self.metrics {
            (self.tally)(metrics, outcome);
        }
    }

    /// A host that is written as an address is resolved by nobody, so it is checked here.
    fn refuse_literal(&self, url: &Url) -> Result<(), Failure> {
        let address = match url.host() {
            Some(url::Host::Ipv4(v4)) => IpAddr::V4(v4),
            Some(url::Host::Ipv6(v6)) => IpAddr::V6(v6),
            Some(url::Host::Domain(_)) => return Ok(()),
            None => return Err(Failure::new(Reason::Connect, "the URL has no host")),
        };
        if self.scan.allow_private_hosts || !is_private(address) {
            return Ok(());
        }
        Err(Failure::new(Reason::Connect, refused_text(host_name(url))))
    }

    fn host(&self, url: &Url) -> Arc<Host> {
        let key = format!("{}:{}", host_name(url), url.port_or_known_default().unwrap_or(0));
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            let permits = Semaphore::new(self.scan.concurrency.clamp(1, Semaphore::MAX_PERMITS));
            Arc::new(Host { permits, next: Mutex::new(Instant::now()), alone: Mutex::new(None) })
        };
        Arc::clone(hosts.entry(key).or_insert_with(new))
    }

    async fn once(
        &self,
        jar: &Jar,
        request: &Request,
        headers: &HeaderMap,
        host: &Host,
    ) -> Result<(Answer, Option<Duration>), Broken> {
        let _permit = host.permits.acquire().await.map_err(|_| Broken::gone())?;
        // The host does not care how many nodes ask: each takes its part.
        let per_second = self.scan.requests_per_second;
        host.turn(self.metrics.as_ref().map_or(per_second, |metrics| metrics.share_of(per_second))).await;
        let url = &request.url;
        let mut builder = match &request.form {
            None => self.client.get(url.clone()),
            Some(form) => self
                .client
                .request(Method::POST, url.clone())
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form.clone()),
        };
        builder = builder.header(reqwest::header::ACCEPT, "text/html,application/xhtml+xml,*/*;q=0.8");
        builder = builder.header(reqwest::header::ACCEPT_LANGUAGE, "ja,en;q=0.5");
        builder = builder.headers(headers.clone());
        if let Some(cookies) = jar.cookies(url) {
            builder = builder.header(COOKIE, cookies);
        }
        // The client's own timeout covers the body too; this one is for what it might not cover.
        let limit = self.scan.timeout + Duration::from_secs(1);
        match tokio::time::timeout(limit, self.exchange(builder, jar, url)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Broken::timeout(url, self.scan.timeout)),
        }
    }

    async fn exchange(
        &self,
        builder: reqwest::RequestBuilder,
        jar: &Jar,
        url: &Url,
    ) -> Result<(Answer, Option<Duration>), Broken> {
        let mut response = builder.send().await.map_err(|error| self.broken(url, &error))?;
        jar.set_cookies(&mut response.headers().get_all(SET_COOKIE).iter(), url);
        let status = response.status();
        let headers = response.headers();
        let after = retry_after(headers, self.clock.now());
        let mut answer = Answer {
            status: status.as_u16(),
            content_type: text(headers, CONTENT_TYPE),
            location: text(headers, LOCATION),
            retry_after: after,
            set_cookie: headers.contains_key(SET_COOKIE),
            body: Vec::new(),
        };
        let cap = self.scan.max_page;
        // `content_length` is unknown for a compressed page, so the cap is kept while reading.
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if answer.body.len() + chunk.len() > cap => return Err(Broken::too_large(url, cap)),
                Ok(Some(chunk)) => answer.body.extend_from_slice(&chunk),
                Ok(None) => return Ok((answer, after)),
                Err(_) if status.is_redirection() => return Ok((answer, after)), // its body is of no interest
                Err(error) => return Err(self.broken(url, &error)),
            }
        }
    }

    /// Sorts a transport error; the text is ours, so that no URL with a query gets into it.
    fn broken(&self, url: &Url, error: &reqwest::Error) -> Broken {
        let host = host_name(url);
        let unsent = error.is_connect();
        let chain = chain(error);
        if let Some(refused) = source::<PrivateAddress>(error) {
            return Broken::new(Reason::Dns, refused.to_string(), unsent, false);
        }
        if let Some(unresolved) = source::<Unresolved>(error) {
            return Broken::new(Reason::Dns, unresolved.to_string(), unsent, true);
        }
        if error.is_timeout() || chain.contains("timed out") || chain.contains("deadline") {
            return Broken { unsent, ..Broken::timeout(url, self.scan.timeout) };
        }
        if let Some(tls) = tls_error(error) {
            let detail = format!("TLS with {host} failed: {tls}; check the host's certificate, or set scan.ca_file");
            return Broken::new(Reason::Tls, detail, unsent, false);
        }
        if unsent && url.scheme() == "https" && chain.contains("handshake") {
            return Broken::new(Reason::Tls, format!("{host} broke off the TLS handshake"), unsent, true);
        }
        let what = match chain.as_str() {
            c if c.contains("refused") => "refused the connection",
            c if c.contains("reset") => "broke the connection (reset)",
            c if c.contains("unreachable") => "is not reachable from here",
            _ if unsent => "could not be connected to",
            _ if error.is_decode() => "sent a body that cannot be decompressed, or broke off",
            _ => "broke the connection before its answer was complete",
        };
        Broken::new(Reason::Connect, format!("{host} {what} ({})", url.path()), unsent, true)
    }
}

impl Host {
    /// Waits for this request's place in the row: evenly spaced, over all customers.
    async fn turn(&self, per_second: f64) {
        let gap = Duration::try_from_secs_f64(1.0 / per_second).unwrap_or(Duration::ZERO);
        let at = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let at = (*next).max(Instant::now());
            *next = at + gap;
            at
        };
        tokio::time::sleep_until(at).await;
    }

    /// It asked for more time than anybody here can wait: it gets it, and nobody asks it meanwhile.
    fn leave_alone(&self, time: Duration, maintenance: bool, status: u16) {
        let reason = if maintenance { Reason::Maintenance } else { Reason::HttpStatus };
        let detail =
            format!("the host answered {status} and asked to be left alone for {} seconds; it is", time.as_secs());
        let until = Instant::now() + time.min(ALONE_MAX);
        *self.alone.lock().unwrap_or_else(PoisonError::into_inner) = Some((until, Failure::new(reason, detail)));
    }

    fn left_alone(&self) -> Result<(), Failure> {
        let mut alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
        match alone.as_ref() {
            Some((until, failure)) if *until > Instant::now() => Err(failure.clone()),
            _ => {
                *alone = None;
                Ok(())
            }
        }
    }

    /// Nobody's turn comes before `wait` is over.
    fn hold(&self, wait: Duration) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        *next = (*next).max(Instant::now() + wait);
    }
}

/// How long to wait before the next try of a request that was answered; `None`: the answer stands.
fn wait_after(answer: &Answer, after: Option<Duration>, request: &Request, tries: u32) -> Option<Duration> {
    match (answer.status, after) {
        (429 | 503, Some(after)) => {
            // Longer than that, and the answer stands: everybody who talks to this host would wait in vain meanwhile.
            let limit = if (request.stands)(answer) { QUIET_MAX / 6 } else { QUIET_MAX };
            (after <= limit).then(|| after.max(Duration::from_millis(50)))
        }
        (429 | 500 | 502 | 503 | 504, None) if request.retry == Retry::Idempotent && !(request.stands)(answer) => {
            Some(backoff(tries))
        }
        _ => None,
    }
}

/// Doubles each time, and is spread so that customers who failed together do not come back together.
fn backoff(tries: u32) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    let whole = BACKOFF.saturating_mul(1 << tries.saturating_sub(1).min(10)).min(BACKOFF_MAX);
    let spread = RandomState::new().hash_one(tries) % 1000;
    whole / 2 + whole.mul_f64(spread as f64 / 2000.0)
}

/// `Retry-After` in seconds or as an HTTP date (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds.min(24 * 3600)));
    }
    let at = chrono::DateTime::parse_from_rfc2822(value).ok()?;
    (at.with_timezone(&chrono::Utc) - now).to_std().ok().or(Some(Duration::ZERO))
}

fn text(headers: &HeaderMap, name: reqwest::header::HeaderName) -> Option<String> {
    // A path in `Location` may hold raw UTF-8.
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// The host's name, for details and log lines.
#[must_use]
pub fn host_name(url: &Url) -> &str {
    url.host_str().unwrap_or("?")
}

struct Broken {
    failure: Failure,
    unsent: bool,
    may_retry: bool,
}

impl Broken {
    fn new(reason: Reason, detail: String, unsent: bool, may_retry: bool) -> Self {
        Self { failure: Failure::new(reason, detail), unsent, may_retry }
    }

    fn timeout(url: &Url, limit: Duration) -> Self {
        let detail = format!("{} gave no whole answer within {limit:?} ({})", host_name(url), url.path());
        Self::new(Reason::Timeout, detail, false, true)
    }

    fn too_large(url: &Url, cap: usize) -> Self {
        let detail = format!("the page {} is larger than scan.max_page ({cap} bytes)", url.path());
        Self::new(Reason::TooLarge, detail, false, false)
    }

    fn gone() -> Self {
        Self::new(Reason::Connect, "the connector was shut down".to_owned(), true, false)
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = String::new();
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(&error.to_string().to_ascii_lowercase());
        text.push('\n');
        next = error.source();
    }
    text
}

fn source<'a, T: std::error::Error + 'static>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// TLS errors hide inside `std::io::Error`s, which do not name them as their source.
fn tls_error(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(tls.to_string());
        }
        if let Some(inner) = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref)
            && let Some(tls) = tls_error(inner)
        {
            return Some(tls);
        }
        next = error.source();
    }
    None
}

fn tls(scan: &ScanConfig) -> Result<rustls::ClientConfig, ConnectorError> {
    let mut roots = rustls::RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    if native.certs.is_empty() {
        tracing::warn!("this machine has no root certificates: https works only with scan.ca_file");
    }
    roots.add_parsable_certificates(native.certs);
    if let Some(path) = &scan.ca_file {
        let read = |source| ConnectorError::CaFile { path: path.clone(), source };
        let mut count = 0;
        for certificate in CertificateDer::pem_file_iter(path).map_err(read)? {
            let certificate = certificate.map_err(read)?;
            roots.add(certificate).map_err(|source| ConnectorError::CaCertificate { path: path.clone(), source })?;
            count += 1;
        }
        if count == 0 {
            return Err(ConnectorError::NoCa(path.clone()));
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(ConnectorError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = "2022-09-01T06:00:00Z".parse().expect("a time");
        let rows = [
            ("seconds", "120", Some(120)),
            ("a date", "Thu, 01 Sep 2022 06:01:30 GMT", Some(90)),
            ("a date that is over", "Thu, 01 Sep 2022 05:00:00 GMT", Some(0)),
            ("more than a day", "999999999", Some(86_400)),
            ("nothing we know", "soon", None),
        ];
        for (what, value, seconds) in rows {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, value.parse().expect("a header"));
            assert_eq!(retry_after(&headers, now), seconds.map(Duration::from_secs), "{what}");
        }
    }

    #[test]
    fn waits_grow_and_are_bounded() {
        for tries in 1..40 {
            let wait = backoff(tries);
            let whole = BACKOFF.saturating_mul(1 << (tries - 1).min(10)).min(BACKOFF_MAX);
            assert!(wait >= whole / 2 && wait <= whole, "try {tries}: {wait:?}");
        }
    }
}
