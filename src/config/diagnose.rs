//! Problems of a file that people write, and how they are shown: file, line, column, the text underlined, a hint.
//!
//! [`std::fmt::Display`] is for logs and alerts: one line a problem, without the file's text, which may hold addresses.
//! [`ConfigErrors::render`] is for an operator's terminal and shows the line. A password written into the file by mistake
//! is shown by neither.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use unicode_width::UnicodeWidthChar;

/// Columns of a source line that are shown; longer lines are cut around the problem.
const SHOWN_COLUMNS: usize = 120;

/// How keys end whose values are not shown even where they should not stand.
const SECRET_KEYS: [&str; 5] = ["password", "passwd", "secret", "token", "api_key"];

/// One problem with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, as it was named.
    pub file: PathBuf,
    /// The line, from 1; `None`: the file as a whole.
    pub line: Option<u64>,
    /// The column in characters, from 1.
    pub column: Option<usize>,
    /// The key (`scan.timeout`) or the column of a table (`email`).
    pub key: Option<String>,
    /// What is wrong. Never a secret, never a full mail address.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The line's text and what of it to underline, where it may be shown.
    excerpt: Option<Excerpt>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Excerpt {
    line: String,
    /// In characters of `line`.
    marked: Range<usize>,
}

impl Problem {
    /// A problem of the file as a whole: it is not there, or is no text.
    #[must_use]
    pub fn of_file(file: &Path, message: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: None,
            column: None,
            key: None,
            message: message.into(),
            hint: None,
            excerpt: None,
        }
    }

    /// A problem of a row in a table such as the customers file: the line from 1 and the column's name.
    #[must_use]
    pub fn in_row(file: &Path, line: u64, column: Option<&str>, message: impl Into<String>) -> Self {
        Self { line: Some(line), key: column.map(str::to_owned), ..Self::of_file(file, message) }
    }

    /// A problem at a place in a text.
    pub(super) fn at(source: &Source, span: Range<usize>, key: Option<String>, message: String) -> Self {
        let place = source.place(span);
        Self {
            line: Some(place.line as u64),
            column: Some(place.marked.start + 1),
            key,
            excerpt: Some(Excerpt { line: place.text, marked: place.marked }),
            ..Self::of_file(&source.file, message)
        }
    }

    /// With what to do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    /// `config.toml:12:15`
    fn location(&self) -> String {
        let mut text = self.file.display().to_string();
        if let Some(line) = self.line {
            text += &format!(":{line}");
        }
        if let Some(column) = self.column {
            text += &format!(":{column}");
        }
        text
    }

    /// `scan.timeout: …`
    fn sentence(&self) -> String {
        match &self.key {
            Some(key) => format!("{key}: {}", self.message),
            None => self.message.clone(),
        }
    }

    fn render(&self, paint: &Paint) -> String {
        let mut out = format!(
            "{}: {} {}\n",
            paint.bold(&self.location()),
            paint.red("error:"),
            paint.bold(&printable(&self.sentence()))
        );
        let number = self.line.map_or_else(String::new, |line| line.to_string());
        let gutter = " ".repeat(number.len());
        if let Some(excerpt) = &self.excerpt {
            let (line, before, width) = excerpt.shown();
            let bar = paint.blue("|");
            out += &format!(" {} {bar} {line}\n", paint.blue(&number));
            out += &format!(" {gutter} {bar} {}{}\n", " ".repeat(before), paint.red(&"^".repeat(width)));
        }
        if let Some(hint) = &self.hint {
            out += &format!(" {gutter} {} {}\n", paint.cyan("help:"), printable(hint));
        }
        out
    }
}

