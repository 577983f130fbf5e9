//! What else stands on the tool's screens: forms, the tab, the list of sites, the log-on, messages.

use kigen::connector::exlook::pages::{Logon, Press};
use kigen::connector::exlook::said::{Said, said};

use super::{form, page};

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
    let fixture = page(include_str!("../fixtures/exlook/logon.html"));
    assert!(fixture.is_logon());
    let logon = fixture.logon.clone().unwrap().unwrap();
    let Press::Submit { form: at, control } = logon.press else { panic!("{logon:?}") };
    let mut filled = fixture.forms[at].clone();
    filled.fill(logon.account, "admin");
    filled.fill(logon.password, "p&w");
    let names: Vec<String> = filled.pressed(control).into_iter().map(|(n, v)| format!("{n}={v}")).collect();
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
    let press = |buttons: &str| page(&form(&format!("{fields}{buttons}"))).logon.unwrap();
    let image = press("<input type=image name=go alt=ログイン src=x>").unwrap();
    let Press::Submit { control, .. } = image.press else { panic!("{image:?}") };
    let sent = page(&form(&format!("{fields}<input type=image name=go alt=ログイン src=x>"))).forms[0].pressed(control);
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
    assert!(page(&form("<input type=password name=pw><button>x</button>")).logon.unwrap().is_err(), "no account field");
}

fn press_with(body: &str) -> Logon {
    page(&form(body)).logon.unwrap().unwrap()
}

#[test]
fn messages_are_told_from_standing_hints() {
    let logon = page(include_str!("../fixtures/exlook/logon.html"));
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
        let html = include_str!("../fixtures/exlook/logon.html")
            .replace("<span id=\"lblMessage\">", &format!("<span>{message}"));
        assert_eq!(said(&page(&html), &logon.texts), expected, "{message}");
        let html = include_str!("../fixtures/exlook/logon.html")
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
