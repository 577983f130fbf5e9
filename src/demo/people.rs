//! How customers react to notices: each company has a temperament, and everything is decided by a seed. Pure; the replay
//! tells it the day and the mails, and applies the actions to the admin tool's world.

use std::collections::BTreeMap;

use chrono::{NaiveDate, TimeDelta};

use super::random::Random;
use crate::domain::calendar::Calendar;
use crate::domain::site::AuthMethod;

/// How a company deals with such mails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Temperament {
    /// Switches all its sites one to three business days after its first mail.
    Prompt,
    /// Needs a second mail, and up to a week after it.
    Slow,
    /// Switches on the last business day before its deadline or the one before that, if it was told.
    LastMinute,
    /// Never does anything.
    Never,
    /// Switches all its sites but one, and that one after the next mail.
    ForgetsSite,
    /// Switches promptly; two to five weeks later one site goes back, and after the next mail it is switched for good.
    Relapses,
    /// Switches some day without having been told.
    UnawareButFixed,
}

impl Temperament {
    /// Every temperament.
    pub const ALL: [Self; 7] = [
        Self::Prompt,
        Self::Slow,
        Self::LastMinute,
        Self::Never,
        Self::ForgetsSite,
        Self::Relapses,
        Self::UnawareButFixed,
    ];

    /// How often each occurs, of 100.
    const SHARES: [(Self, u64); 7] = [
        (Self::Prompt, 36),
        (Self::Slow, 20),
        (Self::LastMinute, 13),
        (Self::Never, 8),
        (Self::ForgetsSite, 8),
        (Self::Relapses, 6),
        (Self::UnawareButFixed, 9),
    ];
}

/// Somebody at a company changes one site's method and presses \[設定内容を保存\].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// The customer's id.
    pub customer: String,
    /// The site's name.
    pub site: String,
    /// What is chosen.
    pub method: AuthMethod,
}

/// A company with affected sites.
#[derive(Debug, Clone)]
pub struct Person {
    customer: String,
    temperament: Temperament,
    /// The affected sites, in the list's order.
    sites: Vec<String>,
    deadline: NaiveDate,
    mails: u32,
    /// Decided, but not done yet.
    plans: Vec<(NaiveDate, Action)>,
    /// How far this person's story has come.
    stage: Stage,
    random: Random,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing was decided yet.
    Waiting,
    /// A part is done or on its way; one more mail, after this many, brings the rest.
    Partly { after: u32 },
    /// Nothing more will happen.
    Done,
}

/// Everybody.
#[derive(Debug, Clone)]
pub struct People {
    people: Vec<Person>,
    calendar: Calendar,
    /// The first day of the world.
    since: Option<NaiveDate>,
}

impl Person {
    /// A company whose temperament, like all its later decisions, comes from the seed.
    #[must_use]
    pub fn new(customer: &str, sites: Vec<String>, deadline: NaiveDate, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let temperament = random.weighted(&Temperament::SHARES);
        Self {
            customer: customer.to_owned(),
            temperament,
            sites,
            deadline,
            mails: 0,
            plans: Vec::new(),
            stage: Stage::Waiting,
            random,
        }
    }

    /// The same with a given temperament.
    #[must_use]
    pub fn with_temperament(mut self, temperament: Temperament) -> Self {
        self.temperament = temperament;
        self
    }

    /// How it deals with mails.
    #[must_use]
    pub fn temperament(&self) -> Temperament {
        self.temperament
    }

    fn plan(&mut self, day: NaiveDate, sites: &[String], method: AuthMethod) {
        let action = |site: &String| (day, Action { customer: self.customer.clone(), site: site.clone(), method });
        self.plans.extend(sites.iter().map(action));
    }

    fn plan_all(&mut self, day: NaiveDate) {
        let sites = self.sites.clone();
        self.plan(day, &sites, AuthMethod::OAuth);
    }

    /// Decides, on a day on which so many mails in all have come.
    fn decide(&mut self, today: NaiveDate, since: NaiveDate, calendar: &Calendar) {
        let soon = |random: &mut Random, most: u64| business_days_after(calendar, today, 1 + random.below(most));
        match (self.temperament, self.stage) {
            (_, Stage::Done) | (Temperament::Never, _) => {}
            (Temperament::UnawareButFixed, _) => {
                let day = business_days_after(calendar, since, 2 + self.random.below(30));
                self.plan_all(day);
                self.stage = Stage::Done;
            }
            (Temperament::LastMinute, _) => self.decide_at_the_last_minute(today, calendar),
            (Temperament::Prompt, _) if self.mails >= 1 => {
                let day = soon(&mut self.random, 3);
                self.plan_all(day);
                self.stage = Stage::Done;
            }
            (Temperament::Slow, _) if self.mails >= 2 => {
                let day = soon(&mut self.random, 5);
                self.plan_all(day);
                self.stage = Stage::Done;
            }
            (Temperament::ForgetsSite | Temperament::Relapses, Stage::Waiting) if self.mails >= 1 => {
                let day = soon(&mut self.random, 3);
                self.do_a_part(day, calendar);
            }
            // The part must have been done before the mail: an answer to an old one says nothing new.
            (Temperament::ForgetsSite | Temperament::Relapses, Stage::Partly { after })
                if self.mails > after && self.plans.is_empty() =>
            {
                let day = soon(&mut self.random, 3);
                let last: Vec<String> = self.sites.last().cloned().into_iter().collect();
                self.plan(day, &last, AuthMethod::OAuth);
                self.stage = Stage::Done;
            }
            _ => {}
        }
    }

