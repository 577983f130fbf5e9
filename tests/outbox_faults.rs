//! The outbox under faults: at every point of a delivery the process stops, the store fails or the server is cut off; then
//! everything starts again on the same file. No notice is lost, none is called sent that no server took, and a repeat is
//! the same to the byte and comes only where the server had the whole message.

#![allow(clippy::unwrap_used, reason = "helpers of tests panic like tests do")]

mod common;
#[path = "common/faulty_store.rs"]
mod faulty_store;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use common::{Lab, Settings, affected};
use faulty_store::{Fault, FaultyStore};
use futures_util::FutureExt as _;
use kigen::clock::ManualClock;
use kigen::config::{StateUrl, TransportConfig};
use kigen::daemon::Context;
use kigen::daemon::deliver::{self, Delivered, Until};
use kigen::daemon::progress::Silent;
use kigen::daemon::reload::{self, Live};
use kigen::store::{self, OutboxFilter, Store};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

fn at(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

/// What the server does at its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// It closes the connection.
    Close,
    /// It says nothing more on any connection; the test ends the client then.
    Freeze,
}

/// A mail server with a point before and after everything it says.
struct Server {
    port: u16,
    state: Arc<ServerState>,
}

struct ServerState {
    cut: Mutex<Option<(Cut, usize)>>,
    points: AtomicUsize,
    /// Connections of an earlier life count no more.
    life: AtomicUsize,
    place: Mutex<Option<String>>,
    frozen: std::sync::atomic::AtomicBool,
    hit: Notify,
    /// Recipient and message, of every message that came whole.
    taken: Mutex<Vec<(String, Vec<u8>)>>,
    /// When each came.
    times: Mutex<Vec<Instant>>,
    /// What is said to the end of a message.
    end: Mutex<String>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(ServerState {
            cut: Mutex::new(None),
            points: AtomicUsize::new(0),
            life: AtomicUsize::new(0),
            place: Mutex::new(None),
            frozen: false.into(),
            hit: Notify::new(),
            taken: Mutex::default(),
            times: Mutex::default(),
            end: Mutex::new("250 2.0.0 queued".to_owned()),
        });
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                // An end of the dialogue, ours or theirs, is nothing to report.
                tokio::spawn(async move { state.talk(tcp).await });
            }
        });
        Self { port, state }
    }

    fn hit(&self) -> Option<String> {
        self.state.place.lock().unwrap().clone()
    }

    /// Begins anew: nothing taken yet, and that cut ahead.
    fn begin(&self, cut: Option<(Cut, usize)>) {
        self.state.life.fetch_add(1, Ordering::SeqCst);
        let _ = self.state.hit.notified().now_or_never();
        *self.state.cut.lock().unwrap() = cut;
        self.state.points.store(0, Ordering::SeqCst);
        *self.state.place.lock().unwrap() = None;
        self.state.frozen.store(false, Ordering::SeqCst);
        self.state.taken.lock().unwrap().clear();
        self.state.times.lock().unwrap().clear();
    }

    fn taken(&self) -> Vec<(String, Vec<u8>)> {
        self.state.taken.lock().unwrap().clone()
    }
}

impl ServerState {
    /// `None`: the connection is over.
    async fn point(&self, life: usize, when: &str, what: &str) -> Option<()> {
        if self.life.load(Ordering::SeqCst) != life {
            return None;
        }
        if self.frozen.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let number = self.points.fetch_add(1, Ordering::SeqCst);
        let Some((cut, _)) = self.cut.lock().unwrap().filter(|(_, at)| *at == number) else { return Some(()) };
        *self.place.lock().unwrap() = Some(format!("{cut:?} {when} {what}"));
        if cut == Cut::Close {
            return None;
        }
        self.frozen.store(true, Ordering::SeqCst);
        self.hit.notify_one();
        std::future::pending().await
    }

    async fn say(&self, (life, to): (usize, &mut BufReader<TcpStream>), answers: &str, text: &str) -> Option<()> {
        self.point(life, "before the answer to", answers).await?;
        to.get_mut().write_all(format!("{text}\r\n").as_bytes()).await.ok()?;
        self.point(life, "after the answer to", answers).await
    }

