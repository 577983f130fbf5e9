//! The core: what a site's settings mean, when a customer is told what, and what an outcome does to a mail.
//!
//! Pure functions of data and a given `now`. No IO, no async, no clock, no SQL, no serde formats; every decision carries
//! its reason as data. Everything else in this crate is a shell around this room and may use it; it uses none of them.

pub mod alert;
pub mod calendar;
pub mod campaign;
pub mod case;
pub mod customer;
pub mod delivery;
pub mod guard;
pub mod holidays;
pub mod layout;
pub mod observation;
pub mod plan;
pub mod site;

/// An instant. Stored in UTC, shown in the configured time zone.
pub type Timestamp = chrono::DateTime<chrono::Utc>;
