//! The composition root: makes the parts and fits them together. The only room that knows all others.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use chrono::NaiveDate;
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::alert::submission;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, ConnectorConfig};
use crate::daemon::deliver::{self, Until};
use crate::daemon::progress::Silent;
use crate::daemon::reload::{self, Live, LoadError};
use crate::daemon::schedule::{self, Scheduler};
use crate::daemon::{Context, Snapshot, alert, cluster, control, operators, running, systemd};
use crate::domain::customer::Language;
use crate::metrics::Metrics;
use crate::store::{self, Lead, RunKind, Store, Word};
use crate::web;

/// The stop after SIGTERM takes no longer: systemd gives 20 s, CONTRACT says 10.
const STOP_TIMEOUT: Duration = Duration::from_secs(9);

/// The goodbye to the other nodes takes no longer, also where the database is down.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// How often the files' stamps are looked at; a change counts once it has stood for one look.
const WATCH: Duration = Duration::from_millis(700);

/// Who this process is, in runs and claims.
#[must_use]
pub fn owner() -> String {
    // Under `ProcSubset=pid` the first is hidden.
    let read = |path| std::fs::read_to_string(path).ok();
    let host = read("/proc/sys/kernel/hostname").or_else(|| read("/etc/hostname")).unwrap_or_default();
    format!("{}:{}", host.trim(), std::process::id())
}

/// Reads the files and opens the state.
///
/// # Errors
/// What is wrong with the files or the state.
pub async fn open(config: &Path) -> anyhow::Result<Context> {
    open_with(reload::load(config)?, Arc::new(SystemClock)).await
}

/// Opens the state for files that were read already.
///
/// # Errors
/// When the state or the connector cannot be opened.
pub async fn open_with(snapshot: Snapshot, clock: Arc<dyn Clock>) -> anyhow::Result<Context> {
    let store = store::open(&snapshot.config.state).await?;
    let metrics = Arc::new(Metrics::new());
    let connector = reload::connector(&snapshot.config, Arc::clone(&clock), Arc::clone(&metrics))?;
    let microsoft = reload::microsoft(&snapshot.config, Arc::clone(&clock), Arc::clone(&metrics))?;
    let mut owner = owner();
    if store.shared() {
        // In a container host and process number are the same after every restart: what the last process had would look
        // like our own, and live as long as we do.
        owner = format!("{owner}:{:x}", clock.now().timestamp_micros());
    }
    Ok(Context {
        snapshot: Arc::new(snapshot),
        store,
        connector,
        microsoft,
        clock,
        metrics,
        owner,
        life: Arc::default(),
    })
}

