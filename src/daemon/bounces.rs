//! What came back: reads the mailbox for it, finds out which delivery a report is about, and draws the conclusion.
//!
//! A report counts only if it is proven to be about a mail of ours: it came to an envelope sender whose mark carries our MAC, or it
//! holds the Message-ID *and* the Date of a message we sent (the identifier alone can be computed by a stranger), and it
//! speaks of an address that mail went to. Everything else changes nothing. Mails are marked as seen, never deleted.
//!
//! Dead contacts get no more mail. The notice that came back counts as told; when every `email` of a customer is dead, the
//! next pass tells `fallback_email` the same notice, under a key of its own ([`FALLBACK`]), so once.

mod again;
mod conclude;
mod dead;
mod mark;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::again::{FALLBACK, is_told_again, told_again};
pub use self::dead::{Dead, forget_changed, in_file};
pub use self::mark::sender;
use super::{Context, RUN_LEASE, cluster};
use crate::config::BouncesConfig;
use crate::domain::Timestamp;
use crate::domain::alert::Cause;
use crate::mail::bounce;
use crate::mail::mailbox::{self, Mailbox, MailboxError};
use crate::store::{Begun, NewAlert, Run, RunCounts, RunId, RunKind, RunOutcome};

/// The memo that holds what of the mailbox was dealt with, where it does not remember that itself.
const POSITION_MEMO: &str = "bounces.position";

/// How long one run reads; the rest is the next one's. A mailbox that answers a word a minute must not keep a scan waiting.
const RUN_TIME: Duration = Duration::from_secs(300);

/// How much longer a mailbox may take when the daemon is told to stop.
const STOP_WAIT: Duration = Duration::from_secs(2);

/// The memo that says whether the last run could not read the mailbox.
const FAILED_MEMO: &str = "bounces.failed";

