//! What changes seldom and is asked once a day: a domain's tenant and realm, with a text to keep them in over a restart.
//!
//! Invariant: consent is not in here. It is what operators and customers act on, so every scan asks anew.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use super::answer::{Realm, Tenant};
use crate::domain::Timestamp;

/// How long an answer counts: Microsoft's own `Cache-Control: max-age=86400` of the tenant's configuration.
const FRESH: TimeDelta = TimeDelta::hours(24);
/// How long a realm is still better than none, where nobody can be asked (a mail that is made anew right before it leaves).
const USABLE: TimeDelta = TimeDelta::days(7);
/// More domains than any fleet has.
const MAX: usize = 200_000;

/// See the module.
#[derive(Debug, Default)]
pub struct Known {
    tenants: BTreeMap<String, (Tenant, Timestamp)>,
    realms: BTreeMap<String, (Realm, Timestamp)>,
    changed: bool,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    domain: String,
    /// Milliseconds.
    at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    region: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    realm: Option<String>,
}

impl Known {
    /// The tenant, if it was asked for less than a day ago.
    #[must_use]
    pub fn tenant(&self, domain: &str, now: Timestamp) -> Option<Tenant> {
        self.tenants.get(domain).filter(|(_, at)| within(*at, now, FRESH)).map(|(tenant, _)| tenant.clone())
    }

    /// The realm, if it was asked for less than a day ago.
    #[must_use]
    pub fn realm(&self, domain: &str, now: Timestamp) -> Option<Realm> {
        self.realms.get(domain).filter(|(_, at)| within(*at, now, FRESH)).map(|(realm, _)| *realm)
    }

    /// The realm, though it may be some days old.
    #[must_use]
    pub fn former_realm(&self, domain: &str, now: Timestamp) -> Option<Realm> {
        self.realms.get(domain).filter(|(_, at)| within(*at, now, USABLE)).map(|(realm, _)| *realm)
    }

    /// Takes note.
    pub fn note_tenant(&mut self, domain: &str, tenant: Tenant, now: Timestamp) {
        if self.tenants.len() < MAX {
            self.tenants.insert(domain.to_owned(), (tenant, now));
            self.changed = true;
        }
    }

    /// Takes note.
    pub fn note_realm(&mut self, domain: &str, realm: Realm, now: Timestamp) {
        if self.realms.len() < MAX {
            self.realms.insert(domain.to_owned(), (realm, now));
            self.changed = true;
        }
    }

    /// The text to keep, if there is anything new since the last one; what is too old is left out.
    pub fn take_news(&mut self, now: Timestamp) -> Option<String> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        self.tenants.retain(|_, (_, at)| within(*at, now, FRESH));
        self.realms.retain(|_, (_, at)| within(*at, now, USABLE));
        let tenants = self.tenants.iter().map(|(domain, (tenant, at))| Kept {
            domain: domain.clone(),
            at: at.timestamp_millis(),
            tenant: Some(tenant.id.clone()),
            region: tenant.region.clone(),
            realm: None,
        });
        let realms = self.realms.iter().map(|(domain, (realm, at))| Kept {
            domain: domain.clone(),
            at: at.timestamp_millis(),
            tenant: None,
            region: None,
            realm: Some(word(*realm).to_owned()),
        });
        serde_json::to_string(&tenants.chain(realms).collect::<Vec<_>>()).ok()
    }

    /// Takes in what was kept; what was learnt since goes before it, and a text that cannot be read is nothing.
    pub fn take_in(&mut self, text: &str) {
        for kept in serde_json::from_str::<Vec<Kept>>(text).unwrap_or_default().into_iter().take(2 * MAX) {
            let Some(at) = Timestamp::from_timestamp_millis(kept.at) else { continue };
            if let Some(id) = kept.tenant {
                let tenant = Tenant { id, region: kept.region };
                self.tenants.entry(kept.domain).or_insert((tenant, at));
            } else if let Some(realm) = kept.realm.as_deref().and_then(of_word) {
                self.realms.entry(kept.domain).or_insert((realm, at));
            }
        }
    }
}

/// A clock that was put back makes nothing fresh.
fn within(at: Timestamp, now: Timestamp, limit: TimeDelta) -> bool {
    at <= now && now - at < limit
}

fn word(realm: Realm) -> &'static str {
    match realm {
        Realm::Managed => "managed",
        Realm::Federated => "federated",
        Realm::Unknown => "unknown",
    }
}

fn of_word(text: &str) -> Option<Realm> {
    [Realm::Managed, Realm::Federated, Realm::Unknown].into_iter().find(|realm| word(*realm) == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_kept_for_its_time_and_comes_back_from_its_text() {
        let now: Timestamp = "2022-09-01T00:00:00Z".parse().expect("a time");
        let mut known = Known::default();
        assert_eq!(known.take_news(now), None, "nothing new");
        let tenant = Tenant { id: "6babcaad-604b-40ac-a9d7-9fd97c0b779f".into(), region: Some("AS".into()) };
        known.note_tenant("a.jp", tenant.clone(), now);
        known.note_realm("a.jp", Realm::Federated, now);
        let text = known.take_news(now).expect("news");
        assert_eq!(known.take_news(now), None, "kept already");

        let mut again = Known::default();
        again.take_in(&text);
        assert_eq!(again.tenant("a.jp", now), Some(tenant));
        assert_eq!(again.realm("a.jp", now), Some(Realm::Federated));
        assert_eq!(again.realm("b.jp", now), None);
        let later = now + TimeDelta::hours(24);
        assert_eq!((again.tenant("a.jp", later), again.realm("a.jp", later)), (None, None), "a day later");
        assert_eq!(again.former_realm("a.jp", later), Some(Realm::Federated), "better than nothing");
        assert_eq!(again.former_realm("a.jp", now + TimeDelta::days(7)), None);
        assert_eq!(again.realm("a.jp", now - TimeDelta::hours(1)), None, "a clock that was put back");
        again.note_realm("a.jp", Realm::Managed, later);
        again.take_in(&text);
        assert_eq!(again.realm("a.jp", later), Some(Realm::Managed), "the newer one stays");
        for bad in ["", "{}", "[{\"domain\":1}]", "[{\"domain\":\"a\",\"at\":1,\"realm\":\"odd\"}]"] {
            Known::default().take_in(bad);
        }
    }
}
