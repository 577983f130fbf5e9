//! The configuration as operators meet it: what a file means, every problem of a file at once, and `config.toml.example`
//! tested against the code both ways.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use kigen::config::{
    self, Config, ConfigErrors, ConnectorConfig, ConsentCredential, KnownKey, Mode, SmtpAuth, SmtpTls, StateUrl,
    TransportConfig,
};
use kigen::domain::calendar::{Closed, Holidays};
use kigen::domain::campaign::Affects;
use kigen::domain::customer::Language;
use kigen::domain::delivery::UnknownPolicy;
use kigen::domain::guard::Share;
use kigen::domain::site::{AuthMethod, ServerType};
use kigen::secret::SecretSource;

const EXAMPLE: &str = include_str!("../config.toml.example");
const MINIMAL: &str = include_str!("fixtures/config/minimal.toml");

fn load_in(dir: &Path, text: impl AsRef<[u8]>) -> Result<Config, ConfigErrors> {
    let file = dir.join("config.toml");
    std::fs::write(&file, text).unwrap();
    config::load(&file)
}

fn load(text: impl AsRef<[u8]>) -> Result<Config, ConfigErrors> {
    load_in(tempfile::tempdir().unwrap().path(), text)
}

// ---- what a file means

#[test]
fn the_least_that_must_be_said_and_the_defaults() {
    let c = config::load(Path::new("tests/fixtures/config/minimal.toml")).unwrap();
    let dir = std::path::absolute("tests/fixtures/config").unwrap();
    assert_eq!(c.mode, Mode::DryRun);
    assert_eq!(c.state, StateUrl::Sqlite(dir.join("kigen.db")), "relative to the file");
    assert_eq!(c.fleet.customers, dir.join("customers.csv"));
    assert_eq!(c.calendar.zone, chrono_tz::Asia::Tokyo);
    assert_eq!(c.calendar.days, [true, true, true, true, true, false, false]);
    assert_eq!((c.calendar.holidays, c.calendar.closed.len()), (Holidays::Japan, 0));
    assert_eq!(c.schedule.scan.as_str(), "0 6,18 * * *");
    assert_eq!((c.scan.concurrency, c.scan.requests_per_second, c.scan.max_page), (32, 50.0, 4 << 20));
    assert!(!c.scan.allow_private_hosts && !c.microsoft.realm);
    let [campaign] = &c.campaigns[..] else { panic!("the built-in one") };
    let campaign = &campaign.campaign;
    assert_eq!(campaign.id.0, "exchange-online-basic-auth");
    assert_eq!(campaign.affects, Affects::BasicAuth);
    assert_eq!(campaign.deadline.to_string(), "2022-10-01");
    assert_eq!(campaign.postponed_to.unwrap().to_string(), "2022-12-31");
    assert_eq!(campaign.last_day.unwrap().to_string(), "2023-01-01");
    assert_eq!(campaign.reminders.iter().map(|m| m.days).collect::<Vec<_>>(), [60, 30, 14, 7, 3, 1]);
    assert_eq!((campaign.overdue_every, campaign.consent_every), (Some(7), 7));
    assert!(campaign.source.as_ref().unwrap().starts_with("https://jpmessaging.github.io/"));
    assert_eq!(c.mail.envelope_from.as_str(), "support@example.jp", "from's, unless set");
    assert!(matches!(&c.mail.transport, TransportConfig::Maildir(path) if *path == dir.join("outgoing/")));
    assert_eq!(c.mail.unknown, UnknownPolicy::Resend);
    assert_eq!(c.safety.max_new_notices, Share::BasisPoints(500));
    assert_eq!(c.safety.max_age, chrono::TimeDelta::minutes(15));
    assert!(c.alerts.to.is_empty() && c.alerts.webhook.is_none() && c.alerts.heartbeat.is_none());
    assert_eq!(c.web.listen.to_string(), "127.0.0.1:8620");
    let ConnectorConfig::Exlook(exlook) = &c.connector else { panic!("exlook") };
    assert_eq!(exlook.logon_url.as_str(), "https://www.exlook.net/exlookconfig/logon.aspx");
    assert_eq!(exlook.labels.save, "設定内容を保存");
    assert_eq!(exlook.server_types[&ServerType::ExchangeOnline], ["Exchange Online に接続する"]);
    assert_eq!(exlook.auth_methods[&AuthMethod::OAuth], ["OAuth認証 (Office 365の場合)"]);
}

