//! Whole sessions against a scripted admin tool on loopback: what is sent, what never is, and what every answer means.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

#[path = "common/tool_pages.rs"]
mod tool_pages;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use kigen::clock::SystemClock;
use kigen::config::ScanConfig;
use kigen::connector::exlook::Exlook;
use kigen::connector::{Account, Connector};
use kigen::domain::observation::{CustomerLook, Reason};
use kigen::domain::site::{AuthMethod, CustomerId, ServerType, SiteName};
use kigen::metrics::{Levels, Metrics};
use kigen::secret::Secret;
use url::Url;

use crate::tool_pages::{BASIC, EO, OAUTH, ON_PREMISES, exlook_config};

const LOGON: &str = "/app/logon.aspx";

/// One request as the tool saw it.
#[derive(Debug, Clone)]
struct Seen {
    method: String,
    path: String,
    headers: HeaderMap,
    form: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Seen {
    fn field(&self, name: &str) -> Option<&str> {
        self.form.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// Answers a request, given how many came before it, or leaves it to the usual tool.
type Script = Box<dyn Fn(&Seen, usize) -> Option<Response> + Send + Sync>;

struct Tool {
    seen: Mutex<Vec<Seen>>,
    /// Session cookie -> (tab open, site chosen).
    sessions: Mutex<HashMap<String, (bool, usize)>>,
    script: Script,
}

const SITES: [(&str, &str, &str); 3] =
    [("本社", EO, BASIC), ("大阪支社", EO, OAUTH), ("A&B 事業部", ON_PREMISES, BASIC)];

impl Tool {
    async fn start(script: impl Fn(&Seen, usize) -> Option<Response> + Send + Sync + 'static) -> (Arc<Self>, Url) {
        let tool = Arc::new(Self { seen: Mutex::default(), sessions: Mutex::default(), script: Box::new(script) });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}{LOGON}", listener.local_addr().unwrap()).parse().unwrap();
        let app = Router::new().fallback(answer).with_state(Arc::clone(&tool));
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        (tool, url)
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    fn logons(&self) -> usize {
        self.seen().iter().filter(|s| s.field("txtPassword").is_some()).count()
    }

    /// The usual tool: log-on, a tab that is not open, three sites, view state that must come back.
    fn usual(&self, seen: &Seen) -> Response {
        let cookie = seen.headers.get(header::COOKIE).and_then(|c| c.to_str().ok()).unwrap_or_default().to_owned();
        if seen.path.starts_with(LOGON) {
            return match (seen.field("txtAccount"), seen.field("txtPassword"), seen.field("btnLogon")) {
                (Some("管理者"), Some("p&w=1"), Some("ログオン")) => {
                    let mut sessions = self.sessions.lock().unwrap();
                    let cookie = format!("AUTH={}", sessions.len());
                    sessions.insert(cookie.clone(), (false, 0));
                    let headers = [
                        (header::LOCATION, "/app/default.aspx".to_owned()),
                        (header::SET_COOKIE, format!("{cookie}; path=/app; HttpOnly")),
                    ];
                    (StatusCode::FOUND, headers).into_response()
                }
                (Some(_), ..) => html(&logon("アカウントまたはパスワードが違います。")),
                _ => html(&logon("")),
            };
        }
        let mut sessions = self.sessions.lock().unwrap();
        let Some((open, site)) = sessions.get_mut(&cookie) else { return redirect("/app/logon.aspx?ReturnUrl=%2fapp") };
        if seen.method == "POST" {
            if seen.field("__VIEWSTATE") != Some(&format!("{open}{site}")) || seen.field("__VIEWSTATE1") != Some("+/=")
            {
                return (StatusCode::INTERNAL_SERVER_ERROR, "<title>Validation of viewstate MAC failed</title>")
                    .into_response();
            }
            match seen.field("__EVENTTARGET") {
                Some("menu$1") => *open = true,
                Some("ddl") => *site = seen.field("ddl").and_then(|v| v.parse().ok()).unwrap_or(0),
                Some("off") => return redirect(LOGON),
                other => panic!("an action that was never asked for: {other:?}"),
            }
        }
        html(&settings(*open, *site))
    }
}

async fn answer(State(tool): State<Arc<Tool>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let seen = Seen {
        method: parts.method.to_string(),
        path: parts.uri.to_string(),
        headers: parts.headers,
        form: url::form_urlencoded::parse(&body).into_owned().collect(),
        body: body.to_vec(),
    };
    let before = {
        let mut all = tool.seen.lock().unwrap();
        all.push(seen.clone());
        all.len() - 1
    };
    (tool.script)(&seen, before).unwrap_or_else(|| tool.usual(&seen))
}

fn html(body: &str) -> Response {
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], body.to_owned()).into_response()
}

fn redirect(to: &str) -> Response {
    (StatusCode::FOUND, [(header::LOCATION, to)]).into_response()
}

fn logon(message: &str) -> String {
    format!(
        "<html><body><form method=post action=logon.aspx><input type=hidden name=__VIEWSTATE value=l>\
         <p>5回間違えるとロックされます。</p><b>{message}</b><input name=txtAccount><input type=password name=txtPassword>\
         <input type=submit name=btnLogon value=ログオン><input type=submit name=btnHelp value=ヘルプ></form></body></html>"
    )
}

fn settings(open: bool, site: usize) -> String {
    let (_, server, method) = SITES[site];
    let list: String = SITES
        .iter()
        .enumerate()
        .map(|(at, (name, ..))| {
            let selected = if at == site { "selected" } else { "" };
            format!("<option value={at} {selected}>{}</option>", name.replace('&', "&amp;"))
        })
        .collect();
    let tab = if open {
        format!(
            "<table><tr><th>ExLookサイト名<td><select name=ddl onchange=\"setTimeout('__doPostBack(\\'ddl\\',\\'\\')',0)\">{list}</select></table>\
             <fieldset><legend>Exchange設定</legend><table><tr><th>Exchange サーバの種類<td><select name=server><option selected>{server}</select>\
             <tr><th>Exchange サーバーの認証方式<td><span>{method}</span></table></fieldset>\
             <input type=submit name=btnSave value=設定内容を保存>"
        )
    } else {
        "<p>ようこそ</p>".to_owned()
    };
    format!(
        "<html><body><form method=post action=default.aspx><input type=hidden name=__VIEWSTATE value={open}{site}>\
         <input type=hidden name=__VIEWSTATE1 value='+/='><a href=\"javascript:__doPostBack('menu$0','')\">ユーザー</a>\
         <a href=\"javascript:__doPostBack('menu$1','')\">ExLookサイト設定</a>{tab}\
         <a href=\"javascript:__doPostBack('off','')\">ログオフ</a></form></body></html>"
    )
}

fn scan() -> ScanConfig {
    ScanConfig {
        concurrency: 8,
        requests_per_second: 1000.0,
        timeout: Duration::from_secs(20),
        customer_timeout: Duration::from_secs(60),
        attempts: 3,
        max_page: 256 * 1024,
        allow_private_hosts: true,
        ca_file: None,
    }
}

fn account() -> Account {
    Account {
        customer: CustomerId::new("C0001").unwrap(),
        sites: Vec::new(),
        account: "管理者".to_owned(),
        password: Secret::new("p&w=1".to_owned()),
        logon_url: None,
    }
}

async fn look_with(url: &Url, scan: &ScanConfig, account: &Account) -> CustomerLook {
    Exlook::new(&exlook_config(url), scan, Arc::new(SystemClock)).unwrap().look(account).await
}

async fn look(url: &Url) -> CustomerLook {
    look_with(url, &scan(), &account()).await
}

fn reason(look: &CustomerLook) -> Reason {
    look.sites.as_ref().expect_err("no site could be listed").reason
}

/// Site -> "server/method", or the reason.
fn sites(look: &CustomerLook) -> Vec<(String, String)> {
    let of = |read: &Result<kigen::domain::observation::Settings, kigen::domain::observation::Failure>| match read {
        Ok(s) => format!(
            "{}/{}",
            s.server_type.map_or("?", ServerType::as_str),
            s.auth_method.map_or("?", AuthMethod::as_str)
        ),
        Err(f) => f.reason.as_str().to_owned(),
    };
    let sites = look.sites.as_ref().unwrap_or_else(|f| panic!("{}: {}", f.reason.as_str(), f.detail));
    sites.iter().map(|s| (s.site.as_str().to_owned(), of(&s.read))).collect()
}

fn all_read() -> Vec<(String, String)> {
    [("本社", "exchange_online/basic"), ("大阪支社", "exchange_online/oauth"), ("A&B 事業部", "on_premises/basic")]
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .to_vec()
}

#[tokio::test]
async fn every_site_is_read_and_nothing_is_ever_saved() {
    let (tool, url) = Tool::start(|_, _| None).await;
    assert_eq!(sites(&look(&url).await), all_read());
    let seen = tool.seen();
    for request in &seen {
        assert_eq!(request.field("btnSave"), None, "the save button was sent");
        assert_eq!(request.field("btnHelp"), None, "another button was sent");
        assert_eq!(request.headers[header::USER_AGENT], format!("kigen/{}", env!("CARGO_PKG_VERSION")));
        let encodings = request.headers[header::ACCEPT_ENCODING].to_str().unwrap();
        assert!(encodings.contains("gzip") && encodings.contains("br"));
    }
    let actions: Vec<&str> = seen.iter().filter_map(|s| s.field("__EVENTTARGET")).filter(|t| !t.is_empty()).collect();
    assert_eq!(actions, ["menu$1", "ddl", "ddl", "off"], "the first site is shown already; logged off at the end");
    let choosing = seen.iter().find(|s| s.field("__EVENTTARGET") == Some("ddl")).unwrap();
    let names: Vec<&str> = choosing.form.iter().map(|(n, _)| n.as_str()).collect();
    assert_eq!(names, ["__EVENTTARGET", "__EVENTARGUMENT", "__VIEWSTATE", "__VIEWSTATE1", "ddl", "server"]);
}

#[tokio::test]
async fn pages_are_counted_by_how_they_were_read() {
    // The usual tool leaves cells open, so its pages are for the full parser; this log-on page is not.
    let regular = "<html><head></head><body><form method=\"post\" action=\"logon.aspx\"><input name=\"txtAccount\"><input \
                   type=\"password\" name=\"txtPassword\"><input type=\"submit\" name=\"btnLogon\" value=\"ログオン\"></form>\
                   </body></html>";
    let (_tool, url) = Tool::start(|seen, _| (seen.method == "GET" && seen.path == LOGON).then(|| html(regular))).await;
    let metrics = Arc::new(Metrics::new());
    let exlook = Exlook::new(&exlook_config(&url), &scan(), Arc::new(SystemClock)).unwrap();
    let exlook = exlook.counted(Arc::clone(&metrics));
    assert_eq!(sites(&exlook.look(&account()).await), all_read());
    let text = metrics.encode(&Levels::default()).unwrap();
    for line in ["kigen_pages_total{parser=\"fast\"} 1\n", "kigen_pages_total{parser=\"full\"} 4\n"] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn only_the_sites_asked_for_are_read_and_missing_ones_are_told() {
    let (_tool, url) = Tool::start(|_, _| None).await;
    let name = |n: &str| SiteName::new(n).unwrap();
    let account = Account { sites: vec![name("Ａ＆Ｂ事業部"), name("札幌")], ..account() };
    let look = look_with(&url, &scan(), &account).await;
    let expected = [("Ａ＆Ｂ事業部", "on_premises/basic"), ("札幌", "site_missing")];
    assert_eq!(sites(&look), expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
}

#[tokio::test]
async fn a_refusal_is_told_by_its_kind_and_never_tried_again() {
    let change =
        "<form method=post><input type=password name=o><input type=password name=n><button>変更</button></form>";
    type Row = (&'static str, Reason, fn() -> Response);
    let rows: [Row; 9] = [
        ("wrong password", Reason::LogonRefused, || html(&logon("アカウントまたはパスワードが違います。"))),
        ("no message", Reason::LogonRefused, || html(&logon(""))),
        ("locked", Reason::AccountLocked, || html(&logon("アカウントがロックされています。"))),
        ("expired", Reason::PasswordChangeRequired, || html(&logon("パスワードの有効期限が切れています。"))),
        ("maintenance", Reason::Maintenance, || html("<h1>メンテナンス中です</h1>")),
        ("maintenance in the tool's frame", Reason::Maintenance, || {
            let again = "<a href=\"javascript:__doPostBack('again','')\">再読み込み</a>";
            html(&format!(
                "<form method=post><h2>メンテナンスのお知らせ</h2><p>保守作業を行っています</p>{again}</form>"
            ))
        }),
        ("maintenance to come, and tabs", Reason::LayoutChanged, || {
            let tab = "<a href=\"javascript:__doPostBack('tab1','')\">お客様情報</a>";
            html(&format!("<form method=post><p>次の土曜日に定期メンテナンスを実施します。</p>{tab}</form>"))
        }),
        ("a redirect back to log-on", Reason::LogonRefused, || redirect("/app/logon.aspx?error=1")),
        ("error page", Reason::HttpStatus, || {
            (StatusCode::INTERNAL_SERVER_ERROR, "<h1>Server Error in '/' Application.</h1>").into_response()
        }),
    ];
    for (what, expected, response) in rows {
        let (tool, url) = Tool::start(move |seen, _| seen.field("txtPassword").map(|_| response())).await;
        let look = look(&url).await;
        assert_eq!(reason(&look), expected, "{what}: {:?}", look.sites);
        assert_eq!(tool.logons(), 1, "{what}");
    }
    let (_tool, url) = Tool::start(move |seen, _| (seen.path == "/app/default.aspx").then(|| html(change))).await;
    assert_eq!(reason(&look(&url).await), Reason::PasswordChangeRequired);
}

#[tokio::test]
async fn a_session_that_ends_is_begun_again_once() {
    // The answer to the first choice is the log-on page, by redirect or at once.
    for at_once in [false, true] {
        let lost = Mutex::new(1);
        let (tool, url) = Tool::start(move |seen, _| {
            let mut left = lost.lock().unwrap();
            (seen.field("__EVENTTARGET") == Some("ddl") && *left > 0).then(|| {
                *left -= 1;
                if at_once { html(&logon("")) } else { redirect("/app/logon.aspx?ReturnUrl=%2fapp%2fdefault.aspx") }
            })
        })
        .await;
        assert_eq!(sites(&look(&url).await), all_read());
        assert_eq!(tool.logons(), 2);
    }
    let (tool, url) = Tool::start(|seen, _| {
        (seen.field("__EVENTTARGET") == Some("ddl")).then(|| redirect("/app/logon.aspx?ReturnUrl=x"))
    })
    .await;
    let read = sites(&look(&url).await);
    assert_eq!(read[0].1, "exchange_online/basic", "what was read stays");
    assert_eq!((read[1].1.as_str(), read[2].1.as_str()), ("session_lost", "session_lost"));
    assert_eq!(tool.logons(), 2, "and given up then");
}

#[tokio::test]
async fn the_site_that_is_shown_must_be_the_one_asked_for() {
    let (_tool, url) = Tool::start(|seen, _| {
        (seen.field("__EVENTTARGET") == Some("ddl") && seen.field("ddl") == Some("1")).then(|| html(&settings(true, 2)))
    })
    .await;
    let read = sites(&look(&url).await);
    assert_eq!(read[1], ("大阪支社".to_owned(), "layout_changed".to_owned()), "{read:?}");
    assert_eq!(read[0].1, "exchange_online/basic");
}

#[tokio::test]
async fn redirects_are_followed_within_the_origin_only() {
    let (other, other_url) = Tool::start(|_, _| None).await;
    let elsewhere = other_url.to_string();
    let (_tool, url) =
        Tool::start(move |seen, _| seen.field("txtPassword").map(|_| redirect(&format!("{elsewhere}?secret=1")))).await;
    let look_at = look(&url).await;
    assert_eq!(reason(&look_at), Reason::HttpStatus);
    let detail = &look_at.sites.as_ref().unwrap_err().detail;
    assert!(detail.contains("127.0.0.1") && !detail.contains("secret"), "{detail}");
    assert!(other.seen().is_empty(), "nothing went elsewhere");
    let (_tool, url) = Tool::start(|_, _| Some(redirect("/app/round.aspx"))).await;
    assert_eq!(reason(&look(&url).await), Reason::HttpStatus, "a loop ends");
    let elsewhere = other_url.to_string();
    let form = logon("").replace("action=logon.aspx", &format!("action='{elsewhere}'"));
    let (_tool, url) = Tool::start(move |_, _| Some(html(&form))).await;
    assert_eq!(reason(&look(&url).await), Reason::LayoutChanged, "a form that posts elsewhere is not filled in");
    assert!(other.seen().is_empty());
}

#[tokio::test]
async fn pages_are_capped_in_size_and_in_time() {
    let endless = |pause: Duration, chunk: &'static [u8]| {
        let stream = futures_util::stream::unfold((), move |()| async move {
            tokio::time::sleep(pause).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(chunk)), ()))
        });
        Response::new(Body::from_stream(stream))
    };
    static CHUNK: [u8; 64 * 1024] = [b'a'; 64 * 1024];
    let (tool, url) = Tool::start(move |_, _| Some(endless(Duration::ZERO, &CHUNK))).await;
    assert_eq!(reason(&look(&url).await), Reason::TooLarge);
    assert_eq!(tool.seen().len(), 1, "a page does not get smaller by asking again");
    let (_tool, url) = Tool::start(move |_, _| Some(endless(Duration::from_millis(50), b"a"))).await;
    let scan = ScanConfig { timeout: Duration::from_millis(400), attempts: 2, ..scan() };
    assert_eq!(reason(&look_with(&url, &scan, &account()).await), Reason::Timeout);
}

