//! Pages of the admin tool in every shape that its labels may come in: what is read, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

#[path = "exlook_pages/hostile.rs"]
mod hostile;
#[path = "exlook_pages/screens.rs"]
mod screens;
#[path = "exlook_pages/settings.rs"]
mod settings;
#[path = "common/tool_pages.rs"]
mod tool_pages;

use kigen::connector::exlook::labels::{key, label_key};
use kigen::connector::exlook::pages::{Page, Press};
use kigen::connector::exlook::sites::Choose;
use kigen::connector::exlook::{charset, script};
use kigen::domain::site::{AuthMethod, ServerType};

use crate::tool_pages::{BASIC, words};

fn page(html: &str) -> Page {
    Page::parse(html.as_bytes(), Some("text/html; charset=utf-8"), &words()).expect("small enough")
}

/// A page whose form holds `body`.
fn form(body: &str) -> String {
    format!(
        "<html><body><form method=post action=default.aspx><input type=hidden name=__VIEWSTATE value=v>{body}</form></body></html>"
    )
}

/// The method's row is always the same; only the server type's is tried.
fn server_is(row: &str) -> String {
    form(&format!(
        "<h2>Exchange設定</h2>{row}<table><tr><th>Exchange サーバーの認証方式</th><td>{BASIC}</td></tr></table>"
    ))
}

#[test]
fn the_whole_settings_page_is_understood() {
    let page = page(include_str!("fixtures/exlook/settings.html"));
    let settings = page.settings.clone().unwrap();
    assert_eq!(settings.server_type, Some(ServerType::ExchangeOnline));
    assert_eq!(settings.auth_method, Some(AuthMethod::Basic));
    assert!(page.is_inside() && page.shows_settings && !page.is_logon());
    let list = page.sites.clone().unwrap();
    let names: Vec<&str> = list.entries.iter().map(|e| e.name.as_str()).collect();
    assert_eq!(names, ["本社", "大阪支社", "A&B 事業部"]);
    assert_eq!(list.shown, Some(1));
    let Choose::Option { form, control, option, post } = &list.entries[2].choose else { panic!("{list:?}") };
    assert_eq!(post.as_ref().map(|p| p.target.as_str()), Some("ctl00$main$ddlSite"));
    let mut form = page.forms[*form].clone();
    form.select(*control, *option);
    let fields = form.postback("ctl00$main$ddlSite", "");
    let sent: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(
        sent,
        [
            ("__EVENTTARGET", "ctl00$main$ddlSite"),
            ("__EVENTARGUMENT", ""),
            ("__LASTFOCUS", ""),
            ("__VIEWSTATEFIELDCOUNT", "2"),
            ("__VIEWSTATE", "AAAA"),
            ("__VIEWSTATE1", "BBBB"),
            ("ctl00$main$ddlSite", "3"),
            ("ctl00$main$txtName", "大阪 \"支社\""),
            ("ctl00$main$txtNote", "一行目\n二行目"),
            ("ctl00$main$chk", "on"),
            ("ctl00$main$ddlServer", "1"),
            ("ctl00$main$rblAuth", "B"),
        ]
    );
    let body = charset::encode_form(&fields, encoding_rs::UTF_8).unwrap();
    assert!(body.contains("%E4%B8%80%E8%A1%8C%E7%9B%AE%0D%0A"), "line ends go out as CRLF");
    assert!(page.saves.contains("ctl00$main$btnSave"));
    let Some(Press::PostBack { post, .. }) = &page.tab else { panic!("{:?}", page.tab) };
    assert_eq!(post.target, "ctl00$menu$t1");
    let Some(Press::PostBack { post, .. }) = &page.log_off else { panic!("{:?}", page.log_off) };
    assert_eq!(post.target, "ctl00$LoginStatus1$ctl00");
}

