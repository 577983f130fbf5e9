//! What sharing a state in PostgreSQL costs and gives: how fast 1, 2 and 4 nodes scan a fleet whose admin tool takes its
//! time, and what shares, claims, looks, plan and turns cost in a large fleet.
//!
//! `cargo bench --bench cluster -- --customers 4000 --fleet 1000000 --open 100000`. It starts a PostgreSQL of its own, with the
//! settings that a server has by itself (`fsync` on).
#![allow(clippy::unwrap_used, missing_docs, reason = "a bench may")]

#[path = "../tests/common/postgres.rs"]
mod postgres;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::TimeDelta;
use kigen::app;
use kigen::clock::{Clock, SystemClock};
use kigen::config::{PostgresState, StateUrl};
use kigen::connector::{Account, Connector};
use kigen::daemon::progress::Silent;
use kigen::daemon::scan::{ScanRequest, Scanned, scan};
use kigen::daemon::{Context, look, reload};
use kigen::domain::campaign::{Affects, Campaign, CampaignId};
use kigen::domain::case::LookKind;
use kigen::domain::observation::{CustomerLook, Observation, RawSettings, Settings, SiteLook, Verdict};
use kigen::domain::site::{AuthMethod, CustomerId, ServerType, SiteName};
use kigen::store::{self, Begun, CustomerState, Entry, NextShare, RunKind, Store};
use postgres::Server;
use tokio_util::sync::CancellationToken;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let measured = args.iter().any(|arg| arg == "--bench");
    let number = |name: &str, usual: usize, small: usize| {
        let at = args.iter().position(|arg| arg == name);
        let given = at.and_then(|at| args.get(at + 1)?.parse().ok());
        given.unwrap_or(if measured { usual } else { small })
    };
    let (customers, fleet, open) =
        (number("--customers", 4_000, 40), number("--fleet", 1_000_000, 1_000), number("--open", 100_000, 100));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for nodes in [1, 2, 4] {
            scanning(customers, nodes).await;
        }
        large(fleet, open).await;
    });
}

fn server() -> &'static Server {
    static SERVER: std::sync::OnceLock<Server> = std::sync::OnceLock::new();
    SERVER.get_or_init(Server::start_durable)
}

/// A tool whose every customer takes a tenth of a second.
struct Slow;

const LOOK: Duration = Duration::from_millis(100);

fn settings() -> Settings {
    Settings {
        server_type: Some(ServerType::ExchangeOnline),
        auth_method: Some(AuthMethod::Basic),
        raw: RawSettings {
            server_type: Some("Exchange Online".to_owned()), auth_method: Some("基本認証".to_owned())
        },
    }
}

#[async_trait]
impl Connector for Slow {
    async fn look(&self, _: &Account) -> CustomerLook {
        tokio::time::sleep(LOOK).await;
        let at = SystemClock.now();
        let site = SiteLook { site: SiteName::new("本社").unwrap(), read: Ok(settings()), at };
        CustomerLook { sites: Ok(vec![site]), at }
    }
}

/// One node: pools and a name of its own.
async fn node(directory: &std::path::Path, name: usize) -> Context {
    let snapshot = reload::load(&directory.join("config.toml")).unwrap_or_else(|e| panic!("{}", app::describe(&e)));
    let mut ctx = app::open_with(snapshot, Arc::new(SystemClock)).await.unwrap();
    ctx.connector = Arc::new(Slow);
    ctx.owner = format!("bench:{name}");
    ctx
}

async fn scanning(customers: usize, nodes: usize) {
    let directory = tempfile::tempdir().unwrap();
    let url = server().database().await;
    let mut csv = "customer_id,name,email,account,password\n".to_owned();
    for n in 0..customers {
        csv.push_str(&format!("B{n:06},会社{n},a@b{n}.example,u{n},p\n"));
    }
    private(&directory.path().join("customers.csv"), &csv);
    let config = format!(
        "state = \"{url}\"\nstate_directory = \"node\"\n[fleet]\ncustomers = \"customers.csv\"\n[connector]\nkind = \"exlook\"\n\
         [connector.exlook]\nlogon_url = \"https://tool.example/\"\n[scan]\nconcurrency = 32\n\
         [[campaign]]\nid = \"exchange-online-basic-auth\"\n[mail]\nfrom = \"a@b.example\"\ntransport = \"maildir\"\n\
         support = {{ name = \"s\", email = \"s@b.example\", phone = \"0\" }}\n[mail.maildir]\npath = \"out\"\n"
    );
    private(&directory.path().join("config.toml"), &config);
    let due_at = Some(SystemClock.now());
    let mut all = Vec::new();
    for n in 0..nodes {
        all.push(node(directory.path(), n).await);
    }
    let (began, cpu) = (Instant::now(), Cpu::now());
    let mut tasks = tokio::task::JoinSet::new();
    for ctx in all {
        tasks.spawn(async move {
            let request = ScanRequest { due_at, ..ScanRequest::default() };
            let stop = CancellationToken::new();
            match scan(&ctx, &request, &stop, &Silent, |_| {}).await.unwrap() {
                Scanned::Ran(report) => report.counts.customers,
                _ => 0,
            }
        });
    }
    let summed: u64 = tasks.join_all().await.into_iter().sum();
    assert_eq!(summed, customers as u64, "one node sums up the whole");
    let took = began.elapsed().as_secs_f64();
    let ideal = customers as f64 * LOOK.as_secs_f64() / (32 * nodes) as f64;
    println!(
        "{nodes} node(s), 32 looks at once each, 0.1 s a look: {:7.0} customers/s ({:.0} % of what the looks alone would take), \
         {}",
        customers as f64 / took,
        100.0 * ideal / took,
        cpu.since(customers)
    );
}