#[test]
fn every_key_counts() {
    let c = config::load(Path::new("tests/fixtures/config/contract.toml"))
        .unwrap_or_else(|e| panic!("{}", e.render(false)));
    assert_eq!((c.mode, c.calendar.zone), (Mode::Review, chrono_tz::America::New_York));
    assert_eq!(c.state, StateUrl::Sqlite("/var/lib/kigen/kigen.db".into()), "an absolute path stays");
    assert_eq!(c.schedule.scan.six_fields(), "15 0 6,18 * * *");
    assert_eq!(c.schedule.notices.six_fields(), "0 0 0 * * *");
    assert_eq!(c.calendar.days, [true, false, false, false, false, false, true]);
    assert_eq!((c.calendar.opens.to_string().as_str(), c.calendar.closes), ("00:00:00", None));
    assert_eq!(c.calendar.holidays, Holidays::None);
    let date = |text: &str| text.parse().unwrap();
    assert_eq!(
        c.calendar.closed,
        [
            Closed::Yearly { from: (12, 29), to: (1, 3) },
            Closed::Once { from: date("2022-08-11"), to: date("2022-08-16") },
            Closed::Yearly { from: (12, 31), to: (12, 31) },
            Closed::Yearly { from: (2, 29), to: (2, 29) },
            Closed::Once { from: date("2022-08-12"), to: date("2022-08-12") },
        ]
    );
    assert_eq!(c.fleet.customers, Path::new("/srv/kigen/customers.toml"));
    let ConnectorConfig::Exlook(exlook) = &c.connector else { panic!("exlook") };
    assert_eq!(exlook.logon_url.as_str(), "http://tool.example.jp:8080/logon.aspx");
    assert_eq!((exlook.labels.tab.as_str(), exlook.labels.site.as_str()), ("サイト設定", "ExLookサイト名"));
    assert_eq!(exlook.server_types[&ServerType::OnPremises].len(), 2);
    assert_eq!((c.scan.concurrency, c.scan.requests_per_second, c.scan.attempts, c.scan.max_page), (8, 0.5, 1, 65536));
    assert_eq!((c.scan.timeout, c.scan.customer_timeout), (Duration::from_secs(10), Duration::from_secs(3600)));
    assert!(c.scan.allow_private_hosts && c.microsoft.realm);
    let consent = c.microsoft.consent.as_ref().unwrap();
    assert_eq!((consent.client_id.as_str(), consent.home_tenant.as_deref()), ("app-1", Some("vendor.onmicrosoft.com")));
    assert_eq!(consent.credential, ConsentCredential::Secret(SecretSource::Credential("entra".into())));
    assert_eq!((consent.roles.len(), consent.scope.as_str()), (2, "https://outlook.office365.com/.default"));
    assert_eq!(c.microsoft.login_url.as_str(), "http://127.0.0.1:8080/");
    let [first, second] = &c.campaigns[..] else { panic!("two campaigns") };
    assert_eq!(first.campaign.deadline, date("2022-10-05"));
    assert_eq!(first.campaign.postponed_to, Some(date("2022-12-31")), "the built-in one keeps its other values");
    assert_eq!(first.campaign.reminders.iter().map(|m| m.days).collect::<Vec<_>>(), [60, 14, 1], "the farthest first");
    assert_eq!((first.campaign.overdue_every, first.campaign.consent_every), (Some(14), 7));
    assert_eq!((second.campaign.affects, second.campaign.postponed_to), (Affects::ExchangeOnline, None));
    assert_eq!(c.mail.from.name.as_deref(), Some("Support, ExLook"));
    assert_eq!(c.mail.from.address.as_str(), "support@example.jp");
    assert_eq!(c.mail.envelope_from.as_str(), "bounces@example.jp");
    assert_eq!(
        c.mail.reply_to.as_ref().map(|to| (to.name.clone(), to.address.as_str())),
        Some((None, "desk@example.jp"))
    );
    assert_eq!(c.mail.unknown, UnknownPolicy::Hold);
    assert_eq!(c.mail.support.phone.as_deref(), Some("03-0000-0000"));
    let TransportConfig::Smtp(smtp) = &c.mail.transport else { panic!("smtp") };
    assert_eq!((smtp.host.as_str(), smtp.port, smtp.tls, smtp.connections), ("::1", 25, SmtpTls::None, 1));
    assert_eq!(
        (smtp.rate.count, smtp.rate.per, smtp.timeout),
        (500, Duration::from_secs(3600), Duration::from_secs(120))
    );
    let SmtpAuth::Xoauth2 { username, client_secret, scope, .. } = &smtp.auth else { panic!("xoauth2") };
    assert_eq!((username.as_str(), scope.as_str()), ("support@example.jp", "https://outlook.office365.com/.default"));
    assert_eq!(*client_secret, SecretSource::Env("KIGEN_TEST_SECRET".into()), "named, not read");
    assert_eq!(c.safety.max_new_notices, Share::BasisPoints(50));
    assert_eq!(c.safety.hold_if_newly_affected, Share::Count(100));
    assert_eq!(
        (c.safety.max_age, c.safety.confirm_resolved, c.safety.logon_failures),
        (chrono::TimeDelta::days(1), 3, 5)
    );
    assert_eq!((c.alerts.to.len(), c.alerts.language, c.alerts.unreadable_after), (2, Language::En, 4));
    assert_eq!(c.alerts.scan_failure_rate, Share::BasisPoints(3333));
    assert!(c.alerts.webhook.is_some() && c.alerts.heartbeat.is_some());
    assert_eq!(c.web.listen.to_string(), "[::1]:9000");
}

