//! Mail: building the whole message, handing it to a server, and what the server's words mean. Knows nothing of notices.

pub mod maildir;
pub mod message;
pub mod outcome;
pub mod smtp;

use async_trait::async_trait;

use crate::domain::customer::Address;
use crate::domain::delivery::Attempt;

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

/// A way out. One value owns at most one connection, keeps it between mails, and drops it after any doubt.
#[async_trait]
pub trait Transport: Send {
    /// Delivers one mail and reports; every wait inside has a timeout.
    ///
    /// Never cancelled by the caller: a dropped future between DATA and its answer would lose the outcome.
    async fn send(&mut self, mail: &Outgoing) -> Attempt;

    /// Ends the connection politely (QUIT), within a few seconds.
    async fn close(&mut self);
}
