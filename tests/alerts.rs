//! What the operators are told, and that nothing of it reaches a customer.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;
#[path = "alerts/contacts.rs"]
mod contacts;
#[path = "alerts/outside.rs"]
mod outside;

use axum::http::{Method, StatusCode};
use base64::Engine as _;
use chrono::{NaiveDate, TimeDelta, TimeZone, Utc};
use common::{Bench, Lab, OPS, Settings, affected, kigen_command, today, wait_until, write_private};
use kigen::alert::{self, Call, DigestFacts, Grouped, Hold as HeldBy, LastScan, ToSwitch};
use kigen::clock::{Clock, SystemClock};
use kigen::daemon::digest::{Digested, digest};
use kigen::daemon::operators::{Tending, tend};
use kigen::daemon::untold::Why;
use kigen::demo::admin_tool::{Fault, WorldCustomer, WorldSite};
use kigen::demo::mail_server::{Policy, Received};
use kigen::domain::alert::Cause;
use kigen::domain::customer::Language;
use kigen::domain::observation::{Reason, Verdict};
use kigen::domain::site::{AuthMethod, ServerType};
use kigen::store::{By, Hold, HoldKind, NewAlert};
use sqlx::Connection;

use self::outside::Outside;

/// The text part of a mail to the operators.
fn text(mail: &Received) -> String {
    let raw = String::from_utf8(mail.data.clone()).unwrap();
    let part = raw.split("text/plain").nth(1).unwrap();
    let body = part.split("\r\n\r\n").nth(1).unwrap().split("\r\n--").next().unwrap().replace("\r\n", "");
    String::from_utf8(base64::engine::general_purpose::STANDARD.decode(body).unwrap()).unwrap().replace("\r\n", "\n")
}

/// The first line of each mail to the operators so far.
fn titles(lab: &Lab) -> Vec<String> {
    lab.alerted().iter().map(|m| text(m).lines().next().unwrap().to_owned()).collect()
}

async fn tell(bench: &Bench) -> u64 {
    let told = tend(&bench.ctx, &mut Tending::default()).await.unwrap();
    bench.deliver().await;
    told
}

fn english() -> Settings {
    Settings { alerts: "language = \"en\"".to_owned(), ..Settings::default() }
}

async fn lab(customers: Vec<WorldCustomer>) -> Lab {
    Lab::with(customers, english()).await
}

fn switched(id: &str) -> WorldCustomer {
    WorldCustomer::new(id, vec![WorldSite::new("本社", ServerType::ExchangeOnline, AuthMethod::OAuth)])
}

fn raised(cause: Cause, key: &str) -> NewAlert {
    NewAlert { cause, key: key.to_owned(), customer: None, detail: format!("about {key}") }
}

