//! How fast mail leaves: the whole way out of the durable outbox against Postfix's `smtp-source` and, over one connection,
//! Python's `smtplib`, into the same `smtp-sink` in the same run; whether a configured rate is kept; and the outbox alone,
//! queueing and settling. `KIGEN_BENCH_MAILS`, `KIGEN_BENCH_PACED` (with `KIGEN_BENCH_RATE` a second) and
//! `KIGEN_BENCH_QUEUE` set the sizes; `KIGEN_BENCH_CONNECTIONS` (such as `1,16`) says over how many. 0 leaves a part out.
//!
//! The mails have about 12 KB: a first notice in an operator's own short wording. (The built-in one has three times that.)
//!
//! Needs Debian's package `postfix` for `smtp-sink` and `smtp-source`; without them only the outbox alone is measured.
#![allow(clippy::unwrap_used, missing_docs, reason = "a bench may")]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use kigen::app;
use kigen::clock::{Clock, SystemClock};
use kigen::config::{Rate, TransportConfig};
use kigen::daemon::deliver::{self, Until};
use kigen::daemon::progress::Silent;
use kigen::daemon::reload::{self, Live};
use kigen::daemon::{Context, look, notify};
use kigen::domain::case::LookKind;
use kigen::domain::delivery::{Attempt, DeliveryState, Outcome, Recipient, RecipientState};
use kigen::domain::observation::{Observation, RawSettings, Verdict};
use kigen::domain::site::{AuthMethod, ServerType, SiteName};
use kigen::store::{CustomerState, OutboxFilter, Store};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn number(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        sending(number("KIGEN_BENCH_MAILS", 3000)).await;
        for mails in [number("KIGEN_BENCH_QUEUE", 100_000) / 10, number("KIGEN_BENCH_QUEUE", 100_000)] {
            alone(mails).await;
        }
        paced(number("KIGEN_BENCH_PACED", 2000), number("KIGEN_BENCH_RATE", 100)).await;
    });
}

/// The sink, ended with this value.
struct Sink(Child, u16);

