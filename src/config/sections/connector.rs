//! `[connector]`, `[scan]` and `[microsoft]`: how sites are read.

use std::collections::BTreeMap;
use std::path::Path;

use unicode_normalization::UnicodeNormalization;

use crate::config::section::Section;
use crate::config::values::{Bad, quoted};
use crate::config::{ConnectorConfig, ExlookConfig, Labels, MicrosoftConfig, ScanConfig, values};
use crate::domain::site::{AuthMethod, ServerType};

pub(in crate::config) fn connector(s: &mut Section<'_, '_>) -> Option<ConnectorConfig> {
    s.section("connector", |s| {
        let kind = s.required("kind", "such as kind = \"exlook\" below [connector]", |value| match value.as_str() {
            Some(kind @ ("api" | "export")) => {
                Err(Bad::new(format!("the connector \"{kind}\" is not in this version yet")).hint("use \"exlook\""))
            }
            _ => values::choice([("exlook", ())])(value),
        });
        s.not_yet("api", "the connector \"api\"");
        s.not_yet("export", "the connector \"export\"");
        let exlook = s.section("exlook", exlook);
        kind.map(|()| ConnectorConfig::Exlook(exlook))
    })
}

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
                    ("exchange_online", ServerType::ExchangeOnline, "Exchange Online に接続する"),
                    ("on_premises", ServerType::OnPremises, "Exchange サーバーに接続する"),
                ],
            )
        }),
        auth_methods: s.section("auth_methods", |s| {
            meanings(
                s,
                &[
                    ("basic", AuthMethod::Basic, "基本認証 (Office 365の場合)"),
                    ("oauth", AuthMethod::OAuth, "OAuth認証 (Office 365の場合)"),
                    ("on_premises_basic", AuthMethod::OnPremisesBasic, "基本認証 (オンプレミスの場合)"),
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
fn meanings<T: Copy + Ord>(s: &mut Section<'_, '_>, keys: &[(&'static str, T, &str)]) -> BTreeMap<T, Vec<String>> {
    let mut meant: BTreeMap<String, &'static str> = BTreeMap::new();
    let mut texts = BTreeMap::new();
    for (key, meaning, default) in keys {
        let list = s.list(key, &[default], values::text);
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

pub(in crate::config) fn scan(s: &mut Section<'_, '_>, base: &Path) -> ScanConfig {
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
        scan
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

pub(in crate::config) fn microsoft(s: &mut Section<'_, '_>) -> MicrosoftConfig {
    s.section("microsoft", |s| {
        s.not_yet("consent", "verifying consent");
        MicrosoftConfig {
            realm: s.or("realm", false, values::flag),
            consent: None,
            login_url: s.or("login_url", "https://login.microsoftonline.com", values::secure_url),
        }
    })
}
