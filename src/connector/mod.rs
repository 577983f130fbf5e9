//! How a customer's sites are read: network -> [`CustomerLook`]. Fetching (IO) is apart from parsing (pure functions on bytes).
//!
//! Invariant: read only. Nothing here sends a submit control other than log-on.

mod addresses;
pub mod api;
pub mod breaker;
pub mod exlook;
pub mod export;
pub mod http;
mod sheet;

use std::path::PathBuf;

use async_trait::async_trait;

use crate::domain::layout::HostLayouts;
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

/// Why a connector could not be made. What goes wrong later is in the looks.
#[derive(Debug, thiserror::Error)]
pub enum ConnectorError {
    /// `scan.ca_file` cannot be read as PEM.
    #[error("cannot read scan.ca_file {path}")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// A certificate in `scan.ca_file` is none.
    #[error("scan.ca_file {path} holds a certificate that cannot be used")]
    CaCertificate {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// Nothing in `scan.ca_file`.
    #[error("scan.ca_file {0} holds no certificate; it must be PEM")]
    NoCa(PathBuf),
    /// The TLS library refused its configuration.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
    /// The HTTP client could not be built.
    #[error("cannot set up the HTTP client")]
    Client(#[source] reqwest::Error),
}

/// What a source holds of customers that are not in the customers file, and that nobody will ever ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Strangers {
    /// Rows.
    pub rows: u64,
    /// Of so many customers.
    pub customers: u64,
    /// The first of their ids, three at most, as the source writes them.
    pub first: Vec<String>,
}

/// Reads a customer's sites. Never fails: what could not be read is in the look, with a reason.
#[async_trait]
pub trait Connector: Send + Sync {
    /// One session: log on, read every site asked for, log off. Bounded by `scan.customer_timeout`.
    async fn look(&self, account: &Account) -> CustomerLook;

    /// What the pages that were read since the last call are made of, for connectors that read pages.
    fn take_layouts(&self) -> Vec<HostLayouts> {
        Vec::new()
    }

    /// For connectors that read all customers at once: what was read last holds of others than these, who come in the order
    /// of their ids. Takes its time, without waiting for anything but a disk; not to be called from a task.
    fn strangers(&self, _known: &mut dyn Iterator<Item = CustomerId>) -> Strangers {
        Strangers::default()
    }
}
