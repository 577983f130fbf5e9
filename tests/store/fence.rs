//! A state that was restored or copied holds until a person resumes; one that was only restarted does not.

use std::path::{Path, PathBuf};

use kigen::config::StateUrl;
use kigen::store::{self, By, HoldKind, Lead, RunKind, Store};

use crate::SqliteHouse;
use crate::fixtures::*;

/// A daemon's life: opens, leads, does `work`, ends. Returns why it held.
async fn life(file: &Path, clean: bool, work: impl AsyncFnOnce(&dyn Store)) -> Option<String> {
    let store = store::open(&StateUrl::Sqlite(file.to_owned())).await.unwrap();
    assert_eq!(store.take_lead("kigen run", at(1)).await.unwrap(), Lead::Taken);
    let hold = store.holds().await.unwrap().into_iter().find(|h| h.kind == HoldKind::Restored);
    if hold.is_some() {
        store.clear_holds(&By { who: "tester".to_owned(), at: at(2), day: day("2022-09-01") }).await.unwrap();
    }
    work(&*store).await;
    if clean {
        store.close().await;
    } else {
        drop(store);
        at_rest(file).await;
    }
    hold.map(|h| h.reason)
}

async fn start(file: &Path) -> Option<String> {
    life(file, true, async |_| ()).await
}

