//! A mailbox behind IMAP: signed in once a run, read by UID, marked with `\Seen` and `$KigenRead`, never changed otherwise.
//!
//! What was dealt with is remembered by the caller as a [`Position`]: people who read the mailbox too may set and take flags
//! as they like. Invariant: a password or token leaves only under TLS or to a loopback address.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls_pki_types::ServerName;
use sha2::{Digest, Sha256};

use super::answers::{self, Folder};
use super::wire::{Wire, within};
use super::{Mailbox, MailboxError};
use crate::config::{ImapConfig, SmtpAuth, SmtpTls};
use crate::domain::delivery::Outcome;
use crate::mail::bounce::READ_MAX;
use crate::mail::dial::dial;
use crate::mail::dialogue::Stream;
use crate::mail::outcome::one_line;
use crate::mail::token::Tokens;
use crate::mail::{MailError, tls};
use crate::secret::Secret;

/// The section of the configuration, for errors.
const SECTION: &str = "mail.bounces.imap";
/// The keyword that says that kigen read a mail.
const KEYWORD: &str = "$KigenRead";
/// UIDs of one search: their list is then some 200 KB at most.
const WINDOW: u32 = 20_000;
/// Searches of one run: an old mailbox has wide gaps, a hostile server the widest.
const WINDOWS_MAX: u32 = 500;
/// Mails that the server would not give and that are tried again.
const AGAIN_MAX: usize = 50;
/// How long LOGOUT may take.
const LOGOUT_WAIT: Duration = Duration::from_secs(3);

/// What of a folder was dealt with.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Position {
    /// Stands for server, account and folder.
    place: String,
    /// The generation of the UIDs.
    validity: u32,
    /// Every mail up to this UID was dealt with,
    last: u32,
    /// but for these, which the server would not give.
    again: BTreeSet<u32>,
}

impl Position {
    /// `PLACE VALIDITY LAST [UID,UID…]`
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let (place, validity, last) = (words.next()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let again = words.next().unwrap_or_default().split(',').filter_map(|uid| uid.parse().ok()).collect();
        Some(Self { place: place.to_owned(), validity, last, again })
    }

    fn text(&self) -> String {
        let again: Vec<String> = self.again.iter().map(u32::to_string).collect();
        format!("{} {} {} {}", self.place, self.validity, self.last, again.join(","))
    }

    /// Where to go on: where we were, or at the beginning if the UIDs mean something else now.
    fn resume(known: Option<&str>, place: String, validity: u32, uid_next: u32) -> Self {
        let known = known.and_then(Self::parse).filter(|known| known.place == place);
        match known {
            // A server that gives UIDs again that it had given was put back to an older state.
            Some(known) if known.validity == validity && known.last < uid_next => known,
            Some(_) => {
                tracing::warn!("the bounce mailbox counts its mails anew; it is read from its beginning");
                Self { place, validity, last: 0, again: BTreeSet::new() }
            }
            None => Self { place, validity, last: 0, again: BTreeSet::new() },
        }
    }
}

/// One signed-in connection with the folder open.
pub(super) struct Imap {
    wire: Wire,
    position: Position,
    uid_next: u32,
    /// What STORE sets; `None`: the folder keeps no flags.
    marks: Option<String>,
    queue: VecDeque<u32>,
    windows: u32,
    /// Mails that may still be given in this run.
    left: usize,
    current: Option<u32>,
}

/// What FETCH brought.
enum Fetched {
    Mail(Vec<u8>),
    /// It is not there any more.
    Gone,
    /// The server would not give it, in its words.
    Refused(String),
}

impl Imap {
    /// Connects, signs in, opens the folder; all of it within twice the time for one answer.
    pub(super) async fn open(config: &ImapConfig, known: Option<&str>, mails: usize) -> Result<Self, MailboxError> {
        within(config.timeout.saturating_mul(2), Self::begin(config, known, mails)).await
    }