impl Sink {
    fn start() -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let sink = ["/usr/sbin/smtp-sink", "smtp-sink"].into_iter().find_map(|program| {
            let mut command = Command::new(program);
            // As root it wants to know whom to become.
            command.args(["-c", "-u", "nobody", &format!("127.0.0.1:{port}"), "256"]);
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()
        })?;
        let started = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < Duration::from_secs(10), "smtp-sink does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Self(sink, port))
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn sending(mails: usize) {
    if mails == 0 {
        return;
    }
    let Some(sink) = Sink::start() else {
        println!("smtp-sink is not installed: nothing is sent");
        return;
    };
    let world = World::new(mails, sink.1).await;
    let length = world.message().await.len();
    println!("{mails} mails of {length} octets into smtp-sink");
    println!("{:<28} {:>11} {:>10} {:>14}", "", "connections", "mails/s", "CPU us/mail");
    let connections = std::env::var("KIGEN_BENCH_CONNECTIONS").unwrap_or_else(|_| "1,4,16".to_owned());
    for connections in connections.split(',').map(|text| text.parse().unwrap()) {
        let (took, cpu) = source(sink.1, connections, mails, length);
        row("smtp-source -d", connections, mails, took, cpu);
        if connections == 1 {
            match smtplib(sink.1, mails, &world.message().await) {
                Some((took, cpu)) => row("smtplib, connection kept", 1, mails, took, cpu),
                None => println!("smtplib: no python3 here, left out"),
            }
        }
        let (took, cpu) = world.deliver(connections, Rate { count: 1_000_000, per: Duration::from_secs(1) }).await;
        row("kigen, durable outbox", connections, mails, took, cpu);
    }
}

/// Sixteen connections under a rate: neither faster nor slower than it.
async fn paced(mails: usize, per_second: usize) {
    if mails == 0 {
        return;
    }
    let Some(sink) = Sink::start() else { return };
    let world = World::new(mails, sink.1).await;
    let rate = Rate { count: u32::try_from(per_second).unwrap(), per: Duration::from_secs(1) };
    let (took, cpu) = world.deliver(16, rate).await;
    row(&format!("kigen, rate {per_second}/s"), 16, mails, took, cpu);
    // The first mail leaves at once.
    let off = took.as_secs_f64() * per_second as f64 / (mails - 1) as f64 - 1.0;
    println!("{:<28} {:>+36.2} % off its time", "", 100.0 * off);
    assert!(off.abs() <= 0.02, "the rate is kept to 2 %");
}

fn row(name: &str, connections: usize, mails: usize, took: Duration, cpu: Duration) {
    let mails = mails as f64;
    let (rate, each) = (mails / took.as_secs_f64(), cpu.as_micros() as f64 / mails);
    println!("{name:<28} {connections:>11} {rate:>10.0} {each:>14.0}");
}

/// Postfix's own load generator, keeping its connections.
fn source(port: u16, connections: usize, mails: usize, length: usize) -> (Duration, Duration) {
    let before = cpu("/proc/self/stat", 2);
    let started = Instant::now();
    let status = Command::new("/usr/sbin/smtp-source")
        .args(["-d", "-s", &connections.to_string(), "-m", &mails.to_string(), "-l", &length.to_string()])
        .args(["-f", "from@vendor.example", "-t", "to@customer.example", &format!("127.0.0.1:{port}")])
        .status()
        .unwrap();
    assert!(status.success());
    (started.elapsed(), cpu("/proc/self/stat", 2) - before)
}

/// Python's own client over one connection that it keeps, with the same bytes; the interpreter's start is not counted.
fn smtplib(port: u16, mails: usize, message: &[u8]) -> Option<(Duration, Duration)> {
    const SCRIPT: &str = "
import smtplib, sys, time
message = sys.stdin.buffer.read()
smtp = smtplib.SMTP('127.0.0.1', int(sys.argv[1]))
began, cpu = time.perf_counter(), time.process_time()
for _ in range(int(sys.argv[2])):
    smtp.sendmail('from@vendor.example', ['to@customer.example'], message)
print(int(1e6 * (time.perf_counter() - began)), int(1e6 * (time.process_time() - cpu)))
smtp.quit()
";
    let mut python = Command::new("python3");
    python.args(["-c", SCRIPT, &port.to_string(), &mails.to_string()]);
    let mut python = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
    std::io::Write::write_all(&mut python.stdin.take().unwrap(), message).unwrap();
    let said = python.wait_with_output().unwrap();
    assert!(said.status.success());
    let said = String::from_utf8(said.stdout).unwrap();
    let mut micros = said.split_whitespace().map(|n| Duration::from_micros(n.parse().unwrap()));
    Some((micros.next().unwrap(), micros.next().unwrap()))
}

/// User and system time of this process (0), or of its ended children (2), in clock ticks of 10 ms.
fn cpu(path: &str, offset: usize) -> Duration {
    let text = std::fs::read_to_string(path).unwrap();
    let fields: Vec<u64> =
        text.rsplit(')').next().unwrap().split_whitespace().map(|f| f.parse().unwrap_or(0)).collect();
    Duration::from_millis(10 * (fields[11 + offset] + fields[12 + offset]))
}

/// Files and a state in which every customer has a notice waiting.
struct World {
    dir: tempfile::TempDir,
}

impl World {
    async fn new(customers: usize, port: u16) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let world = Self { dir };
        let mut csv = "customer_id,name,email,account,password\n".to_owned();
        for n in 0..customers {
            csv.push_str(&format!("C{n:06},株式会社{n},admin@c{n}.example,c{n},secret\n"));
        }
        private(&world.path("customers.csv"), &csv);
        world.configure(port);
        let ctx = world.open().await;
        affect_all(&ctx).await;
        notify::pass(&ctx, None, &CancellationToken::new(), &Silent).await.unwrap();
        ctx.store.backup(&world.path("queued.db")).await.unwrap();
        ctx.store.close().await;
        world
    }

