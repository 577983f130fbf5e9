//! `[[campaign]]`: the built-in ones have a default for every key but what only the vendor knows; another must say when
//! and whom.

use std::collections::BTreeSet;
use std::path::Path;

use chrono::NaiveDate;
use toml::value::Datetime;

use crate::config::section::Section;
use crate::config::values::{Bad, quoted};
use crate::config::{CampaignConfig, dates, values};
use crate::domain::campaign::{Affects, Campaign, CampaignId, Milestone, Product};

/// The campaign that is there without being written, or with this id.
const BUILT_IN: &str = "exchange-online-basic-auth";

/// The campaign that has defaults too, but runs only where it is written.
const EWS: &str = "exchange-online-ews";

pub(in crate::config) fn campaigns(s: &mut Section<'_, '_>, base: &Path) -> Option<Vec<CampaignConfig>> {
    let mut ids = BTreeSet::new();
    let campaigns = s.sections("campaign", |s| {
        let id = s.or("id", BUILT_IN, id);
        if !ids.insert(id.clone()) {
            s.problem("id", format!("\"{id}\" stands twice"), "each campaign has its own id");
        }
        campaign(s, id, base)
    });
    campaigns.into_iter().collect()
}

/// What differs between the campaigns that have defaults and those that have none.
struct Given {
    affects: Option<Affects>,
    begins: Option<NaiveDate>,
    deadline: Option<NaiveDate>,
    postponed_to: Option<NaiveDate>,
    last_day: Option<NaiveDate>,
    source: Option<String>,
    reminders: Vec<Milestone>,
    overdue_every: Option<u32>,
}

fn campaign(s: &mut Section<'_, '_>, id: CampaignId, base: &Path) -> Option<CampaignConfig> {
    let given = match id.0.as_str() {
        BUILT_IN => basic_auth(s),
        EWS => ews(s),
        _ => another(s),
    };
    let consent_every = s.or("consent_every", "7d", values::days);
    let templates = s.opt("templates", values::existing_dir(base));
    let product = product(s, &id, given.affects);
    let deadline = given.deadline?;
    // Moving the built-in deadline past the later dates that were not written makes these meaningless, not the edit wrong.
    let begins = given.begins.filter(|day| s.has("begins") || *day < deadline);
    let postponed_to = given.postponed_to.filter(|day| s.has("postponed_to") || *day > deadline);
    let follows = |last: NaiveDate| {
        (last > deadline || last == deadline && begins.is_some())
            && postponed_to.is_none_or(|postponed| postponed <= last)
    };
    let last_day = given.last_day.filter(|day| s.has("final") || follows(*day));
    dates_follow(s, begins, deadline, postponed_to, last_day);
    let campaign = Campaign {
        id,
        affects: given.affects?,
        begins,
        deadline,
        postponed_to,
        last_day,
        reminders: given.reminders,
        overdue_every: given.overdue_every,
        consent_every,
        source: given.source,
        product,
    };
    Some(CampaignConfig { campaign, templates })
}

fn basic_auth(s: &mut Section<'_, '_>) -> Given {
    Given {
        affects: Some(s.or("affects", "basic_auth", affects)),
        begins: s.opt("begins", dates::date),
        deadline: Some(s.or("deadline", day("2022-10-01"), dates::date)),
        postponed_to: Some(s.or("postponed_to", day("2022-12-31"), dates::date)),
        last_day: Some(s.or("final", day("2023-01-01"), dates::date)),
        source: Some(s.or("source", SOURCE, values::url).to_string()),
        reminders: reminders(s, &["60d", "30d", "14d", "7d", "3d", "1d"]),
        overdue_every: s.or("overdue_every", "7d", overdue_every),
    }
}

/// From `begins` on Microsoft blocks EWS tenant by tenant, at `deadline` for good. What the customer has to do helps only
/// in between, so the reminders are few and stop a month before, and after it nothing is said.
fn ews(s: &mut Section<'_, '_>) -> Given {
    let deadline = s.or("deadline", day("2027-04-01"), dates::date);
    let last_day = s.or("final", day("2027-04-01"), dates::date);
    Given {
        affects: Some(s.or("affects", "exchange_online", affects)),
        begins: Some(s.or("begins", day("2026-10-01"), dates::date)),
        deadline: Some(deadline),
        postponed_to: s.opt("postponed_to", dates::date),
        // A deadline that was moved past the usual end is the end.
        last_day: Some(if s.has("final") { last_day } else { last_day.max(deadline) }),
        source: Some(s.or("source", EWS_SOURCE, values::url).to_string()),
        reminders: reminders(s, &["120d", "90d", "60d", "30d"]),
        overdue_every: s.or("overdue_every", "off", overdue_every),
    }
}

fn another(s: &mut Section<'_, '_>) -> Given {
    let hint = format!("only \"{BUILT_IN}\" and \"{EWS}\" have one of their own");
    Given {
        affects: s.required("affects", &hint, affects),
        begins: s.opt("begins", dates::date),
        deadline: s.required("deadline", &hint, dates::date),
        postponed_to: s.opt("postponed_to", dates::date),
        last_day: s.opt("final", dates::date),
        source: s.opt("source", values::url).map(|url| url.to_string()),
        reminders: reminders(s, &["60d", "30d", "14d", "7d", "3d", "1d"]),
        overdue_every: s.or("overdue_every", "7d", overdue_every),
    }
}

const SOURCE: &str =
    "https://jpmessaging.github.io/blog/basic-authentication-deprecation-in-exchange-online-september/";

const EWS_SOURCE: &str = "https://jpmessaging.github.io/blog/exchange-online-ews-your-time-is-almost-up/";

