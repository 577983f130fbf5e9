//! Deliverers on one SQLite file share commits; what goes wrong with one of them hurts no other.

use std::path::Path;
use std::sync::Arc;

use futures_util::future::join_all;
use kigen::domain::delivery::{Attempt, DeliveryId, DeliveryState, Outcome, RecipientState};
use kigen::domain::plan::NoticeKind::{First, Reminder};
use kigen::store::{AttemptEnd, AttemptStart, Claimed, Committed, Store};

use crate::fixtures::*;
use crate::sqlite_file::run;
use crate::{House, SqliteHouse};

/// Transactions in the -wal file since it was begun, and the salt that tells one beginning from the next
/// (<https://www.sqlite.org/fileformat2.html#the_write_ahead_log>: a frame that ends a transaction says how many pages the
/// database has after it).
fn commits(database: &Path) -> ([u8; 8], usize) {
    let mut path = database.as_os_str().to_owned();
    path.push("-wal");
    let wal = std::fs::read(path).unwrap();
    let page = u32::from_be_bytes(wal[8..12].try_into().unwrap()) as usize;
    let salt: [u8; 8] = wal[16..24].try_into().unwrap();
    let frames = wal[32..].chunks(24 + page).take_while(|frame| frame.len() == 24 + page && frame[8..16] == salt);
    (salt, frames.filter(|frame| frame[4..8] != [0; 4]).count())
}

/// How many transactions the work took.
async fn counted<T>(house: &SqliteHouse, work: impl Future<Output = T>) -> (T, usize) {
    let (salt, before) = commits(&house.file());
    let done = work.await;
    let (same, after) = commits(&house.file());
    assert_eq!(salt, same, "the -wal was begun anew, so nothing can be counted");
    (done, after - before)
}

const MANY: usize = 48;

fn names() -> Vec<String> {
    (0..MANY).map(|n| format!("C{n:02}")).collect()
}

fn owner(n: usize) -> String {
    format!("{ME}#{n}")
}

/// As many queued notices as there are deliverers.
async fn queued_for_all(house: &SqliteHouse) -> Arc<dyn Store> {
    let store = house.open().await;
    let names = names();
    affected(&*store, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for name in &names {
        queue(&*store, name, First, "").await;
    }
    // The -wal begins anew, small.
    store.close().await;
    let store = house.open().await;
    store.set_memo("the -wal", "is there").await.unwrap();
    store
}

/// Everybody claims at the same time.
async fn claim_all(store: &dyn Store) -> Vec<Claimed> {
    let claims = join_all((0..MANY).map(|n| async move { store.claim(&owner(n), at(3), at(13)).await })).await;
    claims.into_iter().map(|claimed| claimed.unwrap().expect("there is one for each")).collect()
}

async fn begin_all(store: &dyn Store, claimed: &[Claimed]) -> Vec<kigen::store::Result<bool>> {
    join_all(
        claimed.iter().enumerate().map(|(n, claimed)| async move {
            store.begin_attempt(claimed.delivery.id, &owner(n), at(3), at(13)).await
        }),
    )
    .await
}

async fn record_all(store: &dyn Store, claimed: &[Claimed]) -> Vec<kigen::store::Result<bool>> {
    let sent = Attempt::whole(Outcome::Accepted, "250 2.0.0 ok");
    join_all(claimed.iter().enumerate().map(|(n, claimed)| {
        let mut recipients = claimed.delivery.recipients.clone();
        recipients.iter_mut().for_each(|r| r.state = RecipientState::Accepted);
        let sent = &sent;
        async move {
            let (id, state) = (claimed.delivery.id, DeliveryState::Sent);
            store.record_attempt(id, &owner(n), sent, &state, &recipients, at(4)).await
        }
    }))
    .await
}

async fn state_of(store: &dyn Store, id: DeliveryId) -> &'static str {
    delivery(store, id).await.state.as_str()
}

fn place(claimed: &[Claimed], customer: &str) -> usize {
    claimed.iter().position(|c| c.delivery.facts.key.customer == id(customer)).unwrap()
}

#[tokio::test]
async fn many_at_once_take_far_fewer_commits() {
    let house = SqliteHouse::new();
    let store = queued_for_all(&house).await;
    let (claimed, commits) = counted(&house, claim_all(&*store)).await;
    assert!((1..=3).contains(&commits), "{MANY} claims took {commits} commits");
    let mut ids: Vec<_> = claimed.iter().map(|c| c.delivery.id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), MANY, "everybody has one of its own");
    let (begun, commits) = counted(&house, begin_all(&*store, &claimed)).await;
    assert!((1..=3).contains(&commits), "{MANY} begun attempts took {commits} commits");
    assert!(begun.into_iter().all(|begun| begun.unwrap()));
    let (kept, commits) = counted(&house, record_all(&*store, &claimed)).await;
    assert!((1..=3).contains(&commits), "{MANY} records took {commits} commits");
    assert!(kept.into_iter().all(|kept| kept.unwrap()));
    for one in &claimed {
        let (now, attempts) = store.delivery(one.delivery.id).await.unwrap().unwrap();
        assert_eq!(now.delivery.state, DeliveryState::Sent);
        assert!(now.delivery.recipients.iter().all(|r| r.state == RecipientState::Accepted));
        assert_eq!((attempts.len(), attempts[0].outcome.as_deref()), (1, Some("accepted")));
        assert_eq!((attempts[0].started_at, attempts[0].finished_at), (at(3), Some(at(4))));
        let history = store.history(&one.delivery.facts.key.customer).await.unwrap().unwrap();
        assert!(history.last().unwrap().text.ends_with("sent"), "{:?}", history.last());
    }
}

