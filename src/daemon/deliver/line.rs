//! The line in which workers wait for their turn by `mail.smtp.rate`.
//!
//! Mails enter it before they are claimed, and only those whose turn comes soon: so nobody sits on a claimed mail while its
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
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Line {
    start: (Timestamp, Instant),
    state: Mutex<State>,
    /// The turns are those of all nodes.
    of_all: Option<(Arc<dyn Store>, TimeDelta)>,
}

struct State {
    /// `None`: no limit.
    pace: Option<Pace>,
    /// Mails in the line whose turn is not given yet.
    waiting: usize,
}

/// A place in the line; leaving it (dropping this) without a turn uses none up.
pub(super) struct Place(Arc<Line>);

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

    /// Up to `most` places, at least one; or how long to stay away: the turn is too far ahead.
    ///
    /// # Errors
    /// When the store fails that keeps the turns of all nodes.
    pub(super) async fn enter(self: &Arc<Self>, most: usize) -> crate::store::Result<Result<Vec<Place>, Duration>> {
        let now = self.now();
        let mut most = most.max(1);
        if let Some((store, interval)) = &self.of_all
            && let Some(next) = store.next_turn().await?
        {
            if let Some(wait) = too_far(next, now, *interval) {
                return Ok(Err(wait));
            }
            most = most.min(near(next, now, *interval));
        }
        Ok(self.enter_at(now, most))
    }

    fn enter_at(self: &Arc<Self>, now: Timestamp, most: usize) -> Result<Vec<Place>, Duration> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut places = most;
        if let Some(pace) = &state.pace {
            let mut ahead = pace.clone();
            let mut waits = (0..state.waiting + most).map(|_| (ahead.next_at(now) - now).to_std().unwrap_or_default());
            let first = waits.nth(state.waiting).unwrap_or_default();
            if first > PATIENCE {
                return Err(first - PATIENCE);
            }
            places = 1 + waits.take_while(|wait| *wait <= PATIENCE).count();
        }
        state.waiting += places;
        Ok((0..places).map(|_| Place(Arc::clone(self))).collect())
    }
}

/// How long to stay away from a turn of all nodes that is too far ahead. One that is further ahead than any that was ever
/// given is no turn but a clock that was set back.
fn too_far(next: Timestamp, now: Timestamp, interval: TimeDelta) -> Option<Duration> {
    let patience = TimeDelta::from_std(PATIENCE).unwrap_or_default();
    let given = now + patience + interval;
    (next > now + patience && next <= given).then(|| (next - now - patience).to_std().unwrap_or_default())
}

/// How many turns of all nodes there are before one is too far ahead.
fn near(next: Timestamp, now: Timestamp, interval: TimeDelta) -> usize {
    let patience = TimeDelta::from_std(PATIENCE).unwrap_or_default();
    let ahead = (now + patience - next).num_milliseconds().max(0);
    usize::try_from(ahead / interval.num_milliseconds().max(1)).unwrap_or(usize::MAX).saturating_add(1)
}

impl Place {
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

    /// The same where the turns are those of this process alone.
    pub(super) fn turn_now(self) -> Duration {
        let now = self.0.now();
        self.turn_at(now)
    }

    fn turn_at(self, now: Timestamp) -> Duration {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.pace.as_mut().map_or(Duration::ZERO, |pace| (pace.next_at(now) - now).to_std().unwrap_or_default())
    }
}

impl Drop for Place {
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

    fn line(seconds: u64, last: Option<i64>) -> Arc<Line> {
        let rate = Rate { count: 1, per: Duration::from_secs(seconds) };
        Arc::new(Line::new(Some(Pace::new(rate, last.map(at))), at(0)))
    }

    fn enter_at(line: &Arc<Line>, now: Timestamp) -> Result<Place, Duration> {
        line.enter_at(now, 1).map(|mut places| places.remove(0))
    }

    #[tokio::test]
    async fn nobody_waits_long_with_a_mail_in_hands() {
        // One mail an hour: the first goes at once, the second worker is sent away until shortly before its turn.
        let line = line(3600, None);
        let first = enter_at(&line, at(0)).unwrap();
        assert_eq!(enter_at(&line, at(0)).err(), Some(Duration::from_secs(3590)));
        assert_eq!(first.turn_at(at(0)), Duration::ZERO);
        assert_eq!(enter_at(&line, at(1)).err(), Some(Duration::from_secs(3589)));
        assert_eq!(enter_at(&line, at(3595)).unwrap().turn_at(at(3595)), Duration::from_secs(5));
    }

    #[tokio::test]
    async fn whoever_leaves_without_a_turn_uses_none_up() {
        let line = line(2, None);
        let (one, two) = (enter_at(&line, at(0)).unwrap(), enter_at(&line, at(0)).unwrap());
        drop(one);
        assert_eq!(two.turn_at(at(0)), Duration::ZERO);
        assert_eq!(enter_at(&line, at(0)).unwrap().turn_at(at(0)), Duration::from_secs(2));
    }

    #[tokio::test]
    async fn only_mails_whose_turn_comes_soon_get_a_place() {
        let slow = line(4, None);
        // Turns at 0, 4 and 8 seconds; the one at 12 is too far ahead.
        let places = slow.enter_at(at(0), 20).unwrap();
        assert_eq!(places.len(), 3);
        assert_eq!(enter_at(&slow, at(0)).err(), Some(Duration::from_secs(2)));
        drop(places);
        assert_eq!(slow.enter_at(at(0), 2).unwrap().len(), 2);
        let all =
            [(0, 3), (-100, 28), (10, 1)].map(|(next, places)| (near(at(next), at(0), TimeDelta::seconds(4)), places));
        assert!(all.iter().all(|(near, places)| near == places), "{all:?}");
    }

    #[tokio::test]
    async fn a_restart_goes_on_where_the_last_process_stopped() {
        let first = |last| enter_at(&line(8, Some(last)), at(0)).unwrap().turn_at(at(0));
        assert_eq!(first(-3), Duration::from_secs(5));
        assert_eq!(first(-30), Duration::ZERO);
        // The clock was set back: the last attempt seems to lie a day ahead. One interval is enough.
        assert_eq!(first(86_400), Duration::from_secs(8));
    }
}
