//! Between two mails of a connection a file on SQLite holds what must be on disk in a table of its own (`flights`); all of
//! it comes to where it belongs, whatever happens in between, and until then nobody takes such a mail for one that waits.

use std::sync::Arc;

use kigen::domain::delivery::{Attempt, DeliveryId, DeliveryState, Outcome, RecipientState};
use kigen::domain::plan::NoticeKind::First;
use kigen::store::{Acted, AttemptEnd, AttemptStart, Claimed, Hold, HoldKind, OutboxAction, Store};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, SqliteConnection};

use crate::fixtures::*;
use crate::grouping::bad_row;
use crate::outbox::{end, start};
use crate::sqlite_file::run;
use crate::{House as _, SqliteHouse};

/// Deliveries on the wire, and whether they were taken, as they stand in the file.
async fn aloft(house: &SqliteHouse) -> Vec<(i64, bool)> {
    let mut file = SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(house.file())).await.unwrap();
    let rows = sqlx::query_as("SELECT delivery, taken_at IS NOT NULL FROM flights ORDER BY delivery");
    let rows = rows.fetch_all(&mut file).await.unwrap();
    file.close().await.unwrap();
    rows
}

/// From here on what is written into the table is kept.
async fn log(house: &SqliteHouse) {
    run(
        &house.file(),
        "CREATE TABLE log (said TEXT); \
         CREATE TRIGGER begins AFTER INSERT ON flights BEGIN INSERT INTO log VALUES ('begins ' || NEW.delivery); END; \
         CREATE TRIGGER taken AFTER UPDATE ON flights BEGIN INSERT INTO log VALUES ('taken ' || NEW.delivery); END",
    )
    .await;
}

async fn logged(house: &SqliteHouse) -> Vec<String> {
    let mut file = SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(house.file())).await.unwrap();
    let said = sqlx::query_scalar("SELECT said FROM log ORDER BY rowid").fetch_all(&mut file).await.unwrap();
    file.close().await.unwrap();
    said
}

/// Notices of that many customers, all in one deliverer's hands; the first has begun.
async fn in_hand(house: &SqliteHouse, customers: &[&str]) -> (Arc<dyn Store>, Vec<Claimed>) {
    let store = house.open().await;
    affected(&*store, customers).await;
    for customer in customers {
        queue(&*store, customer, First, "").await;
    }
    let claimed = store.claim_several(ME, 10, at(3), at(13)).await.unwrap();
    assert!(store.begin_attempt(claimed[0].delivery.id, ME, at(3), at(13)).await.unwrap());
    (store, claimed)
}

fn number(claimed: &Claimed) -> i64 {
    claimed.delivery.id.0
}

/// The first ends, the second begins.
async fn go_on(store: &dyn Store, first: &Claimed, second: &Claimed) {
    let done = store.record_and_begin(&end(first, ME), &start(second.delivery.id, ME)).await.unwrap();
    assert!(matches!(done, (true, Ok(true))), "{done:?}");
}

/// State, attempts with outcome and reply, recipients with reply, the last line of the history.
async fn all_of(store: &dyn Store, of: &Claimed) -> (String, Vec<String>, Vec<String>, String) {
    let (now, attempts) = store.delivery(of.delivery.id).await.unwrap().unwrap();
    let history = store.history(&of.delivery.facts.key.customer).await.unwrap().unwrap();
    let number = of.delivery.id.to_string();
    let word = |text: &str| text.replace(&number, "N");
    (
        format!("{:?} {:?} {}", now.delivery.state, now.delivery.detail, now.delivery.attempts),
        attempts
            .iter()
            .map(|a| format!("{} {:?} {:?} {:?} {:?}", a.number, a.started_at, a.finished_at, a.outcome, a.reply))
            .collect(),
        now.delivery.recipients.iter().map(|r| format!("{:?} {:?}", r.state, r.reply)).collect(),
        word(&history.last().unwrap().text),
    )
}

/// The first two of four mails are taken and the third is on its way. (On a machine that stands still for a second in between
/// the second lands by itself and is recorded where it belongs: then once more.)
async fn two_taken(customers: &[&str]) -> (SqliteHouse, Arc<dyn Store>, Vec<Claimed>) {
    loop {
        let house = SqliteHouse::new();
        let (store, mails) = in_hand(&house, customers).await;
        log(&house).await;
        go_on(&*store, &mails[0], &mails[1]).await;
        go_on(&*store, &mails[1], &mails[2]).await;
        if logged(&house).await == ["begins 2", "taken 2", "begins 3"] {
            return (house, store, mails);
        }
    }
}

