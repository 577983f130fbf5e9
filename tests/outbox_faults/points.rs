//! Every point in turn: before and after every call of the store, and before and after every answer of the server.

use std::sync::Arc;

use kigen::store::Store;

use crate::faulty_store::{Fault, FaultyStore};
use crate::lives::{MORNING, Origin, TRIES, at, check, one_life, open, to_the_end};
use crate::server::Cut;

/// How many repeats follow where the place alone says it; the first that fits counts. A connection begins a mail only when
/// the outcome of the one before it is on disk. At other places a mail may be anywhere on its way; what must come of it
/// is computed for every life (`lives::owed`).
const CERTAIN: [(&str, Option<usize>); 10] = [
    ("Error", Some(0)),
    ("Stop before record_", Some(1)),
    ("Stop after record_", Some(0)),
    ("Stop before begin_attempt", Some(0)),
    ("Stop after begin_attempt", Some(0)),
    ("Close before the answer to the end of the message", Some(1)),
    ("Freeze before the answer to the end of the message", Some(1)),
    // The client may have written it down before it died.
    ("Freeze after the answer to the end of the message", None),
    ("Close", Some(0)),
    ("Freeze", Some(0)),
];

/// Where the faults were, and how many repeats followed from each.
#[derive(Debug, Default)]
struct Places(Vec<(String, usize)>);

impl Places {
    fn push(&mut self, place: String, repeats: usize) {
        let known = CERTAIN.iter().find(|(part, _)| place.contains(part));
        if let Some((_, Some(expected))) = known {
            assert_eq!(repeats, *expected, "{place}");
        }
        self.0.push((place, repeats));
    }

    /// How often it was there.
    fn count(&self, part: &str) -> usize {
        self.0.iter().filter(|(place, _)| place.contains(part)).count()
    }

    fn repeats(&self) -> usize {
        self.0.iter().map(|(_, repeats)| repeats).sum()
    }
}

/// One life with a fault of the store, and those after it: where it was, if it came to it, and how many repeats followed.
async fn faulty_life(
    origin: &Origin,
    run: usize,
    fault: Fault,
    store: impl FnOnce(Arc<dyn Store>) -> Arc<FaultyStore>,
) -> (Option<String>, usize) {
    let file = origin.run(run);
    origin.server.begin(None);
    let store = store(open(&file).await);
    let ctx = origin.context(store.clone(), at(MORNING));
    match fault {
        Fault::Stop => one_life(&ctx, store.wait()).await,
        Fault::Error | Fault::Wait => one_life(&ctx, std::future::pending()).await,
    }
    store.close().await;
    let place = store.hit();
    let (store, owed) = to_the_end(origin, &file).await;
    let repeats = check(place.as_deref().unwrap_or("no fault"), &*store, &origin.server, &owed).await;
    store.close().await;
    std::fs::remove_file(&file).unwrap();
    (place, repeats)
}

/// Every point of the store in turn.
async fn every_store_point(origin: &Origin, fault: Fault) -> Places {
    let mut places = Places::default();
    for n in 0.. {
        let (place, repeats) = faulty_life(origin, n, fault, |inner| FaultyStore::new(inner, fault, n)).await;
        let Some(place) = place else {
            assert_eq!(repeats, 0, "nothing happened");
            break;
        };
        places.push(place, repeats);
    }
    places
}

/// One life with the fault at its first such point; how many repeats followed.
async fn at_that_point(origin: &Origin, fault: Fault, point: &'static str) -> usize {
    for n in 0..TRIES {
        let store = |inner| FaultyStore::at_point(inner, fault, point, 0);
        let (place, repeats) = faulty_life(origin, n, fault, store).await;
        if place.is_some() {
            return repeats;
        }
    }
    panic!("{point} was never reached");
}

/// Every point of the server in turn.
async fn every_server_point(cut: Cut) -> Places {
    let origin = Origin::new("").await;
    let mut places = Places::default();
    for n in 0.. {
        let file = origin.run(n);
        origin.server.begin(Some((cut, n)));
        let store = open(&file).await;
        let ctx = origin.context(store.clone(), at(MORNING));
        one_life(&ctx, origin.server.freezes()).await;
        store.close().await;
        let (store, owed) = to_the_end(&origin, &file).await;
        let place = origin.server.hit();
        let repeats = check(place.as_deref().unwrap_or("no cut"), &*store, &origin.server, &owed).await;
        store.close().await;
        std::fs::remove_file(&file).unwrap();
        let Some(place) = place else {
            assert_eq!(repeats, 0, "nothing happened");
            break;
        };
        places.push(place, repeats);
    }
    places
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_stops_before_and_after_every_call_of_the_store() {
    let places = every_store_point(&Origin::new("").await, Fault::Stop).await;
    for call in ["take_orphans", "claim_several", "commit_looks", "replace_message", "begin_attempt", "record_attempt"]
    {
        for when in ["before", "after"] {
            assert!(places.count(&format!("{when} {call}")) > 0, "{when} {call} was not exercised: {places:?}");
        }
    }
    assert!(places.count("before record_") <= places.repeats(), "each of those is one: {places:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_stops_between_two_mails_that_share_a_commit() {
    let origin = Origin::fresh().await;
    let repeats = at_that_point(&origin, Fault::Stop, "before record_and_begin").await;
    assert_eq!(repeats, 1, "what the server said of the first was not written down");
    let repeats = at_that_point(&origin, Fault::Stop, "after record_and_begin").await;
    assert_eq!(repeats, 0, "of the first it was, and of the second nothing had left");
    let places = every_store_point(&origin, Fault::Stop).await;
    assert!(places.count("before record_") > 0, "{places:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_fails_before_and_after_every_call() {
    let places = every_store_point(&Origin::new("").await, Fault::Error).await;
    assert!(places.count("after record_attempt") > 0 && places.count("after begin_attempt") > 0, "{places:?}");
    assert_eq!(places.repeats(), 0, "an outcome that was heard is held on to until it is written");
    let origin = Origin::fresh().await;
    for place in ["before record_and_begin", "after record_and_begin"] {
        assert_eq!(at_that_point(&origin, Fault::Error, place).await, 0, "{place}");
    }
    let places = every_store_point(&origin, Fault::Error).await;
    assert_eq!(places.repeats(), 0, "an outcome that was heard is held on to until it is written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_closes_before_and_after_every_answer() {
    let places = every_server_point(Cut::Close).await;
    for answer in ["the connection", "EHLO", "MAIL", "RCPT", "DATA", "the end of the message", "QUIT"] {
        assert!(places.count(&format!("before the answer to {answer}")) > 0, "{answer}: {places:?}");
    }
    assert_eq!(places.repeats(), 2, "before the answer to the end of each of the two mails: {places:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_stops_before_and_after_every_answer_of_the_server() {
    let places = every_server_point(Cut::Freeze).await;
    for when in ["before", "after"] {
        assert_eq!(places.count(&format!("{when} the answer to the end of the message")), 2, "{places:?}");
    }
}
