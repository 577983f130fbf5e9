//! What only a server can do: refuse us, hold another program's tables, be restored, restart.

use std::sync::{Arc, Mutex};

use kigen::config::{PostgresState, StateUrl};
use kigen::domain::delivery::Held;
use kigen::domain::plan::NoticeKind;
use kigen::domain::site::CustomerId;
use kigen::secret::SecretSource;
use kigen::store::{self, Begun, Hold, HoldKind, Lead, Node, OutboxAction, RunKind, StoreError, Word};
use sqlx::Connection;
use tokio_util::sync::CancellationToken;

use crate::fixtures::*;
use crate::postgres::{Server, number};
use crate::{House, PostgresHouse};

async fn refusal(house: &PostgresHouse, change: impl Fn(&mut url::Url)) -> String {
    let mut state = house.state();
    change(&mut state.url);
    match store::open(&StateUrl::Postgres(state)).await {
        Ok(_) => "opened".to_owned(),
        Err(e) => e.to_string(),
    }
}

#[tokio::test]
async fn a_refusal_says_what_to_do_and_no_secret() {
    let house = PostgresHouse::new().await;
    let said = refusal(&house, |url| url.set_path("/nowhere")).await;
    assert!(said.contains("createdb"), "{said}");
    let said = refusal(&house, |url| url.set_username("nobody").unwrap()).await;
    assert!(said.contains("refuses the user"), "{said}");
    let said = refusal(&house, |url| url.set_query(Some("host=/nowhere"))).await;
    assert!(said.contains("is the server running") && !said.contains("nobody@"), "{said}");
}

