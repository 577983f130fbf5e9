//! HTML -> a flat tree: nodes in document order, each with the range of nodes and of visible text inside it.
//!
//! The parser is the browsers' own algorithm, so what we see is what a person would. Bounded in elements and in time (the
//! algorithm is quadratic in the depth of hostile nesting), and never recursive: depth costs no stack.

use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use html5ever::tendril::{StrTendril, TendrilSink};
use html5ever::{ParseOpts, parse_document};
use scraper::{Html, Node as Parsed};

use super::labels::label_key;
use super::sink::{Id, Sink};

/// No page of the tool has a tenth of this.
const MAX_ELEMENTS: usize = 400_000;
/// A page that takes longer to parse is no page that a person could have used.
const MAX_TIME: Duration = Duration::from_secs(10);

/// What stands beside a label without being its value.
const MARKS: [&str; 6] = ["必須", "任意", "ヘルプ", "required", "optional", "help"];

/// The page is too large or too deeply nested to be parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooComplex;

/// A page, flat.
#[derive(Debug)]
pub struct Dom {
    /// In document order; the first is the document itself.
    pub nodes: Vec<Node>,
    /// What a person sees, in document order: texts that are not blank, and controls.
    pub tokens: Vec<Token>,
    /// `id` -> the nodes that have it.
    pub ids: HashMap<String, Vec<usize>>,
    /// The `<title>`.
    pub title: String,
    /// Texts that scripts show by `alert`.
    pub alerts: Vec<String>,
}

