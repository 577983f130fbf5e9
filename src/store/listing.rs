//! What a look does to the list of a customer's sites. Pure, and the same for every database.
//!
//! Invariants: a look that could not list the sites takes none off the list; only a scan takes any off; a site whose look
//! found what the last one found gets no new line in the history.

use std::collections::BTreeMap;

use crate::domain::case::LookKind;
use crate::domain::observation::{Observation, Verdict};
use crate::domain::site::SiteName;

/// A site as the store knows it.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// The number of its newest observation.
    pub(super) observation: i64,
    /// Its newest observation; without a site for a customer none of whose sites was ever listed.
    pub(super) seen: Observation,
    /// Whether it is on the list.
    pub(super) listed: bool,
    /// Scans in a row in which it could not be read.
    pub(super) unreadable_scans: u32,
}

/// One site after the look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sighting {
    /// Its newest observation.
    pub(super) seen: Observation,
    /// `Some`: the same as that observation, only newer.
    pub(super) same_as: Option<i64>,
    /// Whether the site's own row changes.
    pub(super) moved: bool,
    /// Scans in a row in which it could not be read.
    pub(super) unreadable_scans: u32,
}

/// The list after the look.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Listing {
    /// The sites that were looked at.
    pub(super) sightings: Vec<Sighting>,
    /// The sites that come off the list.
    pub(super) unlisted: Vec<SiteName>,
    /// The row without a site goes: now there are sites.
    pub(super) placeholder_goes: bool,
}

/// Puts a look beside what is known.
pub(super) fn put(known: &[Known], kind: LookKind, seen: &[Observation]) -> Listing {
    let known: BTreeMap<Option<&SiteName>, &Known> = known.iter().map(|k| (k.seen.site.as_ref(), k)).collect();
    if let Some(failed) = seen.iter().find(|o| o.site.is_none()) {
        return all_unreadable(&known, kind, failed);
    }
    let seen: BTreeMap<Option<&SiteName>, &Observation> = seen.iter().map(|o| (o.site.as_ref(), o)).collect();
    let gone = |k: &&&Known| kind == LookKind::Scan && k.listed && !seen.contains_key(&k.seen.site.as_ref());
    Listing {
        sightings: seen.iter().map(|(site, o)| sighting(known.get(site).copied(), kind, (*o).clone())).collect(),
        unlisted: known.values().filter(gone).filter_map(|k| k.seen.site.clone()).collect(),
        placeholder_goes: known.contains_key(&None),
    }
}

/// The sites could not be listed: every listed one is unreadable for that reason, or the customer as a whole.
fn all_unreadable(known: &BTreeMap<Option<&SiteName>, &Known>, kind: LookKind, failed: &Observation) -> Listing {
    let mut listed: Vec<Option<SiteName>> = known.values().filter(|k| k.listed).map(|k| k.seen.site.clone()).collect();
    if listed.is_empty() {
        listed.push(None);
    }
    let sightings = listed
        .into_iter()
        .map(|site| {
            let before = known.get(&site.as_ref()).copied();
            sighting(before, kind, Observation { site, ..failed.clone() })
        })
        .collect();
    Listing { sightings, ..Listing::default() }
}

fn sighting(before: Option<&Known>, kind: LookKind, seen: Observation) -> Sighting {
    let row = before.map_or(0, |k| k.unreadable_scans);
    let unreadable_scans = match (seen.verdict, kind) {
        (Verdict::Unreadable(_), LookKind::Scan) => row.saturating_add(1),
        (Verdict::Unreadable(_), LookKind::Check) => row,
        _ => 0,
    };
    let same_as = before.filter(|k| k.listed && same(&k.seen, &seen)).map(|k| k.observation);
    Sighting { seen, same_as, moved: same_as.is_none() || unreadable_scans != row, unreadable_scans }
}

/// Whether two looks found the same; the words of a failure may differ from look to look.
fn same(a: &Observation, b: &Observation) -> bool {
    a.verdict == b.verdict && a.server_type == b.server_type && a.auth_method == b.auth_method && a.raw == b.raw
}