#[tokio::test]
async fn a_customer_has_a_limit_and_what_was_read_stays() {
    let (_tool, url) = Tool::start(|seen, _| {
        (seen.field("ddl") == Some("1"))
            .then(|| Response::new(Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>())))
    })
    .await;
    let scan = ScanConfig { customer_timeout: Duration::from_secs(5), ..scan() };
    let read = sites(&look_with(&url, &scan, &account()).await);
    assert_eq!(
        read.iter().map(|(_, r)| r.as_str()).collect::<Vec<_>>(),
        ["exchange_online/basic", "timeout", "timeout"]
    );
}

#[tokio::test]
async fn a_busy_host_is_given_the_time_it_asks_for() {
    let busy = |status: StatusCode| (status, [(header::RETRY_AFTER, "1")], "later").into_response();
    for status in [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE] {
        let (tool, url) = Tool::start(move |_, before| (before == 0).then(|| busy(status))).await;
        let started = Instant::now();
        assert_eq!(sites(&look(&url).await), all_read());
        assert!(started.elapsed() >= Duration::from_secs(1), "waited as told");
        assert_eq!(tool.logons(), 1);
    }
    let (tool, url) = Tool::start(|_, _| {
        Some((StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "3600")], "later").into_response())
    })
    .await;
    let exlook = Exlook::new(&exlook_config(&url), &scan(), Arc::new(SystemClock)).unwrap();
    for _ in 0..3 {
        assert_eq!(reason(&exlook.look(&account()).await), Reason::HttpStatus, "longer than the customer has");
    }
    assert_eq!(tool.seen().len(), 1, "and nobody asks meanwhile");
}

