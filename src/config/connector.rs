//! How sites are read: `[connector]` and what stands below it, and `[scan]`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::domain::site::{AuthMethod, ServerType};
use crate::secret::SecretSource;

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
