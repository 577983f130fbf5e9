//! What came back: reads the mailbox for it, finds out which delivery a report is about, and draws the conclusion.
//!
//! A report counts only if it is proven to be about a mail of ours: it came to an envelope sender whose mark carries our MAC, or it
//! holds the Message-ID *and* the Date of a message we sent (the identifier alone can be computed by a stranger), and it
//! speaks of an address that mail went to. Everything else changes nothing. Mails are marked as seen, never deleted.
//!
//! Dead contacts get no more mail. The notice that came back counts as told; when every `email` of a customer is dead, the
//! next pass tells `fallback_email` the same notice, under a key of its own ([`FALLBACK`]), so once.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context as _;
use aws_lc_rs::{hmac, rand};
use chrono::NaiveDate;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Context, RUN_LEASE, Snapshot, cluster};
use crate::config::BouncesConfig;
use crate::domain::alert::Cause;
use crate::domain::campaign::Campaign;
use crate::domain::case::{Case, Reference};
use crate::domain::customer::{Address, Customer};
use crate::domain::delivery::{DeliveryId, DeliveryState};
use crate::domain::plan::{self, Due, Planned};
use crate::domain::site::CustomerId;
use crate::mail::bounce::{self, Class, Report, Returned};
use crate::mail::mailbox::{self, Mailbox, MailboxError};
use crate::store::{
    Begun, BounceFinding, Claimed, DeadContact, Delivery, NewAlert, OutboxFilter, Run, RunCounts, RunKind, RunOutcome,
    Store, contact_fingerprint,
};

/// The memo that holds the key of the marks. It proves nothing but "we wrote to this case once", and lives as long as
/// the deliveries it is about: in the state.
const KEY_MEMO: &str = "bounces.key";

/// The memo that holds what of the mailbox was dealt with, where it does not remember that itself.
const POSITION_MEMO: &str = "bounces.position";

/// How long one run reads; the rest is the next one's. A mailbox that answers a word a minute must not keep a scan waiting.
const RUN_TIME: Duration = Duration::from_secs(300);

/// How much longer a mailbox may take when the daemon is told to stop.
const STOP_WAIT: Duration = Duration::from_secs(2);

/// The memo that says whether the last run could not read the mailbox.
const FAILED_MEMO: &str = "bounces.failed";

/// Behind the occasion of a notice that is told again, to `fallback_email`.
pub const FALLBACK: &str = "+fallback";

// --- the envelope sender ---------------------------------------------------------------------------------------------

/// The marked envelope sender of a case's mails: `bounces+kg0000aaaa-MAC@…`. The same for every mail of a case, because
/// greylisting servers let a sender they know pass.
///
/// # Errors
/// When the store fails.
pub async fn sender(ctx: &Context, reference: &Reference) -> anyhow::Result<Address> {
    let base = &ctx.snapshot.config.mail.envelope_from;
    let mark: String = reference.0.chars().filter(|c| *c != '-').collect::<String>().to_ascii_lowercase();
    let mac = mac(&key(ctx).await?, &mark);
    let (local, domain) = base.as_str().rsplit_once('@').context("the envelope sender has no @")?;
    Address::new(&format!("{local}+{mark}-{mac}@{domain}")).context("mail.envelope_from cannot be marked")
}

async fn key(ctx: &Context) -> anyhow::Result<hmac::Key> {
    let known = ctx.store.memo(KEY_MEMO).await?;
    let text = match known {
        Some(text) => text,
        None => {
            let mut bytes = [0_u8; 32];
            rand::fill(&mut bytes).ok().context("the system has no randomness")?;
            let text = hex(&bytes);
            ctx.store.set_memo(KEY_MEMO, &text).await?;
            text
        }
    };
    Ok(hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes()))
}

