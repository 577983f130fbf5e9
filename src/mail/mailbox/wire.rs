//! IMAP on the wire (RFC 3501, RFC 9051): one command out, its whole answer in, every wait under a deadline and every buffer
//! under a bound.
//!
//! Written here and not taken from async-imap 0.12: its buffer may grow to 512 MiB and is parsed anew with every read,
//! imap-proto 0.17 reads a BODYSTRUCTURE by recursion without a limit (a server that nobody asked can end the process with
//! it), and errors and log lines of both hold what was read and sent. Nothing here recurses, and an answer is kept as lines.
//! Invariant: after any error the connection must be dropped.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::MailboxError;
use crate::mail::dialogue::Stream;
use crate::mail::outcome::one_line;

/// The longest line; a list of UIDs is the only long one.
const LINE_MAX: usize = 256 * 1024;
/// The most lines of one answer.
const LINES_MAX: usize = 10_000;
/// The bytes of one answer, besides the mail that was asked for.
const ANSWER_MAX: usize = 512 * 1024;
/// What is read at once.
const PAGE: usize = 16 * 1024;
/// Stands in a [`Line`]'s text where a literal was. No server may send it (RFC 3501 section 9, CHAR).
pub(super) const LITERAL: char = '\0';

/// One line of an answer, without its tag or `*`; the literals in it apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) literals: Vec<Vec<u8>>,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Ok,
    No,
    Bad,
}

/// The whole answer to one command.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) ended: Ended,
    /// The last line's words, for people; with its code in brackets. Not yet made fit for logs.
    pub(super) words: String,
    /// What came before it.
    pub(super) lines: Vec<Line>,
}

impl Answer {
    /// The answer if the server did what it was asked to.
    pub(super) fn ok(self, step: &'static str) -> Result<Self, MailboxError> {
        match self.ended {
            Ended::Ok => Ok(self),
            Ended::No | Ended::Bad => Err(MailboxError::Refused { step, words: one_line(&self.words) }),
        }
    }
}

/// What the server said next.
enum Said {
    /// `* …`
    Untagged(Line),
    /// `+ …`: it waits for more.
    Continue,
    /// The end of the command.
    Ended(Ended, String),
}

/// One connection.
pub(super) struct Wire {
    stream: Box<dyn Stream>,
    /// What is read into; not in a future, which debug builds copy from frame to frame.
    page: Vec<u8>,
    /// Received, not yet read; bounded by one line and one page.
    received: Vec<u8>,
    timeout: Duration,
    commands: u32,
    /// Bytes that the answer being read may still have.
    budget: usize,
}

impl Wire {
    pub(super) fn new(stream: Box<dyn Stream>, timeout: Duration) -> Self {
        Self { stream, page: vec![0; PAGE], received: Vec::new(), timeout, commands: 0, budget: ANSWER_MAX }
    }

    /// The server's first words: `OK`, `PREAUTH` or `BYE`, and the rest of the line.
    pub(super) async fn greeting(&mut self) -> Result<String, MailboxError> {
        let line = within(self.timeout, self.line()).await?;
        match line.text.strip_prefix("* ") {
            Some(rest) => Ok(rest.to_owned()),
            None => Err(MailboxError::Protocol("the greeting is none")),
        }
    }

    /// Gives the connection back for TLS, unless the server sent more than its agreement: what came in the clear would be
    /// taken for protected (RFC 3501 section 6.2.1; CVE-2011-0411 is the same in SMTP).
    pub(super) fn into_stream(self) -> Result<Box<dyn Stream>, MailboxError> {
        match self.received.is_empty() {
            true => Ok(self.stream),
            false => Err(MailboxError::Protocol("the server spoke between STARTTLS and TLS")),
        }
    }

    /// Sends a command and reads its answer, all within the time for one answer.
    pub(super) async fn command(&mut self, command: &str) -> Result<Answer, MailboxError> {
        self.command_with(command, 0, &[]).await
    }

