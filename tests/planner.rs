//! What must hold of the planner whatever happens: generated fleets, calendars and campaigns, 400 days of scans and passes.
//!
//! The world below keeps its own simple books of what every scan saw; the promises are checked against those, not against
//! the case's counters.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::collections::{BTreeMap, BTreeSet};

use chrono::{NaiveDate, NaiveTime, TimeDelta};
use kigen::domain::calendar::{Calendar, Closed, Holidays};
use kigen::domain::campaign::{Affects, Campaign, CampaignId, Milestone, Standing};
use kigen::domain::case::{self, Case, CaseState, LookKind, Reference, Told};
use kigen::domain::customer::{Address, Customer, Language};
use kigen::domain::observation::{Observation, RawSettings, Reason, Verdict};
use kigen::domain::plan::{NoticeKind, Pass, Planned, Policy, plan};
use kigen::domain::site::{AuthMethod, CustomerId, ServerType, SiteName};
use proptest::prelude::*;

const DAYS: u32 = 400;
const SITES: usize = 3;
const CUSTOMERS: usize = 4;

/// What a look finds of a site from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Basic,
    OAuth,
    NoConsent,
    OnPremises,
    Dark,
    /// Named in the customers file, not listed by the tool.
    Missing,
    /// Not listed.
    Gone,
}

/// Something that happens; `half` counts half days: even before the morning's scan, odd between the scan and the pass.
#[derive(Debug, Clone)]
enum Happening {
    Site { half: u32, customer: usize, site: usize, seen: Seen },
    Listing { half: u32, customer: usize, works: bool },
    Deadline { half: u32, campaign: usize, on: u32 },
    OptedOut { half: u32, customer: usize, opted_out: bool },
}

impl Happening {
    fn half(&self) -> u32 {
        match self {
            Self::Site { half, .. }
            | Self::Listing { half, .. }
            | Self::Deadline { half, .. }
            | Self::OptedOut { half, .. } => *half,
        }
    }
}

#[derive(Debug, Clone)]
struct Setting {
    notify: Vec<bool>,
    begins_with: Vec<Vec<Seen>>,
    calendar: Calendar,
    campaigns: Vec<Campaign>,
    policy: Policy,
    happenings: Vec<Happening>,
    /// First notices in one pass; the rest is held.
    cap: usize,
    /// Days until a person approves what is held.
    approved_after: i64,
    /// Days on which the daemon was down.
    down: BTreeSet<u32>,
}

fn first_day() -> NaiveDate {
    NaiveDate::from_ymd_opt(2022, 7, 1).unwrap()
}

fn nth(n: u32) -> NaiveDate {
    first_day() + TimeDelta::days(i64::from(n))
}

fn seen() -> impl Strategy<Value = Seen> {
    prop_oneof![
        4 => Just(Seen::Basic),
        4 => Just(Seen::OAuth),
        2 => Just(Seen::NoConsent),
        1 => Just(Seen::OnPremises),
        2 => Just(Seen::Dark),
        1 => Just(Seen::Missing),
        1 => Just(Seen::Gone),
    ]
}

fn happening() -> impl Strategy<Value = Happening> {
    let half = 0..2 * DAYS;
    prop_oneof![
        12 => (half.clone(), 0..CUSTOMERS, 0..SITES, seen())
            .prop_map(|(half, customer, site, seen)| Happening::Site { half, customer, site, seen }),
        2 => (half.clone(), 0..CUSTOMERS, any::<bool>())
            .prop_map(|(half, customer, works)| Happening::Listing { half, customer, works }),
        1 => (half.clone(), 0..2_usize, 20..DAYS).prop_map(|(half, campaign, on)| Happening::Deadline { half, campaign, on }),
        1 => (half, 0..CUSTOMERS, any::<bool>())
            .prop_map(|(half, customer, opted_out)| Happening::OptedOut { half, customer, opted_out }),
    ]
}

