//! The dashboard in a real Chromium: what people see, type and press, and that the browser has nothing to complain of.
//!
//! Each test starts its own ChromeDriver on a free port and a browser with a profile of its own; one test has the browser
//! at a time. Every wait is for a condition.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;
#[path = "common/driver.rs"]
mod driver;
#[path = "common/site.rs"]
mod site;

use chrono::TimeDelta;
use common::{Lab, affected};
use driver::Browser;
use fantoccini::Locator::Css;
use fantoccini::key::Key;
use kigen::clock::Clock;
use kigen::demo::admin_tool::{WorldCustomer, WorldSite};
use kigen::domain::site::{AuthMethod, ServerType};
use kigen::store::{Hold, HoldKind, Message};
use serde_json::json;
use site::{EVIL, PASSWORD, Site, users};

const PAGES: [&str; 11] = [
    "/",
    "/customers",
    "/customers?q=no-such-customer",
    "/customers/A1",
    "/outbox",
    "/mails/1",
    "/plan",
    "/calls",
    "/runs",
    "/audit",
    "/configuration",
];

/// A fleet of every verdict, and a hold; every text that others write is markup.
async fn evil() -> Site {
    let mut settings = common::Settings { mode: "review", ..common::Settings::default() };
    settings.campaign.push_str("\npostponed_to = 2099-12-31\nfinal = 2100-01-01");
    let site = |name: &str, server, auth| WorldSite::new(name, server, auth);
    let (online, premises) = (ServerType::ExchangeOnline, ServerType::OnPremises);
    let fleet = vec![
        WorldCustomer::new(
            "A1",
            vec![site(EVIL, online, AuthMethod::Basic), site("大阪支店", online, AuthMethod::OAuth)],
        ),
        WorldCustomer::new("B2", vec![site("本社", online, AuthMethod::Basic)]),
        WorldCustomer::new("C3", vec![site("本社", premises, AuthMethod::OnPremisesBasic)]),
    ];
    let lab = Lab::with(fleet, settings).await;
    lab.write_customers(|_, column| if column == "name" { format!("{EVIL}<b>太字</b>") } else { String::new() });
    let mut site = Site::with(lab, "").await;
    site.scan_and_tell().await;
    let (reason, set_by, set_at) = (EVIL.to_owned(), EVIL.to_owned(), site.bench.clock.now());
    site.bench.ctx.store.set_hold(&Hold { kind: HoldKind::Paused, reason, set_by, set_at }).await.unwrap();
    // Its numbers are read at the start.
    site.serve(site.live.clone()).await;
    site
}

