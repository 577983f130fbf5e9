//! Made notices on their way into the outbox, many to a commit.
//!
//! A commit waits for the disk, which took most of a pass when each notice had its own. Invariants: what holds a notice is
//! decided right before it is written; the cap counts what stands in the outbox, so a list is cut where what becomes of
//! one decides about the next; a chunk is bounded by number and bytes.

use anyhow::Context as _;

use super::prepare::{Ready, prepare};
use super::{Fate, Notified, Pass, STALE_TRIES, report};
use crate::config::Mode;
use crate::daemon::mailing;
use crate::domain::campaign::Standing;
use crate::domain::case::{CaseEvent, CaseState};
use crate::domain::delivery::{DeliveryFacts, Held};
use crate::domain::guard;
use crate::domain::plan::{Due, NoticeKind, Planned};
use crate::store::{Committed, NewDelivery, PassChange, SiteCounts};

/// Notices in one transaction: others who write, a deliverer above all, want their turn.
pub(super) const CHUNK: usize = 64;

/// A chunk that is larger is not added to. (A mail has some 40 KB, unless its template attaches something.)
const CHUNK_BYTES: usize = 8 * 1024 * 1024;

/// Planned notices that are made, or of which something else became, in the order of the plan.
#[derive(Default)]
pub(super) struct Chunk {
    notices: Vec<(Planned, Result<Ready, Fate>)>,
    bytes: usize,
}

impl Chunk {
    pub(super) fn add(&mut self, planned: Planned, made: Result<Ready, Fate>) {
        self.bytes += made.as_ref().map_or(0, |ready| ready.message.raw.len());
        self.notices.push((planned, made));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.notices.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.notices.len() >= CHUNK || self.bytes >= CHUNK_BYTES
    }
}

/// What holds notices just now.
struct Holding {
    /// Every one.
    all: Option<Held>,
    /// First notices beyond this number.
    allowed: usize,
}

impl Holding {
    fn of(&self, kind: NoticeKind, firsts: usize) -> Option<Held> {
        self.all.or_else(|| (kind == NoticeKind::First && firsts >= self.allowed).then_some(Held::Cap))
    }

    /// How many of these can be decided together. The last first notice that the cap lets through ends them: should one of
    /// them not come into the outbox, another one may.
    fn together(&self, notices: &[(Planned, Result<Ready, Fate>)], firsts: usize) -> usize {
        let left = self.allowed.saturating_sub(firsts);
        if self.all.is_some() || left == 0 {
            return notices.len();
        }
        let is_first =
            |made: &Result<Ready, Fate>| made.as_ref().is_ok_and(|ready| ready.due.kind == NoticeKind::First);
        let mut places = notices.iter().enumerate().filter(|(_, (_, made))| is_first(made)).map(|(place, _)| place);
        places.nth(left - 1).map_or(notices.len(), |place| place + 1)
    }
}

