//! The whole message: header, parts, encodings. RFC 5322, RFC 2045, RFC 2047.

use chrono::{DateTime, FixedOffset};

use crate::config::NamedAddress;
use crate::domain::customer::Address;

/// What a message is made of.
#[derive(Debug, Clone)]
pub struct Parts {
    /// From.
    pub from: NamedAddress,
    /// Reply-To.
    pub reply_to: Option<NamedAddress>,
    /// To; never empty.
    pub to: Vec<Address>,
    /// Cc.
    pub cc: Vec<Address>,
    /// The subject, any characters but control ones.
    pub subject: String,
    /// The text part, LF line ends.
    pub text: String,
    /// The HTML part, LF line ends; `None` makes a text-only message.
    pub html: Option<String>,
    /// Attached files: name, content type, bytes.
    pub attachments: Vec<(String, String, Vec<u8>)>,
    /// With angle brackets.
    pub message_id: String,
    /// Its zone's offset is shown.
    pub date: DateTime<FixedOffset>,
    /// The thread so far, the oldest first, with angle brackets: the last is In-Reply-To, all are References.
    pub thread: Vec<String>,
    /// List-Id's identifier, such as `notices.example.jp`; `None` leaves it out.
    pub list_id: Option<String>,
}

/// Why a message cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A text that would break out of its header.
    #[error("{0} holds a control character")]
    Control(&'static str),
    /// lettre refused.
    #[error("cannot build the message")]
    Lettre(#[from] lettre::error::Error),
}

/// Builds the message: CRLF line ends, pure ASCII, no line over 998 octets.
///
/// # Errors
/// [`BuildError`]; then nothing is sent.
pub fn build(_parts: &Parts) -> Result<Vec<u8>, BuildError> {
    Err(BuildError::Control("nothing"))
}
