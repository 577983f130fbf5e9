//! HTML -> a flat tree: nodes in document order, each with the range of nodes and of visible text inside it.
//!
//! A regular page is read by [`super::fast`], any other by [`super::tree`], which is the browsers' own algorithm.
//! Invariant: where both answer, they answer the same, so what we see is what a person would.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

/// The page is too large or too deeply nested to be parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooComplex;

/// A page, flat.
#[derive(Debug, PartialEq)]
pub struct Dom<'a> {
    /// In document order; the first is the document itself.
    pub nodes: Vec<Node<'a>>,
    /// What a person sees, in document order: texts that are not blank, and controls.
    pub tokens: Vec<Token>,
    /// `id` -> the nodes that have it.
    pub ids: HashMap<Cow<'a, str>, Vec<usize>>,
    /// The `<title>`.
    pub title: String,
    /// Texts that scripts show by `alert`.
    pub alerts: Vec<String>,
}

/// An element or a text.
#[derive(Debug, PartialEq)]
pub struct Node<'a> {
    /// The element's name; empty for a text.
    pub name: Cow<'a, str>,
    /// Its attributes, or none; in no order that means anything.
    pub attributes: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// The text, for a text.
    pub text: Cow<'a, str>,
    /// The node it is in.
    pub parent: usize,
    /// The first node after it and all that is in it.
    pub end: usize,
    /// The visible tokens in it.
    pub tokens: Range<usize>,
    /// The form element that owns it, as a browser's parser has it.
    pub form: Option<usize>,
    /// Whether a `<fieldset disabled>` around it disables it.
    pub fieldset_off: bool,
    /// The innermost `<label>` it is in.
    pub label: Option<usize>,
    /// Whether it is a button's inside, or nothing that is shown as text (script, option, …).
    pub unshown: bool,
}

/// Something a person sees.
#[derive(Debug, PartialEq)]
pub struct Token {
    /// Which node.
    pub node: usize,
    /// The text's [`label_key`](super::labels::label_key); `None` for a control.
    pub key: Option<String>,
}

impl Node<'_> {
    /// An attribute's value.
    #[must_use]
    pub fn attr(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(n, _)| n == name).map(|(_, v)| &**v)
    }

    /// Whether it has an attribute.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.attr(name).is_some()
    }

    /// An `<input>`'s type, in lower case; unknown ones are as good as `text`.
    #[must_use]
    pub fn input_type(&self) -> String {
        self.attr("type").map_or_else(|| "text".to_owned(), |t| t.trim().to_ascii_lowercase())
    }

    /// Whether it is an element that a person reads a value from.
    #[must_use]
    pub fn is_value_control(&self) -> bool {
        match &*self.name {
            "select" | "textarea" => true,
            "input" => !matches!(
                self.input_type().as_str(),
                "hidden" | "submit" | "button" | "image" | "reset" | "file" | "password"
            ),
            _ => false,
        }
    }
}

impl<'a> Dom<'a> {
    /// The nodes in a node, itself included.
    #[must_use]
    pub fn within(&self, node: usize) -> Range<usize> {
        node..self.nodes[node].end
    }

    /// A node's children.
    pub fn children(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        let end = self.nodes[node].end;
        let mut next = node + 1;
        std::iter::from_fn(move || {
            let at = next;
            (at < end).then(|| {
                next = self.nodes[at].end;
                at
            })
        })
    }

    /// The nodes around a node, innermost first, without the document.
    pub fn ancestors(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        let mut at = node;
        std::iter::from_fn(move || {
            at = self.nodes[at].parent;
            (at != 0).then_some(at)
        })
    }

    /// The text a person reads in a range of nodes: no scripts, no options, no buttons.
    #[must_use]
    pub fn text(&self, range: Range<usize>) -> String {
        let mut out = String::new();
        for node in &self.nodes[range] {
            if node.name.is_empty() {
                if !node.unshown {
                    out.push_str(&node.text);
                }
            } else if !is_inline(&node.name) {
                out.push(' ');
            }
        }
        out
    }

    /// All text in a node, whatever it is: an option's, a text area's.
    #[must_use]
    pub fn inner_text(&self, node: usize) -> String {
        self.nodes[self.within(node)].iter().map(|n| &*n.text).collect()
    }
}

/// Whether an element flows in its line.
#[must_use]
pub fn is_inline(name: &str) -> bool {
    matches!(
        name,
        "a" | "abbr"
            | "acronym"
            | "b"
            | "bdo"
            | "big"
            | "cite"
            | "code"
            | "em"
            | "font"
            | "i"
            | "kbd"
            | "label"
            | "mark"
            | "nobr"
            | "q"
            | "ruby"
            | "s"
            | "small"
            | "span"
            | "strike"
            | "strong"
            | "sub"
            | "sup"
            | "tt"
            | "u"
            | "var"
            | "wbr"
    )
}

/// A page with line ends as a browser's parser makes them: `\n` alone.
#[must_use]
pub fn unified(text: Cow<'_, str>) -> Cow<'_, str> {
    let mut returns = memchr::memchr_iter(b'\r', text.as_bytes()).peekable();
    if returns.peek().is_none() {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for at in returns {
        out.push_str(&text[from..at]);
        // Of `\r\n` the second stays, which is what it becomes.
        if text.as_bytes().get(at + 1) != Some(&b'\n') {
            out.push('\n');
        }
        from = at + 1;
    }
    out.push_str(&text[from..]);
    Cow::Owned(out)
}
