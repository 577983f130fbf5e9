//! Processes that deliver, one after the other on the same file, and what has to come of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use kigen::clock::ManualClock;
use kigen::config::{SmtpConfig, StateUrl, TransportConfig};
use kigen::daemon::deliver::{self, Delivered, Until};
use kigen::daemon::progress::Silent;
use kigen::daemon::reload::{self, Live};
use kigen::daemon::{Context, Snapshot};
use kigen::store::{self, OutboxFilter, Store};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::common::{Lab, Settings, affected};
use crate::server::Server;

/// On a busy machine a point may not be reached, such as one where two mails share a commit: how often it is tried.
pub const TRIES: usize = 50;

pub fn at(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

/// A state in which two notices wait since yesterday evening, to be copied for every run: before they leave, the customers
/// are looked at again and the messages are made anew.
pub struct Origin {
    pub lab: Lab,
    file: PathBuf,
    pub server: Server,
    pub clock: Arc<ManualClock>,
    /// Everything but the store.
    pub ctx: Context,
}

const EVENING: &str = "2022-09-01T17:59:00+09:00";
pub const MORNING: &str = "2022-09-02T09:00:00+09:00";
const CUSTOMERS: [&str; 2] = ["A1", "A2"];

impl Origin {
    pub async fn new(mail: &str) -> Self {
        Self::of(mail, EVENING).await
    }

    /// The notices were made this morning: nothing about them has to be asked or made again.
    pub async fn fresh() -> Self {
        Self::of("", MORNING).await
    }

    async fn of(mail: &str, made_at: &str) -> Self {
        let settings = Settings {
            campaign: String::new(),
            business_hours: "closed = []".to_owned(),
            mail: mail.to_owned(),
            ..Settings::default()
        };
        let lab = Lab::with(CUSTOMERS.iter().map(|id| affected(id)).collect(), settings).await;
        let bench = lab.open(at(made_at)).await;
        bench.scan().await;
        bench.pass().await;
        assert_eq!(bench.outbox("queued").await, 2);
        let file = lab.path("origin.db");
        bench.ctx.store.backup(&file).await.unwrap();
        bench.ctx.store.close().await;
        let server = Server::start().await;
        let mut snapshot = reload::load(&lab.config()).unwrap();
        smtp(&mut snapshot).port = server.port;
        // The same name every time, as in a container.
        let ctx = Context { snapshot: Arc::new(snapshot), owner: "host:1".to_owned(), ..bench.ctx };
        Self { lab, file, server, clock: bench.clock, ctx }
    }

    pub fn run(&self, number: usize) -> PathBuf {
        let file = self.lab.path(&format!("run-{number}.db"));
        std::fs::copy(&self.file, &file).unwrap();
        file
    }

    /// One life of a process, at that time of the day.
    pub fn context(&self, store: Arc<dyn Store>, now: DateTime<Utc>) -> Context {
        self.clock.set(now);
        Context { store, ..self.ctx.clone() }
    }
}

pub fn smtp(snapshot: &mut Snapshot) -> &mut SmtpConfig {
    let TransportConfig::Smtp(smtp) = &mut snapshot.config.mail.transport else { panic!("SMTP") };
    smtp
}

pub async fn open(file: &Path) -> Arc<dyn Store> {
    store::open(&StateUrl::Sqlite(file.to_owned())).await.unwrap()
}

pub async fn deliver(ctx: &Context) -> anyhow::Result<Delivered> {
    let (wake, stop) = (Arc::new(Notify::new()), CancellationToken::new());
    deliver::deliver(Live::new(ctx.clone()), Until::Drained, true, wake, stop, Arc::new(Silent)).await
}

/// The deliveries of a daemon, which goes on until it is stopped.
pub struct Daemon {
    running: JoinHandle<anyhow::Result<Delivered>>,
    wake: Arc<Notify>,
    stop: CancellationToken,
}

impl Daemon {
    pub fn start(ctx: Context) -> Self {
        let (wake, stop) = (Arc::new(Notify::new()), CancellationToken::new());
        let deliver =
            deliver::deliver(Live::new(ctx), Until::Stopped, true, wake.clone(), stop.clone(), Arc::new(Silent));
        Self { running: tokio::spawn(deliver), wake, stop }
    }

    /// As a pass does that has queued something.
    pub fn wake(&self) {
        self.wake.notify_waiters();
    }

    pub async fn stop(self) -> Delivered {
        self.stop.cancel();
        self.running.await.unwrap().unwrap()
    }
}

/// One process: it delivers until it is done, fails, or dies at the point.
pub async fn one_life(ctx: &Context, dies: impl Future<Output = ()>) {
    tokio::select! {
        // A failure of the store is reported, and the next life goes on.
        _ = deliver(ctx) => {}
        () = dies => {}
    }
}

/// How many copies each recipient must have in the end.
pub type Copies = BTreeMap<String, usize>;

/// A life is over: what the server had by then, and one more of every mail whose acceptance is not on disk. So there is a
/// second copy if the server had the whole message and its answer was not written down, and only then.
async fn owed(place: &Path, store: &dyn Store, server: &Server) -> Copies {
    let taken = server.taken();
    let mut copies = Copies::new();
    for delivery in store.deliveries(&OutboxFilter::default()).await.unwrap() {
        let (claimed, attempts) = store.delivery(delivery.id).await.unwrap().unwrap();
        let address = claimed.delivery.recipients[0].address.as_str().to_owned();
        let had = taken.iter().filter(|(to, _)| *to == address).count();
        let written = attempts.iter().any(|attempt| attempt.outcome.as_deref() == Some("accepted"));
        assert!(had > 0 || !written, "{}: no server took what is called accepted: {attempts:?}", place.display());
        copies.insert(address, had + usize::from(!written));
    }
    assert_eq!(copies.len(), CUSTOMERS.len());
    copies
}

/// Every mail once.
pub fn once_each() -> Copies {
    CUSTOMERS.iter().map(|id| (format!("admin@{}.example", id.to_lowercase()), 1)).collect()
}

/// After a life: starts again and again on the file, a little later each time, until nothing is left to do. Returns what is
/// owed by then, too.
pub async fn to_the_end(origin: &Origin, file: &Path) -> (Arc<dyn Store>, Copies) {
    origin.server.outlive().await;
    let mut store = open(file).await;
    let copies = owed(file, &*store, &origin.server).await;
    let mut now = at(MORNING) + TimeDelta::minutes(2);
    for _ in 0..4 {
        deliver(&origin.context(store.clone(), now)).await.unwrap();
        let counts = store.outbox_counts().await.unwrap();
        if counts.iter().all(|(state, n)| *n == 0 || !["queued", "sending"].contains(state)) {
            return (store, copies);
        }
        store.close().await;
        store = open(file).await;
        now += TimeDelta::minutes(2);
    }
    panic!("mail is left in the outbox of {}", file.display());
}

/// Everybody has as many copies as are owed: no notice lost, none called sent that was not taken. A second copy is the
/// same, and its delivery says why. Returns how many of those there are.
pub async fn check(place: &str, store: &dyn Store, server: &Server, owed: &Copies) -> usize {
    let taken = server.taken();
    let mut repeats = 0;
    for delivery in store.deliveries(&OutboxFilter::default()).await.unwrap() {
        let (claimed, attempts) = store.delivery(delivery.id).await.unwrap().unwrap();
        assert_eq!(claimed.delivery.state.as_str(), "sent", "{place}: {attempts:?}");
        let address = claimed.delivery.recipients[0].address.as_str().to_owned();
        let copies: Vec<&Vec<u8>> = taken.iter().filter(|(to, _)| *to == address).map(|(_, message)| message).collect();
        assert_eq!(copies.len(), owed[&address], "{place}: copies for {address}: {attempts:?}");
        if copies.len() == 2 {
            repeats += 1;
            assert_eq!(copies[0], copies[1], "{place}: the repeat is the same, Message-ID and Date included");
            assert!(attempts.iter().any(|a| a.outcome.as_deref() == Some("unknown")), "{place}: {attempts:?}");
        }
        let text = String::from_utf8_lossy(copies[0]);
        assert!(
            text.contains("Date: Fri, 2 Sep 2022") || text.contains("Date: Fri, 02 Sep 2022"),
            "{place}: of its day"
        );
    }
    assert!(owed.values().all(|copies| (1..=2).contains(copies)), "{place}: {owed:?}");
    assert!(repeats <= 1, "{place}: one connection has one mail in flight");
    repeats
}