#[tokio::test]
async fn server_errors_have_their_classes() {
    let page = "<html><meta charset=utf-8><body>ただいまメンテナンス中です</body></html>";
    let (tool, url) = Tool::start(move |_, _| Some((StatusCode::SERVICE_UNAVAILABLE, page).into_response())).await;
    assert_eq!(reason(&look(&url).await), Reason::Maintenance);
    assert_eq!(tool.seen().len(), 1, "maintenance does not end by asking again");
    let sjis = encoding_rs::SHIFT_JIS.encode("<title>システムメンテナンスのお知らせ</title>").0.into_owned();
    let (_tool, url) =
        Tool::start(move |_, _| Some((StatusCode::SERVICE_UNAVAILABLE, sjis.clone()).into_response())).await;
    assert_eq!(reason(&look(&url).await), Reason::Maintenance);
    let (_tool, url) = Tool::start(move |_, _| Some(html(page))).await;
    assert_eq!(reason(&look(&url).await), Reason::Maintenance, "200 that says so");
    let (tool, url) = Tool::start(|_, _| Some(StatusCode::NOT_FOUND.into_response())).await;
    assert_eq!(reason(&look(&url).await), Reason::HttpStatus);
    assert_eq!(tool.seen().len(), 1);
    let (tool, url) = Tool::start(|seen, _| {
        (seen.field("ddl") == Some("1")).then(|| {
            (StatusCode::INTERNAL_SERVER_ERROR, "<h1>Server Error in '/app' Application.</h1>").into_response()
        })
    })
    .await;
    let read = sites(&look(&url).await);
    assert_eq!(read[1].1, "http_status");
    assert_eq!(read[2].1, "on_premises/basic", "one site's error is not the next one's");
    assert!(tool.seen().len() < 12);
    let (_tool, url) = Tool::start(|_, _| Some(html("<p>something else</p>"))).await;
    assert_eq!(reason(&look(&url).await), Reason::LayoutChanged);
}