/// What became of the wish to read.
#[derive(Debug)]
pub enum Bounces {
    /// It was read: mails by what they mean for us.
    Ran(BTreeMap<&'static str, u64>),
    /// This schedule time was read already.
    AlreadyDone,
    /// Another one reads.
    Running(Box<Run>),
    /// `[mail.bounces]` is not set.
    Off,
}

/// Reads what is new in the mailbox, for the schedule's time `due_at` or by command.
///
/// # Errors
/// When the mailbox cannot be read (which the operators are told) or the store fails; what was dealt with stays so.
pub async fn read(ctx: &Context, due_at: Option<Timestamp>, stop: &CancellationToken) -> anyhow::Result<Bounces> {
    let Some(config) = &ctx.snapshot.config.mail.bounces else { return Ok(Bounces::Off) };
    let now = ctx.now();
    let run = match ctx
        .store
        .begin_run(RunKind::Bounces, due_at, &ctx.owner, now, now + cluster::lease(ctx, RUN_LEASE))
        .await?
    {
        Begun::Started(run) => run,
        Begun::AlreadyDone => return Ok(Bounces::AlreadyDone),
        Begun::Running(run) => return Ok(Bounces::Running(run)),
    };
    let mut counts = BTreeMap::new();
    let result = read_all(ctx, config, run, stop, &mut counts).await;
    tell(ctx, &result).await;
    let (outcome, detail) = match &result {
        Err(error) => (RunOutcome::Failed, format!("{error:#}")),
        Ok(()) if stop.is_cancelled() => (RunOutcome::Interrupted, "stopped before its end".to_owned()),
        Ok(()) => (RunOutcome::Done, describe(&counts)),
    };
    let finished = ctx.store.finish_run(run, outcome, RunCounts::default(), Some(&detail), ctx.now()).await;
    result?;
    finished?;
    super::alert::of_contacts(ctx).await;
    Ok(Bounces::Ran(counts))
}

/// The mails by class, in words.
#[must_use]
pub fn describe(counts: &BTreeMap<&'static str, u64>) -> String {
    let words: Vec<String> = counts.iter().map(|(word, n)| format!("{n} {word}")).collect();
    if words.is_empty() { "no new mail".to_owned() } else { words.join(", ") }
}

async fn read_all(
    ctx: &Context,
    config: &BouncesConfig,
    run: RunId,
    stop: &CancellationToken,
    counts: &mut BTreeMap<&'static str, u64>,
) -> anyhow::Result<()> {
    let position = ctx.store.memo(POSITION_MEMO).await?;
    let Some(opened) = unless_stopped(stop, mailbox::open(config, position.as_deref())).await else { return Ok(()) };
    let mut mailbox = opened?;
    let read = read_mails(ctx, mailbox.as_mut(), run, stop, counts).await;
    // What went before a failure was dealt with, whatever failed.
    let position = mailbox.position();
    if read.is_ok() && !stop.is_cancelled() {
        mailbox.close().await;
    }
    if let Some(position) = position {
        ctx.store.set_memo(POSITION_MEMO, &position).await?;
    }
    read
}

async fn read_mails(
    ctx: &Context,
    mailbox: &mut dyn Mailbox,
    run: RunId,
    stop: &CancellationToken,
    counts: &mut BTreeMap<&'static str, u64>,
) -> anyhow::Result<()> {
    let key = mark::key(ctx).await?;
    let end = Instant::now() + RUN_TIME;
    while !stop.is_cancelled() && Instant::now() < end {
        let Some(next) = unless_stopped(stop, mailbox.next()).await else { break };
        let Some(mail) = next? else { break };
        let parse = move || (mark::hex(&Sha256::digest(&mail)), bounce::read(&mail));
        let (digest, report) = tokio::task::spawn_blocking(parse).await.context("reading a bounce broke off")?;
        let word = conclude::take_in(ctx, &key, &digest, &report).await?;
        *counts.entry(word).or_default() += 1;
        // In this order: a crash between means that a mail is read again, which its digest makes harmless.
        let Some(done) = unless_stopped(stop, mailbox.done()).await else { break };
        done?;
        ctx.store.extend_run(run, RunCounts::default(), ctx.now() + cluster::lease(ctx, RUN_LEASE)).await?;
    }
    Ok(())
}

/// What a mailbox says, unless the stop comes first: then it is waited for a moment longer at most. For mailboxes alone; what
/// is asked of the store is never left half-way.
async fn unless_stopped<T>(stop: &CancellationToken, asked: impl Future<Output = T>) -> Option<T> {
    let stopped = async {
        stop.cancelled().await;
        tokio::time::sleep(STOP_WAIT).await;
    };
    tokio::select! {
        answer = asked => Some(answer),
        () = stopped => None,
    }
}

/// Tells the operators of a mailbox that cannot be read: at once if somebody must act, else when it happens again.
async fn tell(ctx: &Context, result: &anyhow::Result<()>) {
    let told = async {
        let failed_before = ctx.store.memo(FAILED_MEMO).await?.is_some_and(|word| word == "yes");
        // The store's own failures are no mailbox's.
        let failure = result.as_ref().err().and_then(|error| error.downcast_ref::<MailboxError>());
        match (result, failure) {
            (Err(whole), Some(error)) => {
                if failed_before || !error.passes() {
                    let detail = crate::alert::without_paths(&format!("{whole:#}"));
                    let (cause, key, customer) = (Cause::BouncesUnread, String::new(), None);
                    ctx.store.raise(&[NewAlert { cause, key, customer, detail }], ctx.now()).await?;
                }
                ctx.store.set_memo(FAILED_MEMO, "yes").await
            }
            (Ok(()), None) if failed_before => {
                ctx.store.over(Cause::BouncesUnread, &[], ctx.now()).await?;
                ctx.store.set_memo(FAILED_MEMO, "no").await
            }
            _ => Ok(()),
        }
    };
    if let Err(error) = told.await {
        tracing::error!("an alert could not be written down: {:#}", anyhow::Error::from(error));
    }
}
