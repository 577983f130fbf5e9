//! Corroboration from the Microsoft side: a domain's realm and tenant, and whether a tenant consented to the product. It asks
//! only what can be known without anybody's password, and no question names a person.
//!
//! It writes nothing and keeps no token. Invariants: an answer that is not understood is never "no consent"; a question
//! ends within [`ASK`], at most [`AT_ONCE`] are on, and a service in trouble is left alone, so that a scan of the
//! admin tool never waits for it for long; once our own credential was refused nobody is asked for the rest of the run.
//!
//! How long an answer counts: realm and tenant a day. Consent not beyond the run: a case counts as resolved after so many
//! *scans*, so each must rest on an answer of its own, and a customer that just consented must not be told that it did not.

pub mod answer;
mod ask;
pub mod assertion;
pub mod circuit;
mod claims;
pub mod codes;
mod known;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::cookie::Jar;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use self::answer::{Outcome, Realm, Said};
use self::assertion::Credential;
use self::circuit::Circuit;
use self::known::Known;
use crate::clock::Clock;
use crate::config::{ConsentConfig, MicrosoftConfig, ScanConfig};
use crate::connector::ConnectorError;
use crate::connector::http::Polite;
use crate::domain::observation::Consent;
use crate::metrics::Metrics;

/// The longest that one question takes, its retries and its place in the row included.
pub const ASK: Duration = Duration::from_secs(15);
/// The longest that one request takes.
const REQUEST: Duration = Duration::from_secs(8);
/// Questions at once.
pub const AT_ONCE: usize = 8;
/// Answers are some kilobytes; more is not read, however small it travelled.
const ANSWER_MAX: usize = 64 * 1024;
/// Within one run a tenant's answer serves all customers of that tenant, but not a look much later.
const SAME_ANSWER: Duration = Duration::from_secs(300);

/// What is known of a customer's consent, for its verdict.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Told {
    /// What the verdict rests on.
    pub consent: Consent,
    /// What is worth saying of it: always where something is missing or could not be told.
    pub detail: Option<String>,
}

/// How our own credential fared in this run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Nobody had to be asked, or no answer showed it.
    Untried,
    /// It was accepted.
    Accepted,
    /// It was refused, or cannot be read: why. Nobody is asked any more in this run.
    Refused(String),
}

/// The answers of a run, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Consent given.
    pub given: u64,
    /// Consent missing or disabled.
    pub missing: u64,
    /// It could not be told.
    pub unsure: u64,
}

/// See the module.
pub struct Microsoft {
    http: Polite,
    jar: Jar,
    headers: HeaderMap,
    config: MicrosoftConfig,
    clock: Arc<dyn Clock>,
    permits: Semaphore,
    circuit: Mutex<Circuit>,
    known: Mutex<Known>,
    recalled: AtomicBool,
    /// Held while the credential is proved, so that it is proved once.
    proof: tokio::sync::Mutex<Proof>,
    run: Mutex<Run>,
}

/// What was found out of our credential.
#[derive(Default)]
enum Proof {
    #[default]
    NotYet,
    Good(Arc<Credential>),
    Refused(String),
}

/// What belongs to one run.
struct Run {
    trust: Trust,
    counts: Counts,
    /// By domain.
    answers: HashMap<String, (Said, Instant)>,
}

impl Default for Run {
    fn default() -> Self {
        Self { trust: Trust::Untried, counts: Counts::default(), answers: HashMap::new() }
    }
}

impl Microsoft {
    /// Makes the client; connects to nothing and reads no secret.
    ///
    /// # Errors
    /// `scan.ca_file` cannot be used.
    pub fn new(config: &MicrosoftConfig, scan: &ScanConfig, clock: Arc<dyn Clock>) -> Result<Self, ConnectorError> {
        let limits = ScanConfig {
            concurrency: AT_ONCE,
            timeout: scan.timeout.min(REQUEST),
            attempts: scan.attempts.min(2),
            max_page: ANSWER_MAX,
            ..scan.clone()
        };
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        Ok(Self {
            http: Polite::new(&limits, Arc::clone(&clock))?,
            jar: Jar::default(),
            headers,
            config: config.clone(),
            clock,
            permits: Semaphore::new(AT_ONCE),
            circuit: Mutex::default(),
            known: Mutex::default(),
            recalled: AtomicBool::new(false),
            proof: tokio::sync::Mutex::default(),
            run: Mutex::default(),
        })
    }

