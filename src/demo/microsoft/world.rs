//! The state of the simulated login service: the tenants, what goes wrong, and a record of what was asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the application has in a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// Nothing: nobody consented.
    None,
    /// A service principal with these application roles.
    Roles(Vec<String>),
    /// A service principal that the administrator disabled.
    Disabled,
    /// Consent, in a tenant without Exchange Online.
    NoExchange,
    /// An error with this word and this number, whatever it is.
    Error(&'static str, u64),
}

/// One customer's tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorldTenant {
    /// A GUID.
    pub id: String,
    /// Its users sign in at a server of the customer's own.
    pub federated: bool,
    /// What the application has.
    pub grant: Grant,
}

/// What goes wrong for every request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LoginFault {
    /// Nothing.
    #[default]
    None,
    /// 429, with so many seconds in `Retry-After` or without it.
    Throttled(Option<u32>),
    /// 503.
    Down,
    /// A web page with 200 instead of JSON.
    Page,
    /// Whatever bytes, with 200 and this `Content-Encoding`.
    Bytes(Vec<u8>, Option<&'static str>),
    /// No answer at all.
    Hang,
}

/// One question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// The realm of a domain, for this made-up user.
    Realm(String),
    /// The configuration of a domain.
    Tenant(String),
    /// A token for a tenant.
    Token(String),
    /// Something that is not there.
    Other(String),
}

/// How many questions are remembered.
const KEPT: usize = 10_000;

/// The whole service.
#[derive(Debug, Default)]
pub struct LoginWorld {
    /// By domain.
    pub tenants: BTreeMap<String, WorldTenant>,
    /// The application that may ask.
    pub client_id: String,
    /// Its secret; empty: none is accepted.
    pub client_secret: String,
    /// That secret has expired.
    pub secret_expired: bool,
    /// The public key of its certificate in PEM, and the thumbprint (`x5t#S256`).
    pub certificate: Option<(String, String)>,
    /// What goes wrong.
    pub fault: LoginFault,
    /// What was asked, in order.
    pub asked: Vec<Asked>,
    /// The most requests that were being answered at once.
    pub most_at_once: usize,
    pub(super) at_once: usize,
    pub(super) origin: String,
}

impl LoginWorld {
    /// A service that knows one application and the vendor's own tenant, which has it.
    #[must_use]
    pub fn new(client_id: &str, client_secret: &str, home: &str) -> Self {
        let mut world =
            Self { client_id: client_id.to_owned(), client_secret: client_secret.to_owned(), ..Self::default() };
        world.add(home, false, Grant::Roles(Vec::new()));
        world
    }

    /// One more tenant; its id comes from its domain.
    pub fn add(&mut self, domain: &str, federated: bool, grant: Grant) {
        let tenant = WorldTenant { id: id_of(domain), federated, grant };
        self.tenants.insert(domain.to_owned(), tenant);
    }

    /// An administrator consents, with everything that is asked for.
    pub fn consent(&mut self, domain: &str) {
        if let Some(tenant) = self.tenants.get_mut(domain) {
            tenant.grant = Grant::Roles(vec!["full_access_as_app".to_owned()]);
        }
    }

    /// Whether the product's users of that tenant can log on.
    #[must_use]
    pub fn has_consented(&self, domain: &str) -> bool {
        self.tenants.get(domain).is_some_and(|tenant| matches!(tenant.grant, Grant::Roles(_)))
    }

    /// The tenant with that domain or id.
    #[must_use]
    pub fn tenant(&self, name: &str) -> Option<&WorldTenant> {
        self.tenants.get(name).or_else(|| self.tenants.values().find(|tenant| tenant.id == name))
    }

    pub(super) fn note(&mut self, asked: Asked) {
        if self.asked.len() < KEPT {
            self.asked.push(asked);
        }
    }
}

/// A GUID that is always the same for a domain.
fn id_of(domain: &str) -> String {
    use sha2::{Digest, Sha256};
    let hex: String = Sha256::digest(domain.as_bytes())[..16].iter().map(|b| format!("{b:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// A [`LoginWorld`] that the service and its owner share.
#[derive(Debug, Clone)]
pub struct SharedLogin(Arc<Mutex<LoginWorld>>);

impl SharedLogin {
    /// Shares a world.
    #[must_use]
    pub fn new(world: LoginWorld) -> Self {
        Self(Arc::new(Mutex::new(world)))
    }

    /// The world, for a moment: hold it across no await. After a panic elsewhere it is used as it was left.
    pub fn lock(&self) -> MutexGuard<'_, LoginWorld> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