fn mac(key: &hmac::Key, mark: &str) -> String {
    hex(&hmac::sign(key, mark.as_bytes()).as_ref()[..10])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The case that a marked address stands for, if the mark is ours.
fn reference_of(key: &hmac::Key, base: &Address, address: &str) -> Option<Reference> {
    let (local, domain) = base.as_str().rsplit_once('@')?;
    let (came_local, came_domain) = address.rsplit_once('@')?;
    let (name, mark) = came_local.split_once('+')?;
    let (mark, claimed) = mark.split_once('-')?;
    let ours = name.eq_ignore_ascii_case(local) && came_domain.eq_ignore_ascii_case(domain) && mark.len() == 10;
    // Compared in whole: sixteen good digits are as far from good as none.
    if !ours || !mark.is_ascii() || mac(key, mark) != claimed {
        return None;
    }
    let mark = mark.to_ascii_uppercase();
    Some(Reference(format!("{}-{}-{}", &mark[..2], &mark[2..6], &mark[6..])))
}

// --- contacts --------------------------------------------------------------------------------------------------------

/// The contacts whose address is dead, by customer.
#[derive(Debug, Default)]
pub struct Dead(BTreeMap<CustomerId, BTreeSet<String>>);

impl Dead {
    /// As the store knows them now.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn load(ctx: &Context) -> anyhow::Result<Self> {
        Ok(Self::of(&ctx.store.dead_contacts().await?))
    }

    /// These.
    #[must_use]
    pub fn of(contacts: &[DeadContact]) -> Self {
        let mut all: BTreeMap<CustomerId, BTreeSet<String>> = BTreeMap::new();
        for contact in contacts {
            all.entry(contact.customer.clone()).or_default().insert(contact.fingerprint.clone());
        }
        Self(all)
    }

    /// Nobody has one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Who has a dead contact.
    pub fn customers(&self) -> impl Iterator<Item = &CustomerId> {
        self.0.keys()
    }

    fn living(&self, customer: &CustomerId, addresses: &[Address]) -> Vec<Address> {
        let dead = |a: &&Address| {
            self.0.get(customer).is_some_and(|dead| dead.contains(&contact_fingerprint(customer, a.as_str())))
        };
        addresses.iter().filter(|a| !dead(a)).cloned().collect()
    }

    /// The customer with the contacts that can be reached: `fallback_email` in the place of `email` once all of it is
    /// dead, and without that those who get copies. `None`: nobody is left.
    #[must_use]
    pub fn reachable<'a>(&self, customer: &'a Customer) -> Option<Cow<'a, Customer>> {
        if !self.0.contains_key(&customer.id) {
            return Some(Cow::Borrowed(customer));
        }
        let living = |addresses: &[Address]| self.living(&customer.id, addresses);
        let (mut email, mut cc) = (living(&customer.email), living(&customer.cc));
        if email.is_empty() {
            email = living(&customer.fallback_email);
        }
        if email.is_empty() {
            email = std::mem::take(&mut cc);
        }
        (!email.is_empty()).then(|| Cow::Owned(Customer { email, cc, ..customer.clone() }))
    }
}

/// Forgets dead contacts whose address is not in the customers file any more: one that is written there again is new.
///
/// # Errors
/// When the store fails.
pub async fn forget_changed(ctx: &Context) -> anyhow::Result<()> {
    let gone: Vec<DeadContact> =
        ctx.store.dead_contacts().await?.into_iter().filter(|contact| !in_file(&ctx.snapshot, contact)).collect();
    for contact in &gone {
        tracing::info!(customer = %contact.customer, "the dead contact {} is not in the customers file any more", contact.masked);
    }
    if !gone.is_empty() {
        ctx.store.forget_contacts(&gone).await?;
        super::alert::of_contacts(ctx).await;
    }
    Ok(())
}

/// A customer whose row has an error says nothing of its contacts.
#[must_use]
pub fn in_file(snapshot: &Snapshot, contact: &DeadContact) -> bool {
    snapshot.customers.get(&contact.customer).is_none_or(|customer| {
        let mut all = customer.email.iter().chain(&customer.cc).chain(&customer.fallback_email);
        all.any(|a| contact_fingerprint(&customer.id, a.as_str()) == contact.fingerprint)
    })
}

/// The notices to tell again: of customers with an open case whose every `email` is dead, the last notice of the round, if
/// it went to none of the living `fallback_email`. `planned` customers get one today anyway, and there.
///
/// # Errors
/// When the store fails.
pub async fn told_again(
    store: &dyn Store,
    snapshot: &Snapshot,
    campaigns: &[Campaign],
    dead: &Dead,
    cases: &[Case],
    planned: &[Planned],
) -> anyhow::Result<Vec<Planned>> {
    let mut again: Vec<Planned> = Vec::new();
    for case in cases {
        // First, since of a large fleet few are dead: what follows goes through all that is planned.
        if !dead.0.contains_key(&case.customer) {
            continue;
        }
        let Some(customer) = snapshot.customers.get(&case.customer) else { continue };
        let served = planned.iter().chain(&again).any(|p| p.customer == case.customer);
        if served || !customer.notify {
            continue;
        }
        let fallback = dead.living(&customer.id, &customer.fallback_email);
        if fallback.is_empty() || !dead.living(&customer.id, &customer.email).is_empty() {
            continue;
        }
        let filter = OutboxFilter { customer: Some(case.customer.clone()), ..OutboxFilter::default() };
        let deliveries = store.deliveries(&filter).await?;
        let Some(campaign) = campaigns.iter().find(|c| c.id == case.campaign) else { continue };
        let Some(last) = deliveries.iter().find(|d| of_round(d, case)) else { continue };
        let reached = last.recipients.iter().any(|r| fallback.contains(&r.address));
        if reached || last.facts.key.occasion.ends_with(FALLBACK) || !is_over(last) {
            continue;
        }
        let milestone = last.facts.milestone.as_ref();
        let due = Due {
            kind: last.facts.key.kind,
            round: case.round,
            milestone: milestone.and_then(|text| campaign.reminders.iter().find(|m| m.to_string() == *text).copied()),
            occasion: format!("{}{FALLBACK}", last.facts.key.occasion),
            deadline: campaign.deadline_of(&customer),
            previous_deadline: None,
            because: format!(
                "the notice of {} came back, every address of the customer is dead: told to fallback_email",
                last.facts.day
            ),
        };
        let sites = case.standing(due.kind.speaks_of()).map(|(name, _)| name.clone()).collect();
        let (customer, campaign) = (case.customer.clone(), case.campaign.clone());
        again.push(Planned { customer, campaign, due, sites, held: None });
    }
    Ok(again)
}

