//! Templates -> subject, text, HTML.
//!
//! A template language for people who edit mails, fenced in: an undefined name is an error, values are escaped in
//! `.html`, work and output are bounded, and a subject is one line. Invariant: a notice renders completely or not at all.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Output, UndefinedBehavior, Value};

use super::view::{self, View};
use super::{Attachment, Notice, Rendered, attachment, check, sources, wrap};
use crate::domain::campaign::{Affects, Campaign};
use crate::domain::plan::NoticeKind;

/// Instructions of one template; the longest built-in one takes about a hundredth.
const FUEL: u64 = 500_000;

/// Bytes of one part.
const OUTPUT_MAX: usize = 1024 * 1024;

/// Columns of a subject; the built-in ones stay below 120.
const SUBJECT_COLUMNS: usize = 250;

/// A template that cannot be used: its name, line and what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("template {template}, line {line}{}: {message}", if *.column > 0 { format!(", column {}", .column) } else { String::new() })]
pub struct TemplateError {
    /// Such as `first.ja.txt`.
    pub template: String,
    /// From 1; 0 where no line is to blame.
    pub line: u32,
    /// In characters, from 1; 0 where no place in the line is to blame.
    pub column: u32,
    /// What is wrong.
    pub message: String,
}

/// Which built-in notices lie below an operator's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wording {
    /// Basic authentication is turned off: change to OAuth.
    BasicAuth,
    /// Exchange Web Services are turned off: allow the product for the time being.
    Ews,
}

impl Wording {
    /// The wording that is true of a campaign: that of EWS names the product's application id.
    fn of(campaign: &Campaign) -> Self {
        match (campaign.affects, &campaign.product) {
            (Affects::ExchangeOnline, Some(_)) => Self::Ews,
            (Affects::BasicAuth, _) | (Affects::ExchangeOnline, None) => Self::BasicAuth,
        }
    }

    /// Whether notices of this kind occur: EWS needs no consent that a site could lack.
    pub(super) fn has(self, kind: NoticeKind) -> bool {
        self == Self::BasicAuth || kind != NoticeKind::Consent
    }
}

/// The notices' templates of one campaign: built in, overridden one by one by the operator's own.
#[derive(Debug, Clone)]
pub struct Templates {
    wording: Wording,
    environment: Arc<Environment<'static>>,
    /// The names of the operator's own.
    own: BTreeSet<&'static str>,
}

impl Templates {
    /// The built-in ones.
    ///
    /// # Panics
    /// Never: a test compiles them all.
    #[must_use]
    pub fn built_in() -> Self {
        Self::load(None).expect("the built-in templates compile, by test")
    }

    /// The operator's directory over the built-in ones about basic authentication.
    ///
    /// # Errors
    /// Every template that cannot be read or compiled, and every file whose name is no template's.
    pub fn load(dir: Option<&Path>) -> Result<Self, Vec<TemplateError>> {
        Self::read(Wording::BasicAuth, dir)
    }

