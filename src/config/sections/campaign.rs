//! `[[campaign]]`: the built-in one has a default for every key; another must say when and whom.

use std::collections::BTreeSet;
use std::path::Path;

use chrono::NaiveDate;
use toml::value::Datetime;

use crate::config::section::Section;
use crate::config::values::{Bad, quoted};
use crate::config::{CampaignConfig, dates, values};
use crate::domain::campaign::{Affects, Campaign, CampaignId, Milestone};

/// The campaign that is there without being written, or with this id.
const BUILT_IN: &str = "exchange-online-basic-auth";

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

fn campaign(s: &mut Section<'_, '_>, id: CampaignId, base: &Path) -> Option<CampaignConfig> {
    let built_in = id.0 == BUILT_IN;
    let affects = values::choice([
        (Affects::BasicAuth.as_str(), Affects::BasicAuth),
        (Affects::ExchangeOnline.as_str(), Affects::ExchangeOnline),
    ]);
    let (affects, deadline, postponed_to, last_day, source) = if built_in {
        (
            Some(s.or("affects", "basic_auth", affects)),
            Some(s.or("deadline", day("2022-10-01"), dates::date)),
            Some(s.or("postponed_to", day("2022-12-31"), dates::date)),
            Some(s.or("final", day("2023-01-01"), dates::date)),
            Some(s.or("source", SOURCE, values::url)),
        )
    } else {
        let hint = format!("only \"{BUILT_IN}\" has one of its own");
        (
            s.required("affects", &hint, affects),
            s.required("deadline", &hint, dates::date),
            s.opt("postponed_to", dates::date),
            s.opt("final", dates::date),
            s.opt("source", values::url),
        )
    };
    let reminders = reminders(s);
    let overdue_every = s.or("overdue_every", "7d", values::days);
    let consent_every = s.or("consent_every", "7d", values::days);
    let templates = s.opt("templates", values::existing_dir(base));
    let deadline = deadline?;
    // Moving the built-in deadline past the later dates that were not written makes these meaningless, not the edit wrong.
    let postponed_to = postponed_to.filter(|day| s.has("postponed_to") || *day > deadline);
    let last_day = last_day
        .filter(|day| s.has("final") || (*day > deadline && postponed_to.is_none_or(|postponed| postponed <= *day)));
    dates_follow(s, deadline, postponed_to, last_day);
    let source = source.map(|url| url.to_string());
    let campaign = Campaign {
        id,
        affects: affects?,
        deadline,
        postponed_to,
        last_day,
        reminders,
        overdue_every,
        consent_every,
        source,
    };
    Some(CampaignConfig { campaign, templates })
}

const SOURCE: &str =
    "https://jpmessaging.github.io/blog/basic-authentication-deprecation-in-exchange-online-september/";

/// deadline < postponed_to <= final, and deadline < final.
fn dates_follow(
    s: &mut Section<'_, '_>,
    deadline: NaiveDate,
    postponed_to: Option<NaiveDate>,
    last_day: Option<NaiveDate>,
) {
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
            _ if last <= deadline => ("deadline", deadline),
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

fn reminders(s: &mut Section<'_, '_>) -> Vec<Milestone> {
    let mut reminders = s.list("reminders", &["60d", "30d", "14d", "7d", "3d", "1d"], |value| {
        values::days(value).map(|days| Milestone { days })
    });
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
    let good = text.len() <= 64
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-');
    if good {
        Ok(CampaignId(text))
    } else {
        Err(Bad::new(format!("{} is no id: lower-case letters, digits and hyphens, at most 64", quoted(&text))))
    }
}

fn day(text: &str) -> Datetime {
    text.parse().expect("a constant")
}
