//! The tool against a scripted browser: it does as a browser does with a form, and knows each variant's controls by name.

use std::time::Duration;

use encoding_rs::Encoding;
use reqwest::redirect;
use scraper::{ElementRef, Html, Selector};

use super::*;
use crate::domain::observation::{Reason, Verdict};
use crate::domain::site::{AuthMethod, ServerType};

const BASIC: AuthMethod = AuthMethod::Basic;
const ONLINE: ServerType = ServerType::ExchangeOnline;

/// A window with one page in it.
struct Browser {
    client: reqwest::Client,
    url: Url,
    /// Of the log-on page, and of posts to it.
    logon_encoding: &'static Encoding,
    /// Of the customer's pages.
    encoding: &'static Encoding,
    status: u16,
    html: String,
    retry_after: Option<String>,
}

fn all<'a>(html: &'a Html, selector: &str) -> Vec<ElementRef<'a>> {
    html.select(&Selector::parse(selector).unwrap()).collect()
}

impl Browser {
    fn new(url: &Url, encoding: &'static Encoding) -> Self {
        let client = reqwest::Client::builder()
            .cookie_store(true)
            .redirect(redirect::Policy::limited(5))
            .timeout(Duration::from_secs(20))
            .user_agent("browser/1")
            .build()
            .unwrap();
        let (status, html, retry_after) = (0, String::new(), None);
        let logon_encoding = encoding;
        Self { client, url: url.clone(), logon_encoding, encoding, status, html, retry_after }
    }

    async fn load(&mut self, request: reqwest::RequestBuilder) -> Result<(), reqwest::Error> {
        let response = request.send().await?;
        self.status = response.status().as_u16();
        self.url = response.url().clone();
        self.retry_after = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        let body = response.bytes().await?;
        let is_inside = self.status == 200 && !self.url.path().ends_with("logon.aspx");
        let encoding = if is_inside { self.encoding } else { self.logon_encoding };
        let (html, _, malformed) = encoding.decode(&body);
        assert!(!malformed, "the page is not in {}", encoding.name());
        self.html = html.into_owned();
        Ok(())
    }

    async fn get(&mut self, url: &str) -> Result<(), reqwest::Error> {
        let url = self.url.join(url).unwrap();
        self.load(self.client.get(url)).await
    }

    /// Whatever a browser would send if a script submitted the form.
    fn fields(&self) -> Vec<(String, String)> {
        let html = Html::parse_document(&self.html);
        let mut fields = Vec::new();
        for control in all(&html, "form input, form select, form textarea") {
            let attr = |name| control.value().attr(name);
            let Some(name) = attr("name").filter(|_| attr("disabled").is_none()) else { continue };
            let value = match (control.value().name(), attr("type").unwrap_or("text")) {
                ("textarea", _) => control.text().collect::<String>().replace('\n', "\r\n"),
                ("select", _) => {
                    let selected = Selector::parse("option[selected]").unwrap();
                    let option = control.select(&selected).next().expect("a selected option");
                    option.value().attr("value").unwrap().to_owned()
                }
                (_, "submit" | "button" | "reset" | "image") => continue,
                (_, "radio" | "checkbox") if attr("checked").is_none() => continue,
                (_, "checkbox") => attr("value").unwrap_or("on").to_owned(),
                _ => attr("value").unwrap_or_default().to_owned(),
            };
            fields.push((name.to_owned(), value));
        }
        fields
    }

    async fn post(&mut self, fields: &[(String, String)]) -> Result<(), reqwest::Error> {
        let action = {
            let html = Html::parse_document(&self.html);
            all(&html, "form")[0].value().attr("action").unwrap().to_owned()
        };
        let is_logon = self.html.contains(pages::ACCOUNT);
        let encoding = if is_logon { self.logon_encoding } else { self.encoding };
        let octets = |text: &str| {
            percent_encoding::percent_encode(&encoding.encode(text).0, percent_encoding::NON_ALPHANUMERIC).to_string()
        };
        let pairs: Vec<String> =
            fields.iter().map(|(name, value)| format!("{}={}", octets(name), octets(value))).collect();
        let request = self.client.post(self.url.join(&action).unwrap());
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(pairs.join("&"));
        self.load(request).await
    }

    async fn log_on(&mut self, account: &str, password: &str, button: &str) -> Result<(), reqwest::Error> {
        let mut fields = self.fields();
        set(&mut fields, pages::ACCOUNT, account);
        set(&mut fields, pages::PASSWORD, password);
        fields.push((button.to_owned(), "ログオン".to_owned()));
        self.post(&fields).await
    }

