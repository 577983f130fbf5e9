//! One SMTP conversation on the wire: commands out, replies in, every wait under a deadline. RFC 5321 section 4.
//!
//! Written here and not taken from lettre's connection, whose time-out covers the connect alone, whose line reader has no
//! bound (a line without an end grows until memory does), which looks for nothing that a server says out of turn, and whose
//! errors do not tell a refusal from a lost line for certain. Invariant: a reply counts only for the command it follows.
//! Bytes that are there *before* a command is sent, or after STARTTLS was agreed, are a fault, and after any [`Trouble`] the
//! dialogue must be dropped.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, timeout, timeout_at};

use super::outcome::{Enhanced, one_line};

/// The longest reply line; RFC 5321 4.5.3.1.5 says 512 octets, servers write more.
const LINE_MAX: usize = 2048;
/// The most lines of one reply; the longest EHLO answers have some thirty.
const LINES_MAX: usize = 100;
/// The message goes out in pieces of this size, each under its own deadline.
const PIECE: usize = 16 * 1024;
/// How long a refusal is looked for when the server stopped taking the message.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A connection, plain or under TLS.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for T {}

/// Which way a line of the dialogue went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From us.
    Sent,
    /// From the server.
    Received,
    /// Neither: what happened to the connection.
    Note,
}

/// Is told every line of the dialogue; secrets come as `***`, the message as its size. For an operator's own terminal only,
/// since envelope addresses stand in it.
pub type Observer = Arc<dyn Fn(Direction, &str) + Send + Sync>;

/// A whole reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) code: u16,
    pub(super) lines: Vec<String>,
}

impl Reply {
    /// 2xx.
    pub(super) fn positive(&self) -> bool {
        (200..300).contains(&self.code)
    }

    pub(super) fn text(&self) -> String {
        self.lines.join(" ")
    }

    pub(super) fn enhanced(&self) -> Option<Enhanced> {
        Enhanced::parse(self.lines.first()?)
    }

    /// Code and text, fit for logs and the store.
    pub(super) fn shown(&self) -> String {
        one_line(&format!("{} {}", self.code, self.text()))
    }
}