impl Excerpt {
    /// The line to print, and the columns before and under the marks as a terminal counts them (a kanji is two).
    fn shown(&self) -> (String, usize, usize) {
        let chars: Vec<char> = mask_secrets(&self.line).chars().collect();
        let start = self.marked.start.min(chars.len());
        let end = self.marked.end.clamp(start, chars.len());
        let width = |part: &[char]| part.iter().map(|c| shown_char(*c).width().unwrap_or(1)).sum::<usize>();
        // Cut a long line so that the marks stay in sight.
        let from = if width(&chars[..start]) > SHOWN_COLUMNS / 2 { start.saturating_sub(SHOWN_COLUMNS / 4) } else { 0 };
        let to = (from..=chars.len()).take_while(|to| width(&chars[from..*to]) <= SHOWN_COLUMNS).last().unwrap_or(from);
        let end = end.clamp(start, to.max(start));
        let lead = if from > 0 { "…" } else { "" };
        let tail = if to < chars.len() { "…" } else { "" };
        let text: String = chars[from..to].iter().map(|c| shown_char(*c)).collect();
        let before = width(&chars[from..start]) + lead.chars().count();
        (format!("{lead}{text}{tail}").trim_end().to_owned(), before, width(&chars[start..end]).max(1))
    }
}

/// A tab would move the marks, and an escape sequence in a file has no business on a terminal.
fn shown_char(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '\u{FFFD}',
        c => c,
    }
}

fn printable(text: &str) -> String {
    text.chars().map(shown_char).collect()
}

/// Replaces what may be a secret by as many `*`, so that the marks stay where they are: a quoted text after a key that
/// names a secret, to the line's end, and a password inside a URL.
fn mask_secrets(line: &str) -> String {
    let quoted_secret = line.match_indices('=').find_map(|(equals, _)| {
        let key = line[..equals].trim_end().trim_end_matches(['"', '\'']).to_ascii_lowercase();
        let value = equals + 1 + line[equals + 1..].find(|c: char| !c.is_whitespace())?;
        let is_secret = SECRET_KEYS.iter().any(|secret| key.ends_with(secret));
        (is_secret && line[value..].starts_with(['"', '\''])).then_some(value..line.len())
    });
    let in_url = || {
        let start = line.find("://")? + 3;
        let at = start + line[start..].find(['@', '/', '"', '\'', ' '])?;
        line[at..].starts_with('@').then_some(start..at)
    };
    match quoted_secret.or_else(in_url) {
        Some(Range { start, end }) => {
            let stars = line[start..end].chars().map(|_| '*');
            line[..start].chars().chain(stars).chain(line[end..].chars()).collect()
        }
        None => line.to_owned(),
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.location(), self.sentence())?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// Every problem of a configuration, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<Problem>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl ConfigErrors {
    /// As a compiler shows errors: place, line, the text underlined, a hint; an empty line between two.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let paint = Paint { color };
        self.0.iter().map(|problem| problem.render(&paint)).collect::<Vec<_>>().join("\n")
    }
}

struct Paint {
    color: bool,
}

impl Paint {
    fn sgr(&self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
    fn bold(&self, text: &str) -> String {
        self.sgr("1", text)
    }
    fn red(&self, text: &str) -> String {
        self.sgr("1;31", text)
    }
    fn blue(&self, text: &str) -> String {
        self.sgr("34", text)
    }
    fn cyan(&self, text: &str) -> String {
        self.sgr("36", text)
    }
}

/// A file's text, for turning byte offsets into lines and columns.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) file: PathBuf,
    pub(super) text: String,
}

struct Place {
    line: usize,
    text: String,
    marked: Range<usize>,
}

impl Source {
    /// The place of a span of bytes; of several lines only the first is marked.
    fn place(&self, span: Range<usize>) -> Place {
        let start = floor_char(&self.text, span.start);
        let end = floor_char(&self.text, span.end).max(start);
        let line_start = self.text[..start].rfind('\n').map_or(0, |n| n + 1);
        let line_end = self.text[start..].find('\n').map_or(self.text.len(), |n| start + n);
        let text = self.text[line_start..line_end].trim_end_matches('\r');
        let column = |at: usize| self.text[line_start..at.min(line_start + text.len())].chars().count();
        Place {
            line: self.text[..line_start].matches('\n').count() + 1,
            text: text.to_owned(),
            marked: column(start)..column(end),
        }
    }
}

fn floor_char(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// The word of `words` that was probably meant.
pub(super) fn did_you_mean<'w>(word: &str, words: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let word = word.to_lowercase();
    words
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&word, &candidate.to_lowercase()), candidate))
        .filter(|(likeness, _)| *likeness >= 0.82)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}
