//! A scan over a fleet: where it goes on, in which order, and what it does when hosts fail.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use common::{Bench, Lab, Settings, affected, wait_until, write_private};
use kigen::daemon::notify::Fate;
use kigen::daemon::operators::{Tending, tend};
use kigen::daemon::progress::Silent;
use kigen::daemon::scan::{ScanReport, ScanRequest, Scanned, scan};
use kigen::demo::admin_tool::{Controls, Expected, Fault, Lettering, LogOff, Tabs, Variant, WorldCustomer, WorldSite};
use kigen::demo::fleet::{FleetOptions, build};
use kigen::domain::alert::Cause;
use kigen::domain::observation::{Observation, Reason, Verdict};
use kigen::domain::site::{AuthMethod, ServerType};
use kigen::store::{AlertGroup, RunKind, RunOutcome};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

fn at(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

fn morning() -> DateTime<Utc> {
    at("2022-09-01T10:00:00+09:00")
}

fn in_2022(scan: &str) -> Settings {
    let business_hours = "closed = []".to_owned();
    Settings { campaign: String::new(), business_hours, scan: scan.to_owned(), ..Settings::default() }
}

fn fleet(n: usize) -> Vec<WorldCustomer> {
    (0..n).map(|n| affected(&format!("A{n:03}"))).collect()
}

/// A scan for a schedule time, stopped once it has seen `stop_after` customers.
async fn scan_due(bench: &Bench, due: DateTime<Utc>, stop_after: usize) -> (Vec<Observation>, ScanReport) {
    let request = ScanRequest { due_at: Some(due), ..ScanRequest::default() };
    let stop = CancellationToken::new();
    let mut seen = Vec::new();
    let scanned = scan(&bench.ctx, &request, &stop, &Silent, |o| {
        seen.extend_from_slice(o);
        if seen.len() >= stop_after {
            stop.cancel();
        }
    });
    let Scanned::Ran(report) = scanned.await.unwrap() else { panic!("it did not run") };
    (seen, *report)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_cut_short_goes_on_with_whom_it_did_not_reach() {
    let lab = Lab::with(fleet(60), in_2022("concurrency = 2")).await;
    let bench = lab.open(morning()).await;
    let (first, report) = scan_due(&bench, morning(), 20).await;
    assert!(report.interrupted && !report.resumed && first.len() < 40, "{}", first.len());
    bench.go(TimeDelta::minutes(5));
    let (second, report) = scan_due(&bench, morning(), usize::MAX).await;
    assert!(report.resumed && !report.interrupted);
    let ids = |seen: &[Observation]| seen.iter().map(|o| o.customer.to_string()).collect::<BTreeSet<_>>();
    let (first, second) = (ids(&first), ids(&second));
    assert_eq!(first.intersection(&second).count(), 0, "nobody twice");
    assert_eq!(first.len() + second.len(), 60, "everybody once");
    let again = ScanRequest { due_at: Some(morning()), ..ScanRequest::default() };
    let done = scan(&bench.ctx, &again, &CancellationToken::new(), &Silent, |_| {}).await.unwrap();
    assert!(matches!(done, Scanned::AlreadyDone), "the schedule time is done");
    // The next schedule time is a scan of its own.
    bench.go(TimeDelta::hours(12));
    let (all, report) = scan_due(&bench, morning() + TimeDelta::hours(12), usize::MAX).await;
    assert!(all.len() == 60 && !report.resumed);
    assert_eq!(lab.world.lock().counters.saves, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn urgent_ones_first_then_new_ones_then_who_waited_longest() {
    let switched =
        |id: &str| WorldCustomer::new(id, vec![WorldSite::new("本社", ServerType::ExchangeOnline, AuthMethod::OAuth)]);
    let customers = vec![switched("S1"), switched("S2"), affected("A1"), affected("A2"), switched("N1")];
    let lab = Lab::with(customers, in_2022("concurrency = 1")).await;
    // A2's deadline is months away, A1's a week.
    lab.write_customers(|id, column| match (id, column) {
        ("A2", "opted_out") => "yes".to_owned(),
        _ => String::new(),
    });
    let bench = lab.open(at("2022-09-24T10:00:00+09:00")).await;
    for (minutes, id) in [(0, "S2"), (1, "A2"), (2, "A1"), (3, "S1")] {
        bench.go(TimeDelta::minutes(minutes));
        let only = vec![kigen::domain::site::CustomerId::new(id).unwrap()];
        let request = ScanRequest { only, ..ScanRequest::default() };
        scan(&bench.ctx, &request, &CancellationToken::new(), &Silent, |_| {}).await.unwrap();
    }
    bench.go(TimeDelta::minutes(5));
    let (seen, _) = bench.scan().await;
    let order: Vec<String> = seen.iter().map(|o| o.customer.to_string()).collect();
    assert_eq!(order, ["A1", "N1", "S2", "A2", "S1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_is_down_for_a_while_is_left_in_peace_and_then_read() {
    let scan = "concurrency = 2\nattempts = 1\nhost_failures = 5\nhost_pause = \"1s\"";
    let lab = Lab::with(fleet(80), in_2022(scan)).await;
    let bench = lab.open(morning()).await;
    lab.world.lock().outage = Some(Fault::ServerError);
    let world = lab.world.clone();
    let repair = std::thread::spawn(move || {
        let mut noticed = 0;
        wait_until("the outage to be noticed", || {
            let mut world = world.lock();
            noticed = world.counters.requests;
            let enough = noticed >= 5 && world.counters.in_flight == 0;
            if enough {
                world.outage = None;
            }
            enough
        });
        noticed
    });
    let (_, report) = bench.scan().await;
    let noticed = repair.join().unwrap();
    assert!(noticed <= 7, "{noticed} requests went to a tool that was down");
    assert_eq!(report.not_asked, 0);
    assert_eq!(report.unreadable_by_reason.keys().collect::<Vec<_>>(), [&Reason::HttpStatus]);
    assert_eq!(report.sites.affected, 80 - noticed);
}

/// A host that does nothing but `answer` to each connection.
async fn host(answer: Option<&'static str>) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        let mut silent = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            match answer {
                None => silent.push(stream),
                Some(answer) => drop(tokio::spawn(async move {
                    let mut request = [0; 4096];
                    let _ = stream.read(&mut request).await;
                    let _ = stream.write_all(answer.as_bytes()).await;
                })),
            }
        }
    });
    (port, count)
}

/// The lab's customers, and `others` on another host.
fn with_another_host(lab: &Lab, port: u16, others: usize) {
    let mut text = "customer_id,name,email,account,password,logon_url\n".to_owned();
    for n in 0..others {
        text.push_str(&format!("X{n:03},X,a@x{n}.example,a,p,http://127.0.0.1:{port}/logon.aspx\n"));
    }
    for c in &lab.world.lock().customers {
        text.push_str(&format!("{},A,a@a.example,{},{},\n", c.id, c.account, c.password));
    }
    write_private(&lab.path("customers.csv"), text.as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_says_nothing_costs_a_few_looks_and_nobody_else() {
    let scan = "concurrency = 4\ntimeout = \"1s\"\nattempts = 1\nhost_failures = 4\nhost_pause = \"1s\"";
    let lab = Lab::with(fleet(50), in_2022(scan)).await;
    let (port, connections) = host(None).await;
    with_another_host(&lab, port, 400);
    let bench = lab.open(morning()).await;
    let began = Instant::now();
    let (seen, report) = bench.scan().await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(60), "{took:?} for 400 customers of a silent host");
    let asked = connections.load(Ordering::SeqCst);
    assert!((7..=11).contains(&asked), "{asked} connections: 4 to 8, then 3 probes");
    assert_eq!(report.sites.affected, 50, "the other host's customers are read");
    assert_eq!(report.unreadable_by_reason[&Reason::Timeout], 400);
    assert_eq!(report.not_asked, 400 - asked as u64);
    let told = seen.iter().filter(|o| o.detail.as_deref().is_some_and(|d| d.starts_with("not asked: 127.0.0.1:")));
    assert_eq!(told.count() as u64, report.not_asked, "and say why");
    // Who was not asked is first the next time.
    bench.go(TimeDelta::hours(12));
    let turns = bench.ctx.store.scan_turns(None, 1000).await.unwrap();
    assert_eq!(turns.iter().filter(|t| t.scanned_at.is_none()).count() as u64, report.not_asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn storms_of_429_and_503_end() {
    let scan = "concurrency = 2\nattempts = 2\ncustomer_timeout = \"5s\"\ntimeout = \"2s\"\nhost_failures = 2\nhost_pause = \"1s\"";
    for status in ["429 Too Many Requests", "503 Service Unavailable"] {
        let answer = format!("HTTP/1.1 {status}\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let (port, connections) = host(Some(answer.leak())).await;
        let lab = Lab::with(fleet(10), in_2022(scan)).await;
        with_another_host(&lab, port, 200);
        let bench = lab.open(morning()).await;
        let (_, report) = bench.scan().await;
        assert_eq!((report.sites.affected, report.sites.unreadable), (10, 200), "{status}");
        assert_eq!(report.unreadable_by_reason.keys().collect::<Vec<_>>(), [&Reason::HttpStatus], "{status}");
        let asked = connections.load(Ordering::SeqCst);
        assert!(asked <= 24, "{status}: {asked} requests");
    }
}

/// What the operators are told of the tool's pages, mail by mail.
async fn told_of_pages(lab: &Lab, bench: &Bench) -> Vec<String> {
    let about = |groups: Vec<AlertGroup>| groups.into_iter().find(|group| group.cause == Cause::LayoutChanged);
    let mut details = Vec::new();
    if let Some(group) = about(bench.ctx.store.untold_alerts().await.unwrap()) {
        details = bench.ctx.store.alerts_of(&group, 100).await.unwrap().into_iter().map(|row| row.detail).collect();
    }
    bench.go(TimeDelta::hours(2));
    tend(&bench.ctx, &mut Tending::default()).await.unwrap();
    let before = lab.alerted().len();
    bench.deliver().await;
    assert!(lab.alerted().len() - before >= details.len(), "it is mailed");
    details
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_changed_is_one_alert_not_a_thousand() {
    for (changed, suspected) in [(2, false), (3, true)] {
        let lab = Lab::with(fleet(30), in_2022("")).await;
        let bench = lab.open(morning()).await;
        bench.scan().await;
        assert_eq!(told_of_pages(&lab, &bench).await, [""; 0], "nothing was known, so nothing is new");
        for n in 0..changed {
            lab.world.lock().customers[n].fault = Some(Fault::LabelMissing);
        }
        let (_, report) = bench.scan().await;
        assert_eq!((report.asked, report.misread.customers), (30, changed as u64));
        assert_eq!(report.misread.tool_changed(), suspected);
        let told = told_of_pages(&lab, &bench).await;
        assert_eq!(told.len(), usize::from(suspected), "{told:?}");
        for said in &told {
            assert!(
                said.starts_with("3 of 30 customers: A000, A001, A002 / 3 of 30 customers of 127.0.0.1:"),
                "{said}"
            );
            assert!(said.ends_with("gone: [label exchangeサーバの認証方式]; new: [label サインインの方法]"), "{said}");
        }
        bench.scan().await;
        assert_eq!(told_of_pages(&lab, &bench).await, [""; 0], "it goes on, and is told");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_parts_that_can_still_be_read_are_told_once() {
    let lab = Lab::with(fleet(30), in_2022("")).await;
    let bench = lab.open(morning()).await;
    bench.scan().await;
    let redraw = |customers: std::ops::Range<usize>, controls: Controls| {
        for customer in &mut lab.world.lock().customers[customers] {
            customer.variant.controls = controls;
        }
    };
    redraw(0..2, Controls::RadioFlow);
    let (_, report) = bench.scan().await;
    assert_eq!(report.sites.affected, 30, "every look can be read");
    assert_eq!(told_of_pages(&lab, &bench).await, [""; 0], "two customers are not the tool");
    redraw(0..3, Controls::RadioFlow);
    bench.scan().await;
    let told = told_of_pages(&lab, &bench).await;
    assert_eq!(told.len(), 1, "{told:?}");
    let said = &told[0];
    assert!(
        said.starts_with("3 of 30 customers of 127.0.0.1:") && said.contains("have another settings page"),
        "{said}"
    );
    assert!(said.contains("gone: [list ctl#$Main$AuthMethod]"), "{said}");
    bench.scan().await;
    assert_eq!(told_of_pages(&lab, &bench).await, [""; 0], "now it is known");
    // Another lettering of the same words is the same page, and so is another customer's choice.
    for customer in &mut lab.world.lock().customers[..] {
        customer.variant.lettering = Lettering::HalfKana;
        customer.sites[0].auth_method = AuthMethod::OAuth;
    }
    bench.scan().await;
    assert_eq!(told_of_pages(&lab, &bench).await, [""; 0], "values and widths are no parts");
    // Back to what was known before: nothing new either.
    redraw(0..30, Controls::Select);
    bench.scan().await;
    assert_eq!(told_of_pages(&lab, &bench).await, [""; 0], "known looks stay known");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_that_takes_too_long_ends_and_keeps_what_it_saw() {
    let scan = "concurrency = 1\ntimeout = \"60s\"\nmax_duration = \"1s\"";
    let lab = Lab::with(vec![affected("A1"), affected("A2").with_fault(Fault::Hang)], in_2022(scan)).await;
    let bench = lab.open(morning()).await;
    let (seen, report) = scan_due(&bench, morning(), usize::MAX).await;
    assert!(report.out_of_time && report.interrupted);
    assert_eq!(seen.iter().map(|o| o.verdict).collect::<Vec<_>>(), [Verdict::Affected]);
    let run = bench.ctx.store.last_run(RunKind::Scan, false).await.unwrap().unwrap();
    assert_eq!(run.outcome, Some(RunOutcome::Interrupted));
    assert!(run.detail.unwrap().contains("scan.max_duration"));
    lab.world.lock().customer_mut("A2").unwrap().fault = None;
    let (seen, _) = scan_due(&bench, morning(), usize::MAX).await;
    assert_eq!(seen.iter().map(|o| o.customer.as_str()).collect::<Vec<_>>(), ["A2"], "it goes on with the other");
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_kept_as_long_as_configured_and_an_open_cases_always() {
    let lab = Lab::with(vec![affected("A1"), affected("S1")], in_2022("")).await;
    let bench = lab.open(morning()).await;
    let lines = async |id: &str| {
        let id = kigen::domain::site::CustomerId::new(id).unwrap();
        let history = bench.ctx.store.history(&id).await.unwrap().unwrap();
        history.iter().filter(|e| e.what == kigen::store::HistoryKind::Seen).count()
    };
    bench.scan().await;
    for id in ["A1", "S1"] {
        lab.world.lock().set_auth_method(id, "本社", AuthMethod::OAuth);
    }
    bench.go(TimeDelta::hours(1));
    bench.scan().await;
    lab.world.lock().set_auth_method("A1", "本社", AuthMethod::Basic);
    bench.go(TimeDelta::hours(1));
    bench.scan().await;
    bench.pass().await;
    assert_eq!((lines("A1").await, lines("S1").await), (3, 2));
    bench.go(TimeDelta::hours(1));
    bench.scan().await;
    bench.pass().await; // S1's case is resolved now
    bench.go(TimeDelta::days(399));
    bench.scan().await;
    assert_eq!((lines("A1").await, lines("S1").await), (3, 2), "not yet");
    bench.go(TimeDelta::days(2));
    bench.scan().await;
    assert_eq!((lines("A1").await, lines("S1").await), (3, 1), "what S1 was 401 days ago is forgotten");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_behind_the_log_on_is_no_trouble_of_the_host() {
    let scan = "concurrency = 2\nattempts = 1\nhost_failures = 3\nhost_pause = \"1s\"";
    let customers = fleet(40).into_iter().enumerate();
    let broken = customers.map(|(n, c)| if n < 30 { c.with_fault(Fault::ServerError) } else { c });
    let lab = Lab::with(broken.collect(), in_2022(scan)).await;
    let (_, report) = lab.open(morning()).await.scan().await;
    assert_eq!((report.not_asked, report.sites.affected), (0, 10), "thirty in a row, and yet the tool answers");
    assert_eq!(report.unreadable_by_reason[&Reason::HttpStatus], 30);
    let world = lab.world.lock();
    assert!(world.counters.logons.values().all(|l| l.accepted == 1), "each was asked once, without a pause's probes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_pass_leaves_a_host_that_is_down_in_peace_and_the_next_one_tells_all() {
    let scan = "concurrency = 2\nattempts = 1\nhost_failures = 3\nhost_pause = \"1s\"";
    let lab = Lab::with(fleet(60), in_2022(scan)).await;
    let bench = lab.open(morning()).await;
    bench.scan().await;
    bench.go(TimeDelta::hours(1)); // the evidence is too old now: everybody is looked at again
    lab.world.lock().outage = Some(Fault::ServerError);
    let before = lab.world.lock().counters.requests;
    let report = bench.pass().await;
    let asked = lab.world.lock().counters.requests - before;
    assert!((6..=7).contains(&asked), "{asked} requests: 3 or 4, then 3 probes");
    assert_eq!((report.notices.len(), report.counts().queued), (60, 0));
    let given_up =
        report.notices.iter().filter(|n| matches!(&n.fate, Fate::NotFresh(why) if why.contains("not asked: ")));
    assert_eq!(given_up.count() as u64, 60 - asked, "and the others say why");
    lab.world.lock().outage = None;
    let counts = bench.pass().await.counts();
    assert_eq!(counts.queued + counts.held, 60, "nobody is forgotten (the cap on first notices holds some)");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_down_at_the_time_of_sending_is_left_in_peace_and_no_mail_is_lost() {
    let scan = "concurrency = 2\nattempts = 1\nhost_failures = 3\nhost_pause = \"1s\"";
    let settings = Settings { safety: "max_new_notices = \"100%\"".to_owned(), ..in_2022(scan) };
    let lab = Lab::with(fleet(40), settings).await;
    let bench = lab.open(morning()).await;
    bench.scan().await;
    assert_eq!(bench.pass().await.counts().queued, 40);
    bench.go(TimeDelta::hours(1)); // the evidence is too old now
    lab.world.lock().outage = Some(Fault::ServerError);
    let before = lab.world.lock().counters.requests;
    assert_eq!(bench.deliver().await.sent, 0);
    let asked = lab.world.lock().counters.requests - before;
    assert!((3..=12).contains(&asked), "{asked} requests: a few at once, then 3 probes at most");
    assert_eq!(bench.outbox("queued").await, 40, "put off");
    lab.world.lock().outage = None;
    bench.go(TimeDelta::minutes(20));
    assert_eq!(bench.deliver().await.sent, 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tab_that_is_gone_is_a_change_of_the_page_however_it_looks_and_whatever_it_announces() {
    // In four of the ninety looks hardly anything is left then: no panel, no way to log off, only the other tabs and the news
    // of a maintenance to come.
    let bare = |v: &&Variant| v.tabs == Tabs::SecondAndOpen && v.log_off == LogOff::Missing;
    assert_eq!(Variant::ALL.iter().filter(bare).count(), 4);
    let customers = Variant::ALL.iter().enumerate();
    let customers =
        customers.map(|(n, v)| affected(&format!("A{n:03}")).with_variant(*v).with_fault(Fault::TabMissing));
    let lab = Lab::with(customers.collect(), in_2022("concurrency = 8\ntimeout = \"20s\"")).await;
    let (seen, _) = lab.open(morning()).await.scan().await;
    let wrong: Vec<_> = seen.iter().filter(|o| o.verdict != Verdict::Unreadable(Reason::LayoutChanged)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(seen.len(), 90);
}

/// Every look and every fault of the tool in one fleet, one scan: what it says of every site is what the world knows.
async fn everything_at_once(customers: usize) {
    const CONCURRENCY: usize = 16;
    let demo = build(FleetOptions { customers, ..FleetOptions::default() });
    let scan = format!("concurrency = {CONCURRENCY}\ntimeout = \"8s\"\nattempts = 2\nmax_page = \"1MiB\"");
    let lab = Lab::with(demo.world.customers.clone(), in_2022(&scan)).await;
    std::fs::remove_file(lab.path("customers.csv")).unwrap();
    demo.write_customers(&lab.path("customers.csv")).unwrap();
    let bench = lab.open(morning()).await;
    let began = Instant::now();
    let (seen, report) = bench.scan().await;
    println!("{customers} customers, {} sites: {:?}", report.counts.sites, began.elapsed());

    // Customer and site; the detail is only there to be read when it is wrong.
    let mut said: Vec<_> = seen
        .into_iter()
        .map(|o| (o.customer.to_string(), o.site.map(|s| s.to_string()), o.verdict, o.detail))
        .collect();
    let mut expected: Vec<_> = lab.world.lock().expected();
    said.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    expected.sort_by(|a, b| (&a.customer, &a.site).cmp(&(&b.customer, &b.site)));
    let same =
        |s: &(String, Option<String>, Verdict, _), e: &Expected| s.0 == e.customer && s.1 == e.site && s.2 == e.verdict;
    let wrong: Vec<_> = said.iter().zip(&expected).filter(|(s, e)| !same(s, e)).take(5).collect();
    assert!(wrong.is_empty(), "said, expected: {wrong:#?}");
    assert_eq!(said.len(), expected.len(), "none is missed, none twice");

    let world = lab.world.lock();
    let counters = &world.counters;
    assert_eq!((counters.saves, counters.elsewhere, counters.locked_out, counters.strangers), (0, 0, 0, 0));
    assert_eq!(world.violations, []);
    let tried_again: Vec<_> = counters.logons.iter().filter(|(_, l)| l.refused > 1).collect();
    assert!(tried_again.is_empty(), "a refused password is sent once: {tried_again:?}");
    assert!(counters.max_in_flight <= CONCURRENCY, "{} sessions at once", counters.max_in_flight);
    let faults: BTreeSet<Fault> = world.customers.iter().filter_map(|c| c.fault).collect();
    assert_eq!(faults.len(), Fault::ALL.len(), "every fault was there");
    assert!(report.stopped.is_none() && report.not_asked == 0 && !report.interrupted);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_look_and_every_fault_at_once_and_each_verdict_is_the_worlds() {
    // KIGEN_TEST_CUSTOMERS=5000 takes more of them, by hand: the time goes to the simulated tool.
    let customers = std::env::var("KIGEN_TEST_CUSTOMERS").ok().and_then(|n| n.parse().ok()).unwrap_or(600);
    everything_at_once(customers).await;
}
