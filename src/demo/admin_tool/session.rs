//! Sessions, and the pages that were handed out in them. A page's view state is good in its own session only
//! (`ViewStateUserKey`), and whatever was handed out must come back unaltered.

use std::collections::{HashMap, VecDeque};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::issued::Issued;
use crate::demo::Random;

/// Sessions kept; the oldest ends when one more comes.
const SESSIONS: usize = 2048;
/// Pages whose view state is still good in one session (a person with the back button).
const PAGES: usize = 8;

/// One visitor.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// Who logged on, as an index into the world's customers.
    pub customer: Option<usize>,
    /// The forms-authentication cookie's value that belongs to it.
    pub ticket: Option<String>,
    issued: VecDeque<Issued>,
}

impl Session {
    /// The session of somebody who has logged on.
    pub fn of(customer: usize, ticket: String) -> Self {
        Self { customer: Some(customer), ticket: Some(ticket), issued: VecDeque::new() }
    }

    /// Remembers a page that goes out.
    pub fn issue(&mut self, page: Issued) {
        if self.issued.len() == PAGES {
            self.issued.pop_front();
        }
        self.issued.push_back(page);
    }

    /// The page a view state came from.
    pub fn issued(&self, view_state: &str) -> Option<&Issued> {
        self.issued.iter().find(|page| page.has_view_state(view_state))
    }
}

/// All visitors.
#[derive(Debug)]
pub(super) struct Sessions {
    live: HashMap<String, Session>,
    by_age: VecDeque<String>,
    /// Where tokens come from.
    pub random: Random,
}

impl Sessions {
    pub fn new(seed: u64) -> Self {
        Self { live: HashMap::new(), by_age: VecDeque::new(), random: Random::new(seed) }
    }

    /// Opens a session; gives its id.
    pub fn open(&mut self, session: Session) -> String {
        if self.live.len() >= SESSIONS
            && let Some(oldest) = self.by_age.pop_front()
        {
            self.live.remove(&oldest);
        }
        let id = self.token();
        self.by_age.push_back(id.clone());
        self.live.insert(id.clone(), session);
        id
    }

    pub fn get(&self, id: &str) -> Option<&Session> {
        self.live.get(id)
    }

    pub fn get_mut(&mut self, id: &str) -> Option<&mut Session> {
        self.live.get_mut(id)
    }

    pub fn end(&mut self, id: &str) {
        if self.live.remove(id).is_some() {
            self.by_age.retain(|live| live != id);
        }
    }

    pub fn end_all(&mut self) {
        self.live.clear();
        self.by_age.clear();
    }

    /// A token as ASP.NET's session ids look: letters and digits.
    pub fn token(&mut self) -> String {
        format!("{:016x}{:08x}", self.random.number(), self.random.number() >> 32)
    }

    /// A base64 text of `bytes` bytes that nobody has seen before.
    pub fn blob(&mut self, bytes: usize) -> String {
        let words = bytes.div_ceil(8).max(2);
        let blob: Vec<u8> = (0..words).flat_map(|_| self.random.number().to_le_bytes()).collect();
        BASE64.encode(&blob[..bytes.max(16)])
    }
}
