//! A store that fails or stops at its n-th point: one before and one after every call, so that what was asked is either not
//! done at all or done without anybody hearing of it. Or one that waits there, so that something can be done in between.
#![allow(clippy::unwrap_used, dead_code, reason = "each test file uses a part of it")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use chrono::NaiveDate;
use kigen::domain::Timestamp;
use kigen::domain::alert::Cause;
use kigen::domain::case::Case;
use kigen::domain::delivery::{Attempt, DeliveryId, DeliveryKey, DeliveryState, Recipient};
use kigen::domain::site::CustomerId;
use kigen::store::*;
use tokio::sync::Notify;

/// What happens at the point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call reports an error.
    Error,
    /// The process is dead from there on: no call comes back.
    Stop,
    /// The call waits for [`FaultyStore::go_on`].
    Wait,
}

pub struct FaultyStore {
    inner: Arc<dyn Store>,
    fault: Fault,
    at: usize,
    /// The point counts only if it is this one, such as `after claim`.
    only: Option<&'static str>,
    points: AtomicUsize,
    calls: AtomicUsize,
    dead: AtomicBool,
    hit: Notify,
    go_on: Notify,
    /// The point that was hit.
    place: std::sync::Mutex<Option<String>>,
}

impl FaultyStore {
    pub fn new(inner: Arc<dyn Store>, fault: Fault, at: usize) -> Arc<Self> {
        Self::counting(inner, fault, at, None)
    }

    /// At the n-th time (from 0) of that point, such as `after claim`.
    pub fn at_point(inner: Arc<dyn Store>, fault: Fault, point: &'static str, at: usize) -> Arc<Self> {
        Self::counting(inner, fault, at, Some(point))
    }

    fn counting(inner: Arc<dyn Store>, fault: Fault, at: usize, only: Option<&'static str>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            fault,
            at,
            only,
            points: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
            dead: AtomicBool::new(false),
            hit: Notify::new(),
            go_on: Notify::new(),
            place: std::sync::Mutex::new(None),
        })
    }

    /// Where it happened, if it has.
    pub fn hit(&self) -> Option<String> {
        self.place.lock().unwrap().clone()
    }

    /// The calls that were made so far, those that do not come back too.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// Waits until it happens.
    pub async fn wait(&self) {
        self.hit.notified().await;
    }

    /// Lets the call that waits do its work.
    pub fn go_on(&self) {
        self.go_on.notify_one();
    }

    async fn point(&self, when: &str, call: &str) -> Result<()> {
        if self.dead.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let counts = self.only.is_none_or(|only| only == format!("{when} {call}"));
        if !counts || self.points.fetch_add(1, Ordering::SeqCst) != self.at {
            return Ok(());
        }
        *self.place.lock().unwrap() = Some(format!("{:?} {when} {call}", self.fault));
        self.hit.notify_one();
        match self.fault {
            Fault::Error => Err(StoreError::Corrupt("a fault of the test".to_owned())),
            Fault::Stop => {
                self.dead.store(true, Ordering::SeqCst);
                std::future::pending().await
            }
            Fault::Wait => {
                self.go_on.notified().await;
                Ok(())
            }
        }
    }
}

/// One line a method of the trait: a new one is added to the list below.
macro_rules! faulty {
    (impl $of:ident { $(fn $name:ident(&$me:ident $(, $arg:ident: $ty:ty)*) -> $ret:ty;)* } $($rest:tt)*) => {
        #[async_trait]
        impl $of for FaultyStore {
            $(async fn $name(&$me $(, $arg: $ty)*) -> Result<$ret> {
                $me.calls.fetch_add(1, Ordering::SeqCst);
                $me.point("before", stringify!($name)).await?;
                let done = $me.inner.$name($($arg),*).await?;
                $me.point("after", stringify!($name)).await?;
                Ok(done)
            })*
            $($rest)*
        }
    };
}

