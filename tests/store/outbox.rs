//! The outbox: in by a pass, out by a deliverer.

use kigen::domain::case::{CaseEvent, CaseState, LookKind};
use kigen::domain::delivery::{Attempt, DeliveryId, DeliveryState, Held, Outcome, Recipient, RecipientState};
use kigen::domain::observation::Verdict;
use kigen::domain::plan::NoticeKind::{First, Overdue, Reminder};
use kigen::store::{
    AttemptEnd, AttemptStart, Claimed, Committed, HistoryKind, MailFilter, OutboxAction, PassChange, StoreError,
};

use crate::House;
use crate::fixtures::*;

pub async fn a_pass_comes_back_as_it_was_written(house: &dyn House) {
    let store = house.open().await;
    affected(&*store, &["C1"]).await;
    let mut before = state(&*store, "C1").await;
    let mut case = before.cases.remove(0);
    case.state = CaseState::Resolved { at: at(2) };
    let new = notice("C1", Reminder, "7d", Some(Held::Review));
    let change = PassChange {
        customer: id("C1"),
        version: before.version,
        case: case.clone(),
        events: vec![CaseEvent::Resolved { silently: false }],
        delivery: Some(new.clone()),
        at: at(2),
    };
    let Committed::Done(Some(number)) = pass_one(&*store, &change).await else { panic!("not written") };
    let (claimed, attempts) = store.delivery(number).await.unwrap().unwrap();
    assert_eq!(claimed.message, new.message, "byte for byte");
    assert_eq!(attempts, []);
    let written = claimed.delivery;
    assert_eq!(written.facts, new.facts);
    assert_eq!(written.state, DeliveryState::Held(Held::Review));
    let pending = |a| Recipient { address: a, state: RecipientState::Pending, reply: None };
    assert_eq!(written.recipients, new.recipients.into_iter().map(pending).collect::<Vec<_>>());
    assert_eq!((written.created_at, written.state_at, written.evidence_at), (at(2), at(2), at(1)));
    assert_eq!((written.attempts, written.unknown_before, written.approved.clone()), (0, false, None));
    assert_eq!((written.sites.clone(), written.rendered_for), (new.message.sites, day("2022-09-01")));
    assert_eq!(all(&*store).await, [written]);
    let after = state(&*store, "C1").await;
    assert_eq!(after.version, before.version + 1);
    assert_eq!(after.cases[0].state, case.state);
    let history = store.history(&id("C1")).await.unwrap().unwrap();
    let decided: Vec<_> = history.iter().filter(|e| e.what == HistoryKind::Decided).map(|e| &e.text).collect();
    assert!(decided.iter().any(|text| *text == "case resolved"));
    assert!(store.delivery(DeliveryId(99)).await.unwrap().is_none());
}

pub async fn a_notice_stands_in_the_outbox_once(house: &dyn House) {
    let store = house.open().await;
    affected(&*store, &["C1", "C2"]).await;
    let first = queue(&*store, "C1", First, "").await;
    let version = state(&*store, "C1").await.version;
    assert_eq!(put(&*store, notice("C1", First, "", None), 3).await, Committed::Duplicate);
    assert_eq!(state(&*store, "C1").await.version, version, "nothing was changed");
    queue(&*store, "C1", Reminder, "7d").await;
    queue(&*store, "C1", Reminder, "3d").await;
    queue(&*store, "C2", First, "").await;

    let claimed = claim(&*store, ME, 3).await.unwrap();
    assert_eq!(claimed.delivery.id, first);
    store.drop_claimed(first, ME, "no site is affected any more", at(3)).await.unwrap();
    let second = queue(&*store, "C1", First, "").await;
    assert_ne!(second, first, "an overtaken notice frees its key");
    store.act(&[second], OutboxAction::Cancel, &by(4)).await.unwrap();
    assert_eq!(put(&*store, notice("C1", First, "", None), 5).await, Committed::Duplicate, "a cancelled one does not");
}

