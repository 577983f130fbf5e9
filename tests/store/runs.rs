//! Runs, memos, the lead.

use kigen::store::{Begun, Lead, RunCounts, RunId, RunKind, RunOutcome, Store};

use crate::House;
use crate::fixtures::*;

async fn begin(store: &dyn Store, kind: RunKind, due: Option<i64>, now: i64) -> Begun {
    store.begin_run(kind, due.map(at), ME, at(now), at(now + 10)).await.unwrap()
}

async fn started(store: &dyn Store, kind: RunKind, due: Option<i64>, now: i64) -> RunId {
    match begin(store, kind, due, now).await {
        Begun::Started(id) => id,
        other => panic!("{other:?}"),
    }
}

const COUNTS: RunCounts = RunCounts { customers: 1, sites: 2, unreadable: 3, queued: 4, held: 5 };

async fn finish(store: &dyn Store, id: RunId, outcome: RunOutcome, now: i64) {
    store.finish_run(id, outcome, COUNTS, Some("why"), at(now)).await.unwrap();
}

pub async fn a_schedule_time_runs_once(house: &dyn House) {
    let (store, other) = (house.open().await, house.open().await);
    let id = started(&*store, RunKind::Scan, Some(0), 1).await;
    let Begun::Running(running) = begin(&*other, RunKind::Scan, Some(0), 2).await else { panic!("one is running") };
    assert_eq!((running.id, running.due_at, running.started_at), (id, Some(at(0)), at(1)));
    assert!(matches!(begin(&*other, RunKind::Scan, None, 2).await, Begun::Running(_)), "by command neither");
    started(&*other, RunKind::Notices, Some(0), 2).await;
    finish(&*store, id, RunOutcome::Done, 3).await;
    assert_eq!(begin(&*other, RunKind::Scan, Some(0), 4).await, Begun::AlreadyDone);
    let by_command = started(&*store, RunKind::Scan, None, 5).await;
    finish(&*store, by_command, RunOutcome::Done, 6).await;
    started(&*store, RunKind::Scan, Some(60), 61).await;
}

pub async fn an_interrupted_time_runs_again(house: &dyn House) {
    let store = house.open().await;
    for (outcome, now) in [(RunOutcome::Interrupted, 1), (RunOutcome::Failed, 3)] {
        let id = started(&*store, RunKind::Scan, Some(0), now).await;
        finish(&*store, id, outcome, now + 1).await;
        assert_eq!(store.last_scheduled(RunKind::Scan).await.unwrap(), None, "{outcome:?} is not done");
    }
    let id = started(&*store, RunKind::Scan, Some(0), 5).await;
    finish(&*store, id, RunOutcome::Done, 6).await;
    let last = store.last_scheduled(RunKind::Scan).await.unwrap().unwrap();
    assert_eq!((last.id, last.due_at, last.outcome), (id, Some(at(0)), Some(RunOutcome::Done)));
    assert_eq!(store.runs(10).await.unwrap().len(), 3, "each try is kept");
}

pub async fn a_run_without_a_sign_of_life_lapses(house: &dyn House) {
    let store = house.open().await;
    let dead = started(&*store, RunKind::Scan, Some(0), 1).await;
    store.extend_run(dead, COUNTS, at(20)).await.unwrap();
    assert!(matches!(begin(&*store, RunKind::Scan, Some(0), 19).await, Begun::Running(_)));
    let id = started(&*store, RunKind::Scan, Some(0), 20).await;
    finish(&*store, dead, RunOutcome::Done, 21).await;
    store.extend_run(dead, RunCounts::default(), at(99)).await.unwrap();
    let runs = store.runs(10).await.unwrap();
    let lapsed = runs.iter().find(|run| run.id == dead).unwrap();
    assert_eq!((lapsed.outcome, lapsed.finished_at), (Some(RunOutcome::Interrupted), Some(at(20))), "it stays so");
    assert_eq!(lapsed.counts, COUNTS);
    assert_eq!(runs.iter().find(|run| run.id == id).unwrap().outcome, None);
}