#[tokio::test]
async fn what_lands_stands_as_if_it_had_been_recorded_there() {
    let (house, store, mails) = two_taken(&["C1", "C2", "C3", "C4"]).await;
    let landed = all_of(&*store, &mails[1]).await;
    assert_eq!(aloft(&house).await, [], "who reads sees it where it belongs");
    assert_eq!(delivery(&*store, mails[2].delivery.id).await.state, DeliveryState::Sending);

    let AttemptEnd { id, attempt, state, recipients, at: ended, .. } = end(&mails[2], ME);
    assert!(store.record_attempt(id, ME, &attempt, &state, &recipients, ended).await.unwrap());
    let recorded = all_of(&*store, &mails[2]).await;
    assert_eq!(landed, recorded, "the same as what is recorded at once");
    assert!(landed.0.starts_with("Sent None 1") && landed.3.ends_with("sent"), "{landed:?}");
}

#[tokio::test]
async fn after_a_crash_what_was_taken_is_sent_and_what_was_on_the_wire_is_in_doubt() {
    let (house, store, mails) = two_taken(&["C1", "C2", "C3", "C4"]).await;
    // The process is gone: its store is not closed.
    let next = house.open().await;
    assert_eq!(aloft(&house).await, [], "it lands when the file is opened");
    let states = [0, 1, 2, 3].map(|n| mails[n].delivery.id);
    let expected = [DeliveryState::Sent, DeliveryState::Sent, DeliveryState::Sending, queued(2)];
    for (id, expected) in states.into_iter().zip(expected) {
        assert_eq!(delivery(&*next, id).await.state, expected);
    }
    next.free_claims(OTHER).await.unwrap();
    let orphans = next.take_orphans(OTHER, true, at(5), at(15)).await.unwrap();
    assert_eq!(orphans.iter().map(number).collect::<Vec<_>>(), [number(&mails[2])]);
    assert_eq!(claim(&*next, OTHER, 5).await.unwrap().delivery.id, mails[3].delivery.id);
    drop(store);
}

#[tokio::test]
async fn whoever_changes_deliveries_meets_them_where_they_belong() {
    let house = SqliteHouse::new();
    let (store, mails) = in_hand(&house, &["C1", "C2", "C3"]).await;
    let beside = house.open().await;
    go_on(&*store, &mails[0], &mails[1]).await;
    let acted = beside.act(&[mails[1].delivery.id], OutboxAction::Cancel, &by(5)).await.unwrap();
    assert_eq!(acted, [Acted::NotNow(DeliveryState::Sending)], "it is on its way");
    assert_eq!(aloft(&house).await, []);
    // Its end and the next beginning find it where it is now.
    go_on(&*store, &mails[1], &mails[2]).await;
    assert_eq!(delivery(&*store, mails[1].delivery.id).await.state, DeliveryState::Sent);
    // A claim gives nothing out that is on the wire, and lands what is over.
    assert!(claim(&*beside, OTHER, 30).await.is_none(), "the lease has run out, the mail is still on its way");
    let orphans = beside.take_orphans(OTHER, false, at(30), at(40)).await.unwrap();
    assert_eq!(orphans.iter().map(number).collect::<Vec<_>>(), [number(&mails[2])]);
}

#[tokio::test]
async fn a_hold_between_two_mails_stops_the_second() {
    let house = SqliteHouse::new();
    let (store, mails) = in_hand(&house, &["C1", "C2", "C3"]).await;
    go_on(&*store, &mails[0], &mails[1]).await;
    let (set_by, reason) = ("hanako".to_owned(), "stop".to_owned());
    // As another process sets it in between: what is on the wire lands for it, so once more from there.
    house.open().await.set_hold(&Hold { kind: HoldKind::Paused, reason, set_by, set_at: at(4) }).await.unwrap();
    let next = start(mails[2].delivery.id, ME);
    let done = store.record_and_begin(&end(&mails[1], ME), &next).await.unwrap();
    assert!(matches!(done, (true, Ok(false))), "{done:?}");
    assert_eq!(delivery(&*store, mails[1].delivery.id).await.state, DeliveryState::Sent);
    assert_eq!(delivery(&*store, mails[2].delivery.id).await.state, queued(2));
    store.clear_holds(&by(5)).await.unwrap();
    assert_eq!(claim(&*store, OTHER, 5).await.unwrap().delivery.id, mails[2].delivery.id, "it went back to the queue");
}