    fn configure(&self, port: u16) {
        private(&self.path("config.toml"), &configuration(port));
        std::fs::create_dir(self.path("templates")).unwrap();
        for (name, text) in [("first.ja.txt", SHORT_TEXT), ("first.ja.html", SHORT_HTML)] {
            private(&self.path("templates").join(name), text);
        }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    async fn open(&self) -> Context {
        let snapshot = reload::load(&self.path("config.toml")).unwrap_or_else(|e| panic!("{}", app::describe(&e)));
        app::open_with(snapshot, Arc::new(SystemClock)).await.unwrap()
    }

    /// One of the waiting messages.
    async fn message(&self) -> Vec<u8> {
        std::fs::copy(self.path("queued.db"), self.path("kigen.db")).unwrap();
        let ctx = self.open().await;
        let queued = ctx.store.deliveries(&OutboxFilter { limit: Some(1), ..OutboxFilter::default() }).await.unwrap();
        let message = ctx.store.delivery(queued[0].id).await.unwrap().unwrap().0.message.raw;
        ctx.store.close().await;
        self.remove();
        message
    }

    fn remove(&self) {
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(self.path(&format!("kigen.db{end}")));
        }
    }

    async fn deliver(&self, connections: usize, rate: Rate) -> (Duration, Duration) {
        self.remove();
        std::fs::copy(self.path("queued.db"), self.path("kigen.db")).unwrap();
        let mut ctx = self.open().await;
        let snapshot = Arc::get_mut(&mut ctx.snapshot).unwrap();
        let TransportConfig::Smtp(smtp) = &mut snapshot.config.mail.transport else { unreachable!() };
        smtp.connections = connections;
        smtp.rate = rate;
        let (live, stop) = (Live::new(ctx.clone()), CancellationToken::new());
        let (before, started) = (cpu("/proc/self/stat", 0), Instant::now());
        let done = deliver::deliver(live, Until::Drained, true, Arc::new(Notify::new()), stop, Arc::new(Silent)).await;
        let took = (started.elapsed(), cpu("/proc/self/stat", 0) - before);
        let done = done.unwrap();
        assert_eq!(done.sent as usize, ctx.snapshot.fleet.members.len(), "{done:?}");
        ctx.store.close().await;
        took
    }
}

fn private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

const SHORT_TEXT: &str = r#"{% include "_addressee.ja.txt" %}
{% include "_effect.ja.txt" %}

{% include "_summary.ja.txt" %}

{% include "_before.ja.txt" %}

{% include "_ending.ja.txt" %}
"#;

const SHORT_HTML: &str = r#"{% extends "_layout.html" %}
{% block headline %}{{ deadline }}までに認証方式の変更をお願いします{% endblock %}
{% block body %}
{% import "_shapes.html" as s %}
{% include "_addressee.ja.html" %}
{% call s.p() %}
{% include "_effect.ja.html" %}
{% endcall %}
{% include "_before.ja.html" %}
{% include "_ending.ja.html" %}
{% endblock %}
"#;

fn configuration(port: u16) -> String {
    let deadline = SystemClock.now().date_naive() + TimeDelta::days(40);
    format!(
        r#"
mode = "live"
state = "sqlite:kigen.db"
[schedule]
scan = "0 0 1 1 *"
[business_hours]
days = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
hours = "00:00-24:00"
holidays = "none"
[fleet]
customers = "customers.csv"
[connector]
kind = "exlook"
[[campaign]]
id = "exchange-online-basic-auth"
deadline = {deadline}
templates = "templates/"
[mail]
from = "ExLook サポート <support@vendor.example>"
support = {{ name = "ExLook サポート窓口", email = "support@vendor.example", phone = "03-0000-0000" }}
[mail.smtp]
host = "127.0.0.1"
port = {port}
tls = "none"
auth = "none"
rate = "1000000/s"
connections = 1
[safety]
max_age = "7d"
max_new_notices = "100%"
[alerts]
to = ["ops@vendor.example"]
[web]
listen = "127.0.0.1:0"
"#
    )
}

