//! A page's bytes -> what kigen can do on it and read from it. Pure: no IO, nothing remembered between pages.
//!
//! Everything is found by visible label. What is not found is absent, never guessed.

use std::collections::HashSet;

use encoding_rs::Encoding;

use super::charset;
use super::dom::{Dom, TooComplex, unified};
use super::fast::{self, Irregular};
use super::labels::{Label, Words, label_key};
use super::layout::layout;
pub use super::logon::Logon;
use super::logon::{is_typed_in, logon};
pub use super::press::Press;
use super::press::{caption, press_of};
use super::settings::Reader;
use super::sites::{SiteList, site_list};
use super::tree;
use super::webforms::{Form, Kind, forms};
use crate::domain::layout::Layout;
use crate::domain::observation::{Failure, Settings};

/// One page.
#[derive(Debug, Clone)]
pub struct Page {
    /// What it was written in: forms go back in it.
    pub charset: &'static Encoding,
    /// `<base href>`
    pub base: Option<String>,
    /// Its forms; the last one holds the controls that are in none.
    pub forms: Vec<Form>,
    /// How many password fields it has.
    pub passwords: usize,
    /// How to log on here, if it has a password field; or why we cannot.
    pub logon: Option<Result<Logon, String>>,
    /// The tab's control, where it does something.
    pub tab: Option<Press>,
    /// The customer's sites, or why they cannot be listed.
    pub sites: Result<SiteList, String>,
    /// The two settings, or why they cannot be read.
    pub settings: Result<Settings, Failure>,
    /// Whether both settings' labels are there.
    pub shows_settings: bool,
    /// What the settings' part is made of, if it is there.
    pub layout: Option<Layout>,
    /// The log-off control.
    pub log_off: Option<Press>,
    /// The page's texts as keys, bounded: for the phrases of [`super::said`].
    pub texts: Vec<String>,
    /// The title's key.
    pub title: String,
    /// Whether something on it posts a form back when it is clicked.
    pub posts_back: bool,
    /// Whether its title or a heading says maintenance, or a text that it is now.
    pub is_headed_maintenance: bool,
    /// What saves: names and postback targets that must never be sent.
    pub saves: HashSet<String>,
    /// Why the full parser had to read it, if it had to.
    pub irregular: Option<Irregular>,
}

impl Page {
    /// Reads a page.
    ///
    /// # Errors
    /// [`TooComplex`] when it cannot be parsed within bounds.
    pub fn parse(bytes: &[u8], content_type: Option<&str>, words: &Words) -> Result<Self, TooComplex> {
        let (text, charset) = charset::decode(bytes, content_type);
        let text = unified(text);
        let (dom, irregular) = match fast::parse(&text) {
            Ok(dom) => (dom, None),
            Err(irregular) => (tree::parse(&text)?, Some(irregular)),
        };
        Ok(Self::of(dom, charset, words, irregular))
    }

    /// What stands on a page that is parsed already.
    #[must_use]
    pub fn of(dom: Dom<'_>, charset: &'static Encoding, words: &Words, irregular: Option<Irregular>) -> Self {
        let forms = forms(&dom);
        let clickable = Clickables::new(&dom, &forms);
        let (sites, settings, shows_settings, layout) = {
            let reader = Reader::new(&dom, &forms, words);
            let shows = |label: &Label| !reader.finder.occurrences(&label.key).is_empty();
            let shows_settings = shows(&words.server_type) && shows(&words.auth_method);
            (site_list(&reader, words), reader.settings(words), shows_settings, layout(&reader, words))
        };
        Self {
            charset,
            base: dom.nodes.iter().find(|n| n.name == "base").and_then(|n| n.attr("href")).map(str::to_owned),
            passwords: forms.iter().flat_map(|f| &f.controls).filter(|c| is_typed_in(&dom, c, Kind::Password)).count(),
            logon: logon(&dom, &forms),
            tab: clickable.labelled(&[words.tab.key.as_str()]),
            sites,
            settings,
            shows_settings,
            layout,
            log_off: clickable.labelled(&LOG_OFF).filter(|press| !matches!(press, Press::Submit { .. })),
            title: label_key(&dom.title),
            posts_back: clickable.all.iter().any(|(_, press, _)| matches!(press, Press::PostBack { .. })),
            is_headed_maintenance: is_headed_maintenance(&dom),
            saves: clickable.saves(&words.save.key),
            forms,
            texts: texts(dom),
            irregular,
        }
    }

