//! Where on a page the value of a label stands, whatever the layout: in the next cell, in the `dd` after the `dt`, in the
//! control a `label` is for, in what follows it.
//!
//! By what a person sees, never by ids or positions. When two places could be meant, both are returned and must agree.

use std::collections::HashMap;
use std::ops::Range;

use super::dom::{Dom, is_inline};
use super::labels::{Words, label_key};

/// A label as it stands on a page.
#[derive(Debug, Clone)]
pub struct Occurrence {
    /// The tokens that make it up.
    pub tokens: Range<usize>,
    /// The text node that ends it.
    pub node: usize,
    /// The value, when it stands in the same text: 「種類：…」.
    pub inline: Option<String>,
}

/// Where a value stands.
#[derive(Debug, Clone, Default)]
pub struct Region {
    /// The nodes.
    pub nodes: Vec<Range<usize>>,
    /// Below the label, as in a table with a header row of so many cells: one range a row. Else 0.
    pub below: usize,
}

/// The labels of a page, found once.
#[derive(Debug)]
pub struct Finder<'a> {
    dom: &'a Dom<'a>,
    /// By the label's key.
    found: HashMap<String, Vec<Occurrence>>,
    /// Which tokens are part of a label.
    is_label: Vec<bool>,
    /// Hidden fields that hold something worth a look, in document order.
    hidden: Vec<usize>,
    /// Which control a `label` is for, by its text.
    claimed: HashMap<usize, String>,
}

/// The most texts that one label is split into.
const MAX_PIECES: usize = 6;
/// No page of the tool shows one label a tenth as often.
const MAX_OCCURRENCES: usize = 200;
/// How far up a value may stand from its label.
const MAX_CLIMB: usize = 40;

impl<'a> Finder<'a> {
    /// Finds every label; `hidden` are the hidden fields that could be an answer.
    #[must_use]
    pub fn new(dom: &'a Dom<'a>, words: &Words, hidden: Vec<usize>) -> Self {
        let mut finder = Self {
            dom,
            found: HashMap::new(),
            is_label: vec![false; dom.tokens.len()],
            hidden,
            claimed: HashMap::new(),
        };
        let keys: Vec<&str> = words.all().iter().map(|l| l.key.as_str()).filter(|k| !k.is_empty()).collect();
        for start in 0..dom.tokens.len() {
            for key in &keys {
                if let Some(occurrence) = finder.occurrence(start, key) {
                    finder.is_label[occurrence.tokens.clone()].fill(true);
                    let all = finder.found.entry((*key).to_owned()).or_default();
                    if all.len() < MAX_OCCURRENCES {
                        all.push(occurrence);
                    }
                }
            }
        }
        finder.claim();
        finder
    }

    fn occurrence(&self, start: usize, key: &str) -> Option<Occurrence> {
        let first = self.dom.tokens[start].key.as_deref()?;
        let node = self.dom.tokens[start].node;
        if let Some(rest) = first.strip_prefix(key)
            && rest.starts_with(':')
        {
            let text = &self.dom.nodes[node].text;
            let value = text.split_once([':', '：']).map(|(_, value)| value.trim().to_owned())?;
            return Some(Occurrence { tokens: start..start + 1, node, inline: Some(value) });
        }
        let mut rest = key;
        for at in start..self.dom.tokens.len().min(start + MAX_PIECES) {
            rest = rest.strip_prefix(self.dom.tokens[at].key.as_deref()?)?;
            if rest.is_empty() {
                return Some(Occurrence { tokens: start..at + 1, node: self.dom.tokens[at].node, inline: None });
            }
        }
        None
    }

