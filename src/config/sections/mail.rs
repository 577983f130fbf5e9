//! `[mail]` and what is below it: who writes, through which relay, whom customers ask.

use std::path::{Path, PathBuf};

use crate::config::section::Section;
use crate::config::values::{Bad, is_loopback};
use crate::config::{MailConfig, NamedAddress, SmtpAuth, SmtpConfig, SmtpTls, Support, TransportConfig, values};
use crate::domain::customer::Address;
use crate::domain::delivery::UnknownPolicy;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Transport {
    Smtp,
    Maildir,
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
        s.not_yet("graph", "the transport \"graph\"");
        s.not_yet("dkim", "signing with DKIM");
        s.not_yet("bounces", "reading a bounce mailbox");
        let from = from?;
        Some(MailConfig {
            envelope_from: envelope_from.unwrap_or_else(|| from.address.clone()),
            from,
            reply_to,
            transport: match transport {
                Transport::Smtp => TransportConfig::Smtp(smtp?),
                Transport::Maildir => TransportConfig::Maildir(maildir?),
            },
            support: support?,
            unknown,
        })
    })
}

fn transport(value: &toml::de::DeValue<'_>) -> Result<Transport, Bad> {
    if value.as_str() == Some("graph") {
        let bad = Bad::new("the transport \"graph\" is not in this version yet");
        return Err(bad.hint("use \"smtp\", with auth = \"xoauth2\" for Exchange Online"));
    }
    values::choice([("smtp", Transport::Smtp), ("maildir", Transport::Maildir)])(value)
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
        host: host.unwrap_or_default(),
        auth: auth.unwrap_or(SmtpAuth::None),
    };
    (!smtp.host.is_empty()).then_some(smtp)
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
    let username = s.opt("username", values::text);
    let password = s.opt("password", values::secret(base));
    let token_url = s.opt("token_url", values::secure_url);
    let client_id = s.opt("client_id", values::text);
    let client_secret = s.opt("client_secret", values::secret(base));
    let scope = s.or("scope", "https://outlook.office365.com/.default", values::text);
    if s.sound(&["auth"]) {
        auth_keys_fit(s, kind);
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

fn auth_keys_fit(s: &mut Section<'_, '_>, kind: Kind) {
    for (key, kinds, needed) in AUTH_KEYS {
        let word = kind.word();
        match (kinds.contains(&kind), s.has(key)) {
            (true, false) if needed => {
                s.problem(key, format!("must be set: `auth` is \"{word}\""), "see config.toml.example, [mail.smtp]");
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