    /// What `__doPostBack(target, argument)` does, after setting some fields.
    async fn post_back(
        &mut self,
        target: &str,
        argument: &str,
        changed: &[(&str, &str)],
    ) -> Result<(), reqwest::Error> {
        let mut fields = self.fields();
        set(&mut fields, "__EVENTTARGET", target);
        set(&mut fields, "__EVENTARGUMENT", argument);
        for (name, value) in changed {
            set(&mut fields, name, value);
        }
        self.post(&fields).await
    }

    async fn open_tab(&mut self, variant: Variant) {
        let done = match variant.tabs {
            Tabs::FirstAndOpen | Tabs::SecondAndOpen | Tabs::ClientSide => Ok(()),
            Tabs::Link | Tabs::ButtonLike => self.post_back("ctl00$Main$lnkTab1", "", &[]).await,
            Tabs::ListItem => self.post_back("ctl00$Main$mnuTabs", "1", &[]).await,
            Tabs::Href => self.get(pages::SITES_PAGE).await,
        };
        done.unwrap();
    }

    async fn choose_site(&mut self, variant: Variant, at: usize, name: &str) {
        let (select, list, radio) = ("ctl00$Main$ddlSite", "ctl00$Main$lstSites", "ctl00$Main$rblSite");
        let done = match variant.sites {
            SiteList::Select | SiteList::PlainText => {
                self.post_back(select, "", &[(select, &(101 + at).to_string())]).await
            }
            SiteList::SelectByName => self.post_back(list, "", &[(list, name)]).await,
            SiteList::Radio => self.post_back(&format!("{radio}${at}"), "", &[(radio, name)]).await,
            SiteList::LinksClass | SiteList::LinksAria | SiteList::LinksBold => {
                self.post_back(&format!("ctl00$Main$rptSites$ctl{at:02}$lnkSite"), "", &[]).await
            }
        };
        done.unwrap();
    }

    /// The site that is marked as chosen.
    fn chosen_site(&self) -> String {
        let html = Html::parse_document(&self.html);
        let selector = "select[onchange] option[selected], table input[name$=rblSite][checked] + label, ul a.selected, \
                        ul a[aria-current], td ul b";
        all(&html, selector)[0].text().collect()
    }

    /// What the two settings show, in the plainest reading: the group's selected, checked or plain texts.
    fn settings(&self) -> Vec<String> {
        let html = Html::parse_document(&self.html);
        let group = all(&html, "fieldset").pop().unwrap();
        let selector = "option[selected], input[checked] + label, label:has(> input[checked]), th + td > span, td + td, dd, \
                        th + td:not(:has(select, table, label, span))";
        let selector = Selector::parse(selector).unwrap();
        let texts = group.select(&selector).map(|element| element.text().collect::<String>());
        texts.map(|text| text.trim().to_owned()).collect()
    }
}

fn set(fields: &mut [(String, String)], name: &str, value: &str) {
    let field = fields.iter_mut().find(|(known, _)| known == name);
    value.clone_into(&mut field.unwrap_or_else(|| panic!("no field {name}")).1);
}

const LOGON: &str = "ctl00$Main$btnLogon";

fn three_sites() -> Vec<WorldSite> {
    vec![
        WorldSite::new("本社", ONLINE, BASIC),
        WorldSite::new("川﨑工場 \"北\"", ONLINE, AuthMethod::OAuth),
        WorldSite::new("R&Dセンター", ServerType::OnPremises, AuthMethod::OnPremisesBasic),
    ]
}

async fn start(customers: Vec<WorldCustomer>) -> AdminTool {
    AdminTool::start(SharedWorld::new(World::new(customers, 1))).await.unwrap()
}

/// Opens the log-on page and logs the first customer on.
async fn logged_on(tool: &AdminTool) -> Browser {
    let (account, password, variant) = {
        let world = tool.world().lock();
        let customer = &world.customers[0];
        (customer.account.clone(), customer.password.clone(), customer.variant)
    };
    let mut browser = Browser::new(&tool.logon_url, encoding_rs::UTF_8);
    browser.get("").await.unwrap();
    let fields = browser.fields();
    assert!(fields.iter().any(|(name, _)| name == "__VIEWSTATE"), "{}", browser.html);
    browser.encoding = variant.charset.encoding();
    browser.log_on(&account, &password, LOGON).await.unwrap();
    browser
}

