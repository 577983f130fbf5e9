//! Nodes, shares of a run, turns of the mail.

use chrono::TimeDelta;
use kigen::domain::observation::Reason;
use kigen::domain::plan::NoticeKind::First;
use kigen::store::{Begun, HostStanding, HostWord, NextShare, Node, RunCounts, RunId, RunKind, RunOutcome, Store};

use crate::House;
use crate::fixtures::*;

fn node(name: &str, minutes: i64) -> Node {
    Node { name: name.to_owned(), version: "1".to_owned(), started_at: at(0), beat_at: at(minutes), resting: false }
}

async fn shared_out(store: &dyn Store, shares: &[&[&str]]) -> RunId {
    let Begun::Started(run) = store.begin_run(RunKind::Scan, Some(at(0)), ME, at(1), at(11)).await.unwrap() else {
        panic!("nobody else runs")
    };
    let shares: Vec<Vec<_>> = shares.iter().map(|share| share.iter().map(|c| id(c)).collect()).collect();
    store.put_shares(run, "file", &shares).await.unwrap();
    run
}

async fn share(store: &dyn Store, run: RunId, owner: &str, minutes: i64) -> Option<i64> {
    match store.claim_share(run, owner, at(minutes), at(minutes + 10)).await.unwrap() {
        NextShare::Ours(share) => Some(share.number),
        NextShare::Others => Some(-1),
        NextShare::None => None,
    }
}

pub async fn nodes_are_heard_of_and_leave(house: &dyn House) {
    let store = house.open().await;
    assert_eq!(store.beat(&node(ME, 1), at(-9), at(11)).await.unwrap().len(), 1);
    let alive = store.beat(&node(OTHER, 5), at(0), at(15)).await.unwrap();
    assert_eq!(alive.iter().map(|n| n.name.as_str()).collect::<Vec<_>>(), [OTHER, ME]);
    assert_eq!(store.beat(&node(OTHER, 20), at(15), at(30)).await.unwrap().len(), 1, "one is silent");
    assert_eq!(store.nodes().await.unwrap().len(), 2, "and still known");
    store.leave(ME).await.unwrap();
    assert_eq!(store.nodes().await.unwrap(), [node(OTHER, 20)]);
}

pub async fn what_a_node_has_lives_as_long_as_it_beats(house: &dyn House) {
    let store = house.open().await;
    affected(&*store, &["C1", "C2"]).await;
    queue(&*store, "C1", First, "").await;
    queue(&*store, "C2", First, "").await;
    let worker = format!("{ME}/a#0");
    store.claim(&worker, at(3), at(13)).await.unwrap().unwrap();
    // Begins like our name, and is another's.
    let namesake = format!("{ME}9/a#0");
    store.claim(&namesake, at(3), at(13)).await.unwrap().unwrap();
    let run = shared_out(&*store, &[&["C1"]]).await;
    assert_eq!(share(&*store, run, ME, 2).await, Some(0));
    store.beat(&node(ME, 9), at(0), at(19)).await.unwrap();
    assert!(claim(&*store, OTHER, 12).await.is_none(), "every lease runs");
    assert_eq!(share(&*store, run, OTHER, 18).await, Some(-1), "the share's too");
    assert!(matches!(
        store.begin_run(RunKind::Scan, Some(at(60)), OTHER, at(18), at(28)).await.unwrap(),
        Begun::Running(_)
    ));
    let taken = claim(&*store, OTHER, 13).await.unwrap();
    assert_eq!(taken.delivery.facts.key.customer, id("C2"), "only the namesake's lease ran out");
    // Frozen past the lease: a beat brings nothing back.
    assert_eq!(share(&*store, run, OTHER, 19).await, Some(0));
    store.beat(&node(ME, 20), at(0), at(99)).await.unwrap();
    assert_eq!(store.held_shares(run, ME, at(20)).await.unwrap(), Vec::<i64>::new());
    let mine = claim(&*store, OTHER, 20).await.unwrap();
    assert!(!store.begin_attempt(mine.delivery.id, &worker, at(20), at(30)).await.unwrap(), "it sends nothing");
}

