//! The state itself: as good as SQLite, its password, its schema under an older node, and a history that moves there.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use chrono::{DateTime, TimeDelta};
use kigen::domain::observation::Verdict;
use kigen::domain::site::AuthMethod;

use crate::common::{Lab, Settings, affected, kigen_command, write_private};
use crate::nodes::{
    CUSTOMERS, Node, customers, each_is_told_once, fleet, free_port, held, open, state, told, until, wait_for_nodes,
};
use crate::postgres::{Server, number};

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

async fn ready(port: u16) -> Option<(u16, String)> {
    let answer = reqwest::get(format!("http://127.0.0.1:{port}/readyz")).await.ok()?;
    Some((answer.status().as_u16(), answer.text().await.ok()?))
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
