//! The doers: scan, notice pass, deliveries, and the schedule that starts them. Thin shells around `domain`.
//!
//! Each works from a [`Context`]: the files as they were when it began, the store, the connector and the clock. Nothing
//! here reads a file or a clock by itself.

pub mod alert;
pub mod bounces;
pub mod circuit;
pub mod cluster;
pub mod contacts;
pub mod control;
pub mod corroborate;
pub mod deliver;
pub mod digest;
mod layouts;
pub mod look;
pub mod mailing;
pub mod notify;
pub mod operators;
pub mod planning;
pub mod progress;
pub mod reload;
pub mod running;
pub mod scan;
pub mod schedule;
pub mod systemd;
pub mod untold;
pub mod webhook;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use chrono::TimeDelta;

use crate::clock::Clock;
use crate::config::Config;
use crate::connector::Connector;
use crate::domain::Timestamp;
use crate::domain::campaign::{Affects, Campaign, CampaignId};
use crate::domain::customer::Customer;
use crate::domain::plan::Policy;
use crate::domain::site::CustomerId;
use crate::fleet::{Member, Members, Roster};
use crate::mail::dkim::{DkimError, Signer};
use crate::metrics::Metrics;
use crate::microsoft::Microsoft;
use crate::notice::Templates;
use crate::store::{Entry, Store};

/// For how long a run is believed alive without a sign of life.
pub const RUN_LEASE: TimeDelta = TimeDelta::minutes(2);

/// Everything that is read from files, as one consistent whole. A run finishes with the snapshot it started with.
pub struct Snapshot {
    /// The configuration.
    pub config: Config,
    /// The customers file.
    pub fleet: Roster,
    /// Its customers by id, for the planner.
    pub customers: Arc<Members>,
    /// The notices' templates of each campaign.
    pub templates: BTreeMap<CampaignId, Templates>,
    /// What the files looked like when they were read; empty where nobody read any.
    pub stamp: reload::Stamp,
    /// The DKIM key, once it was needed.
    signer: OnceLock<Arc<Signer>>,
}

impl Snapshot {
    /// Puts the parts together.
    #[must_use]
    pub fn new(config: Config, fleet: Roster, templates: BTreeMap<CampaignId, Templates>) -> Self {
        let customers = Arc::clone(&fleet.members);
        Self { config, fleet, customers, templates, stamp: Vec::new(), signer: OnceLock::new() }
    }

    /// The campaigns without their files.
    #[must_use]
    pub fn campaigns(&self) -> Vec<Campaign> {
        self.config.campaigns.iter().map(|c| c.campaign.clone()).collect()
    }

    /// The customers whose `done` says nothing, a sentence each: a slip there is a notice to somebody who has done its part.
    #[must_use]
    pub fn done_in_vain(&self) -> Vec<String> {
        if !self.customers.any_done() {
            return Vec::new();
        }
        let campaigns: BTreeMap<_, _> =
            self.config.campaigns.iter().map(|c| (&c.campaign.id, c.campaign.affects)).collect();
        let why = |id: &CampaignId| match campaigns.get(id) {
            None => Some("there is no such campaign"),
            Some(Affects::BasicAuth) => Some("the scan sees for itself who has done its part there"),
            Some(Affects::ExchangeOnline) => None,
        };
        let of = |customer: Customer| -> Vec<String> {
            let said = |id: &CampaignId| {
                Some(format!("customer {}: done = \"{id}\" counts for nothing: {}", customer.id, why(id)?))
            };
            customer.done.iter().filter_map(said).collect()
        };
        self.customers.values().flat_map(of).collect()
    }

    /// The numbers the planner's rules are made with.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy { confirm_resolved: self.config.safety.confirm_resolved }
    }

    /// Every customer of the file as the store keeps it, those with a bad row included, in the order of their ids.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + Send + '_ {
        let mut bad = BTreeMap::new();
        for row in &self.fleet.quarantined {
            if let Some(id) = &row.id {
                bad.entry(id).or_insert_with(|| row.name.as_deref().unwrap_or(id.as_str()));
            }
        }
        // Nobody is in both: rows that share an id are all quarantined.
        let mut bad = bad.into_iter().map(|(id, name)| Entry { id: id.clone(), name: name.to_owned() }).peekable();
        let mut good = self.fleet.members.names().map(|(id, name)| Entry { id, name }).peekable();
        std::iter::from_fn(move || match (good.peek(), bad.peek()) {
            (Some(first), Some(other)) if other.id < first.id => bad.next(),
            (None, _) => bad.next(),
            _ => good.next(),
        })
    }

    /// Whether a customer is in the file, with a bad row or a good one.
    #[must_use]
    pub fn knows(&self, id: &CustomerId) -> bool {
        self.customers.contains_key(id) || self.fleet.quarantined.iter().any(|row| row.id.as_ref() == Some(id))
    }

    /// What signs the mails, if the configuration says so. The key is a secret, so it is read when it is first needed:
    /// commands that send nothing need none.
    ///
    /// # Errors
    /// When the key cannot be read, or does not prove itself.
    pub fn signer(&self) -> Result<Option<Arc<Signer>>, DkimError> {
        let Some(config) = &self.config.mail.dkim else { return Ok(None) };
        if let Some(signer) = self.signer.get() {
            return Ok(Some(Arc::clone(signer)));
        }
        let signer = Arc::new(Signer::load(config)?);
        Ok(Some(Arc::clone(self.signer.get_or_init(|| signer))))
    }

    /// Where in `fleet.members` a customer stands.
    #[must_use]
    pub fn number(&self, id: &CustomerId) -> Option<usize> {
        self.fleet.members.number(id)
    }

    /// One customer with its logon.
    #[must_use]
    pub fn member(&self, id: &CustomerId) -> Option<Member> {
        self.number(id).map(|number| self.fleet.members.at(number))
    }
}

/// What a run works with.
#[derive(Clone)]
pub struct Context {
    /// The files.
    pub snapshot: Arc<Snapshot>,
    /// The state.
    pub store: Arc<dyn Store>,
    /// The eye.
    pub connector: Arc<dyn Connector>,
    /// The Microsoft side.
    pub microsoft: Arc<Microsoft>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The numbers for `/metrics`.
    pub metrics: Arc<Metrics>,
    /// Who works: `host:pid`.
    pub owner: String,
    /// This process as one node of several.
    pub life: Arc<cluster::Life>,
}

impl Context {
    /// The current instant.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// An instant as an operator reads it in a log's sentence: in the configured zone, which it names.
fn local(ctx: &Context, at: Timestamp) -> String {
    at.with_timezone(&ctx.snapshot.config.calendar.zone).format("%Y-%m-%d %H:%M:%S %Z").to_string()
}
