//! A host that fails for one customer after the other is left in peace for a while, then asked once, instead of burning the
//! fleet on it. Pure: instants come in.
//!
//! Invariant: the time that a scan waits for one host is bounded: after [`PROBES`] probes in vain it is given up.

use std::time::Duration;

use tokio::time::Instant;

use crate::domain::observation::{CustomerLook, Failure, Reason};

/// So often a paused host is asked once more in one scan.
pub const PROBES: u32 = 3;

/// What may be done for the next customer of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// Look.
    Go,
    /// Look; until [`Breaker::note`] hears of it, nobody else of this host may.
    Probe,
    /// Not now: from that instant on a probe may; `None`: a probe is under way.
    Later(Option<Instant>),
    /// Not in this scan: that is why.
    GivenUp(Failure),
}

/// What a look says of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sign {
    /// It answered as a tool does, whatever it said.
    Answered,
    /// It failed.
    Failed(Failure),
    /// It was not asked.
    Nothing,
}

impl Sign {
    /// The sign that a look gives. The host fails when it cannot be reached, or its server or its maintenance page is all that
    /// is heard before it lets the customer in; what happens behind the log-on is that customer's trouble.
    #[must_use]
    pub fn of(look: &CustomerLook) -> Self {
        match &look.sites {
            Err(failure) if matches!(failure.reason, Reason::InventoryError | Reason::Skipped) => Self::Nothing,
            Err(failure) if of_host(failure.reason) && !failure.inside => Self::Failed(failure.clone()),
            Err(_) | Ok(_) => Self::Answered,
        }
    }
}

fn of_host(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Maintenance | Reason::Timeout | Reason::Dns | Reason::Connect | Reason::Tls | Reason::HttpStatus
    )
}

/// How a host stands, as one node may tell another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It answers.
    Well,
    /// It is left in peace.
    Paused {
        /// From when on one is tried.
        until: Instant,
        /// So many were tried in vain.
        probes: u32,
    },
    /// Not in this scan: that is why.
    GivenUp(Failure),
}

/// One host in one scan.
#[derive(Debug, Clone)]
pub struct Breaker {
    host: String,
    limit: u32,
    first_pause: Duration,
    row: u32,
    state: State,
}

#[derive(Debug, Clone)]
enum State {
    Closed,
    /// Waiting for `until`; `probes` went out in vain so far.
    Open {
        until: Instant,
        probes: u32,
    },
    /// One look is under way.
    Probing {
        probes: u32,
    },
    GivenUp(Failure),
}

impl Breaker {
    /// Opens after `limit` customers in a row; the first pause is `first_pause`, each further one twice as long.
    #[must_use]
    pub fn new(host: &str, limit: u32, first_pause: Duration) -> Self {
        Self { host: host.to_owned(), limit: limit.max(1), first_pause, row: 0, state: State::Closed }
    }

    /// What may be done for the next customer.
    pub fn admit(&mut self, now: Instant) -> Admission {
        match &self.state {
            State::Closed => Admission::Go,
            State::Open { until, probes } if *until <= now => {
                self.state = State::Probing { probes: *probes };
                Admission::Probe
            }
            State::Open { until, .. } => Admission::Later(Some(*until)),
            State::Probing { .. } => Admission::Later(None),
            State::GivenUp(failure) => Admission::GivenUp(failure.clone()),
        }
    }

    /// Takes note of a look that ended; `probe`: it was admitted as one. Returns what is new for the log.
    pub fn note(&mut self, sign: &Sign, probe: bool, now: Instant) -> Option<String> {
        match (sign, &self.state) {
            // Proof is proof, also from a look that began before the host was paused.
            (Sign::Answered, state) => {
                let was_closed = matches!(state, State::Closed);
                self.row = 0;
                self.state = State::Closed;
                (!was_closed).then(|| format!("{} answers again", self.host))
            }
            (Sign::Nothing, State::Probing { probes }) if probe => {
                self.state = State::Open { until: now, probes: *probes };
                None
            }
            (Sign::Failed(failure), State::Closed) => {
                self.row = self.row.saturating_add(1);
                (self.row >= self.limit).then(|| self.pause(failure, 0, now))
            }
            (Sign::Failed(failure), State::Probing { probes }) if probe => {
                self.row = self.row.saturating_add(1);
                let probes = probes + 1;
                Some(if probes >= PROBES { self.give_up(failure) } else { self.pause(failure, probes, now) })
            }
            // Those that were under way when the host was paused say nothing new.
            (Sign::Failed(_) | Sign::Nothing, _) => None,
        }
    }