pub async fn a_stale_pass_is_refused(house: &dyn House) {
    let store = house.open().await;
    affected(&*store, &["C1"]).await;
    let before = state(&*store, "C1").await;
    look(&*store, "C1", LookKind::Check, vec![seen("C1", "本社", Verdict::Switched, 2)], 2).await;
    let change = PassChange {
        customer: id("C1"),
        version: before.version,
        case: before.cases[0].clone(),
        events: vec![],
        delivery: Some(notice("C1", First, "", None)),
        at: at(3),
    };
    assert_eq!(pass_one(&*store, &change).await, Committed::Stale);
    assert_eq!(all(&*store).await, []);
    assert!(!state(&*store, "C1").await.cases[0].any(kigen::domain::campaign::Standing::Affected));
}

pub async fn nobody_gets_what_another_has(house: &dyn House) {
    let (one, two) = (house.open().await, house.open().await);
    let customers: Vec<String> = (0..20).map(|n| format!("C{n:02}")).collect();
    affected(&*one, &customers.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for customer in &customers {
        queue(&*one, customer, First, "").await;
    }
    let take_all = async |store: &dyn kigen::store::Store, owner: &str| {
        let mut mine = Vec::new();
        while let Some(claimed) = claim(store, owner, 3).await {
            mine.push(claimed.delivery.id);
            assert!(mine.len() <= 20, "given out twice");
        }
        mine
    };
    let (mut all, more) = futures_util::join!(take_all(&*one, ME), take_all(&*two, OTHER));
    all.extend(more);
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 20);
}

pub async fn the_queue_goes_by_priority_number_and_time(house: &dyn House) {
    let store = house.open().await;
    affected(&*store, &["C1", "C2", "C3", "C4"]).await;
    let with = |customer, priority| {
        let mut new = notice(customer, First, "", None);
        new.priority = priority;
        new
    };
    assert_eq!(store.next_due().await.unwrap(), None, "the queue is empty");
    assert_eq!(store.last_attempt_at().await.unwrap(), None);
    for (customer, priority) in [("C1", 5), ("C2", 5), ("C3", 1)] {
        put(&*store, with(customer, priority), 2).await;
    }
    queue_held(&*store, "C4", First, "", Some(Held::Cap)).await;
    assert_eq!(store.next_due().await.unwrap(), Some(at(2)));
    assert!(claim(&*store, ME, 1).await.is_none(), "their time has not come");
    let mut order = Vec::new();
    while let Some(claimed) = claim(&*store, ME, 3).await {
        order.push(claimed.delivery.facts.key.customer.as_str().to_owned());
    }
    assert_eq!(order, ["C3", "C1", "C2"], "the held one waits");
    assert_eq!(store.next_due().await.unwrap(), Some(at(13)), "the end of the leases");
}

pub async fn a_lease_that_ran_out_gives_the_delivery_to_the_next(house: &dyn House) {
    let store = house.open().await;
    affected(&*store, &["C1"]).await;
    let number = queue(&*store, "C1", First, "").await;
    assert!(claim(&*store, OTHER, 3).await.is_some());
    assert!(claim(&*store, ME, 12).await.is_none(), "until minute 13 it is theirs");
    let claimed = claim(&*store, ME, 13).await.unwrap();
    assert_eq!(claimed.delivery.state, queued(2), "nothing has left");
    assert!(!store.begin_attempt(number, OTHER, at(14), at(20)).await.unwrap(), "they lost it");
    assert!(!store.replace_message(number, OTHER, &message("C1", "x")).await.unwrap());
    store.drop_claimed(number, OTHER, "why", at(14)).await.unwrap();
    store.release(number, OTHER, at(99), "why", at(14)).await.unwrap();
    assert_eq!(delivery(&*store, number).await.state, queued(2));
    assert!(store.begin_attempt(number, ME, at(14), at(20)).await.unwrap());
    assert!(!store.begin_attempt(number, ME, at(14), at(20)).await.unwrap(), "one attempt at a time");
}