    /// Whether this is the log-on page: a password field, and nothing of the tool's inside.
    #[must_use]
    pub fn is_logon(&self) -> bool {
        self.passwords == 1 && !self.is_inside()
    }

    /// Whether one can work with it: it offers to log off or to save, which a maintenance page does not; or there is
    /// something to press, as a row of tabs, and the maintenance that a text speaks of is not what the page is about.
    #[must_use]
    pub fn works(&self) -> bool {
        self.log_off.is_some() || !self.saves.is_empty() || (self.posts_back && !self.is_headed_maintenance)
    }

    /// Whether this is one of the tool's own pages: the tab or the list of sites is there.
    #[must_use]
    pub fn is_inside(&self) -> bool {
        self.tab.is_some() || self.sites.is_ok()
    }
}

const LOG_OFF: [&str; 8] =
    ["ログオフ", "ログアウト", "サインアウト", "logoff", "logout", "signout", "ログオフする", "ログアウトする"];
/// A page about a maintenance says so at its head, or that it is now; one that works announces it in its text.
fn is_headed_maintenance(dom: &Dom<'_>) -> bool {
    let is_word = |key: &str| key.contains("メンテナンス") || key.contains("maintenance");
    let is_heading = |name: &str| matches!(name, "h1" | "h2" | "h3");
    let mut headings = (0..dom.nodes.len()).filter(|index| is_heading(&dom.nodes[*index].name));
    let mut texts = dom.tokens.iter().filter_map(|token| token.key.as_deref());
    is_word(&label_key(&dom.title))
        || headings.any(|index| is_word(&caption(dom, index)))
        || texts.any(|key| key.contains("ただいまメンテナンス") || key.contains("メンテナンス中です"))
}

/// The page's texts as keys, at most 64 KiB of them.
fn texts(dom: Dom<'_>) -> Vec<String> {
    let mut room = 64 * 1024_usize;
    let shown = dom.tokens.into_iter().filter_map(|t| t.key);
    let mut texts: Vec<String> = Vec::new();
    for text in dom.alerts.iter().map(|a| label_key(a)).chain(shown) {
        let Some(left) = room.checked_sub(text.len()) else { break };
        room = left;
        texts.push(text);
    }
    texts
}

/// Everything that does something when clicked, with what it says.
struct Clickables {
    /// (what it says, what it does, its name).
    all: Vec<(String, Press, Option<String>)>,
}

impl Clickables {
    fn new(dom: &Dom, forms: &[Form]) -> Self {
        let mut all = Vec::new();
        for (index, node) in dom.nodes.iter().enumerate() {
            let Some(press) = press_of(dom, forms, index) else { continue };
            let says = caption(dom, index);
            if !says.is_empty() {
                all.push((says, press, node.attr("name").map(str::to_owned)));
            }
        }
        Self { all }
    }

    /// What the control does that says exactly one of these; one that kigen can use before one that it cannot.
    fn labelled(&self, keys: &[&str]) -> Option<Press> {
        let mut matching =
            self.all.iter().filter(|(says, ..)| keys.contains(&says.as_str())).map(|(_, press, _)| press);
        let usable = matching.clone().find(|press| !matches!(press, Press::Submit { .. }));
        usable.or_else(|| matching.next()).cloned()
    }

    /// The names and targets of what saves.
    fn saves(&self, save: &str) -> HashSet<String> {
        let mut names = HashSet::new();
        for (says, press, name) in &self.all {
            if says.contains("保存") || (!save.is_empty() && says.contains(save)) {
                names.extend(name.clone());
                if let Press::PostBack { post, .. } = press {
                    names.insert(post.target.clone());
                }
            }
        }
        names
    }
}
