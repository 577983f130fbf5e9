//! Whom nobody has successfully told, as a telephone list to print.

use axum::extract::State;
use axum::response::Response;
use minijinja::context;

use super::visit::Visit;
use super::{Fail, Shared};
use crate::daemon::untold;

/// Nobody telephones more on one list.
const SHOWN: usize = 500;

pub(super) async fn page(State(shared): State<Shared>, visit: Visit) -> Result<Response, Fail> {
    let calls = shared.ask(|ctx| async move { untold::to_call(&ctx).await }).await?;
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
    let content = context! { lines, more => calls.len() > SHOWN, shown => SHOWN };
    shared.page(&visit, "calls.html", content).await
}
