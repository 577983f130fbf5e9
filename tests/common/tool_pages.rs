//! What the admin tool's screens say, as the default configuration knows it, and pages of it: for the tests and benches that
//! read pages without the laboratory.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part of it")]

use kigen::config::{ExlookConfig, Labels};
use kigen::connector::exlook::labels::Words;
use kigen::demo::admin_tool::{Charset, LogonButton, LogonLook, Variant, WorldCustomer, WorldSite, drawn};
use kigen::domain::site::{AuthMethod, ServerType};
use url::Url;

pub const EO: &str = "Exchange Online に接続する";
pub const ON_PREMISES: &str = "Exchange サーバーに接続する";
pub const BASIC: &str = "基本認証 (Office 365の場合)";
pub const OAUTH: &str = "OAuth認証 (Office 365の場合)";
pub const ON_PREMISES_BASIC: &str = "基本認証 (オンプレミスの場合)";

/// The connector's section, logging on there.
pub fn exlook_config(logon_url: &Url) -> ExlookConfig {
    ExlookConfig {
        logon_url: logon_url.clone(),
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
            (ServerType::ExchangeOnline, vec![EO.to_owned()]),
            (ServerType::OnPremises, vec![ON_PREMISES.to_owned()]),
        ]
        .into(),
        auth_methods: [
            (AuthMethod::Basic, vec![BASIC.to_owned()]),
            (AuthMethod::OAuth, vec![OAUTH.to_owned()]),
            (AuthMethod::OnPremisesBasic, vec![ON_PREMISES_BASIC.to_owned()]),
        ]
        .into(),
    }
}

/// The labels and texts, ready to compare.
pub fn words() -> Words {
    Words::new(&exlook_config(&"https://www.example.jp/exlookconfig/logon.aspx".parse().unwrap()))
}

/// The settings of one site as the simulated tool draws them, with so much view state.
pub fn drawn_settings(view_state_kib: usize) -> String {
    let site = WorldSite::new("本社", ServerType::ExchangeOnline, AuthMethod::Basic);
    let variant = Variant { view_state_kib, ..Variant::PLAIN };
    let look = LogonLook { charset: Charset::Utf8Header, button: LogonButton::Submit, news: true };
    let pages = drawn(&WorldCustomer::new("C0001", vec![site]).with_variant(variant), look, 7);
    String::from_utf8(pages.into_iter().next_back().unwrap().body).unwrap()
}

/// The settings of one site on a page of so many bytes, the tab open; 45 % of it view state and the rest a table that is
/// nothing to us.
pub fn settings_with_table(bytes: usize) -> String {
    let state: String = "dDwtMTQ0NTk1NDkyO3Q8O2w8aTwxPjs+O2w8".chars().cycle().take(bytes * 45 / 100).collect();
    let mut page = format!(
        r#"<!DOCTYPE html><html><head><meta charset="utf-8"><title>ExLook管理ツール</title></head><body>
<form method="post" action="./default.aspx"><input type="hidden" name="__VIEWSTATE" value="{state}" />
<h2>ExLookサイト設定</h2>
<table><tr><th>ExLookサイト名</th><td><select name="ddlSite"><option selected="selected" value="1">本社</option></select></td></tr></table>
<fieldset><legend>Exchange設定</legend><table>
<tr><th>Exchange サーバーの種類</th><td><select name="ddlServer"><option value="0">{ON_PREMISES}</option>
<option value="1" selected="selected">{EO}</option></select></td></tr>
<tr><th>Exchange サーバーの認証方式</th><td><select name="ddlAuth">
<option value="0" selected="selected">{BASIC}</option>
<option value="1">{OAUTH}</option></select></td></tr></table></fieldset>
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
