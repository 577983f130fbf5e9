//! Where the HTML parser puts what it finds: the usual tree, and which form owns a control, which the usual tree forgets.

use std::borrow::Cow;
use std::cell::{Cell, Ref, RefCell};
use std::collections::HashMap;

use html5ever::tendril::StrTendril;
use html5ever::tree_builder::{ElementFlags, NodeOrText, QuirksMode, TreeSink};
use html5ever::{Attribute, QualName};
use scraper::{Html, HtmlTreeSink};

/// A node's id in the parser's tree.
pub type Id = <HtmlTreeSink as TreeSink>::Handle;

/// The usual sink, which also remembers what it otherwise forgets: which form owns a control. In sloppy HTML that is not
/// the form around it (`<table><form><tr>…`).
pub struct Sink {
    inner: HtmlTreeSink,
    owners: RefCell<HashMap<Id, Id>>,
    elements: Cell<usize>,
}

impl Sink {
    /// For one document.
    #[must_use]
    pub fn new() -> Self {
        Self {
            inner: HtmlTreeSink::new(Html::new_document()),
            owners: RefCell::new(HashMap::new()),
            elements: Cell::new(0),
        }
    }

    /// How many elements there are so far.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.elements.get()
    }
}

impl Default for Sink {
    fn default() -> Self {
        Self::new()
    }
}

impl TreeSink for Sink {
    type Handle = Id;
    type Output = (Html, HashMap<Id, Id>);
    type ElemName<'a> = Ref<'a, QualName>;

    fn finish(self) -> Self::Output {
        (self.inner.finish(), self.owners.into_inner())
    }

    fn parse_error(&self, _: Cow<'static, str>) {}

    fn get_document(&self) -> Id {
        self.inner.get_document()
    }

    fn elem_name<'a>(&'a self, target: &'a Id) -> Ref<'a, QualName> {
        self.inner.elem_name(target)
    }

    fn create_element(&self, name: QualName, attrs: Vec<Attribute>, flags: ElementFlags) -> Id {
        self.elements.set(self.elements.get() + 1);
        self.inner.create_element(name, attrs, flags)
    }

    fn create_comment(&self, text: StrTendril) -> Id {
        self.inner.create_comment(text)
    }

    fn create_pi(&self, target: StrTendril, data: StrTendril) -> Id {
        self.inner.create_pi(target, data)
    }

    fn append(&self, parent: &Id, child: NodeOrText<Id>) {
        self.inner.append(parent, child);
    }

    fn append_based_on_parent_node(&self, element: &Id, previous: &Id, child: NodeOrText<Id>) {
        self.inner.append_based_on_parent_node(element, previous, child);
    }

    fn append_doctype_to_document(&self, name: StrTendril, public: StrTendril, system: StrTendril) {
        self.inner.append_doctype_to_document(name, public, system);
    }

    fn get_template_contents(&self, target: &Id) -> Id {
        self.inner.get_template_contents(target)
    }

    fn same_node(&self, x: &Id, y: &Id) -> bool {
        self.inner.same_node(x, y)
    }

    fn set_quirks_mode(&self, mode: QuirksMode) {
        self.inner.set_quirks_mode(mode);
    }

    fn append_before_sibling(&self, sibling: &Id, new: NodeOrText<Id>) {
        self.inner.append_before_sibling(sibling, new);
    }

    fn add_attrs_if_missing(&self, target: &Id, attrs: Vec<Attribute>) {
        self.inner.add_attrs_if_missing(target, attrs);
    }

    fn associate_with_form(&self, target: &Id, form: &Id, _: (&Id, Option<&Id>)) {
        self.owners.borrow_mut().insert(*target, *form);
    }

    fn remove_from_parent(&self, target: &Id) {
        self.inner.remove_from_parent(target);
    }

    fn reparent_children(&self, node: &Id, new_parent: &Id) {
        self.inner.reparent_children(node, new_parent);
    }

    fn allow_declarative_shadow_roots(&self, _: &Id) -> bool {
        false
    }
}
