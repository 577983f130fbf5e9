//! SMTP over a connection of our own, one phase at a time, each under its own deadline.
//!
//! The dialogue itself is in `dialogue`, the meaning of replies in [`super::outcome`], signing in in
//! `signin`. Here is the order of things: open a session, one transaction a mail, results per recipient, what
//! becomes of the connection afterwards. No pipelining and no chunking: with one command and one answer at a time, what a
//! lost connection means is always known. Invariants: any doubt drops the connection; a mail whose end may have reached the
//! server and whose answer was not heard is `Unknown`, never retried here; nothing but 250 to its end is `Accepted`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rustls_pki_types::ServerName;
use tokio::time::{Instant, timeout};

use super::dial::{client_name, dial};
use super::dialogue::{Dialogue, Direction, Halted, Observer, Reply, Stream, Trouble};
use super::message::{addr_spec, well_formed};
use super::outcome::{Stage, classify, one_line, unclear};
use super::signin::SignIn;
use super::{MailError, Outgoing, StillOurs, Transport, tls};
use crate::config::{SmtpConfig, SmtpTls};
use crate::domain::customer::Address;
use crate::domain::delivery::{Attempt, Outcome, RecipientState};

/// The section of the configuration, for errors.
pub(super) const SECTION: &str = "mail.smtp";
/// The reply to the end of DATA is waited for this long at least (RFC 5321 4.5.3.2.6): less makes duplicates.
const DOT_TIMEOUT: Duration = Duration::from_secs(600);
/// Mails over one connection; then a fresh one, as relays with a limit of their own expect.
const MAILS_MAX: u32 = 100;
/// A connection that was idle this long is not trusted to be there: firewalls forget it without a word.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// How long QUIT may take.
const QUIT_TIMEOUT: Duration = Duration::from_secs(3);

/// The transport `smtp`: one relay, at most one connection.
pub struct Smtp {
    host: String,
    port: u16,
    protection: SmtpTls,
    name: ServerName<'static>,
    tls: Option<Arc<rustls::ClientConfig>>,
    signin: SignIn,
    timeout: Duration,
    dot_timeout: Duration,
    observer: Option<Observer>,
    still_ours: Option<StillOurs>,
    session: Option<Session>,
}

/// An open, signed-in connection.
struct Session {
    dialogue: Dialogue,
    /// The greatest message the server takes, if it said so.
    size_max: Option<usize>,
    says_size: bool,
    mails: u32,
    used: Instant,
}

/// What the last EHLO offered.
#[derive(Debug, Default, PartialEq, Eq)]
struct Offer {
    starttls: bool,
    auth: Vec<String>,
    says_size: bool,
    size_max: Option<usize>,
}

/// Why a session could not be opened or a step not be done.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) outcome: Outcome,
    /// One line, addresses masked.
    pub(super) reply: String,
    /// Where the server refused, and its code: nothing else was wrong with the dialogue.
    refused: Option<(Stage, u16)>,
}

impl Failure {
    pub(super) fn new(outcome: Outcome, reply: impl AsRef<str>) -> Self {
        Self { outcome, reply: one_line(reply.as_ref()), refused: None }
    }

    fn signin_refused(&self) -> bool {
        matches!(self.refused, Some((Stage::Auth, 500..)))
    }

    /// After a refusal the dialogue stands at a clean point; 421 says that the server leaves.
    fn after(&self) -> After {
        match self.refused {
            Some((_, 421)) | None => After::Drop,
            Some(_) => After::Reset,
        }
    }

    fn reply(stage: Stage, reply: &Reply) -> Self {
        let refused = (reply.code >= 400).then_some((stage, reply.code));
        Self { refused, ..Self::new(meaning(stage, reply), format!("{}: {}", stage.as_str(), reply.shown())) }
    }