    /// A control that a `label` names belongs to that label alone.
    fn claim(&mut self) {
        for label in self.dom.nodes.iter().filter(|n| n.name == "label") {
            let Some(id) = label.attr("for") else { continue };
            let mut key = String::new();
            for token in self.dom.tokens[label.tokens.clone()].iter().take(MAX_PIECES) {
                key.push_str(token.key.as_deref().unwrap_or_default());
            }
            for &node in self.dom.ids.get(id).into_iter().flatten() {
                if self.dom.nodes[node].is_value_control() {
                    self.claimed.insert(node, label_key(&key));
                }
            }
        }
    }

    /// Where a label stands.
    #[must_use]
    pub fn occurrences(&self, key: &str) -> &[Occurrence] {
        self.found.get(key).map_or(&[], Vec::as_slice)
    }

    /// Where a label stands: in the group, if it stands there at all, else anywhere.
    #[must_use]
    pub fn in_group(&self, key: &str, group: &str) -> Vec<Occurrence> {
        let all = self.occurrences(key);
        let mut inside: Vec<Occurrence> = Vec::new();
        for mark in self.occurrences(group) {
            let scope = self.scope(mark, all);
            let fresh = all.iter().filter(|o| scope.contains(&o.tokens.start));
            for occurrence in fresh {
                if !inside.iter().any(|o| o.tokens == occurrence.tokens) {
                    inside.push(occurrence.clone());
                }
            }
        }
        if inside.is_empty() { all.to_vec() } else { inside }
    }

    /// The tokens of the smallest part of the page that holds the group's title and one of the labels after it.
    fn scope(&self, title: &Occurrence, labels: &[Occurrence]) -> Range<usize> {
        let after = title.tokens.end;
        let mut inner = title.node;
        for around in self.dom.ancestors(title.node) {
            let end = self.dom.nodes[around].tokens.end;
            if labels.iter().any(|o| (after..end).contains(&o.tokens.start)) {
                return after..self.next_heading(inner, around).unwrap_or(end);
            }
            inner = around;
        }
        after..after
    }

    /// Where the next part begins that is headed like the one whose heading is `heading`.
    fn next_heading(&self, heading: usize, around: usize) -> Option<usize> {
        let rank = |node: usize| match self.dom.nodes[node].name.as_bytes() {
            [b'h', rank @ b'1'..=b'6'] => Some(*rank),
            _ => None,
        };
        let own = self.dom.within(heading).chain(self.dom.ancestors(heading).take(3)).find_map(rank)?;
        let rest = self.dom.nodes[heading].end..self.dom.nodes[around].end;
        let next = rest.into_iter().find(|&node| rank(node).is_some_and(|r| r <= own))?;
        Some(self.dom.nodes[next].tokens.start)
    }

    /// The nodes that a `<label for=…>` around this label names.
    #[must_use]
    pub fn named(&self, occurrence: &Occurrence) -> Vec<Range<usize>> {
        let Some(label) = self.dom.nodes[occurrence.node].label else { return Vec::new() };
        let Some(id) = self.dom.nodes[label].attr("for") else { return Vec::new() };
        self.dom.ids.get(id).into_iter().flatten().map(|&node| self.dom.within(node)).collect()
    }

    /// Whether a control belongs to another label than this one.
    #[must_use]
    pub fn is_claimed(&self, control: usize, key: &str) -> bool {
        self.claimed.get(&control).is_some_and(|other| other != key && self.found.contains_key(other))
    }

    /// Where the value stands that this label is beside.
    #[must_use]
    pub fn beside(&self, occurrence: &Occurrence) -> Region {
        let mut at = occurrence.node;
        for _ in 0..MAX_CLIMB {
            let node = &self.dom.nodes[at];
            let alone = node.tokens == occurrence.tokens;
            let found = match &*node.name {
                "td" | "th" => self.beside_cell(at),
                "dt" => self.beside_term(at),
                "tr" if alone => self.below_row(at),
                "caption" => self.rest(at),
                _ => self.following(at),
            };
            if !found.nodes.is_empty() {
                return found;
            }
            let parent = node.parent;
            let free = self.dom.nodes[parent].tokens == occurrence.tokens || !is_barrier(&self.dom.nodes[parent].name);
            let stays = matches!(&*self.dom.nodes[at].name, "td" | "th" | "dt" | "dd");
            if parent == 0 || !free || (stays && self.dom.nodes[parent].tokens != occurrence.tokens) {
                break;
            }
            at = parent;
        }
        Region::default()
    }

