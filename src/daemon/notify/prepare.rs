//! One notice in the making: its customer is looked at again where the evidence is too old, the case decided again, and the
//! whole mail rendered.
//!
//! Invariant: writes nothing but what a look saw; what is made here is a notice only once it is in the outbox.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::Fate;
use crate::connector::breaker::Sign;
use crate::daemon::bounces::{self, Dead};
use crate::daemon::circuit::Circuit;
use crate::daemon::mailing::{self, Subject};
use crate::daemon::{Context, corroborate, look};
use crate::domain::campaign::Standing;
use crate::domain::case::Case;
use crate::domain::customer::{Address, Customer};
use crate::domain::delivery::DeliveryFacts;
use crate::domain::plan::{self, Decision, Due, Planned};
use crate::fleet::Member;
use crate::store::{CustomerState, Message};

/// A notice that was looked at again and decided again.
pub(super) struct Ready {
    pub(super) state: CustomerState,
    pub(super) case: Case,
    pub(super) due: Due,
    pub(super) recipients: Vec<Address>,
    pub(super) message: Message,
}

/// What came of making one: the notice, or what became of it instead. `None`: the pass is told to stop.
pub(super) type Prepared = Option<anyhow::Result<Result<Ready, Fate>>>;

pub(super) async fn prepare_unless_stopped(
    ctx: Context,
    dead: Arc<Dead>,
    circuit: Arc<Circuit>,
    planned: Planned,
    stop: CancellationToken,
) -> (Planned, Prepared) {
    if stop.is_cancelled() {
        return (planned, None);
    }
    let ready = prepare(&ctx, &dead, &circuit, &planned, &stop).await;
    (planned, ready.transpose())
}

/// Looks again where the evidence is too old (its host's circuit permitting), then makes the notice.
///
/// `None`: the pass is told to stop while a host is paused.
pub(super) async fn prepare(
    ctx: &Context,
    dead: &Dead,
    circuit: &Circuit,
    planned: &Planned,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Result<Ready, Fate>>> {
    let Some(member) = ctx.snapshot.member(&planned.customer) else {
        return Ok(Some(Err(Fate::Overtaken("the customer is not in the customers file".to_owned()))));
    };
    let id = std::slice::from_ref(&planned.customer);
    let Some(mut state) = ctx.store.customer_states(id).await?.pop() else {
        return Ok(Some(Err(Fate::Overtaken("the customer is not in the store".to_owned()))));
    };
    let case = state.cases.iter().find(|c| c.campaign == planned.campaign);
    if case.is_some_and(|case| !mailing::is_fresh(case, planned.due.kind, mailing::not_before(ctx))) {
        let host = ctx.snapshot.config.connector.host(member.logon.url.as_ref());
        let probe = match circuit.turn(ctx, host.as_deref(), stop).await {
            Ok(probe) => probe,
            Err(None) => return Ok(None),
            Err(Some(failure)) => return Ok(Some(Err(Fate::NotFresh(failure.detail)))),
        };
        let checked = look::check_for_sign(ctx, &member).await;
        let sign = checked.as_ref().ok().and_then(|c| c.as_ref()).map_or(&Sign::Nothing, |(_, sign)| sign);
        if let Some(news) = circuit.note(host.as_deref(), sign, probe) {
            tracing::warn!("{news}");
        }
        match checked? {
            Some((fresh, _)) => state = fresh,
            None => return Ok(Some(Err(Fate::Overtaken("the customer is not in the store".to_owned())))),
        }
    }
    make(ctx, dead, planned, &member, state).await.map(Some)
}

/// Decides again, and renders the whole mail.
async fn make(
    ctx: &Context,
    dead: &Dead,
    planned: &Planned,
    member: &Member,
    state: CustomerState,
) -> anyhow::Result<Result<Ready, Fate>> {
    let snapshot = &ctx.snapshot;
    let Some(case) = state.cases.iter().find(|c| c.campaign == planned.campaign).cloned() else {
        return Ok(Err(Fate::Overtaken("the case is gone".to_owned())));
    };
    let decided = if bounces::is_told_again(&planned.due) {
        still_true(ctx, &case, &member.customer, &planned.due)?
    } else {
        let today = snapshot.config.calendar.day(ctx.now());
        if state.cases.iter().flat_map(|c| &c.told).any(|told| told.counts && told.day == today) {
            // Of another campaign, or by somebody who approved a held mail a moment ago.
            return Ok(Err(Fate::Overtaken("the customer was told today already".to_owned())));
        }
        decide_again(ctx, &case, &member.customer)?
    };
    let due = match decided {
        Ok(due) => due,
        Err(why) => return Ok(Err(Fate::Overtaken(why))),
    };
    let sites = mailing::sites(&case, due.kind, mailing::not_before(ctx));
    if sites.is_empty() && due.kind.speaks_of() != Standing::Clear {
        let why = "none of its sites could be read just now; the next pass tries again".to_owned();
        return Ok(Err(Fate::NotFresh(why)));
    }
    let Some(customer) = dead.reachable(&member.customer) else {
        let why = "every address of the customer is dead and no fallback_email is left; correct the customers file";
        return Ok(Err(Fate::Failed(why.to_owned())));
    };
    // Of most nothing was told before, so there is nothing to ask for.
    let thread = match case.told.is_empty() {
        true => Vec::new(),
        false => ctx.store.thread(&mailing::key(&case, &due)).await?,
    };
    let federated = corroborate::federated(ctx, &customer).await;
    let subject = Subject { snapshot, customer: &customer, case: &case, due: &due, sites, federated };
    let mut message = mailing::compose(&subject, thread, ctx.now())?;
    mailing::seal(ctx, &case, &mut message).await?;
    Ok(Ok(Ready { recipients: mailing::recipients(&customer), state, case, due, message }))
}

/// A notice that is told again was decided before: it only must not be overtaken.
fn still_true(ctx: &Context, case: &Case, customer: &Customer, due: &Due) -> anyhow::Result<Result<Due, String>> {
    let campaign = mailing::campaign(&ctx.snapshot, &case.campaign)?;
    let calendar = &ctx.snapshot.config.calendar;
    let day = calendar.day(ctx.now());
    let facts = DeliveryFacts {
        key: mailing::key(case, due),
        milestone: due.milestone.map(|m| m.to_string()),
        day,
        deadline: due.deadline,
        because: due.because.clone(),
    };
    Ok(plan::overtaken(&facts, case, customer, campaign, calendar, day).map_or_else(|| Ok(due.clone()), Err))
}

fn decide_again(ctx: &Context, case: &Case, customer: &Customer) -> anyhow::Result<Result<Due, String>> {
    let snapshot = &ctx.snapshot;
    let calendar = &snapshot.config.calendar;
    let campaign = mailing::campaign(snapshot, &case.campaign)?;
    let day = calendar.day(ctx.now());
    Ok(match plan::decide(case, customer, campaign, calendar, snapshot.policy(), day) {
        Decision::Tell(due) => Ok(due),
        Decision::Nothing(why) => Err(why),
        Decision::ResolveSilently => Err("no site is affected any more".to_owned()),
    })
}
