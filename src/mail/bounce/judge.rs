//! One recipient's words -> what they mean. The order of the questions is the safety: whatever may be something else than
//! a dead address is asked for first, because enhanced codes lie (5.1.0 for a block list, 5.0.0 around a full mailbox).

use super::words::{self, enhanced_codes, has_any};

/// What a report means for one recipient; the gravest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// No such address: mail to it is lost.
    Dead,
    /// The recipient's side refuses *us*: our address, our authentication, our account.
    OwnFault,
    /// The recipient says it is spam.
    Complaint,
    /// A filter or a rule refused it.
    Filtered,
    /// It failed, and why is not clear enough to act on.
    Unsure,
    /// Full, expired, of the moment.
    Soft,
    /// The server still tries.
    Delay,
    /// A machine answered: out of office, a read receipt.
    AutoReply,
    /// No report, or one of success.
    Unrelated,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 9] = [
        Self::Dead,
        Self::OwnFault,
        Self::Complaint,
        Self::Filtered,
        Self::Unsure,
        Self::Soft,
        Self::Delay,
        Self::AutoReply,
        Self::Unrelated,
    ];

    /// The word in logs, output and the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::OwnFault => "own_fault",
            Self::Complaint => "complaint",
            Self::Filtered => "filtered",
            Self::Unsure => "unsure",
            Self::Soft => "soft",
            Self::Delay => "delay",
            Self::AutoReply => "auto_reply",
            Self::Unrelated => "unrelated",
        }
    }
}

/// Microsoft's and Google's codes that speak of the sender.
const OWN_CODES: [&str; 13] = [
    "5.7.25", "5.7.26", "5.7.27", "5.7.23", "5.7.57", "5.7.60", "5.7.515", "5.7.705", "5.7.708", "5.7.750", "5.1.7",
    "5.1.8", "4.7.28",
];

/// A failed recipient: `said` is what the server said, `around` the human text (for the stage it was said at).
pub(super) fn judge(address: &str, status: Option<&str>, said: &str, around: &str) -> Class {
    let said = said.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
    let mut codes = enhanced_codes(&said);
    codes.extend(status.map(str::to_owned));
    let code = |wanted: &[&str]| codes.iter().any(|c| wanted.contains(&c.as_str()));
    if has_any(&said, &words::OWN_FAULT) || code(&OWN_CODES) || codes.iter().any(|c| of_our_tenant(c)) {
        return Class::OwnFault;
    }
    if has_any(&said, &words::FULL) || code(&["5.2.2", "4.2.2", "5.3.1", "4.3.1"]) {
        return Class::Soft;
    }
    let final_reply = said.split(|c: char| !c.is_ascii_digit()).any(|w| matches!(w, "550" | "551" | "553" | "554"));
    if codes.iter().any(|c| c.starts_with("4.")) {
        // A temporary code around a final reply: one of the two is wrong.
        return if final_reply { Class::Unsure } else { Class::Soft };
    }
    if has_any(&said, &words::PASSING) || code(&["5.4.7", "5.4.316", "5.4.1.2"]) {
        return Class::Soft;
    }
    // Exchange Online's edge says so of an address that its directory does not know.
    let edge = said.contains("recipient address rejected: access denied") && code(&["5.4.1"]);
    if edge {
        return Class::Dead;
    }
    // au names the address only where there is none: without it the user's own filter refused.
    let nameless = said.contains("550 : user unknown") || said.contains("550 5.1.1 : user unknown");
    if nameless || has_any(&said, &words::FILTER) || codes.iter().any(|c| c.starts_with("5.7.")) {
        return Class::Filtered;
    }
    let no_such = has_any(&said, &words::DEAD);
    let coded = code(&["5.1.1", "5.1.10", "5.1.2", "5.1.6", "5.4.310"]);
    if !no_such && !coded {
        return Class::Unsure;
    }
    if of_docomo(address) {
        return docomo(&around.to_lowercase());
    }
    Class::Dead
}

