//! What a pass on one day makes of the stored cases: read for the notice pass, `plan`, `check` and the digest.
//!
//! The cases come a page of customers at a time, and of a page only what is due is kept: all cases of a large fleet took hundreds
//! of megabytes. Invariant: what is said of a customer is what a plan of all cases at once would say, for a customer's cases
//! stand in one page; [`DayPlan::in_order`] gives the order over all.

use chrono::NaiveDate;

use super::Snapshot;
use super::bounces::{self, Dead};
use crate::domain::campaign::{Campaign, CampaignId};
use crate::domain::case::Case;
use crate::domain::plan::{self, Planned};
use crate::domain::site::CustomerId;
use crate::store::{Result, Store};

/// Customers in a page.
const PAGE: u32 = 1000;

/// The cases to plan on a day, page by page.
pub struct Pages<'a> {
    store: &'a dyn Store,
    day: NaiveDate,
    after: Option<CustomerId>,
    done: bool,
}

impl<'a> Pages<'a> {
    /// From the first one.
    #[must_use]
    pub fn new(store: &'a dyn Store, day: NaiveDate) -> Self {
        Self { store, day, after: None, done: false }
    }

    /// The cases of the next customers; `None`: there are no more.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn next(&mut self) -> Result<Option<Vec<Case>>> {
        if self.done {
            return Ok(None);
        }
        let page = self.store.cases_page(self.day, self.after.as_ref(), PAGE).await?;
        self.done = page.next.is_none();
        self.after = page.next;
        Ok(Some(page.cases))
    }
}

/// What a pass decides with, beside the cases.
pub struct Planner<'a> {
    /// Knows what came back.
    pub store: &'a dyn Store,
    /// The files.
    pub snapshot: &'a Snapshot,
    /// The campaigns; not always those of the files.
    pub campaigns: &'a [Campaign],
    /// Who cannot be reached.
    pub dead: &'a Dead,
    /// The day.
    pub day: NaiveDate,
}

impl Planner<'_> {
    /// What a pass on the day makes of a page of cases.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn page(&self, cases: &[Case]) -> anyhow::Result<PagePlan> {
        let Self { snapshot, campaigns, day, .. } = *self;
        let calendar = &snapshot.config.calendar;
        let pass = plan::plan(cases, &*snapshot.customers, campaigns, calendar, snapshot.policy(), day);
        let again = match calendar.is_business_day(day) {
            true => bounces::told_again(self.store, snapshot, campaigns, self.dead, cases, &pass.planned).await?,
            false => Vec::new(),
        };
        Ok(PagePlan { pass, again })
    }
}

/// What becomes of a page of cases.
pub struct PagePlan {
    /// What is due, and what is not.
    pub pass: plan::Pass,
    /// What came back and is told again, to `fallback_email`.
    pub again: Vec<Planned>,
}

impl PagePlan {
    /// All notices.
    pub fn notices(&self) -> impl Iterator<Item = &Planned> {
        self.pass.planned.iter().chain(&self.again)
    }
}

/// What is due on a day, over all pages.
#[derive(Default)]
pub struct DayPlan {
    /// What is due.
    pub planned: Vec<Planned>,
    /// What is told again after it.
    pub again: Vec<Planned>,
    /// The cases that are resolved without a word.
    pub resolved_silently: Vec<(CustomerId, CampaignId)>,
}

impl DayPlan {
    /// Takes another page.
    pub fn add(&mut self, page: PagePlan) {
        self.planned.extend(page.pass.planned);
        self.again.extend(page.again);
        self.resolved_silently.extend(page.pass.resolved_silently);
    }

    /// Most urgent first.
    #[must_use]
    pub fn in_order(mut self, day: NaiveDate) -> Self {
        plan::by_urgency(&mut self.planned, day);
        self
    }
}