faulty! {
    impl Cluster {
    fn beat(&self, node: &Node, alive_since: Timestamp, lease_until: Timestamp) -> Vec<Node>;
    fn leave(&self, name: &str) -> ();
    fn rest(&self, node: &Node) -> ();
    fn upgrade_waits(&self) -> bool;
    fn in_flight(&self, name: &str) -> bool;
    fn tell_host(&self, scope: &str, word: &HostWord) -> ();
    fn host_words(&self, scope: &str, since: Timestamp) -> Vec<HostWord>;
    fn nodes(&self) -> Vec<Node>;
    fn put_shares(&self, run: RunId, fleet: &str, shares: &[Vec<CustomerId>]) -> ();
    fn claim_share(&self, run: RunId, owner: &str, now: Timestamp, lease_until: Timestamp) -> NextShare;
    fn held_shares(&self, run: RunId, owner: &str, now: Timestamp) -> Vec<i64>;
    fn finish_share(&self, run: RunId, number: i64, owner: &str, now: Timestamp) -> bool;
    fn free_shares(&self, run: RunId, owner: &str) -> ();
    fn adopt_run(&self, run: RunId, owner: &str, now: Timestamp, lease_until: Timestamp) -> ();
    fn close_run(&self, run: RunId, outcome: RunOutcome, counts: RunCounts, detail: Option<&str>, now: Timestamp) -> bool;
    fn note_part(&self, run: RunId, taker: &str, report: &str) -> ();
    fn parts(&self, run: RunId) -> Vec<String>;
    fn note_logons(&self, run: RunId, accepted: bool, refused: u32) -> Guard;
    fn stop_run(&self, run: RunId, why: &str) -> ();
    fn scanned_since(&self, customers: &[CustomerId], since: Timestamp) -> std::collections::BTreeSet<CustomerId>;
    fn newly_affected(&self, since: Timestamp) -> u64;
    fn next_turn(&self) -> Option<Timestamp>;
    fn take_turn(&self, now: Timestamp, interval: chrono::TimeDelta, patience: chrono::TimeDelta) -> Option<Timestamp>;
    }
    fn shared(&self) -> bool {
        self.inner.shared()
    }
    async fn listen(&self, wake: &(dyn Fn(Word) + Send + Sync), stop: &tokio_util::sync::CancellationToken) {
        self.inner.listen(wake, stop).await;
    }
}