    /// As [`command`](Self::command), for one that brings up to `mail` bytes of a message.
    pub(super) async fn fetch(&mut self, command: &str, mail: usize) -> Result<Answer, MailboxError> {
        self.command_with(command, mail, &[]).await
    }

    /// As [`command`](Self::command), for one that takes `replies`, a line each time the server asks for one.
    pub(super) async fn conversation(&mut self, command: &str, replies: &[&str]) -> Result<Answer, MailboxError> {
        self.command_with(command, 0, replies).await
    }

    async fn command_with(&mut self, command: &str, mail: usize, replies: &[&str]) -> Result<Answer, MailboxError> {
        let broken = |text: &str| text.bytes().any(|b| matches!(b, b'\r' | b'\n' | 0));
        if broken(command) || replies.iter().any(|reply| broken(reply)) {
            return Err(MailboxError::Protocol("a command with a line end in it was not sent"));
        }
        self.commands += 1;
        let tag = format!("K{}", self.commands);
        self.budget = ANSWER_MAX + mail;
        within(self.timeout, async {
            self.write(&format!("{tag} {command}\r\n")).await?;
            self.answer(&tag, replies).await
        })
        .await
    }

    async fn answer(&mut self, tag: &str, replies: &[&str]) -> Result<Answer, MailboxError> {
        let (mut lines, mut replies) = (Vec::new(), replies.iter());
        loop {
            match self.said(tag).await? {
                Said::Ended(ended, words) => return Ok(Answer { ended, words, lines }),
                Said::Continue => match replies.next() {
                    Some(reply) => self.write(&format!("{reply}\r\n")).await?,
                    None => return Err(MailboxError::Protocol("the server asks for what no command has")),
                },
                Said::Untagged(line) => {
                    if line.text.get(..3).is_some_and(|word| word.eq_ignore_ascii_case("BYE")) && tag != LOGOUT {
                        return Err(MailboxError::Bye(one_line(&line.text)));
                    }
                    if lines.len() >= LINES_MAX {
                        return Err(MailboxError::Protocol("the answer has too many lines"));
                    }
                    lines.push(line);
                }
            }
        }
    }

    /// LOGOUT, waiting a few seconds at most; whatever comes back.
    pub(super) async fn logout(mut self, wait: Duration) {
        self.budget = ANSWER_MAX;
        let goodbye = async {
            self.write(&format!("{LOGOUT} LOGOUT\r\n")).await?;
            self.answer(LOGOUT, &[]).await
        };
        let _ = timeout(wait, goodbye).await;
        let _ = timeout(wait, self.stream.shutdown()).await;
    }

    async fn said(&mut self, tag: &str) -> Result<Said, MailboxError> {
        let mut line = self.line().await?;
        if line.text == "+" || line.text.starts_with("+ ") {
            return Ok(Said::Continue);
        }
        if let Some(rest) = line.text.strip_prefix("* ") {
            line.text = rest.to_owned();
            return Ok(Said::Untagged(line));
        }
        let end = line.text.strip_prefix(tag).and_then(|rest| rest.strip_prefix(' '));
        let Some(end) = end else {
            return Err(MailboxError::Protocol("the server answers another command"));
        };
        let (word, words) = end.split_once(' ').unwrap_or((end, ""));
        let ended = match word.to_ascii_uppercase().as_str() {
            "OK" => Ended::Ok,
            "NO" => Ended::No,
            "BAD" => Ended::Bad,
            _ => return Err(MailboxError::Protocol("the answer is neither OK, NO nor BAD")),
        };
        Ok(Said::Ended(ended, words.to_owned()))
    }

    /// One line with its literals.
    async fn line(&mut self) -> Result<Line, MailboxError> {
        let mut line = Line::default();
        loop {
            let bytes = self.rest_of_line().await?;
            if bytes.contains(&0) {
                return Err(MailboxError::Protocol("the server sent a NUL"));
            }
            let text = String::from_utf8_lossy(&bytes);
            let Some((before, length)) = announced(&text) else {
                line.text.push_str(&text);
                return Ok(line);
            };
            line.text.push_str(before);
            line.text.push(LITERAL);
            line.literals.push(self.literal(length).await?);
        }
    }

