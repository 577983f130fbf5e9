//! `kigen report`: who was told when, whom to call, and the proof of what was sent. Reads the stored state only.

mod calls;
mod coverage;
mod evidence;

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use chrono::{NaiveDate, TimeDelta};
use clap::{Args, Subcommand};

use super::Global;
use super::output::{FormatArg, Listing};
use super::time::TimeArg;
use crate::app;
use crate::daemon::{Context, untold};
use crate::domain::Timestamp;
use crate::domain::campaign::{Campaign, CampaignId, Standing};
use crate::domain::case::Case;
use crate::domain::customer::Customer;
use crate::domain::delivery::{DeliveryState, RecipientState};
use crate::domain::plan::{self, Planned};
use crate::domain::site::CustomerId;
use crate::store::{Delivery, OutboxFilter};

#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    #[command(subcommand)]
    report: Report,
}

#[derive(Debug, Subcommand)]
enum Report {
    /// Every affected site: told when, what became of it, and what comes next
    Coverage(Asked),
    /// Customers whom nobody has successfully told, as a telephone list: the nearest deadline first
    Calls(Asked),
    /// Proof of what was sent to whom and when, with the hash of each message's bytes
    Evidence(Asked),
}

#[derive(Debug, Args)]
struct Asked {
    /// Only this customer
    #[arg(long, value_name = "ID")]
    customer: Option<CustomerIdArg>,
    /// As if it were asked then
    #[arg(long, value_name = "TIME")]
    at: Option<TimeArg>,
    #[command(flatten)]
    format: FormatArg,
}

/// A customer's id on the command line.
#[derive(Debug, Clone)]
struct CustomerIdArg(CustomerId);

impl std::str::FromStr for CustomerIdArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        CustomerId::new(text).map(Self).map_err(|why| why.to_string())
    }
}

pub(super) async fn run(global: &Global, args: &ReportArgs) -> anyhow::Result<ExitCode> {
    let (Report::Coverage(asked) | Report::Calls(asked) | Report::Evidence(asked)) = &args.report;
    let ctx = app::open(&global.config).await?;
    let listing = listing(&ctx, &args.report, asked).await;
    ctx.store.close().await;
    listing?.print(asked.format.format)?;
    Ok(ExitCode::SUCCESS)
}

async fn listing(ctx: &Context, report: &Report, asked: &Asked) -> anyhow::Result<Listing> {
    let only = asked.customer.as_ref().map(|arg| &arg.0);
    if let Some(id) = only
        && !ctx.snapshot.knows(id)
        && ctx.store.history(id).await?.is_none()
    {
        bail!("--customer {id}: not in {}, and never heard of", ctx.snapshot.config.fleet.customers.display());
    }
    let calendar = &ctx.snapshot.config.calendar;
    let at = asked.at.map_or_else(|| ctx.now(), |time| time.at(calendar));
    match report {
        Report::Coverage(_) => coverage::listing(&Material::gather(ctx, only, at).await?),
        Report::Calls(_) => calls::listing(&Material::gather(ctx, only, at).await?, &untold::to_call(ctx).await?),
        Report::Evidence(_) => evidence::listing(ctx, only).await,
    }
}

/// What coverage and calls are made from.
struct Material<'a> {
    ctx: &'a Context,
    today: NaiveDate,
    campaigns: Vec<Campaign>,
    /// Names of all customers of the file, those with a bad row included.
    names: BTreeMap<CustomerId, String>,
    /// The open cases of customers in the file.
    cases: BTreeMap<CustomerId, Vec<Case>>,
    /// Every notice of a case, the oldest first.
    deliveries: BTreeMap<(CustomerId, CampaignId), Vec<Delivery>>,
}