faulty! {
    impl Store {
    fn sync_customers(&self, entries: &mut (dyn Iterator<Item = Entry> + Send), at: Timestamp) -> ();
    fn customer_states(&self, ids: &[CustomerId]) -> Vec<CustomerState>;
    fn commit_looks(&self, changes: &[LookChange]) -> Vec<Committed>;
    fn open_cases(&self) -> Vec<Case>;
    fn cases_page(&self, day: NaiveDate, after: Option<&CustomerId>, limit: u32) -> CasesPage;
    fn commit_passes(&self, changes: &[PassChange]) -> Vec<Result<Committed>>;
    fn claim_several(&self, owner: &str, most: u32, now: Timestamp, lease_until: Timestamp) -> Vec<Claimed>;
    fn record_and_begin(&self, end: &AttemptEnd, next: &AttemptStart) -> (bool, Result<bool>);
    fn replace_message(&self, id: DeliveryId, owner: &str, message: &Message) -> bool;
    fn begin_attempt(&self, id: DeliveryId, owner: &str, now: Timestamp, lease_until: Timestamp) -> bool;
    fn record_attempt(&self, id: DeliveryId, owner: &str, attempt: &Attempt, state: &DeliveryState, recipients: &[Recipient], now: Timestamp) -> bool;
    fn release(&self, id: DeliveryId, owner: &str, not_before: Timestamp, why: &str, now: Timestamp) -> ();
    fn drop_claimed(&self, id: DeliveryId, owner: &str, why: &str, now: Timestamp) -> ();
    fn take_orphans(&self, owner: &str, all: bool, now: Timestamp, lease_until: Timestamp) -> Vec<Claimed>;
    fn free_claims(&self, owner: &str) -> u64;
    fn next_due(&self) -> Option<Timestamp>;
    fn last_attempt_at(&self) -> Option<Timestamp>;
    fn deliveries(&self, filter: &OutboxFilter) -> Vec<Delivery>;
    fn delivery(&self, id: DeliveryId) -> Option<(Claimed, Vec<AttemptRow>)>;
    fn thread(&self, key: &DeliveryKey) -> Vec<String>;
    fn act(&self, ids: &[DeliveryId], action: OutboxAction, by: &By) -> Vec<Acted>;
    fn outbox_counts(&self) -> Vec<(&'static str, u64)>;
    fn holds(&self) -> Vec<Hold>;
    fn set_hold(&self, hold: &Hold) -> ();
    fn clear_holds(&self, by: &By) -> Vec<Hold>;
    fn begin_run(&self, kind: RunKind, due_at: Option<Timestamp>, owner: &str, now: Timestamp, lease_until: Timestamp) -> Begun;
    fn extend_run(&self, id: RunId, counts: RunCounts, lease_until: Timestamp) -> ();
    fn finish_run(&self, id: RunId, outcome: RunOutcome, counts: RunCounts, detail: Option<&str>, now: Timestamp) -> ();
    fn interrupt_runs(&self, now: Timestamp) -> u64;
    fn last_run(&self, kind: RunKind, finished: bool) -> Option<Run>;
    fn last_scheduled(&self, kind: RunKind) -> Option<Run>;
    fn runs(&self, limit: u32) -> Vec<Run>;
    fn sites(&self, verdicts: &[String]) -> Vec<SiteRow>;
    fn site_counts(&self) -> SiteCounts;
    fn customer_count(&self) -> u64;
    fn history(&self, customer: &CustomerId) -> Option<Vec<HistoryEntry>>;
    fn memo(&self, key: &str) -> Option<String>;
    fn set_memo(&self, key: &str, value: &str) -> ();
    fn ping(&self) -> ();
    fn take_lead(&self, who: &str, now: Timestamp) -> Lead;
    fn backup(&self, to: &Path) -> ();
    fn cases_to_plan(&self, day: NaiveDate) -> Vec<Case>;
    fn scan_turns(&self, after: Option<&CustomerId>, limit: u32) -> Vec<ScanTurn>;
    fn note_scanned(&self, customers: &[&CustomerId], at: Timestamp) -> ();
    fn begun_first(&self, kind: RunKind, due_at: Timestamp, but: RunId) -> Option<Timestamp>;
    fn prune_observations(&self, before: Timestamp) -> u64;
    fn dead_contacts(&self) -> Vec<DeadContact>;
    fn delivery_of_message_id(&self, message_id: &str) -> Option<DeliveryId>;
    fn deliveries_of_reference(&self, reference: &str) -> Vec<DeliveryId>;
    fn record_bounce(&self, digest: &str, class: &str, findings: &[BounceFinding], at: Timestamp) -> bool;
    fn forget_contacts(&self, contacts: &[DeadContact]) -> ();
    fn revive_contacts(&self, contacts: &[DeadContact], by: &By) -> ();
    fn proofs(&self, customer: Option<&CustomerId>) -> Vec<Proof>;
    fn customer_lines(&self, filter: &CustomerFilter) -> Vec<CustomerLine>;
    fn customer_sheet(&self, id: &CustomerId) -> Option<CustomerSheet>;
    fn mail_lines(&self, filter: &MailFilter) -> Vec<MailLine>;
    fn site_counts_at(&self, at: Timestamp) -> SiteCounts;
    fn affected_moves(&self) -> Vec<(Timestamp, i64)>;
    fn concerns(&self, unreadable_after: u32) -> Concerns;
    fn deeds(&self, before: Option<i64>, limit: u32) -> Vec<Deed>;
    fn note_asked(&self, customer: &CustomerId, by: &By) -> ();
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

faulty! {
    impl Operators {
    fn raise(&self, alerts: &[NewAlert], at: Timestamp) -> ();
    fn over(&self, cause: Cause, still: &[String], at: Timestamp) -> ();
    fn untold_alerts(&self) -> Vec<AlertGroup>;
    fn alerts_of(&self, group: &AlertGroup, limit: u32) -> Vec<AlertRow>;
    fn tell(&self, group: &AlertGroup, mail: Option<&NewOperatorMail>, at: Timestamp) -> bool;
    fn queue_operator_mail(&self, mail: &NewOperatorMail, at: Timestamp) -> bool;
    fn claim_operator_mail(&self, owner: &str, now: Timestamp, lease_until: Timestamp) -> Option<SendingOperatorMail>;
    fn record_operator_mail(&self, id: i64, owner: &str, attempt: &Attempt, state: &DeliveryState, recipients: &[Recipient], now: Timestamp) -> ();
    fn free_operator_mails(&self, owner: &str, now: Timestamp) -> u64;
    fn operator_mails(&self, limit: u32) -> Vec<OperatorMail>;
    fn operator_mail_counts(&self) -> Vec<(String, u64)>;
    fn untold_customers(&self) -> Vec<Untold>;
    fn left_open(&self, after: Timestamp) -> (u64, u64);
    fn note_day(&self, day: &Day) -> ();
    fn days(&self, limit: u32) -> Vec<Day>;
    fn happened_since(&self, after: Timestamp, listed: u32) -> Vec<Happened>;
    }
}
