//! What a person sees and does.

use kigen::domain::delivery::{DeliveryId, DeliveryState, Held, Outcome, RecipientState};
use kigen::domain::plan::NoticeKind::{First, Reminder};
use kigen::store::OutboxAction::{Approve, Cancel, Retry};
use kigen::store::{Acted, Committed, HistoryKind, Hold, HoldKind, OutboxAction, OutboxFilter, Store};

use crate::House;
use crate::fixtures::*;

fn pause(minutes: i64) -> Hold {
    Hold {
        kind: HoldKind::Paused,
        reason: "the relay moves".to_owned(),
        set_by: "hanako".to_owned(),
        set_at: at(minutes),
    }
}

async fn one(store: &dyn Store, id: DeliveryId, action: OutboxAction, minutes: i64) -> Acted {
    store.act(&[id], action, &by(minutes)).await.unwrap().remove(0)
}

pub async fn holds_keep_back_what_was_not_approved_after(house: &dyn House) {
    let store = house.open().await;
    affected(&*store, &["C1", "C2", "C3"]).await;
    queue(&*store, "C1", First, "").await;
    let before = queue_held(&*store, "C2", First, "", Some(Held::Review)).await;
    let after = queue_held(&*store, "C3", First, "", Some(Held::Review)).await;
    one(&*store, before, Approve, 4).await;
    store.set_hold(&pause(5)).await.unwrap();
    let mut other = pause(6);
    other.reason = "again".to_owned();
    store.set_hold(&other).await.unwrap();
    assert_eq!(store.holds().await.unwrap(), [pause(5)], "the first of its kind stays");
    assert!(claim(&*store, ME, 7).await.is_none());
    assert_eq!(store.next_due().await.unwrap(), None, "nothing to wake up for");
    one(&*store, after, Approve, 8).await;
    assert_eq!(store.next_due().await.unwrap(), Some(at(8)));
    assert_eq!(claim(&*store, ME, 9).await.unwrap().delivery.id, after);
    assert!(claim(&*store, ME, 9).await.is_none());
    store.set_hold(&Hold { kind: HoldKind::Restored, ..pause(10) }).await.unwrap();
    let cleared = store.clear_holds(&by(11)).await.unwrap();
    assert_eq!(cleared.iter().map(|h| h.kind).collect::<Vec<_>>(), [HoldKind::Paused, HoldKind::Restored]);
    assert_eq!(store.holds().await.unwrap(), []);
    assert!(claim(&*store, ME, 12).await.is_some());
}

pub async fn a_hold_set_after_the_claim_takes_it_away(house: &dyn House) {
    let store = house.open().await;
    affected(&*store, &["C1"]).await;
    let number = queue(&*store, "C1", First, "").await;
    claim(&*store, ME, 3).await.unwrap();
    store.set_hold(&pause(4)).await.unwrap();
    assert!(!store.begin_attempt(number, ME, at(5), at(9)).await.unwrap());
    store.clear_holds(&by(6)).await.unwrap();
    assert_eq!(claim(&*store, OTHER, 6).await.unwrap().delivery.id, number, "free for whoever comes");
    assert_eq!(delivery(&*store, number).await.attempts, 0);
}

pub async fn resume_releases_what_was_held_for_it(house: &dyn House) {
    let store = house.open().await;
    affected(&*store, &["C1", "C2"]).await;
    store.set_hold(&pause(1)).await.unwrap();
    let held = queue_held(&*store, "C1", First, "", Some(Held::Hold)).await;
    let review = queue_held(&*store, "C2", First, "", Some(Held::Review)).await;
    assert!(!state(&*store, "C1").await.cases[0].told[0].counts);
    store.clear_holds(&by(5)).await.unwrap();
    let released = delivery(&*store, held).await;
    assert_eq!((released.state, released.facts.day), (queued(5), day("2022-09-05")));
    assert_eq!(released.approved, Some(("hanako".to_owned(), at(5))));
    assert!(state(&*store, "C1").await.cases[0].told[0].counts);
    assert_eq!(delivery(&*store, review).await.state, DeliveryState::Held(Held::Review), "that is another matter");
    assert_eq!(store.clear_holds(&by(6)).await.unwrap(), []);
}

/// Brings a delivery of C1 into a state.
async fn bring(store: &dyn Store, occasion: &str, to: &DeliveryState) -> DeliveryId {
    match to {
        DeliveryState::Held(Held::Unknown) => {
            queue(store, "C1", Reminder, occasion).await;
            attempt(store, Outcome::Unknown, to.clone(), 3).await
        }
        DeliveryState::Held(held) => queue_held(store, "C1", Reminder, occasion, Some(*held)).await,
        DeliveryState::Queued { .. } => {
            queue(store, "C1", Reminder, occasion).await;
            attempt(store, Outcome::Deferred, queued(60), 3).await
        }
        DeliveryState::Sending => {
            queue(store, "C1", Reminder, occasion).await;
            begin(store, ME, 3).await.delivery.id
        }
        DeliveryState::Dropped => {
            let id = queue(store, "C1", Reminder, occasion).await;
            claim(store, ME, 3).await.unwrap();
            store.drop_claimed(id, ME, "overtaken", at(3)).await.unwrap();
            id
        }
        DeliveryState::Sent => {
            queue(store, "C1", Reminder, occasion).await;
            attempt(store, Outcome::Accepted, to.clone(), 3).await
        }
        DeliveryState::Unknown => {
            queue(store, "C1", Reminder, occasion).await;
            attempt(store, Outcome::Unknown, to.clone(), 3).await
        }
        DeliveryState::Failed => {
            queue(store, "C1", Reminder, occasion).await;
            attempt(store, Outcome::Rejected, to.clone(), 3).await
        }
    }
}

