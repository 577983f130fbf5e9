//! What only a server can do: refuse us, hold another program's tables, be restored, restart.

use kigen::config::{PostgresState, StateUrl};
use kigen::domain::site::CustomerId;
use kigen::store::{self, HoldKind, Lead, RunKind, StoreError};

use crate::fixtures::*;
use crate::postgres::Server;
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
async fn the_way_to_the_server_is_encrypted_and_its_certificate_verified() {
    let (_server, port, certificate) = Server::start_tls();
    let open = |host: &str, options: String| {
        let url = format!("postgres://postgres@{host}:{port}/postgres?{options}").parse().unwrap();
        let state = PostgresState { url, password: None, directory: tempfile::tempdir().unwrap().keep() };
        async move {
            match store::open(&StateUrl::Postgres(state)).await {
                Ok(store) => store.ping().await.map_err(|e| e.to_string()),
                Err(e) => Err(format!("{:#}", anyhow::Error::from(e))),
            }
        }
    };
    let ours = format!("sslrootcert={}", certificate.display());
    assert_eq!(open("localhost", format!("sslmode=verify-full&{ours}")).await, Ok(()));
    for (sentence, host, options) in [
        ("the certificate is not for that name", "127.0.0.1", format!("sslmode=verify-full&{ours}")),
        ("nobody vouches for it", "localhost", "sslmode=verify-full".to_owned()),
    ] {
        let said = open(host, options).await.expect_err(sentence);
        assert!(said.contains("sslmode and sslrootcert"), "{sentence}: {said}");
    }
}
