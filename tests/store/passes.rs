//! What a pass decided for many customers in one transaction, and the pages it reads them by.

use kigen::domain::case::{CaseEvent, CaseState};
use kigen::domain::delivery::{DeliveryState, Held};
use kigen::domain::plan::NoticeKind::{First, Reminder, Resolved};
use kigen::store::{Committed, HistoryKind, NewDelivery, PassChange, Store, StoreError};

use crate::House;
use crate::fixtures::*;

/// What was decided about a customer, by the words of its history.
async fn decided_of(store: &dyn Store, customer: &str) -> Vec<String> {
    let history = store.history(&id(customer)).await.unwrap().unwrap();
    history.into_iter().filter(|e| e.what == HistoryKind::Decided).map(|e| e.text).collect()
}

/// A silent resolution: no mail.
async fn silently(store: &dyn Store, customer: &str) -> PassChange {
    let change = decided(store, notice(customer, First, "", None), 3).await;
    let mut case = change.case;
    case.state = CaseState::Resolved { at: at(3) };
    PassChange { case, events: vec![CaseEvent::Resolved { silently: true }], delivery: None, ..change }
}

fn with_raw(new: NewDelivery, raw: Vec<u8>) -> NewDelivery {
    let mut new = new;
    new.message.raw = raw;
    new
}

pub async fn many_are_written_each_as_it_was(house: &dyn House) {
    let store = house.open().await;
    let names = ["C1", "C2", "C3", "C4", "C5"];
    affected(&*store, &names).await;
    let bytes: [Vec<u8>; 4] =
        [(0..=255).collect(), Vec::new(), b"Subject: \0\xff'\r\n.\r\n".to_vec(), vec![b'x'; 300_000]];
    let mut changes = Vec::new();
    for (name, raw) in names.iter().zip(&bytes) {
        let held = (*name == "C2").then_some(Held::Cap);
        changes.push(decided(&*store, with_raw(notice(name, Reminder, "7d", held), raw.clone()), 2).await);
    }
    changes[2].delivery.as_mut().unwrap().recipients.truncate(1);
    changes.push(silently(&*store, "C5").await);
    let committed: Vec<_> = store.commit_passes(&changes).await.unwrap().into_iter().map(Result::unwrap).collect();
    let mut before = None;
    for (change, committed) in changes.iter().zip(&committed) {
        let name = change.customer.as_str();
        let after = state(&*store, name).await;
        assert_eq!(after.version, change.version + 1, "{name}");
        assert_eq!(after.cases[0].state, change.case.state, "{name}");
        assert_eq!(after.cases[0].sites, change.case.sites, "{name}");
        let Some(new) = &change.delivery else {
            assert_eq!(*committed, Committed::Done(None));
            assert!(decided_of(&*store, name).await.iter().any(|text| text.starts_with("case resolved")));
            continue;
        };
        let Committed::Done(Some(number)) = *committed else { panic!("{name}: {committed:?}") };
        assert!(before < Some(number), "the queue is in the order of the list");
        before = Some(number);
        let (claimed, attempts) = store.delivery(number).await.unwrap().unwrap();
        assert_eq!((&claimed.message, &claimed.delivery.facts), (&new.message, &new.facts), "{name}");
        let to: Vec<_> = claimed.delivery.recipients.iter().map(|r| r.address.clone()).collect();
        assert_eq!((to, attempts.len()), (new.recipients.clone(), 0), "{name}");
        let expected = new.held.map_or(queued(2), DeliveryState::Held);
        assert_eq!(claimed.delivery.state, expected, "{name}");
        let said = decided_of(&*store, name).await;
        assert!(said.last().unwrap().contains(&format!("(delivery {number})")), "{name}: {said:?}");
    }
    assert_eq!(all(&*store).await.len(), 4);
    assert!(store.commit_passes(&[]).await.unwrap().is_empty());
}

/// What stands of a customer, to see that nothing was changed.
async fn picture(store: &dyn Store, customer: &str) -> impl PartialEq + std::fmt::Debug {
    (state(store, customer).await, decided_of(store, customer).await)
}