    /// The operator's directory over the built-in ones of this campaign.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_for(campaign: &Campaign, dir: Option<&Path>) -> Result<Self, Vec<TemplateError>> {
        Self::read(Wording::of(campaign), dir)
    }

    fn read(wording: Wording, dir: Option<&Path>) -> Result<Self, Vec<TemplateError>> {
        let built_in = sources::built_in(wording);
        let own = dir.map_or_else(|| Ok(Default::default()), |dir| sources::read_dir(dir, &built_in))?;
        let mut environment = environment();
        let mut errors = Vec::new();
        for (name, built_in) in &built_in {
            let added = match own.get(name) {
                Some(source) => environment.add_template_owned(*name, source.clone()),
                None => environment.add_template(name, built_in),
            };
            errors.extend(added.err().map(|e| explain(name, &e)));
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self { wording, environment: Arc::new(environment), own: own.into_keys().collect() })
    }

    /// Renders every kind, language and edge case with sample data: what `kigen check` and a reload run.
    #[must_use]
    pub fn check(&self) -> Vec<TemplateError> {
        check::all(self, self.wording)
    }

    /// The templates that a campaign needs and only its operator can write: the built-in wording speaks of basic
    /// authentication and would be false for another deprecation.
    #[must_use]
    pub fn missing_for(&self, affects: Affects) -> Vec<TemplateError> {
        check::names().flat_map(|stem| self.missing(affects, &stem)).collect()
    }

    fn missing(&self, affects: Affects, stem: &str) -> Vec<TemplateError> {
        let built_in = |suffix: &&str| !self.own.contains(format!("{stem}.{suffix}").as_str());
        let explain = |suffix: &str| TemplateError {
            template: format!("{stem}.{suffix}"),
            line: 0,
            column: 0,
            message: format!(
                "the built-in wording is about basic authentication; a campaign that affects \"{}\" needs its own, or `app_id`",
                affects.as_str()
            ),
        };
        match (affects, self.wording) {
            (Affects::BasicAuth, _) | (Affects::ExchangeOnline, Wording::Ews) => Vec::new(),
            (Affects::ExchangeOnline, Wording::BasicAuth) => {
                ["subject", "txt", "html"].into_iter().filter(built_in).map(explain).collect()
            }
        }
    }

    /// Renders a notice completely or not at all.
    ///
    /// # Errors
    /// The first template that failed.
    pub fn render(&self, notice: &Notice<'_>) -> Result<Rendered, TemplateError> {
        let stem = stem(notice);
        if !self.wording.has(notice.kind) {
            let why = format!("campaign {} has no notice of this kind", notice.campaign.id);
            return Err(fault(&format!("{stem}.txt"), why));
        }
        if let Some(missing) = self.missing(notice.campaign.affects, &stem).into_iter().next() {
            return Err(missing);
        }
        let mut view = View::new(notice);
        let attachments = self.attachments(notice, &mut view);
        let (subject, text, html) = self.parts(&stem, view);
        Ok(Rendered { subject: subject?, text: text?, html: html?, attachments })
    }

    /// What is wrong with any part of a notice.
    pub(super) fn faults(&self, notice: &Notice<'_>) -> impl Iterator<Item = TemplateError> {
        let mut view = View::new(notice);
        self.attachments(notice, &mut view);
        let (subject, text, html) = self.parts(&stem(notice), view);
        [subject.err(), text.err(), html.err()].into_iter().flatten()
    }

    fn attachments(&self, notice: &Notice<'_>, view: &mut View) -> Vec<Attachment> {
        if notice.sites.len() <= view::SITES_MAX {
            return Vec::new();
        }
        let lines: Vec<_> = notice.sites.iter().map(|site| view::site_line(site, notice)).collect();
        let list = attachment::site_list(&lines, notice.reference, notice.customer.language);
        view.attachment = Some(list.name.clone());
        vec![list]
    }

    #[allow(clippy::type_complexity)] // three parts, each of which may fail alone
    fn parts(
        &self,
        stem: &str,
        mut view: View,
    ) -> (Result<String, TemplateError>, Result<String, TemplateError>, Result<String, TemplateError>) {
        let reference = view.reference.clone();
        let name = format!("{stem}.subject");
        let subject = self.part(&name, &view).and_then(|subject| one_line(&name, &subject));
        view.subject = subject.clone().unwrap_or_default();
        let name = format!("{stem}.txt");
        let text = self
            .part(&name, &view)
            .map(|text| wrap::wrap(&without_controls(&text), wrap::COLUMNS))
            .and_then(|text| holding(&name, text, &reference));
        let name = format!("{stem}.html");
        let html = self
            .part(&name, &view)
            .map(|html| without_controls(&html))
            .and_then(|html| holding(&name, html, &reference))
            .and_then(|html| without_scripts(&name, html));
        (subject, text, html)
    }

    fn part(&self, name: &str, view: &View) -> Result<String, TemplateError> {
        let template = self.environment.get_template(name).map_err(|e| explain(name, &e))?;
        let mut out = Bounded(Vec::new());
        let context = Value::from(Serde(view));
        template.render_captured_to(context, &mut out).map_err(|e| explain(name, &e))?;
        String::from_utf8(out.0).map_err(|_| fault(name, "made something that is not UTF-8"))
    }
}

