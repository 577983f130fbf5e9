//! One SMTP conversation on the wire: commands out, replies in, every wait under a deadline. RFC 5321 section 4.
//!
//! A command can go out alone, with its reply awaited, or be queued and go out with others in one write (RFC 2920); which of
//! them may is the caller's to know, and to read one reply for each, in order. `reply` puts lines together, `ear` listens.
//!
//! Written here and not taken from lettre's connection, whose time-out covers the connect alone, whose line reader has no
//! bound (a line without an end grows until memory does), which looks for nothing that a server says out of turn, and whose
//! errors do not tell a refusal from a lost line for certain. Invariant: a reply counts only for a command that went before it.
//! Bytes that are there *before* a command is sent, or after STARTTLS was agreed, are a fault, and after any [`Trouble`] the
//! dialogue must be dropped.

mod ear;
mod reply;

use std::borrow::Cow;
use std::fmt;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use memchr::{memchr, memmem};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, timeout, timeout_at};

pub(super) use self::ear::Ear;
use self::reply::Lines;
pub(super) use self::reply::Reply;

/// The longest reply line; RFC 5321 4.5.3.1.5 says 512 octets, servers write more.
const LINE_MAX: usize = 2048;
/// At least this much is read at once, if it is there.
const PAGE: usize = 4096;
/// The message goes out in pieces of this size, each under its own deadline.
const PIECE: usize = 16 * 1024;
/// The end of a message (RFC 5321 4.1.1.4). The line end before it is the message's own.
const END: &[u8] = b".\r\n";
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
    ear: Ear,
    /// What was received last; bounded by one line and two pages.
    received: Vec<u8>,
    /// So much of it is read as replies.
    read: usize,
    /// Commands that wait to go out together.
    queued: String,
    /// A reply to what was sent last is here.
    answered: bool,
    timeout: Duration,
    observer: Option<Observer>,
}

impl Dialogue {
    /// `ear`: on the socket below the stream.
    pub(super) fn new(stream: Box<dyn Stream>, ear: Ear, timeout: Duration, observer: Option<Observer>) -> Self {
        let (received, queued) = (Vec::new(), String::new());
        Self { stream, ear, received, read: 0, queued, answered: false, timeout, observer }
    }

    /// Gives the connection back for TLS to be put around it, unless the server sent more than its agreement: whatever
    /// came in the clear would be taken for a protected reply (RFC 3207 section 4.2, CVE-2011-0411).
    pub(super) async fn into_stream(mut self) -> Result<(Box<dyn Stream>, Ear), Trouble> {
        self.expect_silence().await?;
        Ok((self.stream, self.ear))
    }

    /// Sends one command line and reads its reply.
    pub(super) async fn command(&mut self, line: &str) -> Result<Reply, Trouble> {
        self.command_shown(line, line).await
    }

    /// As [`command`](Self::command), for a line with a secret in it: observers see `shown`.
    pub(super) async fn command_shown(&mut self, line: &str, shown: &str) -> Result<Reply, Trouble> {
        refuse_line_end(line)?;
        self.expect_silence().await?;
        self.observe(Direction::Sent, shown);
        self.answered = false;
        write(&mut self.stream, self.timeout, &mut [IoSlice::new(format!("{line}\r\n").as_bytes())]).await?;
        self.next_reply().await
    }

    /// Puts a command line, in parts, behind those that go out together.
    pub(super) fn queue(&mut self, parts: &[&str]) -> Result<(), Trouble> {
        for part in parts {
            refuse_line_end(part)?;
            self.queued.push_str(part);
        }
        self.queued.push_str("\r\n");
        Ok(())
    }

    /// What is queued.
    pub(super) fn queued(&self) -> &str {
        &self.queued
    }

    /// What is queued is not to be sent.
    pub(super) fn unqueue(&mut self) {
        self.queued.clear();
    }

    /// Sends what is queued, in one write; the replies are the caller's to read, one for each command.
    pub(super) async fn send_queued(&mut self) -> Result<(), Trouble> {
        self.expect_silence().await?;
        if self.observer.is_some() {
            self.queued.lines().for_each(|line| self.observe(Direction::Sent, line));
        }
        self.answered = false;
        write(&mut self.stream, self.timeout, &mut [IoSlice::new(self.queued.as_bytes())]).await?;
        self.queued.clear();
        Ok(())
    }

