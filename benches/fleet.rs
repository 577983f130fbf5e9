//! What a scan costs: the whole of it, beside the same requests by a bare client that parses nothing, and beside the same
//! with one HTML parse a page. The admin tool is a process of its own that answers from memory, so that its CPU is not ours.
//!
//! `cargo bench --bench fleet -- --customers 10000 --page 60`: so many customers, pages of so many KB.
#![allow(clippy::unwrap_used, missing_docs, reason = "a bench may")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use kigen::app;
use kigen::clock::SystemClock;
use kigen::daemon::progress::Silent;
use kigen::daemon::reload;
use kigen::daemon::scan::{ScanRequest, Scanned, scan};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Customers looked at at once, in every run.
const CONCURRENCY: usize = 32;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let number = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1)?.parse::<usize>().ok()
    };
    if args.iter().any(|arg| arg == "--serve") {
        return serve(number("--page").unwrap());
    }
    // `cargo test --benches` only wants to see it run.
    let usual = if args.iter().any(|arg| arg == "--bench") { 1_000 } else { 20 };
    let (customers, page) = (number("--customers").unwrap_or(usual), number("--page").unwrap_or(60));
    let (mut tool, url) = start_tool(page);
    println!("{customers} customers, one site each, pages of {page} KB, {CONCURRENCY} at once");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let scanned = measure("(a) scan", customers, || runtime.block_on(whole(&url, customers)));
    let bare = measure("(b) bare client", customers, || runtime.block_on(requests(&url, customers, false)));
    let parsed = measure("(c) with one parse", customers, || runtime.block_on(requests(&url, customers, true)));
    println!("CPU (a)/(b) {:.2}, (a)/(c) {:.2}", scanned / bare, scanned / parsed);
    tool.kill().unwrap();
    tool.wait().unwrap();
}

/// Runs it and prints what it took; returns CPU seconds.
fn measure(what: &str, customers: usize, run: impl FnOnce() -> u64) -> f64 {
    // Forgets the peak so far (see proc(5)); where that is not allowed the peak is the process's.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let (began, cpu_before) = (Instant::now(), cpu());
    let requests = run();
    let (took, cpu) = (began.elapsed().as_secs_f64(), cpu() - cpu_before);
    println!(
        "{what:20} {:8.0} customers/s {:8.0} requests/s {:7.0} us CPU a request, peak {:4} MiB",
        customers as f64 / took,
        requests as f64 / took,
        cpu * 1e6 / requests as f64,
        peak_kib() / 1024,
    );
    cpu
}

/// Seconds of CPU of this process, user and system; in hundredths on Linux.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// (a): everything, the store too. Returns the requests the tool counted.
async fn whole(url: &str, customers: usize) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let before = counted(url).await;
    let mut csv = "customer_id,name,email,account,password\n".to_owned();
    for n in 0..customers {
        csv.push_str(&format!("C{n:07},株式会社{n},admin@c{n}.example,admin{n},pass{n}\n"));
    }
    write_private(&dir.path().join("customers.csv"), &csv);
    drop(csv);
    let config = format!(
        "[fleet]\ncustomers = \"customers.csv\"\n[connector]\nkind = \"exlook\"\n[connector.exlook]\n\
         logon_url = \"{url}/exlookconfig/logon.aspx\"\n[scan]\nconcurrency = {CONCURRENCY}\n\
         requests_per_second = 10000\nallow_private_hosts = true\n[mail]\nfrom = \"a@b.example\"\n\
         transport = \"maildir\"\nsupport = {{ name = \"x\", phone = \"1\" }}\n[mail.maildir]\npath = \"out\"\n"
    );
    write_private(&dir.path().join("config.toml"), &config);
    let snapshot = reload::load(&dir.path().join("config.toml")).unwrap_or_else(|e| panic!("{}", app::describe(&e)));
    let ctx = app::open_with(snapshot, Arc::new(SystemClock)).await.unwrap();
    let stop = CancellationToken::new();
    let scanned = scan(&ctx, &ScanRequest::default(), &stop, &Silent, |_| {}).await.unwrap();
    let Scanned::Ran(report) = scanned else { panic!("it did not run") };
    assert_eq!(report.sites.affected as usize, customers, "{:?}", report.unreadable_by_reason);
    ctx.store.close().await;
    counted(url).await - before
}

