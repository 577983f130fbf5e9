//! Who gives consent, and when: most administrators in the evening they switch, some forget it until a mail reminds them.
//! Pure; everything is decided by a seed.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;

use super::super::people::Action;
use super::super::random::Random;
use super::world::{Grant, LoginWorld};
use crate::domain::calendar::Calendar;
use crate::domain::site::AuthMethod;

/// Of 100 companies that switch, so many forget the consent.
const FORGET: u64 = 12;
/// Of 100 that had switched before the campaign began, so many had forgotten it.
const FORGOT: u64 = 6;
/// Of 100 companies, so many sign in at a server of their own.
const FEDERATED: u64 = 20;

/// The administrators of the tenants.
#[derive(Debug, Clone)]
pub struct Administrators {
    /// Who forgets, by customer's id.
    forgetful: BTreeSet<String>,
    /// Who switched, and how many mails had come by then.
    switched: BTreeMap<String, u32>,
    mails: BTreeMap<String, u32>,
    /// Decided, but not done yet.
    plans: Vec<(NaiveDate, String)>,
    calendar: Calendar,
    random: Random,
}

impl Administrators {
    /// Everybody of whom it matters, and their tenants put into the world. `fleet`: customer's id, its domain, and whether a
    /// site of it uses OAuth already.
    #[must_use]
    pub fn new<'a>(
        fleet: impl Iterator<Item = (&'a str, &'a str, bool)>,
        world: &mut LoginWorld,
        calendar: Calendar,
        seed: u64,
    ) -> Self {
        let mut random = Random::new(seed ^ 0x6d73_6f66);
        let (mut forgetful, mut switched) = (BTreeSet::new(), BTreeMap::new());
        for (id, domain, uses_oauth) in fleet {
            let federated = random.percent(FEDERATED);
            let forgets = random.percent(if uses_oauth { FORGOT } else { FORGET });
            world.add(domain, federated, Grant::None);
            if forgets {
                forgetful.insert(id.to_owned());
            } else if uses_oauth {
                world.consent(domain);
            }
            if uses_oauth {
                switched.insert(id.to_owned(), 0);
            }
        }
        Self { forgetful, switched, mails: BTreeMap::new(), plans: Vec::new(), calendar, random }
    }

    /// One day, in order and none twice: what was switched, and the mails that came; who consents this evening.
    pub fn day(&mut self, today: NaiveDate, actions: &[Action], mails: &BTreeMap<String, u32>) -> Vec<String> {
        for (customer, count) in mails {
            *self.mails.entry(customer.clone()).or_default() += count;
        }
        let mut consents = Vec::new();
        for action in actions.iter().filter(|action| action.method == AuthMethod::OAuth) {
            if !self.switched.contains_key(&action.customer) {
                let came = self.mails.get(&action.customer).copied().unwrap_or(0);
                self.switched.insert(action.customer.clone(), came);
                if !self.forgetful.contains(&action.customer) {
                    consents.push(action.customer.clone());
                }
            }
        }
        // A mail that comes after the switch says that the consent is missing.
        let reminded: Vec<String> = self
            .forgetful
            .iter()
            .filter(|id| self.switched.get(*id).is_some_and(|then| self.mails.get(*id).is_some_and(|now| now > then)))
            .cloned()
            .collect();
        for id in reminded {
            self.forgetful.remove(&id);
            let mut day = today;
            for _ in 0..=self.random.below(3) {
                day = self.calendar.business_day_from(day + chrono::TimeDelta::days(1)).unwrap_or(day);
            }
            self.plans.push((day, id));
        }
        let (now, later) = std::mem::take(&mut self.plans).into_iter().partition(|(day, _)| *day <= today);
        self.plans = later;
        let now: Vec<(NaiveDate, String)> = now;
        consents.extend(now.into_iter().map(|(_, id)| id));
        consents
    }
}

#[cfg(test)]
mod tests {
    use chrono::NaiveTime;

    use super::*;
    use crate::domain::calendar::Holidays;

    #[test]
    fn most_consent_with_the_switch_and_the_others_after_a_mail() {
        let calendar = Calendar {
            zone: chrono_tz::Asia::Tokyo,
            days: [true, true, true, true, true, false, false],
            opens: NaiveTime::MIN,
            closes: None,
            holidays: Holidays::None,
            closed: Vec::new(),
        };
        let ids: Vec<String> = (0..400).map(|n| format!("C{n:04}")).collect();
        let mut world = LoginWorld::new("app", "secret", "vendor.example");
        let fleet = ids.iter().enumerate().map(|(n, id)| (id.as_str(), id.as_str(), n % 2 == 0));
        let mut people = Administrators::new(fleet, &mut world, calendar, 7);
        let given = ids.iter().filter(|id| world.has_consented(id)).count();
        assert!((170..200).contains(&given), "of 200 that use OAuth: {given}");

        let day = |text: &str| text.parse::<NaiveDate>().unwrap();
        let switch = |id: &String| Action { customer: id.clone(), site: "A".into(), method: AuthMethod::OAuth };
        let actions: Vec<Action> = ids.iter().skip(1).step_by(2).map(switch).collect();
        let first = people.day(day("2022-09-01"), &actions, &BTreeMap::new());
        assert!((150..195).contains(&first.len()), "of 200 that switch: {}", first.len());
        assert!(people.day(day("2022-09-02"), &[], &BTreeMap::new()).is_empty(), "nobody was reminded");
        let mails: BTreeMap<String, u32> = ids.iter().map(|id| (id.clone(), 1)).collect();
        let mut rest = people.day(day("2022-09-05"), &[], &mails);
        assert!(rest.is_empty(), "not on the same day");
        for n in 6..=9 {
            rest.extend(people.day(day(&format!("2022-09-0{n}")), &[], &BTreeMap::new()));
        }
        assert_eq!(rest.len() + first.len() + given, 400, "everybody in the end");
    }
}
