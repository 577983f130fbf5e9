//! What every connector promises, run for each: the same settings and the same troubles give the same verdicts. Then what
//! only the connectors `api` and `export` have: pages, a secret, a file's date.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, TimeDelta, Utc};
use common::{Lab, Settings, write_private};
use kigen::clock::{Clock, SystemClock};
use kigen::config;
use kigen::connector::{Account, Connector};
use kigen::daemon::reload;
use kigen::demo::admin_tool::{AdminTool, Fault, SharedWorld, World, WorldCustomer, WorldSite};
use kigen::domain::observation::{Consent, CustomerLook, Reason, Verdict, observations};
use kigen::domain::site::{AuthMethod, CustomerId, ServerType, SiteName};
use kigen::secret::Secret;
use serde_json::{Value, json};

/// What is wrong with the source, for its one customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Nothing,
    UnknownServerType,
    UnknownAuthMethod,
    ImpossiblePair,
    NoAuthMethod,
    AskedForAMissingSite,
    TooLarge,
    Silent,
    ServerError,
    BrokenOff,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Exlook,
    Api,
    Csv,
    Json,
}

const KINDS: [Kind; 4] = [Kind::Exlook, Kind::Api, Kind::Csv, Kind::Json];

fn site(name: &str, server: ServerType, method: AuthMethod) -> WorldSite {
    WorldSite::new(name, server, method)
}

fn three() -> Vec<WorldSite> {
    vec![
        site("本社", ServerType::ExchangeOnline, AuthMethod::Basic),
        site("大阪支店", ServerType::ExchangeOnline, AuthMethod::OAuth),
        site("第２工場", ServerType::OnPremises, AuthMethod::OnPremisesBasic),
    ]
}

/// The two texts of a site.
fn texts(site: &WorldSite, trouble: Trouble) -> (&'static str, Option<&'static str>) {
    let server = match site.server_type {
        _ if trouble == Trouble::UnknownServerType => "クラウドに接続する",
        ServerType::ExchangeOnline => "Exchange Online に接続する",
        ServerType::OnPremises => "Exchange サーバーに接続する",
    };
    let method = match site.auth_method {
        _ if trouble == Trouble::UnknownAuthMethod => "証明書認証",
        _ if trouble == Trouble::ImpossiblePair => "基本認証 (オンプレミスの場合)",
        AuthMethod::Basic => "基本認証 (Office 365の場合)",
        AuthMethod::OAuth => "OAuth認証 (Office 365の場合)",
        AuthMethod::OnPremisesBasic => "基本認証 (オンプレミスの場合)",
    };
    (server, (trouble != Trouble::NoAuthMethod).then_some(method))
}

fn connector_of(dir: &Path, connector: &str, scan: &str) -> Arc<dyn Connector> {
    let text = format!(
        "[fleet]\ncustomers = \"customers.csv\"\n{connector}\n[scan]\ntimeout = \"1s\"\ncustomer_timeout = \"4s\"\n\
         attempts = 1\nmax_page = \"64KiB\"\n{scan}\n[mail]\nfrom = \"a@b.example\"\ntransport = \"maildir\"\n\
         support = {{ name = \"x\", phone = \"1\" }}\n[mail.maildir]\npath = \"out\"\n"
    );
    write_private(&dir.join("config.toml"), text.as_bytes());
    let config = config::load(&dir.join("config.toml")).unwrap_or_else(|e| panic!("{}", e.render(false)));
    reload::connector(&config, Arc::new(SystemClock), Arc::default()).unwrap()
}

const PRIVATE: &str = "allow_private_hosts = true";

fn account(asked: &[&str]) -> Account {
    Account {
        customer: CustomerId::new("C 1/2").unwrap(),
        sites: asked.iter().map(|name| SiteName::new(name).unwrap()).collect(),
        account: "admin-c 1/2".to_owned(),
        password: Secret::new("pass+C 1/2&%=1".to_owned()),
        logon_url: None,
    }
}