    /// How it stands; `None`: a probe will tell soon.
    #[must_use]
    pub fn standing(&self) -> Option<Standing> {
        match &self.state {
            State::Closed => Some(Standing::Well),
            State::Open { until, probes } => Some(Standing::Paused { until: *until, probes: *probes }),
            State::Probing { .. } => None,
            State::GivenUp(failure) => Some(Standing::GivenUp(failure.clone())),
        }
    }

    /// What another node found out counts as if it had happened here, but for a pause while a probe of ours is under way.
    pub fn hear(&mut self, standing: Standing) {
        self.state = match (standing, &self.state) {
            (Standing::Well, _) => {
                self.row = 0;
                State::Closed
            }
            (Standing::GivenUp(failure), _) => State::GivenUp(failure),
            (Standing::Paused { .. }, State::Probing { .. } | State::GivenUp(_)) => return,
            (Standing::Paused { until, probes }, _) => State::Open { until, probes },
        };
    }

    /// From when on a probe may go; `None`: the host is not paused, or a probe is under way.
    #[must_use]
    pub fn reopens_at(&self) -> Option<Instant> {
        match self.state {
            State::Open { until, .. } => Some(until),
            _ => None,
        }
    }

    fn pause(&mut self, failure: &Failure, probes: u32, now: Instant) -> String {
        let wait = self.first_pause.saturating_mul(1 << probes.min(16));
        self.state = State::Open { until: now + wait, probes };
        format!(
            "{} failed for {} customers in a row ({}: {}): paused for {wait:?}, then one is tried",
            self.host,
            self.row,
            failure.reason.as_str(),
            failure.detail
        )
    }

