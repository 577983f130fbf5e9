//! Pages of the admin tool in every shape that its labels may come in: what is read, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::collections::BTreeMap;

use kigen::config::{ExlookConfig, Labels};
use kigen::connector::exlook::labels::{Words, key, label_key};
use kigen::connector::exlook::pages::{Page, Press};
use kigen::connector::exlook::said::{Said, said};
use kigen::connector::exlook::script;
use kigen::connector::exlook::sites::Choose;
use kigen::connector::exlook::{charset, dom::TooComplex};
use kigen::domain::observation::Reason;
use kigen::domain::site::{AuthMethod, ServerType};
use proptest::prelude::*;

const EO: &str = "Exchange Online に接続する";
const ON_PREMISES: &str = "Exchange サーバーに接続する";
const BASIC: &str = "基本認証 (Office 365の場合)";
const OAUTH: &str = "OAuth認証 (Office 365の場合)";

fn words() -> Words {
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
        server_types: BTreeMap::from([
            (ServerType::ExchangeOnline, vec![EO.to_owned()]),
            (ServerType::OnPremises, vec![ON_PREMISES.to_owned()]),
        ]),
        auth_methods: BTreeMap::from([
            (AuthMethod::Basic, vec![BASIC.to_owned()]),
            (AuthMethod::OAuth, vec![OAUTH.to_owned()]),
            (AuthMethod::OnPremisesBasic, vec!["基本認証 (オンプレミスの場合)".to_owned()]),
        ]),
    })
}

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

const SELECT: &str = "<select name=s><option value=0>Exchange サーバーに接続する<option value=1 selected>Exchange Online に接続する</select>";