fn rows(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn newly_affected_sites_are_one_mail_however_many_they_are() {
    let lab = lab((1..=30).map(|n| affected(&format!("A{n:02}"))).collect()).await;
    let bench = lab.open(SystemClock.now()).await;
    bench.scan().await;
    assert_eq!(tell(&bench).await, 1);
    assert_eq!(titles(&lab), ["30 newly affected sites"]);
    let said = text(&lab.alerted()[0]);
    assert!(said.contains("・A01 ") && said.contains("・A20 ") && !said.contains("・A21 "), "{said}");
    assert!(said.contains("and 10 more"), "{said}");
    assert!(lab.told().is_empty(), "no customer hears of it");
    bench.scan().await;
    bench.go(TimeDelta::hours(2));
    assert_eq!(tell(&bench).await, 0, "they are not new any more");
}

#[tokio::test]
async fn one_cause_is_one_mail_an_hour_with_the_count() {
    let lab = lab(vec![affected("A1")]).await;
    let bench = lab.open(SystemClock.now()).await;
    let store = &bench.ctx.store;
    for cause in Cause::ALL {
        store.raise(&[raised(cause, "1")], bench.clock.now()).await.unwrap();
    }
    assert_eq!(tell(&bench).await, Cause::ALL.len() as u64, "each cause has its own mail");
    for key in ["2", "3", "3"] {
        bench.go(TimeDelta::minutes(10));
        store.raise(&[raised(Cause::NoticeFailed, key)], bench.clock.now()).await.unwrap();
        assert_eq!(tell(&bench).await, 0, "within the hour they gather");
    }
    bench.go(TimeDelta::minutes(30));
    assert_eq!(tell(&bench).await, 1);
    let said = text(lab.alerted().last().unwrap());
    assert!(said.starts_with("2 notices failed"), "{said}");
    assert!(said.contains("・about 2\n") && said.contains("・about 3 (2 times)\n"), "{said}");
    assert_eq!(lab.alerted().len(), Cause::ALL.len() + 1);
}

#[tokio::test]
async fn what_lasts_is_told_once_until_it_is_over_and_begins_again() {
    let lab = lab(vec![affected("A1")]).await;
    let bench = lab.open(SystemClock.now()).await;
    let store = &bench.ctx.store;
    let again = async || {
        bench.go(TimeDelta::hours(2));
        store.raise(&[raised(Cause::BadEdit, "x")], bench.clock.now()).await.unwrap();
        tell(&bench).await
    };
    assert_eq!([again().await, again().await, again().await], [1, 0, 0], "the same error is told once");
    store.over(Cause::BadEdit, &[], bench.clock.now()).await.unwrap();
    assert_eq!(again().await, 1, "after a good edit it is news again");
}

#[tokio::test]
async fn alerts_leave_in_a_dry_run_at_night_and_while_all_mail_is_held() {
    let settings = Settings { mode: "dry-run", business_hours: "hours = \"09:00-18:00\"".to_owned(), ..english() };
    let lab = Lab::with(vec![affected("A1")], settings).await;
    // A Sunday, three in the morning in Japan.
    let bench = lab.open(Utc.with_ymd_and_hms(2026, 11, 21, 18, 0, 0).unwrap()).await;
    let hold = Hold {
        kind: HoldKind::Paused,
        reason: "ask boss@vendor.example first".to_owned(),
        set_by: "ops".to_owned(),
        set_at: bench.clock.now(),
    };
    bench.ctx.store.set_hold(&hold).await.unwrap();
    bench.scan().await;
    bench.pass().await;
    tell(&bench).await;
    let mut titles = titles(&lab);
    titles.sort();
    assert_eq!(titles, ["1 newly affected site", "All customer mail is held"]);
    let said: String = lab.alerted().iter().map(text).collect();
    assert!(said.contains("b***@vendor.example") && !said.contains("boss@"), "{said}");
    assert!(said.contains("This is a dry run"), "{said}");
    assert!(lab.told().is_empty());
    let by = By { who: "ops".to_owned(), at: bench.clock.now(), day: today() };
    bench.ctx.store.clear_holds(&by).await.unwrap();
    assert_eq!(tell(&bench).await, 0, "a hold that is gone is not told");
}

#[tokio::test]
async fn a_site_that_stays_unreadable_is_told_after_so_many_scans_and_a_changed_tool_once() {
    let lab = lab((1..=4).map(|n| switched(&format!("S{n}"))).collect()).await;
    let bench = lab.open(SystemClock.now()).await;
    bench.scan().await;
    for customer in &mut lab.world.lock().customers {
        customer.fault = Some(Fault::ServerError);
    }
    bench.scan().await;
    tell(&bench).await;
    assert_eq!(titles(&lab), ["Too many sites of a scan could not be read"]);
    bench.scan().await;
    assert_eq!(tell(&bench).await, 1, "the second scan in a row, the default");
    let said = text(lab.alerted().last().unwrap());
    assert!(said.starts_with("4 sites could not be read several times in a row"), "{said}");
    assert!(said.contains("・S1 ") && said.contains("本社: http_status (2 scans)"), "{said}");
    bench.go(TimeDelta::hours(3));
    bench.scan().await;
    assert_eq!(tell(&bench).await, 0, "nothing new");
    for customer in &mut lab.world.lock().customers {
        customer.fault = None;
    }
    bench.scan().await;
    let days = bench.ctx.store.days(5).await.unwrap(); // two, when the hours above led past midnight
    assert_eq!(days.last().unwrap().sites.switched, 4, "the day's numbers are kept");
}

#[tokio::test]
async fn refused_logons_stop_the_scan_and_a_bad_row_is_named() {
    let settings = Settings { safety: "logon_failures = 2".to_owned(), ..english() };
    let lab = Lab::with((1..=6).map(|n| switched(&format!("S{n}"))).collect(), settings).await;
    lab.write_customers(|id, column| match (id, column) {
        ("S6", "email") => "no address".to_owned(),
        (_, "password") => "wrong".to_owned(),
        _ => String::new(),
    });
    let bench = lab.open(SystemClock.now()).await;
    bench.scan().await;
    tell(&bench).await;
    let titles = titles(&lab);
    assert!(titles.contains(&"A scan was stopped: logons were refused in a row".to_owned()), "{titles:?}");
    assert!(titles.contains(&"1 row of the customers file has errors".to_owned()), "{titles:?}");
    let said: String = lab.alerted().iter().map(text).collect();
    assert!(said.contains("・S6 ") && said.contains("email:"), "{said}");
}

#[tokio::test]
async fn a_failed_notice_and_an_untold_customer_near_the_deadline_are_told() {
    let deadline = today() + TimeDelta::days(5);
    let settings = Settings { campaign: format!("deadline = {deadline}"), ..english() };
    let lab = Lab::with(vec![affected("A1")], settings).await;
    let bench = lab.open(SystemClock.now()).await;
    bench.scan().await;
    tell(&bench).await;
    lab.mail.set_policy("admin@a1.example", Policy::Reject);
    bench.pass().await;
    bench.deliver().await;
    bench.go(TimeDelta::days(1));
    bench.pass().await;
    tell(&bench).await;
    let titles = titles(&lab);
    assert_eq!(
        titles[1..],
        ["1 customer not told yet, and the deadline is within 7 days", "1 notice failed"],
        "by cause"
    );
    let said: String = lab.alerted().iter().map(text).collect();
    assert!(said.contains("・A1 ") && said.contains("550") && !said.contains("admin@a1"), "{said}");
}

#[tokio::test]
async fn a_digest_comes_once_on_a_business_day_and_never_on_another() {
    let settings = Settings { business_hours: String::new(), ..english() };
    let lab = Lab::with(vec![affected("A1"), switched("S1")], settings).await;
    // Saturday noon, Monday (a holiday, 勤労感謝の日), Tuesday.
    let bench = lab.open(Utc.with_ymd_and_hms(2026, 11, 21, 3, 0, 0).unwrap()).await;
    bench.scan().await;
    assert!(matches!(digest(&bench.ctx, None).await.unwrap(), Digested::Nothing(_)));
    bench.go(TimeDelta::days(2));
    assert!(matches!(digest(&bench.ctx, None).await.unwrap(), Digested::Nothing(_)));
    bench.go(TimeDelta::days(1));
    assert!(matches!(digest(&bench.ctx, None).await.unwrap(), Digested::Queued));
    assert!(matches!(digest(&bench.ctx, None).await.unwrap(), Digested::AlreadyDone));
    bench.deliver().await;
    let [mail] = lab.alerted().try_into().unwrap();
    assert_eq!(mail.recipients, [OPS]);
    let said = text(&mail);
    assert!(said.starts_with("24 Nov 2026 (Tue) kigen daily report"), "{said}");
    assert!(said.contains("・customers newly affected: 1 (A1 "), "{said}");
    assert!(said.contains("・first: 1"), "{said}");
    assert!(said.contains("・A1 ") && !said.contains("・S1 "), "{said}");
    assert!(lab.told().is_empty());
}

#[tokio::test]
async fn who_has_no_account_is_not_tried_stops_nobody_and_is_told() {
    let lab = lab((1..=12).map(|n| switched(&format!("S{n:02}"))).collect()).await;
    let rows: String = (1..=12).map(|n| format!("S{n:02},Company,admin@s{n}.example\n")).collect();
    write_private(&lab.path("customers.csv"), format!("customer_id,name,email\n{rows}").as_bytes());
    let bench = lab.open(SystemClock.now()).await;
    for _ in 0..2 {
        let (seen, report) = bench.scan().await;
        assert_eq!(report.stopped, None, "an empty logon is no refused one");
        assert!(seen.iter().all(|o| o.verdict == Verdict::Unreadable(Reason::InventoryError)), "{seen:?}");
        bench.go(TimeDelta::hours(12));
    }
    assert_eq!(lab.world.lock().counters.requests, 0);
    tell(&bench).await;
    let said: String = lab.alerted().iter().map(text).collect();
    assert!(titles(&lab).iter().any(|t| t.starts_with("12 sites could not be read")), "{:?}", titles(&lab));
    assert!(said.contains("・S01 "), "{said}");
}

#[tokio::test]
async fn a_customers_file_that_was_cut_off_is_no_silence() {
    let lab = lab(["A1", "A2", "A3", "A4", "S1"].map(affected).to_vec()).await;
    let now = SystemClock.now();
    let bench = lab.open(now).await;
    bench.scan().await;
    tell(&bench).await;
    let whole = std::fs::read_to_string(lab.path("customers.csv")).unwrap();
    let title = "Many customers with an open case left the customers file at once";

    write_private(
        &lab.path("customers.csv"),
        format!("{}\n", whole.lines().take(5).collect::<Vec<_>>().join("\n")).as_bytes(),
    );
    bench.ctx.store.close().await;
    let bench = lab.open(now + TimeDelta::hours(2)).await;
    bench.scan().await;
    tell(&bench).await;
    assert!(!titles(&lab).contains(&title.to_owned()), "one of five may have been taken out on purpose");

    write_private(&lab.path("customers.csv"), format!("{}\n", whole.lines().next().unwrap()).as_bytes());
    bench.ctx.store.close().await;
    let bench = lab.open(now + TimeDelta::hours(4)).await;
    bench.scan().await;
    tell(&bench).await;
    assert_eq!(titles(&lab).last().unwrap(), title);
    assert!(
        text(lab.alerted().last().unwrap()).contains("5 of 5 open cases"),
        "{}",
        text(lab.alerted().last().unwrap())
    );

    write_private(&lab.path("customers.csv"), whole.as_bytes());
    bench.ctx.store.close().await;
    let bench = lab.open(now + TimeDelta::hours(6)).await;
    bench.scan().await;
    let standing = bench.ctx.store.left_open(now).await.unwrap();
    assert_eq!(standing, (5, 0), "they are back");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_tells_at_once_of_bad_edits_and_a_pause_and_calls_the_heartbeat() {
    let outside = Outside::start(StatusCode::OK).await;
    let settings = Settings {
        mode: "dry-run",
        schedule: "scan = \"* * * * * *\"\nnotices = \"0 0 1 1 *\"".to_owned(),
        alerts: format!("language = \"en\"\nheartbeat = \"{}beat\"", outside.url()),
        ..Settings::default()
    };
    let lab = Lab::with(vec![affected("A1")], settings).await;
    let log = std::fs::File::create(lab.path("daemon.log")).unwrap();
    let mut daemon = Daemon(kigen_command(&lab.config(), &["run"]).stderr(log).spawn().unwrap());
    let heard = |title: &str| wait_until(title, || titles(&lab).iter().any(|t| t == title));
    heard("1 newly affected site");
    wait_until("a heartbeat", || outside.calls.lock().unwrap().iter().any(|c| c.0 == Method::GET && c.1 == "/beat"));

    let good = lab.config_text();
    write_private(&lab.config(), good.replace("mode = ", "mood = ").as_bytes());
    heard("Edited files have errors; the earlier ones stay in use");
    write_private(&lab.config(), good.as_bytes());
    lab.kigen_ok(&["pause", "looking into it"]);
    heard("All customer mail is held");
    assert!(lab.told().is_empty());
    assert!(lab.alerted().len() >= 3);
    let status = lab.kigen_ok(&["status"]);
    assert!(status.lines().any(|line| line.contains("to operators") && line.contains(" sent")), "{status}");
    daemon.0.kill().unwrap();
    daemon.0.wait().unwrap();
    let log = std::fs::read_to_string(lab.path("daemon.log")).unwrap();
    assert!(!log.contains(OPS) && !log.contains("admin@a1"), "{log}");
}

/// Ends with its test.
struct Daemon(std::process::Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}

#[test]
fn the_digest_reads_well_in_both_languages() {
    for language in [Language::Ja, Language::En] {
        let texts = alert::digest(&facts(language), language).unwrap();
        let name = |part: &str| format!("digest.{}.{part}", language.as_str());
        insta::assert_snapshot!(name("text"), format!("{}\n\n{}", texts.subject, texts.text));
        insta::assert_snapshot!(name("html"), &texts.html);
    }
}

/// A digest with everything in it.
fn facts(language: Language) -> DigestFacts {
    let day = |m, d| NaiveDate::from_ymd_opt(2022, m, d).unwrap();
    let at = |d, h| Utc.with_ymd_and_hms(2022, 9, d, h, 0, 0).unwrap();
    let named = |n: u32| (format!("C{n:04}"), format!("株式会社サンプル{n}商事"));
    DigestFacts {
        now: at(6, 0),
        today: day(9, 6),
        zone: chrono_tz::Asia::Tokyo,
        mode: "live",
        since: Some(at(5, 0)),
        campaigns: vec![("exchange-online-basic-auth".to_owned(), day(10, 1))],
        days: (0..10).map(|n| (day(8, 28) + TimeDelta::days(n), 120 - 2 * u64::try_from(n).unwrap())).collect(),
        sites: vec![
            ("affected", 102),
            ("switched", 110),
            ("consent_missing", 3),
            ("not_exchange_online", 18),
            ("unreadable", 4),
        ],
        happened: vec![
            ("opened".to_owned(), 2, vec![named(12), named(31)]),
            ("reopened".to_owned(), 1, vec![named(7)]),
            ("resolved".to_owned(), 14, (1..=10).map(named).collect()),
            ("sent".to_owned(), 23, (1..=10).map(named).collect()),
            ("failed".to_owned(), 1, vec![named(9)]),
        ],
        to_switch: (1..=33)
            .map(|n| ToSwitch {
                id: named(n).0,
                name: named(n).1,
                campaign: None,
                sites: u64::from(n % 3 + 1),
                deadline: if n > 30 { day(12, 31) } else { day(10, 1) },
                told: (n % 5 != 0).then(|| day(9, 1)),
            })
            .collect(),
        calls: vec![
            Call {
                id: named(9).0,
                name: named(9).1,
                phone: Some("03-0000-0009".to_owned()),
                why: Why::Failed.text(language),
            },
            Call { id: named(4).0, name: named(4).1, phone: None, why: Why::BadRow.text(language) },
        ],
        calls_coming: 7,
        planned: vec![("first", 2), ("reminder", 19), ("resolved", 5)],
        unreadable: vec![
            Grouped { reason: "timeout", count: 3, customers: vec![named(40), named(41)] },
            Grouped { reason: "logon_refused", count: 1, customers: vec![named(42)] },
        ],
        last_scan: Some(LastScan { at: at(5, 21), outcome: Some("done"), sites: 201, unreadable: 4, detail: None }),
        outbox: vec![
            ("held", 2),
            ("queued", 0),
            ("sending", 0),
            ("sent", 340),
            ("unknown", 1),
            ("failed", 1),
            ("dropped", 6),
        ],
        holds: vec![HeldBy { reason: "文面を確認中".to_owned(), by: "tanaka".to_owned(), at: at(5, 8) }],
        bad_rows: 1,
        warning: Some("mail.smtp.auth".to_owned()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_whose_row_contradicts_itself_is_told_and_stops_nobody_elses() {
    let lab = lab(["A1", "B1", "C1"].map(affected).into()).await;
    let bench = lab.open(SystemClock.now()).await;
    bench.scan().await;
    bench.pass().await;
    let file = sqlx::sqlite::SqliteConnectOptions::new().filename(lab.path("kigen.db"));
    let mut connection = sqlx::sqlite::SqliteConnection::connect_with(&file).await.unwrap();
    let spoil = "UPDATE deliveries SET rendered_for = 'someday' WHERE id = 1";
    sqlx::raw_sql(spoil).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    assert_eq!(bench.deliver().await.sent, 2, "the others' mail leaves");
    tell(&bench).await;
    let said = lab.alerted().iter().map(text).find(|text| text.starts_with("1 notice failed")).unwrap();
    assert!(said.contains("delivery 1 was set aside: the row contradicts itself: no civil day"), "{said}");
    tokio::task::block_in_place(|| {
        let failed = rows(&lab.kigen_ok(&["outbox", "list", "--state", "failed", "--format", "jsonl"]));
        assert_eq!((failed.len(), &failed[0]["id"]), (1, &1.into()));
        assert!(failed[0]["detail"].as_str().unwrap().starts_with("the row contradicts itself"), "{failed:?}");
    });
}
