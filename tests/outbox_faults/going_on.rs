//! What goes on after a stop, an error, a refusal or a change of the files, in one life or the next.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use kigen::daemon::Context;
use kigen::daemon::deliver::{self, Until};
use kigen::daemon::progress::Silent;
use kigen::daemon::reload::{self, Live};
use kigen::store::{self, OutboxFilter, Store};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::faulty_store::{Fault, FaultyStore};
use crate::lives::{Daemon, MORNING, Origin, TRIES, at, check, deliver, once_each, open, smtp, to_the_end};
use crate::server::Cut;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_does_not_wait_for_a_server_that_sits_on_its_answer() {
    let origin = Origin::new("").await;
    let file = origin.run(0);
    // The points of one mail: connection, EHLO, MAIL, RCPT, DATA, each before and after; then the end's answer.
    origin.server.begin(Some((Cut::Freeze, 10)));
    let store = open(&file).await;
    let ctx = origin.context(store.clone(), at(MORNING));
    let daemon = Daemon::start(ctx);
    origin.server.freezes().await;
    assert_eq!(origin.server.hit().unwrap(), "Freeze before the answer to the end of the message");
    let asked = Instant::now();
    daemon.stop().await;
    assert!(asked.elapsed().as_secs() < 10, "SIGTERM stops within 10 s");
    store.close().await;
    let (store, owed) = to_the_end(&origin, &file).await;
    assert_eq!(check("stopped", &*store, &origin.server, &owed).await, 1, "the mail in flight is sent once more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_goes_on_after_an_error_of_the_store() {
    let (asked_again, fresh) = (Origin::new("").await, Origin::fresh().await);
    for (origin, place, time) in [
        (&asked_again, "before claim_several", 0),
        (&asked_again, "after commit_looks", 0),
        (&asked_again, "after begin_attempt", 0),
        (&asked_again, "after record_attempt", 0),
        (&fresh, "before claim_several", 1),
        (&fresh, "before record_and_begin", 0),
        (&fresh, "after record_and_begin", 0),
    ] {
        let mut tries = 0;
        while !goes_on_after(origin, place, time, tries).await {
            tries += 1;
            assert!(tries < TRIES, "{place} was never reached");
        }
    }
}

/// Whether the point was reached; both mails leave, once.
async fn goes_on_after(origin: &Origin, place: &'static str, time: usize, run: usize) -> bool {
    let file = origin.run(run);
    origin.server.begin(None);
    let store = FaultyStore::at_point(open(&file).await, Fault::Error, place, time);
    let daemon = Daemon::start(origin.context(store.clone(), at(MORNING)));
    let started = Instant::now();
    while origin.server.taken().len() < 2 {
        assert!(started.elapsed().as_secs() < 60, "{place}, {:?}: both mails leave after all", store.hit());
        tokio::time::sleep(Duration::from_millis(50)).await;
        // It ends the rest after an error. A mail that was begun is tried again after its minute.
        origin.clock.set(origin.ctx.now() + TimeDelta::seconds(10));
        daemon.wake();
    }
    daemon.stop().await;
    check(place, &*store, &origin.server, &once_each()).await;
    store.close().await;
    std::fs::remove_file(&file).unwrap();
    store.hit().is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daily_quota_holds_the_queue_and_blames_no_recipient() {
    let origin = Origin::new("").await;
    let file = origin.run(0);
    origin.server.begin(None);
    let quota = "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException; Failed to process message";
    origin.server.answer(quota);
    let store = open(&file).await;
    let done = deliver(&origin.context(store.clone(), at(MORNING))).await.unwrap();
    assert_eq!((done.deferred, done.failed, done.sent), (1, 0, 0), "the second mail is not even tried");
    assert_eq!(origin.server.asked(), 1);
    // A whole day of it uses nobody's tries up.
    for quarter in 1..60 {
        deliver(&origin.context(store.clone(), at(MORNING) + TimeDelta::minutes(9 * quarter))).await.unwrap();
    }
    let counts = store.outbox_counts().await.unwrap();
    assert_eq!(counts.iter().find(|(state, _)| *state == "queued").unwrap().1, 2, "{counts:?}");
    origin.server.answer("250 2.0.0 queued");
    // Friday's quota, sent on Monday with Monday's date.
    let done = deliver(&origin.context(store.clone(), at("2022-09-05T09:00:00+09:00"))).await.unwrap();
    assert_eq!(done.sent, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_of_our_account_outlives_a_restart() {
    let origin = Origin::new("").await;
    let file = origin.run(0);
    origin.server.begin(None);
    let quota = "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException; Failed to process message";
    origin.server.answer(quota);
    let store = open(&file).await;
    let refused = at(MORNING);
    deliver(&origin.context(store.clone(), refused)).await.unwrap();
    let asked = || origin.server.asked();
    assert_eq!(asked(), 1);
    origin.server.answer("250 2.0.0 queued");
    // Started again, with a mail that was not tried and is due: it waits.
    origin.clock.set(refused + TimeDelta::minutes(1));
    daemon_until(&origin, &store, |now| now >= refused + TimeDelta::minutes(9)).await;
    assert_eq!(asked(), 1, "the server was left in peace");
    // Whoever asks by hand wants to know whether it is mended.
    assert_eq!(deliver(&origin.context(store.clone(), refused + TimeDelta::minutes(10))).await.unwrap().sent, 1);
    // A clock that was set back makes no longer silence than a refusal does.
    store.set_memo("mail.blocked_until", "4000000000000").await.unwrap();
    origin.clock.set(refused + TimeDelta::minutes(16));
    daemon_until(&origin, &store, |_| asked() == 3).await;
    assert!(origin.ctx.now() >= refused + TimeDelta::minutes(31), "not before a quarter of an hour is over");
}

/// A daemon on the file while the clock goes on, until that is so.
async fn daemon_until(origin: &Origin, store: &Arc<dyn Store>, done: impl Fn(DateTime<Utc>) -> bool) {
    let daemon = Daemon::start(Context { store: store.clone(), ..origin.ctx.clone() });
    let started = Instant::now();
    while !done(origin.ctx.now()) {
        assert!(started.elapsed().as_secs() < 60, "it never comes");
        tokio::time::sleep(Duration::from_millis(20)).await;
        origin.clock.set(origin.ctx.now() + TimeDelta::seconds(10));
        daemon.wake();
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rate_is_kept_over_a_restart() {
    let mut origin = Origin::new("").await;
    let interval = Duration::from_millis(900);
    let smtp = smtp(Arc::get_mut(&mut origin.ctx.snapshot).unwrap());
    smtp.rate = kigen::config::Rate { count: 1, per: interval };
    smtp.connections = 3;
    let file = origin.run(0);
    origin.server.begin(None);
    let store = open(&file).await;
    let ctx = origin.context(store.clone(), at(MORNING));
    let stop = CancellationToken::new();
    let first = deliver::deliver(
        Live::new(ctx.clone()),
        Until::Drained,
        true,
        Arc::new(Notify::new()),
        stop.clone(),
        Arc::new(Silent),
    );
    let stopped = async {
        while origin.server.taken().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        stop.cancel();
    };
    let (done, ()) = tokio::join!(first, stopped);
    assert_eq!(done.unwrap().sent, 1, "the second one's turn had not come");
    let now = origin.ctx.now();
    let free = store.claim("somebody else", now, now + TimeDelta::minutes(1)).await.unwrap().unwrap();
    store.release(free.delivery.id, "somebody else", now, "it was claimed ahead, and given back", now).await.unwrap();
    let restarted = Instant::now();
    assert_eq!(deliver(&ctx).await.unwrap().sent, 1);
    assert!(restarted.elapsed() >= interval, "no burst after a restart: {:?}", restarted.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_former_contact_and_a_removed_campaign_get_nothing_and_stop_nobody() {
    let origin = Origin::new("").await;
    origin.lab.write_customers(|id, column| match (id, column) {
        ("A1", "email") => "new@a1.example".to_owned(),
        _ => String::new(),
    });
    let mut snapshot = reload::load(&origin.lab.config()).unwrap();
    smtp(&mut snapshot).port = origin.server.port;
    let file = origin.run(0);
    origin.server.begin(None);
    let store = open(&file).await;
    let ctx = Context { snapshot: Arc::new(snapshot), ..origin.context(store.clone(), at(MORNING)) };
    let done = deliver(&ctx).await.unwrap();
    assert_eq!((done.sent, done.dropped), (1, 1));
    assert_eq!(origin.server.taken()[0].0, "admin@a2.example");
    // Dropped, so its key is free: the next pass tells the new contact.
    let stop = CancellationToken::new();
    kigen::daemon::notify::pass(&ctx, None, &stop, &Silent).await.unwrap();
    deliver(&ctx).await.unwrap();
    assert_eq!(
        origin.server.taken().iter().map(|(to, _)| to.as_str()).collect::<Vec<_>>(),
        ["admin@a2.example", "new@a1.example"]
    );

    let mut snapshot = reload::load(&origin.lab.config()).unwrap();
    snapshot.config.campaigns.clear();
    let file = origin.run(1);
    let store = open(&file).await;
    let ctx = Context { snapshot: Arc::new(snapshot), ..origin.context(store.clone(), at(MORNING)) };
    assert_eq!(deliver(&ctx).await.unwrap().dropped, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_takes_away_what_was_claimed_ahead() {
    let mut origin = Origin::fresh().await;
    let snapshot = Arc::get_mut(&mut origin.ctx.snapshot).unwrap();
    smtp(snapshot).rate = kigen::config::Rate { count: 1, per: Duration::from_millis(1500) };
    let file = origin.run(0);
    origin.server.begin(None);
    let store = FaultyStore::new(open(&file).await, Fault::Error, usize::MAX);
    let ctx = origin.context(store.clone(), at(MORNING));
    let daemon = Daemon::start(ctx.clone());
    let started = Instant::now();
    let waiting = || assert!(started.elapsed().as_secs() < 60, "it never comes");
    while origin.server.taken().is_empty() {
        waiting();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let now = ctx.now();
    assert!(store.claim("somebody else", now, now + TimeDelta::minutes(1)).await.unwrap().is_none(), "it is claimed");
    let (kind, reason, set_by) = (kigen::store::HoldKind::Paused, "test".to_owned(), "me".to_owned());
    store.set_hold(&store::Hold { kind, reason, set_by, set_at: now }).await.unwrap();
    let by = store::By { who: "me".to_owned(), at: now, day: now.date_naive() };
    loop {
        waiting();
        tokio::time::sleep(Duration::from_millis(20)).await;
        let queued = store.deliveries(&OutboxFilter::default()).await.unwrap();
        let second = queued.iter().find(|delivery| delivery.state.as_str() == "queued").unwrap();
        let acted = store.act(&[second.id], store::OutboxAction::Cancel, &by).await.unwrap();
        // A deliverer's is left alone.
        if acted == [store::Acted::Done] {
            break;
        }
    }
    assert_eq!(daemon.stop().await.sent, 1);
    assert_eq!(origin.server.taken().len(), 1);
}
