//! The customer's sites: the list that the site label stands beside, which entry is shown, and how to choose another.

use std::ops::Range;

use super::beside::{Occurrence, Region};
use super::labels::{Words, collapsed, key};
use super::press::{Press, press_of};
use super::script::{PostBack, postback};
use super::settings::Reader;
use super::webforms::Kind;

/// The sites as one page lists them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteList {
    /// In the list's order; placeholders left out.
    pub entries: Vec<SiteEntry>,
    /// The entry that is shown; `None` where the page does not tell, or shows a placeholder.
    pub shown: Option<usize>,
}

/// One site of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteEntry {
    /// Its name, white space collapsed.
    pub name: String,
    /// How it is chosen.
    pub choose: Choose,
}

/// What choosing a site does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choose {
    /// An entry of a drop-down list.
    Option {
        /// The form's place.
        form: usize,
        /// The list's place in the form.
        control: usize,
        /// The entry's place in the list.
        option: usize,
        /// What its `onchange` posts, if it says.
        post: Option<PostBack>,
    },
    /// A radio button.
    Radio {
        /// The form's place.
        form: usize,
        /// The button's place in the form.
        control: usize,
        /// What its `onclick` posts, if it says.
        post: Option<PostBack>,
    },
    /// A link.
    Link(Press),
    /// It cannot be chosen: it is only shown, or disabled.
    Nothing,
}

impl SiteList {
    /// The entries of a name: none, one, or too many to tell apart.
    #[must_use]
    pub fn named(&self, name: &str) -> Vec<usize> {
        let at = |matches: &dyn Fn(&str) -> bool| -> Vec<usize> {
            self.entries.iter().enumerate().filter(|(_, e)| matches(&e.name)).map(|(at, _)| at).collect()
        };
        let exact = at(&|entry| entry == name);
        if !exact.is_empty() {
            return exact;
        }
        // The customers file may write the name in other widths than the screen.
        let name = key(name);
        at(&|entry| key(entry) == name)
    }
}

/// How much a way of listing is worth: real lists before links, links before a bare name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Name,
    Links,
    List,
}

/// Reads the list.
///
/// # Errors
/// What is missing or contradictory, naming the label.
pub fn site_list(reader: &Reader<'_>, words: &Words) -> Result<SiteList, String> {
    let label = &words.site;
    let places = reader.finder.occurrences(&label.key);
    if places.is_empty() {
        return Err(format!("the page shows no label [{}]", label.text));
    }
    let found: Vec<(Rank, SiteList)> = places.iter().filter_map(|place| list_at(reader, place, &label.key)).collect();
    let Some(best) = found.iter().map(|(rank, _)| *rank).max() else {
        return Err(format!("no list of sites stands beside the label [{}]", label.text));
    };
    let mut lists = found.iter().filter(|(rank, _)| *rank == best).map(|(_, list)| list);
    let mut list = lists.next().cloned().expect("the best rank is one of those found");
    let names = |list: &SiteList| list.entries.iter().map(|e| e.name.clone()).collect::<Vec<_>>();
    let shown = |list: &SiteList| list.shown.map(|at| list.entries[at].name.clone());
    if lists.any(|other| names(other) != names(&list) || shown(other) != shown(&list)) {
        return Err(format!("the label [{}] stands beside two lists that disagree", label.text));
    }
    // Beside a list of links, the page may name the site that it shows.
    let titles: Vec<&SiteList> = found.iter().filter(|(rank, _)| *rank == Rank::Name).map(|(_, list)| list).collect();
    if let (Rank::Links, [title]) = (best, titles.as_slice())
        && let [at] = list.named(&title.entries[0].name).as_slice()
    {
        if list.shown.is_some_and(|shown| shown != *at) {
            return Err(format!("the label [{}] and the list disagree on the site that is shown", label.text));
        }
        list.shown = Some(*at);
    }
    Ok(list)
}

fn list_at(reader: &Reader<'_>, place: &Occurrence, label: &str) -> Option<(Rank, SiteList)> {
    if let Some(name) = &place.inline {
        return only(name);
    }
    let named = reader.finder.named(place);
    let beside = reader.finder.beside(place);
    let mut controls: Vec<(usize, usize)> = named.iter().flat_map(|range| reader.controls_in(range)).collect();
    if !controls.iter().any(|&at| matches!(reader.control(at).kind, Kind::Select | Kind::Radio | Kind::Text)) {
        let others = beside.nodes.iter().flat_map(|range| reader.controls_in(range));
        controls.extend(others.filter(|&at| !reader.finder.is_claimed(reader.control(at).node, label)));
    }
    let of_kind = |kind| controls.iter().copied().find(|&at| reader.control(at).kind == kind);
    if let Some(select) = of_kind(Kind::Select) {
        return Some((Rank::List, options(reader, select)));
    }
    if let Some(radio) = of_kind(Kind::Radio) {
        return Some((Rank::List, radios(reader, radio)));
    }
    let region = if beside.nodes.is_empty() { Region { nodes: named, below: 0 } } else { beside };
    if let Some(links) = links(reader, &region.nodes) {
        return Some((Rank::Links, links));
    }
    if let Some(text) = of_kind(Kind::Text) {
        return only(&reader.control(text).value);
    }
    let texts: Vec<String> = region.nodes.iter().map(|range| collapsed(&reader.dom.text(range.clone()))).collect();
    match texts.as_slice() {
        [name] => only(name),
        _ => None, // several names and no way to tell which one is shown
    }
}

