//! Where the Microsoft side meets the runs: which looks are worth a question, what is kept over a restart, what operators hear.
//!
//! Invariant: nothing here fails its caller, and no store is touched while a look is on, for a look may be dropped half-way.

use super::{Context, alert};
use crate::config::ConnectorConfig;
use crate::domain::customer::Customer;
use crate::domain::observation::{Consent, CustomerLook, Verdict, judge};
use crate::microsoft::{Told, Trust};

/// The memo with realms and tenants; see [`crate::microsoft`].
const MEMO: &str = "microsoft.known";

/// A run begins: our credential has to prove itself again.
pub async fn begin(ctx: &Context) {
    ctx.microsoft.begin_run().await;
    recall(ctx).await;
}

/// A run ended: keeps what was learnt, and tells the operators if our own credential was refused, or is good again.
pub async fn end(ctx: &Context) {
    if let Some(text) = ctx.microsoft.to_keep()
        && let Err(error) = ctx.store.set_memo(MEMO, &text).await
    {
        tracing::error!("tenants and realms could not be kept: {:#}", anyhow::Error::from(error));
    }
    let counts = ctx.microsoft.counts();
    if counts.given + counts.missing + counts.unsure > 0 {
        tracing::info!(
            "consent: {} given, {} missing, {} could not be told",
            counts.given,
            counts.missing,
            counts.unsure
        );
    }
    match ctx.microsoft.trust() {
        Trust::Refused(why) => alert::of_credential(ctx, Some(&why)).await,
        Trust::Accepted => alert::of_credential(ctx, None).await,
        Trust::Untried => {}
    }
}

/// A scan ended: where the check was turned off, nothing of ours is refused any more.
pub async fn end_of_scan(ctx: &Context) {
    end(ctx).await;
    if !ctx.microsoft.verifies_consent() {
        alert::of_credential(ctx, None).await;
    }
}

async fn recall(ctx: &Context) {
    if !ctx.microsoft.wants_kept() {
        return;
    }
    match ctx.store.memo(MEMO).await {
        Ok(text) => ctx.microsoft.take_in(&text.unwrap_or_default()),
        Err(error) => tracing::error!("tenants and realms could not be read: {:#}", anyhow::Error::from(error)),
    }
}

/// Whether the customer consented, where that decides a verdict: the admin tool says OAuth, and we know whose tenant to ask.
pub async fn ask(ctx: &Context, customer: &Customer, look: &CustomerLook) -> Told {
    let exlook = matches!(ctx.snapshot.config.connector, ConnectorConfig::Exlook(_));
    let Some(domain) = customer.tenant_domain.as_deref().filter(|_| exlook && ctx.microsoft.verifies_consent()) else {
        return Told::default();
    };
    let sites = look.sites.iter().flatten();
    let switched = |read| judge(read, Consent::NotChecked).0 == Verdict::Switched;
    if !sites.filter_map(|site| site.read.as_ref().ok()).any(switched) {
        return Told::default();
    }
    ctx.microsoft.consent(&domain.to_ascii_lowercase()).await
}

/// Whether the customer's domain is federated, for what a notice says of feature phones; asked only where it says anything.
pub async fn federated(ctx: &Context, customer: &Customer) -> Option<bool> {
    let domain = of_interest(customer)?;
    recall(ctx).await;
    ctx.microsoft.federated(&domain).await
}

/// The same from what is known; asks nobody.
pub async fn former_federated(ctx: &Context, customer: &Customer) -> Option<bool> {
    let domain = of_interest(customer)?;
    recall(ctx).await;
    ctx.microsoft.former_federated(&domain)
}

fn of_interest(customer: &Customer) -> Option<String> {
    let domain = customer.tenant_domain.as_deref().filter(|_| customer.feature_phone != Some(false))?;
    Some(domain.to_ascii_lowercase())
}