pub async fn an_attempt_is_recorded_as_a_whole(house: &dyn House) {
    let store = house.open().await;
    affected(&*store, &["C1"]).await;
    queue(&*store, "C1", First, "").await;
    let number = attempt(&*store, Outcome::Deferred, queued(5), 3).await;
    let waiting = delivery(&*store, number).await;
    assert_eq!((waiting.state.clone(), waiting.attempts, waiting.state_at), (queued(5), 1, at(3)));
    assert_eq!(waiting.detail.as_deref(), Some("451 4.3.0 not now"));
    assert!(claim(&*store, ME, 4).await.is_none());
    attempt(&*store, Outcome::Unknown, queued(6), 5).await;
    assert!(delivery(&*store, number).await.unknown_before);

    let claimed = begin(&*store, ME, 6).await;
    assert_eq!(delivery(&*store, number).await.state, DeliveryState::Sending);
    assert_eq!(store.next_due().await.unwrap(), None);
    let mut recipients = claimed.delivery.recipients;
    recipients[0].state = RecipientState::Accepted;
    recipients[0].reply = Some("250 2.0.0 queued as 4711".to_owned());
    recipients[1].state = RecipientState::Rejected;
    recipients[1].reply = Some("550 5.1.1 no such user".to_owned());
    assert!(settle(&*store, number, Outcome::Accepted, DeliveryState::Sent, &recipients, 7).await);
    let (done, attempts) = store.delivery(number).await.unwrap().unwrap();
    assert_eq!((done.delivery.state, done.delivery.recipients), (DeliveryState::Sent, recipients));
    assert_eq!((done.delivery.attempts, done.delivery.detail), (3, None));
    let told: Vec<_> =
        attempts.iter().map(|a| (a.number, a.started_at, a.finished_at, a.outcome.as_deref().unwrap())).collect();
    let expected =
        [(1, at(3), Some(at(3)), "deferred"), (2, at(5), Some(at(5)), "unknown"), (3, at(6), Some(at(7)), "accepted")];
    assert_eq!(told, expected);
    assert_eq!(store.last_attempt_at().await.unwrap(), Some(at(6)));
    assert!(claim(&*store, ME, 99).await.is_none());
}

pub async fn who_lost_the_claim_records_only_the_attempt(house: &dyn House) {
    let store = house.open().await;
    affected(&*store, &["C1"]).await;
    queue(&*store, "C1", First, "").await;
    let claimed = begin(&*store, OTHER, 3).await;
    let number = claimed.delivery.id;
    assert_eq!(store.take_orphans(ME, false, at(13), at(23)).await.unwrap().len(), 1);
    let sent = Attempt::whole(Outcome::Accepted, "250 ok");
    let theirs = store.record_attempt(number, OTHER, &sent, &DeliveryState::Sent, &claimed.delivery.recipients, at(14));
    assert!(!theirs.await.unwrap());
    let (now, attempts) = store.delivery(number).await.unwrap().unwrap();
    assert_eq!(now.delivery.state, DeliveryState::Sending, "it is ours");
    assert_eq!(attempts[0].outcome.as_deref(), Some("accepted"), "but what they heard is kept");
    assert!(settle(&*store, number, Outcome::Unknown, queued(20), &claimed.delivery.recipients, 15).await);
    let (_, attempts) = store.delivery(number).await.unwrap().unwrap();
    assert_eq!(attempts[0].outcome.as_deref(), Some("accepted"));
}

