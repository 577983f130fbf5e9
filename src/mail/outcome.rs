//! What a server said -> accepted, deferred, rejected, unknown, blocked. A table over reply and enhanced status codes.
//!
//! Pure. Three questions decide: does the refusal speak of *us* (account, quota, set-up: every further mail would meet it, so
//! the queue waits and an operator looks), of *this mail or recipient*, or of *this moment*? And can the server have the whole
//! message? Only then may an answer that makes no sense count as unknown; and only 250 to the final dot is success.
//!
//! Sources: RFC 5321 4.2 and 4.5.3.1.10, RFC 3463, RFC 4954 section 6, Microsoft's page on SMTP submission to Exchange Online.

use crate::domain::delivery::Outcome;

/// What a reply answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The connection itself: the greeting.
    Connect,
    /// EHLO.
    Ehlo,
    /// STARTTLS.
    Starttls,
    /// AUTH and its continuations.
    Auth,
    /// MAIL FROM.
    Mail,
    /// One RCPT TO.
    Rcpt,
    /// DATA, and the message while its end is not sent.
    Data,
    /// The end of the message: the server may have it whole.
    Dot,
}

impl Stage {
    /// Every stage, in the order of a session.
    pub const ALL: [Self; 8] =
        [Self::Connect, Self::Ehlo, Self::Starttls, Self::Auth, Self::Mail, Self::Rcpt, Self::Data, Self::Dot];

    /// What it is called in a report.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "the greeting",
            Self::Ehlo => "EHLO",
            Self::Starttls => "STARTTLS",
            Self::Auth => "AUTH",
            Self::Mail => "MAIL FROM",
            Self::Rcpt => "RCPT TO",
            Self::Data => "DATA",
            Self::Dot => "the end of the message",
        }
    }
}

/// An enhanced status code, such as 5.7.57 (RFC 3463).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Enhanced(pub u8, pub u16, pub u16);

impl Enhanced {
    /// The code a reply's text begins with, if there is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let code = text.split_whitespace().next()?;
        let mut parts = code.split('.');
        let mut next = |digits: usize| {
            let part = parts.next()?;
            let fits = (1..=digits).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
            if fits { part.parse::<u16>().ok() } else { None }
        };
        let (class, subject, detail) = (next(1)?, next(3)?, next(3)?);
        let class = u8::try_from(class).ok().filter(|c| matches!(c, 2 | 4 | 5))?;
        if parts.next().is_some() { None } else { Some(Self(class, subject, detail)) }
    }
}

/// One row: what must match, and what it means. An empty list or `None` matches everything.
struct Row {
    stages: &'static [Stage],
    codes: &'static [u16],
    enhanced: Option<Enhanced>,
    /// Lower case.
    text: Option<&'static str>,
    outcome: Outcome,
}

const ROW: Row = Row { stages: &[], codes: &[], enhanced: None, text: None, outcome: Outcome::Blocked };

