//! Calls to the outside beside mail: the operators' webhook, and the heartbeat of a dead man's switch.
//!
//! Invariants: every call has a timeout and its tries a bound; no redirect is followed; an address of a webhook is a secret,
//! so none is ever logged, only its host.

use std::time::Duration;

use serde_json::Value;
use url::{Host, Url};

/// One call, from the name's resolution to the last byte.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The waits between tries of a webhook.
const WAITS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// Posts a body; tries again where that can help.
///
/// # Errors
/// Why the last try failed, without the address.
pub async fn post(url: &Url, body: &Value) -> Result<(), String> {
    let client = client(url)?;
    let mut waits = WAITS.into_iter();
    loop {
        let sent = client.post(url.clone()).json(body).send().await;
        let (why, again) = match sent {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) => {
                let status = answer.status();
                (format!("{} answered {status}", host(url)), status.is_server_error() || status.as_u16() == 429)
            }
            Err(error) => (format!("{}: {}", host(url), error.without_url()), true),
        };
        match waits.next() {
            Some(wait) if again => tokio::time::sleep(wait).await,
            _ => return Err(why),
        }
    }
}

/// Calls the heartbeat once. A failure is only logged: the silence itself is what the outside notices.
pub async fn heartbeat(url: &Url) {
    let called = match client(url) {
        Ok(client) => match client.get(url.clone()).send().await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(format!("{} answered {}", host(url), answer.status())),
            Err(error) => Err(format!("{}: {}", host(url), error.without_url())),
        },
        Err(why) => Err(why),
    };
    match called {
        Ok(()) => tracing::debug!("heartbeat called"),
        Err(why) => tracing::warn!("the heartbeat could not be called (alerts.heartbeat): {why}"),
    }
}

fn client(url: &Url) -> Result<reqwest::Client, String> {
    let mut builder = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("kigen/", env!("CARGO_PKG_VERSION")));
    if is_loopback(url) {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| format!("cannot set up the call: {}", error.without_url()))
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

fn host(url: &Url) -> &str {
    url.host_str().unwrap_or("the host")
}