pub async fn orphans_are_taken_over(house: &dyn House) {
    let store = house.open().await;
    affected(&*store, &["C1", "C2", "C3"]).await;
    for customer in ["C1", "C2", "C3"] {
        queue(&*store, customer, First, "").await;
    }
    let theirs = begin(&*store, OTHER, 3).await.delivery.id;
    let mine = begin(&*store, ME, 4).await.delivery.id;
    assert_eq!(store.take_orphans(ME, false, at(12), at(30)).await.unwrap().len(), 0, "their lease still runs");
    let mut orphans = store.take_orphans(ME, true, at(12), at(30)).await.unwrap();
    if house.shared() {
        assert_eq!(orphans.len(), 0, "another node may be alive: only its lease says otherwise");
        orphans = store.take_orphans(ME, true, at(13), at(30)).await.unwrap();
    }
    assert_eq!(orphans.iter().map(|o| o.delivery.id).collect::<Vec<_>>(), [theirs], "whatever the lease");
    assert_eq!(orphans[0].delivery.state, DeliveryState::Sending);
    assert_eq!(orphans[0].message, message("C1", "first-"));
    let recipients = &orphans[0].delivery.recipients;
    assert!(settle(&*store, theirs, Outcome::Unknown, DeliveryState::Unknown, recipients, 13).await);
    let lapsed = store.take_orphans(OTHER, false, at(14), at(30)).await.unwrap();
    assert_eq!(lapsed.iter().map(|o| o.delivery.id).collect::<Vec<_>>(), [mine], "my lease ended at 14");
}

pub async fn claims_of_a_dead_process_are_freed(house: &dyn House) {
    let store = house.open().await;
    affected(&*store, &["C1", "C2"]).await;
    queue(&*store, "C1", First, "").await;
    queue(&*store, "C2", First, "").await;
    claim(&*store, OTHER, 3).await.unwrap();
    claim(&*store, ME, 4).await.unwrap();
    let freed = store.free_claims(ME).await.unwrap();
    let mut now = 4;
    if house.shared() {
        assert_eq!(freed, 0, "another node may be alive: only its lease says otherwise");
        assert!(claim(&*store, ME, 4).await.is_none());
        now = 13;
    } else {
        assert_eq!(freed, 1);
    }
    assert_eq!(claim(&*store, ME, now).await.unwrap().delivery.facts.key.customer, id("C1"));
    assert!(claim(&*store, ME, now).await.is_none(), "mine stay mine");
}

pub async fn a_message_is_replaced_only_while_no_server_may_hold_it(house: &dyn House) {
    let store = house.open().await;
    affected(&*store, &["C1"]).await;
    let cases = [
        ("no attempt yet", None, RecipientState::Pending, true),
        ("deferred: nobody took it", Some(Outcome::Deferred), RecipientState::Pending, true),
        ("blocked: nobody took it", Some(Outcome::Blocked), RecipientState::Pending, true),
        ("unknown: it may be there", Some(Outcome::Unknown), RecipientState::Pending, false),
        ("one took it, another deferred", Some(Outcome::Deferred), RecipientState::Accepted, false),
    ];
    for (n, (sentence, outcome, of_first, expected)) in cases.into_iter().enumerate() {
        let number = queue(&*store, "C1", Reminder, &format!("{n}d")).await;
        if let Some(outcome) = outcome {
            let mut recipients = begin(&*store, ME, 3).await.delivery.recipients;
            recipients[0].state = of_first;
            assert!(settle(&*store, number, outcome, queued(3), &recipients, 3).await);
        }
        let claimed = claim(&*store, ME, 3).await.unwrap();
        let mut new = message("C1", "newer");
        new.rendered_for = day("2022-09-02");
        new.sites = vec![site("新")];
        assert_eq!(store.replace_message(number, ME, &new).await.unwrap(), expected, "{sentence}");
        let now = store.delivery(number).await.unwrap().unwrap().0;
        assert_eq!(now.message, if expected { new } else { claimed.message }, "{sentence}");
        assert!(store.begin_attempt(number, ME, at(3), at(9)).await.unwrap());
        assert!(!store.replace_message(number, ME, &message("C1", "late")).await.unwrap(), "it is leaving");
        settle(&*store, number, Outcome::Rejected, DeliveryState::Failed, &now.delivery.recipients, 4).await;
    }
}

