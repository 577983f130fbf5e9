//! The state of the simulated admin tool: the customers with their sites, what goes wrong for whom, and a record of what its
//! visitor did. Tests and the replay change it and read it while the tool runs; no lock is held across an await.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::issued::Breach;
use super::session::Sessions;
use super::variant::{Charset, Variant};
use super::{Fault, text};
use crate::domain::observation::{Consent, RawSettings, Settings, Verdict, judge};
use crate::domain::site::{AuthMethod, ServerType};

/// How many violations and user agents are kept; a visitor that errs more often is judged by the first ones.
const KEPT: usize = 1000;

/// One site as the tool knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorldSite {
    /// The name in the list.
    pub name: String,
    /// [Exchange サーバーの種類]
    pub server_type: ServerType,
    /// [Exchange サーバーの認証方式]
    pub auth_method: AuthMethod,
}

impl WorldSite {
    /// A site with its two settings.
    #[must_use]
    pub fn new(name: &str, server_type: ServerType, auth_method: AuthMethod) -> Self {
        Self { name: name.to_owned(), server_type, auth_method }
    }

    /// What an honest look says of it.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let settings = Settings {
            server_type: Some(self.server_type),
            auth_method: Some(self.auth_method),
            raw: RawSettings::default(),
        };
        judge(&settings, Consent::NotChecked).0
    }
}

/// One customer as the tool knows it.
#[derive(Debug, Clone)]
pub struct WorldCustomer {
    /// The id in the customers file.
    pub id: String,
    /// The company's name, as pages show it.
    pub name: String,
    /// The administrator's account.
    pub account: String,
    /// The password in the customers file; with [`Fault::PasswordRefused`] the tool knows another one.
    pub password: String,
    /// Its sites, in the list's order.
    pub sites: Vec<WorldSite>,
    /// The sites the customers file asks for; empty = all.
    pub asked: Vec<String>,
    /// How its pages look.
    pub variant: Variant,
    /// What goes wrong.
    pub fault: Option<Fault>,
    /// Whether a fault that happens once has happened.
    pub(super) fault_spent: bool,
    /// Refused log-ons in a row.
    pub(super) refused_in_a_row: u32,
    /// Locked because of them.
    pub(super) locked: bool,
}

impl WorldCustomer {
    /// A customer with an account and a password made from its id, the plainest pages, and nothing going wrong.
    #[must_use]
    pub fn new(id: &str, sites: Vec<WorldSite>) -> Self {
        Self {
            id: id.to_owned(),
            name: format!("株式会社{id}"),
            account: format!("admin-{}", id.to_lowercase()),
            password: format!("pass+{id}&%=1"),
            sites,
            asked: Vec::new(),
            variant: Variant::PLAIN,
            fault: None,
            fault_spent: false,
            refused_in_a_row: 0,
            locked: false,
        }
    }

    /// The same with another look.
    #[must_use]
    pub fn with_variant(mut self, variant: Variant) -> Self {
        self.variant = variant;
        self
    }

    /// The same with something going wrong; [`Fault::SiteMissing`] asks for a site that does not exist besides the others.
    #[must_use]
    pub fn with_fault(mut self, fault: Fault) -> Self {
        if fault == Fault::SiteMissing {
            self.asked = self.sites.iter().map(|site| site.name.clone()).collect();
            self.asked.push(text::GONE_SITE.to_owned());
        }
        self.fault = Some(fault);
        self
    }

    /// The fault, unless it was one that passes and has passed.
    pub(super) fn active_fault(&self) -> Option<Fault> {
        self.fault.filter(|fault| !(fault.is_once() && self.fault_spent))
    }

    fn expected(&self) -> Vec<Expected> {
        let row = |site: Option<&str>, verdict| Expected {
            customer: self.id.clone(),
            site: site.map(ToOwned::to_owned),
            verdict,
        };
        if let Some(fault) = self.fault
            && let Some(reason) = fault.expected_reason()
            && !fault.lists_sites()
        {
            return vec![row(None, Verdict::Unreadable(reason))];
        }
        let is_asked = |name: &str| self.asked.is_empty() || self.asked.iter().any(|asked| asked == name);
        let shown = self.sites.iter().enumerate().filter(|(_, site)| is_asked(&site.name));
        let gone = self.asked.iter().filter(|name| !self.sites.iter().any(|site| site.name == **name));
        let missing = Verdict::Unreadable(crate::domain::observation::Reason::SiteMissing);
        shown
            .map(|(at, site)| row(Some(&site.name), self.site_verdict(at, site)))
            .chain(gone.map(|name| row(Some(name), missing)))
            .collect()
    }

    fn site_verdict(&self, at: usize, site: &WorldSite) -> Verdict {
        match self.fault {
            // The first site is the one that is shown, so it is read well.
            Some(Fault::WrongSiteShown) if at == 0 => site.verdict(),
            Some(Fault::SiteMissing) | None => site.verdict(),
            Some(fault) => fault.expected_reason().map_or_else(|| site.verdict(), Verdict::Unreadable),
        }
    }
}

/// What an honest scan says of one site; `site` is `None` for a customer none of whose sites can be listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The customer's id.
    pub customer: String,
    /// The site's name.
    pub site: Option<String>,
    /// The verdict, with its reason (no consent check).
    pub verdict: Verdict,
}

/// What the log-on page's button is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogonButton {
    /// `<input type="submit">`
    Submit,
    /// `<button>`
    Button,
    /// `<input type="image">`, which posts coordinates.
    Image,
}

impl LogonButton {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Submit, Self::Button, Self::Image];
}

