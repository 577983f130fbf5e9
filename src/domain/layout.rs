//! Whether the admin tool itself changed: many customers' pages cannot be read at once, or are made of other parts than
//! they were.
//!
//! Invariant: one customer's odd page is never a change of the tool.

use std::collections::BTreeSet;

use super::observation::{Observation, Reason, Verdict};
use super::site::CustomerId;

/// Customers of one scan with something odd from which on it is the tool: at least this many,
const MIN: u64 = 3;
/// and this share of those looked at (1 in 20), or this many whatever the share.
const SHARE: u64 = 20;
const MANY: u64 = 20;

/// Whether so many pages that could not be understood mean that the admin tool itself changed.
#[must_use]
pub fn tool_changed(changed: u64, asked: u64) -> bool {
    changed >= MIN && (changed >= MANY || changed * SHARE >= asked)
}

/// Customers of one scan whose pages did not look as they should: `layout_changed`, `unknown_value`.
#[derive(Debug, Clone, Default)]
pub struct Misread {
    /// Customers that were asked.
    pub asked: u64,
    /// So many of them.
    pub customers: u64,
    /// The first of those, for a person to look at.
    pub first: Vec<CustomerId>,
}

impl Misread {
    /// So many are named.
    const NAMED: usize = 10;

    /// One customer was asked; this was seen.
    pub fn note(&mut self, seen: &[Observation]) {
        self.asked += 1;
        let odd =
            |o: &&Observation| matches!(o.verdict, Verdict::Unreadable(Reason::LayoutChanged | Reason::UnknownValue));
        if let Some(o) = seen.iter().find(odd) {
            self.customers += 1;
            if self.first.len() < Self::NAMED {
                self.first.push(o.customer.clone());
            }
        }
    }

    /// What another part of the same scan saw.
    pub fn add(&mut self, other: &Self) {
        self.asked += other.asked;
        self.customers += other.customers;
        let room = Self::NAMED.saturating_sub(self.first.len());
        self.first.extend(other.first.iter().take(room).cloned());
    }

    /// Whether it is the tool.
    #[must_use]
    pub fn tool_changed(&self) -> bool {
        tool_changed(self.customers, self.asked)
    }
}

/// What the settings' part of a page is made of: labels, kinds and names of controls, choices, tabs. No values.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Layout {
    /// Each as a kind and a text: `label サーバの種類`.
    parts: BTreeSet<String>,
}

impl Layout {
    /// A layout has at most so many parts; the rest says no more.
    const MAX_PARTS: usize = 200;
    /// So much of each part, in characters.
    const MAX_CHARS: usize = 80;

    /// A layout of parts, in whatever order.
    #[must_use]
    pub fn new(parts: impl IntoIterator<Item = String>) -> Self {
        let cut = |part: String| part.chars().take(Self::MAX_CHARS).collect();
        Self { parts: parts.into_iter().map(cut).take(Self::MAX_PARTS).collect() }
    }

    /// Its parts, in order.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(String::as_str)
    }

    fn without(&self, other: &Self) -> Vec<String> {
        self.parts.difference(&other.parts).cloned().collect()
    }
}

/// What the customers of one host were seen with in one scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostLayouts {
    /// The host.
    pub host: String,
    /// Customers that came as far as their settings.
    pub customers: u64,
    /// Each layout, and how many customers have it.
    pub seen: Vec<(Layout, u64)>,
}

/// Adds what another part of the same scan saw of a host.
pub fn add(hosts: &mut Vec<HostLayouts>, more: HostLayouts) {
    let Some(host) = hosts.iter_mut().find(|host| host.host == more.host) else {
        hosts.push(more);
        return;
    };
    host.customers += more.customers;
    for (layout, customers) in more.seen {
        match host.seen.iter_mut().find(|(known, _)| *known == layout) {
            Some((_, seen)) => *seen += customers,
            None => host.seen.push((layout, customers)),
        }
    }
}

/// A layout that several customers have and nobody had before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// How many have it.
    pub customers: u64,
    /// Of how many.
    pub of: u64,
    /// What the known layout that is most like it has and it has not.
    pub gone: Vec<String>,
    /// What it has and that one has not.
    pub new: Vec<String>,
}

/// The most layouts that are known of one host. Those that can be news have a twentieth of the customers each.
const MAX_KNOWN: usize = 32;

