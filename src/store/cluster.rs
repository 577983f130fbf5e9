//! What several nodes on one state need: who is alive, how a scan is shared out, whose turn it is to send.
//!
//! Invariants: what a node has belongs to it as long as it beats, and to whoever claims it once its lease ran out; a share
//! is done once; instants are the nodes' own, so that their clocks must agree to a fraction of a lease (NTP).

use std::collections::BTreeSet;

use async_trait::async_trait;
use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;

use crate::domain::Timestamp;
use crate::domain::observation::Reason;
use crate::domain::site::CustomerId;

use super::{Result, RunCounts, RunId, RunOutcome};

/// A process that works on the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What its runs and claims are owned by.
    pub name: String,
    /// The program's version.
    pub version: String,
    /// When it started.
    pub started_at: Timestamp,
    /// When it gave a sign of life last.
    pub beat_at: Timestamp,
    /// It takes no work, as the schema is newer than it is, or is about to be.
    pub resting: bool,
}

/// What a node says of a host that its customers' tools are on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostWord {
    /// The host, with its port.
    pub host: String,
    /// When it was said.
    pub told_at: Timestamp,
    /// What.
    pub standing: HostStanding,
}

/// How a host stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostStanding {
    /// It answers.
    Well,
    /// It is left in peace until then.
    Paused {
        /// From when on one customer is tried.
        until: Timestamp,
        /// So many were tried in vain.
        probes: u32,
    },
    /// Nobody asks it any more.
    GivenUp {
        /// Why its customers are unreadable.
        reason: Reason,
        /// In words.
        detail: String,
    },
}

/// What the nodes wake each other for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Word {
    /// A mail may leave that could not before.
    Mail,
    /// A scan is shared out.
    Scan,
}

/// A part of a run's customers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Its number in the run.
    pub number: i64,
    /// Who is in it, in the order in which they are to be looked at.
    pub customers: Vec<CustomerId>,
}

/// What became of the wish for a share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextShare {
    /// It is ours.
    Ours(Share),
    /// All that are left are others'; they may come back.
    Others,
    /// All are done, or the run is over.
    None,
}

/// A run that is shared out, as far as all nodes must agree on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// Logons refused in a row, over all nodes.
    pub refused_row: u32,
    /// Why a guard stopped it, if one did.
    pub stopped: Option<String>,
}

/// Several nodes on one state.
#[async_trait]
pub trait Cluster {
    /// Whether other nodes may work on this state for long besides us. Then only a lease that ran out says that somebody is
    /// gone, and what is due is shared out.
    fn shared(&self) -> bool;

    /// A sign of life: what the node has (runs, shares, claims of deliveries and of mails to the operators whose owner is its
    /// name, or begins with it and a slash) stays its own until `lease_until`, unless its lease ran out already. Returns
    /// the nodes that gave a sign after `alive_since`.
    async fn beat(&self, node: &Node, alive_since: Timestamp, lease_until: Timestamp) -> Result<Vec<Node>>;

    /// A sign of life of a node that takes no work. The only thing that may be written whatever the schema is.
    async fn rest(&self, node: &Node) -> Result<()>;

    /// Whether a newer kigen waits for the nodes at work to rest, so that it can bring the schema up to date.
    async fn upgrade_waits(&self) -> Result<bool>;

    /// Whether a mail of this node or its workers is in flight.
    async fn in_flight(&self, name: &str) -> Result<bool>;

    /// Calls `wake` whenever anybody made something due (a mail that may leave, a hold set or cleared, a scan shared out),
    /// until told to stop. A word may be lost, doubled or late: it is no truth. Returns at once where nobody else works.
    async fn listen(&self, wake: &(dyn Fn(Word) + Send + Sync), stop: &CancellationToken);

    /// The node ends: it is in no listing any more, and what it has claimed and not begun is free. Of one that rests on a
    /// newer schema only the first is true.
    async fn leave(&self, name: &str) -> Result<()>;

    /// Every node, the one heard of last first.
    async fn nodes(&self) -> Result<Vec<Node>>;

    /// Shares a run out; from now on others may join it. `fleet` recognises the customers file it was made from.
    async fn put_shares(&self, run: RunId, fleet: &str, shares: &[Vec<CustomerId>]) -> Result<()>;

    /// Takes the next share that nobody has, or whose lease ran out.
    async fn claim_share(&self, run: RunId, owner: &str, now: Timestamp, lease_until: Timestamp) -> Result<NextShare>;

    /// The shares that are still ours.
    async fn held_shares(&self, run: RunId, owner: &str, now: Timestamp) -> Result<Vec<i64>>;

    /// Whoever is in the share was looked at. `false`: it was not ours any more.
    async fn finish_share(&self, run: RunId, number: i64, owner: &str, now: Timestamp) -> Result<bool>;

    /// Gives our shares back.
    async fn free_shares(&self, run: RunId, owner: &str) -> Result<()>;

    /// Takes over a shared-out run whose owner is gone. Nothing happens to one whose owner lives.
    async fn adopt_run(&self, run: RunId, owner: &str, now: Timestamp, lease_until: Timestamp) -> Result<()>;

    /// Ends a run as [`finish_run`](super::Store::finish_run) does. `false`: somebody else had ended it.
    async fn close_run(
        &self,
        run: RunId,
        outcome: RunOutcome,
        counts: RunCounts,
        detail: Option<&str>,
        now: Timestamp,
    ) -> Result<bool>;

    /// What one taker of a part (a node that joined once) has seen in a run so far, as its reader wants it; the last word
    /// counts.
    async fn note_part(&self, run: RunId, taker: &str, report: &str) -> Result<()>;

    /// What the nodes have seen in a run.
    async fn parts(&self, run: RunId) -> Result<Vec<String>>;

    /// Notes logons of one node: whether one was accepted since the last note, and how many were refused after it.
    async fn note_logons(&self, run: RunId, accepted: bool, refused: u32) -> Result<Guard>;

    /// A guard stops the run, on all nodes; the first reason stays.
    async fn stop_run(&self, run: RunId, why: &str) -> Result<()>;

    /// Which of these customers a scan looked at since that instant.
    async fn scanned_since(&self, customers: &[CustomerId], since: Timestamp) -> Result<BTreeSet<CustomerId>>;

    /// Customers with an affected site whose case was opened, or opened again, since that instant.
    async fn newly_affected(&self, since: Timestamp) -> Result<u64>;

    /// When the next mail may leave; `None`: none has left yet.
    async fn next_turn(&self) -> Result<Option<Timestamp>>;

    /// Takes the next turn, over all nodes: not before `now`, one `interval` after the one before it, and only if it comes
    /// within `patience`. `None`: it does not.
    async fn take_turn(&self, now: Timestamp, interval: TimeDelta, patience: TimeDelta) -> Result<Option<Timestamp>>;

    /// Says how a host stands, for all who ask for that `scope`; a word that is older than the last one is lost.
    async fn tell_host(&self, scope: &str, word: &HostWord) -> Result<()>;

    /// What was said of hosts since then.
    async fn host_words(&self, scope: &str, since: Timestamp) -> Result<Vec<HostWord>>;
}