fn affects(value: &toml::de::DeValue<'_>) -> Result<Affects, Bad> {
    let words = [Affects::BasicAuth, Affects::ExchangeOnline].map(|affects| (affects.as_str(), affects));
    values::choice(words)(value)
}

/// Whole days, or `off`.
fn overdue_every(value: &toml::de::DeValue<'_>) -> Result<Option<u32>, Bad> {
    match value.as_str() {
        Some("off") => Ok(None),
        _ => values::days(value).map(Some),
    }
}

/// What the notices say of the vendor's product: the built-in wording of `exchange_online` campaigns is about its id.
fn product(s: &mut Section<'_, '_>, id: &CampaignId, affects: Option<Affects>) -> Option<Product> {
    let app_id = match id.0.as_str() {
        EWS => s.required(
            "app_id",
            "the product's application id in Microsoft Entra: customers must put it on a list",
            guid,
        ),
        _ => s.opt("app_id", guid),
    };
    let (plan_ja, plan_en) = s.section("vendor_plan", |s| (s.opt("ja", vendor_plan), s.opt("en", vendor_plan)));
    if affects == Some(Affects::BasicAuth) {
        for key in ["app_id", "vendor_plan"] {
            if s.has(key) {
                let hint = "take it out, or set affects = \"exchange_online\"";
                s.problem(key, "says nothing in a campaign that affects \"basic_auth\"", hint);
            }
        }
    }
    if s.has("vendor_plan") && !s.has("app_id") && affects == Some(Affects::ExchangeOnline) {
        s.problem("vendor_plan", "is shown only by the built-in wording, which needs `app_id`", "set `app_id` too");
    }
    Some(Product { app_id: app_id?, plan_ja, plan_en })
}

/// `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` in hexadecimal; in lower case.
fn guid(value: &toml::de::DeValue<'_>) -> Result<String, Bad> {
    let text = values::text(value)?.to_ascii_lowercase();
    let parts: Vec<&str> = text.split('-').collect();
    let shaped = parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12])
        && parts.iter().all(|part| part.bytes().all(|b| b.is_ascii_hexdigit()));
    let placeholder = text.bytes().filter(|b| *b != b'-').all(|b| b == text.as_bytes()[0]);
    match (shaped, placeholder) {
        (true, false) => Ok(text),
        (true, true) => Err(Bad::new(format!("{} is a placeholder", quoted(&text))).hint("write the product's own id")),
        (false, _) => Err(Bad::new(format!("{} is no application id", quoted(&text)))
            .hint("the application (client) id of the product, such as \"1b730954-1685-4b74-9bfd-dac224a7b894\"")),
    }
}

/// The longest plan, in characters: a few sentences.
const PLAN_MAX: usize = 600;

fn vendor_plan(value: &toml::de::DeValue<'_>) -> Result<String, Bad> {
    let text = values::text(value)?;
    match text.chars().count() {
        n if n > PLAN_MAX => Err(Bad::new(format!("has {n} characters; at most {PLAN_MAX} are possible"))),
        _ => Ok(text),
    }
}

/// begins < deadline < postponed_to <= final, and deadline < final; where `begins` is another day, `final` may be the
/// deadline itself.
fn dates_follow(
    s: &mut Section<'_, '_>,
    begins: Option<NaiveDate>,
    deadline: NaiveDate,
    postponed_to: Option<NaiveDate>,
    last_day: Option<NaiveDate>,
) {
    if let Some(begins) = begins
        && begins >= deadline
        && s.sound(&["begins", "deadline"])
    {
        s.problem(
            "begins",
            format!("`begins` ({begins}) is not before `deadline` ({deadline})"),
            "it is the day Microsoft begins; leave it out where that is the deadline",
        );
    }
    if let Some(postponed) = postponed_to
        && postponed <= deadline
        && s.sound(&["deadline", "postponed_to"])
    {
        let marked = if s.has("postponed_to") { "postponed_to" } else { "deadline" };
        s.problem(
            marked,
            format!("`postponed_to` ({postponed}) is not after `deadline` ({deadline})"),
            "customers who opted out have more time, not less; set both",
        );
    }
    if let Some(last) = last_day
        && s.sound(&["deadline", "postponed_to", "final"])
    {
        let (key, day) = match postponed_to {
            Some(postponed) if last < postponed => ("postponed_to", postponed),
            _ if last < deadline || last == deadline && begins.is_none() => ("deadline", deadline),
            _ => return,
        };
        let relation = if key == "deadline" { "not after" } else { "before" };
        let marked = if s.has("final") { "final" } else { key };
        s.problem(
            marked,
            format!("`final` ({last}) is {relation} `{key}` ({day})"),
            "it is the day from which there is no way back; set both",
        );
    }
}

fn reminders(s: &mut Section<'_, '_>, default: &[&str]) -> Vec<Milestone> {
    let mut reminders = s.list("reminders", default, |value| values::days(value).map(|days| Milestone { days }));
    reminders.sort_by(|a, b| b.cmp(a));
    let twice: BTreeSet<Milestone> =
        reminders.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    for milestone in twice.into_iter().rev() {
        s.problem("reminders", format!("the milestone {milestone} stands twice"), "each distance once (1w is 7d)");
    }
    reminders
}

fn id(value: &toml::de::DeValue<'_>) -> Result<CampaignId, Bad> {
    let text = values::text(value)?;
    CampaignId::new(&text).ok_or_else(|| {
        Bad::new(format!(
            "{} is no id: lower-case letters, digits and hyphens, at most {}",
            quoted(&text),
            CampaignId::MAX
        ))
    })
}

fn day(text: &str) -> Datetime {
    text.parse().expect("a constant")
}