#[tokio::test]
async fn every_other_end_is_recorded_where_it_belongs_at_once() {
    let house = SqliteHouse::new();
    let (store, mails) = in_hand(&house, &["C1", "C2", "C3"]).await;
    log(&house).await;
    go_on(&*store, &mails[0], &mails[1]).await;
    let refused = AttemptEnd {
        attempt: Attempt::whole(Outcome::Deferred, "451 4.3.0 not now"),
        state: queued(9),
        recipients: mails[1].delivery.recipients.clone(),
        ..end(&mails[1], ME)
    };
    let done = store.record_and_begin(&refused, &start(mails[2].delivery.id, ME)).await.unwrap();
    assert!(matches!(done, (true, Ok(true))), "{done:?}");
    assert_eq!(logged(&house).await, ["begins 2", "begins 3"], "no end is written here");
    let (state, attempts, recipients, _) = all_of(&*store, &mails[1]).await;
    assert!(state.starts_with("Queued"), "{state}");
    assert!(attempts.len() == 1 && attempts[0].contains("deferred"), "{attempts:?}");
    assert!(recipients.iter().all(|r| r.starts_with(&format!("{:?}", RecipientState::Pending))), "{recipients:?}");
}

#[tokio::test]
async fn one_that_cannot_land_keeps_no_other_and_is_never_sent_again() {
    let house = SqliteHouse::new();
    let (store, mails) = in_hand(&house, &["C1", "C2", "C3", "C4"]).await;
    bad_row(&house, "attempts", "C2").await;
    go_on(&*store, &mails[0], &mails[1]).await;
    go_on(&*store, &mails[1], &mails[2]).await;
    assert_eq!(delivery(&*store, mails[2].delivery.id).await.state, DeliveryState::Sending, "it landed");
    assert_eq!(aloft(&house).await, [(number(&mails[1]), true)]);
    store.free_claims(OTHER).await.unwrap();
    let free: Vec<DeliveryId> =
        store.claim_several(OTHER, 10, at(40), at(50)).await.unwrap().iter().map(|c| c.delivery.id).collect();
    assert_eq!(free, [mails[3].delivery.id], "a server has it: it is not given out");
}

#[tokio::test]
async fn it_lands_when_nobody_asks_any_more() {
    let house = SqliteHouse::new();
    let (store, mails) = in_hand(&house, &["C1", "C2"]).await;
    log(&house).await;
    go_on(&*store, &mails[0], &mails[1]).await;
    assert_eq!(logged(&house).await, ["begins 2"]);
    let started = std::time::Instant::now();
    while !aloft(&house).await.is_empty() {
        assert!(started.elapsed().as_secs() < 60, "it never lands");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    store.close().await;
    assert_eq!(delivery(&*house.open().await, mails[1].delivery.id).await.state, DeliveryState::Sending);
}

#[tokio::test]
async fn a_beginning_without_its_end_is_not_written() {
    let house = SqliteHouse::new();
    let (store, mails) = in_hand(&house, &["C1", "C2", "C3"]).await;
    go_on(&*store, &mails[0], &mails[1]).await;
    // A stranger's word about the second changes nothing here; only its attempt would be recorded, if it had one.
    let strange = AttemptEnd { owner: OTHER.to_owned(), ..end(&mails[1], ME) };
    let next = AttemptStart { owner: OTHER.to_owned(), ..start(mails[2].delivery.id, ME) };
    let done = store.record_and_begin(&strange, &next).await.unwrap();
    assert!(matches!(done, (false, Ok(false))), "{done:?}");
    assert_eq!(delivery(&*store, mails[1].delivery.id).await.state, DeliveryState::Sending);
    assert_eq!(delivery(&*store, mails[2].delivery.id).await.state, queued(2));
}

#[tokio::test]
async fn a_row_that_is_refused_is_written_where_it_belongs() {
    let house = SqliteHouse::new();
    let (store, mails) = in_hand(&house, &["C1", "C2", "C3"]).await;
    go_on(&*store, &mails[0], &mails[1]).await;
    bad_row(&house, "flights", "C3").await;
    go_on(&*store, &mails[1], &mails[2]).await;
    let states = [DeliveryState::Sent, DeliveryState::Sent, DeliveryState::Sending];
    for (mail, expected) in mails.iter().zip(states) {
        assert_eq!(delivery(&*store, mail.delivery.id).await.state, expected);
    }
}