// ---- every problem of a file at once

#[test]
fn many_errors_are_all_shown() {
    let errors = config::load(Path::new("tests/fixtures/config/many-errors.toml")).expect_err("full of errors");
    assert_eq!(errors.render(false), include_str!("fixtures/config/many-errors.txt"));
}

/// `text` goes in below the minimal file's comment line, so that its first line is line 2.
fn with(text: &str) -> String {
    let (comment, rest) = MINIMAL.split_once('\n').unwrap();
    format!("{comment}\n{text}\n{rest}")
}

/// The one problem of the minimal file with `text` in it.
fn only_problem(text: &str) -> config::Problem {
    let errors = load(with(text)).expect_err(text);
    assert_eq!(errors.0.len(), 1, "{text}\n{errors}");
    errors.0[0].clone()
}

#[test]
#[rustfmt::skip] // one row a line
fn each_problem_has_its_place_and_a_hint() {
    for (text, line, column, key, message, hint) in [
        ("mode = \"Live\"", 2, 8, "mode", "\"Live\" is not one of", "did you mean \"live\"?"),
        ("mode = true", 2, 8, "mode", "not true or false", ""),
        ("timezone = \"Tokyo\"", 2, 12, "timezone", "no time zone", "Asia/Tokyo"),
        ("timezone = \"JST\"", 2, 12, "timezone", "no time zone", "Asia/Tokyo"),
        ("state = \"kigen.db\"", 2, 9, "state", "must name its kind", "sqlite:kigen.db"),
        ("state = \"postgres://kigen:secret@db/kigen\"", 2, 9, "state", "holds a password", "state_password"),
        ("state = \"postgres://db/\"", 2, 9, "state", "names no database", "postgres://kigen@"),
        ("state = \"postgres://db/kigen?sslmode=disable\"", 2, 9, "state", "in the clear", "verify-full"),
        ("state = \"postgres://db/kigen?sslmod=require\"", 2, 9, "state", "\"sslmod\" is no option", "sslmode"),
        ("state_password = { env = \"X\" }", 2, 18, "state_password", "says nothing", "postgres://"),
        ("mdoe = \"live\"", 2, 1, "mdoe", "is no key", "did you mean `mode`?"),
        ("listen = \"127.0.0.1:1\"", 2, 1, "listen", "is no key", "`listen` belongs in [web]"),
        ("[web]\nmode = \"live\"", 3, 1, "web.mode", "is no key", "at the top of the file"),
        ("[schedul]\nscan = \"@daily\"", 2, 2, "schedul", "is no key", "did you mean `schedule`?"),
        ("[schedule]\nscan = \"0 0 31 2 *\"", 3, 8, "schedule.scan", "never happens", "weekday"),
        ("[schedule]\nscan = \"0 6 * *\"", 3, 8, "schedule.scan", "4 fields", "weekday"),
        ("[schedule]\nscan = \"0 99 * * *\"", 3, 8, "schedule.scan", "no schedule", "weekday"),
        ("[schedule]\nscan = 6", 3, 8, "schedule.scan", "not a number", ""),
        ("schedule = \"@daily\"", 2, 12, "schedule", "is a section, not a text", "[schedule]"),
        ("[business_hours]\nhours = \"18:00-09:00\"", 3, 9, "business_hours.hours", "ends before it begins", "00:00-24:00"),
        ("[business_hours]\nhours = \"09:00-09:00\"", 3, 9, "business_hours.hours", "empty window", "00:00-24:00"),
        ("[business_hours]\nhours = \"9-18\"", 3, 9, "business_hours.hours", "is not hours", ""),
        ("[business_hours]\nhours = \"09:00-24:30\"", 3, 9, "business_hours.hours", "is not hours", ""),
        ("[business_hours]\ndays = []", 3, 8, "business_hours.days", "nothing would ever leave", "Mon"),
        ("[business_hours]\ndays = \"Mon\"", 3, 8, "business_hours.days", "must be a list", "brackets"),
        ("[business_hours]\ndays = [\"Mon\", \"Mon\"]", 3, 8, "business_hours.days", "Mon stands twice", ""),
        ("[business_hours]\ndays = [\"mon\"]", 3, 9, "business_hours.days", "\"mon\"", "did you mean \"Mon\"?"),
        ("[business_hours]\nholidays = \"japan\"", 3, 12, "business_hours.holidays", "\"japan\"", ""),
        ("[business_hours]\nclosed = [\"02-30\"]", 3, 11, "business_hours.closed", "there is no day \"02-30\"", ""),
        ("[business_hours]\nclosed = [\"2022-02-29\"]", 3, 11, "business_hours.closed", "there is no day", ""),
        ("[business_hours]\nclosed = [\"2023-01-03..2022-12-29\"]", 3, 11, "business_hours.closed", "ends before", "did you mean"),
        ("[business_hours]\nclosed = [\"12-29..2023-01-03\"]", 3, 11, "business_hours.closed", "one side only", ""),
        ("[business_hours]\nclosed = [\"年末\"]", 3, 11, "business_hours.closed", "is no day", ""),
        ("[business_hours]\nclosed = [\"01-01..12-31\"]", 3, 10, "business_hours.closed", "no business day", ""),
        ("[scan]\ntimeout = 30", 3, 11, "scan.timeout", "not a number", "with its unit: \"30s\""),
        ("[scan]\ntimeout = \"30\"", 3, 11, "scan.timeout", "is not a duration", ""),
        ("[scan]\ntimeout = \"30 sec\"", 3, 11, "scan.timeout", "is not a duration", "did you mean \"30s\"?"),
        ("[scan]\ntimeout = \"-5s\"", 3, 11, "scan.timeout", "is not a duration", ""),
        ("[scan]\ntimeout = \"0s\"", 3, 11, "scan.timeout", "more than zero", ""),
        ("[scan]\ntimeout = \"999999999999999999w\"", 3, 11, "scan.timeout", "ten years", ""),
        ("[scan]\ntimeout = \"5m\"", 3, 11, "scan.timeout", "`customer_timeout` (180s", "raise"),
        ("[scan]\nrequests_per_second = 0", 3, 23, "scan.requests_per_second", "0.01 to 10000", ""),
        ("[scan]\nrequests_per_second = nan", 3, 23, "scan.requests_per_second", "0.01 to 10000", ""),
        ("[scan]\nconcurrency = 0", 3, 15, "scan.concurrency", "0 is not a whole number from 1", ""),
        ("[scan]\nconcurrency = 99999999999999999999", 3, 15, "scan.concurrency", "from 1 to 1000", ""),
        ("[scan]\nconcurrency = 1.5", 3, 15, "scan.concurrency", "must be a whole number", ""),
        ("[scan]\nmax_page = \"2MB\"", 3, 12, "scan.max_page", "is not a size", "did you mean \"2MiB\"?"),
        ("[scan]\nmax_page = 0", 3, 12, "scan.max_page", "64KiB", ""),
        ("[scan]\nca_file = \"nowhere.pem\"", 3, 11, "scan.ca_file", "cannot read", ""),
        ("[connector.exlook]\nlogon_url = \"http://tool.example.jp/\"", 3, 13, "connector.exlook.logon_url", "in the clear", "https://"),
        ("[connector.exlook]\nlogon_url = \"www.exlook.net\"", 3, 13, "connector.exlook.logon_url", "is not an address", ""),
        ("[connector.exlook.labels]\nsite = \"ExLook サイト設定\"", 3, 8, "connector.exlook.labels.site", "same text as `tab`", ""),
        ("[connector.exlook.server_types]\non_premises = []", 3, 15, "connector.exlook.server_types.on_premises", "is empty", ""),
        ("[connector.api]\nurl = \"x\"", 3, 7, "connector.api.url", "is not an address", ""),
        ("[connector.api]\nurl = \"https://a.jp/sites\"", 3, 7, "connector.api.url", "names no customer", "{customer}"),
        ("[connector.api]\nsites = \"sites\"", 3, 9, "connector.api.sites", "no JSON pointer", "/sites"),
        ("[connector.export]\npath = \"x.xlsx\"", 3, 8, "connector.export.path", ".csv or a .json", ""),
        ("[microsoft]\nconsent = { client_id = \"x\" }", 3, 1, "microsoft.consent.client_secret", "must be set in microsoft.consent", "certificate"),
        ("[microsoft.consent]\nclient_secret = { env = \"X\" }", 2, 12, "microsoft.consent.client_id", "must be set", "application id"),
        ("[microsoft.consent]\nclient_id = \"x\"\nkey = { env = \"X\" }", 2, 12, "microsoft.consent.certificate", "belong together", "PEM"),
        ("[microsoft.consent]\nclient_id = \"x\"\nclient_secret = { env = \"X\" }\nkey = { env = \"X\" }", 4, 17, "microsoft.consent.client_secret", "only one", "take the other out"),
        ("[microsoft.consent]\nclient_id = \"x\"\nclient_secret = { env = \"X\" }\nhome_tenant = \"a/b.c\"", 5, 15, "microsoft.consent.home_tenant", "neither a domain nor", "onmicrosoft.com"),
        ("[microsoft]\nlogin_url = \"https://a.jp/common\"", 3, 13, "microsoft.login_url", "host alone", "adds the tenant"),
        ("[schedule]\nnotices = \"0 10 * * Sat,Sun\"", 3, 11, "schedule.notices", "falls on no business day", "business_hours.days"),
        ("[mail.bounces]\nimap = { host = \"imap.example.jp\" }", 3, 1, "mail.bounces.imap.password", "must be set: `auth` is \"password\"", "[mail.bounces.imap]"),
        ("[mail.bounces]\nimap = { port = 993, password = { env = \"X\" } }", 3, 1, "mail.bounces.imap.host", "must be set", "imap.example.jp"),
        ("[mail.bounces]\nmaildir = \"x\"\nimap = { host = \"a.example.jp\", password = { env = \"X\" } }", 3, 11, "mail.bounces.maildir", "and `imap` too", "at one place"),
        ("[mail.bounces.imap]\nhost = \"imap.example.jp\"\ntls = \"none\"\npassword = { env = \"X\" }", 4, 7, "mail.bounces.imap.tls", "for a server on this machine", "\"starttls\""),
        ("[mail.bounces.imap]\nhost = \"outlook.office365.com\"\nauth = \"password\"\npassword = { env = \"X\" }", 4, 8, "mail.bounces.imap.auth", "no password over IMAP", "xoauth2"),
        ("[mail.bounces.imap]\nhost = \"imap.example.jp\"\nauth = \"none\"", 4, 8, "mail.bounces.imap.auth", "is not one of", ""),
        ("[campaign]\nid = \"x\"", 2, 2, "campaign", "double brackets", "[[campaign]]"),
        ("[[campaign]]\ndeadline = 2022-10-01T00:00:00", 3, 12, "campaign.deadline", "without a time", ""),
        ("[[campaign]]\ndeadline = \"2022-13-01\"", 3, 12, "campaign.deadline", "there is no day", ""),
        ("[[campaign]]\npostponed_to = 2022-10-01", 3, 16, "campaign.postponed_to", "not after `deadline` (2022-10-01)", "set both"),
        ("[[campaign]]\nfinal = 2022-12-30", 3, 9, "campaign.final", "before `postponed_to` (2022-12-31)", "set both"),
        ("[[campaign]]\nid = \"x\"\naffects = \"basic_auth\"\ndeadline = 2022-10-01\nfinal = 2022-10-01", 6, 9, "campaign.final", "not after `deadline`", ""),
        ("[[campaign]]\nid = \"x\"\naffects = \"basic_auth\"", 2, 1, "campaign.deadline", "must be set", "exchange-online-basic-auth"),
        ("[[campaign]]\nid = \"大文字\"", 3, 6, "campaign.id", "is no id", ""),
        ("[[campaign]]\n[[campaign]]\nid = \"exchange-online-basic-auth\"", 4, 6, "campaign.id", "stands twice", ""),
        ("[[campaign]]\nreminders = [\"1w\", \"7d\"]", 3, 13, "campaign.reminders", "7d stands twice", ""),
        ("[[campaign]]\nreminders = [\"0d\"]", 3, 14, "campaign.reminders", "more than zero", ""),
        ("[[campaign]]\nreminders = [30]", 3, 14, "campaign.reminders", "whole days", "\"30d\""),
        ("[[campaign]]\noverdue_every = \"12h\"", 3, 17, "campaign.overdue_every", "whole days", ""),
        ("[[campaign]]\ntemplates = \"nowhere/\"", 3, 13, "campaign.templates", "cannot read", ""),
        ("[mail.smtp]\nhost = \"smtp://smtp.example.jp:25\"", 3, 8, "mail.smtp.host", "no host name", "\"smtp.example.jp\" alone"),
        ("[mail.smtp]\nport = 70000", 3, 8, "mail.smtp.port", "from 1 to 65535", ""),
        ("[mail.smtp]\ntls = \"none\"\nhost = \"smtp.example.jp\"", 3, 7, "mail.smtp.tls", "`host` is another", "starttls"),
        ("[mail.smtp]\nrate = \"0/m\"", 3, 8, "mail.smtp.rate", "zero", ""),
        ("[mail.smtp]\nrate = \"30/min\"", 3, 8, "mail.smtp.rate", "is not a rate", "did you mean \"30/m\"?"),
        ("[mail.smtp]\nrate = 30", 3, 8, "mail.smtp.rate", "must be a rate", "\"30/m\""),
        ("[mail.smtp]\npassword = { env = \"X\" }", 3, 12, "mail.smtp.password", "`password` is set, but `auth` is \"none\"", "auth = \"password\""),
        ("[mail.smtp]\nauth = \"password\"", 2, 7, "mail.smtp.password", "must be set: `auth` is \"password\"", ""),
        ("[mail.smtp]\nauth = \"password\"\npassword = { env = \"X\", file = \"y\" }", 4, 12, "mail.smtp.password", "exactly one", "credential"),
        ("[mail.smtp]\nauth = \"password\"\npassword = { flie = \"y\" }", 4, 12, "mail.smtp.password", "no place for a secret", "`file`"),
        ("[mail.smtp]\nauth = \"password\"\npassword = { file = \"nowhere\" }", 4, 12, "mail.smtp.password", "nowhere: No such file", ""),
        ("[mail.smtp]\nauth = \"password\"\npassword = { credential = \"../x\" }", 4, 12, "mail.smtp.password", "holds no path", ""),
        ("[safety]\nmax_new_notices = \"101%\"", 3, 19, "safety.max_new_notices", "more than all", ""),
        ("[safety]\nmax_new_notices = \"5\"", 3, 19, "safety.max_new_notices", "is not a share", "write \"5%\""),
        ("[safety]\nmax_new_notices = 0.5", 3, 19, "safety.max_new_notices", "must be a share", "write \"0.5%\""),
        ("[safety]\nmax_new_notices = -1", 3, 19, "safety.max_new_notices", "is not a share", ""),
        ("[alerts]\nto = [\"ops@example.jp\", \"ops example.jp\"]", 3, 25, "alerts.to", "which has no place in an address", ""),
        ("[alerts]\nwebhook = { format = \"slack\" }", 3, 1, "alerts.webhook.url", "must be set", "url ="),
        ("[web]\nlisten = \"localhost:8620\"", 3, 10, "web.listen", "is not an address and port", "127.0.0.1:8620"),
        ("[web]\nlisten = \"0.0.0.0:8620\"", 3, 10, "web.listen", "needs [web.users]", "web-password"),
        ("[web.users]\nops = \"$argon2id$x\"", 3, 7, "web.users", "is not an argon2id hash", "web-password"),
    ] {
        let problem = only_problem(text);
        let place = (problem.line.unwrap(), problem.column.unwrap());
        assert_eq!(place, (line, column), "{text}\n{problem}");
        assert_eq!(problem.key.as_deref(), Some(key), "{text}\n{problem}");
        assert!(problem.message.contains(message), "{text}\n{problem}");
        assert!(problem.hint.as_deref().unwrap_or("").contains(hint), "{text}\n{problem}");
    }
}

