//! Many at once, a kill in the middle, and large fleets.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use kigen::domain::case::LookKind::Scan;
use kigen::domain::observation::Verdict;
use kigen::domain::plan::NoticeKind::{First, Reminder};
use kigen::store::{Committed, Entry, LookChange, Store};
use tracing::instrument::Instrument;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::House;
use crate::fixtures::*;

pub async fn a_hundred_committers_at_once(house: &dyn House) {
    let (one, two) = (house.open().await, house.open().await);
    affected(&*one, &["C1"]).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..100 {
        let store: Arc<dyn Store> = if n % 2 == 0 { one.clone() } else { two.clone() };
        // Everybody wants to put its own notice in and decides again when somebody else was first.
        tasks.spawn(async move {
            let mut stale = 0;
            loop {
                match put(&*store, notice("C1", Reminder, &n.to_string(), None), 2).await {
                    Committed::Done(_) => return stale,
                    Committed::Stale => stale += 1,
                    Committed::Duplicate => panic!("not twice"),
                }
            }
        });
    }
    let before = 1;
    tasks.join_all().await;
    assert_eq!(all(&*one).await.len(), 100);
    assert_eq!(state(&*one, "C1").await.version, before + 100, "none was lost, none counted twice");
}

pub async fn a_kill_in_the_middle_loses_nothing_that_was_committed(house: &dyn House) {
    let store = house.open().await;
    affected(&*store, &["C1", "C2", "C3"]).await;
    for customer in ["C1", "C2", "C3"] {
        queue(&*store, customer, First, "").await;
    }
    begin(&*store, OTHER, 3).await;
    claim(&*store, OTHER, 3).await.unwrap();
    drop(store); // No close: the process is gone.

    let store = house.open().await;
    assert_eq!(store.open_cases().await.unwrap().len(), 3);
    // Where other nodes may be alive only a lease that ran out says that somebody is gone; it ends at 13.
    let (freed, now) = if house.shared() { (0, 13) } else { (1, 4) };
    assert_eq!(store.free_claims(ME).await.unwrap(), freed);
    let orphans = store.take_orphans(ME, true, at(now), at(now + 10)).await.unwrap();
    assert_eq!(orphans.len(), 1, "what was leaving just then is unknown, and only that");
    let counts = store.outbox_counts().await.unwrap();
    assert_eq!((counts[1], counts[2]), (("queued", 2), ("sending", 1)));
}

/// Counts the statements that ran inside a span named `counted`.
struct Counter(Arc<AtomicUsize>);

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> tracing_subscriber::Layer<S> for Counter {
    fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
        let inside = context.event_scope(event).is_some_and(|mut scope| scope.any(|span| span.name() == "counted"));
        if event.metadata().target() == "sqlx::query" && inside {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

const FLEET: usize = 50_000;

pub async fn the_number_of_statements_does_not_grow_with_the_fleet(house: &dyn House) {
    // Global, because SQLite works on threads of its own; the span keeps the other tests' statements out, and one database
    // is counted after the other.
    static STATEMENTS: OnceLock<Arc<AtomicUsize>> = OnceLock::new();
    static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _alone = ALONE.lock().await;
    let statements = STATEMENTS.get_or_init(|| {
        let statements = Arc::new(AtomicUsize::new(0));
        let subscriber = tracing_subscriber::registry().with(Counter(statements.clone()));
        tracing::subscriber::set_global_default(subscriber).expect("nobody else here sets one");
        statements
    });
    let counted = |name: &'static str, at_most: usize| {
        let n = statements.swap(0, Ordering::Relaxed);
        // A reader that is opened just then sets itself up with a few statements of its own.
        let at_most = at_most + 10;
        assert!((1..=at_most).contains(&n), "{name}: {n} statements, at most {at_most}");
    };
    macro_rules! count {
        ($future:expr) => {
            $future.instrument(tracing::info_span!("counted")).await.unwrap()
        };
    }
    let store = house.open().await;
    let ids: Vec<_> = (0..FLEET).map(|n| id(&format!("C{n:06}"))).collect();
    let entries: Vec<_> = ids.iter().map(|id| Entry { id: id.clone(), name: format!("会社 {id}") }).collect();
    count!(store.sync_customers(&mut entries.iter().cloned(), at(0)));
    // Five statements for so many thousand customers, so that they are never all in memory at once.
    counted("a new fleet", 5 * (FLEET / 5_000) + 1);
    count!(store.sync_customers(&mut entries.iter().cloned(), at(1)));
    counted("the same fleet", FLEET / 5_000 + 1);

    let states = count!(store.customer_states(&ids[..500]));
    counted("500 states", 10);
    assert_eq!(states.len(), 500);
    for chunk in ids.chunks(10_000) {
        let changes: Vec<_> = chunk.iter().map(|id| first_scan(id.as_str())).collect();
        let committed = count!(store.commit_looks(&changes));
        counted("a batch of looks", 20);
        assert!(committed.iter().all(|c| *c == Committed::Done(None)));
    }
    assert_eq!(count!(store.open_cases()).len(), FLEET);
    counted("all open cases", 6);
    let states = count!(store.customer_states(&ids[..500]));
    counted("500 states", 10);
    assert!(states.iter().all(|s| s.sites.len() == 2 && s.cases.len() == 1));
    assert_eq!(count!(store.site_counts()).total(), 2 * FLEET as u64);
    counted("counts", 1);
}

fn first_scan(customer: &str) -> LookChange {
    let sites = vec![seen(customer, "本社", Verdict::Affected, 1), seen(customer, "支店", Verdict::Switched, 1)];
    let affects = kigen::domain::campaign::Affects::BasicAuth;
    let (case, events) = kigen::domain::case::observe(None, || new_case(customer, 1), affects, &sites, Scan);
    LookChange {
        customer: id(customer),
        version: 0,
        kind: Scan,
        seen: sites,
        refused: None,
        cases: case.into_iter().collect(),
        events: events.into_iter().map(|event| (campaign(), event)).collect(),
        at: at(1),
    }
}
