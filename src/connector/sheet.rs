//! A customer's sites as rows of texts, from whichever source: which sites were asked for, what the texts mean.
//!
//! Pure. Invariant: what is missing or contradicts itself is a failure with a reason, as in the admin tool's pages.

use std::collections::BTreeMap;

use super::exlook::labels::{key, shown};
use crate::config::KnownTexts;
use crate::domain::Timestamp;
use crate::domain::observation::{Failure, RawSettings, Reason, Settings, SiteLook};
use crate::domain::site::{AuthMethod, ServerType, SiteName};

/// The most sites of one customer.
pub(super) const MAX_SITES: usize = 10_000;

/// One site's texts; `None` where the source has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) name: Option<String>,
    pub(super) server_type: Option<String>,
    pub(super) auth_method: Option<String>,
}

/// What the known texts mean, ready to compare.
#[derive(Debug, Clone)]
pub(super) struct Meanings {
    servers: Vec<(String, ServerType)>,
    methods: Vec<(String, AuthMethod)>,
}

impl Meanings {
    pub(super) fn new(texts: &KnownTexts) -> Self {
        Self { servers: keyed(&texts.server_types), methods: keyed(&texts.auth_methods) }
    }

    fn settings(&self, row: &Row) -> Result<Settings, Failure> {
        let text = |text: &Option<String>| text.as_deref().map(shown).filter(|text| !text.is_empty());
        let raw = RawSettings { server_type: text(&row.server_type), auth_method: text(&row.auth_method) };
        match (&raw.server_type, &raw.auth_method) {
            (Some(server), Some(method)) => Ok(Settings {
                server_type: meaning(&self.servers, server),
                auth_method: meaning(&self.methods, method),
                raw,
            }),
            (None, _) => Err(Failure { raw, ..lacking("server type") }),
            (_, None) => Err(Failure { raw, ..lacking("authentication method") }),
        }
    }
}

fn lacking(what: &str) -> Failure {
    Failure::new(Reason::LayoutChanged, format!("the site has no {what} where the configuration says it is"))
}

fn keyed<T: Copy>(texts: &BTreeMap<T, Vec<String>>) -> Vec<(String, T)> {
    texts.iter().flat_map(|(value, texts)| texts.iter().map(|text| (key(text), *value))).collect()
}

fn meaning<T: Copy>(known: &[(String, T)], text: &str) -> Option<T> {
    let key = key(text);
    known.iter().find(|(known, _)| *known == key).map(|(_, value)| *value)
}

/// The sites that were asked for, or all, each name once; one that is asked for and not there is `site_missing`.
pub(super) fn looks(
    rows: &[Row],
    asked: &[SiteName],
    meanings: &Meanings,
    at: Timestamp,
) -> Result<Vec<SiteLook>, Failure> {
    let mut listed: Vec<(SiteName, Vec<&Row>)> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for row in rows {
        let name = row.name.as_deref().map(shown).and_then(|name| SiteName::new(&name).ok());
        let Some(name) = name else {
            return Err(Failure::new(Reason::LayoutChanged, "a site has no name where the configuration says it is"));
        };
        let place = *places.entry(key(name.as_str())).or_insert_with(|| {
            listed.push((name, Vec::new()));
            listed.len() - 1
        });
        listed[place].1.push(row);
    }
    if asked.is_empty() {
        return Ok(listed.into_iter().map(|(site, rows)| look(site, &rows, meanings, at)).collect());
    }
    let of = |site: &SiteName| match places.get(&key(site.as_str())) {
        Some(place) => look(site.clone(), &listed[*place].1, meanings, at),
        None => {
            let detail = format!("not among the {} sites listed for this customer", listed.len());
            SiteLook { site: site.clone(), read: Err(Failure::new(Reason::SiteMissing, detail)), at }
        }
    };
    Ok(asked.iter().map(of).collect())
}

fn look(site: SiteName, rows: &[&Row], meanings: &Meanings, at: Timestamp) -> SiteLook {
    let all: Vec<_> = rows.iter().map(|row| meanings.settings(row)).collect();
    let agree = all.windows(2).all(|pair| pair[0] == pair[1]);
    let read = match all.into_iter().next() {
        Some(read) if agree => read,
        _ => Err(Failure::new(Reason::LayoutChanged, "the site is listed twice, with different settings")),
    };
    SiteLook { site, read, at }
}
