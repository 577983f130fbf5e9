//! Whom nobody has successfully told, as a telephone list to print; and the contacts whose address is dead.

use axum::extract::State;
use axum::response::Response;
use minijinja::context;

use super::visit::Visit;
use super::{Fail, Shared, render};
use crate::store::StoreError;

/// Nobody telephones more on one list.
const SHOWN: u32 = 500;

pub(super) async fn page(State(shared): State<Shared>, visit: Visit) -> Result<Response, Fail> {
    let (untold, dead) = shared
        .ask(|ctx| async move {
            Ok::<_, StoreError>((ctx.store.untold(SHOWN + 1).await?, ctx.store.dead_contacts().await?))
        })
        .await?;
    let ctx = shared.context();
    let dead: Vec<_> = dead.iter().filter_map(|d| Some((d, ctx.snapshot.customers.get(&d.customer)?))).collect();
    let dead_lines: Vec<_> = dead.iter().take(SHOWN as usize).map(|(d, known)| context! {
        id => d.customer.as_str(), name => known.name.clone(), phone => known.phone.clone(), address => d.masked.clone(),
        since => render::at(&ctx.snapshot.config, d.since), why => d.why.clone(), delivery => d.delivery.0,
    }).collect();
    let lines: Vec<_> = untold.iter().take(SHOWN as usize).map(|u| {
        let known = ctx.snapshot.customers.get(&u.id);
        context! {
            id => u.id.as_str(), name => u.name.clone(), reference => u.reference.0.clone(), state => u.mail.clone(),
            contact => known.and_then(|c| c.contact_name.clone()),
            phone => known.and_then(|c| c.phone.clone()),
            notify => known.map(|c| c.notify),
        }
    }).collect();
    let content = context! { lines, dead => dead_lines, dead_total => dead.len(), more => untold.len() > SHOWN as usize, shown => SHOWN };
    shared.page(&visit, "calls.html", content).await
}