    /// Reads the reply to a command, waiting as long as for any.
    pub(super) async fn next_reply(&mut self) -> Result<Reply, Trouble> {
        self.reply(self.timeout).await
    }

    /// Reads one reply, all of its lines within `within`.
    pub(super) async fn reply(&mut self, within: Duration) -> Result<Reply, Trouble> {
        let deadline = Instant::now() + within;
        let mut lines = Lines::default();
        loop {
            let Some(line) = self.line()? else {
                if self.answered || lines.begun() {
                    self.ear.acknowledge();
                }
                match timeout_at(deadline, self.fill()).await {
                    Ok(filled) => filled?,
                    Err(_) => return Err(Trouble::Timeout(within)),
                }
                continue;
            };
            let line = String::from_utf8_lossy(&self.received[line]);
            self.observe(Direction::Received, &line);
            if let Some(reply) = lines.add(&line)? {
                self.answered = true;
                return Ok(reply);
            }
        }
    }

    /// Sends the message, dot-stuffed, and its end; reads the reply that decides, waiting `within` for it.
    pub(super) async fn message(&mut self, message: &[u8], within: Duration) -> Result<Reply, Halted> {
        let stuffed = dot_stuffed(message);
        if self.observer.is_some() {
            self.observe(Direction::Sent, &format!("({} octets of message)", message.len()));
        }
        let before = |trouble| Halted { end_may_be_sent: false, trouble };
        let after = |trouble| Halted { end_may_be_sent: true, trouble };
        // The last piece has the end with it: before it goes, the server cannot have the message whole.
        let (pieces, last) = stuffed.split_at(stuffed.len().saturating_sub(1) / PIECE * PIECE);
        for piece in pieces.chunks(PIECE) {
            self.expect_silence_or_refusal().await.map_err(before)?;
            if let Err(trouble) = write(&mut self.stream, self.timeout, &mut [IoSlice::new(piece)]).await {
                return Err(before(self.last_words().await.unwrap_or(trouble)));
            }
        }
        self.expect_silence_or_refusal().await.map_err(before)?;
        self.observe(Direction::Sent, ".");
        self.answered = false;
        let mut with_end = [IoSlice::new(last), IoSlice::new(END)];
        if let Err(trouble) = write(&mut self.stream, self.timeout, &mut with_end).await {
            return Err(after(self.last_words().await.unwrap_or(trouble)));
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
        let begun = Instant::now();
        while self.read == self.received.len() {
            // What TLS holds already, or the runtime knows to be there.
            if let Some(filled) = self.fill().now_or_never() {
                filled?;
                break;
            }
            if self.ear.silent()? {
                return Ok(false);
            }
            // Something is there: the runtime has to hear of it, or TLS took it for itself (a ticket) and it is gone now.
            if begun.elapsed() > LAST_WORDS {
                return Err(Trouble::Protocol("the server spoke out of turn"));
            }
            tokio::task::yield_now().await;
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

    /// Where the next line stands in `received`, without its end; `None`: it has not come yet.
    fn line(&mut self) -> Result<Option<Range<usize>>, Trouble> {
        let unread = &self.received[self.read..];
        let end = memchr(b'\n', unread);
        let line = &unread[..end.unwrap_or(unread.len())];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > LINE_MAX {
            return Err(Trouble::Protocol("the reply has a line that is too long"));
        }
        let place = self.read..self.read + line.len();
        self.read += end.map_or(0, |end| end + 1);
        Ok(end.map(|_| place))
    }

    /// Reads what there is, some pages at most. Cancel-safe: what came is in `received`.
    async fn fill(&mut self) -> Result<(), Trouble> {
        self.received.drain(..self.read);
        self.read = 0;
        self.received.reserve(PAGE);
        match self.stream.read_buf(&mut self.received).await? {
            0 => Err(Trouble::Closed),
            _ => Ok(()),
        }
    }

    fn observe(&self, direction: Direction, line: &str) {
        if let Some(observer) = &self.observer {
            let clean: String = line.chars().filter(|c| !c.is_control()).take(1000).collect();
            observer(direction, &clean);
        }
    }
}

/// Sends all of `parts`, in one write if the connection takes so much.
async fn write(stream: &mut Box<dyn Stream>, within: Duration, mut parts: &mut [IoSlice<'_>]) -> Result<(), Trouble> {
    let all = async {
        while !parts.is_empty() {
            match stream.write_vectored(parts).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => IoSlice::advance_slices(&mut parts, n),
            }
        }
        stream.flush().await
    };
    match timeout(within, all).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Trouble::Timeout(within)),
    }
}

/// What could be read as two commands is never sent.
fn refuse_line_end(line: &str) -> Result<(), Trouble> {
    match line.bytes().any(|b| b == b'\r' || b == b'\n' || b == 0) {
        true => Err(Trouble::Protocol("a command with a line end in it was not sent")),
        false => Ok(()),
    }
}

/// RFC 5321 4.5.2: a line that begins with a dot gets a second one. A message without such a line is not copied.
fn dot_stuffed(message: &[u8]) -> Cow<'_, [u8]> {
    let first = message.starts_with(b".");
    let mut dots = memmem::find_iter(message, b"\n.").map(|lf| lf + 1).peekable();
    if !first && dots.peek().is_none() {
        return Cow::Borrowed(message);
    }
    let mut out = Vec::with_capacity(message.len() + 64);
    let mut copied = 0;
    for dot in first.then_some(0).into_iter().chain(dots) {
        out.extend_from_slice(&message[copied..dot]);
        out.push(b'.');
        copied = dot;
    }
    out.extend_from_slice(&message[copied..]);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A dialogue, and the server's end of it.
    async fn dialogue() -> (Dialogue, std::net::TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let ear = Ear::on(&tcp).unwrap();
        let server = listener.accept().unwrap().0;
        (Dialogue::new(Box::new(tcp), ear, Duration::from_secs(20), None), server)
    }