    async fn talk(&self, tcp: TcpStream) -> Option<()> {
        tcp.set_nodelay(true).ok()?;
        let mut wire = BufReader::new(tcp);
        let life = self.life.load(Ordering::SeqCst);
        self.say((life, &mut wire), "the connection", "220 hi").await?;
        let mut recipients = Vec::new();
        loop {
            let mut line = String::new();
            wire.read_line(&mut line).await.ok().filter(|n| *n > 0)?;
            let verb = line.get(..4).unwrap_or_default().to_owned();
            match verb.as_str() {
                "DATA" => {
                    self.say((life, &mut wire), "DATA", "354 go").await?;
                    let message = read_message(&mut wire).await?;
                    self.times.lock().unwrap().push(Instant::now());
                    let end = self.end.lock().unwrap().clone();
                    if end.starts_with("250") {
                        let taken = recipients.drain(..).map(|r| (r, message.clone()));
                        self.taken.lock().unwrap().extend(taken);
                    }
                    self.say((life, &mut wire), "the end of the message", &end).await?;
                }
                "QUIT" => {
                    self.say((life, &mut wire), "QUIT", "221 bye").await?;
                    return None;
                }
                "RCPT" => {
                    recipients.push(line.split(['<', '>']).nth(1)?.to_owned());
                    self.say((life, &mut wire), "RCPT", "250 ok").await?;
                }
                _ => self.say((life, &mut wire), &verb, "250 ok").await?,
            }
        }
    }
}

async fn read_message(wire: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut message = Vec::new();
    while !message.ends_with(b"\r\n.\r\n") {
        wire.read_until(b'\n', &mut message).await.ok().filter(|n| *n > 0)?;
    }
    Some(message)
}

/// A state in which two notices wait since yesterday evening, to be copied for every run: before they leave, the customers
/// are looked at again and the messages are made anew.
struct Origin {
    lab: Lab,
    file: PathBuf,
    server: Server,
    clock: Arc<ManualClock>,
    /// Everything but the store.
    ctx: Context,
}

const EVENING: &str = "2022-09-01T17:59:00+09:00";
const MORNING: &str = "2022-09-02T09:00:00+09:00";
const CUSTOMERS: [&str; 2] = ["A1", "A2"];

impl Origin {
    async fn new(mail: &str) -> Self {
        Self::of(mail, EVENING).await
    }

    /// The notices were made this morning: nothing about them has to be asked or made again.
    async fn fresh() -> Self {
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
        let TransportConfig::Smtp(smtp) = &mut snapshot.config.mail.transport else { panic!("SMTP") };
        smtp.port = server.port;
        // The same name every time, as in a container.
        let ctx = Context { snapshot: Arc::new(snapshot), owner: "host:1".to_owned(), ..bench.ctx };
        Self { lab, file, server, clock: bench.clock, ctx }
    }

    fn run(&self, number: usize) -> PathBuf {
        let file = self.lab.path(&format!("run-{number}.db"));
        std::fs::copy(&self.file, &file).unwrap();
        file
    }

    /// One life of a process, at that time of the day.
    fn context(&self, store: Arc<dyn Store>, now: DateTime<Utc>) -> Context {
        self.clock.set(now);
        Context { store, ..self.ctx.clone() }
    }
}

async fn open(file: &Path) -> Arc<dyn Store> {
    store::open(&StateUrl::Sqlite(file.to_owned())).await.unwrap()
}

async fn deliver(ctx: &Context) -> anyhow::Result<Delivered> {
    let (wake, stop) = (Arc::new(Notify::new()), CancellationToken::new());
    deliver::deliver(Live::new(ctx.clone()), Until::Drained, true, wake, stop, Arc::new(Silent)).await
}

/// One process: it delivers until it is done, fails, or dies at the point.
async fn one_life(ctx: &Context, dies: impl Future<Output = ()>) {
    tokio::select! {
        // A failure of the store is reported, and the next life goes on.
        _ = deliver(ctx) => {}
        () = dies => {}
    }
}

/// Starts again and again on the file, a little later each time, until nothing is left to do.
async fn to_the_end(origin: &Origin, file: &Path) -> Arc<dyn Store> {
    let mut now = at(MORNING) + TimeDelta::minutes(2);
    for _ in 0..4 {
        let store = open(file).await;
        deliver(&origin.context(store.clone(), now)).await.unwrap();
        let counts = store.outbox_counts().await.unwrap();
        if counts.iter().all(|(state, n)| *n == 0 || !["queued", "sending"].contains(state)) {
            return store;
        }
        store.close().await;
        now += TimeDelta::minutes(2);
    }
    panic!("mail is left in the outbox of {}", file.display());
}

