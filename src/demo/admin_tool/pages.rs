//! The pages: a customer and a look -> the form. Pure but for the tokens that the caller adds when it closes the form.
//!
//! Every page has submit buttons that must not be pressed, fields that a browser sends back and fields that it does not, and
//! texts that speak of the two settings without being their labels.

use super::Fault;
use super::form::{Choice, Form, id};
use super::issued::{Does, Place};
use super::text::{self, escape, lettered, unmarked};
use super::variant::{Controls, Lettering, LogOff, SiteList, Tabs, Variant};
use super::world::{LogonButton, LogonLook, WorldCustomer, WorldSite};
use crate::domain::site::{AuthMethod, ServerType};

/// The other tabs, in order; the wanted one stands among them.
const OTHER_TABS: [(&str, &str); 3] =
    [("お客様情報", "company.aspx"), ("利用者設定", "users.aspx"), ("操作ログ", "logs.aspx")];
/// The page behind the wanted tab where tabs are links ([`Tabs::Href`]).
pub(super) const SITES_PAGE: &str = "sites.aspx";

/// The wanted tab's place in the row of tabs.
pub(super) fn wanted_tab(variant: Variant) -> usize {
    usize::from(variant.tabs != Tabs::FirstAndOpen)
}

/// The tab that is open after the log-on.
pub(super) fn first_tab(variant: Variant) -> usize {
    match variant.tabs {
        Tabs::SecondAndOpen => wanted_tab(variant),
        _ => 0,
    }
}

/// The log-on page's form; a message says what was wrong with the last try.
pub(super) fn logon(look: LogonLook, message: Option<&str>) -> Form {
    let mut form = Form::default();
    form.raw("<h1>ExLook管理ツール</h1>\r\n");
    if look.news {
        for line in text::LOGON_NEWS {
            form.raw(&format!("<p class=\"info\">{}</p>\r\n", escape(line)));
        }
    }
    if let Some(message) = message {
        let message = escape(message);
        form.raw(&format!(
            "<span id=\"ctl00_Main_lblMessage\" class=\"error\" style=\"color:Red;\">{message}</span>\r\n"
        ));
    }
    form.raw("<table class=\"logon\">\r\n<tr><th>管理者アカウント</th><td>");
    form.blank("text", ACCOUNT);
    form.raw("</td></tr>\r\n<tr><th>パスワード</th><td>");
    form.blank("password", PASSWORD);
    form.raw("</td></tr>\r\n<tr><td></td><td>");
    form.check_box("ctl00$Main$chkRemember", false, "アカウントを記憶する");
    form.raw("</td></tr>\r\n</table>\r\n");
    match look.button {
        LogonButton::Submit => form.submit(LOGON, "ログオン", true),
        LogonButton::Button => form.button(LOGON, "ログオン", true),
        LogonButton::Image => form.image(LOGON, "ログオン", true),
    }
    form.raw("\r\n<hr />\r\n");
    form.submit("ctl00$Main$btnForgotten", "パスワードを忘れた場合", false);
    form
}

pub(super) const ACCOUNT: &str = "ctl00$Main$txtAccount";
pub(super) const PASSWORD: &str = "ctl00$Main$txtPassword";
const LOGON: &str = "ctl00$Main$btnLogon";

/// The page that lets nobody on before the password is changed.
pub(super) fn change_password(customer: &WorldCustomer) -> Form {
    let mut form = Form::default();
    form.raw("<h1>パスワードの変更</h1>\r\n");
    form.raw(&format!("<p class=\"error\">{}</p>\r\n<dl>", escape(text::EXPIRED)));
    for (label, name) in
        [("現在のパスワード", "txtOld"), ("新しいパスワード", "txtNew"), ("新しいパスワード（確認）", "txtNewAgain")]
    {
        form.raw(&format!("<dt>{label}</dt><dd>"));
        form.blank("password", &format!("ctl00$Main${name}"));
        form.raw("</dd>");
    }
    form.raw("</dl>\r\n");
    form.submit("ctl00$Main$btnChange", "パスワードを変更する", false);
    log_off(&mut form, customer.variant.log_off);
    form
}

