//! The configuration that runs now. Secrets are `***`, addresses are masked.

use axum::extract::State;
use axum::response::Response;
use minijinja::{Value, context};

use super::visit::Visit;
use super::{Fail, Shared, render};
use crate::config::{Config, ConnectorConfig, SmtpAuth, SmtpTls, StateUrl, TransportConfig};
use crate::daemon::schedule;
use crate::domain::customer::Address;
use crate::domain::guard::Share;

pub(super) async fn page(State(shared): State<Shared>, visit: Visit) -> Result<Response, Fail> {
    let ctx = shared.context();
    let config = &ctx.snapshot.config;
    let sections: Vec<Value> = sections(config)
        .into_iter()
        .map(|(name, keys)| context! { name, keys => keys.into_iter().map(|(key, value)| context! { key, value }).collect::<Vec<_>>() })
        .collect();
    let bad_rows: Vec<_> = ctx.snapshot.fleet.quarantined.iter().take(50).map(|q| context! {
        id => q.id.as_ref().map(|id| id.as_str()), name => q.name.clone(),
        errors => q.errors.iter().map(|e| context! { line => e.line, column => e.column.clone(), message => e.message.clone() }).collect::<Vec<_>>(),
    }).collect();
    let next: Vec<_> = schedule::KINDS
        .iter()
        .filter(|kind| schedule::is_on(config, **kind))
        .map(|kind| {
            context! {
                kind => kind.as_str(), at => render::at_or_none(config, schedule::next(&ctx, *kind)),
            }
        })
        .collect();
    let reload = shared.parts.live.last_reload().map(|last| context! {
        at => render::at(config, last.at), refused => last.refused.map(|text| text.chars().take(4000).collect::<String>()),
        restart => last.restart.join(", "),
    });
    let content = context! {
        reload,
        sections, bad_rows, next,
        bad_rows_total => ctx.snapshot.fleet.quarantined.len(),
        customers => ctx.snapshot.fleet.members.len(),
        started => render::at(config, shared.started),
        file => config.path.display().to_string(),
    };
    shared.page(&visit, "configuration.html", content).await
}