    fn trouble(stage: Stage, trouble: &Trouble) -> Self {
        let outcome = match trouble {
            Trouble::Refused(reply) => meaning(stage, reply),
            Trouble::Timeout(_) | Trouble::Closed | Trouble::Io(_) | Trouble::Protocol(_) => unclear(stage),
        };
        Self::new(outcome, format!("{}: {trouble}", stage.as_str()))
    }
}

/// What becomes of the connection after a transaction.
enum After {
    /// It is at a clean point.
    Keep,
    /// A transaction is open and is to be given up with RSET.
    Reset,
    /// It is not to be used any more.
    Drop,
    /// It was dead before the mail began: nothing was said of the mail, so a fresh one may start over.
    Redial,
}

/// A reply of one of the `wanted` codes, or why not.
pub(super) fn expect(stage: Stage, wanted: &[u16], answer: Result<Reply, Trouble>) -> Result<Reply, Failure> {
    match answer {
        Ok(reply) if wanted.contains(&reply.code) => Ok(reply),
        Ok(reply) => Err(Failure::reply(stage, &reply)),
        Err(trouble) => Err(Failure::trouble(stage, &trouble)),
    }
}

fn meaning(stage: Stage, reply: &Reply) -> Outcome {
    classify(stage, reply.code, reply.enhanced(), &reply.text())
}

impl Smtp {
    /// Reads the secrets and the certificates; connects to nothing.
    ///
    /// # Errors
    /// [`MailError`] names the key that cannot be used.
    pub fn new(config: &SmtpConfig) -> Result<Self, MailError> {
        let name = ServerName::try_from(config.host.clone())
            .map_err(|_| MailError::Host(SECTION, config.host.clone()))?
            .to_owned();
        let needs_tls = match (&config.tls, &config.auth) {
            (SmtpTls::None, crate::config::SmtpAuth::Xoauth2 { token_url, .. }) => token_url.scheme() == "https",
            (SmtpTls::None, _) => false,
            (SmtpTls::Starttls | SmtpTls::Tls, _) => true,
        };
        let tls = if needs_tls { Some(tls::client_config(SECTION, config.ca_file.as_deref())?) } else { None };
        let signin = SignIn::new(config, tls.as_deref())?;
        Ok(Self {
            host: config.host.clone(),
            port: config.port,
            protection: config.tls,
            name,
            tls,
            signin,
            timeout: config.timeout,
            dot_timeout: config.timeout.max(DOT_TIMEOUT),
            observer: None,
            still_ours: None,
            session: None,
        })
    }

    /// Shows every line of the dialogue to `observer`.
    #[must_use]
    pub fn observed(self, observer: Option<Observer>) -> Self {
        Self { observer, ..self }
    }

    /// Waits `within` for the reply to the end of the message instead of 10 minutes. Too short a time makes duplicates.
    #[must_use]
    pub fn dot_timeout(self, within: Duration) -> Self {
        Self { dot_timeout: within, ..self }
    }

    /// The kept session if it can still be trusted, else a fresh one.
    async fn session(&mut self) -> Result<Session, Failure> {
        if let Some(session) = self.session.take() {
            if session.mails < MAILS_MAX && session.used.elapsed() < IDLE_MAX {
                return Ok(session);
            }
            session.dialogue.quit(QUIT_TIMEOUT).await;
        }
        match self.open().await {
            // A kept token may have been revoked: once more, with a fresh one.
            Err(failure) if failure.signin_refused() && self.signin.renew() => self.open().await,
            other => other,
        }
    }

    async fn open(&mut self) -> Result<Session, Failure> {
        let (mut dialogue, local) = self.connect().await?;
        let greeting = dialogue.reply(self.timeout).await;
        expect(Stage::Connect, &[220], greeting)?;
        let hello = format!("EHLO {}", client_name(local));
        let mut offer = self.hello(&mut dialogue, &hello).await?;
        if self.protection == SmtpTls::Starttls {
            dialogue = self.starttls(dialogue, &offer).await?;
            // What was offered in the clear is forgotten (RFC 3207 section 4.2).
            offer = self.hello(&mut dialogue, &hello).await?;
        }
        self.signin.perform(&mut dialogue, &offer.auth).await?;
        let Offer { says_size, size_max, .. } = offer;
        Ok(Session { dialogue, size_max, says_size, mails: 0, used: Instant::now() })
    }