/// The daemon: runs until `stop` is cancelled, then ends within ten seconds. `reload` is notified on SIGHUP.
///
/// # Errors
/// When it cannot start: the state is held by another daemon, the listener's port is taken.
pub async fn run(ctx: Context, stop: CancellationToken, hangup: Arc<Notify>) -> anyhow::Result<()> {
    let config = &ctx.snapshot.config;
    if let Lead::HeldBy(holder) = ctx.store.take_lead("kigen run", ctx.now()).await? {
        bail!(
            "another kigen daemon works on this state ({holder}); stop it first, or give this one a state of its own"
        );
    }
    for hold in ctx.store.holds().await? {
        tracing::error!(
            hold = hold.kind.as_str(),
            "no customer mail leaves, it is held since {} by {}: {}",
            hold.set_at,
            hold.set_by,
            hold.reason
        );
    }
    let now = ctx.now();
    let interrupted = ctx.store.interrupt_runs(now).await?;
    if interrupted > 0 {
        tracing::warn!(
            "{interrupted} run(s) were cut short when the last daemon ended; they are run again if still due"
        );
    }
    if let Some(run) = ctx.store.last_run(RunKind::Scan, true).await?
        && let Some(at) = run.finished_at
    {
        ctx.metrics.scan_was(at);
    }
    ctx.snapshot.signer().context("cannot sign mail")?;
    running::remember(&ctx, "daemon").await;
    let listener = TcpListener::bind(config.web.listen)
        .await
        .with_context(|| format!("cannot listen on {} (web.listen)", config.web.listen))?;
    let control_path = control::listen_path(&config.state);
    let live = Live::new(ctx.clone());
    let tracker = TaskTracker::new();
    let wake_mail = Arc::new(Notify::new());
    let changed = Arc::new(Notify::new());

    let scheduler =
        Scheduler::new(Arc::clone(&live), Arc::clone(&wake_mail), stop.clone(), tracker.clone(), Arc::new(Silent));
    let heartbeat = scheduler.heartbeat.subscribe();
    let (ended_tx, mut ended) = tokio::sync::mpsc::channel::<anyhow::Result<()>>(8);
    let part = |name: &'static str, future: futures_util::future::BoxFuture<'static, anyhow::Result<()>>| {
        let ended = ended_tx.clone();
        tracker.spawn(async move {
            let result = future.await.with_context(|| format!("the {name} ended"));
            let _ = ended.send(result).await;
        });
    };
    let reloader = {
        let (live, changed) = (Arc::clone(&live), Arc::clone(&changed));
        Arc::new(move || reload_now(&live, &changed))
    };
    if ctx.store.shared() {
        cluster::beat(&ctx, now).await.context("cannot join the other nodes")?;
    }
    let beats = CancellationToken::new();
    let beating = tokio::spawn(cluster::run(Arc::clone(&live), beats.clone()));
    part("schedule", Box::pin(scheduler.run(Arc::clone(&changed))));
    part("mail delivery", {
        let (live, wake, stop) = (Arc::clone(&live), Arc::clone(&wake_mail), stop.clone());
        Box::pin(
            async move { deliver::deliver(live, Until::Stopped, true, wake, stop, Arc::new(Silent)).await.map(|_| ()) },
        )
    });
    part("web listener", {
        let (live, heartbeat, stop) = (Arc::clone(&live), heartbeat.clone(), stop.clone());
        let parts = web::Parts { live, heartbeat, wake_mail: Arc::clone(&wake_mail), stop };
        Box::pin(async move { Ok(web::serve(listener, parts).await?) })
    });
    if ctx.store.shared() {
        tracker.spawn(hear_others(Arc::clone(&ctx.store), Arc::clone(&wake_mail), Arc::clone(&changed), stop.clone()));
    }
    part("control socket", Box::pin(control::serve(control_path, reloader.clone(), stop.clone())));
    tracker.spawn(operators::run(Arc::clone(&live), Arc::clone(&wake_mail), stop.clone()));
    tracker.spawn(watch_files(Arc::clone(&live), hangup, reloader, stop.clone()));
    tracker.spawn(systemd::watchdog(heartbeat, Arc::clone(&ctx.store), stop.clone()));
    for warning in warnings(config, config.calendar.day(now)) {
        tracing::warn!("{warning}");
    }
    let status = status(&live.context()).await;
    tracing::info!("kigen {} runs: {status}", env!("CARGO_PKG_VERSION"));
    systemd::tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
    tracker.spawn({
        let live = Arc::clone(&live);
        let line = move || {
            let ctx = live.context();
            async move { self::status(&ctx).await }
        };
        systemd::status_line(line, stop.clone())
    });
    tracker.close();

    let failed = tokio::select! {
        () = stop.cancelled() => None,
        Some(result) = ended.recv() => result.err(),
    };
    systemd::tell(&[NotifyState::Stopping]);
    stop.cancel();
    if tokio::time::timeout(STOP_TIMEOUT, tracker.wait()).await.is_err() {
        tracing::warn!(
            "some work did not end within {} s and is abandoned; what was in flight is settled at the next start",
            STOP_TIMEOUT.as_secs()
        );
    }
    // Until the last piece of work is done or abandoned it must stay ours.
    beats.cancel();
    let (store, owner) = (Arc::clone(&ctx.store), ctx.owner.clone());
    let ending = tokio::spawn(async move {
        let _ = beating.await;
        if store.shared()
            && let Err(error) = store.leave(&owner).await
        {
            tracing::warn!("the other nodes take over what this one had only when its lease is over: {error}");
        }
        store.close().await;
    });
    let patience = if ctx.store.shared() { LEAVE_TIMEOUT } else { Duration::MAX };
    if tokio::time::timeout(patience, ending).await.is_err() {
        tracing::warn!("the database does not answer; the other nodes take over when the lease of this one is over");
    }
    failed.map_or(Ok(()), Err)
}

/// Wakes this node's workers when another process made something due.
async fn hear_others(store: Arc<dyn Store>, mail: Arc<Notify>, schedules: Arc<Notify>, stop: CancellationToken) {
    let wake = |word| match word {
        Word::Mail => mail.notify_waiters(),
        Word::Scan => schedules.notify_one(),
    };
    store.listen(&wake, &stop).await;
}

/// One line for `STATUS=` and the log.
async fn status(ctx: &Context) -> String {
    if let Some(why) = ctx.life.rests() {
        return format!("TAKES NO WORK: {why}");
    }
    let counts = ctx.store.site_counts().await.unwrap_or_default();
    let zone = ctx.snapshot.config.calendar.zone;
    let at = |kind| {
        schedule::next(ctx, kind)
            .map_or_else(|| "never".to_owned(), |at| at.with_timezone(&zone).format("%m-%d %H:%M").to_string())
    };
    let running = match ctx.store.last_run(RunKind::Scan, false).await {
        Ok(Some(run)) if run.finished_at.is_none() && run.lease_until > ctx.now() => format!(
            "scanning since {}, {} customers so far; ",
            run.started_at.with_timezone(&zone).format("%H:%M"),
            run.counts.customers
        ),
        _ => String::new(),
    };
    let held = match ctx.store.holds().await {
        Ok(holds) if !holds.is_empty() => "MAIL IS HELD; ",
        _ => "",
    };
    format!(
        "{running}{held}{}, {} customers, {} sites affected, {} unreadable; next scan {}, next notices {}",
        ctx.snapshot.config.mode.as_str(),
        ctx.snapshot.fleet.members.len(),
        counts.affected,
        counts.unreadable,
        at(RunKind::Scan),
        at(RunKind::Notices)
    )
}

