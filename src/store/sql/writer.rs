//! Group commit on SQLite: deliverers that write at the same time share one transaction, and so the wait for the disk.
//! (PostgreSQL does the same for its own writers, who need not take turns.)
//!
//! What they ask queues up here. A task of its own begins a transaction, takes all that waits by then, does each kind as a
//! set (`sets`), commits once, and only then answers. So under load one commit carries as many answers as there were
//! askers while the one before it was on its way to the disk, and a lone asker waits no longer than it did alone.
//!
//! Invariants: nothing is answered as done before its commit is through; a batch is bounded and has no two entries of one
//! delivery; if a statement fails, nothing of the batch stands and everybody does its own by itself (`Answer::Alone`), so
//! that one bad row hurts nobody else; if the transaction cannot be begun or committed, all are told so. The work is no
//! part of the askers' futures: one that is dropped leaves no half transaction behind. However many ask, one task is at
//! work and at most one waits for its turn: were there one for each asker, all but one of every batch would pile up.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use sqlx::SqlitePool;
use tokio::sync::oneshot;

use super::super::{AttemptEnd, AttemptStart, Claimed, Result, StoreError};
use super::outbox::Claim;
use super::sets;
use super::{Tx, failed};

/// Entries of one kind in one transaction: other writers of this process, and other processes, want their turn too.
const BATCH: usize = 64;

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

#[derive(Default)]
struct Waiting {
    claims: VecDeque<Entry<Claim, Vec<Claimed>>>,
    begins: VecDeque<Entry<AttemptStart, bool>>,
    records: VecDeque<Entry<AttemptEnd, bool>>,
    /// One ends, the next one begins.
    joints: VecDeque<Entry<(AttemptEnd, AttemptStart), (bool, bool)>>,
    /// A task waits for its turn, and will take what is here by then.
    coming: bool,
}

/// The queue before the writer's connection.
#[derive(Clone)]
pub(super) struct Writer(Arc<Inner>);

struct Inner {
    pool: SqlitePool,
    waiting: Mutex<Waiting>,
    /// Whoever has it makes the next batch.
    turn: tokio::sync::Mutex<()>,
}

impl Writer {
    pub(super) fn new(pool: SqlitePool) -> Self {
        Self(Arc::new(Inner { pool, waiting: Mutex::default(), turn: tokio::sync::Mutex::default() }))
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

    /// Does what still waits; before the connection is closed.
    pub(super) async fn finish(&self) {
        while !self.0.waiting().is_empty() {
            self.0.work(None).await;
        }
        drop(self.0.turn.lock().await);
    }

    async fn ask<T>(&self, put: impl FnOnce(&mut Waiting, Reply<T>)) -> Result<Answer<T>> {
        let (reply, answer) = oneshot::channel();
        put(&mut self.0.waiting(), reply);
        self.0.come();
        // Without an answer nobody knows whether it was written: the asker must not think that it was not.
        answer.await.unwrap_or_else(|_| Err(failed(WHAT)(sqlx::Error::WorkerCrashed)))
    }
}

impl Inner {
    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a task for what waits, unless one is on its way.
    fn come(self: &Arc<Self>) {
        if std::mem::replace(&mut self.waiting().coming, true) {
            return;
        }
        let (inner, coming) = (Arc::clone(self), Coming(Arc::clone(self)));
        tokio::spawn(async move { inner.work(Some(coming)).await });
    }

    async fn work(self: &Arc<Self>, coming: Option<Coming>) {
        let _turn = self.turn.lock().await;
        // Before anything is taken: whoever comes too late for this batch sends the next one.
        drop(coming);
        if self.waiting().is_empty() {
            return;
        }
        let begun = self.pool.begin_with("BEGIN IMMEDIATE").await;
        // Only now: whoever came while others were writing comes along.
        let batch = self.waiting().take();
        if !self.waiting().is_empty() {
            self.come();
        }
        let mut tx = match begun {
            Ok(tx) => Tx::Sqlite(tx),
            Err(error) => return batch.fail(&error),
        };
        match batch.done(&mut tx).await {
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
    }
}

/// A task on its way to its turn; also one that is dropped before it comes there is on its way no more.
struct Coming(Arc<Inner>);

impl Drop for Coming {
    fn drop(&mut self) {
        self.0.waiting().coming = false;
    }
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn len(&self) -> usize {
        self.claims.len() + self.begins.len() + self.records.len() + self.joints.len()
    }