/// The tool's page for one customer, at one place.
pub(super) fn tool(customer: &WorldCustomer, place: Place, saved: bool) -> Form {
    let variant = customer.variant;
    let mut form = Form::default();
    form.raw(&format!("<div id=\"header\"><h1>ExLook管理ツール</h1><p>{} 様</p>", escape(&customer.name)));
    log_off(&mut form, variant.log_off);
    form.raw("</div>\r\n<p class=\"news\">次の土曜日 22:00～24:00 に定期メンテナンスを実施します。</p>\r\n");
    if saved {
        form.raw("<p class=\"done\">設定内容を保存しました。</p>\r\n");
    }
    let shows_wanted_tab = customer.active_fault() != Some(Fault::TabMissing);
    tabs(&mut form, variant, place, shows_wanted_tab);
    let all = variant.tabs == Tabs::ClientSide;
    for tab in 0..=OTHER_TABS.len() {
        let is_wanted = tab == wanted_tab(variant);
        if (!all && tab != place.tab) || (is_wanted && !shows_wanted_tab) {
            continue;
        }
        let style = if tab == place.tab { "" } else { " style=\"display:none\"" };
        form.raw(&format!("<div id=\"panel{tab}\" class=\"panel\"{style}>\r\n"));
        if is_wanted {
            site_panel(&mut form, customer, place.site)
        } else {
            other_panel(&mut form, customer, tab)
        }
        form.raw("</div>\r\n");
    }
    form
}

fn log_off(form: &mut Form, kind: LogOff) {
    match kind {
        LogOff::PostBack => {
            let script = form.post_back("ctl00$LoginStatus1$ctl00", "", Does::LogOff);
            form.raw(&format!("<a id=\"ctl00_LoginStatus1\" href=\"javascript:{script}\">ログオフ</a>"));
        }
        LogOff::Href => form.raw("<a href=\"logoff.aspx\">ログオフ</a>"),
        LogOff::Missing => {}
    }
}

fn tabs(form: &mut Form, variant: Variant, place: Place, shows_wanted_tab: bool) {
    let wanted = wanted_tab(variant);
    form.raw("<ul class=\"tabs\">\r\n");
    let mut others = OTHER_TABS.iter();
    for tab in 0..=OTHER_TABS.len() {
        let (caption, page) = if tab == wanted {
            if !shows_wanted_tab {
                continue;
            }
            (unmarked(text::TAB, variant.lettering), SITES_PAGE)
        } else {
            let Some((caption, page)) = others.next() else { continue };
            (escape(caption), *page)
        };
        let item = tab_item(form, variant, tab, tab == place.tab, &caption, page);
        form.raw(&item);
    }
    form.raw("</ul>\r\n");
}

fn tab_item(form: &mut Form, variant: Variant, tab: usize, is_open: bool, caption: &str, page: &str) -> String {
    let target = format!("ctl00$Main$lnkTab{tab}");
    if is_open && variant.tabs != Tabs::ClientSide {
        return format!("<li class=\"selected\"><span>{caption}</span></li>\r\n");
    }
    match variant.tabs {
        Tabs::FirstAndOpen | Tabs::SecondAndOpen | Tabs::Link => {
            let script = form.post_back(&target, "", Does::OpenTab(tab));
            format!("<li><a id=\"{}\" href=\"javascript:{script}\">{caption}</a></li>\r\n", id(&target))
        }
        Tabs::ButtonLike => {
            let script = form.post_back(&target, "", Does::OpenTab(tab));
            format!(
                "<li><a class=\"button\" role=\"button\" href=\"javascript:{script}\"><span>{caption}</span></a></li>\r\n"
            )
        }
        Tabs::ListItem => {
            let script = form.post_back("ctl00$Main$mnuTabs", &tab.to_string(), Does::OpenTab(tab));
            format!("<li class=\"tab\" onclick=\"{script}\">{caption}</li>\r\n")
        }
        Tabs::Href => format!("<li><a href=\"{page}\">{caption}</a></li>\r\n"),
        Tabs::ClientSide => {
            format!("<li><a href=\"#panel{tab}\" onclick=\"return showPanel({tab});\">{caption}</a></li>\r\n")
        }
    }
}

