//! Nodes in one process: one scan shared out, summed up, guarded, and polite to hosts as one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta};
use kigen::clock::{Clock, SystemClock};
use kigen::connector::breaker::{Admission, Sign};
use kigen::connector::{Account, Connector};
use kigen::daemon::circuit::Circuit;
use kigen::daemon::progress::Silent;
use kigen::daemon::scan::{ScanRequest, Scanned, scan};
use kigen::domain::observation::{CustomerLook, Failure, Reason};
use kigen::domain::site::AuthMethod;
use kigen::store::HoldKind;
use tokio_util::sync::CancellationToken;

use crate::common::{Lab, Settings, affected};
use crate::nodes::{CUSTOMERS, customers, open, state, until};

/// Three nodes scan for one schedule time; what each says.
async fn scan_together(lab: &Lab, at: DateTime<chrono::Utc>) -> Vec<Scanned> {
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..3 {
        let mut bench = lab.open(at).await;
        bench.ctx.owner = format!("host:{n}");
        tasks.spawn(async move {
            let request = ScanRequest { due_at: Some(at), ..ScanRequest::default() };
            scan(&bench.ctx, &request, &CancellationToken::new(), &Silent, |_| {}).await.unwrap()
        });
    }
    tasks.join_all().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_is_shared_out_and_summed_up_and_guarded_as_one() {
    let settings = Settings {
        state: state().await,
        campaign: String::new(),
        safety: "logon_failures = 10\nmax_new_notices = \"100%\"".to_owned(),
        scan: "timeout = \"20s\"\nconcurrency = 1".to_owned(),
        ..Settings::default()
    };
    let switch = |lab: &Lab, method| {
        for n in 0..CUSTOMERS {
            lab.world.lock().set_auth_method(&format!("K{n:03}"), "本社", method);
        }
    };
    let lab = Lab::with(customers(), settings).await;
    switch(&lab, AuthMethod::OAuth);
    let start = DateTime::parse_from_rfc3339("2022-09-01T10:00:00+09:00").unwrap().to_utc();
    let mut expected = [(0, false), (1, true)].into_iter();
    // All switched; then, an hour later, all affected at once: that looks like a misreading, whoever looked at whom.
    for (hour, method) in [(0, AuthMethod::OAuth), (1, AuthMethod::Basic)] {
        switch(&lab, method);
        let said = scan_together(&lab, start + TimeDelta::hours(hour)).await;
        let sums: Vec<_> = said
            .iter()
            .filter_map(|scanned| match scanned {
                Scanned::Ran(report) => Some(report.counts.customers),
                Scanned::Helped(_) | Scanned::AlreadyDone => None,
                Scanned::Running(run) => panic!("{run:?}"),
            })
            .collect();
        assert_eq!(sums, [CUSTOMERS as u64], "one sums up what all saw");
        let store = open(&lab).await;
        let (_, held) = expected.next().unwrap();
        assert_eq!(store.holds().await.unwrap().iter().any(|h| h.kind == HoldKind::NewlyAffected), held);
        let logons: Vec<u64> = lab.world.lock().counters.logons.values().map(|l| l.accepted).collect();
        assert!(
            logons.len() == CUSTOMERS && logons.iter().all(|n| *n == hour as u64 + 1),
            "each once a run: {logons:?}"
        );
    }
    // Every password is refused: so many in a row, over all nodes, stop the scan of all.
    for n in 0..CUSTOMERS {
        lab.world.lock().customer_mut(&format!("K{n:03}")).unwrap().password = "another".to_owned();
    }
    let said = scan_together(&lab, start + TimeDelta::hours(2)).await;
    let refused: u64 = lab.world.lock().counters.logons.values().map(|l| l.refused).sum();
    assert!((10..=13).contains(&refused), "ten, and what the other nodes had under way just then: {refused}");
    let stopped = said.iter().any(|scanned| matches!(scanned, Scanned::Ran(report) if report.stopped.is_some()));
    assert!(stopped, "and the sum says so");
    let store = open(&lab).await;
    assert_eq!(store.site_counts().await.unwrap().total(), CUSTOMERS as u64, "those not asked are reported too");
}

/// Looks at nobody until it is let.
struct Gate {
    inner: Arc<dyn Connector>,
    asked: AtomicUsize,
    opened: CancellationToken,
}

#[async_trait]
impl Connector for Gate {
    async fn look(&self, account: &Account) -> CustomerLook {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.opened.cancelled().await;
        self.inner.look(account).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_joins_the_same_scan_twice_is_counted_twice() {
    let settings = Settings {
        state: state().await,
        campaign: String::new(),
        safety: "hold_if_newly_affected = \"100%\"".to_owned(),
        scan: "timeout = \"20s\"\nconcurrency = 1".to_owned(),
        ..Settings::default()
    };
    let lab = Lab::with(customers(), settings).await;
    let at = DateTime::parse_from_rfc3339("2022-09-01T10:00:00+09:00").unwrap().to_utc();
    let (mut lead, mut other) = (lab.open(at).await, lab.open(at).await);
    lead.ctx.owner = "host:1".to_owned();
    other.ctx.owner = "host:2".to_owned();
    let gate = Arc::new(Gate {
        inner: Arc::clone(&lead.ctx.connector),
        asked: AtomicUsize::new(0),
        opened: CancellationToken::new(),
    });
    lead.ctx.connector = gate.clone();
    let request = ScanRequest { due_at: Some(at), ..ScanRequest::default() };
    let begun = {
        let (ctx, request) = (lead.ctx.clone(), request.clone());
        tokio::spawn(async move { scan(&ctx, &request, &CancellationToken::new(), &Silent, |_| {}).await.unwrap() })
    };
    until("it has begun", || async { (gate.asked.load(Ordering::SeqCst) > 0).then_some(()) }).await;
    // It is cut short, say by the database, and comes again.
    let stop = CancellationToken::new();
    let mut looked = 0;
    let first = scan(&other.ctx, &request, &stop, &Silent, |_| {
        looked += 1;
        if looked == 5 {
            stop.cancel();
        }
    });
    let part = |scanned| match scanned {
        Scanned::Ran(report) => report.counts.customers,
        _ => panic!("it takes a part"),
    };
    assert!((5..20).contains(&part(first.await.unwrap())));
    let again =
        tokio::spawn(
            async move { scan(&other.ctx, &request, &CancellationToken::new(), &Silent, |_| {}).await.unwrap() },
        );
    let store = open(&lab).await;
    until("all but the one behind the gate are seen", || async {
        (store.sites(&[]).await.unwrap().len() == CUSTOMERS - 1).then_some(())
    })
    .await;
    gate.opened.cancel();
    let summed: Vec<u64> = [begun.await.unwrap(), again.await.unwrap()]
        .iter()
        .filter_map(|scanned| match scanned {
            Scanned::Ran(report) => Some(report.counts.customers),
            _ => None,
        })
        .collect();
    assert_eq!(summed, [CUSTOMERS as u64], "what it saw before it was cut short counts too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_fails_for_one_node_is_left_in_peace_by_all() {
    let mut settings = Settings { state: state().await, ..Settings::default() };
    settings.scan.push_str("\nhost_failures = 3\nhost_pause = \"5m\"");
    let lab = Lab::with(vec![affected("A1")], settings).await;
    let at = SystemClock.now();
    let (one, other) = (lab.open(at).await, lab.open(at).await);
    let (here, there) = (Circuit::default(), Circuit::default());
    let (host, scope, since) = (Some("tool:443"), "run 1", at - TimeDelta::minutes(1));
    let now = tokio::time::Instant::now();
    let failed = || Sign::Failed(Failure::new(Reason::Connect, "refused"));
    for _ in 0..3 {
        assert_eq!(here.admit(&one.ctx, host, now), Admission::Go);
        here.note(host, &failed(), false);
        here.exchange(&one.ctx, scope, since).await;
    }
    there.exchange(&other.ctx, scope, since).await;
    let Admission::Later(Some(until_then)) = there.admit(&other.ctx, host, now) else { panic!("not paused") };
    let pause = until_then - now;
    assert!(pause > Duration::from_secs(280) && pause < Duration::from_secs(310), "{pause:?}");
    let elsewhere = Circuit::default();
    elsewhere.exchange(&other.ctx, "run 2", since).await;
    assert_eq!(elsewhere.admit(&other.ctx, host, now), Admission::Go, "another run asks anew");
    // It answers: a straggler of the other node's proves it.
    there.note(host, &Sign::Answered, false);
    other.clock.set(at + TimeDelta::seconds(1));
    one.clock.set(at + TimeDelta::seconds(1));
    there.exchange(&other.ctx, scope, since).await;
    until("it is heard", || async {
        here.exchange(&one.ctx, scope, since).await;
        (here.admit(&one.ctx, host, now) == Admission::Go).then_some(())
    })
    .await;
}