type Keys = Vec<(&'static str, String)>;

fn sections(config: &Config) -> Vec<(String, Keys)> {
    let calendar = &config.calendar;
    let state = match &config.state {
        StateUrl::Sqlite(path) => format!("sqlite:{}", path.display()),
        StateUrl::Postgres(postgres) => postgres.name(),
    };
    let days = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"].iter().zip(calendar.days).filter(|(_, on)| *on);
    let hours = format!(
        "{}-{}",
        calendar.opens.format("%H:%M"),
        calendar.closes.map_or("24:00".to_owned(), |t| t.format("%H:%M").to_string())
    );
    let mut all = vec![
        (
            String::new(),
            vec![("mode", config.mode.as_str().to_owned()), ("timezone", calendar.zone.to_string()), ("state", state)],
        ),
        (
            "schedule".to_owned(),
            vec![
                ("scan", config.schedule.scan.as_str().to_owned()),
                ("notices", config.schedule.notices.as_str().to_owned()),
                ("digest", config.schedule.digest.as_str().to_owned()),
                ("bounces", config.schedule.bounces.as_str().to_owned()),
            ],
        ),
        (
            "business_hours".to_owned(),
            vec![
                ("days", days.map(|(name, _)| *name).collect::<Vec<_>>().join(" ")),
                ("hours", hours),
                ("holidays", format!("{:?}", calendar.holidays)),
                ("closed", format!("{}", calendar.closed.len())),
            ],
        ),
        ("fleet".to_owned(), vec![("customers", config.fleet.customers.display().to_string())]),
    ];
    let kind = match &config.connector {
        ConnectorConfig::Exlook(_) => "exlook",
        ConnectorConfig::Api(_) => "api",
        ConnectorConfig::Export(_) => "export",
    };
    let links = config.connector.links();
    all.push((
        "connector".to_owned(),
        vec![
            ("kind", kind.to_owned()),
            ("logon_url", links.logon_url.to_string()),
            ("portal_url", links.portal_url.to_string()),
        ],
    ));
    let scan = &config.scan;
    all.push((
        "scan".to_owned(),
        vec![
            ("concurrency", scan.concurrency.to_string()),
            ("requests_per_second", scan.requests_per_second.to_string()),
            ("timeout", format!("{:?}", scan.timeout)),
            ("customer_timeout", format!("{:?}", scan.customer_timeout)),
            ("attempts", scan.attempts.to_string()),
            ("max_page", format!("{} B", scan.max_page)),
            ("allow_private_hosts", scan.allow_private_hosts.to_string()),
        ],
    ));
    for c in config.campaigns.iter().map(|c| &c.campaign) {
        let day = |day: Option<chrono::NaiveDate>| day.map_or_else(|| "—".to_owned(), |d| d.to_string());
        all.push((
            format!("campaign {}", c.id.0),
            vec![
                ("affects", c.affects.as_str().to_owned()),
                ("begins", day(c.begins)),
                ("deadline", c.deadline.to_string()),
                ("postponed_to", day(c.postponed_to)),
                ("final", day(c.last_day)),
                ("reminders", c.reminders.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")),
                ("overdue_every", c.overdue_every.map_or_else(|| "off".to_owned(), |days| format!("{days}d"))),
                ("consent_every", format!("{}d", c.consent_every)),
            ],
        ));
    }
    all.extend(mail(config));
    let safety = &config.safety;
    all.push((
        "safety".to_owned(),
        vec![
            ("max_new_notices", share(safety.max_new_notices)),
            ("hold_if_newly_affected", share(safety.hold_if_newly_affected)),
            ("max_age", format!("{} min", safety.max_age.num_minutes())),
            ("confirm_resolved", safety.confirm_resolved.to_string()),
            ("logon_failures", safety.logon_failures.to_string()),
        ],
    ));
    all.push((
        "alerts".to_owned(),
        vec![
            ("to", masked(&config.alerts.to)),
            ("unreadable_after", config.alerts.unreadable_after.to_string()),
            ("scan_failure_rate", share(config.alerts.scan_failure_rate)),
            ("webhook", if config.alerts.webhook.is_some() { "***" } else { "—" }.to_owned()),
            ("heartbeat", if config.alerts.heartbeat.is_some() { "***" } else { "—" }.to_owned()),
        ],
    ));
    let web = &config.web;
    all.push((
        "web".to_owned(),
        vec![
            ("listen", web.listen.to_string()),
            ("public_url", web.public_url.as_ref().map_or_else(|| "—".to_owned(), ToString::to_string)),
            ("users", web.users.keys().map(|name| format!("{name} = ***")).collect::<Vec<_>>().join(", ")),
        ],
    ));
    all
}

fn mail(config: &Config) -> Vec<(String, Keys)> {
    let mail = &config.mail;
    let mut all = vec![(
        "mail".to_owned(),
        vec![
            ("from", mail.from.address.masked()),
            ("support", mail.support.name.clone()),
            ("unknown", format!("{:?}", mail.unknown).to_lowercase()),
        ],
    )];
    match &mail.transport {
        TransportConfig::Smtp(smtp) => {
            let tls = match smtp.tls {
                SmtpTls::Starttls => "starttls",
                SmtpTls::Tls => "tls",
                SmtpTls::None => "none",
            };
            let auth = match &smtp.auth {
                SmtpAuth::None => "none",
                SmtpAuth::Password { .. } => "password (***)",
                SmtpAuth::Xoauth2 { .. } => "xoauth2 (***)",
            };
            all.push((
                "mail.smtp".to_owned(),
                vec![
                    ("host", format!("{}:{}", smtp.host, smtp.port)),
                    ("tls", tls.to_owned()),
                    ("auth", auth.to_owned()),
                    ("rate", format!("{} / {:?}", smtp.rate.count, smtp.rate.per)),
                    ("connections", smtp.connections.to_string()),
                    ("timeout", format!("{:?}", smtp.timeout)),
                ],
            ));
        }
        TransportConfig::Graph(graph) => all.push((
            "mail.graph".to_owned(),
            vec![
                ("url", graph.url.to_string()),
                ("client_secret", "***".to_owned()),
                ("rate", format!("{} / {:?}", graph.rate.count, graph.rate.per)),
            ],
        )),
        TransportConfig::Maildir(path) => {
            all.push(("mail.maildir".to_owned(), vec![("path", path.display().to_string())]))
        }
    }
    all
}

fn masked(addresses: &[Address]) -> String {
    addresses.iter().map(Address::masked).collect::<Vec<_>>().join(", ")
}

fn share(share: Share) -> String {
    match share {
        Share::Count(n) => n.to_string(),
        Share::BasisPoints(points) => format!("{}%", f64::from(points) / 100.0),
    }
}
