//! The two settings in every shape they may be shown in: what is read, and what is no answer.

use kigen::domain::observation::Reason;
use kigen::domain::site::{AuthMethod, ServerType};

use super::tool_pages::{BASIC, EO, ON_PREMISES};
use super::{form, page, server_is};

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
