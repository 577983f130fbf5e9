//! The templates' texts: the built-in ones, and an operator's directory over them, one by one.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use super::render::TemplateError;

/// Larger than any template a person writes.
const TEMPLATE_MAX: u64 = 256 * 1024;

macro_rules! templates {
    ($($name:literal)*) => {
        /// Every built-in template, by name.
        pub(super) const BUILT_IN: &[(&str, &str)] = &[$(($name, include_str!(concat!("templates/", $name)))),*];
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

/// Reads an operator's directory: every file in it is a template's name, but hidden ones and an editor's backups (`~`).
///
/// # Errors
/// Every file that is no template or cannot be read as one.
pub(super) fn read_dir(dir: &Path) -> Result<BTreeMap<&'static str, String>, Vec<TemplateError>> {
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
                match known(&name).and_then(|known| Ok((known, read(&entry.path(), known)?))) {
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
fn known(name: &str) -> Result<&'static str, TemplateError> {
    if let Some((known, _)) = BUILT_IN.iter().find(|(known, _)| *known == name) {
        return Ok(known);
    }
    let near = BUILT_IN
        .iter()
        .map(|(known, _)| (strsim::damerau_levenshtein(known, name), *known))
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
