//! `[mail]` and what is below it: who writes, through which relay, whom customers ask.

use std::path::{Path, PathBuf};

use crate::config::section::Section;
use crate::config::values::{Bad, is_loopback};
use crate::config::{
    BouncesConfig, BouncesFrom, DkimConfig, GraphConfig, ImapConfig, MailConfig, NamedAddress, SmtpAuth, SmtpConfig,
    SmtpTls, Support, TransportConfig, dates, values,
};
use crate::domain::customer::Address;
use crate::domain::delivery::UnknownPolicy;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Transport {
    Smtp,
    Maildir,
    Graph,
}

pub(in crate::config) fn mail(s: &mut Section<'_, '_>, base: &Path) -> Option<MailConfig> {
    s.section("mail", |s| {
        let hint = "such as from = \"ExLook サポート <support@example.jp>\" below [mail]";
        let from = s.required("from", hint, values::named_address);
        let envelope_from = s.opt("envelope_from", values::address);
        let reply_to = s.opt("reply_to", values::named_address);
        let support = s.section("support", support);
        let unknown = values::choice([("resend", UnknownPolicy::Resend), ("hold", UnknownPolicy::Hold)]);
        let unknown = s.or("unknown", "resend", unknown);
        let transport = s.or("transport", "smtp", transport);
        let chosen = s.sound(&["transport"]).then_some(transport);
        let smtp = s.section("smtp", |s| smtp(s, base, from.as_ref(), chosen == Some(Transport::Smtp)));
        let maildir = s.section("maildir", |s| maildir(s, base, chosen == Some(Transport::Maildir)));
        let graph = s.section("graph", |s| graph(s, base, from.as_ref(), chosen == Some(Transport::Graph)));
        let dkim = s.section("dkim", |s| dkim(s, base, from.as_ref()));
        let envelope_from = envelope_from.or_else(|| from.as_ref().map(|from| from.address.clone()));
        let bounces = s.section("bounces", |s| bounces(s, base, envelope_from.as_ref()));
        let from = from?;
        Some(MailConfig {
            envelope_from: envelope_from?,
            from,
            reply_to,
            transport: match transport {
                Transport::Smtp => TransportConfig::Smtp(smtp?),
                Transport::Maildir => TransportConfig::Maildir(maildir?),
                Transport::Graph => TransportConfig::Graph(graph?),
            },
            support: support?,
            unknown,
            dkim,
            bounces,
        })
    })
}

fn transport(value: &toml::de::DeValue<'_>) -> Result<Transport, Bad> {
    let words = [("smtp", Transport::Smtp), ("graph", Transport::Graph), ("maildir", Transport::Maildir)];
    values::choice(words)(value)
}

/// The keys of a sign-in to Graph, needed once it is chosen.
const GRAPH_KEYS: [&str; 3] = ["token_url", "client_id", "client_secret"];

fn graph(s: &mut Section<'_, '_>, base: &Path, from: Option<&NamedAddress>, chosen: bool) -> Option<GraphConfig> {
    let url = s.or("url", "https://graph.microsoft.com", values::secure_url);
    let user = s.opt("user", values::address);
    let token_url = s.opt("token_url", values::secure_url);
    let client_id = s.opt("client_id", values::text);
    let client_secret = s.opt("client_secret", values::secret(base));
    let scope = s.or("scope", "https://graph.microsoft.com/.default", values::text);
    let rate = s.or("rate", "30/m", values::rate);
    let timeout = s.or("timeout", "60s", values::duration);
    for key in GRAPH_KEYS.into_iter().filter(|_| chosen) {
        if !s.has(key) {
            s.problem(key, "must be set: `mail.transport` is \"graph\"", "see config.toml.example, [mail.graph]");
        }
    }
    let user = user.or_else(|| from.map(|from| from.address.clone()))?;
    Some(GraphConfig {
        url,
        user: user.as_str().to_owned(),
        token_url: token_url?,
        client_id: client_id?,
        client_secret: client_secret?,
        scope,
        rate,
        timeout,
    })
}

fn dkim(s: &mut Section<'_, '_>, base: &Path, from: Option<&NamedAddress>) -> Option<DkimConfig> {
    let domain = s.opt("domain", values::host);
    let selector = s.opt("selector", values::host);
    let key = s.opt("key", values::secret(base));
    let keys = ["domain", "selector", "key"];
    let begun = keys.iter().any(|key| s.has(key));
    for key in keys {
        if begun && !s.has(key) {
            s.problem(key, "must be set in [mail.dkim]", "domain, selector and key belong together; or take all out");
        }
    }
    let domain = domain?.to_ascii_lowercase();
    if let Some(from) = from.map(|from| from.address.domain().to_ascii_lowercase()) {
        let below = |a: &str, b: &str| a == b || a.ends_with(&format!(".{b}"));
        if !below(&from, &domain) && !below(&domain, &from) {
            let hint = "DMARC counts a signature only if its domain and from's belong together";
            s.problem("domain", format!("is not the domain of `from` ({from}), nor above or below it"), hint);
        }
    }
    Some(DkimConfig { domain, selector: selector?, key: key? })
}

