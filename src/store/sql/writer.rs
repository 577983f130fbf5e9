//! Group commit on SQLite: deliverers that write at the same time share one transaction, and so the wait for the disk.
//! (PostgreSQL does the same for its own writers, who need not take turns.)
//!
//! What they ask queues up here. A task of its own takes all that waits once the connection is its own, does each kind as a
//! set, commits once, and only then answers. So under load one commit carries as many answers as there were askers while
//! the one before it was on its way to the disk, and a lone asker waits no longer than it did alone. Where all that is asked
//! is to go on to the next mail, that is one statement (`flights`); what was written there lands with the next claim, or
//! when nothing is asked for a while.
//!
//! Invariants: nothing is answered as done before its commit is through; a batch is bounded and has no two entries of one
//! delivery; if a statement fails, nothing of the batch stands and everybody does its own by itself (`Answer::Alone`), so
//! that one bad row hurts nobody else; if the transaction cannot be begun or committed, all are told so. The work is no
//! part of the askers' futures: one that is dropped leaves no half transaction behind.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::TimeDelta;
use sqlx::SqlitePool;
use tokio::sync::{Notify, oneshot};

use crate::domain::Timestamp;
use crate::domain::delivery::DeliveryId;

use super::super::{AttemptEnd, AttemptStart, Claimed, Result, StoreError};
use super::flights::{self, Landing};
use super::outbox::Claim;
use super::{Tx, db, failed, sets};

/// Entries of one kind in one transaction: other writers of this process, and other processes, want their turn too.
const BATCH: usize = 64;

/// How long a mail on the wire is one that will soon be over. After that everybody is to see it.
const SOON: TimeDelta = TimeDelta::seconds(1);

const WHAT: &str = "write for several deliverers at once";

/// What an asker is told.
#[derive(Debug)]
pub(super) enum Answer<T> {
    /// It is done, and on disk.
    Done(T),
    /// It is not done, and nothing of it stands: to be done alone.
    Alone,
}

type Reply<T> = oneshot::Sender<Result<Answer<T>>>;

/// What is asked, and whom to tell.
struct Entry<A, T> {
    asked: A,
    reply: Reply<T>,
}

/// One ends, the next one begins.
type Joint = Entry<(AttemptEnd, AttemptStart), (bool, bool)>;

#[derive(Default)]
struct Waiting {
    claims: VecDeque<Entry<Claim, Vec<Claimed>>>,
    begins: VecDeque<Entry<AttemptStart, bool>>,
    records: VecDeque<Entry<AttemptEnd, bool>>,
    joints: VecDeque<Joint>,
}

/// The queue before the writer's connection.
#[derive(Clone)]
pub(super) struct Writer(Arc<Inner>);

struct Inner {
    pool: SqlitePool,
    queue: Mutex<Queue>,
    /// Somebody asks, or it is to end.
    called: Notify,
    /// Whoever has it writes.
    turn: tokio::sync::Mutex<()>,
    /// Mails of this process may be written where they have to land from.
    aloft: AtomicBool,
    ends: AtomicBool,
}

#[derive(Default)]
struct Queue {
    waiting: Waiting,
    /// There is a task that works it off.
    worked: bool,
}

impl Writer {
    pub(super) fn new(pool: SqlitePool) -> Self {
        Self(Arc::new(Inner {
            pool,
            queue: Mutex::default(),
            called: Notify::new(),
            turn: tokio::sync::Mutex::default(),
            aloft: false.into(),
            ends: false.into(),
        }))
    }

    pub(super) async fn claim(&self, asked: Claim) -> Result<Answer<Vec<Claimed>>> {
        self.ask(|waiting, reply| waiting.claims.push_back(Entry { asked, reply })).await
    }

    pub(super) async fn begin(&self, asked: AttemptStart) -> Result<Answer<bool>> {
        self.ask(|waiting, reply| waiting.begins.push_back(Entry { asked, reply })).await
    }

    pub(super) async fn record(&self, asked: AttemptEnd) -> Result<Answer<bool>> {
        self.ask(|waiting, reply| waiting.records.push_back(Entry { asked, reply })).await
    }

    pub(super) async fn record_and_begin(&self, end: AttemptEnd, next: AttemptStart) -> Result<Answer<(bool, bool)>> {
        self.ask(|waiting, reply| waiting.joints.push_back(Entry { asked: (end, next), reply })).await
    }