fn calendar() -> impl Strategy<Value = Calendar> {
    let closed = prop::collection::vec((0..DAYS, 0..20_u32), 0..4);
    (prop::array::uniform7(prop::bool::weighted(0.7)), 0..7_usize, closed).prop_map(|(mut days, one, closed)| {
        days[one] = true;
        Calendar {
            zone: chrono_tz::Asia::Tokyo,
            days,
            opens: NaiveTime::from_hms_opt(9, 0, 0).unwrap(),
            closes: NaiveTime::from_hms_opt(18, 0, 0),
            holidays: Holidays::Japan,
            closed: closed.into_iter().map(|(n, len)| Closed::Once { from: nth(n), to: nth(n + len) }).collect(),
        }
    })
}

fn campaign(n: usize) -> impl Strategy<Value = Campaign> {
    let reminders = prop::collection::btree_set(prop_oneof![0..10_u32, 10..100_u32], 0..7);
    let dates = (20..DAYS, prop::option::of(0..120_u32));
    (dates, reminders, 2..20_u32, 1..20_u32, any::<bool>()).prop_map(
        move |((deadline, postponed), reminders, overdue_every, consent_every, all)| Campaign {
            id: CampaignId(format!("campaign-{n}")),
            affects: if n > 0 && all { Affects::ExchangeOnline } else { Affects::BasicAuth },
            deadline: nth(deadline),
            postponed_to: postponed.map(|more| nth(deadline + more)),
            last_day: None,
            reminders: reminders.into_iter().rev().map(|days| Milestone { days }).collect(),
            begins: None,
            overdue_every: Some(overdue_every),
            consent_every,
            source: None,
            product: None,
        },
    )
}

fn setting() -> impl Strategy<Value = Setting> {
    let fleet = (
        prop::collection::vec(prop::bool::weighted(0.85), CUSTOMERS),
        prop::collection::vec(prop::collection::vec(seen(), SITES), CUSTOMERS),
    );
    let campaigns = prop_oneof![
        campaign(0).prop_map(|one| vec![one]),
        (campaign(0), campaign(1)).prop_map(|(one, two)| vec![one, two]),
    ];
    let safety = (prop_oneof![3 => Just(usize::MAX), 1 => 0..3_usize], 0..30_i64);
    let down = prop::collection::btree_set(0..DAYS, 0..60);
    let happenings = prop::collection::vec(happening(), 0..80);
    (fleet, calendar(), campaigns, 1..4_u32, happenings, safety, down).prop_map(
        |(
            (notify, begins_with),
            calendar,
            campaigns,
            confirm_resolved,
            mut happenings,
            (cap, approved_after),
            down,
        )| {
            happenings.sort_by_key(Happening::half);
            let policy = Policy { confirm_resolved };
            Setting { notify, begins_with, calendar, campaigns, policy, happenings, cap, approved_after, down }
        },
    )
}

/// A site's own book: where it stands in each campaign, and how each scan that said something found it.
#[derive(Debug, Clone, Default)]
struct Book {
    stands: BTreeMap<CampaignId, Standing>,
    scans: BTreeMap<CampaignId, Vec<bool>>,
}

struct World {
    setting: Setting,
    customers: BTreeMap<CustomerId, Customer>,
    truth: Vec<Vec<Seen>>,
    listing: Vec<bool>,
    books: BTreeMap<(CustomerId, SiteName), Book>,
    cases: Vec<Case>,
    /// Every key that was planned and not dropped, with the day.
    keys: BTreeMap<(CustomerId, CampaignId, u32, NoticeKind, String), NaiveDate>,
    told_on: BTreeSet<(CustomerId, NaiveDate)>,
}

fn id(customer: usize) -> CustomerId {
    CustomerId::new(&format!("C{customer}")).unwrap()
}

fn site_name(site: usize) -> SiteName {
    SiteName::new(&format!("S{site}")).unwrap()
}

