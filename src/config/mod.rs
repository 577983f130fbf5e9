//! The configuration: one TOML file that an operator reads top to bottom, parsed into types that cannot be wrong.
//!
//! Two phases: TOML text -> a tree of values with their places -> [`Config`] (valid by type), each key read once by
//! `sections`. Every error of both phases is reported at once, each with its place and a hint. Secrets are not read here,
//! so that a check needs none. Each room receives its own section, never the whole.

mod cron;
mod dates;
mod diagnose;
mod section;
mod sections;
mod validate;
mod values;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{NaiveDate, TimeDelta};
use url::Url;

use crate::domain::calendar::Calendar;
use crate::domain::campaign::Campaign;
use crate::domain::customer::Address;
use crate::domain::delivery::UnknownPolicy;
use crate::domain::guard::Share;
use crate::domain::site::{AuthMethod, ServerType};
use crate::secret::{Secret, SecretSource};

pub use cron::Cron;
pub use diagnose::{ConfigErrors, Problem};
pub use section::KnownKey;

/// Everything the file says, with the defaults filled in.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it was read from; relative paths in it are relative to its directory and are absolute here.
    pub path: PathBuf,
    /// What leaves the house.
    pub mode: Mode,
    /// Civil days, business days, the window for customers' mail.
    pub calendar: Calendar,
    /// Where the state is kept.
    pub state: StateUrl,
    /// When runs are due.
    pub schedule: ScheduleConfig,
    /// The customers file.
    pub fleet: FleetConfig,
    /// How sites are read.
    pub connector: ConnectorConfig,
    /// How a scan behaves.
    pub scan: ScanConfig,
    /// When a scan gives up on a host, or ends before its end.
    pub patience: PatienceConfig,
    /// How long history is kept.
    pub retention: RetentionConfig,
    /// Corroboration from the Microsoft side.
    pub microsoft: MicrosoftConfig,
    /// The campaigns; at least one.
    pub campaigns: Vec<CampaignConfig>,
    /// How mail leaves.
    pub mail: MailConfig,
    /// What stops a mass mistake.
    pub safety: SafetyConfig,
    /// What the operators are told, and where.
    pub alerts: AlertsConfig,
    /// The dashboard's listener.
    pub web: WebConfig,
    /// Several nodes on one PostgreSQL.
    pub cluster: ClusterConfig,
}

/// `[cluster]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterConfig {
    /// How long a node may be silent before the others take its work over.
    pub lease: TimeDelta,
}

/// What leaves the house.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Plan and render, send nothing to customers.
    #[default]
    DryRun,
    /// Queue and wait for approval.
    Review,
    /// Queue and send.
    Live,
}

impl Mode {
    /// The word in the configuration and in output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DryRun => "dry-run",
            Self::Review => "review",
            Self::Live => "live",
        }
    }
}

/// Where the state is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateUrl {
    /// `sqlite:FILE`, absolute here.
    Sqlite(PathBuf),
    /// `postgres://…`: several nodes share one fleet.
    Postgres(PostgresState),
}

/// A PostgreSQL database, and what a node needs besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresState {
    /// User, host, database and TLS; never a password.
    pub url: url::Url,
    /// `state_password`; else what `PGPASSFILE` or `PGPASSWORD` says, as with psql.
    pub password: Option<SecretSource>,
    /// `state_directory`: where this node remembers which state it saw last, and where its control socket is.
    pub directory: PathBuf,
}

impl StateUrl {
    /// Where on this machine things may lie that belong to the state.
    #[must_use]
    pub fn directory(&self) -> &Path {
        match self {
            Self::Sqlite(path) => path.parent().unwrap_or(Path::new("/")),
            Self::Postgres(postgres) => &postgres.directory,
        }
    }
}

impl PostgresState {
    /// Host and database for people: no user, no options.
    #[must_use]
    pub fn name(&self) -> String {
        let host = self.url.host_str().unwrap_or("localhost");
        let port = self.url.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("postgres://{host}{port}{}", self.url.path())
    }
}

/// `[schedule]`
#[derive(Debug, Clone)]
pub struct ScheduleConfig {
    /// Scans of the fleet.
    pub scan: Cron,
    /// Notice passes.
    pub notices: Cron,
    /// The operators' digest.
    pub digest: Cron,
    /// Reading the bounce mailbox.
    pub bounces: Cron,
}

/// `[fleet]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetConfig {
    /// The customers file, `.csv` or `.toml`.
    pub customers: PathBuf,
}

/// `[connector]`
#[derive(Debug, Clone)]
pub enum ConnectorConfig {
    /// The admin tool.
    Exlook(ExlookConfig),
    /// JSON over HTTP.
    Api(ApiConfig),
    /// A file that another system writes.
    Export(ExportConfig),
}