/// (b) and (c): the requests of (a) and nothing else; `parse`: each page is parsed once.
async fn requests(url: &str, customers: usize, parse: bool) -> u64 {
    let none = reqwest::redirect::Policy::none();
    let client = reqwest::Client::builder().redirect(none).no_proxy().tcp_nodelay(true).build().unwrap();
    let turns = Arc::new(Semaphore::new(CONCURRENCY));
    let parsers = Arc::new(Semaphore::new(std::thread::available_parallelism().unwrap().get()));
    let sent = Arc::new(AtomicU64::new(0));
    let mut all = tokio::task::JoinSet::new();
    for n in 0..customers {
        let turn = Arc::clone(&turns).acquire_owned().await.unwrap();
        let (client, parsers, sent, url) = (client.clone(), Arc::clone(&parsers), Arc::clone(&sent), url.to_owned());
        all.spawn(async move {
            let logon = format!("{url}/exlookconfig/logon.aspx");
            let form = format!("__VIEWSTATE=AAAA&txtAccount=admin{n}&txtPassword=pass{n}&btnLogon=x");
            let form_type = "application/x-www-form-urlencoded";
            let steps = [
                client.get(&logon),
                client.post(&logon).header(header::CONTENT_TYPE, form_type).body(form),
                client.get(format!("{url}/exlookconfig/default.aspx")).header(header::COOKIE, "auth=1"),
            ];
            for step in steps {
                let body = step.send().await.unwrap().bytes().await.unwrap();
                sent.fetch_add(1, Ordering::Relaxed);
                if parse && !body.is_empty() {
                    let permit = Arc::clone(&parsers).acquire_owned().await.unwrap();
                    let elements = tokio::task::spawn_blocking(move || {
                        let _permit = permit;
                        scraper::Html::parse_document(std::str::from_utf8(&body).unwrap()).tree.nodes().count()
                    });
                    assert!(elements.await.unwrap() > 10);
                }
            }
            drop(turn);
        });
        while all.try_join_next().is_some_and(|ended| ended.is_ok()) {}
    }
    all.join_all().await;
    sent.load(Ordering::Relaxed)
}

async fn counted(url: &str) -> u64 {
    reqwest::get(format!("{url}/count")).await.unwrap().text().await.unwrap().parse().unwrap()
}

fn write_private(path: &std::path::Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

// ---- the tool

fn start_tool(page: usize) -> (Child, String) {
    let mut tool = Command::new(std::env::current_exe().unwrap())
        .args(["--serve", "--page", &page.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut url = String::new();
    BufReader::new(tool.stdout.take().unwrap()).read_line(&mut url).unwrap();
    (tool, url.trim().to_owned())
}

struct Tool {
    logon: &'static str,
    page: String,
    count: AtomicU64,
}

fn serve(page: usize) {
    let tool = Arc::new(Tool { logon: LOGON, page: settings(page * 1024), count: AtomicU64::new(0) });
    tokio::runtime::Runtime::new().unwrap().block_on(async move {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("http://{}", listener.local_addr().unwrap());
        std::io::stdout().flush().unwrap();
        // Should the bench die, nobody is left behind for long.
        let served = axum::serve(listener, Router::new().fallback(answer).with_state(tool));
        let _ = tokio::time::timeout(Duration::from_secs(4 * 3600), served.into_future()).await;
    });
}

async fn answer(State(tool): State<Arc<Tool>>, request: Request) -> Response {
    if request.uri().path() == "/count" {
        return tool.count.load(Ordering::Relaxed).to_string().into_response();
    }
    tool.count.fetch_add(1, Ordering::Relaxed);
    if request.method() == Method::POST {
        let to = [(header::LOCATION, "/exlookconfig/default.aspx"), (header::SET_COOKIE, "auth=1; path=/; HttpOnly")];
        return (StatusCode::FOUND, to).into_response();
    }
    match request.uri().path().ends_with("logon.aspx") {
        true => Html(tool.logon).into_response(),
        false => Html(tool.page.clone()).into_response(),
    }
}

const LOGON: &str = r#"<!DOCTYPE html><html><head><title>ExLook管理ツール</title></head><body>
<form method="post" action="logon.aspx"><input type="hidden" name="__VIEWSTATE" value="AAAA" />
<table><tr><td>アカウント</td><td><input name="txtAccount" type="text" /></td></tr>
<tr><td>パスワード</td><td><input name="txtPassword" type="password" /></td></tr></table>
<input type="submit" name="btnLogon" value="ログオン" /></form></body></html>"#;

/// The settings of one site, the tab open; 45 % of it view state and the rest a table, as such pages are.
fn settings(bytes: usize) -> String {
    let state: String = "dDwtMTQ0NTk1NDkyO3Q8O2w8aTwxPjs+O2w8".chars().cycle().take(bytes * 45 / 100).collect();
    let mut page = format!(
        r#"<!DOCTYPE html><html><head><meta charset="utf-8"><title>ExLook管理ツール</title></head><body>
<form method="post" action="./default.aspx"><input type="hidden" name="__VIEWSTATE" value="{state}" />
<h2>ExLookサイト設定</h2>
<table><tr><th>ExLookサイト名</th><td><select name="ddlSite"><option selected="selected" value="1">本社</option></select></td></tr></table>
<fieldset><legend>Exchange設定</legend><table>
<tr><th>Exchange サーバーの種類</th><td><select name="ddlServer"><option value="0">Exchange サーバーに接続する</option>
<option value="1" selected="selected">Exchange Online に接続する</option></select></td></tr>
<tr><th>Exchange サーバーの認証方式</th><td><select name="ddlAuth">
<option value="0" selected="selected">基本認証 (Office 365の場合)</option>
<option value="1">OAuth認証 (Office 365の場合)</option></select></td></tr></table></fieldset>
<table>"#
    );
    let mut n = 0;
    while page.len() < bytes {
        n += 1;
        page.push_str(&format!(
            "<tr class=\"row\"><td>{n}</td><td nowrap>利用者&nbsp;{n}</td><td><a href=\"user.aspx?id={n}\">詳細</a></td>\
             <td>2022/08/{:02}</td></tr>\r\n",
            n % 28 + 1
        ));
    }
    page.push_str("</table><input type=\"submit\" name=\"btnSave\" value=\"設定内容を保存\" /></form></body></html>");
    page
}
