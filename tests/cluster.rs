//! Several nodes on one PostgreSQL: the same pipeline, shared out, and what happens when a node or the database dies.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;
#[path = "common/postgres.rs"]
mod postgres;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta};
use common::{Lab, Settings, affected, kigen_command, write_private};
use kigen::clock::{Clock, SystemClock};
use kigen::daemon::progress::Silent;
use kigen::daemon::scan::{ScanRequest, Scanned, scan};
use kigen::demo::admin_tool::WorldCustomer;
use kigen::domain::observation::Verdict;
use kigen::domain::site::AuthMethod;
use kigen::store::{self, HoldKind, RunKind, Store};
use postgres::Server;
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
        let text = text
            .replace("state_directory = \"node\"", &format!("state_directory = \"{name}\""))
            .replace("listen = \"127.0.0.1:0\"", &format!("listen = \"{listen}\""));
        let config = lab.path(&format!("{name}.toml"));
        write_private(&config, text.as_bytes());
        let directory = lab.path(name);
        std::fs::create_dir_all(&directory).unwrap();
        let log = lab.path(&format!("{name}.log"));
        let stderr = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        let child = kigen_command(&config, &["run"]).stderr(stderr).stdout(Stdio::null()).spawn().unwrap();
        Self { child, config, log }
    }

    /// Gives its schedule another expression, and waits until it has read it.
    fn reschedule(&self, kind: &str, expression: &str) {
        let text = std::fs::read_to_string(&self.config).unwrap();
        let never = format!("{kind} = \"{NEVER}\"");
        assert!(text.contains(&never), "{text}");
        write_private(&self.config, text.replace(&never, &format!("{kind} = \"{expression}\"")).as_bytes());
        common::wait_until("it has read its files again", || self.log().contains("files read again"));
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

    let at = soon(15);
    for node in &nodes {
        node.reschedule("scan", &at);
    }
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
    let at = soon(20);
    for node in &nodes {
        node.reschedule("notices", &at);
    }
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