/// One look at a customer with these sites; `None`: that trouble cannot come to this source.
async fn look(kind: Kind, sites: &[WorldSite], trouble: Trouble) -> Option<CustomerLook> {
    let asked: &[&str] =
        if trouble == Trouble::AskedForAMissingSite { &["大阪支店", "閉鎖した支店"] } else { &[] };
    match kind {
        Kind::Exlook => exlook(sites, trouble, asked).await,
        Kind::Api => api(sites, trouble, asked).await,
        Kind::Csv | Kind::Json => export(kind, sites, trouble, asked).await,
    }
}

async fn exlook(sites: &[WorldSite], trouble: Trouble, asked: &[&str]) -> Option<CustomerLook> {
    let mut customer = WorldCustomer::new("C 1/2", sites.to_vec());
    customer.fault = match trouble {
        Trouble::Nothing | Trouble::AskedForAMissingSite => None,
        Trouble::UnknownServerType => Some(Fault::UnknownServerType),
        Trouble::UnknownAuthMethod => Some(Fault::UnknownAuthMethod),
        Trouble::ImpossiblePair => Some(Fault::ImpossiblePair),
        Trouble::NoAuthMethod => Some(Fault::LabelMissing),
        Trouble::TooLarge => Some(Fault::EndlessPage),
        Trouble::Silent => Some(Fault::Hang),
        Trouble::ServerError => Some(Fault::ServerError),
        Trouble::BrokenOff => Some(Fault::ClosedMidBody),
    };
    let dir = tempfile::tempdir().unwrap();
    let tool = AdminTool::start(SharedWorld::new(World::new(vec![customer], 7))).await.unwrap();
    let section = format!("[connector]\nkind = \"exlook\"\n[connector.exlook]\nlogon_url = \"{}\"", tool.logon_url);
    Some(connector_of(dir.path(), &section, PRIVATE).look(&account(asked)).await)
}

fn rows(sites: &[WorldSite], trouble: Trouble) -> Vec<Value> {
    let row = |site: &WorldSite| {
        let (server, method) = texts(site, trouble);
        let mut row = json!({"customer_id": "C 1/2", "site": site.name, "server_type": server});
        if let Some(method) = method {
            row["auth_method"] = method.into();
        }
        row
    };
    sites.iter().map(row).collect()
}

