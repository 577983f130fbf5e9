//! Every shape of an answer that was recorded or could come, and what kigen makes of it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;

const TID: &str = "6babcaad-604b-40ac-a9d7-9fd97c0b779f";
const TRACE: &str = "255d1aef-8c98-452f-ac51-23d051240864";
const CORRELATION: &str = "fb3d2015-bc17-4bb9-bb85-30c5cf1aaaa7";

fn error(word: &str, numbers: &str) -> String {
    format!(
        r#"{{"error":"{word}","error_description":"AADSTS1: for taro@example.jp s3cret\r\nTrace ID: x","error_codes":{numbers},"timestamp":"2022-01-24 22:41:16Z","trace_id":"{TRACE}","correlation_id":"{CORRELATION}","error_uri":"https://login.microsoftonline.com/error?code=1"}}"#
    )
}

fn granted(payload: &str) -> String {
    let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload));
    format!(r#"{{"token_type":"Bearer","expires_in":3599,"ext_expires_in":3599,"access_token":"{token}"}}"#)
}

#[test]
fn a_realm_is_decided_by_its_kind_alone() {
    let check = |sentence: &str, status: u16, body: &str, expected: Result<Realm, Outcome>| {
        assert_eq!(realm(status, body.as_bytes()).map_err(|said| said.outcome), expected, "{sentence}");
    };
    let managed = r#"{"ver":"1.0","account_type":"Managed","domain_name":"a.jp","cloud_instance_name":"microsoftonline.com","cloud_audience_urn":"urn:federation:MicrosoftOnline"}"#;
    check("v1, managed", 200, managed, Ok(Realm::Managed));
    let federated = r#"{"ver":"1.0","account_type":"Federated","federation_protocol":"WSTrust","federation_metadata_url":"https://fs.a.jp/x","federation_active_auth_url":"https://fs.a.jp/y"}"#;
    check("v1, federated", 200, federated, Ok(Realm::Federated));
    check("in other letters", 200, r#"{"account_type":"federated"}"#, Ok(Realm::Federated));
    check("v1, unknown", 200, r#"{"ver":"1.0","account_type":"Unknown"}"#, Ok(Realm::Unknown));
    let two = r#"{"State":4,"UserState":1,"Login":"x@a.jp","NameSpaceType":"Managed","DomainName":"a.jp"}"#;
    check("the other endpoint, managed", 200, two, Ok(Realm::Managed));
    let two = r#"{"State":4,"UserState":1,"Login":"x@a.jp","NameSpaceType":"Unknown"}"#;
    check("unknown has the numbers of managed", 200, two, Ok(Realm::Unknown));
    check(
        "federated there",
        200,
        r#"{"State":3,"NameSpaceType":"FEDERATED","AuthURL":"https://x"}"#,
        Ok(Realm::Federated),
    );
    check("numbers alone say nothing", 200, r#"{"State":4,"UserState":1}"#, Err(Outcome::Unknown));
    check("a kind never seen", 200, r#"{"account_type":"Hybrid"}"#, Err(Outcome::Unknown));
    check("a kind of another type", 200, r#"{"account_type":1}"#, Err(Outcome::Unknown));
    check("a list", 200, "[]", Err(Outcome::Unknown));
    check("XML", 200, r#"<RealmInfo Success="true">"#, Err(Outcome::Transient));
    check("a web page", 200, "<!DOCTYPE html><html>", Err(Outcome::Transient));
    check("nothing", 200, "", Err(Outcome::Transient));
    check("throttled", 429, "", Err(Outcome::Throttled));
    check("down", 503, "<html>", Err(Outcome::Transient));
    check("a redirect", 302, "", Err(Outcome::Transient));
    check("refused", 400, r#"{"error":"invalid_request"}"#, Err(Outcome::Unknown));
}

#[test]
fn a_tenant_is_the_guid_of_its_issuer() {
    let check = |sentence: &str, status: u16, body: &str, expected: Result<(&str, Option<&str>), Outcome>| {
        let found = tenant(status, body.as_bytes());
        let found = found.as_ref().map(|t| (t.id.as_str(), t.region.as_deref())).map_err(|said| said.outcome);
        assert_eq!(found, expected, "{sentence}");
    };
    let v2 = format!(
        r#"{{"token_endpoint":"https://login.microsoftonline.com/{TID}/oauth2/v2.0/token","issuer":"https://login.microsoftonline.com/{TID}/v2.0","tenant_region_scope":"AS","cloud_instance_name":"microsoftonline.com"}}"#
    );
    check("v2", 200, &v2, Ok((TID, Some("AS"))));
    let v1 = format!(r#"{{"issuer":"https://sts.windows.net/{}/"}}"#, TID.to_uppercase());
    check("v1, in capitals, without a region", 200, &v1, Ok((TID, None)));
    let gcc =
        format!(r#"{{"issuer":"https://x/{TID}/v2.0","tenant_region_scope":"NA","tenant_region_sub_scope":"GCC"}}"#);
    check("a government's", 200, &gcc, Ok((TID, Some("NA/GCC"))));
    let odd = format!(r#"{{"issuer":"https://x/{TID}/v2.0","tenant_region_scope":"<script>"}}"#);
    check("a region that is none", 200, &odd, Ok((TID, None)));
    let two = format!(r#"{{"issuer":"https://x/{TID}/v2.0","token_endpoint":"https://x/{TRACE}/token"}}"#);
    check("two ids", 200, &two, Err(Outcome::Unknown));
    check("the common template", 200, r#"{"issuer":"https://x/{tenantid}/v2.0"}"#, Err(Outcome::Unknown));
    check("no such tenant is 400", 400, &error("invalid_tenant", "[90002]"), Err(Outcome::NoTenant));
    check("malformed", 400, &error("invalid_request", "[900023]"), Err(Outcome::NoTenant));
    check("404 says nothing", 404, "<html>", Err(Outcome::Transient));
    check("a web page with 200", 200, "<html>sign in to the hotel", Err(Outcome::Transient));
}

#[test]
fn a_token_is_looked_at_for_roles_and_tenant() {
    let roles = ["full_access_as_app".to_owned()];
    let check = |sentence: &str, body: &str, expected: Outcome, says: &str| {
        let said = token(200, body.as_bytes(), Some(TID), &roles);
        assert_eq!(said.outcome, expected, "{sentence}: {}", said.detail);
        assert!(said.detail.contains(says), "{sentence}: {}", said.detail);
    };
    let full = format!(r#"{{"tid":"{TID}","appid":"a","roles":["IMAP.AccessAsApp","full_access_as_app"]}}"#);
    check("granted", &granted(&full), Outcome::Given, "");
    let capitals = format!(r#"{{"tid":"{}","roles":["full_access_as_app"]}}"#, TID.to_uppercase());
    check("the id in capitals", &granted(&capitals), Outcome::Given, "");
    let none = format!(r#"{{"tid":"{TID}"}}"#);
    check("a token without roles", &granted(&none), Outcome::Missing, "without the role full_access_as_app");
    let other = format!(r#"{{"tid":"{TID}","roles":["SMTP.SendAsApp"]}}"#);
    check("another role", &granted(&other), Outcome::Missing, "without the role");
    let near = format!(r#"{{"tid":"{TID}","roles":["Full_Access_As_App"]}}"#);
    check("a role in other letters is another", &granted(&near), Outcome::Missing, "without the role");
    let text = format!(r#"{{"tid":"{TID}","roles":"full_access_as_app"}}"#);
    check("roles of another type", &granted(&text), Outcome::Unknown, "roles is no list");
    let stranger = format!(r#"{{"tid":"{TRACE}","roles":["full_access_as_app"]}}"#);
    check("another tenant's", &granted(&stranger), Outcome::Unknown, "not for the tenant");
    check("nobody's", &granted(r#"{"roles":["full_access_as_app"]}"#), Outcome::Unknown, "not for the tenant");
    let whole = granted(&full);
    let cut = format!(r#"{{"token_type":"Bearer","access_token":"{}"}}"#, &whole[80..110]);
    check("a truncated token", &cut, Outcome::Unknown, "no JWT");
    check("no token", r#"{"token_type":"Bearer","expires_in":3599}"#, Outcome::Unknown, "no token");
    check("a token of another type", r#"{"token_type":"Bearer","access_token":{}}"#, Outcome::Unknown, "no token");
    check("not a bearer's", r#"{"token_type":"pop","access_token":"a.b.c"}"#, Outcome::Unknown, "no bearer");
    check("half an answer", &whole[..60], Outcome::Transient, "without JSON");
    check("a web page", "  <!DOCTYPE html>", Outcome::Transient, "web page");
    check("null", "null", Outcome::Unknown, "another shape");

    assert_eq!(token(200, granted(&none).as_bytes(), Some(TID), &[]).outcome, Outcome::Given, "no role is asked for");
    assert_eq!(token(200, granted(&stranger).as_bytes(), None, &roles).outcome, Outcome::Given, "no id is known");
}

#[test]
fn errors_are_told_apart_by_word_and_number() {
    let check = |sentence: &str, status: u16, body: &str, expected: Outcome, says: &str| {
        let said = token(status, body.as_bytes(), Some(TID), &[]);
        assert_eq!(said.outcome, expected, "{sentence}: {}", said.detail);
        assert!(said.detail.contains(says), "{sentence}: {}", said.detail);
        assert!(!said.detail.contains("s3cret") && !said.detail.contains("taro"), "{}", said.detail);
    };
    use Outcome::{Disabled, Missing, NoExchangeOnline, NoTenant, OwnCredential, Throttled, Transient, Unknown};
    check("never consented", 400, &error("unauthorized_client", "[700016]"), Missing, "AADSTS700016");
    check("no service principal", 400, &error("invalid_client", "[7000229]"), Missing, "AADSTS7000229");
    check("the same with 401", 401, &error("invalid_client", "[7000229]"), Missing, TRACE);
    check("disabled", 400, &error("unauthorized_client", "[7000112]"), Disabled, CORRELATION);
    check("Exchange Online disabled", 400, &error("invalid_resource", "[500014]"), Disabled, "AADSTS500014");
    check("no Exchange Online", 400, &error("invalid_resource", "[500011]"), NoExchangeOnline, "no Exchange Online");
    check("no tenant", 400, &error("invalid_request", "[90002]"), NoTenant, "no tenant");
    check("our secret is wrong", 401, &error("invalid_client", "[7000215]"), OwnCredential, "secret is wrong");
    check("our secret expired", 401, &error("invalid_client", "[7000222]"), OwnCredential, "expired");
    check("our assertion", 401, &error("invalid_client", "[700027]"), OwnCredential, "certificate");
    check("no credential", 401, &error("invalid_client", "[7000218]"), OwnCredential, "no credential");
    check("invalid_client alone is both", 401, r#"{"error":"invalid_client"}"#, Unknown, "no number");
    check("a tenant that is throttled", 400, &error("invalid_request", "[90055]"), Throttled, "AADSTS90055");
    check("a loop", 400, &error("invalid_grant", "[50196]"), Throttled, "too often");
    check("too many requests", 429, &error("invalid_request", "[700016]"), Throttled, TRACE);
    check("of the moment", 400, &error("invalid_request", "[90033]"), Transient, "moment");
    check("a word for trouble", 400, r#"{"error":"temporarily_unavailable"}"#, Transient, "temporarily");
    check("down, whatever it says", 503, &error("unauthorized_client", "[700016]"), Transient, TRACE);
    check("a number never seen", 400, &error("invalid_grant", "[7654321]"), Unknown, "AADSTS7654321");
    check("a delegated consent", 400, &error("invalid_grant", "[65001]"), Unknown, "AADSTS65001");
    check("conditional access", 400, &error("invalid_grant", "[53003]"), Unknown, "AADSTS53003");
    check("numbers as texts", 400, &error("unauthorized_client", "[\"700016\"]"), Unknown, "another type");
    check("a number outside its list", 400, &error("unauthorized_client", "700016"), Unknown, "another type");
    check("a word that is none", 400, &error("<b>S3", "[7000112]"), Disabled, "no known error word");
    check("a redirect", 302, "", Transient, "302");
    check("forbidden by a proxy", 403, "<html>blocked by policy", Transient, "web page");

    let odd =
        r#"{"error":"unauthorized_client","error_codes":[700016],"trace_id":"taro@example.jp","correlation_id":7}"#;
    let said = token(400, odd.as_bytes(), None, &[]);
    assert_eq!(said.outcome, Missing);
    assert!(!said.detail.contains("taro") && !said.detail.contains("trace_id"), "{}", said.detail);
}

#[test]
fn a_guid_is_one() {
    assert!(is_guid(TID));
    for other in ["", "6babcaad", "6babcaad-604b-40ac-a9d7-9fd97c0b779", "6babcaad-604b-40ac-a9d7-9fd97c0b779g"] {
        assert!(!is_guid(other), "{other}");
    }
}