/// Room for `+`, a case's mark and its signature within the 64 octets of RFC 5321 4.5.3.1.1.
const MARKED_NAME_MAX: usize = 30;

fn bounces(s: &mut Section<'_, '_>, base: &Path, envelope_from: Option<&Address>) -> Option<BouncesConfig> {
    let maildir = s.opt("maildir", values::path(base));
    let verp = s.or("verp", true, values::flag);
    let imap = s.section("imap", |s| imap(s, base, envelope_from));
    let read = s.has("maildir") || s.has("imap");
    if s.has("verp") && !read {
        let hint = "such as maildir = \"/var/mail/bounces\", or a section [mail.bounces.imap]";
        s.problem("maildir", "must be set in [mail.bounces]", hint);
    }
    if s.has("maildir") && s.has("imap") {
        s.problem("maildir", "is set, and `imap` too", "undeliverable mail is read at one place: take one of them out");
    }
    let local = envelope_from.and_then(|a| a.as_str().split('@').next()).unwrap_or_default();
    if read && verp && (local.len() > MARKED_NAME_MAX || local.contains('+')) {
        let message =
            format!("cannot mark `mail.envelope_from`: its name must have no + and at most {MARKED_NAME_MAX} letters");
        s.problem(
            "verp",
            message,
            "set mail.envelope_from to a short address such as bounces@example.jp, or verp = false",
        );
    }
    let from = maildir.map(BouncesFrom::Maildir).or(imap.map(|imap| BouncesFrom::Imap(Box::new(imap))))?;
    Some(BouncesConfig { from, verp })
}

fn imap(s: &mut Section<'_, '_>, base: &Path, account: Option<&Address>) -> Option<ImapConfig> {
    let host = s.opt("host", values::host);
    if s.is_there() && !s.has("host") {
        s.problem("host", "must be set in [mail.bounces.imap]", "such as host = \"imap.example.jp\"");
    }
    let port = s.or("port", 993, values::count(1..=65_535));
    let tls = [("tls", SmtpTls::Tls), ("starttls", SmtpTls::Starttls), ("none", SmtpTls::None)];
    let tls = s.or("tls", "tls", values::choice(tls));
    let kinds = [("password", Kind::Password), ("xoauth2", Kind::Xoauth2)];
    let kind = s.or("auth", "password", values::choice(kinds));
    let auth = auth_keys(s, base, account, kind, "[mail.bounces.imap]");
    if let Some(host) = &host {
        let there = s.sound(&["tls", "auth"]);
        if there && tls == SmtpTls::None && !is_loopback(host) {
            let hint = "use \"tls\" or \"starttls\"; only 127.0.0.0/8, ::1 and localhost go without";
            s.problem("tls", "\"none\" is for a server on this machine, and `host` is another", hint);
        }
        if there && kind == Kind::Password && host.eq_ignore_ascii_case("outlook.office365.com") {
            s.problem("auth", "Exchange Online takes no password over IMAP any more", "use auth = \"xoauth2\"");
        }
    }
    let imap = ImapConfig {
        port: u16::try_from(port).unwrap_or(993),
        tls,
        folder: s.or("folder", "INBOX", values::text),
        timeout: s.or("timeout", "60s", values::duration),
        ca_file: s.opt("ca_file", values::existing_file(base)),
        host: host.unwrap_or_default(),
        auth: auth?,
    };
    (!imap.host.is_empty()).then_some(imap)
}

fn support(s: &mut Section<'_, '_>) -> Option<Support> {
    let name = s.required(
        "name",
        "such as support = { name = \"…\", email = \"…\", phone = \"…\" } below [mail]",
        values::text,
    );
    let email = s.opt("email", values::address);
    let phone = s.opt("phone", values::text);
    if s.is_there() && !s.has("email") && !s.has("phone") {
        s.problem("email", "`email` or `phone` must be set", "customers are told to ask there");
    }
    Some(Support { name: name?, email, phone })
}

fn maildir(s: &mut Section<'_, '_>, base: &Path, chosen: bool) -> Option<PathBuf> {
    let path = s.opt("path", values::path(base));
    if chosen && !s.has("path") {
        s.problem(
            "path",
            "must be set: `mail.transport` is \"maildir\"",
            "such as path = \"outgoing/\" below [mail.maildir]",
        );
    }
    path
}

