//! What is remembered of the admin tool's layouts from scan to scan, and what is new in this one.
//!
//! Invariant: it only ever tells; no site is judged by it, and a failure here is no failure of the scan.

use anyhow::Context as _;

use super::Context;
use crate::domain::layout::{HostLayouts, Layout, News, review};

/// Looks at what a finished scan of the whole fleet has seen, and remembers it.
pub async fn news(ctx: &Context, hosts: &[HostLayouts]) -> Vec<(String, News)> {
    let mut all = Vec::new();
    for host in hosts {
        match news_of(ctx, host).await {
            Ok(news) => all.extend(news.into_iter().map(|news| (host.host.clone(), news))),
            Err(error) => tracing::error!("the layouts of {} cannot be compared: {error:#}", host.host),
        }
    }
    all
}

async fn news_of(ctx: &Context, host: &HostLayouts) -> anyhow::Result<Vec<News>> {
    let memo = format!("layouts.{}", host.host);
    let known = ctx.store.memo(&memo).await?;
    let known: Vec<Vec<String>> = match known.as_deref().map(serde_json::from_str) {
        Some(Ok(known)) => known,
        // Another version's, perhaps: as good as none.
        Some(Err(_)) | None => Vec::new(),
    };
    let known: Vec<Layout> = known.into_iter().map(Layout::new).collect();
    let (news, remembered) = review(&known, host);
    if remembered != known {
        let remembered: Vec<Vec<&str>> = remembered.iter().map(|layout| layout.parts().collect()).collect();
        let text = serde_json::to_string(&remembered).context("cannot write the layouts down")?;
        ctx.store.set_memo(&memo, &text).await?;
    }
    Ok(news)
}

/// What changed, for the operators: the first few parts that are gone or new.
pub fn told(host: &str, news: &News) -> String {
    const PARTS: usize = 8;
    let some = |what: &str, parts: &[String]| {
        let more = if parts.len() > PARTS { ", …" } else { "" };
        let parts: Vec<String> = parts.iter().take(PARTS).map(|part| format!("[{part}]")).collect();
        if parts.is_empty() { String::new() } else { format!("; {what}: {}{more}", parts.join(", ")) }
    };
    let News { customers, of, gone, new } = news;
    format!(
        "{customers} of {of} customers of {host} have another settings page{}{}",
        some("gone", gone),
        some("new", new)
    )
}