    async fn connect(&self) -> Result<(Dialogue, SocketAddr), Failure> {
        let place = format!("{}:{}", self.host, self.port);
        self.note(&format!("connecting to {place}"));
        let tcp = dial(&self.host, self.port, self.timeout)
            .await
            .map_err(|error| Failure::new(Outcome::Deferred, format!("cannot connect to {place}: {error}")))?;
        let ends = tcp.local_addr().and_then(|local| Ok((local, tcp.peer_addr()?)));
        let (local, peer) = ends.map_err(|error| Failure::trouble(Stage::Connect, &Trouble::Io(error)))?;
        if self.protection == SmtpTls::None && !peer.ip().to_canonical().is_loopback() {
            return Err(Failure::new(
                Outcome::Blocked,
                format!("{place} is no loopback address, and mail.smtp.tls is none"),
            ));
        }
        let mut stream: Box<dyn Stream> = Box::new(tcp);
        if self.protection == SmtpTls::Tls {
            stream = self.protect(stream).await?;
        }
        Ok((Dialogue::new(stream, self.timeout, self.observer.clone()), local))
    }

    async fn hello(&self, dialogue: &mut Dialogue, hello: &str) -> Result<Offer, Failure> {
        let reply = expect(Stage::Ehlo, &[250], dialogue.command(hello).await)?;
        Ok(Offer::read(&reply.lines))
    }

    /// Required: without it nothing goes on, whatever the server says.
    async fn starttls(&self, mut dialogue: Dialogue, offer: &Offer) -> Result<Dialogue, Failure> {
        if !offer.starttls {
            return Err(Failure::new(
                Outcome::Blocked,
                "the server does not offer STARTTLS, which mail.smtp.tls requires",
            ));
        }
        expect(Stage::Starttls, &[220], dialogue.command("STARTTLS").await)?;
        let stream = dialogue.into_stream().await.map_err(|t| Failure::trouble(Stage::Starttls, &t))?;
        Ok(Dialogue::new(self.protect(stream).await?, self.timeout, self.observer.clone()))
    }

    async fn protect(&self, stream: Box<dyn Stream>) -> Result<Box<dyn Stream>, Failure> {
        let Some(config) = self.tls.clone() else {
            return Err(Failure::new(Outcome::Blocked, "TLS is not set up"));
        };
        match timeout(self.timeout, tls::protect(config, self.name.clone(), stream)).await {
            Ok(Ok(stream)) => {
                self.note("TLS, certificate verified");
                Ok(stream)
            }
            Ok(Err(error)) => {
                let lasting = tls::is_certificate_error(&error);
                let outcome = if lasting { Outcome::Blocked } else { Outcome::Deferred };
                Err(Failure::new(outcome, format!("TLS with {}: {error}", self.host)))
            }
            Err(_) => Err(Failure::new(Outcome::Deferred, format!("TLS with {}: no answer", self.host))),
        }
    }

    fn note(&self, what: &str) {
        if let Some(observer) = &self.observer {
            observer(Direction::Note, what);
        }
    }
}

#[async_trait]
impl Transport for Smtp {
    async fn send(&mut self, mail: &Outgoing) -> Attempt {
        if mail.recipients.is_empty() {
            return Attempt::whole(Outcome::Rejected, "the mail has no recipient");
        }
        if let Err(why) = well_formed(&mail.message) {
            return Attempt::whole(Outcome::Rejected, format!("the message is not well-formed: {why}"));
        }
        loop {
            let mut session = match self.session().await {
                Ok(session) => session,
                Err(failure) => return Attempt::whole(failure.outcome, failure.reply),
            };
            let (attempt, after) = transact(&mut session, mail, self.dot_timeout, self.still_ours.as_ref()).await;
            session.mails += 1;
            match after {
                // Only a session that was kept says this, and the next one is fresh.
                After::Redial => continue,
                After::Drop => {}
                After::Keep => self.keep(session),
                After::Reset => {
                    if matches!(session.dialogue.command("RSET").await, Ok(reply) if reply.code == 250) {
                        self.keep(session);
                    }
                }
            }
            return attempt;
        }
    }