impl World {
    fn new(setting: Setting) -> Self {
        let customer = |n: usize| Customer {
            id: id(n),
            name: format!("顧客{n}"),
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
            notify: setting.notify[n],
            sites: Vec::new(),
        };
        Self {
            customers: (0..CUSTOMERS).map(|n| (id(n), customer(n))).collect(),
            truth: setting.begins_with.clone(),
            listing: vec![true; CUSTOMERS],
            books: BTreeMap::new(),
            cases: Vec::new(),
            keys: BTreeMap::new(),
            told_on: BTreeSet::new(),
            setting,
        }
    }

    fn happens(&mut self, half: u32) {
        for happening in self.setting.happenings.clone().into_iter().filter(|h| h.half() == half) {
            match happening {
                Happening::Site { customer, site, seen, .. } => self.truth[customer][site] = seen,
                Happening::Listing { customer, works, .. } => self.listing[customer] = works,
                Happening::Deadline { campaign, on, .. } => {
                    if let Some(campaign) = self.setting.campaigns.get_mut(campaign) {
                        campaign.deadline = nth(on);
                    }
                }
                Happening::OptedOut { customer, opted_out, .. } => {
                    self.customers.get_mut(&id(customer)).unwrap().opted_out = opted_out;
                }
            }
        }
    }

    /// A look at one customer: the books first, then the cases.
    fn look(&mut self, customer: usize, kind: LookKind, today: NaiveDate) {
        let at = today.and_hms_opt(0, 0, 0).unwrap().and_utc();
        let observations = observed(&self.truth[customer], self.listing[customer], &id(customer), at);
        let listed = !observations.is_empty() && observations.iter().all(|o| o.site.is_some());
        for campaign in &self.setting.campaigns {
            for site in (0..SITES).filter(|_| listed) {
                let book = self.books.entry((id(customer), site_name(site))).or_default();
                let found = observations.iter().find(|o| o.site == Some(site_name(site)));
                let absent = found.is_none_or(|o| o.verdict == Verdict::Unreadable(Reason::SiteMissing));
                let stands = match found.and_then(|o| campaign.affects.standing(o)) {
                    Some(standing) => standing,
                    None if absent && kind == LookKind::Scan => Standing::Clear,
                    None => continue,
                };
                book.stands.insert(campaign.id.clone(), stands);
                if kind == LookKind::Scan || stands != Standing::Clear {
                    book.scans.entry(campaign.id.clone()).or_default().push(stands == Standing::Clear);
                }
            }
            let place = self.cases.iter().position(|c| c.customer == id(customer) && c.campaign == campaign.id);
            let old = place.map(|n| self.cases.swap_remove(n));
            let open = || Case {
                customer: id(customer),
                campaign: campaign.id.clone(),
                reference: Reference::from_digest(&[0; 5]),
                round: 1,
                state: CaseState::Open,
                opened_at: at,
                round_at: at,
                sites: BTreeMap::new(),
                told: Vec::new(),
            };
            self.cases.extend(case::observe(old, open, campaign.affects, &observations, kind).0);
        }
    }

    /// By the books: the customer's sites that stand so.
    fn stand(&self, customer: &CustomerId, campaign: &CampaignId, standing: Standing) -> BTreeSet<SiteName> {
        let books = self
            .books
            .iter()
            .filter(|((whose, _), book)| whose == customer && book.stands.get(campaign) == Some(&standing));
        books.map(|((_, site), _)| site.clone()).collect()
    }

    fn planned(&self, today: NaiveDate) -> Pass {
        let Setting { campaigns, calendar, policy, .. } = &self.setting;
        plan(&self.cases, &self.customers, campaigns, calendar, *policy, today)
    }

    /// A person approves what was held long enough; what was overtaken meanwhile is dropped.
    fn approvals(&mut self, today: NaiveDate) {
        for case in &mut self.cases {
            let (round, stands) = (case.round, case.sites.values().map(|s| s.standing).collect::<Vec<_>>());
            let mut kept = Vec::new();
            for mut told in std::mem::take(&mut case.told) {
                let key = key(&case.customer, &case.campaign, told.round, told.kind, &told.occasion);
                if !told.counts && (today - told.day).num_days() >= self.setting.approved_after {
                    if told.round != round || !stands.contains(&told.kind.speaks_of()) {
                        self.keys.remove(&key);
                        continue;
                    }
                    told.counts = true;
                    told.day = today;
                    self.told_on.insert((case.customer.clone(), today));
                }
                kept.push(told);
            }
            case.told = kept;
        }
    }