/// Why a dialogue came to an end without a reply that could be trusted.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Nothing came, or nothing went, in that time.
    Timeout(Duration),
    /// The server closed the connection.
    Closed,
    /// The connection broke.
    Io(io::Error),
    /// The server does not keep to the protocol.
    Protocol(&'static str),
    /// The server refused the message while it was under way, and the connection is of no further use.
    Refused(Reply),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout(after) => write!(f, "no answer within {after:?}"),
            Self::Closed => write!(f, "the server closed the connection"),
            Self::Io(error) => write!(f, "the connection broke: {error}"),
            Self::Protocol(what) => write!(f, "{what}"),
            Self::Refused(reply) => f.write_str(&reply.shown()),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

/// How far a message got when it met with trouble.
#[derive(Debug)]
pub(super) struct Halted {
    /// Writing its last piece had begun: the server may have it whole.
    pub(super) end_may_be_sent: bool,
    pub(super) trouble: Trouble,
}

/// One conversation.
pub(super) struct Dialogue {
    stream: Box<dyn Stream>,
    /// Received, not yet read as a reply; bounded by one line and one read.
    received: Vec<u8>,
    timeout: Duration,
    observer: Option<Observer>,
}

impl Dialogue {
    pub(super) fn new(stream: Box<dyn Stream>, timeout: Duration, observer: Option<Observer>) -> Self {
        Self { stream, received: Vec::new(), timeout, observer }
    }

    /// Gives the connection back for TLS to be put around it, unless the server sent more than its agreement: whatever
    /// came in the clear would be taken for a protected reply (RFC 3207 section 4.2, CVE-2011-0411).
    pub(super) async fn into_stream(mut self) -> Result<Box<dyn Stream>, Trouble> {
        self.expect_silence().await?;
        Ok(self.stream)
    }

    /// Sends one command line and reads its reply.
    pub(super) async fn command(&mut self, line: &str) -> Result<Reply, Trouble> {
        self.command_shown(line, line).await
    }

    /// As [`command`](Self::command), for a line with a secret in it: observers see `shown`.
    pub(super) async fn command_shown(&mut self, line: &str, shown: &str) -> Result<Reply, Trouble> {
        if line.bytes().any(|b| b == b'\r' || b == b'\n' || b == 0) {
            return Err(Trouble::Protocol("a command with a line end in it was not sent"));
        }
        self.expect_silence().await?;
        self.observe(Direction::Sent, shown);
        self.write(format!("{line}\r\n").as_bytes()).await?;
        self.reply(self.timeout).await
    }

    /// Reads one reply, all of its lines within `within`.
    pub(super) async fn reply(&mut self, within: Duration) -> Result<Reply, Trouble> {
        let deadline = Instant::now() + within;
        let mut lines = Vec::new();
        loop {
            let line = match timeout_at(deadline, self.line()).await {
                Ok(line) => line?,
                Err(_) => return Err(Trouble::Timeout(within)),
            };
            self.observe(Direction::Received, &line);
            let (code, more, text) = split_line(&line).ok_or(Trouble::Protocol("the reply is not an SMTP reply"))?;
            if lines.first().is_some_and(|(first, _)| *first != code) {
                return Err(Trouble::Protocol("the lines of the reply have different codes"));
            }
            lines.push((code, text.to_owned()));
            if !more {
                return Ok(Reply { code, lines: lines.into_iter().map(|(_, text)| text).collect() });
            }
            if lines.len() >= LINES_MAX {
                return Err(Trouble::Protocol("the reply has too many lines"));
            }
        }
    }

    /// Sends the message, dot-stuffed, and its end; reads the reply that decides, waiting `within` for it.
    pub(super) async fn message(&mut self, message: &[u8], within: Duration) -> Result<Reply, Halted> {
        let stuffed = dot_stuffed(message);
        self.observe(Direction::Sent, &format!("({} octets of message)", message.len()));
        let before = |trouble| Halted { end_may_be_sent: false, trouble };
        let after = |trouble| Halted { end_may_be_sent: true, trouble };
        // The last piece has the final dot in it: before it goes, the server cannot have the message whole.
        let mut pieces = stuffed.chunks(PIECE).peekable();
        while let Some(piece) = pieces.next() {
            self.expect_silence_or_refusal().await.map_err(before)?;
            if pieces.peek().is_none() {
                self.observe(Direction::Sent, ".");
                if let Err(trouble) = self.write(piece).await {
                    return Err(after(self.last_words().await.unwrap_or(trouble)));
                }
            } else if let Err(trouble) = self.write(piece).await {
                return Err(before(self.last_words().await.unwrap_or(trouble)));
            }
        }
        self.reply(within).await.map_err(after)
    }

    /// QUIT, waiting `within` for the goodbye at most.
    pub(super) async fn quit(mut self, within: Duration) {
        let _ = timeout(within, self.command("QUIT")).await;
        let _ = timeout(within, self.stream.shutdown()).await;
    }

    /// Fails if the server has said anything, or has gone, since its last reply.
    pub(super) async fn expect_silence(&mut self) -> Result<(), Trouble> {
        if !self.has_spoken().await? {
            return Ok(());
        }
        // A server that shuts down says 421 of itself (RFC 5321 3.8).
        match self.reply(self.timeout.min(LAST_WORDS)).await {
            Ok(reply) if reply.code == 421 => Err(Trouble::Refused(reply)),
            _ => Err(Trouble::Protocol("the server spoke out of turn")),
        }
    }

    /// While the message is under way a server may refuse it at once; anything else it says is a fault.
    async fn expect_silence_or_refusal(&mut self) -> Result<(), Trouble> {
        if !self.has_spoken().await? {
            return Ok(());
        }
        match self.reply(self.timeout.min(LAST_WORDS)).await {
            Ok(reply) if reply.code >= 400 => Err(Trouble::Refused(reply)),
            _ => Err(Trouble::Protocol("the server spoke out of turn")),
        }
    }

    /// Whether there is something to read: asks, and does not wait.
    async fn has_spoken(&mut self) -> Result<bool, Trouble> {
        if self.received.is_empty() {
            // The runtime looks at its sockets when a task gives way; without that the read below sees the past.
            tokio::task::yield_now().await;
            return self.fill().now_or_never().map_or(Ok(false), |read| read.map(|()| true));
        }
        Ok(true)
    }

    /// The refusal that made the server stop reading, if it wrote one.
    async fn last_words(&mut self) -> Option<Trouble> {
        match self.reply(self.timeout.min(LAST_WORDS)).await {
            Ok(reply) if reply.code >= 400 => Some(Trouble::Refused(reply)),
            _ => None,
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        let write = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        match timeout(self.timeout, write).await {
            Ok(done) => Ok(done?),
            Err(_) => Err(Trouble::Timeout(self.timeout)),
        }
    }

    /// One line without its end.
    async fn line(&mut self) -> Result<String, Trouble> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.received[searched..].iter().position(|b| *b == b'\n').map(|i| i + searched) {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                let line = line[..end].strip_suffix(b"\r").unwrap_or(&line[..end]);
                if line.len() > LINE_MAX {
                    return Err(Trouble::Protocol("the reply has a line that is too long"));
                }
                return Ok(String::from_utf8_lossy(line).into_owned());
            }
            searched = self.received.len();
            if searched > LINE_MAX {
                return Err(Trouble::Protocol("the reply has a line that is too long"));
            }
            self.fill().await?;
        }
    }

    /// Reads what there is, at most one page. Cancel-safe: what was read is in `received`.
    async fn fill(&mut self) -> Result<(), Trouble> {
        let mut page = [0; 4096];
        match self.stream.read(&mut page).await? {
            0 => Err(Trouble::Closed),
            n => {
                self.received.extend_from_slice(&page[..n]);
                Ok(())
            }
        }
    }

    fn observe(&self, direction: Direction, line: &str) {
        if let Some(observer) = &self.observer {
            let clean: String = line.chars().filter(|c| !c.is_control()).take(1000).collect();
            observer(direction, &clean);
        }
    }
}

