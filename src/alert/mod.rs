//! What the operators read: alerts and the morning's digest, as subject, text and HTML, in Japanese or English.
//!
//! Facts in, texts out: connects to nothing, knows no store and no clock. Invariant: no mail address in full, no secret and
//! nothing of a page stands in a text; what could hold an address passes [`mask`] first.

mod digest;
pub mod submission;
mod webhook;
pub mod words;

use std::sync::LazyLock;

use chrono::{Datelike, NaiveDate};
use chrono_tz::Tz;
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::Serialize;

use crate::domain::Timestamp;
use crate::domain::alert::Cause;
use crate::domain::customer::{Address, Language};

pub use digest::{Call, DigestFacts, Grouped, Hold, LastScan, ToSwitch, digest};
pub use webhook::body as webhook_body;

/// Things listed one by one; the rest is a number.
pub const LISTED: u32 = 20;

/// The longest line of a detail, in characters.
const DETAIL_MAX: usize = 300;

/// A finished mail to the operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Texts {
    /// One line.
    pub subject: String,
    /// The text part, LF line ends.
    pub text: String,
    /// The HTML part.
    pub html: String,
}

/// A built-in template failed: a fault of this program.
#[derive(Debug, thiserror::Error)]
#[error("the text for the operators could not be made")]
pub struct RenderError(#[from] minijinja::Error);

/// One thing of an alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// The customer's id and name, if it is about one.
    pub customer: Option<(String, String)>,
    /// One line.
    pub detail: String,
    /// How often.
    pub times: u64,
    /// It is over already.
    pub over: bool,
}

/// What an alert is made of.
#[derive(Debug, Clone)]
pub struct AlertFacts {
    /// Why.
    pub cause: Cause,
    /// How many things, those that are not listed included.
    pub count: u64,
    /// How often in all.
    pub times: u64,
    /// When the first of them was raised.
    pub first_at: Timestamp,
    /// The first few; see [`LISTED`].
    pub items: Vec<Item>,
    /// `mode`'s word.
    pub mode: &'static str,
    /// The operators' zone.
    pub zone: Tz,
    /// Now.
    pub now: Timestamp,
}

#[derive(Serialize)]
struct AlertView<'a> {
    ja: bool,
    cause: &'static str,
    count: u64,
    times: u64,
    first_at: String,
    now: String,
    mode: &'static str,
    items: &'a [Item],
    more: u64,
    subject: String,
    title: String,
    what: String,
    todo: Vec<String>,
}

/// The mail of one alert.
///
/// # Errors
/// [`RenderError`]: never for a cause there is, by test.
pub fn alert(facts: &AlertFacts, language: Language) -> Result<Texts, RenderError> {
    let items: Vec<Item> = facts.items.iter().take(LISTED as usize).map(tidy).collect();
    let mut view = AlertView {
        ja: language == Language::Ja,
        cause: facts.cause.as_str(),
        count: facts.count,
        times: facts.times,
        first_at: moment(facts.first_at, facts.zone),
        now: moment(facts.now, facts.zone),
        mode: facts.mode,
        more: facts.count.saturating_sub(items.len() as u64),
        items: &items,
        subject: String::new(),
        title: String::new(),
        what: String::new(),
        todo: Vec::new(),
    };
    let said = part(&format!("causes.{}", language.as_str()), &view)?;
    let mut said = said.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned);
    view.title = said.next().unwrap_or_default();
    view.what = said.next().unwrap_or_default();
    view.todo = said.collect();
    view.subject = format!("[kigen] {}", view.title);
    Ok(Texts { text: part("alert.txt", &view)?, html: part("alert.html", &view)?, subject: view.subject })
}

fn tidy(item: &Item) -> Item {
    Item {
        customer: item.customer.as_ref().map(|(id, name)| (one_line(id, 64), one_line(name, 60))),
        detail: one_line(&item.detail, DETAIL_MAX),
        ..item.clone()
    }
}

/// One line without addresses, at most so long.
fn one_line(text: &str, max: usize) -> String {
    let flat: String = mask(text).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match flat.char_indices().nth(max) {
        Some((at, _)) => format!("{}…", &flat[..at]),
        None => flat,
    }
}

/// The text with every mail address in it masked, however it got there.
#[must_use]
pub fn mask(text: &str) -> String {
    let inside = |c: char| c.is_ascii_alphanumeric() || "@.!#$%&'*+-/=?^_`{|}~".contains(c);
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c| !inside(c)).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(end);
        let bare = word.trim_end_matches('.');
        match Address::new(bare) {
            Ok(address) => {
                out.push_str(&address.masked());
                out.push_str(&word[bare.len()..]);
            }
            // No address, but near enough to one: `a@@b`, `a@b..c`.
            Err(_) => match word.rsplit_once('@') {
                Some((local, domain)) if !local.is_empty() => out.push_str(&format!("***@{domain}")),
                _ => out.push_str(word),
            },
        }
        let next = tail.chars().next().map_or(0, char::len_utf8);
        out.push_str(&tail[..next]);
        rest = &tail[next..];
    }
    out
}

/// The text with every URL cut after its host: a webhook's path is a secret, and an error may quote it.
#[must_use]
pub fn without_paths(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, url) = rest.split_at(at + 3);
        let ends = |c: char| c.is_whitespace() || "\"'<>`".contains(c);
        let end = url.find(ends).unwrap_or(url.len());
        // What stands before an @ is a user's name and password.
        let authority = url[..end].find(['/', '?', '#']).map_or(&url[..end], |path| &url[..path]);
        let host = authority.rsplit('@').next().unwrap_or_default();
        out.push_str(before);
        out.push_str(host);
        if host.len() < end {
            out.push_str("/…");
        }
        rest = &url[end..];
    }
    out.push_str(rest);
    out
}

fn moment(at: Timestamp, zone: Tz) -> String {
    at.with_timezone(&zone).format("%Y-%m-%d %H:%M").to_string()
}

/// `2026年11月24日(火)`, `24 Nov 2026 (Tue)`.
fn day(language: Language, day: NaiveDate) -> String {
    match language {
        Language::Ja => {
            let weekday = ["月", "火", "水", "木", "金", "土", "日"][day.weekday().num_days_from_monday() as usize];
            format!("{}年{}月{}日({weekday})", day.year(), day.month(), day.day())
        }
        Language::En => day.format("%-d %b %Y (%a)").to_string(),
    }
}

macro_rules! templates {
    ($($name:literal)*) => {
        const TEMPLATES: &[(&str, &str)] = &[$(($name, include_str!(concat!("templates/", $name)))),*];
    };
}

templates! { "causes.ja" "causes.en" "alert.txt" "alert.html" "digest.txt" "digest.html" "_page.html" "digest.subject.ja" "digest.subject.en" }

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .keep_trailing_newline(true)
        .build()
        .expect("the default delimiters are valid");
    environment.set_syntax(syntax);
    environment.set_auto_escape_callback(|name| match name.ends_with(".html") {
        true => AutoEscape::Html,
        false => AutoEscape::None,
    });
    for (name, source) in TEMPLATES {
        environment.add_template(name, source).expect("the built-in templates compile, by test");
    }
    environment
});

fn part(name: &str, view: &impl Serialize) -> Result<String, RenderError> {
    let template = ENVIRONMENT.get_template(name)?;
    Ok(template.render(minijinja::value::Value::from(minijinja::value::Serde(view)))?)
}

#[cfg(test)]
mod tests;
