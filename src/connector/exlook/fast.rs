//! Regular HTML -> a [`Dom`], in one pass over the text: several times cheaper than [`super::tree`], which reads anything.
//!
//! It follows the browsers' algorithm only where that algorithm has nothing to repair: elements it knows, each closed by
//! its own end tag, in a place where it may stand. At the first thing that is not so it gives up, and nothing that it saw
//! is kept. Invariant: what it answers is what [`super::tree`] answers, node by node; `tests/exlook_fast.rs` compares them.

mod elements;
mod scan;

use std::borrow::Cow;

use self::elements::{Is, element};
use super::builder::Builder;
use super::dom::Dom;

/// Why a page is left to the full parser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Irregular(pub &'static str);

type Step<T = ()> = Result<T, Irregular>;

/// Deeper nesting is for the full parser.
const MAX_DEPTH: usize = 200;
/// A page of more elements is for the full parser, which has the limit.
const MAX_ELEMENTS: usize = 50_000;

/// Reads a page whose line ends are `\n`.
///
/// # Errors
/// [`Irregular`] at the first thing that is not plain.
pub fn parse(text: &str) -> Step<Dom<'_>> {
    if text.starts_with('\u{feff}') {
        return Err(Irregular("a byte order mark in the text"));
    }
    if has_controls(text.as_bytes()) {
        return Err(Irregular("a control character"));
    }
    let marks = memchr::memchr_iter(b'<', text.as_bytes()).count();
    let mut reader = Reader {
        text,
        at: 0,
        builder: Builder::new(marks + marks / 2),
        open: Vec::with_capacity(32),
        stage: Stage::Start,
        doctype: false,
        waiting: None,
        elements: 0,
        inside: Inside::default(),
    };
    reader.run()?;
    Ok(reader.builder.finish(std::iter::empty()))
}

/// Whether a character is there that browsers replace or drop.
fn has_controls(bytes: &[u8]) -> bool {
    let is_control = |b: &u8| *b < b' ' && *b != b'\t' && *b != b'\n' && *b != 0x0c;
    // Both without a branch a byte, which is what the compiler makes vector instructions of; and most pieces of a view
    // state end with the first, which is one instruction for many bytes.
    let is_below_space = |piece: &[u8]| piece.iter().fold(u8::MAX, |least, &b| least.min(b)) < b' ';
    let has_control = |piece: &[u8]| piece.iter().fold(false, |found, b| found | is_control(b));
    bytes.chunks(1024).any(|piece| is_below_space(piece) && has_control(piece))
}

/// How far the document is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Before `<html>`.
    Start,
    /// Before `<head>`.
    Html,
    Head,
    /// Between `</head>` and `<body>`.
    AfterHead,
    Body,
    AfterBody,
    End,
}

/// An open element.
#[derive(Clone, Copy)]
struct Open {
    name: &'static str,
    is: Is,
    /// The parser put it there, not the page.
    implied: bool,
}

/// How many elements are open of those that the algorithm closes when another one comes.
#[derive(Default)]
struct Inside {
    paragraphs: usize,
    links: usize,
    buttons: usize,
    forms: usize,
}

impl Inside {
    fn of(&mut self, is: Is) -> Option<&mut usize> {
        match is {
            Is::Paragraph => Some(&mut self.paragraphs),
            Is::Link => Some(&mut self.links),
            Is::Button => Some(&mut self.buttons),
            Is::Form => Some(&mut self.forms),
            _ => None,
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    builder: Builder<'a>,
    open: Vec<Open>,
    stage: Stage,
    doctype: bool,
    /// A text whose end has not been seen yet: only a tag or a comment ends it.
    waiting: Option<Cow<'a, str>>,
    elements: usize,
    inside: Inside,
}

/// A start tag.
struct Tag<'a> {
    name: &'static str,
    is: Is,
    attributes: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    closes_itself: bool,
}

impl<'a> Reader<'a> {
    fn run(&mut self) -> Step {
        while self.at < self.text.len() {
            let rest = &self.text[self.at..];
            let mark = scan::find(rest, b'<').unwrap_or(rest.len());
            if mark > 0 {
                self.characters(&rest[..mark])?;
                self.at += mark;
                continue;
            }
            match rest.as_bytes().get(1) {
                Some(b'/') => self.end_tag()?,
                Some(b'!') => self.declaration()?,
                Some(b) if b.is_ascii_alphabetic() => self.start_tag()?,
                _ => return Err(Irregular("a < that begins no tag")),
            }
        }
        if self.stage != Stage::End {
            return Err(Irregular("the page does not end with </html>"));
        }
        self.flush();
        Ok(())
    }