fn private(path: &std::path::Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// Processor time, which tells more than the clock where others work too.
struct Cpu {
    ours: Duration,
    servers: Duration,
}

impl Cpu {
    fn now() -> Self {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|n| n.parse::<u64>().unwrap()).sum();
        Self { ours: Duration::from_millis(ticks * 10), servers: server().cpu() }
    }

    /// What has been used since then, for each of so many.
    fn since(&self, each: usize) -> String {
        let now = Self::now();
        let of = |used: Duration| used.as_secs_f64() * 1e6 / each.max(1) as f64;
        let (ours, servers) = (of(now.ours - self.ours), of(now.servers.saturating_sub(self.servers)));
        format!("CPU {ours:.2} us each here, {servers:.2} us in the server")
    }
}

async fn timed<T>(what: &str, each: usize, future: impl Future<Output = T>) -> T {
    let (began, cpu) = (Instant::now(), Cpu::now());
    let done = future.await;
    let took = began.elapsed().as_secs_f64();
    let each_took = took * 1e6 / each.max(1) as f64;
    println!("{what:48} {:9.1} ms, {each_took:8.2} us each, {}", took * 1e3, cpu.since(each));
    done
}

/// A large fleet, without any network: what the store's part of a run costs.
async fn large(fleet: usize, open: usize) {
    let directory = tempfile::tempdir().unwrap();
    let url = server().database().await;
    let state = PostgresState { url: url.parse().unwrap(), password: None, directory: directory.path().to_owned() };
    let store: Arc<dyn Store> = store::open(&StateUrl::Postgres(state)).await.unwrap();
    let at = SystemClock.now();
    let ids: Vec<CustomerId> = (0..fleet).map(|n| CustomerId::new(&format!("L{n:07}")).unwrap()).collect();
    let entries: Vec<Entry> = ids.iter().map(|id| Entry { id: id.clone(), name: format!("会社{id}") }).collect();
    println!("{fleet} customers, {open} of them with an open case");
    timed(
        "the customers file is taken note of, first time",
        fleet,
        store.sync_customers(&mut entries.iter().cloned(), at),
    )
    .await
    .unwrap();
    timed("the same again, unchanged", fleet, store.sync_customers(&mut entries.iter().cloned(), at)).await.unwrap();
    timed("looks are written, 128 at once", open, looks(&*store, &ids[..open])).await;
    // What the server does by itself every minute.
    let database = url.split('?').next().unwrap().rsplit('/').next().unwrap();
    server().execute(database, "ANALYZE").await;
    timed("looks that see the same are written", open, looks(&*store, &ids[..open])).await;
    let turns = timed("the order of a scan is read, 5,000 at once", fleet, async {
        let mut after = None;
        let mut turns = 0;
        loop {
            let page = store.scan_turns(after.as_ref(), 5_000).await.unwrap();
            let Some(last) = page.last() else { break turns };
            after = Some(last.customer.clone());
            turns += page.len();
        }
    })
    .await;
    assert_eq!(turns, fleet);
    let now = SystemClock.now();
    let Begun::Started(run) =
        store.begin_run(RunKind::Scan, Some(at), "bench", now, now + TimeDelta::hours(1)).await.unwrap()
    else {
        panic!("nobody else runs")
    };
    let shares: Vec<Vec<CustomerId>> = ids.chunks(128).map(<[_]>::to_vec).collect();
    timed("the run is shared out, 128 a share", fleet, store.put_shares(run, "file", &shares)).await.unwrap();
    timed("four nodes claim and finish every share", fleet, async {
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..4 {
            let store = Arc::clone(&store);
            tasks.spawn(async move {
                let owner = format!("bench:{n}");
                loop {
                    match store.claim_share(run, &owner, now, now + TimeDelta::hours(1)).await.unwrap() {
                        NextShare::Ours(share) => {
                            assert!(store.finish_share(run, share.number, &owner, now).await.unwrap());
                        }
                        NextShare::Others => {}
                        NextShare::None => break,
                    }
                }
            });
        }
        tasks.join_all().await;
    })
    .await;
    let day = now.date_naive();
    let cases = timed("the cases to plan are read", open, store.cases_to_plan(day)).await.unwrap();
    assert_eq!(cases.len(), open);
    timed("a hundred turns of the mail are taken", 100, async {
        for _ in 0..100 {
            store.take_turn(now, TimeDelta::milliseconds(1), TimeDelta::hours(1)).await.unwrap();
        }
    })
    .await;
}

async fn looks(store: &dyn Store, ids: &[CustomerId]) {
    let day = chrono::NaiveDate::from_ymd_opt(2022, 10, 1).unwrap();
    let campaign = Campaign {
        id: CampaignId("exchange-online-basic-auth".to_owned()),
        affects: Affects::BasicAuth,
        deadline: day,
        postponed_to: None,
        last_day: None,
        reminders: Vec::new(),
        overdue_every: Some(7),
        begins: None,
        product: None,
        consent_every: 7,
        source: None,
    };
    for chunk in ids.chunks(128) {
        let states: Vec<CustomerState> = store.customer_states(chunk).await.unwrap();
        let at = SystemClock.now();
        let changes: Vec<_> = states
            .iter()
            .map(|state| {
                let seen = vec![Observation {
                    customer: state.id.clone(),
                    site: Some(SiteName::new("本社").unwrap()),
                    verdict: Verdict::Affected,
                    server_type: Some(ServerType::ExchangeOnline),
                    auth_method: Some(AuthMethod::Basic),
                    raw: settings().raw,
                    detail: None,
                    observed_at: at,
                }];
                look::change(state, std::slice::from_ref(&campaign), &seen, None, LookKind::Scan, at)
            })
            .collect();
        store.commit_looks(&changes).await.unwrap();
    }
}
