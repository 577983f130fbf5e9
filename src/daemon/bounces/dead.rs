//! Contacts whose address is dead: who of a customer can still be reached, and when a contact is forgotten.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::daemon::{Context, Snapshot, alert};
use crate::domain::customer::{Address, Customer};
use crate::domain::site::CustomerId;
use crate::store::{DeadContact, contact_fingerprint};

/// The contacts whose address is dead, by customer.
#[derive(Debug, Default)]
pub struct Dead(BTreeMap<CustomerId, BTreeSet<String>>);

impl Dead {
    /// As the store knows them now.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn load(ctx: &Context) -> anyhow::Result<Self> {
        Ok(Self::of(&ctx.store.dead_contacts().await?))
    }

    /// These.
    #[must_use]
    pub fn of(contacts: &[DeadContact]) -> Self {
        let mut all: BTreeMap<CustomerId, BTreeSet<String>> = BTreeMap::new();
        for contact in contacts {
            all.entry(contact.customer.clone()).or_default().insert(contact.fingerprint.clone());
        }
        Self(all)
    }

    /// Whether the customer has one.
    pub(super) fn has(&self, customer: &CustomerId) -> bool {
        self.0.contains_key(customer)
    }

    /// Nobody has one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Who has a dead contact.
    pub fn customers(&self) -> impl Iterator<Item = &CustomerId> {
        self.0.keys()
    }

    /// Those of a customer's addresses that are not dead.
    pub(super) fn living(&self, customer: &CustomerId, addresses: &[Address]) -> Vec<Address> {
        let dead = |a: &&Address| {
            self.0.get(customer).is_some_and(|dead| dead.contains(&contact_fingerprint(customer, a.as_str())))
        };
        addresses.iter().filter(|a| !dead(a)).cloned().collect()
    }

    /// The customer with the contacts that can be reached: `fallback_email` in the place of `email` once all of it is
    /// dead, and without that those who get copies. `None`: nobody is left.
    #[must_use]
    pub fn reachable<'a>(&self, customer: &'a Customer) -> Option<Cow<'a, Customer>> {
        if !self.has(&customer.id) {
            return Some(Cow::Borrowed(customer));
        }
        let living = |addresses: &[Address]| self.living(&customer.id, addresses);
        let (mut email, mut cc) = (living(&customer.email), living(&customer.cc));
        if email.is_empty() {
            email = living(&customer.fallback_email);
        }
        if email.is_empty() {
            email = std::mem::take(&mut cc);
        }
        (!email.is_empty()).then(|| Cow::Owned(Customer { email, cc, ..customer.clone() }))
    }
}

/// Forgets dead contacts whose address is not in the customers file any more: one that is written there again is new.
///
/// # Errors
/// When the store fails.
pub async fn forget_changed(ctx: &Context) -> anyhow::Result<()> {
    let gone: Vec<DeadContact> =
        ctx.store.dead_contacts().await?.into_iter().filter(|contact| !in_file(&ctx.snapshot, contact)).collect();
    for contact in &gone {
        tracing::info!(customer = %contact.customer, "the dead contact {} is not in the customers file any more", contact.masked);
    }
    if !gone.is_empty() {
        ctx.store.forget_contacts(&gone).await?;
        alert::of_contacts(ctx).await;
    }
    Ok(())
}

/// A customer whose row has an error says nothing of its contacts.
#[must_use]
pub fn in_file(snapshot: &Snapshot, contact: &DeadContact) -> bool {
    snapshot.customers.get(&contact.customer).is_none_or(|customer| {
        let mut all = customer.email.iter().chain(&customer.cc).chain(&customer.fallback_email);
        all.any(|a| contact_fingerprint(&customer.id, a.as_str()) == contact.fingerprint)
    })
}