async fn api(sites: &[WorldSite], trouble: Trouble, asked: &[&str]) -> Option<CustomerLook> {
    let body = match trouble {
        Trouble::TooLarge => format!("{{\"sites\": [{}", " ".repeat(100_000)),
        _ => json!({"sites": rows(sites, trouble)}).to_string(),
    };
    let server = Server::start(move |_| match trouble {
        Trouble::Silent => Reply::Never,
        Trouble::ServerError => Reply::Status(500),
        Trouble::BrokenOff => Reply::Cut(body.clone()),
        _ => Reply::Json(body.clone()),
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let section = format!(
        "[connector]\nkind = \"api\"\n[connector.api]\nurl = \"{}/customers/{{customer}}/sites\"\nname = \"/site\"",
        server.url
    );
    let look = connector_of(dir.path(), &section, PRIVATE).look(&account(asked)).await;
    assert_eq!(server.asked()[0].0, "/customers/C%201%2F2/sites", "whose sites, as one part of the path");
    Some(look)
}

async fn export(kind: Kind, sites: &[WorldSite], trouble: Trouble, asked: &[&str]) -> Option<CustomerLook> {
    if matches!(trouble, Trouble::Silent | Trouble::ServerError) {
        return None; // nobody is asked
    }
    let dir = tempfile::tempdir().unwrap();
    let (name, mut text) = match kind {
        Kind::Json => ("sites.json", Value::from(rows(sites, trouble)).to_string()),
        _ => ("sites.csv", csv(sites, trouble)),
    };
    match trouble {
        Trouble::TooLarge => text.push_str(&" ".repeat(100_000)),
        Trouble::BrokenOff => text.truncate(text.rfind("本社").unwrap()),
        _ => {}
    }
    std::fs::write(dir.path().join(name), text).unwrap();
    let section =
        format!("[connector]\nkind = \"export\"\n[connector.export]\npath = \"{name}\"\nmax_size = \"64KiB\"");
    Some(connector_of(dir.path(), &section, "").look(&account(asked)).await)
}

fn csv(sites: &[WorldSite], trouble: Trouble) -> String {
    let mut text = "site,auth_method,note,customer_id,server_type\n".to_owned();
    for site in sites {
        let (server, method) = texts(site, trouble);
        text.push_str(&format!("{},{},\"a, b\",C 1/2,{server}\n", site.name, method.unwrap_or_default()));
    }
    text
}

fn verdicts(look: &CustomerLook) -> Vec<(Option<String>, Verdict)> {
    let seen = observations(&CustomerId::new("C 1/2").unwrap(), look, Consent::NotChecked);
    seen.into_iter().map(|o| (o.site.map(|s| s.to_string()), o.verdict)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_settings_and_troubles_give_the_same_verdicts() {
    let of = |name: &str, verdict| (Some(name.to_owned()), verdict);
    let of_all = |reason: Reason| three().iter().map(|s| of(&s.name, Verdict::Unreadable(reason))).collect::<Vec<_>>();
    let whole = |reason| vec![(None, Verdict::Unreadable(reason))];
    let good = vec![
        of("本社", Verdict::Affected),
        of("大阪支店", Verdict::Switched),
        of("第２工場", Verdict::NotExchangeOnline),
    ];
    let unknown = |server: ServerType| match server {
        ServerType::ExchangeOnline => Verdict::Unreadable(Reason::UnknownValue),
        ServerType::OnPremises => Verdict::NotExchangeOnline,
    };
    let impossible = three().iter().map(|s| of(&s.name, unknown(s.server_type))).collect::<Vec<_>>();
    let missing = vec![of("大阪支店", Verdict::Switched), of("閉鎖した支店", Verdict::Unreadable(Reason::SiteMissing))];
    let rows = [
        ("what each pair of settings means", Trouble::Nothing, good),
        ("a server type nobody knows", Trouble::UnknownServerType, of_all(Reason::UnknownValue)),
        ("a method nobody knows", Trouble::UnknownAuthMethod, of_all(Reason::UnknownValue)),
        ("a setting that is not there", Trouble::NoAuthMethod, of_all(Reason::LayoutChanged)),
        ("a site that is asked for and not there", Trouble::AskedForAMissingSite, missing),
        ("more than may be read", Trouble::TooLarge, whole(Reason::TooLarge)),
        ("no answer", Trouble::Silent, whole(Reason::Timeout)),
        ("a status that is no answer", Trouble::ServerError, whole(Reason::HttpStatus)),
    ];
    for (sentence, trouble, expected) in rows {
        for kind in KINDS {
            let Some(look) = look(kind, &three(), trouble).await else { continue };
            assert_eq!(verdicts(&look), expected, "{sentence}: {kind:?}: {look:?}");
        }
    }
    // What the simulated tool shows for this one differs by site, so only the verdicts that must hold are compared.
    for kind in [Kind::Api, Kind::Csv, Kind::Json] {
        let look = look(kind, &three(), Trouble::ImpossiblePair).await.unwrap();
        assert_eq!(verdicts(&look), impossible, "Exchange Online with the on-premises method: {kind:?}");
    }
    for kind in KINDS {
        let look = look(kind, &three(), Trouble::BrokenOff).await.unwrap();
        let seen = verdicts(&look);
        assert!(seen.iter().all(|(_, v)| matches!(v, Verdict::Unreadable(_))), "cut off: {kind:?}: {seen:?}");
    }
}

// ---- a server that answers as told

enum Reply {
    Json(String),
    Status(u16),
    Redirect(&'static str),
    Cut(String),
    Never,
}

type Asked = Arc<Mutex<Vec<(String, Option<String>)>>>;

type Replies = Box<dyn Fn() -> Reply + Send + Sync>;

struct Server {
    url: String,
    asked: Asked,
}

#[derive(Clone)]
struct App {
    reply: Arc<dyn Fn(&str) -> Reply + Send + Sync>,
    asked: Asked,
}

impl Server {
    /// `reply` is given the path with its query.
    async fn start(reply: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = App { reply: Arc::new(reply), asked: Asked::default() };
        let asked = Arc::clone(&app.asked);
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer).with_state(app)).await });
        Self { url, asked }
    }

    /// Path with query, and the header `Authorization`.
    fn asked(&self) -> Vec<(String, Option<String>)> {
        self.asked.lock().unwrap().clone()
    }
}

async fn answer(State(app): State<App>, request: Request) -> Response {
    let path = request.uri().path_and_query().unwrap().to_string();
    let secret = request.headers().get(header::AUTHORIZATION).map(|v| v.to_str().unwrap().to_owned());
    app.asked.lock().unwrap().push((path.clone(), secret));
    match (app.reply)(&path) {
        Reply::Json(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Reply::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Reply::Redirect(to) => (StatusCode::FOUND, [(header::LOCATION, to)]).into_response(),
        Reply::Cut(text) => ([(header::CONTENT_LENGTH, (text.len() + 9).to_string())], text).into_response(),
        Reply::Never => std::future::pending().await,
    }
}

async fn ask(server: &Server, keys: &str, scan: &str) -> CustomerLook {
    let dir = tempfile::tempdir().unwrap();
    write_private(&dir.path().join("secret"), b"s3cret\n");
    let section = format!(
        "[connector]\nkind = \"api\"\n[connector.api]\nurl = \"{}/{{customer}}?of={{account}}\"\n\
         secret = {{ file = \"secret\" }}\nname = \"/site\"\n{keys}",
        server.url
    );
    connector_of(dir.path(), &section, scan).look(&account(&[])).await
}

fn one(n: usize) -> Value {
    rows(&[site(&format!("支店{n}"), ServerType::ExchangeOnline, AuthMethod::Basic)], Trouble::Nothing).remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_followed_to_the_last_and_the_secret_goes_along() {
    let by_link = Server::start(|path| {
        let page = path.rsplit_once("p=").map_or(1, |(_, n)| n.parse::<usize>().unwrap());
        let next = if page < 3 { json!(format!("/more?p={}", page + 1)) } else { Value::Null };
        Reply::Json(json!({"sites": [one(page)], "links": {"next": next}}).to_string())
    })
    .await;
    let look = ask(&by_link, "next = \"/links/next\"", PRIVATE).await;
    assert_eq!(verdicts(&look).len(), 3, "{look:?}");
    let asked = by_link.asked();
    assert_eq!(asked[0].0, "/C%201%2F2?of=admin%2Dc%201%2F2");
    assert!(asked.len() == 3 && asked.iter().all(|(_, secret)| secret.as_deref() == Some("Bearer s3cret")));

    let by_number = Server::start(|path| {
        let page = path.rsplit_once("seite=").unwrap().1.parse::<usize>().unwrap();
        let sites = if page <= 2 { vec![one(page)] } else { Vec::new() };
        Reply::Json(json!({"sites": sites}).to_string())
    })
    .await;
    let look = ask(&by_number, "page_parameter = \"seite\"", PRIVATE).await;
    assert_eq!((verdicts(&look).len(), by_number.asked().len()), (2, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_lead_astray_or_say_nothing() {
    let elsewhere = Server::start(|_| Reply::Json(json!({"sites": []}).to_string())).await;
    let away = format!("{}/next", elsewhere.url);
    let cases: Vec<(&str, Replies, Reason)> = vec![
        (
            "a next page at another host",
            {
                let away = away.clone();
                Box::new(move || Reply::Json(json!({"sites": [one(1)], "next": away}).to_string()))
            },
            Reason::HttpStatus,
        ),
        ("a redirect", Box::new(|| Reply::Redirect("/elsewhere")), Reason::HttpStatus),
        ("a secret that is refused", Box::new(|| Reply::Status(401)), Reason::HttpStatus),
        ("a customer that nobody knows", Box::new(|| Reply::Status(404)), Reason::SiteMissing),
        ("a page, not JSON", Box::new(|| Reply::Json("<html>".to_owned())), Reason::LayoutChanged),
        ("no list", Box::new(|| Reply::Json("{\"sites\": {}}".to_owned())), Reason::LayoutChanged),
        ("an empty list proves nothing", Box::new(|| Reply::Json("{\"sites\": []}".to_owned())), Reason::SiteMissing),
        ("a site without a name", Box::new(|| Reply::Json("{\"sites\": [{}]}".to_owned())), Reason::LayoutChanged),
        (
            "a page that names itself",
            Box::new(|| Reply::Json(json!({"sites": [one(1)], "next": "?of=admin%2Dc%201%2F2"}).to_string())),
            Reason::LayoutChanged,
        ),
    ];
    for (sentence, reply, reason) in cases {
        let server = Server::start(move |_| reply()).await;
        let look = ask(&server, "next = \"/next\"", PRIVATE).await;
        assert_eq!(verdicts(&look), [(None, Verdict::Unreadable(reason))], "{sentence}: {look:?}");
        assert_eq!(server.asked().len(), 1, "{sentence}");
    }
    assert_eq!(elsewhere.asked(), [], "the secret went nowhere else");
    let server = Server::start(|_| Reply::Json(json!({"sites": [one(1)]}).to_string())).await;
    let look = ask(&server, "", "").await;
    assert_eq!(verdicts(&look), [(None, Verdict::Unreadable(Reason::Connect))], "private addresses are refused");
    assert_eq!(server.asked(), []);
}

// ---- files

fn export_of(dir: &Path, name: &str, keys: &str) -> Arc<dyn Connector> {
    let section = format!("[connector]\nkind = \"export\"\n[connector.export]\npath = \"{name}\"\n{keys}");
    connector_of(dir, &section, "")
}

fn dated(path: &Path, at: DateTime<Utc>) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::from(at)).unwrap();
}

#[tokio::test]
async fn what_a_file_says_is_as_old_as_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let now = SystemClock.now();
    let path = dir.path().join("sites.csv");
    std::fs::write(&path, csv(&three(), Trouble::Nothing)).unwrap();
    let yesterday = now - TimeDelta::days(1);
    dated(&path, yesterday);
    let connector = export_of(dir.path(), "sites.csv", "");
    let near = |a: DateTime<Utc>, b: DateTime<Utc>| (a - b).abs() < TimeDelta::seconds(2);
    assert!(near(connector.look(&account(&[])).await.at, yesterday));
    dated(&path, now + TimeDelta::days(1));
    assert!(
        near(connector.look(&account(&[])).await.at, SystemClock.now()),
        "a date to come makes nothing fresh for ever"
    );

    let made = "2022-09-01T06:00:00+09:00";
    let text = json!({"made": made, "all": rows(&three(), Trouble::Nothing)}).to_string();
    std::fs::write(dir.path().join("sites.json"), &text).unwrap();
    let connector = export_of(dir.path(), "sites.json", "rows = \"/all\"\ndate = \"/made\"");
    let look = connector.look(&account(&[])).await;
    assert_eq!(look.at, DateTime::parse_from_rfc3339(made).unwrap().to_utc());
    assert_eq!(verdicts(&look).len(), 3);
    std::fs::write(dir.path().join("sites.json"), text.replace(made, "yesterday")).unwrap();
    let look = connector.look(&account(&[])).await;
    assert_eq!(verdicts(&look), [(None, Verdict::Unreadable(Reason::LayoutChanged))], "no date, no evidence");
}

#[tokio::test]
async fn rows_of_nobody_in_the_customers_file_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut text = "customer_id,site,server_type,auth_method\n".to_owned();
    for (customer, site) in
        [("C 9", "x"), ("C 5", "a"), ("A", "y"), ("C 1/2", "b"), ("C 9", "z"), ("B", "v"), ("日本", "w")]
    {
        text.push_str(&format!("{customer},{site},Exchange Online に接続する,基本認証 (Office 365の場合)\n"));
    }
    std::fs::write(dir.path().join("sites.csv"), text).unwrap();
    let connector = export_of(dir.path(), "sites.csv", "");
    let strangers = async |known: &[&str]| {
        let (connector, known) = (Arc::clone(&connector), known.iter().map(|id| CustomerId::new(id).unwrap()));
        let mut known: Vec<_> = known.collect();
        known.sort();
        let counting = tokio::task::spawn_blocking(move || connector.strangers(&mut known.into_iter())).await.unwrap();
        (counting.rows, counting.customers, counting.first)
    };
    assert_eq!(strangers(&[]).await, (0, 0, vec![]), "nothing was read yet");
    connector.look(&account(&[])).await;
    let rows = [
        ("nobody is known", vec![], (7, 6), vec!["A", "B", "C 1/2"]),
        ("all are, and one without a row", vec!["A", "B", "C 1/2", "C 5", "C 7", "C 9", "日本"], (0, 0), vec![]),
        ("the first and the last are not", vec!["B", "C 1/2", "C 5", "C 9"], (2, 2), vec!["A", "日本"]),
        ("one with two rows is not", vec!["A", "B", "C 1/2", "C 5", "日本"], (2, 1), vec!["C 9"]),
    ];
    for (sentence, known, (rows, customers), first) in rows {
        let first = first.into_iter().map(str::to_owned).collect();
        assert_eq!(strangers(&known).await, (rows, customers, first), "{sentence}");
    }
}

#[tokio::test]
async fn files_that_cannot_be_believed() {
    let good = csv(&three(), Trouble::Nothing);
    let twice = |method: &str| format!("{good}本社,{method},,C 1/2,Exchange Online に接続する\n");
    let cp932 = encoding_rs::SHIFT_JIS.encode(&good).0.into_owned();
    let all = |reason| vec![Verdict::Unreadable(reason)];
    let fine = vec![Verdict::Affected, Verdict::Switched, Verdict::NotExchangeOnline];
    let cases: Vec<(&str, Vec<u8>, Vec<Verdict>)> = vec![
        ("as Excel in Japan writes it", cp932, fine.clone()),
        ("with a byte order mark", format!("\u{FEFF}{good}").into_bytes(), fine.clone()),
        ("a site twice, the same", twice("基本認証 (Office 365の場合)").into_bytes(), fine),
        (
            "a site twice, differing",
            twice("OAuth認証 (Office 365の場合)").into_bytes(),
            vec![Verdict::Unreadable(Reason::LayoutChanged), Verdict::Switched, Verdict::NotExchangeOnline],
        ),
        ("cut off in a line", good.as_bytes()[..good.len() - 60].to_vec(), all(Reason::LayoutChanged)),
        ("without a column", good.replace("auth_method", "method").into_bytes(), all(Reason::LayoutChanged)),
        ("another customer's only", good.replace("C 1/2", "C2").into_bytes(), all(Reason::SiteMissing)),
        ("nothing", Vec::new(), all(Reason::LayoutChanged)),
        ("neither UTF-8 nor CP932", b"site\n\xff\xff\x80\n".to_vec(), all(Reason::LayoutChanged)),
    ];
    for (sentence, bytes, expected) in cases {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("sites.csv"), bytes).unwrap();
        let look = export_of(dir.path(), "sites.csv", "").look(&account(&[])).await;
        let seen: Vec<Verdict> = verdicts(&look).into_iter().map(|(_, verdict)| verdict).collect();
        assert_eq!(seen, expected, "{sentence}: {look:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    let look = export_of(dir.path(), "sites.csv", "").look(&account(&[])).await;
    assert_eq!(verdicts(&look), [(None, Verdict::Unreadable(Reason::Connect))], "no file at all");
}

#[tokio::test]
async fn where_a_json_file_has_its_rows_and_its_date() {
    let made = "2022-09-01T06:00:00+09:00";
    let list = json!(rows(&three(), Trouble::Nothing));
    let mut named = list.clone();
    named[1]["made"] = made.into();
    let text = |value: Value| value.to_string();
    let rows_of = |keys: &str| keys.to_owned();
    let good = Some(3);
    let cases: Vec<(&str, String, String, Option<usize>)> = vec![
        ("the document is the list", text(list.clone()), rows_of("rows = \"\""), good),
        ("deep inside", text(json!({"a": [0, {"b/c": list, "d": [[]]}]})), rows_of("rows = \"/a/1/b~1c\""), good),
        (
            "the date comes behind the rows",
            format!("{{\"rows\": {list}, \"made\": {{\"at\": \"{made}\"}}}}"),
            rows_of("rows = \"/rows\"\ndate = \"/made/at\""),
            good,
        ),
        (
            "the date is a row's",
            text(json!({"rows": named})),
            rows_of("rows = \"/rows\"\ndate = \"/rows/1/made\""),
            good,
        ),
        ("a date that is not there", text(json!({"rows": list})), rows_of("rows = \"/rows\"\ndate = \"/made\""), None),
        ("no list there", text(json!({"rows": {"x": list}})), rows_of("rows = \"/rows\""), None),
        ("a text there", text(json!({"rows": "none"})), rows_of("rows = \"/rows\""), None),
        ("nothing there", text(json!({"all": list})), rows_of("rows = \"/rows\""), None),
        ("two of them", format!("{{\"rows\": {list}, \"rows\": {list}}}"), rows_of("rows = \"/rows\""), None),
        ("something behind the document", format!("{{\"rows\": {list}}} ]"), rows_of("rows = \"/rows\""), None),
        ("cut off", format!("{{\"rows\": {list}"), rows_of("rows = \"/rows\""), None),
        ("with a byte order mark", format!("\u{FEFF}{{\"rows\": {list}}}"), rows_of("rows = \"/rows\""), good),
    ];
    for (sentence, text, keys, sites) in cases {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("sites.json"), text).unwrap();
        let look = export_of(dir.path(), "sites.json", &keys).look(&account(&[])).await;
        match sites {
            Some(sites) => assert_eq!(verdicts(&look).len(), sites, "{sentence}: {look:?}"),
            None => assert_eq!(verdicts(&look), [(None, Verdict::Unreadable(Reason::LayoutChanged))], "{sentence}"),
        }
        if sites.is_some() && keys.contains("date") {
            assert_eq!(look.at, DateTime::parse_from_rfc3339(made).unwrap().to_utc(), "{sentence}");
        }
    }
}

#[tokio::test]
async fn a_file_that_is_too_large_for_memory_says_the_same() {
    let mut text = csv(&three(), Trouble::Nothing);
    let header = text.lines().next().unwrap().to_owned();
    let others = header.split(',').map(|column| if column == "customer_id" { "" } else { "x" }).collect::<Vec<_>>();
    let place = others.iter().position(|cell| cell.is_empty()).unwrap();
    for n in (0..60_000_u32).map(|n| n * 7_919 % 60_000) {
        let name = format!("D{n:05} その会社の長い名前");
        let cells: Vec<&str> = others.iter().enumerate().map(|(at, x)| if at == place { &*name } else { x }).collect();
        text.push_str(&format!("{}\n", cells.join(",")));
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("sites.csv"), text).unwrap();
    let look = export_of(dir.path(), "sites.csv", "").look(&account(&[])).await;
    let seen: Vec<Verdict> = verdicts(&look).into_iter().map(|(_, verdict)| verdict).collect();
    assert_eq!(seen, [Verdict::Affected, Verdict::Switched, Verdict::NotExchangeOnline], "{look:?}");
    let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().starts_with(".tmp")), "{names:?}");
}

