//! Several nodes on one PostgreSQL: the same pipeline, shared out, and what happens when a node or the database dies.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;
#[path = "common/postgres.rs"]
mod postgres;

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta};
use common::{Lab, Settings, affected, kigen_command, write_private};
use kigen::clock::{Clock, SystemClock};
use kigen::connector::breaker::{Admission, Sign};
use kigen::connector::{Account, Connector};
use kigen::daemon::circuit::Circuit;
use kigen::daemon::progress::Silent;
use kigen::daemon::scan::{ScanRequest, Scanned, scan};
use kigen::demo::admin_tool::WorldCustomer;
use kigen::domain::delivery::DeliveryId;
use kigen::domain::observation::{CustomerLook, Failure, Reason, Verdict};
use kigen::domain::site::AuthMethod;
use kigen::store::{self, HoldKind, OutboxFilter, RunKind, Store};
use postgres::{Server, number};
use tokio_util::sync::CancellationToken;

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

// --- nodes in one process -------------------------------------------------------------------------------------------

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

// --- real processes -------------------------------------------------------------------------------------------------

/// A node: the real program with a configuration and a directory of its own.
struct Node {
    child: Child,
    config: PathBuf,
    log: PathBuf,
}

impl Node {
    fn start(lab: &Lab, name: &str, listen: &str) -> Self {
        Self::with(lab, name, listen, &lab.config_text())
    }

    /// A node whose looks take a while: so many requests a second for all nodes together.
    fn slow(lab: &Lab, name: &str, listen: &str) -> Self {
        let text = lab.config_text().replace("requests_per_second = 10000", "requests_per_second = 40");
        Self::with(lab, name, listen, &text)
    }

    fn with(lab: &Lab, name: &str, listen: &str, text: &str) -> Self {
        Self::spawn(lab, name, listen, text, |_| {})
    }

    /// A node that tells somebody in systemd's place how it is.
    fn told(lab: &Lab, name: &str, listen: &str, text: &str, socket: &std::path::Path) -> Self {
        Self::spawn(lab, name, listen, text, |command| {
            command.env("NOTIFY_SOCKET", socket);
        })
    }

    fn spawn(lab: &Lab, name: &str, listen: &str, text: &str, adjust: impl FnOnce(&mut Command)) -> Self {
        let text = text
            .replace("state_directory = \"node\"", &format!("state_directory = \"{name}\""))
            .replace("listen = \"127.0.0.1:0\"", &format!("listen = \"{listen}\""));
        let config = lab.path(&format!("{name}.toml"));
        write_private(&config, text.as_bytes());
        let directory = lab.path(name);
        std::fs::create_dir_all(&directory).unwrap();
        let log = lab.path(&format!("{name}.log"));
        let stderr = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        let mut command = kigen_command(&config, &["run"]);
        adjust(&mut command);
        let child = command.stderr(stderr).stdout(Stdio::null()).spawn().unwrap();
        Self { child, config, log }
    }

    /// Gives their schedules another expression, and waits until they have read it.
    fn reschedule(nodes: &[Self], kind: &str, expression: &str) {
        for node in nodes {
            let text = std::fs::read_to_string(&node.config).unwrap();
            let never = format!("{kind} = \"{NEVER}\"");
            assert!(text.contains(&never), "{text}");
            write_private(&node.config, text.replace(&never, &format!("{kind} = \"{expression}\"")).as_bytes());
        }
        for node in nodes {
            common::wait_until("it has read its files again", || node.log().contains("files read again"));
        }
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").arg(format!("-{signal}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(status.success());
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), self.log());
        }
    }
}

/// At no time while a test runs.
const NEVER: &str = "0 0 1 1 *";

/// The cron expression of an instant a few seconds from now.
fn soon(seconds: i64) -> String {
    let at = SystemClock.now().with_timezone(&chrono_tz::Asia::Tokyo) + TimeDelta::seconds(seconds);
    at.format("%-S %-M %-H %-d %-m *").to_string()
}