#[tokio::test]
async fn what_cannot_be_reached_has_its_classes() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Url = format!("http://{}{LOGON}", listener.local_addr().unwrap()).parse().unwrap();
    drop(listener);
    assert_eq!(reason(&look(&url).await), Reason::Connect, "nobody listens");
    // A label of more than 63 octets: no resolver can even ask for it, so no question leaves this machine.
    let unaskable = format!("http://{}.invalid/logon.aspx", "a".repeat(64));
    assert_eq!(reason(&look(&unaskable.parse().unwrap()).await), Reason::Dns);
    let (tool, url) = Tool::start(|_, _| None).await;
    let strict = ScanConfig { allow_private_hosts: false, ..scan() };
    let by_name: Url = url.as_str().replace("127.0.0.1", "localhost").parse().unwrap();
    for url in [url, by_name] {
        let look = look_with(&url, &strict, &account()).await;
        assert!(matches!(reason(&look), Reason::Connect | Reason::Dns), "{url}");
        assert!(look.sites.unwrap_err().detail.contains("scan.allow_private_hosts"));
    }
    assert!(tool.seen().is_empty(), "a refused address is not even connected to");
}

#[tokio::test]
async fn a_certificate_must_be_trusted_and_for_this_host() {
    let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let der = rustls_pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], der)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                use tokio::io::{AsyncReadExt, AsyncWriteExt};
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi").await;
                let _ = stream.shutdown().await;
            });
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, key.cert.pem()).unwrap();
    let trusting = ScanConfig { ca_file: Some(ca), ..scan() };
    let right: Url = format!("https://localhost:{port}{LOGON}").parse().unwrap();
    let wrong: Url = format!("https://127.0.0.1:{port}{LOGON}").parse().unwrap();
    assert_eq!(reason(&look(&right).await), Reason::Tls, "not trusted");
    assert_eq!(
        reason(&look_with(&right, &trusting, &account()).await),
        Reason::LayoutChanged,
        "trusted: the page is read"
    );
    assert_eq!(reason(&look_with(&wrong, &trusting, &account()).await), Reason::Tls, "for another name");
    let (_tool, plain) = Tool::start(|_, _| None).await;
    let not_tls: Url = plain.as_str().replace("http:", "https:").parse().unwrap();
    assert_eq!(reason(&look(&not_tls).await), Reason::Tls, "no TLS there at all");
}