    async fn begin(config: &ImapConfig, known: Option<&str>, mails: usize) -> Result<Self, MailboxError> {
        let mut wire = connect(config).await?;
        sign_in(&mut wire, config).await?;
        let name = answers::quoted(&answers::folder_name(&config.folder));
        let name = name.ok_or(MailboxError::Protocol("the folder's name cannot be written"))?;
        let answer = wire.command(&format!("SELECT {name}")).await?.ok("mail.bounces.imap.folder")?;
        let folder = Folder::read(&answer);
        let (Some(validity), Some(uid_next)) = (folder.validity, folder.uid_next) else {
            return Err(MailboxError::Protocol("the folder has no UIDVALIDITY or no UIDNEXT"));
        };
        let flags: Vec<&str> = ["\\Seen", KEYWORD].into_iter().filter(|flag| folder.keeps(flag)).collect();
        let marks = (!folder.read_only && !flags.is_empty()).then(|| flags.join(" "));
        if marks.is_none() {
            tracing::warn!(
                "the bounce mailbox takes no marks (it is read-only): which mails were read is remembered here alone"
            );
        }
        let position = Position::resume(known, place(config), validity, uid_next);
        let queue = position.again.iter().copied().collect();
        Ok(Self { wire, position, uid_next, marks, queue, windows: 0, left: mails, current: None })
    }

    /// Searches on; `false`: there is nothing more.
    async fn search(&mut self) -> Result<bool, MailboxError> {
        let end = self.uid_next - 1;
        if self.position.last >= end || self.windows >= WINDOWS_MAX {
            return Ok(false);
        }
        self.windows += 1;
        let from = self.position.last + 1;
        let to = from.saturating_add(WINDOW - 1).min(end);
        let answer = self.wire.command(&format!("UID SEARCH UID {from}:{to}")).await?.ok("a search")?;
        let found = answers::found(&answer).ok_or(MailboxError::Protocol("a search found what is no UID"))?;
        if found.iter().any(|uid| !(from..=to).contains(uid)) {
            return Err(MailboxError::Protocol("a search found what was not asked for"));
        }
        if found.is_empty() {
            self.position.last = to;
        }
        self.queue.extend(found);
        Ok(true)
    }

    async fn fetch(&mut self, uid: u32) -> Result<Fetched, MailboxError> {
        let command = format!("UID FETCH {uid} (UID BODY.PEEK[]<0.{READ_MAX}>)");
        let answer = match self.wire.fetch(&command, READ_MAX).await?.ok("a mail") {
            Ok(answer) => answer,
            Err(MailboxError::Refused { words, .. }) => return Ok(Fetched::Refused(words)),
            Err(other) => return Err(other),
        };
        let mut mails = answer.lines.into_iter().filter_map(|line| answers::mail(line, uid)).flatten();
        match mails.next() {
            Some(bytes) if bytes.len() > READ_MAX => {
                Err(MailboxError::Protocol("a mail has more bytes than were asked for"))
            }
            Some(bytes) => Ok(Fetched::Mail(bytes)),
            None => Ok(Fetched::Gone),
        }
    }

    /// The mail will not come back.
    fn passed(&mut self, uid: u32) {
        self.position.again.remove(&uid);
        self.position.last = self.position.last.max(uid);
    }

    /// The mail is tried again by the next run.
    fn postponed(&mut self, uid: u32) {
        self.position.last = self.position.last.max(uid);
        self.position.again.insert(uid);
        if self.position.again.len() > AGAIN_MAX {
            let given_up = self.position.again.pop_first().unwrap_or_default();
            tracing::error!(uid = given_up, "a mail in the bounce mailbox cannot be read and is not tried any more");
        }
    }
}

#[async_trait]
impl Mailbox for Imap {
    async fn next(&mut self) -> Result<Option<Vec<u8>>, MailboxError> {
        while self.left > 0 {
            let Some(uid) = self.queue.pop_front() else {
                if self.search().await? {
                    continue;
                }
                return Ok(None);
            };
            match self.fetch(uid).await? {
                Fetched::Mail(bytes) => {
                    self.left -= 1;
                    self.current = Some(uid);
                    return Ok(Some(bytes));
                }
                Fetched::Gone => self.passed(uid),
                Fetched::Refused(words) => {
                    self.left -= 1;
                    tracing::warn!(uid, "cannot read a mail in the bounce mailbox, the next run tries again: {words}");
                    self.postponed(uid);
                }
            }
        }
        Ok(None)
    }

