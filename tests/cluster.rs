//! Several nodes on one PostgreSQL: the same pipeline, shared out, and what happens when a node or the database dies.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;
#[path = "common/postgres.rs"]
mod postgres;

use chrono::{DateTime, TimeDelta};
use common::{Lab, Settings, affected};
use kigen::domain::observation::Verdict;
use kigen::domain::site::AuthMethod;
use postgres::Server;

/// The line of the configuration for a state in PostgreSQL; `node` names the node's own directory.
async fn state() -> String {
    format!("state = \"{}\"\nstate_directory = \"node\"", Server::shared().database().await)
}

#[tokio::test(flavor = "multi_thread")]
async fn scan_notice_and_delivery_work_on_postgresql_as_on_sqlite() {
    let settings = Settings {
        state: state().await,
        campaign: String::new(),
        business_hours: "closed = []".to_owned(),
        ..Settings::default()
    };
    let lab = Lab::with(vec![affected("A1"), affected("A2")], settings).await;
    let bench = lab.open(DateTime::parse_from_rfc3339("2022-09-01T10:00:00+09:00").unwrap().to_utc()).await;
    let (seen, report) = bench.scan().await;
    assert!(seen.iter().all(|o| o.verdict == Verdict::Affected));
    assert_eq!(report.counts.customers, 2);
    bench.pass().await;
    assert_eq!(bench.deliver().await.sent, 2);
    assert_eq!(lab.mailed(), ["admin@a1.example", "admin@a2.example"]);
    bench.go(TimeDelta::days(1));
    bench.pass().await;
    bench.deliver().await;
    assert_eq!(lab.mailed().len(), 2, "each is told once");
    lab.world.lock().set_auth_method("A1", "本社", AuthMethod::OAuth);
    for _ in 0..2 {
        bench.go(TimeDelta::days(1));
        bench.scan().await;
    }
    bench.go(TimeDelta::days(2));
    bench.pass().await;
    bench.deliver().await;
    let resolved = lab.told().iter().filter(|m| m.recipients == ["admin@a1.example"]).count();
    assert_eq!(resolved, 2, "the one that switched hears that it is done");
    let out = lab.kigen_ok(&["history", "A1"]);
    assert!(out.contains("sent"), "{out}");
}
