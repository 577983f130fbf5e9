//! Messages read back: by mail-parser, and by a strict reader of our own that forgives nothing.

#![allow(clippy::unwrap_used, reason = "helpers of tests panic like tests do")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, FixedOffset};
use kigen::config::NamedAddress;
use kigen::domain::customer::Address;
use kigen::mail::message::{BuildError, Parts, build, message_id, well_formed};
use mail_parser::{MessageParser, MimeHeaders};
use proptest::prelude::*;

fn address(text: &str) -> Address {
    Address::new(text).unwrap()
}

fn parts() -> Parts {
    Parts {
        from: NamedAddress { name: Some("ExLook サポート".to_owned()), address: address("support@example.jp") },
        reply_to: None,
        to: vec![address("taro@example.jp")],
        cc: Vec::new(),
        subject: "【重要】株式会社サンプル商事様 基本認証の廃止について".to_owned(),
        text: "こんにちは。\n.\nFrom here\n".to_owned(),
        html: Some("<p>こんにちは。</p>\n".to_owned()),
        attachments: Vec::new(),
        message_id: message_id("exchange/C0001/1/first/", "example.jp"),
        date: DateTime::parse_from_rfc3339("2022-09-01T10:00:03+09:00").unwrap(),
        thread: Vec::new(),
        list_id: None,
    }
}

/// The header as (name, unfolded value), read by the letter of RFC 5322 and RFC 2047; panics at any breach.
fn strict_header(message: &[u8]) -> Vec<(String, String)> {
    well_formed(message).unwrap();
    let text = std::str::from_utf8(message).unwrap();
    let (header, _) = text.split_once("\r\n\r\n").expect("an empty line after the header");
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in header.split("\r\n") {
        assert!(line.len() <= 78 || !line.contains(' ') || line.contains('@'), "a long line: {line}");
        assert!(
            !line.contains("=?") || line.len() <= 76,
            "a line with an encoded word of {} octets: {line}",
            line.len()
        );
        assert!(!line.trim().is_empty(), "a line of white space only");
        assert!(line.bytes().all(|b| (b' '..=b'~').contains(&b)), "{line}");
        if line.starts_with(' ') {
            fields.last_mut().unwrap().1.push_str(line);
        } else {
            let (name, value) = line.split_once(':').expect("a field name");
            assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{name}");
            fields.push((name.to_owned(), value.to_owned()));
        }
    }
    for name in ["Date", "From", "To", "Subject", "Message-ID", "MIME-Version", "Auto-Submitted", "Content-Type"] {
        assert_eq!(fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).count(), 1, "{name} once");
    }
    fields.into_iter().map(|(n, v)| (n, v.trim_start().to_owned())).collect()
}

/// Decodes a value's encoded words; each has to decode alone, and white space between two vanishes.
fn strict_decode(value: &str) -> String {
    let mut out = String::new();
    let mut last_was_word = false;
    for token in value.split(' ').filter(|t| !t.is_empty()) {
        let word = token.strip_prefix("=?UTF-8?B?").and_then(|t| t.strip_suffix("?="));
        if let Some(encoded) = word {
            assert!(token.len() <= 75, "{token}");
            let bytes = BASE64.decode(encoded).expect("base64");
            assert!(!bytes.is_empty());
            if !last_was_word && !out.is_empty() {
                out.push(' ');
            }
            out.push_str(std::str::from_utf8(&bytes).expect("whole characters"));
        } else {
            assert!(!token.contains("=?") && !token.contains("?="), "an encoded word that touches something: {token}");
            if !out.is_empty() {
                out.push(' ');
            }
            out.push_str(token);
        }
        last_was_word = word.is_some();
    }
    out
}

fn field<'a>(fields: &'a [(String, String)], name: &str) -> &'a str {
    fields.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
}

fn check_subject(subject: &str) {
    let bytes = build(&Parts { subject: subject.to_owned(), ..parts() }).unwrap();
    let fields = strict_header(&bytes);
    assert_eq!(strict_decode(field(&fields, "Subject")), subject);
    let parsed = MessageParser::default().parse(&bytes).unwrap();
    assert_eq!(parsed.subject().unwrap_or_default(), subject);
}