    /// What this process sent stands where it belongs. If it cannot be written there it stays where it is, and is not lost.
    pub(super) async fn settle(&self) {
        if !self.0.aloft.load(Ordering::Acquire) {
            return;
        }
        let _turn = self.0.turn.lock().await;
        if let Err(error) = self.0.land_all().await {
            tracing::warn!("what was sent still looks queued: {error}");
        }
    }

    /// Does what still waits; before the connection is closed.
    pub(super) async fn finish(&self) {
        self.0.ends.store(true, Ordering::Release);
        self.0.called.notify_one();
        while self.0.work().await {}
        self.settle().await;
    }

    async fn ask<T>(&self, put: impl FnOnce(&mut Waiting, Reply<T>)) -> Result<Answer<T>> {
        let (reply, answer) = oneshot::channel();
        let worked = {
            let mut queue = self.0.queue();
            put(&mut queue.waiting, reply);
            std::mem::replace(&mut queue.worked, true)
        };
        if worked {
            self.0.called.notify_one();
        } else {
            tokio::spawn(Task { of: Arc::clone(&self.0), done: false }.run());
        }
        // Without an answer nobody knows whether it was written: the asker must not think that it was not.
        answer.await.unwrap_or_else(|_| Err(failed(WHAT)(sqlx::Error::WorkerCrashed)))
    }
}

/// The one that works the queue off. Should it be ended from outside, who waits is told, and the next asker makes a new one.
struct Task {
    of: Arc<Inner>,
    done: bool,
}

impl Task {
    async fn run(mut self) {
        self.of.work_off().await;
        self.done = true;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if !self.done {
            *self.of.queue() = Queue::default();
        }
    }
}

impl Inner {
    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until nothing is asked, and nothing has to land, any more.
    async fn work_off(&self) {
        loop {
            while self.work().await {
                // Who was answered may ask again at once: then it is a part of the next batch, and not behind it.
                tokio::task::yield_now().await;
            }
            let lingers = self.aloft.load(Ordering::Acquire) && !self.ends.load(Ordering::Acquire);
            if lingers {
                let called =
                    tokio::time::timeout(SOON.to_std().unwrap_or_default(), self.called.notified()).await.is_ok();
                if !called {
                    let _turn = self.turn.lock().await;
                    if let Err(error) = self.land_all().await {
                        tracing::warn!("what was sent still looks queued: {error}");
                    }
                }
            }
            let mut queue = self.queue();
            if queue.waiting.is_empty() && !lingers {
                queue.worked = false;
                return;
            }
        }
    }

    /// One batch; `false`: nobody asks for anything.
    async fn work(&self) -> bool {
        let _turn = self.turn.lock().await;
        if self.queue().waiting.is_empty() {
            return false;
        }
        let joints_alone = self.queue().waiting.joints_alone();
        let batch = if joints_alone { self.go_on().await } else { Batch::default() };
        if joints_alone && batch.is_empty() {
            return true;
        }
        let begun = self.pool.begin_with("BEGIN IMMEDIATE").await;
        // Only now: whoever came while others were writing comes along.
        let batch = if joints_alone { batch } else { self.queue().waiting.take() };
        let mut tx = match begun {
            Ok(tx) => Tx::Sqlite(tx),
            Err(error) => {
                batch.fail(&error);
                return true;
            }
        };
        match batch.done(&mut tx, &self.aloft).await {
            Ok(done) => match tx.commit().await {
                Ok(()) => batch.answer(done),
                Err(error) => batch.fail(&error),
            },
            Err(error) => {
                tracing::debug!("a batch of {} writes is done one by one: {error}", batch.len());
                match tx.rollback().await {
                    Ok(()) => batch.leave(),
                    Err(error) => batch.fail(&error),
                }
            }
        }
        true
    }

    /// By one statement; what is left to be done otherwise.
    async fn go_on(&self) -> Batch {
        let connection = self.pool.acquire().await;
        let mut batch = self.queue().waiting.take_joints();
        let written = match connection {
            Ok(mut connection) => flights::go_on(db::Link::Sqlite(&mut connection), &batch.joints()).await,
            Err(error) => Err(failed(WHAT)(error)),
        };
        match written {
            Ok(written) => {
                self.aloft.store(true, Ordering::Release);
                batch.gone_on(&written);
                batch
            }
            Err(StoreError::Query { source, .. }) if refused(&source) => {
                tracing::debug!("{} mails go on one by one: {source}", batch.len());
                batch.leave();
                Batch::default()
            }
            Err(error) => {
                // Whether it stands is not known: who asked looks after both mails one by one.
                batch.fail(&sqlx::Error::Io(std::io::Error::other(error.to_string())));
                Batch::default()
            }
        }
    }

