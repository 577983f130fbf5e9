//! Passwords as argon2id hashes (RFC 9106), with the crate's own parameters: 19 MiB, 2 passes.

use argon2::{Argon2, PasswordHasher, PasswordVerifier};

use crate::secret::Secret;

/// A hash for `[web.users]`; `None` when the machine gives no randomness.
#[must_use]
pub fn hash(password: &str) -> Option<String> {
    let mut salt = [0_u8; 16];
    rustls::crypto::aws_lc_rs::default_provider().secure_random.fill(&mut salt).ok()?;
    Some(Argon2::default().hash_password_with_salt(password.as_bytes(), &salt).ok()?.to_string())
}

/// Whether the password is that user's. Takes as long for a user who does not exist.
pub(super) fn verify(password: &str, of: Option<&Secret>) -> bool {
    /// Nobody's.
    const DUMMY: &str =
        "$argon2id$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$E8V5DKYoVZ8Tx8Rg4qRVRsE6pSrpwcHHIQ5KzVJqP6c";
    let hash = of.map_or(DUMMY, Secret::expose);
    let same = Argon2::default().verify_password(password.as_bytes(), hash).is_ok();
    same && of.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_again_and_another_is_not() {
        let hashed = hash("correct horse battery").unwrap();
        assert!(hashed.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hashed}");
        let secret = Secret::new(hashed);
        assert!(verify("correct horse battery", Some(&secret)));
        assert!(!verify("correct horse batterx", Some(&secret)));
        assert!(!verify("correct horse battery", None));
    }
}
