//! The headers without which no answer leaves.

use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;

/// Nothing from elsewhere, nothing inline, framed by nobody.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// A mail's HTML part: its own inline styles and nothing else, in a frame of ours, without scripts, forms or links out.
pub(super) const MAIL_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; \
                                      base-uri 'none'; frame-ancestors 'self'; sandbox";

/// Adds what an answer does not say itself.
pub(super) async fn headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let mail = headers.get(CONTENT_SECURITY_POLICY).is_some();
    let mut say = |name: HeaderName, value: &'static str| {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    };
    say(CONTENT_SECURITY_POLICY, POLICY);
    say(X_FRAME_OPTIONS, if mail { "SAMEORIGIN" } else { "DENY" });
    say(X_CONTENT_TYPE_OPTIONS, "nosniff");
    say(REFERRER_POLICY, "no-referrer");
    say(CACHE_CONTROL, "no-store");
    say(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    say(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    say(HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()");
    response
}
