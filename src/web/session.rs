//! Who is signed in. In memory: a restart signs everybody out.
//!
//! Invariant: only a digest of a session's token is kept, and at most so many sessions and counters.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::TimeDelta;
use sha2::{Digest, Sha256};

use crate::domain::Timestamp;

/// A signed-in person.
#[derive(Debug, Clone)]
pub(super) struct Session {
    /// The name in `[web.users]`.
    pub(super) user: String,
    /// What every form must send along.
    pub(super) csrf: String,
    until: Timestamp,
}

/// A working day.
const LIFE: TimeDelta = TimeDelta::hours(10);
const SESSIONS_MAX: usize = 1000;

/// Failures of one client, or for one name, in this time…
const WINDOW: TimeDelta = TimeDelta::minutes(10);
/// …after which nobody is heard for the rest of it.
const FAILURES_MAX: u32 = 5;
const COUNTERS_MAX: usize = 10_000;

type Key = [u8; 32];

/// Every session, and the sign-ins that failed lately.
#[derive(Default)]
pub(super) struct Sessions {
    live: Mutex<HashMap<Key, Session>>,
    failures: Mutex<HashMap<String, (Timestamp, u32)>>,
}

impl Sessions {
    /// Begins a session; returns its token.
    pub(super) fn begin(&self, user: &str, now: Timestamp) -> Option<String> {
        let token = random()?;
        let session = Session { user: user.to_owned(), csrf: random()?, until: now + LIFE };
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.retain(|_, s| s.until > now);
        if live.len() >= SESSIONS_MAX {
            let oldest = live.iter().min_by_key(|(_, s)| s.until).map(|(k, _)| *k);
            oldest.map(|key| live.remove(&key));
        }
        live.insert(digest(&token), session);
        Some(token)
    }

    pub(super) fn find(&self, token: &str, now: Timestamp) -> Option<Session> {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.get(&digest(token)).filter(|s| s.until > now).cloned()
    }

    /// Ends every session that this form token belongs to.
    pub(super) fn end(&self, csrf: &str) {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, s| s.csrf != csrf);
    }

    /// Whether this client may try to sign in as that user; counts the try as failed until [`succeeded`](Self::succeeded).
    pub(super) fn may_try(&self, client: IpAddr, user: &str, now: Timestamp) -> bool {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.retain(|_, (since, _)| now - *since < WINDOW);
        let keys = keys(client, user);
        let spent = |key: &String| failures.get(key).is_some_and(|(_, n)| *n >= FAILURES_MAX);
        if failures.len() >= COUNTERS_MAX || keys.iter().any(spent) {
            return false;
        }
        for key in keys {
            failures.entry(key).or_insert((now, 0)).1 += 1;
        }
        true
    }

    pub(super) fn succeeded(&self, client: IpAddr, user: &str) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys(client, user) {
            failures.remove(&key);
        }
    }
}

fn keys(client: IpAddr, user: &str) -> [String; 2] {
    [format!("ip {client}"), format!("user {}", user.chars().take(100).collect::<String>())]
}

fn digest(token: &str) -> Key {
    Sha256::digest(token.as_bytes()).into()
}

/// 256 bits that nobody guesses; `None`: the machine gives no randomness, so nobody signs in.
pub(super) fn random() -> Option<String> {
    let mut bytes = [0_u8; 32];
    rustls::crypto::aws_lc_rs::default_provider().secure_random.fill(&mut bytes).ok()?;
    Some(URL_SAFE_NO_PAD.encode(bytes))
}