fn other_panel(form: &mut Form, customer: &WorldCustomer, tab: usize) {
    form.raw("<table><tr><th>会社名</th><td>");
    form.text(&format!("ctl00$Main$txtName{tab}"), &customer.name);
    form.raw("</td></tr></table>\r\n<p>Exchange サーバーの認証方式は、各サイトの設定画面で変更できます。</p>\r\n");
    form.submit(&format!("ctl00$Main$btnSave{tab}"), text::SAVE, false);
}

fn site_panel(form: &mut Form, customer: &WorldCustomer, at: usize) {
    let Some(site) = customer.sites.get(at).or_else(|| customer.sites.first()) else {
        form.raw("<p>ExLookサイトは登録されていません。</p>\r\n");
        return;
    };
    site_list(form, customer, at);
    form.raw("<fieldset><legend>表示設定</legend>\r\n<p>");
    form.text("ctl00$Main$txtTitle", &format!("{} ポータル", site.name));
    form.disabled_text("ctl00$Main$txtSiteId", "S-0001");
    form.check_box("ctl00$Main$chkMobile", true, "携帯電話からの利用を許可する");
    form.check_box("ctl00$Main$chkLog", false, "詳細ログを出力する");
    form.text_area("ctl00$Main$txtMemo", "1行目 & \"引用\"\r\n2行目");
    form.raw("</p></fieldset>\r\n");
    form.raw(
        "<fieldset><legend>メール送信設定</legend>\r\n<table><tr><th>サーバーの種類</th><td>SMTP サーバー</td></tr>",
    );
    form.raw("<tr><th>認証方式</th><td>基本認証</td></tr></table></fieldset>\r\n");
    exchange_group(form, customer, site);
    form.raw("<p class=\"buttons\">");
    form.submit("ctl00$Main$btnSave", text::SAVE, false);
    form.button("ctl00$Main$btnTest", "接続テスト", false);
    form.image("ctl00$Main$btnHelp", "ヘルプ", false);
    form.raw("<input type=\"reset\" value=\"元に戻す\" /><input type=\"button\" name=\"ctl00$Main$btnPrint\" value=\"印刷\" /></p>\r\n");
}

fn site_list(form: &mut Form, customer: &WorldCustomer, selected: usize) {
    let variant = customer.variant;
    let label = lettered(text::SITE, variant.lettering);
    let numbered = |(at, site): (usize, &WorldSite)| (format!("{}", 101 + at), site.name.clone());
    let named = |site: &WorldSite| (site.name.clone(), site.name.clone());
    let sites = customer.sites.iter();
    match variant.sites {
        SiteList::PlainText if customer.sites.len() == 1 => {
            let name = escape(&customer.sites[0].name);
            form.raw(&format!("<table><tr><th>{label}</th><td><span>{name}</span></td></tr></table>\r\n"));
        }
        SiteList::Select | SiteList::PlainText => {
            let name = "ctl00$Main$ddlSite";
            form.raw(&format!("<p><label for=\"{}\">{label}</label>", id(name)));
            form.site_select(name, &sites.enumerate().map(numbered).collect::<Vec<_>>(), selected);
            form.raw("</p>\r\n");
        }
        SiteList::SelectByName => {
            form.raw(&format!("<table><tr><th>{label}</th><td>"));
            form.site_select("ctl00$Main$lstSites", &sites.map(named).collect::<Vec<_>>(), selected);
            form.raw("</td></tr></table>\r\n");
        }
        SiteList::Radio => {
            form.raw(&format!("<table><tr><th>{label}</th><td>"));
            form.site_radio("ctl00$Main$rblSite", &sites.map(named).collect::<Vec<_>>(), selected);
            form.raw("</td></tr></table>\r\n");
        }
        SiteList::LinksClass | SiteList::LinksAria | SiteList::LinksBold => {
            form.raw(&format!("<table><tr><th>{label}</th><td><ul>\r\n"));
            for (at, site) in sites.enumerate() {
                site_link(form, variant.sites, at, &site.name, at == selected);
            }
            form.raw("</ul></td></tr></table>\r\n");
        }
    }
}

