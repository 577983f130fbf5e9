//! One request of a person: who it is, in which language, and whether it may be here at all. Every page takes a
//! [`Visit`], so that none can forget to ask.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header::{ACCEPT_LANGUAGE, COOKIE, HOST, LOCATION};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use super::Shared;
use super::session::Session;
use crate::config::WebConfig;
use crate::domain::customer::Language;

/// A request that may be answered.
pub(super) struct Visit {
    pub(super) language: Language,
    /// The language was asked for in the address: remember it.
    pub(super) chosen: bool,
    /// Who is signed in.
    pub(super) session: Option<Session>,
    /// Whether anybody can sign in.
    pub(super) users: bool,
    /// The path, for the navigation.
    pub(super) path: String,
    /// The rest of the address without `lang`, for the language's switch.
    pub(super) query: String,
}

/// The same, for the sign-in page, which needs no session.
pub(super) struct Stranger {
    pub(super) visit: Visit,
    pub(super) peer: IpAddr,
}

impl FromRequestParts<Shared> for Visit {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Response> {
        let visit = Stranger::from_request_parts(parts, shared).await?.visit;
        if visit.users && visit.session.is_none() {
            return Err((StatusCode::SEE_OTHER, [(LOCATION, "/sign-in")]).into_response());
        }
        Ok(visit)
    }
}

impl FromRequestParts<Shared> for Stranger {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Response> {
        let ctx = shared.context();
        let config = &ctx.snapshot.config;
        let headers = &parts.headers;
        if !host_is_ours(&config.web, headers) {
            let text = "this name is not ours; set web.public_url to the address people use\n";
            return Err((StatusCode::MISDIRECTED_REQUEST, text).into_response());
        }
        let query = parts.uri.query().unwrap_or_default();
        let asked = pairs(query).find(|(k, _)| *k == "lang").and_then(|(_, v)| language(v));
        let remembered = cookie(headers, "lang").and_then(language);
        let session = cookie(headers, session_cookie(&config.web))
            .and_then(|token| shared.sessions.find(token, ctx.now()))
            // A user taken out of the file is out at once.
            .filter(|session| config.web.users.contains_key(&session.user));
        let rest: Vec<&str> = query.split('&').filter(|p| !p.is_empty() && !p.starts_with("lang=")).collect();
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map_or(IpAddr::from([127, 0, 0, 1]), |c| c.0.ip());
        let visit = Visit {
            language: asked.or(remembered).or_else(|| accepted(headers)).unwrap_or(config.alerts.language),
            chosen: asked.is_some(),
            session,
            users: !config.web.users.is_empty(),
            path: parts.uri.path().to_owned(),
            query: rest.join("&"),
        };
        Ok(Self { visit, peer: client(&config.web, headers, peer) })
    }
}

/// The cookie's name: with https the browser ties `__Host-` to this host alone.
pub(super) fn session_cookie(web: &WebConfig) -> &'static str {
    if is_https(web) { "__Host-kigen" } else { "kigen" }
}

pub(super) fn is_https(web: &WebConfig) -> bool {
    web.public_url.as_ref().is_some_and(|url| url.scheme() == "https")
}

/// On loopback without users only names of this machine are answered: another site's page could otherwise point a name
/// of its own here and read along.
fn host_is_ours(web: &WebConfig, headers: &HeaderMap) -> bool {
    if !web.users.is_empty() {
        return true;
    }
    let Some(host) = headers.get(HOST).and_then(|h| h.to_str().ok()) else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        || web.public_url.as_ref().and_then(|url| url.host_str()).is_some_and(|ours| ours.eq_ignore_ascii_case(name))
}

/// The client's address: behind a trusted proxy the nearest one that is none of ours.
fn client(web: &WebConfig, headers: &HeaderMap, peer: IpAddr) -> IpAddr {
    if !web.trusted_proxies.contains(&peer) {
        return peer;
    }
    let forwarded = headers.get_all("x-forwarded-for").iter().filter_map(|h| h.to_str().ok());
    let hops: Vec<IpAddr> = forwarded.flat_map(|h| h.split(',')).filter_map(|ip| ip.trim().parse().ok()).collect();
    hops.into_iter().rev().find(|ip| !web.trusted_proxies.contains(ip)).unwrap_or(peer)
}

/// A cookie's value.
fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let all = headers.get_all(COOKIE).iter().filter_map(|h| h.to_str().ok()).flat_map(|h| h.split(';'));
    all.filter_map(|pair| pair.trim().split_once('=')).find(|(k, _)| *k == name).map(|(_, v)| v)
}

fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter_map(|pair| pair.split_once('='))
}

fn language(word: &str) -> Option<Language> {
    [Language::Ja, Language::En].into_iter().find(|l| l.as_str() == word)
}

/// The first language of the browser's list that we speak.
fn accepted(headers: &HeaderMap) -> Option<Language> {
    let list = headers.get(ACCEPT_LANGUAGE)?.to_str().ok()?;
    list.split(',').find_map(|item| language(item.split(';').next()?.trim().split('-').next()?))
}