    fn decide_at_the_last_minute(&mut self, today: NaiveDate, calendar: &Calendar) {
        let eve = self.deadline - TimeDelta::days(1);
        let last = calendar.business_day_until(eve).unwrap_or(eve);
        let earlier = last - TimeDelta::days(1);
        let first = calendar.business_day_until(earlier).unwrap_or(earlier);
        if self.mails >= 1 && today >= first {
            let day = if self.random.percent(50) { today } else { last.max(today) };
            self.plan_all(day);
            self.stage = Stage::Done;
        }
    }

    fn do_a_part(&mut self, day: NaiveDate, calendar: &Calendar) {
        let relapses = self.temperament == Temperament::Relapses;
        let Some((last, others)) = self.sites.split_last().map(|(last, others)| (last.clone(), others.to_vec())) else {
            self.stage = Stage::Done;
            return;
        };
        self.plan(day, &others, AuthMethod::OAuth);
        if relapses || others.is_empty() {
            // Who has one site only has none to forget.
            self.plan(day, std::slice::from_ref(&last), AuthMethod::OAuth);
        }
        if relapses {
            let weeks = 2 + i64::try_from(self.random.below(4)).unwrap_or(0);
            let back = business_days_after(calendar, day + TimeDelta::weeks(weeks), 0);
            self.plan(back, &[last], AuthMethod::Basic);
        }
        let forgets = !relapses && !others.is_empty();
        self.stage = if relapses || forgets { Stage::Partly { after: self.mails } } else { Stage::Done };
    }

    fn act(&mut self, today: NaiveDate) -> Vec<Action> {
        let due = |plan: &(NaiveDate, Action)| plan.0 <= today;
        let (now, later) = std::mem::take(&mut self.plans).into_iter().partition(due);
        self.plans = later;
        let now: Vec<(NaiveDate, Action)> = now;
        if !now.is_empty()
            && let Stage::Partly { after } = &mut self.stage
        {
            // Only a mail that comes after the deed can speak of what is left.
            *after = self.mails;
        }
        now.into_iter().map(|(_, action)| action).collect()
    }
}

impl People {
    /// Everybody who has something to react to.
    #[must_use]
    pub fn new(people: Vec<Person>, calendar: Calendar) -> Self {
        Self { people, calendar, since: None }
    }

    /// Everybody, in the order given.
    #[must_use]
    pub fn people(&self) -> &[Person] {
        &self.people
    }

    /// One day, in order and none twice: the mails that came since the last one, by customer's id, and what people do today.
    /// Nobody works on a day that is no business day of the calendar.
    pub fn day(&mut self, today: NaiveDate, mails: &BTreeMap<String, u32>) -> Vec<Action> {
        let since = *self.since.get_or_insert(today);
        let works = self.calendar.is_business_day(today);
        let mut actions = Vec::new();
        for person in &mut self.people {
            person.mails += mails.get(&person.customer).copied().unwrap_or(0);
            if works {
                person.decide(today, since, &self.calendar);
                actions.extend(person.act(today));
            }
        }
        actions
    }
}

/// The `count`-th business day after `day`; for 0 the first one not before it.
fn business_days_after(calendar: &Calendar, day: NaiveDate, count: u64) -> NaiveDate {
    let from = |day| calendar.business_day_from(day).unwrap_or(day);
    if count == 0 {
        return from(day);
    }
    (0..count).fold(day, |day, _| from(day + TimeDelta::days(1)))
}

#[cfg(test)]
mod tests {
    use chrono::NaiveTime;

    use super::*;
    use crate::domain::calendar::{Closed, Holidays};