impl Pass<'_> {
    /// Puts a chunk into the outbox and says what became of it.
    pub(super) async fn commit(&mut self, chunk: &mut Chunk) -> anyhow::Result<()> {
        let Chunk { mut notices, .. } = std::mem::take(chunk);
        while !notices.is_empty() {
            let holding = self.holding().await?;
            let rest = notices.split_off(holding.together(&notices, self.firsts));
            self.settle(notices, &holding).await?;
            notices = rest;
        }
        Ok(())
    }

    async fn settle(&mut self, notices: Vec<(Planned, Result<Ready, Fate>)>, holding: &Holding) -> anyhow::Result<()> {
        let mut made = Vec::new();
        let mut settled = Vec::new();
        for (planned, notice) in notices {
            match notice {
                Ok(ready) => {
                    made.push(ready);
                    settled.push((planned, None));
                }
                Err(fate) => settled.push((planned, Some(fate))),
            }
        }
        let mut fates = self.put(made, holding).await?.into_iter();
        for (planned, fate) in settled {
            let fate = match fate.or_else(|| fates.next().flatten()) {
                Some(fate) => Some(fate),
                None => self.again(&planned).await?,
            };
            match fate {
                Some(fate) => self.say(planned, fate),
                None => self.report.interrupted = true,
            }
        }
        Ok(())
    }

    fn say(&mut self, planned: Planned, fate: Fate) {
        report::log(&planned, &fate);
        self.ctx.metrics.notice(planned.due.kind, fate.word());
        self.report.add(Notified { planned, fate });
        self.progress.step(&self.report.counts(), &SiteCounts::default());
    }

    /// A customer that a scan or a person changed since its notice was made is decided anew: to leave it to the next pass
    /// would tell it a day late. `None`: the pass is told to stop.
    async fn again(&mut self, planned: &Planned) -> anyhow::Result<Option<Fate>> {
        for _ in 1..STALE_TRIES {
            let ready = match prepare(self.ctx, &self.dead, &self.circuit, planned, self.stop).await {
                Ok(None) => return Ok(None),
                Ok(Some(Ok(again))) => again,
                Ok(Some(Err(fate))) => return Ok(Some(fate)),
                Err(error) => return Ok(Some(Fate::Failed(format!("{error:#}")))),
            };
            let holding = self.holding().await?;
            if let Some(fate) = self.put(vec![ready], &holding).await?.pop().flatten() {
                return Ok(Some(fate));
            }
        }
        Ok(Some(Fate::Overtaken("the customer was changed by others again and again".to_owned())))
    }

    /// Puts notices into the outbox, held if a rule says so. `None`: the customer was changed since it was made.
    async fn put(&mut self, made: Vec<Ready>, holding: &Holding) -> anyhow::Result<Vec<Option<Fate>>> {
        if made.is_empty() {
            return Ok(Vec::new());
        }
        if self.snapshot.config.mode == Mode::DryRun {
            return Ok(made.iter().map(|_| Some(Fate::WouldQueue)).collect());
        }
        let mut firsts = self.firsts;
        let mut changes = Vec::new();
        let mut kinds = Vec::new();
        for ready in made {
            let kind = ready.due.kind;
            let held = holding.of(kind, firsts);
            let counts = kind == NoticeKind::First && held.is_none();
            firsts += usize::from(counts);
            kinds.push((held, counts));
            changes.push(self.change(ready, held));
        }
        let committed = self.ctx.store.commit_passes(&changes).await.context(CANNOT)?;
        if committed.iter().all(Result::is_err) {
            // It is not about one of them.
            let error = committed.into_iter().find_map(Result::err).expect("all of them are errors");
            return Err(error).context(CANNOT);
        }
        let mut fates = Vec::new();
        for (committed, (held, counts)) in committed.into_iter().zip(kinds) {
            fates.push(match committed {
                Ok(Committed::Done(Some(id))) => {
                    self.firsts += usize::from(counts);
                    Some(held.map_or(Fate::Queued(id), |held| Fate::Held(id, held)))
                }
                Ok(Committed::Done(None)) => Some(Fate::Failed("the store gave the delivery no number".to_owned())),
                Ok(Committed::Stale) => None,
                Ok(Committed::Duplicate) => Some(Fate::Duplicate),
                Err(error) => Some(Fate::Failed(format!("{:#}", anyhow::Error::from(error).context(CANNOT)))),
            });
        }
        Ok(fates)
    }

    fn change(&self, ready: Ready, held: Option<Held>) -> PassChange {
        let Ready { state, mut case, due, recipients, message } = ready;
        let at = self.ctx.now();
        let facts = DeliveryFacts {
            key: mailing::key(&case, &due),
            milestone: due.milestone.map(|m| m.to_string()),
            day: self.snapshot.config.calendar.day(at),
            deadline: due.deadline,
            because: due.because.clone(),
        };
        let mut events = Vec::new();
        if due.kind == NoticeKind::Resolved {
            case.state = CaseState::Resolved { at };
            events.push(CaseEvent::Resolved { silently: false });
        }
        let delivery = NewDelivery { priority: priority(&due, facts.day), facts, held, recipients, message };
        let (customer, version) = (case.customer.clone(), state.version);
        PassChange { customer, version, case, events, delivery: Some(delivery), at }
    }

    async fn holding(&self) -> anyhow::Result<Holding> {
        let config = &self.snapshot.config;
        let all = match self.ctx.store.holds().await?.is_empty() {
            false => Some(Held::Hold),
            true => (config.mode == Mode::Review).then_some(Held::Review),
        };
        let allowed = guard::new_notices_allowed(config.safety.max_new_notices, self.snapshot.customers.len());
        Ok(Holding { all, allowed })
    }
}

const CANNOT: &str = "cannot put the notice into the outbox";

