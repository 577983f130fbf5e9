//! SMTP over a connection of our own, one phase at a time, each under its own deadline.
//!
//! What goes over the wire is in `dialogue`, the meaning of replies in [`super::outcome`], signing in in `signin`, one mail in
//! `transaction`. Here is the order of things: open a session, one transaction a mail, what becomes of the connection afterwards.
//! Where the server offers PIPELINING (RFC 2920) the envelope goes out in one write; a server that offers it and does not keep it
//! is asked one thing at a time from then on. No chunking. Invariants: any doubt drops the connection; a mail whose end may
//! have reached the server and whose answer was not heard is `Unknown`, never retried here; nothing but 250 to its end is
//! `Accepted`.

mod transaction;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rustls_pki_types::ServerName;
use tokio::time::{Instant, timeout};

use self::transaction::{announce, transact};
use super::dial::{client_name, dial};
use super::dialogue::{Dialogue, Direction, Ear, Observer, Reply, Stream, Trouble};
use super::message::well_formed;
use super::outcome::{Stage, classify, one_line, unclear};
use super::signin::SignIn;
use super::{MailError, Outgoing, StillOurs, Transport, tls};
use crate::config::{SmtpConfig, SmtpTls};
use crate::domain::delivery::{Attempt, Outcome};

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
    /// Until a server that offers PIPELINING does not keep it.
    pipelining: bool,
    session: Option<Session>,
}

/// An open, signed-in connection.
struct Session {
    dialogue: Dialogue,
    /// The greatest message the server takes, if it said so.
    size_max: Option<usize>,
    says_size: bool,
    /// The envelope may go out in one write.
    pipelining: bool,
    /// The envelope of a mail that is on the wire, with no reply read.
    announced: Option<String>,
    /// It was pipelined, and the server did not do with it what it had offered.
    broke_its_offer: bool,
    mails: u32,
    used: Instant,
}

/// What the last EHLO offered.
#[derive(Debug, Default, PartialEq, Eq)]
struct Offer {
    starttls: bool,
    auth: Vec<String>,
    pipelining: bool,
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
        let refused = reply.refuses().then_some((stage, reply.code));
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
    /// It was dead before the mail began, or was lost over pipelined commands: the message was not begun, so a fresh one may
    /// start over, once for each of these reasons.
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
            pipelining: true,
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
            if session.is_good() {
                return Ok(session);
            }
            session.quit().await;
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
        let pipelining = offer.pipelining && self.pipelining;
        let (mails, used) = (0, Instant::now());
        Ok(Session { dialogue, size_max, says_size, pipelining, announced: None, broke_its_offer: false, mails, used })
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
        let ear = Ear::on(&tcp).map_err(|error| Failure::trouble(Stage::Connect, &Trouble::Io(error)))?;
        let mut stream: Box<dyn Stream> = Box::new(tcp);
        if self.protection == SmtpTls::Tls {
            stream = self.protect(stream).await?;
        }
        Ok((Dialogue::new(stream, ear, self.timeout, self.observer.clone()), local))
    }

    async fn hello(&self, dialogue: &mut Dialogue, hello: &str) -> Result<Offer, Failure> {
        let reply = expect(Stage::Ehlo, &[250], dialogue.command(hello).await)?;
        Ok(Offer::read(reply.lines()))
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
        let (stream, ear) = dialogue.into_stream().await.map_err(|t| Failure::trouble(Stage::Starttls, &t))?;
        Ok(Dialogue::new(self.protect(stream).await?, ear, self.timeout, self.observer.clone()))
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
            if session.broke_its_offer {
                self.pipeline_no_more();
            }
            match after {
                // Only a session that was kept or pipelined says this; the next one is fresh, and will not pipeline either.
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

    async fn announce(&mut self, mail: &Outgoing) {
        if let Some(mut session) = self.session.take()
            && (!session.is_good() || announce(&mut session, mail).await)
        {
            self.session = Some(session);
        }
    }

    fn ask_before_message(&mut self, still_ours: Option<StillOurs>) {
        self.still_ours = still_ours;
    }

    async fn close(&mut self) {
        if let Some(session) = self.session.take() {
            session.quit().await;
        }
    }
}

impl Session {
    /// Whether it can take one more mail.
    fn is_good(&self) -> bool {
        self.mails < MAILS_MAX && self.used.elapsed() < IDLE_MAX
    }

    async fn quit(self) {
        // Where a mail was announced the server waits for its message, and would take QUIT for that.
        if self.announced.is_none() {
            self.dialogue.quit(QUIT_TIMEOUT).await;
        }
    }
}

impl Smtp {
    /// For as long as this transport lives: some mails in more round trips are cheaper than finding out again.
    fn pipeline_no_more(&mut self) {
        self.pipelining = false;
        self.note("the server does not keep to the PIPELINING that it offers");
        tracing::info!(
            "the mail server does not keep to the PIPELINING that it offers: one command at a time from now on"
        );
    }

    fn keep(&mut self, session: Session) {
        self.session = Some(Session { used: Instant::now(), ..session });
    }
}

impl Offer {
    /// From the lines of an EHLO reply; the first is the greeting (RFC 5321 4.1.1.1).
    fn read<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let mut offer = Self::default();
        for line in lines.skip(1) {
            let line = line.to_ascii_uppercase();
            let mut words = line.split([' ', '=']).filter(|w| !w.is_empty());
            match words.next() {
                Some("STARTTLS") => offer.starttls = true,
                Some("PIPELINING") => offer.pipelining = true,
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
        let lines = "mx AUTH PLAIN\nsize 1000\nAUTH login XOAUTH2\nAUTH=PLAIN\nSTARTTLS\nPipelining\nX";
        let auth = ["LOGIN", "XOAUTH2", "PLAIN"].map(str::to_owned).to_vec();
        let all = Offer { starttls: true, auth, pipelining: true, says_size: true, size_max: Some(1000) };
        assert_eq!(Offer::read(lines.lines()), all);
        assert_eq!(Offer::read(["x", "SIZE 0"].into_iter()).size_max, None);
        assert!(!Offer::read(["PIPELINING"].into_iter()).pipelining, "the first line is a greeting");
    }
}
