//! Contacts whose address is dead, as people look at them: whose, since when, and who is told instead.
//!
//! Marking them is [`super::bounces`]'s; here they are listed, and revived because a person says so.

use super::Context;
use super::bounces::Dead;
use crate::domain::customer::{Customer, Language};
use crate::store::{By, DeadContact, contact_fingerprint};

/// Who is told in the place of a dead address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Other addresses of the same customer.
    Others,
    /// `fallback_email`.
    Fallback,
    /// Only those who get copies.
    Copies,
    /// Nobody: the customer must be called.
    Nobody,
    /// The customer's row has an error, or is gone from the file: nothing is sent to it anyway.
    Unlisted,
}

impl Left {
    /// The word in output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Others => "others",
            Self::Fallback => "fallback",
            Self::Copies => "copies",
            Self::Nobody => "nobody",
            Self::Unlisted => "unlisted",
        }
    }

    /// The same for people.
    #[must_use]
    pub fn text(self, language: Language) -> &'static str {
        let (ja, en) = match self {
            Self::Others => ("同じお客様のほかのアドレスには届きます", "the customer's other addresses are told"),
            Self::Fallback => ("以後は fallback_email にお送りします", "fallback_email is told from now on"),
            Self::Copies => ("以後は cc のアドレスにだけお送りします", "only those who get copies are left"),
            Self::Nobody => {
                ("ほかに送れるアドレスがありません。電話が必要です", "no other address is left, it must be called")
            }
            Self::Unlisted => ("顧客ファイルの行に誤りがあります", "its row in the customers file has an error"),
        };
        match language {
            Language::Ja => ja,
            Language::En => en,
        }
    }

    fn of(dead: &Dead, customer: &Customer) -> Self {
        let Some(reached) = dead.reachable(customer) else { return Self::Nobody };
        let among = |list: &[_]| reached.email.iter().any(|address| list.contains(address));
        match () {
            () if among(&customer.email) => Self::Others,
            () if among(&customer.fallback_email) => Self::Fallback,
            () => Self::Copies,
        }
    }
}

/// A dead contact with what it means for its customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLine {
    /// The contact.
    pub contact: DeadContact,
    /// The customer's name.
    pub name: String,
    /// Who is told instead.
    pub left: Left,
}

/// Every dead contact that the customers file still names, by customer.
///
/// # Errors
/// When the store fails.
pub async fn dead(ctx: &Context) -> anyhow::Result<Vec<DeadLine>> {
    let all = ctx.store.dead_contacts().await?;
    let dead = Dead::of(&all);
    let line = |contact: DeadContact| {
        let customer = ctx.snapshot.customers.get(&contact.customer);
        let name = customer.as_ref().map_or_else(|| contact.customer.to_string(), |c| c.name.clone());
        DeadLine { name, left: customer.as_ref().map_or(Left::Unlisted, |c| Left::of(&dead, c)), contact }
    };
    Ok(all.into_iter().filter(|contact| super::bounces::in_file(&ctx.snapshot, contact)).map(line).collect())
}

/// Whether a person means this contact: by its address, or by its masked form as it is listed.
#[must_use]
pub fn is_meant(contact: &DeadContact, address: &str) -> bool {
    contact.masked == address || contact.fingerprint == contact_fingerprint(&contact.customer, address)
}

/// The contacts count as alive again: the next notice goes there. What came back is not sent again by itself.
///
/// # Errors
/// When the store fails.
pub async fn revive(ctx: &Context, contacts: &[DeadContact], by: &By) -> anyhow::Result<()> {
    ctx.store.revive_contacts(contacts, by).await?;
    super::alert::of_contacts(ctx).await;
    Ok(())
}
