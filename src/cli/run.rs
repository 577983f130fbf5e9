//! `kigen run`: the daemon under signals.

use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use super::{Global, stop_on_signal};
use crate::app;
use crate::daemon::systemd;

pub(super) async fn run(global: &Global) -> anyhow::Result<ExitCode> {
    let stop = stop_on_signal()?;
    let hangup = Arc::new(Notify::new());
    // Registered before anything else: without a handler SIGHUP would end the daemon.
    let mut signals = signal(SignalKind::hangup())?;
    let notify = Arc::clone(&hangup);
    tokio::spawn(async move {
        while signals.recv().await.is_some() {
            notify.notify_one();
        }
    });
    systemd::opening();
    let ctx = app::open(&global.config).await?;
    app::run(ctx, stop, hangup).await?;
    Ok(ExitCode::SUCCESS)
}
