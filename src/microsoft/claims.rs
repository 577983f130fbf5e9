//! The two claims of an access token that are looked at: `roles` and `tid`.
//!
//! The signature is not checked: the token came over TLS from its issuer a moment ago, in answer to our own question, and
//! nothing is granted on it. It is opaque otherwise, for Microsoft gives no promise about its form.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// A payload is a kilobyte or two; the answer it came in was bounded already.
const PAYLOAD_MAX: usize = 48 * 1024;

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The application roles that were granted; without the claim none was.
    pub roles: Vec<String>,
    /// The tenant it is for.
    pub tenant: Option<String>,
}

/// Reads them; the error says what is wrong and holds nothing of the token.
///
/// # Errors
/// The text is no JWT (RFC 7519), its payload is no JSON, or a claim is of another type.
pub fn read(token: &str) -> Result<Claims, &'static str> {
    let parts: Vec<&str> = token.split('.').collect();
    let [_, payload, signature] = parts.as_slice() else { return Err("the token is no JWT") };
    if signature.is_empty() || payload.len() > PAYLOAD_MAX {
        return Err("the token is cut off or too long");
    }
    let payload = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).map_err(|_| "the token is no base64url")?;
    let payload: Value = serde_json::from_slice(&payload).map_err(|_| "the token holds no JSON")?;
    let payload = payload.as_object().ok_or("the token holds no claims")?;
    let roles = match payload.get("roles") {
        None => Vec::new(),
        Some(Value::Array(roles)) => {
            let read = |role: &Value| role.as_str().map(str::to_owned);
            roles.iter().map(read).collect::<Option<_>>().ok_or("the claim roles is no list of texts")?
        }
        Some(_) => return Err("the claim roles is no list"),
    };
    let tenant = match payload.get("tid") {
        None => None,
        Some(Value::String(tenant)) => Some(tenant.clone()),
        Some(_) => return Err("the claim tid is no text"),
    };
    Ok(Claims { roles, tenant })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(payload: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn claims_are_read_or_said_to_be_unreadable() {
        let roles = |token: &str| read(token).map(|c| c.roles);
        let check = |sentence: &str, token: &str, expected: Result<&[&str], &str>| {
            let expected = expected.map(|roles| roles.iter().map(|r| (*r).to_owned()).collect());
            assert_eq!(roles(token), expected, "{sentence}");
        };
        check("granted", &token(r#"{"roles":["full_access_as_app","x"]}"#), Ok(&["full_access_as_app", "x"]));
        check("no claim at all", &token(r#"{"tid":"t"}"#), Ok(&[]));
        check("an empty one", &token(r#"{"roles":[]}"#), Ok(&[]));
        check("padded", &format!("e30.{}==.c2ln", URL_SAFE_NO_PAD.encode(r#"{"a":"bcd"}"#)), Ok(&[]));
        check("a text", &token(r#"{"roles":"full_access_as_app"}"#), Err("the claim roles is no list"));
        check("an object", &token(r#"{"roles":{"full_access_as_app":true}}"#), Err("the claim roles is no list"));
        check("null", &token(r#"{"roles":null}"#), Err("the claim roles is no list"));
        check("numbers", &token(r#"{"roles":[1]}"#), Err("the claim roles is no list of texts"));
        check("a tid of another type", &token(r#"{"tid":7}"#), Err("the claim tid is no text"));
        check("no claims", &token("[]"), Err("the token holds no claims"));
        check("no JSON", &token("{\"roles\":["), Err("the token holds no JSON"));
        check("no base64url", "e30.%%%.c2ln", Err("the token is no base64url"));
        check("cut off in its payload", "e30.eyJyb2xl", Err("the token is no JWT"));
        check("cut off before its signature", &token("{}")[..8], Err("the token is cut off or too long"));
        check("opaque", "0.AXoA", Err("the token is no JWT"));
        check("empty", "", Err("the token is no JWT"));
        check("encrypted, five parts", "a.b.c.d.e", Err("the token is no JWT"));
        let long = format!("e30.{}.c2ln", "A".repeat(PAYLOAD_MAX + 1));
        check("too long", &long, Err("the token is cut off or too long"));
    }
}