#[test]
fn a_setting_is_read_in_every_shape_it_may_be_shown_in() {
    let l = "Exchange サーバーの種類";
    let eo_radios = "<input type=radio name=r value=0 id=r0><label for=r0>Exchange サーバーに接続する</label>\
                     <input type=radio name=r value=1 id=r1 checked><label for=r1>Exchange Online に接続する</label>";
    let rows = [
        ("a drop-down list in the next cell", format!("<table><tr><th>{l}</th><td>{SELECT}</td></tr></table>")),
        ("cells that are not closed", format!("<table><tr><th>{l}<td>{SELECT}<tr><td>x<td>y</table>")),
        ("td beside td", format!("<table><tr><td>{l}</td><td>{SELECT}</td></tr></table>")),
        (
            "an empty cell and a colon between",
            format!("<table><tr><td>{l}</td><td></td><td>：</td><td>{SELECT}</td></tr></table>"),
        ),
        (
            "a disabled list",
            format!("<table><tr><th>{l}</th><td>{}</td></tr></table>", SELECT.replace("name=s", "name=s disabled")),
        ),
        (
            "a hidden list",
            format!(
                "<table><tr><th>{l}</th><td>{}</td></tr></table>",
                SELECT.replace("name=s", "name=s style='display:none'")
            ),
        ),
        (
            "a hidden field",
            format!("<table><tr><th>{l}</th><td><input type=hidden name=h value='{EO}'></td></tr></table>"),
        ),
        (
            "a hidden field in the label's cell",
            format!("<table><tr><th>{l}</th><td>{EO}<input type=hidden name=h value=1></td></tr></table>"),
        ),
        (
            "a list with nothing selected shows its first",
            format!(
                "<table><tr><th>{l}</th><td><select name=s><option value=1>{EO}<option value=0>{ON_PREMISES}</select></td></tr></table>"
            ),
        ),
        (
            "label for a list",
            format!(
                "<div><label for=dd>{l}</label></div><div><div>{}</div></div>",
                SELECT.replace("name=s", "name=s id=dd")
            ),
        ),
        ("label around a list", format!("<label>{l}: {SELECT}</label>")),
        ("label and list in one line", format!("<p>{l}：{SELECT}</p>")),
        (
            "label for, and list in the next column",
            format!(
                "<div class=row><div class=c1><label for=dd>{l}</label></div><div class=c2>{}</div></div>",
                SELECT.replace("name=s", "name=s id=dd")
            ),
        ),
        ("columns without for", format!("<div class=row><div class=c1>{l}</div><div class=c2>{SELECT}</div></div>")),
        ("radio buttons in a line", format!("<table><tr><th>{l}</th><td>{eo_radios}</td></tr></table>")),
        ("radio buttons after the label", format!("<p><b>{l}</b> {eo_radios}</p>")),
        (
            "radio buttons in a table",
            format!(
                "<table><tr><th>{l}</th><td><table><tr><td><input type=radio name=r value=0 id=r0><label for=r0>{ON_PREMISES}</label></td></tr><tr><td><input type=radio name=r value=1 id=r1 checked><label for=r1>{EO}</label></td></tr></table></td></tr></table>"
            ),
        ),
        (
            "radio buttons inside their labels",
            format!(
                "<table><tr><th>{l}</th><td><label><input type=radio name=r value=0>{ON_PREMISES}</label><label><input type=radio name=r value=1 checked>{EO}</label></td></tr></table>"
            ),
        ),
        (
            "radio buttons followed by bare text",
            format!(
                "<table><tr><th>{l}</th><td><input type=radio name=r value=0>{ON_PREMISES}<br><input type=radio name=r value=1 checked>{EO}</td></tr></table>"
            ),
        ),
        (
            "disabled radio buttons in a span",
            format!(
                "<table><tr><th>{l}</th><td><span disabled><input type=radio name=r value=1 id=r1 checked disabled><label for=r1>{EO}</label></span></td></tr></table>"
            ),
        ),
        ("a fieldset whose legend is the label", format!("<fieldset><legend>{l}</legend>{eo_radios}</fieldset>")),
        ("plain text in a cell", format!("<table><tr><th>{l}</th><td>{EO}</td></tr></table>")),
        (
            "plain text in a span in a cell",
            format!("<table><tr><th>{l}</th><td><span id=x>{EO}</span></td></tr></table>"),
        ),
        (
            "plain text with a remark",
            format!(
                "<table><tr><th>{l}</th><td><span>{EO}</span><br><small>※変更は保存後に有効です</small></td></tr></table>"
            ),
        ),
        (
            "plain text with a button",
            format!("<table><tr><th>{l}</th><td>{EO} <button type=button>変更</button></td></tr></table>"),
        ),
        ("a definition list", format!("<dl><dt>{l}<dd>{EO}<dt>ほか<dd>値</dl>")),
        ("label and span", format!("<label>{l}</label> <span>{EO}</span>")),
        ("label, colon and text in one text", format!("<p>{l}：{EO}</p>")),
        (
            "two lines in one cell",
            format!("<table><tr><td>{l}：<span>{EO}</span><br>ほか：<span>値</span></td></tr></table>"),
        ),
        ("a read-only field", format!("<table><tr><th>{l}</th><td><input readonly value='{EO}'></td></tr></table>")),
        ("a text area", format!("<table><tr><th>{l}</th><td><textarea disabled>{EO}</textarea></td></tr></table>")),
        (
            "the label in its own table",
            format!("<table><tr><td><table><tr><td>{l}</td></tr></table></td><td>{SELECT}</td></tr></table>"),
        ),
        (
            "the label row above the value row",
            format!("<table><tr><td colspan=2>{l}</td></tr><tr><td></td><td>{SELECT}</td></tr></table>"),
        ),
        (
            "a header row above",
            format!(
                "<table><tr><th>{l}</th><th>Exchange サーバーの認証方式</th></tr><tr><td>{EO}</td><td>{BASIC}</td></tr></table>"
            ),
        ),
        (
            "a help link in the heading",
            format!("<table><tr><th>{l} <a href=help.aspx>説明を見る</a></th><td>{EO}</td></tr></table>"),
        ),
        (
            "a mark in the label's cell",
            format!("<table><tr><td>{l}<span class=req>必須</span></td><td>{EO}</td></tr></table>"),
        ),
        (
            "one column",
            format!(
                "<table><tr><td>{l}</td></tr><tr><td>{EO}</td></tr><tr><td>ほか</td></tr><tr><td>値</td></tr></table>"
            ),
        ),
        (
            "an explanation elsewhere",
            format!("<table><tr><th>{l}</th><td>{SELECT}</td></tr></table><p>{l}：接続先を選びます。</p>"),
        ),
        (
            "a mark of a field that must be filled in",
            format!("<table><tr><th><span>＊</span>{l}</th><td>{SELECT}</td></tr></table>"),
        ),
        (
            "two controls that agree",
            format!("<table><tr><th>{l}</th><td>{SELECT}<input type=hidden name=s value=1></td></tr></table>"),
        ),
        (
            "twice on the page, and the same",
            format!("<table><tr><th>{l}</th><td>{SELECT}</td></tr></table><p>{l}: {EO}</p>"),
        ),
        (
            "full-width letters and spaces",
            "<table><tr><th>Ｅｘｃｈａｎｇｅ　サーバー　の　種類</th><td>Ｅｘｃｈａｎｇｅ　Ｏｎｌｉｎｅ　に接続する</td></tr></table>".to_owned(),
        ),
        ("half-width katakana", format!("<table><tr><th>Exchange ｻｰﾊﾞｰの種類</th><td>{EO}</td></tr></table>")),
        ("no long-vowel mark", format!("<table><tr><th>Exchange サーバの種類</th><td>{EO}</td></tr></table>")),
        (
            "nbsp, a line break and a colon",
            format!("<table><tr><th>Exchange&nbsp;サーバー<br/>\r\n の種類 ：</th><td>{SELECT}</td></tr></table>"),
        ),
        ("lower case", format!("<table><tr><th>exchange サーバーの種類</th><td>{EO}</td></tr></table>")),
        (
            "a label in spans",
            format!(
                "<table><tr><th><span><b>Exchange</b> サーバーの<i>種類</i></span></th><td><div><span>{EO}</span></div></td></tr></table>"
            ),
        ),
    ];
    for (what, row) in rows {
        let settings = page(&server_is(&row)).settings.unwrap_or_else(|f| panic!("{what}: {}", f.detail));
        assert_eq!(settings.server_type, Some(ServerType::ExchangeOnline), "{what}: {settings:?}");
        assert_eq!(settings.auth_method, Some(AuthMethod::Basic), "{what}");
    }
}

