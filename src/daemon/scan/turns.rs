//! In which order a scan looks at the fleet: most urgent first, and what waited longest before what was seen lately, so
//! that no customer starves behind those that fail.
//!
//! Sorted outside of memory: it holds a bit a customer, not the customers.

use anyhow::Context as _;

use super::{Context, Snapshot};
use crate::domain::Timestamp;
use crate::domain::campaign::CampaignId;
use crate::domain::site::CustomerId;
use crate::spool::{Sorted, Sorter};
use crate::store::ScanTurn;

/// Customers whose turns are read at once.
const PAGE: u32 = 1_000;

/// An open case is near its deadline, in days before it; also when that is over.
const NEAR: i64 = 14;

/// The customers in their order, each by its number in the fleet, to take one after the other.
pub struct Turns {
    sorted: Option<Sorted>,
    left: usize,
}

impl Turns {
    /// Nobody.
    #[must_use]
    pub fn none() -> Self {
        Self { sorted: None, left: 0 }
    }

    /// How many are left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.left
    }

    /// The next ones, at most so many.
    ///
    /// # Errors
    /// When the temporary file cannot be read any more.
    pub fn take(&mut self, most: usize) -> anyhow::Result<Vec<usize>> {
        let mut numbers = Vec::new();
        while let Some(sorted) = self.sorted.as_mut().filter(|_| numbers.len() < most) {
            let Some((key, _)) = sorted.next().context("cannot read the order of the scan any more")? else {
                self.left = 0;
                break;
            };
            self.left -= 1;
            numbers.push(Turn::number_of(&key));
        }
        Ok(numbers)
    }
}

/// One customer's place in the row.
struct Turn {
    urgency: Urgency,
    /// When it was looked at last, in UNIX seconds; 0: never.
    looked: u32,
    /// Its number in the fleet.
    number: u32,
}

enum Urgency {
    /// An open case, so many days before its deadline; 0 also after it.
    Near(u8),
    NeverSeen,
    Rest,
}

impl Turn {
    /// Sorts by urgency, then by the last look, then by number.
    fn key(&self) -> [u8; 10] {
        let (urgency, days) = match self.urgency {
            Urgency::Near(days) => (0, days),
            Urgency::NeverSeen => (1, 0),
            Urgency::Rest => (2, 0),
        };
        let mut key = [urgency, days, 0, 0, 0, 0, 0, 0, 0, 0];
        key[2..6].copy_from_slice(&self.looked.to_be_bytes());
        key[6..].copy_from_slice(&self.number.to_be_bytes());
        key
    }

    fn number_of(key: &[u8]) -> usize {
        key.iter().skip(6).fold(0, |number, byte| number << 8 | usize::from(*byte))
    }
}

/// The order of a scan of those that are `chosen`. `since`: this scan was cut short before, and whom it has looked at since
/// that instant is left out.
///
/// # Errors
/// When the store fails.
pub async fn order(
    ctx: &Context,
    chosen: impl Fn(&CustomerId) -> bool,
    since: Option<Timestamp>,
) -> anyhow::Result<Turns> {
    const SORT: &str = "cannot sort the order of the scan in a temporary file";
    let snapshot = ctx.snapshot.as_ref();
    let now = ctx.now();
    let members = &snapshot.fleet.members;
    let mut turns = Sorter::new(snapshot.config.state.directory());
    let mut left = 0;
    let mut known = vec![false; members.len()];
    let mut after: Option<CustomerId> = None;
    loop {
        let page = ctx.store.scan_turns(after.as_ref(), PAGE).await.context("cannot read the order of the scan")?;
        let Some(last) = page.last() else { break };
        after = Some(last.customer.clone());
        for state in &page {
            let Some(number) = snapshot.number(&state.customer).filter(|_| chosen(&state.customer)) else { continue };
            known[number] = true;
            // An instant after now is one from before the clock was set back.
            let done = since.is_some_and(|since| state.scanned_at.is_some_and(|at| at >= since && at <= now));
            if !done {
                turns.push(&turn(snapshot, state, number, now).key(), &[]).context(SORT)?;
                left += 1;
            }
        }
    }
    // Before the first scan that writes, the store knows nobody.
    for number in (0..members.len()).filter(|number| !known[*number]) {
        if chosen(&members.id_at(number)) {
            let turn = Turn { urgency: Urgency::NeverSeen, looked: 0, number: place(number) };
            turns.push(&turn.key(), &[]).context(SORT)?;
            left += 1;
        }
    }
    Ok(Turns { sorted: Some(turns.sorted().context(SORT)?), left })
}

fn turn(snapshot: &Snapshot, state: &ScanTurn, number: usize, now: Timestamp) -> Turn {
    let today = snapshot.config.calendar.day(now);
    // Only of those with an open case: it is unpacked for it.
    let customer = (!state.open.is_empty()).then(|| snapshot.fleet.members.customer_at(number));
    let left = |id: &CampaignId| {
        let campaign = snapshot.config.campaigns.iter().map(|c| &c.campaign).find(|c| c.id == *id)?;
        Some((campaign.deadline_of(customer.as_ref()?) - today).num_days())
    };
    let nearest = state.open.iter().filter_map(left).min().filter(|days| *days <= NEAR);
    let urgency = match (nearest, state.scanned_at) {
        (Some(days), _) => Urgency::Near(u8::try_from(days.max(0)).unwrap_or(u8::MAX)),
        (None, None) => Urgency::NeverSeen,
        (None, Some(_)) => Urgency::Rest,
    };
    let looked = state.scanned_at.filter(|at| *at <= now).map_or(0, |at| u32::try_from(at.timestamp()).unwrap_or(0));
    Turn { urgency, looked, number: place(number) }
}

/// A customers file has no four thousand million rows.
fn place(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urgent_first_then_new_then_by_age() {
        let turn = |urgency, looked, number| Turn { urgency, looked, number };
        let expected = [
            turn(Urgency::Near(0), 50, 3),
            turn(Urgency::Near(7), 10, 1),
            turn(Urgency::NeverSeen, 0, 0),
            turn(Urgency::Rest, 5, 900_000),
            turn(Urgency::Rest, 5, 900_001),
            turn(Urgency::Rest, 256, 2),
        ];
        assert!(expected.windows(2).all(|pair| pair[0].key() < pair[1].key()));
        for turn in &expected {
            assert_eq!(Turn::number_of(&turn.key()), turn.number as usize);
        }
    }
}