/// Read from the top; the first row that matches decides. Only replies of 500 and more are looked up.
const TABLE: &[Row] = &[
    // Our account at Exchange Online: basic authentication off, not signed in, not allowed to send as this sender, blocked
    // for spam; the tenant blocked (705, 708) or its domains unknown (750).
    Row { enhanced: Some(Enhanced(5, 7, 139)), ..ROW },
    Row { enhanced: Some(Enhanced(5, 7, 30)), ..ROW },
    Row { enhanced: Some(Enhanced(5, 7, 57)), ..ROW },
    Row { enhanced: Some(Enhanced(5, 7, 60)), ..ROW },
    Row { enhanced: Some(Enhanced(5, 1, 8)), ..ROW },
    Row { enhanced: Some(Enhanced(5, 7, 705)), ..ROW },
    Row { enhanced: Some(Enhanced(5, 7, 708)), ..ROW },
    Row { enhanced: Some(Enhanced(5, 7, 750)), ..ROW },
    // Its quotas: 5xx, but only until tomorrow. The recipients are not at fault.
    Row { enhanced: Some(Enhanced(5, 7, 232)), ..ROW },
    Row { enhanced: Some(Enhanced(5, 7, 233)), ..ROW },
    Row { enhanced: Some(Enhanced(5, 7, 236)), ..ROW },
    Row { text: Some("submissionquotaexceeded"), ..ROW },
    // Our own mailbox is full (Sent Items). Without these words 5.2.2 is the recipient's mailbox.
    Row { enhanced: Some(Enhanced(5, 2, 2)), text: Some("storedrv.submission"), ..ROW },
    // Authentication is demanded (RFC 4954 section 6), at whatever command.
    Row { codes: &[530, 534, 535, 538], ..ROW },
    // The relay does not relay for us: Postfix, Exim and Sendmail, Exchange (5.7.54, 5.7.64).
    Row { stages: &[Stage::Rcpt, Stage::Data], text: Some("relay access denied"), ..ROW },
    Row { stages: &[Stage::Rcpt, Stage::Data], text: Some("relay not permitted"), ..ROW },
    Row { stages: &[Stage::Rcpt, Stage::Data], text: Some("relaying denied"), ..ROW },
    Row { stages: &[Stage::Rcpt, Stage::Data], text: Some("unable to relay"), ..ROW },
    // The declared size, not the sender, is refused: this mail alone is at fault.
    Row { stages: &[Stage::Mail], codes: &[552], outcome: Outcome::Rejected, ..ROW },
    Row { stages: &[Stage::Mail], enhanced: Some(Enhanced(5, 3, 4)), outcome: Outcome::Rejected, ..ROW },
    // "552 too many recipients" means 452 (RFC 5321 4.5.3.1.10); docomo says it so.
    Row { stages: &[Stage::Rcpt], codes: &[552], text: Some("too many recipients"), outcome: Outcome::Deferred, ..ROW },
    Row { stages: &[Stage::Rcpt], enhanced: Some(Enhanced(5, 5, 3)), outcome: Outcome::Deferred, ..ROW },
    // Out of step: a state of this session (docomo: 503, 504 for session limits), which a fresh one mends.
    Row {
        stages: &[Stage::Mail, Stage::Rcpt, Stage::Data],
        codes: &[502, 503, 504],
        outcome: Outcome::Deferred,
        ..ROW
    },
    // Everything before the first recipient is the same for every mail: a 5xx there speaks of us. A greeting of 554 too: it
    // lasts until somebody acts (RFC 5321 3.1), and failing the whole outbox over it would be the costlier error.
    Row { stages: &[Stage::Connect, Stage::Ehlo, Stage::Starttls, Stage::Auth, Stage::Mail], ..ROW },
    Row { stages: &[Stage::Rcpt, Stage::Data, Stage::Dot], outcome: Outcome::Rejected, ..ROW },
];

/// What a reply means for the mail (at [`Stage::Rcpt`]: for that recipient).
///
/// Called for replies that end something: every one to the final dot, and the refusals before it. A reply before the dot
/// that refuses nothing and was not expected is a protocol fault: deferred, as the server cannot have the message.
#[must_use]
pub fn classify(stage: Stage, code: u16, enhanced: Option<Enhanced>, text: &str) -> Outcome {
    match code {
        250 if stage == Stage::Dot => Outcome::Accepted,
        400..=499 => Outcome::Deferred,
        500..=599 => refusal(stage, code, enhanced, text),
        _ => unclear(stage),
    }
}

/// What a lost line, a time-out or an unreadable reply means: nothing came of it, or after the dot nobody knows.
#[must_use]
pub fn unclear(stage: Stage) -> Outcome {
    match stage {
        Stage::Dot => Outcome::Unknown,
        Stage::Connect | Stage::Ehlo | Stage::Starttls | Stage::Auth | Stage::Mail | Stage::Rcpt | Stage::Data => {
            Outcome::Deferred
        }
    }
}

fn refusal(stage: Stage, code: u16, enhanced: Option<Enhanced>, text: &str) -> Outcome {
    let text = text.to_ascii_lowercase();
    let matches = |row: &&Row| {
        (row.stages.is_empty() || row.stages.contains(&stage))
            && (row.codes.is_empty() || row.codes.contains(&code))
            && row.enhanced.is_none_or(|e| enhanced == Some(e))
            && row.text.is_none_or(|t| text.contains(t))
    };
    TABLE.iter().find(matches).map_or(Outcome::Rejected, |row| row.outcome.clone())
}

/// The longest reply that is kept, in characters.
const KEPT: usize = 300;

/// A server's words fit for logs and the store: one line of at most 300 characters, control characters removed, everything
/// that looks like a mail address masked.
#[must_use]
pub fn one_line(text: &str) -> String {
    // Most replies need nothing of all this.
    let printable = |b: u8| (b' '..=b'~').contains(&b) && b != b'@';
    if text.len() <= KEPT && text.bytes().all(printable) && !text.contains("  ") && text.trim() == text {
        return text.to_owned();
    }
    let mut clean = String::new();
    // Bounded before the masking: a reply is at most some 100 KB, of which the first part is enough.
    for c in text.chars().take(KEPT * 4) {
        match c {
            c if c.is_whitespace() => {
                if !clean.ends_with(' ') {
                    clean.push(' ');
                }
            }
            c if c.is_control() || c == char::REPLACEMENT_CHARACTER => {}
            c => clean.push(c),
        }
    }
    let masked = mask_addresses(clean.trim());
    if masked.chars().count() <= KEPT {
        return masked;
    }
    masked.chars().take(KEPT - 1).chain(['…']).collect()
}