    fn pass(&mut self, today: NaiveDate) -> Result<(), TestCaseError> {
        let candidates = self.planned(today);
        for customer in (0..CUSTOMERS).filter(|n| candidates.planned.iter().any(|p| p.customer == id(*n))) {
            self.look(customer, LookKind::Check, today);
        }
        let mut pass = self.planned(today);
        pass.planned.retain(|p| candidates.planned.iter().any(|c| c.customer == p.customer));
        if !self.setting.calendar.is_business_day(today) {
            prop_assert!(pass.planned.is_empty() && pass.resolved_silently.is_empty(), "{today} is a day off");
            return Ok(());
        }
        for (customer, campaign) in &pass.resolved_silently {
            self.check_resolved(customer, campaign)?;
            let case = self.case_mut(customer, campaign);
            let told = case.told_this_round().count();
            case.state = resolved_at(today);
            prop_assert!(told == 0 || !self.customers[customer].notify, "silently, though it was told");
        }
        let mut new_notices = 0;
        let mut customers_today = BTreeSet::new();
        for planned in &pass.planned {
            prop_assert!(customers_today.insert(planned.customer.clone()), "two notices for {}", planned.customer);
            self.check_planned(planned, today)?;
            new_notices += usize::from(planned.due.kind == NoticeKind::First);
            let held = planned.due.kind == NoticeKind::First && new_notices > self.setting.cap;
            self.queue(planned, held, today);
        }
        // Who was not a candidate before the look may have become one by it: its turn is the next business day.
        let looked_at: BTreeSet<_> = candidates.planned.iter().map(|p| p.customer.clone()).collect();
        self.check_nobody_is_missed(&looked_at, today)
    }

    fn queue(&mut self, planned: &Planned, held: bool, today: NaiveDate) {
        let due = planned.due.clone();
        if !held {
            self.told_on.insert((planned.customer.clone(), today));
        }
        let case = self.case_mut(&planned.customer, &planned.campaign);
        if due.kind == NoticeKind::Resolved {
            case.state = resolved_at(today);
        }
        case.told.push(Told {
            kind: due.kind,
            round: due.round,
            occasion: due.occasion,
            day: today,
            deadline: due.deadline,
            counts: !held,
        });
    }

    fn case_mut(&mut self, customer: &CustomerId, campaign: &CampaignId) -> &mut Case {
        self.cases.iter_mut().find(|c| c.customer == *customer && c.campaign == *campaign).unwrap()
    }

