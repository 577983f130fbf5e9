//! Templates and assets, embedded; and how instants, days and counts are written, in one place.
//!
//! Invariant: every template ends in `.html`, so every value is escaped. Both languages stand side by side in the
//! templates: `t("…", "…")`.

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, SET_COOKIE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use chrono::{Datelike, NaiveDate};
use minijinja::value::merge_maps;
use minijinja::{Environment, UndefinedBehavior, Value, context};

use super::visit::Visit;
use super::{Fail, Inner, words};
use crate::config::{Config, Mode};
use crate::domain::Timestamp;
use crate::domain::customer::Language;
use crate::store::{Hold, SiteCounts};

/// The compiled templates, once a language.
pub(super) struct Pages {
    ja: Environment<'static>,
    en: Environment<'static>,
}

macro_rules! embedded {
    ($($name:literal),* $(,)?) => { [$(($name, include_str!(concat!("templates/", $name)))),*] };
}

impl Pages {
    pub(super) fn new() -> Self {
        let ja = environment(|ja, _| ja, words::ja, words::said, words::before);
        let en = environment(|_, en| en, words::en, str::to_owned, str::to_owned);
        Self { ja, en }
    }
}

/// `t(ja, en)` is the text in the reader's language; `word` is one of the contract's words, `said` a stored sentence.
fn environment(
    t: fn(Value, Value) -> Value,
    word: fn(&str) -> String,
    said: fn(&str) -> String,
    milestone: fn(&str) -> String,
) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.add_function("t", t);
    environment.add_filter("word", move |text: String| word(&text));
    environment.add_filter("said", move |text: String| said(&text));
    environment.add_filter("milestone", move |text: String| milestone(&text));
    environment.add_filter("number", number);
    environment.add_filter("urlencode", path_part);
    for (name, source) in embedded![
        "layout.html",
        "words.html",
        "overview.html",
        "customers.html",
        "customer.html",
        "outbox.html",
        "mail.html",
        "plan.html",
        "calls.html",
        "runs.html",
        "audit.html",
        "configuration.html",
        "sign-in.html",
        "done.html",
    ] {
        environment.add_template(name, source).expect("the embedded templates compile: every page is tested");
    }
    environment
}

/// One part of an address.
pub(super) fn path_part(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// 12,345
fn number(n: i64) -> String {
    let digits = n.unsigned_abs().to_string();
    let mut text = String::from(if n < 0 { "−" } else { "" });
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(c);
    }
    text
}

impl Inner {
    /// A whole page. `content` is what its template asks for.
    pub(super) async fn page(&self, visit: &Visit, template: &str, content: Value) -> Result<Response, Fail> {
        let holds = self.ask(|ctx| async move { ctx.store.holds().await }).await?;
        self.page_with(visit, template, &holds, content)
    }

    /// The same when the holds are known.
    pub(super) fn page_with(
        &self,
        visit: &Visit,
        name: &str,
        holds: &[Hold],
        content: Value,
    ) -> Result<Response, Fail> {
        let ctx = self.context();
        let config = &ctx.snapshot.config;
        let common = context! {
            lang => visit.language.as_str(),
            path => visit.path.clone(),
            query => visit.query.clone(),
            user => visit.session.as_ref().map(|s| &s.user),
            csrf => visit.session.as_ref().map(|s| &s.csrf),
            users => visit.users,
            mode => config.mode.as_str(),
            live => config.mode == Mode::Live,
            holds => holds.iter().map(|h| context! {
                kind => h.kind.as_str(), reason => h.reason.clone(), by => h.set_by.clone(), at => at(config, h.set_at),
            }).collect::<Vec<_>>(),
            now => at(config, ctx.now()),
            version => env!("CARGO_PKG_VERSION"),
        };
        let pages = if visit.language == Language::En { &self.pages.en } else { &self.pages.ja };
        let template = pages.get_template(name).map_err(broken)?;
        let text = template.render(merge_maps([content, common])).map_err(broken)?;
        let mut response = Html(text).into_response();
        if visit.chosen {
            let word = visit.language.as_str();
            let cookie = format!("lang={word}; Path=/; Max-Age=31536000; SameSite=Lax; HttpOnly");
            response.headers_mut().insert(SET_COOKIE, HeaderValue::from_str(&cookie).expect("two letters"));
        }
        Ok(response)
    }
}

fn broken(error: minijinja::Error) -> Fail {
    Fail::Broken(format!("a template: {error:#}"))
}

/// An instant for the `when` macro.
pub(super) fn at(config: &Config, at: Timestamp) -> Value {
    let local = at.with_timezone(&config.calendar.zone);
    context! { iso => local.to_rfc3339_opts(chrono::SecondsFormat::Secs, true), text => local.format("%Y-%m-%d %H:%M").to_string() }
}

pub(super) fn at_or_none(config: &Config, instant: Option<Timestamp>) -> Option<Value> {
    instant.map(|instant| at(config, instant))
}

/// A day with its weekday.
pub(super) fn day(day: NaiveDate, language: Language) -> String {
    const JA: [&str; 7] = ["月", "火", "水", "木", "金", "土", "日"];
    match language {
        Language::Ja => {
            format!(
                "{}年{}月{}日({})",
                day.year(),
                day.month(),
                day.day(),
                JA[day.weekday().num_days_from_monday() as usize]
            )
        }
        Language::En => day.format("%a, %-d %B %Y").to_string(),
    }
}

/// Verdicts and their numbers, in the order of reports.
pub(super) fn verdicts(counts: &SiteCounts) -> [(&'static str, u64); 5] {
    [
        ("affected", counts.affected),
        ("switched", counts.switched),
        ("consent_missing", counts.consent_missing),
        ("not_exchange_online", counts.not_exchange_online),
        ("unreadable", counts.unreadable),
    ]
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    // Private and short: a new version must not meet an old style.
    let headers = [(CONTENT_TYPE, kind), (CACHE_CONTROL, "private, max-age=300")];
    (StatusCode::OK, headers, text).into_response()
}

pub(super) async fn css() -> Response {
    asset("text/css; charset=utf-8", include_str!("assets/app.css"))
}

pub(super) async fn js() -> Response {
    asset("text/javascript; charset=utf-8", include_str!("assets/app.js"))
}

pub(super) async fn icon() -> Response {
    asset("image/svg+xml", include_str!("assets/icon.svg"))
}