#[tokio::test]
async fn forms_go_back_in_the_pages_charset() {
    let page = encoding_rs::SHIFT_JIS.encode(&logon("")).0.into_owned();
    let (tool, url) = Tool::start(move |seen, _| {
        (seen.method == "GET")
            .then(|| ([(header::CONTENT_TYPE, "text/html; charset=Shift_JIS")], page.clone()).into_response())
    })
    .await;
    look(&url).await;
    let post = tool.seen().into_iter().find(|s| s.method == "POST").unwrap();
    let body = String::from_utf8(post.body).unwrap();
    assert!(body.contains("txtAccount=%8A%C7%97%9D%8E%D2") && body.contains("txtPassword=p%26w%3D1"), "{body}");
    let before = tool.seen().len();
    let look = look_with(&url, &scan(), &Account { account: "管理者😀".to_owned(), ..account() }).await;
    assert_eq!(reason(&look), Reason::InventoryError, "a character the page cannot carry");
    assert_eq!(tool.seen().len(), before + 1, "and it was not sent");
}

#[tokio::test]
async fn limits_are_kept_over_all_customers() {
    let (tool, url) = Tool::start(|_, _| Some(html("<p>x</p>"))).await;
    let scan = ScanConfig { requests_per_second: 20.0, ..scan() };
    let exlook = Arc::new(Exlook::new(&exlook_config(&url), &scan, Arc::new(SystemClock)).unwrap());
    let started = Instant::now();
    let looks = (0..11).map(|n| {
        let exlook = Arc::clone(&exlook);
        let account = Account { customer: CustomerId::new(&format!("C{n}")).unwrap(), ..account() };
        tokio::spawn(async move { exlook.look(&account).await })
    });
    futures_util::future::join_all(looks).await;
    assert_eq!(tool.seen().len(), 11);
    assert!(started.elapsed() >= Duration::from_millis(490), "11 requests at 20 a second take half a second");
}

