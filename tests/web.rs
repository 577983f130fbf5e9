//! The dashboard over HTTP, in process: every page, what is escaped, what is masked, who may act.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;
#[path = "common/site.rs"]
mod site;

use std::io::{Read, Write};

use chrono::TimeDelta;
use common::{Lab, affected, kigen_command};
use kigen::clock::Clock;
use kigen::demo::admin_tool::{WorldCustomer, WorldSite};
use kigen::domain::site::{AuthMethod, ServerType};
use kigen::store::{Hold, HoldKind};
use reqwest::header::{LOCATION, SET_COOKIE};
use site::{EVIL, PASSWORD, Site, users};

const PAGES: [&str; 8] = ["/", "/customers", "/customers/A1", "/outbox", "/plan", "/calls", "/runs", "/configuration"];

#[tokio::test(flavor = "multi_thread")]
async fn every_page_answers_in_both_languages_with_its_headers() {
    let switched =
        WorldCustomer::new("B2", vec![WorldSite::new("本社", ServerType::ExchangeOnline, AuthMethod::OAuth)]);
    let site = Site::start(vec![affected("A1"), switched], "").await;
    for path in PAGES.iter().filter(|p| !p.contains("A1")) {
        assert_eq!(site.get(path).await.status, 200, "before the first scan: {path}");
    }
    site.scan_and_tell().await;
    for path in PAGES.iter().chain(&["/mails/1"]) {
        for (lang, word) in [("ja", "設定"), ("en", "Configuration")] {
            let answer = site.get(&format!("{path}?lang={lang}")).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text);
            assert!(
                answer.text.contains(&format!("<html lang=\"{lang}\"")) && answer.text.contains(word),
                "{path} {lang}"
            );
            let policy = answer.headers["content-security-policy"].to_str().unwrap();
            for part in [
                "default-src 'none'",
                "script-src 'self'",
                "style-src 'self'",
                "frame-ancestors 'none'",
                "base-uri 'none'",
            ] {
                assert!(policy.contains(part), "{path}: {policy}");
            }
            assert_eq!(answer.headers["x-content-type-options"], "nosniff");
            assert_eq!(answer.headers["cache-control"], "no-store");
            assert_eq!(answer.headers["x-frame-options"], "DENY");
            for inline in ["<script>", " style=", " onclick=", "https://", "admin@a1.example"] {
                let found = answer.text.contains(inline) && !(inline == "https://" && path.contains("mails"));
                let found = found && !(inline == "https://" && *path == "/configuration");
                assert!(!found, "{inline} is in {path}");
            }
        }
    }
    let english =
        site.send(site.client.get(format!("{}/", site.address)).header("accept-language", "fr, en-GB;q=0.8")).await;
    assert!(english.text.contains("Needs a person"), "{}", english.text);
    let kept = site.get("/?lang=en").await.headers[SET_COOKIE].to_str().unwrap().to_owned();
    assert!(kept.starts_with("lang=en;"), "{kept}");
    for path in ["/nothing", "/customers/NOBODY", "/mails/99", "/mails/99/html"] {
        assert_eq!(site.get(path).await.status, 404, "{path}");
    }
    assert!(site.get("/assets/app.css").await.headers["content-type"].to_str().unwrap().starts_with("text/css"));
    assert!(site.get("/assets/app.js").await.headers["content-type"].to_str().unwrap().starts_with("text/javascript"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_wrote_stays_text() {
    let lab = Lab::start(vec![affected("A1")]).await;
    lab.write_customers(|_, column| if column == "name" { EVIL.to_owned() } else { String::new() });
    let site = Site::with(lab, "").await;
    site.scan_and_tell().await;
    let by = Hold {
        kind: HoldKind::Paused,
        reason: EVIL.to_owned(),
        set_by: EVIL.to_owned(),
        set_at: site.bench.clock.now(),
    };
    site.bench.ctx.store.set_hold(&by).await.unwrap();
    let searched = format!("/customers?q={}", "%3Cimg%20src");
    for path in PAGES.iter().copied().chain(["/mails/1", searched.as_str()]) {
        let answer = site.get(path).await;
        assert_eq!(answer.status, 200);
        assert!(!answer.text.contains("<img"), "{path}");
        assert!(answer.text.contains("&lt;img"), "the hold's reason is on every page: {path}");
    }
    assert!(site.get("/mails/1/html").await.text.to_lowercase().contains("&lt;img"), "in the mail itself too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_is_shown_as_sent_in_a_frame_that_can_do_nothing() {
    let site = Site::start(vec![affected("A1")], "").await;
    site.scan_and_tell().await;
    let page = site.get("/mails/1").await.text;
    assert!(page.contains("sandbox=\"\"") && page.contains("src=\"/mails/1/html\""), "{page}");
    assert!(page.contains("Message-ID:") && !page.contains("admin@a1.example"));
    let html = site.get("/mails/1/html").await;
    let policy = html.headers["content-security-policy"].to_str().unwrap();
    assert!(
        policy.contains("sandbox") && policy.contains("default-src 'none'") && !policy.contains("script"),
        "{policy}"
    );
    assert!(policy.contains("frame-ancestors 'self'"));
    assert!(html.text.contains("本社") && !html.text.contains("admin@a1.example"));
}

#[tokio::test(flavor = "multi_thread")]
async fn customers_are_searched_filtered_and_paged_to_the_end() {
    let mut customers: Vec<_> = (0..120).map(|n| affected(&format!("C{n:03}"))).collect();
    customers.push(WorldCustomer::new(
        "Z1",
        vec![WorldSite::new("支店", ServerType::OnPremises, AuthMethod::OnPremisesBasic)],
    ));
    let site = Site::start(customers, "").await;
    site.bench.scan().await;
    for order in ["", "-id", "name", "-name"] {
        let (mut path, mut seen) = (format!("/customers?order={order}"), Vec::new());
        loop {
            let page = site.get(&path).await.text;
            let ids: Vec<String> =
                page.split("<td class=\"id\">").skip(1).map(|t| t.split('<').next().unwrap().to_owned()).collect();
            assert!(ids.len() <= 50 && !ids.is_empty());
            seen.extend(ids);
            let Some(at) = page.find("rel=\"next\" href=\"") else { break };
            path = page[at + 17..].split('"').next().unwrap().replace("&amp;", "&").replace("&#x2f;", "/");
        }
        assert_eq!(seen.len(), 121, "{order}");
        let mut sorted = seen.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted.len(), 121, "none twice: {order}");
        if order.starts_with('-') {
            sorted.reverse();
        }
        if !order.contains("name") {
            assert_eq!(seen, sorted);
        }
    }
    let rows = |text: &str| text.matches("<td class=\"id\">").count();
    assert_eq!(rows(&site.get("/customers?verdict=not_exchange_online").await.text), 1);
    assert_eq!(rows(&site.get("/customers?q=C11").await.text), 10);
    assert_eq!(rows(&site.get("/customers?q=%25").await.text), 0, "a percent sign is a percent sign");
    assert_eq!(rows(&site.get("/customers?kind=first").await.text), 0);
    let csv = site.get("/customers.csv?verdict=affected").await;
    assert!(csv.headers["content-type"].to_str().unwrap().starts_with("text/csv"));
    assert_eq!(csv.text.lines().count(), 121, "a head and 120 rows");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_users_it_is_for_looking_only_and_answers_to_this_machine_alone() {
    let site = Site::start(vec![affected("A1")], "").await;
    site.scan_and_tell().await;
    for (path, form) in [
        ("/pause", vec![("reason", "x"), ("csrf", "")]),
        ("/resume", vec![("csrf", "")]),
        ("/outbox/act", vec![("action", "cancel"), ("id", "1"), ("csrf", "")]),
        ("/customers/A1/scan", vec![("csrf", "")]),
        ("/sign-in", vec![("user", "x"), ("password", "y")]),
    ] {
        assert_eq!(site.post(path, "", &form).await.status, 403, "{path}");
    }
    assert!(site.bench.ctx.store.holds().await.unwrap().is_empty());
    assert!(!site.get("/").await.text.contains("<form class=\"pause\""));
    let elsewhere = site.send(site.client.get(format!("{}/", site.address)).header("host", "evil.example")).await;
    assert_eq!(elsewhere.status, 421);
    let health = site.send(site.client.get(format!("{}/healthz", site.address)).header("host", "kigen.example")).await;
    assert_eq!(health.status, 200, "a monitor may use any name");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_signed_in_acts_and_the_store_knows_who() {
    let mut lab = Lab::start(vec![affected("A1")]).await;
    lab.settings.mode = "review";
    let site = Site::with(lab, &users()).await;
    site.scan_and_tell().await;
    assert_eq!(site.bench.outbox("held").await, 1);

    for path in PAGES {
        let answer = site.get(path).await;
        assert_eq!((answer.status, answer.headers[LOCATION].to_str().unwrap()), (303, "/sign-in"), "{path}");
    }
    assert_eq!(site.get("/sign-in").await.status, 200);
    let (cookie, csrf) = site.sign_in().await;
    assert_eq!(site.get_as("/outbox/act", &cookie).await.status, 405, "GET changes nothing");
    let wrong = site.post("/outbox/act", &cookie, &[("action", "approve"), ("id", "1"), ("csrf", "guess")]).await;
    assert_eq!(wrong.status, 403);
    let stranger = site.post("/outbox/act", "", &[("action", "approve"), ("id", "1"), ("csrf", &csrf)]).await;
    assert_eq!((stranger.status, site.bench.outbox("held").await), (303, 1), "to the sign-in");

    let form = [("action", "approve"), ("id", "1"), ("csrf", csrf.as_str()), ("back", "//evil.example/")];
    let approved = site.post("/outbox/act", &cookie, &form).await;
    assert_eq!((approved.status, approved.headers[LOCATION].to_str().unwrap()), (303, "/"), "only back to us");
    assert_eq!(site.bench.outbox("queued").await, 1);
    let (claimed, _) = site.bench.ctx.store.delivery(kigen::domain::delivery::DeliveryId(1)).await.unwrap().unwrap();
    assert_eq!(claimed.delivery.approved.unwrap().0, "taro");

    assert_eq!(site.post("/pause", &cookie, &[("reason", " "), ("csrf", &csrf)]).await.status, 400);
    assert_eq!(site.post("/pause", &cookie, &[("reason", "誤送信の疑い"), ("csrf", &csrf)]).await.status, 303);
    let holds = site.bench.ctx.store.holds().await.unwrap();
    assert_eq!((holds[0].reason.as_str(), holds[0].set_by.as_str()), ("誤送信の疑い", "taro"));
    assert!(site.get_as("/", &cookie).await.text.contains("誤送信の疑い"));
    assert_eq!(site.post("/resume", &cookie, &[("csrf", &csrf)]).await.status, 303);
    assert!(site.bench.ctx.store.holds().await.unwrap().is_empty());

    let before = site.lab.world.lock().counters.requests;
    assert_eq!(site.post("/customers/A1/scan", &cookie, &[("csrf", &csrf)]).await.status, 303);
    let world = site.lab.world.clone();
    tokio::task::block_in_place(|| common::wait_until("it is scanned", || world.lock().counters.requests > before));
    assert_eq!(site.post("/customers/NOBODY/scan", &cookie, &[("csrf", &csrf)]).await.status, 404);

    assert_eq!(site.post("/sign-out", &cookie, &[("csrf", &csrf)]).await.status, 303);
    assert_eq!(site.get_as("/", &cookie).await.status, 303, "the session is over");
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_is_slowed_and_a_session_ends_by_itself() {
    let site = Site::start(vec![affected("A1")], &users()).await;
    let (cookie, _) = site.sign_in().await;
    site.bench.go(TimeDelta::hours(11));
    assert_eq!(site.get_as("/", &cookie).await.status, 303, "after a working day");

    for n in 0..5 {
        let answer = site.post("/sign-in", "", &[("user", "taro"), ("password", "guess")]).await;
        assert_eq!(answer.status, 401, "{n}");
    }
    let right = [("user", "taro"), ("password", PASSWORD)];
    assert_eq!(site.post("/sign-in", "", &right).await.status, 429, "even the right one has to wait");
    site.bench.go(TimeDelta::minutes(11));
    assert_eq!(site.post("/sign-in", "", &right).await.status, 303);
    let request =
        site.client.post(format!("{}/sign-in", site.address)).header("sec-fetch-site", "cross-site").form(&right);
    assert_eq!(site.send(request).await.status, 403, "another site's form");
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_https_the_cookie_is_tied_to_the_host() {
    let web = format!("public_url = \"https://kigen.example.jp/\"\ntrusted_proxies = [\"127.0.0.1\"]\n{}", users());
    let site = Site::start(vec![affected("A1")], &web).await;
    let answer = site.post("/sign-in", "", &[("user", "taro"), ("password", PASSWORD)]).await;
    let cookie = answer.headers[SET_COOKIE].to_str().unwrap();
    assert!(
        cookie.starts_with("__Host-kigen=") && cookie.contains("; Secure") && cookie.contains("Path=/;"),
        "{cookie}"
    );
    // Guesses through the proxy count against the client, not against the proxy.
    for user in ["a", "b", "c", "d", "e"] {
        let request = site.client.post(format!("{}/sign-in", site.address)).header("x-forwarded-for", "203.0.113.9");
        assert_eq!(site.send(request.form(&[("user", user), ("password", "guess")])).await.status, 401);
    }
    let from = async |address: &str| {
        let request = site.client.post(format!("{}/sign-in", site.address)).header("x-forwarded-for", address);
        site.send(request.form(&[("user", "taro"), ("password", PASSWORD)])).await.status
    };
    assert_eq!(from("203.0.113.9").await, 429);
    assert_eq!(from("203.0.113.10").await, 303);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_requests_are_refused() {
    let site = Site::start(vec![affected("A1")], "").await;
    let body = "x".repeat(100 * 1024);
    let answer = site.send(site.client.post(format!("{}/pause", site.address)).body(body)).await;
    assert!(answer.status == 413 || answer.status == 415, "{}", answer.status);
    let mut stream = std::net::TcpStream::connect(site.address.trim_start_matches("http://")).unwrap();
    let head = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx-large: {}\r\n\r\n", "y".repeat(64 * 1024));
    // The server may close before it has read all of it.
    let _ = stream.write_all(head.as_bytes());
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn web_password_prints_a_hash_and_never_the_password() {
    use std::process::Stdio;
    let run = |typed: &str| {
        let mut command = kigen_command(std::path::Path::new("/nonexistent"), &["web-password"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let output = run("correct horse battery\n");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.starts_with("$argon2id$") && text.lines().count() == 1, "{text}");
    let short = run("short\n");
    assert_eq!(short.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&short.stderr).contains("shorter than"));
}