/// 5.7.230-236: our tenant's limits; 5.7.501-511 and 606-649: our account or IP address is banned; 4.7.650 likewise.
fn of_our_tenant(code: &str) -> bool {
    match code.strip_prefix("5.7.").or_else(|| code.strip_prefix("4.7.")).and_then(|n| n.parse::<u16>().ok()) {
        Some(n) => matches!(n, 230..=236 | 501..=511 | 606..=650),
        None => false,
    }
}

fn of_docomo(address: &str) -> bool {
    address.ends_with("@docomo.ne.jp") || address.ends_with(".docomo.ne.jp")
}

/// docomo says "Unknown user" after RCPT for no such address, and after DATA for what the user's filter refused.
fn docomo(around: &str) -> Class {
    if has_any(around, &["end of data", "after end of data", "after data", "data command"]) {
        return Class::Filtered;
    }
    if has_any(around, &["rcpt to", "rcpt command", "after rcpt"]) { Class::Dead } else { Class::Unsure }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Class::{Dead, Filtered, OwnFault, Soft, Unsure};

    #[test]
    fn the_words_decide_and_doubt_spares_the_address() {
        let rows: &[(&str, &str, Class)] = &[
            ("550 5.1.1 <taro@example.jp>: Recipient address rejected: User unknown", "5.1.1", Dead),
            ("550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup", "5.1.10", Dead),
            ("550 5.4.1 Recipient address rejected: Access denied. [host]", "5.4.1", Dead),
            (
                "Host or domain name not found. Name service error for name=gone.example type=AAAA: Host not found",
                "5.4.4",
                Dead,
            ),
            ("550-5.1.1 The email account that you tried to reach does not exist. NoSuchUser", "5.1.1", Dead),
            ("", "5.1.1", Dead),
            (
                "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org",
                "5.1.0",
                OwnFault,
            ),
            ("550-5.7.26 Unauthenticated email is not accepted due to domain's DMARC policy", "5.7.26", OwnFault),
            (
                "550 5.7.515 Access denied, sending domain EXAMPLE.JP does not meet the required authentication level",
                "5.7.515",
                OwnFault,
            ),
            ("550 5.7.708 Service unavailable. Access denied, traffic not accepted from this IP", "5.7.708", OwnFault),
            ("552-5.2.2 The email account that you tried to reach is over quota", "5.2.2", Soft),
            ("Unknown address error 550-'5.2.2 Mailbox Full'", "5.0.0", Soft),
            ("552 too much mail data", "5.0.0", Soft),
            ("delivery temporarily suspended: connect to mx[192.0.2.9]:25: Connection timed out", "4.4.1", Soft),
            ("", "4.4.7", Soft),
            ("554 no", "4.0.0", Unsure),
            ("550 5.7.1 RESOLVER.RST.AuthRequired; authentication required", "5.7.1", Filtered),
            ("550 5.7.1 Message rejected as spam", "5.7.1", Filtered),
            ("550 : User unknown", "5.0.0", Filtered),
            ("550 5.2.1 The email account that you tried to reach is disabled", "5.2.1", Unsure),
            ("550 Requested action not taken: mailbox unavailable", "5.5.0", Unsure),
            ("", "5.0.0", Unsure),
            ("user unknown, or blocked by policy", "5.1.1", Filtered),
        ];
        for (said, status, expected) in rows {
            assert_eq!(judge("taro@example.jp", Some(status), said, said), *expected, "{status} {said}");
        }
    }

    #[test]
    fn docomo_means_by_the_stage() {
        let said = "550 Unknown user taro@docomo.ne.jp";
        let rows =
            [("(in reply to RCPT TO command)", Dead), ("(in reply to end of DATA command)", Filtered), ("", Unsure)];
        for (around, expected) in rows {
            assert_eq!(judge("taro@docomo.ne.jp", Some("5.0.0"), said, around), expected, "{around}");
        }
        let rows = [("550 : User unknown", Filtered), ("550 <taro@au.com>: User unknown", Dead)];
        for (said, expected) in rows {
            assert_eq!(judge("taro@au.com", Some("5.0.0"), said, said), expected, "{said}");
        }
    }
}