    fn current(&self) -> Is {
        self.open.last().map_or(Is::Html, |open| open.is)
    }

    fn flush(&mut self) {
        if let Some(text) = self.waiting.take() {
            self.builder.text(text);
        }
    }

    fn characters(&mut self, raw: &'a str) -> Step {
        let blank = raw.bytes().all(|b| b.is_ascii_whitespace());
        let anything = self.stage == Stage::Body && self.current().holds_text();
        match self.stage {
            // The algorithm drops it.
            Stage::Start | Stage::Html if blank => return Ok(()),
            _ if !blank && !anything => return Err(Irregular("text where none belongs")),
            _ => {}
        }
        let text = if blank { Cow::Borrowed(raw) } else { scan::decoded(raw, false)? };
        match &mut self.waiting {
            Some(waiting) => waiting.to_mut().push_str(&text),
            None => self.waiting = Some(text),
        }
        Ok(())
    }

    /// `<!-- … -->` and `<!DOCTYPE …>`.
    fn declaration(&mut self) -> Step {
        let rest = &self.text[self.at..];
        if let Some(comment) = rest.strip_prefix("<!--") {
            if matches!(self.stage, Stage::AfterBody | Stage::End) {
                return Err(Irregular("a comment after the body"));
            }
            let end = comment.find("-->").ok_or(Irregular("a comment without an end"))?;
            let inner = &comment[..end];
            if inner.starts_with(['>', '-']) || inner.contains("--!") || inner.contains("<!--") {
                return Err(Irregular("a comment that is not plain"));
            }
            self.flush();
            self.at += "<!--".len() + end + "-->".len();
            return Ok(());
        }
        let is_doctype = rest.get(..9).is_some_and(|word| word.eq_ignore_ascii_case("<!doctype"));
        if !is_doctype || self.stage != Stage::Start || self.doctype {
            return Err(Irregular("a declaration that is not plain"));
        }
        self.doctype = true;
        self.at += scan::find(rest, b'>').ok_or(Irregular("a doctype without an end"))? + 1;
        Ok(())
    }

    fn end_tag(&mut self) -> Step {
        let rest = &self.text[self.at + 2..];
        let end = scan::find(rest, b'>').ok_or(Irregular("an end tag without an end"))?;
        let name = rest[..end].trim_ascii_end();
        let (name, is) = match self.open.last() {
            Some(open) if open.name == name => (open.name, open.is),
            _ => element(name).ok_or(Irregular("an end tag of an unknown element"))?,
        };
        self.at += 2 + end + 1;
        match (is, self.stage, self.current()) {
            (Is::Head, Stage::Head, Is::Head) => {
                self.close();
                self.stage = Stage::AfterHead;
            }
            // White space after it still goes into the body, so it stays open.
            (Is::Body, Stage::Body, Is::Body) => self.stage = Stage::AfterBody,
            (Is::Html, Stage::AfterBody, _) => self.stage = Stage::End,
            (Is::Html | Is::Head | Is::Body, ..) => return Err(Irregular("an end tag out of place")),
            (_, Stage::Body, _) => {
                if is == Is::Table && self.open.last().is_some_and(|open| open.implied) {
                    self.close();
                }
                if self.open.last().is_none_or(|open| open.name != name) {
                    return Err(Irregular("an element that is not closed by its own end tag"));
                }
                self.close();
            }
            _ => return Err(Irregular("an end tag out of place")),
        }
        Ok(())
    }