pub async fn release_and_drop(house: &dyn House) {
    let store = house.open().await;
    affected(&*store, &["C1"]).await;
    let number = queue(&*store, "C1", First, "").await;
    claim(&*store, ME, 3).await.unwrap();
    store.release(number, ME, at(60), "outside business hours", at(3)).await.unwrap();
    let waiting = delivery(&*store, number).await;
    assert_eq!((waiting.state, waiting.detail.as_deref()), (queued(60), Some("outside business hours")));
    assert_eq!(waiting.attempts, 0);
    assert!(claim(&*store, ME, 59).await.is_none());
    claim(&*store, ME, 60).await.unwrap();
    let version = state(&*store, "C1").await.version;
    store.drop_claimed(number, ME, "overtaken: no site is affected any more", at(61)).await.unwrap();
    let dropped = delivery(&*store, number).await;
    assert_eq!((dropped.state, dropped.state_at), (DeliveryState::Dropped, at(61)));
    let case = state(&*store, "C1").await;
    assert_eq!(case.cases[0].told, [], "a dropped notice was never told");
    assert_eq!(case.version, version + 1);
    let history = store.history(&id("C1")).await.unwrap().unwrap();
    let last = history.last().unwrap();
    let expected = format!("first notice (delivery {number}): dropped before it left: {}", dropped.detail.unwrap());
    assert_eq!((last.at, last.what, &last.text), (at(61), HistoryKind::Sent, &expected));
}

pub async fn what_a_server_may_hold_is_never_dropped(house: &dyn House) {
    let store = house.open().await;
    affected(&*store, &["C1"]).await;
    for (occasion, accepted, action, expected) in [
        ("1d", false, false, DeliveryState::Unknown),
        ("2d", true, false, DeliveryState::Sent),
        ("3d", false, true, DeliveryState::Unknown),
        ("4d", true, true, DeliveryState::Sent),
    ] {
        let number = queue(&*store, "C1", Reminder, occasion).await;
        let mut recipients = begin(&*store, ME, 3).await.delivery.recipients;
        recipients[0].state = if accepted { RecipientState::Accepted } else { RecipientState::Pending };
        let outcome = if accepted { Outcome::Deferred } else { Outcome::Unknown };
        settle(&*store, number, outcome, queued(4), &recipients, 3).await;
        if action {
            store.act(&[number], OutboxAction::Cancel, &by(4)).await.unwrap();
        } else {
            claim(&*store, ME, 4).await.unwrap();
            store.drop_claimed(number, ME, "overtaken", at(4)).await.unwrap();
        }
        assert_eq!(delivery(&*store, number).await.state, expected, "{occasion}");
        assert_eq!(put(&*store, notice("C1", Reminder, occasion, None), 5).await, Committed::Duplicate);
    }
}

pub async fn reminders_answer_what_was_sent(house: &dyn House) {
    let store = house.open().await;
    affected(&*store, &["C1", "C2"]).await;
    let outcomes = [
        (First, "", Outcome::Accepted, DeliveryState::Sent),
        (Reminder, "30d", Outcome::Rejected, DeliveryState::Failed),
        (Reminder, "14d", Outcome::Unknown, DeliveryState::Unknown),
    ];
    for (kind, occasion, outcome, state) in outcomes {
        queue(&*store, "C1", kind, occasion).await;
        attempt(&*store, outcome, state, 3).await;
    }
    queue(&*store, "C2", First, "").await;
    queue(&*store, "C1", Reminder, "7d").await;
    let thread = async |new: kigen::store::NewDelivery| store.thread(&new.facts.key).await.unwrap();
    let both = ["<C1.first-@example.jp>", "<C1.reminder-14d@example.jp>"];
    assert_eq!(thread(notice("C1", Reminder, "7d", None)).await, both);
    assert_eq!(thread(notice("C1", First, "", None)).await, both[1..], "never itself");
    assert_eq!(thread(notice("C2", Overdue, "", None)).await, [""; 0]);
}