    /// Up to the next line end, which is left out.
    async fn rest_of_line(&mut self) -> Result<Vec<u8>, MailboxError> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.received[searched..].iter().position(|b| *b == b'\n').map(|i| i + searched) {
                self.spend(end + 1)?;
                let mut bytes: Vec<u8> = self.received.drain(..=end).collect();
                bytes.pop();
                if bytes.last() == Some(&b'\r') {
                    bytes.pop();
                }
                return Ok(bytes);
            }
            searched = self.received.len();
            if searched > LINE_MAX {
                return Err(MailboxError::Protocol("the answer has a line that is too long"));
            }
            self.fill().await?;
        }
    }

    async fn literal(&mut self, length: usize) -> Result<Vec<u8>, MailboxError> {
        // Before a byte of it is kept: the announcement costs the server nothing.
        self.spend(length)?;
        while self.received.len() < length {
            self.fill().await?;
        }
        Ok(self.received.drain(..length).collect())
    }

    fn spend(&mut self, bytes: usize) -> Result<(), MailboxError> {
        let left = self.budget.checked_sub(bytes);
        self.budget = left.ok_or(MailboxError::Protocol("the answer is longer than what was asked for"))?;
        Ok(())
    }

    async fn write(&mut self, text: &str) -> Result<(), MailboxError> {
        let written = async {
            self.stream.write_all(text.as_bytes()).await?;
            self.stream.flush().await
        };
        written.await.map_err(broken)
    }

    async fn fill(&mut self) -> Result<(), MailboxError> {
        match self.stream.read(&mut self.page).await.map_err(broken)? {
            0 => Err(MailboxError::Closed),
            n => {
                self.received.extend_from_slice(&self.page[..n]);
                Ok(())
            }
        }
    }
}

/// The tag of the last command, whose BYE is no surprise.
const LOGOUT: &str = "KX";

fn broken(error: io::Error) -> MailboxError {
    match error.kind() {
        // A peer that goes without TLS's goodbye.
        io::ErrorKind::UnexpectedEof => MailboxError::Closed,
        _ => MailboxError::Broken(error),
    }
}

/// The future's result, or that it took too long.
pub(super) async fn within<T>(
    time: Duration,
    future: impl Future<Output = Result<T, MailboxError>>,
) -> Result<T, MailboxError> {
    timeout(time, future).await.unwrap_or(Err(MailboxError::Silent(time)))
}

/// `… {12}` -> what stands before it, and 12: that many bytes follow the line end (RFC 3501 section 4.3; `~{12}` and `{12+}`
/// are later forms). An unbelievable number is one too: it is refused for its length.
fn announced(line: &str) -> Option<(&str, usize)> {
    let (before, number) = line.strip_suffix('}')?.rsplit_once('{')?;
    let digits = number.strip_suffix('+').unwrap_or(number);
    let all = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    all.then(|| (before.strip_suffix('~').unwrap_or(before), digits.parse().unwrap_or(usize::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_is_announced_at_the_end_of_a_line_alone() {
        let rows = [
            ("* 1 FETCH (BODY[] {12}", Some(("* 1 FETCH (BODY[] ", 12)), "the usual form"),
            ("x ~{0}", Some(("x ", 0)), "a binary one"),
            ("x {7+}", Some(("x ", 7)), "without waiting"),
            ("x {99999999999999999999999}", Some(("x ", usize::MAX)), "a number beyond belief"),
            ("x {12} y", None, "not at the end"),
            ("x {}", None, "no number"),
            ("x {-1}", None, "no number"),
            ("* OK {1f}", None, "no number"),
            ("", None, "nothing"),
        ];
        for (line, expected, why) in rows {
            assert_eq!(announced(line), expected, "{why}");
        }
    }
}