fn check_name(name: &str) {
    let from = NamedAddress { name: Some(name.to_owned()), address: address("support@example.jp") };
    let bytes = build(&Parts { from: from.clone(), reply_to: Some(from), ..parts() }).unwrap();
    let fields = strict_header(&bytes);
    let parsed = MessageParser::default().parse(&bytes).unwrap();
    for (field_name, got) in [("From", parsed.from()), ("Reply-To", parsed.reply_to())] {
        let value = field(&fields, field_name);
        let (display, rest) = value.rsplit_once(" <").unwrap();
        assert_eq!(rest, "support@example.jp>");
        let display = match display.strip_prefix('"').and_then(|d| d.strip_suffix('"')) {
            Some(quoted) => {
                assert!(!quoted.contains("=?"), "an encoded word inside quotes");
                quoted.replace("\\\"", "\"").replace("\\\\", "\\")
            }
            None => strict_decode(display),
        };
        assert_eq!(display, name);
        let one = got.and_then(|a| a.first()).unwrap();
        assert_eq!((one.name(), one.address()), (Some(name), Some("support@example.jp")));
    }
}

#[test]
fn a_subject_comes_back_as_it_was() {
    check_subject("【重要】株式会社サンプル商事様 基本認証の廃止について");
    check_subject(&"あ".repeat(120));
    check_subject("期限まで あと 7 日です ".repeat(10).trim_end());
    check_subject("ﾊﾝｶｸｶﾅ ①②㈱ 髙﨑 〜～ － −");
    check_subject("👨‍👩‍👧‍👦🇯🇵 emoji of several characters 𠮷野家");
    check_subject(&"👩🏽‍💻".repeat(40));
    check_subject("Plain words that are long enough to be folded at least once, on the way to the end of it");
    check_subject("a  double space");
    check_subject(" a space before and after ");
    check_subject("looks like =?UTF-8?B?44GC?= but is not");
    check_subject(&"x".repeat(300));
    check_subject("e\u{301}\u{200d}\u{fe0f} combining");
}

#[test]
fn a_display_name_comes_back_as_it_was() {
    check_name("ExLook サポート");
    check_name("ExLook Support");
    check_name("Support, Example (Japan) <x@y>");
    check_name("quote \" and back\\slash");
    check_name("株式会社エックスルック・カスタマーサポートセンター 東日本第一営業所 システム運用グループ 窓口担当");
    check_name(&"長い名前".repeat(40));
    check_name("Long Name ".repeat(20).trim_end());
    check_name("=?UTF-8?B?44GC?=");
    check_name("ｻﾎﾟｰﾄ 🆘 Desk");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_subject_and_any_name_keep_the_rules(text in "[^\\p{Cc}\u{2028}\u{2029}]{0,200}") {
        let named = NamedAddress { name: Some(text.clone()), address: address("a@example.jp") };
        let bytes = build(&Parts { subject: text.clone(), from: named, ..parts() }).unwrap();
        let fields = strict_header(&bytes);
        prop_assert_eq!(strict_decode(field(&fields, "Subject")), text);
    }
}

#[test]
fn the_fields_are_as_the_rules_want_them() {
    let parts = Parts {
        cc: vec![address("cc@example.jp")],
        thread: vec!["<a@example.jp>".to_owned(), "<b@example.jp>".to_owned()],
        list_id: Some("notices.example.jp".to_owned()),
        reply_to: Some(NamedAddress { name: None, address: address("reply@example.jp") }),
        ..parts()
    };
    let fields = strict_header(&build(&parts).unwrap());
    let rows = [
        ("Date", "Thu, 01 Sep 2022 10:00:03 +0900"),
        ("Reply-To", "reply@example.jp"),
        ("To", "taro@example.jp"),
        ("Cc", "cc@example.jp"),
        ("Message-ID", parts.message_id.as_str()),
        ("In-Reply-To", "<b@example.jp>"),
        ("References", "<a@example.jp> <b@example.jp>"),
        ("List-Id", "<notices.example.jp>"),
        ("Auto-Submitted", "auto-generated"),
        ("X-Auto-Response-Suppress", "OOF, AutoReply, RN, NRN"),
        ("MIME-Version", "1.0"),
    ];
    for (name, expected) in rows {
        assert_eq!(field(&fields, name), expected, "{name}");
    }
}

