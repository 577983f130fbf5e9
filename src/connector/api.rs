//! JSON over HTTP: one request (or one a page) a customer, the sites and their two settings found by JSON pointer.
//!
//! It follows no redirect. Invariant: the secret goes to the configured URL's own origin and nowhere else, also when a page
//! names the next one.

use std::sync::Arc;

use async_trait::async_trait;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::cookie::Jar;
use reqwest::header::{ACCEPT, HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use tokio::time::Instant;
use url::Url;

use super::http::{Answer, Polite, Request, Retry, host_name};
use super::sheet::{self, MAX_SITES, Meanings, Row};
use super::{Account, Connector, ConnectorError};
use crate::clock::Clock;
use crate::config::{ApiConfig, ScanConfig, SiteFields};
use crate::domain::observation::{CustomerLook, Failure, Reason};
use crate::metrics::Metrics;

/// The most pages of one customer.
const MAX_PAGES: u32 = 1000;

/// The connector of kind `api`.
pub struct Api {
    http: Polite,
    clock: Arc<dyn Clock>,
    config: ApiConfig,
    scan: ScanConfig,
    meanings: Meanings,
}

impl Api {
    /// Makes the connector; connects to nothing, and reads the secret only when it looks: other commands need none.
    ///
    /// # Errors
    /// [`ConnectorError`] when `scan.ca_file` cannot be used.
    pub fn new(config: &ApiConfig, scan: &ScanConfig, clock: Arc<dyn Clock>) -> Result<Self, ConnectorError> {
        Ok(Self {
            http: Polite::new(scan, Arc::clone(&clock))?,
            clock,
            meanings: Meanings::new(&config.texts),
            config: config.clone(),
            scan: scan.clone(),
        })
    }

    /// Counts every request in these metrics.
    #[must_use]
    pub fn counted(self, metrics: Arc<Metrics>) -> Self {
        Self { http: self.http.counted(metrics), ..self }
    }

    async fn rows(&self, account: &Account, deadline: Instant) -> Result<Vec<Row>, Failure> {
        let first = place(&self.config.url, account)?;
        let headers = headers(&self.config)?;
        let jar = Jar::default();
        let mut url = numbered(&first, self.config.page_parameter.as_deref(), 1);
        let mut rows = Vec::new();
        for page in 1..=MAX_PAGES {
            let request = Request { url: url.clone(), form: None, retry: Retry::Idempotent, stands: |_| false };
            let answer = self.http.send_with(&jar, &request, &headers, deadline).await?;
            let document = read(&answer, url.path())?;
            let found = sites(&document, &self.config.sites, &self.config.fields)?;
            let empty = found.is_empty();
            rows.extend(found);
            if rows.len() > MAX_SITES {
                return Err(Failure::new(Reason::TooLarge, format!("more than {MAX_SITES} sites of one customer")));
            }
            let next = match (&self.config.next, &self.config.page_parameter) {
                (Some(pointer), _) => next(&document, pointer, &url)?,
                (None, Some(name)) if !empty => Some(numbered(&first, Some(name), page + 1)),
                _ => None,
            };
            match next {
                Some(next) if next == url => {
                    return Err(Failure::new(Reason::LayoutChanged, "a page names itself as the next one"));
                }
                Some(next) => url = next,
                None => return Ok(rows),
            }
        }
        Err(Failure::new(Reason::TooLarge, format!("more than {MAX_PAGES} pages of one customer")))
    }
}

#[async_trait]
impl Connector for Api {
    async fn look(&self, account: &Account) -> CustomerLook {
        let deadline = Instant::now() + self.scan.customer_timeout;
        let read = tokio::time::timeout_at(deadline, self.rows(account, deadline)).await;
        let at = self.clock.now();
        let late = || {
            let limit = self.scan.customer_timeout;
            Failure::new(Reason::Timeout, format!("the customer took longer than scan.customer_timeout ({limit:?})"))
        };
        let rows = read.unwrap_or_else(|_| Err(late()));
        CustomerLook { sites: rows.and_then(|rows| sheet::looks(&rows, &account.sites, &self.meanings, at)), at }
    }
}

fn headers(config: &ApiConfig) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    if let Some(source) = &config.secret {
        let unusable =
            |why: String| Failure::new(Reason::InventoryError, format!("cannot use connector.api.secret: {why}"));
        let secret = source.read().map_err(|error| unusable(error.to_string()))?;
        let text = format!("{} {}", config.scheme, secret.expose());
        let no_header = || unusable("it holds what cannot stand in a header".to_owned());
        let mut value = HeaderValue::from_str(text.trim()).map_err(|_| no_header())?;
        value.set_sensitive(true);
        let name = HeaderName::from_bytes(config.header.as_bytes()).map_err(|_| no_header())?;
        headers.insert(name, value);
    }
    Ok(headers)
}

