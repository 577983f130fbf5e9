//! `[safety]`, `[alerts]`, `[web]` and `[cluster]`: what stops a mistake, and what the operators see.

use chrono::TimeDelta;

use crate::config::section::Section;
use crate::config::{AlertsConfig, ClusterConfig, SafetyConfig, WebConfig, Webhook, WebhookFormat, values};
use crate::domain::customer::Language;
use crate::secret::Secret;

pub(in crate::config) fn safety(s: &mut Section<'_, '_>) -> SafetyConfig {
    s.section("safety", |s| SafetyConfig {
        max_new_notices: s.or("max_new_notices", "5%", values::share),
        hold_if_newly_affected: s.or("hold_if_newly_affected", "20%", values::share),
        max_age: s.or("max_age", "15m", values::time_delta),
        confirm_resolved: s.or("confirm_resolved", 2, values::count(1..=100)),
        logon_failures: s.or("logon_failures", 10, values::count(1..=1_000_000)),
    })
}

pub(in crate::config) fn alerts(s: &mut Section<'_, '_>) -> AlertsConfig {
    s.section("alerts", |s| AlertsConfig {
        to: s.list("to", &[], values::address),
        language: s.or("language", "ja", values::choice([Language::Ja, Language::En].map(|l| (l.as_str(), l)))),
        webhook: s.section("webhook", webhook),
        heartbeat: s.opt("heartbeat", values::url),
        unreadable_after: s.or("unreadable_after", 2, values::count(1..=1000)),
        scan_failure_rate: s.or("scan_failure_rate", "10%", values::share),
    })
}

fn webhook(s: &mut Section<'_, '_>) -> Option<Webhook> {
    let formats = [("json", WebhookFormat::Json), ("slack", WebhookFormat::Slack), ("teams", WebhookFormat::Teams)];
    let url = s.opt("url", values::url);
    let format = s.or("format", "json", values::choice(formats));
    if s.is_there() && !s.has("url") {
        s.problem("url", "must be set", "such as webhook = { url = \"https://…\", format = \"slack\" }");
    }
    Some(Webhook { url: url?, format })
}

pub(in crate::config) fn web(s: &mut Section<'_, '_>) -> WebConfig {
    s.section("web", |s| {
        let listen = s.or("listen", "127.0.0.1:8620", values::listen);
        let users = s.names("users", values::password_hash);
        if !listen.ip().is_loopback() && !s.has("users") {
            let hint = "name who may sign in below [web.users] (`kigen web-password` makes a hash), or listen on 127.0.0.1 behind a proxy";
            s.problem("listen", "anything but loopback needs [web.users]", hint);
        }
        WebConfig {
            listen,
            users: users.into_iter().map(|(name, hash)| (name, Secret::new(hash))).collect(),
            public_url: s.opt("public_url", values::url),
            trusted_proxies: s.list("trusted_proxies", &[], values::ip),
        }
    })
}

/// Shorter, and an ordinary pause of the database or the machine would look like death.
const LEASE_MIN: TimeDelta = TimeDelta::seconds(2);

pub(in crate::config) fn cluster(s: &mut Section<'_, '_>) -> ClusterConfig {
    s.section("cluster", |s| {
        let lease = s.or("lease", "1m", values::time_delta);
        if lease < LEASE_MIN {
            s.problem("lease", "is too short: an ordinary pause would look like death", "30s to 2m are sensible");
        }
        ClusterConfig { lease: lease.max(LEASE_MIN) }
    })
}