    fn ask_before_message(&mut self, still_ours: Option<StillOurs>) {
        self.still_ours = still_ours;
    }

    async fn close(&mut self) {
        if let Some(session) = self.session.take() {
            session.dialogue.quit(QUIT_TIMEOUT).await;
        }
    }
}

impl Smtp {
    fn keep(&mut self, session: Session) {
        self.session = Some(Session { used: Instant::now(), ..session });
    }
}

/// What the server said of one recipient.
struct Said {
    address: Address,
    state: RecipientState,
    reply: String,
}

/// MAIL, RCPT for each, DATA, the message.
async fn transact(
    session: &mut Session,
    mail: &Outgoing,
    dot_timeout: Duration,
    still_ours: Option<&StillOurs>,
) -> (Attempt, After) {
    if let Some(max) = session.size_max.filter(|max| mail.message.len() > *max) {
        let reply = format!("the message has {} octets, the server takes {max}", mail.message.len());
        return (Attempt::whole(Outcome::Rejected, reply), After::Keep);
    }
    if let Err((failure, after)) = begin(session, mail).await {
        return (Attempt::whole(failure.outcome, failure.reply), after);
    }
    let mut said = Vec::new();
    if let Err(failure) = recipients(session, &mail.recipients, &mut said).await {
        let after = failure.after();
        return (settled(failure.outcome, failure.reply, said), after);
    }
    if !said.iter().any(|s| s.state == RecipientState::Accepted) {
        let deferred = said.iter().find(|s| s.state == RecipientState::Pending);
        let outcome = if deferred.is_some() { Outcome::Deferred } else { Outcome::Rejected };
        let reply = deferred.or(said.first()).map_or_else(String::new, |s| s.reply.clone());
        return (settled(outcome, reply, said), After::Reset);
    }
    if let Err(failure) = expect(Stage::Data, &[354], session.dialogue.command("DATA").await) {
        let after = failure.after();
        return (settled(failure.outcome, failure.reply, said), after);
    }
    if still_ours.is_some_and(|still_ours| !still_ours()) {
        let reply = "the sender stood still for too long, the message was not sent".to_owned();
        return (settled(Outcome::Deferred, reply, said), After::Drop);
    }
    let (outcome, reply, after) = match session.dialogue.message(&mail.message, dot_timeout).await {
        Ok(reply) => ended(&reply),
        Err(Halted { end_may_be_sent, trouble }) => {
            let stage = if end_may_be_sent { Stage::Dot } else { Stage::Data };
            let failure = Failure::trouble(stage, &trouble);
            (failure.outcome, failure.reply, After::Drop)
        }
    };
    (settled(outcome, reply, said), after)
}

/// MAIL FROM; finds out whether a kept connection is still there.
async fn begin(session: &mut Session, mail: &Outgoing) -> Result<(), (Failure, After)> {
    let kept = session.mails > 0;
    let size = if session.says_size { format!(" SIZE={}", mail.message.len()) } else { String::new() };
    let answer = session.dialogue.command(&format!("MAIL FROM:<{}>{size}", addr_spec(&mail.envelope_from))).await;
    // A time-out is not among them: waiting a second time for a server that hangs helps nobody.
    let gone = match &answer {
        Err(Trouble::Timeout(_)) => false,
        Err(Trouble::Closed | Trouble::Io(_) | Trouble::Protocol(_) | Trouble::Refused(_)) => true,
        Ok(reply) => reply.code == 421,
    };
    expect(Stage::Mail, &[250], answer).map(|_| ()).map_err(|failure| {
        let after = if kept && gone { After::Redial } else { failure.after() };
        (failure, after)
    })
}