impl<'a> Material<'a> {
    async fn gather(ctx: &'a Context, only: Option<&CustomerId>, at: Timestamp) -> anyhow::Result<Self> {
        let today = ctx.snapshot.config.calendar.day(at);
        let names: BTreeMap<_, _> = ctx.snapshot.entries().map(|e| (e.id, e.name)).collect();
        let all = ctx.store.cases_to_plan(today).await.context("cannot read the cases")?;
        let mut cases: BTreeMap<CustomerId, Vec<Case>> = BTreeMap::new();
        for case in all.into_iter().filter(|c| names.contains_key(&c.customer)) {
            if only.is_none_or(|id| *id == case.customer) {
                cases.entry(case.customer.clone()).or_default().push(case);
            }
        }
        let filter = OutboxFilter { customer: only.cloned(), ..OutboxFilter::default() };
        let mut deliveries: BTreeMap<_, Vec<Delivery>> = BTreeMap::new();
        for delivery in ctx.store.deliveries(&filter).await?.into_iter().rev() {
            let key = &delivery.facts.key;
            deliveries.entry((key.customer.clone(), key.campaign.clone())).or_default().push(delivery);
        }
        Ok(Self { ctx, today, campaigns: ctx.snapshot.campaigns(), names, cases, deliveries })
    }

    fn campaign(&self, case: &Case) -> Option<&Campaign> {
        self.campaigns.iter().find(|c| c.id == case.campaign)
    }

    fn customer(&self, id: &CustomerId) -> Option<Customer> {
        self.ctx.snapshot.customers.get(id)
    }

    fn name(&self, id: &CustomerId) -> &str {
        self.names.get(id).map_or("", String::as_str)
    }

    /// The notices of this round of a case about sites that stand so, the oldest first.
    fn notices<'b>(&'b self, case: &'b Case, standing: Standing) -> impl DoubleEndedIterator<Item = &'b Delivery> {
        let all = self.deliveries.get(&(case.customer.clone(), case.campaign.clone()));
        all.into_iter()
            .flatten()
            .filter(move |d| d.facts.key.round == case.round && d.facts.key.kind.speaks_of() == standing)
    }

    /// The customer's deadline in a case: of one whose row has an error the campaign's own.
    fn deadline(&self, case: &Case) -> Option<NaiveDate> {
        let campaign = self.campaign(case)?;
        Some(self.customer(&case.customer).map_or(campaign.deadline, |customer| campaign.deadline_of(&customer)))
    }

    /// The next notice of each of a customer's cases, as if nobody changed anything; else why there is none.
    fn next(&self, customer: &CustomerId) -> Next {
        let snapshot = &self.ctx.snapshot;
        let (calendar, policy) = (&snapshot.config.calendar, snapshot.policy());
        let cases = self.cases.get(customer).map_or(&[][..], Vec::as_slice);
        let wanted: BTreeSet<&CampaignId> = cases.iter().map(|c| &c.campaign).collect();
        let mut next = Next::default();
        // Most are found within days: the far end is walked to only for who needs it.
        for days in WINDOWS {
            let to = self.today + TimeDelta::days(days);
            next.planned.clear();
            let one: BTreeMap<_, _> = self.customer(customer).map(|c| (customer.clone(), c)).into_iter().collect();
            let walked = plan::walk(cases, &one, &self.campaigns, calendar, policy, self.today, to, usize::MAX);
            for (day, planned) in walked {
                next.planned.entry(planned.campaign.clone()).or_insert((day, planned));
            }
            if next.planned.len() == wanted.len() {
                return next;
            }
        }
        let day = calendar.business_day_from(self.today).unwrap_or(self.today);
        let pass = plan::plan(cases, &*snapshot.customers, &self.campaigns, calendar, policy, day);
        next.nothing = pass.nothing.into_iter().map(|(_, campaign, why)| (campaign, why)).collect();
        next
    }
}

/// How many days ahead a next notice is looked for, in steps.
const WINDOWS: [i64; 3] = [10, 70, 400];

#[derive(Default)]
struct Next {
    planned: BTreeMap<CampaignId, (NaiveDate, Planned)>,
    nothing: BTreeMap<CampaignId, String>,
}

/// Whether a server took the notice for anybody.
fn accepted(delivery: &Delivery) -> bool {
    delivery.recipients.iter().any(|r| r.state == RecipientState::Accepted)
}

/// Who gets the notice, when not all do: what the report says beside the state.
fn outcome(delivery: &Delivery) -> &'static str {
    let states = delivery.recipients.iter().map(|r| r.state.as_str());
    match &delivery.state {
        _ if accepted(delivery) => RecipientState::Accepted.as_str(),
        // Whatever the servers said of every recipient alike: refused, bounced.
        DeliveryState::Sent | DeliveryState::Failed => {
            let mut states = states.filter(|state| *state != RecipientState::Pending.as_str());
            states.next().unwrap_or(delivery.state.as_str())
        }
        state => state.as_str(),
    }
}
