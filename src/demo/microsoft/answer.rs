//! From a request to the login service to its answer. Pure, but for the record of what was asked.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};

use super::world::{Asked, Grant, LoginFault, LoginWorld, WorldTenant};

/// What goes back.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
}

const PAGE: &str = "<!DOCTYPE html><html><head><title>Sign in to your account</title></head><body></body></html>";

/// `None`: no answer ever.
pub(super) fn answer(world: &mut LoginWorld, path: &[&str], form: &[(String, String)]) -> Option<Answer> {
    let asked = match path {
        ["common", "userrealm", user] => Asked::Realm((*user).to_owned()),
        [domain, "v2.0", ".well-known", "openid-configuration"] => Asked::Tenant((*domain).to_owned()),
        [tenant, "oauth2", "v2.0", "token"] => Asked::Token((*tenant).to_owned()),
        _ => Asked::Other(path.join("/")),
    };
    world.note(asked.clone());
    if let Some(broken) = broken(&world.fault) {
        return broken;
    }
    Some(match asked {
        Asked::Realm(user) => realm(world, &user),
        Asked::Tenant(domain) => tenant(world, &domain),
        Asked::Token(tenant) => token(world, &tenant, form),
        Asked::Other(_) => whole(404, "text/html", PAGE.as_bytes().to_vec()),
    })
}

/// `Some(None)`: it never answers.
#[expect(clippy::option_option, reason = "no fault, no answer, an answer")]
fn broken(fault: &LoginFault) -> Option<Option<Answer>> {
    Some(match fault {
        LoginFault::None => return None,
        LoginFault::Hang => None,
        LoginFault::Down => Some(whole(503, "text/html", PAGE.as_bytes().to_vec())),
        LoginFault::Page => Some(whole(200, "text/html", PAGE.as_bytes().to_vec())),
        LoginFault::Throttled(after) => {
            let mut answer = error(429, "temporarily_unavailable", 90055);
            answer.headers.extend(after.map(|seconds| ("retry-after", seconds.to_string())));
            Some(answer)
        }
        LoginFault::Bytes(bytes, encoding) => {
            let mut answer = whole(200, "application/json", bytes.clone());
            answer.headers.extend(encoding.map(|encoding| ("content-encoding", encoding.to_owned())));
            Some(answer)
        }
    })
}

fn whole(status: u16, content_type: &'static str, body: Vec<u8>) -> Answer {
    Answer { status, content_type, headers: Vec::new(), body }
}

fn json(status: u16, body: &Value) -> Answer {
    whole(status, "application/json; charset=utf-8", body.to_string().into_bytes())
}

fn error(status: u16, word: &str, number: u64) -> Answer {
    let (trace, correlation) = ("255d1aef-8c98-452f-ac51-23d051240864", "fb3d2015-bc17-4bb9-bb85-30c5cf1aaaa7");
    let said =
        format!("AADSTS{number}: something is wrong. Trace ID: {trace} Correlation ID: {correlation} Timestamp: x");
    json(
        status,
        &json!({
            "error": word,
            "error_description": said,
            "error_codes": [number],
            "timestamp": "2022-01-24 22:41:16Z",
            "trace_id": trace,
            "correlation_id": correlation,
        }),
    )
}

/// The user need not exist: the domain decides.
fn realm(world: &LoginWorld, user: &str) -> Answer {
    let domain = user.rsplit('@').next().unwrap_or_default();
    let body = match world.tenants.get(domain) {
        None => json!({ "ver": "1.0", "account_type": "Unknown", "cloud_instance_name": "microsoftonline.com" }),
        Some(tenant) if tenant.federated => json!({
            "ver": "1.0",
            "account_type": "Federated",
            "domain_name": domain,
            "federation_protocol": "WSTrust",
            "federation_metadata_url": format!("https://fs.{domain}/adfs/services/trust/mex"),
            "federation_active_auth_url": format!("https://fs.{domain}/adfs/services/trust/2005/usernamemixed"),
            "cloud_instance_name": "microsoftonline.com",
        }),
        Some(_) => json!({
            "ver": "1.0",
            "account_type": "Managed",
            "domain_name": domain,
            "cloud_instance_name": "microsoftonline.com",
            "cloud_audience_urn": "urn:federation:MicrosoftOnline",
        }),
    };
    json(200, &body)
}

