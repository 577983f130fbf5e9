//! Passwords that leave memory are sealed first.
//!
//! The customers file holds them on its own disk, where its operator put it; a temporary file of ours may lie on another
//! one, and what is deleted there is not wiped. So it holds them encrypted (AES-256-GCM), with a key that was drawn for
//! this reading of the file and is in memory only.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::secret::Secret;

/// The key, and how often it was used: a number is used once.
pub(super) struct Seal {
    key: LessSafeKey,
    used: u64,
}

impl Default for Seal {
    fn default() -> Self {
        let mut key = [0; 32];
        aws_lc_rs::rand::fill(&mut key).expect("the system always gives random bytes");
        let key = UnboundKey::new(&AES_256_GCM, &key).expect("the key has the cipher's length");
        Self { key: LessSafeKey::new(key), used: 0 }
    }
}

impl Seal {
    /// Seals; number and bytes open it again.
    pub(super) fn close(&mut self, secret: &Secret) -> (u64, Vec<u8>) {
        let number = self.used;
        self.used += 1;
        let mut bytes = secret.expose().as_bytes().to_vec();
        let sealed = self.key.seal_in_place_append_tag(nonce(number), Aad::empty(), &mut bytes);
        sealed.expect("a password is shorter than what the cipher takes");
        (number, bytes)
    }

    /// What was sealed.
    ///
    /// # Panics
    /// When the bytes are not those that were sealed under the number.
    pub(super) fn open(&self, number: u64, sealed: &[u8]) -> Secret {
        let mut bytes = sealed.to_vec();
        let opened = self.key.open_in_place(nonce(number), Aad::empty(), &mut bytes);
        let length = opened.expect("it was sealed with this key").len();
        bytes.truncate(length);
        Secret::new(String::from_utf8(bytes).expect("it was a text"))
    }
}

fn nonce(number: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[..8].copy_from_slice(&number.to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
}
