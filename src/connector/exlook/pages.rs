//! A page's bytes -> what kigen can do on it and read from it. Pure: no IO, nothing remembered between pages.
//!
//! Everything is found by visible label. What is not found is absent, never guessed.

use std::collections::HashSet;

use encoding_rs::Encoding;
use percent_encoding::percent_decode_str;

use super::charset;
use super::dom::{Dom, TooComplex, unified};
use super::fast::Irregular;
use super::labels::{Label, Words, label_key};
use super::layout::layout;
use super::script;
use super::settings::Reader;
use super::sites::{SiteList, site_list};
use super::webforms::{Control, Form, Kind, forms};
use crate::domain::layout::Layout;
use crate::domain::observation::{Failure, Settings};

/// What a click does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Press {
    /// Posts a form back.
    PostBack {
        /// The form's place.
        form: usize,
        /// Target, argument, action.
        post: script::PostBack,
    },
    /// Goes to another page.
    Get(String),
    /// Presses a submit control: kigen does not, except to log on.
    Submit {
        /// The form's place.
        form: usize,
        /// The control's place in the form.
        control: usize,
    },
}

/// How to log on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logon {
    /// The form's place.
    pub form: usize,
    /// The account field's place in the form.
    pub account: usize,
    /// The password field's place in the form.
    pub password: usize,
    /// The log-on button.
    pub press: Press,
}

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
        let (dom, irregular) = Dom::parse(&text)?;
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
const LOG_ON: [&str; 6] = ["ログオン", "ログイン", "サインイン", "logon", "login", "signin"];
/// A button that says one of these is never taken for the log-on button.
const NEVER: [&str; 12] =
    ["保存", "save", "設定", "変更", "クリア", "clear", "リセット", "reset", "キャンセル", "cancel", "忘れ", "登録"];

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

/// What a click on an element does, by its own attributes.
#[must_use]
pub fn press_of(dom: &Dom, forms: &[Form], index: usize) -> Option<Press> {
    let node = &dom.nodes[index];
    if node.name.is_empty() || matches!(&*node.name, "form" | "body" | "select" | "link" | "base") {
        return None;
    }
    if let Some((form, at)) = submit_at(dom, forms, index) {
        // Its own submission is not ours to send; a postback that it makes instead is.
        let instead = node.attr("onclick").filter(|s| s.contains("return false")).and_then(script::postback);
        return match instead {
            Some(post) if forms[form].controls[at].enabled => Some(Press::PostBack { form, post }),
            _ => Some(Press::Submit { form, control: at }),
        };
    }
    let href = node.attr("href").filter(|_| matches!(&*node.name, "a" | "area")).map(str::trim);
    let code = href.and_then(javascript);
    let scripts = [code.as_deref(), node.attr("onclick"), node.attr("onmousedown")];
    if node.has("disabled") && !matches!(&*node.name, "td" | "tr" | "li") {
        return None;
    }
    for script in scripts.into_iter().flatten() {
        if let Some(post) = script::postback(script) {
            return Some(Press::PostBack { form: form_of(dom, forms, index), post });
        }
    }
    let page = href.filter(|h| code.is_none() && !h.is_empty() && !h.starts_with('#')).map(str::to_owned);
    page.or_else(|| scripts.into_iter().flatten().find_map(script::location)).map(Press::Get)
}

/// The code of a `javascript:` link, as a browser decodes it.
fn javascript(href: &str) -> Option<String> {
    let scheme = href.get(..11)?;
    if !scheme.eq_ignore_ascii_case("javascript:") {
        return None;
    }
    Some(percent_decode_str(&href[11..]).decode_utf8_lossy().into_owned())
}

fn submit_at(dom: &Dom, forms: &[Form], index: usize) -> Option<(usize, usize)> {
    let node = &dom.nodes[index];
    if !matches!(&*node.name, "input" | "button") {
        return None;
    }
    let form = node.form.and_then(|owner| forms.iter().position(|f| f.node == owner))?;
    let at = forms[form].controls.binary_search_by_key(&index, |c| c.node).ok()?;
    forms[form].controls[at].is_submit().then_some((form, at))
}