/// Reads the files again; logs and tells how it went.
fn reload_now(live: &Live, changed: &Notify) -> Result<String, String> {
    // One at a time, from its word to systemd to its end: a saved file and a command may ask at once.
    static RELOADING: Mutex<()> = Mutex::new(());
    let _alone = RELOADING.lock().unwrap_or_else(PoisonError::into_inner);
    // In one datagram: systemd takes the instant for that of the reload it stands beside.
    systemd::tell(&[NotifyState::Reloading, NotifyState::monotonic_usec_now().unwrap_or(NotifyState::Reloading)]);
    let read = live.reload();
    // Without the file's text, which may hold addresses.
    let refused = read.as_ref().err().map(ToString::to_string);
    let result = match read {
        Ok(restart) => {
            changed.notify_one();
            let ctx = live.context();
            let snapshot = Arc::clone(&ctx.snapshot);
            tokio::spawn(async move { running::remember(&ctx, "daemon").await });
            let mut text = format!(
                "files read again: {} customers, {} row(s) with errors",
                snapshot.fleet.members.len(),
                snapshot.fleet.quarantined.len()
            );
            if !restart.is_empty() {
                text.push_str(&format!("; needs a restart to take effect: {}", restart.join("; ")));
            }
            tracing::info!("{text}");
            Ok(text)
        }
        Err(error) => {
            let text = describe(&error);
            tracing::error!("the edited files are not used, the running ones stay:\n{text}");
            Err(text)
        }
    };
    systemd::tell(&[NotifyState::Ready]);
    let ctx = live.context();
    tokio::spawn(async move { alert::of_reload(&ctx, refused.as_deref()).await });
    result
}

/// What is allowed by the configuration and yet should worry an operator: said by `check` and at each start.
#[must_use]
pub fn warnings(config: &Config, today: NaiveDate) -> Vec<String> {
    let mut all: Vec<String> = submission::warning(&config.mail, Language::En, today).into_iter().collect();
    if let Some(consent) = &config.microsoft.consent {
        if !matches!(config.connector, ConnectorConfig::Exlook(_)) {
            all.push(
                "microsoft.consent is set, but only sites of connector.kind = \"exlook\" are asked for".to_owned(),
            );
        } else if consent.home_tenant.is_none() {
            all.push(
                "microsoft.consent.home_tenant is not set: a mistyped client_id would look like a fleet without consent; \
                 name your own tenant, so that the credential is proved there before each run"
                    .to_owned(),
            );
        }
    }
    if config.alerts.to.is_empty() && config.alerts.webhook.is_none() {
        all.push(
            "nobody is told when something goes wrong: set alerts.to or alerts.webhook, or look at the dashboard and the log \
             every day"
                .to_owned(),
        );
    }
    all
}

/// The errors of files, every one with its place.
#[must_use]
pub fn describe(error: &LoadError) -> String {
    match error {
        LoadError::Config(errors) => errors.render(false),
        LoadError::Fleet(error) => chain(error),
        other => other.to_string(),
    }
}

/// An error and what caused it, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// Reloads on SIGHUP and when a file was saved. A file counts as saved once it has looked the same for two looks, so
/// that a half-written one is not read; SIGHUP reads at once. What is compared is how the files looked when they were read,
/// so that no save is lost that came while they were, or before the first look.
async fn watch_files(
    live: Arc<Live>,
    hangup: Arc<Notify>,
    reload: Arc<dyn Fn() -> Result<String, String> + Send + Sync>,
    stop: CancellationToken,
) {
    let mut before: Option<reload::Stamp> = None;
    let mut refused: Option<reload::Stamp> = None;
    loop {
        let asked = tokio::select! {
            () = stop.cancelled() => return,
            () = hangup.notified() => true,
            () = tokio::time::sleep(WATCH) => false,
        };
        let seen = reload::stamp(&live.context().snapshot.config);
        let stands = before.as_ref() == Some(&seen);
        let saved = stands && seen != live.context().snapshot.stamp && refused.as_ref() != Some(&seen);
        if asked || saved {
            // What is wrong was logged; the running files stay, and are not tried again until somebody saves.
            refused = reload().is_err().then(|| seen.clone());
        }
        before = Some(seen);
    }
}