    fn give_up(&mut self, failure: &Failure) -> String {
        let detail = format!(
            "not asked: {} failed for {} customers in a row (scan.host_failures), after pauses too; the last: {}",
            self.host, self.row, failure.detail
        );
        self.state = State::GivenUp(Failure::new(failure.reason, detail));
        format!("{} is given up for this scan; the rest of its customers is unreadable ({})", self.host, failure.detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::observation::SiteLook;
    use crate::domain::site::SiteName;

    const PAUSE: Duration = Duration::from_secs(10);

    fn failed() -> Sign {
        Sign::Failed(Failure::new(Reason::Connect, "refused"))
    }

    /// Three failures open it.
    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::new("tool:443", 3, PAUSE);
        for n in 0..3 {
            assert_eq!(breaker.admit(now), Admission::Go);
            assert_eq!(breaker.note(&failed(), false, now).is_some(), n == 2, "said once");
        }
        breaker
    }

    #[test]
    fn only_failures_in_a_row_open_it() {
        let now = Instant::now();
        let mut breaker = Breaker::new("tool:443", 3, PAUSE);
        for _ in 0..10 {
            for sign in [failed(), failed(), Sign::Nothing, Sign::Answered] {
                breaker.note(&sign, false, now);
            }
        }
        assert_eq!(breaker.admit(now), Admission::Go);
    }

    #[test]
    fn paused_it_lets_one_through_and_a_good_answer_closes_it() {
        let now = Instant::now();
        let mut breaker = opened(now);
        assert_eq!(breaker.admit(now), Admission::Later(Some(now + PAUSE)));
        assert_eq!(breaker.note(&failed(), false, now), None, "a straggler says nothing new");
        assert_eq!(breaker.reopens_at(), Some(now + PAUSE));
        assert_eq!(breaker.admit(now + PAUSE), Admission::Probe);
        assert_eq!(breaker.admit(now + PAUSE), Admission::Later(None), "one only");
        assert!(breaker.note(&Sign::Answered, true, now + PAUSE).is_some());
        assert_eq!(breaker.admit(now + PAUSE), Admission::Go);
        assert_eq!(breaker.note(&failed(), false, now), None, "the row begins anew");
    }

    #[test]
    fn pauses_grow_and_end() {
        let mut now = Instant::now();
        let mut breaker = opened(now);
        let mut waited = Duration::ZERO;
        for n in 0..PROBES {
            let until = breaker.reopens_at().expect("paused");
            assert_eq!(until - now, PAUSE * 2_u32.pow(n));
            waited += until - now;
            now = until;
            assert_eq!(breaker.admit(now), Admission::Probe);
            assert!(breaker.note(&failed(), true, now).is_some());
        }
        assert_eq!(waited, PAUSE * 7);
        let Admission::GivenUp(failure) = breaker.admit(now) else { panic!("given up") };
        assert_eq!(failure.reason, Reason::Connect);
        assert!(failure.detail.starts_with("not asked: tool:443 failed for 6 customers"), "{}", failure.detail);
    }

    #[test]
    fn a_probe_that_asked_nothing_leaves_the_way_to_the_next() {
        let now = Instant::now();
        let mut breaker = opened(now);
        assert_eq!(breaker.admit(now + PAUSE), Admission::Probe);
        breaker.note(&Sign::Nothing, true, now + PAUSE);
        assert_eq!(breaker.admit(now + PAUSE), Admission::Probe);
    }

    #[test]
    fn a_straggler_that_answers_closes_it() {
        let now = Instant::now();
        let mut breaker = opened(now);
        assert!(breaker.note(&Sign::Answered, false, now).is_some());
        assert_eq!(breaker.admit(now), Admission::Go);
    }

    #[test]
    fn what_another_node_found_out_counts_here() {
        let now = Instant::now();
        let mut breaker = Breaker::new("tool:443", 3, PAUSE);
        breaker.hear(Standing::Paused { until: now + PAUSE, probes: 1 });
        assert_eq!(breaker.admit(now), Admission::Later(Some(now + PAUSE)));
        assert_eq!(breaker.admit(now + PAUSE), Admission::Probe);
        breaker.hear(Standing::Paused { until: now + PAUSE * 9, probes: 2 });
        assert_eq!(breaker.standing(), None, "our own probe will tell");
        breaker.note(&failed(), true, now + PAUSE);
        assert_eq!(breaker.standing(), Some(Standing::Paused { until: now + PAUSE * 5, probes: 2 }), "they add up");
        breaker.hear(Standing::GivenUp(Failure::new(Reason::Connect, "refused")));
        assert!(matches!(breaker.admit(now + PAUSE * 9), Admission::GivenUp(_)));
        breaker.hear(Standing::Paused { until: now, probes: 0 });
        assert!(matches!(breaker.admit(now), Admission::GivenUp(_)), "a straggler's word");
        breaker.hear(Standing::Well);
        assert_eq!((breaker.admit(now), breaker.standing()), (Admission::Go, Some(Standing::Well)));
    }

    #[test]
    fn a_look_is_a_sign() {
        let at = "2022-09-01T00:00:00Z".parse().expect("a time");
        let of = |reason| Sign::of(&CustomerLook { sites: Err(Failure::new(reason, "")), at });
        for reason in Reason::ALL {
            let expected = match reason {
                Reason::InventoryError | Reason::Skipped => Sign::Nothing,
                reason if of_host(reason) => Sign::Failed(Failure::new(reason, "")),
                _ => Sign::Answered,
            };
            assert_eq!(of(reason), expected, "{}", reason.as_str());
        }
        assert_eq!(Sign::of(&CustomerLook { sites: Ok(Vec::new()), at }), Sign::Answered, "an empty list is an answer");
        let behind = Failure { inside: true, ..Failure::new(Reason::Timeout, "") };
        let look = CustomerLook { sites: Err(behind.clone()), at };
        assert_eq!(Sign::of(&look), Sign::Answered, "what hangs behind the log-on is the customer's trouble");
        let site = SiteLook { site: SiteName::new("本社").expect("a name"), read: Err(behind), at };
        assert_eq!(Sign::of(&CustomerLook { sites: Ok(vec![site]), at }), Sign::Answered, "it listed a site");
    }
}
