//! What comes back: the reader on real-shaped reports, and the whole way from a report to `fallback_email`.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeDelta, Utc};
use common::{Bench, Lab, Settings, affected};
use kigen::clock::Clock;
use kigen::daemon::bounces::{self, Bounces};
use kigen::daemon::operators::{Tending, tend};
use kigen::demo::mail_server::Received;
use kigen::domain::alert::Cause;
use kigen::domain::delivery::DeliveryId;
use kigen::domain::site::CustomerId;
use kigen::mail::bounce::{self, Class, READ_MAX};
use kigen::store::NewAlert;
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

const ADMIN: &str = "admin@customer.example";

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new("tests/fixtures/bounces").join(format!("{name}.eml"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_shape_is_understood_and_doubt_spares_the_address() {
    use Class::{AutoReply, Complaint, Dead, Delay, Filtered, OwnFault, Soft, Unrelated, Unsure};
    let rows: &[(&str, &str, Class)] = &[
        ("postfix-user-unknown", ADMIN, Dead),
        ("postfix-full", ADMIN, Soft),
        ("postfix-blocklist-510", ADMIN, OwnFault),
        ("postfix-dmarc", ADMIN, OwnFault),
        ("postfix-spam", ADMIN, Filtered),
        ("postfix-no-domain", "admin@gone.example", Dead),
        ("postfix-expired-4xx", ADMIN, Soft),
        ("postfix-delay", ADMIN, Delay),
        ("docomo-unknown", "kigen.fixture@docomo.ne.jp", Dead),
        ("docomo-filter", "kigen.fixture@docomo.ne.jp", Filtered),
        ("docomo-full", "kigen.fixture@docomo.ne.jp", Soft),
        ("docomo-session-limit", "kigen.fixture@docomo.ne.jp", OwnFault),
        ("au-unknown", "kigen.fixture@ezweb.ne.jp", Dead),
        ("au-filter", "kigen.fixture@ezweb.ne.jp", Filtered),
        ("kddi-mixed", "kigen.fixture@ezweb.ne.jp", Dead),
        ("softbank-expired", "kigen.fixture@softbank.ne.jp", Soft),
        ("exchange-online-edge", ADMIN, Dead),
        ("exchange-online-iso2022jp", ADMIN, Dead),
        ("exchange-online-no-dsn-part", ADMIN, Dead),
        ("exchange-online-insiders", ADMIN, Filtered),
        ("exchange-online-expired", ADMIN, Soft),
        ("exchange-online-our-tenant", ADMIN, OwnFault),
        ("outlook-com-515", ADMIN, OwnFault),
        ("gmail-not-found", ADMIN, Dead),
        ("gmail-full", ADMIN, Soft),
        ("gmail-disabled", ADMIN, Unsure),
        ("gmail-delay", ADMIN, Delay),
        ("exim-text", ADMIN, Dead),
        ("exim-full-500", ADMIN, Soft),
        ("exim-unroutable", ADMIN, Unsure),
        ("qmail", ADMIN, Dead),
        ("qmail-remote-full", ADMIN, Soft),
        ("yahoo-text", ADMIN, Dead),
        ("opensmtpd", ADMIN, Dead),
        ("rfc6533-utf8", ADMIN, Dead),
        ("status-400-with-554", ADMIN, Unsure),
        ("hidden-full-in-500", ADMIN, Soft),
        ("two-recipients", ADMIN, Dead),
        ("two-recipients", "boss@customer.example", Soft),
        ("forwarded-elsewhere", "old@freemail.example", Unsure),
        ("success", ADMIN, Unrelated),
        ("gateway-sjis-full", ADMIN, Soft),
        ("gateway-refused-ja", ADMIN, Filtered),
        ("wrong-charset", ADMIN, Dead),
        ("complaint-arf", ADMIN, Complaint),
        ("nobody-named", "", Unsure),
        ("auto-reply-ja-header", "", AutoReply),
        ("auto-reply-ja-subject", "", AutoReply),
        ("auto-reply-ja-fuzai", "", AutoReply),
        ("auto-reply-outlook", "", AutoReply),
        ("read-receipt", "", AutoReply),
        ("unrelated-question", "", Unrelated),
        ("unrelated-newsletter", "", Unrelated),
    ];
    let mut wrong = Vec::new();
    for (name, address, expected) in rows {
        let report = bounce::read(&fixture(name));
        let of = report.recipients.iter().find(|r| r.address == *address);
        let got = if address.is_empty() { Some(report.class) } else { of.map(|r| r.class) };
        if got != Some(*expected) {
            wrong.push(format!("{name} {address}: {got:?}, not {expected:?}: {report:?}"));
        }
        assert!(!format!("{:?}", report.recipients.iter().map(|r| &r.said).collect::<Vec<_>>()).contains("admin@"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let files = std::fs::read_dir("tests/fixtures/bounces").unwrap();
    for file in files {
        let name = file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned();
        assert!(rows.iter().any(|(row, _, _)| *row == name), "{name} stands in no row");
    }
}

#[test]
fn the_returned_message_is_recognised_in_every_form() {
    let date = DateTime::parse_from_rfc3339("2022-09-01T10:00:00+09:00").unwrap().timestamp();
    for name in [
        "postfix-user-unknown",
        "exchange-online-iso2022jp",
        "exchange-online-no-dsn-part",
        "exim-text",
        "qmail",
        "opensmtpd",
        "kddi-mixed",
        "complaint-arf",
        "rfc6533-utf8",
    ] {
        let report = bounce::read(&fixture(name));
        assert!(
            report.message_ids.contains(&"<0123456789abcdef0123456789abcdef@vendor.example>".to_owned()),
            "{name}: {report:?}"
        );
        assert!(report.dates.contains(&date), "{name}: {report:?}");
        let mark = "bounces+kg0000aaaa-0123456789abcdef0123@vendor.example".to_owned();
        assert!(report.came_to.contains(&mark), "{name}: {report:?}");
    }
}

#[test]
fn size_and_depth_are_bounded() {
    let mut huge = fixture("postfix-user-unknown");
    huge.resize(10 * 1024 * 1024, b'x');
    let report = bounce::read(&huge);
    assert_eq!(report.recipients[0].class, Class::Dead, "what matters stands at the beginning");

    let deep = "Content-Type: message/rfc822\r\n\r\n".repeat(1000) + "x";
    assert_eq!(bounce::read(deep.as_bytes()).class, Class::Unsure);
    let mut deep = String::new();
    for n in 0..1000 {
        deep.push_str(&format!("Content-Type: multipart/mixed; boundary=\"b{n}\"\r\n\r\n--b{n}\r\n"));
    }
    assert_eq!(bounce::read(deep.as_bytes()).class, Class::Unsure);
    for hostile in ["@".repeat(READ_MAX), "a@b.c ".repeat(READ_MAX / 6), "550 5.1.1 ".repeat(READ_MAX / 10)] {
        let _ = bounce::read(format!("From: mailer-daemon@x.example\n\n{hostile}").as_bytes());
        let _ = bounce::read(hostile.as_bytes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_bytes_break_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let _ = bounce::read(&bytes);
    }

    #[test]
    fn no_cut_and_no_flipped_byte_breaks_the_reader(which in 0_usize..100, cut in any::<u16>(), at in any::<u16>(), byte in any::<u8>()) {
        let mut names: Vec<PathBuf> =
            std::fs::read_dir("tests/fixtures/bounces").unwrap().map(|e| e.unwrap().path()).collect();
        names.sort();
        let mut bytes = std::fs::read(&names[which % names.len()]).unwrap();
        let len = bytes.len();
        bytes[usize::from(at) % len] = byte;
        let _ = bounce::read(&bytes[..usize::from(cut) % len]);
        let _ = bounce::read(&bytes);
    }
}

// --- the whole way ---------------------------------------------------------------------------------------------------

fn morning() -> DateTime<Utc> {
    DateTime::parse_from_rfc3339("2022-09-01T10:00:00+09:00").unwrap().to_utc()
}

fn settings(dir_key: &str) -> Settings {
    Settings {
        campaign: String::new(),
        business_hours: "closed = []".to_owned(),
        mail: format!("envelope_from = \"bounces@vendor.example\"\n[mail.bounces]\nmaildir = \"bounces\"\n{dir_key}"),
        ..Settings::default()
    }
}

async fn lab(verp: &str) -> Lab {
    let lab = Lab::with(vec![affected("A1"), affected("B1")], settings(verp)).await;
    for part in ["tmp", "new", "cur"] {
        std::fs::create_dir_all(lab.path("bounces").join(part)).unwrap();
    }
    let customers = std::fs::read_to_string(lab.path("customers.csv")).unwrap();
    let with: String = customers
        .lines()
        .enumerate()
        .map(|(n, line)| match n {
            0 => format!("{line},fallback_email\n"),
            _ if line.starts_with("A1,") => format!("{line},fallback@a1.example\n"),
            _ => format!("{line},\n"),
        })
        .collect();
    common::write_private(&lab.path("customers.csv"), with.as_bytes());
    lab
}

async fn told(lab: &Lab) -> (Bench, Vec<Received>) {
    let bench = lab.open(morning()).await;
    bench.scan().await;
    bench.pass().await;
    assert_eq!(bench.deliver().await.sent, 2);
    let mails = lab.mail.received();
    (bench, mails)
}

fn mail_to<'a>(mails: &'a [Received], address: &str) -> &'a Received {
    mails.iter().find(|m| m.recipients.iter().any(|r| r == address)).unwrap()
}

/// A report about that mail, as a server would make it.
fn report(mail: &Received, to: &str, recipient: &str, reply: &str) -> String {
    let text = String::from_utf8_lossy(&mail.data).into_owned();
    let header = text.split("\r\n\r\n").next().unwrap();
    format!(
        "Return-Path: <>\r\nFrom: MAILER-DAEMON@mx.example\r\nTo: {to}\r\nSubject: Undelivered Mail\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=\"b\"\r\n\r\n--b\r\n\
         Content-Type: text/plain\r\n\r\n<{recipient}>: {reply} (in reply to RCPT TO command)\r\n--b\r\n\
         Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example\r\n\r\n\
         Final-Recipient: rfc822; {recipient}\r\nAction: failed\r\nStatus: {}\r\nDiagnostic-Code: smtp; {reply}\r\n--b\r\n\
         Content-Type: text/rfc822-headers\r\n\r\n{header}\r\n--b--\r\n",
        reply.split(' ').nth(1).unwrap()
    )
}

const UNKNOWN: &str = "550 5.1.1 User unknown";

fn put(lab: &Lab, name: &str, mail: &str) {
    std::fs::write(lab.path("bounces/new").join(name), mail).unwrap();
}

async fn read(bench: &Bench) -> Vec<(&'static str, u64)> {
    match bounces::read(&bench.ctx, None, &CancellationToken::new()).await.unwrap() {
        Bounces::Ran(counts) => counts.into_iter().collect(),
        other => panic!("{other:?}"),
    }
}

async fn dead(bench: &Bench) -> Vec<String> {
    bench.ctx.store.dead_contacts().await.unwrap().into_iter().map(|c| c.masked).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_address_is_marked_and_the_fallback_is_told_once_and_nothing_else_changes() {
    let lab = lab("").await;
    let (bench, mails) = told(&lab).await;
    let mail = mail_to(&mails, "admin@a1.example");
    let sender = mail.envelope_from.clone();
    assert!(sender.starts_with("bounces+kg") && sender.ends_with("@vendor.example"), "{sender}");
    assert_ne!(sender, mail_to(&mails, "admin@b1.example").envelope_from);

    put(&lab, "1.a.mx", &report(mail, &sender, "admin@a1.example", UNKNOWN));
    assert_eq!(read(&bench).await, [("dead", 1)]);
    assert_eq!(dead(&bench).await, ["a***@a1.example"]);
    assert!(lab.path("bounces/cur/1.a.mx:2,S").exists() && !lab.path("bounces/new/1.a.mx").exists());
    let history = bench.ctx.store.history(&CustomerId::new("A1").unwrap()).await.unwrap().unwrap();
    assert!(
        history.iter().any(|e| e.text.contains("a***@a1.example: the address is dead: smtp; 550 5.1.1 User unknown")),
        "{history:#?}"
    );
    // The same report once more, under another name.
    put(&lab, "2.a.mx", &report(mail, &sender, "admin@a1.example", UNKNOWN));
    read(&bench).await;
    let again = bench.ctx.store.history(&CustomerId::new("A1").unwrap()).await.unwrap().unwrap();
    assert_eq!(again.len(), history.len(), "a report counts once");

    for _ in 0..3 {
        bench.pass().await;
        bench.deliver().await;
        bench.go(TimeDelta::days(1));
    }
    assert_eq!(lab.mailed(), ["admin@a1.example", "admin@b1.example", "fallback@a1.example"]);
    let mails = lab.mail.received();
    let text = String::from_utf8_lossy(&mail_to(&mails, "fallback@a1.example").data).into_owned();
    assert!(text.contains("To: fallback@a1.example"), "its message is its own");
    let deliveries = bench.ctx.store.delivery(DeliveryId(3)).await.unwrap().unwrap().0.delivery;
    assert_eq!(deliveries.facts.key.occasion, "+fallback");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forged_unmatched_or_unclear_changes_nothing() {
    let lab = lab("").await;
    let (bench, mails) = told(&lab).await;
    let mail = mail_to(&mails, "admin@a1.example");
    let good = &mail.envelope_from;
    let forged_mac = format!("{}0000000000@vendor.example", &good[..good.find('@').unwrap() - 10]);
    let message_id = String::from_utf8_lossy(&mail.data)
        .lines()
        .find_map(|l| l.strip_prefix("Message-ID: ").map(str::to_owned))
        .unwrap();
    let stranger = Received {
        data: format!("Date: Thu, 01 Sep 2022 09:59:59 +0900\r\nMessage-ID: {message_id}\r\n\r\nx").into_bytes(),
        ..mail.clone()
    };
    let to_support = "support@vendor.example";
    let all = [
        ("another recipient", report(mail, good, "someone@else.example", UNKNOWN), "unsure"),
        (
            "a stranger with the identifier alone",
            report(&stranger, to_support, "admin@a1.example", UNKNOWN),
            "unmatched",
        ),
        ("a forged mark", report(&stranger, &forged_mac, "admin@a1.example", UNKNOWN), "unmatched"),
        ("another customer's address", report(mail, good, "admin@b1.example", UNKNOWN), "unsure"),
        ("a full mailbox", report(mail, good, "admin@a1.example", "552 5.2.2 over quota"), "soft"),
        ("a filter", report(mail, good, "admin@a1.example", "550 5.7.1 rejected as spam"), "filtered"),
        ("our own fault", report(mail, good, "admin@a1.example", "550 5.7.26 unauthenticated"), "own_fault"),
        ("no mail at all", "\u{0}".to_owned(), "unmatched"),
    ];
    for (n, (what, mail, word)) in all.iter().enumerate() {
        put(&lab, &format!("{n}.mx"), mail);
        assert_eq!(read(&bench).await, [(*word, 1)], "{what}");
        assert_eq!(dead(&bench).await, [""; 0], "{what}");
    }
    bench.go(TimeDelta::days(1));
    bench.pass().await;
    bench.deliver().await;
    assert_eq!(lab.mail.received().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_marks_identifier_and_date_prove_it_and_a_new_address_lives() {
    let lab = lab("verp = false").await;
    let (bench, mails) = told(&lab).await;
    let mail = mail_to(&mails, "admin@b1.example");
    assert_eq!(mail.envelope_from, "bounces@vendor.example");
    put(&lab, "1.mx", &report(mail, "bounces@vendor.example", "admin@b1.example", UNKNOWN));
    assert_eq!(read(&bench).await, [("dead", 1)]);
    assert_eq!(dead(&bench).await, ["a***@b1.example"]);
    // B1 has no fallback: nobody is told, until the file names another address.
    bench.go(TimeDelta::days(1));
    bench.pass().await;
    bench.deliver().await;
    assert_eq!(lab.mail.received().len(), 2);
    drop(bench);
    let file = std::fs::read_to_string(lab.path("customers.csv")).unwrap();
    common::write_private(&lab.path("customers.csv"), file.replace("admin@b1.example", "new@b1.example").as_bytes());
    let bench = lab.open(morning() + TimeDelta::days(4)).await;
    bench.pass().await;
    assert_eq!(dead(&bench).await, [""; 0]);
}

/// Alerts of that cause that the operators have not been told of: how many, and the first one's words.
async fn alerted(bench: &Bench, cause: Cause) -> Option<(u64, String)> {
    let group = bench.ctx.store.untold_alerts().await.unwrap().into_iter().find(|group| group.cause == cause)?;
    let rows = bench.ctx.store.alerts_of(&group, 10).await.unwrap();
    Some((rows.len() as u64, rows[0].detail.clone()))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_back_because_of_us_is_told_at_once_and_spares_the_address() {
    let lab = lab("").await;
    let (bench, mails) = told(&lab).await;
    let mail = mail_to(&mails, "admin@a1.example");
    let refused = "550 5.7.26 Unauthenticated email is not accepted due to domain's DMARC policy";
    put(&lab, "1.a.mx", &report(mail, &mail.envelope_from, "admin@a1.example", refused));
    assert_eq!(read(&bench).await, [("own_fault", 1)]);
    assert_eq!(dead(&bench).await, [""; 0], "it says nothing of the address");
    let (count, said) = alerted(&bench, Cause::OwnFault).await.expect("an alert");
    assert_eq!(count, 1);
    assert!(said.contains("5.7.26") && said.contains("a***@a1.example") && !said.contains("admin@"), "{said}");
    tend(&bench.ctx, &mut Tending::default()).await.unwrap();
    bench.deliver().await;
    assert!(!lab.alerted().is_empty() && alerted(&bench, Cause::OwnFault).await.is_none(), "it is mailed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mailbox_that_cannot_be_read_is_told_until_it_can() {
    let lab = lab("").await;
    let bench = lab.open(morning()).await;
    let (box_, aside) = (lab.path("bounces"), lab.path("aside"));
    let try_read = async || bounces::read(&bench.ctx, None, &CancellationToken::new()).await;
    let standing = async || {
        let again = NewAlert {
            cause: Cause::BouncesUnread,
            key: String::new(),
            customer: None,
            detail: "asked by the test".to_owned(),
        };
        // What stands is told once: raised again it is no news; after its end it is.
        bench.go(TimeDelta::hours(2));
        tend(&bench.ctx, &mut Tending::default()).await.unwrap();
        bench.ctx.store.raise(&[again], bench.clock.now()).await.unwrap();
        alerted(&bench, Cause::BouncesUnread).await.is_none()
    };
    std::fs::rename(&box_, &aside).unwrap();
    for _ in 0..2 {
        try_read().await.unwrap_err();
    }
    assert!(standing().await, "it stands, and was told");
    std::fs::rename(&aside, &box_).unwrap();
    try_read().await.unwrap();
    assert!(!standing().await, "it is over, so that the next one is news");
}