#[test]
fn what_contradicts_itself_or_is_missing_is_no_answer() {
    let l = "Exchange サーバーの種類";
    let other = "<select name=t><option selected>Exchange サーバーに接続する</select>";
    let rows = [
        ("no label at all", "<p>nothing</p>".to_owned()),
        ("a label with nothing beside it", format!("<table><tr><th>{l}</th><td></td></tr></table>")),
        (
            "two lists in one cell that disagree",
            format!("<table><tr><th>{l}</th><td>{SELECT}{other}</td></tr></table>"),
        ),
        ("two lists next to each other that disagree", format!("<p>{l} {SELECT} {other}</p>")),
        (
            "two rows that disagree",
            format!("<table><tr><th>{l}</th><td>{SELECT}</td></tr><tr><th>{l}</th><td>{other}</td></tr></table>"),
        ),
        (
            "a list and a hidden field that disagree",
            format!(
                "<table><tr><th>{l}</th><td>{SELECT}<input type=hidden name=h value='{ON_PREMISES}'></td></tr></table>"
            ),
        ),
        (
            "a list and its shadow that disagree",
            format!("<table><tr><th>{l}</th><td>{SELECT}<input type=hidden name=s value=0></td></tr></table>"),
        ),
        (
            "a list and a text that disagree",
            format!("<table><tr><th>{l}</th><td>{SELECT}<br>{ON_PREMISES}</td></tr></table>"),
        ),
        (
            "a label for one list beside another",
            format!(
                "<table><tr><th><label for=far>{l}</label></th><td>{SELECT}</td></tr></table><div><select name=t id=far><option>{ON_PREMISES}</select></div>"
            ),
        ),
        (
            "no radio button checked",
            format!(
                "<table><tr><th>{l}</th><td><input type=radio name=r id=a><label for=a>{EO}</label></td></tr></table>"
            ),
        ),
        (
            "a list box with nothing selected",
            format!("<table><tr><th>{l}</th><td><select size=4><option>{EO}</select></td></tr></table>"),
        ),
        ("an empty field", format!("<table><tr><th>{l}</th><td><input value=''></td></tr></table>")),
        ("only a check box", format!("<table><tr><th>{l}</th><td><input type=checkbox checked></td></tr></table>")),
        (
            "several rows below",
            format!(
                "<table><tr><th>{l}</th><th>x</th></tr><tr><td>{EO}</td><td>1</td></tr><tr><td>{ON_PREMISES}</td><td>2</td></tr></table>"
            ),
        ),
        ("two known texts", format!("<table><tr><th>{l}</th><td>{EO}<br>{ON_PREMISES}</td></tr></table>")),
    ];
    for (what, row) in rows {
        let failure = page(&server_is(&row)).settings.expect_err(what);
        assert_eq!(failure.reason, Reason::LayoutChanged, "{what}");
        assert!(failure.detail.contains(l), "{what}: {}", failure.detail);
        assert_eq!(failure.raw.auth_method.as_deref(), Some(BASIC), "{what}: the other is kept");
    }
}

