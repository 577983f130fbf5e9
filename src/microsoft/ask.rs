//! The three questions as requests: a tenant's id, a domain's realm, a token that is looked at and forgotten.

use tokio::time::Instant;
use url::Url;

use super::answer::{self, Outcome, Realm, Said, Tenant};
use super::assertion::{Credential, CredentialError};
use super::{ANSWER_MAX, ASK, Microsoft, lock};
use crate::config::ConsentConfig;
use crate::connector::http::{Answer, Request, Retry, host_name};
use crate::domain::Timestamp;
use crate::domain::observation::Reason;

impl Microsoft {
    pub(super) async fn tenant(&self, domain: &str, deadline: Instant) -> Result<Tenant, Said> {
        let known = lock(&self.known).tenant(domain, self.clock.now());
        if let Some(tenant) = known {
            return Ok(tenant);
        }
        let url = self.url(&[domain, "v2.0", ".well-known", "openid-configuration"])?;
        let tenant = self.ask(url, None, deadline, |answer| answer::tenant(answer.status, &answer.body)).await?;
        lock(&self.known).note_tenant(domain, tenant.clone(), self.clock.now());
        Ok(tenant)
    }

    /// The user in the address need not exist, the domain decides; a made-up one names nobody.
    pub(super) async fn ask_realm(&self, domain: &str, deadline: Instant) -> Result<Realm, Said> {
        let mut url = self.url(&["common", "userrealm", &format!("realm-of@{domain}")])?;
        url.set_query(Some("api-version=1.0"));
        self.ask(url, None, deadline, |answer| answer::realm(answer.status, &answer.body)).await
    }

    /// Asks for a token for `tenant`, looks at it and forgets it.
    pub(super) async fn ask_token(
        &self,
        config: &ConsentConfig,
        credential: &Credential,
        tenant: &str,
        id: Option<&str>,
        roles: &[String],
        deadline: Instant,
    ) -> Said {
        let asked = async {
            let url = self.url(&[tenant, "oauth2", "v2.0", "token"])?;
            let form = form(config, credential, &url, self.clock.now())
                .map_err(|error| Said::new(Outcome::OwnCredential, error.to_string()))?;
            let read = |answer: &Answer| match answer::token(answer.status, &answer.body, id, roles) {
                said if said.outcome.is_trouble() => Err(said),
                said => Ok(said),
            };
            self.ask(url, Some(form), deadline, read).await
        };
        asked.await.unwrap_or_else(|said| said)
    }

    /// One request, unless the circuit is open; what it shows of the service moves the circuit.
    async fn ask<T>(
        &self,
        url: Url,
        form: Option<String>,
        deadline: Instant,
        read: impl Fn(&Answer) -> Result<T, Said>,
    ) -> Result<T, Said> {
        let paused = |why: String| Said::new(Outcome::Transient, why);
        lock(&self.circuit).admit(Instant::now()).map_err(paused)?;
        let _permit = self.permits.acquire().await.map_err(|_| paused("shut down".to_owned()))?;
        lock(&self.circuit).admit(Instant::now()).map_err(paused)?;
        let host = host_name(&url).to_owned();
        // A 429 stands: how long to be quiet is the circuit's business.
        let request = Request { url, form, retry: Retry::Idempotent, stands: |answer| answer.status == 429 };
        let answer = match self.http.send_with(&self.jar, &request, &self.headers, deadline).await {
            Ok(answer) => answer,
            Err(failure) => {
                let detail = match failure.reason {
                    Reason::TooLarge => format!("{host} answered with more than {} KiB", ANSWER_MAX / 1024),
                    // Without the path: a realm's looks like somebody's mail address.
                    _ => failure.detail.replace(&format!(" ({})", request.url.path()), ""),
                };
                self.trouble(&detail);
                return Err(Said::new(Outcome::Transient, detail));
            }
        };
        let read = read(&answer).map_err(|said| Said { detail: format!("{host}: {}", said.detail), ..said });
        match &read {
            Err(said) if said.outcome == Outcome::Throttled => {
                if lock(&self.circuit).throttled(answer.retry_after, &said.detail, Instant::now()) {
                    tracing::warn!("Microsoft's login service asked for quiet; the verdicts stand: {}", said.detail);
                }
            }
            Err(said) if said.outcome == Outcome::Transient => self.trouble(&said.detail),
            _ => lock(&self.circuit).good(),
        }
        read
    }

    fn trouble(&self, detail: &str) {
        if lock(&self.circuit).trouble(detail, Instant::now()) {
            tracing::warn!(
                "Microsoft's login service is in trouble and left alone for a while; the verdicts stand: {detail}"
            );
        }
    }

    pub(super) fn late(&self) -> Said {
        let detail = format!("no answer within {} s", ASK.as_secs());
        self.trouble(&detail);
        Said::new(Outcome::Transient, detail)
    }

    fn url(&self, path: &[&str]) -> Result<Url, Said> {
        let mut url = self.config.login_url.clone();
        let no_base = |()| Said::new(Outcome::Unknown, "microsoft.login_url cannot have a path");
        url.path_segments_mut().map_err(no_base)?.clear().extend(path);
        Ok(url)
    }
}

/// The client credentials grant, RFC 6749 section 4.4.2.
fn form(config: &ConsentConfig, credential: &Credential, url: &Url, now: Timestamp) -> Result<String, CredentialError> {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("client_id", &config.client_id)
        .append_pair("grant_type", "client_credentials")
        .append_pair("scope", &config.scope);
    for (name, value) in &credential.fields(&config.client_id, url.as_str(), now)? {
        form.append_pair(name, value.expose());
    }
    Ok(form.finish())
}