pub async fn the_stale_the_known_and_the_bad_leave_the_others_alone(house: &dyn House) {
    let store = house.open().await;
    affected(&*store, &["C1", "C2", "C3", "C4", "C5", "C6", "C7"]).await;
    let known = queue(&*store, "C3", First, "").await;
    let of = |customer| decided(&*store, notice(customer, First, "", None), 3);
    let (good, again) = (of("C1").await, of("C1").await);
    let mut stale = of("C2").await;
    stale.version -= 1;
    let duplicate = of("C3").await;
    let mut stranger = of("C1").await;
    for customer in [&mut stranger.customer, &mut stranger.case.customer] {
        *customer = id("nobody");
    }
    stranger.delivery.as_mut().unwrap().facts.key.customer = id("nobody");
    let silent = silently(&*store, "C4").await;
    let mut last = of("C7").await;
    last.delivery.as_mut().unwrap().held = Some(Held::Review);

    // Refused by a constraint when its mail stands already, and one that is none.
    let mut bad = of("C5").await;
    bad.case.round = 0;
    let mut mixed = of("C6").await;
    mixed.delivery = Some(notice("C1", First, "", None));

    for with_bad in [false, true] {
        let untouched = ["C2", "C3", "C5", "C6"];
        let mut before = Vec::new();
        for customer in untouched {
            before.push(picture(&*store, customer).await);
        }
        let mut changes = vec![good.clone(), stale.clone(), duplicate.clone(), again.clone(), stranger.clone()];
        changes.extend([silent.clone(), last.clone()]);
        if with_bad {
            // The first round's are done: the same decisions are stale now, but for another notice of C1 and C7.
            changes.splice(0..1, [decided(&*store, notice("C1", Reminder, "7d", None), 4).await, bad.clone()]);
            changes.splice(7..8, [mixed.clone(), decided(&*store, notice("C7", Reminder, "7d", None), 4).await]);
        }
        let committed = store.commit_passes(&changes).await.unwrap();
        let words: Vec<_> = committed
            .iter()
            .map(|committed| match committed {
                Ok(Committed::Done(Some(_))) => "queued",
                Ok(Committed::Done(None)) => "done",
                Ok(Committed::Stale) => "stale",
                Ok(Committed::Duplicate) => "duplicate",
                Err(StoreError::Query { .. }) => "refused",
                Err(StoreError::Corrupt(_)) => "no sense",
                Err(error) => panic!("{error}"),
            })
            .collect();
        let expected: &[&str] = match with_bad {
            false => &["queued", "stale", "duplicate", "stale", "stale", "done", "queued"],
            true => &["queued", "refused", "stale", "duplicate", "stale", "stale", "stale", "no sense", "queued"],
        };
        assert_eq!(words, expected);
        for (customer, before) in untouched.iter().zip(before) {
            assert_eq!(picture(&*store, customer).await, before, "{customer}: nothing was changed");
        }
    }
    let mut of_all: Vec<_> = all(&*store).await.iter().map(|d| d.facts.key.to_string()).collect();
    of_all.sort();
    assert_eq!(of_all.len(), 5, "{of_all:?}");
    assert_eq!(delivery(&*store, known).await.facts.key.customer, id("C3"));
    assert_eq!(state(&*store, "C4").await.cases[0].state, CaseState::Resolved { at: at(3) });
}

pub async fn pages_hold_what_all_cases_to_plan_do(house: &dyn House) {
    let store = house.open().await;
    affected(&*store, &["C1", "C2", "C3", "C4", "C5", "C6", "C7"]).await;
    enter(&*store, &["C0", "C1", "C2", "C3", "C4", "C5", "C6", "C7", "C8"]).await;
    queue(&*store, "C1", First, "").await;
    // Resolved: long ago, told on the day, told on the day and held.
    for (customer, kind, held) in
        [("C2", None, None), ("C4", Some(Resolved), None), ("C5", Some(Resolved), Some(Held::Cap))]
    {
        let mut change = silently(&*store, customer).await;
        change.delivery = kind.map(|kind| notice(customer, kind, "", held));
        assert!(matches!(pass_one(&*store, &change).await, Committed::Done(_)));
    }
    let on = day("2022-09-01");
    let cases = store.cases_to_plan(on).await.unwrap();
    let ids: Vec<_> = cases.iter().map(|case| case.customer.as_str()).collect();
    assert_eq!(ids, ["C1", "C3", "C4", "C6", "C7"]);
    for limit in [1, 2, 3, 100] {
        let mut paged = Vec::new();
        let mut after = None;
        loop {
            let page = store.cases_page(on, after.as_ref(), limit).await.unwrap();
            assert!(page.cases.len() <= limit as usize);
            paged.extend(page.cases);
            assert!(page.next.is_none() || page.next > after, "it goes on");
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(paged, cases, "{limit} a page");
    }
    let another = store.cases_page(day("2022-09-02"), None, 100).await.unwrap();
    assert_eq!(another.cases.len(), 4, "on another day nothing was told to C4");
}
