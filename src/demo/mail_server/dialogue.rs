//! One SMTP dialogue (RFC 5321): greeting, commands, DATA. Ends with an error when the connection breaks, ours or theirs.

use std::io;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{MAX_LINE, MAX_MESSAGE, MAX_RECIPIENTS, Policy, Received, SILENCE, State};

/// Bad commands in a row after which the server hangs up.
const PATIENCE: u32 = 20;

struct Dialogue<'a> {
    stream: BufReader<TcpStream>,
    state: &'a State,
    connection: u64,
    /// EHLO or HELO came; with EHLO, extensions may be used.
    greeted: Option<Extended>,
    authenticated: bool,
    from: Option<String>,
    recipients: Vec<String>,
    errors: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Extended {
    No,
    Yes,
}

/// Talks to one client until it leaves.
pub(super) async fn run(stream: TcpStream, state: &State, connection: u64) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let authenticated = state.options.auth.is_none();
    let stream = BufReader::new(stream);
    let mut dialogue = Dialogue {
        stream,
        state,
        connection,
        greeted: None,
        authenticated,
        from: None,
        recipients: Vec::new(),
        errors: 0,
    };
    dialogue.reply("220 mail.demo.example ESMTP ready").await?;
    while dialogue.errors < PATIENCE {
        let Some(line) = dialogue.line().await? else { return Ok(()) };
        if !dialogue.command(&line).await? {
            return Ok(());
        }
    }
    dialogue.reply("421 4.7.0 too many errors, closing").await
}

/// A line as it came.
enum Line {
    /// Ended by CRLF, which is left out.
    Good(Vec<u8>),
    /// Ended by a line feed alone.
    Bare,
}