pub async fn only_the_daemons_runs_are_interrupted(house: &dyn House) {
    let store = house.open().await;
    let daemons = started(&*store, RunKind::Scan, Some(0), 1).await;
    let commands = started(&*store, RunKind::Notices, None, 1).await;
    let mut interrupted = store.interrupt_runs(at(2)).await.unwrap();
    if house.shared() {
        assert_eq!(interrupted, 0, "another node may be alive: only its lease says otherwise");
        interrupted = store.interrupt_runs(at(11)).await.unwrap();
    }
    assert_eq!(interrupted, 1);
    let runs = store.runs(10).await.unwrap();
    assert_eq!(runs.iter().map(|r| r.id).collect::<Vec<_>>(), [commands, daemons], "the newest first");
    assert_eq!((runs[0].outcome, runs[1].outcome), (None, Some(RunOutcome::Interrupted)));
    started(&*store, RunKind::Scan, Some(0), 12).await;
}

pub async fn last_runs(house: &dyn House) {
    let store = house.open().await;
    assert_eq!(store.last_run(RunKind::Scan, false).await.unwrap(), None);
    let done = started(&*store, RunKind::Scan, Some(0), 1).await;
    finish(&*store, done, RunOutcome::Done, 2).await;
    let by_command = started(&*store, RunKind::Scan, None, 3).await;
    finish(&*store, by_command, RunOutcome::Done, 4).await;
    let failed = started(&*store, RunKind::Scan, Some(5), 5).await;
    finish(&*store, failed, RunOutcome::Failed, 6).await;
    let of = async |finished| store.last_run(RunKind::Scan, finished).await.unwrap().unwrap().id;
    assert_eq!((of(false).await, of(true).await), (failed, by_command));
    let scheduled = store.last_scheduled(RunKind::Scan).await.unwrap().unwrap();
    assert_eq!((scheduled.id, scheduled.counts, scheduled.detail.as_deref()), (done, COUNTS, Some("why")));
    assert_eq!((scheduled.owner.as_str(), scheduled.lease_until, scheduled.finished_at), (ME, at(11), Some(at(2))));
    assert_eq!(store.runs(2).await.unwrap().len(), 2);
    assert_eq!(store.last_run(RunKind::Digest, false).await.unwrap(), None);
}

pub async fn memos_and_ping(house: &dyn House) {
    let store = house.open().await;
    assert_eq!(store.memo("schedule.scan").await.unwrap(), None);
    store.set_memo("schedule.scan", "0 6 * * *").await.unwrap();
    store.set_memo("schedule.scan", "0 7 * * *").await.unwrap();
    assert_eq!(store.memo("schedule.scan").await.unwrap().as_deref(), Some("0 7 * * *"));
    store.ping().await.unwrap();
    assert_eq!(store.memo("ping").await.unwrap(), None, "leaves no trace");
}

pub async fn one_has_the_lead(house: &dyn House) {
    let (one, two) = (house.open().await, house.open().await);
    assert_eq!(one.take_lead("kigen run", at(0)).await.unwrap(), Lead::Taken);
    assert_eq!(one.take_lead("kigen run", at(1)).await.unwrap(), Lead::Taken, "taking it again is harmless");
    if house.shared() {
        let lead = two.take_lead("kigen run", at(1)).await.unwrap();
        assert_eq!(lead, Lead::Taken, "every node may deliver: leases decide who has what");
        return;
    }
    let Lead::HeldBy(who) = two.take_lead("kigen notify", at(1)).await.unwrap() else { panic!("two have it") };
    assert_eq!(who, format!("pid {}, kigen run since 2022-08-31T22:00:03Z", std::process::id()));
    one.close().await;
    assert_eq!(two.take_lead("kigen notify", at(2)).await.unwrap(), Lead::Taken);
    drop(two);
    assert_eq!(house.open().await.take_lead("kigen run", at(3)).await.unwrap(), Lead::Taken, "it ends with its holder");
}
