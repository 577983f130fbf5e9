//! From a form or a link to the page it leads to. Invariant: nothing goes to another origin than the log-on URL's, and no
//! postback to a control that saves.

use std::sync::Arc;

use encoding_rs::Encoding;
use url::Url;

use super::{MAX_REDIRECTS, Seen, Session, Stop, View};
use crate::connector::exlook::charset;
use crate::connector::exlook::failures::bad_status;
use crate::connector::exlook::script::PostBack;
use crate::connector::exlook::webforms::Form;
use crate::connector::http::{Answer, Request, Retry, host_name};
use crate::domain::observation::{Failure, Reason};

impl Session<'_> {
    pub(super) async fn post_back(&mut self, view: &View, form: &Form, post: &PostBack) -> Result<View, Stop> {
        if view.page.saves.contains(&post.target) {
            let detail = format!("the control would save ({}); kigen only reads", view.url.path());
            return Err(Failure::new(Reason::LayoutChanged, detail).into());
        }
        let fields = form.postback(&post.target, &post.argument);
        let request = self.form_request(view, form, &fields, post.action.as_deref(), Retry::Idempotent)?;
        self.go(request).await
    }

    pub(super) fn form_request(
        &self,
        view: &View,
        form: &Form,
        fields: &[(String, String)],
        action: Option<&str>,
        retry: Retry,
    ) -> Result<Request, Failure> {
        if form.node == 0 {
            let detail = format!("the page has no form around its controls ({})", view.url.path());
            return Err(Failure::new(Reason::LayoutChanged, detail));
        }
        let mut url = match action.or(form.action.as_deref()) {
            Some(action) => self.own(view, action)?,
            None => view.url.clone(),
        };
        url.set_fragment(None);
        let charset = form.charset.as_deref().and_then(first_charset).unwrap_or(view.page.charset);
        let body = charset::encode_form(fields, charset).map_err(|no| {
            let field = fields.get(no.field).map_or("", |(name, _)| name.as_str());
            let field: String = field.chars().take(60).collect();
            let detail = format!(
                "a character of the field {field:?} does not exist in the page's charset {}; not sent",
                no.charset
            );
            Failure::new(Reason::UnknownValue, detail)
        })?;
        if form.post {
            return Ok(Request { url, form: Some(body), retry, stands: says_maintenance });
        }
        url.set_query(Some(&body));
        Ok(Request { url, form: None, retry, stands: says_maintenance })
    }

    /// A link's URL, if it is within the log-on URL's own origin.
    pub(super) fn own(&self, view: &View, href: &str) -> Result<Url, Failure> {
        let base = view.page.base.as_deref().and_then(|base| view.url.join(base).ok());
        let url = base.as_ref().unwrap_or(&view.url).join(href.trim());
        let url = url.map_err(|_| Failure::new(Reason::LayoutChanged, "the page has a link that is no URL"))?;
        if url.origin() == self.logon_url.origin() {
            return Ok(url);
        }
        let detail = format!("the page leads to another host ({}); not followed", host_name(&url));
        Err(Failure::new(Reason::LayoutChanged, detail))
    }

    /// Sends a request and follows where it leads, within the origin, to a page.
    pub(super) async fn go(&mut self, request: Request) -> Result<View, Stop> {
        let mut request = request;
        let mut cookie = false;
        for hop in 0..=MAX_REDIRECTS {
            let answer = self.tool.http.send(&self.jar, &request, self.deadline).await?;
            cookie |= answer.set_cookie;
            if !is_redirect(answer.status) {
                return self.arrive(request.url, answer, hop, cookie).await;
            }
            // A log-on that is answered with a cookie and a way on: what stands there is the customer's own trouble.
            self.let_in |= request.form.is_some() && answer.set_cookie;
            request = self.redirected(request, &answer)?;
        }
        let detail = format!("more than {MAX_REDIRECTS} redirects in a row ({})", request.url.path());
        Err(Failure::new(Reason::HttpStatus, detail).into())
    }

    fn redirected(&self, request: Request, answer: &Answer) -> Result<Request, Stop> {
        let path = request.url.path();
        let failed = |detail: String| Stop::Failed(Failure::new(Reason::HttpStatus, detail));
        let location = answer.location.as_deref().filter(|l| !l.trim().is_empty());
        let location =
            location.ok_or_else(|| failed(format!("a redirect ({}) without Location ({path})", answer.status)))?;
        let target = request.url.join(location.trim());
        let mut url = target.map_err(|_| failed(format!("a redirect ({}) to no URL ({path})", answer.status)))?;
        url.set_fragment(None);
        if url.origin() != self.logon_url.origin() {
            let host = format!("{}://{}", url.scheme(), host_name(&url));
            return Err(failed(format!(
                "{path} redirects to another host ({host}), which is not followed; if the tool moved, set logon_url"
            )));
        }
        if self.inside && self.is_logon_url(&url) {
            return Err(Stop::Lost);
        }
        // 307 and 308 send the same again; after the others a browser asks by GET.
        let keeps = matches!(answer.status, 307 | 308);
        let form = request.form.filter(|_| keeps);
        let retry = if form.is_some() { request.retry } else { Retry::Idempotent };
        Ok(Request { url, form, retry, stands: request.stands })
    }

    /// Whether a redirect there means that the tool wants a log-on.
    fn is_logon_url(&self, url: &Url) -> bool {
        let returns = url.query_pairs().any(|(name, _)| name.eq_ignore_ascii_case("ReturnUrl"));
        returns || plain_path(url).eq_ignore_ascii_case(&plain_path(&self.logon_url))
    }

    async fn arrive(&mut self, url: Url, answer: Answer, redirects: usize, cookie: bool) -> Result<View, Stop> {
        let status = answer.status;
        if self.inside && status == 440 {
            return Err(Stop::Lost); // IIS: "Login Time-out"
        }
        let parsed = self.tool.parse(answer.body, answer.content_type).await;
        if !(200..300).contains(&status) {
            return Err(bad_status(url.path(), status, parsed.as_ref().ok()).into());
        }
        let view = Arc::new(Seen { page: parsed?, url, redirects, cookie });
        if self.inside && view.page.is_logon() {
            return Err(Stop::Lost);
        }
        if self.inside {
            self.last = Some(Arc::clone(&view));
        }
        Ok(view)
    }
}

fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

/// A path without cookieless session parts: `/app/(S(abc))/logon.aspx`.
fn plain_path(url: &Url) -> String {
    url.path().split('/').filter(|part| !part.starts_with('(')).collect::<Vec<_>>().join("/")
}

fn first_charset(list: &str) -> Option<&'static Encoding> {
    list.split([' ', ',', '\t']).find_map(|label| Encoding::for_label_no_replacement(label.trim().as_bytes()))
}

/// Whether an answer says by itself that trying again is of no use.
pub(super) fn says_maintenance(answer: &Answer) -> bool {
    if answer.status != 503 {
        return false;
    }
    let (text, _) = charset::decode(&answer.body, answer.content_type.as_deref());
    text.contains("メンテナンス") || text.contains("保守") || text.to_ascii_lowercase().contains("maintenance")
}
