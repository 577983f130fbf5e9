//! The templates' texts: the built-in ones, and an operator's directory over them, one by one.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use super::render::{TemplateError, Wording};

/// Larger than any template a person writes.
const TEMPLATE_MAX: u64 = 256 * 1024;

macro_rules! templates {
    ($($name:literal)*) => {
        /// Every built-in template about basic authentication, by name.
        const BUILT_IN: &[(&str, &str)] = &[$(($name, include_str!(concat!("templates/", $name)))),*];
    };
}

templates! {
    "_layout.html" "_shapes.html"
    "_addressee.ja.txt" "_summary.ja.txt" "_effect.ja.txt" "_sites.ja.txt" "_before.ja.txt" "_steps.ja.txt"
    "_consent_steps.ja.txt" "_lost.ja.txt" "_some.ja.txt" "_way_back.ja.txt" "_postpone.ja.txt" "_background.ja.txt"
    "_check.ja.txt" "_ending.ja.txt" "_whose.ja.subject"
    "_addressee.ja.html" "_summary.ja.html" "_effect.ja.html" "_sites.ja.html" "_before.ja.html" "_steps.ja.html"
    "_consent_steps.ja.html" "_lost.ja.html" "_some.ja.html" "_way_back.ja.html" "_postpone.ja.html" "_background.ja.html"
    "_check.ja.html" "_ending.ja.html"
    "_addressee.en.txt" "_summary.en.txt" "_effect.en.txt" "_sites.en.txt" "_before.en.txt" "_steps.en.txt"
    "_consent_steps.en.txt" "_lost.en.txt" "_some.en.txt" "_way_back.en.txt" "_postpone.en.txt" "_background.en.txt"
    "_check.en.txt" "_ending.en.txt" "_whose.en.subject"
    "_addressee.en.html" "_summary.en.html" "_effect.en.html" "_sites.en.html" "_before.en.html" "_steps.en.html"
    "_consent_steps.en.html" "_lost.en.html" "_some.en.html" "_way_back.en.html" "_postpone.en.html" "_background.en.html"
    "_check.en.html" "_ending.en.html"
    "first.ja.subject" "first.ja.txt" "first.ja.html" "first.en.subject" "first.en.txt" "first.en.html"
    "reminder.ja.subject" "reminder.ja.txt" "reminder.ja.html"
    "reminder.en.subject" "reminder.en.txt" "reminder.en.html"
    "overdue.ja.subject" "overdue.ja.txt" "overdue.ja.html" "overdue.en.subject" "overdue.en.txt" "overdue.en.html"
    "consent.ja.subject" "consent.ja.txt" "consent.ja.html" "consent.en.subject" "consent.en.txt" "consent.en.html"
    "resolved.ja.subject" "resolved.ja.txt" "resolved.ja.html"
    "resolved.en.subject" "resolved.en.txt" "resolved.en.html"
    "regressed.ja.subject" "regressed.ja.txt" "regressed.ja.html"
    "regressed.en.subject" "regressed.en.txt" "regressed.en.html"
    "rescheduled.ja.subject" "rescheduled.ja.txt" "rescheduled.ja.html"
    "rescheduled.en.subject" "rescheduled.en.txt" "rescheduled.en.html"
}

macro_rules! over {
    ($($source:literal: $($name:literal)*;)*) => {
        /// What is worded otherwise for EWS. One source serves several names: text and HTML where it holds no mark-up, and
        /// all kinds of notice, which differ in what comes first.
        const EWS: &[(&str, &str)] = &[$($(($name, include_str!(concat!("templates/ews/", $source)))),*),*];
    };
}

