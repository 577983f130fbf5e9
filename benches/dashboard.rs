//! How long the dashboard takes to answer in a large fleet: from the request on loopback to the last byte, one reader.
//!
//! `cargo bench --bench dashboard -- --customers 100000`: so many customers, a third of them with two sites; every tenth is
//! affected and has a notice in the outbox, the others had other verdicts before.
#![allow(clippy::unwrap_used, missing_docs, reason = "a bench may")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use kigen::app;
use kigen::clock::{Clock, SystemClock};
use kigen::daemon::progress::Silent;
use kigen::daemon::reload::{self, Live};
use kigen::daemon::{Context, look, notify};
use kigen::domain::Timestamp;
use kigen::domain::case::LookKind;
use kigen::domain::observation::{Observation, RawSettings, Verdict};
use kigen::domain::site::{AuthMethod, ServerType, SiteName};
use kigen::store::CustomerState;
use kigen::web::{self, Parts};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The goal for the overview and the first page.
const GOAL: Duration = Duration::from_millis(50);

/// Requests of each kind.
const TIMES: usize = 15;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let asked = args.iter().position(|arg| arg == "--customers").and_then(|at| args.get(at + 1)?.parse().ok());
    // `cargo test --benches` only wants to see it run.
    let usual = if args.iter().any(|arg| arg == "--bench") { 100_000 } else { 300 };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(measure(asked.unwrap_or(usual)));
}

async fn measure(customers: usize) {
    let dir = tempfile::tempdir().unwrap();
    let ctx = fleet(dir.path(), customers).await;
    let sites = ctx.store.site_counts().await.unwrap().total();
    println!("{customers} customers, {sites} sites");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (_beat, heartbeat) = watch::channel(tokio::time::Instant::now());
    let stop = CancellationToken::new();
    let parts =
        Parts { live: Live::new(ctx.clone()), heartbeat, wake_mail: Arc::new(Notify::new()), stop: stop.clone() };
    let server = tokio::spawn(web::serve(listener, parts));
    let client = reqwest::Client::builder().no_proxy().tcp_nodelay(true).build().unwrap();

    let (last, middle) = (format!("C{:06}", customers - 30), format!("C{:06}", customers / 2));
    let pages = [
        ("overview, the first reader", "/".to_owned(), 1),
        ("overview", "/".to_owned(), TIMES),
        ("customers, first page", "/customers".to_owned(), TIMES),
        ("customers, a late page", format!("/customers?after={last}&after_name=x"), TIMES),
        (
            "customers, by name, late",
            format!("/customers?order=name&after={middle}&after_name={}", name(customers / 2)),
            TIMES,
        ),
        ("customers, one found", format!("/customers?q={last}"), TIMES),
        ("customers, none found", "/customers?q=nobody".to_owned(), TIMES),
        ("customers, affected", "/customers?verdict=affected".to_owned(), TIMES),
        ("one customer", format!("/customers/{middle}"), TIMES),
        ("outbox", "/outbox".to_owned(), TIMES),
        ("audit trail", "/audit".to_owned(), TIMES),
        ("/metrics", "/metrics".to_owned(), TIMES),
    ];
    println!("{:<28} {:>10} {:>10} {:>10}", "", "median ms", "max ms", "KB");
    for (what, path, times) in pages {
        let mut took = Vec::new();
        let mut length = 0;
        for _ in 0..times {
            let started = Instant::now();
            let answer = client.get(format!("{address}{path}")).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{path}");
            length = answer.bytes().await.unwrap().len();
            took.push(started.elapsed());
        }
        took.sort();
        let ms = |d: Duration| d.as_secs_f64() * 1000.0;
        let (median, max) = (took[took.len() / 2], took[took.len() - 1]);
        println!("{what:<28} {:>10.1} {:>10.1} {:>10.1}", ms(median), ms(max), length as f64 / 1024.0);
        if matches!(what, "overview" | "customers, first page") && median > GOAL {
            println!("  slower than {GOAL:?}");
        }
    }
    stop.cancel();
    server.await.unwrap().unwrap();
    ctx.store.close().await;
}

fn name(n: usize) -> String {
    format!("株式会社{n:06}商事")
}

