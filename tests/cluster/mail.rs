//! Mail that one node releases and another sends, and a mail server that refuses one of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::common::{self, Lab, Settings};
use crate::nodes::{CUSTOMERS, Node, customers, fleet, held, open, state, told, until, wait_for_nodes};
use crate::postgres::{Server, number};

/// A mail server that refuses whoever comes; how many came.
async fn refusing_relay() -> (u16, Arc<AtomicUsize>) {
    use tokio::io::AsyncWriteExt;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let came = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&came);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let _ = stream.write_all(b"554 5.7.1 no service for you\r\n").await;
        }
    });
    (port, came)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_approved_on_one_node_leaves_from_another_at_once() {
    let database = Server::shared().database().await;
    let state = format!("state = \"{database}\"\nstate_directory = \"node\"");
    let lab = Lab::with(customers(), Settings { mode: "review", ..fleet(state) }).await;
    lab.kigen_ok(&["scan"]);
    lab.kigen_ok(&["notify"]);
    let store = open(&lab).await;
    let mut waiting = held(&*store).await;
    assert_eq!(waiting.len(), CUSTOMERS);
    let node = Node::start(&lab, "node0", "127.0.0.1:0");
    wait_for_nodes(&*store, 1).await;
    let listens = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                   AND application_name = 'kigen listener' AND query LIKE 'LISTEN%'";
    until("it listens", || async { (number(&database, listens).await == 1).then_some(()) }).await;
    // How long it takes until one more has left.
    let mut approve = async || {
        let (before, id) = (told(&lab).len(), waiting.pop().unwrap().to_string());
        lab.kigen_ok(&["outbox", "approve", &id]);
        let approved = Instant::now();
        until("it leaves", || async { (told(&lab).len() > before).then_some(()) }).await;
        approved.elapsed()
    };
    let mut six = async |when: &str| {
        let mut took = Duration::ZERO;
        for _ in 0..6 {
            took += approve().await;
        }
        // Found by looking every five seconds, six would take 15 s, and less than this once in hundreds of times.
        assert!(took < Duration::from_secs(6), "{when}, six mails took {took:?}");
    };
    six("woken").await;
    let kill = listens.replace("count(*)", "count(pg_terminate_backend(pid))");
    assert_eq!(number(&database, &kill).await, 1);
    until("it finds out", || async { node.log().contains("does not hear from the others").then_some(()) }).await;
    six("with a listener that was lost").await;
    until("it listens again", || async { (number(&database, listens).await == 1).then_some(()) }).await;
    assert_eq!(node.log().matches("does not hear from the others").count(), 1, "said once");
    assert!(node.log().contains("hears from the others again"), "{}", node.log());
    six("woken again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_relay_refuses_one_node_nobody_knocks() {
    let mut lab = Lab::with(customers(), Settings { mode: "review", ..fleet(state().await) }).await;
    lab.settings.smtp = "rate = \"1000/s\"\nconnections = 2\ntimeout = \"10s\"".to_owned();
    lab.write_config();
    lab.kigen_ok(&["scan"]);
    lab.kigen_ok(&["notify"]);
    let store = open(&lab).await;
    let (port, came) = refusing_relay().await;
    // What the operators are told of is sent too, and would knock first.
    let text = lab.config_text().replace(&format!("port = {}", lab.mail.port()), &format!("port = {port}"));
    let text = text.replace(&format!("to = [\"{}\"]", common::OPS), "to = []");
    let nodes: Vec<Node> = (0..3).map(|n| Node::with(&lab, &format!("node{n}"), "127.0.0.1:0", &text)).collect();
    wait_for_nodes(&*store, 3).await;
    let waiting = held(&*store).await;
    lab.kigen_ok(&["outbox", "approve", &waiting[0].to_string()]);
    until("everybody knows", || async {
        nodes.iter().all(|node| node.log().contains("the mail server refuses our account")).then_some(())
    })
    .await;
    assert_eq!(came.load(Ordering::SeqCst), 1, "one found out");
    let found_out = nodes.iter().filter(|node| node.log().contains("as another node found out")).count();
    assert_eq!(found_out, 2);
    lab.kigen_ok(&["outbox", "approve", "--all"]);
    // All are due, and each node is woken; it has time for many looks.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(came.load(Ordering::SeqCst), 1, "nobody knocks before that time is over");
    let counts = store.outbox_counts().await.unwrap();
    assert_eq!(counts[1], ("queued", CUSTOMERS as u64), "nothing is lost");
}