    async fn land_all(&self) -> Result<()> {
        flights::begin_landed(&self.pool, WHAT).await?.commit().await.map_err(failed(WHAT))?;
        self.aloft.store(false, Ordering::Release);
        Ok(())
    }
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.claims.is_empty() && self.begins.is_empty() && self.records.is_empty() && self.joints.is_empty()
    }

    /// Nothing is asked but to go on, and all of that can be written at once.
    fn joints_alone(&self) -> bool {
        let joints = self.joints.iter().take(BATCH);
        self.claims.is_empty()
            && self.begins.is_empty()
            && self.records.is_empty()
            && joints.map(|joint| &joint.asked.0).all(flights::fits)
    }

    /// The next batch of those alone.
    fn take_joints(&mut self) -> Batch {
        let mut seen = HashSet::new();
        let fits = |(end, next): &(AttemptEnd, AttemptStart)| {
            flights::fits(end) && seen.insert(end.id) && seen.insert(next.id)
        };
        Batch { joints: first(&mut self.joints, fits), ..Batch::default() }
    }

    /// The next batch, the first come first.
    fn take(&mut self) -> Batch {
        // Nobody would ever send what an asker that is gone claims now. A record is worth writing all the same.
        self.claims.retain(|entry| !entry.reply.is_closed());
        let claims = self.claims.drain(..self.claims.len().min(BATCH)).collect();
        let mut seen = HashSet::new();
        let records = first(&mut self.records, |record| seen.insert(record.id));
        let joints = first(&mut self.joints, |(end, next)| seen.insert(end.id) && seen.insert(next.id));
        let begins = first(&mut self.begins, |begin| seen.insert(begin.id));
        Batch { claims, begins, records, joints, ended: VecDeque::new() }
    }
}

/// The first of them, up to one that is not `wanted`.
fn first<A, T>(from: &mut VecDeque<Entry<A, T>>, mut wanted: impl FnMut(&A) -> bool) -> VecDeque<Entry<A, T>> {
    let many = from.iter().take(BATCH).take_while(|entry| wanted(&entry.asked)).count();
    from.drain(..many).collect()
}

/// What is done in one transaction.
#[derive(Default)]
struct Batch {
    claims: VecDeque<Entry<Claim, Vec<Claimed>>>,
    begins: VecDeque<Entry<AttemptStart, bool>>,
    records: VecDeque<Entry<AttemptEnd, bool>>,
    joints: VecDeque<Joint>,
    /// The first is on disk; the second may not begin, and its claim goes back.
    ended: VecDeque<Joint>,
}

/// What a batch came to, in the order of its entries.
struct Done {
    claims: Vec<Vec<Claimed>>,
    begins: Vec<bool>,
    records: Vec<bool>,
    joints: Vec<(bool, bool)>,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn len(&self) -> usize {
        self.claims.len() + self.begins.len() + self.records.len() + self.joints.len() + self.ended.len()
    }

    fn joints(&self) -> Vec<&(AttemptEnd, AttemptStart)> {
        self.joints.iter().map(|joint| &joint.asked).collect()
    }

    /// These deliveries' part of the joints is written, and on disk.
    fn gone_on(&mut self, written: &HashSet<DeliveryId>) {
        for joint in std::mem::take(&mut self.joints) {
            let (end, next) = &joint.asked;
            match (written.contains(&end.id), written.contains(&next.id)) {
                (true, true) => tell([joint], std::iter::once(Ok(Answer::Done((true, true))))),
                (true, false) => self.ended.push_back(joint),
                (false, _) => self.joints.push_back(joint),
            }
        }
    }