#[tokio::test]
async fn details_hold_no_secret_and_no_page() {
    let (_tool, url) = Tool::start(|seen, _| seen.field("txtPassword").map(|_| html("<p>極秘の内容</p>"))).await;
    let look = look(&url).await;
    let shown = format!("{look:?}");
    assert!(!shown.contains("p&w=1") && !shown.contains("極秘") && !shown.contains("管理者"), "{shown}");
}

#[tokio::test]
async fn compressed_pages_are_read_and_capped_by_what_they_hold() {
    let zipped =
        |bytes: &'static [u8]| ([(header::CONTENT_ENCODING, "gzip")], Bytes::from_static(bytes)).into_response();
    let (_tool, url) = Tool::start(move |_, _| Some(zipped(include_bytes!("fixtures/exlook/small.gz")))).await;
    assert_eq!(reason(&look(&url).await), Reason::Maintenance);
    let (_tool, url) = Tool::start(move |_, _| Some(zipped(include_bytes!("fixtures/exlook/bomb.gz")))).await;
    assert_eq!(reason(&look(&url).await), Reason::TooLarge, "21 MiB in 21 KB");
}

#[tokio::test]
async fn customers_share_connections_and_never_sessions() {
    let (tool, url) = Tool::start(|_, _| None).await;
    let exlook = Arc::new(Exlook::new(&exlook_config(&url), &scan(), Arc::new(SystemClock)).unwrap());
    let looks = (0..6).map(|n| {
        let exlook = Arc::clone(&exlook);
        let account = Account { customer: CustomerId::new(&format!("C{n}")).unwrap(), ..account() };
        tokio::spawn(async move { exlook.look(&account).await })
    });
    for look in futures_util::future::join_all(looks).await {
        assert_eq!(sites(&look.unwrap()), all_read());
    }
    assert_eq!(tool.logons(), 6);
}