/// The smaller, the sooner: first what a customer must act on, then the nearest deadline.
fn priority(due: &Due, day: chrono::NaiveDate) -> i64 {
    let class = match due.kind.speaks_of() {
        Standing::Affected => 0,
        Standing::ConsentMissing => 1,
        Standing::Clear => 2,
    };
    class * 1_000_000 + (due.deadline - day).num_days().clamp(-400_000, 400_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;
    use crate::domain::campaign::CampaignId;
    use crate::domain::case::{Case, Reference};
    use crate::domain::customer::Address;
    use crate::domain::site::CustomerId;
    use crate::store::{CustomerState, Message};

    fn made(kind: NoticeKind) -> (Planned, Result<Ready, Fate>) {
        let at = Timestamp::UNIX_EPOCH;
        let (customer, campaign) = (CustomerId::new("C1").unwrap(), CampaignId("basic".to_owned()));
        let due = Due {
            kind,
            round: 1,
            milestone: None,
            occasion: String::new(),
            deadline: at.date_naive(),
            previous_deadline: None,
            because: String::new(),
        };
        let case = Case {
            customer: customer.clone(),
            campaign: campaign.clone(),
            reference: Reference::from_digest(&[0; 5]),
            round: 1,
            state: CaseState::Open,
            opened_at: at,
            round_at: at,
            sites: Default::default(),
            told: Vec::new(),
        };
        let message = Message {
            message_id: String::new(),
            subject: String::new(),
            envelope_from: Address::new("from@example.jp").unwrap(),
            raw: vec![0; 1000],
            rendered_for: at.date_naive(),
            evidence_at: at,
            sites: Vec::new(),
        };
        let (id, cases, sites) = (customer.clone(), Vec::new(), Vec::new());
        let state = CustomerState { id, version: 0, refused: None, cases, sites };
        let ready = Ready { state, case, due: due.clone(), recipients: Vec::new(), message };
        (Planned { customer, campaign, due, sites: Vec::new(), held: None }, Ok(ready))
    }

    #[test]
    fn a_list_ends_where_the_cap_may_turn() {
        let notices = |text: &str| -> Vec<_> {
            let one = |kind| match kind {
                'f' => made(NoticeKind::First),
                'r' => made(NoticeKind::Reminder),
                _ => (made(NoticeKind::First).0, Err(Fate::Overtaken("gone".to_owned()))),
            };
            text.chars().map(one).collect()
        };
        let open = Holding { all: None, allowed: 3 };
        let held = Holding { all: Some(Held::Review), allowed: 3 };
        // f: a first notice, r: a reminder, x: a first one that came to nothing.
        let rows = [
            ("fewer than the cap allows: all of them", &open, "frxf", 0, 4),
            ("as many: what follows is decided when it is known what became of them", &open, "ffrfrf", 0, 4),
            ("one is left", &open, "xrfrff", 2, 3),
            ("none is left: all others are held, whatever becomes of one", &open, "ffrff", 3, 5),
            ("the cap is passed", &open, "ff", 4, 2),
            ("everything is held: nothing counts", &held, "fffff", 0, 5),
            ("no first notice", &open, "rrrrr", 0, 5),
            ("nothing", &open, "", 0, 0),
        ];
        for (sentence, holding, text, firsts, expected) in rows {
            assert_eq!(holding.together(&notices(text), firsts), expected, "{sentence}");
        }
        assert_eq!(open.of(NoticeKind::First, 2), None);
        assert_eq!(open.of(NoticeKind::First, 3), Some(Held::Cap));
        assert_eq!(open.of(NoticeKind::Reminder, 3), None);
        assert_eq!(held.of(NoticeKind::First, 3), Some(Held::Review));
    }

    #[test]
    fn a_chunk_is_bounded_by_number_and_bytes() {
        let mut chunk = Chunk::default();
        for n in 0..CHUNK {
            assert!(!chunk.is_full(), "{n}");
            let (planned, ready) = made(NoticeKind::First);
            chunk.add(planned, ready);
        }
        assert!(chunk.is_full());
        let mut chunk = Chunk::default();
        let (planned, ready) = made(NoticeKind::First);
        let mut ready = ready.unwrap_or_else(|_| panic!("it is made"));
        ready.message.raw = vec![0; CHUNK_BYTES];
        chunk.add(planned, Ok(ready));
        assert!(chunk.is_full());
    }
}
