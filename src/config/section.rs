//! Reading the parsed file section by section: what a section asks for is what it knows, everything else is an unknown key.
//!
//! serde would stop at the first error; this goes on after each, with the key's default in the place of a value that is
//! wrong, so that one run shows all of them. A key's name, default and form stand together, once, where it is read, and
//! [`KnownKey`]s fall out of that. The values read count only if no problem was found.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnose::{Problem, Source, did_you_mean};
use super::values::{Bad, kind_of};

/// A key that a configuration may hold.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownKey {
    /// Such as `mail.smtp.port`; `campaign.id` for each `[[campaign]]`.
    pub path: String,
    /// What it is when it is not set. `None`: off, or [`required`](Self::required).
    pub default: Option<toml::Value>,
    /// Whether it must always be set.
    pub required: bool,
}

/// One reading of one file.
pub(super) struct Reading<'t> {
    source: &'t Source,
    found: Vec<Found>,
    unknown: Vec<Unknown>,
    known: Vec<KnownKey>,
}

struct Found {
    problem: Problem,
    /// Whether it speaks of a key that is not there: not to be believed in a file with syntax errors.
    absent: bool,
}

struct Unknown {
    span: Range<usize>,
    section: String,
    key: String,
}

/// One section, there or not: one that is absent has every key unset.
pub(super) struct Section<'r, 't> {
    reading: &'r mut Reading<'t>,
    path: String,
    table: Option<&'t DeTable<'t>>,
    /// Where the section is, for problems of what it lacks.
    span: Range<usize>,
    asked: Vec<&'static str>,
    wrong: Vec<&'static str>,
}

impl<'t> Reading<'t> {
    /// Reads the whole file with `read`; `None` stands for a file with nothing in it.
    pub(super) fn run<T>(
        source: &'t Source,
        document: Option<&'t DeTable<'t>>,
        read: impl FnOnce(&mut Section<'_, 't>) -> T,
    ) -> (T, Self) {
        let mut reading = Self { source, found: Vec::new(), unknown: Vec::new(), known: Vec::new() };
        let value = reading.section(String::new(), document, 0..0, read);
        (value, reading)
    }

    /// Every problem; in a file with syntax errors only those that do not follow from what could not be read.
    pub(super) fn problems(mut self, syntax: Vec<Problem>) -> Vec<Problem> {
        for unknown in std::mem::take(&mut self.unknown) {
            let hint = self.hint(&unknown);
            let path = join(&unknown.section, &unknown.key);
            let problem = Problem::at(self.source, unknown.span, Some(path), "is no key of this file".into());
            self.found.push(Found { problem: problem.with_hint(Some(hint)), absent: false });
        }
        let broken = |line| syntax.iter().any(|problem| problem.line == line);
        let mut problems: Vec<Problem> = self
            .found
            .into_iter()
            .filter(|found| syntax.is_empty() || !(found.absent || broken(found.problem.line)))
            .map(|found| found.problem)
            .collect();
        problems.extend(syntax);
        problems.sort_by_key(|problem| (problem.line, problem.column));
        problems
    }

    pub(super) fn known_keys(self) -> Vec<KnownKey> {
        self.known
    }

    /// What was probably meant: a key of this section, or the same key in another (a key below the wrong `[section]`).
    fn hint(&self, unknown: &Unknown) -> String {
        let paths: Vec<&str> = self.known.iter().map(|key| key.path.as_str()).collect();
        let inside = |path: &'_ str| {
            let rest = match unknown.section.as_str() {
                "" => Some(path),
                section => path.strip_prefix(section).and_then(|rest| rest.strip_prefix('.')),
            };
            rest.map(|rest| rest.split('.').next().unwrap_or(rest).to_owned())
        };
        let mut here: Vec<String> = paths.iter().filter_map(|path| inside(path)).collect();
        here.dedup();
        if let Some(meant) = did_you_mean(&unknown.key, here.iter().map(String::as_str)) {
            return format!("did you mean `{meant}`?");
        }
        let elsewhere = paths.iter().find_map(|path| match path.rsplit_once('.') {
            Some((section, key)) => (key == unknown.key).then(|| format!("in [{section}]")),
            None => (*path == unknown.key).then(|| "at the top of the file, above every [section]".to_owned()),
        });
        match elsewhere {
            Some(place) => format!("`{}` belongs {place}", unknown.key),
            None if here.is_empty() => "take it out".to_owned(),
            None => format!("known here: {}", here.join(", ")),
        }
    }

    fn section<T>(
        &mut self,
        path: String,
        table: Option<&'t DeTable<'t>>,
        span: Range<usize>,
        read: impl FnOnce(&mut Section<'_, 't>) -> T,
    ) -> T {
        let mut section = Section { reading: self, path, table, span, asked: Vec::new(), wrong: Vec::new() };
        let value = read(&mut section);
        let Section { path, asked, .. } = section;
        for (key, _) in table.into_iter().flatten() {
            if !asked.contains(&key.get_ref().as_ref()) {
                let key = (key.span(), key.get_ref().to_string());
                self.unknown.push(Unknown { span: key.0, section: path.clone(), key: key.1 });
            }
        }
        value
    }
}

