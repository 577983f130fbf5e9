//! Our own way out may be turned off too: Exchange Online's basic authentication for client submission (SMTP AUTH).
//!
//! The date has moved twice already, so it is the configuration's (`mail.smtp.password_until`); its default and source stand
//! here.

use chrono::NaiveDate;

use crate::config::{MailConfig, SmtpAuth, TransportConfig};
use crate::domain::customer::Language;

/// "End of December 2026" off by default in existing tenants, an administrator can turn it on again: told on 27 January
/// 2026. The second half of 2027 brings the date of the final end.
const ANNOUNCED: (&str, &str) = ("2026-12-31", "Microsoft, Exchange Team Blog 4489835, 2026-01-27");

/// Exchange Online's submission hosts.
fn is_exchange_online(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let below = |domain: &str| host.strip_suffix(domain).is_some_and(|left| left.is_empty() || left.ends_with('.'));
    below("office365.com") || below("office365.us") || below("outlook.com") || below("partner.outlook.cn")
}

/// The day from which on our way out is closed by default: mail leaves through Exchange Online with a password.
#[must_use]
pub fn ends(mail: &MailConfig) -> Option<NaiveDate> {
    let TransportConfig::Smtp(smtp) = &mail.transport else { return None };
    let endangered = matches!(smtp.auth, SmtpAuth::Password { .. }) && is_exchange_online(&smtp.host);
    endangered.then_some(smtp.password_until)
}

/// What to tell the operators of it on that day, if there is anything.
#[must_use]
pub fn warning(mail: &MailConfig, language: Language, today: NaiveDate) -> Option<String> {
    ends(mail).map(|ends| text(ends, language, today))
}

fn text(ends: NaiveDate, language: Language, today: NaiveDate) -> String {
    let (day, source) = ANNOUNCED;
    let source = if ends.to_string() == day { source } else { "mail.smtp.password_until" };
    let left = (ends - today).num_days();
    let when = match (language, left) {
        (Language::Ja, 0..) => format!("Microsoft はこれを {ends} ごろ (あと {left} 日) から既定で無効にします"),
        (Language::Ja, _) => format!("Microsoft はこれを {ends} ごろ ({} 日前) から既定で無効にしています", -left),
        (Language::En, 0..) => format!("Microsoft turns this off by default around {ends} ({left} days left)"),
        (Language::En, _) => {
            format!("Microsoft has turned this off by default since about {ends} ({} days ago)", -left)
        }
    };
    match language {
        Language::Ja => format!(
            "kigen 自身のメール送信が、Exchange Online にパスワード (基本認証の SMTP AUTH) でサインインしています。\
             {when} ({source})。mail.smtp.auth を \"xoauth2\" に切り替えてください。"
        ),
        Language::En => format!(
            "kigen itself signs in to Exchange Online with a password to send mail (basic SMTP AUTH). {when} ({source}). \
             Switch mail.smtp.auth to \"xoauth2\"."
        ),
    }
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

    #[test]
    fn the_days_are_counted_and_the_source_is_told() {
        let day = |text: &str| text.parse::<NaiveDate>().expect("a day");
        let rows = [
            (
                "2026-12-31",
                Language::En,
                "2026-11-24",
                "around 2026-12-31 (37 days left) (Microsoft, Exchange Team Blog",
            ),
            ("2026-12-31", Language::Ja, "2026-12-31", "2026-12-31 ごろ (あと 0 日) から既定で無効にします (Microsoft"),
            (
                "2027-03-01",
                Language::En,
                "2027-03-03",
                "since about 2027-03-01 (2 days ago) (mail.smtp.password_until)",
            ),
        ];
        for (ends, language, today, expected) in rows {
            let text = text(day(ends), language, day(today));
            assert!(text.contains(expected), "{text}");
        }
    }
}