    fn date(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn calendar() -> Calendar {
        Calendar {
            zone: chrono_tz::Asia::Tokyo,
            days: [true, true, true, true, true, false, false],
            opens: NaiveTime::from_hms_opt(9, 0, 0).unwrap(),
            closes: NaiveTime::from_hms_opt(18, 0, 0),
            holidays: Holidays::None,
            closed: vec![Closed::Once { from: date("2022-08-11"), to: date("2022-08-11") }],
        }
    }

    /// Lives through 120 days from 2022-08-01 with mails on the given days; every action with its day.
    fn live(
        temperament: Temperament,
        sites: &[&str],
        mails: &[&str],
        seed: u64,
    ) -> Vec<(NaiveDate, String, AuthMethod)> {
        let sites = sites.iter().map(|site| (*site).to_owned()).collect();
        let person = Person::new("C1", sites, date("2022-10-01"), seed).with_temperament(temperament);
        let mut people = People::new(vec![person], calendar());
        let mails: Vec<NaiveDate> = mails.iter().map(|day| date(day)).collect();
        let mut lived = Vec::new();
        for day in date("2022-08-01").iter_days().take(120) {
            let came = u32::try_from(mails.iter().filter(|mail| **mail == day).count()).unwrap();
            let actions = people.day(day, &BTreeMap::from([("C1".to_owned(), came)]));
            lived.extend(actions.into_iter().map(|action| (day, action.site, action.method)));
        }
        lived
    }

    #[test]
    fn each_temperament_reacts_in_its_way_whatever_the_seed() {
        for seed in 0..50 {
            let told = |temperament, mails: &[&str]| live(temperament, &["A", "B"], mails, seed);
            let prompt = told(Temperament::Prompt, &["2022-08-10"]);
            assert_eq!(prompt.len(), 2);
            // 2022-08-11 is closed: the third business day is the 16th.
            assert!(
                prompt.iter().all(|(day, ..)| (date("2022-08-12")..=date("2022-08-16")).contains(day)),
                "{prompt:?}"
            );

            assert!(told(Temperament::Slow, &["2022-08-10"]).is_empty(), "one mail is not enough");
            let slow = told(Temperament::Slow, &["2022-08-10", "2022-09-01"]);
            assert!(slow.len() == 2 && slow[0].0 > date("2022-09-01"), "{slow:?}");

            let last = told(Temperament::LastMinute, &["2022-08-10"]);
            assert!(last.iter().all(|(day, ..)| [date("2022-09-29"), date("2022-09-30")].contains(day)), "{last:?}");
            assert_eq!(last.len(), 2);
            assert!(told(Temperament::LastMinute, &[]).is_empty(), "who was not told does not know");

            assert!(told(Temperament::Never, &["2022-08-10", "2022-08-20"]).is_empty());
            assert_eq!(told(Temperament::UnawareButFixed, &[]).len(), 2, "without any mail");
        }
    }

    #[test]
    fn who_forgets_a_site_switches_it_after_the_next_mail() {
        for seed in 0..50 {
            let first = live(Temperament::ForgetsSite, &["A", "B", "C"], &["2022-08-10"], seed);
            assert_eq!(first.iter().map(|(_, site, _)| site.as_str()).collect::<Vec<_>>(), ["A", "B"]);
            let both = live(Temperament::ForgetsSite, &["A", "B", "C"], &["2022-08-10", "2022-09-01"], seed);
            assert_eq!((both.len(), both[2].1.as_str()), (3, "C"));
            assert!(both[2].0 > date("2022-09-01"));
            assert_eq!(live(Temperament::ForgetsSite, &["A"], &["2022-08-10"], seed).len(), 1, "none to forget");
        }
    }

    #[test]
    fn a_relapse_comes_weeks_later_and_ends_with_the_next_mail() {
        for seed in 0..50 {
            let lived = live(Temperament::Relapses, &["A", "B"], &["2022-08-10", "2022-10-03"], seed);
            let methods: Vec<_> = lived.iter().map(|(_, site, method)| (site.as_str(), *method)).collect();
            let (oauth, basic) = (AuthMethod::OAuth, AuthMethod::Basic);
            assert_eq!(methods, [("A", oauth), ("B", oauth), ("B", basic), ("B", oauth)], "seed {seed}");
            let weeks = (lived[2].0 - lived[1].0).num_days();
            assert!((14..=40).contains(&weeks), "{weeks} days");
            assert!(lived[3].0 > date("2022-10-03"));
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_people_and_all_temperaments_occur() {
        let people = |seed: u64| -> Vec<Temperament> {
            (0..200).map(|at| Person::new("C", vec![], date("2022-10-01"), seed + at).temperament()).collect()
        };
        assert_eq!(people(7), people(7));
        assert_ne!(people(7), people(1007));
        for temperament in Temperament::ALL {
            assert!(people(7).contains(&temperament), "{temperament:?}");
        }
        assert_eq!(Temperament::SHARES.iter().map(|(_, share)| share).sum::<u64>(), 100);
    }
}