impl<'t> Section<'_, 't> {
    /// A key with a default.
    ///
    /// The default is written as in the file and read by the same `parse`.
    pub(super) fn or<T>(
        &mut self,
        key: &'static str,
        default: impl Into<toml::Value>,
        parse: impl Fn(&DeValue<'_>) -> Result<T, Bad>,
    ) -> T {
        let default = default.into();
        let text = default.to_string();
        self.know(key, Some(default), false);
        self.value(key, &parse).unwrap_or_else(|| {
            let value = DeValue::parse(&text).expect("a default is TOML: known_keys() reads every one in a test");
            parse(value.get_ref()).map_err(|bad| bad.message).expect("a default is valid, likewise")
        })
    }

    /// A key that is off until it is set.
    pub(super) fn opt<T>(&mut self, key: &'static str, parse: impl Fn(&DeValue<'_>) -> Result<T, Bad>) -> Option<T> {
        self.know(key, None, false);
        self.value(key, &parse)
    }

    /// A key that must be set.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        hint: &str,
        parse: impl Fn(&DeValue<'_>) -> Result<T, Bad>,
    ) -> Option<T> {
        self.know(key, None, true);
        if !self.has(key) {
            self.problem(key, "must be set", hint);
        }
        self.value(key, &parse)
    }

    /// A list with a default; each of its values is read on its own.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        default: &[&str],
        parse: impl Fn(&DeValue<'_>) -> Result<T, Bad>,
    ) -> Vec<T> {
        self.know(key, Some(toml::Value::from(default.to_vec())), false);
        let Some((_, value)) = self.find(key) else {
            let read = |text: &&str| parse(&DeValue::String((*text).into())).map_err(|bad| bad.message);
            return default.iter().map(|text| read(text).expect("a default is valid: tested")).collect();
        };
        let Some(items) = value.get_ref().as_array() else {
            let bad = Bad::new(format!("must be a list, not {}", kind_of(value.get_ref())));
            self.bad(key, value.span(), bad.hint("write it in brackets: [\"…\", \"…\"]"));
            return Vec::new();
        };
        let mut values = Vec::new();
        for item in items.iter() {
            match parse(item.get_ref()) {
                Ok(value) => values.push(value),
                Err(bad) => self.bad(key, item.span(), bad),
            }
        }
        values
    }

    /// A section inside this one, called whether it is there or not.
    pub(super) fn section<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'_, 't>) -> T) -> T {
        self.asked.push(key);
        let path = join(&self.path, key);
        let (table, span) = match self.find(key) {
            None => (None, self.span.clone()),
            Some((span, value)) => match value.get_ref().as_table() {
                Some(table) => (Some(table), span),
                None => {
                    let bad = Bad::new(format!("is a section, not {}", kind_of(value.get_ref())));
                    self.bad(
                        key,
                        value.span(),
                        bad.hint(format!("write [{path}] on a line of its own, its keys below")),
                    );
                    (None, span)
                }
            },
        };
        self.reading.section(path, table, span, read)
    }

    /// A section whose keys are names of the operator's own.
    pub(super) fn names<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&DeValue<'_>) -> Result<T, Bad>,
    ) -> std::collections::BTreeMap<String, T> {
        self.asked.push(key);
        let mut named = std::collections::BTreeMap::new();
        let Some((_, value)) = self.find(key) else { return named };
        let Some(table) = value.get_ref().as_table() else {
            let path = join(&self.path, key);
            let bad = Bad::new(format!("is a section, not {}", kind_of(value.get_ref())));
            self.bad(key, value.span(), bad.hint(format!("write [{path}] on a line of its own, its names below")));
            return named;
        };
        for (name, value) in table.iter() {
            match parse(value.get_ref()) {
                Ok(value) => {
                    named.insert(name.get_ref().to_string(), value);
                }
                Err(bad) => self.bad(key, value.span(), bad),
            }
        }
        if table.is_empty() {
            self.problem(key, "names nobody", "such as taro = \"$argon2id$…\"; `kigen web-password` makes one");
        }
        named
    }

    /// Sections of one name, `[[key]]`; `read` is called once with an absent one if there is none.
    pub(super) fn sections<T>(&mut self, key: &'static str, mut read: impl FnMut(&mut Section<'_, 't>) -> T) -> Vec<T> {
        self.asked.push(key);
        let path = join(&self.path, key);
        let mut tables = Vec::new();
        if let Some((span, value)) = self.find(key) {
            let items = value.get_ref().as_array().map(|items| items.iter().collect::<Vec<_>>());
            for item in items.unwrap_or_else(|| vec![value]) {
                match item.get_ref().as_table() {
                    Some(table) if value.get_ref().is_array() => tables.push((Some(table), item.span())),
                    _ => {
                        let bad = Bad::new("may stand several times and needs double brackets");
                        self.bad(key, span.clone(), bad.hint(format!("write [[{path}]]")));
                    }
                }
            }
        }
        if tables.is_empty() {
            tables.push((None, self.span.clone()));
        }
        tables.into_iter().map(|(table, span)| self.reading.section(path.clone(), table, span, &mut read)).collect()
    }

    /// Whether the key is set, rightly or not.
    pub(super) fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// Whether the section is there.
    pub(super) fn is_there(&self) -> bool {
        self.table.is_some()
    }

    /// Whether nothing was wrong with these keys' values, so that they can be compared.
    pub(super) fn sound(&self, keys: &[&'static str]) -> bool {
        !keys.iter().any(|key| self.wrong.contains(key))
    }

    /// A problem of a key that is set (marked there) or is not (the section is marked).
    pub(super) fn problem(&mut self, key: &'static str, message: impl Into<String>, hint: &str) {
        let place = self.find(key).map(|(_, value)| value.span());
        let absent = place.is_none();
        self.report(key, place.unwrap_or_else(|| self.span.clone()), Bad::new(message).hint(hint), absent);
    }

    /// The same for a key in sections below, named by the way there.
    pub(super) fn problem_below(&mut self, way: &[&'static str], message: &str, hint: &str) {
        let mut table = self.table;
        let mut span = self.span.clone();
        for key in way {
            let Some((key, value)) = table.and_then(|table| table.get_key_value(*key)) else { break };
            table = value.get_ref().as_table();
            span = if table.is_some() { key.span() } else { value.span() };
        }
        let problem = Problem::at(self.reading.source, span, Some(way.join(".")), message.to_owned());
        self.reading.found.push(Found { problem: problem.with_hint(Some(hint.to_owned())), absent: false });
    }

    fn value<T>(&mut self, key: &'static str, parse: &impl Fn(&DeValue<'_>) -> Result<T, Bad>) -> Option<T> {
        let (_, value) = self.find(key)?;
        match parse(value.get_ref()) {
            Ok(value) => Some(value),
            Err(bad) => {
                self.bad(key, value.span(), bad);
                None
            }
        }
    }

    /// The key's span, and its value.
    fn find(&self, key: &str) -> Option<(Range<usize>, &'t Spanned<DeValue<'t>>)> {
        self.table?.get_key_value(key).map(|(key, value)| (key.span(), value))
    }

    fn know(&mut self, key: &'static str, default: Option<toml::Value>, required: bool) {
        self.asked.push(key);
        let known = KnownKey { path: join(&self.path, key), default, required };
        if !self.reading.known.iter().any(|other| other.path == known.path) {
            self.reading.known.push(known);
        }
    }

    fn bad(&mut self, key: &'static str, span: Range<usize>, bad: Bad) {
        self.report(key, span, bad, false);
    }

    fn report(&mut self, key: &'static str, span: Range<usize>, bad: Bad, absent: bool) {
        self.wrong.push(key);
        let problem = Problem::at(self.reading.source, span, Some(join(&self.path, key)), bad.message);
        self.reading.found.push(Found { problem: problem.with_hint(bad.hint), absent });
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
