//! The whole way in one process: scan, decide, mail, remember, against the simulated world.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;
#[path = "common/faulty_store.rs"]
mod faulty_store;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use common::{Bench, Lab, Settings, affected};
use faulty_store::FaultyStore;
use kigen::daemon::Context;
use kigen::daemon::notify::{Fate, Passed, pass};
use kigen::daemon::progress::{Progress, Silent};
use kigen::demo::admin_tool::{Fault, Variant, WorldCustomer, WorldSite};
use kigen::demo::mail_server::Policy;
use kigen::domain::alert::Cause;
use kigen::domain::campaign::Standing;
use kigen::domain::observation::Verdict;
use kigen::domain::plan::NoticeKind;
use kigen::domain::site::{AuthMethod, ServerType};
use kigen::store::{By, HoldKind, OutboxAction, OutboxFilter, RunCounts, SiteCounts};
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tokio_util::sync::CancellationToken;

fn at(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

/// 2022-09-01, a Thursday, 10:00 in Japan.
fn morning() -> DateTime<Utc> {
    at("2022-09-01T10:00:00+09:00")
}

/// The campaign as it was, and Japanese office hours.
fn in_2022() -> Settings {
    Settings { campaign: String::new(), business_hours: "closed = []".to_owned(), ..Settings::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_look_and_every_fault_gets_the_verdict_it_deserves() {
    let mut customers = Vec::new();
    for (n, variant) in Variant::ALL.iter().enumerate() {
        let (server, method) = [
            (ServerType::ExchangeOnline, AuthMethod::Basic),
            (ServerType::ExchangeOnline, AuthMethod::OAuth),
            (ServerType::OnPremises, AuthMethod::OnPremisesBasic),
        ][n % 3];
        let sites = ["本社", "大阪支店", "第２工場"].map(|name| WorldSite::new(name, server, method)).to_vec();
        customers.push(WorldCustomer::new(&format!("V{n:04}"), sites).with_variant(*variant));
    }
    for (n, fault) in Fault::ALL.into_iter().enumerate() {
        if fault != Fault::BrokenRow {
            let sites = ["本社", "大阪支店"].map(|s| WorldSite::new(s, ServerType::ExchangeOnline, AuthMethod::Basic));
            customers.push(WorldCustomer::new(&format!("F{n:04}"), sites.to_vec()).with_fault(fault));
        }
    }
    let scan = "timeout = \"3s\"\nmax_page = \"512KiB\"".to_owned();
    let settings = Settings { scan, safety: "logon_failures = 1000".to_owned(), ..in_2022() };
    let lab = Lab::with(customers, settings).await;
    let expected = lab.world.lock().expected();
    let bench = lab.open(morning()).await;
    let (seen, report) = bench.scan().await;

    let seen: BTreeMap<(String, Option<String>), (Verdict, Option<String>)> = seen
        .into_iter()
        .map(|o| ((o.customer.to_string(), o.site.map(|s| s.to_string())), (o.verdict, o.detail)))
        .collect();
    let wrong: Vec<String> = expected
        .iter()
        .filter_map(|e| {
            let got = seen.get(&(e.customer.clone(), e.site.clone()));
            let fault = lab.world.lock().customer(&e.customer).unwrap().fault;
            (got.map(|g| g.0) != Some(e.verdict)).then(|| format!("{e:?} {fault:?}: saw {got:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), expected.len(), wrong.join("\n"));
    assert_eq!(seen.len(), expected.len(), "nothing else was seen");
    assert_eq!(report.sites.total() as usize, expected.len());

    let world = lab.world.lock();
    assert_eq!(world.counters.saves, 0, "nothing was ever pressed");
    assert_eq!(world.counters.elsewhere, 0, "no redirect to another host was followed");
    assert_eq!(world.counters.locked_out, 0);
    let agents: Vec<&String> = world.counters.user_agents.iter().collect();
    assert_eq!(agents, [&format!("kigen/{}", env!("CARGO_PKG_VERSION"))]);
    for (account, logons) in &world.counters.logons {
        assert!(logons.refused <= 1, "{account}: a refused password was tried {} times", logons.refused);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_affected_customer_is_told_once_and_nobody_else() {
    let switched =
        WorldCustomer::new("S1", vec![WorldSite::new("本社", ServerType::ExchangeOnline, AuthMethod::OAuth)]);
    let own_server =
        WorldCustomer::new("P1", vec![WorldSite::new("本社", ServerType::OnPremises, AuthMethod::OnPremisesBasic)]);
    let customers = vec![
        affected("A1"),
        affected("A2"),
        switched,
        own_server,
        affected("N1"),
        affected("U1").with_fault(Fault::LabelMissing),
    ];
    let lab = Lab::with(customers, in_2022()).await;
    lab.write_customers(|id, column| match (id, column) {
        ("N1", "notify") => "no".to_owned(),
        ("A2", "cc") => "boss@a2.example;second@a2.example".to_owned(),
        _ => String::new(),
    });
    let bench = lab.open(morning()).await;
    bench.scan().await;
    bench.pass().await;
    let delivered = bench.deliver().await;
    assert_eq!(delivered.sent, 2);
    assert_eq!(lab.mailed(), ["admin@a1.example", "admin@a2.example", "boss@a2.example", "second@a2.example"]);
    for mail in lab.mail.received() {
        let domains: BTreeSet<&str> = mail.recipients.iter().filter_map(|r| r.split('@').nth(1)).collect();
        assert_eq!(domains.len(), 1, "an envelope is one customer's alone");
    }
    // The same day again, and the next day: the case has its first notice, nothing else is due.
    bench.pass().await;
    bench.go(TimeDelta::days(1));
    bench.pass().await;
    bench.deliver().await;
    assert_eq!(lab.mail.received().len(), 2);
    assert_eq!(lab.world.lock().counters.saves, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_switched_meanwhile_is_not_told() {
    let lab = Lab::with(vec![affected("A1"), affected("A2"), affected("A3")], in_2022()).await;
    let bench = lab.open(at("2022-09-01T06:00:00+09:00")).await;
    bench.scan().await;
    lab.world.lock().set_auth_method("A1", "本社", AuthMethod::OAuth);
    bench.clock.set(morning());
    let report = bench.pass().await;
    let fate =
        |id: &str| report.notices.iter().find(|n| n.planned.customer.as_str() == id).map(|n| n.fate.word()).unwrap();
    assert_eq!(fate("A1"), "dropped", "the look right before showed OAuth");
    assert_eq!(fate("A2"), "queued");
    // A2 switches while its mail waits in the outbox for an hour: it is looked at again before it leaves.
    lab.world.lock().set_auth_method("A2", "本社", AuthMethod::OAuth);
    bench.go(TimeDelta::hours(1));
    let delivered = bench.deliver().await;
    assert_eq!((delivered.sent, delivered.dropped), (1, 1));
    assert_eq!(lab.mailed(), ["admin@a3.example"]);
    // It slips back: the dropped notice freed its key, so the customer is told after all.
    lab.world.lock().set_auth_method("A2", "本社", AuthMethod::Basic);
    bench.go(TimeDelta::days(1));
    bench.scan().await;
    bench.pass().await;
    bench.deliver().await;
    assert_eq!(lab.mailed(), ["admin@a2.example", "admin@a3.example"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_leaves_outside_business_hours() {
    let lab = Lab::with(vec![affected("A1")], in_2022()).await;
    let bench = lab.open(at("2022-09-03T10:00:00+09:00")).await; // a Saturday
    bench.scan().await;
    let report = bench.pass().await;
    assert!(report.day_off.is_some() && report.notices.is_empty());
    bench.clock.set(at("2022-09-05T20:00:00+09:00")); // Monday evening
    assert_eq!(bench.pass().await.notices.len(), 1, "a business day: it is queued");
    assert_eq!(bench.deliver().await.sent, 0, "but the window is closed");
    bench.clock.set(at("2022-09-06T08:59:59+09:00"));
    assert_eq!(bench.deliver().await.sent, 0);
    bench.clock.set(at("2022-09-06T09:00:00+09:00"));
    assert_eq!(bench.deliver().await.sent, 1);
    let mail = &lab.mail.received()[0];
    let date = String::from_utf8_lossy(&mail.data).lines().find(|l| l.starts_with("Date:")).unwrap().to_owned();
    assert!(
        date.contains("Tue, 6 Sep 2022 09:00:00 +0900") || date.contains("Tue, 06 Sep 2022 09:00:00 +0900"),
        "{date}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn dry_run_sends_nothing_and_review_waits_for_a_person() {
    let mut lab = Lab::with(vec![affected("A1"), affected("A2")], Settings { mode: "dry-run", ..in_2022() }).await;
    let bench = lab.open(morning()).await;
    bench.scan().await;
    let report = bench.pass().await;
    assert!(report.notices.iter().all(|n| matches!(n.fate, Fate::WouldQueue)) && report.notices.len() == 2);
    bench.deliver().await;
    assert_eq!(bench.ctx.store.deliveries(&OutboxFilter::default()).await.unwrap().len(), 0);
    bench.ctx.store.close().await;
    drop(bench);

    lab.settings.mode = "review";
    lab.write_config();
    let bench = lab.open(morning()).await;
    bench.pass().await;
    bench.deliver().await;
    assert_eq!((bench.outbox("held").await, lab.mail.received().len()), (2, 0));
    // A second pass does not repeat what is held.
    bench.pass().await;
    assert_eq!(bench.outbox("held").await, 2);
    let held = bench.ctx.store.deliveries(&OutboxFilter::default()).await.unwrap();
    let now = bench.ctx.now();
    let by = By { who: "tanaka".to_owned(), at: now, day: bench.ctx.snapshot.config.calendar.day(now) };
    bench.ctx.store.act(&[held[0].id], OutboxAction::Approve, &by).await.unwrap();
    assert_eq!(bench.deliver().await.sent, 1);
    assert_eq!(bench.outbox("held").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn first_notices_over_the_cap_are_held_and_a_hold_stops_all() {
    let customers = (0..30).map(|n| affected(&format!("A{n:02}"))).collect();
    let lab = Lab::with(customers, in_2022()).await;
    let bench = lab.open(morning()).await;
    bench.scan().await;
    bench.pass().await;
    assert_eq!((bench.outbox("queued").await, bench.outbox("held").await), (20, 10), "5 %, but never less than 20");
    let hold = kigen::store::Hold {
        kind: HoldKind::Paused,
        reason: "電話が鳴りやまない".to_owned(),
        set_by: "tanaka".to_owned(),
        set_at: bench.ctx.now(),
    };
    bench.ctx.store.set_hold(&hold).await.unwrap();
    assert_eq!(bench.deliver().await.sent, 0, "paused");
    bench.go(TimeDelta::minutes(1));
    let now = bench.ctx.now();
    let by = By { who: "tanaka".to_owned(), at: now, day: bench.ctx.snapshot.config.calendar.day(now) };
    bench.ctx.store.clear_holds(&by).await.unwrap();
    assert_eq!(bench.deliver().await.sent, 20);
    assert_eq!(bench.outbox("held").await, 10, "resume releases what the hold kept, not what the cap keeps");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_that_looks_like_our_own_misreading_holds_all_mail() {
    let switched = |n| {
        WorldCustomer::new(
            &format!("S{n:02}"),
            vec![WorldSite::new("本社", ServerType::ExchangeOnline, AuthMethod::OAuth)],
        )
    };
    let lab = Lab::with((0..20).map(switched).collect(), in_2022()).await;
    let bench = lab.open(morning()).await;
    bench.scan().await;
    for n in 0..10 {
        lab.world.lock().set_auth_method(&format!("S{n:02}"), "本社", AuthMethod::Basic);
    }
    bench.go(TimeDelta::minutes(5));
    bench.scan().await;
    let holds = bench.ctx.store.holds().await.unwrap();
    assert_eq!(holds.iter().map(|h| h.kind).collect::<Vec<_>>(), [HoldKind::NewlyAffected]);
    bench.pass().await;
    assert_eq!((bench.deliver().await.sent, bench.outbox("held").await), (0, 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_logons_in_a_row_stop_the_scan_and_none_is_tried_again() {
    let customers = (0..40).map(|n| affected(&format!("A{n:02}")).with_fault(Fault::PasswordRefused)).collect();
    let scan = "concurrency = 1\ntimeout = \"5s\"".to_owned();
    let lab = Lab::with(customers, Settings { scan, ..in_2022() }).await;
    let bench = lab.open(morning()).await;
    let (seen, report) = bench.scan().await;
    let refused = |lab: &Lab| lab.world.lock().counters.logons.values().map(|l| l.refused).sum::<u64>();
    assert!(report.stopped.is_some());
    assert_eq!(refused(&lab), 10, "safety.logon_failures");
    let skipped = seen.iter().filter(|o| o.verdict.reason().map(|r| r.as_str()) == Some("skipped")).count();
    assert_eq!(skipped, 30, "and the rest says so");
    bench.go(TimeDelta::hours(1));
    bench.scan().await;
    assert_eq!(refused(&lab), 20, "those refused an hour ago are not tried again");
    bench.go(TimeDelta::hours(24));
    lab.world.lock().new_day();
    bench.scan().await;
    assert_eq!(refused(&lab), 30, "after a day they are");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_a_case_from_first_to_relapse() {
    let lab = Lab::with(vec![affected("A1")], in_2022()).await;
    let bench = lab.open(at("2022-07-20T06:00:00+09:00")).await;
    let mut told = Vec::new();
    for day in 0..90 {
        let date = chrono::NaiveDate::from_ymd_opt(2022, 7, 20).unwrap() + TimeDelta::days(day);
        let calendar = &bench.ctx.snapshot.config.calendar;
        bench.clock.set(calendar.instant(date, chrono::NaiveTime::from_hms_opt(6, 0, 0).unwrap()));
        match date.to_string().as_str() {
            "2022-09-03" => drop(lab.world.lock().set_auth_method("A1", "本社", AuthMethod::OAuth)),
            "2022-09-20" => drop(lab.world.lock().set_auth_method("A1", "本社", AuthMethod::Basic)),
            _ => {}
        }
        bench.scan().await;
        bench.clock.set(calendar.instant(date, chrono::NaiveTime::from_hms_opt(10, 0, 0).unwrap()));
        let report = bench.pass().await;
        bench.deliver().await;
        told.extend(
            report
                .notices
                .iter()
                .map(|n| (date.to_string(), n.planned.due.kind, n.planned.due.milestone.map(|m| m.days))),
        );
    }
    let told: Vec<(&str, NoticeKind, Option<u32>)> = told.iter().map(|(d, k, m)| (d.as_str(), *k, *m)).collect();
    assert_eq!(
        told,
        [
            ("2022-07-20", NoticeKind::First, None),
            ("2022-08-02", NoticeKind::Reminder, Some(60)),
            ("2022-09-01", NoticeKind::Reminder, Some(30)),
            ("2022-09-05", NoticeKind::Resolved, None),
            ("2022-09-20", NoticeKind::Regressed, None),
            ("2022-09-22", NoticeKind::Reminder, Some(7)),
            ("2022-09-28", NoticeKind::Reminder, Some(3)),
            ("2022-09-30", NoticeKind::Reminder, Some(1)),
            ("2022-10-03", NoticeKind::Overdue, None),
            ("2022-10-11", NoticeKind::Overdue, None),
        ]
    );
    assert_eq!(lab.mail.received().len(), told.len());
    let case = &bench.ctx.store.open_cases().await.unwrap()[0];
    assert_eq!((case.round, case.any(Standing::Affected)), (2, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_dead_address_does_not_stop_the_others_and_a_deferred_one_is_tried_again() {
    let lab = Lab::with(vec![affected("A1"), affected("A2"), affected("A3")], in_2022()).await;
    lab.write_customers(|id, column| match (id, column) {
        ("A1", "cc") => "dead@a1.example".to_owned(),
        _ => String::new(),
    });
    lab.mail.set_policy("dead@a1.example", Policy::Reject);
    lab.mail.set_policy("admin@a2.example", Policy::Defer(1));
    lab.mail.set_policy("admin@a3.example", Policy::Reject);
    let bench = lab.open(morning()).await;
    bench.scan().await;
    bench.pass().await;
    let done = bench.deliver().await;
    assert_eq!((done.sent, done.deferred, done.failed), (1, 1, 1));
    bench.go(TimeDelta::minutes(2));
    assert_eq!(bench.deliver().await.sent, 1);
    assert_eq!(lab.mailed(), ["admin@a1.example", "admin@a2.example"]);
    assert_eq!(bench.outbox("failed").await, 1, "an operator must look at A3");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_never_heard_is_unknown_and_resent_once_with_the_same_bytes() {
    let lab = Lab::with(vec![affected("A1")], in_2022()).await;
    lab.mail.set_policy("admin@a1.example", Policy::DropAfterDot);
    let bench = lab.open(morning()).await;
    bench.scan().await;
    bench.pass().await;
    bench.deliver().await;
    assert_eq!(bench.outbox("sent").await, 0);
    bench.go(TimeDelta::minutes(5));
    bench.deliver().await;
    assert_eq!(bench.outbox("unknown").await, 1, "twice unheard: a person must look");
    bench.go(TimeDelta::hours(5));
    bench.deliver().await;
    let received = lab.mail.received();
    assert_eq!(received.len(), 2, "resent once, not for ever");
    assert_eq!(received[0].data, received[1].data, "the same bytes, Message-ID and Date included");
}

/// A pass that is held up when its first notices are made and not in the outbox yet, and what is done meanwhile.
async fn pass_with(bench: &Bench, meanwhile: impl FnOnce()) -> Vec<String> {
    let store = FaultyStore::at_point(bench.ctx.store.clone(), faulty_store::Fault::Wait, "before commit_passes", 0);
    let ctx = Context { store: store.clone(), ..bench.ctx.clone() };
    let passing = tokio::spawn(async move { pass(&ctx, None, &CancellationToken::new(), &Silent).await.unwrap() });
    store.wait().await;
    meanwhile();
    store.go_on();
    let Passed::Ran(report) = passing.await.unwrap() else { panic!("another pass runs") };
    let mut fates: Vec<_> =
        report.notices.iter().map(|n| format!("{} {}", n.planned.customer, n.fate.word())).collect();
    assert!(fates.is_sorted(), "in the order of the plan");
    let counts = report.counts();
    let of = |word: &str| fates.iter().filter(|fate| fate.ends_with(word)).count() as u64;
    assert_eq!((counts.customers, counts.queued, counts.held), (fates.len() as u64, of("queued"), of("held")));
    fates.sort();
    fates
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_is_scanned_in_the_middle_of_a_pass_is_told_all_the_same() {
    let ids = ["A1", "A2", "A3", "A4", "A5", "A6"];
    let lab = Lab::start(ids.map(affected).to_vec()).await;
    let bench = lab.open(kigen::clock::Clock::now(&kigen::clock::SystemClock)).await;
    bench.scan().await;
    // A person's command.
    let fates = pass_with(&bench, || {
        lab.kigen_ok(&["scan"]);
    })
    .await;
    assert_eq!(
        fates,
        ids.map(|id| format!("{id} queued")),
        "the scan changed customers whose notices were made already"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_cap_counts_what_came_into_the_outbox() {
    let ids: Vec<String> = (0..30).map(|n| format!("A{n:02}")).collect();
    let lab = Lab::start(ids.iter().map(|id| affected(id)).collect()).await;
    let bench = lab.open(kigen::clock::Clock::now(&kigen::clock::SystemClock)).await;
    bench.scan().await;
    let fates = pass_with(&bench, || {
        lab.kigen_ok(&["scan", "--customer", "A03", "--customer", "A19", "--customer", "A25"]);
    })
    .await;
    let expected = |(n, id): (usize, &String)| format!("{id} {}", if n < 20 { "queued" } else { "held" });
    assert_eq!(fates, ids.iter().enumerate().map(expected).collect::<Vec<_>>(), "20, whoever was decided twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_notice_that_cannot_be_written_hurts_no_other() {
    let lab = Lab::with(["A1", "A2", "A3", "A4"].map(affected).to_vec(), in_2022()).await;
    let bench = lab.open(morning()).await;
    bench.scan().await;
    let sql = "CREATE TRIGGER bad BEFORE INSERT ON deliveries WHEN NEW.customer = 'A2' \
               BEGIN SELECT RAISE(ABORT, 'a bad row'); END";
    let options = SqliteConnectOptions::new().filename(lab.path("kigen.db"));
    let mut direct = SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::query(sql).execute(&mut direct).await.unwrap();
    direct.close().await.unwrap();
    let report = bench.pass().await;
    let fates: Vec<&str> = report.notices.iter().map(|n| n.fate.word()).collect();
    assert_eq!(fates, ["queued", "not_made", "queued", "queued"]);
    let raised = bench.ctx.store.untold_alerts().await.unwrap();
    assert!(raised.iter().any(|group| group.cause == Cause::NoticeFailed), "the operators hear of it");
    assert_eq!(bench.deliver().await.sent, 3);
}

/// Says stop as soon as something is in the outbox.
struct Stops(CancellationToken);

impl Progress for Stops {
    fn step(&self, _counts: &RunCounts, _sites: &SiteCounts) {
        self.0.cancel();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_pass_that_is_stopped_is_finished_by_the_next_one() {
    let ids: Vec<String> = (0..150).map(|n| format!("A{n:03}")).collect();
    let settings = Settings { safety: "max_new_notices = \"100%\"".to_owned(), ..in_2022() };
    let lab = Lab::with(ids.iter().map(|id| affected(id)).collect(), settings).await;
    let bench = lab.open(morning()).await;
    bench.scan().await;
    let stop = CancellationToken::new();
    let Passed::Ran(first) = pass(&bench.ctx, None, &stop, &Stops(stop.clone())).await.unwrap() else { panic!() };
    let queued = bench.outbox("queued").await;
    assert!(first.interrupted && (1..150).contains(&queued), "{queued}");
    assert_eq!(first.notices.len() as u64, queued, "what was made is in the outbox");
    let second = bench.pass().await;
    assert_eq!((second.notices.len() as u64, bench.outbox("queued").await), (150 - queued, 150));
    assert!(second.notices.iter().all(|n| matches!(n.fate, Fate::Queued(_))));
}