#[test]
fn what_must_be_set_is_named_all_at_once() {
    let errors = load("").expect_err("nothing is set");
    let keys: Vec<_> = errors.0.iter().map(|problem| problem.key.as_deref().unwrap()).collect();
    assert_eq!(keys, ["fleet.customers", "connector.kind", "mail.from", "mail.support.name", "mail.smtp.host"]);
    assert!(errors.0.iter().all(|problem| problem.message.starts_with("must be set") && problem.hint.is_some()));
    let errors = load(MINIMAL.replace("path =", "# path =")).expect_err("no directory");
    assert!(errors.0[0].message.contains("`mail.transport` is \"maildir\""));
}

#[test]
fn syntax_errors_do_not_hide_the_others_and_bring_no_false_ones() {
    let text =
        with("mode = \"lvie\"\ntimezone = Asia/Tokyo\nmode = \"live\"\n[[campaign]]\ndeadline = 2022-02-31\n[scan");
    let errors = load(&text).expect_err("broken");
    let lines: Vec<_> = errors.0.iter().map(|problem| problem.line.unwrap()).collect();
    assert_eq!(lines, [2, 3, 4, 6, 7], "{errors}");
}

#[test]
fn the_marks_stand_under_japanese_text() {
    let errors = load(with("[connector.exlook.labels]\ntab = \"サイト\"  ; 設定 = \"ｻｲﾄ\"")).expect_err("a semicolon");
    let shown = errors.render(false);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(errors.0[0].column, Some(14), "in characters\n{shown}");
    assert_eq!(lines[1], " 3 | tab = \"サイト\"  ; 設定 = \"ｻｲﾄ\"");
    assert_eq!(lines[2].find('^'), Some(5 + "tab = \"".len() + 2 * 3 + "\"  ".len()), "in columns\n{shown}");
    assert!(errors.render(true).contains("\x1b[1;31merror:\x1b[0m"));
    assert!(!errors.render(false).contains('\x1b'));
    let errors =
        load(with("[mail.smtp]\nusername = \"サポート窓口\u{1b}[31m\"\nrate = \"三十\"")).expect_err("an escape");
    assert!(!errors.render(false).contains('\x1b'), "a file writes no escapes to a terminal");
}

