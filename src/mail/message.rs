//! The whole message: header, parts, encodings. RFC 5322, RFC 2045, RFC 2047.
//!
//! lettre makes the MIME parts (base64, attachments' names by RFC 2231); the top header is written in `header`,
//! whose module says why. Invariant: the same [`Parts`] give the same bytes, boundaries included, and nothing leaves this
//! module that is not pure ASCII with CRLF line ends, lines of at most 998 octets and encoded words on lines of at most 76.

use chrono::{DateTime, FixedOffset};
use lettre::message::header::{ContentTransferEncoding, ContentType, ContentTypeErr};
use lettre::message::{Attachment, Body, MultiPart, SinglePart};
use sha2::{Digest, Sha256};

use super::header::{Fields, refuse_control};
use crate::config::NamedAddress;
use crate::domain::customer::Address;

pub use super::header::addr_spec;

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
    /// Nobody to write to.
    #[error("the message has no recipient")]
    NoRecipient,
    /// Not `<dot-atom@dot-atom>` (RFC 5322 3.6.4), or too long for a line.
    #[error("{0} holds no message identifier")]
    Identifier(&'static str),
    /// An attachment's content type.
    #[error("an attachment's content type cannot be read")]
    ContentType(#[source] ContentTypeErr),
    /// The built message failed its own check.
    #[error("the message would not be well-formed: {0}")]
    Unsound(&'static str),
}

/// More references than this are cut in the middle, as RFC 5537 3.4.4 does: the oldest one and the newest stay. A carrier
/// was known to refuse a header of more than 12 KB.
const REFERENCES_MAX: usize = 20;

/// Builds the message: CRLF line ends, pure ASCII, no line over 998 octets.
///
/// # Errors
/// [`BuildError`]; then nothing is sent.
pub fn build(parts: &Parts) -> Result<Vec<u8>, BuildError> {
    let mut message = header(parts)?.into_bytes();
    message.extend_from_slice(&body(parts)?);
    well_formed(&message).map_err(BuildError::Unsound)?;
    encoded_lines_fit(&message)?;
    Ok(message)
}

/// A Message-ID that is the same whenever the key is: a repeat is recognisable. RFC 5322 3.6.4.
#[must_use]
pub fn message_id(key: &str, domain: &str) -> String {
    format!("<{}@{domain}>", digest(key, 32))
}

/// What every message must be before it may go over the wire: ASCII without NUL, CR and LF only together, lines of at most
/// 998 octets (RFC 5322 2.1.1, 2.3), an end of line at its end. Anything else could be read as two messages.
///
/// # Errors
/// The rule that is broken.
pub fn well_formed(message: &[u8]) -> Result<(), &'static str> {
    if !message.is_ascii() || memchr::memchr(0, message).is_some() {
        return Err("it holds a byte that is not ASCII, or NUL");
    }
    if !message.ends_with(b"\r\n") {
        return Err("its last line is not ended");
    }
    let (mut start, mut lines) = (0, 0);
    for end in memchr::memchr_iter(b'\n', message) {
        let Some(line) = message[start..end].strip_suffix(b"\r") else {
            return Err("it holds a LF alone");
        };
        if line.len() > 998 {
            return Err("it holds a line of more than 998 octets");
        }
        (start, lines) = (end + 1, lines + 1);
    }
    // One stands at the end of each line; any other one is too many. Every mail is looked at here, so by whole passes.
    if memchr::memchr_iter(b'\r', message).count() != lines {
        return Err("it holds a CR alone");
    }
    Ok(())
}

fn header(parts: &Parts) -> Result<String, BuildError> {
    if parts.to.is_empty() {
        return Err(BuildError::NoRecipient);
    }
    let mut fields = Fields::default();
    fields.tokens("Date", [parts.date.format("%a, %d %b %Y %H:%M:%S %z").to_string()]);
    fields.mailbox("From", &parts.from)?;
    if let Some(reply_to) = &parts.reply_to {
        fields.mailbox("Reply-To", reply_to)?;
    }
    fields.addresses("To", &parts.to);
    if !parts.cc.is_empty() {
        fields.addresses("Cc", &parts.cc);
    }
    fields.text("Subject", &parts.subject)?;
    fields.tokens("Message-ID", [identifier("Message-ID", &parts.message_id)?]);
    if let Some(last) = parts.thread.last() {
        fields.tokens("In-Reply-To", [identifier("In-Reply-To", last)?]);
        let kept = parts
            .thread
            .iter()
            .take(1)
            .chain(parts.thread.iter().skip(1).skip((parts.thread.len() - 1).saturating_sub(REFERENCES_MAX)));
        let kept: Vec<&str> = kept.map(|id| identifier("References", id)).collect::<Result<_, _>>()?;
        fields.tokens("References", kept);
    }
    if let Some(list_id) = &parts.list_id {
        if !dot_atom(list_id) {
            return Err(BuildError::Identifier("List-Id"));
        }
        fields.tokens("List-Id", [format!("<{list_id}>")]);
    }
    // RFC 3834 section 5: a process wrote this, responders stay silent.
    fields.tokens("Auto-Submitted", ["auto-generated"]);
    // Exchange's own responders. Not `All`: that would also silence the non-delivery reports we want.
    fields.tokens("X-Auto-Response-Suppress", ["OOF, AutoReply, RN, NRN"]);
    fields.tokens("MIME-Version", ["1.0"]);
    Ok(fields.finish())
}

/// `multipart/alternative`, the text first (or the text alone), inside `multipart/mixed` if files are attached.
fn body(parts: &Parts) -> Result<Vec<u8>, BuildError> {
    let text = SinglePart::builder().header(ContentType::TEXT_PLAIN).body(base64(lf_only(&parts.text))?);
    let alternative = match &parts.html {
        None => None,
        Some(html) => {
            let html = SinglePart::builder().header(ContentType::TEXT_HTML).body(base64(lf_only(html))?);
            let boundary = boundary(&parts.message_id, "alternative");
            Some(MultiPart::alternative().boundary(boundary).singlepart(text.clone()).singlepart(html))
        }
    };
    if parts.attachments.is_empty() {
        return Ok(alternative.map_or_else(|| text.formatted(), |multi| multi.formatted()));
    }
    let mixed = MultiPart::mixed().boundary(boundary(&parts.message_id, "mixed"));
    let mut mixed = match alternative {
        Some(alternative) => mixed.multipart(alternative),
        None => mixed.singlepart(text),
    };
    for (name, content_type, bytes) in &parts.attachments {
        refuse_control("an attachment's name", name)?;
        refuse_control("an attachment's content type", content_type)?;
        let content_type = ContentType::parse(content_type).map_err(BuildError::ContentType)?;
        mixed = mixed.singlepart(Attachment::new(name.clone()).body(base64(bytes.clone())?, content_type));
    }
    Ok(mixed.formatted())
}

fn base64(content: impl Into<lettre::message::MaybeString>) -> Result<Body, BuildError> {
    // base64 whatever the text: seven-bit forms survive forwards and gateways, and no line can look like a boundary.
    Body::new_with_encoding(content, ContentTransferEncoding::Base64)
        .map_err(|_| BuildError::Unsound("a part cannot be encoded"))
}

/// lettre makes CRLF of LF; what arrives as CRLF must not become CR CRLF.
fn lf_only(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

/// From the Message-ID, so that the bytes are reproducible. The hyphen is no base64 character: it cannot clash with a part.
fn boundary(message_id: &str, which: &str) -> String {
    format!("kigen-{}", digest(&format!("{which} {message_id}"), 20))
}

fn digest(text: &str, hex_digits: usize) -> String {
    let hash = Sha256::digest(text.as_bytes());
    hash.iter()
        .flat_map(|b| [b >> 4, b & 15])
        .take(hex_digits)
        .map(|d| char::from(b"0123456789abcdef"[d as usize]))
        .collect()
}

fn identifier<'a>(field: &'static str, id: &'a str) -> Result<&'a str, BuildError> {
    refuse_control(field, id)?;
    let inner = id.strip_prefix('<').and_then(|id| id.strip_suffix('>')).and_then(|id| id.rsplit_once('@'));
    match inner {
        Some((left, right)) if dot_atom(left) && dot_atom(right) && id.len() <= 500 => Ok(id),
        _ => Err(BuildError::Identifier(field)),
    }
}

fn dot_atom(text: &str) -> bool {
    let atext = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b);
    text.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(atext))
}

/// RFC 2047 section 2, also for what lettre wrote.
fn encoded_lines_fit(message: &[u8]) -> Result<(), BuildError> {
    let too_long = |line: &&[u8]| line.len() > 77 && line.windows(2).any(|w| w == b"=?");
    let end = message.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or(message.len());
    // A line still has its CR here: 76 octets and one.
    match message[..end].split(|b| *b == b'\n').find(too_long) {
        Some(_) => Err(BuildError::Unsound("an encoded word stands on a line of more than 76 octets")),
        None => Ok(()),
    }
}