#[tokio::test]
async fn another_programs_database_and_a_newer_one_are_refused() {
    let house = PostgresHouse::new().await;
    let name = house.state().url.path().trim_start_matches('/').to_owned();
    Server::shared().execute(&name, "CREATE TABLE invoices (id INT)").await;
    let said = refusal(&house, |_| ()).await;
    assert!(said.contains("another program"), "{said}");

    let house = PostgresHouse::new().await;
    house.open().await.close().await;
    let name = house.state().url.path().trim_start_matches('/').to_owned();
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (9999, 'newer', true, '', 0)";
    Server::shared().execute(&name, newer).await;
    let opened = store::open(&StateUrl::Postgres(house.state())).await;
    assert!(matches!(opened.map(|_| ()), Err(StoreError::Newer { found: 9999, .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_start_at_once_make_one_schema() {
    let house = PostgresHouse::new().await;
    let opened = futures_util::future::join_all((0..5).map(|_| house.open())).await;
    for store in opened {
        assert_eq!(store.customer_count().await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_backup_is_pg_dumps_work() {
    let house = PostgresHouse::new().await;
    let store = house.open().await;
    let said = store.backup(std::path::Path::new("/nowhere/copy")).await.unwrap_err().to_string();
    assert!(said.contains("pg_dump"), "{said}");
}

/// What a page holds is not ours to choose.
#[tokio::test]
async fn a_nul_in_a_page_costs_nobody_a_scan() {
    let house = PostgresHouse::new().await;
    let store = house.open().await;
    enter(&*store, &["C1"]).await;
    let mut strange = seen("C1", "本社", kigen::domain::observation::Verdict::Affected, 1);
    strange.raw.auth_method = Some("基本\0認証".to_owned());
    let change = kigen::store::LookChange {
        customer: id("C1"),
        version: 0,
        kind: kigen::domain::case::LookKind::Scan,
        seen: vec![strange],
        refused: None,
        cases: Vec::new(),
        events: Vec::new(),
        at: at(1),
    };
    store.commit_looks(&[change]).await.unwrap();
    let rows = store.sites(&[]).await.unwrap();
    assert_eq!(rows[0].seen.raw.auth_method.as_deref(), Some("基本\u{fffd}認証"));
    let nobody = CustomerId::new("C\u{fffd}").unwrap();
    assert_eq!(store.history(&nobody).await.unwrap(), None);
}

/// A node starts with what the file and the database say; `true`: it holds.
async fn starts(house: &PostgresHouse) -> bool {
    let store = house.open().await;
    assert_eq!(store.take_lead("kigen run", at(1)).await.unwrap(), Lead::Taken);
    let held = store.holds().await.unwrap().iter().any(|hold| hold.kind == HoldKind::Restored);
    store.clear_holds(&by(2)).await.unwrap();
    store.close().await;
    held
}

#[tokio::test]
async fn a_restored_database_holds_until_a_person_resumes() {
    let house = PostgresHouse::new().await;
    let name = house.state().url.path().trim_start_matches('/').to_owned();
    assert!(!starts(&house).await, "a new database");
    assert!(!starts(&house).await, "a restart");
    let newcomer = tempfile::tempdir().unwrap();
    let mut state = house.state();
    state.directory = newcomer.path().to_owned();
    let store = store::open(&StateUrl::Postgres(state)).await.unwrap();
    store.take_lead("kigen run", at(1)).await.unwrap();
    assert!(store.holds().await.unwrap().is_empty(), "a node that joins");
    store.close().await;

    let server = Server::shared();
    server.execute(&name, "CREATE TABLE saved AS SELECT * FROM fence").await;
    assert!(!starts(&house).await);
    let back = "UPDATE fence SET epoch = saved.epoch FROM saved";
    server.execute(&name, back).await;
    assert!(starts(&house).await, "taken back in time");
    assert!(!starts(&house).await, "resumed");

    // While nodes run: the next run sees it.
    let store = house.open().await;
    store.take_lead("kigen run", at(1)).await.unwrap();
    server.execute(&name, back).await;
    store.begin_run(RunKind::Scan, Some(at(2)), ME, at(2), at(12)).await.unwrap();
    assert_eq!(store.holds().await.unwrap().first().map(|hold| hold.kind), Some(HoldKind::Restored));
    store.close().await;

    // A copy under another name, as a dump restored elsewhere: even a new node sees it.
    let copy = format!("{name}_copy");
    server.execute("postgres", &format!("CREATE DATABASE {copy} TEMPLATE {name}")).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let mut state = house.state();
    state.url = server.address(&copy).parse().unwrap();
    state.directory = elsewhere.path().to_owned();
    let store = store::open(&StateUrl::Postgres(state)).await.unwrap();
    store.clear_holds(&by(3)).await.unwrap();
    store.take_lead("kigen run", at(4)).await.unwrap();
    assert_eq!(store.holds().await.unwrap().first().map(|hold| hold.kind), Some(HoldKind::Restored));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_server_is_ridden_out() {
    let server = Server::start();
    let state = PostgresState {
        url: server.database().await.parse().unwrap(),
        password: None,
        directory: tempfile::tempdir().unwrap().keep(),
    };
    let store = store::open(&StateUrl::Postgres(state)).await.unwrap();
    enter(&*store, &["C1"]).await;
    server.stop("INT");
    server.go_on();
    assert_eq!(store.customer_count().await.unwrap(), 1, "the pool's old connections are dead and nobody notices");
    enter(&*store, &["C1", "C2"]).await;
    assert_eq!(store.customer_count().await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_is_verified_and_wants_a_password() {
    let guarded = Server::start_guarded();
    guarded.user("kigen", "the-secret").await;
    let directory = tempfile::tempdir().unwrap();
    let secret = |name: &str, text: &str| {
        use std::os::unix::fs::PermissionsExt;
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        Some(SecretSource::File(path))
    };
    let (right, wrong) = (secret("right", "the-secret\n"), secret("wrong", "another-secret\n"));
    let gone = Some(SecretSource::File(directory.path().join("gone")));
    let (ca, stranger) = (Some(guarded.ca.as_path()), Some(guarded.stranger.as_path()));
    let nowhere = directory.path().join("no-ca");
    for (sentence, host, ca, password, expected) in [
        ("all is right", "localhost", ca, &right, None),
        ("a wrong password", "localhost", ca, &wrong, Some("see state_password")),
        ("no password", "localhost", ca, &None, Some("see state_password")),
        ("the password's file is gone", "localhost", ca, &gone, Some("state_password: cannot read the secret in")),
        ("the certificate is not for that name", "127.0.0.1", ca, &right, Some("sslmode and sslrootcert")),
        ("nobody vouches for it", "localhost", None, &right, Some("sslmode and sslrootcert")),
        ("another CA", "localhost", stranger, &right, Some("sslmode and sslrootcert")),
        ("no such CA", "localhost", Some(nowhere.as_path()), &right, Some("sslrootcert")),
    ] {
        let state = PostgresState {
            url: guarded.address("kigen", host, ca).parse().unwrap(),
            password: password.clone(),
            directory: directory.path().to_owned(),
        };
        let opened = store::open(&StateUrl::Postgres(state)).await.map_err(|e| format!("{:#}", anyhow::Error::from(e)));
        match (opened, expected) {
            (Ok(store), None) => store.ping().await.unwrap(),
            (Err(said), Some(expected)) => {
                let where_ = format!("postgres://{host}:{}/kigen", guarded.port);
                assert!(said.contains(expected) && said.contains(&where_), "{sentence}: {said}");
                assert!(!said.contains("secret\n") && !said.contains("another-secret"), "{sentence}: {said}");
            }
            (Ok(_), Some(_)) => panic!("{sentence}: opened"),
            (Err(said), None) => panic!("{sentence}: {said}"),
        }
    }
}

const LATER: &str = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                     VALUES (9999, 'newer', true, '', 0)";

/// A newer kigen brings the schema up to date while we are at work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_written_on_a_newer_schema() {
    let house = PostgresHouse::new().await;
    let store = house.open().await;
    affected(&*store, &["C1"]).await;
    queue(&*store, "C1", NoticeKind::First, "").await;
    let claimed = claim(&*store, ME, 3).await.unwrap().delivery.id;
    house.spoil(LATER).await;
    let newer = |result: store::Result<()>| match result {
        Err(StoreError::Newer { found: 9999, .. }) => {}
        other => panic!("{other:?}"),
    };
    newer(store.begin_attempt(claimed, ME, at(3), at(13)).await.map(|_| ()));
    newer(store.claim(ME, at(3), at(13)).await.map(|_| ()));
    newer(store.begin_run(RunKind::Scan, Some(at(2)), ME, at(2), at(12)).await.map(|_| ()));
    newer(store.sync_customers(&mut std::iter::empty(), at(3)).await);
    newer(store.set_memo("word", "value").await);
    newer(store.ping().await);
    let me = Node { name: ME.to_owned(), version: "1".to_owned(), started_at: at(0), beat_at: at(4), resting: false };
    newer(store.beat(&me, at(0), at(14)).await.map(|_| ()));
    // That it rests may be said, and heard; and that it leaves.
    store.rest(&me).await.unwrap();
    assert_eq!(store.nodes().await.unwrap(), [Node { resting: true, ..me }]);
    store.leave(ME).await.unwrap();
    assert_eq!(store.nodes().await.unwrap(), []);
    house.spoil("DELETE FROM _sqlx_migrations WHERE version = 9999").await;
    assert!(store.begin_attempt(claimed, ME, at(4), at(14)).await.unwrap(), "nothing had changed");
}

/// Whoever waits for the state's lock while the schema changes finds the new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_waits_for_a_migration_is_refused_after_it() {
    let house = PostgresHouse::new().await;
    let store = house.open().await;
    let address = house.state().url.to_string();
    let mut newer = sqlx::postgres::PgConnection::connect(&address).await.unwrap();
    let mut tx = newer.begin().await.unwrap();
    sqlx::raw_sql("SELECT pg_advisory_xact_lock(461482751342)").execute(&mut *tx).await.unwrap();
    let writer = tokio::spawn(async move { store.set_memo("word", "value").await });
    until("it waits", || async {
        number(&address, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").await == 1
    })
    .await;
    sqlx::raw_sql(LATER).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    assert!(matches!(writer.await.unwrap(), Err(StoreError::Newer { found: 9999, .. })));
}

async fn until<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    let started = std::time::Instant::now();
    while !ask().await {
        assert!(started.elapsed().as_secs() < 60, "waited in vain: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Whatever makes something due wakes whoever listens, and so does a listener that comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_makes_something_due_wakes_the_nodes() {
    let house = PostgresHouse::new().await;
    let (store, other) = (house.open().await, house.open().await);
    let words = Arc::new(Mutex::new(Vec::new()));
    let stop = CancellationToken::new();
    let listening = {
        let (words, stop) = (Arc::clone(&words), stop.clone());
        tokio::spawn(async move { other.listen(&|word| words.lock().unwrap().push(word), &stop).await })
    };
    let woken = async |what: &str, word: Word| {
        until(what, || async { words.lock().unwrap().contains(&word) }).await;
        words.lock().unwrap().clear();
    };
    until("it listens", || async { words.lock().unwrap().len() == 2 }).await;
    words.lock().unwrap().clear();

    affected(&*store, &["C1", "C2"]).await;
    queue(&*store, "C1", NoticeKind::First, "").await;
    woken("a mail is queued", Word::Mail).await;
    let hold =
        Hold { kind: HoldKind::Paused, reason: "a pause".to_owned(), set_by: "hanako".to_owned(), set_at: at(1) };
    store.set_hold(&hold).await.unwrap();
    woken("a hold is set", Word::Mail).await;
    let id = queue_held(&*store, "C2", NoticeKind::First, "", Some(Held::Review)).await;
    store.act(&[id], OutboxAction::Approve, &by(2)).await.unwrap();
    woken("a mail is approved", Word::Mail).await;
    store.clear_holds(&by(3)).await.unwrap();
    woken("it is cleared", Word::Mail).await;
    let Begun::Started(run) = store.begin_run(RunKind::Scan, Some(at(4)), ME, at(4), at(14)).await.unwrap() else {
        panic!("nobody else runs")
    };
    store.put_shares(run, "file", &[vec![CustomerId::new("C1").unwrap()]]).await.unwrap();
    woken("a scan is shared out", Word::Scan).await;

    let listeners = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'kigen listener' \
                     AND datname = current_database()";
    let address = house.state().url.to_string();
    assert_eq!(number(&address, listeners).await, 1, "one connection of its own");
    let kill = listeners.replace("count(*)", "count(pg_terminate_backend(pid))");
    assert_eq!(number(&address, &kill).await, 1);
    woken("it is connected again", Word::Scan).await;
    assert_eq!(number(&address, listeners).await, 1);
    queue(&*store, "C1", NoticeKind::Reminder, "7d").await;
    woken("and hears", Word::Mail).await;
    stop.cancel();
    listening.await.unwrap();
}