#[tokio::test(flavor = "multi_thread")]
async fn no_page_makes_the_browser_complain_and_markup_stays_text_and_every_width_holds_it() {
    let site = evil().await;
    let browser = Browser::start().await;
    for path in PAGES {
        for language in ["ja", "en"] {
            let mark = if path.contains('?') { '&' } else { '?' };
            browser.open(&format!("{}{path}{mark}lang={language}", site.address)).await;
            let seen = browser
                .run(
                    "return [document.documentElement.lang, document.querySelectorAll('main').length, \
                     document.querySelectorAll('h1').length, document.querySelectorAll('img, main b:empty').length, \
                     document.body.innerText.includes('onerror=alert(1)')]",
                )
                .await;
            assert_eq!(seen, json!([language, 1, 1, 0, true]), "{path}");
            for width in [360, 768, 1280, 2560] {
                browser.width(width).await;
                let wide = browser.run("return document.documentElement.scrollWidth").await.as_u64().unwrap();
                assert!(wide <= u64::from(width), "{path} in {language} is {wide} px wide in a window of {width}");
            }
            let unnamed = browser
                .run(
                    "return [...document.querySelectorAll('a, button, input:not([type=hidden]), select, iframe')].filter(e => \
                     !(e.innerText || e.ariaLabel || e.title || e.labels?.length)).map(e => e.outerHTML)",
                )
                .await;
            assert_eq!(unnamed, json!([]), "{path}: what a screen reader cannot name");
        }
        assert_eq!(browser.complaints().await, Vec::<String>::new(), "{path}");
    }
    browser.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_browser_itself_enforces_the_policy_that_forbids_scripts_of_others() {
    let site = evil().await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/", site.address)).await;
    // What an injection would be: the policy stops it, and the complaint shows that this test would see one.
    browser
        .run("const s = document.createElement('script'); s.textContent = 'window.hacked = 1'; document.body.append(s)")
        .await;
    assert_eq!(browser.run("return window.hacked ?? null").await, json!(null));
    let complaints = browser.complaints().await;
    assert!(complaints.iter().any(|c| c.contains("Content Security Policy")), "{complaints:?}");
    browser.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_filters_while_one_types_and_pages_to_the_end() {
    let site = Site::start((0..120).map(|n| affected(&format!("C{n:03}"))).collect(), "").await;
    site.bench.scan().await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/customers", site.address)).await;
    let rows = "return document.querySelectorAll('#results tbody tr').length";
    assert_eq!(browser.run(rows).await, json!(50));

    let search = browser.find("input[name=q]").await;
    search.send_keys("C11").await.unwrap();
    browser.wait("the rows of C11", &format!("{} === 10", rows.trim_start_matches("return "))).await;
    let typed = browser
        .run("return [document.activeElement.name, document.activeElement.value, location.search, document.title !== '']")
        .await;
    assert_eq!((&typed[0], &typed[1]), (&json!("q"), &json!("C11")), "what was typed stays, and so does the focus");
    assert!(typed[2].as_str().unwrap().contains("q=C11"), "the address can be kept: {typed}");
    search.send_keys("-nobody").await.unwrap();
    browser.wait("no rows", "document.querySelector('#results .empty') !== null").await;
    browser.run("const q = document.querySelector('input[name=q]'); q.value = ''; q.dispatchEvent(new Event('input', {bubbles: true}))").await;
    browser.wait("all rows", "document.querySelectorAll('#results tbody tr').length === 50").await;

    let mut seen = 50;
    while let Ok(next) = browser.client.find(Css("a[rel=next]")).await {
        let first = browser.run("return document.querySelector('#results td.id').innerText").await;
        next.click().await.unwrap();
        browser
            .wait("the next page", &format!("document.querySelector('#results td.id')?.innerText !== {first}"))
            .await;
        seen += browser.run(rows).await.as_u64().unwrap();
    }
    assert_eq!(seen, 120);
    browser.client.back().await.unwrap();
    browser.wait("the page before", "document.querySelector('a[rel=next]') !== null").await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_signed_in_approves_pauses_and_resumes_with_the_keyboard_alone() {
    let mut lab = Lab::start(vec![affected("A1"), affected("B2")]).await;
    lab.settings.mode = "review";
    let site = Site::with(lab, &users()).await;
    site.scan_and_tell().await;
    assert_eq!(site.bench.outbox("held").await, 2);
    let browser = Browser::start().await;

    browser.open(&format!("{}/outbox?state=held", site.address)).await;
    browser.wait("the sign-in", "location.pathname === '/sign-in'").await;
    assert_eq!(browser.client.find_all(Css("button[name=action], main table")).await.unwrap().len(), 0);
    let sign_in = async |password: &str| {
        browser.find("#user").await.send_keys("taro").await.unwrap();
        browser.find("#password").await.send_keys(&format!("{password}{}", char::from(Key::Enter))).await.unwrap();
    };
    sign_in("wrong wrong").await;
    browser.wait("the refusal", "document.querySelector('[role=alert]') !== null").await;
    sign_in(PASSWORD).await;
    browser.wait("signed in", "document.querySelector('.user')?.innerText === 'taro'").await;
    let kept = browser.client.get_all_cookies().await.unwrap();
    let session = kept.iter().find(|c| c.name() == "kigen").expect("a session");
    assert_eq!(session.http_only(), Some(true), "no script reads it");

    // What another page could send: no token, no deed.
    browser.open(&format!("{}/outbox?state=held", site.address)).await;
    let forged = browser
        .run_async(
            "fetch('/outbox/act', {method: 'POST', body: new URLSearchParams({action: 'approve', id: '1'})}) \
             .then(answer => done(answer.status))",
        )
        .await;
    assert_eq!((forged, site.bench.outbox("held").await), (json!(403), 2));

    browser.open(&format!("{}/outbox?state=held", site.address)).await;
    browser.tab_to("document.activeElement.value === 'approve'").await;
    let outline = browser.run("return getComputedStyle(document.activeElement).outlineStyle").await;
    assert_ne!(outline, json!("none"), "the focus is seen");
    browser.press(Key::Enter).await;
    browser.wait("one is left", "document.querySelectorAll('button[value=approve]').length === 1").await;
    assert_eq!((site.bench.outbox("held").await, site.bench.outbox("queued").await), (1, 1));

    browser.tab_to("document.activeElement.value === 'cancel'").await;
    browser.press(Key::Enter).await;
    assert!(!browser.client.get_alert_text().await.unwrap().is_empty());
    browser.client.dismiss_alert().await.unwrap();
    assert_eq!(site.bench.outbox("held").await, 1, "asked first, and the answer was no");

    browser.open(&format!("{}/", site.address)).await;
    browser.tab_to("document.activeElement.id === 'reason'").await;
    browser.type_text("誤送信の疑い").await;
    browser.press(Key::Enter).await;
    browser.wait("on hold", "document.querySelector('.banner.hold')?.innerText.includes('誤送信の疑い')").await;
    assert_eq!(site.bench.ctx.store.holds().await.unwrap()[0].set_by, "taro");
    browser
        .tab_to("document.activeElement.closest('.banner.hold') && document.activeElement.tagName === 'BUTTON'")
        .await;
    browser.press(Key::Enter).await;
    browser.client.accept_alert().await.unwrap();
    browser.wait("resumed", "document.querySelector('.banner.hold') === null").await;

    browser.open(&format!("{}/audit?lang=ja", site.address)).await;
    let told = browser.run("return document.querySelector('main').innerText").await;
    for word in ["taro", "誤送信の疑い", "承認", "再開"] {
        assert!(told.as_str().unwrap().contains(word), "{word}: {told}");
    }
    // The forged form and the refused sign-in answer with an error, which the browser notes; nothing else.
    let rest: Vec<_> = browser.complaints().await.into_iter().filter(|c| !c.contains("40")).collect();
    assert_eq!(rest, Vec::<String>::new());
    browser.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mail_stands_in_its_frame_and_its_script_does_not_run() {
    let site = Site::start(vec![affected("A1")], "").await;
    site.bench.scan().await;
    site.bench.pass().await;
    // The templates' check lets no script through; so the stored bytes are changed, as an intruder would.
    let (store, now) = (&site.bench.ctx.store, site.bench.clock.now());
    let claimed = store.claim("test", now, now + TimeDelta::minutes(1)).await.unwrap().expect("a notice");
    let head = "From: a@vendor.example\r\nMIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n\r\n";
    let html = "<!doctype html><html><body style=\"background: #fff\"><p id=\"p\">お知らせ</p><script>parent.postMessage('out', '*'); \
                document.getElementById('p').textContent = 'changed'</script><img src=x onerror=\"parent.postMessage('out', '*')\">\
                <form action=\"/pause\" method=\"post\"><button id=\"b\">x</button></form></body></html>";
    let message = Message { raw: format!("{head}{html}").into_bytes(), ..claimed.message };
    assert!(store.replace_message(claimed.delivery.id, "test", &message).await.unwrap());
    let browser = Browser::start().await;
    browser.open(&format!("{}/mails/1", site.address)).await;
    browser.run("window.heard = []; addEventListener('message', e => heard.push(e.data))").await;
    let frame = browser.find("iframe.mail").await;
    let shown = frame.screenshot().await.unwrap();
    frame.clone().enter_frame().await.unwrap();
    let text = browser.find("#p").await.text().await.unwrap();
    assert_eq!(text, "お知らせ");
    browser.run("document.getElementById('p').style.visibility = 'hidden'").await;
    browser.client.enter_parent_frame().await.unwrap();
    assert_ne!(shown, frame.screenshot().await.unwrap(), "the text was on the paper");
    frame.clone().enter_frame().await.unwrap();
    browser.find("#b").await.click().await.unwrap();
    let here = browser.run("return location.pathname").await;
    assert_eq!(here, json!("/mails/1/html"), "a form in a mail goes nowhere");
    browser.client.enter_parent_frame().await.unwrap();
    assert_eq!(browser.run("return heard").await, json!([]));
    let stopped = |c: &String| c.contains("sandboxed") || c.contains("Content Security Policy");
    assert!(browser.complaints().await.iter().all(stopped), "what the browser says of the frame is that it stopped it");
    // The same page where nothing stops it: the script was a working one.
    let html = percent_encoding::utf8_percent_encode(html, percent_encoding::NON_ALPHANUMERIC);
    browser.open(&format!("data:text/html;charset=utf-8,{html}")).await;
    assert_eq!(browser.find("#p").await.text().await.unwrap(), "changed");
    browser.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_telephone_list_prints_on_a_sheet_without_what_is_only_for_the_screen() {
    let site = evil().await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/calls?lang=ja", site.address)).await;
    // A4 at 96 dpi, without margins.
    browser.width(794).await;
    browser.devtools("Emulation.setEmulatedMedia", json!({ "media": "print" })).await;
    let seen = browser
        .run(
            "const shown = s => [...document.querySelectorAll(s)].some(e => getComputedStyle(e).display !== 'none'); \
             return [shown('.top, .banner, footer, button'), shown('.calls .phone'), document.documentElement.scrollWidth <= 794]",
        )
        .await;
    assert_eq!(seen, json!([false, true, true]));
    browser.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_language_is_switched_and_kept_and_the_question_is_not_lost() {
    let site = Site::start(vec![affected("A1")], "").await;
    site.scan_and_tell().await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/customers?lang=ja", site.address)).await;
    browser.open(&format!("{}/customers?q=A1&verdict=affected", site.address)).await;
    browser.find("a.lang").await.click().await.unwrap();
    browser.wait("English", "document.documentElement.lang === 'en'").await;
    let kept = "[document.querySelector('input[name=q]').value, document.querySelector('select[name=verdict]').value]";
    assert_eq!(browser.run(&format!("return {kept}")).await, json!(["A1", "affected"]));
    browser.open(&format!("{}/customers/A1", site.address)).await;
    let text = browser.run("return [document.documentElement.lang, document.querySelector('main').innerText]").await;
    assert!(text[0] == "en" && text[1].as_str().unwrap().contains("affected since"), "{text}");
    browser.find("a.lang").await.click().await.unwrap();
    browser.wait("Japanese", "document.documentElement.lang === 'ja'").await;
    let text = browser.run("return document.querySelector('main').innerText").await;
    let text = text.as_str().unwrap();
    assert!(text.contains("対象になりました") && !text.contains("affected since"), "{text}");
    browser.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fresh_numbers_come_by_themselves_and_disturb_neither_typing_nor_reading() {
    let mut lab = Lab::start(vec![affected("A1")]).await;
    lab.settings.mode = "review";
    let site = Site::with(lab, &users()).await;
    site.bench.scan().await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/sign-in", site.address)).await;
    browser.find("#user").await.send_keys("taro").await.unwrap();
    browser.find("#password").await.send_keys(&format!("{PASSWORD}{}", char::from(Key::Enter))).await.unwrap();
    browser.wait("signed in", "document.querySelector('.user') !== null").await;
    browser.width(700).await;
    browser.find("#reason").await.send_keys("途中まで").await.unwrap();
    browser.run("scrollTo(0, 400)").await;
    let before = browser.run("return scrollY").await.as_f64().unwrap();
    site.bench.pass().await;
    // The page asks again by itself once a minute, and when somebody comes back to it; the numbers are read anew each time
    // they are some seconds old.
    browser
        .wait_with(
            "the held mail",
            "document.dispatchEvent(new Event('visibilitychange'))",
            "document.querySelector('a[href=\"/outbox?state=held\"] b')?.innerText === '1'",
        )
        .await;
    let after = browser.run("return [document.activeElement.id, document.activeElement.value]").await;
    assert_eq!(after, json!(["reason", "途中まで"]));
    // What grew above moves the page, so that what is read stays in its place; it never jumps back to the top.
    let scrolled = browser.run("return scrollY").await.as_f64().unwrap();
    assert!(scrolled >= before, "{scrolled} after {before}");
    site.bench.go(TimeDelta::hours(11));
    browser.run("document.dispatchEvent(new Event('visibilitychange'))").await;
    assert_eq!(browser.run("return location.pathname").await, json!("/"), "a session that is over takes nothing away");
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.end().await;
}
