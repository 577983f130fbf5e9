//! What only a file can promise: who can read it, what it refuses, copies.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use kigen::config::StateUrl;
use kigen::domain::case::LookKind;
use kigen::domain::observation::Verdict;
use kigen::domain::plan::NoticeKind;
use kigen::store::{self, StoreError};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection};

use crate::fixtures::*;
use crate::{House, SqliteHouse};

async fn open(path: &Path) -> Result<(), StoreError> {
    store::open(&StateUrl::Sqlite(path.to_owned())).await.map(|_| ())
}

async fn remedy(path: &Path) -> String {
    match open(path).await {
        Err(StoreError::Open { remedy, what, .. }) => {
            assert_eq!(what, path.display().to_string());
            remedy
        }
        other => panic!("{other:?}"),
    }
}

pub async fn run(path: &Path, sql: &str) {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn only_its_owner_can_read_it() {
    let house = SqliteHouse::new();
    let store = house.open().await;
    affected(&*store, &["C1"]).await;
    store.take_lead("kigen run", at(0)).await.unwrap();
    let backup = house.file().with_extension("backup");
    store.backup(&backup).await.unwrap();
    let mut files = 0;
    for file in std::fs::read_dir(house.file().parent().unwrap()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.file_name());
        files += 1;
    }
    assert_eq!(files, 6, "the state, its -wal and -shm, the lock, the identity, the backup");
}

#[tokio::test]
async fn what_cannot_be_opened_says_what_to_do() {
    let house = SqliteHouse::new();
    let directory = house.file().parent().unwrap().to_owned();
    assert!(remedy(&directory.join("no/kigen.db")).await.starts_with("make the directory"));
    assert!(remedy(&directory).await.contains("is a directory"));
    let text = directory.join("text.db");
    std::fs::write(&text, "customer_id,name,email\n".repeat(100)).unwrap();
    assert!(remedy(&text).await.contains("no SQLite database"));
    let foreign = directory.join("foreign.db");
    run(&foreign, "CREATE TABLE recipes (name TEXT)").await;
    assert!(remedy(&foreign).await.contains("another program"));
}

#[tokio::test]
async fn a_newer_state_is_refused_and_not_touched() {
    let house = SqliteHouse::new();
    house.open().await.close().await;
    run(
        &house.file(),
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (99, 'of the future', TRUE, x'00', 0)",
    )
    .await;
    let before = std::fs::read(house.file()).unwrap();
    match open(&house.file()).await {
        Err(StoreError::Newer { found: 99, known, .. }) => assert!(known < 99),
        other => panic!("{other:?}"),
    }
    assert!(std::fs::read(house.file()).unwrap() == before);
}

#[test]
fn many_commands_may_open_a_new_file_at_once() {
    let house = SqliteHouse::new();
    // Processes, not tasks: SQLite's locks are between processes.
    let command = || {
        std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sqlite_file::opens_what_it_is_told", "--nocapture"])
            .env(TOLD, house.file())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    };
    let children: Vec<_> = (0..8).map(|_| command()).collect();
    for child in children {
        let done = child.wait_with_output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        assert!(String::from_utf8_lossy(&done.stdout).contains("1 passed"));
    }
}

const TOLD: &str = "KIGEN_TEST_OPENS";

/// One of the commands above; told nothing, it does nothing.
#[tokio::test]
async fn opens_what_it_is_told() {
    if let Some(path) = std::env::var_os(TOLD) {
        let store = store::open(&StateUrl::Sqlite(path.into())).await.unwrap();
        enter(&*store, &["C1"]).await;
        store.close().await;
    }
}

#[tokio::test]
async fn a_backup_is_a_whole_state_and_overwrites_nothing() {
    let house = SqliteHouse::new();
    let store = house.open().await;
    affected(&*store, &["C1"]).await;
    let to = house.file().with_extension("backup");
    store.backup(&to).await.unwrap();
    look(&*store, "C1", LookKind::Scan, vec![seen("C1", "本社", Verdict::Switched, 9)], 9).await;
    let copy = store::open(&StateUrl::Sqlite(to.clone())).await.unwrap();
    assert_eq!(copy.site_counts().await.unwrap().affected, 1, "as it was then");
    copy.close().await;
    let before = std::fs::read(&to).unwrap();
    assert!(matches!(store.backup(&to).await, Err(StoreError::File { .. })));
    assert!(std::fs::read(&to).unwrap() == before);
    let nowhere = house.file().with_file_name("no").join("backup");
    assert!(matches!(store.backup(&nowhere).await, Err(StoreError::File { .. })));
}

#[tokio::test]
async fn closing_leaves_one_file() {
    let house = SqliteHouse::new();
    let store = house.open().await;
    affected(&*store, &["C1"]).await;
    store.close().await;
    let files: Vec<_> =
        std::fs::read_dir(house.file().parent().unwrap()).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert_eq!(files, ["kigen.db"]);
    assert_eq!(house.open().await.open_cases().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_power_cut_loses_nothing_that_was_committed() {
    let house = SqliteHouse::new();
    let store = house.open().await;
    affected(&*store, &["C1", "C2"]).await;
    queue(&*store, "C1", NoticeKind::First, "").await;
    begin(&*store, OTHER, 3).await;
    // What is on disk at this instant, while everything is open.
    let after = SqliteHouse::new();
    for end in ["", "-wal"] {
        let name = |house: &SqliteHouse| format!("{}{end}", house.file().display());
        std::fs::copy(name(&house), name(&after)).unwrap();
    }
    let store = after.open().await;
    assert_eq!(store.open_cases().await.unwrap().len(), 2);
    let orphans = store.take_orphans(ME, true, at(4), at(14)).await.unwrap();
    assert_eq!(orphans.len(), 1);
    assert_eq!(orphans[0].message, message("C1", "first-"));
}
