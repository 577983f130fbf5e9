//! What proves that we are the product's application: its secret, or a signed assertion (RFC 7523 section 2.2).
//!
//! Read when it is first needed in a run, so that commands that ask nothing need none, and a replaced secret is taken up by
//! the next run. Invariant: neither the secret, the key nor an assertion is shown by `{:?}` or stands in an error.

use std::fmt;

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::TimeDelta;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::config::ConsentCredential;
use crate::domain::Timestamp;
use crate::secret::{Secret, SecretError};

/// How long an assertion counts; it is used at once.
const LIFE: TimeDelta = TimeDelta::minutes(5);

/// Why the credential cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The secret or the key cannot be read.
    #[error("cannot read {key}: {source}")]
    Secret {
        /// The configuration's key.
        key: &'static str,
        /// Why.
        source: SecretError,
    },
    /// No certificate in the file.
    #[error("microsoft.consent.certificate holds no certificate; it must be PEM")]
    Certificate,
    /// No RSA key.
    #[error("microsoft.consent.key is no RSA key in PEM")]
    Key,
    /// Signing failed.
    #[error("the assertion could not be signed")]
    Sign,
}

/// The credential, ready for use.
pub enum Credential {
    /// A client secret.
    Secret(Secret),
    /// A key, and its certificate's thumbprint.
    Certificate {
        /// `x5t#S256` (RFC 7515 section 4.1.8).
        thumbprint: String,
        /// The key.
        key: EncodingKey,
    },
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[derive(Serialize)]
struct Claims<'a> {
    aud: &'a str,
    iss: &'a str,
    sub: &'a str,
    jti: String,
    iat: i64,
    nbf: i64,
    exp: i64,
}

impl Credential {
    /// Reads it from where the configuration says it is.
    ///
    /// # Errors
    /// [`CredentialError`] names the key of the configuration.
    pub fn read(config: &ConsentCredential) -> Result<Self, CredentialError> {
        match config {
            ConsentCredential::Secret(source) => {
                let wrong = |source| CredentialError::Secret { key: "microsoft.consent.client_secret", source };
                Ok(Self::Secret(source.read().map_err(wrong)?))
            }
            ConsentCredential::Certificate { certificate, key } => {
                let first = CertificateDer::pem_file_iter(certificate).ok().and_then(|mut all| all.next());
                let certificate = first.and_then(Result::ok).ok_or(CredentialError::Certificate)?;
                let thumbprint = URL_SAFE_NO_PAD.encode(Sha256::digest(certificate.as_ref()));
                let wrong = |source| CredentialError::Secret { key: "microsoft.consent.key", source };
                let pem = key.read().map_err(wrong)?;
                let key = EncodingKey::from_rsa_pem(pem.expose().as_bytes()).map_err(|_| CredentialError::Key)?;
                Ok(Self::Certificate { thumbprint, key })
            }
        }
    }

    /// The form fields that prove who we are to the token endpoint `audience`.
    ///
    /// # Errors
    /// When the key cannot sign.
    pub fn fields(
        &self,
        client_id: &str,
        audience: &str,
        now: Timestamp,
    ) -> Result<Vec<(&'static str, Secret)>, CredentialError> {
        Ok(match self {
            Self::Secret(secret) => vec![("client_secret", secret.clone())],
            Self::Certificate { thumbprint, key } => {
                let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
                vec![
                    ("client_assertion_type", Secret::new(kind.to_owned())),
                    ("client_assertion", assertion(thumbprint, key, client_id, audience, now)?),
                ]
            }
        })
    }
}

fn assertion(
    thumbprint: &str,
    key: &EncodingKey,
    client_id: &str,
    audience: &str,
    now: Timestamp,
) -> Result<Secret, CredentialError> {
    let mut id = [0_u8; 16];
    rand::fill(&mut id).map_err(|_| CredentialError::Sign)?;
    let claims = Claims {
        aud: audience,
        iss: client_id,
        sub: client_id,
        jti: URL_SAFE_NO_PAD.encode(id),
        iat: now.timestamp(),
        nbf: now.timestamp(),
        exp: (now + LIFE).timestamp(),
    };
    let mut header = Header::new(Algorithm::PS256);
    header.x5t_s256 = Some(thumbprint.to_owned());
    jsonwebtoken::encode(&header, &claims, key).map(Secret::new).map_err(|_| CredentialError::Sign)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::os::unix::fs::PermissionsExt as _;

    use jsonwebtoken::{DecodingKey, Validation};

    use super::*;
    use crate::secret::SecretSource;

    #[test]
    fn an_assertion_is_one_that_the_public_key_confirms() {
        let dir = tempfile::tempdir().unwrap();
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["kigen".to_owned()]).unwrap().self_signed(&pair).unwrap();
        let (public, private) = (dir.path().join("entra.pem"), dir.path().join("entra-key.pem"));
        std::fs::write(&public, certificate.pem()).unwrap();
        std::fs::write(&private, pair.serialize_pem()).unwrap();
        std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o600)).unwrap();
        let config =
            ConsentCredential::Certificate { certificate: public.clone(), key: SecretSource::File(private.clone()) };
        let credential = Credential::read(&config).unwrap();
        assert_eq!(format!("{credential:?}"), "***");

        let now: Timestamp = "2026-09-01T00:00:00Z".parse().unwrap();
        let audience = "https://login.example/t/oauth2/v2.0/token";
        let fields = credential.fields("app-1", audience, now).unwrap();
        assert_eq!(fields[0].1.expose(), "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
        let mut validation = Validation::new(Algorithm::PS256);
        validation.set_audience(&[audience]);
        validation.set_issuer(&["app-1"]);
        validation.validate_exp = false; // the clock is the test's
        validation.required_spec_claims = HashSet::from(["exp", "nbf", "aud", "iss", "sub"].map(str::to_owned));
        let key = DecodingKey::from_rsa_pem(pair.public_key_pem().as_bytes()).unwrap();
        let token = jsonwebtoken::decode::<serde_json::Value>(fields[1].1.expose(), &key, &validation).unwrap();
        assert_eq!(token.claims["exp"].as_i64().unwrap() - token.claims["nbf"].as_i64().unwrap(), 300);
        assert_eq!(token.claims["sub"], "app-1");
        let expected = URL_SAFE_NO_PAD.encode(Sha256::digest(certificate.der()));
        assert_eq!(token.header.x5t_s256, Some(expected));
        let other = credential.fields("app-1", audience, now).unwrap();
        assert_ne!(fields[1].1.expose(), other[1].1.expose(), "each has an id of its own");

        let swapped = ConsentCredential::Certificate { certificate: private, key: SecretSource::File(public) };
        assert!(matches!(Credential::read(&swapped), Err(CredentialError::Certificate)));
    }
}