    async fn done(&mut self) -> Result<(), MailboxError> {
        let Some(uid) = self.current.take() else { return Ok(()) };
        self.passed(uid);
        let Some(marks) = &self.marks else { return Ok(()) };
        let stored = self.wire.command(&format!("UID STORE {uid} +FLAGS.SILENT ({marks})")).await?;
        if let Err(error) = stored.ok("a mark") {
            // The position knows it; the mark is for people. One that is refused will be again.
            tracing::warn!(uid, "a mail in the bounce mailbox cannot be marked as read: {error}");
            self.marks = None;
        }
        Ok(())
    }

    fn position(&self) -> Option<String> {
        Some(self.position.text())
    }

    async fn close(self: Box<Self>) {
        self.wire.logout(LOGOUT_WAIT).await;
    }
}

/// Another server, account or folder is another mailbox, though it may count its mails alike.
fn place(config: &ImapConfig) -> String {
    let account = match &config.auth {
        SmtpAuth::None => "",
        SmtpAuth::Password { username, .. } | SmtpAuth::Xoauth2 { username, .. } => username,
    };
    let text = format!("{}\n{account}\n{}", config.host.to_ascii_lowercase(), config.folder);
    Sha256::digest(text.as_bytes())[..8].iter().map(|b| format!("{b:02x}")).collect()
}

// --- connecting ------------------------------------------------------------------------------------------------------

async fn connect(config: &ImapConfig) -> Result<Wire, MailboxError> {
    let place = format!("{}:{}", config.host, config.port);
    let cannot = |source| MailboxError::Connect { place: place.clone(), source };
    let tcp = dial(&config.host, config.port, config.timeout).await.map_err(cannot)?;
    let peer = tcp.peer_addr().map_err(cannot)?;
    if config.tls == SmtpTls::None && !peer.ip().to_canonical().is_loopback() {
        return Err(MailboxError::InTheClear(place));
    }
    if config.tls == SmtpTls::Tls {
        let mut wire = Wire::new(protect(config, Box::new(tcp)).await?, config.timeout);
        greet(&mut wire).await?;
        return Ok(wire);
    }
    let mut wire = Wire::new(Box::new(tcp), config.timeout);
    greet(&mut wire).await?;
    if config.tls == SmtpTls::None {
        return Ok(wire);
    }
    wire.command("STARTTLS").await?.ok("STARTTLS, which mail.bounces.imap.tls requires")?;
    // What was said in the clear is forgotten; a server greets once.
    Ok(Wire::new(protect(config, wire.into_stream()?).await?, config.timeout))
}

async fn greet(wire: &mut Wire) -> Result<(), MailboxError> {
    let words = wire.greeting().await?;
    match words.split(' ').next().unwrap_or_default().to_ascii_uppercase().as_str() {
        "OK" => Ok(()),
        "BYE" => Err(MailboxError::Bye(one_line(&words))),
        // Signed in already: as whom? In the clear it is also how TLS is kept away (CVE-2020-12398).
        "PREAUTH" => Err(MailboxError::Protocol("it says that we are signed in already")),
        _ => Err(MailboxError::Protocol("the greeting is none")),
    }
}

async fn protect(config: &ImapConfig, stream: Box<dyn Stream>) -> Result<Box<dyn Stream>, MailboxError> {
    let name = ServerName::try_from(config.host.clone()).map_err(|_| MailError::Host(SECTION, config.host.clone()))?;
    let settings = tls::client_config(SECTION, config.ca_file.as_deref())?;
    let shaken = async {
        let protected = tls::protect(settings, name.to_owned(), stream).await;
        protected.map_err(|source| MailboxError::Tls { host: config.host.clone(), source })
    };
    within(config.timeout, shaken).await
}

