//! Hand-made cases to ask the planner about.

use std::collections::BTreeMap;

use chrono::{NaiveDate, NaiveTime};

use crate::domain::Timestamp;
use crate::domain::calendar::{Calendar, Holidays};
use crate::domain::campaign::{Affects, Campaign, CampaignId, Milestone, Standing};
use crate::domain::case::{Case, CaseSite, CaseState, Evidence, Reference, Told};
use crate::domain::customer::{Address, Customer, Language};
use crate::domain::observation::RawSettings;
use crate::domain::plan::{Decision, NoticeKind, Policy, decide};
use crate::domain::site::{CustomerId, SiteName};

pub const POLICY: Policy = Policy { confirm_resolved: 2 };

pub fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

pub fn morning(text: &str) -> Timestamp {
    format!("{text}T06:00:00+09:00").parse().unwrap()
}

pub fn calendar() -> Calendar {
    Calendar {
        zone: chrono_tz::Asia::Tokyo,
        days: [true, true, true, true, true, false, false],
        opens: NaiveTime::from_hms_opt(9, 0, 0).unwrap(),
        closes: NaiveTime::from_hms_opt(18, 0, 0),
        holidays: Holidays::None,
        closed: Vec::new(),
    }
}

pub fn campaign() -> Campaign {
    Campaign {
        id: CampaignId("basic".to_owned()),
        affects: Affects::BasicAuth,
        begins: None,
        deadline: day("2022-10-01"),
        postponed_to: Some(day("2022-12-31")),
        last_day: Some(day("2023-01-01")),
        reminders: [60, 30, 14, 7, 3, 1].map(|days| Milestone { days }).to_vec(),
        overdue_every: Some(7),
        consent_every: 7,
        source: None,
        product: None,
    }
}

pub fn customer(id: &str) -> Customer {
    Customer {
        id: CustomerId::new(id).unwrap(),
        name: format!("株式会社{id}"),
        email: vec![Address::new("admin@example.jp").unwrap()],
        contact_name: None,
        cc: Vec::new(),
        fallback_email: Vec::new(),
        phone: None,
        language: Language::Ja,
        tenant_domain: None,
        feature_phone: None,
        smartphone: None,
        opted_out: false,
        done: Vec::new(),
        notify: true,
        sites: Vec::new(),
    }
}

pub fn customers(ids: &[&str]) -> BTreeMap<CustomerId, Customer> {
    ids.iter().map(|id| (CustomerId::new(id).unwrap(), customer(id))).collect()
}

/// An open case in round 1 since 2022-07-01, without sites.
pub fn case(id: &str) -> Case {
    Case {
        customer: CustomerId::new(id).unwrap(),
        campaign: campaign().id,
        reference: Reference::from_digest(&[0; 5]),
        round: 1,
        state: CaseState::Open,
        opened_at: morning("2022-07-01"),
        round_at: morning("2022-07-01"),
        sites: BTreeMap::new(),
        told: Vec::new(),
    }
}

pub trait CaseExt: Sized {
    /// With a site; `scans` are the clear scans in a row.
    fn site(self, name: &str, standing: Standing, scans: u32) -> Self;
    /// With a notice that counts, naming the deadline 2022-10-01.
    fn told(self, kind: NoticeKind, round: u32, occasion: &str, on: &str) -> Self;
    /// The last notice is held.
    fn held(self) -> Self;
    /// The last notice named this deadline.
    fn naming(self, deadline: &str) -> Self;
    /// In this round.
    fn round(self, round: u32) -> Self;
    /// Resolved.
    fn resolved(self) -> Self;
}

impl CaseExt for Case {
    fn site(mut self, name: &str, standing: Standing, scans: u32) -> Self {
        let evidence = Evidence {
            observed_at: morning("2022-07-01"),
            server_type: None,
            auth_method: None,
            raw: RawSettings::default(),
        };
        let site = CaseSite {
            standing,
            since: morning("2022-07-01"),
            clear_scans: scans,
            absent_scans: 0,
            now: evidence.clone(),
            before: evidence,
        };
        self.sites.insert(SiteName::new(name).unwrap(), site);
        self
    }

    fn told(mut self, kind: NoticeKind, round: u32, occasion: &str, on: &str) -> Self {
        let occasion = occasion.to_owned();
        self.told.push(Told { kind, round, occasion, day: day(on), deadline: day("2022-10-01"), counts: true });
        self
    }

    fn held(mut self) -> Self {
        self.told.last_mut().unwrap().counts = false;
        self
    }

    fn naming(mut self, deadline: &str) -> Self {
        self.told.last_mut().unwrap().deadline = day(deadline);
        self
    }

    fn round(mut self, round: u32) -> Self {
        self.round = round;
        self
    }

    fn resolved(mut self) -> Self {
        self.state = CaseState::Resolved { at: morning("2022-09-01") };
        self
    }
}

/// `kind`, `kind occasion`, `silently` or `-`.
pub fn word(decision: &Decision) -> String {
    match decision {
        Decision::Tell(due) => format!("{} {}", due.kind, due.occasion).trim_end().to_owned(),
        Decision::ResolveSilently => "silently".to_owned(),
        Decision::Nothing(_) => "-".to_owned(),
    }
}

/// What the planner decides for this case of an ordinary customer.
pub fn decided(case: &Case, on: &str) -> Decision {
    decide(case, &customer(case.customer.as_str()), &campaign(), &calendar(), POLICY, day(on))
}