    /// Ends before beginnings, and what is to be claimed last: what was given back just now can be given out.
    async fn done(&self, tx: &mut Tx, aloft: &AtomicBool) -> Result<Done> {
        let joints = self.joints();
        let fitting: Vec<_> = joints.iter().copied().filter(|(end, _)| flights::fits(end)).collect();
        let written = flights::go_on(&mut *tx, &fitting).await?;
        let others: Vec<_> = joints.iter().copied().filter(|(end, _)| !written.contains(&end.id)).collect();
        let ends: Vec<_> = self.records.iter().map(|entry| &entry.asked).chain(others.iter().map(|(e, _)| e)).collect();
        if aloft.load(Ordering::Acquire) || !written.is_empty() {
            let here = ends.iter().map(|end| end.id).collect();
            flights::land(tx, &Landing::Over(self.latest() - SOON, here), WHAT).await?;
        }
        let mut records = sets::record(tx, &ends).await?;
        let begins: Vec<_> = self.begins.iter().map(|entry| &entry.asked).collect();
        let begins = sets::begin(tx, &begins).await?;
        let begun = flights::take_off(tx, &others.iter().map(|(_, next)| next).collect::<Vec<_>>()).await?;
        if !written.is_empty() || !begun.is_empty() {
            aloft.store(true, Ordering::Release);
        }
        let goes_on = |id| written.contains(id) || begun.contains(id);
        let not_begun = joints.iter().map(|(_, next)| next).filter(|next| !goes_on(&next.id));
        let lost: Vec<_> = not_begun.chain(self.ended.iter().map(|joint| &joint.asked.1)).collect();
        sets::give_back(tx, &lost).await?;
        let claims: Vec<_> = self.claims.iter().map(|entry| &entry.asked).collect();
        let claims = sets::claim(tx, &claims).await?;
        let mut kept = records.split_off(self.records.len()).into_iter();
        let joints = joints.iter().map(|(end, next)| {
            let kept = written.contains(&end.id) || kept.next().unwrap_or_default();
            (kept, goes_on(&next.id))
        });
        Ok(Done { claims, begins, records, joints: joints.collect() })
    }

    /// The latest instant that anybody named.
    fn latest(&self) -> Timestamp {
        let claims = self.claims.iter().map(|entry| entry.asked.now);
        let records = self.records.iter().map(|entry| entry.asked.at);
        let joints = self.joints.iter().chain(&self.ended).map(|joint| joint.asked.1.at);
        let begins = self.begins.iter().map(|entry| entry.asked.at);
        claims.chain(records).chain(joints).chain(begins).max().unwrap_or_default()
    }

    fn answer(self, done: Done) {
        tell(self.claims, done.claims.into_iter().map(|claimed| Ok(Answer::Done(claimed))));
        tell(self.begins, done.begins.into_iter().map(|begun| Ok(Answer::Done(begun))));
        tell(self.records, done.records.into_iter().map(|kept| Ok(Answer::Done(kept))));
        tell(self.joints, done.joints.into_iter().map(|both| Ok(Answer::Done(both))));
        tell_ended(self.ended);
    }

    fn leave(self) {
        tell(self.claims, std::iter::repeat_with(|| Ok(Answer::Alone)));
        tell(self.begins, std::iter::repeat_with(|| Ok(Answer::Alone)));
        tell(self.records, std::iter::repeat_with(|| Ok(Answer::Alone)));
        tell(self.joints, std::iter::repeat_with(|| Ok(Answer::Alone)));
        tell_ended(self.ended);
    }

    fn fail(self, error: &sqlx::Error) {
        tell(self.claims, std::iter::repeat_with(|| Err(copy(error))));
        tell(self.begins, std::iter::repeat_with(|| Err(copy(error))));
        tell(self.records, std::iter::repeat_with(|| Err(copy(error))));
        tell(self.joints, std::iter::repeat_with(|| Err(copy(error))));
        tell_ended(self.ended);
    }
}

/// That stands whatever happened since: a claim that was not given back runs out.
fn tell_ended(ended: VecDeque<Joint>) {
    tell(ended, std::iter::repeat_with(|| Ok(Answer::Done((true, false)))));
}

fn tell<A, T>(entries: impl IntoIterator<Item = Entry<A, T>>, answers: impl Iterator<Item = Result<Answer<T>>>) {
    for (entry, answer) in entries.into_iter().zip(answers) {
        // An asker that is gone hears nothing.
        let _ = entry.reply.send(answer);
    }
}

/// A row was refused (SQLITE_CONSTRAINT), and of its statement nothing stands.
fn refused(error: &sqlx::Error) -> bool {
    const CONSTRAINT: i32 = 19;
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<i32>().ok());
    code.is_some_and(|code| code & 0xff == CONSTRAINT)
}

/// One error for several.
fn copy(error: &sqlx::Error) -> StoreError {
    failed(WHAT)(sqlx::Error::Io(std::io::Error::other(error.to_string())))
}