fn smtp(s: &mut Section<'_, '_>, base: &Path, from: Option<&NamedAddress>, chosen: bool) -> Option<SmtpConfig> {
    let host = s.opt("host", values::host);
    if chosen && !s.has("host") {
        let hint = "such as host = \"smtp.example.jp\" below [mail.smtp], or transport = \"maildir\" for trying out";
        s.problem("host", "must be set: `mail.transport` is \"smtp\"", hint);
    }
    let port = s.or("port", 587, values::count(1..=65_535));
    let tls = [("starttls", SmtpTls::Starttls), ("tls", SmtpTls::Tls), ("none", SmtpTls::None)];
    let tls = s.or("tls", "starttls", values::choice(tls));
    if let Some(host) = &host
        && tls == SmtpTls::None
        && !is_loopback(host)
        && s.sound(&["tls"])
    {
        let hint = "use \"starttls\" or \"tls\"; only 127.0.0.0/8, ::1 and localhost go without";
        s.problem("tls", "\"none\" is for a relay on this machine, and `host` is another", hint);
    }
    let auth = auth(s, base, from.map(|from| &from.address));
    let smtp = SmtpConfig {
        port: u16::try_from(port).unwrap_or(587),
        tls,
        rate: s.or("rate", "30/m", values::rate),
        connections: s.or("connections", 3, values::count(1..=50)) as usize,
        timeout: s.or("timeout", "60s", values::duration),
        ca_file: s.opt("ca_file", values::existing_file(base)),
        password_until: s.or("password_until", password_until(), dates::date),
        host: host.unwrap_or_default(),
        auth: auth.unwrap_or(SmtpAuth::None),
    };
    (!smtp.host.is_empty()).then_some(smtp)
}

/// As Microsoft announced on 27 January 2026: see `alert::submission`.
fn password_until() -> toml::value::Datetime {
    "2026-12-31".parse().expect("a constant")
}

/// What `auth` may be, and the keys that belong to it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    None,
    Password,
    Xoauth2,
}

const KINDS: [(&str, Kind); 3] = [("none", Kind::None), ("password", Kind::Password), ("xoauth2", Kind::Xoauth2)];

impl Kind {
    fn word(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(word, _)| word)
    }
}

const OF_PASSWORD: &[Kind] = &[Kind::Password];
const OF_XOAUTH2: &[Kind] = &[Kind::Xoauth2];
/// Each key of a sign-in, the kinds it belongs to, and whether they need it.
const AUTH_KEYS: [(&str, &[Kind], bool); 6] = [
    ("username", &[Kind::Password, Kind::Xoauth2], false),
    ("password", OF_PASSWORD, true),
    ("token_url", OF_XOAUTH2, true),
    ("client_id", OF_XOAUTH2, true),
    ("client_secret", OF_XOAUTH2, true),
    ("scope", OF_XOAUTH2, false),
];

fn auth(s: &mut Section<'_, '_>, base: &Path, from: Option<&Address>) -> Option<SmtpAuth> {
    let kind = s.or("auth", "none", values::choice(KINDS));
    auth_keys(s, base, from, kind, "[mail.smtp]")
}

/// The keys beside `auth`; `section`: where the example has them.
fn auth_keys(
    s: &mut Section<'_, '_>,
    base: &Path,
    from: Option<&Address>,
    kind: Kind,
    section: &str,
) -> Option<SmtpAuth> {
    let username = s.opt("username", values::text);
    let password = s.opt("password", values::secret(base));
    let token_url = s.opt("token_url", values::secure_url);
    let client_id = s.opt("client_id", values::text);
    let client_secret = s.opt("client_secret", values::secret(base));
    let scope = s.or("scope", "https://outlook.office365.com/.default", values::text);
    if s.is_there() && s.sound(&["auth"]) {
        auth_keys_fit(s, kind, section);
    }
    let username = username.or_else(|| from.map(|address| address.as_str().to_owned()));
    match kind {
        Kind::None => Some(SmtpAuth::None),
        Kind::Password => Some(SmtpAuth::Password { username: username?, password: password? }),
        Kind::Xoauth2 => Some(SmtpAuth::Xoauth2 {
            username: username?,
            token_url: token_url?,
            client_id: client_id?,
            client_secret: client_secret?,
            scope,
        }),
    }
}

fn auth_keys_fit(s: &mut Section<'_, '_>, kind: Kind, section: &str) {
    for (key, kinds, needed) in AUTH_KEYS {
        let word = kind.word();
        match (kinds.contains(&kind), s.has(key)) {
            (true, false) if needed => {
                let hint = format!("see config.toml.example, {section}");
                s.problem(key, format!("must be set: `auth` is \"{word}\""), &hint);
            }
            (false, true) => {
                let words: Vec<String> = kinds.iter().map(|kind| format!("auth = \"{}\"", kind.word())).collect();
                let message = format!("`{key}` is set, but `auth` is \"{word}\"");
                s.problem(key, message, &format!("it belongs to {}; set that or take it out", words.join(" or ")));
            }
            _ => {}
        }
    }
}