/// A store that was dropped closes its files in threads of its own. Which connection is the last decides whether SQLite
/// takes the -wal away, so its presence says nothing: only this process's open files do.
async fn at_rest(file: &Path) {
    let is_open = || {
        let mut links =
            std::fs::read_dir("/proc/self/fd").unwrap().flatten().filter_map(|fd| std::fs::read_link(fd.path()).ok());
        links.any(|link| {
            link.starts_with(file.parent().unwrap()) && link.to_string_lossy().contains(&*file.to_string_lossy())
        })
    };
    let started = std::time::Instant::now();
    while is_open() {
        assert!(started.elapsed().as_secs() < 60, "the store's files are never closed");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// Puts a copy in the state's place, as an operator does: with what belonged to the other one out of the way.
fn put_back(file: &Path, bytes: &[u8]) {
    for end in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(beside(file, end));
    }
    std::fs::write(file, bytes).unwrap();
}

fn beside(file: &Path, end: &str) -> PathBuf {
    PathBuf::from(format!("{}{end}", file.display()))
}

/// The parts of a state that is at rest.
const PARTS: [&str; 2] = ["", ".identity"];

#[tokio::test]
async fn restarts_crashes_moves_and_upgrades_are_no_alarm() {
    let house = SqliteHouse::new();
    let file = house.file();
    assert_eq!(start(&file).await, None, "a new state");
    assert_eq!(start(&file).await, None, "a restart");
    assert_eq!(life(&file, false, async |store| affected(store, &["C1"]).await).await, None, "work");
    assert_eq!(start(&file).await, None, "a restart after a crash");
    let to = beside(&file, ".backup");
    assert_eq!(life(&file, true, async |store| store.backup(&to).await.unwrap()).await, None);
    assert_eq!(start(&file).await, None, "a backup was made");
    for end in PARTS {
        let path = beside(&file, end);
        let mode = std::fs::metadata(&path).unwrap().permissions();
        std::fs::set_permissions(&path, mode).unwrap();
        let now = std::fs::File::options().append(true).open(&path).unwrap();
        now.set_modified(std::time::UNIX_EPOCH).unwrap();
    }
    assert_eq!(start(&file).await, None, "a package that sets modes, a tool that sets times");
    let moved = SqliteHouse::new();
    for end in PARTS {
        std::fs::rename(beside(&file, end), beside(&moved.file(), end)).unwrap();
    }
    assert_eq!(start(&moved.file()).await, None, "the directory got another name");
}

/// What somebody does with a state, and what is said of it then.
#[tokio::test]
async fn restored_and_copied_states_hold_until_a_person_resumes() {
    type Does = fn(old: &Path, file: &Path);
    #[rustfmt::skip]
    let rows: [(&str, Does, &str); 7] = [
        ("an older copy written over it, as cp does", |old, file| {
            std::fs::write(file, std::fs::read(old).unwrap()).unwrap();
        }, "epoch"),
        ("an older copy renamed into its place", |old, file| {
            std::fs::copy(old, beside(file, ".tmp")).unwrap();
            std::fs::rename(beside(file, ".tmp"), file).unwrap();
        }, "epoch"),
        ("everything written over in place, as rsync --inplace does", |old, file| {
            for end in PARTS {
                std::fs::write(beside(file, end), std::fs::read(beside(old, end)).unwrap()).unwrap();
            }
        }, "restored"),
        ("the newest state, copied and put back", |_, file| {
            let bytes = std::fs::read(file).unwrap();
            std::fs::remove_file(file).unwrap();
            // Something else takes the inode meanwhile, or not: the birth tells.
            std::fs::write(file, bytes).unwrap();
        }, "its file was restored"),
        ("the file beside it was removed", |_, file| {
            std::fs::remove_file(beside(file, ".identity")).unwrap();
        }, "missing"),
        ("the database was removed to begin anew", |_, file| {
            std::fs::remove_file(file).unwrap();
        }, "new one"),
        ("the file beside it was cut short", |_, file| {
            std::fs::write(beside(file, ".identity"), "lineage a\n").unwrap();
        }, "damaged"),
    ];
    for (sentence, does, expected) in rows {
        let house = SqliteHouse::new();
        let file = house.file();
        assert_eq!(life(&file, true, async |store| affected(store, &["C1"]).await).await, None);
        let old = house.file().with_file_name("old");
        for end in PARTS {
            std::fs::copy(beside(&file, end), beside(&old, end)).unwrap();
        }
        assert_eq!(start(&file).await, None);
        does(&old, &file);
        let held = start(&file).await.unwrap_or_else(|| panic!("not seen: {sentence}"));
        assert!(held.contains(expected), "{sentence}: {held}");
        assert!(held.contains("kigen resume"), "says what to do: {held}");
        assert_eq!(start(&file).await, None, "resumed, it is the state of this place: {sentence}");
    }
}

#[tokio::test]
async fn a_backup_made_by_kigen_is_old_at_once() {
    let house = SqliteHouse::new();
    let file = house.file();
    let to = beside(&file, ".backup");
    // The daemon dies after the backup, so that nothing but the backup itself moves the epoch.
    assert_eq!(life(&file, false, async |store| store.backup(&to).await.unwrap()).await, None);
    put_back(&file, &std::fs::read(&to).unwrap());
    assert!(start(&file).await.unwrap().contains("epoch"));
}

#[tokio::test]
async fn a_copy_taken_before_a_run_is_old_after_it() {
    let house = SqliteHouse::new();
    let file = house.file();
    assert_eq!(start(&file).await, None);
    let bytes = std::fs::read(&file).unwrap();
    let store = store::open(&StateUrl::Sqlite(file.clone())).await.unwrap();
    store.take_lead("kigen run", at(1)).await.unwrap();
    store.begin_run(RunKind::Notices, None, ME, at(1), at(2)).await.unwrap();
    // It dies here: no mark at the end.
    drop(store);
    at_rest(&file).await;
    put_back(&file, &bytes);
    assert!(start(&file).await.unwrap().contains("epoch"));
}

#[tokio::test]
async fn backups_taken_from_a_restored_state_do_not_hide_it() {
    let house = SqliteHouse::new();
    let file = house.file();
    assert_eq!(start(&file).await, None);
    let bytes = std::fs::read(&file).unwrap();
    assert_eq!(start(&file).await, None);
    std::fs::write(&file, bytes).unwrap();
    for n in 0..9 {
        let store = store::open(&StateUrl::Sqlite(file.clone())).await.unwrap();
        store.backup(&beside(&file, &format!(".{n}"))).await.unwrap();
        store.close().await;
    }
    assert!(start(&file).await.is_some());
}

#[tokio::test]
async fn a_copy_on_a_second_machine_holds_and_so_does_its_way_back() {
    let (first, second) = (SqliteHouse::new(), SqliteHouse::new());
    assert_eq!(start(&first.file()).await, None);
    let copy = |from: &Path, to: &Path, parts: &[&str]| {
        for end in parts {
            std::fs::copy(beside(from, end), beside(to, end)).unwrap();
        }
    };
    copy(&first.file(), &second.file(), &PARTS);
    assert!(start(&second.file()).await.is_some());
    assert_eq!(start(&first.file()).await, None, "the original goes on");
    copy(&second.file(), &first.file(), &[""]);
    assert!(start(&first.file()).await.unwrap().contains("not the one that was here"));
}

#[tokio::test]
async fn a_state_from_before_the_fence_is_taken_as_it_is() {
    let house = SqliteHouse::new();
    let file = house.file();
    assert_eq!(life(&file, true, async |store| affected(store, &["C1"]).await).await, None);
    // As it stood before this migration: no mark, no file.
    crate::sqlite_file::run(&file, "DELETE FROM fence").await;
    std::fs::remove_file(beside(&file, ".identity")).unwrap();
    assert_eq!(start(&file).await, None);
    assert_eq!(start(&file).await, None);
}