#[test]
fn the_charset_is_found_as_a_browser_finds_it() {
    let html = server_is("<table><tr><th>Exchange サーバーの種類</th><td>Exchange Online に接続する</td></tr></table>");
    let sjis = |html: &str| encoding_rs::SHIFT_JIS.encode(html).0.into_owned();
    let meta = |charset: &str| {
        html.replace("<html>", &format!("<html><head><!-- <meta charset=utf-16> --><meta {charset}></head>"))
    };
    let bom = [b"\xef\xbb\xbf".as_slice(), html.as_bytes()].concat();
    let rows = [
        ("UTF-8 by header", html.clone().into_bytes(), Some("text/html; charset=utf-8"), "UTF-8"),
        ("UTF-8 by BOM against the header", bom, Some("text/html; charset=shift_jis"), "UTF-8"),
        ("UTF-8 by nothing", html.clone().into_bytes(), Some("text/html"), "UTF-8"),
        ("UTF-8 by meta", meta("charset=UTF-8").into_bytes(), None, "UTF-8"),
        ("Shift_JIS by header", sjis(&html), Some("text/html; charset=\"Shift_JIS\""), "Shift_JIS"),
        ("windows-31j by header", sjis(&html), Some("text/html;Charset=Windows-31J"), "Shift_JIS"),
        ("cp932 by header", sjis(&html), Some("text/html; charset=CP932"), "Shift_JIS"),
        ("Shift_JIS by meta", sjis(&meta("charset='x-sjis'")), Some("text/html"), "Shift_JIS"),
        (
            "Shift_JIS by http-equiv",
            sjis(&meta("http-equiv=Content-Type content='text/html; charset=Shift_JIS'")),
            None,
            "Shift_JIS",
        ),
        ("Shift_JIS by nothing", sjis(&html), None, "Shift_JIS"),
        ("an unknown name in the header", sjis(&html), Some("text/html; charset=nonsense"), "Shift_JIS"),
    ];
    for (what, bytes, header, charset) in rows {
        let page = Page::parse(&bytes, header, &words()).unwrap();
        assert_eq!(page.charset.name(), charset, "{what}");
        assert!(page.settings.is_ok_and(|s| s.server_type == Some(ServerType::ExchangeOnline)), "{what}");
    }
    let field = |value: &str| vec![("n".to_owned(), value.to_owned())];
    let sjis = encoding_rs::SHIFT_JIS;
    assert_eq!(charset::encode_form(&field("髙①～ a*"), sjis).unwrap(), "n=%FB%FC%87%40%81%60+a*");
    assert_eq!(charset::encode_form(&field("😀"), sjis).unwrap_err().field, 0, "refused, not sent as &#…;");
}

#[test]
fn texts_are_compared_as_people_read_them() {
    let same = [
        ("Exchange サーバーの種類", "Ｅｘｃｈａｎｇｅ　サーバの種類"),
        ("サーバー", "ｻｰﾊﾞ"),
        ("OAuth認証 (Office 365の場合)", "ＯＡｕｔｈ認証（Ｏｆｆｉｃｅ　３６５の場合）"),
        ("Exchange\u{a0}Online\u{200b}に接続する", "Exchange Online に接続する"),
    ];
    for (a, b) in same {
        assert_eq!(key(a), key(b));
    }
    assert_ne!(key("データ"), key("デタ"), "inside a word the mark counts");
    assert_eq!(label_key("【Exchange設定】："), label_key("Exchange設定"));
}

#[test]
fn postbacks_are_read_from_scripts() {
    let post = |code: &str| script::postback(code).map(|p| (p.target, p.argument));
    let is = |target: &str, argument: &str| Some((target.to_owned(), argument.to_owned()));
    assert_eq!(post("javascript:__doPostBack('a$b','Select$0')"), is("a$b", "Select$0"));
    assert_eq!(post("javascript:setTimeout('__doPostBack(\\'a$b\\',\\'\\')', 0)"), is("a$b", ""));
    assert_eq!(post("if (ok()) __doPostBack ( \"a\" , \"x'y\" );"), is("a", "x'y"));
    assert_eq!(post("__doPostBack('a\\x24b')"), is("a$b", ""));
    assert_eq!(post("__doPostBack(this.name,'')"), None);
    assert_eq!(
        post("WebForm_DoPostBackWithOptions(new WebForm_PostBackOptions(\"a\", \"\", true, \"\", \"\", false, false))"),
        None
    );
}