/// No notice lost, none called sent that was not taken; a second copy is the same, and only after an unheard answer.
async fn check(place: &str, store: &dyn Store, server: &Server, may_repeat: bool) -> usize {
    let taken = server.taken();
    let mut repeats = 0;
    for delivery in store.deliveries(&OutboxFilter::default()).await.unwrap() {
        let (claimed, attempts) = store.delivery(delivery.id).await.unwrap().unwrap();
        assert_eq!(claimed.delivery.state.as_str(), "sent", "{place}: {attempts:?}");
        let address = claimed.delivery.recipients[0].address.as_str().to_owned();
        let copies: Vec<&Vec<u8>> = taken.iter().filter(|(to, _)| *to == address).map(|(_, message)| message).collect();
        assert!((1..=2).contains(&copies.len()), "{place}: {address} got {} copies", copies.len());
        if copies.len() == 2 {
            repeats += 1;
            assert!(may_repeat, "{place}: {address} got it twice");
            assert_eq!(copies[0], copies[1], "{place}: the repeat is the same, Message-ID and Date included");
            assert!(attempts.iter().any(|a| a.outcome.as_deref() == Some("unknown")), "{place}: {attempts:?}");
        }
        let text = String::from_utf8_lossy(copies[0]);
        assert!(
            text.contains("Date: Fri, 2 Sep 2022") || text.contains("Date: Fri, 02 Sep 2022"),
            "{place}: of its day"
        );
    }
    assert!(repeats <= 1, "{place}: one connection has one mail in flight");
    repeats
}

/// Every point of the store in turn. Returns where the faults were and how many repeats there have been.
async fn every_store_point(origin: Origin, fault: Fault, may_repeat: bool) -> (Vec<String>, usize) {
    let (mut places, mut repeats) = (Vec::new(), 0);
    for n in 0.. {
        let file = origin.run(n);
        origin.server.begin(None);
        let store = FaultyStore::new(open(&file).await, fault, n);
        let ctx = origin.context(store.clone(), at(MORNING));
        match fault {
            Fault::Stop => one_life(&ctx, store.wait()).await,
            Fault::Error | Fault::Wait => one_life(&ctx, std::future::pending()).await,
        }
        store.close().await;
        let place = store.hit();
        let store = to_the_end(&origin, &file).await;
        repeats += check(place.as_deref().unwrap_or("no fault"), &*store, &origin.server, may_repeat).await;
        store.close().await;
        std::fs::remove_file(&file).unwrap();
        match place {
            Some(place) => places.push(place),
            None => return (places, repeats),
        }
    }
    unreachable!()
}

fn has(places: &[String], part: &str) -> bool {
    places.iter().any(|place| place.contains(part))
}

