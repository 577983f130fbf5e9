//! DKIM signatures (RFC 6376, RFC 8463), relaxed/relaxed, RSA and Ed25519.
//!
//! Our own and not lettre's, whose signature over a multipart message does not verify once Content-Type is signed. The key is proven
//! when it is loaded: one signature is checked with its own public half. Invariant: the message's bytes are not touched,
//! the signature is put before them; From is signed once more than it is there, so that a second one breaks it.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ED25519, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use sha2::{Digest, Sha256};

use crate::config::DkimConfig;
use crate::domain::Timestamp;
use crate::secret::SecretError;

/// What is signed where it is there (RFC 6376 5.4.1); From once more than it is there.
const SIGNED: [&str; 12] = [
    "From",
    "To",
    "Cc",
    "Reply-To",
    "Subject",
    "Date",
    "Message-ID",
    "In-Reply-To",
    "References",
    "MIME-Version",
    "Content-Type",
    "Auto-Submitted",
];

/// Why a key cannot be used. Never holds the key.
#[derive(Debug, thiserror::Error)]
pub enum DkimError {
    /// It cannot be read.
    #[error("cannot read mail.dkim.key")]
    Secret(#[source] SecretError),
    /// No PEM block of a private key in it.
    #[error("mail.dkim.key is no private key in PEM form (-----BEGIN PRIVATE KEY----- or RSA PRIVATE KEY)")]
    Pem,
    /// Neither RSA with 2048 bits or more nor Ed25519.
    #[error("mail.dkim.key is neither an RSA key of 2048 to 8192 bits nor an Ed25519 key")]
    Kind,
    /// Its own public half does not verify what it signs.
    #[error("mail.dkim.key does not verify its own signature; make a new key")]
    SelfCheck,
    /// The signing operation failed.
    #[error("cannot sign with mail.dkim.key")]
    Sign,
}

enum Key {
    Rsa(RsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// A proven key with the names it signs for.
pub struct Signer {
    domain: String,
    selector: String,
    key: Key,
}

impl Signer {
    /// Reads the key and proves it.
    ///
    /// # Errors
    /// [`DkimError`]
    pub fn load(config: &DkimConfig) -> Result<Self, DkimError> {
        let pem = config.key.read().map_err(DkimError::Secret)?;
        Self::new(&config.domain, &config.selector, pem.expose())
    }

    /// The same with a key in hand: PKCS#1 or PKCS#8, in PEM form.
    ///
    /// # Errors
    /// [`DkimError`]
    pub fn new(domain: &str, selector: &str, pem: &str) -> Result<Self, DkimError> {
        let key = match PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| DkimError::Pem)? {
            PrivateKeyDer::Pkcs1(der) => {
                Key::Rsa(RsaKeyPair::from_der(der.secret_pkcs1_der()).map_err(|_| DkimError::Kind)?)
            }
            PrivateKeyDer::Pkcs8(der) => {
                let der = der.secret_pkcs8_der();
                match Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
                    Ok(key) => Key::Ed25519(key),
                    Err(_) => Key::Rsa(RsaKeyPair::from_pkcs8(der).map_err(|_| DkimError::Kind)?),
                }
            }
            _ => return Err(DkimError::Kind),
        };
        let signer = Self { domain: domain.to_owned(), selector: selector.to_owned(), key };
        signer.prove()?;
        Ok(signer)
    }

    /// What the DNS must hold at `SELECTOR._domainkey.DOMAIN`, without the key's form around it.
    #[must_use]
    pub fn dns_name(&self) -> String {
        format!("{}._domainkey.{}", self.selector, self.domain)
    }

    fn prove(&self) -> Result<(), DkimError> {
        let proof = b"kigen proves its key";
        let signature = self.signature(proof)?;
        let verified =
            match &self.key {
                Key::Rsa(key) => UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key().as_ref())
                    .verify(proof, &signature),
                Key::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key.public_key().as_ref())
                    .verify(&Sha256::digest(proof), &signature),
            };
        verified.map_err(|_| DkimError::SelfCheck)
    }

    /// RSA signs the SHA-256 by its own scheme; Ed25519 signs the hash's octets (RFC 8463 section 3).
    fn signature(&self, data: &[u8]) -> Result<Vec<u8>, DkimError> {
        match &self.key {
            Key::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), data, &mut signature).map_err(|_| DkimError::Sign)?;
                Ok(signature)
            }
            Key::Ed25519(key) => Ok(key.sign(&Sha256::digest(data)).as_ref().to_vec()),
        }
    }

    /// The message with its signature before it.
    ///
    /// # Errors
    /// [`DkimError::Sign`]; then nothing is sent.
    pub fn sign(&self, message: &[u8], at: Timestamp) -> Result<Vec<u8>, DkimError> {
        let (header, body) = split(message);
        let fields = fields(header);
        let mut names = vec!["From"];
        let mut signed = Vec::new();
        for name in SIGNED {
            // RFC 6376 5.4.2: of several fields of one name the lowest is signed first. Ours stand once each.
            if let Some((_, field)) = fields.iter().rev().find(|(n, _)| n.eq_ignore_ascii_case(name)) {
                names.push(name);
                signed.extend_from_slice(relaxed_field(field).as_bytes());
                signed.extend_from_slice(b"\r\n");
            }
        }
        let algorithm = match &self.key {
            Key::Rsa(_) => "rsa-sha256",
            Key::Ed25519(_) => "ed25519-sha256",
        };
        let body_hash = BASE64.encode(Sha256::digest(relaxed_body(body)));
        let mut field = format!(
            "DKIM-Signature: v=1; a={algorithm}; c=relaxed/relaxed; d={}; s={};\r\n t={}; h={};\r\n bh={body_hash};\r\n b=",
            self.domain,
            self.selector,
            at.timestamp(),
            folded(&names),
        );
        // Its own field comes last, without its value and without the line's end (RFC 6376 3.7).
        signed.extend_from_slice(relaxed_field(&field).as_bytes());
        let signature = BASE64.encode(self.signature(&signed)?);
        let mut rest = signature.as_str();
        while rest.len() > 72 {
            let (line, later) = rest.split_at(72);
            field.push_str(line);
            field.push_str("\r\n ");
            rest = later;
        }
        field.push_str(rest);
        field.push_str("\r\n");
        let mut whole = field.into_bytes();
        whole.extend_from_slice(message);
        Ok(whole)
    }
}

