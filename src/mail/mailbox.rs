//! The mailbox that undeliverable mail comes back to, be it a maildir or one behind IMAP. What the mails say is `bounce`'s.
//!
//! Invariants: a mail is marked, never deleted or moved to another folder; every wait has a time-out and every buffer a
//! bound, whatever the server does; no error holds a secret or a mail's content.

mod answers;
mod imap;
mod maildir;
mod wire;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;

use super::MailError;
use super::bounce::READ_MAX;
use crate::config::{BouncesConfig, BouncesFrom};

/// Mails of one run; the rest is read by the next.
const RUN_MAX: usize = 5000;

/// A mailbox that was opened for one run.
#[async_trait]
pub trait Mailbox: Send {
    /// The next mail that was not dealt with yet, its first [`READ_MAX`] bytes; `None`: that was all for this run.
    ///
    /// # Errors
    /// [`MailboxError`]; the mailbox is then of no further use.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, MailboxError>;

    /// The mail given last was dealt with: marks it, so that people and the next run see it.
    ///
    /// # Errors
    /// [`MailboxError`]; the mailbox is then of no further use.
    async fn done(&mut self) -> Result<(), MailboxError>;

    /// What the caller must remember durably for the next run; `None`: the mailbox remembers by itself.
    fn position(&self) -> Option<String>;

    /// Ends the connection politely, within a few seconds.
    async fn close(self: Box<Self>);
}

/// Why a mailbox cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MailboxError {
    /// The directory cannot be listed.
    #[error("cannot read the bounce maildir {path}")]
    Maildir {
        /// The maildir.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A mail cannot be moved to `cur`.
    #[error("cannot mark a mail in the bounce maildir {path} as seen")]
    MaildirMark {
        /// The maildir.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A secret, a certificate file or a name that cannot be used.
    #[error(transparent)]
    Setup(#[from] MailError),
    /// No connection.
    #[error("cannot connect to {place}")]
    Connect {
        /// Host and port.
        place: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nothing is sent in the clear but to this machine.
    #[error("{0} is no loopback address, and mail.bounces.imap.tls is none")]
    InTheClear(String),
    /// No handshake.
    #[error("TLS with {host}")]
    Tls {
        /// The host.
        host: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No access token, in words fit for logs.
    #[error("{words}")]
    Token {
        /// Why, naming the key.
        words: String,
        /// Whether waiting may help.
        passing: bool,
    },
    /// The server cannot do what we need.
    #[error("the mailbox's server does not offer {0}")]
    NotOffered(&'static str),
    /// The server refuses, in its words, fit for logs.
    #[error("the mailbox's server refused {step}: {words}")]
    Refused {
        /// What.
        step: &'static str,
        /// Its words.
        words: String,
    },
    /// The server ends the connection, in its words, fit for logs.
    #[error("the mailbox's server said goodbye: {0}")]
    Bye(String),
    /// The connection ended.
    #[error("the mailbox's server closed the connection")]
    Closed,
    /// Nothing came, or nothing went, in that time.
    #[error("the mailbox's server gave no whole answer within {0:?}")]
    Silent(Duration),
    /// The connection broke.
    #[error("the connection to the mailbox broke")]
    Broken(#[source] io::Error),
    /// The server does not keep to the protocol.
    #[error("the mailbox's server does not keep to IMAP: {0}")]
    Protocol(&'static str),
}

impl MailboxError {
    /// Whether it may pass by itself, as a network's trouble does.
    #[must_use]
    pub fn passes(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Bye(_) | Self::Closed | Self::Silent(_) | Self::Broken(_) => true,
            Self::Tls { source, .. } => !super::tls::is_certificate_error(source),
            Self::Token { passing, .. } => *passing,
            Self::Maildir { .. }
            | Self::MaildirMark { .. }
            | Self::Setup(_)
            | Self::InTheClear(_)
            | Self::NotOffered(_)
            | Self::Refused { .. }
            | Self::Protocol(_) => false,
        }
    }
}

/// Opens the configured mailbox. `position`: what [`Mailbox::position`] said last.
///
/// # Errors
/// [`MailboxError`]
pub async fn open(config: &BouncesConfig, position: Option<&str>) -> Result<Box<dyn Mailbox>, MailboxError> {
    Ok(match &config.from {
        BouncesFrom::Maildir(path) => Box::new(maildir::Maildir::open(path.clone(), RUN_MAX, READ_MAX).await?),
        BouncesFrom::Imap(imap) => Box::new(imap::Imap::open(imap, position, RUN_MAX).await?),
    })
}