pub async fn a_case_knows_what_was_told(house: &dyn House) {
    let store = house.open().await;
    affected(&*store, &["C1"]).await;
    queue(&*store, "C1", First, "").await;
    queue_held(&*store, "C1", Reminder, "30d", Some(Held::Review)).await;
    queue(&*store, "C1", Reminder, "14d").await;
    let number = attempt(&*store, Outcome::Unknown, DeliveryState::Held(Held::Unknown), 3).await;
    assert_eq!(delivery(&*store, number).await.facts.key.kind, First);
    let told = state(&*store, "C1").await.cases[0].told.clone();
    let short: Vec<_> = told.iter().map(|t| (t.kind, t.occasion.as_str(), t.counts)).collect();
    let expected = [(First, "", true), (Reminder, "30d", false), (Reminder, "14d", true)];
    assert_eq!(short, expected, "perhaps sent counts, held for a person does not");
    assert!(told.iter().all(|t| t.day == day("2022-09-01") && t.deadline == day("2022-10-01") && t.round == 1));
    assert_eq!(store.open_cases().await.unwrap()[0].told, told);
}

/// A number for each thing that can be wrong with a row, so that all stand at the head of one queue.
const SPOILED: [(&str, &str); 5] = [
    ("UPDATE deliveries SET rendered_for = 'someday' WHERE id = 1", "no civil day"),
    ("UPDATE recipients SET address = 'nobody' WHERE delivery = 2", "a mail address that is none"),
    ("DELETE FROM messages WHERE delivery = 3", "its message is missing"),
    ("UPDATE deliveries SET sites = '{}' WHERE id = 4", "no list of sites"),
    ("DELETE FROM recipients WHERE delivery = 5", "it has no recipient"),
];

pub async fn what_nobody_can_read_is_set_aside(house: &dyn House) {
    let store = house.open().await;
    affected(&*store, &["C1", "C2", "C3", "C4", "C5", "C6", "C7"]).await;
    for customer in ["C1", "C2", "C3", "C4", "C5", "C6", "C7"] {
        queue(&*store, customer, First, "round-1").await;
    }
    for (sql, _) in SPOILED {
        house.spoil(sql).await;
    }
    for (number, (_, why)) in (1..).zip(SPOILED) {
        let Err(StoreError::SetAside(aside)) = store.claim_several(ME, 7, at(3), at(13)).await else { panic!("{why}") };
        assert_eq!((aside.delivery, aside.customer), (DeliveryId(number), format!("C{number}")), "{why}");
        assert!(aside.why.contains(why), "{} is no {why}", aside.why);
    }
    let claimed = claim(&*store, ME, 3).await.unwrap();
    assert_eq!(claimed.delivery.id, DeliveryId(6), "those behind them have their turn");
    let claimed = claim(&*store, ME, 3).await.unwrap();
    assert_eq!(claimed.delivery.id, DeliveryId(7));
    assert!(claim(&*store, ME, 3).await.is_none());

    let mut listed = all(&*store).await;
    listed.reverse();
    assert_eq!(listed.len(), 7, "the list shows them all");
    for (delivery, (_, why)) in listed.iter().zip(SPOILED) {
        assert_eq!(delivery.state, DeliveryState::Failed, "{why}");
        let detail = delivery.detail.as_deref().unwrap();
        assert!(detail.starts_with("the row contradicts itself: ") && detail.contains(why), "{detail}");
    }
    let history = store.history(&id("C3")).await.unwrap().unwrap();
    assert!(history.iter().any(|line| line.text.contains("its message is missing")), "{history:#?}");
}

