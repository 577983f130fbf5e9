//! The line in which workers wait for their turn by `mail.smtp.rate`.
//!
//! A worker enters it before it claims a mail, and only if its turn comes soon: so nobody sits on a claimed mail while its
//! evidence grows old. Time here is the start's instant plus what a steady clock counted since: a wall clock that jumps makes
//! neither a burst nor a standstill.
//!
//! Where nodes share a state the turns stand in the database: each is taken by one statement, by whichever node.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::TimeDelta;
use tokio::time::Instant;

use crate::domain::Timestamp;
use crate::mail::pace::Pace;
use crate::store::Store;

/// The longest wait with a mail in one's hands.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Line {
    start: (Timestamp, Instant),
    state: Mutex<State>,
    /// The turns are those of all nodes.
    of_all: Option<(Arc<dyn Store>, TimeDelta)>,
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
        Self { start: (now, Instant::now()), state: Mutex::new(State { pace, waiting: 0 }), of_all: None }
    }

    /// The same rate for all nodes that share this state.
    pub(super) fn of_all_nodes(pace: Pace, store: Arc<dyn Store>, now: Timestamp) -> Self {
        Self { of_all: Some((store, pace.interval())), ..Self::new(None, now) }
    }

    fn now(&self) -> Timestamp {
        let (wall, steady) = self.start;
        chrono::TimeDelta::from_std(steady.elapsed()).map_or(wall, |since| wall + since)
    }

    /// A place, or how long to stay away: the turn is too far ahead.
    ///
    /// # Errors
    /// When the store fails that keeps the turns of all nodes.
    pub(super) async fn enter(&self) -> crate::store::Result<Result<Place<'_>, Duration>> {
        let now = self.now();
        if let Some((store, interval)) = &self.of_all
            && let Some(next) = store.next_turn().await?
            && let Some(wait) = too_far(next, now, *interval)
        {
            return Ok(Err(wait));
        }
        Ok(self.enter_at(now))
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

/// How long to stay away from a turn of all nodes that is too far ahead. One that is further ahead than any that was ever
/// given is no turn but a clock that was set back.
fn too_far(next: Timestamp, now: Timestamp, interval: TimeDelta) -> Option<Duration> {
    let patience = TimeDelta::from_std(PATIENCE).unwrap_or_default();
    let given = now + patience + interval;
    (next > now + patience && next <= given).then(|| (next - now - patience).to_std().unwrap_or_default())
}

impl Place<'_> {
    /// Takes the next turn; how long to wait for it. `None`: others took those that were near.
    ///
    /// # Errors
    /// When the store fails that keeps the turns of all nodes.
    pub(super) async fn turn(self) -> crate::store::Result<Option<Duration>> {
        let now = self.0.now();
        let Some((store, interval)) = &self.0.of_all else { return Ok(Some(self.turn_at(now))) };
        let patience = TimeDelta::from_std(PATIENCE).unwrap_or_default();
        let turn = store.take_turn(now, *interval, patience).await?;
        Ok(turn.map(|at| (at - now).to_std().unwrap_or_default()))
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