impl Dialogue<'_> {
    async fn reply(&mut self, text: &str) -> io::Result<()> {
        let line = format!("{text}\r\n");
        let written = self.stream.get_mut().write_all(line.as_bytes());
        timeout(SILENCE, written).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    async fn refuse(&mut self, text: &str) -> io::Result<bool> {
        self.errors += 1;
        self.reply(text).await.map(|()| true)
    }

    async fn accept(&mut self, text: &str) -> io::Result<bool> {
        self.errors = 0;
        self.reply(text).await.map(|()| true)
    }

    /// The next line; `None` at the end of the connection. A line over the limit ends the dialogue.
    async fn line(&mut self) -> io::Result<Option<Line>> {
        let mut line = Vec::new();
        let mut limited = (&mut self.stream).take(MAX_LINE as u64);
        let read = timeout(SILENCE, limited.read_until(b'\n', &mut line)).await;
        read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        if line.pop_if(|last| *last == b'\n').is_none() {
            return if line.len() >= MAX_LINE { Err(io::Error::other("a line without an end")) } else { Ok(None) };
        }
        Ok(Some(if line.pop_if(|last| *last == b'\r').is_some() { Line::Good(line) } else { Line::Bare }))
    }

    /// Answers one command; `false` when the dialogue is over.
    async fn command(&mut self, line: &Line) -> io::Result<bool> {
        let Line::Good(line) = line else {
            return self.refuse("500 5.5.2 bare line feed").await;
        };
        let Ok(line) = std::str::from_utf8(line) else {
            return self.refuse("500 5.5.2 not a command").await;
        };
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" => self.hello(rest, Extended::Yes).await,
            "HELO" => self.hello(rest, Extended::No).await,
            "NOOP" => self.accept("250 2.0.0 OK").await,
            "RSET" => {
                self.reset();
                self.accept("250 2.0.0 OK").await
            }
            "QUIT" => self.reply("221 2.0.0 bye").await.map(|()| false),
            "AUTH" => self.auth(rest).await,
            "MAIL" => self.mail(rest).await,
            "RCPT" => self.rcpt(rest).await,
            "DATA" if rest.is_empty() => self.data().await,
            _ => self.refuse("500 5.5.1 command not recognized").await,
        }
    }

    fn reset(&mut self) {
        self.from = None;
        self.recipients.clear();
    }

    async fn hello(&mut self, name: &str, extended: Extended) -> io::Result<bool> {
        if name.trim().is_empty() {
            return self.refuse("501 5.5.4 a name is missing").await;
        }
        self.reset();
        self.greeted = Some(extended);
        if extended == Extended::No {
            return self.accept("250 mail.demo.example").await;
        }
        let auth = if self.state.options.auth.is_some() { "250-AUTH PLAIN LOGIN\r\n" } else { "" };
        let reply = format!(
            "250-mail.demo.example\r\n250-PIPELINING\r\n250-SIZE {MAX_MESSAGE}\r\n250-8BITMIME\r\n{auth}250 ENHANCEDSTATUSCODES"
        );
        self.accept(&reply).await
    }

    /// RFC 4954, PLAIN (RFC 4616) and LOGIN, with or without an initial response.
    async fn auth(&mut self, rest: &str) -> io::Result<bool> {
        let Some((user, password)) = self.state.options.auth.clone() else {
            return self.refuse("502 5.5.1 AUTH not offered").await;
        };
        if self.greeted != Some(Extended::Yes) || self.authenticated || self.from.is_some() {
            return self.refuse("503 5.5.1 not now").await;
        }
        let mut words = rest.split(' ');
        let mechanism = words.next().unwrap_or_default().to_ascii_uppercase();
        let initial = words.next().map(ToOwned::to_owned);
        let given = match mechanism.as_str() {
            "PLAIN" => {
                let plain = self.challenge(initial, "").await?;
                let mut parts = plain.split(|byte| *byte == 0).skip(1).map(<[u8]>::to_vec);
                (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
            }
            "LOGIN" => {
                let name = self.challenge(initial, "VXNlcm5hbWU6").await?;
                (name, self.challenge(None, "UGFzc3dvcmQ6").await?)
            }
            _ => return self.refuse("504 5.5.4 mechanism not offered").await,
        };
        if given != (user.into_bytes(), password.into_bytes()) {
            return self.refuse("535 5.7.8 authentication failed").await;
        }
        self.authenticated = true;
        self.accept("235 2.7.0 authenticated").await
    }

    /// One base64 answer, given with the command or asked for; empty if it is none.
    async fn challenge(&mut self, initial: Option<String>, prompt: &str) -> io::Result<Vec<u8>> {
        let answer = match initial {
            Some(initial) => initial.into_bytes(),
            None => {
                self.reply(&format!("334 {prompt}")).await?;
                match self.line().await? {
                    Some(Line::Good(line)) => line,
                    _ => return Ok(Vec::new()),
                }
            }
        };
        Ok(BASE64.decode(answer).unwrap_or_default())
    }

    async fn mail(&mut self, rest: &str) -> io::Result<bool> {
        let Some(extended) = self.greeted.filter(|_| self.from.is_none()) else {
            return self.refuse("503 5.5.1 bad sequence of commands").await;
        };
        if !self.authenticated {
            return self.refuse("530 5.7.0 authentication required").await;
        }
        let Some((path, parameters)) = path(rest, "FROM:") else {
            return self.refuse("501 5.5.4 MAIL FROM:<address>").await;
        };
        for parameter in parameters.split_ascii_whitespace() {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let known = match name.to_ascii_uppercase().as_str() {
                "SIZE" => match value.parse::<usize>() {
                    Ok(size) if size > MAX_MESSAGE => return self.refuse("552 5.3.4 message too large").await,
                    size => size.is_ok(),
                },
                "BODY" => value.eq_ignore_ascii_case("7BIT") || value.eq_ignore_ascii_case("8BITMIME"),
                _ => false,
            };
            if !known || extended == Extended::No {
                return self.refuse("555 5.5.4 parameter not recognized").await;
            }
        }
        self.from = Some(path.to_owned());
        self.accept("250 2.1.0 OK").await
    }

    async fn rcpt(&mut self, rest: &str) -> io::Result<bool> {
        if self.from.is_none() {
            return self.refuse("503 5.5.1 bad sequence of commands").await;
        }
        let Some((path, parameters)) = path(rest, "TO:").filter(|(path, _)| path.contains('@')) else {
            return self.refuse("501 5.1.3 RCPT TO:<address>").await;
        };
        if !parameters.trim().is_empty() {
            return self.refuse("555 5.5.4 parameter not recognized").await;
        }
        if self.recipients.len() >= MAX_RECIPIENTS {
            return self.refuse("452 4.5.3 too many recipients").await;
        }
        match self.state.policy(path) {
            Policy::Reject => return self.refuse("550 5.1.1 user unknown").await,
            Policy::Defer(_) if self.state.defer(path) => {
                return self.refuse("451 4.7.1 greylisted, please try again later").await;
            }
            _ => {}
        }
        self.recipients.push(path.to_owned());
        self.accept("250 2.1.5 OK").await
    }

    async fn data(&mut self) -> io::Result<bool> {
        let Some(from) = self.from.take_if(|_| !self.recipients.is_empty()) else {
            return self.refuse("503 5.5.1 no valid recipients").await;
        };
        let recipients = std::mem::take(&mut self.recipients);
        let policies: Vec<Policy> = recipients.iter().map(|recipient| self.state.policy(recipient)).collect();
        self.reply("354 end with <CRLF>.<CRLF>").await?;
        if policies.contains(&Policy::DropBeforeDot) {
            self.line().await?;
            return Ok(false);
        }
        let data = match self.message().await? {
            Ok(data) => data,
            Err(refusal) => return self.refuse(refusal).await,
        };
        if policies.contains(&Policy::RejectMessage) {
            return self.refuse("550 5.7.1 message refused by policy").await;
        }
        let connection = self.connection;
        let message = Received { number: 0, envelope_from: from, recipients, data, connection, at: Instant::now() };
        let number = match self.state.keep(message) {
            Ok(number) => number,
            Err(error) => {
                tracing::warn!(%error, "the simulated mail server could not keep a message");
                return self.refuse("452 4.3.1 insufficient system storage").await;
            }
        };
        if policies.contains(&Policy::DropAfterDot) {
            return Ok(false);
        }
        for policy in policies {
            if let Policy::Delay(late) = policy {
                tokio::time::sleep(late).await;
            }
        }
        self.accept(&format!("250 2.0.0 OK: queued as DEMO{number:05}")).await
    }

    /// Reads a message to its final dot; the inner error is what to refuse it with, after all of it has come.
    async fn message(&mut self) -> io::Result<Result<Vec<u8>, &'static str>> {
        let mut data = Vec::new();
        let mut refusal = None;
        loop {
            let line = match self.line().await? {
                Some(Line::Good(line)) => line,
                Some(Line::Bare) => {
                    refusal = refusal.or(Some("550 5.6.0 bare line feed in the message"));
                    continue;
                }
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            };
            if line == b"." {
                return Ok(refusal.map_or(Ok(data), Err));
            }
            let text = line.strip_prefix(b".").unwrap_or(&line);
            if data.len() + text.len() + 2 > MAX_MESSAGE {
                refusal = refusal.or(Some("552 5.3.4 message too large"));
                data = Vec::new();
            }
            if refusal.is_none() {
                data.extend_from_slice(text);
                data.extend_from_slice(b"\r\n");
            }
        }
    }
}

/// `FROM:<path> parameters` or `TO:<path> parameters`; no space after the colon (RFC 5321 3.3).
fn path<'a>(rest: &'a str, keyword: &str) -> Option<(&'a str, &'a str)> {
    let head = rest.get(..keyword.len())?;
    let (path, parameters) = rest[keyword.len()..].strip_prefix('<')?.split_once('>')?;
    let is_plain = path.is_ascii() && !path.bytes().any(|b| b <= b' ' || b == b'<' || b == 0x7f) && path.len() <= 256;
    let is_apart = parameters.is_empty() || parameters.starts_with(' ');
    (head.eq_ignore_ascii_case(keyword) && is_plain && is_apart).then_some((path, parameters))
}