pub async fn actions_go_where_they_make_sense(house: &dyn House) {
    let store = house.open().await;
    affected(&*store, &["C1"]).await;
    let now = || Some(queued(5));
    // From where; what approve, retry and cancel make of it (`None`: not now).
    let table = [
        (DeliveryState::Held(Held::Review), now(), None, Some(DeliveryState::Dropped)),
        (DeliveryState::Held(Held::Cap), now(), None, Some(DeliveryState::Dropped)),
        (DeliveryState::Held(Held::Hold), now(), None, Some(DeliveryState::Dropped)),
        (DeliveryState::Held(Held::Unknown), None, now(), Some(DeliveryState::Unknown)),
        (queued(60), None, now(), Some(DeliveryState::Dropped)),
        (DeliveryState::Sending, None, None, None),
        (DeliveryState::Sent, None, None, None),
        (DeliveryState::Unknown, None, now(), None),
        (DeliveryState::Failed, None, now(), None),
        (DeliveryState::Dropped, None, None, None),
    ];
    for (n, (from, approve, retry, cancel)) in table.into_iter().enumerate() {
        for (action, expected) in [(Approve, approve), (Retry, retry), (Cancel, cancel)] {
            let id = bring(&*store, &format!("{n}-{action:?}"), &from).await;
            let acted = one(&*store, id, action, 5).await;
            let state = delivery(&*store, id).await.state;
            match expected {
                Some(expected) => assert_eq!((&acted, &state), (&Acted::Done, &expected), "{action:?} {from:?}"),
                None => assert_eq!((&acted, &state), (&Acted::NotNow(from.clone()), &from), "{action:?} {from:?}"),
            }
            // Out of the way of the next row's claim.
            if let DeliveryState::Queued { .. } = state {
                one(&*store, id, Cancel, 6).await;
            }
        }
    }
    assert_eq!(store.act(&[], Cancel, &by(9)).await.unwrap(), []);
    assert_eq!(one(&*store, DeliveryId(9_999), Approve, 9).await, Acted::Unknown);
    let id = queue(&*store, "C1", First, "").await;
    claim(&*store, ME, 10).await.unwrap();
    for action in [Retry, Cancel] {
        assert_eq!(one(&*store, id, action, 15).await, Acted::NotNow(queued(2)), "a deliverer has it");
    }
    assert_eq!(one(&*store, id, Retry, 20).await, Acted::Done, "its lease ran out");
    assert!(!store.begin_attempt(id, ME, at(21), at(30)).await.unwrap(), "and with the action the claim is gone");
    assert_eq!(one(&*store, id, Cancel, 22).await, Acted::Done);
}

pub async fn an_approved_notice_counts_from_that_day(house: &dyn House) {
    let store = house.open().await;
    affected(&*store, &["C1"]).await;
    let number = queue_held(&*store, "C1", First, "", Some(Held::Cap)).await;
    assert!(!state(&*store, "C1").await.cases[0].told[0].counts);
    one(&*store, number, Approve, 5).await;
    let told = state(&*store, "C1").await.cases[0].told.remove(0);
    assert_eq!((told.counts, told.day), (true, day("2022-09-05")));
    let approved = delivery(&*store, number).await;
    assert_eq!(approved.approved, Some(("hanako".to_owned(), at(5))));
    assert_eq!(approved.facts.day, day("2022-09-05"));
}

pub async fn a_retry_asks_again_who_is_not_settled(house: &dyn House) {
    use RecipientState::{Pending, Rejected};
    let store = house.open().await;
    affected(&*store, &["C1"]).await;
    let cases = [
        ("all refused: all are asked again", [Rejected, Rejected], [Pending, Pending]),
        ("one given up: only that one", [Rejected, Pending], [Rejected, Pending]),
    ];
    for (sentence, before, after) in cases {
        let number = queue(&*store, "C1", Reminder, sentence).await;
        let mut recipients = begin(&*store, ME, 3).await.delivery.recipients;
        for (recipient, state) in recipients.iter_mut().zip(before) {
            recipient.state = state;
        }
        settle(&*store, number, Outcome::Rejected, DeliveryState::Failed, &recipients, 3).await;
        one(&*store, number, Retry, 5).await;
        let claimed = claim(&*store, ME, 5).await.expect("at once").delivery;
        assert_eq!(claimed.recipients.iter().map(|r| r.state).collect::<Vec<_>>(), after, "{sentence}");
    }
}