#[tokio::test]
async fn what_a_pass_decided_takes_one_commit() {
    let house = SqliteHouse::new();
    let store = queued_for_all(&house).await;
    let mut changes = Vec::new();
    for name in names() {
        changes.push(decided(&*store, notice(&name, Reminder, "7d", None), 3).await);
    }
    let (committed, commits) = counted(&house, store.commit_passes(&changes)).await;
    assert_eq!(commits, 1);
    assert!(committed.unwrap().iter().all(|c| matches!(c, Ok(Committed::Done(Some(_))))));
}

#[tokio::test]
async fn what_was_answered_stands_after_a_kill() {
    let house = SqliteHouse::new();
    let store = queued_for_all(&house).await;
    let claimed = claim_all(&*store).await;
    begin_all(&*store, &claimed).await;
    record_all(&*store, &claimed).await;
    // What a machine that loses its power just now has: the files as they are, read by somebody else.
    let copy = SqliteHouse::new();
    std::fs::copy(house.file(), copy.file()).unwrap();
    std::fs::copy(house.file().with_extension("db-wal"), copy.file().with_extension("db-wal")).unwrap();
    let counts = copy.open().await.outbox_counts().await.unwrap();
    assert_eq!(counts.iter().find(|(word, _)| *word == "sent").unwrap().1, MANY as u64);
}

#[tokio::test]
async fn one_that_cannot_be_written_hurts_no_other() {
    let house = SqliteHouse::new();
    let store = queued_for_all(&house).await;
    let claimed = claim_all(&*store).await;
    run(
        &house.file(),
        "CREATE TRIGGER bad BEFORE UPDATE ON deliveries \
         WHEN NEW.customer = 'C07' AND NEW.state = 'sending' OR NEW.customer = 'C09' AND NEW.state = 'sent' \
         BEGIN SELECT RAISE(ABORT, 'a bad row'); END",
    )
    .await;
    let (unbegun, unsettled) = (place(&claimed, "C07"), place(&claimed, "C09"));
    let begun = begin_all(&*store, &claimed).await;
    for (n, begun) in begun.into_iter().enumerate() {
        assert_eq!(begun.ok(), (n != unbegun).then_some(true), "{}", claimed[n].delivery.facts.key.customer);
    }
    let kept = record_all(&*store, &claimed).await;
    for (n, kept) in kept.into_iter().enumerate() {
        // What was never begun is nothing to settle, and no error.
        assert_eq!(kept.ok(), (n != unsettled).then_some(n != unbegun), "{}", claimed[n].delivery.facts.key.customer);
    }
    for (n, one) in claimed.iter().enumerate() {
        let expected = [(unbegun, "queued"), (unsettled, "sending")].into_iter().find(|(bad, _)| *bad == n);
        assert_eq!(state_of(&*store, one.delivery.id).await, expected.map_or("sent", |(_, state)| state));
    }
}

/// The first half of them ends, and each is followed by one of the second half.
async fn go_on_all(
    store: &dyn Store,
    claimed: &[Claimed],
) -> Vec<kigen::store::Result<(bool, kigen::store::Result<bool>)>> {
    let half = MANY / 2;
    join_all((0..half).map(|n| async move {
        let end = AttemptEnd {
            id: claimed[n].delivery.id,
            owner: owner(n),
            attempt: Attempt::whole(Outcome::Accepted, "250 2.0.0 ok"),
            state: DeliveryState::Sent,
            recipients: claimed[n].delivery.recipients.clone(),
            at: at(4),
        };
        let id = claimed[half + n].delivery.id;
        let next = AttemptStart { id, owner: owner(half + n), at: at(4), lease_until: at(14) };
        store.record_and_begin(&end, &next).await
    }))
    .await
}

/// Nothing about this customer's mail can be put into the table.
pub async fn bad_row(house: &SqliteHouse, table: &str, customer: &str) {
    let trigger = format!(
        "CREATE TRIGGER bad_{table} BEFORE INSERT ON {table} \
         WHEN (SELECT customer FROM deliveries WHERE id = NEW.delivery) = '{customer}' \
         BEGIN SELECT RAISE(ABORT, 'a bad row'); END"
    );
    run(&house.file(), &trigger).await;
}

