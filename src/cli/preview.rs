//! `kigen preview`: a notice as it would leave, from the stored state, without sending it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};

use super::time::TimeArg;
use super::{Global, output};
use crate::app;
use crate::daemon::Context;
use crate::daemon::corroborate;
use crate::daemon::look::reference;
use crate::daemon::mailing::{self, Subject};
use crate::domain::Timestamp;
use crate::domain::campaign::{Campaign, CampaignId};
use crate::domain::case::{Case, CaseState, Evidence};
use crate::domain::customer::Customer;
use crate::domain::observation::RawSettings;
use crate::domain::plan::{self, Decision, Due, NoticeKind};
use crate::domain::site::{AuthMethod, CustomerId, ServerType, SiteName};
use crate::notice::NoticeSite;
use crate::store::CustomerState;

#[derive(Debug, Args)]
pub(super) struct PreviewArgs {
    /// The customer's id
    #[arg(long, value_name = "ID")]
    customer: String,
    /// The kind of notice; what is due then if not given
    #[arg(long, value_name = "KIND", value_parser = PossibleValuesParser::new(NoticeKind::ALL.map(NoticeKind::as_str)))]
    kind: Option<String>,
    /// The campaign; the first one if not given
    #[arg(long, value_name = "ID")]
    campaign: Option<String>,
    /// As if it were sent then
    #[arg(long, value_name = "TIME")]
    at: Option<TimeArg>,
    /// What to show
    #[arg(long, value_enum, default_value = "text")]
    format: PreviewFormat,
    /// Write .eml, .html and .txt into this directory instead
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PreviewFormat {
    /// The whole message
    Eml,
    /// Its HTML part
    Html,
    /// Its text part
    Text,
}

pub(super) async fn run(global: &Global, args: &PreviewArgs) -> anyhow::Result<ExitCode> {
    let ctx = app::open(&global.config).await?;
    let result = preview(&ctx, args).await;
    ctx.store.close().await;
    result
}

async fn preview(ctx: &Context, args: &PreviewArgs) -> anyhow::Result<ExitCode> {
    let snapshot = &ctx.snapshot;
    let id = CustomerId::new(&args.customer).with_context(|| format!("--customer {:?}", args.customer))?;
    let Some(customer) = snapshot.customers.get(&id) else {
        bail!("--customer {id}: not in {} (or its row has an error)", snapshot.config.fleet.customers.display());
    };
    let campaign = match &args.campaign {
        Some(text) => mailing::campaign(snapshot, &CampaignId(text.clone()))?,
        None => &snapshot.config.campaigns.first().context("the configuration has no campaign")?.campaign,
    };
    let at = args.at.map_or_else(|| ctx.now(), |time| time.at(&snapshot.config.calendar));
    let state = ctx.store.customer_states(std::slice::from_ref(&id)).await?.pop();
    let case = state.as_ref().and_then(|s| s.cases.iter().find(|c| c.campaign == campaign.id).cloned());
    let case = case.unwrap_or_else(|| blank(&id, campaign, at));
    let due = due(ctx, &case, &customer, campaign, args, at)?;
    let sites = sites(&case, state.as_ref(), &customer, &due, at);
    let federated = corroborate::former_federated(ctx, &customer).await;
    let subject = Subject { snapshot, customer: &customer, case: &case, due: &due, sites, federated };
    let thread = ctx.store.thread(&mailing::key(&case, &due)).await?;
    let mut message = mailing::compose(&subject, thread, at)?;
    match snapshot.signer() {
        Ok(None) => {}
        Ok(Some(signer)) => message.raw = signer.sign(&message.raw, at)?,
        Err(error) => output::say!("note: shown without its DKIM signature: {:#}", anyhow::Error::from(error)),
    }
    let rendered = mailing::render(&subject, at)?;
    if let Some(dir) = &args.output {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let name: String =
            id.as_str().chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
        for (ending, bytes) in
            [("eml", message.raw.as_slice()), ("html", rendered.html.as_bytes()), ("txt", rendered.text.as_bytes())]
        {
            let path = dir.join(format!("{name}-{}.{ending}", due.kind));
            std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
            output::say!("{}", path.display());
        }
        return Ok(ExitCode::SUCCESS);
    }
    match args.format {
        PreviewFormat::Eml => output::write(&message.raw)?,
        PreviewFormat::Html => output::write(rendered.html.as_bytes())?,
        PreviewFormat::Text => {
            output::write(format!("Subject: {}\n\n{}", rendered.subject, rendered.text).as_bytes())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn due(
    ctx: &Context,
    case: &Case,
    customer: &Customer,
    campaign: &Campaign,
    args: &PreviewArgs,
    at: Timestamp,
) -> anyhow::Result<Due> {
    let snapshot = &ctx.snapshot;
    let calendar = &snapshot.config.calendar;
    let day = calendar.day(at);
    let decided = plan::decide(case, customer, campaign, calendar, snapshot.policy(), day);
    let kind = match (&args.kind, decided) {
        (None, Decision::Tell(due)) => return Ok(due),
        (None, Decision::ResolveSilently) => {
            bail!("nothing is due on {day}: the case is resolved silently; give --kind")
        }
        (None, Decision::Nothing(why)) => bail!("nothing is due on {day}: {why}; give --kind to see one all the same"),
        (Some(text), decided) => {
            let known = || NoticeKind::ALL.map(NoticeKind::as_str).join(", ");
            let kind = NoticeKind::parse(text).with_context(|| format!("--kind {text}: one of {}", known()))?;
            if let Decision::Tell(due) = decided
                && due.kind == kind
            {
                return Ok(due);
            }
            kind
        }
    };
    output::say!("note: the {kind} notice is not due on {day}; shown as it would look");
    let deadline = campaign.deadline_of(customer);
    let milestone = campaign.reminders.last().copied().filter(|_| kind == NoticeKind::Reminder);
    Ok(Due {
        kind,
        round: case.round,
        milestone,
        occasion: milestone.map(|m| m.to_string()).unwrap_or_default(),
        deadline,
        previous_deadline: (kind == NoticeKind::Rescheduled).then(|| {
            let named = case.told.iter().rev().map(|told| told.deadline).find(|named| *named != deadline);
            // It did not move: any other day shows the wording.
            named.unwrap_or_else(|| deadline - chrono::TimeDelta::days(30))
        }),
        because: "preview".to_owned(),
    })
}

/// The sites that stand so; else every known site; else an example, so that the wording can be seen before a scan.
fn sites(case: &Case, state: Option<&CustomerState>, customer: &Customer, due: &Due, at: Timestamp) -> Vec<NoticeSite> {
    let standing = mailing::sites(case, due.kind, Timestamp::MIN_UTC);
    if !standing.is_empty() {
        return standing;
    }
    let known: Vec<NoticeSite> = state
        .into_iter()
        .flat_map(|s| &s.sites)
        .filter_map(|seen| Some(example(seen.site.clone()?, Evidence::of(seen))))
        .collect();
    if !known.is_empty() {
        output::say!("note: no site stands so by the last scan; shown with the sites that are known");
        return known;
    }
    output::say!("note: this customer was not scanned yet; shown with example settings");
    let names =
        if customer.sites.is_empty() { SiteName::new("本社").into_iter().collect() } else { customer.sites.clone() };
    names.into_iter().map(|name| example(name, example_evidence(at))).collect()
}

fn example(name: SiteName, now: Evidence) -> NoticeSite {
    NoticeSite { name, before: now.clone(), now, gone: false }
}

fn example_evidence(at: Timestamp) -> Evidence {
    Evidence {
        observed_at: at,
        server_type: Some(ServerType::ExchangeOnline),
        auth_method: Some(AuthMethod::Basic),
        raw: RawSettings {
            server_type: Some("Exchange Online に接続する".to_owned()),
            auth_method: Some("基本認証 (Office 365の場合)".to_owned()),
        },
    }
}

fn blank(id: &CustomerId, campaign: &Campaign, at: Timestamp) -> Case {
    Case {
        customer: id.clone(),
        campaign: campaign.id.clone(),
        reference: reference(id, &campaign.id),
        round: 1,
        state: CaseState::Open,
        opened_at: at,
        round_at: at,
        sites: std::collections::BTreeMap::new(),
        told: Vec::new(),
    }
}
