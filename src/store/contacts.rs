//! What the store keeps of contacts and of mail that came back.

use sha2::{Digest, Sha256};

use crate::domain::Timestamp;
use crate::domain::customer::Address;
use crate::domain::delivery::DeliveryId;
use crate::domain::site::CustomerId;

/// A contact whose address is dead. It holds no address: [`contact_fingerprint`] recognises it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadContact {
    /// Whose contact.
    pub customer: CustomerId,
    /// See [`contact_fingerprint`].
    pub fingerprint: String,
    /// The address for people, masked.
    pub masked: String,
    /// Since when it is known.
    pub since: Timestamp,
    /// What the server said, one line, addresses masked.
    pub why: String,
    /// The delivery that came back.
    pub delivery: DeliveryId,
}

/// What a report means for one delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BounceFinding {
    /// Which delivery it is about.
    pub delivery: DeliveryId,
    /// The class's word, for the history.
    pub word: &'static str,
    /// For the history, addresses masked.
    pub text: String,
    /// The recipient whom the mail has not reached after all: its server had taken it, and then sent it back.
    pub came_back: Option<(Address, String)>,
    /// The contact to mark as dead.
    pub dead: Option<DeadContact>,
}

/// Recognises a customer's contact without holding its address. Upper and lower case are one, as everywhere in practice.
#[must_use]
pub fn contact_fingerprint(customer: &CustomerId, address: &str) -> String {
    let digest = Sha256::digest(format!("{customer}\n{}", address.to_ascii_lowercase()));
    digest.iter().take(16).map(|b| format!("{b:02x}")).collect()
}