fn replace(path: &PathBuf, text: &str, at: DateTime<Utc>) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    dated(&new, at);
    std::fs::rename(new, path).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_file_seen_twice_confirms_nothing_twice() {
    let customer = WorldCustomer::new("C1", three());
    let lab =
        Lab::with(vec![customer], Settings { safety: "max_age = \"1d\"".to_owned(), ..Settings::default() }).await;
    let path = lab.path("sites.csv");
    let section = "[connector]\nkind = \"export\"\n[connector.export]\npath = \"sites.csv\"\n[connector.exlook]";
    let text = lab.config_text().replace("[connector]\nkind = \"exlook\"\n[connector.exlook]", section);
    write_private(&lab.config(), text.as_bytes());
    let now = SystemClock.now();
    let file = csv(&three(), Trouble::Nothing).replace("C 1/2", "C1");
    replace(&path, &file, now - TimeDelta::hours(3));
    let bench = lab.open(now).await;
    bench.scan().await;
    bench.pass().await;
    assert_eq!(bench.deliver().await.sent, 1, "told on evidence of three hours ago, within max_age");
    let clear = file.replace("基本認証 (Office 365の場合)", "OAuth認証 (Office 365の場合)");
    replace(&path, &clear, now - TimeDelta::hours(2));
    for _ in 0..5 {
        bench.go(TimeDelta::minutes(1));
        bench.scan().await;
    }
    bench.go(TimeDelta::days(1));
    assert_eq!(bench.pass().await.notices.len(), 0, "one file is one confirmation");
    replace(&path, &clear, bench.clock.now() - TimeDelta::minutes(5));
    bench.scan().await;
    let report = bench.pass().await;
    assert_eq!(report.notices.len(), 1, "the second file is the second");
    assert_eq!(lab.world.lock().counters.requests, 0, "the admin tool is not asked");
}