/// A tool of another make: the tab is a link to a page of its own, the sites are radio buttons or links, everything is in
/// Shift_JIS and nobody says so.
#[tokio::test]
async fn other_layouts_lead_to_the_same_answers() {
    for links in [false, true] {
        let shift_jis = |text: &str| encoding_rs::SHIFT_JIS.encode(text).0.into_owned().into_response();
        let (tool, url) = Tool::start(move |seen, _| {
            if seen.path.starts_with(LOGON) {
                return Some(match seen.field("pw") {
                    Some(_) => redirect("menu.aspx"),
                    None => shift_jis(
                        "<form method=post>アカウント <input type=text name=id> パスワード <input type=password name=pw>\
                         <a href=\"javascript:__doPostBack('lb$go','')\">ログオン</a> <input type=submit name=s value=保存></form>",
                    ),
                });
            }
            if seen.path == "/app/menu.aspx" {
                return Some(shift_jis("<ul><li><a href='sites.aspx'>ＥｘＬｏｏｋ サイト設定</a><li><a href=x.aspx>ほか</a></ul><a href='off.aspx'>ログアウト</a>"));
            }
            if seen.path == "/app/off.aspx" {
                return Some(redirect("logon.aspx"));
            }
            assert_eq!(seen.path, "/app/sites.aspx");
            let at = match seen.field("__EVENTTARGET").and_then(|t| t.strip_prefix("rbl$")) {
                Some(at) if !links => {
                    assert_eq!(seen.field("rbl"), Some(at), "the radio button chosen is the one sent");
                    at.parse().unwrap()
                }
                Some(at) => at.parse().unwrap(),
                None => 0,
            };
            let (_, server, method) = SITES[at];
            let list: String = SITES
                .iter()
                .enumerate()
                .map(|(n, (name, ..))| {
                    let checked = if n == at { "checked" } else { "" };
                    match links {
                        true if n == at => format!("<li>{name}</li>"),
                        true => format!("<li><a href=\"javascript:__doPostBack('rbl${n}','')\">{name}</a></li>"),
                        false => format!("<input type=radio name=rbl id=r{n} value={n} {checked} onclick=\"javascript:setTimeout('__doPostBack(\\'rbl${n}\\',\\'\\')', 0)\"><label for=r{n}>{name}</label><br>"),
                    }
                })
                .collect();
            Some(shift_jis(&format!(
                "<form method=post action=sites.aspx><input type=hidden name=__VIEWSTATE value=x><dl><dt>ExLookサイト名：<dd><ul>{list}</ul></dl>\
                 <h3>Exchange設定</h3><dl><dt>Exchange サーバの種類<dd>{server}<dt>Exchange サーバーの認証方式<dd><input readonly value='{method}'></dl>\
                 <input type=submit name=btnSave value=設定内容を保存><a href='off.aspx'>ログアウト</a></form>"
            )))
        })
        .await;
        assert_eq!(sites(&look(&url).await), all_read(), "links: {links}");
        let seen = tool.seen();
        assert!(seen.iter().all(|s| s.field("btnSave").is_none() && s.field("s").is_none()));
        assert_eq!(seen.last().unwrap().path, "/app/off.aspx", "logged off by the link");
        let logon = seen.iter().find(|s| s.field("pw").is_some()).unwrap();
        assert_eq!(logon.field("__EVENTTARGET"), Some("lb$go"));
    }
}