/// An element or a text.
#[derive(Debug)]
pub struct Node {
    /// The element's name; empty for a text.
    pub name: String,
    /// Its attributes, or none.
    pub attributes: Vec<(String, String)>,
    /// The text, for a text.
    pub text: String,
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
#[derive(Debug)]
pub struct Token {
    /// Which node.
    pub node: usize,
    /// The text's [`label_key`]; `None` for a control.
    pub key: Option<String>,
}

impl Node {
    /// An attribute's value.
    #[must_use]
    pub fn attr(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
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
        match self.name.as_str() {
            "select" | "textarea" => true,
            "input" => !matches!(
                self.input_type().as_str(),
                "hidden" | "submit" | "button" | "image" | "reset" | "file" | "password"
            ),
            _ => false,
        }
    }
}

impl Dom {
    /// Parses a page.
    ///
    /// # Errors
    /// [`TooComplex`] when it has too many elements or is nested too deeply.
    pub fn parse(text: &str) -> Result<Self, TooComplex> {
        let started = Instant::now();
        let mut parser = parse_document(Sink::new(), ParseOpts::default());
        let mut rest = text;
        while !rest.is_empty() {
            let mut cut = rest.len().min(16 * 1024);
            while !rest.is_char_boundary(cut) {
                cut += 1;
            }
            let (chunk, after) = rest.split_at(cut);
            parser.process(StrTendril::from(chunk));
            rest = after;
            if parser.tokenizer.sink.sink.elements() > MAX_ELEMENTS || started.elapsed() > MAX_TIME {
                return Err(TooComplex);
            }
        }
        let (html, owners) = parser.finish();
        Ok(flatten(&html, &owners))
    }

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
        self.nodes[self.within(node)].iter().map(|n| n.text.as_str()).collect()
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

fn is_unshown(name: &str) -> bool {
    matches!(name, "script" | "style" | "template" | "noscript" | "title" | "select" | "textarea" | "datalist")
}

struct Inherited {
    form: Option<usize>,
    fieldset_off: bool,
    label: Option<usize>,
    unshown: bool,
}

fn flatten(html: &Html, owners: &HashMap<Id, Id>) -> Dom {
    let mut dom =
        Dom { nodes: Vec::new(), tokens: Vec::new(), ids: HashMap::new(), title: String::new(), alerts: Vec::new() };
    let mut forms: HashMap<Id, usize> = HashMap::new();
    let mut waiting: Vec<(usize, Id)> = Vec::new();
    dom.nodes.push(blank(0));
    let mut open = vec![0];
    let mut at = html.tree.root().first_child();
    while let Some(node) = at {
        let parent = *open.last().expect("the document stays open");
        let index = match node.value() {
            Parsed::Element(element) => {
                let attributes =
                    element.attrs.iter().map(|(n, v)| (n.local.to_string(), v.to_string())).collect::<Vec<_>>();
                let index = push_element(&mut dom, parent, element.name().to_owned(), attributes);
                if element.name() == "form" {
                    forms.insert(node.id(), index);
                }
                if let Some(owner) = owners.get(&node.id()) {
                    waiting.push((index, *owner));
                }
                Some(index)
            }
            Parsed::Text(text) => Some(push_text(&mut dom, parent, text.to_string())),
            Parsed::Fragment => None,
            _ => None,
        };
        if let Some(index) = index {
            open.push(index);
        }
        // Down, else on, else up: no recursion, so nesting costs no stack.
        if let (Some(_), Some(child)) = (index, node.first_child()) {
            at = Some(child);
            continue;
        }
        if index.is_some() {
            close(&mut dom, &mut open);
        }
        let mut here = node;
        at = loop {
            if let Some(next) = here.next_sibling() {
                break Some(next);
            }
            match here.parent() {
                Some(up) if open.len() > 1 => {
                    close(&mut dom, &mut open);
                    here = up;
                }
                _ => break None,
            }
        };
    }
    close(&mut dom, &mut open);
    for (index, owner) in waiting {
        if let Some(form) = forms.get(&owner) {
            dom.nodes[index].form = Some(*form);
        }
    }
    explicit_owners(&mut dom);
    dom
}

/// `form="id"` counts above where a control stands.
fn explicit_owners(dom: &mut Dom) {
    for index in 0..dom.nodes.len() {
        let Some(id) = dom.nodes[index].attr("form") else { continue };
        let owner = dom.ids.get(id).and_then(|nodes| nodes.first()).copied();
        dom.nodes[index].form = owner.filter(|form| dom.nodes[*form].name == "form");
    }
}

fn blank(parent: usize) -> Node {
    Node {
        name: "#document".to_owned(),
        attributes: Vec::new(),
        text: String::new(),
        parent,
        end: 0,
        tokens: 0..0,
        form: None,
        fieldset_off: false,
        label: None,
        unshown: false,
    }
}

fn inherited(dom: &Dom, parent: usize, name: &str) -> Inherited {
    let up = &dom.nodes[parent];
    let parent_is = |name: &str| up.name == name;
    // The first legend of a disabled fieldset stays enabled.
    let first_legend =
        || name == "legend" && !dom.children(parent).take(1000).any(|child| dom.nodes[child].name == "legend");
    let fieldset_off = up.fieldset_off || (parent_is("fieldset") && up.has("disabled") && !first_legend());
    Inherited {
        form: if parent_is("form") { Some(parent) } else { up.form },
        fieldset_off,
        label: if parent_is("label") { Some(parent) } else { up.label },
        unshown: up.unshown || is_unshown(&up.name) || parent_is("button"),
    }
}

fn push_element(dom: &mut Dom, parent: usize, name: String, attributes: Vec<(String, String)>) -> usize {
    let index = dom.nodes.len();
    // `children` needs a parent's end while it is still open.
    dom.nodes[parent].end = index;
    let inherited = inherited(dom, parent, &name);
    let start = dom.tokens.len();
    let node = Node {
        name,
        attributes,
        text: String::new(),
        parent,
        end: index + 1,
        tokens: start..start,
        form: inherited.form,
        fieldset_off: inherited.fieldset_off,
        label: inherited.label,
        unshown: inherited.unshown,
    };
    if let Some(id) = node.attr("id") {
        dom.ids.entry(id.to_owned()).or_default().push(index);
    }
    if node.is_value_control() {
        dom.tokens.push(Token { node: index, key: None });
    }
    dom.nodes.push(node);
    index
}

fn push_text(dom: &mut Dom, parent: usize, text: String) -> usize {
    let index = dom.nodes.len();
    let inherited = inherited(dom, parent, "");
    let start = dom.tokens.len();
    let up = dom.nodes[parent].name.as_str();
    match up {
        "title" if dom.title.is_empty() => dom.title = text.chars().take(500).collect(),
        "script" if text.contains("alert(") && dom.alerts.len() < 20 => {
            dom.alerts.extend(super::script::alerts(&text));
        }
        _ => {}
    }
    // A button's text can be looked for (a tab may be a button), but it is never a value: `unshown`.
    let hidden = dom.nodes[parent].unshown && !inside_button_only(dom, parent) || is_unshown(up);
    if !hidden {
        let key = label_key(&text);
        if !key.is_empty() && !MARKS.contains(&key.as_str()) {
            dom.tokens.push(Token { node: index, key: Some(key) });
        }
    }
    let node = Node {
        name: String::new(),
        text,
        end: index + 1,
        tokens: start..dom.tokens.len(),
        form: inherited.form,
        fieldset_off: inherited.fieldset_off,
        label: inherited.label,
        unshown: inherited.unshown,
        ..blank(parent)
    };
    dom.nodes.push(node);
    index
}

/// Whether it is a button, and nothing else, that keeps a text from counting as shown.
fn inside_button_only(dom: &Dom, node: usize) -> bool {
    let mut at = node;
    for _ in 0..16 {
        if is_unshown(&dom.nodes[at].name) {
            return false;
        }
        if dom.nodes[at].name == "button" {
            return !dom.nodes[at].unshown;
        }
        at = dom.nodes[at].parent;
    }
    false
}

fn close(dom: &mut Dom, open: &mut Vec<usize>) {
    if let Some(index) = open.pop() {
        let (end, tokens) = (dom.nodes.len(), dom.tokens.len());
        let node = &mut dom.nodes[index];
        node.end = end;
        node.tokens.end = tokens;
    }
}