over! {
    "subject.ja": "first.ja.subject" "reminder.ja.subject" "overdue.ja.subject" "resolved.ja.subject"
        "regressed.ja.subject" "rescheduled.ja.subject";
    "subject.en": "first.en.subject" "reminder.en.subject" "overdue.en.subject" "resolved.en.subject"
        "regressed.en.subject" "rescheduled.en.subject";
    "notice.ja.txt": "first.ja.txt" "reminder.ja.txt" "overdue.ja.txt" "resolved.ja.txt" "regressed.ja.txt"
        "rescheduled.ja.txt";
    "notice.en.txt": "first.en.txt" "reminder.en.txt" "overdue.en.txt" "resolved.en.txt" "regressed.en.txt"
        "rescheduled.en.txt";
    "notice.ja.html": "first.ja.html" "reminder.ja.html" "overdue.ja.html" "resolved.ja.html" "regressed.ja.html"
        "rescheduled.ja.html";
    "notice.en.html": "first.en.html" "reminder.en.html" "overdue.en.html" "resolved.en.html" "regressed.en.html"
        "rescheduled.en.html";
    "opening.ja": "_opening.ja.txt" "_opening.ja.html";
    "opening.en": "_opening.en.txt" "_opening.en.html";
    "effect.ja": "_effect.ja.txt" "_effect.ja.html";
    "effect.en": "_effect.en.txt" "_effect.en.html";
    "summary.ja.txt": "_summary.ja.txt";
    "summary.en.txt": "_summary.en.txt";
    "summary.ja.html": "_summary.ja.html";
    "summary.en.html": "_summary.en.html";
    "steps.ja.txt": "_steps.ja.txt";
    "steps.en.txt": "_steps.en.txt";
    "steps.ja.html": "_steps.ja.html";
    "steps.en.html": "_steps.en.html";
    "background.ja.txt": "_background.ja.txt";
    "background.en.txt": "_background.en.txt";
    "background.ja.html": "_background.ja.html";
    "background.en.html": "_background.en.html";
}

/// The built-in templates of one wording, by name.
pub(super) fn built_in(wording: Wording) -> BTreeMap<&'static str, &'static str> {
    let over = match wording {
        Wording::BasicAuth => &[],
        Wording::Ews => EWS,
    };
    BUILT_IN.iter().chain(over).copied().collect()
}

/// Reads an operator's directory: every file in it is a template's name, but hidden ones and an editor's backups (`~`).
///
/// # Errors
/// Every file that is no template or cannot be read as one.
pub(super) fn read_dir(
    dir: &Path,
    built_in: &BTreeMap<&'static str, &'static str>,
) -> Result<BTreeMap<&'static str, String>, Vec<TemplateError>> {
    let unreadable = |what: &Path, why: &dyn std::fmt::Display| TemplateError {
        template: what.display().to_string(),
        line: 0,
        column: 0,
        message: format!("cannot be read: {why}"),
    };
    let entries = std::fs::read_dir(dir).map_err(|e| vec![unreadable(dir, &e)])?;
    let (mut own, mut errors) = (BTreeMap::new(), Vec::new());
    for entry in entries {
        match entry {
            Err(e) => errors.push(unreadable(dir, &e)),
            Ok(entry) => {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.starts_with('.') || name.ends_with('~') {
                    continue;
                }
                match known(&name, built_in).and_then(|known| Ok((known, read(&entry.path(), known)?))) {
                    Ok((known, source)) => drop(own.insert(known, source)),
                    Err(e) => errors.push(e),
                }
            }
        }
    }
    errors.sort_by(|a, b| a.template.cmp(&b.template));
    if errors.is_empty() { Ok(own) } else { Err(errors) }
}

/// The built-in name that a file's name is.
fn known(name: &str, built_in: &BTreeMap<&'static str, &'static str>) -> Result<&'static str, TemplateError> {
    if let Some((known, _)) = built_in.get_key_value(name) {
        return Ok(known);
    }
    let near = built_in
        .keys()
        .map(|known| (strsim::damerau_levenshtein(known, name), *known))
        .min()
        .filter(|(distance, _)| *distance <= 4)
        .map_or(Cow::Borrowed(""), |(_, known)| format!("; did you mean {known}?").into());
    Err(TemplateError {
        template: name.to_owned(),
        line: 0,
        column: 0,
        message: format!("is no template's name{near}"),
    })
}

/// A template as it is compiled: no byte order mark, LF line ends.
fn read(path: &Path, name: &str) -> Result<String, TemplateError> {
    let fault = |message: String| TemplateError { template: name.to_owned(), line: 0, column: 0, message };
    let about = std::fs::metadata(path).map_err(|e| fault(format!("cannot be read: {e}")))?;
    if !about.is_file() {
        return Err(fault("is no file".to_owned()));
    }
    if about.len() > TEMPLATE_MAX {
        return Err(fault(format!("is larger than {TEMPLATE_MAX} bytes")));
    }
    let bytes = std::fs::read(path).map_err(|e| fault(format!("cannot be read: {e}")))?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let valid = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|&&b| b == b'\n').count() + 1;
        TemplateError {
            template: name.to_owned(),
            line: u32::try_from(line).unwrap_or(0),
            column: 0,
            message: "is not UTF-8; save it as UTF-8".to_owned(),
        }
    })?;
    Ok(text.trim_start_matches('\u{FEFF}').replace("\r\n", "\n"))
}
