//! The customers: search, filter, order, page by page; and the same as CSV.

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use minijinja::{Value, context};
use serde::Deserialize;
use tokio::sync::mpsc;
use url::form_urlencoded::Serializer;

use super::visit::Visit;
use super::{Fail, Shared, render};
use crate::config::Config;
use crate::daemon::Context;
use crate::domain::observation::Verdict;
use crate::domain::plan::NoticeKind;
use crate::store::{CustomerFilter, CustomerLine, CustomerOrder, StoreError};

/// Customers on one page.
const PAGE: u32 = 50;

/// Customers read at once for the CSV.
const CHUNK: u32 = 500;

/// What the form asks for; everything that is not understood is as if it were not there.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    q: String,
    #[serde(default)]
    verdict: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    order: String,
    #[serde(default)]
    after: String,
    #[serde(default)]
    after_name: String,
}

const ORDERS: [(&str, CustomerOrder); 4] = [
    ("id", CustomerOrder::Id),
    ("-id", CustomerOrder::IdDown),
    ("name", CustomerOrder::Name),
    ("-name", CustomerOrder::NameDown),
];

impl Asked {
    fn filter(&self, limit: u32) -> CustomerFilter {
        CustomerFilter {
            search: self.q.trim().chars().take(100).collect(),
            verdict: Verdict::WORDS.iter().find(|w| **w == self.verdict).map(|w| (*w).to_owned()).unwrap_or_default(),
            kind: NoticeKind::parse(&self.kind),
            order: ORDERS.iter().find(|(word, _)| *word == self.order).map_or(CustomerOrder::Id, |(_, order)| *order),
            after: (!self.after.is_empty()).then(|| (self.after_name.clone(), self.after.clone())),
            limit,
        }
    }

    /// The address of the same with another order or place.
    fn address(&self, order: Option<&str>, after: Option<&CustomerLine>) -> String {
        let mut query = Serializer::new(String::new());
        let pairs = [
            ("q", self.q.trim()),
            ("verdict", &self.verdict),
            ("kind", &self.kind),
            ("order", order.unwrap_or(&self.order)),
        ];
        for (key, value) in pairs {
            if !value.is_empty() {
                query.append_pair(key, value);
            }
        }
        if let Some(line) = after {
            query.append_pair("after", line.id.as_str()).append_pair("after_name", &line.name);
        }
        query.finish()
    }
}

pub(super) async fn page(
    State(shared): State<Shared>,
    visit: Visit,
    Query(asked): Query<Asked>,
) -> Result<Response, Fail> {
    // One more than shown: whether there is a next page.
    let filter = asked.filter(PAGE + 1);
    let mut lines = shared.ask(move |ctx| async move { ctx.store.customer_lines(&filter).await }).await?;
    let more = lines.len() > PAGE as usize;
    lines.truncate(PAGE as usize);
    let ctx = shared.context();
    let config = &ctx.snapshot.config;
    let toggle = |order: &str| {
        let turned = if asked.order == order || (asked.order.is_empty() && order == "id") {
            format!("-{order}")
        } else {
            order.to_owned()
        };
        asked.address(Some(&turned), None)
    };
    let content = context! {
        asked => context! { q => asked.q.clone(), verdict => asked.verdict.clone(), kind => asked.kind.clone(), order => asked.order.clone() },
        verdict_words => Verdict::WORDS,
        kind_words => NoticeKind::ALL.map(NoticeKind::as_str),
        by_id => toggle("id"),
        by_name => toggle("name"),
        next => if more { lines.last().map(|last| asked.address(None, Some(last))) } else { None },
        first => (!asked.after.is_empty()).then(|| asked.address(None, None)),
        csv => asked.address(None, None),
        lines => lines.iter().map(|line| view(config, line)).collect::<Vec<_>>(),
    };
    shared.page(&visit, "customers.html", content).await
}

fn view(config: &Config, line: &CustomerLine) -> Value {
    let sites: Vec<_> = render::verdicts(&line.sites).into_iter().filter(|(_, n)| *n > 0).collect();
    context! {
        id => line.id.as_str(),
        name => line.name.clone(),
        sites => sites.into_iter().map(|(word, n)| context! { word, n }).collect::<Vec<_>>(),
        seen => render::at_or_none(config, line.seen_at),
        open => line.open,
        mail => line.last_mail.as_ref().map(|(kind, state, at)| context! { kind => kind.as_str(), state, at => render::at(config, *at) }),
    }
}

