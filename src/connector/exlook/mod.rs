//! The ExLook管理ツール: logs on as a person does, opens the site settings, chooses each site and reads its two settings.
//!
//! Everything is found by visible label (the markup is not published and changes without notice). Fetching is in
//! [`session`], parsing in the other files, which are pure. Invariant: the only button that is ever pressed is log-on.

pub mod beside;
mod builder;
pub mod charset;
pub mod dom;
mod failures;
pub mod fast;
pub mod labels;
pub mod layout;
mod logon;
pub mod pages;
mod press;
pub mod said;
pub mod script;
pub mod session;
pub mod settings;
mod sink;
pub mod sites;
pub mod tree;
pub mod webforms;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use url::Url;

use self::labels::Words;
use self::pages::Page;
use self::session::Session;
use super::http::Polite;
use super::{Account, Connector, ConnectorError};
use crate::clock::Clock;
use crate::config::{ExlookConfig, ScanConfig};
use crate::domain::layout::HostLayouts;
use crate::domain::observation::{CustomerLook, Failure, Reason, SiteLook};
use crate::domain::site::CustomerId;
use crate::metrics::Metrics;

/// The connector of kind `exlook`. One for the whole fleet: its limits are shared by all customers.
pub struct Exlook {
    http: Polite,
    clock: Arc<dyn Clock>,
    words: Arc<Words>,
    logon_url: Url,
    scan: ScanConfig,
    /// Parsing is the dearest part of a look; so many at once as there are cores.
    parsers: Arc<Semaphore>,
    /// What the settings' pages were made of.
    layouts: layout::Tally,
    metrics: Option<Arc<Metrics>>,
    /// One session a customer at a time.
    turns: Mutex<HashMap<CustomerId, Arc<tokio::sync::Mutex<()>>>>,
}

impl Exlook {
    /// Makes the connector; connects to nothing.
    ///
    /// # Errors
    /// [`ConnectorError`] when `scan.ca_file` cannot be used.
    pub fn new(config: &ExlookConfig, scan: &ScanConfig, clock: Arc<dyn Clock>) -> Result<Self, ConnectorError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            http: Polite::new(scan, Arc::clone(&clock))?,
            clock,
            words: Arc::new(Words::new(config)),
            logon_url: config.logon_url.clone(),
            scan: scan.clone(),
            parsers: Arc::new(Semaphore::new(cores)),
            layouts: layout::Tally::default(),
            metrics: None,
            turns: Mutex::new(HashMap::new()),
        })
    }

    /// Counts every request and page in these metrics.
    #[must_use]
    pub fn counted(self, metrics: Arc<Metrics>) -> Self {
        Self { http: self.http.counted(Arc::clone(&metrics)), metrics: Some(metrics), ..self }
    }

    /// Parses a page off the threads that do IO.
    async fn parse(&self, body: Vec<u8>, content_type: Option<String>) -> Result<Page, Failure> {
        let shut = |_| Failure::new(Reason::Skipped, "the connector was shut down");
        let permit = Arc::clone(&self.parsers).acquire_owned().await.map_err(shut)?;
        let words = Arc::clone(&self.words);
        let parsed = tokio::task::spawn_blocking(move || {
            let _permit = permit; // kept until the work is done, even when nobody waits for it any more
            Page::parse(&body, content_type.as_deref(), &words)
        });
        match parsed.await {
            Ok(Ok(page)) => {
                // When the tool's pages change their shape, this says so before anything else does.
                if let Some(metrics) = &self.metrics {
                    metrics.page(page.irregular.is_none());
                }
                if let Some(fast::Irregular(why)) = page.irregular {
                    tracing::debug!("a page was read by the full parser, at several times the cost: {why}");
                }
                Ok(page)
            }
            Ok(Err(dom::TooComplex)) => {
                Err(Failure::new(Reason::TooLarge, "the page has too many elements or is nested too deeply to be read"))
            }
            Err(_) => Err(Failure::new(Reason::LayoutChanged, "the page could not be parsed")),
        }
    }

    fn turn(&self, customer: &CustomerId) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody but this map holds those that are over.
        if turns.len() > 1024 {
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        }
        Arc::clone(turns.entry(customer.clone()).or_default())
    }
}

#[async_trait]
impl Connector for Exlook {
    async fn look(&self, account: &Account) -> CustomerLook {
        let turn = self.turn(&account.customer);
        let _turn = turn.lock().await; // its holder is bounded by `customer_timeout`
        let deadline = Instant::now() + self.scan.customer_timeout;
        let mut session = Session::new(self, account, deadline);
        let ended = tokio::time::timeout_at(deadline, session.run()).await;
        let inside = session.was_let_in();
        if let (Some(layout), Some(host)) = (session.layout(), session.host()) {
            self.layouts.note(&host, layout);
        }
        let (listed, mut looks) = session.into_parts();
        let at = self.clock.now();
        let failure = match ended {
            Ok(Ok(())) => None,
            Ok(Err(failure)) => Some(failure),
            Err(_) => Some(Failure::new(
                Reason::Timeout,
                format!("the customer took longer than scan.customer_timeout ({:?})", self.scan.customer_timeout),
            )),
        };
        let (Some(listed), failure) = (listed, failure.clone()) else {
            let failure = failure.unwrap_or_else(|| Failure::new(Reason::LayoutChanged, "no site was listed"));
            tracing::debug!(customer = %account.customer, reason = failure.reason.as_str(), "not read");
            return CustomerLook { sites: Err(Failure { inside, ..failure }), at };
        };
        // What was read stays; what was not read is said so, site by site.
        for site in listed.into_iter().skip(looks.len()) {
            let failure = failure.clone().unwrap_or_else(|| Failure::new(Reason::Timeout, "the site was not reached"));
            looks.push(SiteLook { site, read: Err(failure), at });
        }
        CustomerLook { sites: Ok(looks), at }
    }

    fn take_layouts(&self) -> Vec<HostLayouts> {
        self.layouts.take()
    }
}