#[test]
fn the_parts_are_text_then_html_in_base64() {
    let bytes = build(&parts()).unwrap();
    let parsed = MessageParser::default().parse(&bytes).unwrap();
    assert_eq!(parsed.content_type().unwrap().subtype(), Some("alternative"));
    let kinds: Vec<_> = parsed.parts.iter().filter_map(|p| p.content_type()?.subtype()).collect();
    assert_eq!(kinds, ["alternative", "plain", "html"]);
    for part in &parsed.parts[1..] {
        assert_eq!(part.content_transfer_encoding(), Some("base64"));
        assert_eq!(part.content_type().unwrap().attribute("charset"), Some("utf-8"));
    }
    assert_eq!(parsed.body_text(0).unwrap().replace("\r\n", "\n"), parts().text);
    assert_eq!(parsed.body_html(0).unwrap().replace("\r\n", "\n"), parts().html.unwrap());
    // CRLF before the encoding, whatever came in.
    let mixed = Parts { text: "a\r\nb\nc\rd".to_owned(), html: None, ..parts() };
    let bytes = build(&mixed).unwrap();
    let parsed = MessageParser::default().parse(&bytes).unwrap();
    assert_eq!(parsed.content_type().unwrap().subtype(), Some("plain"));
    assert_eq!(parsed.body_text(0).unwrap(), "a\r\nb\r\nc\r\nd");
    // An empty text is still a message.
    let fields = strict_header(&build(&Parts { text: String::new(), html: None, ..parts() }).unwrap());
    assert_eq!(field(&fields, "Content-Transfer-Encoding"), "base64");
}

#[test]
fn attachments_keep_their_names_and_bytes() {
    let files = vec![
        ("sites.csv".to_owned(), "text/csv; charset=utf-8".to_owned(), b"a,b\n1,2\n".to_vec()),
        (
            "対象サイト一覧（本社・支社・営業所・サービスセンター）2022年9月.csv".to_owned(),
            "text/csv".to_owned(),
            vec![0; 3000],
        ),
        ("quo\"te;.bin".to_owned(), "application/octet-stream".to_owned(), (0..=255).collect()),
    ];
    for html in [None, Some("<p>x</p>".to_owned())] {
        let bytes = build(&Parts { attachments: files.clone(), html, ..parts() }).unwrap();
        strict_header(&bytes);
        assert!(bytes.split(|b| *b == b'\n').all(|line| line.len() <= 79), "no line over 78");
        let parsed = MessageParser::default().parse(&bytes).unwrap();
        assert_eq!(parsed.content_type().unwrap().subtype(), Some("mixed"));
        assert_eq!(parsed.body_text(0).unwrap().replace("\r\n", "\n"), parts().text);
        let got: Vec<(String, Vec<u8>)> = parsed
            .attachments()
            .map(|a| (a.attachment_name().unwrap_or_default().to_owned(), a.contents().to_vec()))
            .collect();
        let expected: Vec<(String, Vec<u8>)> = files.iter().map(|(n, _, b)| (n.clone(), b.clone())).collect();
        assert_eq!(got, expected);
    }
}