/// How the log-on page looks: it is the same for everybody, for who comes is not known yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogonLook {
    /// Its charset.
    pub charset: Charset,
    /// Its button.
    pub button: LogonButton,
    /// Whether it shows news of a maintenance to come and a warning that wrong passwords lock the account, as such pages do.
    pub news: bool,
}

/// Log-ons of one account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Logons {
    /// How many were let in (also to the page where the password must be changed).
    pub accepted: u64,
    /// How many were not: refused or locked.
    pub refused: u64,
}

/// What the visitor did, in numbers.
#[derive(Debug, Clone, Default)]
pub struct Counters {
    /// Requests to the tool.
    pub requests: u64,
    /// Requests being answered just now.
    pub in_flight: usize,
    /// The most at once.
    pub max_in_flight: usize,
    /// Log-ons by account; only accounts that exist.
    pub logons: BTreeMap<String, Logons>,
    /// Log-ons to accounts that do not exist.
    pub strangers: u64,
    /// Log-offs.
    pub log_offs: u64,
    /// Submit controls other than the log-on button that were received. Must stay 0.
    pub saves: u64,
    /// Requests that followed a redirect to the other origin. Must stay 0.
    pub elsewhere: u64,
    /// Accounts that were locked by wrong passwords. Must stay 0.
    pub locked_out: u64,
    /// The `User-Agent` headers seen.
    pub user_agents: BTreeSet<String>,
}

/// Something a browser in careful hands would not have sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Whose session it was.
    pub account: Option<String>,
    /// The path of the page.
    pub page: String,
    /// What was wrong.
    pub breach: Breach,
}

/// The whole tool.
#[derive(Debug)]
pub struct World {
    /// Everybody who has an account. Sessions know them by their place, so the order stays while the tool runs.
    pub customers: Vec<WorldCustomer>,
    /// How the log-on page looks.
    pub logon_look: LogonLook,
    /// How many refused log-ons in a row lock an account.
    pub lock_after: u32,
    /// Something that goes wrong for every request, whoever comes (or for the next one, if it passes). Only faults of the
    /// server itself can: maintenance, no answer, error pages, redirects, broken connections.
    pub outage: Option<Fault>,
    /// What the visitor did, in numbers.
    pub counters: Counters,
    /// What the visitor should not have done. Must stay empty, but for what a lost session or a test's own doing explains.
    pub violations: Vec<Violation>,
    pub(super) sessions: Sessions,
    /// The other origin that [`Fault::RedirectElsewhere`] points to.
    pub(super) elsewhere: String,
}

impl World {
    /// A tool with these customers; the seed decides its tokens.
    #[must_use]
    pub fn new(customers: Vec<WorldCustomer>, seed: u64) -> Self {
        Self {
            customers,
            logon_look: LogonLook { charset: Charset::Utf8Header, button: LogonButton::Submit, news: true },
            lock_after: 5,
            outage: None,
            counters: Counters::default(),
            violations: Vec::new(),
            sessions: Sessions::new(seed),
            elsewhere: String::new(),
        }
    }

    /// What an honest scan of everybody would say now, in the customers' and sites' order.
    #[must_use]
    pub fn expected(&self) -> Vec<Expected> {
        self.customers.iter().flat_map(WorldCustomer::expected).collect()
    }

    /// The customer with that id.
    #[must_use]
    pub fn customer(&self, id: &str) -> Option<&WorldCustomer> {
        self.customers.iter().find(|customer| customer.id == id)
    }

    /// The customer with that id, to change it.
    pub fn customer_mut(&mut self, id: &str) -> Option<&mut WorldCustomer> {
        self.customers.iter_mut().find(|customer| customer.id == id)
    }

    /// A person at the customer saves another method; `false` if there is no such site.
    pub fn set_auth_method(&mut self, customer: &str, site: &str, method: AuthMethod) -> bool {
        let sites = self.customer_mut(customer).map(|customer| customer.sites.as_mut_slice()).unwrap_or_default();
        let found = sites.iter_mut().find(|s| s.name == site);
        found.map(|site| site.auth_method = method).is_some()
    }

    /// A new day: what wrong passwords did to an account is forgotten, as lockout windows do.
    pub fn new_day(&mut self) {
        for customer in &mut self.customers {
            customer.refused_in_a_row = 0;
            customer.locked = false;
        }
    }

    /// Lets every fault that happens once happen again.
    pub fn rearm(&mut self) {
        self.customers.iter_mut().for_each(|customer| customer.fault_spent = false);
    }

    /// Ends every session, as a restart of the tool does.
    pub fn end_sessions(&mut self) {
        self.sessions.end_all();
    }

    pub(super) fn note_violation(&mut self, account: Option<String>, page: &str, breach: Breach) {
        if matches!(breach, Breach::Pressed(_)) {
            self.counters.saves += 1;
        }
        if self.violations.len() < KEPT {
            self.violations.push(Violation { account, page: page.to_owned(), breach });
        }
    }

    pub(super) fn note_user_agent(&mut self, agent: &str) {
        if self.counters.user_agents.len() < KEPT {
            self.counters.user_agents.insert(agent.to_owned());
        }
    }
}

/// A [`World`] that the tool and its owner share.
#[derive(Debug, Clone)]
pub struct SharedWorld(Arc<Mutex<World>>);

impl SharedWorld {
    /// Shares a world.
    #[must_use]
    pub fn new(world: World) -> Self {
        Self(Arc::new(Mutex::new(world)))
    }

    /// The world, for a moment: hold it across no await. After a panic elsewhere it is used as it was left.
    pub fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