/// `From:From:To:…`, folded where the line would grow long; white space around the colons means nothing.
fn folded(names: &[&str]) -> String {
    let mut out = String::new();
    let mut column = 20;
    for (n, name) in names.iter().enumerate() {
        if n > 0 {
            out.push(':');
        }
        if column + name.len() > 70 {
            out.push_str("\r\n  ");
            column = 2;
        }
        out.push_str(name);
        column += name.len() + 1;
    }
    out
}

fn split(message: &[u8]) -> (&str, &[u8]) {
    let end = message.windows(4).position(|w| w == b"\r\n\r\n");
    let (header, body) = match end {
        Some(end) => (&message[..end + 2], &message[end + 4..]),
        None => (message, &[][..]),
    };
    // The builder makes ASCII only; whatever else would come is not signed, and so does not verify.
    (std::str::from_utf8(header).unwrap_or_default(), body)
}

/// The fields with their names; a line that begins with white space belongs to the field before it.
fn fields(header: &str) -> Vec<(&str, String)> {
    let mut all: Vec<(&str, String)> = Vec::new();
    for line in header.split_inclusive("\r\n") {
        if line.starts_with([' ', '\t']) {
            if let Some((_, field)) = all.last_mut() {
                field.push_str(line);
            }
        } else if let Some((name, _)) = line.split_once(':') {
            all.push((name.trim_end(), line.to_owned()));
        }
    }
    all
}

/// RFC 6376 3.4.2: the name in lower case, unfolded, white space as one space and none at the ends or around the colon.
fn relaxed_field(field: &str) -> String {
    let (name, value) = field.split_once(':').unwrap_or((field, ""));
    let words: Vec<&str> = value.split([' ', '\t', '\r', '\n']).filter(|w| !w.is_empty()).collect();
    format!("{}:{}", name.trim_end().to_ascii_lowercase(), words.join(" "))
}

/// RFC 6376 3.4.4: white space as one space and none at a line's end, no empty lines at the end.
fn relaxed_body(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    let mut empty = 0_usize;
    let body = body.strip_suffix(b"\r\n").unwrap_or(body);
    for line in body.split(|b| *b == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let start = out.len();
        let mut space = false;
        let mut shown = false;
        for b in line {
            if matches!(b, b' ' | b'\t') {
                space = true;
                continue;
            }
            if !shown {
                for _ in 0..empty {
                    out.extend_from_slice(b"\r\n");
                }
                empty = 0;
                shown = true;
            }
            if space {
                out.push(b' ');
                space = false;
            }
            out.push(*b);
        }
        if out.len() == start {
            empty += 1;
        } else {
            out.extend_from_slice(b"\r\n");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_canonical_forms_are_those_of_the_rfc() {
        // RFC 6376 3.4.5.
        assert_eq!(relaxed_field("A: X\r\n"), "a:X");
        assert_eq!(relaxed_field("B : Y\t\r\n\tZ  \r\n"), "b:Y Z");
        assert_eq!(relaxed_body(b" C \r\nD \t E\r\n\r\n\r\n"), b" C\r\nD E\r\n");
        assert_eq!(relaxed_body(b""), b"");
        assert_eq!(relaxed_body(b"\r\n\r\n"), b"");
        assert_eq!(relaxed_body(b"a\r\n\r\nb"), b"a\r\n\r\nb\r\n");
    }

    #[test]
    fn what_is_no_key_is_refused_by_name() {
        assert!(matches!(Signer::new("example.jp", "s", "hello").err(), Some(DkimError::Pem)));
        let ec = "-----BEGIN PRIVATE KEY-----\nMIGHAgEA\n-----END PRIVATE KEY-----\n";
        assert!(matches!(Signer::new("example.jp", "s", ec).err(), Some(DkimError::Kind)));
    }
}