#[tokio::test]
async fn one_site_may_be_shown_without_a_list() {
    let page = format!(
        "<form method=post><input type=hidden name=__VIEWSTATE value=x><b>ExLookサイト設定</b>\
         <table><tr><td>ExLookサイト名</td><td><span>本社</span></td></tr><tr><td>Exchange サーバーの種類</td><td>{EO}</td></tr>\
         <tr><td>Exchange サーバーの認証方式</td><td>{OAUTH}</td></tr></table></form>"
    );
    let (tool, url) = Tool::start(move |seen, _| (!seen.path.starts_with(LOGON)).then(|| html(&page))).await;
    assert_eq!(sites(&look(&url).await), [("本社".to_owned(), "exchange_online/oauth".to_owned())]);
    assert_eq!(tool.seen().len(), 3, "log-on page, log-on, the open tab");
}

#[tokio::test]
async fn a_tab_that_only_submits_is_not_pressed() {
    let page = "<form method=post><input type=submit name=tab value=ExLookサイト設定></form>";
    let (tool, url) = Tool::start(move |seen, _| (!seen.path.starts_with(LOGON)).then(|| html(page))).await;
    let look = look(&url).await;
    assert_eq!(reason(&look), Reason::LayoutChanged);
    assert!(look.sites.unwrap_err().detail.contains("never pressed"));
    assert!(tool.seen().iter().all(|s| s.field("tab").is_none()));
}