/// Everything that a pass on that day would make of these cases, what is told again included.
///
/// # Errors
/// When the store fails.
pub async fn planned(
    store: &dyn Store,
    snapshot: &Snapshot,
    campaigns: &[Campaign],
    cases: &[Case],
    day: NaiveDate,
) -> anyhow::Result<Vec<Planned>> {
    let calendar = &snapshot.config.calendar;
    let mut planned = plan::plan(cases, &*snapshot.customers, campaigns, calendar, snapshot.policy(), day).planned;
    if calendar.day_off(day).is_none() {
        let dead = Dead::of(&store.dead_contacts().await?);
        planned.extend(told_again(store, snapshot, campaigns, &dead, cases, &planned).await?);
    }
    Ok(planned)
}

fn of_round(delivery: &Delivery, case: &Case) -> bool {
    let key = &delivery.facts.key;
    key.campaign == case.campaign && key.round == case.round && delivery.state != DeliveryState::Dropped
}

fn is_over(delivery: &Delivery) -> bool {
    matches!(delivery.state, DeliveryState::Sent | DeliveryState::Unknown | DeliveryState::Failed)
}

/// Whether a due notice is one that is told again.
#[must_use]
pub fn is_told_again(due: &Due) -> bool {
    due.occasion.ends_with(FALLBACK)
}