/// A fleet of affected customers, nodes that are believed dead after six seconds, nothing scheduled yet, no cap that would keep mail back.
fn fleet(state: String) -> Settings {
    Settings {
        state: format!("{state}\ncluster = {{ lease = \"6s\" }}"),
        schedule: format!("scan = \"{NEVER}\"\nnotices = \"{NEVER}\""),
        safety: "max_new_notices = \"100%\"\nhold_if_newly_affected = \"100%\"".to_owned(),
        ..Settings::default()
    }
}

async fn open(lab: &Lab) -> Arc<dyn Store> {
    let config = kigen::config::load(&lab.config()).unwrap();
    store::open(&config.state).await.unwrap()
}

/// Asks again and again; the limit is only there so that a broken test ends.
async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(started.elapsed() < Duration::from_secs(150), "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn wait_for_nodes(store: &dyn Store, how_many: usize) {
    until("the nodes are there", || async {
        let alive_since = SystemClock.now() - TimeDelta::seconds(6);
        let nodes = store.nodes().await.unwrap();
        (nodes.iter().filter(|node| node.beat_at > alive_since).count() == how_many).then_some(())
    })
    .await;
}

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

/// The mails that wait for a person.
async fn held(store: &dyn Store) -> Vec<DeliveryId> {
    store.deliveries(&OutboxFilter::default()).await.unwrap().iter().map(|delivery| delivery.id).collect()
}