pub async fn bytes_that_are_no_text_hide_no_other_row(house: &dyn House) {
    let store = house.open().await;
    if house.shared() {
        return; // PostgreSQL lets no such bytes in.
    }
    affected(&*store, &["C1", "C2", "C3"]).await;
    for customer in ["C1", "C2", "C3"] {
        queue(&*store, customer, First, "round-1").await;
    }
    house.spoil("UPDATE deliveries SET because = CAST(x'746fff' AS TEXT) WHERE id = 1").await;
    house.spoil("UPDATE recipients SET reply = CAST(x'746fff' AS TEXT) WHERE delivery = 2").await;
    let listed = all(&*store).await;
    assert_eq!(listed.iter().map(|d| d.id.0).collect::<Vec<_>>(), [3, 2, 1], "the list shows them all");
    assert_eq!(listed[2].facts.because, "to\u{fffd}", "with what can be shown");
    for (damaged, column) in [(&listed[2], "because"), (&listed[1], "reply")] {
        let detail = damaged.detail.as_deref().unwrap();
        assert!(detail.contains("no UTF-8") && detail.contains(column), "{detail}");
    }
    let mails = store.mail_lines(&MailFilter { states: Vec::new(), before: None, limit: 10 }).await.unwrap();
    assert_eq!(mails.len(), 3, "the dashboard's list too");
    for number in [1, 2] {
        let aside = store.claim(ME, at(3), at(13)).await;
        assert!(
            matches!(aside, Err(StoreError::SetAside(aside)) if aside.delivery == DeliveryId(number)),
            "and none leaves"
        );
    }
    assert_eq!(claim(&*store, ME, 3).await.unwrap().delivery.id, DeliveryId(3), "those behind them have their turn");
}

pub async fn in_flight_and_unreadable_is_unknown(house: &dyn House) {
    let store = house.open().await;
    affected(&*store, &["C1", "C2"]).await;
    for customer in ["C1", "C2"] {
        queue(&*store, customer, First, "round-1").await;
        begin(&*store, "dead", 3).await;
    }
    house.spoil("UPDATE deliveries SET rendered_for = 'someday' WHERE id = 1").await;
    let taken = store.take_orphans(ME, false, at(20), at(30)).await;
    assert!(matches!(taken, Err(StoreError::SetAside(aside)) if aside.delivery == DeliveryId(1)));
    let taken = store.take_orphans(ME, false, at(20), at(30)).await.unwrap();
    assert_eq!(taken.iter().map(|c| c.delivery.id).collect::<Vec<_>>(), [DeliveryId(2)]);
    assert_eq!(all(&*store).await.last().unwrap().state, DeliveryState::Unknown, "it may have left");
}

/// It was sent, in minute 4.
pub fn end(claimed: &Claimed, owner: &str) -> AttemptEnd {
    let mut recipients = claimed.delivery.recipients.clone();
    recipients.iter_mut().for_each(|r| r.state = RecipientState::Accepted);
    let attempt = Attempt::whole(Outcome::Accepted, "250 2.0.0 ok");
    let (id, owner) = (claimed.delivery.id, owner.to_owned());
    AttemptEnd { id, owner, attempt, state: DeliveryState::Sent, recipients, at: at(4) }
}

pub fn start(id: DeliveryId, owner: &str) -> AttemptStart {
    AttemptStart { id, owner: owner.to_owned(), at: at(4), lease_until: at(14) }
}

pub async fn several_are_claimed_in_the_order_of_the_queue(house: &dyn House) {
    let store = house.open().await;
    affected(&*store, &["C1", "C2", "C3", "C4"]).await;
    for (customer, priority) in [("C1", 5), ("C2", 1), ("C3", 5), ("C4", 3)] {
        let mut new = notice(customer, First, "", None);
        new.priority = priority;
        put(&*store, new, 2).await;
    }
    let names = |claimed: &[Claimed]| -> Vec<String> {
        claimed.iter().map(|c| c.delivery.facts.key.customer.as_str().to_owned()).collect()
    };
    let some = store.claim_several(ME, 3, at(3), at(13)).await.unwrap();
    assert_eq!(names(&some), ["C2", "C4", "C1"]);
    assert_eq!(some[1].message, message("C4", "first-"), "each with its own mail");
    assert_eq!(names(&store.claim_several(OTHER, 3, at(3), at(13)).await.unwrap()), ["C3"]);
    assert_eq!(names(&store.claim_several(ME, 3, at(3), at(13)).await.unwrap()), [""; 0]);
}

