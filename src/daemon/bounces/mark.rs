//! The mark in an envelope sender, which proves that a report is about a mail of ours: only we can make it.

use anyhow::Context as _;
use aws_lc_rs::{hmac, rand};

use crate::daemon::Context;
use crate::domain::case::Reference;
use crate::domain::customer::Address;

/// The memo that holds the key of the marks. It proves nothing but "we wrote to this case once", and lives as long as
/// the deliveries it is about: in the state.
const KEY_MEMO: &str = "bounces.key";

/// The marked envelope sender of a case's mails: `bounces+kg0000aaaa-MAC@…`. The same for every mail of a case, because
/// greylisting servers let a sender they know pass.
///
/// # Errors
/// When the store fails.
pub async fn sender(ctx: &Context, reference: &Reference) -> anyhow::Result<Address> {
    let base = &ctx.snapshot.config.mail.envelope_from;
    let mark: String = reference.0.chars().filter(|c| *c != '-').collect::<String>().to_ascii_lowercase();
    let mac = mac(&key(ctx).await?, &mark);
    let (local, domain) = base.as_str().rsplit_once('@').context("the envelope sender has no @")?;
    Address::new(&format!("{local}+{mark}-{mac}@{domain}")).context("mail.envelope_from cannot be marked")
}

/// The key of the marks, made at the first need.
pub(super) async fn key(ctx: &Context) -> anyhow::Result<hmac::Key> {
    let known = ctx.store.memo(KEY_MEMO).await?;
    let text = match known {
        Some(text) => text,
        None => {
            let mut bytes = [0_u8; 32];
            rand::fill(&mut bytes).ok().context("the system has no randomness")?;
            let text = hex(&bytes);
            ctx.store.set_memo(KEY_MEMO, &text).await?;
            text
        }
    };
    Ok(hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes()))
}

fn mac(key: &hmac::Key, mark: &str) -> String {
    hex(&hmac::sign(key, mark.as_bytes()).as_ref()[..10])
}

/// In hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The case that a marked address stands for, if the mark is ours.
pub(super) fn reference_of(key: &hmac::Key, base: &Address, address: &str) -> Option<Reference> {
    let (local, domain) = base.as_str().rsplit_once('@')?;
    let (came_local, came_domain) = address.rsplit_once('@')?;
    let (name, mark) = came_local.split_once('+')?;
    let (mark, claimed) = mark.split_once('-')?;
    let ours = name.eq_ignore_ascii_case(local) && came_domain.eq_ignore_ascii_case(domain) && mark.len() == 10;
    // Compared in whole: sixteen good digits are as far from good as none.
    if !ours || !mark.is_ascii() || mac(key, mark) != claimed {
        return None;
    }
    let mark = mark.to_ascii_uppercase();
    Some(Reference(format!("{}-{}-{}", &mark[..2], &mark[2..6], &mark[6..])))
}