#[test]
fn a_long_line_is_cut_around_the_problem() {
    let many = "\"12-31\", ".repeat(100);
    let errors = load(with(&format!("[business_hours]\nclosed = [{many}\"02-30\", {many}]"))).expect_err("no such day");
    let shown = errors.render(false);
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[1].chars().count() < 140, "{shown}");
    let marked: String = lines[1].chars().skip(lines[2].find('^').unwrap()).take(7).collect();
    assert_eq!(marked, "\"02-30\"", "{shown}");
}

#[test]
fn neither_secrets_nor_addresses_leak() {
    let text = with(concat!(
        "[mail.smtp]\nauth = \"password\"\npassword = \"hunter2\"\nclient_secret = 'hunter2\ntoken_url = \"https://u:hunter2@x.jp/\"\n",
        "[alerts]\nto = [\"taro.yamada example.jp\", \"hanako@\"]\n",
    ));
    let errors = load(text).expect_err("a password in the file");
    let (shown, logged) = (errors.render(false), errors.to_string());
    assert!(!shown.contains("hunter2") && !logged.contains("hunter2"), "{shown}");
    assert!(shown.contains("write { credential = "), "{shown}");
    assert!(!logged.contains("yamada") && !logged.contains("hanako"), "{logged}");
}

#[test]
fn a_file_that_is_no_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let message = |result: Result<Config, ConfigErrors>| {
        let errors = result.expect_err("no configuration");
        assert_eq!(errors.0.len(), 1);
        errors.render(false)
    };
    assert!(
        message(config::load(&dir.path().join("none.toml"))).contains("none.toml: error: cannot be read: No such file")
    );
    assert!(message(config::load(dir.path())).contains("cannot be read"));
    assert!(message(load_in(dir.path(), vec![b'#'; 1024 * 1024 + 1])).contains("larger than 1 MiB"));
    let sjis = b"# kigen\nmode = \"live\" # \x96\x7b\x94\xd4\n";
    assert!(message(load_in(dir.path(), sjis)).contains("config.toml:2: error: is not UTF-8"));
    assert!(load_in(dir.path(), format!("\u{FEFF}{MINIMAL}")).is_ok(), "a byte order mark is no error");
    assert!(load_in(dir.path(), MINIMAL.replace('\n', "\r\n")).is_ok(), "nor are Windows' line ends");
}

