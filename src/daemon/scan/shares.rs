//! A scan that is shared out: which customers this node looks at, and what all nodes saw together.
//!
//! Whoever begins the run puts its customers into shares, in their order; every node takes one after the other, until none
//! is left. A node that dies loses its shares when its lease runs out, and another one looks at those of its customers
//! that nobody has looked at in this run. The last one sums up.
//!
//! Invariant: what this node saw is written only while the share it belongs to is its own.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::turns::Turns;
use super::{Context, ScanReport, Snapshot};
use crate::daemon::{RUN_LEASE, cluster};
use crate::domain::Timestamp;
use crate::domain::layout::{self, HostLayouts, Layout, Misread};
use crate::domain::observation::{Reason, Verdict};
use crate::domain::site::CustomerId;
use crate::store::{NextShare, RunId, SiteCounts};

/// Customers in one share, at most: what the others look at again when a node dies, and how long the last one works alone.
const SHARE_MAX: usize = 128;

/// Shares of a small fleet, so that every node gets some.
const SHARES: usize = 64;

/// What is next for this node.
pub enum NextPart {
    /// These, by their number in the fleet.
    Look(Vec<usize>),
    /// Nothing just now: others work on what is left, and may die.
    Others,
    /// All is done.
    End,
}

/// This node's part in a shared-out run.
pub struct Shares {
    pub run: RunId,
    /// Under which name it notes what it saw: one for each time it joins, so that what it saw before, and lost or gave back,
    /// still counts.
    pub taker: String,
    /// When the run began: whom anybody looked at since then is done.
    pub since: Timestamp,
    /// Customers left in each share that is ours.
    left: BTreeMap<i64, usize>,
    of: HashMap<CustomerId, i64>,
}

impl Shares {
    #[must_use]
    pub fn new(ctx: &Context, run: RunId, since: Timestamp) -> Self {
        let taker = format!("{}/{}", ctx.owner, ctx.life.joined());
        Self { run, taker, since, left: BTreeMap::new(), of: HashMap::new() }
    }

    /// Shares a run out; from then on others join it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn put(&self, ctx: &Context, mut turns: Turns) -> anyhow::Result<()> {
        let size = turns.len().div_ceil(SHARES).clamp(1, SHARE_MAX);
        let mut shares: Vec<Vec<CustomerId>> = Vec::new();
        while turns.len() > 0 {
            let id = |number| ctx.snapshot.fleet.members.id_at(number);
            shares.push(turns.take(size)?.into_iter().map(id).collect());
        }
        ctx.store.put_shares(self.run, &fleet(&ctx.snapshot), &shares).await.context("cannot share the scan out")
    }

    /// The next customers to look at.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn next(&mut self, ctx: &Context) -> anyhow::Result<NextPart> {
        let now = ctx.now();
        let lease = now + cluster::lease(ctx, RUN_LEASE);
        let share = match ctx.store.claim_share(self.run, &ctx.owner, now, lease).await? {
            NextShare::Ours(share) => share,
            NextShare::Others => return Ok(NextPart::Others),
            NextShare::None => return Ok(NextPart::End),
        };
        let done = ctx.store.scanned_since(&share.customers, self.since).await?;
        let mut numbers = Vec::new();
        for customer in share.customers.into_iter().filter(|id| !done.contains(id)) {
            // The file is the one the shares were made from, so everybody is in it.
            if let Some(number) = ctx.snapshot.number(&customer) {
                numbers.push(number);
                self.of.insert(customer, share.number);
            }
        }
        if numbers.is_empty() {
            ctx.store.finish_share(self.run, share.number, &ctx.owner, ctx.now()).await?;
        } else {
            self.left.insert(share.number, numbers.len());
        }
        Ok(NextPart::Look(numbers))
    }

    /// The shares that were lost meanwhile (this node was frozen, or cut off): whoever has them now looks again.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn forget_lost(&mut self, ctx: &Context) -> anyhow::Result<()> {
        let held: BTreeSet<i64> = ctx.store.held_shares(self.run, &ctx.owner, ctx.now()).await?.into_iter().collect();
        let lost: Vec<i64> = self.left.keys().copied().filter(|number| !held.contains(number)).collect();
        for number in lost {
            tracing::warn!("share {number} of the scan was lost: another node looks at it now");
            self.left.remove(&number);
        }
        Ok(())
    }

    /// Whether what was seen of this customer may be written by us.
    #[must_use]
    pub fn is_ours(&self, customer: &CustomerId) -> bool {
        self.of.get(customer).is_none_or(|number| self.left.contains_key(number))
    }

    /// What was to be written of these customers is written.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn written(&mut self, ctx: &Context, customers: &[CustomerId]) -> anyhow::Result<()> {
        for customer in customers {
            let Some(number) = self.of.remove(customer) else { continue };
            let Some(left) = self.left.get_mut(&number) else { continue };
            *left -= 1;
            if *left == 0 {
                self.left.remove(&number);
                ctx.store.finish_share(self.run, number, &ctx.owner, ctx.now()).await?;
            }
        }
        Ok(())
    }
}