pub async fn a_share_is_done_once(house: &dyn House) {
    let (store, other) = (house.open().await, house.open().await);
    enter(&*store, &["C1", "C2", "C3"]).await;
    let run = shared_out(&*store, &[&["C1", "C2"], &["C3"]]).await;
    let NextShare::Ours(first) = store.claim_share(run, ME, at(2), at(12)).await.unwrap() else {
        panic!("one is free")
    };
    assert_eq!((first.number, first.customers), (0, vec![id("C1"), id("C2")]));
    assert_eq!(share(&*other, run, OTHER, 2).await, Some(1));
    assert_eq!(share(&*other, run, OTHER, 2).await, Some(-1), "all are taken, none is done");
    assert!(store.finish_share(run, 0, ME, at(3)).await.unwrap());
    assert!(!store.finish_share(run, 0, ME, at(3)).await.unwrap());
    // The other one dies with its share.
    assert_eq!(share(&*store, run, ME, 11).await, Some(-1));
    assert_eq!(share(&*store, run, ME, 12).await, Some(1), "its lease ran out");
    assert!(!other.finish_share(run, 1, OTHER, at(13)).await.unwrap(), "who lost it finishes nothing");
    store.free_shares(run, ME).await.unwrap();
    assert_eq!(share(&*other, run, OTHER, 13).await, Some(1), "what was given back is free at once");
    assert!(other.finish_share(run, 1, OTHER, at(14)).await.unwrap());
    assert_eq!(share(&*store, run, ME, 15).await, None);
    let ended = (
        store.close_run(run, RunOutcome::Done, RunCounts::default(), None, at(15)).await.unwrap(),
        other.close_run(run, RunOutcome::Done, RunCounts::default(), None, at(15)).await.unwrap(),
    );
    assert_eq!(ended, (true, false), "one sums up");
}

pub async fn a_shared_run_outlives_who_began_it(house: &dyn House) {
    let store = house.open().await;
    enter(&*store, &["C1"]).await;
    let run = shared_out(&*store, &[&["C1"]]).await;
    let Begun::Running(found) = store.begin_run(RunKind::Scan, Some(at(0)), OTHER, at(30), at(40)).await.unwrap()
    else {
        panic!("its time is not over for the others")
    };
    assert_eq!((found.id, found.fleet.as_deref()), (run, Some("file")));
    assert_eq!(store.interrupt_runs(at(30)).await.unwrap(), u64::from(false), "nor does a start end it");
    store.adopt_run(run, OTHER, at(30), at(40)).await.unwrap();
    store.adopt_run(run, ME, at(31), at(99)).await.unwrap();
    let last = store.last_run(RunKind::Scan, false).await.unwrap().unwrap();
    assert_eq!((last.owner.as_str(), last.lease_until), (OTHER, at(40)), "only from who is gone");
    // The next schedule time begins a run of its own, once nobody is left.
    assert!(matches!(
        store.begin_run(RunKind::Scan, Some(at(60)), ME, at(61), at(71)).await.unwrap(),
        Begun::Started(_)
    ));
    assert_eq!(share(&*store, run, OTHER, 62).await, None, "an ended run has no shares");
}

pub async fn guards_see_all_nodes(house: &dyn House) {
    let store = house.open().await;
    enter(&*store, &["C1"]).await;
    let run = shared_out(&*store, &[&["C1"]]).await;
    for (accepted, refused, row) in [(true, 2, 2), (false, 3, 5), (true, 0, 0), (false, 1, 1)] {
        assert_eq!(store.note_logons(run, accepted, refused).await.unwrap().refused_row, row);
    }
    store.stop_run(run, "first").await.unwrap();
    store.stop_run(run, "second").await.unwrap();
    assert_eq!(store.note_logons(run, false, 0).await.unwrap().stopped.as_deref(), Some("first"));
    store.note_part(run, ME, "a").await.unwrap();
    store.note_part(run, OTHER, "b").await.unwrap();
    store.note_part(run, ME, "c").await.unwrap();
    assert_eq!(store.parts(run).await.unwrap(), ["c", "b"], "the last word of each counts");
    assert_eq!(store.newly_affected(at(0)).await.unwrap(), 0);
    affected(&*store, &["C1", "C2"]).await;
    assert_eq!(store.newly_affected(at(1)).await.unwrap(), 2);
    assert_eq!(store.newly_affected(at(2)).await.unwrap(), 0, "not those of before");
    store.note_scanned(&[&id("C2")], at(5)).await.unwrap();
    let asked = [id("C1"), id("C2")];
    assert_eq!(store.scanned_since(&asked, at(5)).await.unwrap(), [id("C2")].into());
    assert_eq!(store.scanned_since(&asked, at(6)).await.unwrap(), [].into());
}