impl ConnectorConfig {
    /// The pages that notices send customers to: the admin tool's, whichever way its settings are read.
    #[must_use]
    pub fn links(&self) -> Links<'_> {
        let exlook = match self {
            Self::Exlook(exlook) => exlook,
            Self::Api(ApiConfig { exlook, .. }) | Self::Export(ExportConfig { exlook, .. }) => exlook,
        };
        Links { logon_url: &exlook.logon_url, portal_url: &exlook.portal_url }
    }

    /// The host that a customer's sites are read from, with its port; `None`: none is.
    #[must_use]
    pub fn host(&self, logon_url: Option<&Url>) -> Option<String> {
        let url = match self {
            Self::Exlook(exlook) => logon_url.unwrap_or(&exlook.logon_url),
            Self::Api(api) => &api.url,
            Self::Export(_) => return None,
        };
        Some(format!("{}:{}", url.host_str()?, url.port_or_known_default().unwrap_or(0)))
    }
}

/// Where customers change what is to be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Links<'a> {
    /// Where administrators log on to the admin tool.
    pub logon_url: &'a Url,
    /// The product management site.
    pub portal_url: &'a Url,
}

/// `[connector.api]`
#[derive(Debug, Clone)]
pub struct ApiConfig {
    /// One customer's sites, with `{customer}` or `{account}` for whose.
    pub url: Url,
    /// The header that carries the secret.
    pub header: String,
    /// What stands before the secret in it, such as `Bearer`; empty = nothing.
    pub scheme: String,
    /// The secret; `None`: none is sent.
    pub secret: Option<SecretSource>,
    /// JSON pointer to the list of sites.
    pub sites: String,
    /// Where a site's three values are.
    pub fields: SiteFields,
    /// JSON pointer to the next page's URL.
    pub next: Option<String>,
    /// The query parameter that counts pages from 1, until one is empty.
    pub page_parameter: Option<String>,
    /// The known texts.
    pub texts: KnownTexts,
    /// For the links in notices.
    pub exlook: ExlookConfig,
}

/// `[connector.export]`
#[derive(Debug, Clone)]
pub struct ExportConfig {
    /// The file, `.csv` or `.json`.
    pub path: PathBuf,
    /// JSON pointer to the list of rows; of no use to a CSV file.
    pub rows: String,
    /// JSON pointer to the instant the file was made at; `None`: the file's modification time.
    pub date: Option<String>,
    /// Whose row it is: a column, or a JSON pointer.
    pub customer: String,
    /// Where a site's three values are.
    pub fields: SiteFields,
    /// Bytes.
    pub max_size: usize,
    /// The known texts.
    pub texts: KnownTexts,
    /// For the links in notices.
    pub exlook: ExlookConfig,
}

/// Where in a site's record its values are: JSON pointers, or the columns of a CSV file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteFields {
    /// The site's name.
    pub name: String,
    /// The first setting.
    pub server_type: String,
    /// The second setting.
    pub auth_method: String,
}

/// Which texts mean what; every other text is `unknown_value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownTexts {
    /// Of the first setting.
    pub server_types: BTreeMap<ServerType, Vec<String>>,
    /// Of the second setting.
    pub auth_methods: BTreeMap<AuthMethod, Vec<String>>,
}

/// `[connector.exlook]`
#[derive(Debug, Clone)]
pub struct ExlookConfig {
    /// Where administrators log on.
    pub logon_url: Url,
    /// The product management site, named in notices.
    pub portal_url: Url,
    /// What the screens call things.
    pub labels: Labels,
    /// The known texts of `Exchange サーバーの種類`; every other text is `unknown_value`.
    pub server_types: BTreeMap<ServerType, Vec<String>>,
    /// The known texts of `Exchange サーバーの認証方式`; every other text is `unknown_value`.
    pub auth_methods: BTreeMap<AuthMethod, Vec<String>>,
}

/// `[connector.exlook.labels]`: the screens' labels, should the vendor rename them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    /// `ExLookサイト設定`
    pub tab: String,
    /// `ExLookサイト名`
    pub site: String,
    /// `Exchange設定`
    pub group: String,
    /// `Exchange サーバーの種類`
    pub server_type: String,
    /// `Exchange サーバーの認証方式`
    pub auth_method: String,
    /// `設定内容を保存`: named so that it is never pressed.
    pub save: String,
}