async fn sign_in(wire: &mut Wire, config: &ImapConfig) -> Result<(), MailboxError> {
    let offered = answers::capabilities(&wire.command("CAPABILITY").await?.ok("CAPABILITY")?);
    let has = |word: &str| offered.contains(word);
    match &config.auth {
        SmtpAuth::None => Err(MailboxError::NotOffered("a mailbox without a sign-in")),
        SmtpAuth::Password { username, password } => {
            let password = password.read().map_err(|source| MailError::Secret(SECTION, source))?;
            if has("AUTH=PLAIN") {
                let blob = Secret::new(BASE64.encode(format!("\0{username}\0{}", password.expose())));
                return authenticate(wire, "AUTHENTICATE PLAIN", &[blob.expose()], &password).await;
            }
            if has("LOGINDISABLED") {
                return Err(MailboxError::NotOffered("a sign-in with a password on this connection"));
            }
            let needs = MailboxError::NotOffered("AUTHENTICATE PLAIN, which a password beyond ASCII needs");
            let (Some(name), Some(secret)) = (answers::quoted(username), answers::quoted(password.expose())) else {
                return Err(needs);
            };
            let command = Secret::new(format!("LOGIN {name} {secret}"));
            authenticate(wire, command.expose(), &[], &password).await
        }
        SmtpAuth::Xoauth2 { username, .. } => {
            if !has("AUTH=XOAUTH2") {
                return Err(MailboxError::NotOffered("AUTHENTICATE XOAUTH2"));
            }
            let token = token(config).await?;
            let blob = Secret::new(BASE64.encode(format!("user={username}\x01auth=Bearer {}\x01\x01", token.expose())));
            // The failure's details come as a question; the server waits for an empty line before it says NO.
            authenticate(wire, "AUTHENTICATE XOAUTH2", &[blob.expose(), ""], &token).await
        }
    }
}

/// One sign-in. A server that quotes the secret in its refusal does not get it into our logs.
async fn authenticate(wire: &mut Wire, command: &str, replies: &[&str], secret: &Secret) -> Result<(), MailboxError> {
    let mut answer = wire.conversation(command, replies).await?;
    for text in replies.iter().copied().chain([secret.expose()]).filter(|text| !text.is_empty()) {
        answer.words = answer.words.replace(text, "***");
    }
    answer.ok("the sign-in").map(|_| ())
}

async fn token(config: &ImapConfig) -> Result<Secret, MailboxError> {
    let SmtpAuth::Xoauth2 { token_url, client_id, client_secret, scope, .. } = &config.auth else {
        return Err(MailboxError::NotOffered("a token without its keys"));
    };
    let settings = match config.tls {
        SmtpTls::None if token_url.scheme() != "https" => None,
        SmtpTls::None | SmtpTls::Starttls | SmtpTls::Tls => {
            Some(tls::client_config(SECTION, config.ca_file.as_deref())?)
        }
    };
    let secret = client_secret.read().map_err(|source| MailError::Secret(SECTION, source))?;
    let (url, client_id, scope) = (token_url.clone(), client_id.clone(), scope.clone());
    let mut tokens = Tokens::new(SECTION, url, client_id, secret, scope, config.timeout, settings.as_deref())?;
    tokens
        .current()
        .await
        .map_err(|failure| MailboxError::Token { passing: failure.outcome == Outcome::Deferred, words: failure.reply })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_goes_on_only_where_the_numbers_mean_the_same() {
        let at = |last, again: &[u32]| Position {
            place: "p".to_owned(),
            validity: 5,
            last,
            again: again.iter().copied().collect(),
        };
        assert_eq!(Position::parse(&at(9, &[2, 4]).text()), Some(at(9, &[2, 4])));
        let rows = [
            (Some("p 5 9 2,4"), 10, at(9, &[2, 4]), "nothing happened since"),
            (Some("p 5 9 "), 99, at(9, &[]), "new mails"),
            (Some("p 4 9 2"), 10, at(0, &[]), "another generation"),
            (Some("q 5 9 2"), 10, at(0, &[]), "another mailbox"),
            (Some("p 5 9 "), 9, at(0, &[]), "put back to an older state"),
            (Some("nonsense"), 10, at(0, &[]), "nothing that can be read"),
            (None, 10, at(0, &[]), "the first time"),
        ];
        for (known, uid_next, expected, why) in rows {
            assert_eq!(Position::resume(known, "p".to_owned(), 5, uid_next), expected, "{why}");
        }
    }
}
