//! From a due notice to the whole mail: which sites it speaks of, its text, its message. Nothing here connects.

use anyhow::Context as _;

use super::{Context, Snapshot};
use crate::domain::Timestamp;
use crate::domain::campaign::{Campaign, CampaignId};
use crate::domain::case::Case;
use crate::domain::customer::{Address, Customer};
use crate::domain::delivery::DeliveryKey;
use crate::domain::plan::{Due, NoticeKind};
use crate::mail::message::{self, Parts};
use crate::notice::{Notice, NoticeSite, Rendered};
use crate::store::Message;

/// The key of a due notice.
#[must_use]
pub fn key(case: &Case, due: &Due) -> DeliveryKey {
    DeliveryKey {
        customer: case.customer.clone(),
        campaign: case.campaign.clone(),
        round: due.round,
        kind: due.kind,
        occasion: due.occasion.clone(),
    }
}

/// The sites a notice of that kind may speak of: those that stand so by a look not older than `not_before`.
///
/// A `resolved` notice also names the sites that the tool does not list any more.
#[must_use]
pub fn sites(case: &Case, kind: NoticeKind, not_before: Timestamp) -> Vec<NoticeSite> {
    case.standing(kind.speaks_of())
        .filter(|(_, site)| site.now.observed_at >= not_before || site.absent_scans > 0)
        .map(|(name, site)| NoticeSite {
            name: name.clone(),
            now: site.now.clone(),
            before: site.before.clone(),
            gone: site.absent_scans > 0,
        })
        .collect()
}

/// Whether every site the notice would speak of was seen at `not_before` or later.
#[must_use]
pub fn is_fresh(case: &Case, kind: NoticeKind, not_before: Timestamp) -> bool {
    case.standing(kind.speaks_of()).all(|(_, site)| site.now.observed_at >= not_before || site.absent_scans > 0)
}

/// One notice with everything it is made from.
pub struct Subject<'a> {
    /// The files.
    pub snapshot: &'a Snapshot,
    /// To whom.
    pub customer: &'a Customer,
    /// About what.
    pub case: &'a Case,
    /// What is due.
    pub due: &'a Due,
    /// The sites it speaks of.
    pub sites: Vec<NoticeSite>,
    /// Whether the customer's domain is federated; `None` = unknown.
    pub federated: Option<bool>,
}

/// The campaign of the configuration with that id.
///
/// # Errors
/// When the configuration has none.
pub fn campaign<'a>(snapshot: &'a Snapshot, id: &CampaignId) -> anyhow::Result<&'a Campaign> {
    snapshot
        .config
        .campaigns
        .iter()
        .map(|c| &c.campaign)
        .find(|c| c.id == *id)
        .with_context(|| format!("campaign {id} is not in the configuration"))
}

/// Subject, text and HTML, completely or not at all.
///
/// # Errors
/// The template that failed.
pub fn render(subject: &Subject<'_>, now: Timestamp) -> anyhow::Result<Rendered> {
    let Subject { snapshot, customer, case, due, sites, federated } = subject;
    let config = &snapshot.config;
    let links = config.connector.links();
    let templates = snapshot.templates.get(&case.campaign).context("the campaign has no templates")?;
    let notice = Notice {
        kind: due.kind,
        customer,
        reference: &case.reference,
        sites: sites.clone(),
        campaign: campaign(snapshot, &case.campaign)?,
        deadline: due.deadline,
        previous_deadline: due.previous_deadline,
        today: config.calendar.day(now),
        noticed_on: config.calendar.day(case.round_at),
        federated: *federated,
        support: &config.mail.support,
        logon_url: links.logon_url,
        portal_url: links.portal_url,
        zone: config.calendar.zone,
    };
    Ok(templates.render(&notice)?)
}

/// The whole mail as it would leave at `now`: rendered, with its own Message-ID and Date. `thread`: the Message-IDs of the
/// case's earlier notices.
///
/// # Errors
/// When a template or the message builder refuses; then nothing of it is sent.
pub fn compose(subject: &Subject<'_>, thread: Vec<String>, now: Timestamp) -> anyhow::Result<Message> {
    let rendered = render(subject, now)?;
    let config = &subject.snapshot.config;
    let domain = config.mail.from.address.domain();
    let message_id = message::message_id(&key(subject.case, subject.due).to_string(), domain);
    let parts = Parts {
        from: config.mail.from.clone(),
        reply_to: config.mail.reply_to.clone(),
        to: subject.customer.email.clone(),
        cc: subject.customer.cc.clone(),
        subject: rendered.subject.clone(),
        text: rendered.text,
        html: Some(rendered.html),
        attachments: rendered.attachments.into_iter().map(|a| (a.name, a.content_type, a.content)).collect(),
        message_id: message_id.clone(),
        date: now.with_timezone(&config.calendar.zone).fixed_offset(),
        thread,
        list_id: Some(format!("kigen-notices.{domain}")),
    };
    let evidence_at = subject.sites.iter().map(|s| s.now.observed_at).min().unwrap_or(now);
    Ok(Message {
        message_id,
        subject: rendered.subject,
        envelope_from: config.mail.envelope_from.clone(),
        raw: message::build(&parts)?,
        rendered_for: config.calendar.day(now),
        evidence_at,
        sites: subject.sites.iter().map(|s| s.name.clone()).collect(),
    })
}

/// The last touch before a mail goes into the outbox: the marked envelope sender, and the DKIM signature.
///
/// # Errors
/// When the DKIM key cannot be used or the store fails; then nothing of it is sent.
pub async fn seal(ctx: &Context, case: &Case, message: &mut Message) -> anyhow::Result<()> {
    if ctx.snapshot.config.mail.bounces.as_ref().is_some_and(|bounces| bounces.verp) {
        message.envelope_from = super::bounces::sender(ctx, &case.reference).await?;
    }
    if let Some(signer) = ctx.snapshot.signer()? {
        message.raw = signer.sign(&message.raw, ctx.now())?;
    }
    Ok(())
}

/// The envelope of a customer's mail: its contacts and nobody else, each once.
#[must_use]
pub fn recipients(customer: &Customer) -> Vec<Address> {
    let mut all: Vec<Address> = Vec::new();
    for address in customer.email.iter().chain(&customer.cc) {
        if !all.contains(address) {
            all.push(address.clone());
        }
    }
    all
}

/// The oldest look that still counts at `now`.
#[must_use]
pub fn not_before(ctx: &Context) -> Timestamp {
    ctx.now() - ctx.snapshot.config.safety.max_age
}
