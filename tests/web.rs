//! The dashboard over HTTP, in process: every page, what is escaped, what is masked, who may act.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;
#[path = "common/faulty_store.rs"]
mod faulty_store;
#[path = "common/site.rs"]
mod site;

use std::io::{Read, Write};

use chrono::TimeDelta;
use common::{Lab, affected, kigen_command, write_private};
use faulty_store::{Fault, FaultyStore};
use kigen::clock::Clock;
use kigen::daemon::reload::Live;
use kigen::demo::admin_tool::{WorldCustomer, WorldSite};
use kigen::domain::delivery::DeliveryId;
use kigen::domain::site::{AuthMethod, CustomerId, ServerType};
use kigen::store::{BounceFinding, By, DeadContact, Hold, HoldKind, OutboxAction, contact_fingerprint};
use reqwest::header::{LOCATION, SET_COOKIE};
use site::{EVIL, PASSWORD, Site, users};

const PAGES: [&str; 9] =
    ["/", "/customers", "/customers/A1", "/outbox", "/plan", "/calls", "/runs", "/audit", "/configuration"];

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
async fn two_campaigns_stand_beside_each_other_each_with_its_own_days() {
    let ews = "[[campaign]]\nid = \"exchange-online-ews\"\napp_id = \"1b730954-1685-4b74-9bfd-dac224a7b894\"\n\
               begins = 2026-10-01\ndeadline = 2036-04-01";
    let deadline = common::today() + TimeDelta::days(30);
    let campaign = format!("deadline = {deadline}\n{ews}");
    let lab = Lab::with(vec![affected("A1")], common::Settings { campaign, ..common::Settings::default() }).await;
    let mut site = Site::with(lab, "").await;
    site.scan_and_tell().await;
    site.serve(site.live.clone()).await; // with new numbers
    let page = site.get("/?lang=en").await.text;
    for part in ["exchange-online-basic-auth", "exchange-online-ews", "Sites on Exchange Online", "Begins"] {
        assert!(page.contains(part), "{part}");
    }
    assert_eq!(page.matches("<figcaption>").count(), 1, "the course of verdicts is that of basic authentication alone");
    let settings = site.get("/configuration?lang=en").await.text;
    assert!(settings.contains("campaign exchange-online-ews") && settings.contains("2026-10-01"), "{settings}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_wrote_stays_text() {
    let lab = Lab::start(vec![affected("A1")]).await;
    lab.write_customers(|_, column| if column == "name" { EVIL.to_owned() } else { String::new() });
    let mut site = Site::with(lab, "").await;
    site.scan_and_tell().await;
    let by = Hold {
        kind: HoldKind::Paused,
        reason: EVIL.to_owned(),
        set_by: EVIL.to_owned(),
        set_at: site.bench.clock.now(),
    };
    site.bench.ctx.store.set_hold(&by).await.unwrap();
    site.serve(site.live.clone()).await; // with new numbers
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

#[tokio::test(flavor = "multi_thread")]
async fn the_first_reader_finds_the_fleets_numbers_ready() {
    let mut site = Site::start(vec![affected("A1")], "").await;
    // It counts, and fails nobody.
    let store = FaultyStore::new(site.bench.ctx.store.clone(), Fault::Error, usize::MAX);
    let mut ctx = site.bench.ctx.clone();
    ctx.store = store.clone();
    let made = std::time::Instant::now();
    site.serve(Live::new(ctx)).await;
    let all = tokio::task::spawn_blocking({
        let store = store.clone();
        move || {
            let (mut calls, mut since) = (0, std::time::Instant::now());
            common::wait_until("the numbers are read", || {
                if store.calls() != calls {
                    (calls, since) = (store.calls(), std::time::Instant::now());
                }
                calls > 0 && since.elapsed() > std::time::Duration::from_millis(700)
            });
            calls
        }
    });
    let all = all.await.unwrap();
    assert!(all >= 10, "read although nobody asked: {all} calls");
    assert_eq!(site.get("/").await.status, 200);
    if made.elapsed() < std::time::Duration::from_secs(4) {
        assert_eq!(store.calls(), all, "what was read is shown");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_readers_ask_the_store_two_at_a_time_and_nothing_else_waits_for_them() {
    let mut site = Site::start(vec![affected("A1")], "").await;
    // From its first call on this store answers nobody.
    let store = FaultyStore::new(site.bench.ctx.store.clone(), Fault::Stop, 0);
    let mut ctx = site.bench.ctx.clone();
    ctx.store = store.clone();
    site.serve(Live::new(ctx)).await;
    let readers: Vec<_> = (0..40)
        .map(|n| {
            let path = ["/customers", "/outbox", "/plan", "/customers.csv", "/"][n % 5];
            let request = site.client.get(format!("{}{path}", site.address)).send();
            tokio::spawn(async move { request.await.map(|answer| answer.status().as_u16()) })
        })
        .collect();
    store.wait().await;
    let gauges: Vec<_> = (0..10)
        .map(|n| site.client.get(format!("{}{}", site.address, ["/readyz", "/metrics"][n % 2])).send())
        .map(tokio::spawn)
        .collect();
    // What needs no store is answered while all of them wait.
    for _ in 0..20 {
        assert_eq!(site.get("/healthz").await.status, 200);
        assert_eq!(site.get("/assets/app.css").await.status, 200);
    }
    assert!(store.calls() <= 3, "two of people and one of machines: {}", store.calls());
    // The scan's and the mails' own store is free: their work goes on.
    site.scan_and_tell().await;
    assert_eq!(site.bench.outbox("sent").await, 1);
    for task in readers {
        task.abort();
    }
    for task in gauges {
        task.abort();
    }
    for _ in 0..20 {
        assert_eq!(site.get("/healthz").await.status, 200);
    }
    assert!(store.calls() <= 3, "who went away has not made room for another: {}", store.calls());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asked_for_a_scan_and_which_contact_is_dead_and_how_the_reload_went_are_shown() {
    let mut site = Site::start(vec![affected("A1"), affected("B2")], &users()).await;
    site.scan_and_tell().await;
    let customer = CustomerId::new("A1").unwrap();
    let dead = DeadContact {
        fingerprint: contact_fingerprint(&customer, "admin@a1.example"),
        customer,
        masked: "a***@a1.example".to_owned(),
        since: site.bench.clock.now(),
        why: "550 5.1.1 no such user".to_owned(),
        delivery: DeliveryId(1),
    };
    let text = "a***@a1.example: the address is dead: 550 5.1.1 no such user".to_owned();
    let finding = BounceFinding { delivery: DeliveryId(1), word: "dead", text, dead: Some(dead), came_back: None };
    assert!(site.bench.ctx.store.record_bounce("digest", "dead", &[finding], site.bench.clock.now()).await.unwrap());
    site.serve(site.live.clone()).await; // with new numbers
    let (cookie, csrf) = site.sign_in().await;
    assert_eq!(site.post("/customers/B2/scan", &cookie, &[("csrf", &csrf)]).await.status, 303);

    let page = async |path: &str| site.get_as(&format!("{path}?lang=ja"), &cookie).await.text;
    let overview = page("/").await;
    assert!(overview.contains("件の宛先が無効です") && overview.contains("calls#dead"), "{overview}");
    for (path, words) in [
        ("/customers/A1", vec!["無効", "550 5.1.1 no such user", "宛先が無効です"]),
        ("/calls", vec!["無効な宛先", "a***@a1.example", "550 5.1.1 no such user"]),
        ("/customers/B2", vec!["taro がこの顧客のスキャンを指示"]),
        ("/audit", vec!["taro がこの顧客のスキャンを指示", "スキャン指示", "/customers/B2"]),
        ("/configuration", vec!["起動後なし"]),
    ] {
        let text = page(path).await;
        for word in words {
            assert!(text.contains(word), "{path} lacks {word}: {text}");
        }
    }
    let good = std::fs::read_to_string(site.lab.config()).unwrap();
    write_private(&site.lab.config(), format!("{good}\n[nonsense]\n").as_bytes());
    assert!(site.live.reload().is_err());
    assert!(page("/configuration").await.contains("nonsense"));
    site.bench.go(TimeDelta::minutes(1));
    let refused = site.get_as("/", &cookie).await.text;
    assert!(refused.contains("前の設定で動いています"), "{refused}");
    write_private(&site.lab.config(), good.as_bytes());
    assert!(site.live.reload().is_ok());
    let text = page("/configuration").await;
    assert!(text.contains("適用") && !text.contains("nonsense"), "{text}");
}

/// Every sentence of the program that a whole life of a case puts on the pages.
#[tokio::test(flavor = "multi_thread")]
async fn a_japanese_reader_meets_no_english_sentence_of_ours() {
    let mut lab = Lab::start(vec![affected("A1"), affected("B2")]).await;
    lab.settings.mode = "review";
    let site = Site::with(lab, "").await;
    site.scan_and_tell().await;
    let store = &site.bench.ctx.store;
    let at = site.bench.clock.now();
    let by = By { who: "taro".to_owned(), at, day: common::today() };
    store.act(&[DeliveryId(1)], OutboxAction::Approve, &by).await.unwrap();
    store.act(&[DeliveryId(2)], OutboxAction::Cancel, &by).await.unwrap();
    site.bench.deliver().await;
    site.lab.world.lock().customers[0].sites[0].auth_method = AuthMethod::OAuth;
    for _ in 0..3 {
        site.bench.go(TimeDelta::hours(12));
        site.bench.scan().await;
    }
    site.bench.pass().await;
    site.lab.world.lock().customers[0].sites[0].auth_method = AuthMethod::Basic;
    site.bench.go(TimeDelta::hours(12));
    site.bench.scan().await;
    site.bench.pass().await;
    for path in ["/customers/A1", "/customers/B2", "/outbox", "/plan", "/audit", "/runs", "/mails/1", "/mails/2"] {
        let text = site.get(&format!("{path}?lang=ja")).await.text;
        let english: Vec<&str> =
            text.split("<span lang=\"en\">").skip(1).map(|t| t.split('<').next().unwrap()).collect();
        let ours = english.iter().filter(|text| !text.is_empty() && !text.starts_with("250 "));
        assert_eq!(ours.collect::<Vec<_>>(), Vec::<&&str>::new(), "{path}");
    }
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
