//! One customer's session: log on, open the tab, choose and read every site, log off.
//!
//! Invariants: cookies and the password go to the log-on URL's own origin and nowhere else; a refused password is sent
//! once; settings are believed only when the page shows the site that was asked for.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use encoding_rs::Encoding;
use reqwest::cookie::Jar;
use tokio::time::Instant;
use url::Url;

use super::Exlook;
use super::charset;
use super::failures::{bad_status, error_page, maintenance, no_logon_page, password_change, with_path};
use super::pages::{Logon, Page, Press};
use super::said::{Said, said};
use super::script::PostBack;
use super::sites::{Choose, SiteList};
use super::webforms::Form;
use crate::connector::Account;
use crate::connector::http::{Answer, Request, Retry, host_name};
use crate::domain::layout::Layout;
use crate::domain::observation::{Failure, Reason, Settings, SiteLook};
use crate::domain::site::SiteName;

/// As browsers' habits go; the tool needs two.
const MAX_REDIRECTS: usize = 5;
/// Logging off is a courtesy.
const LOG_OFF_TIME: Duration = Duration::from_secs(5);

/// A page, and where it came from.
#[derive(Debug)]
struct Seen {
    url: Url,
    page: Page,
    /// How many redirects led here.
    redirects: usize,
    /// Whether a cookie came on the way.
    cookie: bool,
}

type View = Arc<Seen>;

/// Why a step did not come to its page.
#[derive(Debug)]
enum Stop {
    /// The session ended: log on again, once.
    Lost,
    /// Anything else.
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// See the module.
pub struct Session<'a> {
    tool: &'a Exlook,
    account: &'a Account,
    deadline: Instant,
    logon_url: Url,
    jar: Jar,
    /// Whether the log-on is over, so that a log-on page means that the session ended.
    inside: bool,
    /// Whether the tool let this customer in at all: its host is well then, whatever comes after.
    let_in: bool,
    /// Whether the session ended once already.
    lost: bool,
    /// What the log-on page says by itself.
    hints: Vec<String>,
    /// The last page inside, to log off from.
    last: Option<View>,
    listed: Option<Vec<SiteName>>,
    looks: Vec<SiteLook>,
    /// What the settings' page of the first site is made of.
    layout: Option<Layout>,
}

impl<'a> Session<'a> {
    /// A session that is not logged on yet.
    #[must_use]
    pub fn new(tool: &'a Exlook, account: &'a Account, deadline: Instant) -> Self {
        Self {
            tool,
            account,
            deadline,
            logon_url: account.logon_url.clone().unwrap_or_else(|| tool.logon_url.clone()),
            jar: Jar::default(),
            inside: false,
            let_in: false,
            lost: false,
            hints: Vec::new(),
            last: None,
            listed: None,
            looks: Vec::new(),
            layout: None,
        }
    }

    /// Whether the tool let this customer in.
    #[must_use]
    pub fn was_let_in(&self) -> bool {
        self.let_in
    }

    /// What the settings' page is made of, if one was seen.
    #[must_use]
    pub fn layout(&self) -> Option<Layout> {
        self.layout.clone()
    }