    fn check_planned(&mut self, planned: &Planned, today: NaiveDate) -> Result<(), TestCaseError> {
        let Planned { customer, campaign: campaign_id, due, sites, .. } = planned;
        let what = format!("{today} {customer} {} {} {}", campaign_id.0, due.kind, due.occasion);
        let case = self.cases.iter().find(|c| c.customer == *customer && c.campaign == *campaign_id).unwrap();
        let campaign = self.setting.campaigns.iter().find(|c| c.id == *campaign_id).unwrap();
        let entry = &self.customers[customer];
        prop_assert!(entry.notify, "notify = no: {what}");
        prop_assert!(!self.told_on.contains(&(customer.clone(), today)), "the second notice today: {what}");
        prop_assert_eq!(due.deadline, campaign.deadline_of(entry), "{}", what);
        prop_assert!(!sites.is_empty(), "it speaks of no site: {what}");
        let standing = due.kind.speaks_of();
        if standing != Standing::Clear {
            let by_the_books = self.stand(customer, campaign_id, standing);
            prop_assert_eq!(&sites.iter().cloned().collect::<BTreeSet<_>>(), &by_the_books, "its sites: {}", what);
        }
        let this_round: Vec<&Told> = case.told_this_round().collect();
        let last_of = |kind| this_round.iter().filter(|t| t.kind == kind).map(|t| t.day).max();
        let last = this_round.iter().map(|t| t.day).max();
        match due.kind {
            NoticeKind::First => {
                prop_assert!(this_round.is_empty(), "not the first: {what}");
                prop_assert!(!case.told.iter().any(|t| t.counts), "told in an earlier round: {what}");
            }
            NoticeKind::Regressed => {
                let before = case.told.iter().any(|t| t.counts && t.round < case.round);
                prop_assert!(before, "never told before: {what}");
            }
            NoticeKind::Rescheduled => {
                let named = this_round.iter().filter(|t| t.kind.speaks_of() == Standing::Affected);
                let named = named.max_by_key(|t| t.day).unwrap().deadline;
                prop_assert!(today < due.deadline && named != due.deadline, "it did not move: {what}");
                prop_assert_eq!(due.previous_deadline, Some(named), "{}", what);
            }
            NoticeKind::Overdue => {
                prop_assert!(today >= due.deadline, "not past: {what}");
                let since = last.filter(|d| *d >= due.deadline).map(|d| (today - d).num_days());
                prop_assert!(since.is_none_or(|n| n >= i64::from(campaign.overdue_every.unwrap())), "too soon: {what}");
            }
            NoticeKind::Reminder => {
                let milestone = due.milestone.unwrap();
                let on = self.milestone_day(due.deadline, milestone).unwrap();
                prop_assert!(campaign.reminders.contains(&milestone), "{what}");
                prop_assert!(today < due.deadline && on <= today && last.unwrap() < on, "not its time: {what}");
                for nearer in campaign.reminders.iter().filter(|m| m.days < milestone.days) {
                    let key = key(customer, campaign_id, due.round, due.kind, &nearer.to_string());
                    let reached = self.milestone_day(due.deadline, *nearer).is_some_and(|on| on <= today);
                    prop_assert!(!reached || self.keys.contains_key(&key), "{nearer} is the latest: {what}");
                }
            }
            NoticeKind::Consent => {
                prop_assert!(self.stand(customer, campaign_id, Standing::Affected).is_empty(), "{what}");
                let since = last_of(NoticeKind::Consent).map(|d| (today - d).num_days());
                prop_assert!(since.is_none_or(|n| n >= i64::from(campaign.consent_every)), "too soon: {what}");
            }
            NoticeKind::Resolved => {
                prop_assert!(last.is_some(), "nobody was told: {what}");
                self.check_resolved(customer, campaign_id)?;
            }
        }
        let key = key(customer, campaign_id, due.round, due.kind, &due.occasion);
        let before = self.keys.insert(key, today);
        prop_assert_eq!(before, None, "had already: {}", what);
        Ok(())
    }

    fn milestone_day(&self, deadline: NaiveDate, milestone: Milestone) -> Option<NaiveDate> {
        self.setting.calendar.business_day_until(deadline - TimeDelta::days(i64::from(milestone.days)))
    }

    /// Every site that ever had something to do was clear in the last scans that said something of it.
    fn check_resolved(&self, customer: &CustomerId, campaign: &CampaignId) -> Result<(), TestCaseError> {
        let confirm = self.setting.policy.confirm_resolved as usize;
        for ((whose, site), book) in &self.books {
            let scans = book.scans.get(campaign).map_or(&[][..], Vec::as_slice);
            if whose != customer || scans.iter().all(|clear| *clear) {
                continue;
            }
            let row = scans.iter().rev().take_while(|clear| **clear).count();
            prop_assert!(row >= confirm, "{customer} {site} was clear in {row} scans, {confirm} are asked for");
        }
        Ok(())
    }