#[test]
fn a_file_of_secrets_must_be_closed_to_others() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("smtp-password");
    std::fs::write(&secret, "hunter2\n").unwrap();
    let text =
        with("[mail.smtp]\nhost = \"smtp.example.jp\"\nauth = \"password\"\npassword = { file = \"smtp-password\" }")
            .replace("\"maildir\"", "\"smtp\"");
    for (mode, good) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(mode)).unwrap();
        match load_in(dir.path(), &text) {
            Ok(config) => {
                let TransportConfig::Smtp(smtp) = &config.mail.transport else { panic!("smtp") };
                let SmtpAuth::Password { password, .. } = &smtp.auth else { panic!("password") };
                assert_eq!(*password, SecretSource::File(secret.clone()));
                assert!(good, "{mode:o}");
            }
            Err(errors) => {
                assert!(!good && errors.0[0].message.contains("others can read it"), "{mode:o}: {errors}");
            }
        }
    }
    // A credential or a variable that is not there now is no error: a check needs no secrets.
    let text = text.replace("file = \"smtp-password\"", "credential = \"smtp-password\"");
    assert!(load_in(dir.path(), text).is_ok());
}

#[test]
fn rows_of_other_files_are_shown_alike() {
    let problem = config::Problem::in_row(Path::new("customers.csv"), 3, Some("email"), "holds no @");
    let errors = ConfigErrors(vec![problem.with_hint(Some("several are separated by ;".into()))]);
    assert_eq!(errors.to_string(), "customers.csv:3: email: holds no @ (several are separated by ;)");
    assert_eq!(
        errors.render(false),
        "customers.csv:3: error: email: holds no @\n   help: several are separated by ;\n"
    );
}