/// Recognises the customers file: nodes with different ones do not share a scan.
pub fn fleet(snapshot: &Snapshot) -> String {
    let mut digest = Sha256::new();
    let members = &snapshot.fleet.members;
    for member in (0..members.len()).map(|number| members.at(number)) {
        digest.update(member.customer.id.as_str());
        digest.update([0]);
        digest.update(&member.fingerprint);
        digest.update([0]);
    }
    digest.finalize().iter().take(16).map(|b| format!("{b:02x}")).collect()
}

/// What one node saw, as the others read it.
#[derive(Serialize, Deserialize)]
struct Part {
    customers: u64,
    sites: u64,
    unreadable: u64,
    verdicts: [u64; 5],
    asked: u64,
    not_asked: u64,
    known_before: u64,
    by_reason: BTreeMap<String, u64>,
    misread: PartMisread,
    layouts: Vec<PartLayouts>,
}

/// Of [`Misread`].
#[derive(Serialize, Deserialize)]
struct PartMisread {
    asked: u64,
    customers: u64,
    first: Vec<String>,
}

/// Of [`HostLayouts`]: each layout's parts, and how many customers have it.
#[derive(Serialize, Deserialize)]
struct PartLayouts {
    host: String,
    customers: u64,
    seen: Vec<(Vec<String>, u64)>,
}

/// Of one host a node tells the others no more layouts than this; what few customers have is no news.
const LAYOUTS_MAX: usize = 64;

/// Tells the others what this node saw.
pub fn part(report: &ScanReport, known_before: usize) -> String {
    let (sites, misread) = (&report.sites, &report.misread);
    let layouts = |host: &HostLayouts| {
        let mut seen: Vec<&(Layout, u64)> = host.seen.iter().collect();
        seen.sort_by_key(|(_, customers)| std::cmp::Reverse(*customers));
        let texts = |layout: &Layout| layout.parts().map(ToOwned::to_owned).collect();
        PartLayouts {
            host: host.host.clone(),
            customers: host.customers,
            seen: seen.into_iter().take(LAYOUTS_MAX).map(|(layout, n)| (texts(layout), *n)).collect(),
        }
    };
    let part = Part {
        customers: report.counts.customers,
        sites: report.counts.sites,
        unreadable: report.counts.unreadable,
        verdicts: [sites.affected, sites.switched, sites.consent_missing, sites.not_exchange_online, sites.unreadable],
        asked: report.asked,
        not_asked: report.not_asked,
        known_before: known_before as u64,
        by_reason: report.unreadable_by_reason.iter().map(|(r, n)| (r.as_str().to_owned(), *n)).collect(),
        misread: PartMisread {
            asked: misread.asked,
            customers: misread.customers,
            first: misread.first.iter().map(ToString::to_string).collect(),
        },
        layouts: report.layouts.iter().map(layouts).collect(),
    };
    serde_json::to_string(&part).expect("numbers and texts always make JSON")
}

/// What all nodes saw, and how many customers were known before.
///
/// # Errors
/// When the store fails.
pub async fn together(ctx: &Context, run: RunId) -> anyhow::Result<(ScanReport, usize)> {
    let (mut report, mut known_before) = (ScanReport::default(), 0_u64);
    for text in ctx.store.parts(run).await? {
        let Ok(part) = serde_json::from_str::<Part>(&text) else {
            tracing::warn!("a part of the scan cannot be read: a node of another version wrote it");
            continue;
        };
        report.counts.customers += part.customers;
        report.counts.sites += part.sites;
        report.counts.unreadable += part.unreadable;
        let [affected, switched, consent_missing, not_exchange_online, unreadable] = part.verdicts;
        let sites = report.sites;
        report.sites = SiteCounts {
            affected: sites.affected + affected,
            switched: sites.switched + switched,
            consent_missing: sites.consent_missing + consent_missing,
            not_exchange_online: sites.not_exchange_online + not_exchange_online,
            unreadable: sites.unreadable + unreadable,
        };
        report.asked += part.asked;
        report.not_asked += part.not_asked;
        known_before += part.known_before;
        for (word, n) in part.by_reason {
            if let Some(reason) = reason(&word) {
                *report.unreadable_by_reason.entry(reason).or_default() += n;
            }
        }
        let first = part.misread.first.iter().filter_map(|id| CustomerId::new(id).ok()).collect();
        report.misread.add(&Misread { asked: part.misread.asked, customers: part.misread.customers, first });
        for host in part.layouts {
            let seen = host.seen.into_iter().map(|(parts, customers)| (Layout::new(parts), customers)).collect();
            layout::add(&mut report.layouts, HostLayouts { host: host.host, customers: host.customers, seen });
        }
    }
    Ok((report, usize::try_from(known_before).unwrap_or(usize::MAX)))
}

fn reason(word: &str) -> Option<Reason> {
    Verdict::parse(Verdict::Unreadable(Reason::Timeout).as_str(), Some(word))?.reason()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_says_what_was_seen() {
        let mut report = ScanReport { asked: 3, ..ScanReport::default() };
        report.sites.add(Verdict::Unreadable(Reason::Dns), 2);
        report.unreadable_by_reason.insert(Reason::Dns, 2);
        let part: Part = serde_json::from_str(&part(&report, 7)).unwrap();
        assert_eq!((part.asked, part.known_before, part.verdicts), (3, 7, [0, 0, 0, 0, 2]));
        assert_eq!(part.by_reason.keys().filter_map(|word| reason(word)).collect::<Vec<_>>(), [Reason::Dns]);
    }
}
