//! Whom nobody has successfully told, as a telephone list to print; and the contacts whose address is dead.

use axum::extract::State;
use axum::response::Response;
use minijinja::context;

use super::visit::Visit;
use super::{Fail, Shared, render};
use crate::daemon::untold;

/// Nobody telephones more on one list.
const SHOWN: usize = 500;

pub(super) async fn page(State(shared): State<Shared>, visit: Visit) -> Result<Response, Fail> {
    let (calls, dead) = shared
        .ask(|ctx| async move { anyhow::Ok((untold::to_call(&ctx).await?, ctx.store.dead_contacts().await?)) })
        .await?;
    let ctx = shared.context();
    let dead: Vec<_> = dead.iter().filter_map(|d| Some((d, ctx.snapshot.customers.get(&d.customer)?))).collect();
    let dead_lines: Vec<_> = dead.iter().take(SHOWN).map(|(d, known)| context! {
        id => d.customer.as_str(), name => known.name.clone(), phone => known.phone.clone(), address => d.masked.clone(),
        since => render::at(&ctx.snapshot.config, d.since), why => d.why.clone(), delivery => d.delivery.0,
    }).collect();
    let lines: Vec<_> = calls
        .iter()
        .take(SHOWN)
        .map(|c| {
            context! {
                id => c.customer.as_str(), name => c.name.clone(), reference => c.reference.0.clone(),
                contact => c.contact_name.clone(), phone => c.phone.clone(),
                why => c.why.text(visit.language),
            }
        })
        .collect();
    let content =
        context! { lines, dead => dead_lines, dead_total => dead.len(), more => calls.len() > SHOWN, shown => SHOWN };
    shared.page(&visit, "calls.html", content).await
}