#[tokio::test]
async fn every_variant_can_be_walked_through_without_a_violation() {
    let customers = Variant::ALL
        .iter()
        .enumerate()
        .map(|(number, variant)| WorldCustomer::new(&format!("C{number:04}"), three_sites()).with_variant(*variant));
    let tool = start(customers.collect()).await;
    let customers = tool.world().lock().customers.clone();
    for customer in &customers {
        let variant = customer.variant;
        let mut browser = Browser::new(&tool.logon_url, encoding_rs::UTF_8);
        browser.get("").await.unwrap();
        browser.encoding = variant.charset.encoding();
        browser.log_on(&customer.account, &customer.password, LOGON).await.unwrap();
        browser.open_tab(variant).await;
        for (at, site) in customer.sites.iter().enumerate() {
            if at > 0 {
                browser.choose_site(variant, at, &site.name).await;
            }
            assert_eq!(browser.status, 200, "{variant:?}: {}", browser.html);
            assert_eq!(browser.chosen_site(), site.name, "{variant:?}");
            let wanted = [text::server_type(site.server_type), text::auth_method(site.auth_method)];
            let wanted = wanted.map(|text| text::value(text, variant.lettering));
            assert_eq!(browser.settings(), wanted, "{variant:?}: {}", browser.html);
        }
        match variant.log_off {
            LogOff::PostBack => browser.post_back("ctl00$LoginStatus1$ctl00", "", &[]).await.unwrap(),
            LogOff::Href => {
                browser.load(browser.client.get(browser.url.join("logoff.aspx").unwrap())).await.unwrap_or(())
            }
            LogOff::Missing => {}
        }
    }
    let world = tool.world().lock();
    assert_eq!(world.violations, []);
    let stay = Variant::ALL.iter().filter(|variant| variant.log_off == LogOff::Missing).count();
    assert_eq!(world.counters.log_offs as usize, Variant::ALL.len() - stay);
    assert_eq!(world.counters.max_in_flight, 1);
    assert!(world.counters.logons.values().all(|logons| *logons == Logons { accepted: 1, refused: 0 }));
}

#[tokio::test]
async fn a_single_site_may_be_plain_text() {
    let variant = Variant { sites: SiteList::PlainText, ..Variant::PLAIN };
    let tool = start(vec![WorldCustomer::new("C1", three_sites()[..1].to_vec()).with_variant(variant)]).await;
    let browser = logged_on(&tool).await;
    assert!(browser.html.contains("<span>本社</span>") && !browser.html.contains("onchange"), "{}", browser.html);
}

#[tokio::test]
async fn the_log_on_page_is_the_same_in_any_charset_and_with_any_button() {
    let tool = start(vec![WorldCustomer::new("C1", three_sites())]).await;
    for charset in Charset::ALL {
        for button in LogonButton::ALL {
            tool.world().lock().logon_look = LogonLook { charset, button, news: true };
            let mut browser = Browser::new(&tool.logon_url, charset.encoding());
            browser.get("").await.unwrap();
            let name = if button == LogonButton::Image { "ctl00$Main$btnLogon.x" } else { LOGON };
            let password = tool.world().lock().customers[0].password.clone();
            browser.encoding = encoding_rs::UTF_8;
            browser.html = browser.html.replace('\u{feff}', "");
            browser.log_on("admin-c1", &password, name).await.unwrap();
            assert!(browser.html.contains("株式会社C1 様"), "{charset:?} {button:?}: {}", browser.html);
        }
    }
    assert_eq!(tool.world().lock().violations, []);
}

#[tokio::test]
async fn what_is_missing_or_altered_is_answered_with_an_error_page() {
    let everything = Variant { hidden: Hidden::Many, tabs: Tabs::FirstAndOpen, ..Variant::PLAIN };
    let split = Variant { hidden: Hidden::Split, ..everything };
    for variant in [everything, split] {
        let tool = start(vec![WorldCustomer::new("C1", three_sites()).with_variant(variant)]).await;
        let mut browser = logged_on(&tool).await;
        let page = (browser.html.clone(), browser.url.clone());
        let fields = browser.fields();
        assert!(fields.len() > 10);
        for left_out in 0..fields.len() {
            let name = &fields[left_out].0;
            (browser.html, browser.url) = page.clone();
            let mut kept = fields.clone();
            kept.remove(left_out);
            browser.post(&kept).await.unwrap();
            assert_eq!(browser.status, 500, "without {name}");
            assert!(browser.html.contains("サーバー エラー"), "the yellow page");
            if !name.starts_with("__EVENT") || name == "__EVENTVALIDATION" {
                (browser.html, browser.url) = page.clone();
                let mut altered = fields.clone();
                altered[left_out].1.push('A');
                browser.post(&altered).await.unwrap();
                assert_eq!(browser.status, 500, "with another {name}");
            }
        }
        (browser.html, browser.url) = page;
        browser.post(&fields).await.unwrap();
        assert_eq!(browser.status, 200, "and unaltered it is good");
    }
}

