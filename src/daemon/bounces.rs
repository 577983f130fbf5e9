//! What came back: reads the bounce maildir, finds out which delivery a report is about, and draws the conclusion.
//!
//! A report counts only if it is proven to be about a mail of ours: it came to an envelope sender whose mark carries our MAC, or it
//! holds the Message-ID *and* the Date of a message we sent (the identifier alone can be computed by a stranger), and it
//! speaks of an address that mail went to. Everything else changes nothing. Mails are marked as seen, never deleted.
//!
//! Dead contacts get no more mail. The notice that came back counts as told; when every `email` of a customer is dead, the
//! next pass tells `fallback_email` the same notice, under a key of its own ([`FALLBACK`]), so once.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use aws_lc_rs::{hmac, rand};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::{Context, RUN_LEASE, Snapshot, cluster, mailing};
use crate::domain::case::{Case, Reference};
use crate::domain::customer::{Address, Customer};
use crate::domain::delivery::{DeliveryId, DeliveryState};
use crate::domain::plan::{Due, Planned};
use crate::domain::site::CustomerId;
use crate::mail::bounce::{self, Class, Report, Returned};
use crate::store::{
    Begun, BounceFinding, Claimed, DeadContact, Delivery, OutboxFilter, Run, RunCounts, RunKind, RunOutcome,
    contact_fingerprint,
};

/// Mails of one run; the rest is read by the next.
const RUN_MAX: usize = 5000;

/// The memo that holds the key of the marks. It proves nothing but "we wrote to this case once", and lives as long as
/// the deliveries it is about: in the state.
const KEY_MEMO: &str = "bounces.key";

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
        let mut all: BTreeMap<CustomerId, BTreeSet<String>> = BTreeMap::new();
        for contact in ctx.store.dead_contacts().await? {
            all.entry(contact.customer).or_default().insert(contact.fingerprint);
        }
        Ok(Self(all))
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
    ctx.store.forget_contacts(&gone).await?;
    Ok(())
}

/// A customer whose row has an error says nothing of its contacts.
fn in_file(snapshot: &Snapshot, contact: &DeadContact) -> bool {
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
    ctx: &Context,
    dead: &Dead,
    cases: &[Case],
    planned: &[Planned],
) -> anyhow::Result<Vec<Planned>> {
    let mut again: Vec<Planned> = Vec::new();
    for case in cases {
        let Some(customer) = ctx.snapshot.customers.get(&case.customer) else { continue };
        let served = planned.iter().chain(&again).any(|p| p.customer == case.customer);
        if !dead.0.contains_key(&customer.id) || served || !customer.notify {
            continue;
        }
        let fallback = dead.living(&customer.id, &customer.fallback_email);
        if fallback.is_empty() || !dead.living(&customer.id, &customer.email).is_empty() {
            continue;
        }
        let filter = OutboxFilter { customer: Some(case.customer.clone()), ..OutboxFilter::default() };
        let deliveries = ctx.store.deliveries(&filter).await?;
        let Ok(campaign) = mailing::campaign(&ctx.snapshot, &case.campaign) else { continue };
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
            deadline: campaign.deadline_of(customer),
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

/// Reads what is new in the maildir, for the schedule's time `due_at` or by command.
///
/// # Errors
/// When the maildir cannot be read or the store fails; what was dealt with stays so.
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
    let result = read_all(ctx, &config.maildir, run, stop, &mut counts).await;
    let (outcome, detail) = match &result {
        Err(error) => (RunOutcome::Failed, format!("{error:#}")),
        Ok(()) if stop.is_cancelled() => (RunOutcome::Interrupted, "stopped before its end".to_owned()),
        Ok(()) => (RunOutcome::Done, describe(&counts)),
    };
    let finished = ctx.store.finish_run(run, outcome, RunCounts::default(), Some(&detail), ctx.now()).await;
    result?;
    finished?;
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
    maildir: &Path,
    run: crate::store::RunId,
    stop: &CancellationToken,
    counts: &mut BTreeMap<&'static str, u64>,
) -> anyhow::Result<()> {
    let list = maildir.to_owned();
    let files = tokio::task::spawn_blocking(move || unseen(&list)).await.context("listing the maildir broke off")?;
    let files = files.with_context(|| format!("cannot read the bounce maildir {}", maildir.display()))?;
    let key = key(ctx).await?;
    for file in files {
        if stop.is_cancelled() {
            break;
        }
        let path = file.clone();
        let parsed = tokio::task::spawn_blocking(move || open(&path)).await.context("reading a bounce broke off")?;
        let (digest, report) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => {
                tracing::warn!("cannot read a mail in the bounce maildir, the next run tries again: {error}");
                continue;
            }
        };
        let word = take_in(ctx, &key, &digest, &report).await?;
        *counts.entry(word).or_default() += 1;
        let to = maildir.to_owned();
        tokio::task::spawn_blocking(move || mark_seen(&to, &file))
            .await
            .context("marking a bounce broke off")?
            .context("cannot mark a mail in the bounce maildir as seen")?;
        ctx.store.extend_run(run, RunCounts::default(), ctx.now() + cluster::lease(ctx, RUN_LEASE)).await?;
    }
    Ok(())
}

/// Mails without the flag S, in `new` and (put there by another reader) in `cur`.
fn unseen(maildir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for part in ["new", "cur"] {
        for entry in fs::read_dir(maildir.join(part))? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let seen = name.rsplit_once(":2,").is_some_and(|(_, flags)| flags.contains('S'));
            if !name.starts_with('.') && !seen && entry.file_type()?.is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    files.truncate(RUN_MAX);
    Ok(files)
}

fn open(path: &Path) -> std::io::Result<(String, Report)> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(bounce::READ_MAX as u64).read_to_end(&mut bytes)?;
    Ok((hex(&Sha256::digest(&bytes)), bounce::read(&bytes)))
}

fn mark_seen(maildir: &Path, file: &Path) -> std::io::Result<()> {
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (base, flags) = name.rsplit_once(":2,").map_or((name.as_str(), ""), |(base, flags)| (base, flags));
    let mut flags: Vec<char> = flags.chars().chain(['S']).collect();
    flags.sort_unstable();
    fs::rename(file, maildir.join("cur").join(format!("{base}:2,{}", flags.into_iter().collect::<String>())))
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
    Some(BounceFinding { delivery: delivery.id, word: class.as_str(), text: format!("{whom}{words}: {said}"), dead })
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
