//! What servers call things, and how addresses and status codes stand in their texts.

/// Whether the text, in lower case, holds one of the words.
pub(super) fn has_any(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| text.contains(word))
}

/// Subjects of reports.
pub(super) const BOUNCE_SUBJECTS: [&str; 15] = [
    "undeliver",
    "delivery status notification",
    "returned mail",
    "failure notice",
    "mail delivery failed",
    "delivery failure",
    "delivery has failed",
    "mail system error",
    "not be delivered",
    "配信不能",
    "配信できません",
    "配信失敗",
    "配送不能",
    "送信できません",
    "エラーメール",
];

/// Subjects of answers that nobody wrote.
pub(super) const AUTO_REPLY: [&str; 12] = [
    "自動応答",
    "自動返信",
    "自動送信",
    "不在通知",
    "不在連絡",
    "不在のお知らせ",
    "out of office",
    "out-of-office",
    "automatic reply",
    "auto reply",
    "autoreply",
    "auto-reply",
];

/// The server still tries.
pub(super) const DELAY: [&str; 11] = [
    "warning message only",
    "warning: message",
    "warning: could not send",
    "(delay)",
    "delivery delayed",
    "has been delayed",
    "will be retried",
    "will continue to try",
    "still being retried",
    "not yet been delivered",
    "遅延",
];

/// It speaks of us: our address, our authentication, our account.
pub(super) const OWN_FAULT: [&str; 32] = [
    "spamhaus",
    "barracuda",
    "spamcop",
    "blocklist",
    "block list",
    "blacklist",
    "black list",
    "dnsbl",
    " rbl",
    "blocked using",
    "reputation",
    "unauthenticated",
    "dmarc",
    "dkim",
    "spf ",
    "spf:",
    "sender policy framework",
    "ptr record",
    "reverse dns",
    "required authentication level",
    "banned sending ip",
    "sender address rejected",
    "bad outbound sender",
    "submissionquota",
    "storedrv.submission",
    "traffic not accepted from this ip",
    "client host rejected",
    "unable to relay",
    "relay access denied",
    "relaying denied",
    "not permitted to relay",
    "too many recipients",
];

/// The mailbox is there and full.
pub(super) const FULL: [&str; 18] = [
    "mailbox full",
    "mailbox is full",
    "inbox is full",
    "mailfolder is full",
    "over quota",
    "overquota",
    "out of storage",
    "quota exceeded",
    "quotaexceeded",
    "exceeded storage",
    "storage allocation",
    "disk quota",
    "exceeded the quota",
    "insufficient system storage",
    "too much mail data",
    "no space left",
    "容量",
    "いっぱい",
];

/// Given up, or of the moment.
pub(super) const PASSING: [&str; 22] = [
    "greylist",
    "graylist",
    "try again",
    "try later",
    "temporarily",
    "temporary failure",
    "timed out",
    "timeout",
    "connection refused",
    "lost connection",
    "network is unreachable",
    "no route to host",
    "expired",
    "too long in the queue",
    "been in the queue too long",
    "gave up",
    "giving up",
    "server busy",
    "too busy",
    "too many connections",
    "recipient thread limit",
    "resources exceeded",
];

/// Refused by a filter or a rule.
pub(super) const FILTER: [&str; 28] = [
    "spam",
    "filter",
    "virus",
    "malware",
    "policy",
    "blocked",
    "prohibited",
    "not allowed",
    "not permitted",
    "authrequired",
    "authentication required",
    "access denied",
    "permission denied",
    "restricted",
    "message refused",
    "message rejected",
    "content rejected",
    "message content",
    "moderat",
    "administrative",
    "suspicious",
    "transport.rules",
    "too large",
    "exceeds size",
    "受信拒否",
    "拒否",
    "迷惑",
    "規制",
];