/// RCPT TO for each. An error ends the transaction; what was said until then is in `said`.
async fn recipients(session: &mut Session, all: &[Address], said: &mut Vec<Said>) -> Result<(), Failure> {
    for address in all {
        let answer = session.dialogue.command(&format!("RCPT TO:<{}>", addr_spec(address))).await;
        let (state, reply) = match answer {
            Ok(reply) if reply.positive() => (RecipientState::Accepted, reply.shown()),
            Ok(reply) if reply.code >= 400 && reply.code != 421 => match meaning(Stage::Rcpt, &reply) {
                Outcome::Rejected => (RecipientState::Rejected, reply.shown()),
                Outcome::Deferred | Outcome::Accepted | Outcome::Unknown => (RecipientState::Pending, reply.shown()),
                // It speaks of us, not of this recipient.
                Outcome::Blocked => return Err(Failure::reply(Stage::Rcpt, &reply)),
            },
            Ok(reply) => return Err(Failure::reply(Stage::Rcpt, &reply)),
            Err(trouble) => return Err(Failure::trouble(Stage::Rcpt, &trouble)),
        };
        said.push(Said { address: address.clone(), state, reply });
    }
    Ok(())
}

/// The reply to the end of the message.
fn ended(reply: &Reply) -> (Outcome, String, After) {
    let outcome = meaning(Stage::Dot, reply);
    let after = match outcome {
        // An answer that makes no sense: so would the next ones.
        Outcome::Unknown => After::Drop,
        _ if reply.code == 421 => After::Drop,
        Outcome::Accepted | Outcome::Deferred | Outcome::Rejected | Outcome::Blocked => After::Keep,
    };
    (outcome, reply.shown(), after)
}

/// The attempt, with what became of each recipient that was spoken of: taken at RCPT means nothing before the end's 250.
fn settled(outcome: Outcome, reply: String, said: Vec<Said>) -> Attempt {
    let taken = match outcome {
        Outcome::Accepted => RecipientState::Accepted,
        Outcome::Rejected => RecipientState::Rejected,
        Outcome::Deferred | Outcome::Unknown | Outcome::Blocked => RecipientState::Pending,
    };
    let one = |s: Said| match s.state {
        RecipientState::Accepted => (s.address, taken, reply.clone()),
        RecipientState::Pending | RecipientState::Rejected => (s.address, s.state, s.reply),
    };
    Attempt { outcome, recipients: said.into_iter().map(one).collect(), reply: reply.clone() }
}

impl Offer {
    /// From the lines of an EHLO reply; the first is the greeting (RFC 5321 4.1.1.1).
    fn read(lines: &[String]) -> Self {
        let mut offer = Self::default();
        for line in lines.iter().skip(1) {
            let line = line.to_ascii_uppercase();
            let mut words = line.split([' ', '=']).filter(|w| !w.is_empty());
            match words.next() {
                Some("STARTTLS") => offer.starttls = true,
                // `AUTH=LOGIN` is an old form beside the right one.
                Some("AUTH") => offer.auth.extend(words.map(str::to_owned)),
                Some("SIZE") => {
                    offer.says_size = true;
                    // 0 means no fixed limit (RFC 1870 section 3).
                    offer.size_max = words.next().and_then(|n| n.parse().ok()).filter(|n| *n > 0);
                }
                _ => {}
            }
        }
        offer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_is_read_from_the_ehlo_reply() {
        let lines = ["mx.example.jp AUTH PLAIN", "size 1000", "AUTH login XOAUTH2", "AUTH=PLAIN", "STARTTLS", "X"];
        let offer = Offer::read(&lines.map(str::to_owned));
        let auth = ["LOGIN", "XOAUTH2", "PLAIN"].map(str::to_owned).to_vec();
        assert_eq!(offer, Offer { starttls: true, auth, says_size: true, size_max: Some(1000) });
        assert_eq!(Offer::read(&["x".to_owned(), "SIZE 0".to_owned()]).size_max, None);
    }
}