// --- reading ---------------------------------------------------------------------------------------------------------

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
pub async fn read(
    ctx: &Context,
    due_at: Option<crate::domain::Timestamp>,
    stop: &CancellationToken,
) -> anyhow::Result<Bounces> {
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
    run: crate::store::RunId,
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
    run: crate::store::RunId,
    stop: &CancellationToken,
    counts: &mut BTreeMap<&'static str, u64>,
) -> anyhow::Result<()> {
    let key = key(ctx).await?;
    let end = Instant::now() + RUN_TIME;
    while !stop.is_cancelled() && Instant::now() < end {
        let Some(next) = unless_stopped(stop, mailbox.next()).await else { break };
        let Some(mail) = next? else { break };
        let parse = move || (hex(&Sha256::digest(&mail)), bounce::read(&mail));
        let (digest, report) = tokio::task::spawn_blocking(parse).await.context("reading a bounce broke off")?;
        let word = take_in(ctx, &key, &digest, &report).await?;
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
            (_, Some(error)) => {
                if failed_before || !error.passes() {
                    let detail = crate::alert::without_paths(&chain(error));
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

/// The error with its causes in one line.
fn chain(error: &MailboxError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// One mail, to its end; the word to count it under.
async fn take_in(ctx: &Context, key: &hmac::Key, digest: &str, report: &Report) -> anyhow::Result<&'static str> {
    let ours = deliveries_of(ctx, key, report).await?;
    if ours.is_empty() {
        if report.class != Class::Unrelated {
            tracing::info!(class = report.class.as_str(), "a report that is about no mail of ours changes nothing");
        }
        ctx.store.record_bounce(digest, "unmatched", &[], ctx.now()).await?;
        return Ok("unmatched");
    }
    let mut findings = Vec::new();
    let mut class = Class::Unrelated;
    for returned in &report.recipients {
        if let Some((delivery, address)) = recipient_of(&ours, returned) {
            class = class.min(returned.class);
            findings.extend(finding(ctx, delivery, Some(address), returned.class, &returned.said));
        }
    }
    // One that names nobody, or nobody we wrote to: it is ours, but proves nothing about an address.
    if findings.is_empty() {
        class = match report.class {
            Class::Dead | Class::Filtered | Class::Soft | Class::Unsure => Class::Unsure,
            other => other,
        };
        let said = "it names no address that the mail went to";
        findings.extend(finding(ctx, &ours[0].delivery, None, class, said));
    }
    if ctx.store.record_bounce(digest, class.as_str(), &findings, ctx.now()).await? {
        for finding in &findings {
            log(&ours, finding, class);
        }
        let of_us = findings.iter().filter(|finding| finding.word == Class::OwnFault.as_str());
        let told = |finding: &BounceFinding| {
            let claimed = ours.iter().find(|c| c.delivery.id == finding.delivery)?;
            Some((claimed.delivery.facts.key.clone(), finding.delivery, finding.text.clone()))
        };
        super::alert::of_own_fault(ctx, of_us.filter_map(told)).await;
    }
    Ok(class.as_str())
}

/// The deliveries that the report is proven to be about, the likeliest first.
async fn deliveries_of(ctx: &Context, key: &hmac::Key, report: &Report) -> anyhow::Result<Vec<Claimed>> {
    let base = &ctx.snapshot.config.mail.envelope_from;
    let marked = report.came_to.iter().find_map(|address| reference_of(key, base, address));
    let mut ours = Vec::new();
    if let Some(reference) = &marked {
        for id in ctx.store.deliveries_of_reference(&reference.0).await? {
            ours.extend(sent(ctx, id).await?);
        }
        ours.sort_by_key(|c| !report.message_ids.contains(&c.delivery.message_id));
        return Ok(ours);
    }
    for id in &report.message_ids {
        if let Some(id) = ctx.store.delivery_of_message_id(id).await?
            && let Some(claimed) = sent(ctx, id).await?
        {
            let date = bounce::date_of(&claimed.message.raw);
            if date.is_some_and(|date| report.dates.contains(&date)) {
                ours.push(claimed);
            }
        }
    }
    Ok(ours)
}

async fn sent(ctx: &Context, id: DeliveryId) -> anyhow::Result<Option<Claimed>> {
    let found = ctx.store.delivery(id).await?.map(|(claimed, _)| claimed);
    Ok(found.filter(|c| c.delivery.attempts > 0))
}

fn recipient_of<'a>(ours: &'a [Claimed], returned: &Returned) -> Option<(&'a Delivery, &'a Address)> {
    let named = |a: &&Address| {
        a.as_str().eq_ignore_ascii_case(&returned.address)
            || returned.original.as_ref().is_some_and(|original| a.as_str().eq_ignore_ascii_case(original))
    };
    ours.iter().find_map(|c| c.delivery.recipients.iter().map(|r| &r.address).find(named).map(|a| (&c.delivery, a)))
}

fn finding(
    ctx: &Context,
    delivery: &Delivery,
    address: Option<&Address>,
    class: Class,
    said: &str,
) -> Option<BounceFinding> {
    let words = match class {
        Class::Unrelated => return None,
        Class::Dead => "the address is dead",
        Class::OwnFault => "the recipient's server refuses us",
        Class::Complaint => "reported as spam",
        Class::Filtered => "refused by a filter or rule",
        Class::Unsure => "came back, and why is unclear",
        Class::Soft => "came back for a passing reason",
        Class::Delay => "is delayed on its way",
        Class::AutoReply => "a machine answered",
    };
    let whom = address.map_or_else(String::new, |a| format!("{}: ", a.masked()));
    let customer = &delivery.facts.key.customer;
    let dead = address.filter(|_| class == Class::Dead).map(|address| DeadContact {
        customer: customer.clone(),
        fingerprint: contact_fingerprint(customer, address.as_str()),
        masked: address.masked(),
        since: ctx.now(),
        why: said.to_owned(),
        delivery: delivery.id,
    });
    // What these say is that the mail did not arrive, whatever becomes of the address.
    let lost = matches!(class, Class::Dead | Class::Filtered | Class::OwnFault | Class::Soft);
    let came_back = address.filter(|_| lost).map(|address| (address.clone(), format!("{words}: {said}")));
    let text = format!("{whom}{words}: {said}");
    Some(BounceFinding { delivery: delivery.id, word: class.as_str(), text, came_back, dead })
}

fn log(ours: &[Claimed], finding: &BounceFinding, class: Class) {
    let customer = ours.iter().find(|c| c.delivery.id == finding.delivery).map(|c| &c.delivery.facts.key.customer);
    let customer = customer.map(CustomerId::as_str).unwrap_or_default();
    let (delivery, text) = (finding.delivery, &finding.text);
    match class {
        Class::Dead | Class::OwnFault => tracing::error!(%delivery, customer, "{text}"),
        Class::Complaint | Class::Filtered | Class::Unsure => tracing::warn!(%delivery, customer, "{text}"),
        Class::Soft | Class::Delay | Class::AutoReply | Class::Unrelated => {
            tracing::info!(%delivery, customer, "{text}")
        }
    }
}