/// `taro@example.jp` -> `t***@example.jp`, also with a quoted local part.
fn mask_addresses(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['@', '＠']) {
        let (before, after) = rest.split_at(at);
        let start = local_start(before);
        let local = before[start..].trim_start_matches('"');
        out.push_str(&before[..start]);
        match local.chars().next() {
            Some(first) => {
                out.push(first);
                out.push_str("***");
            }
            None => out.push_str(&before[start..]),
        }
        let width = after.chars().next().map_or(0, char::len_utf8);
        out.push_str(&after[..width]);
        rest = &after[width..];
    }
    out.push_str(rest);
    out
}

/// Where the local part before an `@` begins.
fn local_start(before: &str) -> usize {
    if let Some(quoted) = before.strip_suffix('"') {
        return quoted.rfind('"').unwrap_or(quoted.len());
    }
    let outside = |c: char| c.is_whitespace() || "<>()[],;:\"'".contains(c);
    before.rfind(outside).map_or(0, |i| i + before[i..].chars().next().map_or(1, char::len_utf8))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Outcome::{Accepted, Blocked, Deferred, Rejected, Unknown};
    use Stage::{Auth, Connect, Data, Dot, Ehlo, Mail, Rcpt, Starttls};

    fn check(stage: Stage, reply: &str, expected: &Outcome, why: &str) {
        let (code, text) = reply.split_at(3);
        let text = text.trim_start();
        let got = classify(stage, code.parse().unwrap(), Enhanced::parse(text), text);
        assert_eq!(got, *expected, "{stage:?} {reply}: {why}");
    }

    #[test]
    fn every_reply_has_its_meaning() {
        let rows: &[(Stage, &str, Outcome, &str)] = &[
            (Dot, "250 2.0.0 Ok: queued as 4F", Accepted, "the only success"),
            (Dot, "251 ok", Unknown, "a success that the dot cannot have"),
            (Dot, "354 go on", Unknown, "an answer to something else; the server may have it all"),
            (Dot, "220 hello", Unknown, "nonsense after the dot"),
            (Rcpt, "354 go on", Deferred, "nonsense before the dot: the server cannot have it"),
            (Connect, "421 4.3.2 too busy", Deferred, "this moment"),
            (Connect, "554 5.7.1 no service for you", Blocked, "our host, whatever the mail"),
            (Ehlo, "550 no", Blocked, "before the first recipient everything speaks of us"),
            (Starttls, "454 4.7.0 TLS not available", Deferred, "temporary by RFC 3207"),
            (Starttls, "502 not implemented", Blocked, "TLS is required and is not there"),
            (Auth, "535 5.7.8 bad credentials", Blocked, "our password"),
            (Auth, "535 5.7.3 Authentication unsuccessful", Blocked, "our token"),
            (Auth, "535 5.7.139 Authentication unsuccessful, basic authentication is disabled.", Blocked, "our set-up"),
            (Auth, "454 4.7.0 temporary authentication failure", Deferred, "RFC 4954: temporary"),
            (Auth, "421 4.4.2 idle", Deferred, "this moment"),
            (Mail, "530 5.7.57 Client not authenticated to send mail", Blocked, "not signed in"),
            (Mail, "550 5.7.30 Basic authentication is not supported for Client Submission.", Blocked, "our set-up"),
            (Mail, "550 sender refused", Blocked, "every mail has this sender"),
            (Mail, "552 5.3.4 message size exceeds limit", Rejected, "this mail alone"),
            (Mail, "432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded", Deferred, "fewer connections"),
            (Mail, "452 4.3.1 insufficient storage", Deferred, "this moment"),
            (Mail, "503 5.5.1 nested MAIL", Deferred, "a fresh session mends it"),
            (Rcpt, "550 5.1.1 user unknown", Rejected, "this recipient"),
            (Rcpt, "550 5.4.1 Recipient address rejected: Access denied", Rejected, "unknown at Microsoft's edge"),
            (Rcpt, "550 5.7.1 denied by policy", Rejected, "this recipient, as far as one can tell"),
            (Rcpt, "450 4.2.0 greylisted", Deferred, "later"),
            (Rcpt, "451 4.3.0 lookup failed", Deferred, "later"),
            (Rcpt, "452 4.5.3 too many recipients", Deferred, "later"),
            (Rcpt, "552 too many recipients", Deferred, "RFC 5321 4.5.3.1.10"),
            (Rcpt, "552 5.2.2 mailbox full", Rejected, "the recipient's mailbox, by a 5xx"),
            (Rcpt, "554 5.7.1 <t***@example.jp>: Relay access denied", Blocked, "the relay does not relay for us"),
            (
                Rcpt,
                "550 5.7.54 SMTP; Unable to relay recipient in non-accepted domain",
                Blocked,
                "the same by Exchange",
            ),
            (Rcpt, "550 5.7.232 tenant limit", Blocked, "until tomorrow"),
            (Data, "554 no valid recipients", Rejected, "refused before the message"),
            (Data, "451 4.3.0 later", Deferred, "later"),
            (
                Data,
                "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException",
                Blocked,
                "until tomorrow",
            ),
            (
                Dot,
                "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException",
                Blocked,
                "until tomorrow",
            ),
            (
                Dot,
                "554 5.2.2 mailbox full; STOREDRV.Submission.Exception:QuotaExceededException.M",
                Blocked,
                "our Sent Items",
            ),
            (Dot, "554 5.2.2 mailbox full", Rejected, "the recipient's mailbox"),
            (Dot, "550 5.7.60 SMTP; Client does not have permissions to send as this sender", Blocked, "send-as"),
            (Dot, "550 5.1.8 Access denied, bad outbound sender", Blocked, "blocked for spam"),
            (Dot, "550 5.7.233 tenant limit", Blocked, "until tomorrow"),
            (Dot, "550 5.7.236 onmicrosoft.com limit", Blocked, "until tomorrow"),
            (Dot, "550 5.7.708 Access denied, traffic not accepted from this IP", Blocked, "our tenant"),
            (Dot, "552 5.3.4 too big", Rejected, "this mail"),
            (Dot, "554 5.6.0 content refused", Rejected, "this mail"),
            (Dot, "451 4.7.1 try again", Deferred, "the server says it has not taken it"),
            (Dot, "421 4.3.0 shutting down", Deferred, "the server says it has not taken it"),
        ];
        for (stage, reply, expected, why) in rows {
            check(*stage, reply, expected, why);
        }
    }

    #[test]
    fn nothing_but_250_to_the_dot_is_accepted_and_nothing_before_it_is_unknown() {
        for stage in Stage::ALL {
            for code in 0..=999 {
                let got = classify(stage, code, None, "");
                assert_eq!(got == Accepted, stage == Dot && code == 250, "{stage:?} {code}");
                assert!(got != Unknown || stage == Dot, "{stage:?} {code}");
            }
        }
    }

    #[test]
    fn an_enhanced_code_is_read_only_where_it_is_one() {
        let rows = [
            ("5.7.57 text", Some(Enhanced(5, 7, 57))),
            ("5.7.139", Some(Enhanced(5, 7, 139))),
            ("2.0.0 Ok", Some(Enhanced(2, 0, 0))),
            ("3.1.1 no such class", None),
            ("5.7", None),
            ("5.7.1.2", None),
            ("5.7.1000", None),
            ("192.0.2.1 is listed", None),
            ("", None),
        ];
        for (text, expected) in rows {
            assert_eq!(Enhanced::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn a_reply_is_kept_as_one_masked_line() {
        let rows = [
            ("550 5.1.1 <taro@example.jp>: user unknown", "550 5.1.1 <t***@example.jp>: user unknown"),
            ("unknown: \"foo..bar\"@docomo.ne.jp", "unknown: f***@docomo.ne.jp"),
            ("b+12-ab=cd@x.jp,c@y.jp", "b***@x.jp,c***@y.jp"),
            ("一行目\r\n二行目\u{0} \u{1b}[31m", "一行目 二行目 [31m"),
            ("宛先:太郎@例え.jp です", "宛先:太***@例え.jp です"),
            ("@", "@"),
            ("  250  2.0.0\tOk: queued ", "250 2.0.0 Ok: queued"),
            ("250 2.0.0 Ok: queued as 4F", "250 2.0.0 Ok: queued as 4F"),
            ("", ""),
        ];
        for (text, expected) in rows {
            assert_eq!(one_line(text), expected, "{text}");
        }
        assert_eq!(one_line(&"長".repeat(1000)).chars().count(), 300);
    }
}