    fn has_content(&self, node: usize) -> bool {
        !self.dom.nodes[node].tokens.is_empty() || self.holds_hidden(node)
    }

    fn holds_hidden(&self, node: usize) -> bool {
        let range = self.dom.within(node);
        let first = self.hidden.partition_point(|&h| h < range.start);
        self.hidden.get(first).is_some_and(|&h| h < range.end)
    }

    fn siblings_after(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        let end = self.dom.nodes[self.dom.nodes[node].parent].end;
        let mut next = self.dom.nodes[node].end;
        std::iter::from_fn(move || {
            let at = next;
            (at < end).then(|| {
                next = self.dom.nodes[at].end;
                at
            })
        })
    }

    /// A range of nodes up to the next label in it; nothing if it begins with one.
    fn clipped(&self, range: Range<usize>) -> Option<Range<usize>> {
        let first = self.dom.tokens.partition_point(|t| t.node < range.start);
        for (at, token) in self.dom.tokens.iter().enumerate().skip(first) {
            if token.node >= range.end {
                break;
            }
            if self.is_label[at] {
                return (at > first).then_some(range.start..token.node);
            }
        }
        Some(range)
    }

    fn beside_cell(&self, cell: usize) -> Region {
        let next = self.siblings_after(cell).find(|&c| is_cell(&self.dom.nodes[c].name) && self.has_content(c));
        if let Some(range) = next.and_then(|next| self.clipped(self.dom.within(next))) {
            let heads = next.is_some_and(|n| self.dom.nodes[n].name == "th") && self.dom.nodes[cell].name == "th";
            if !heads || !self.is_header_row(self.dom.nodes[cell].parent) {
                return Region { nodes: vec![range], below: 0 };
            }
        }
        self.below_cell(cell)
    }

    /// A row of nothing but headings.
    fn is_header_row(&self, row: usize) -> bool {
        let mut cells = 0;
        for cell in self.dom.children(row).filter(|&c| is_cell(&self.dom.nodes[c].name)) {
            let node = &self.dom.nodes[cell];
            let labels = node.tokens.clone().all(|t| self.is_label[t]);
            if node.name != "th" && !labels {
                return false;
            }
            cells += 1;
        }
        cells >= 1
    }

    /// The cells under a header cell, row by row.
    fn below_cell(&self, cell: usize) -> Region {
        let row = self.dom.nodes[cell].parent;
        if self.dom.nodes[row].name != "tr" || !self.is_header_row(row) {
            return Region::default();
        }
        let cells =
            |row: usize| self.dom.children(row).filter(|&c| is_cell(&self.dom.nodes[c].name)).collect::<Vec<_>>();
        let heads = cells(row);
        let Some(column) = heads.iter().position(|&c| c == cell) else { return Region::default() };
        let mut nodes = Vec::new();
        for below in self.rows_after(row) {
            let cells = cells(below);
            if cells.iter().all(|&c| self.dom.nodes[c].name == "th") {
                break; // the next part's headings
            }
            if cells.len() != heads.len() || !self.has_content(cells[column]) {
                continue;
            }
            match self.clipped(self.dom.within(cells[column])) {
                Some(range) => nodes.push(range),
                None => break,
            }
        }
        Region { nodes, below: heads.len() }
    }

