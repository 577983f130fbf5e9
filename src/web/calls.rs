//! Whom nobody has successfully told, as a telephone list to print.

use axum::extract::State;
use axum::response::Response;
use minijinja::context;

use super::visit::Visit;
use super::{Fail, Shared};

/// Nobody telephones more on one list.
const SHOWN: u32 = 500;

pub(super) async fn page(State(shared): State<Shared>, visit: Visit) -> Result<Response, Fail> {
    let untold = shared.ask(|ctx| async move { ctx.store.untold(SHOWN + 1).await }).await?;
    let ctx = shared.context();
    let lines: Vec<_> = untold.iter().take(SHOWN as usize).map(|u| {
        let known = ctx.snapshot.customers.get(&u.id);
        context! {
            id => u.id.as_str(), name => u.name.clone(), reference => u.reference.0.clone(), state => u.mail.clone(),
            contact => known.and_then(|c| c.contact_name.clone()),
            phone => known.and_then(|c| c.phone.clone()),
            notify => known.map(|c| c.notify),
        }
    }).collect();
    let content = context! { lines, more => untold.len() > SHOWN as usize, shown => SHOWN };
    shared.page(&visit, "calls.html", content).await
}
