//! What the settings' part of a page is made of: labels, kinds and names of controls, choices, tabs.
//!
//! What a customer has chosen or typed, and the list of its sites, is no part of it, so that all customers of one version
//! of the tool have the same. Pure, and never a reason to believe or to doubt a page.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::beside::Occurrence;
use super::labels::{Words, key, label_key};
use super::settings::Reader;
use super::webforms::{Control, Kind};
use crate::domain::layout::{HostLayouts, Layout};

/// A list with more choices is made of what the customer has, not of what the tool offers.
const MAX_CHOICES: usize = 30;
/// Tabs are a short row of texts.
const MAX_TABS: usize = 12;

/// The layout; `None` where nothing tells where the settings are.
#[must_use]
pub fn layout(reader: &Reader<'_>, words: &Words) -> Option<Layout> {
    let in_group = |label: &super::labels::Label| reader.finder.in_group(&label.key, &words.group.key);
    let labels: Vec<Occurrence> = [&words.server_type, &words.auth_method].into_iter().flat_map(in_group).collect();
    let titles = reader.finder.occurrences(&words.group.key);
    let area = area(reader, labels.iter().chain(titles))?;
    let sites: Vec<Range<usize>> = reader
        .finder
        .occurrences(&words.site.key)
        .iter()
        .flat_map(|place| reader.finder.named(place).into_iter().chain(reader.finder.beside(place).nodes))
        .collect();
    let parts = Parts { reader, sites };
    let mut all: Vec<String> = parts.tabs(words).collect();
    for label in &labels {
        all.push(format!("label {}", text_of(reader, label)));
    }
    all.extend(parts.headings(&area));
    for control in parts.controls(&area) {
        all.extend(parts.of_control(control));
    }
    Some(Layout::new(all))
}

fn text_of(reader: &Reader<'_>, label: &Occurrence) -> String {
    reader.dom.tokens[label.tokens.clone()].iter().filter_map(|t| t.key.as_deref()).collect()
}

/// The smallest part of the page that holds all these; around a single one, the list or table it is in.
fn area<'o>(reader: &Reader<'_>, places: impl Iterator<Item = &'o Occurrence>) -> Option<Range<usize>> {
    let nodes: Vec<usize> = places.map(|place| place.node).collect();
    let (&first, rest) = nodes.split_first()?;
    let holds = |around: usize| rest.iter().all(|node| reader.dom.within(around).contains(node));
    let is_part = |around: usize| {
        !rest.is_empty() || matches!(&*reader.dom.nodes[around].name, "table" | "dl" | "fieldset" | "form" | "body")
    };
    let around = reader.dom.ancestors(first).find(|&around| holds(around) && is_part(around))?;
    Some(reader.dom.within(around))
}

struct Parts<'a> {
    reader: &'a Reader<'a>,
    sites: Vec<Range<usize>>,
}

impl<'a> Parts<'a> {
    fn is_of_sites(&self, node: usize) -> bool {
        self.sites.iter().any(|range| range.contains(&node))
    }

    fn headings(&self, area: &Range<usize>) -> impl Iterator<Item = String> + '_ {
        let dom = self.reader.dom;
        let is_heading = |name: &str| {
            matches!(name, "th" | "dt" | "label" | "legend" | "caption" | "h1" | "h2" | "h3" | "h4" | "h5" | "h6")
        };
        let headings = area.clone().filter(move |&n| is_heading(&dom.nodes[n].name) && !self.is_of_sites(n));
        headings
            .map(move |n| label_key(&dom.text(dom.within(n))))
            .filter(|k| !k.is_empty())
            .map(|k| format!("label {k}"))
    }

    fn controls(&self, area: &Range<usize>) -> impl Iterator<Item = &'a Control> + '_ {
        let all = self.reader.controls_in(area).map(|at| self.reader.control(at));
        all.filter(|control| !self.is_of_sites(control.node))
    }

    fn of_control(&self, control: &Control) -> Vec<String> {
        let kind = match control.kind {
            Kind::Hidden => "hidden",
            Kind::Text => "text",
            Kind::Password => "password",
            Kind::Radio => "radio",
            Kind::Checkbox => "checkbox",
            Kind::Select => "list",
            Kind::Area => "area",
            Kind::Submit | Kind::Image | Kind::Other => "button",
        };
        let mut parts = vec![format!("{kind} {}", numberless(control.name.as_deref().unwrap_or_default()))];
        if control.kind == Kind::Radio {
            parts.push(format!("choice {}", key(&self.reader.caption(control).0)));
        }
        if control.options.len() <= MAX_CHOICES {
            parts.extend(control.options.iter().map(|option| format!("choice {}", key(&option.text))));
        }
        parts
    }

    /// The texts beside the tab's, where they are a short row.
    fn tabs(&self, words: &Words) -> impl Iterator<Item = String> + '_ {
        let dom = self.reader.dom;
        let row = |place: &Occurrence| {
            let around = dom.ancestors(place.node).find(|&n| dom.nodes[n].tokens.len() > place.tokens.len())?;
            let tokens = dom.nodes[around].tokens.clone();
            let is_row = tokens.len() <= MAX_TABS && dom.tokens[tokens].iter().all(|t| t.key.is_some());
            is_row.then_some(around)
        };
        let rows: Vec<usize> = self.reader.finder.occurrences(&words.tab.key).iter().filter_map(row).collect();
        let texts =
            rows.into_iter().flat_map(move |n| dom.children(n)).map(move |n| label_key(&dom.text(dom.within(n))));
        texts.filter(|k| !k.is_empty()).map(|k| format!("tab {k}"))
    }
}

/// A name with its numbers taken out: rows of a repeated control count as one.
fn numberless(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '0'..='9' if out.ends_with('#') => {}
            '0'..='9' => out.push('#'),
            c => out.push(c),
        }
    }
    out
}

/// What was seen since somebody last asked, counted. Bounded: what is beyond is counted without its layout.
#[derive(Debug, Default)]
pub struct Tally {
    hosts: Mutex<HashMap<String, Host>>,
}

#[derive(Debug, Default)]
struct Host {
    customers: u64,
    seen: HashMap<Layout, u64>,
}

/// The most hosts that are told apart.
const MAX_HOSTS: usize = 256;
/// The most layouts of one host that are told apart.
const MAX_LAYOUTS: usize = 128;

impl Tally {
    /// One customer's settings were seen.
    pub fn note(&self, host: &str, layout: Layout) {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() >= MAX_HOSTS && !hosts.contains_key(host) {
            return;
        }
        let host = hosts.entry(host.to_owned()).or_default();
        host.customers += 1;
        if host.seen.len() < MAX_LAYOUTS || host.seen.contains_key(&layout) {
            *host.seen.entry(layout).or_default() += 1;
        }
    }

    /// What was counted; the count begins anew.
    pub fn take(&self) -> Vec<HostLayouts> {
        let hosts = std::mem::take(&mut *self.hosts.lock().unwrap_or_else(PoisonError::into_inner));
        let of = |(host, Host { customers, seen })| HostLayouts { host, customers, seen: seen.into_iter().collect() };
        let mut all: Vec<HostLayouts> = hosts.into_iter().map(of).collect();
        all.sort_by(|a, b| a.host.cmp(&b.host));
        all
    }
}
