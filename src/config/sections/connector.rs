//! `[connector]` and `[scan]`: how sites are read.

use std::collections::BTreeMap;
use std::path::Path;

use unicode_normalization::UnicodeNormalization;

use crate::config::section::Section;
use crate::config::values::{Bad, quoted};
use crate::config::{
    ApiConfig, ConnectorConfig, ExlookConfig, ExportConfig, KnownTexts, Labels, PatienceConfig, ScanConfig, SiteFields,
    values,
};
use crate::domain::site::{AuthMethod, ServerType};

pub(in crate::config) fn connector(s: &mut Section<'_, '_>, base: &Path) -> Option<ConnectorConfig> {
    s.section("connector", |s| {
        let kinds = values::choice([("exlook", Kind::Exlook), ("api", Kind::Api), ("export", Kind::Export)]);
        let kind = s.required("kind", "such as kind = \"exlook\" below [connector]", kinds);
        let exlook = s.section("exlook", exlook);
        let api = s.section("api", |s| api(s, base, kind == Some(Kind::Api), &exlook));
        let export = s.section("export", |s| export(s, base, kind == Some(Kind::Export), &exlook));
        Some(match kind? {
            Kind::Exlook => ConnectorConfig::Exlook(exlook),
            Kind::Api => ConnectorConfig::Api(api?),
            Kind::Export => ConnectorConfig::Export(export?),
        })
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Exlook,
    Api,
    Export,
}

fn api(s: &mut Section<'_, '_>, base: &Path, chosen: bool, exlook: &ExlookConfig) -> Option<ApiConfig> {
    let url = s.opt("url", |value| {
        let url = values::url(value)?;
        // A browser's URL rules write braces in a path as %7B and %7D.
        let whose = ["{customer}", "{account}", "%7Bcustomer%7D", "%7Baccount%7D"];
        if whose.iter().any(|place| url.as_str().contains(place)) {
            return Ok(url);
        }
        Err(Bad::new("names no customer: everybody would be shown the same sites")
            .hint("such as \"https://api.example.jp/customers/{customer}/sites\"; {account} is the column `account`"))
    });
    if chosen && !s.has("url") {
        let hint = "such as url = \"https://api.example.jp/customers/{customer}/sites\" below [connector.api]";
        s.problem("url", "must be set: `connector.kind` is \"api\"", hint);
    }
    let secret = s.opt("secret", values::secret(base));
    let insecure = |url: &url::Url| secret.is_some() && !values::is_secure(url);
    if chosen && url.as_ref().is_some_and(insecure) {
        let hint = "use https://; only a host on loopback goes without";
        s.problem("url", "the secret would travel in the clear", hint);
    }
    let api = ApiConfig {
        header: s.or("header", "Authorization", header_name),
        scheme: s.or("scheme", "Bearer", word_or_nothing),
        secret,
        sites: s.or("sites", "/sites", pointer),
        fields: SiteFields {
            name: s.or("name", "/name", pointer),
            server_type: s.or("server_type", "/server_type", pointer),
            auth_method: s.or("auth_method", "/auth_method", pointer),
        },
        next: s.opt("next", pointer),
        page_parameter: s.opt("page_parameter", values::text),
        texts: known_texts(s),
        exlook: exlook.clone(),
        url: url?,
    };
    Some(api)
}

fn export(s: &mut Section<'_, '_>, base: &Path, chosen: bool, exlook: &ExlookConfig) -> Option<ExportConfig> {
    let path = s.opt("path", |value| {
        let path = values::path(base)(value)?;
        match path.extension().map(|extension| extension.to_string_lossy().to_lowercase()).as_deref() {
            Some("csv" | "json") => Ok(path),
            _ => Err(Bad::new("must be a .csv or a .json file")),
        }
    });
    if chosen && !s.has("path") {
        let hint = "such as path = \"sites.csv\" below [connector.export]";
        s.problem("path", "must be set: `connector.kind` is \"export\"", hint);
    }
    let export = ExportConfig {
        rows: s.or("rows", "", pointer),
        date: s.opt("date", pointer),
        customer: s.or("customer", "customer_id", values::text),
        fields: SiteFields {
            name: s.or("name", "site", values::text),
            server_type: s.or("server_type", "server_type", values::text),
            auth_method: s.or("auth_method", "auth_method", values::text),
        },
        max_size: s.or("max_size", "256MiB", values::size(64 * 1024..=2 * 1024 * 1024 * 1024)),
        texts: known_texts(s),
        exlook: exlook.clone(),
        path: path?,
    };
    Some(export)
}

/// The words of this program's own output, and the screens' texts.
fn known_texts(s: &mut Section<'_, '_>) -> KnownTexts {
    KnownTexts {
        server_types: s.section("server_types", |s| {
            meanings(
                s,
                &[
                    ("exchange_online", ServerType::ExchangeOnline, &["exchange_online", ONLINE]),
                    ("on_premises", ServerType::OnPremises, &["on_premises", ON_PREMISES]),
                ],
            )
        }),
        auth_methods: s.section("auth_methods", |s| {
            meanings(
                s,
                &[
                    ("basic", AuthMethod::Basic, &["basic", BASIC]),
                    ("oauth", AuthMethod::OAuth, &["oauth", OAUTH]),
                    ("on_premises_basic", AuthMethod::OnPremisesBasic, &["on_premises_basic", ON_PREMISES_BASIC]),
                ],
            )
        }),
    }
}

/// A JSON pointer (RFC 6901): empty for the whole document.
fn pointer(value: &toml::de::DeValue<'_>) -> Result<String, Bad> {
    let text = values::string(value, "a JSON pointer such as \"/sites\"")?;
    if text.is_empty() || text.starts_with('/') {
        return Ok(text.to_owned());
    }
    Err(Bad::new(format!("{} is no JSON pointer", quoted(text))).hint(format!("write \"/{text}\"")))
}

fn header_name(value: &toml::de::DeValue<'_>) -> Result<String, Bad> {
    let text = values::text(value)?;
    match reqwest::header::HeaderName::from_bytes(text.as_bytes()) {
        Ok(_) => Ok(text),
        Err(_) => Err(Bad::new(format!("{} is no header's name", quoted(&text))).hint("such as \"X-Api-Key\"")),
    }
}

fn word_or_nothing(value: &toml::de::DeValue<'_>) -> Result<String, Bad> {
    let text = values::string(value, "a word such as \"Bearer\", or \"\"")?;
    if text.chars().all(|c| c.is_ascii_graphic()) {
        return Ok(text.to_owned());
    }
    Err(Bad::new("must be one word of ASCII characters").hint("\"\" sends the secret alone"))
}

const ONLINE: &str = "Exchange Online に接続する";
const ON_PREMISES: &str = "Exchange サーバーに接続する";
const BASIC: &str = "基本認証 (Office 365の場合)";
const OAUTH: &str = "OAuth認証 (Office 365の場合)";
const ON_PREMISES_BASIC: &str = "基本認証 (オンプレミスの場合)";

/// The screens' labels and texts are the vendor's own guides' (実際の画面の文言).
fn exlook(s: &mut Section<'_, '_>) -> ExlookConfig {
    ExlookConfig {
        logon_url: s.or("logon_url", "https://www.exlook.net/exlookconfig/logon.aspx", values::url),
        portal_url: s.or("portal_url", "https://portal.bbsonlineservices.net/", values::url),
        labels: s.section("labels", labels),
        server_types: s.section("server_types", |s| {
            meanings(
                s,
                &[
                    ("exchange_online", ServerType::ExchangeOnline, &[ONLINE]),
                    ("on_premises", ServerType::OnPremises, &[ON_PREMISES]),
                ],
            )
        }),
        auth_methods: s.section("auth_methods", |s| {
            meanings(
                s,
                &[
                    ("basic", AuthMethod::Basic, &[BASIC]),
                    ("oauth", AuthMethod::OAuth, &[OAUTH]),
                    ("on_premises_basic", AuthMethod::OnPremisesBasic, &[ON_PREMISES_BASIC]),
                ],
            )
        }),
    }
}

fn labels(s: &mut Section<'_, '_>) -> Labels {
    let labels = Labels {
        tab: s.or("tab", "ExLookサイト設定", values::text),
        site: s.or("site", "ExLookサイト名", values::text),
        group: s.or("group", "Exchange設定", values::text),
        server_type: s.or("server_type", "Exchange サーバーの種類", values::text),
        auth_method: s.or("auth_method", "Exchange サーバーの認証方式", values::text),
        save: s.or("save", "設定内容を保存", values::text),
    };
    let named = [
        ("tab", &labels.tab),
        ("site", &labels.site),
        ("group", &labels.group),
        ("server_type", &labels.server_type),
        ("auth_method", &labels.auth_method),
        ("save", &labels.save),
    ];
    for (n, (key, label)) in named.iter().enumerate() {
        let same = named[..n].iter().find(|(_, earlier)| folded(earlier) == folded(label));
        if let Some((other, _)) = same.filter(|(other, _)| s.sound(&[key, other])) {
            // Mark one that the file sets: the other may be a default.
            let (marked, other) = if s.has(key) { (*key, *other) } else { (*other, *key) };
            s.problem(marked, format!("is the same text as `{other}`"), "each label names one thing");
        }
    }
    labels
}

/// Which texts mean what; a text that meant two things would be a guess.
fn meanings<T: Copy + Ord>(s: &mut Section<'_, '_>, keys: &[(&'static str, T, &[&str])]) -> BTreeMap<T, Vec<String>> {
    let mut meant: BTreeMap<String, &'static str> = BTreeMap::new();
    let mut texts = BTreeMap::new();
    for (key, meaning, default) in keys {
        let list = s.list(key, default, values::text);
        if list.is_empty() && s.sound(&[key]) {
            s.problem(key, "is empty: no site could ever be recognised", "list the texts the screen shows");
        }
        for text in &list {
            if let Some(other) = meant.insert(folded(text), key) {
                let (marked, other) = if s.has(key) { (*key, other) } else { (other, *key) };
                let message = if marked == other {
                    format!("{} stands twice", quoted(text))
                } else {
                    format!("{} is listed under `{other}` too", quoted(text))
                };
                s.problem(marked, message, "a text has one meaning");
            }
        }
        texts.insert(*meaning, list);
    }
    texts
}

/// As the connector compares texts: width and spaces do not count.
fn folded(text: &str) -> String {
    text.nfkc().filter(|c| !c.is_whitespace()).collect()
}

pub(in crate::config) fn scan(s: &mut Section<'_, '_>, base: &Path) -> (ScanConfig, PatienceConfig) {
    s.section("scan", |s| {
        let scan = ScanConfig {
            concurrency: s.or("concurrency", 32, values::count(1..=1000)) as usize,
            requests_per_second: s.or("requests_per_second", 50, values::per_second),
            timeout: s.or("timeout", "30s", values::duration),
            customer_timeout: s.or("customer_timeout", "3m", values::duration),
            attempts: s.or("attempts", 3, values::count(1..=20)),
            max_page: s.or("max_page", "4MiB", values::size(64 * 1024..=256 * 1024 * 1024)),
            allow_private_hosts: s.or("allow_private_hosts", false, values::flag),
            ca_file: s.opt("ca_file", values::existing_file(base)),
        };
        if scan.timeout > scan.customer_timeout && s.sound(&["timeout", "customer_timeout"]) {
            let marked = if s.has("timeout") { "timeout" } else { "customer_timeout" };
            let (one, all) = (scan.timeout.as_secs(), scan.customer_timeout.as_secs());
            s.problem(
                marked,
                format!("`timeout` ({one}s, one request) is longer than `customer_timeout` ({all}s, all requests of a customer)"),
                "raise customer_timeout or lower timeout",
            );
        }
        let patience = PatienceConfig {
            max_duration: s.or("max_duration", "6h", values::duration),
            host_failures: s.or("host_failures", 20, values::count(1..=1_000_000)),
            host_pause: s.or("host_pause", "20s", values::duration),
        };
        (scan, patience)
    })
}

/// Administrators' passwords go to the log-on page: in the clear only inside the house, where the operator says so.
pub(in crate::config) fn logon_is_secure(
    s: &mut Section<'_, '_>,
    connector: Option<&ConnectorConfig>,
    scan: &ScanConfig,
) {
    let Some(ConnectorConfig::Exlook(exlook)) = connector else { return };
    if !values::is_secure(&exlook.logon_url) && !scan.allow_private_hosts {
        s.problem_below(
            &["connector", "exlook", "logon_url"],
            "passwords would travel in the clear",
            "use https://, or set scan.allow_private_hosts for a tool inside your own network",
        );
    }
}