fn site_link(form: &mut Form, list: SiteList, at: usize, name: &str, is_selected: bool) {
    let name = escape(name);
    if is_selected && list == SiteList::LinksBold {
        form.raw(&format!("<li><b>{name}</b></li>\r\n"));
        return;
    }
    let mark = match (is_selected, list) {
        (true, SiteList::LinksAria) => " aria-current=\"true\"",
        (true, _) => " class=\"selected\"",
        (false, _) => "",
    };
    let target = format!("ctl00$Main$rptSites$ctl{at:02}$lnkSite");
    let script = form.post_back(&target, "", Does::ShowSite(at));
    form.raw(&format!("<li><a id=\"{}\"{mark} href=\"javascript:{script}\">{name}</a></li>\r\n", id(&target)));
}

/// One setting as it is drawn: its label, its known texts, and which of them is shown.
struct Setting {
    name: &'static str,
    label: &'static str,
    choices: Vec<Choice>,
    selected: usize,
}

fn exchange_group(form: &mut Form, customer: &WorldCustomer, site: &WorldSite) {
    let Variant { controls, lettering, .. } = customer.variant;
    form.raw(&format!("<fieldset><legend>{}</legend>\r\n", unmarked(text::GROUP, lettering)));
    form.raw("<p class=\"help\">Exchange Online をご利用の場合は、[Exchange サーバーの種類]と[Exchange サーバーの認証方式]を");
    form.raw("ご確認ください。基本認証 (Office 365の場合) は廃止される予定です。</p>\r\n");
    let (opening, closing) = match controls {
        Controls::DtDd => ("<dl>\r\n", "</dl>\r\n"),
        Controls::LabelDisabledSelect => ("<div>\r\n", "</div>\r\n"),
        _ => ("<table>\r\n", "</table>\r\n"),
    };
    form.raw(opening);
    for setting in settings(customer.active_fault(), site, lettering) {
        draw(form, controls, lettering, &setting);
    }
    form.raw(closing);
    form.raw("</fieldset>\r\n");
}

fn settings(fault: Option<Fault>, site: &WorldSite, lettering: Lettering) -> Vec<Setting> {
    let mut server_type = Setting {
        name: "ServerType",
        label: text::SERVER_TYPE,
        choices: choices(&ServerType::ALL.map(text::server_type), lettering),
        selected: ServerType::ALL.iter().position(|v| *v == site.server_type).unwrap_or(0),
    };
    let mut auth_method = Setting {
        name: "AuthMethod",
        label: text::AUTH_METHOD,
        choices: choices(&AuthMethod::ALL.map(text::auth_method), lettering),
        selected: AuthMethod::ALL.iter().position(|v| *v == site.auth_method).unwrap_or(0),
    };
    match fault {
        Some(Fault::LabelMissing) => auth_method.label = text::RENAMED_AUTH_METHOD,
        Some(Fault::UnknownServerType) => server_type.show_other(text::UNKNOWN_SERVER_TYPE),
        Some(Fault::UnknownAuthMethod) => auth_method.show_other(text::UNKNOWN_AUTH_METHOD),
        Some(Fault::ImpossiblePair) => {
            server_type.selected = 0;
            auth_method.selected = AuthMethod::ALL.len() - 1;
        }
        Some(Fault::DisagreeingControls) => {
            let selected = (auth_method.selected + 1) % AuthMethod::ALL.len();
            let other = Setting {
                name: "AuthMethodOld",
                label: text::AUTH_METHOD,
                choices: auth_method.choices.clone(),
                selected,
            };
            return vec![server_type, auth_method, other];
        }
        _ => {}
    }
    vec![server_type, auth_method]
}

fn choices(texts: &[&str], lettering: Lettering) -> Vec<Choice> {
    texts.iter().enumerate().map(|(at, t)| ((at + 1).to_string(), text::value(t, lettering))).collect()
}

impl Setting {
    fn show_other(&mut self, text: &str) {
        self.selected = self.choices.len();
        self.choices.push(("9".to_owned(), text.to_owned()));
    }

    fn shown(&self) -> String {
        self.choices.get(self.selected).map(|(_, text)| escape(text)).unwrap_or_default()
    }
}