#[test]
fn a_text_that_looks_like_a_boundary_is_no_boundary() {
    let plain = String::from_utf8(build(&parts()).unwrap()).unwrap();
    let boundary = plain.split("boundary=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let text = format!("--{boundary}\n\n--{boundary}--\nstill here\n");
    let bytes = build(&Parts { text: text.clone(), ..parts() }).unwrap();
    let parsed = MessageParser::default().parse(&bytes).unwrap();
    assert_eq!(parsed.body_text(0).unwrap().replace("\r\n", "\n"), text);
    assert_eq!(parsed.parts.len(), 3);
}

#[test]
fn the_same_parts_give_the_same_bytes() {
    assert_eq!(build(&parts()).unwrap(), build(&parts()).unwrap());
    let other = Parts { message_id: message_id("other", "example.jp"), ..parts() };
    assert_ne!(build(&parts()).unwrap(), build(&other).unwrap());
}

#[test]
fn a_message_id_depends_on_its_key_alone() {
    let id = message_id("campaign/C0001/1/reminder/7d", "example.jp");
    assert_eq!(id, message_id("campaign/C0001/1/reminder/7d", "example.jp"));
    assert_ne!(id, message_id("campaign/C0001/1/reminder/3d", "example.jp"));
    assert_eq!(id.len(), "<@example.jp>".len() + 32);
    // The start of SHA-256("abc"), as FIPS 180-2 prints it.
    assert_eq!(message_id("abc", "x.jp"), "<ba7816bf8f01cfea414140de5dae2223@x.jp>");
}

#[test]
fn old_carrier_addresses_are_quoted_in_the_header() {
    let to = vec![address("foo..bar@docomo.ne.jp"), address("foo.@ezweb.ne.jp"), address("plain@example.jp")];
    let bytes = build(&Parts { to, ..parts() }).unwrap();
    let fields = strict_header(&bytes);
    assert_eq!(field(&fields, "To"), "\"foo..bar\"@docomo.ne.jp, \"foo.\"@ezweb.ne.jp, plain@example.jp");
    let parsed = MessageParser::default().parse(&bytes).unwrap();
    let got: Vec<_> = parsed.to().unwrap().iter().filter_map(|a| a.address()).collect();
    assert_eq!(got.len(), 3, "{got:?}");
}

#[test]
fn many_recipients_and_a_long_thread_are_folded() {
    let to = (0..50).map(|i| address(&format!("recipient-number-{i}@branch-office.example.co.jp"))).collect();
    let thread: Vec<String> = (0..60).map(|i| message_id(&i.to_string(), "notices.example.co.jp")).collect();
    let bytes = build(&Parts { to, thread: thread.clone(), ..parts() }).unwrap();
    let fields = strict_header(&bytes);
    let references: Vec<&str> = field(&fields, "References").split(' ').filter(|t| !t.is_empty()).collect();
    assert_eq!(references.len(), 21, "the oldest and the newest twenty");
    assert_eq!((references[0], *references.last().unwrap()), (thread[0].as_str(), thread[59].as_str()));
    let header = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    assert!(bytes[..header].split(|b| *b == b'\n').all(|line| line.len() <= 77), "no header line over 76");
    assert_eq!(MessageParser::default().parse(&bytes).unwrap().to().unwrap().iter().count(), 50);
}

#[test]
fn a_control_character_never_gets_into_the_header() {
    let named = |name: &str| NamedAddress { name: Some(name.to_owned()), address: address("a@example.jp") };
    let bad: Vec<(&str, Parts)> = vec![
        ("Subject", Parts { subject: "a\r\nBcc: x@y".to_owned(), ..parts() }),
        ("Subject", Parts { subject: "日本\n語".to_owned(), ..parts() }),
        ("Subject", Parts { subject: "nul\0".to_owned(), ..parts() }),
        ("Subject", Parts { subject: "c1\u{85}".to_owned(), ..parts() }),
        ("Subject", Parts { subject: "ls\u{2028}".to_owned(), ..parts() }),
        ("From", Parts { from: named("a\nb"), ..parts() }),
        ("Reply-To", Parts { reply_to: Some(named("a\tb")), ..parts() }),
        ("Message-ID", Parts { message_id: "<a@b>\r\nX: y".to_owned(), ..parts() }),
        ("References", Parts { thread: vec!["<a\n@b>".to_owned(), "<c@d>".to_owned()], ..parts() }),
        (
            "an attachment's name",
            Parts { attachments: vec![("a\nb".to_owned(), "text/csv".to_owned(), vec![])], ..parts() },
        ),
    ];
    for (field, parts) in bad {
        match build(&parts) {
            Err(BuildError::Control(name)) => assert_eq!(name, field),
            other => panic!("{field}: {other:?}"),
        }
    }
    let bad = [
        Parts { to: Vec::new(), ..parts() },
        Parts { message_id: "a@b".to_owned(), ..parts() },
        Parts { message_id: "<a b@c>".to_owned(), ..parts() },
        Parts { thread: vec!["<no at>".to_owned()], ..parts() },
        Parts { list_id: Some("a b".to_owned()), ..parts() },
        Parts { attachments: vec![("a".to_owned(), "nonsense".to_owned(), vec![])], ..parts() },
    ];
    for parts in bad {
        assert!(build(&parts).is_err(), "{parts:?}");
    }
}

#[test]
fn the_weekday_is_the_dates_own_in_its_zone() {
    let date: DateTime<FixedOffset> = DateTime::parse_from_rfc3339("2022-12-31T23:59:59-05:00").unwrap();
    let fields = strict_header(&build(&Parts { date, ..parts() }).unwrap());
    assert_eq!(field(&fields, "Date"), "Sat, 31 Dec 2022 23:59:59 -0500");
}
