//! Our own way out may be turned off too: Exchange Online's basic authentication for client submission (SMTP AUTH).
//!
//! The date has moved twice already, so it is data with its source.

use chrono::NaiveDate;

use crate::config::{MailConfig, SmtpAuth, TransportConfig};
use crate::domain::customer::Language;

/// One announcement.
pub struct Announcement {
    /// From when on it is off by default in existing tenants; an administrator can turn it on again.
    pub off_by_default: NaiveDate,
    /// When that was announced.
    pub announced: NaiveDate,
    /// Where.
    pub source: &'static str,
}

/// The announcement that holds: "end of December 2026", told on 27 January 2026.
pub const BASIC_SUBMISSION: Announcement = Announcement {
    off_by_default: NaiveDate::from_ymd_opt(2026, 12, 31).expect("a day that exists"),
    announced: NaiveDate::from_ymd_opt(2026, 1, 27).expect("a day that exists"),
    source: "Microsoft, Exchange Team Blog 4489835",
};

/// Exchange Online's submission hosts.
fn is_exchange_online(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let below = |domain: &str| host.strip_suffix(domain).is_some_and(|left| left.is_empty() || left.ends_with('.'));
    below("office365.com") || below("office365.us") || below("outlook.com") || below("partner.outlook.cn")
}

/// Whether mail leaves through Exchange Online with a password, so that it will stop.
#[must_use]
pub fn is_endangered(mail: &MailConfig) -> bool {
    match &mail.transport {
        TransportConfig::Smtp(smtp) => matches!(smtp.auth, SmtpAuth::Password { .. }) && is_exchange_online(&smtp.host),
        TransportConfig::Graph(_) | TransportConfig::Maildir(_) => false,
    }
}

/// What to tell the operators of it, if there is anything.
#[must_use]
pub fn warning(mail: &MailConfig, language: Language) -> Option<String> {
    let Announcement { off_by_default, announced, source } = BASIC_SUBMISSION;
    is_endangered(mail).then(|| match language {
        Language::Ja => format!(
            "kigen 自身のメール送信が、Exchange Online にパスワード (基本認証の SMTP AUTH) でサインインしています。\
             Microsoft はこれを {off_by_default} ごろから既定で無効にします ({announced} 発表、{source})。\
             mail.smtp.auth を \"xoauth2\" に切り替えてください。"
        ),
        Language::En => format!(
            "kigen itself signs in to Exchange Online with a password to send mail (basic SMTP AUTH). Microsoft turns \
             this off by default around {off_by_default} (announced {announced}, {source}). Switch mail.smtp.auth to \
             \"xoauth2\"."
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exchange_online_is_known_by_its_hosts() {
        let rows = [
            ("smtp.office365.com", true),
            ("SMTP.Office365.com.", true),
            ("smtp-mail.outlook.com", true),
            ("smtp.example.jp", false),
            ("notoffice365.com", false),
            ("office365.com.example.jp", false),
        ];
        for (host, expected) in rows {
            assert_eq!(is_exchange_online(host), expected, "{host}");
        }
    }
}