/// The form that a postback from this element sends: its own, else the page's WebForms form.
fn form_of(dom: &Dom, forms: &[Form], index: usize) -> usize {
    let own = dom.nodes[index].form.and_then(|owner| forms.iter().position(|f| f.node == owner));
    own.or_else(|| forms.iter().position(Form::is_webform)).unwrap_or(0)
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

/// What a clickable element says, as a label's key: its text, its value, its picture's text.
fn caption(dom: &Dom, index: usize) -> String {
    let node = &dom.nodes[index];
    let attribute = |name: &str| node.attr(name).map(label_key).filter(|k| !k.is_empty());
    if node.name == "input" {
        return attribute(if node.input_type() == "image" { "alt" } else { "value" })
            .or_else(|| attribute("title"))
            .unwrap_or_default();
    }
    let mut says = String::new();
    for token in dom.tokens[node.tokens.clone()].iter().take(8) {
        match &token.key {
            Some(piece) => says.push_str(piece),
            None => return String::new(), // something with controls in it is no button
        }
        if says.len() > 300 {
            return String::new();
        }
    }
    if says.is_empty() {
        let picture = dom.within(index).take(20).find_map(|n| dom.nodes[n].attr("alt").map(label_key));
        return picture
            .filter(|k| !k.is_empty())
            .or_else(|| attribute("title"))
            .or_else(|| attribute("aria-label"))
            .unwrap_or_default();
    }
    says
}

/// How to log on: the form with the one password field, the text field before it, the button.
fn logon(dom: &Dom, forms: &[Form]) -> Option<Result<Logon, String>> {
    let mut found = Vec::new();
    let mut why = None;
    for (at, form) in forms.iter().enumerate() {
        let passwords: Vec<usize> = positions(form, |c| is_typed_in(dom, c, Kind::Password));
        match passwords.as_slice() {
            [] => {}
            [password] => match logon_in(dom, forms, at, *password) {
                Ok(logon) => found.push(logon),
                Err(detail) => why = Some(detail),
            },
            _ => why = Some("the log-on form has several password fields".to_owned()),
        }
    }
    match (found.len(), why) {
        (0, None) => None,
        (0, Some(why)) => Some(Err(why)),
        (1, _) => found.pop().map(Ok),
        _ => Some(Err("the page has several log-on forms".to_owned())),
    }
}

fn positions(form: &Form, wanted: impl Fn(&Control) -> bool) -> Vec<usize> {
    form.controls.iter().enumerate().filter(|(_, c)| wanted(c)).map(|(at, _)| at).collect()
}

/// Whether a person could type in it: not one of those that only keep browsers from remembering passwords.
fn is_typed_in(dom: &Dom, control: &Control, kind: Kind) -> bool {
    let style = dom.nodes[control.node].attr("style").unwrap_or_default();
    let hidden = style.replace(' ', "").to_ascii_lowercase().contains("display:none");
    control.kind == kind && control.enabled && control.name.is_some() && !hidden
}

fn logon_in(dom: &Dom, forms: &[Form], form: usize, password: usize) -> Result<Logon, String> {
    let controls = &forms[form].controls;
    let account = controls[..password].iter().rposition(|c| is_typed_in(dom, c, Kind::Text));
    let account = account.ok_or("no text field stands before the password field of the log-on page")?;
    let press = logon_button(dom, forms, form).ok_or("the log-on page has no button that can be told to be log-on")?;
    Ok(Logon { form, account, password, press })
}

/// The button that says log on; or the only button there is, unless it says something else.
fn logon_button(dom: &Dom, forms: &[Form], form: usize) -> Option<Press> {
    let says = |at: usize| caption(dom, forms[form].controls[at].node);
    let submits = positions(&forms[form], |c| c.is_submit() && c.enabled);
    let press = |control: usize| match press_of(dom, forms, forms[form].controls[control].node) {
        Some(press @ Press::PostBack { .. }) => press,
        _ => Press::Submit { form, control },
    };
    let is_logon = |says: &str| LOG_ON.contains(&plain(says).as_str());
    let has_logon = |says: &str| LOG_ON.iter().any(|w| plain(says).contains(w)) && !is_never(says);
    if let Some(&at) = submits.iter().find(|&&at| is_logon(&says(at))) {
        return Some(press(at));
    }
    if let [at] = submits.iter().copied().filter(|&at| has_logon(&says(at))).collect::<Vec<_>>().as_slice() {
        return Some(press(*at));
    }
    // A link-button, or a button that posts back by script.
    let owner = forms[form].node;
    for index in 0..dom.nodes.len() {
        let inside = dom.nodes[index].form == Some(owner) || form_of(dom, forms, index) == form;
        if !inside || !matches!(&*dom.nodes[index].name, "a" | "input" | "button" | "span" | "div" | "img") {
            continue;
        }
        if let Some(post @ Press::PostBack { .. }) = press_of(dom, forms, index)
            && is_logon(&caption(dom, index))
        {
            return Some(post);
        }
    }
    match submits.as_slice() {
        [only] if !is_never(&says(*only)) => Some(press(*only)),
        _ => None,
    }
}

fn is_never(says: &str) -> bool {
    NEVER.iter().any(|word| says.contains(word))
}

/// Without the hyphens of "log-on" and 「する」.
fn plain(says: &str) -> String {
    let says: String = says.chars().filter(|c| c.is_alphanumeric()).collect();
    says.strip_suffix("する").map_or(says.clone(), str::to_owned)
}
