//! How a customer's sites are read: network -> [`CustomerLook`]. Fetching (IO) is apart from parsing (pure functions on bytes).
//!
//! Invariant: read only. Nothing here sends a submit control other than log-on.

pub mod exlook;

use async_trait::async_trait;

use crate::domain::observation::CustomerLook;
use crate::domain::site::{CustomerId, SiteName};
use crate::secret::Secret;

/// One customer as a connector needs to know it.
#[derive(Debug, Clone)]
pub struct Account {
    /// Whose: for log lines and cache keys.
    pub customer: CustomerId,
    /// The sites to look at; empty = all that are listed. One that is not listed is `site_missing`.
    pub sites: Vec<SiteName>,
    /// The administrator's account.
    pub account: String,
    /// Its password.
    pub password: Secret,
    /// Where to log on, if not at the connector's own URL.
    pub logon_url: Option<url::Url>,
}

/// Reads a customer's sites. Never fails: what could not be read is in the look, with a reason.
#[async_trait]
pub trait Connector: Send + Sync {
    /// One session: log on, read every site asked for, log off. Bounded by `scan.customer_timeout`.
    async fn look(&self, account: &Account) -> CustomerLook;
}
