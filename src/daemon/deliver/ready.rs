//! The question right before the irreversible act: is the notice still due, is its evidence fresh, is what it says still
//! true, are these still the customer's contacts?
//!
//! The answer never loses a notice: what is overtaken is dropped with its reason and its key is free, what cannot be said
//! just now is asked again later.

use super::super::bounces::Dead;
use super::super::corroborate;
use super::super::mailing::{self, Subject};
use super::hosts::{Hosts, Look};
use crate::daemon::Context;
use crate::domain::campaign::Standing;
use crate::domain::case::Case;
use crate::domain::customer::Customer;
use crate::domain::delivery::{DeliveryState, RecipientState};
use crate::domain::plan::{self, Due, NoticeKind};
use crate::notice::NoticeSite;
use crate::store::{Claimed, CustomerState, Delivery};

/// Whether nothing about it has to be changed, dropped or looked at again: it may leave as it stands in the outbox. Where
/// the answer is no, [`prepare`] finds out why.
pub(super) fn as_it_stands(ctx: &Context, delivery: &Delivery, state: &CustomerState) -> bool {
    let key = &delivery.facts.key;
    let Some(member) = ctx.snapshot.member(&key.customer) else { return false };
    let campaigns = &ctx.snapshot.config.campaigns;
    let Some(campaign) = campaigns.iter().map(|c| &c.campaign).find(|c| c.id == key.campaign) else { return false };
    let Some(case) = state.cases.iter().find(|c| c.campaign == key.campaign) else { return false };
    let not_before = mailing::not_before(ctx);
    let calendar = &ctx.snapshot.config.calendar;
    let today = calendar.day(ctx.now());
    let sites = || mailing::sites(case, key.kind, not_before);
    delivery.evidence_at >= not_before
        && delivery.rendered_for == today
        && former_contact(delivery, &member.customer).is_none()
        && plan::overtaken(&delivery.facts, case, &member.customer, campaign, calendar, today).is_none()
        && says_the_same(delivery, &sites())
}

/// It names those sites that it would name now, and has something to say.
fn says_the_same(delivery: &Delivery, sites: &[NoticeSite]) -> bool {
    let nothing_to_say = sites.is_empty() && delivery.facts.key.kind.speaks_of() != Standing::Clear;
    !nothing_to_say && sites.iter().map(|site| &site.name).eq(&delivery.sites)
}

pub(super) enum Prepared {
    /// To be sent as it stands here.
    Ready(Box<Claimed>),
    /// Overtaken: nothing more is to be sent.
    Settled(DeliveryState, String),
    /// Cannot be said just now.
    Later(String),
}

/// Asks again right before the irreversible act: is it still due, is the evidence fresh, is what it says still true?
pub(super) async fn prepare(ctx: &Context, hosts: &Hosts, owner: &str, claimed: Claimed) -> anyhow::Result<Prepared> {
    let delivery = &claimed.delivery;
    let key = &delivery.facts.key;
    // After an unheard answer the customer may have it already: then nothing is dropped, it stays unknown.
    let overtaken = |why: &str| {
        let state = if delivery.unknown_before { DeliveryState::Unknown } else { DeliveryState::Dropped };
        Ok(Prepared::Settled(state, why.to_owned()))
    };
    let Some(member) = ctx.snapshot.member(&key.customer) else {
        return overtaken("the customer is not in the customers file any more");
    };
    let Some(campaign) = ctx.snapshot.config.campaigns.iter().map(|c| &c.campaign).find(|c| c.id == key.campaign)
    else {
        return overtaken("the campaign is not in the configuration any more");
    };
    if let Some(former) = former_contact(delivery, &member.customer) {
        return overtaken(&format!("{former} is no contact of the customer any more"));
    }
    let id = std::slice::from_ref(&key.customer);
    let Some(mut state) = ctx.store.customer_states(id).await?.pop() else {
        return overtaken("the customer is not in the store any more");
    };
    if as_it_stands(ctx, delivery, &state) {
        return Ok(Prepared::Ready(Box::new(claimed)));
    }
    let not_before = mailing::not_before(ctx);
    if delivery.evidence_at < not_before {
        match hosts.look(ctx, &member).await? {
            Look::Seen(fresh) => state = *fresh,
            Look::Gone => return overtaken("the customer is not in the store any more"),
            Look::NotNow(why) => return Ok(Prepared::Later(why)),
        }
    }
    let Some(case) = state.cases.into_iter().find(|c| c.campaign == key.campaign) else {
        return overtaken("the case is gone");
    };
    let calendar = &ctx.snapshot.config.calendar;
    let today = calendar.day(ctx.now());
    if let Some(why) = plan::overtaken(&delivery.facts, &case, &member.customer, campaign, calendar, today) {
        return overtaken(&why);
    }
    let sites = mailing::sites(&case, key.kind, not_before);
    if sites.is_empty() && key.kind.speaks_of() != Standing::Clear {
        return Ok(Prepared::Later("none of its sites could be read right before sending".to_owned()));
    }
    let due = due(delivery, &case);
    let Some(customer) = Dead::load(ctx).await?.reachable(&member.customer) else {
        return overtaken("every address of the customer is dead");
    };
    let federated = corroborate::former_federated(ctx, &customer).await;
    let subject = Subject { snapshot: &ctx.snapshot, customer: &customer, case: &case, due: &due, sites, federated };
    let thread = ctx.store.thread(key).await?;
    let mut message = match mailing::compose(&subject, thread, ctx.now()) {
        Ok(message) => message,
        // An operator's template may fail on this one customer: the others' mail goes on.
        Err(error) => return Ok(Prepared::Later(format!("its message cannot be made: {error:#}"))),
    };
    mailing::seal(ctx, &case, &mut message).await?;
    // Refused once a server may hold a copy: then the same bytes go out again, Date and all.
    if ctx.store.replace_message(delivery.id, owner, &message).await? {
        return Ok(Prepared::Ready(Box::new(Claimed { message, ..claimed })));
    }
    Ok(Prepared::Ready(Box::new(claimed)))
}

/// A recipient that the customers file does not know any more, masked: the mail must not go there.
fn former_contact(delivery: &Delivery, customer: &Customer) -> Option<String> {
    let known = |address| {
        let contacts = [&customer.email, &customer.cc, &customer.fallback_email];
        contacts.into_iter().any(|list| list.contains(address))
    };
    let waiting = delivery.recipients.iter().filter(|r| r.state == RecipientState::Pending);
    waiting.map(|r| &r.address).find(|address| !known(address)).map(|address| address.masked())
}

/// The due notice a delivery was made from.
fn due(delivery: &Delivery, case: &Case) -> Due {
    let facts = &delivery.facts;
    let previous =
        case.told.iter().filter(|t| t.counts && t.occasion != facts.key.occasion).map(|t| t.deadline).next_back();
    Due {
        kind: facts.key.kind,
        round: facts.key.round,
        milestone: None,
        occasion: facts.key.occasion.clone(),
        deadline: facts.deadline,
        previous_deadline: previous.filter(|_| facts.key.kind == NoticeKind::Rescheduled),
        because: facts.because.clone(),
    }
}
