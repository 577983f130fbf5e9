//! Nodes that are killed or frozen in the middle, and a database that restarts.

use std::time::{Duration, Instant};

use kigen::clock::{Clock, SystemClock};
use kigen::domain::observation::Verdict;
use kigen::store::RunKind;

use crate::common::{Lab, Settings};
use crate::nodes::{
    CUSTOMERS, Node, customers, each_is_told_once, fleet, open, soon, state, told, until, wait_for_nodes,
};
use crate::postgres::Server;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_dies_in_a_scan_and_the_database_restarts() {
    let server = Server::start();
    let state = format!("state = \"{}\"\nstate_directory = \"node\"", server.database().await);
    let settings = Settings { scan: "timeout = \"20s\"\nconcurrency = 2".to_owned(), ..fleet(state) };
    let lab = Lab::with(customers(), settings).await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let store = open(&lab).await;
    let mut nodes: Vec<Node> = (0..3)
        .map(|n| {
            let listen = if n == 1 { format!("127.0.0.1:{port}") } else { "127.0.0.1:0".to_owned() };
            Node::slow(&lab, &format!("node{n}"), &listen)
        })
        .collect();
    wait_for_nodes(&*store, 3).await;
    let status: serde_json::Value = serde_json::from_str(&lab.kigen_ok(&["status", "--format", "json"])).unwrap();
    assert_eq!(status["nodes"].as_array().unwrap().iter().filter(|node| node["alive"] == true).count(), 3);
    let ready =
        || async { reqwest::get(format!("http://127.0.0.1:{port}/readyz")).await.ok().map(|r| r.status().as_u16()) };
    until("it is ready", || async { (ready().await == Some(200)).then_some(()) }).await;

    Node::reschedule(&nodes, "scan", &soon(20));
    let looked = || lab.world.lock().counters.logons.values().filter(|l| l.accepted > 0).count();
    until("the scan is on", || async { (looked() >= 6).then_some(()) }).await;
    nodes[0].signal("KILL");
    nodes[0].child.wait().unwrap();
    until("the scan goes on", || async { (looked() >= 16).then_some(()) }).await;
    server.stop("INT");
    until("it is not ready without its database", || async { (ready().await == Some(503)).then_some(()) }).await;
    server.go_on();
    let run = until("the scan is done", || async { store.last_scheduled(RunKind::Scan).await.ok().flatten() }).await;
    until("it is ready again", || async { (ready().await == Some(200)).then_some(()) }).await;

    let runs: Vec<_> = store
        .runs(20)
        .await
        .unwrap()
        .into_iter()
        .filter(|r| r.kind == RunKind::Scan && r.due_at == run.due_at)
        .collect();
    assert_eq!(runs.len(), 1, "the others finish in the same run: {runs:?}");
    let sites = store.sites(&[]).await.unwrap();
    assert_eq!(sites.len(), CUSTOMERS);
    assert!(sites.iter().all(|s| s.seen.verdict == Verdict::Affected && s.seen.observed_at >= run.started_at));
    for customer in sites.iter().map(|s| s.seen.customer.clone()) {
        let history = store.history(&customer).await.unwrap().unwrap();
        let opened = history.iter().filter(|line| line.text.contains("opened")).count();
        assert_eq!(opened, 1, "one look of the run counts: {history:?}");
    }
    let others = nodes
        .iter()
        .skip(1)
        .filter(|node| node.log().contains("takes a part") || node.log().contains("begins"))
        .count();
    assert_eq!(others, 2, "both take part");
    for node in &mut nodes[1..] {
        assert!(node.child.try_wait().unwrap().is_none(), "a restart of the database ends no daemon:\n{}", node.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_dies_in_a_notice_pass() {
    let mut settings = fleet(state().await);
    // Each customer is looked at again right before its notice, so that the pass takes seconds.
    settings.safety.push_str("\nmax_age = \"10s\"");
    settings.scan = "timeout = \"20s\"\nconcurrency = 2".to_owned();
    settings.smtp = "rate = \"20/s\"\nconnections = 1\ntimeout = \"10s\"".to_owned();
    let lab = Lab::with(customers(), settings).await;
    lab.kigen_ok(&["scan"]);
    let store = open(&lab).await;
    let mut nodes: Vec<Node> = (0..3).map(|n| Node::slow(&lab, &format!("node{n}"), "127.0.0.1:0")).collect();
    wait_for_nodes(&*store, 3).await;
    Node::reschedule(&nodes, "notices", &soon(20));
    let run = until("the pass is on", || async {
        let run = store.last_run(RunKind::Notices, false).await.unwrap()?;
        (run.due_at.is_some() && run.counts.queued >= 4).then_some(run)
    })
    .await;
    assert_eq!(run.outcome, None, "it is killed in the middle");
    let pid: u32 = run.owner.split(':').nth(1).unwrap().parse().unwrap();
    let dead = nodes.iter_mut().find(|node| node.child.id() == pid).unwrap();
    dead.signal("KILL");
    dead.child.wait().unwrap();
    until("everybody is told", || async { (told(&lab).len() == CUSTOMERS).then_some(()) }).await;
    until("the outbox is empty", || async {
        let counts = store.outbox_counts().await.unwrap();
        counts.iter().all(|(state, n)| *n == 0 || *state == "sent").then_some(())
    })
    .await;
    each_is_told_once(&lab, 1);
    let done = until("the pass is done", || async { store.last_scheduled(RunKind::Notices).await.unwrap() }).await;
    assert_ne!(done.owner, run.owner, "another node ended it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_frozen_past_its_lease_and_wakes() {
    let mut settings = fleet(state().await);
    settings.smtp = "rate = \"4/s\"\nconnections = 1\ntimeout = \"10s\"".to_owned();
    let mut lab = Lab::with(customers(), settings).await;
    lab.kigen_ok(&["scan"]);
    // Queued while nobody delivers.
    lab.settings.business_hours = closed();
    lab.write_config();
    lab.kigen_ok(&["notify"]);
    lab.settings.business_hours = Settings::default().business_hours;
    lab.write_config();
    let store = open(&lab).await;
    assert_eq!(store.outbox_counts().await.unwrap()[1], ("queued", CUSTOMERS as u64));

    let nodes: Vec<Node> = (0..3).map(|n| Node::start(&lab, &format!("node{n}"), "127.0.0.1:0")).collect();
    wait_for_nodes(&*store, 3).await;
    let began = Instant::now();
    let before = told(&lab).len();
    until("mail leaves", || async { (told(&lab).len() >= before.max(4) + 4).then_some(()) }).await;
    nodes[2].signal("STOP");
    until("the others deliver all of it", || async { (told(&lab).len() == CUSTOMERS).then_some(()) }).await;
    let took = began.elapsed();
    let left = u32::try_from(CUSTOMERS - before - 1).unwrap();
    assert!(took >= Duration::from_millis(250) * left * 9 / 10, "4 a second over all nodes, not each: {took:?}");
    until("what the frozen one had is settled", || async {
        let counts = store.outbox_counts().await.unwrap();
        counts.iter().all(|(state, n)| *n == 0 || *state == "sent").then_some(())
    })
    .await;
    nodes[2].signal("CONT");
    wait_for_nodes(&*store, 3).await;
    // It has beaten again, so it had its chance to send; a look at the outbox takes it no longer than that.
    tokio::time::sleep(Duration::from_secs(2)).await;
    each_is_told_once(&lab, 1);
}

/// A window that is shut now.
fn closed() -> String {
    let hour = SystemClock.now().with_timezone(&chrono_tz::Asia::Tokyo).format("%H").to_string();
    let hours = if hour == "12" || hour == "11" || hour == "13" { "03:00-04:00" } else { "12:00-12:30" };
    format!(
        "days = [\"Mon\", \"Tue\", \"Wed\", \"Thu\", \"Fri\", \"Sat\", \"Sun\"]\nhours = \"{hours}\"\nholidays = \"none\""
    )
}
