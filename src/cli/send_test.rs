//! `kigen send-test`: one test mail through the real transport.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Args;

use super::Global;
use crate::clock::{Clock, SystemClock};
use crate::config;
use crate::daemon::reload::LoadError;
use crate::domain::customer::Address;
use crate::domain::delivery::Outcome;
use crate::mail::dkim::Signer;
use crate::mail::message::{self, Parts};
use crate::mail::{self, Direction, Observer, Outgoing};

#[derive(Debug, Args)]
pub(super) struct SendTestArgs {
    /// To whom
    #[arg(long, value_name = "ADDRESS")]
    to: String,
}

/// With `-v` the dialogue goes to stderr; passwords and tokens show as `***`, the message as its size.
fn observer(global: &Global) -> Option<Observer> {
    let show = |direction: Direction, line: &str| match direction {
        Direction::Sent => super::output::say!("> {line}"),
        Direction::Received => super::output::say!("< {line}"),
        Direction::Note => super::output::say!("- {line}"),
    };
    (global.verbose > 0).then(|| Arc::new(show) as Observer)
}

pub(super) async fn run(global: &Global, args: &SendTestArgs) -> anyhow::Result<ExitCode> {
    let config = config::load(&global.config).map_err(LoadError::from)?;
    let to = Address::new(&args.to).with_context(|| format!("--to {}", args.to))?;
    let now = SystemClock.now();
    let sent_at = now.with_timezone(&config.calendar.zone);
    let domain = config.mail.from.address.domain().to_owned();
    let parts = Parts {
        from: config.mail.from.clone(),
        reply_to: config.mail.reply_to.clone(),
        to: vec![to.clone()],
        cc: Vec::new(),
        subject: "kigen 送信テスト / test mail".to_owned(),
        text: format!(
            "これは kigen の送信テストです。お客さまには送られていません。\nThis is a test mail from kigen. No customer got it.\n\n{}\n",
            sent_at.format("%Y-%m-%d %H:%M:%S %z")
        ),
        html: None,
        attachments: Vec::new(),
        message_id: message::message_id(&format!("send-test {now} {}", std::process::id()), &domain),
        date: sent_at.fixed_offset(),
        thread: Vec::new(),
        list_id: None,
    };
    let mut message = message::build(&parts)?;
    if let Some(dkim) = &config.mail.dkim {
        message = Signer::load(dkim)?.sign(&message, now)?;
    }
    let outgoing = Outgoing { envelope_from: config.mail.envelope_from.clone(), recipients: vec![to], message };
    let mut transport = mail::transport_observed(&config.mail, observer(global))?;
    let attempt = transport.send(&outgoing).await;
    transport.close().await;
    let reply = &attempt.reply;
    match attempt.outcome {
        Outcome::Accepted => {
            super::output::say!("accepted: {reply}");
            Ok(ExitCode::SUCCESS)
        }
        Outcome::Deferred => bail!("not accepted now: {reply}"),
        Outcome::Rejected => bail!("refused: {reply}"),
        Outcome::Unknown => bail!("it went out whole, but the answer was not heard: {reply}"),
        Outcome::Blocked => bail!("the server refuses our account: {reply}"),
    }
}