    /// Counts every request in these metrics.
    #[must_use]
    pub fn counted(self, metrics: Arc<Metrics>) -> Self {
        Self { http: self.http.counted_as(Metrics::microsoft_request, metrics), ..self }
    }

    /// Whether consent is to be verified at all.
    #[must_use]
    pub fn verifies_consent(&self) -> bool {
        self.config.consent.is_some()
    }

    /// A run begins: the credential is proved again when it is first needed, and no answer of the last run counts.
    pub async fn begin_run(&self) {
        *self.proof.lock().await = Proof::NotYet;
        *lock(&self.run) = Run::default();
    }

    /// How our own credential fared since the run began.
    #[must_use]
    pub fn trust(&self) -> Trust {
        lock(&self.run).trust.clone()
    }

    /// The run's answers so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        lock(&self.run).counts
    }

    /// What is worth keeping over a restart, if anything is new.
    #[must_use]
    pub fn to_keep(&self) -> Option<String> {
        lock(&self.known).take_news(self.clock.now())
    }

    /// Whether it was not given yet what was kept.
    #[must_use]
    pub fn wants_kept(&self) -> bool {
        (self.config.realm || self.verifies_consent()) && !self.recalled.load(Ordering::Relaxed)
    }

    /// Takes in what was kept.
    pub fn take_in(&self, text: &str) {
        lock(&self.known).take_in(text);
        self.recalled.store(true, Ordering::Relaxed);
    }

    /// Whether the domain is federated; `None`: it is not to be asked, none of Microsoft 365, or could not be told.
    pub async fn federated(&self, domain: &str) -> Option<bool> {
        if !self.config.realm {
            return None;
        }
        let known = lock(&self.known).realm(domain, self.clock.now());
        if known.is_some() {
            return known.and_then(is_federated);
        }
        let deadline = Instant::now() + ASK;
        let asked = tokio::time::timeout_at(deadline, self.ask_realm(domain, deadline)).await;
        match asked.unwrap_or_else(|_| Err(self.late())) {
            Ok(realm) => {
                lock(&self.known).note_realm(domain, realm, self.clock.now());
                is_federated(realm)
            }
            Err(said) => {
                tracing::debug!(
                    domain,
                    outcome = said.outcome.as_str(),
                    "the realm could not be told: {}",
                    said.detail
                );
                self.former_federated(domain)
            }
        }
    }

    /// The same from what is known of the last days; asks nobody.
    #[must_use]
    pub fn former_federated(&self, domain: &str) -> Option<bool> {
        if !self.config.realm {
            return None;
        }
        lock(&self.known).former_realm(domain, self.clock.now()).and_then(is_federated)
    }

    /// Whether the tenant of that domain consented.
    pub async fn consent(&self, domain: &str) -> Told {
        let Some(config) = &self.config.consent else { return Told::default() };
        let deadline = Instant::now() + ASK;
        let asked = tokio::time::timeout_at(deadline, self.ask_consent(config, domain, deadline)).await;
        let said = asked.unwrap_or_else(|_| self.late());
        let told = told(&said);
        let mut run = lock(&self.run);
        match told.consent {
            Consent::Given => run.counts.given += 1,
            Consent::Missing => run.counts.missing += 1,
            Consent::Unsure => run.counts.unsure += 1,
            Consent::NotChecked => {}
        }
        told
    }

    async fn ask_consent(&self, config: &ConsentConfig, domain: &str, deadline: Instant) -> Said {
        if let Err(why) = lock(&self.circuit).admit(Instant::now()) {
            return Said::new(Outcome::Transient, why);
        }
        let credential = match self.proved(config, deadline).await {
            Ok(credential) => credential,
            Err(said) => return said,
        };
        if let Some((said, at)) = lock(&self.run).answers.get(domain)
            && at.elapsed() < SAME_ANSWER
        {
            return said.clone();
        }
        let tenant = match self.tenant(domain, deadline).await {
            Ok(tenant) => tenant,
            Err(said) => return said,
        };
        let said = self.ask_token(config, &credential, &tenant.id, Some(&tenant.id), &config.roles, deadline).await;
        match said.outcome {
            Outcome::OwnCredential => self.refused(said.detail.clone()).await,
            Outcome::Given | Outcome::Missing | Outcome::Disabled | Outcome::NoExchangeOnline => {
                let mut run = lock(&self.run);
                run.answers.insert(domain.to_owned(), (said.clone(), Instant::now()));
                if said.outcome == Outcome::Given && run.trust == Trust::Untried {
                    run.trust = Trust::Accepted;
                }
            }
            Outcome::NoTenant | Outcome::Throttled | Outcome::Transient | Outcome::Unknown => {}
        }
        said
    }

    /// The credential, proved on the vendor's own tenant if one is named: in a tenant without the application a bad secret
    /// may hide behind "not consented", for in which order Entra looks at the two is not documented.
    async fn proved(&self, config: &ConsentConfig, deadline: Instant) -> Result<Arc<Credential>, Said> {
        let mut proof = self.proof.lock().await;
        match &*proof {
            Proof::Good(credential) => return Ok(Arc::clone(credential)),
            Proof::Refused(why) => return Err(not_asked(why)),
            Proof::NotYet => {}
        }
        let proved = match Credential::read(&config.credential) {
            Err(error) => Err(Said::new(Outcome::OwnCredential, error.to_string())),
            Ok(credential) => match &config.home_tenant {
                None => Ok(credential),
                Some(home) => {
                    let said = self.ask_token(config, &credential, home, None, &[], deadline).await;
                    match said.outcome {
                        Outcome::Given => Ok(credential),
                        // Nothing that waiting would mend: somebody must look at it.
                        Outcome::Missing
                        | Outcome::Disabled
                        | Outcome::NoExchangeOnline
                        | Outcome::NoTenant
                        | Outcome::OwnCredential
                        | Outcome::Unknown => {
                            let detail = format!("not proved on microsoft.consent.home_tenant: {}", said.detail);
                            Err(Said::new(Outcome::OwnCredential, detail))
                        }
                        Outcome::Throttled | Outcome::Transient => Err(said),
                    }
                }
            },
        };
        match proved {
            Ok(credential) => {
                let credential = Arc::new(credential);
                *proof = Proof::Good(Arc::clone(&credential));
                if config.home_tenant.is_some() {
                    lock(&self.run).trust = Trust::Accepted;
                }
                Ok(credential)
            }
            Err(said) if said.outcome == Outcome::OwnCredential => {
                self.note_refused(&mut proof, said.detail.clone());
                Err(not_asked(&said.detail))
            }
            Err(said) => Err(said),
        }
    }

    async fn refused(&self, why: String) {
        let mut proof = self.proof.lock().await;
        self.note_refused(&mut proof, why);
    }

    fn note_refused(&self, proof: &mut Proof, why: String) {
        if !matches!(proof, Proof::Refused(_)) {
            tracing::error!(
                "Microsoft does not accept kigen's own credential; consent is not asked for in this run: {why}"
            );
        }
        lock(&self.run).trust = Trust::Refused(why.clone());
        *proof = Proof::Refused(why);
    }
}

fn is_federated(realm: Realm) -> Option<bool> {
    match realm {
        Realm::Federated => Some(true),
        Realm::Managed => Some(false),
        Realm::Unknown => None,
    }
}

fn not_asked(why: &str) -> Said {
    Said::new(Outcome::OwnCredential, format!("not asked, our own credential is not accepted: {why}"))
}

fn told(said: &Said) -> Told {
    let consent = match said.outcome {
        Outcome::Given => return Told { consent: Consent::Given, detail: None },
        Outcome::Missing | Outcome::Disabled => Consent::Missing,
        Outcome::NoExchangeOnline
        | Outcome::NoTenant
        | Outcome::OwnCredential
        | Outcome::Throttled
        | Outcome::Transient
        | Outcome::Unknown => Consent::Unsure,
    };
    let what = if consent == Consent::Missing { "consent" } else { "consent not verified" };
    Told { consent, detail: Some(format!("{what} ({}): {}", said.outcome.as_str(), said.detail)) }
}

/// After a panic elsewhere it is used as it was left.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