    /// No affected site is silently missed: after a pass each customer with one has had what it was owed by then.
    fn check_nobody_is_missed(&self, looked_at: &BTreeSet<CustomerId>, today: NaiveDate) -> Result<(), TestCaseError> {
        for case in &self.cases {
            let customer = &self.customers[&case.customer];
            let campaign = self.setting.campaigns.iter().find(|c| c.id == case.campaign).unwrap();
            let affected = !self.stand(&case.customer, &case.campaign, Standing::Affected).is_empty();
            let waits = case.told.iter().any(|t| !t.counts && t.round == case.round);
            let had_a_notice_today = self.told_on.contains(&(case.customer.clone(), today));
            let moved_by_the_look = looked_at.contains(&case.customer);
            if !affected || !customer.notify || waits || had_a_notice_today || moved_by_the_look {
                continue;
            }
            let what = format!("{today} {} {}", case.customer, case.campaign.0);
            prop_assert!(case.state == CaseState::Open, "affected and not open: {what}");
            let last = case.told_this_round().map(|t| t.day).max();
            let Some(last) = last else {
                return Err(TestCaseError::fail(format!("affected and not told: {what}")));
            };
            let deadline = campaign.deadline_of(customer);
            if today >= deadline {
                let recent = last >= deadline && (today - last).num_days() < i64::from(campaign.overdue_every.unwrap());
                prop_assert!(recent, "overdue and not told: {what}");
                continue;
            }
            let reached = |m: &&Milestone| self.milestone_day(deadline, **m).is_some_and(|on| on <= today && on > last);
            for milestone in campaign.reminders.iter().filter(reached) {
                let key = key(&case.customer, &case.campaign, case.round, NoticeKind::Reminder, &milestone.to_string());
                prop_assert!(self.keys.contains_key(&key), "the {milestone} reminder was missed: {what}");
            }
        }
        Ok(())
    }
}

fn key(
    customer: &CustomerId,
    campaign: &CampaignId,
    round: u32,
    kind: NoticeKind,
    occasion: &str,
) -> (CustomerId, CampaignId, u32, NoticeKind, String) {
    (customer.clone(), campaign.clone(), round, kind, occasion.to_owned())
}

fn resolved_at(today: NaiveDate) -> CaseState {
    CaseState::Resolved { at: today.and_hms_opt(1, 0, 0).unwrap().and_utc() }
}

fn observed(truth: &[Seen], works: bool, customer: &CustomerId, at: kigen::domain::Timestamp) -> Vec<Observation> {
    let observation = |site, verdict, server_type, auth_method| Observation {
        customer: customer.clone(),
        site,
        verdict,
        server_type,
        auth_method,
        raw: RawSettings::default(),
        detail: None,
        observed_at: at,
    };
    if !works {
        return vec![observation(None, Verdict::Unreadable(Reason::LogonRefused), None, None)];
    }
    let (online, own) = (Some(ServerType::ExchangeOnline), Some(ServerType::OnPremises));
    let (basic, oauth) = (Some(AuthMethod::Basic), Some(AuthMethod::OAuth));
    let of = |(site, seen): (usize, &Seen)| {
        let name = Some(site_name(site));
        Some(match seen {
            Seen::Basic => observation(name, Verdict::Affected, online, basic),
            Seen::OAuth => observation(name, Verdict::Switched, online, oauth),
            Seen::NoConsent => observation(name, Verdict::ConsentMissing, online, oauth),
            Seen::OnPremises => observation(name, Verdict::NotExchangeOnline, own, basic),
            Seen::Dark => observation(name, Verdict::Unreadable(Reason::Timeout), None, None),
            Seen::Missing => observation(name, Verdict::Unreadable(Reason::SiteMissing), None, None),
            Seen::Gone => return None,
        })
    };
    truth.iter().enumerate().filter_map(of).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_promises_hold_whatever_happens(setting in setting()) {
        let mut world = World::new(setting);
        for n in 0..DAYS {
            let today = nth(n);
            world.happens(2 * n);
            let runs = !world.setting.down.contains(&n);
            for customer in (0..CUSTOMERS).filter(|_| runs) {
                world.look(customer, LookKind::Scan, today);
            }
            world.happens(2 * n + 1);
            if runs {
                world.approvals(today);
                world.pass(today)?;
            }
        }
    }
}