/// `250-text` -> (250, true, text).
fn split_line(line: &str) -> Option<(u16, bool, &str)> {
    let digits = line.get(..3).filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?;
    let code: u16 = digits.parse().ok()?;
    if !(200..600).contains(&code) {
        return None;
    }
    match line.as_bytes().get(3) {
        None => Some((code, false, "")),
        Some(b' ') => Some((code, false, &line[4..])),
        Some(b'-') => Some((code, true, &line[4..])),
        Some(_) => None,
    }
}

/// RFC 5321 4.5.2: a line that begins with a dot gets a second one; then the final dot.
fn dot_stuffed(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 64);
    let mut line_start = true;
    for byte in message {
        if line_start && *byte == b'.' {
            out.push(b'.');
        }
        out.push(*byte);
        line_start = *byte == b'\n';
    }
    out.extend_from_slice(b".\r\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_line_is_three_digits_and_a_separator() {
        let rows = [
            ("250 ok", Some((250, false, "ok"))),
            ("250-ok", Some((250, true, "ok"))),
            ("250", Some((250, false, ""))),
            ("25", None),
            ("2500 x", None),
            ("199 x", None),
            ("600 x", None),
            ("２５０ x", None),
            ("HTTP/1.1 400", None),
            ("", None),
        ];
        for (line, expected) in rows {
            assert_eq!(split_line(line), expected, "{line}");
        }
    }

    #[test]
    fn dots_are_doubled_at_line_starts_alone() {
        assert_eq!(dot_stuffed(b".a\r\n..\r\nb.\r\n"), b"..a\r\n...\r\nb.\r\n.\r\n");
    }
}
