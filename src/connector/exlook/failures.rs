//! What went wrong, in the words that operators read: what, where (a path, never a query), what to do.

use super::pages::Page;
use super::said::{Said, said};
use crate::domain::observation::{Failure, Reason};

pub(super) fn bad_status(path: &str, status: u16, page: Option<&Page>) -> Failure {
    let says = page.map_or(Said::Nothing, |page| said(page, &[]));
    match (status, says) {
        (500.., Said::Maintenance) => maintenance(path),
        (503, _) if page.is_some_and(|p| p.texts.iter().any(|t| t.contains("メンテナンス") || t.contains("保守"))) => {
            maintenance(path)
        }
        (500.., Said::Error) => error_page(path, status),
        (429, _) => Failure::new(
            Reason::HttpStatus,
            format!("{path} answered 429 (too many requests); lower scan.requests_per_second"),
        ),
        _ => Failure::new(Reason::HttpStatus, format!("{path} answered {status}")),
    }
}

pub(super) fn no_logon_page(page: &Page, path: &str) -> Failure {
    match said(page, &[]) {
        Said::Maintenance => maintenance(path),
        Said::Error => error_page(path, 200),
        Said::Locked | Said::ChangePassword | Said::Refused | Said::Nothing => {
            Failure::new(Reason::LayoutChanged, format!("no password field at the log-on URL ({path})"))
        }
    }
}

pub(super) fn maintenance(path: &str) -> Failure {
    Failure::new(Reason::Maintenance, format!("the tool says that it is down for maintenance ({path})"))
}

pub(super) fn error_page(path: &str, status: u16) -> Failure {
    Failure::new(Reason::HttpStatus, format!("{path} answered {status} with the server's error page"))
}

pub(super) fn password_change(path: &str) -> Failure {
    let detail = format!(
        "the tool wants the account's password changed first ({path}); change it there and in the customer's entry"
    );
    Failure::new(Reason::PasswordChangeRequired, detail)
}

pub(super) fn with_path(failure: Failure, path: &str) -> Failure {
    Failure { detail: format!("{} ({path})", failure.detail), ..failure }
}