/// As if a scan had seen one affected site of everybody.
async fn affect_all(ctx: &Context) {
    let (now, campaigns) = (ctx.now(), ctx.snapshot.campaigns());
    ctx.store.sync_customers(&mut ctx.snapshot.entries(), now).await.unwrap();
    let ids: Vec<_> = ctx.snapshot.fleet.members.ids().collect();
    for ids in ids.chunks(1000) {
        let states = ctx.store.customer_states(ids).await.unwrap();
        let change =
            |state: &CustomerState| look::change(state, &campaigns, &[affected(state, now)], None, LookKind::Scan, now);
        let changes: Vec<_> = states.iter().map(change).collect();
        ctx.store.commit_looks(&changes).await.unwrap();
    }
}

fn affected(state: &CustomerState, at: kigen::domain::Timestamp) -> Observation {
    Observation {
        customer: state.id.clone(),
        site: Some(SiteName::new("本社").unwrap()),
        verdict: Verdict::Affected,
        server_type: Some(ServerType::ExchangeOnline),
        auth_method: Some(AuthMethod::Basic),
        raw: RawSettings {
            server_type: Some("Exchange Online に接続する".to_owned()),
            auth_method: Some("基本認証 (Office 365の場合)".to_owned()),
        },
        detail: None,
        observed_at: at,
    }
}

/// The most memory this process ever had, in MiB.
fn memory_peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// Queueing by a notice pass, and claim, begin and record by 16 workers without any server.
async fn alone(mails: usize) {
    if mails == 0 {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let world = World { dir };
    let mut csv = "customer_id,name,email,account,password\n".to_owned();
    (0..mails).for_each(|n| csv.push_str(&format!("C{n:06},株式会社{n},admin@c{n}.example,c{n},secret\n")));
    private(&world.path("customers.csv"), &csv);
    world.configure(9);
    let ctx = world.open().await;
    affect_all(&ctx).await;
    println!("\n{mails} deliveries in the outbox alone");
    let (before, started) = (cpu("/proc/self/stat", 0), Instant::now());
    notify::pass(&ctx, None, &CancellationToken::new(), &Silent).await.unwrap();
    row("a pass queues (decide, render)", 1, mails, started.elapsed(), cpu("/proc/self/stat", 0) - before);
    let (before, started) = (cpu("/proc/self/stat", 0), Instant::now());
    let mut workers = tokio::task::JoinSet::new();
    for n in 0..16 {
        workers.spawn(settle_all(ctx.store.clone(), format!("bench#{n}")));
    }
    let settled: usize = workers.join_all().await.into_iter().sum();
    assert_eq!(settled, mails);
    row("claimed, begun, recorded", 16, mails, started.elapsed(), cpu("/proc/self/stat", 0) - before);
    println!("{:<28} {:>26} MiB at most", "memory", memory_peak());
    let counts: BTreeMap<_, _> = ctx.store.outbox_counts().await.unwrap().into_iter().collect();
    assert_eq!(counts["sent"] as usize, mails);
    ctx.store.close().await;
}

async fn settle_all(store: Arc<dyn Store>, owner: String) -> usize {
    let clock = SystemClock;
    let taken = Attempt::whole(Outcome::Accepted, "250 2.0.0 ok");
    let mut settled = 0;
    loop {
        let now = clock.now();
        let Some(claimed) = store.claim(&owner, now, now + TimeDelta::minutes(20)).await.unwrap() else {
            return settled;
        };
        let delivery = claimed.delivery;
        assert!(store.begin_attempt(delivery.id, &owner, now, now + TimeDelta::minutes(20)).await.unwrap());
        let recipients: Vec<Recipient> =
            delivery.recipients.into_iter().map(|r| Recipient { state: RecipientState::Accepted, ..r }).collect();
        let now = clock.now();
        assert!(
            store.record_attempt(delivery.id, &owner, &taken, &DeliveryState::Sent, &recipients, now).await.unwrap()
        );
        settled += 1;
    }
}
