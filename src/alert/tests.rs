//! Every cause in both languages, and what must not stand in a text.

#![allow(clippy::unwrap_used)]

use chrono::{TimeZone, Utc};

use super::*;

fn facts(cause: Cause) -> AlertFacts {
    let item = |n: u64| Item {
        customer: Some((format!("C{n:04}"), "株式会社<サンプル>".to_owned())),
        detail: "本社: timeout, ask taro@example.jp".to_owned(),
        times: n,
        over: n == 2,
    };
    AlertFacts {
        cause,
        count: 23,
        times: 30,
        first_at: Utc.with_ymd_and_hms(2022, 9, 1, 0, 0, 0).unwrap(),
        items: (1..=23).map(item).collect(),
        mode: "dry-run",
        zone: chrono_tz::Asia::Tokyo,
        now: Utc.with_ymd_and_hms(2022, 9, 1, 0, 30, 0).unwrap(),
    }
}

#[test]
fn every_cause_says_what_happened_and_what_to_do_in_both_languages() {
    for cause in Cause::ALL {
        for language in [Language::Ja, Language::En] {
            let texts = alert(&facts(cause), language).unwrap();
            let said = format!("{cause} {}", language.as_str());
            assert!(texts.subject.starts_with("[kigen] ") && texts.subject.len() > 15, "{said}: {}", texts.subject);
            let todo = if language == Language::Ja { "■ 対応\n・" } else { "■ What to do\n・" };
            assert!(texts.text.contains(todo), "{said}: {}", texts.text);
            for part in [&texts.text, &texts.html] {
                assert!(part.contains("C0001") && part.contains("C0020") && !part.contains("C0021"), "{said}: capped");
                assert!(!part.contains("taro@"), "{said}: masked");
            }
            let more = if language == Language::Ja { "ほか 3 件" } else { "and 3 more" };
            assert!(texts.text.contains(more), "{said}");
            assert!(texts.html.contains("株式会社&lt;サンプル&gt;"), "{said}: escaped");
        }
    }
}

#[test]
fn secrets_in_urls_are_cut() {
    let text = "webhook: \"https://u:p@hooks.example/T0/secret?x\" is wrong, see http://a.example";
    assert_eq!(without_paths(text), "webhook: \"https://hooks.example/…\" is wrong, see http://a.example");
}

#[test]
fn addresses_are_masked_wherever_they_stand() {
    let rows = [
        ("alone", "taro@example.jp", "t***@example.jp"),
        (
            "in brackets, at a sentence's end",
            "to <taro@example.jp>. or a.b@c.example.",
            "to <t***@example.jp>. or a***@c.example.",
        ),
        ("near enough to one", "taro@@example.jp", "***@example.jp"),
        ("Japanese around it", "宛先taro@example.jpは", "宛先t***@example.jpは"),
        ("none", "a line @ noon", "a line @ noon"),
    ];
    for (sentence, text, expected) in rows {
        assert_eq!(mask(text), expected, "{sentence}");
    }
}