proptest::proptest! {
    #[test]
    fn no_file_makes_it_panic(cut in 0usize..8000, length in 0usize..40, put in "[ -~\n\"=あ\\[\\]]{0,12}") {
        let at = |n: usize| (0..=n.min(EXAMPLE.len())).rev().find(|n| EXAMPLE.is_char_boundary(*n)).unwrap();
        let text = format!("{}{put}{}", &EXAMPLE[..at(cut)], &EXAMPLE[at(cut + length)..]);
        if let Err(errors) = load(uncommented(&text)) {
            proptest::prop_assert!(!errors.0.is_empty());
            proptest::prop_assert!(errors.render(true).contains("error:"));
        }
    }
}

// ---- config.toml.example, both ways

/// With every `# key = …` and `# [section]` in use.
fn uncommented(example: &str) -> String {
    let is_key = |rest: &str| {
        let key: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
        !key.is_empty() && rest[key.len()..].trim_start().starts_with('=')
    };
    let lines = example.lines().map(|line| match line.strip_prefix("# ") {
        Some(rest) if rest.starts_with('[') || is_key(rest) => rest,
        _ => line,
    });
    lines.map(|line| format!("{line}\n")).collect()
}

/// The keys of a document, as [`KnownKey::path`] names them.
fn keys(table: &toml::Table, path: &str, known: &[KnownKey], found: &mut BTreeMap<String, toml::Value>) {
    for (key, value) in table {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let is_key = known.iter().any(|known| known.path == path);
        match value {
            toml::Value::Table(table) if !is_key => keys(table, &path, known, found),
            toml::Value::Array(items) if !is_key && items.iter().any(toml::Value::is_table) => {
                for table in items.iter().filter_map(toml::Value::as_table) {
                    keys(table, &path, known, found);
                }
            }
            _ => drop(found.insert(path, value.clone())),
        }
    }
}