    /// The host of the log-on URL, with its port where that is not the usual one.
    #[must_use]
    pub fn host(&self) -> Option<String> {
        let host = self.logon_url.host_str()?;
        Some(self.logon_url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
    }

    /// The sites that were listed, and the looks at the first of them.
    #[must_use]
    pub fn into_parts(self) -> (Option<Vec<SiteName>>, Vec<SiteLook>) {
        (self.listed, self.looks)
    }

    /// The whole session.
    ///
    /// # Errors
    /// What kept the sites from being listed, or ended the session before all were read.
    pub async fn run(&mut self) -> Result<(), Failure> {
        let ended = self.read_all().await;
        self.log_off().await;
        ended
    }

    async fn read_all(&mut self) -> Result<(), Failure> {
        let mut view = self.open().await?;
        let list = view.page.sites.clone().map_err(|detail| Failure::new(Reason::LayoutChanged, detail))?;
        if list.entries.is_empty() {
            let detail = format!("the list beside the label [{}] is empty", self.tool.words.site.text);
            return Err(Failure::new(Reason::LayoutChanged, detail));
        }
        let wanted = self.wanted(&list);
        self.listed = Some(wanted.clone());
        let mut broken_in_a_row = 0;
        for site in wanted {
            let read = loop {
                match self.read_site(&mut view, &list, &site).await {
                    Ok(settings) => break Ok(settings),
                    Err(Stop::Failed(failure)) => break Err(failure),
                    Err(Stop::Lost) => {
                        self.session_ended()?;
                        view = self.open().await?;
                    }
                }
            };
            broken_in_a_row = match &read {
                Err(failure) if is_transport(failure.reason) => broken_in_a_row + 1,
                _ => 0,
            };
            let failure = read.as_ref().err().cloned();
            self.looks.push(SiteLook { site, read, at: self.tool.clock.now() });
            // The host is gone: asking for the rest would only cost everybody time.
            if let (2.., Some(failure)) = (broken_in_a_row, failure) {
                return Err(failure);
            }
        }
        Ok(())
    }

    /// The sites to look at: those asked for, or all that are listed, each name once.
    fn wanted(&self, list: &SiteList) -> Vec<SiteName> {
        if !self.account.sites.is_empty() {
            return self.account.sites.clone();
        }
        let mut seen = HashSet::new();
        list.entries
            .iter()
            .filter_map(|entry| site_name(&entry.name))
            .filter(|name| seen.insert(name.clone()))
            .collect()
    }

    /// Logs on and opens the tab; again, if the session ends meanwhile for the first time.
    async fn open(&mut self) -> Result<View, Failure> {
        loop {
            let opened = match self.log_on().await {
                Ok(view) => self.open_tab(view).await,
                Err(stop) => Err(stop),
            };
            match opened {
                Ok(view) => return Ok(view),
                Err(Stop::Failed(failure)) => return Err(failure),
                Err(Stop::Lost) => self.session_ended()?,
            }
        }
    }

    fn session_ended(&mut self) -> Result<(), Failure> {
        self.inside = false;
        self.last = None;
        if std::mem::replace(&mut self.lost, true) {
            let detail = "the tool ended the session twice; look whether somebody else uses this account meanwhile";
            return Err(Failure::new(Reason::SessionLost, detail));
        }
        Ok(())
    }

    async fn log_on(&mut self) -> Result<View, Stop> {
        self.inside = false;
        self.jar = Jar::default();
        if !matches!(self.logon_url.scheme(), "http" | "https") {
            return Err(Failure::new(Reason::InventoryError, "the log-on URL is neither http nor https").into());
        }
        let start =
            Request { url: self.logon_url.clone(), form: None, retry: Retry::Idempotent, stands: says_maintenance };
        let view = self.go(start).await?;
        let logon = match &view.page.logon {
            Some(Ok(logon)) => logon.clone(),
            Some(Err(detail)) => return Err(Failure::new(Reason::LayoutChanged, detail.clone()).into()),
            None => return Err(no_logon_page(&view.page, view.url.path()).into()),
        };
        self.hints = view.page.texts.clone();
        let after = self.send_logon(&view, &logon).await?;
        let view = self.judge_logon(after)?;
        self.inside = true;
        self.let_in = true;
        self.last = Some(Arc::clone(&view));
        Ok(view)
    }

    async fn send_logon(&mut self, view: &View, logon: &Logon) -> Result<View, Stop> {
        let mut form = view.page.forms[logon.form].clone();
        if !form.post {
            let detail = "the log-on form would send the password in the URL (it has no method=post); not sent";
            return Err(Failure::new(Reason::LayoutChanged, detail).into());
        }
        form.fill(logon.account, &self.account.account);
        form.fill(logon.password, self.account.password.expose());
        let (fields, action) = match &logon.press {
            Press::Submit { control, .. } => (form.pressed(*control), None),
            Press::PostBack { post, .. } => (form.postback(&post.target, &post.argument), post.action.clone()),
            Press::Get(_) => return Err(Failure::new(Reason::LayoutChanged, "the log-on button is a link").into()),
        };
        let request = self.form_request(view, &form, &fields, action.as_deref(), Retry::Unsent).map_err(|failure| {
            // The characters that the page cannot carry are the customers file's.
            match failure.reason {
                Reason::UnknownValue => Failure::new(
                    Reason::InventoryError,
                    "the account or password has a character that the log-on page's charset does not have; it was not sent",
                ),
                _ => failure,
            }
        })?;
        self.go(request).await
    }

    /// What the answer to the log-on means. A password that was refused is not sent again.
    fn judge_logon(&self, view: View) -> Result<View, Stop> {
        if view.page.is_inside() {
            return Ok(view);
        }
        let path = view.url.path();
        if view.page.passwords >= 2 {
            return Err(password_change(path).into());
        }
        let says = said(&view.page, if view.page.passwords == 0 { &[] } else { &self.hints });
        match says {
            Said::Locked => Err(Failure::new(
                Reason::AccountLocked,
                "the tool says that the account is locked; unlock it there, then change the customer's entry",
            )
            .into()),
            Said::ChangePassword => Err(password_change(path).into()),
            // A page that works announces a maintenance to come.
            Said::Maintenance if !view.page.works() => Err(maintenance(path).into()),
            Said::Maintenance => Ok(view),
            Said::Error => Err(error_page(path, 200).into()),
            // Accepted, and then asked for again on the way: the session did not hold.
            _ if view.page.passwords == 1 && view.redirects > 1 && view.cookie && says != Said::Refused => {
                Err(Stop::Lost)
            }
            Said::Refused | Said::Nothing if view.page.passwords == 1 || says == Said::Refused => Err(Failure::new(
                Reason::LogonRefused,
                "the tool refused the account or the password; correct the customer's entry",
            )
            .into()),
            Said::Refused | Said::Nothing => Ok(view),
        }
    }

    /// Comes to the page with the list of sites.
    async fn open_tab(&mut self, view: View) -> Result<View, Stop> {
        let mut view = view;
        for _ in 0..2 {
            let press = view.page.tab.clone().filter(|press| !matches!(press, Press::Submit { .. }));
            let is_open = view.page.sites.is_ok() && (view.page.shows_settings || press.is_none());
            let (false, Some(press)) = (is_open, press) else { break };
            view = self.press(&view, &press).await?;
            if view.page.sites.is_ok() {
                break;
            }
        }
        if view.page.sites.is_ok() { Ok(view) } else { Err(self.not_the_sites(&view).into()) }
    }

    /// Why a page inside is not the one with the list of sites.
    fn not_the_sites(&self, view: &View) -> Failure {
        let path = view.url.path();
        if view.page.passwords >= 2 {
            return password_change(path);
        }
        match said(&view.page, &[]) {
            Said::Locked => Failure::new(Reason::AccountLocked, "the tool says that the account is locked"),
            Said::ChangePassword => password_change(path),
            // A page that works announces a maintenance to come.
            Said::Maintenance if !view.page.works() => maintenance(path),
            Said::Error => error_page(path, 200),
            Said::Refused | Said::Nothing | Said::Maintenance => {
                let why = view.page.sites.as_ref().err().cloned().unwrap_or_default();
                let tab = match &view.page.tab {
                    None => format!(", and the tab [{}] is not there", self.tool.words.tab.text),
                    Some(Press::Submit { .. }) => {
                        format!(
                            ", and the tab [{}] is a button that submits, which is never pressed",
                            self.tool.words.tab.text
                        )
                    }
                    Some(_) => String::new(),
                };
                Failure::new(Reason::LayoutChanged, format!("{why}{tab} ({path})"))
            }
        }
    }

    /// Chooses a site, makes sure it is the one that is shown, and reads its settings.
    async fn read_site(&mut self, view: &mut View, first: &SiteList, site: &SiteName) -> Result<Settings, Stop> {
        let layout = |detail: String| Stop::Failed(Failure::new(Reason::LayoutChanged, detail));
        match first.named(site.as_str()).len() {
            0 if self.account.sites.is_empty() => {
                let detail = format!("a site's name is longer than {} characters, which none should be", SiteName::MAX);
                return Err(layout(detail));
            }
            0 => {
                let detail = "the tool does not list this site; correct the customer's sites, or leave them empty";
                return Err(Failure::new(Reason::SiteMissing, detail).into());
            }
            1 => {}
            _ => return Err(layout("the tool lists two sites of this name, which cannot be told apart".to_owned())),
        }
        for chosen in 0..3 {
            let list = view.page.sites.clone().map_err(&layout)?;
            let [at] = list.named(site.as_str())[..] else {
                return Err(layout("the site is not in the list any more".to_owned()));
            };
            let shown = list.shown == Some(at);
            let fixed = list.entries[at].choose == Choose::Nothing;
            if shown && (chosen > 0 || fixed || view.page.settings.is_ok()) {
                if self.layout.is_none() {
                    self.layout.clone_from(&view.page.layout);
                }
                return view.page.settings.clone().map_err(|f| with_path(f, view.url.path()).into());
            }
            if fixed {
                return Err(layout("the site cannot be chosen: its entry is disabled or does nothing".to_owned()));
            }
            if chosen == 2 {
                break;
            }
            let next = self.choose(view, &list.entries[at].choose).await?;
            // A tool that forgets its open tab on the way is led there again.
            *view = if next.page.sites.is_ok() { next } else { self.open_tab(next).await? };
        }
        let what = match view.page.sites.as_ref().ok().and_then(|list| list.shown) {
            Some(_) => "the page shows another site",
            None => "the page does not tell which site it shows",
        };
        Err(layout(format!("after choosing the site, {what} ({})", view.url.path())))
    }

    async fn choose(&mut self, view: &View, choose: &Choose) -> Result<View, Stop> {
        let (form_at, control, form, post) = match choose {
            Choose::Option { form: at, control, option, post } => {
                let mut form = view.page.forms[*at].clone();
                form.select(*control, *option);
                (*at, *control, form, post)
            }
            Choose::Radio { form: at, control, post } => {
                let mut form = view.page.forms[*at].clone();
                form.check(*control);
                (*at, *control, form, post)
            }
            Choose::Link(press) => return self.press(view, press).await,
            Choose::Nothing => return Err(Failure::new(Reason::LayoutChanged, "the site cannot be chosen").into()),
        };
        let name = view.page.forms[form_at].controls[control].name.clone().unwrap_or_default();
        let post = post.clone().unwrap_or(PostBack { target: name, argument: String::new(), action: None });
        self.post_back(view, &form, &post).await
    }

    /// A click on a link or a tab.
    async fn press(&mut self, view: &View, press: &Press) -> Result<View, Stop> {
        match press {
            Press::PostBack { form, post } => {
                let form = view.page.forms[*form].clone();
                self.post_back(view, &form, post).await
            }
            Press::Get(href) => {
                let url = self.own(view, href)?;
                self.go(Request { url, form: None, retry: Retry::Idempotent, stands: says_maintenance }).await
            }
            Press::Submit { .. } => {
                Err(Failure::new(Reason::LayoutChanged, "a button that submits is never pressed").into())
            }
        }
    }

    async fn post_back(&mut self, view: &View, form: &Form, post: &PostBack) -> Result<View, Stop> {
        if view.page.saves.contains(&post.target) {
            let detail = format!("the control would save ({}); kigen only reads", view.url.path());
            return Err(Failure::new(Reason::LayoutChanged, detail).into());
        }
        let fields = form.postback(&post.target, &post.argument);
        let request = self.form_request(view, form, &fields, post.action.as_deref(), Retry::Idempotent)?;
        self.go(request).await
    }

    fn form_request(
        &self,
        view: &View,
        form: &Form,
        fields: &[(String, String)],
        action: Option<&str>,
        retry: Retry,
    ) -> Result<Request, Failure> {
        if form.node == 0 {
            let detail = format!("the page has no form around its controls ({})", view.url.path());
            return Err(Failure::new(Reason::LayoutChanged, detail));
        }
        let mut url = match action.or(form.action.as_deref()) {
            Some(action) => self.own(view, action)?,
            None => view.url.clone(),
        };
        url.set_fragment(None);
        let charset = form.charset.as_deref().and_then(first_charset).unwrap_or(view.page.charset);
        let body = charset::encode_form(fields, charset).map_err(|no| {
            let field = fields.get(no.field).map_or("", |(name, _)| name.as_str());
            let field: String = field.chars().take(60).collect();
            let detail = format!(
                "a character of the field {field:?} does not exist in the page's charset {}; not sent",
                no.charset
            );
            Failure::new(Reason::UnknownValue, detail)
        })?;
        if form.post {
            return Ok(Request { url, form: Some(body), retry, stands: says_maintenance });
        }
        url.set_query(Some(&body));
        Ok(Request { url, form: None, retry, stands: says_maintenance })
    }

    /// A link's URL, if it is within the log-on URL's own origin.
    fn own(&self, view: &View, href: &str) -> Result<Url, Failure> {
        let base = view.page.base.as_deref().and_then(|base| view.url.join(base).ok());
        let url = base.as_ref().unwrap_or(&view.url).join(href.trim());
        let url = url.map_err(|_| Failure::new(Reason::LayoutChanged, "the page has a link that is no URL"))?;
        if url.origin() == self.logon_url.origin() {
            return Ok(url);
        }
        let detail = format!("the page leads to another host ({}); not followed", host_name(&url));
        Err(Failure::new(Reason::LayoutChanged, detail))
    }

    /// Sends a request and follows where it leads, within the origin, to a page.
    async fn go(&mut self, request: Request) -> Result<View, Stop> {
        let mut request = request;
        let mut cookie = false;
        for hop in 0..=MAX_REDIRECTS {
            let answer = self.tool.http.send(&self.jar, &request, self.deadline).await?;
            cookie |= answer.set_cookie;
            if !is_redirect(answer.status) {
                return self.arrive(request.url, answer, hop, cookie).await;
            }
            // A log-on that is answered with a cookie and a way on: what stands there is the customer's own trouble.
            self.let_in |= request.form.is_some() && answer.set_cookie;
            request = self.redirected(request, &answer)?;
        }
        let detail = format!("more than {MAX_REDIRECTS} redirects in a row ({})", request.url.path());
        Err(Failure::new(Reason::HttpStatus, detail).into())
    }

    fn redirected(&self, request: Request, answer: &Answer) -> Result<Request, Stop> {
        let path = request.url.path();
        let failed = |detail: String| Stop::Failed(Failure::new(Reason::HttpStatus, detail));
        let location = answer.location.as_deref().filter(|l| !l.trim().is_empty());
        let location =
            location.ok_or_else(|| failed(format!("a redirect ({}) without Location ({path})", answer.status)))?;
        let target = request.url.join(location.trim());
        let mut url = target.map_err(|_| failed(format!("a redirect ({}) to no URL ({path})", answer.status)))?;
        url.set_fragment(None);
        if url.origin() != self.logon_url.origin() {
            let host = format!("{}://{}", url.scheme(), host_name(&url));
            return Err(failed(format!(
                "{path} redirects to another host ({host}), which is not followed; if the tool moved, set logon_url"
            )));
        }
        if self.inside && self.is_logon_url(&url) {
            return Err(Stop::Lost);
        }
        // 307 and 308 send the same again; after the others a browser asks by GET.
        let keeps = matches!(answer.status, 307 | 308);
        let form = request.form.filter(|_| keeps);
        let retry = if form.is_some() { request.retry } else { Retry::Idempotent };
        Ok(Request { url, form, retry, stands: request.stands })
    }

    /// Whether a redirect there means that the tool wants a log-on.
    fn is_logon_url(&self, url: &Url) -> bool {
        let returns = url.query_pairs().any(|(name, _)| name.eq_ignore_ascii_case("ReturnUrl"));
        returns || plain_path(url).eq_ignore_ascii_case(&plain_path(&self.logon_url))
    }

    async fn arrive(&mut self, url: Url, answer: Answer, redirects: usize, cookie: bool) -> Result<View, Stop> {
        let status = answer.status;
        if self.inside && status == 440 {
            return Err(Stop::Lost); // IIS: "Login Time-out"
        }
        let parsed = self.tool.parse(answer.body, answer.content_type).await;
        if !(200..300).contains(&status) {
            return Err(bad_status(url.path(), status, parsed.as_ref().ok()).into());
        }
        let view = Arc::new(Seen { page: parsed?, url, redirects, cookie });
        if self.inside && view.page.is_logon() {
            return Err(Stop::Lost);
        }
        if self.inside {
            self.last = Some(Arc::clone(&view));
        }
        Ok(view)
    }

    /// Ends the session where the page offers it; nothing depends on it.
    async fn log_off(&mut self) {
        let Some(view) = self.last.take().filter(|_| self.inside) else { return };
        let Some(press) = view.page.log_off.clone() else { return };
        let request = match &press {
            Press::PostBack { form, post } => {
                let form = &view.page.forms[*form];
                let fields = form.postback(&post.target, &post.argument);
                self.form_request(&view, form, &fields, post.action.as_deref(), Retry::Never)
            }
            Press::Get(href) => self.own(&view, href).map(|url| Request {
                url,
                form: None,
                retry: Retry::Never,
                stands: says_maintenance,
            }),
            Press::Submit { .. } => return,
        };
        let Ok(request) = request else { return };
        let ended = tokio::time::timeout(LOG_OFF_TIME, self.tool.http.send(&self.jar, &request, self.deadline)).await;
        tracing::trace!(customer = %self.account.customer, answered = matches!(ended, Ok(Ok(_))), "logged off");
    }
}

/// A name as the store can keep it.
fn site_name(listed: &str) -> Option<SiteName> {
    // A name beyond any real one is cut; the list will not have it, so the site is reported and not passed over.
    let cut: String = listed.chars().take(SiteName::MAX).collect();
    SiteName::new(&cut).ok()
}

fn is_transport(reason: Reason) -> bool {
    matches!(reason, Reason::Timeout | Reason::Connect | Reason::Dns | Reason::Tls)
}

fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

/// A path without cookieless session parts: `/app/(S(abc))/logon.aspx`.
fn plain_path(url: &Url) -> String {
    url.path().split('/').filter(|part| !part.starts_with('(')).collect::<Vec<_>>().join("/")
}

fn first_charset(list: &str) -> Option<&'static Encoding> {
    list.split([' ', ',', '\t']).find_map(|label| Encoding::for_label_no_replacement(label.trim().as_bytes()))
}

/// Whether an answer says by itself that trying again is of no use.
fn says_maintenance(answer: &Answer) -> bool {
    if answer.status != 503 {
        return false;
    }
    let (text, _) = charset::decode(&answer.body, answer.content_type.as_deref());
    text.contains("メンテナンス") || text.contains("保守") || text.to_ascii_lowercase().contains("maintenance")
}