/// While the last mail is on the wire the next one is looked for: where that call stops, the mail's outcome is not written
/// either.
const REPEATS: std::ops::RangeInclusive<usize> = 1..=8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_stops_before_and_after_every_call_of_the_store() {
    let (places, repeats) = every_store_point(Origin::new("").await, Fault::Stop, true).await;
    for call in ["take_orphans", "claim_several", "commit_looks", "replace_message", "begin_attempt", "record_attempt"]
    {
        for when in ["before", "after"] {
            assert!(has(&places, &format!("{when} {call}")), "{when} {call} was not exercised: {places:?}");
        }
    }
    assert!(REPEATS.contains(&repeats), "{repeats}, only before the record of an outcome: {places:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_stops_between_two_mails_that_share_a_commit() {
    let origin = Origin::fresh().await;
    let repeats = at_that_point(&origin, Fault::Stop, "before record_and_begin").await;
    assert_eq!(repeats, 1, "what the server said of the first was not written down");
    let repeats = at_that_point(&origin, Fault::Stop, "after record_and_begin").await;
    assert_eq!(repeats, 0, "of the first it was, and of the second nothing had left");
    let (_, repeats) = every_store_point(origin, Fault::Stop, true).await;
    assert!(REPEATS.contains(&repeats), "{repeats}, only before the record of an outcome");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_fails_before_and_after_every_call() {
    let (places, repeats) = every_store_point(Origin::new("").await, Fault::Error, false).await;
    assert!(has(&places, "after record_attempt") && has(&places, "after begin_attempt"), "{places:?}");
    assert_eq!(repeats, 0, "an outcome that was heard is held on to until it is written");
    let origin = Origin::fresh().await;
    for place in ["before record_and_begin", "after record_and_begin"] {
        assert_eq!(at_that_point(&origin, Fault::Error, place).await, 0, "{place}");
    }
    let (_, repeats) = every_store_point(origin, Fault::Error, false).await;
    assert_eq!(repeats, 0, "an outcome that was heard is held on to until it is written");
}

/// On a busy machine the next mail may not be at hand in time, and then the two share no commit: how often it is tried.
const TRIES: usize = 50;

/// One life with the fault at its first such point; how many repeats there have been.
async fn at_that_point(origin: &Origin, fault: Fault, place: &'static str) -> usize {
    for n in 0..TRIES {
        let file = origin.run(n);
        origin.server.begin(None);
        let store = FaultyStore::at_point(open(&file).await, fault, place, 0);
        let ctx = origin.context(store.clone(), at(MORNING));
        match fault {
            Fault::Stop => one_life(&ctx, store.wait()).await,
            Fault::Error | Fault::Wait => one_life(&ctx, std::future::pending()).await,
        }
        store.close().await;
        let hit = store.hit().is_some();
        let store = to_the_end(origin, &file).await;
        let repeats = check(place, &*store, &origin.server, fault == Fault::Stop).await;
        store.close().await;
        std::fs::remove_file(&file).unwrap();
        if hit {
            return repeats;
        }
    }
    panic!("{place} was never reached");
}

/// Every point of the server in turn.
async fn every_server_point(cut: Cut) -> (Vec<String>, usize) {
    let origin = Origin::new("").await;
    let (mut places, mut repeats) = (Vec::new(), 0);
    for n in 0.. {
        let file = origin.run(n);
        origin.server.begin(Some((cut, n)));
        let store = open(&file).await;
        let ctx = origin.context(store.clone(), at(MORNING));
        one_life(&ctx, origin.server.state.hit.notified()).await;
        store.close().await;
        let place = origin.server.hit();
        origin.server.state.frozen.store(false, Ordering::SeqCst);
        let store = to_the_end(&origin, &file).await;
        let name = place.as_deref().unwrap_or("no cut");
        let had_it = name.contains("the end of the message");
        repeats += check(name, &*store, &origin.server, had_it).await;
        store.close().await;
        std::fs::remove_file(&file).unwrap();
        match place {
            Some(place) => places.push(place),
            None => return (places, repeats),
        }
    }
    unreachable!()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_closes_before_and_after_every_answer() {
    let (places, repeats) = every_server_point(Cut::Close).await;
    for answer in ["the connection", "EHLO", "MAIL", "RCPT", "DATA", "the end of the message", "QUIT"] {
        assert!(has(&places, &format!("before the answer to {answer}")), "{answer}: {places:?}");
    }
    assert_eq!(repeats, 2, "before the answer to the end of each of the two mails");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_stops_before_and_after_every_answer_of_the_server() {
    let (places, repeats) = every_server_point(Cut::Freeze).await;
    assert!(has(&places, "after the answer to the end of the message"), "{places:?}");
    assert!((2..=4).contains(&repeats), "{repeats} repeats: around the answer to the end of each mail");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_does_not_wait_for_a_server_that_sits_on_its_answer() {
    let origin = Origin::new("").await;
    let file = origin.run(0);
    // The points of one mail: connection, EHLO, MAIL, RCPT, DATA, each before and after; then the end's answer.
    origin.server.begin(Some((Cut::Freeze, 10)));
    let store = open(&file).await;
    let ctx = origin.context(store.clone(), at(MORNING));
    let stop = CancellationToken::new();
    let (live, wake) = (Live::new(ctx), Arc::new(Notify::new()));
    let delivering = tokio::spawn(deliver::deliver(live, Until::Stopped, true, wake, stop.clone(), Arc::new(Silent)));
    origin.server.state.hit.notified().await;
    assert_eq!(origin.server.hit().unwrap(), "Freeze before the answer to the end of the message");
    let asked = Instant::now();
    stop.cancel();
    delivering.await.unwrap().unwrap();
    assert!(asked.elapsed().as_secs() < 10, "SIGTERM stops within 10 s");
    store.close().await;
    origin.server.state.frozen.store(false, Ordering::SeqCst);
    let store = to_the_end(&origin, &file).await;
    assert_eq!(check("stopped", &*store, &origin.server, true).await, 1, "the mail in flight is sent once more");
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
    let (live, wake) = (Live::new(origin.context(store.clone(), at(MORNING))), Arc::new(Notify::new()));
    let stop = CancellationToken::new();
    let delivering =
        tokio::spawn(deliver::deliver(live, Until::Stopped, true, wake.clone(), stop.clone(), Arc::new(Silent)));
    let started = Instant::now();
    while origin.server.taken().len() < 2 {
        assert!(started.elapsed().as_secs() < 60, "{place}, {:?}: both mails leave after all", store.hit());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        // As a pass does; it ends the rest after an error. A mail that was begun is tried again after its minute.
        origin.clock.set(origin.ctx.now() + TimeDelta::seconds(10));
        wake.notify_waiters();
    }
    stop.cancel();
    delivering.await.unwrap().unwrap();
    check(place, &*store, &origin.server, false).await;
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
    *origin.server.state.end.lock().unwrap() = quota.to_owned();
    let store = open(&file).await;
    let done = deliver(&origin.context(store.clone(), at(MORNING))).await.unwrap();
    assert_eq!((done.deferred, done.failed, done.sent), (1, 0, 0), "the second mail is not even tried");
    assert_eq!(origin.server.state.times.lock().unwrap().len(), 1);
    // A whole day of it uses nobody's tries up.
    for quarter in 1..60 {
        deliver(&origin.context(store.clone(), at(MORNING) + TimeDelta::minutes(9 * quarter))).await.unwrap();
    }
    let counts = store.outbox_counts().await.unwrap();
    assert_eq!(counts.iter().find(|(state, _)| *state == "queued").unwrap().1, 2, "{counts:?}");
    *origin.server.state.end.lock().unwrap() = "250 2.0.0 queued".to_owned();
    origin.server.state.times.lock().unwrap().clear();
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
    *origin.server.state.end.lock().unwrap() = quota.to_owned();
    let store = open(&file).await;
    let refused = at(MORNING);
    deliver(&origin.context(store.clone(), refused)).await.unwrap();
    let asked = || origin.server.state.times.lock().unwrap().len();
    assert_eq!(asked(), 1);
    *origin.server.state.end.lock().unwrap() = "250 2.0.0 queued".to_owned();
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
    let (wake, stop) = (Arc::new(Notify::new()), CancellationToken::new());
    let live = Live::new(Context { store: store.clone(), ..origin.ctx.clone() });
    let running =
        tokio::spawn(deliver::deliver(live, Until::Stopped, true, wake.clone(), stop.clone(), Arc::new(Silent)));
    let started = Instant::now();
    while !done(origin.ctx.now()) {
        assert!(started.elapsed().as_secs() < 60, "it never comes");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        origin.clock.set(origin.ctx.now() + TimeDelta::seconds(10));
        wake.notify_waiters();
    }
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rate_is_kept_over_a_restart() {
    let mut origin = Origin::new("").await;
    let interval = std::time::Duration::from_millis(900);
    let snapshot = Arc::get_mut(&mut origin.ctx.snapshot).unwrap();
    let TransportConfig::Smtp(smtp) = &mut snapshot.config.mail.transport else { panic!("SMTP") };
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
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
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
    let TransportConfig::Smtp(smtp) = &mut snapshot.config.mail.transport else { panic!("SMTP") };
    smtp.port = origin.server.port;
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
    let TransportConfig::Smtp(smtp) = &mut snapshot.config.mail.transport else { panic!("SMTP") };
    smtp.rate = kigen::config::Rate { count: 1, per: std::time::Duration::from_millis(1500) };
    let file = origin.run(0);
    origin.server.begin(None);
    let store = FaultyStore::new(open(&file).await, Fault::Error, usize::MAX);
    let ctx = origin.context(store.clone(), at(MORNING));
    let (live, wake, stop) = (Live::new(ctx.clone()), Arc::new(Notify::new()), CancellationToken::new());
    let delivering = tokio::spawn(deliver::deliver(live, Until::Stopped, true, wake, stop.clone(), Arc::new(Silent)));
    let started = Instant::now();
    let waiting = || assert!(started.elapsed().as_secs() < 60, "it never comes");
    while origin.server.taken().is_empty() {
        waiting();
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let now = ctx.now();
    assert!(store.claim("somebody else", now, now + TimeDelta::minutes(1)).await.unwrap().is_none(), "it is claimed");
    let (kind, reason, set_by) = (kigen::store::HoldKind::Paused, "test".to_owned(), "me".to_owned());
    store.set_hold(&store::Hold { kind, reason, set_by, set_at: now }).await.unwrap();
    let by = store::By { who: "me".to_owned(), at: now, day: now.date_naive() };
    loop {
        waiting();
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        let queued = store.deliveries(&OutboxFilter::default()).await.unwrap();
        let second = queued.iter().find(|delivery| delivery.state.as_str() == "queued").unwrap();
        let acted = store.act(&[second.id], store::OutboxAction::Cancel, &by).await.unwrap();
        // A deliverer's is left alone.
        if acted == [store::Acted::Done] {
            break;
        }
    }
    stop.cancel();
    assert_eq!(delivering.await.unwrap().unwrap().sent, 1);
    assert_eq!(origin.server.taken().len(), 1);
}
