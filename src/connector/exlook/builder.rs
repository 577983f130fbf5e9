//! A [`Dom`] in the making: what both parsers call, in document order, so that neither knows what a node remembers.

use std::borrow::Cow;
use std::collections::HashMap;

use super::dom::{Dom, Node, Token};
use super::labels::label_key;
use super::script;

/// What stands beside a label without being its value.
const MARKS: [&str; 6] = ["必須", "任意", "ヘルプ", "required", "optional", "help"];

/// See the module.
pub struct Builder<'a> {
    dom: Dom<'a>,
    open: Vec<Open>,
    /// Elements with a `form` attribute.
    elsewhere: Vec<usize>,
}

/// An element that is not closed yet, and what it passes on to what is in it.
#[derive(Clone, Copy)]
struct Open {
    node: usize,
    form: Option<usize>,
    label: Option<usize>,
    fieldset_off: bool,
    unshown: bool,
    /// Its text is no text that a person reads in the page: a script's, an option's.
    hides: bool,
    /// It is a button, and nothing else, that keeps the text in it from counting as shown.
    button_only: bool,
    /// A `<fieldset disabled>` whose first legend has not come yet.
    spares_legend: bool,
}

impl<'a> Builder<'a> {
    /// A document with nothing in it, and room for so many nodes.
    #[must_use]
    pub fn new(nodes: usize) -> Self {
        let dom = Dom {
            nodes: Vec::with_capacity(nodes + 1),
            tokens: Vec::new(),
            ids: HashMap::new(),
            title: String::new(),
            alerts: Vec::new(),
        };
        let root = Open {
            node: 0,
            form: None,
            label: None,
            fieldset_off: false,
            unshown: false,
            hides: false,
            button_only: false,
            spares_legend: false,
        };
        let mut builder = Self { dom, open: vec![root], elsewhere: Vec::new() };
        builder.push(Cow::Borrowed("#document"), Vec::new(), Cow::Borrowed(""), false);
        builder
    }

    /// Whether an element is open.
    #[must_use]
    pub fn is_inside(&self) -> bool {
        self.open.len() > 1
    }

    fn up(&self) -> &Open {
        self.open.last().expect("the document stays open")
    }

    fn push(
        &mut self,
        name: Cow<'a, str>,
        attributes: Vec<(Cow<'a, str>, Cow<'a, str>)>,
        text: Cow<'a, str>,
        fieldset_off: bool,
    ) -> usize {
        let (index, start) = (self.dom.nodes.len(), self.dom.tokens.len());
        let Open { node: parent, form, label, unshown, .. } = *self.up();
        let tokens = start..start;
        let node = Node { name, attributes, text, parent, end: index + 1, tokens, form, fieldset_off, label, unshown };
        self.dom.nodes.push(node);
        index
    }

    /// Opens an element in the one that is open; returns its node.
    pub fn open(&mut self, name: Cow<'a, str>, attributes: Vec<(Cow<'a, str>, Cow<'a, str>)>) -> usize {
        let up = *self.up();
        // The first legend of a disabled fieldset stays enabled.
        let mut fieldset_off = up.fieldset_off;
        if up.spares_legend && &*name == "legend" {
            self.open.last_mut().expect("the document stays open").spares_legend = false;
            fieldset_off = self.dom.nodes[up.node].fieldset_off;
        }
        let index = self.push(name, attributes, Cow::Borrowed(""), fieldset_off);
        let node = &self.dom.nodes[index];
        for (name, value) in &node.attributes {
            match &**name {
                "id" => self.dom.ids.entry(value.clone()).or_default().push(index),
                "form" => self.elsewhere.push(index),
                _ => {}
            }
        }
        let mut inside = Open { node: index, fieldset_off, hides: false, spares_legend: false, ..up };
        match &*node.name {
            "form" => inside.form = Some(index),
            "label" => inside.label = Some(index),
            "button" => {
                inside.button_only = !node.unshown;
                inside.unshown = true;
            }
            "fieldset" if node.has("disabled") => {
                inside.fieldset_off = true;
                inside.spares_legend = true;
            }
            "script" | "style" | "template" | "noscript" | "title" | "select" | "textarea" | "datalist" => {
                inside.hides = true;
                inside.button_only = false;
                inside.unshown = true;
            }
            _ => {}
        }
        if node.is_value_control() {
            self.dom.tokens.push(Token { node: index, key: None });
        }
        self.open.push(inside);
        index
    }

    /// A text in the element that is open.
    pub fn text(&mut self, text: Cow<'a, str>) {
        let up = *self.up();
        match &*self.dom.nodes[up.node].name {
            "title" if self.dom.title.is_empty() => self.dom.title = text.chars().take(500).collect(),
            "script" if self.dom.alerts.len() < 20 && text.contains("alert(") => {
                self.dom.alerts.extend(script::alerts(&text));
            }
            _ => {}
        }
        // A button's text can be looked for (a tab may be a button), but it is never a value: `unshown`.
        let hidden = up.hides || (self.dom.nodes[up.node].unshown && !up.button_only);
        let key = if hidden { String::new() } else { label_key(&text) };
        let index = self.push(Cow::Borrowed(""), Vec::new(), text, up.fieldset_off);
        if !key.is_empty() && !MARKS.contains(&key.as_str()) {
            self.dom.tokens.push(Token { node: index, key: Some(key) });
            self.dom.nodes[index].tokens.end += 1;
        }
    }

    /// Closes the element that is open.
    pub fn close(&mut self) {
        if let Some(open) = self.open.pop() {
            let (end, tokens) = (self.dom.nodes.len(), self.dom.tokens.len());
            let node = &mut self.dom.nodes[open.node];
            node.end = end;
            node.tokens.end = tokens;
        }
    }

    /// The whole document. `owners`: the forms that own controls without being around them, as a parser has it.
    #[must_use]
    pub fn finish(mut self, owners: impl Iterator<Item = (usize, usize)>) -> Dom<'a> {
        while !self.open.is_empty() {
            self.close();
        }
        for (node, form) in owners {
            self.dom.nodes[node].form = Some(form);
        }
        // `form="id"` counts above where a control stands.
        for index in self.elsewhere {
            let dom = &self.dom;
            let owner = dom.nodes[index].attr("form").and_then(|id| dom.ids.get(id)?.first().copied());
            let owner = owner.filter(|form| dom.nodes[*form].name == "form");
            self.dom.nodes[index].form = owner;
        }
        self.dom
    }
}
