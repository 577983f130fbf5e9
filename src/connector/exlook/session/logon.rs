//! Logging on, and what the answer to it means. Invariant: a password that was refused is not sent again.

use std::sync::Arc;

use reqwest::cookie::Jar;

use super::wire::says_maintenance;
use super::{Session, Stop, View};
use crate::connector::exlook::failures::{error_page, maintenance, no_logon_page, password_change};
use crate::connector::exlook::pages::{Logon, Press};
use crate::connector::exlook::said::{Said, said};
use crate::connector::http::{Request, Retry};
use crate::domain::observation::{Failure, Reason};

impl Session<'_> {
    pub(super) async fn log_on(&mut self) -> Result<View, Stop> {
        self.inside = false;
        self.jar = Jar::default();
        if !matches!(self.logon_url.scheme(), "http" | "https") {
            return Err(Failure::new(Reason::InventoryError, "the log-on URL is neither http nor https").into());
        }
        let start =
            Request { url: self.logon_url.clone(), form: None, retry: Retry::Idempotent, stands: says_maintenance };
        let view = self.go(start).await?;
        let logon = match &view.page.logon {
            Some(Ok(logon)) => logon.clone(),
            Some(Err(detail)) => return Err(Failure::new(Reason::LayoutChanged, detail.clone()).into()),
            None => return Err(no_logon_page(&view.page, view.url.path()).into()),
        };
        self.hints = view.page.texts.clone();
        let after = self.send_logon(&view, &logon).await?;
        let view = self.judge_logon(after)?;
        self.inside = true;
        self.let_in = true;
        self.last = Some(Arc::clone(&view));
        Ok(view)
    }

    async fn send_logon(&mut self, view: &View, logon: &Logon) -> Result<View, Stop> {
        let mut form = view.page.forms[logon.form].clone();
        if !form.post {
            let detail = "the log-on form would send the password in the URL (it has no method=post); not sent";
            return Err(Failure::new(Reason::LayoutChanged, detail).into());
        }
        form.fill(logon.account, &self.account.account);
        form.fill(logon.password, self.account.password.expose());
        let (fields, action) = match &logon.press {
            Press::Submit { control, .. } => (form.pressed(*control), None),
            Press::PostBack { post, .. } => (form.postback(&post.target, &post.argument), post.action.clone()),
            Press::Get(_) => return Err(Failure::new(Reason::LayoutChanged, "the log-on button is a link").into()),
        };
        let request = self.form_request(view, &form, &fields, action.as_deref(), Retry::Unsent).map_err(|failure| {
            // The characters that the page cannot carry are the customers file's.
            match failure.reason {
                Reason::UnknownValue => Failure::new(
                    Reason::InventoryError,
                    "the account or password has a character that the log-on page's charset does not have; it was not sent",
                ),
                _ => failure,
            }
        })?;
        self.go(request).await
    }

    /// What the answer to the log-on means. A password that was refused is not sent again.
    fn judge_logon(&self, view: View) -> Result<View, Stop> {
        if view.page.is_inside() {
            return Ok(view);
        }
        let path = view.url.path();
        if view.page.passwords >= 2 {
            return Err(password_change(path).into());
        }
        let says = said(&view.page, if view.page.passwords == 0 { &[] } else { &self.hints });
        match says {
            Said::Locked => Err(Failure::new(
                Reason::AccountLocked,
                "the tool says that the account is locked; unlock it there, then change the customer's entry",
            )
            .into()),
            Said::ChangePassword => Err(password_change(path).into()),
            // A page that works announces a maintenance to come.
            Said::Maintenance if !view.page.works() => Err(maintenance(path).into()),
            Said::Maintenance => Ok(view),
            Said::Error => Err(error_page(path, 200).into()),
            // Accepted, and then asked for again on the way: the session did not hold.
            _ if view.page.passwords == 1 && view.redirects > 1 && view.cookie && says != Said::Refused => {
                Err(Stop::Lost)
            }
            Said::Refused | Said::Nothing if view.page.passwords == 1 || says == Said::Refused => Err(Failure::new(
                Reason::LogonRefused,
                "the tool refused the account or the password; correct the customer's entry",
            )
            .into()),
            Said::Refused | Said::Nothing => Ok(view),
        }
    }
}
