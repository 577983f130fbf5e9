//! `kigen reload`, `pause`, `resume`, `import`, `backup`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;

use super::{Global, output, who};
use crate::config::StateUrl;
use crate::daemon::control;
use crate::store::{By, Hold, HoldKind};
use crate::{app, config, fleet};

#[derive(Debug, Args)]
pub(super) struct PauseArgs {
    /// Why: shown to everybody who looks
    reason: String,
}

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// The customers file
    file: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct BackupArgs {
    /// The file to write; must not exist
    file: PathBuf,
}

/// Needs no secrets and not even a good configuration: the daemon says what it thinks of the files.
pub(super) async fn reload(global: &Global) -> anyhow::Result<ExitCode> {
    let state = state_of(&global.config);
    let text = control::ask_reload(&control::find(state.as_ref())).await?;
    output::write(format!("{text}\n").as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// The state that a configuration names, as far as it can be read at all: what is wrong with the rest the daemon says.
fn state_of(path: &Path) -> Option<StateUrl> {
    if let Ok(config) = config::load(path) {
        return Some(config.state);
    }
    let text = std::fs::read_to_string(path).ok();
    // A line that TOML cannot read may stand anywhere; this one is looked for by itself.
    let named = text.as_deref().and_then(|text| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix("state")?.trim_start().strip_prefix('='))?;
        line.trim().strip_prefix("\"sqlite:")?.split('"').next().map(ToOwned::to_owned)
    });
    let file = named.unwrap_or_else(|| "kigen.db".to_owned());
    Some(StateUrl::Sqlite(path.parent().unwrap_or(Path::new("/")).join(file)))
}

pub(super) async fn pause(global: &Global, args: &PauseArgs) -> anyhow::Result<ExitCode> {
    let reason = args.reason.trim();
    if reason.is_empty() {
        bail!("say why: kigen pause \"REASON\"");
    }
    let ctx = app::open(&global.config).await?;
    let hold = Hold { kind: HoldKind::Paused, reason: reason.to_owned(), set_by: who(), set_at: ctx.now() };
    ctx.store.set_hold(&hold).await?;
    ctx.store.close().await;
    output::say!("all customer mail is paused; `kigen resume` starts it again");
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn resume(global: &Global) -> anyhow::Result<ExitCode> {
    let ctx = app::open(&global.config).await?;
    let at = ctx.now();
    let by = By { who: who(), at, day: ctx.snapshot.config.calendar.day(at) };
    let cleared = ctx.store.clear_holds(&by).await?;
    ctx.store.close().await;
    if cleared.is_empty() {
        output::say!("nothing was held");
    }
    for hold in cleared {
        output::say!("released: {} ({}, set by {})", hold.reason, hold.kind.as_str(), hold.set_by);
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn import(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    let bytes = std::fs::read(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    let imported = fleet::import(&bytes);
    for error in &imported.errors {
        let column = error.column.as_ref().map(|c| format!(", column {c}")).unwrap_or_default();
        output::say!("{}:{}{column}: {}", args.file.display(), error.line, error.message);
    }
    match imported.csv {
        Some(csv) if imported.errors.is_empty() => {
            output::write(csv.as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        _ => {
            output::say!("{} error(s); nothing was written", imported.errors.len());
            Ok(ExitCode::FAILURE)
        }
    }
}

pub(super) async fn backup(global: &Global, args: &BackupArgs) -> anyhow::Result<ExitCode> {
    let ctx = app::open(&global.config).await?;
    ctx.store.backup(&args.file).await?;
    ctx.store.close().await;
    output::say!("state written to {}", args.file.display());
    Ok(ExitCode::SUCCESS)
}
