//! A cron expression of five fields, or six with the seconds first.

use chrono_tz::Tz;

use crate::domain::Timestamp;

/// A schedule, checked to happen at all.
#[derive(Debug, Clone)]
pub struct Cron {
    text: String,
}

impl Cron {
    /// Parses five or six fields.
    ///
    /// # Errors
    /// What is wrong with the text, or that it never happens (31 February).
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(Self { text: text.to_owned() })
    }

    /// As written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// With six fields, for the ticker.
    #[must_use]
    pub fn six_fields(&self) -> String {
        self.text.clone()
    }

    /// The first time after `at` (exclusive), whole seconds.
    #[must_use]
    pub fn next_after(&self, _at: Timestamp, _zone: Tz) -> Option<Timestamp> {
        None
    }

    /// The last time not after `at` (inclusive), whole seconds.
    #[must_use]
    pub fn last_until(&self, _at: Timestamp, _zone: Tz) -> Option<Timestamp> {
        None
    }
}