    /// The next batch, the first come first.
    fn take(&mut self) -> Self {
        // Nobody would ever send what an asker that is gone claims now. A record is worth writing all the same.
        self.claims.retain(|entry| !entry.reply.is_closed());
        let claims = self.claims.drain(..self.claims.len().min(BATCH)).collect();
        let mut seen = HashSet::new();
        let records = distinct(&mut self.records, |record| seen.insert(record.id));
        let joints = distinct(&mut self.joints, |(end, next)| seen.insert(end.id) && seen.insert(next.id));
        let begins = distinct(&mut self.begins, |begin| seen.insert(begin.id));
        Self { claims, begins, records, joints, coming: false }
    }

    /// Ends before beginnings, and what is to be claimed last: what was given back just now can be given out.
    async fn done(&self, tx: &mut Tx) -> Result<Done> {
        let ends = self.records.iter().map(|entry| &entry.asked);
        let ends: Vec<_> = ends.chain(self.joints.iter().map(|entry| &entry.asked.0)).collect();
        let mut records = sets::record(tx, &ends).await?;
        let begins = self.begins.iter().map(|entry| &entry.asked);
        let begins: Vec<_> = begins.chain(self.joints.iter().map(|entry| &entry.asked.1)).collect();
        let mut begins = sets::begin(tx, &begins).await?;
        let claims: Vec<_> = self.claims.iter().map(|entry| &entry.asked).collect();
        let claims = sets::claim(tx, &claims).await?;
        let joints = records.split_off(self.records.len()).into_iter().zip(begins.split_off(self.begins.len()));
        let joints = joints.collect();
        Ok(Done { claims, begins, records, joints })
    }

    fn answer(self, done: Done) {
        let ok = |done| Ok(Answer::Done(done));
        tell(self.claims, done.claims.into_iter().map(|claimed| Ok(Answer::Done(claimed))));
        tell(self.begins, done.begins.into_iter().map(ok));
        tell(self.records, done.records.into_iter().map(ok));
        tell(self.joints, done.joints.into_iter().map(|both| Ok(Answer::Done(both))));
    }

    fn leave(self) {
        tell(self.claims, std::iter::repeat_with(|| Ok(Answer::Alone)));
        tell(self.begins, std::iter::repeat_with(|| Ok(Answer::Alone)));
        tell(self.records, std::iter::repeat_with(|| Ok(Answer::Alone)));
        tell(self.joints, std::iter::repeat_with(|| Ok(Answer::Alone)));
    }

    fn fail(self, error: &sqlx::Error) {
        tell(self.claims, std::iter::repeat_with(|| Err(copy(error))));
        tell(self.begins, std::iter::repeat_with(|| Err(copy(error))));
        tell(self.records, std::iter::repeat_with(|| Err(copy(error))));
        tell(self.joints, std::iter::repeat_with(|| Err(copy(error))));
    }
}

/// The first of them up to one of a delivery that the batch has already.
fn distinct<A, T>(from: &mut VecDeque<Entry<A, T>>, mut new: impl FnMut(&A) -> bool) -> VecDeque<Entry<A, T>> {
    let many = from.iter().take(BATCH).take_while(|entry| new(&entry.asked)).count();
    from.drain(..many).collect()
}

/// What a batch came to, in the order of its entries.
struct Done {
    claims: Vec<Vec<Claimed>>,
    begins: Vec<bool>,
    records: Vec<bool>,
    joints: Vec<(bool, bool)>,
}

fn tell<A, T>(entries: VecDeque<Entry<A, T>>, answers: impl Iterator<Item = Result<Answer<T>>>) {
    for (entry, answer) in entries.into_iter().zip(answers) {
        // An asker that is gone hears nothing.
        let _ = entry.reply.send(answer);
    }
}

/// One error for several.
fn copy(error: &sqlx::Error) -> StoreError {
    failed(WHAT)(sqlx::Error::Io(std::io::Error::other(error.to_string())))
}
