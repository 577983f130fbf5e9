//! What reading one page costs: by html5ever alone, by the full parser, and the short way, on the same pages in turn.
//!
//! `cargo bench --bench page -- --rounds 20`: so many rounds; the best of them counts, for other work on the machine only
//! ever adds.
#![allow(clippy::unwrap_used, missing_docs, reason = "a bench may")]

use std::hint::black_box;
use std::time::Instant;

use encoding_rs::UTF_8;
use kigen::config::{ExlookConfig, Labels};
use kigen::connector::exlook::dom::unified;
use kigen::connector::exlook::labels::Words;
use kigen::connector::exlook::pages::Page;
use kigen::connector::exlook::{fast, tree};
use kigen::demo::admin_tool::{Charset, Drawn, LogonButton, LogonLook, Variant, WorldCustomer, WorldSite, drawn};
use kigen::domain::site::{AuthMethod, ServerType};

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let rounds = args.iter().position(|arg| arg == "--rounds").and_then(|at| args.get(at + 1)?.parse().ok());
    // `cargo test --benches` only wants to see it run.
    let (rounds, pages) = if args.iter().any(|arg| arg == "--bench") { (rounds.unwrap_or(20), 200) } else { (1, 2) };
    for (what, page) in [("a table of users", table(60 * 1024)), ("a page of settings", tool_page())] {
        println!("{what}: {} bytes", page.len());
        bench(&page, rounds, pages);
    }
}

fn bench(page: &str, rounds: usize, pages: usize) {
    let words = words();
    let header = Some("text/html; charset=utf-8");
    let unified = unified(page.into());
    let read = Page::parse(page.as_bytes(), header, &words).unwrap();
    assert_eq!(read.irregular, None, "the page is regular");
    assert!(read.settings.is_ok());
    let ways: [(&str, &dyn Fn() -> usize); 5] = [
        ("html5ever's tree", &|| scraper::Html::parse_document(page).tree.nodes().count()),
        ("full parser", &|| tree::parse(&unified).unwrap().nodes.len()),
        ("full parser, read", &|| Page::of(tree::parse(&unified).unwrap(), UTF_8, &words, None).forms.len()),
        ("short way", &|| fast::parse(&unified).unwrap().nodes.len()),
        ("bytes to page, short way", &|| Page::parse(page.as_bytes(), header, &words).unwrap().forms.len()),
    ];
    let mut best = [f64::MAX; 5];
    for _ in 0..rounds {
        for ((_, way), best) in ways.iter().zip(&mut best) {
            let began = Instant::now();
            for _ in 0..pages {
                black_box(way());
            }
            *best = best.min(began.elapsed().as_secs_f64() * 1e6 / pages as f64);
        }
    }
    for ((name, _), took) in ways.iter().zip(best) {
        println!("  {name:26} {took:7.0} us/page, {:5.2} of html5ever's tree", took / best[0]);
    }
}

fn words() -> Words {
    let texts = |texts: &[&str]| texts.iter().map(|&t| t.to_owned()).collect::<Vec<_>>();
    Words::new(&ExlookConfig {
        logon_url: "https://www.example.jp/exlookconfig/logon.aspx".parse().unwrap(),
        portal_url: "https://portal.example.jp/".parse().unwrap(),
        labels: Labels {
            tab: "ExLookサイト設定".to_owned(),
            site: "ExLookサイト名".to_owned(),
            group: "Exchange設定".to_owned(),
            server_type: "Exchange サーバーの種類".to_owned(),
            auth_method: "Exchange サーバーの認証方式".to_owned(),
            save: "設定内容を保存".to_owned(),
        },
        server_types: [
            (ServerType::ExchangeOnline, texts(&["Exchange Online に接続する"])),
            (ServerType::OnPremises, texts(&["Exchange サーバーに接続する"])),
        ]
        .into(),
        auth_methods: [
            (AuthMethod::Basic, texts(&["基本認証 (Office 365の場合)"])),
            (AuthMethod::OAuth, texts(&["OAuth認証 (Office 365の場合)"])),
            (AuthMethod::OnPremisesBasic, texts(&["基本認証 (オンプレミスの場合)"])),
        ]
        .into(),
    })
}

/// The settings as the simulated admin tool draws them, with a large view state and little else.
fn tool_page() -> String {
    let site = WorldSite::new("本社", ServerType::ExchangeOnline, AuthMethod::Basic);
    let variant = Variant { view_state_kib: 60, ..Variant::PLAIN };
    let look = LogonLook { charset: Charset::Utf8Header, button: LogonButton::Submit, news: true };
    let pages = drawn(&WorldCustomer::new("C0001", vec![site]).with_variant(variant), look, 7);
    let Drawn { body, .. } = pages.into_iter().next_back().unwrap();
    String::from_utf8(body).unwrap()
}

/// The page of `benches/fleet.rs`: 45 % of it view state, and a table that is nothing to us.
fn table(bytes: usize) -> String {
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
