//! When the login service is in trouble, or asked for quiet, nobody asks it for a while. Pure: instants come in.
//!
//! Invariant: one row of failures costs at most [`LIMIT`] waits; each pause after it is longer, up to [`PAUSE_MAX`].

use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row that open it.
pub const LIMIT: u32 = 5;
/// The first pause; also the one after a 429 that names none, as Microsoft's own client library waits.
pub const PAUSE: Duration = Duration::from_secs(60);
/// The longest.
pub const PAUSE_MAX: Duration = Duration::from_secs(3600);

/// See the module.
#[derive(Debug, Clone)]
pub struct Circuit {
    row: u32,
    pause: Duration,
    until: Option<Instant>,
    why: String,
}

impl Default for Circuit {
    fn default() -> Self {
        Self { row: 0, pause: PAUSE, until: None, why: String::new() }
    }
}

impl Circuit {
    /// Whether it may be asked now; if not, why, in words.
    ///
    /// # Errors
    /// The pause is not over.
    pub fn admit(&self, now: Instant) -> Result<(), String> {
        match self.until {
            Some(until) if until > now => {
                Err(format!("not asked for another {} s: {}", (until - now).as_secs().max(1), self.why))
            }
            _ => Ok(()),
        }
    }

    /// It answered.
    pub fn good(&mut self) {
        *self = Self::default();
    }

    /// It failed. Returns whether this opened the circuit.
    pub fn trouble(&mut self, why: &str, now: Instant) -> bool {
        self.row = self.row.saturating_add(1);
        if self.row < LIMIT || self.admit(now).is_err() {
            return false; // those that were under way when it opened say nothing new
        }
        self.until = Some(now + self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        self.why = why.to_owned();
        true
    }

    /// It asked for quiet, for so long. Returns whether this opened the circuit.
    pub fn throttled(&mut self, after: Option<Duration>, why: &str, now: Instant) -> bool {
        let was_open = self.admit(now).is_err();
        let until = now + after.unwrap_or(PAUSE).min(PAUSE_MAX);
        self.until = Some(self.until.map_or(until, |known| known.max(until)));
        self.why = why.to_owned();
        !was_open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_a_row_and_longer_each_time() {
        let mut circuit = Circuit::default();
        let mut now = Instant::now();
        for n in 1..LIMIT {
            assert!(!circuit.trouble("down", now) && circuit.admit(now).is_ok(), "failure {n}");
        }
        assert!(circuit.trouble("down", now), "the last of the row");
        assert_eq!(circuit.admit(now), Err("not asked for another 60 s: down".to_owned()));
        assert!(!circuit.trouble("late", now), "who was under way opens nothing");
        now += PAUSE;
        assert!(circuit.admit(now).is_ok(), "one may try again");
        assert!(circuit.trouble("down", now), "in vain");
        assert!(circuit.admit(now + PAUSE).is_err() && circuit.admit(now + PAUSE * 2).is_ok(), "twice as long");
        for _ in 0..20 {
            now += PAUSE_MAX;
            circuit.trouble("down", now);
        }
        assert!(circuit.admit(now + PAUSE_MAX).is_ok(), "never longer than an hour");
        circuit.good();
        assert!(circuit.admit(now).is_ok() && !circuit.trouble("down", now), "an answer ends the row");
    }

    #[test]
    fn a_wish_for_quiet_is_kept_at_once() {
        let now = Instant::now();
        let mut circuit = Circuit::default();
        assert!(circuit.throttled(Some(Duration::from_secs(7)), "429", now));
        assert!(circuit.admit(now + Duration::from_secs(6)).is_err());
        assert!(circuit.admit(now + Duration::from_secs(7)).is_ok());
        let mut circuit = Circuit::default();
        circuit.throttled(None, "429", now);
        assert!(circuit.admit(now + Duration::from_secs(59)).is_err() && circuit.admit(now + PAUSE).is_ok());
        let mut circuit = Circuit::default();
        circuit.throttled(Some(Duration::from_secs(1_000_000)), "429", now);
        assert!(circuit.admit(now + PAUSE_MAX).is_ok(), "at most an hour");
        circuit.throttled(Some(Duration::from_secs(1)), "429", now);
        assert!(circuit.admit(now + Duration::from_secs(60)).is_err(), "a shorter wish ends no longer one");
    }
}