pub async fn one_ends_and_the_next_begins(house: &dyn House) {
    let store = house.open().await;
    affected(&*store, &["C1", "C2"]).await;
    queue(&*store, "C1", First, "").await;
    queue(&*store, "C2", First, "").await;
    let first = begin(&*store, ME, 3).await;
    let second = claim(&*store, ME, 3).await.unwrap().delivery.id;
    let done = store.record_and_begin(&end(&first, ME), &start(second, ME)).await.unwrap();
    assert!(matches!(done, (true, Ok(true))), "{done:?}");
    let (now, attempts) = store.delivery(first.delivery.id).await.unwrap().unwrap();
    assert_eq!((now.delivery.state, attempts[0].outcome.as_deref()), (DeliveryState::Sent, Some("accepted")));
    assert!(now.delivery.recipients.iter().all(|r| r.state == RecipientState::Accepted));
    let (now, attempts) = store.delivery(second).await.unwrap().unwrap();
    assert_eq!((now.delivery.state, now.delivery.attempts), (DeliveryState::Sending, 1));
    assert_eq!((attempts.len(), attempts[0].started_at, attempts[0].finished_at), (1, at(4), None));
    // Whoever comes after a crash just now finds one in doubt.
    let orphans = house.open().await.take_orphans(OTHER, true, at(14), at(24)).await.unwrap();
    assert_eq!(orphans.iter().map(|orphan| orphan.delivery.id).collect::<Vec<_>>(), [second]);
}

pub async fn the_end_stands_where_the_next_one_may_not_begin(house: &dyn House) {
    let store = house.open().await;
    affected(&*store, &["C1", "C2", "C3"]).await;
    for customer in ["C1", "C2", "C3"] {
        queue(&*store, customer, First, "").await;
    }
    let first = begin(&*store, ME, 3).await;
    let second = claim(&*store, ME, 3).await.unwrap();
    let third = claim(&*store, OTHER, 3).await.unwrap().delivery.id;
    let done = store.record_and_begin(&end(&first, ME), &start(third, ME)).await.unwrap();
    assert!(matches!(done, (true, Ok(false))), "the next one is somebody else's: {done:?}");
    assert_eq!(delivery(&*store, first.delivery.id).await.state, DeliveryState::Sent);
    assert_eq!(delivery(&*store, third).await.state, queued(2));

    assert!(store.begin_attempt(second.delivery.id, ME, at(3), at(13)).await.unwrap());
    let hold = kigen::store::Hold {
        kind: kigen::store::HoldKind::Paused,
        reason: "stop".to_owned(),
        set_by: "me".to_owned(),
        set_at: at(4),
    };
    store.set_hold(&hold).await.unwrap();
    let done = store.record_and_begin(&end(&second, ME), &start(third, OTHER)).await.unwrap();
    assert!(matches!(done, (true, Ok(false))), "a pause works at once: {done:?}");
    assert_eq!(delivery(&*store, second.delivery.id).await.state, DeliveryState::Sent);
    assert_eq!(delivery(&*store, third).await.state, queued(2));
    store.clear_holds(&by(5)).await.unwrap();
    assert_eq!(claim(&*store, ME, 5).await.unwrap().delivery.id, third, "it went back to the queue");
}

pub async fn who_lost_the_first_still_begins_the_next(house: &dyn House) {
    let store = house.open().await;
    affected(&*store, &["C1", "C2"]).await;
    queue(&*store, "C1", First, "").await;
    queue(&*store, "C2", First, "").await;
    let first = begin(&*store, ME, 3).await;
    assert_eq!(store.take_orphans(OTHER, false, at(13), at(23)).await.unwrap().len(), 1);
    let second = store.claim(ME, at(13), at(23)).await.unwrap().unwrap().delivery.id;
    let done = store.record_and_begin(&end(&first, ME), &start(second, ME)).await.unwrap();
    assert!(matches!(done, (false, Ok(true))), "{done:?}");
    assert_eq!(delivery(&*store, first.delivery.id).await.state, DeliveryState::Sending, "it is theirs");
    assert_eq!(delivery(&*store, second).await.state, DeliveryState::Sending);
}