/// All that the filter lets through, chunk by chunk; a reader who goes away ends it after a chunk.
pub(super) async fn csv(
    State(shared): State<Shared>,
    _visit: Visit,
    Query(asked): Query<Asked>,
) -> Result<Response, Fail> {
    let (tx, rx) = mpsc::channel::<Result<Bytes, std::io::Error>>(2);
    let ctx = shared.context();
    let desk = std::sync::Arc::clone(&shared.desks).acquire_owned().await.map_err(|e| Fail::Broken(e.to_string()))?;
    let filter = asked.filter(CHUNK);
    tokio::spawn(async move {
        let _desk = desk;
        if let Err(error) = write(&ctx, filter, &tx).await {
            tracing::error!("the customers' CSV is cut short: {error}");
            let _ = tx.send(Err(std::io::Error::other("the store does not answer"))).await;
        }
    });
    let body = Body::from_stream(stream::unfold(rx, |mut rx| async move { Some((rx.recv().await?, rx)) }));
    let headers =
        [(CONTENT_TYPE, "text/csv; charset=utf-8"), (CONTENT_DISPOSITION, "attachment; filename=\"customers.csv\"")];
    Ok((headers, body).into_response())
}

/// No fleet is larger: the customers file ends there too.
const ROWS_MAX: usize = 1_000_000;

/// A reader who takes nothing for so long is gone: the store's place is needed.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

async fn write(
    ctx: &Context,
    mut filter: CustomerFilter,
    tx: &mpsc::Sender<Result<Bytes, std::io::Error>>,
) -> Result<(), StoreError> {
    // Excel reads UTF-8 only with a byte order mark.
    let mut text = String::from(
        "\u{feff}customer_id,name,affected,switched,consent_missing,not_exchange_online,unreadable,case,last_notice,last_notice_state,last_notice_at\r\n",
    );
    let mut left = ROWS_MAX;
    loop {
        let lines = ctx.store.customer_lines(&filter).await?;
        for line in &lines {
            text.push_str(&row(ctx, line));
        }
        let chunk = Bytes::from(std::mem::take(&mut text));
        if !matches!(tokio::time::timeout(PATIENCE, tx.send(Ok(chunk))).await, Ok(Ok(()))) {
            return Ok(());
        }
        left = left.saturating_sub(lines.len());
        match lines.last() {
            Some(last) if lines.len() == CHUNK as usize && left > 0 => {
                filter.after = Some((last.name.clone(), last.id.to_string()))
            }
            _ => return Ok(()),
        }
    }
}

fn row(ctx: &Context, line: &CustomerLine) -> String {
    let zone = ctx.snapshot.config.calendar.zone;
    let mut cells = vec![line.id.to_string(), line.name.clone()];
    cells.extend(render::verdicts(&line.sites).map(|(_, n)| n.to_string()));
    cells.push(if line.open { "open" } else { "" }.to_owned());
    let mail = line.last_mail.as_ref();
    cells.push(mail.map(|(kind, _, _)| kind.to_string()).unwrap_or_default());
    cells.push(mail.map(|(_, state, _)| state.clone()).unwrap_or_default());
    cells.push(mail.map(|(_, _, at)| at.with_timezone(&zone).to_rfc3339()).unwrap_or_default());
    let cells: Vec<String> = cells.iter().map(|cell| quoted(cell)).collect();
    format!("{}\r\n", cells.join(","))
}

/// A cell that a spreadsheet takes as text: one that begins like a formula gets an apostrophe before it.
fn quoted(cell: &str) -> String {
    let formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let cell = if formula { format!("'{cell}") } else { cell.to_owned() };
    if cell.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn cells_stay_text() {
        for (cell, wanted) in
            [("本社", "本社"), ("a,b", "\"a,b\""), ("say \"x\"", "\"say \"\"x\"\"\""), ("=1+1", "'=1+1"), ("@x", "'@x")]
        {
            assert_eq!(quoted(cell), wanted);
        }
    }
}