    fn close(&mut self) {
        self.flush();
        if let Some(open) = self.open.pop()
            && let Some(count) = self.inside.of(open.is)
        {
            *count -= 1;
        }
        self.builder.close();
    }

    fn start_tag(&mut self) -> Step {
        let (tag, length) = scan::start_tag(&self.text[self.at..])?;
        self.at += length;
        if tag.closes_itself && !tag.is.is_void() {
            return Err(Irregular("an element that seems to close itself and does not"));
        }
        self.elements += 1;
        if self.open.len() > MAX_DEPTH || self.elements > MAX_ELEMENTS {
            return Err(Irregular("too much for the short way"));
        }
        self.may_stand(tag.is)?;
        self.flush();
        match tag.is {
            Is::Html => self.stage = Stage::Html,
            Is::Head => self.stage = Stage::Head,
            Is::Body => self.stage = Stage::Body,
            Is::Row if self.current() == Is::Table => {
                self.open("tbody", Is::Section, Vec::new(), true);
            }
            _ => {}
        }
        let Tag { name, is, attributes, .. } = tag;
        self.open(name, is, attributes, false);
        match is {
            _ if is.is_void() => self.close(),
            Is::Raw | Is::Title | Is::Area => self.raw(name, is)?,
            _ => {}
        }
        Ok(())
    }

    fn open(&mut self, name: &'static str, is: Is, attributes: Vec<(Cow<'a, str>, Cow<'a, str>)>, implied: bool) {
        self.builder.open(Cow::Borrowed(name), attributes);
        self.open.push(Open { name, is, implied });
        if let Some(count) = self.inside.of(is) {
            *count += 1;
        }
    }

    /// The inside of an element that holds no markup, and its end tag.
    fn raw(&mut self, name: &'static str, is: Is) -> Step {
        let rest = &self.text[self.at..];
        let (inner, length) = scan::raw(rest, name)?;
        // What a script comments out may hold its own end tag.
        if name == "script" && inner.contains("<!--") {
            return Err(Irregular("a script with a comment in it"));
        }
        let inner = if is == Is::Area { inner.strip_prefix('\n').unwrap_or(inner) } else { inner };
        let text = if is == Is::Raw { Cow::Borrowed(inner) } else { scan::decoded(inner, false)? };
        if !text.is_empty() {
            self.builder.text(text);
        }
        self.at += length;
        self.close();
        Ok(())
    }

    /// Whether the algorithm puts such an element where it stands, and does nothing else because of it.
    fn may_stand(&self, is: Is) -> Step {
        let current = self.current();
        let in_body = self.stage == Stage::Body;
        let flow = in_body && current.holds_elements();
        let free = self.inside.paragraphs == 0;
        let may = match is {
            Is::Html => self.stage == Stage::Start,
            Is::Head => self.stage == Stage::Html,
            Is::Body => self.stage == Stage::AfterHead,
            Is::Title => self.stage == Stage::Head,
            Is::Meta | Is::Raw => self.stage == Stage::Head || flow,
            Is::Block | Is::List | Is::Terms | Is::Table | Is::Rule | Is::Paragraph => flow && free,
            Is::Heading => flow && free && current != Is::Heading,
            Is::Form => flow && free && self.inside.forms == 0,
            Is::Item => current == Is::List && free && in_body,
            Is::Term => current == Is::Terms && free && in_body,
            Is::Link => flow && self.inside.links == 0,
            Is::Button => flow && self.inside.buttons == 0,
            Is::Inline | Is::Void | Is::Select | Is::Area => flow,
            Is::Group => in_body && current == Is::Select,
            Is::Choice => in_body && matches!(current, Is::Select | Is::Group),
            Is::Caption | Is::Columns | Is::Section => in_body && current == Is::Table,
            Is::Column => in_body && current == Is::Columns,
            Is::Row => in_body && matches!(current, Is::Table | Is::Section),
            Is::Cell => in_body && current == Is::Row,
        };
        if may { Ok(()) } else { Err(Irregular("an element where it does not belong")) }
    }
}
