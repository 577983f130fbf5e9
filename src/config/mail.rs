//! How mail leaves, and what comes back: `[mail]` and what stands below it.

use std::path::PathBuf;
use std::time::Duration;

use chrono::NaiveDate;
use url::Url;

use crate::domain::customer::Address;
use crate::domain::delivery::UnknownPolicy;
use crate::secret::SecretSource;

/// `[mail]`
#[derive(Debug, Clone)]
pub struct MailConfig {
    /// The header From.
    pub from: NamedAddress,
    /// The envelope's sender; `from`'s address unless set.
    pub envelope_from: Address,
    /// Where answers go, if elsewhere.
    pub reply_to: Option<NamedAddress>,
    /// How it leaves.
    pub transport: TransportConfig,
    /// Whom customers ask.
    pub support: Support,
    /// What to do when acceptance was never heard.
    pub unknown: UnknownPolicy,
    /// How mails are signed, if they are.
    pub dkim: Option<DkimConfig>,
    /// Where undeliverable mail comes back, if it is read.
    pub bounces: Option<BouncesConfig>,
}

/// `[mail.dkim]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DkimConfig {
    /// The signing domain (`d=`): that of `from`, or one above or below it.
    pub domain: String,
    /// The selector (`s=`): the key stands in the DNS at `SELECTOR._domainkey.DOMAIN`.
    pub selector: String,
    /// The private key in PEM form, RSA or Ed25519.
    pub key: SecretSource,
}

/// `[mail.bounces]`
#[derive(Debug, Clone)]
pub struct BouncesConfig {
    /// Where undeliverable mail is read.
    pub from: BouncesFrom,
    /// Whether each mail's envelope sender carries a signed mark, `bounces+MARK@…`.
    pub verp: bool,
}

/// `mail.bounces.maildir` or `[mail.bounces.imap]`
#[derive(Debug, Clone)]
pub enum BouncesFrom {
    /// The maildir that undeliverable mail is put into.
    Maildir(PathBuf),
    /// A mailbox on a server.
    Imap(Box<ImapConfig>),
}

/// `[mail.bounces.imap]`
#[derive(Debug, Clone)]
pub struct ImapConfig {
    /// The server's name: also what its certificate must say.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: SmtpTls,
    /// How we sign in; never [`SmtpAuth::None`].
    pub auth: SmtpAuth,
    /// The folder, in plain Unicode.
    pub folder: String,
    /// One answer.
    pub timeout: Duration,
    /// Trusted besides the system's own.
    pub ca_file: Option<PathBuf>,
}

/// A display name and an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedAddress {
    /// The display name; no control characters.
    pub name: Option<String>,
    /// The address.
    pub address: Address,
}

/// Whom customers ask (`mail.support`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Support {
    /// The desk's name.
    pub name: String,
    /// Its address.
    pub email: Option<Address>,
    /// Its telephone number.
    pub phone: Option<String>,
}

/// `mail.transport` with its section.
#[derive(Debug, Clone)]
pub enum TransportConfig {
    /// `[mail.smtp]`
    Smtp(SmtpConfig),
    /// `[mail.maildir]`: writes files, for trying out.
    Maildir(PathBuf),
    /// `[mail.graph]`: Microsoft Graph's `sendMail`.
    Graph(GraphConfig),
}

/// `[mail.graph]`
#[derive(Debug, Clone)]
pub struct GraphConfig {
    /// Graph itself.
    pub url: Url,
    /// The mailbox that sends.
    pub user: String,
    /// Where tokens are had.
    pub token_url: Url,
    /// The application's id.
    pub client_id: String,
    /// Its secret.
    pub client_secret: SecretSource,
    /// The scope asked for.
    pub scope: String,
    /// Mails per period.
    pub rate: Rate,
    /// One request; the answer to a mail is waited for at least two minutes.
    pub timeout: Duration,
}

/// `[mail.smtp]`
#[derive(Debug, Clone)]
pub struct SmtpConfig {
    /// The relay's name: also what its certificate must say.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: SmtpTls,
    /// How we sign in.
    pub auth: SmtpAuth,
    /// Mails per period.
    pub rate: Rate,
    /// Connections at once.
    pub connections: usize,
    /// One reply; the reply to the end of DATA is waited for 10 minutes at least (RFC 5321 4.5.3.2.6).
    pub timeout: Duration,
    /// Trusted besides the system's own.
    pub ca_file: Option<PathBuf>,
    /// From when on Exchange Online refuses a sign-in with a password unless its administrator turned it on again.
    pub password_until: NaiveDate,
}

/// `mail.smtp.tls`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpTls {
    /// STARTTLS, required.
    Starttls,
    /// TLS from the first byte.
    Tls,
    /// None: loopback only.
    None,
}

/// `mail.smtp.auth`
#[derive(Debug, Clone)]
pub enum SmtpAuth {
    /// No sign-in.
    None,
    /// User name and password.
    Password {
        /// The user name.
        username: String,
        /// The password.
        password: SecretSource,
    },
    /// OAuth 2 client credentials.
    Xoauth2 {
        /// The mailbox.
        username: String,
        /// Where tokens are had.
        token_url: Url,
        /// The application's id.
        client_id: String,
        /// Its secret.
        client_secret: SecretSource,
        /// The scope asked for.
        scope: String,
    },
}

/// So many in a period, written `30/m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many; never zero.
    pub count: u32,
    /// In which time: a second, a minute, an hour or a day.
    pub per: Duration,
}

impl Rate {
    /// The time between two.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.per / self.count.max(1)
    }
}