/// `[scan]`
#[derive(Debug, Clone)]
pub struct ScanConfig {
    /// Customers at once.
    pub concurrency: usize,
    /// To one host.
    pub requests_per_second: f64,
    /// One request.
    pub timeout: Duration,
    /// One customer, all requests and retries.
    pub customer_timeout: Duration,
    /// Tries of one request.
    pub attempts: u32,
    /// Bytes of one page after decompression.
    pub max_page: usize,
    /// Whether private and loopback addresses may be scanned.
    pub allow_private_hosts: bool,
    /// Trusted besides the system's own.
    pub ca_file: Option<PathBuf>,
}

/// The keys of `[scan]` that are about the whole of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PatienceConfig {
    /// A whole scan; what it did not reach is resumed.
    pub max_duration: Duration,
    /// Customers in a row that one host fails for before it is left in peace.
    pub host_failures: u32,
    /// The first pause then; each further one is twice as long.
    pub host_pause: Duration,
}

/// `[retention]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionConfig {
    /// What was seen once and is so no more.
    pub observations: TimeDelta,
}

/// `[microsoft]`
#[derive(Debug, Clone)]
pub struct MicrosoftConfig {
    /// Ask whether the tenant is federated.
    pub realm: bool,
    /// Verify consent.
    pub consent: Option<ConsentConfig>,
    /// The token and realm endpoints' host.
    pub login_url: Url,
}

/// `microsoft.consent`
#[derive(Debug, Clone)]
pub struct ConsentConfig {
    /// The product's application id.
    pub client_id: String,
    /// What proves that we are the application.
    pub credential: ConsentCredential,
    /// The application roles that must have been granted; empty: that the application is in the tenant is enough.
    pub roles: Vec<String>,
    /// The resource the roles belong to, as a token's scope.
    pub scope: String,
    /// The vendor's own tenant (a domain or an id), where the credential is proved before a run.
    pub home_tenant: Option<String>,
}

/// What proves that kigen speaks for the product's application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsentCredential {
    /// A client secret.
    Secret(SecretSource),
    /// A client assertion (RFC 7523) signed with the key of a certificate that is registered with the application.
    Certificate {
        /// PEM; public.
        certificate: PathBuf,
        /// Its RSA key, PEM.
        key: SecretSource,
    },
}

/// `[[campaign]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CampaignConfig {
    /// Dates, condition, reminders.
    pub campaign: Campaign,
    /// The directory with the operator's own wording.
    pub templates: Option<PathBuf>,
}

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

/// `[safety]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SafetyConfig {
    /// First notices in one pass.
    pub max_new_notices: Share,
    /// Newly affected customers in one scan that hold all customer mail.
    pub hold_if_newly_affected: Share,
    /// The evidence's greatest age when a notice leaves.
    pub max_age: TimeDelta,
    /// Scans in a row before a case counts as resolved.
    pub confirm_resolved: u32,
    /// Refused logons in a row that stop a scan.
    pub logon_failures: u32,
}

/// `[alerts]`
#[derive(Debug, Clone)]
pub struct AlertsConfig {
    /// Who gets them.
    pub to: Vec<Address>,
    /// The language of alerts, digest and dashboard.
    pub language: crate::domain::customer::Language,
    /// Called beside the mail.
    pub webhook: Option<Webhook>,
    /// Called after each good run.
    pub heartbeat: Option<Url>,
    /// Scans in a row of one site.
    pub unreadable_after: u32,
    /// Share of unreadable sites of one scan.
    pub scan_failure_rate: Share,
}

/// `alerts.webhook`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Where.
    pub url: Url,
    /// The body's shape.
    pub format: WebhookFormat,
}

/// `alerts.webhook.format`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookFormat {
    /// Our own JSON.
    Json,
    /// Slack's.
    Slack,
    /// Teams'.
    Teams,
}

/// `[web]`
#[derive(Debug, Clone)]
pub struct WebConfig {
    /// Where the dashboard listens.
    pub listen: std::net::SocketAddr,
    /// Name -> argon2id hash.
    pub users: BTreeMap<String, Secret>,
    /// The address people use, where a proxy stands in front; with https the session's cookie is tied to it.
    pub public_url: Option<Url>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<std::net::IpAddr>,
}

/// Reads and checks a configuration file.
///
/// # Errors
/// All errors of the file at once.
pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
    validate::load(path)
}

/// Every key of the file, with its default: what `config.toml.example` must show.
#[must_use]
pub fn known_keys() -> Vec<KnownKey> {
    validate::known_keys()
}

/// Reads a state as it stands behind `state =`; a relative file belongs to `base`.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub fn state_url(text: &str, base: &Path) -> Result<StateUrl, String> {
    values::state(base)(&toml::de::DeValue::String(text.into()))
        .map_err(|bad| format!("{} {}", bad.message, bad.hint.unwrap_or_default()))
}