/// A fleet with a past: seen, told, and seen again.
async fn fleet(dir: &Path, customers: usize) -> Context {
    let mut csv = "customer_id,name,email,account,password\n".to_owned();
    (0..customers).for_each(|n| csv.push_str(&format!("C{n:06},{},admin@c{n}.example,c{n},secret\n", name(n))));
    private(&dir.join("customers.csv"), &csv);
    let deadline = SystemClock.now().date_naive() + TimeDelta::days(40);
    let config = format!(
        "mode = \"review\"\n[schedule]\nscan = \"0 0 1 1 *\"\n[business_hours]\ndays = [\"Mon\", \"Tue\", \"Wed\", \"Thu\", \"Fri\", \
         \"Sat\", \"Sun\"]\nhours = \"00:00-24:00\"\nholidays = \"none\"\n[fleet]\ncustomers = \"customers.csv\"\n[connector]\n\
         kind = \"exlook\"\n[[campaign]]\nid = \"exchange-online-basic-auth\"\ndeadline = {deadline}\n[mail]\n\
         from = \"a@vendor.example\"\ntransport = \"maildir\"\nsupport = {{ name = \"x\", phone = \"1\" }}\n[mail.maildir]\n\
         path = \"out\"\n[safety]\nmax_age = \"7d\"\nmax_new_notices = \"100%\"\nhold_if_newly_affected = \"100%\"\n\
         [alerts]\nto = [\"ops@vendor.example\"]\n"
    );
    private(&dir.join("config.toml"), &config);
    let snapshot = reload::load(&dir.join("config.toml")).unwrap_or_else(|e| panic!("{}", app::describe(&e)));
    let ctx = app::open_with(snapshot, Arc::new(SystemClock)).await.unwrap();
    let now = ctx.now();
    ctx.store.sync_customers(&mut ctx.snapshot.entries(), now).await.unwrap();
    scan(&ctx, now - TimeDelta::days(3), |n| {
        if n.is_multiple_of(5) { Verdict::Affected } else { Verdict::NotExchangeOnline }
    })
    .await;
    scan(&ctx, now, |n| if n.is_multiple_of(10) { Verdict::Affected } else { Verdict::Switched }).await;
    notify::pass(&ctx, None, &CancellationToken::new(), &Silent).await.unwrap();
    ctx
}

/// As if a scan had seen these verdicts.
async fn scan(ctx: &Context, at: Timestamp, verdict: impl Fn(usize) -> Verdict) {
    let campaigns = ctx.snapshot.campaigns();
    let ids: Vec<_> = ctx.snapshot.fleet.members.ids().collect();
    for (chunk, ids) in ids.chunks(1000).enumerate() {
        let states = ctx.store.customer_states(ids).await.unwrap();
        let change = |(n, state): (usize, &CustomerState)| {
            let n = chunk * 1000 + n;
            let sites = if n.is_multiple_of(3) { &["本社", "支店"][..] } else { &["本社"] };
            let seen: Vec<_> = sites.iter().map(|site| observation(state, site, verdict(n), at)).collect();
            look::change(state, &campaigns, &seen, None, LookKind::Scan, at)
        };
        let changes: Vec<_> = states.iter().enumerate().map(change).collect();
        ctx.store.commit_looks(&changes).await.unwrap();
    }
}

fn observation(state: &CustomerState, site: &str, verdict: Verdict, at: Timestamp) -> Observation {
    let (server, auth) = match verdict {
        Verdict::NotExchangeOnline => (ServerType::OnPremises, AuthMethod::OnPremisesBasic),
        Verdict::Switched => (ServerType::ExchangeOnline, AuthMethod::OAuth),
        _ => (ServerType::ExchangeOnline, AuthMethod::Basic),
    };
    Observation {
        customer: state.id.clone(),
        site: Some(SiteName::new(site).unwrap()),
        verdict,
        server_type: Some(server),
        auth_method: Some(auth),
        raw: RawSettings {
            server_type: Some("Exchange Online に接続する".to_owned()),
            auth_method: Some("基本認証 (Office 365の場合)".to_owned()),
        },
        detail: None,
        observed_at: at,
    }
}

fn private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}