#[tokio::test]
async fn a_view_state_is_good_in_its_own_session_only() {
    let tool = start(vec![WorldCustomer::new("C1", three_sites())]).await;
    let first = logged_on(&tool).await;
    let mut second = logged_on(&tool).await;
    second.post(&first.fields()).await.unwrap();
    assert_eq!(second.status, 500);
    assert!(matches!(tool.world().lock().violations[0].breach, Breach::Altered(_)));
}

#[tokio::test]
async fn a_control_the_page_does_not_have_posts_nothing_back() {
    let tool = start(vec![WorldCustomer::new("C1", three_sites())]).await;
    let mut browser = logged_on(&tool).await;
    browser.post_back("ctl00$Main$lnkDelete", "", &[]).await.unwrap();
    assert_eq!(browser.status, 500);
    assert_eq!(tool.world().lock().violations[0].breach, Breach::UnknownEvent("ctl00$Main$lnkDelete".to_owned()));
}

#[tokio::test]
async fn every_submit_control_but_the_log_on_button_is_a_violation() {
    let tool = start(vec![WorldCustomer::new("C1", three_sites())]).await;
    let mut browser = logged_on(&tool).await;
    for (number, pressed) in
        ["ctl00$Main$btnSave", "ctl00$Main$btnTest", "ctl00$Main$btnHelp.x"].into_iter().enumerate()
    {
        let mut fields = browser.fields();
        fields.push((pressed.to_owned(), "1".to_owned()));
        browser.post(&fields).await.unwrap();
        assert!(browser.html.contains("保存しました"));
        let world = tool.world().lock();
        assert_eq!(world.counters.saves as usize, number + 1);
        let violation = world.violations.last().unwrap();
        assert_eq!(violation.account.as_deref(), Some("admin-c1"));
        assert_eq!(violation.breach, Breach::Pressed(pressed.trim_end_matches(".x").to_owned()));
    }
    let mut forgetful = Browser::new(&tool.logon_url, encoding_rs::UTF_8);
    forgetful.get("").await.unwrap();
    forgetful.log_on("admin-c1", "x", "ctl00$Main$btnForgotten").await.unwrap();
    assert_eq!(tool.world().lock().counters.saves, 4);
}

#[tokio::test]
async fn what_a_browser_would_not_send_is_recorded() {
    let tool = start(vec![WorldCustomer::new("C1", three_sites())]).await;
    let mut browser = logged_on(&tool).await;
    for stray in ["ctl00$Main$txtSiteId", "ctl00$Main$chkLog", "nonsense"] {
        let mut fields = browser.fields();
        fields.push((stray.to_owned(), "on".to_owned()));
        browser.post(&fields).await.unwrap();
        assert_eq!(browser.status, 200, "ASP.NET overlooks it");
        assert_eq!(tool.world().lock().violations.last().unwrap().breach, Breach::Stray(stray.to_owned()));
    }
}

#[tokio::test]
async fn wrong_passwords_lock_the_account_and_say_so_only_then() {
    let tool = start(vec![WorldCustomer::new("C1", three_sites())]).await;
    tool.world().lock().lock_after = 2;
    let mut browser = Browser::new(&tool.logon_url, encoding_rs::UTF_8);
    browser.get("").await.unwrap();
    assert!(browser.html.contains("ロックされます"), "the page warns everybody");
    let password = tool.world().lock().customers[0].password.clone();
    for (given, said) in [("wrong", text::REFUSED), ("wrong", text::REFUSED), (password.as_str(), text::LOCKED)] {
        browser.log_on("admin-c1", given, LOGON).await.unwrap();
        assert_eq!(browser.status, 200);
        assert!(browser.html.contains(said), "{}", browser.html);
    }
    browser.log_on("nobody", "x", LOGON).await.unwrap();
    assert!(browser.html.contains(text::REFUSED));
    {
        let mut world = tool.world().lock();
        assert_eq!((world.counters.locked_out, world.counters.strangers), (1, 1));
        assert_eq!(world.counters.logons["admin-c1"], Logons { accepted: 0, refused: 3 });
        world.new_day();
    }
    browser.log_on("admin-c1", &password, LOGON).await.unwrap();
    assert!(browser.html.contains("株式会社C1 様"));
}