async fn ready(port: u16) -> Option<(u16, String)> {
    let answer = reqwest::get(format!("http://127.0.0.1:{port}/readyz")).await.ok()?;
    Some((answer.status().as_u16(), answer.text().await.ok()?))
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
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

#[tokio::test(flavor = "multi_thread")]
async fn an_older_node_rests_while_and_after_the_schema_is_brought_up_to_date() {
    let database = Server::shared().database().await;
    let name = database.split('?').next().unwrap().rsplit('/').next().unwrap().to_owned();
    let state = format!("state = \"{database}\"\nstate_directory = \"node\"");
    let lab = Lab::with(customers(), Settings { mode: "review", ..fleet(state) }).await;
    lab.kigen_ok(&["scan"]);
    lab.kigen_ok(&["notify"]);
    let store = open(&lab).await;
    let port = free_port();
    let notify = UnixDatagram::bind(lab.path("notify")).unwrap();
    notify.set_nonblocking(true).unwrap();
    let text = lab.config_text();
    let mut node = Node::told(&lab, "node0", &format!("127.0.0.1:{port}"), &text, &lab.path("notify"));
    let mut said = String::new();
    let mut status = |what: &str| {
        let mut buffer = [0_u8; 4096];
        while let Ok(length) = notify.recv(&mut buffer) {
            said.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
        said.contains(what)
    };
    wait_for_nodes(&*store, 1).await;
    let answers = |code, text: &'static str| {
        until(text, move || async move { ready(port).await.filter(|(c, t)| *c == code && t.contains(text)).map(drop) })
    };
    answers(200, "ready").await;

    // A newer kigen has announced itself, and goes away again without having done anything.
    let mut newer = <sqlx::postgres::PgConnection as sqlx::Connection>::connect(&database).await.unwrap();
    sqlx::raw_sql("SELECT pg_advisory_lock(461482751344)").execute(&mut newer).await.unwrap();
    answers(503, "a newer kigen brings the state up to date").await;
    until("it rests", || async { store.nodes().await.unwrap()[0].resting.then_some(()) }).await;
    assert!(lab.kigen_ok(&["status"]).contains("takes no work"));
    sqlx::raw_sql("SELECT pg_advisory_unlock(461482751344)").execute(&mut newer).await.unwrap();
    answers(200, "ready").await;
    assert!(node.log().contains("this node works again"));

    // This time it has done it.
    let waiting = held(&*store).await;
    let raise = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (9999, 'newer', true, '', 0)";
    Server::shared().execute(&name, raise).await;
    answers(503, "was written by a newer kigen (schema 9999").await;
    until("STATUS= says so", || {
        let said = status("STATUS=TAKES NO WORK");
        async move { said.then_some(()) }
    })
    .await;
    until("the others can see it", || async { store.nodes().await.unwrap()[0].resting.then_some(()) }).await;
    let refused = lab.kigen(&["outbox", "approve", "--all"]);
    assert!(!refused.status.success());
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(why.contains("newer kigen") && why.contains("install that version"), "{why}");
    // The newer one approves; the older one leaves it alone, although it hears of it and looks.
    let approve = format!(
        "UPDATE deliveries SET state = 'queued', held = NULL, not_before = 0, approved_by = 'newer', approved_at = 1 WHERE id = {}",
        waiting[0]
    );
    Server::shared().execute(&name, &approve).await;
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(told(&lab).len(), 0, "{}", node.log());
    assert!(node.child.try_wait().unwrap().is_none(), "it goes on saying so");
    assert_eq!(number(&database, "SELECT count(*) FROM attempts").await, 0);

    // Back again (a restored schema, or our own test): it works again by itself.
    Server::shared().execute(&name, "DELETE FROM _sqlx_migrations WHERE version = 9999").await;
    answers(200, "ready").await;
    until("the mail leaves", || async { (told(&lab).len() == 1).then_some(()) }).await;

    // As one of the newer ones it tells the operators of an older node.
    let older = "INSERT INTO nodes (name, version, started_at, beat_at, resting) VALUES ('old:1', '0.0.1', 0, 4000000000000, 1)";
    Server::shared().execute(&name, older).await;
    until("the operators are told", || async { node.log().contains("cause=node_behind").then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_password_of_the_state_comes_from_where_the_configuration_says() {
    let guarded = Server::start_guarded();
    guarded.user("kigen", "the-secret").await;
    let address = guarded.address("kigen", "localhost", Some(&guarded.ca));
    let directory = format!("state = \"{address}\"\nstate_directory = \"node\"");
    let mut lab = Lab::with(vec![affected("A1")], Settings { state: directory.clone(), ..Settings::default() }).await;
    write_private(&lab.path("right"), b"the-secret\n");
    write_private(&lab.path("wrong"), b"not-the-secret\n");
    let line = |password: &str| format!("localhost:{}:kigen:kigen:{password}\n", guarded.port);
    write_private(&lab.path("pgpass"), line("the-secret").as_bytes());
    write_private(&lab.path("wrong-pgpass"), line("not-the-secret").as_bytes());
    // A line with too few fields: the password alone, as somebody may think that it is enough.
    write_private(&lab.path("broken-pgpass"), b"not-the-secret\n");
    let path = |name: &str| lab.path(name).display().to_string();
    let (file, credential) = ("state_password = { file = \"right\" }", "state_password = { credential = \"right\" }");
    let rows = [
        ("a file", file, None, true),
        ("a credential", credential, Some(("CREDENTIALS_DIRECTORY", lab.dir.path().display().to_string())), true),
        (
            "an environment variable",
            "state_password = { env = \"STATE\" }",
            Some(("STATE", "the-secret".to_owned())),
            true,
        ),
        ("as psql does it", "", Some(("PGPASSFILE", path("pgpass"))), true),
        ("as psql does it, wrongly", "", Some(("PGPASSFILE", path("wrong-pgpass"))), false),
        ("a file that is none", "", Some(("PGPASSFILE", path("broken-pgpass"))), false),
        ("the configuration's goes first", file, Some(("PGPASSFILE", path("wrong-pgpass"))), true),
        ("a wrong one", "state_password = { file = \"wrong\" }", None, false),
        ("none", "", None, false),
    ];
    for (sentence, password, variable, good) in rows {
        lab.settings.state = format!("{directory}\n{password}");
        lab.write_config();
        let mut command = kigen_command(&lab.config(), &["-vv", "status"]);
        command.env_remove("PGPASSWORD").env("HOME", lab.dir.path()).envs(variable);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.success(), good, "{sentence}: {said}");
        assert!(!said.contains("the-secret"), "{sentence}: {said}");
        if !good {
            let (place, what) = (format!("postgres://localhost:{}/kigen", guarded.port), "see state_password");
            assert!(said.contains(&place) && said.contains(what), "{sentence}: {said}");
        }
    }
}

const CUSTOMERS: usize = 48;

fn customers() -> Vec<WorldCustomer> {
    (0..CUSTOMERS).map(|n| affected(&format!("K{n:03}"))).collect()
}

/// Mails by recipient, and their identifiers.
fn told(lab: &Lab) -> BTreeMap<String, Vec<String>> {
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for mail in lab.told() {
        let text = String::from_utf8_lossy(&mail.data).into_owned();
        let id = text.lines().find_map(|line| line.strip_prefix("Message-ID:")).unwrap().trim().to_owned();
        for recipient in mail.recipients {
            told.entry(recipient).or_default().push(id.clone());
        }
    }
    told
}

/// Everybody was told, and nobody twice: what was in flight just when a node was killed may come once more, as the same mail.
fn each_is_told_once(lab: &Lab, in_flight: usize) {
    let told = told(lab);
    assert_eq!(told.len(), CUSTOMERS, "none is lost");
    let twice: Vec<_> = told.iter().filter(|(_, ids)| ids.len() > 1).collect();
    assert!(twice.len() <= in_flight, "{twice:?}");
    assert!(twice.iter().all(|(_, ids)| ids.iter().all(|id| *id == ids[0])), "a repeat is the same mail: {twice:?}");
}

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

#[tokio::test(flavor = "multi_thread")]
async fn a_running_history_moves_from_sqlite() {
    let mut lab =
        Lab::with(customers(), Settings { mode: "live", ..fleet("state = \"sqlite:kigen.db\"".to_owned()) }).await;
    lab.kigen_ok(&["scan"]);
    lab.kigen_ok(&["notify"]);
    assert_eq!(told(&lab).len(), CUSTOMERS);
    let history = lab.kigen_ok(&["history", "K007", "--format", "jsonl"]);
    let database = Server::shared().database().await;
    let move_it = ["migrate-state", "--from", "sqlite:kigen.db", "--to", &database];
    let moved = kigen_command(&lab.config(), &move_it).current_dir(lab.dir.path()).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&moved.stdout), String::from_utf8_lossy(&moved.stderr));
    assert!(moved.status.success() && said.contains("deliveries"), "{said}");
    let again = kigen_command(&lab.config(), &move_it).current_dir(lab.dir.path()).output().unwrap();
    assert!(!again.status.success(), "a target that holds something is refused");
    assert!(String::from_utf8_lossy(&again.stderr).contains("not empty"), "{again:?}");
    // The file is the past: it sends nothing any more.
    let status: serde_json::Value = serde_json::from_str(&lab.kigen_ok(&["status", "--format", "json"])).unwrap();
    assert_eq!(status["holds"][0]["kind"], "restored");

    lab.settings.state = format!("state = \"{database}\"\nstate_directory = \"node\"");
    lab.write_config();
    assert_eq!(lab.kigen_ok(&["history", "K007", "--format", "jsonl"]), history, "the history is the same");
    lab.kigen_ok(&["scan"]);
    lab.kigen_ok(&["notify"]);
    assert_eq!(told(&lab).len(), CUSTOMERS, "nobody is told again");
    each_is_told_once(&lab, 0);
}

/// A window that is shut now.
fn closed() -> String {
    let hour = SystemClock.now().with_timezone(&chrono_tz::Asia::Tokyo).format("%H").to_string();
    let hours = if hour == "12" || hour == "11" || hour == "13" { "03:00-04:00" } else { "12:00-12:30" };
    format!(
        "days = [\"Mon\", \"Tue\", \"Wed\", \"Thu\", \"Fri\", \"Sat\", \"Sun\"]\nhours = \"{hours}\"\nholidays = \"none\""
    )
}