fn draw(form: &mut Form, controls: Controls, lettering: Lettering, setting: &Setting) {
    let label = lettered(setting.label, lettering);
    let name = format!("ctl00$Main${}", setting.name);
    let shown = setting.shown();
    let Setting { choices, selected, .. } = setting;
    match controls {
        Controls::Select => {
            form.raw(&format!("<tr><th>{label}</th><td>"));
            form.select(&name, choices, *selected, false);
            form.raw("</td></tr>\r\n");
        }
        Controls::RadioTable | Controls::RadioFlow | Controls::RadioWrapped => {
            form.raw(&format!("<tr><th>{label}</th><td>"));
            radios(form, controls, &name, setting);
            form.raw("</td></tr>\r\n");
        }
        Controls::SpanBesideTh => {
            form.raw(&format!(
                "<tr><th>{label}</th><td><span id=\"{}\">\r\n  {shown}\r\n</span></td></tr>\r\n",
                id(&name)
            ));
        }
        Controls::TdBesideTd => form.raw(&format!("<tr><td>{label}</td><td>{shown}</td></tr>\r\n")),
        Controls::DtDd => form.raw(&format!("<dt>{label}</dt><dd>{shown}</dd>\r\n")),
        Controls::LabelDisabledSelect => {
            form.raw(&format!("<p><label for=\"{}\">{label}</label>", id(&name)));
            form.select(&name, choices, *selected, true);
            form.raw("</p>\r\n");
        }
        Controls::HiddenAndText => {
            let value = choices.get(*selected).map(|(_, text)| text.as_str()).unwrap_or_default();
            form.raw(&format!("<tr><th>{label}</th><td>{shown}"));
            form.hidden(&name, value);
            form.raw("</td></tr>\r\n");
        }
    }
}

fn radios(form: &mut Form, controls: Controls, name: &str, setting: &Setting) {
    if controls == Controls::RadioTable {
        form.raw(&format!("<table id=\"{}\">", id(name)));
    }
    for (at, (value, text)) in setting.choices.iter().enumerate() {
        let (for_id, text) = (format!("{}_{at}", id(name)), escape(text));
        match controls {
            Controls::RadioWrapped => form.raw("<label>"),
            Controls::RadioTable => form.raw("<tr><td>"),
            _ => {}
        }
        form.radio(name, at, value, at == setting.selected);
        match controls {
            Controls::RadioWrapped => form.raw(&format!(" {text}</label><br />")),
            Controls::RadioTable => form.raw(&format!("<label for=\"{for_id}\">{text}</label></td></tr>")),
            _ => form.raw(&format!("<label for=\"{for_id}\">{text}</label><br />")),
        }
    }
    if controls == Controls::RadioTable {
        form.raw("</table>");
    }
}

/// The maintenance page.
pub(super) const MAINTENANCE: &str = "<!DOCTYPE html>\r\n<html lang=\"ja\"><head><meta charset=\"utf-8\" /><title>メンテナンスのお知らせ</title></head>\
<body><h1>システムメンテナンス中です</h1>\r\n<p>ただいまシステムメンテナンスを実施しております。ご利用のお客様にはご迷惑をおかけしますが、終了までしばらくお待ちください。</p></body></html>\r\n";

/// ASP.NET's yellow page.
pub(super) fn yellow(title: &str) -> String {
    let title = escape(title);
    format!(
        "<!DOCTYPE html>\r\n<html>\r\n<head>\r\n<title>{title}</title>\r\n<meta name=\"viewport\" content=\"width=device-width\" />\r\n</head>\r\n\
         <body bgcolor=\"white\">\r\n<span><H1>'/exlookconfig' アプリケーションでサーバー エラーが発生しました。<hr width=100% size=1 color=silver></H1>\r\n\
         <h2> <i>{title}</i> </h2></span>\r\n<font face=\"Arial, Helvetica, Geneva, SunSans-Regular, sans-serif \">\r\n\
         <b> 説明: </b>現在の Web 要求を実行中に、ハンドルされていない例外が発生しました。<br><br>\r\n\
         <table width=100% bgcolor=\"#ffffcc\"><tr><td><code>[HttpException (0x80004005): {title}]</code></td></tr></table>\r\n</font></body>\r\n</html>\r\n"
    )
}
