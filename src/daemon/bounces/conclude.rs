//! One mail that came back -> the deliveries it is proven to be about, and what it says of their addresses.

use aws_lc_rs::hmac;

use super::mark;
use crate::daemon::{Context, alert};
use crate::domain::customer::Address;
use crate::domain::delivery::DeliveryId;
use crate::domain::site::CustomerId;
use crate::mail::bounce::{self, Class, Report, Returned};
use crate::store::{BounceFinding, Claimed, DeadContact, Delivery, contact_fingerprint};

/// One mail, to its end; the word to count it under.
pub(super) async fn take_in(
    ctx: &Context,
    key: &hmac::Key,
    digest: &str,
    report: &Report,
) -> anyhow::Result<&'static str> {
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
        alert::of_own_fault(ctx, of_us.filter_map(told)).await;
    }
    Ok(class.as_str())
}

/// The deliveries that the report is proven to be about, the likeliest first.
async fn deliveries_of(ctx: &Context, key: &hmac::Key, report: &Report) -> anyhow::Result<Vec<Claimed>> {
    let base = &ctx.snapshot.config.mail.envelope_from;
    let marked = report.came_to.iter().find_map(|address| mark::reference_of(key, base, address));
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