/// Logs the only customer on and walks to its second site; what is to be seen of the fault.
async fn seen(fault: Fault) -> (AdminTool, Result<Browser, reqwest::Error>) {
    let variant = Variant { tabs: Tabs::Link, ..Variant::PLAIN };
    let tool = start(vec![WorldCustomer::new("C1", three_sites()).with_variant(variant).with_fault(fault)]).await;
    let password = tool.world().lock().customers[0].password.clone();
    let mut browser = Browser::new(&tool.logon_url, encoding_rs::UTF_8);
    browser.client =
        reqwest::Client::builder().cookie_store(true).timeout(Duration::from_millis(1500)).build().unwrap();
    browser.get("").await.unwrap();
    let loaded = browser.log_on("admin-c1", &password, LOGON).await;
    (tool, loaded.map(|()| browser))
}

#[tokio::test]
async fn faults_of_the_log_on_look_different_from_each_other() {
    let rows = [
        (Fault::PasswordRefused, 200, text::REFUSED),
        (Fault::AccountLocked, 200, text::LOCKED),
        (Fault::PasswordChangeRequired, 200, text::EXPIRED),
        (Fault::Maintenance503, 503, "システムメンテナンス中です"),
        (Fault::Maintenance200, 200, "システムメンテナンス中です"),
        (Fault::ServerError, 500, "サーバー エラー"),
        (Fault::RedirectElsewhere, 200, "elsewhere"),
        (Fault::SessionLostAlways, 200, "管理者アカウント"),
        (Fault::TooManyRequestsOnce, 429, "Too Many Requests"),
        (Fault::UnavailableOnce, 503, "Service Unavailable"),
    ];
    for (fault, status, words) in rows {
        let (tool, browser) = seen(fault).await;
        let browser = browser.unwrap();
        assert_eq!(browser.status, status, "{fault:?}");
        assert!(browser.html.contains(words), "{fault:?}: {}", browser.html);
        assert_eq!(browser.retry_after.is_some(), matches!(fault, Fault::TooManyRequestsOnce | Fault::UnavailableOnce));
        let elsewhere = u64::from(fault == Fault::RedirectElsewhere);
        assert_eq!(tool.world().lock().counters.elsewhere, elsewhere, "{fault:?}");
        assert_eq!(browser.url.query().is_some(), fault == Fault::SessionLostAlways, "ReturnUrl");
    }
}

#[tokio::test]
async fn broken_connections_break() {
    for fault in [Fault::ClosedMidBody, Fault::ClosedOnce] {
        let (_tool, browser) = seen(fault).await;
        let error = browser.err().expect("an error");
        assert!(!error.is_timeout() && !error.is_request(), "it breaks in the body: {error:?}");
    }
    let (_tool, browser) = seen(Fault::Hang).await;
    assert!(browser.err().expect("an error").is_timeout());
}