pub async fn turns_are_spaced_over_all_nodes(house: &dyn House) {
    let (one, two) = (house.open().await, house.open().await);
    let (interval, patience) = (TimeDelta::minutes(2), TimeDelta::minutes(5));
    assert_eq!(one.next_turn().await.unwrap(), None);
    let rows = [
        ("the first goes at once", 0, Some(0)),
        ("the next after the interval", 0, Some(2)),
        ("and the next", 1, Some(4)),
        ("not now: the next is at 6", 0, None),
        ("but within patience", 1, Some(6)),
        ("after a pause at once", 20, Some(20)),
        ("no burst after it", 20, Some(22)),
    ];
    for (n, (sentence, now, turn)) in rows.into_iter().enumerate() {
        let store = if n % 2 == 0 { &one } else { &two };
        assert_eq!(store.take_turn(at(now), interval, patience).await.unwrap(), turn.map(at), "{sentence}");
    }
    assert_eq!(two.next_turn().await.unwrap(), Some(at(24)));
    let back = one.take_turn(at(-600), interval, patience).await.unwrap();
    assert_eq!(back, Some(at(-598)), "a clock that was set back costs one interval");
}

pub async fn a_hundred_takers_get_a_hundred_turns(house: &dyn House) {
    let (one, two) = (house.open().await, house.open().await);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..100 {
        let store = if n % 2 == 0 { one.clone() } else { two.clone() };
        tasks.spawn(async move {
            store.take_turn(at(0), TimeDelta::seconds(1), TimeDelta::hours(1)).await.unwrap().unwrap()
        });
    }
    let mut turns = tasks.join_all().await;
    turns.sort();
    assert!(turns.windows(2).all(|pair| pair[1] - pair[0] == TimeDelta::seconds(1)), "{turns:?}");
}

pub async fn many_claimers_share_a_queue(house: &dyn House) {
    let (one, two) = (house.open().await, house.open().await);
    let names: Vec<String> = (0..40).map(|n| format!("C{n:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    affected(&*one, &names).await;
    for name in &names {
        queue(&*one, name, First, "").await;
    }
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..8 {
        let store = if n % 2 == 0 { one.clone() } else { two.clone() };
        tasks.spawn(async move {
            let owner = format!("host:{n}");
            let mut sent = Vec::new();
            while let Some(claimed) = claim(&*store, &owner, 3).await {
                assert!(store.begin_attempt(claimed.delivery.id, &owner, at(3), at(13)).await.unwrap());
                sent.push(claimed.delivery.id);
            }
            sent
        });
    }
    let mut sent: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    sent.sort();
    let all = sent.len();
    sent.dedup();
    assert_eq!((all, sent.len()), (40, 40), "each by one, none by two");
}

pub async fn a_node_that_rests_says_so(house: &dyn House) {
    let store = house.open().await;
    store.beat(&node(ME, 1), at(-9), at(11)).await.unwrap();
    store.rest(&node(ME, 2)).await.unwrap();
    assert_eq!(store.nodes().await.unwrap(), [Node { resting: true, ..node(ME, 2) }]);
    store.beat(&node(ME, 3), at(-9), at(13)).await.unwrap();
    assert_eq!(store.nodes().await.unwrap(), [node(ME, 3)], "it works again");
    assert!(!store.upgrade_waits().await.unwrap());
    affected(&*store, &["C1"]).await;
    queue(&*store, "C1", First, "").await;
    let worker = format!("{ME}/a#0");
    let id = store.claim(&worker, at(3), at(13)).await.unwrap().unwrap().delivery.id;
    assert!(!store.in_flight(ME).await.unwrap(), "claimed only");
    assert!(store.begin_attempt(id, &worker, at(3), at(13)).await.unwrap());
    assert!(store.in_flight(ME).await.unwrap());
    assert!(!store.in_flight(OTHER).await.unwrap());
}

pub async fn the_last_word_on_a_host_counts(house: &dyn House) {
    let store = house.open().await;
    let word = |host: &str, minutes, standing| HostWord { host: host.to_owned(), told_at: at(minutes), standing };
    let paused = HostStanding::Paused { until: at(9), probes: 1 };
    let given_up = HostStanding::GivenUp { reason: Reason::Connect, detail: "refused".to_owned() };
    for said in [
        word("a:443", 1, paused.clone()),
        word("b:443", 2, paused.clone()),
        word("b:443", 3, given_up.clone()),
        word("b:443", 1, HostStanding::Well),
    ] {
        store.tell_host("run 1", &said).await.unwrap();
    }
    store.tell_host("run 2", &word("a:443", 4, HostStanding::Well)).await.unwrap();
    let (a, b) = (word("a:443", 1, paused), word("b:443", 3, given_up));
    assert_eq!(store.host_words("run 1", at(0)).await.unwrap(), [a, b.clone()]);
    assert_eq!(store.host_words("run 1", at(2)).await.unwrap(), [b], "older words say nothing");
    store.tell_host("run 1", &word("b:443", 5, HostStanding::Well)).await.unwrap();
    assert_eq!(store.host_words("run 1", at(2)).await.unwrap(), [word("b:443", 5, HostStanding::Well)]);
}