pub async fn a_cancelled_notice_counts_as_had(house: &dyn House) {
    let store = house.open().await;
    affected(&*store, &["C1"]).await;
    let number = queue_held(&*store, "C1", First, "", Some(Held::Review)).await;
    one(&*store, number, Cancel, 5).await;
    let told = state(&*store, "C1").await.cases[0].told.remove(0);
    assert_eq!((told.kind, told.counts, told.day), (First, true, day("2022-09-01")));
    let cancelled = delivery(&*store, number).await;
    assert_eq!((cancelled.state, cancelled.detail.as_deref()), (DeliveryState::Dropped, Some("cancelled by hanako")));
    assert_eq!(put(&*store, notice("C1", First, "", None), 6).await, Committed::Duplicate);
}

pub async fn an_action_makes_old_decisions_stale(house: &dyn House) {
    let store = house.open().await;
    affected(&*store, &["C1"]).await;
    for (occasion, action) in [("30d", Approve), ("14d", Cancel)] {
        let number = queue_held(&*store, "C1", Reminder, occasion, Some(Held::Review)).await;
        let before = state(&*store, "C1").await.version;
        one(&*store, number, action, 5).await;
        assert_eq!(state(&*store, "C1").await.version, before + 1, "{action:?}");
    }
}

pub async fn deliveries_are_listed_and_counted(house: &dyn House) {
    let store = house.open().await;
    affected(&*store, &["C1", "C2"]).await;
    queue(&*store, "C1", First, "").await;
    queue_held(&*store, "C1", Reminder, "7d", Some(Held::Review)).await;
    queue(&*store, "C2", First, "").await;
    attempt(&*store, Outcome::Accepted, DeliveryState::Sent, 3).await;
    let list = async |states: &[&str], customer: Option<&str>, limit| {
        let filter = OutboxFilter {
            states: states.iter().map(|s| (*s).to_owned()).collect(),
            customer: customer.map(id),
            limit,
        };
        let rows = store.deliveries(&filter).await.unwrap();
        assert!(rows.iter().all(|row| row.recipients.len() == 2));
        rows.iter().map(|row| row.id.0).collect::<Vec<_>>()
    };
    assert_eq!(list(&[], None, None).await, [3, 2, 1], "the newest first");
    assert_eq!(list(&[], None, Some(2)).await, [3, 2]);
    assert_eq!(list(&[], Some("C1"), None).await, [2, 1]);
    assert_eq!(list(&["held", "queued"], None, None).await, [3, 2]);
    assert_eq!(list(&["held", "queued"], Some("C2"), None).await, [3]);
    let counts = store.outbox_counts().await.unwrap();
    let expected =
        [("held", 1), ("queued", 1), ("sending", 0), ("sent", 1), ("unknown", 0), ("failed", 0), ("dropped", 0)];
    assert_eq!(counts, expected);
}

pub async fn history_tells_what_was_sent_and_answered(house: &dyn House) {
    let store = house.open().await;
    affected(&*store, &["C1"]).await;
    let number = queue_held(&*store, "C1", Reminder, "7d", Some(Held::Review)).await;
    one(&*store, number, Approve, 5).await;
    attempt(&*store, Outcome::Deferred, queued(6), 6).await;
    attempt(&*store, Outcome::Accepted, DeliveryState::Sent, 7).await;
    let history = store.history(&id("C1")).await.unwrap().unwrap();
    let lines: Vec<_> = history.iter().map(|e| (e.at, e.what, e.text.as_str())).collect();
    let expected = [
        (at(1), HistoryKind::Seen, "site 本社: affected [Exchange Online に接続する / 基本認証 (Office 365の場合)]"),
        (at(1), HistoryKind::Decided, "case opened"),
        (at(1), HistoryKind::Decided, "site 本社: affected"),
        (
            at(2),
            HistoryKind::Decided,
            "reminder 7d notice (delivery 1): held (review), to t***@c1.example.jp, j***@c1.example.jp, about 本社, \
             \"支店\", 2: 1 site(s) affected since 2022-09-01; not told yet",
        ),
        (at(5), HistoryKind::Decided, "reminder 7d notice (delivery 1): approved by hanako"),
        (at(6), HistoryKind::Sent, "reminder 7d notice (delivery 1): attempt 1"),
        (at(6), HistoryKind::Answered, "reminder 7d notice (delivery 1): attempt 1 deferred: 451 4.3.0 not now"),
        (at(7), HistoryKind::Sent, "reminder 7d notice (delivery 1): attempt 2"),
        (at(7), HistoryKind::Answered, "reminder 7d notice (delivery 1): attempt 2 accepted: 451 4.3.0 not now"),
        (at(7), HistoryKind::Sent, "reminder 7d notice (delivery 1): sent"),
    ];
    assert_eq!(lines, expected);
}