/// `first.ja`
fn stem(notice: &Notice<'_>) -> String {
    format!("{}.{}", notice.kind.as_str(), notice.customer.language.as_str())
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .keep_trailing_newline(true)
        .build()
        .expect("the default delimiters are valid");
    environment.set_syntax(syntax);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    // Errors know their place in the source; they are told without the values that stood there.
    environment.set_debug(true);
    environment.set_auto_escape_callback(|name| match name.ends_with(".html") {
        true => AutoEscape::Html,
        false => AutoEscape::None,
    });
    environment.set_formatter(|out, state, value| {
        match (state.auto_escape(), value.as_str()) {
            (AutoEscape::Html, Some(text)) if !value.is_safe() => escape_into(out, text)?,
            _ => minijinja::escape_formatter(out, state, value)?,
        }
        Ok(())
    });
    environment
}

/// The five characters that HTML needs escaped. The engine's own escapes `/` too, which makes every link unreadable in the
/// source and hides it from filters that compare the parts.
fn escape_into(out: &mut Output<'_>, text: &str) -> std::fmt::Result {
    let mut rest = text;
    while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
        out.write_str(&rest[..at])?;
        out.write_str(match rest.as_bytes()[at] {
            b'&' => "&amp;",
            b'<' => "&lt;",
            b'>' => "&gt;",
            b'"' => "&quot;",
            _ => "&#39;",
        })?;
        rest = &rest[at + 1..];
    }
    out.write_str(rest)
}

/// Refuses what would not fit, so that a template can neither fill memory nor a mailbox.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > OUTPUT_MAX {
            return Err(io::Error::other(format!("more than {OUTPUT_MAX} bytes of output")));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn fault(template: &str, message: impl Into<String>) -> TemplateError {
    TemplateError { template: template.to_owned(), line: 0, column: 0, message: message.into() }
}

/// The innermost cause: an error inside an included template is that template's, not its includer's.
fn explain(template: &str, error: &minijinja::Error) -> TemplateError {
    let mut inner = error;
    let mut cause = std::error::Error::source(error);
    let mut outside = None;
    while let Some(next) = cause {
        match next.downcast_ref::<minijinja::Error>() {
            Some(next) => inner = next,
            None => outside = Some(next.to_string()),
        }
        cause = next.source();
    }
    let kind = inner.kind().to_string();
    let detail = outside.as_deref().or(inner.detail());
    TemplateError {
        template: inner.name().or(error.name()).unwrap_or(template).to_owned(),
        line: inner.line().and_then(|line| u32::try_from(line).ok()).unwrap_or(0),
        column: column(inner).and_then(|column| u32::try_from(column).ok()).unwrap_or(0),
        message: detail.map_or_else(|| kind.clone(), |detail| format!("{kind}: {detail}")),
    }
}

/// Where in its line an error begins: the engine knows the byte in the source.
fn column(error: &minijinja::Error) -> Option<usize> {
    let before = error.template_source()?.get(..error.range()?.start)?;
    Some(before.rsplit('\n').next()?.chars().count() + 1)
}

/// A subject is one line, or it could begin another header.
fn one_line(name: &str, subject: &str) -> Result<String, TemplateError> {
    let subject = subject.trim();
    if subject.is_empty() {
        Err(fault(name, "makes an empty subject"))
    } else if subject.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')) {
        Err(fault(name, "makes a subject with a line break or another control character"))
    } else if wrap::width(subject) > SUBJECT_COLUMNS {
        Err(fault(name, format!("makes a subject wider than {SUBJECT_COLUMNS} columns")))
    } else {
        Ok(subject.to_owned())
    }
}

/// The case's reference number stands in every mail.
fn holding(name: &str, text: String, reference: &str) -> Result<String, TemplateError> {
    match text.contains(reference) {
        true => Ok(text),
        false => Err(fault(name, "does not show the case's number; write {{ reference }}")),
    }
}

/// Names are escaped, so a script can only be the template's own; mail programs drop or distrust such a mail.
fn without_scripts(name: &str, html: String) -> Result<String, TemplateError> {
    match html.to_ascii_lowercase().contains("<script") {
        true => Err(fault(name, "holds a script")),
        false => Ok(html),
    }
}

fn without_controls(text: &str) -> String {
    text.replace('\t', "    ").chars().filter(|&c| c == '\n' || !c.is_control()).collect()
}