/// What is new, and what is known from now on: the languages and versions of a tool exist side by side. Where nothing was
/// known nothing is news.
#[must_use]
pub fn review(known: &[Layout], host: &HostLayouts) -> (Vec<News>, Vec<Layout>) {
    let weighty = |customers: u64| customers >= MIN && customers * SHARE >= host.customers;
    let mut seen: Vec<&(Layout, u64)> = host.seen.iter().collect();
    seen.sort_by(|(a, a_customers), (b, b_customers)| b_customers.cmp(a_customers).then_with(|| a.cmp(b)));
    let mut news = Vec::new();
    let mut remembered: Vec<Layout> = Vec::new();
    for (layout, customers) in seen {
        let is_known = known.contains(layout);
        let nearest = known.iter().min_by_key(|k| k.without(layout).len() + layout.without(k).len());
        match nearest {
            Some(nearest) if !is_known && weighty(*customers) => news.push(News {
                customers: *customers,
                of: host.customers,
                gone: nearest.without(layout),
                new: layout.without(nearest),
            }),
            _ => {}
        }
        if is_known || weighty(*customers) || customers * 2 > host.customers {
            remembered.push(layout.clone());
        }
    }
    let rest: Vec<Layout> = known.iter().filter(|k| !remembered.contains(k)).cloned().collect();
    remembered.extend(rest);
    remembered.truncate(MAX_KNOWN);
    (news, remembered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_odd_page_is_no_change_of_the_tool() {
        let rows = [
            ("two customers may be a coincidence", 2, 2, false),
            ("three of a small fleet are not", 3, 60, true),
            ("three of many are", 3, 61, false),
            ("twenty are none in any fleet", 20, 100_000, true),
            ("nothing is nothing", 0, 0, false),
        ];
        for (sentence, changed, asked, expected) in rows {
            assert_eq!(tool_changed(changed, asked), expected, "{sentence}");
        }
    }

    fn layout(parts: &str) -> Layout {
        Layout::new(parts.split(' ').map(str::to_owned))
    }

    #[test]
    fn a_layout_is_news_once_and_only_with_several() {
        let rows = [
            ("the first time nothing is news", "", "a-b 50", 0, "a-b"),
            ("what is known is none", "a-b", "a-b 50", 0, "a-b"),
            ("another one with many", "a-b", "a-c 50", 1, "a-c a-b"),
            ("one customer's is never", "a-b", "a-b 50 a-c 1", 0, "a-b"),
            ("nor two", "a-b", "a-c 2", 0, "a-c a-b"),
            ("three are", "a-b", "a-b 50 a-c 3", 1, "a-b a-c"),
            ("three of very many are none", "a-b", "a-b 900 a-c 3", 0, "a-b"),
            ("two side by side", "a-b a-c", "a-b 50 a-c 40", 0, "a-b a-c"),
            ("what nobody has is not forgotten at once", "a-b a-c", "a-c 40", 0, "a-c a-b"),
            ("a fleet of one customer", "", "a-b 1", 0, "a-b"),
            ("nothing seen", "a-b", "", 0, "a-b"),
        ];
        let of = |name: &str| layout(&name.replace('-', " "));
        for (sentence, known, seen, expected, remembered) in rows {
            let known: Vec<Layout> = known.split_whitespace().map(of).collect();
            let words: Vec<&str> = seen.split_whitespace().collect();
            let seen: Vec<(Layout, u64)> = words.chunks(2).map(|w| (of(w[0]), w[1].parse().unwrap())).collect();
            let customers = seen.iter().map(|(_, n)| n).sum();
            let (news, kept) = review(&known, &HostLayouts { host: String::new(), customers, seen });
            assert_eq!(news.len(), expected, "{sentence}");
            assert_eq!(kept, remembered.split_whitespace().map(of).collect::<Vec<_>>(), "{sentence}");
        }
    }

    #[test]
    fn what_changed_is_told_against_the_nearest() {
        let known = [layout("a b c"), layout("x y")];
        let host = HostLayouts { host: String::new(), customers: 9, seen: vec![(layout("a b d"), 9)] };
        let (news, _) = review(&known, &host);
        assert_eq!(news, [News { customers: 9, of: 9, gone: vec!["c".to_owned()], new: vec!["d".to_owned()] }]);
    }

    #[test]
    fn what_is_known_is_bounded() {
        let known: Vec<Layout> = (0..100).map(|n| layout(&format!("k{n}"))).collect();
        let seen = vec![(layout("new"), 9)];
        let (_, kept) = review(&known, &HostLayouts { host: String::new(), customers: 9, seen });
        assert_eq!((kept.len(), &kept[0]), (MAX_KNOWN, &layout("new")));
    }
}
