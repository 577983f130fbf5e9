//! Mail: building the whole message, handing it to a server, and what the server's words mean. Knows nothing of notices.
//!
//! `message` (with `header`) makes the bytes, `dkim` signs them; `bounce` reads what comes back to the `mailbox`; `graph`, `smtp` (with `dial`, `dialogue`, `tls`, `signin`, `token`) and `maildir` are the ways
//! out; `outcome` is the table of what a reply means; `pace` spaces the mails. Invariant: only a server's 250 to the end of
//! the message is [`Outcome::Accepted`](crate::domain::delivery::Outcome::Accepted).

pub mod bounce;
mod dial;
mod dialogue;
pub mod dkim;
pub mod graph;
mod header;
pub mod mailbox;
pub mod maildir;
pub mod message;
pub mod outcome;
pub mod pace;
mod signin;
pub mod smtp;
mod tls;
mod token;

use std::path::PathBuf;

use async_trait::async_trait;

use crate::config::{MailConfig, TransportConfig};
use crate::domain::customer::Address;
use crate::domain::delivery::Attempt;
use crate::secret::SecretError;

pub use dialogue::{Direction, Observer};

/// One mail as it leaves: an envelope and bytes that are not touched any more.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// MAIL FROM.
    pub envelope_from: Address,
    /// RCPT TO, in order; never empty.
    pub recipients: Vec<Address>,
    /// The message with CRLF line ends, not dot-stuffed.
    pub message: Vec<u8>,
}

/// Whether a mail is still its sender's to send; see [`Transport::ask_before_message`].
pub type StillOurs = std::sync::Arc<dyn Fn() -> bool + Send + Sync>;

/// A way out. One value owns at most one connection, keeps it between mails, and drops it after any doubt.
#[async_trait]
pub trait Transport: Send {
    /// Delivers one mail and reports; every wait inside has a timeout.
    ///
    /// Never cancelled by the caller: a dropped future between DATA and its answer would lose the outcome.
    async fn send(&mut self, mail: &Outgoing) -> Attempt;

    /// That mail is likely to be sent next: what can be said of it to the server without its message may be said now, while
    /// its beginning is written down. Whether it is sent, and not another one, is only known when it is.
    async fn announce(&mut self, mail: &Outgoing) {
        let _ = mail;
    }

    /// Asked right before the message itself is sent, from the next mail on: a node that was frozen in the middle of a dialogue
    /// may have lost the mail to another one. Where nobody asks, the answer is yes.
    fn ask_before_message(&mut self, still_ours: Option<StillOurs>) {
        let _ = still_ours;
    }

    /// Ends the connection politely (QUIT), within a few seconds.
    async fn close(&mut self);
}

/// Why a transport cannot be set up. Nothing has been connected to yet.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// The password or the application's secret. Here and below first the section, such as `mail.smtp`.
    #[error("cannot read the secret for {0}")]
    Secret(&'static str, #[source] SecretError),
    /// No host name and no IP address.
    #[error("{0}.host {1:?} is no name that a certificate could be for")]
    Host(&'static str, String),
    /// `ca_file`.
    #[error("cannot use {section}.ca_file {path}")]
    CaFile {
        /// The section.
        section: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Nothing to verify the server with.
    #[error("the system has no trusted certificates; install ca-certificates or set {0}.ca_file")]
    NoRoots(&'static str),
    /// rustls refused its own settings.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
    /// The token endpoint's address.
    #[error("{0}.token_url must be https (plain http is for loopback addresses only)")]
    TokenUrl(&'static str),
    /// The HTTP client for tokens.
    #[error("cannot set up the client for {0}.token_url")]
    TokenClient(&'static str, #[source] reqwest::Error),
    /// Graph's address.
    #[error("mail.graph.url is no address that a path can follow")]
    GraphUrl,
    /// The HTTP client for Graph.
    #[error("cannot set up the client for mail.graph")]
    GraphClient(#[source] reqwest::Error),
    /// A directory of the maildir.
    #[error("cannot make the mail directory {path}")]
    Maildir {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// The configured way out. Secrets are read here; nothing is connected to before the first mail.
///
/// # Errors
/// [`MailError`]
pub fn transport(config: &MailConfig) -> Result<Box<dyn Transport>, MailError> {
    transport_observed(config, None)
}

/// As [`transport`], with each line of the SMTP dialogue shown to `observer`.
///
/// # Errors
/// [`MailError`]
pub fn transport_observed(config: &MailConfig, observer: Option<Observer>) -> Result<Box<dyn Transport>, MailError> {
    Ok(match &config.transport {
        TransportConfig::Smtp(smtp) => Box::new(smtp::Smtp::new(smtp)?.observed(observer)),
        TransportConfig::Maildir(path) => Box::new(maildir::Maildir::new(path)?),
        TransportConfig::Graph(config) => Box::new(graph::Graph::new(config)?),
    })
}