    /// The rows of the same table after this one, across `thead` and `tbody`.
    fn rows_after(&self, row: usize) -> Vec<usize> {
        let mut rows: Vec<usize> = self.siblings_after(row).collect();
        let section = self.dom.nodes[row].parent;
        if matches!(&*self.dom.nodes[section].name, "thead" | "tbody") {
            for next in self.siblings_after(section) {
                rows.extend(self.dom.children(next));
            }
        }
        rows.retain(|&r| {
            self.dom.nodes[r].name == "tr" && self.dom.children(r).any(|c| is_cell(&self.dom.nodes[c].name))
        });
        rows
    }

    /// The only filled cell of the row after a row that holds nothing but the label.
    fn below_row(&self, row: usize) -> Region {
        let Some(next) = self.rows_after(row).into_iter().find(|&r| self.has_content(r)) else {
            return Region::default();
        };
        let filled: Vec<usize> = self.dom.children(next).filter(|&c| self.has_content(c)).collect();
        match filled.as_slice() {
            [cell] => Region { nodes: self.clipped(self.dom.within(*cell)).into_iter().collect(), below: 0 },
            _ => Region::default(),
        }
    }

    fn is_heading(&self, node: usize) -> bool {
        matches!(&*self.dom.nodes[node].name, "th" | "dt" | "label")
    }

    /// What is left of the element that this one is in.
    fn rest(&self, node: usize) -> Region {
        let range = self.dom.nodes[node].end..self.dom.nodes[self.dom.nodes[node].parent].end;
        Region { nodes: self.clipped(range).into_iter().collect(), below: 0 }
    }

    fn beside_term(&self, term: usize) -> Region {
        let details = self.siblings_after(term).take_while(|&s| self.dom.nodes[s].name != "dt");
        let nodes = details
            .filter(|&s| self.dom.nodes[s].name == "dd" && self.has_content(s))
            .map_while(|s| self.clipped(self.dom.within(s)))
            .collect();
        Region { nodes, below: 0 }
    }

    /// What follows in the same element: one part, or a run of text, or controls next to each other.
    fn following(&self, node: usize) -> Region {
        let Some(first) = self.siblings_after(node).find(|&s| self.has_content(s)) else { return Region::default() };
        // A table's next row or section is no value of what stands before it.
        if matches!(&*self.dom.nodes[first].name, "tr" | "tbody" | "thead" | "tfoot" | "dt" | "legend") {
            return Region::default();
        }
        let mut end = self.dom.nodes[first].end;
        let has_controls = |n: usize| {
            self.holds_hidden(n) || self.dom.tokens[self.dom.nodes[n].tokens.clone()].iter().any(|t| t.key.is_none())
        };
        let has_text = |n: usize| self.dom.tokens[self.dom.nodes[n].tokens.clone()].iter().any(|t| t.key.is_some());
        let controls = has_controls(first);
        // A remark inside the heading is no value; a value inside it is a control.
        let parent = self.dom.nodes[node].parent;
        if !controls && std::iter::once(parent).chain(self.dom.ancestors(parent)).take(3).any(|n| self.is_heading(n)) {
            return Region::default();
        }
        for next in self.siblings_after(first) {
            let name = &*self.dom.nodes[next].name;
            let goes_on = if controls {
                !has_text(next)
            } else {
                !has_controls(next) && (name.is_empty() || (is_inline(name) && is_inline_or_text(self.dom, first)))
            };
            if !goes_on || matches!(name, "br" | "hr") && !controls {
                break;
            }
            end = self.dom.nodes[next].end;
        }
        Region { nodes: self.clipped(first..end).into_iter().collect(), below: 0 }
    }
}

fn is_inline_or_text(dom: &Dom, node: usize) -> bool {
    let name = &*dom.nodes[node].name;
    name.is_empty() || is_inline(name)
}

fn is_cell(name: &str) -> bool {
    matches!(name, "td" | "th")
}

fn is_barrier(name: &str) -> bool {
    matches!(
        name,
        "table" | "thead" | "tbody" | "tfoot" | "tr" | "form" | "fieldset" | "body" | "html" | "ul" | "ol" | "dl"
    )
}
