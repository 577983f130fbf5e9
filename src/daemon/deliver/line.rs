//! The line in which workers wait for their turn by `mail.smtp.rate`.
//!
//! A worker enters it before it claims a mail, and only if its turn comes soon: so nobody sits on a claimed mail while its
//! evidence grows old. Time here is the start's instant plus what a steady clock counted since: a wall clock that jumps makes
//! neither a burst nor a standstill.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::Timestamp;
use crate::mail::pace::Pace;

/// The longest wait with a mail in one's hands.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Line {
    start: (Timestamp, Instant),
    state: Mutex<State>,
}

struct State {
    /// `None`: no limit.
    pace: Option<Pace>,
    /// Workers in the line whose turn is not given yet.
    waiting: u32,
}

/// A place in the line; leaving it (dropping this) without a turn uses none up.
pub(super) struct Place<'a>(&'a Line);

impl Line {
    pub(super) fn new(pace: Option<Pace>, now: Timestamp) -> Self {
        Self { start: (now, Instant::now()), state: Mutex::new(State { pace, waiting: 0 }) }
    }

    fn now(&self) -> Timestamp {
        let (wall, steady) = self.start;
        chrono::TimeDelta::from_std(steady.elapsed()).map_or(wall, |since| wall + since)
    }

    /// A place, or how long to stay away: the turn is too far ahead.
    pub(super) fn enter(&self) -> Result<Place<'_>, Duration> {
        self.enter_at(self.now())
    }

    fn enter_at(&self, now: Timestamp) -> Result<Place<'_>, Duration> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pace) = &state.pace {
            let mut ahead = pace.clone();
            let turn = (0..=state.waiting).map(|_| ahead.next_at(now)).last().unwrap_or(now);
            let wait = (turn - now).to_std().unwrap_or_default();
            if wait > PATIENCE {
                return Err(wait - PATIENCE);
            }
        }
        state.waiting += 1;
        Ok(Place(self))
    }
}

impl Place<'_> {
    /// Takes the next turn; how long to wait for it.
    pub(super) fn turn(self) -> Duration {
        let now = self.0.now();
        self.turn_at(now)
    }

    fn turn_at(self, now: Timestamp) -> Duration {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.pace.as_mut().map_or(Duration::ZERO, |pace| (pace.next_at(now) - now).to_std().unwrap_or_default())
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).waiting -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Rate;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(1_660_000_000 + seconds, 0).unwrap()
    }

    fn line(seconds: u64, last: Option<i64>) -> Line {
        let rate = Rate { count: 1, per: Duration::from_secs(seconds) };
        Line::new(Some(Pace::new(rate, last.map(at))), at(0))
    }

    #[tokio::test]
    async fn nobody_waits_long_with_a_mail_in_hands() {
        // One mail an hour: the first goes at once, the second worker is sent away until shortly before its turn.
        let line = line(3600, None);
        let first = line.enter_at(at(0)).unwrap();
        assert_eq!(line.enter_at(at(0)).err(), Some(Duration::from_secs(3590)));
        assert_eq!(first.turn_at(at(0)), Duration::ZERO);
        assert_eq!(line.enter_at(at(1)).err(), Some(Duration::from_secs(3589)));
        assert_eq!(line.enter_at(at(3595)).unwrap().turn_at(at(3595)), Duration::from_secs(5));
    }

    #[tokio::test]
    async fn whoever_leaves_without_a_turn_uses_none_up() {
        let line = line(2, None);
        let (one, two) = (line.enter_at(at(0)).unwrap(), line.enter_at(at(0)).unwrap());
        drop(one);
        assert_eq!(two.turn_at(at(0)), Duration::ZERO);
        assert_eq!(line.enter_at(at(0)).unwrap().turn_at(at(0)), Duration::from_secs(2));
    }

    #[tokio::test]
    async fn a_restart_goes_on_where_the_last_process_stopped() {
        let first = |last| line(8, Some(last)).enter_at(at(0)).unwrap().turn_at(at(0));
        assert_eq!(first(-3), Duration::from_secs(5));
        assert_eq!(first(-30), Duration::ZERO);
        // The clock was set back: the last attempt seems to lie a day ahead. One interval is enough.
        assert_eq!(first(86_400), Duration::from_secs(8));
    }
}