#[test]
fn an_unknown_text_is_kept_and_not_understood() {
    let settings = page(&server_is("<p>Exchange サーバーの種類：Exchange  Something</p>")).settings.unwrap();
    assert_eq!(settings.server_type, None);
    assert_eq!(settings.raw.server_type.as_deref(), Some("Exchange Something"));
    let long = "長".repeat(1000);
    let row = format!("<table><tr><th>Exchange サーバーの種類</th><td>{long}</td></tr></table>");
    let settings = page(&server_is(&row)).settings.unwrap();
    assert_eq!(settings.raw.server_type.map(|t| t.chars().count()), Some(200));
}

#[test]
fn labels_in_the_group_count_before_the_same_labels_elsewhere() {
    let row = |value: &str| {
        format!(
            "<table><tr><th>Exchange サーバーの種類</th><td>{value}</td></tr><tr><th>Exchange サーバーの認証方式</th><td>{BASIC}</td></tr></table>"
        )
    };
    let pages = [
        (
            "a fieldset",
            format!(
                "<fieldset><legend>旧設定</legend>{}</fieldset><fieldset><legend>Exchange設定</legend>{}</fieldset>",
                row(ON_PREMISES),
                row(EO)
            ),
        ),
        (
            "headings",
            format!(
                "<h3>旧設定</h3>{}<h3>Exchange 設定</h3>{}<h3>そのほか</h3>{}",
                row(ON_PREMISES),
                row(EO),
                row(ON_PREMISES)
            ),
        ),
        (
            "a caption",
            format!(
                "<div>{}</div><div>{}</div>",
                row(ON_PREMISES),
                row(EO).replace("<table>", "<table><caption>Exchange設定</caption>")
            ),
        ),
    ];
    for (what, body) in pages {
        let settings = page(&form(&body)).settings.unwrap_or_else(|f| panic!("{what}: {}", f.detail));
        assert_eq!(settings.server_type, Some(ServerType::ExchangeOnline), "{what}");
    }
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
fn a_form_sends_what_a_browser_sends() {
    let html = form(
        "<input name=a value=1><input name=b value=2 disabled><input value=noname>\
         <fieldset disabled><legend><input name=c value=3></legend><input name=d value=4></fieldset>\
         <input type=radio name=r value=1 checked><input type=radio name=r value=2 checked><input type=checkbox name=k>\
         <input type=checkbox name=m value=z checked><select name=s><option value=1 disabled selected>x<option value=2>y</select>\
         <select name=t multiple><option selected>one<option>two<option selected>three</select>\
         <select name=u><option disabled value=0>x<option value=9>y</select>\
         <input type=submit name=go value=go><input type=image name=i><button name=b1 value=1>x</button>\
         <input type=reset name=re><input type=file name=f><input type=button name=bu value=x><textarea name=ta>\nx</textarea>",
    ) + "<input name=outside value=1>";
    let fields: Vec<String> = page(&html).forms[0].fields().into_iter().map(|(n, v)| format!("{n}={v}")).collect();
    assert_eq!(
        fields,
        ["__VIEWSTATE=v", "a=1", "c=3", "r=2", "m=z", "t=one", "t=three", "u=9", "ta=x"].map(str::to_owned)
    );
    // A form inside a table is closed at once by the parser; its controls still belong to it. So do those with form=.
    let sloppy = "<table><form id=f method=post><tr><td><input name=in value=1></td></tr></table><input name=late form=f value=2>";
    let fields: Vec<String> = page(sloppy).forms[0].fields().into_iter().map(|(n, _)| n).collect();
    assert_eq!(fields, ["in", "late"]);
}

#[test]
fn the_tab_is_found_as_link_button_or_item() {
    let post = "__doPostBack('tab$2','')";
    let tabs = [
        ("a link", format!("<a href=\"javascript:{post}\">ExLookサイト設定</a>")),
        ("a link with spaces and an entity", "<a href='javascript:__doPostBack(&#39;tab$2&#39;,&#39;&#39;)'> ExLook　サイト設定&nbsp;</a>".to_owned()),
        ("an encoded link", "<a href=\"javascript:__doPostBack('tab%242','')\">ExLookサイト設定</a>".to_owned()),
        ("a link with onclick", format!("<a href='#' onclick=\"{post};return false;\"><span>ExLookサイト設定</span></a>")),
        ("an item", format!("<ul><li onclick=\"{post}\"><span>ExLookサイト設定</span></li><li>x</li></ul>")),
        ("a button that posts by script", format!("<input type=button value=ExLookサイト設定 onclick=\"javascript:{post}\">")),
        ("a button element that posts by script", format!("<button type=button onclick=\"{post}\">ExLookサイト設定</button>")),
        ("a picture", format!("<a href=\"javascript:{post}\"><img src=x.gif alt='ExLookサイト設定'></a>")),
        ("a post with options", "<a href='javascript:WebForm_DoPostBackWithOptions(new WebForm_PostBackOptions(&quot;tab$2&quot;, &quot;&quot;, true, &quot;&quot;, &quot;&quot;, false, true))'>ExLookサイト設定</a>".to_owned()),
    ];
    for (what, tab) in tabs {
        let page = page(&form(&format!("<a href=\"javascript:__doPostBack('tab$1','')\">ほか</a>{tab}")));
        let Some(Press::PostBack { form: 0, post }) = &page.tab else { panic!("{what}: {:?}", page.tab) };
        assert_eq!(post.target, "tab$2", "{what}");
    }
    let link = page(&form("<a href='sites.aspx?x=1&amp;y=2'>ExLookサイト設定</a>"));
    assert_eq!(link.tab, Some(Press::Get("sites.aspx?x=1&y=2".to_owned())));
    let submit = page(&form("<input type=submit name=t value=ExLookサイト設定>"));
    assert!(matches!(submit.tab, Some(Press::Submit { .. })), "{:?}", submit.tab);
    assert_eq!(page(&form("<b>ExLookサイト設定</b>")).tab, None, "the open tab is no control");
}

#[test]
fn sites_are_listed_whatever_the_list_is() {
    let names = |html: &str| {
        let list = page(&form(html)).sites.unwrap_or_else(|e| panic!("{html}: {e}"));
        let names: Vec<String> = list.entries.iter().map(|e| e.name.clone()).collect();
        (names, list.shown)
    };
    let two = |shown| (vec!["本社".to_owned(), "大阪".to_owned()], shown);
    let l = "ExLookサイト名";
    assert_eq!(names(&format!("{l}: <select name=s><option>本社<option selected>&nbsp;大阪 </select>")), two(Some(1)));
    assert_eq!(
        names(&format!(
            "<label for=x>{l}</label><p><select id=x name=s><option value=''>-- 選択 --<option value=1>本社<option value=2>大阪</select></p>"
        )),
        two(None)
    );
    assert_eq!(
        names(&format!(
            "<table><tr><th>{l}<td><input type=radio name=r id=a value=1 checked><label for=a>本社</label><input type=radio name=r id=b value=2><label for=b>大阪</label></table>"
        )),
        two(Some(0))
    );
    let link = |n: u8, name: &str| format!("<a href=\"javascript:__doPostBack('l','{n}')\">{name}</a>");
    assert_eq!(
        names(&format!(
            "<h4>{l}</h4><ul><li>{}</li><li class='item selected'>{}</li></ul>",
            link(0, "本社"),
            link(1, "大阪")
        )),
        two(Some(1))
    );
    assert_eq!(names(&format!("<h4>{l}</h4><ul><li><b>本社</b></li><li>{}</li></ul>", link(1, "大阪"))), two(Some(0)));
    assert_eq!(
        names(&format!("<h4>{l}</h4><ul><li>{}</li><li>{}</li></ul>", link(0, "本社"), link(1, "大阪"))),
        two(None)
    );
    assert_eq!(
        names(&format!(
            "<table><tr><th>{l}</th><th>備考</th></tr><tr><td>{}</td><td>x</td></tr><tr><td>{}</td><td>y</td></tr></table><p>{l}：大阪</p>",
            link(0, "本社"),
            link(1, "大阪")
        )),
        two(Some(1))
    );
    assert_eq!(names(&format!("<table><tr><td>{l}<td>本社</table>")), (vec!["本社".to_owned()], Some(0)));
    assert_eq!(names(&format!("<p>{l}：本社</p>")), (vec!["本社".to_owned()], Some(0)));
    assert!(page(&form("<p>x</p>")).sites.is_err());
    assert!(page(&form(&format!("<p>{l}</p>"))).sites.is_err());
}

#[test]
fn the_log_on_page_is_understood() {
    let fixture = page(include_str!("fixtures/exlook/logon.html"));
    assert!(fixture.is_logon());
    let logon = fixture.logon.clone().unwrap().unwrap();
    let Press::Submit { form, control } = logon.press else { panic!("{logon:?}") };
    let mut form = fixture.forms[form].clone();
    form.fill(logon.account, "admin");
    form.fill(logon.password, "p&w");
    let names: Vec<String> = form.pressed(control).into_iter().map(|(n, v)| format!("{n}={v}")).collect();
    assert_eq!(
        names,
        [
            "__EVENTTARGET=",
            "__EVENTARGUMENT=",
            "__VIEWSTATE=/wEPDwUKLTk0+ZA==",
            "__EVENTVALIDATION=/wEWBAL+raDpAg==",
            "txtAccount=admin",
            "txtPassword=p&w",
            "btnLogon=ログオン"
        ]
        .map(str::to_owned)
    );
    let fields = "<input name=company type=hidden value=1><input name=user><input type=password name=pw>";
    let press = |buttons: &str| page(&form_of(&format!("{fields}{buttons}"))).logon.unwrap();
    let image = press("<input type=image name=go alt=ログイン src=x>").unwrap();
    let Press::Submit { control, .. } = image.press else { panic!("{image:?}") };
    let sent =
        page(&form_of(&format!("{fields}<input type=image name=go alt=ログイン src=x>"))).forms[0].pressed(control);
    assert!(sent.iter().any(|(n, _)| n == "go.x") && sent.iter().any(|(n, _)| n == "go.y"));
    let link =
        press("<a href=\"javascript:__doPostBack('lb','')\">Log on</a><input type=submit value=クリア>").unwrap();
    assert!(matches!(&link.press, Press::PostBack { post, .. } if post.target == "lb"), "{link:?}");
    let dummies = "<input name=d style='display: none'><input type=password name=e style='display:none'>";
    let logon = press_with(&format!("{fields}{dummies}<button>OK</button>"));
    assert_eq!((logon.account, logon.password), (2, 3), "fields that nobody sees are not filled in");
    assert!(matches!(press("<button>OK</button>").unwrap().press, Press::Submit { .. }), "the only button");
    assert!(press("<input type=submit value=設定内容を保存>").is_err(), "never a button that saves");
    assert!(press("<input type=submit value=A><input type=submit value=B>").is_err(), "two buttons, neither log-on");
    assert!(
        page(&form_of("<input type=password name=pw><button>x</button>")).logon.unwrap().is_err(),
        "no account field"
    );
}

fn press_with(body: &str) -> kigen::connector::exlook::pages::Logon {
    page(&form(body)).logon.unwrap().unwrap()
}

fn form_of(body: &str) -> String {
    form(body)
}

#[test]
fn messages_are_told_from_standing_hints() {
    let logon = page(include_str!("fixtures/exlook/logon.html"));
    let rows = [
        ("アカウントがロックされています。", Said::Locked),
        ("アカウント ロックアウト", Said::Locked),
        ("Your account has been locked.", Said::Locked),
        ("アカウントまたはパスワードが違います。あと2回でロックされます。", Said::Refused),
        ("パスワードの有効期限が切れています。パスワードを変更してください。", Said::ChangePassword),
        ("Your password has expired.", Said::ChangePassword),
        ("ただいまメンテナンス中です。", Said::Maintenance),
        ("入力した内容を確認してください。", Said::Nothing),
        ("", Said::Nothing),
    ];
    for (message, expected) in rows {
        let html =
            include_str!("fixtures/exlook/logon.html").replace("<span id=\"lblMessage\">", &format!("<span>{message}"));
        assert_eq!(said(&page(&html), &logon.texts), expected, "{message}");
        let html = include_str!("fixtures/exlook/logon.html")
            .replace("</body>", &format!("<script>alert('{message}');</script></body>"));
        assert_eq!(said(&page(&html), &logon.texts), expected, "alert: {message}");
    }
    let maintenance = page("<html><title>お知らせ</title><p>システムメンテナンスのお知らせ</p>");
    assert_eq!(said(&maintenance, &[]), Said::Maintenance);
    let yellow = page(
        "<html><head><title>ランタイム エラー</title></head><h1>'/exlookconfig' アプリケーションでサーバー エラーが発生しました。</h1>",
    );
    assert_eq!(said(&yellow, &[]), Said::Error);
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

#[test]
fn hostile_nesting_costs_neither_stack_nor_hours() {
    // The parser is quadratic in the depth of some elements, and slow without optimisation: fewer of those.
    for (tag, depth) in
        [("<table><tr><td>", 10_000), ("<b>", 10_000), ("<p><b>", 5_000), ("<div>", 2_000), ("<ul><li>", 1_500)]
    {
        let html = format!("{}Exchange サーバーの種類", tag.repeat(depth));
        let parsed = std::thread::Builder::new()
            .stack_size(512 * 1024)
            .spawn(move || Page::parse(html.as_bytes(), None, &words()).map(|page| page.settings.is_err()))
            .unwrap()
            .join()
            .expect("no overflow");
        assert!(matches!(parsed, Ok(true) | Err(TooComplex)), "{tag}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_bytes_make_a_page_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000), header in ".{0,40}") {
        let _ = Page::parse(&bytes, Some(&header), &words());
    }

    #[test]
    fn no_soup_makes_a_page_panic(pieces in proptest::collection::vec(0usize..SOUP.len(), 0..120)) {
        let html: String = pieces.iter().map(|&i| SOUP[i]).collect();
        let page = page(&html);
        for form in &page.forms {
            let _ = form.fields();
            let _ = form.postback("x", "");
        }
        let _ = said(&page, &[]);
    }

    #[test]
    fn no_script_makes_it_panic(script in ".{0,200}") {
        let _ = script::postback(&format!("__doPostBack({script}"));
        let _ = script::postback(&format!("setTimeout('{script}"));
        let _ = script::alerts(&format!("alert('{script}"));
    }
}

const SOUP: [&str; 48] = [
    "<table>",
    "</table>",
    "<tr>",
    "<td>",
    "<th>",
    "</td>",
    "</tr>",
    "<dl>",
    "<dt>",
    "<dd>",
    "<form>",
    "</form>",
    "<label>",
    "<label for=a>",
    "</label>",
    "<input>",
    "<input id=a type=radio name=r>",
    "<input type=radio name=r checked>x",
    "<select name=s>",
    "<option selected>",
    "<option>",
    "</select>",
    "<fieldset disabled>",
    "<legend>",
    "</fieldset>",
    "Exchange サーバーの種類",
    "Exchange サーバーの認証方式",
    "ExLookサイト名",
    "ExLookサイト設定",
    "Exchange設定",
    "Exchange Online に接続する",
    "<a href=\"javascript:__doPostBack('x','')\">",
    "</a>",
    "<input type=hidden value='Exchange Online に接続する'>",
    "<script>",
    "</script>",
    "<!--",
    "-->",
    "<template>",
    "</template>",
    "<button>",
    "</button>",
    "<caption>",
    "<thead>",
    "<tbody>",
    "<br>",
    "：",
    "<input type=password name=p>",
];