/// No such address, or no such domain.
pub(super) const DEAD: [&str; 40] = [
    "user unknown",
    "unknown user",
    "no such user",
    "no such recipient",
    "no such mailbox",
    "no such address",
    "no such account",
    "nosuchuser",
    "does not exist",
    "doesn't exist",
    "recipientnotfound",
    "recipient not found",
    "recipient unknown",
    "unknown recipient",
    "invalid recipient",
    "invalid mailbox",
    "mailbox not found",
    "user not found",
    "account not found",
    "address not found",
    "address unknown",
    "unknown address",
    "unknown local part",
    "unknown mailbox",
    "not a known user",
    "no mailbox here by that name",
    "doesn't have a yahoo",
    "doesn't have an account",
    "couldn't be found",
    "wasn't found at",
    "is not found at",
    "could not be found",
    "no longer valid",
    "host unknown",
    "domain name not found",
    "domain not found",
    "存在しません",
    "見つかりません",
    "宛先不明",
    "あて先不明",
];

/// The addresses in a text, in lower case, in their order; quotes around a local part are left out.
pub(super) fn addresses(text: &str) -> Vec<String> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    for (at, _) in text.match_indices('@') {
        let local = local_before(&bytes[..at]);
        let domain = domain_after(&bytes[at + 1..]);
        if !local.is_empty() && domain.contains(&b'.') {
            let address = [local, b"@", domain].concat();
            found.extend(String::from_utf8(address).map(|a| a.to_ascii_lowercase()));
        }
        if found.len() >= super::RECIPIENTS_MAX {
            break;
        }
    }
    found
}

/// At most 64 octets (RFC 5321 4.5.3.1.1).
fn local_before(before: &[u8]) -> &[u8] {
    let before = &before[before.len().saturating_sub(66)..];
    if let Some(quoted) = before.strip_suffix(b"\"") {
        return quoted.iter().rposition(|b| *b == b'"').map_or(&[][..], |start| &quoted[start + 1..]);
    }
    let atext = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(b);
    let start = before.iter().rposition(|b| !atext(b)).map_or(0, |n| n + 1);
    before[start..].strip_prefix(b"'").unwrap_or(&before[start..])
}

fn domain_after(after: &[u8]) -> &[u8] {
    let inside = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
    let end = after.iter().take(254).position(|b| !inside(b)).unwrap_or(after.len().min(254));
    let mut domain = &after[..end];
    while let Some(shorter) = domain.strip_suffix(b".").or_else(|| domain.strip_suffix(b"-")) {
        domain = shorter;
    }
    domain
}

/// The enhanced status codes in a text (RFC 3463), in their order; parts of IP addresses are none.
pub(super) fn enhanced_codes(text: &str) -> Vec<String> {
    let number = |b: u8| b.is_ascii_digit() || b == b'.';
    let whole = |word: &str| {
        let mut parts = word.split('.');
        let class = parts.next().is_some_and(|p| matches!(p, "2" | "4" | "5"));
        let rest: Vec<&str> = parts.collect();
        class && rest.len() == 2 && rest.iter().all(|p| !p.is_empty() && p.len() <= 3)
    };
    text.split(|c: char| !c.is_ascii() || !number(c as u8))
        .map(|word| word.trim_end_matches('.'))
        .filter(|word| whole(word))
        .take(20)
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_stand_in_every_kind_of_text() {
        let rows: &[(&str, &[&str])] = &[
            ("<Taro@Example.JP>: host", &["taro@example.jp"]),
            ("rfc822;taro@example.jp", &["taro@example.jp"]),
            ("\"foo..bar\"@docomo.ne.jp,", &["foo..bar@docomo.ne.jp"]),
            ("宛先taro@example.jp。次 b+c@x.jp.", &["taro@example.jp", "b+c@x.jp"]),
            ("@ a@ @b a@b", &[]),
            ("x@[192.0.2.1]", &[]),
        ];
        for (text, expected) in rows {
            assert_eq!(addresses(text), *expected, "{text}");
        }
    }

    #[test]
    fn codes_are_no_parts_of_ip_addresses() {
        assert_eq!(enhanced_codes("550 5.1.1 x 5.7.515. 192.5.1.1 2.3.4.5 5.1 1.5.1.1"), ["5.1.1", "5.7.515"]);
    }
}
