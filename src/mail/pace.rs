//! The pace of sending: mails evenly spaced by `rate`, shared by all workers behind a mutex.
//!
//! No clock and no sleep: it says when. Invariant: two instants it gives are never closer than the interval, so that
//! neither a pause nor a restart is followed by a burst.

use chrono::TimeDelta;

use crate::config::Rate;
use crate::domain::Timestamp;

/// A last instant further ahead than this is not a queue of workers but a clock that was set back.
const AHEAD_MAX: i32 = 64;

/// Gives every mail its turn.
#[derive(Debug, Clone)]
pub struct Pace {
    interval: TimeDelta,
    last: Option<Timestamp>,
}

impl Pace {
    /// `last`: the last attempt before a restart, from the store.
    #[must_use]
    pub fn new(rate: Rate, last: Option<Timestamp>) -> Self {
        // Rounded up: 7/s must not become eight in some second.
        let nanos = rate.per.as_nanos().div_ceil(u128::from(rate.count.max(1)));
        Self { interval: TimeDelta::nanoseconds(i64::try_from(nanos).unwrap_or(i64::MAX)), last }
    }

    /// From one mail to the next.
    #[must_use]
    pub fn interval(&self) -> TimeDelta {
        self.interval
    }

    /// Takes the next turn: not before `now`, and one interval after the turn before it. The caller waits until then.
    pub fn next_at(&mut self, now: Timestamp) -> Timestamp {
        let turn = match self.last {
            None => now,
            Some(last) if last > now + self.interval * AHEAD_MAX => now + self.interval,
            Some(last) => now.max(last + self.interval),
        };
        self.last = Some(turn);
        turn
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(1_660_000_000 + seconds, 0).unwrap()
    }

    fn pace(last: Option<i64>) -> Pace {
        Pace::new(Rate { count: 30, per: Duration::from_secs(60) }, last.map(at))
    }

    #[test]
    fn mails_are_evenly_spaced_and_never_come_in_a_burst() {
        let mut pace = pace(None);
        // (now, turn): several workers at once, a late one, a long pause, again several.
        for (now, turn) in [(0, 0), (0, 2), (0, 4), (5, 6), (100, 100), (100, 102), (101, 104)] {
            assert_eq!(pace.next_at(at(now)), at(turn), "asked at {now}");
        }
    }

    #[test]
    fn a_restart_goes_on_from_the_last_attempt() {
        assert_eq!(pace(Some(9)).next_at(at(10)), at(11));
        assert_eq!(pace(Some(0)).next_at(at(10)), at(10));
    }

    #[test]
    fn a_clock_set_back_does_not_stop_the_mail_for_an_hour() {
        assert_eq!(pace(Some(3600)).next_at(at(0)), at(2));
    }

    #[test]
    fn the_interval_is_rounded_up() {
        let mut pace = Pace::new(Rate { count: 7, per: Duration::from_secs(1) }, None);
        let turns: Vec<Timestamp> = (0..8).map(|_| pace.next_at(at(0))).collect();
        assert!(turns[7] >= at(1));
    }
}