/// The only site a customer has, shown as plain text.
fn only(name: &str) -> Option<(Rank, SiteList)> {
    let name = collapsed(name);
    if super::labels::label_key(&name).is_empty() || is_placeholder(&name, "0") {
        return None;
    }
    Some((Rank::Name, SiteList { entries: vec![SiteEntry { name, choose: Choose::Nothing }], shown: Some(0) }))
}

fn options(reader: &Reader<'_>, at: (usize, usize)) -> SiteList {
    let control = reader.control(at);
    let post = reader.dom.nodes[control.node].attr("onchange").and_then(postback);
    let mut list = SiteList { entries: Vec::new(), shown: None };
    let several = control.options.iter().filter(|o| o.selected).count() > 1;
    for (option, choice) in control.options.iter().enumerate().filter(|(_, c)| !is_placeholder(&c.text, &c.value)) {
        if choice.selected && !several {
            list.shown = Some(list.entries.len());
        }
        let choosable = choice.enabled && control.enabled && control.name.is_some();
        let choose = if choosable {
            Choose::Option { form: at.0, control: at.1, option, post: post.clone() }
        } else {
            Choose::Nothing
        };
        list.entries.push(SiteEntry { name: choice.text.clone(), choose });
    }
    list
}

fn radios(reader: &Reader<'_>, at: (usize, usize)) -> SiteList {
    let mut list = SiteList { entries: Vec::new(), shown: None };
    for (form, control) in reader.group(at) {
        let radio = reader.control((form, control));
        let (name, _) = reader.caption(radio);
        if is_placeholder(&name, &radio.value) {
            continue;
        }
        if radio.checked {
            list.shown = Some(list.entries.len());
        }
        let script = reader.dom.nodes[radio.node].attr("onclick").or(reader.dom.nodes[radio.node].attr("onchange"));
        let post = script.and_then(postback);
        // ASP.NET gives no script to the button that is on: a browser cannot choose it again, and the server refuses who does.
        let choose = if radio.enabled && radio.name.is_some() && (post.is_some() || !radio.checked) {
            Choose::Radio { form, control, post }
        } else {
            Choose::Nothing
        };
        list.entries.push(SiteEntry { name, choose });
    }
    list
}

/// A list of links: the one that is none, or is marked, is the one that is shown.
fn links(reader: &Reader<'_>, ranges: &[Range<usize>]) -> Option<SiteList> {
    let dom = reader.dom;
    let mut entries = Vec::new();
    let mut marked = Vec::new();
    let mut plain = Vec::new();
    for range in ranges {
        let mut at = range.start;
        while at < range.end {
            let node = &dom.nodes[at];
            let whole = at != range.start || node.name == "a";
            match press_of(dom, reader.forms, at).filter(|_| whole) {
                Some(press @ (Press::PostBack { .. } | Press::Get(_))) if !node.tokens.is_empty() => {
                    if is_marked(reader, at, range) {
                        marked.push(entries.len());
                    }
                    let name = collapsed(&dom.text(dom.within(at)));
                    entries.push(SiteEntry { name, choose: Choose::Link(press) });
                    at = node.end;
                }
                _ => {
                    if node.name.is_empty() && !node.tokens.is_empty() && !node.unshown {
                        plain.push(entries.len());
                        entries.push(SiteEntry { name: collapsed(&node.text), choose: Choose::Nothing });
                    }
                    at += 1;
                }
            }
        }
    }
    if !entries.iter().any(|e| e.choose != Choose::Nothing) {
        return None;
    }
    let shown = match (plain.as_slice(), marked.as_slice()) {
        ([at], []) | ([], [at]) => Some(*at),
        _ => None,
    };
    Some(SiteList { entries, shown })
}

/// Whether a link, or the entry it is in, is marked as the current one.
fn is_marked(reader: &Reader<'_>, link: usize, range: &Range<usize>) -> bool {
    let inside =
        |&node: &usize| range.contains(&node) && reader.dom.nodes[node].tokens == reader.dom.nodes[link].tokens;
    std::iter::once(link).chain(reader.dom.ancestors(link).take_while(inside)).any(|node| {
        let node = &reader.dom.nodes[node];
        let says = |name: &str| node.attr(name).is_some_and(|v| !v.is_empty() && v != "false");
        let class = node.attr("class").unwrap_or_default().to_ascii_lowercase();
        let current = class.split([' ', '-', '_']).any(|c| matches!(c, "selected" | "active" | "current"));
        says("aria-selected") || says("aria-current") || says("aria-checked") || current
    })
}

/// An entry that asks to choose one and is none.
fn is_placeholder(text: &str, value: &str) -> bool {
    let text = key(text);
    let bare = !text.chars().any(char::is_alphanumeric);
    let asks = ["選択してください", "選択して下さい", "お選びください", "pleaseselect", "未選択"]
        .iter()
        .any(|ask| text.contains(ask));
    let nothing = matches!(value.trim(), "" | "0" | "-1");
    bare || asks || (nothing && (text.contains("選択") || text.contains("select")))
}