#[tokio::test]
async fn an_outage_strikes_whoever_comes_and_a_shutdown_waits_for_nobody() {
    let tool = start(vec![WorldCustomer::new("C1", three_sites())]).await;
    let status = async || reqwest::get(tool.logon_url.clone()).await.unwrap().status().as_u16();
    tool.world().lock().outage = Some(Fault::Maintenance503);
    assert_eq!([status().await, status().await], [503, 503]);
    tool.world().lock().outage = Some(Fault::TooManyRequestsOnce);
    assert_eq!([status().await, status().await], [429, 200]);

    tool.world().lock().outage = Some(Fault::Hang);
    let (world, url) = (tool.world().clone(), tool.logon_url.clone());
    let waiting = tokio::spawn(reqwest::get(url));
    while world.lock().counters.in_flight == 0 {
        tokio::task::yield_now().await;
    }
    tool.shutdown().await;
    // What hung is answered or cut off, and is counted no more.
    let _ = waiting.await.unwrap();
    while world.lock().counters.in_flight > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_endless_page_is_larger_than_any_limit() {
    let tool = start(vec![WorldCustomer::new("C1", three_sites())]).await;
    tool.world().lock().outage = Some(Fault::EndlessPage);
    let mut response = reqwest::get(tool.logon_url.clone()).await.unwrap();
    let mut octets = 0;
    while octets < 8 * 1024 * 1024 {
        octets += response.chunk().await.unwrap().expect("it goes on").len();
    }
}

#[tokio::test]
async fn a_session_is_lost_once_and_then_fine() {
    for fault in [Fault::SessionLostOnce, Fault::SessionLostOnceInPlace] {
        let (tool, browser) = seen(fault).await;
        let mut browser = browser.unwrap();
        browser.post_back("ctl00$Main$lnkTab1", "", &[]).await.unwrap();
        assert!(browser.html.contains("管理者アカウント") && browser.status == 200, "{fault:?}: {}", browser.html);
        assert_eq!(browser.url.path().ends_with("logon.aspx"), fault == Fault::SessionLostOnce);
        let password = tool.world().lock().customers[0].password.clone();
        browser.log_on("admin-c1", &password, LOGON).await.unwrap();
        browser.post_back("ctl00$Main$lnkTab1", "", &[]).await.unwrap();
        assert!(browser.html.contains("ExLookサイト名"), "{fault:?}");
        assert_eq!(tool.world().lock().violations, []);
    }
}

#[tokio::test]
async fn faults_of_the_content_show_on_the_settings_page() {
    let methods = |html: &str| html.matches("<th>Exchange サーバーの認証方式</th>").count();
    for (fault, labels, words) in [
        (Fault::LabelMissing, 0, text::RENAMED_AUTH_METHOD),
        (Fault::UnknownServerType, 1, text::UNKNOWN_SERVER_TYPE),
        (Fault::UnknownAuthMethod, 1, text::UNKNOWN_AUTH_METHOD),
        (Fault::ImpossiblePair, 1, "ctl00$Main$btnSave"),
        (Fault::DisagreeingControls, 2, "AuthMethodOld"),
    ] {
        let (_tool, browser) = seen(fault).await;
        let mut browser = browser.unwrap();
        browser.post_back("ctl00$Main$lnkTab1", "", &[]).await.unwrap();
        assert_eq!(methods(&browser.html), labels, "{fault:?}");
        assert!(browser.html.contains(words), "{fault:?}");
    }
    let (_tool, browser) = seen(Fault::TabMissing).await;
    let browser = browser.unwrap();
    assert!(browser.html.contains("操作ログ") && !browser.html.contains(text::TAB));

    let (_tool, browser) = seen(Fault::WrongSiteShown).await;
    let mut browser = browser.unwrap();
    browser.post_back("ctl00$Main$lnkTab1", "", &[]).await.unwrap();
    browser.choose_site(Variant::PLAIN, 1, "").await;
    assert_eq!(browser.chosen_site(), "本社");
}

#[test]
fn expectations_follow_the_fault() {
    let affected = |site: &str| (Some(site.to_owned()), Verdict::Affected);
    let broken = |site: Option<&str>, reason| (site.map(ToOwned::to_owned), Verdict::Unreadable(reason));
    let check = |sentence: &str, fault: Option<Fault>, wanted: &[(Option<String>, Verdict)]| {
        let sites = ["A", "B"].map(|name| WorldSite::new(name, ONLINE, BASIC)).to_vec();
        let mut customer = WorldCustomer::new("C1", sites);
        if let Some(fault) = fault {
            customer = customer.with_fault(fault);
        }
        let expected = World::new(vec![customer], 1).expected();
        let got: Vec<_> = expected.into_iter().map(|e| (e.site, e.verdict)).collect();
        assert_eq!(got, wanted, "{sentence}");
    };
    check("nothing wrong", None, &[affected("A"), affected("B")]);
    check("what passes is not seen", Some(Fault::ClosedOnce), &[affected("A"), affected("B")]);
    check("who is not let in has no sites", Some(Fault::AccountLocked), &[broken(None, Reason::AccountLocked)]);
    check(
        "a lost label is every site's",
        Some(Fault::LabelMissing),
        &[broken(Some("A"), Reason::LayoutChanged), broken(Some("B"), Reason::LayoutChanged)],
    );
    check(
        "the first site is the one shown",
        Some(Fault::WrongSiteShown),
        &[affected("A"), broken(Some("B"), Reason::LayoutChanged)],
    );
    check(
        "a site that is gone",
        Some(Fault::SiteMissing),
        &[affected("A"), affected("B"), broken(Some(text::GONE_SITE), Reason::SiteMissing)],
    );
}