fn tenant(world: &LoginWorld, domain: &str) -> Answer {
    let Some(tenant) = world.tenants.get(domain) else { return error(400, "invalid_tenant", 90002) };
    let (id, origin) = (&tenant.id, &world.origin);
    json(
        200,
        &json!({
            "token_endpoint": format!("{origin}/{id}/oauth2/v2.0/token"),
            "issuer": format!("https://login.microsoftonline.com/{id}/v2.0"),
            "tenant_region_scope": "AS",
            "cloud_instance_name": "microsoftonline.com",
        }),
    )
}

fn token(world: &LoginWorld, name: &str, form: &[(String, String)]) -> Answer {
    let field = |key: &str| form.iter().find(|(name, _)| name == key).map_or("", |(_, value)| value.as_str());
    let Some(tenant) = world.tenant(name) else { return error(400, "invalid_request", 90002) };
    if field("grant_type") != "client_credentials" || !field("scope").ends_with("/.default") {
        return error(400, "unsupported_grant_type", 70003);
    }
    match &tenant.grant {
        _ if field("client_id") != world.client_id => return error(400, "unauthorized_client", 700_016),
        Grant::None => return error(400, "unauthorized_client", 700_016),
        Grant::Disabled | Grant::NoExchange | Grant::Error(..) | Grant::Roles(_) => {}
    }
    if let Some(refused) = credential_refused(world, name, &field) {
        return refused;
    }
    match &tenant.grant {
        Grant::Disabled => error(400, "unauthorized_client", 7_000_112),
        Grant::NoExchange => error(400, "invalid_resource", 500_011),
        Grant::Error(word, number) => error(400, word, *number),
        Grant::Roles(roles) => granted(world, tenant, roles),
        Grant::None => error(400, "unauthorized_client", 700_016),
    }
}

fn granted(world: &LoginWorld, tenant: &WorldTenant, roles: &[String]) -> Answer {
    let mut claims = json!({
        "aud": "https://outlook.office365.com",
        "iss": format!("https://sts.windows.net/{}/", tenant.id),
        "appid": world.client_id,
        "tid": tenant.id,
    });
    if let Some(claims) = claims.as_object_mut().filter(|_| !roles.is_empty()) {
        claims.insert("roles".to_owned(), json!(roles));
    }
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let token = format!("{}.{}.{}", part(&json!({ "typ": "JWT", "alg": "RS256" })), part(&claims), "c2lnbmF0dXJl");
    json(200, &json!({ "token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599, "access_token": token }))
}

fn credential_refused<'f>(world: &LoginWorld, name: &str, field: &impl Fn(&str) -> &'f str) -> Option<Answer> {
    let (secret, assertion) = (field("client_secret"), field("client_assertion"));
    if secret.is_empty() && assertion.is_empty() {
        return Some(error(401, "invalid_client", 7_000_218));
    }
    if !secret.is_empty() {
        return match secret == world.client_secret {
            true if world.secret_expired => Some(error(401, "invalid_client", 7_000_222)),
            true => None,
            false => Some(error(401, "invalid_client", 7_000_215)),
        };
    }
    let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    let good = field("client_assertion_type") == kind && confirmed(world, name, assertion);
    (!good).then(|| error(401, "invalid_client", 700_027))
}

/// Whether the assertion is signed with the certificate's key, for this endpoint and this client.
fn confirmed(world: &LoginWorld, name: &str, assertion: &str) -> bool {
    let Some((public, thumbprint)) = &world.certificate else { return false };
    let Ok(key) = DecodingKey::from_rsa_pem(public.as_bytes()) else { return false };
    let mut validation = Validation::new(Algorithm::PS256);
    validation.set_audience(&[format!("{}/{name}/oauth2/v2.0/token", world.origin)]);
    validation.set_issuer(&[&world.client_id]);
    validation.sub = Some(world.client_id.clone());
    // The world's clock is not the machine's.
    validation.validate_exp = false;
    validation.required_spec_claims = HashSet::from(["exp", "nbf", "aud", "iss", "sub"].map(str::to_owned));
    jsonwebtoken::decode::<Value>(assertion, &key, &validation)
        .is_ok_and(|token| token.header.x5t_s256.as_ref() == Some(thumbprint))
}
