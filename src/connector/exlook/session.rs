//! One customer's session: log on, open the tab, choose and read every site, log off.
//!
//! Invariants: cookies and the password go to the log-on URL's own origin and nowhere else; a refused password is sent
//! once; settings are believed only when the page shows the site that was asked for.

mod logon;
mod wire;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use reqwest::cookie::Jar;
use tokio::time::Instant;
use url::Url;

use self::wire::says_maintenance;
use super::Exlook;
use super::failures::{error_page, maintenance, password_change, with_path};
use super::pages::{Page, Press};
use super::said::{Said, said};
use super::script::PostBack;
use super::sites::{Choose, SiteList};
use crate::connector::Account;
use crate::connector::http::{Request, Retry};
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
