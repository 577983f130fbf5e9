//! What can go wrong around a case: customers that vanish and come back, dates that move, clocks that are set back, two
//! campaigns at once, names that try to be more than names.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use common::{Bench, Lab, Settings, affected, write_private};
use kigen::daemon::notify::PassReport;
use kigen::domain::plan::NoticeKind;
use kigen::domain::site::AuthMethod;
use kigen::store::OutboxFilter;

fn at(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

/// Thursday, 2022-09-01, 10:00 in Japan.
fn morning() -> DateTime<Utc> {
    at("2022-09-01T10:00:00+09:00")
}

fn in_2022(campaign: &str) -> Settings {
    Settings { campaign: campaign.to_owned(), business_hours: "closed = []".to_owned(), ..Settings::default() }
}

fn kinds(report: &PassReport) -> Vec<(String, NoticeKind, &'static str)> {
    let one = |n: &kigen::daemon::notify::Notified| (n.planned.campaign.0.clone(), n.planned.due.kind, n.fate.word());
    report.notices.iter().map(one).collect()
}

/// Looks, passes and delivers, as a day's schedule does.
async fn day(bench: &Bench, on: &str) -> PassReport {
    bench.clock.set(at(&format!("{on}T10:00:00+09:00")));
    bench.scan().await;
    let report = bench.pass().await;
    bench.deliver().await;
    report
}

/// Starts again with the files as they are now.
async fn again(lab: &Lab, bench: Bench) -> Bench {
    let now = bench.ctx.now();
    bench.ctx.store.close().await;
    drop(bench);
    lab.open(now).await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_campaigns_never_make_two_mails_a_day() {
    const OTHER: &str = "[[campaign]]\nid = \"other\"\naffects = \"basic_auth\"\ndeadline = 2022-11-01";
    let lab = Lab::with(vec![affected("A1")], in_2022(OTHER)).await;
    let bench = lab.open(morning()).await;
    let mails = || lab.mail.received().len();

    let report = day(&bench, "2022-09-01").await;
    assert_eq!(report.notices.len(), 1, "the campaign with the nearer deadline");
    assert_eq!(bench.pass().await.notices.len(), 0, "told today already");
    let report = day(&bench, "2022-09-02").await;
    assert_eq!(kinds(&report)[0].0, "other", "the other one the next business day");
    assert_eq!(mails(), 2);

    // It switches: both cases are resolved, and both want to say so. The first case is closed by then and no open case
    // tells any more that the customer had a mail today.
    lab.world.lock().set_auth_method("A1", "本社", AuthMethod::OAuth);
    bench.clock.set(at("2022-09-05T06:00:00+09:00"));
    bench.scan().await;
    let report = day(&bench, "2022-09-05").await;
    assert_eq!(kinds(&report).iter().map(|k| k.1).collect::<Vec<_>>(), [NoticeKind::Resolved]);
    let report = bench.pass().await;
    bench.deliver().await;
    assert_eq!((kinds(&report), mails()), (vec![], 3), "one mail a customer and day");
    let report = day(&bench, "2022-09-06").await;
    assert_eq!(kinds(&report).iter().map(|k| k.1).collect::<Vec<_>>(), [NoticeKind::Resolved]);
    assert_eq!(mails(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_that_leaves_the_file_is_left_alone_and_goes_on_where_it_was() {
    let lab = Lab::with(vec![affected("A1"), affected("A2")], in_2022("")).await;
    let bench = lab.open(morning()).await;
    day(&bench, "2022-09-01").await;
    assert_eq!(lab.mailed(), ["admin@a1.example", "admin@a2.example"]);

    let whole = std::fs::read_to_string(lab.path("customers.csv")).unwrap();
    let without: String = whole.lines().filter(|line| !line.starts_with("A1,")).map(|l| format!("{l}\n")).collect();
    write_private(&lab.path("customers.csv"), without.as_bytes());
    let bench = again(&lab, bench).await;
    let report = day(&bench, "2022-09-16").await;
    assert_eq!(report.notices.len(), 1, "A2's reminder; A1 is nobody's customer today");
    assert_eq!(bench.ctx.store.customer_count().await.unwrap(), 1);

    // Back again, with another address.
    lab.write_customers(|id, column| match (id, column) {
        ("A1", "email") => "new@a1.example".to_owned(),
        _ => String::new(),
    });
    let bench = again(&lab, bench).await;
    let report = day(&bench, "2022-09-22").await;
    let told: BTreeMap<String, NoticeKind> =
        report.notices.iter().map(|n| (n.planned.customer.to_string(), n.planned.due.kind)).collect();
    assert_eq!(told["A1"], NoticeKind::Reminder, "the case went on: no second first notice");
    let mails = lab.mailed();
    assert_eq!(mails.iter().filter(|m| *m == "new@a1.example").count(), 1);
    assert_eq!(mails.iter().filter(|m| *m == "admin@a1.example").count(), 1, "nothing to the old address any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_moves_is_told_once_and_one_in_the_past_is_overdue() {
    let mut lab = Lab::with(vec![affected("A1")], in_2022("")).await;
    let bench = lab.open(morning()).await;
    day(&bench, "2022-09-01").await;

    // Later.
    lab.settings.campaign = "deadline = 2022-10-15".to_owned();
    lab.write_config();
    let bench = again(&lab, bench).await;
    let report = day(&bench, "2022-09-02").await;
    assert_eq!(kinds(&report)[0].1, NoticeKind::Rescheduled);
    assert_eq!(day(&bench, "2022-09-05").await.notices.len(), 0, "once a move");

    // Earlier than today: nothing can be announced any more, it is over.
    lab.settings.campaign = "deadline = 2022-09-03".to_owned();
    lab.write_config();
    let bench = again(&lab, bench).await;
    let report = day(&bench, "2022-09-06").await;
    assert_eq!(kinds(&report), [("exchange-online-basic-auth".to_owned(), NoticeKind::Overdue, "queued")]);
    assert_eq!(lab.mail.received().len(), 3);
    let delivered = bench.ctx.store.deliveries(&OutboxFilter::default()).await.unwrap();
    assert!(delivered[0].facts.because.contains("past the deadline 2022-09-03"), "{}", delivered[0].facts.because);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_notice_after_the_deadline_is_a_first_notice_and_then_it_is_overdue() {
    let lab = Lab::with(vec![affected("A1")], in_2022("")).await;
    let bench = lab.open(at("2022-10-03T10:00:00+09:00")).await;
    let report = day(&bench, "2022-10-03").await;
    assert_eq!(kinds(&report)[0].1, NoticeKind::First);
    assert_eq!(day(&bench, "2022-10-07").await.notices.len(), 0);
    let report = day(&bench, "2022-10-11").await; // the 10th is a public holiday
    assert_eq!(kinds(&report)[0].1, NoticeKind::Overdue);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_back_repeats_nothing() {
    let lab = Lab::with(vec![affected("A1")], in_2022("")).await;
    let bench = lab.open(morning()).await;
    day(&bench, "2022-09-16").await;
    let before = lab.mail.received().len();
    for on in ["2022-09-01", "2022-09-02", "2022-09-16"] {
        let report = day(&bench, on).await;
        assert_eq!(report.notices.len(), 0, "{on}: {:?}", kinds(&report));
    }
    assert_eq!(lab.mail.received().len(), before);
    assert_eq!(kinds(&day(&bench, "2022-09-22").await)[0].1, NoticeKind::Reminder, "and it goes on as if nothing was");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_milestones_that_fall_on_one_day_are_one_mail() {
    // The deadline is a Monday: both days before it are a weekend, so 3d, 2d and 1d all fall on Friday.
    let campaign = "deadline = 2022-09-12\nreminders = [\"3d\", \"2d\", \"1d\"]";
    let lab = Lab::with(vec![affected("A1")], in_2022(campaign)).await;
    let bench = lab.open(morning()).await;
    day(&bench, "2022-09-01").await;
    let report = day(&bench, "2022-09-09").await;
    assert_eq!(report.notices.len(), 1);
    assert_eq!(report.notices[0].planned.due.milestone.map(|m| m.days), Some(1), "the nearest counts");
    assert_eq!(bench.pass().await.notices.len(), 0);
    assert_eq!(lab.mail.received().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn reminders_answer_the_first_notice_and_a_name_stays_a_name() {
    let lab = Lab::with(vec![affected("A1"), affected("A2")], in_2022("")).await;
    lab.write_customers(|id, column| match (id, column) {
        ("A1", "name") => "<b>株式会社</b> =?utf-8?q?Bcc=3A_x=40y.example?= \"引用\"".to_owned(),
        ("A2", "name") => "悪\r\nBcc: thief@evil.example".to_owned(),
        _ => String::new(),
    });
    let bench = lab.open(morning()).await;
    assert_eq!(bench.ctx.snapshot.fleet.quarantined.len(), 1, "a name of two lines is an error in the file");
    day(&bench, "2022-09-01").await;
    day(&bench, "2022-09-16").await;
    day(&bench, "2022-09-22").await;
    let mails = lab.mail.received();
    assert_eq!(mails.len(), 3);
    let parsed: Vec<_> = mails.iter().map(|m| mail_parser::MessageParser::default().parse(&m.data).unwrap()).collect();
    let first = parsed[0].message_id().unwrap();
    for (mail, parsed) in mails.iter().zip(&parsed) {
        assert_eq!(mail.recipients, ["admin@a1.example"]);
        assert!(parsed.bcc().is_none() && parsed.header("Bcc").is_none());
        let raw = String::from_utf8_lossy(&mail.data).into_owned();
        assert!(raw.contains("\r\nList-Id: <kigen-notices.vendor.example>\r\n"), "{raw}");
        let html = parsed.body_html(0).unwrap();
        assert!(html.contains("&lt;b&gt;株式会社&lt;/b&gt;") && !html.contains("<b>株式会社"));
    }
    for (n, reminder) in parsed.iter().enumerate().skip(1) {
        let answers = reminder.in_reply_to().as_text();
        assert_eq!(answers, parsed[n - 1].message_id(), "it answers the notice before it");
        let references = format!("{:?}", reminder.references());
        assert!(references.contains(first), "and stands in the thread of the first: {references}");
    }
}