/// What is wrong with the example: one sentence each.
fn complaints(example: &str, known: &[KnownKey]) -> Vec<String> {
    let (mut in_use, mut shown) = (BTreeMap::new(), BTreeMap::new());
    keys(&example.parse().unwrap(), "", known, &mut in_use);
    keys(&uncommented(example).parse().unwrap(), "", known, &mut shown);
    let mut complaints = Vec::new();
    for path in shown.keys().filter(|path| !known.iter().any(|known| known.path == **path)) {
        complaints.push(format!("{path} is shown and does not exist"));
    }
    for key in known {
        let path = &key.path;
        match (&key.default, shown.get(path)) {
            (_, None) => complaints.push(format!("{path} exists and is not shown")),
            (Some(default), Some(value)) if default != value && !example.contains(&format!("default: {default}")) => {
                complaints.push(format!("{path} is shown as {value}, its default is {default}"));
            }
            _ if key.required && !in_use.contains_key(path) => complaints.push(format!("{path} must be in use")),
            _ => {}
        }
    }
    complaints
}

#[test]
fn the_example_shows_every_key_and_tells_every_default() {
    let known = config::known_keys();
    assert!(known.len() > 70, "{}", known.len());
    assert_eq!(complaints(EXAMPLE, &known), [""; 0]);
}

#[test]
fn that_test_would_fail() {
    let known = config::known_keys();
    let one = |example: &str, known: &[KnownKey]| complaints(example, known).join("; ");
    let mut more = known.clone();
    more.push(KnownKey { path: "scan.new".into(), default: Some(1.into()), required: false });
    assert_eq!(one(EXAMPLE, &more), "scan.new exists and is not shown");
    let fewer: Vec<_> = known.iter().filter(|key| key.path != "mail.smtp.ca_file").cloned().collect();
    assert_eq!(one(EXAMPLE, &fewer), "mail.smtp.ca_file is shown and does not exist");
    let lie = EXAMPLE.replace("attempts            = 3", "attempts            = 4");
    assert_eq!(one(&lie, &known), "scan.attempts is shown as 4, its default is 3");
    let lie = EXAMPLE.replace("# site        = \"ExLookサイト名\"", "# site        = \"サイト\"");
    assert!(one(&lie, &known).contains("connector.exlook.labels.site is shown as"));
    let off = EXAMPLE.replace("kind = \"exlook\"", "# kind = \"exlook\"");
    assert_eq!(one(&off, &known), "connector.kind must be in use");
}

#[test]
fn the_example_is_valid_as_shipped() {
    let config = load(EXAMPLE).unwrap_or_else(|errors| panic!("{}", errors.render(false)));
    assert_eq!(config.mode, Mode::DryRun);
    assert_eq!(config.state, StateUrl::Sqlite("/var/lib/kigen/kigen.db".into()));
}

#[test]
fn the_example_is_valid_with_everything_in_use() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("templates")).unwrap();
    for file in ["company-ca.pem", "relay-ca.pem", "entra.pem", "mailbox-ca.pem"] {
        std::fs::write(dir.path().join(file), "").unwrap();
    }
    let all = uncommented(EXAMPLE);
    for (auth, not_of_it) in
        [("password", vec!["token_url", "client_id", "client_secret", "scope"]), ("xoauth2", vec!["password"])]
    {
        // Who kigen is to Microsoft is said once, by a secret or by a certificate; undeliverable mail is read at one place,
        // here by IMAP.
        let of_consent = if auth == "password" { ["certificate", "key"] } else { ["client_secret", "client_secret"] };
        let mut section = "";
        let lines = all.lines().filter(|line| {
            if line.starts_with('[') {
                section = line;
            }
            match section {
                "[microsoft.consent]" => !of_consent.iter().any(|key| line.starts_with(key)),
                _ => !line.starts_with("maildir ") && !not_of_it.iter().any(|key| line.starts_with(key)),
            }
        });
        let text: String = lines.map(|line| format!("{line}\n")).collect();
        let text = text.replace("auth        = \"none\"", &format!("auth        = \"{auth}\""));
        let text = text.replace("auth          = \"password\"", &format!("auth          = \"{auth}\""));
        let text = text.replace("sqlite:/var/lib/kigen/kigen.db", "postgres://kigen@db.example.jp/kigen");
        load_in(dir.path(), text).unwrap_or_else(|errors| panic!("{auth}\n{}", errors.render(false)));
    }
}