#[tokio::test]
async fn ends_and_beginnings_share_a_commit_and_a_bad_beginning_undoes_no_end() {
    let house = SqliteHouse::new();
    let store = queued_for_all(&house).await;
    let claimed = claim_all(&*store).await;
    begin_all(&*store, &claimed[..MANY / 2]).await;
    for table in ["attempts", "flights"] {
        bad_row(&house, table, "C40").await;
    }
    let bad = place(&claimed, "C40");
    assert!(bad >= MANY / 2);
    for (n, done) in go_on_all(&*store, &claimed).await.into_iter().enumerate() {
        let (kept, begun) = done.unwrap();
        assert!(kept, "{n}");
        assert_eq!(begun.ok(), (n + MANY / 2 != bad).then_some(true), "{n}");
    }
    for (n, one) in claimed.iter().enumerate() {
        let expected = if n < MANY / 2 { "sent" } else { ["sending", "queued"][usize::from(n == bad)] };
        assert_eq!(state_of(&*store, one.delivery.id).await, expected);
    }

    let house = SqliteHouse::new();
    let store = queued_for_all(&house).await;
    let claimed = claim_all(&*store).await;
    begin_all(&*store, &claimed[..MANY / 2]).await;
    let (done, commits) = counted(&house, go_on_all(&*store, &claimed)).await;
    assert!((1..=3).contains(&commits), "{MANY} ends and beginnings took {commits} commits");
    assert!(done.into_iter().all(|done| matches!(done, Ok((true, Ok(true))))));
}

#[tokio::test]
async fn who_lost_its_claim_is_told_so_among_those_who_have_theirs() {
    let house = SqliteHouse::new();
    let store = queued_for_all(&house).await;
    let claimed = claim_all(&*store).await;
    let lost = place(&claimed, "C03");
    store.release(claimed[lost].delivery.id, &owner(lost), at(3), "gone", at(3)).await.unwrap();
    assert!(store.claim(OTHER, at(4), at(14)).await.unwrap().is_some());
    let begun = begin_all(&*store, &claimed).await;
    for (n, begun) in begun.into_iter().enumerate() {
        assert_eq!(begun.unwrap(), n != lost, "{}", claimed[n].delivery.facts.key.customer);
    }
    assert_eq!(store.take_orphans(OTHER, true, at(4), at(14)).await.unwrap().len(), MANY - 1);
    let kept = record_all(&*store, &claimed).await;
    assert!(kept.into_iter().all(|kept| !kept.unwrap()), "they are somebody else's now");
    for (n, one) in claimed.iter().enumerate() {
        let (now, attempts) = store.delivery(one.delivery.id).await.unwrap().unwrap();
        let expected = if n == lost { ("queued", 0) } else { ("sending", 1) };
        assert_eq!((now.delivery.state.as_str(), attempts.len()), expected);
        assert!(attempts.iter().all(|a| a.outcome.as_deref() == Some("accepted")), "what was heard is kept");
    }
}

#[tokio::test]
async fn a_commit_that_fails_fails_all_and_nothing_stands() {
    let house = SqliteHouse::new();
    let store = queued_for_all(&house).await;
    let claimed = claim_all(&*store).await;
    run(
        &house.file(),
        "CREATE TABLE debt (delivery INTEGER REFERENCES deliveries (id) DEFERRABLE INITIALLY DEFERRED); \
         CREATE TRIGGER owing AFTER UPDATE ON deliveries WHEN NEW.customer = 'C07' AND NEW.state = 'sending' \
         BEGIN INSERT INTO debt VALUES (-1); END",
    )
    .await;
    let begun = begin_all(&*store, &claimed).await;
    assert!(begun.iter().all(Result::is_err), "nobody is told that its attempt stands");
    let counts = store.outbox_counts().await.unwrap();
    assert_eq!(counts.iter().find(|(word, _)| *word == "queued").unwrap().1, MANY as u64);
    run(&house.file(), "DROP TRIGGER owing").await;
    let begun = begin_all(&*store, &claimed).await;
    assert!(begun.into_iter().all(|begun| begun.unwrap()), "and the next ones go through");
}

/// How often each deliverer asks.
const TIMES: usize = 40;

#[tokio::test]
async fn those_who_ask_and_are_answered_leave_nothing_behind() {
    let house = SqliteHouse::new();
    let store = house.open().await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let most = join_all((0..MANY).map(|n| {
        let store = &store;
        async move {
            let mut most = 0;
            for _ in 0..TIMES {
                assert!(store.claim(&owner(n), at(3), at(13)).await.unwrap().is_none());
                most = most.max(tasks());
            }
            most
        }
    }))
    .await;
    let most = most.into_iter().max().unwrap() - before;
    // One that writes and one that waits for its turn; each may just be ending.
    assert!(most <= 4, "{MANY} deliverers who asked {TIMES} times each had {most} tasks waiting for them");
}