    /// The runtime learns of what came only when this task waits, and it does not wait here.
    #[tokio::test]
    async fn what_is_said_out_of_turn_is_heard_at_once() {
        let rows = [
            ("250 ok\r\n", "the server spoke out of turn"),
            ("25", "the server spoke out of turn"),
            ("421 4.4.2 idle\r\n", "421 4.4.2 idle"),
            ("", "the server closed the connection"),
        ];
        for (said, trouble) in rows {
            let (mut dialogue, mut server) = dialogue().await;
            dialogue.expect_silence().await.expect("nothing was said yet");
            std::io::Write::write_all(&mut server, said.as_bytes()).unwrap();
            if said.is_empty() {
                drop(server);
            }
            while dialogue.ear.silent().unwrap() {
                std::thread::yield_now();
            }
            dialogue.queue(&["MAIL"]).unwrap();
            assert_eq!(dialogue.send_queued().await.unwrap_err().to_string(), trouble, "{said:?}");
        }
    }

    #[tokio::test]
    async fn queued_commands_go_out_together_and_none_holds_a_line_end() {
        let (mut dialogue, mut server) = dialogue().await;
        dialogue.queue(&["MAIL FROM:<", "a@b.example", ">"]).unwrap();
        dialogue.queue(&["DATA"]).unwrap();
        dialogue.send_queued().await.unwrap();
        let mut page = [0; 100];
        let n = std::io::Read::read(&mut server, &mut page).unwrap();
        assert_eq!(&page[..n], b"MAIL FROM:<a@b.example>\r\nDATA\r\n");
        assert_eq!(dialogue.queued(), "");
        for bad in ["a\r", "a\nb", "\0"] {
            assert!(dialogue.queue(&["RCPT TO:<", bad, ">"]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn dots_are_doubled_at_line_starts_alone() {
        let rows: &[(&[u8], &[u8], &str)] = &[
            (b".a\r\n..\r\nb.\r\n", b"..a\r\n...\r\nb.\r\n", "the first line, a line of two, and none in the middle"),
            (b".\r\n.\r\n", b"..\r\n..\r\n", "lines that would end the message"),
            (b"a.b\r\n", b"a.b\r\n", "nothing to do"),
            (b"", b"", "nothing at all"),
        ];
        for (message, expected, why) in rows {
            assert_eq!(dot_stuffed(message).as_ref(), *expected, "{why}");
        }
        assert!(matches!(dot_stuffed(b"a.b\r\n"), Cow::Borrowed(_)));
    }
}