/// The URL of one customer.
fn place(url: &Url, account: &Account) -> Result<Url, Failure> {
    let wants_account = ["{account}", "%7Baccount%7D"].iter().any(|place| url.as_str().contains(place));
    if wants_account && account.account.is_empty() {
        return Err(Failure::new(
            Reason::InventoryError,
            "connector.api.url wants the customer's `account`: it is empty",
        ));
    }
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let mut text = url.as_str().to_owned();
    for (name, value) in [("customer", account.customer.as_str()), ("account", account.account.as_str())] {
        for place in [format!("{{{name}}}"), format!("%7B{name}%7D")] {
            text = text.replace(&place, &encode(value));
        }
    }
    match Url::parse(&text) {
        // What a customer's id holds must not lead to another host.
        Ok(placed) if placed.origin() == url.origin() => Ok(placed),
        _ => Err(Failure::new(Reason::InventoryError, "connector.api.url is no URL with this customer's id in it")),
    }
}

fn numbered(url: &Url, parameter: Option<&str>, page: u32) -> Url {
    let mut url = url.clone();
    if let Some(parameter) = parameter {
        url.query_pairs_mut().append_pair(parameter, &page.to_string());
    }
    url
}

fn read(answer: &Answer, path: &str) -> Result<Value, Failure> {
    let failed = |reason, what: &str| Failure::new(reason, format!("{path} {what}"));
    match answer.status {
        200 => {}
        404 => return Err(failed(Reason::SiteMissing, "answered 404: the API does not know this customer")),
        status @ (401 | 403) => {
            let what = format!("answered {status}: check connector.api.secret and what it may read");
            return Err(failed(Reason::HttpStatus, &what));
        }
        status => return Err(failed(Reason::HttpStatus, &format!("answered {status}"))),
    }
    serde_json::from_slice(&answer.body).map_err(|_| failed(Reason::LayoutChanged, "did not answer with JSON"))
}

fn sites(document: &Value, pointer: &str, fields: &SiteFields) -> Result<Vec<Row>, Failure> {
    let Some(list) = document.pointer(pointer).and_then(Value::as_array) else {
        let detail = format!("no list of sites at {pointer:?} (connector.api.sites)");
        return Err(Failure::new(Reason::LayoutChanged, detail));
    };
    let row = |site: &Value| Row {
        name: text(site, &fields.name),
        server_type: text(site, &fields.server_type),
        auth_method: text(site, &fields.auth_method),
    };
    Ok(list.iter().map(row).collect())
}

/// A text, a number or a truth value, as a text.
pub(super) fn text(value: &Value, pointer: &str) -> Option<String> {
    match value.pointer(pointer)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

/// The next page's URL; it must be at the same origin, for the secret goes along.
fn next(document: &Value, pointer: &str, here: &Url) -> Result<Option<Url>, Failure> {
    let Some(link) = text(document, pointer).filter(|link| !link.is_empty()) else { return Ok(None) };
    match here.join(&link) {
        Ok(next) if next.origin() == here.origin() => Ok(Some(next)),
        Ok(next) => {
            let detail = format!("the next page is said to be at {}, another host", host_name(&next));
            Err(Failure::new(Reason::HttpStatus, detail))
        }
        Err(_) => Err(Failure::new(Reason::LayoutChanged, format!("no URL at {pointer:?} (connector.api.next)"))),
    }
}
