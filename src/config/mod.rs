//! The configuration: one TOML file that an operator reads top to bottom, parsed into types that cannot be wrong.
//!
//! Two phases: TOML text -> a tree of values with their places -> [`Config`] (valid by type), each key read once by
//! `sections`. Every error of both phases is reported at once, each with its place and a hint. Secrets are not read here,
//! so that a check needs none. Each room receives its own section, never the whole.

mod connector;
mod cron;
mod dates;
mod diagnose;
mod mail;
mod section;
mod sections;
mod validate;
mod values;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chrono::TimeDelta;
use url::Url;

use crate::domain::calendar::Calendar;
use crate::domain::campaign::Campaign;
use crate::domain::customer::Address;
use crate::domain::guard::Share;
use crate::secret::{Secret, SecretSource};

pub use connector::{
    ApiConfig, ConnectorConfig, ExlookConfig, ExportConfig, KnownTexts, Labels, Links, PatienceConfig, ScanConfig,
    SiteFields,
};
pub use cron::Cron;
pub use diagnose::{ConfigErrors, Problem};
pub use mail::{
    BouncesConfig, BouncesFrom, DkimConfig, GraphConfig, ImapConfig, MailConfig, NamedAddress, Rate, SmtpAuth,
    SmtpConfig, SmtpTls, Support, TransportConfig,
};
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
