//! The commands. Data goes to stdout, everything else to stderr. Exit: 0 done, 1 it failed, 2 usage, 78 bad configuration.

mod check;
mod contact;
mod control;
mod demo;
mod history;
mod logging;
mod migrate_state;
mod notify;
mod outbox;
pub mod output;
mod plan;
mod preview;
mod progress;
mod report;
mod run;
mod scan;
mod send_test;
mod sites;
mod status;
mod time;
mod web_password;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use tokio_util::sync::CancellationToken;

use crate::app;
use crate::daemon::reload::LoadError;

/// EX_CONFIG of sysexits.h: the unit does not restart on it.
const EXIT_CONFIG: u8 = 78;

/// As clap ends on a command line that it cannot understand.
const EXIT_USAGE: u8 = 2;

/// A command line whose parts are well formed but make no sense together.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// Finds customers whose sites still sign in to Exchange Online with basic authentication, and tells them in time.
#[derive(Debug, Parser)]
#[command(name = "kigen", version, about, long_about = None, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
struct Global {
    /// The configuration file
    #[arg(
        short,
        long,
        global = true,
        env = "KIGEN_CONFIG",
        default_value = "/etc/kigen/config.toml",
        value_name = "FILE"
    )]
    config: PathBuf,
    /// Tell more: -v what is done, -vv how, -vvv everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Tell errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// How log lines look; under systemd `journald` is chosen by itself
    #[arg(long, global = true, value_enum, value_name = "FORMAT")]
    log_format: Option<logging::LogFormat>,
    /// Whether to colour (NO_COLOR is heeded too)
    #[arg(long, global = true, value_enum, default_value = "auto", value_name = "WHEN")]
    color: Color,
}

/// Whether to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl Global {
    fn color(&self) -> bool {
        match self.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon
    Run,
    /// Ask the running daemon to read its files again, and wait
    Reload,
    /// Show the whole product on this machine's loopback, in a temporary folder, on a virtual clock
    Demo(demo::DemoArgs),
    /// Check configuration, customers and templates; say what would be sent next. Sends and connects to nothing
    Check,
    /// Scan now
    Scan(scan::ScanArgs),
    /// Say who would get which notice when, and why then. Sends nothing
    Plan(plan::PlanArgs),
    /// Run one notice pass now: look again, plan, queue, deliver
    Notify(notify::NotifyArgs),
    /// Show a notice as it would leave
    Preview(preview::PreviewArgs),
    /// Send one test mail through the real transport
    SendTest(send_test::SendTestArgs),
    /// Show the fleet at a glance
    Status(status::StatusArgs),
    /// List the sites with their newest observation
    Sites(sites::SitesArgs),
    /// Tell what was seen, decided, sent and answered for a customer, oldest first
    History(history::HistoryArgs),
    /// Report who was told when, whom to call, and the proof of what was sent
    Report(report::ReportArgs),
    /// Show and move the mails in the outbox
    Outbox(outbox::OutboxArgs),
    /// Show the contacts whose address is dead, and take one back that is alive
    Contact(contact::ContactArgs),
    /// Stop all customer mail at once
    Pause(control::PauseArgs),
    /// Start customer mail again: clears every hold
    Resume,
    /// Check a customers file (UTF-8 or CP932) and write it clean to stdout
    Import(control::ImportArgs),
    /// Write a consistent copy of the state while it is in use
    Backup(control::BackupArgs),
    /// Move the state from an SQLite file into an empty PostgreSQL database
    MigrateState(migrate_state::MigrateStateArgs),
    /// Read a password, print the hash for [web.users]
    WebPassword,
    /// Print a shell's completions
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

/// Parses, runs, and turns the result into an exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let usual = match cli.command {
        Command::Run => "info",
        // The simulated world is full of trouble by design; the demo's own lines tell its story.
        Command::Demo(_) => "error",
        _ => "warn",
    };
    logging::init(&cli.global, usual);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::say!("kigen: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let color = cli.global.color();
    let result = runtime.block_on(dispatch(cli));
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match result {
        Ok(code) => code,
        Err(error) => explain(&error, color),
    }
}

/// Says what went wrong, once, with the whole chain.
fn explain(error: &anyhow::Error, color: bool) -> ExitCode {
    if error.chain().any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        io.is_some_and(|inner| inner.is::<output::StdoutGone>())
    }) {
        return ExitCode::SUCCESS; // `kigen sites | head`: the reader had enough.
    }
    if let Some(Usage(text)) = error.downcast_ref() {
        output::say!("error: {text}\n\nFor more information, try '--help'.");
        return ExitCode::from(EXIT_USAGE);
    }
    match error.downcast_ref::<LoadError>() {
        Some(LoadError::Config(errors)) => {
            output::say_text(format_args!("{}", errors.render(color)));
            ExitCode::from(EXIT_CONFIG)
        }
        Some(other) => {
            output::say!("kigen: {}", app::describe(other));
            ExitCode::from(EXIT_CONFIG)
        }
        None => {
            output::say!("kigen: {}", chain(error));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes on one line. Some libraries say their cause in their own words too; it is said once.
fn chain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string).filter(|cause| !cause.is_empty()) {
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

async fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    let global = &cli.global;
    match cli.command {
        Command::Run => run::run(global).await,
        Command::Reload => control::reload(global).await,
        Command::Demo(args) => demo::run(global, &args).await,
        Command::Check => check::run(global).await,
        Command::Scan(args) => scan::run(global, &args).await,
        Command::Plan(args) => plan::run(global, &args).await,
        Command::Notify(args) => notify::run(global, &args).await,
        Command::Preview(args) => preview::run(global, &args).await,
        Command::SendTest(args) => send_test::run(global, &args).await,
        Command::Status(args) => status::run(global, &args).await,
        Command::Sites(args) => sites::run(global, &args).await,
        Command::History(args) => history::run(global, &args).await,
        Command::Report(args) => report::run(global, &args).await,
        Command::Outbox(args) => outbox::run(global, &args).await,
        Command::Contact(args) => contact::run(global, &args).await,
        Command::Pause(args) => control::pause(global, &args).await,
        Command::Resume => control::resume(global).await,
        Command::Import(args) => control::import(&args),
        Command::Backup(args) => control::backup(global, &args).await,
        Command::MigrateState(args) => migrate_state::run(&args).await,
        Command::WebPassword => web_password::run(),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "kigen", &mut text);
            output::write(&text)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Man => {
            let mut text = Vec::new();
            man(&mut text)?;
            output::write(&text)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The manual page: the program, then each command.
fn man(out: &mut Vec<u8>) -> std::io::Result<()> {
    let command = Cli::command();
    let page = clap_mangen::Man::new(command.clone()).manual("kigen manual").section("8");
    page.render_title(out)?;
    page.render_name_section(out)?;
    page.render_synopsis_section(out)?;
    page.render_description_section(out)?;
    page.render_options_section(out)?;
    for sub in command.get_subcommands() {
        out.extend_from_slice(format!(".SH {}\n", sub.get_name().to_uppercase()).as_bytes());
        let page = clap_mangen::Man::new(sub.clone());
        page.render_description_section(out)?;
        page.render_options_section(out)?;
    }
    out.extend_from_slice(
        b".SH FILES\n/etc/kigen/config.toml, /var/lib/kigen\n.SH EXIT STATUS\n0 done, 1 it failed, 2 usage, 78 the configuration is invalid\n",
    );
    Ok(())
}

/// A token that SIGINT and SIGTERM cancel. A second signal ends the process at once.
fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let token = stop.clone();
    tokio::spawn(async move {
        for n in 0.. {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if n > 0 {
                std::process::exit(130);
            }
            token.cancel();
        }
    });
    Ok(stop)
}

/// The system's name of the person at the keyboard: with sudo the one who called it.
fn who() -> String {
    let var = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    var("SUDO_USER").or_else(|| var("USER")).or_else(|| var("LOGNAME")).unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_cause_is_said_once() {
        let full = anyhow::anyhow!("disk is full");
        assert_eq!(chain(&full), "disk is full");
        let twice = full.context("the database says: disk is full").context("the store failed");
        assert_eq!(chain(&twice), "the store failed: the database says: disk is full");
    }

    #[test]
    fn the_manual_names_every_command() {
        let mut page = Vec::new();
        man(&mut page).unwrap();
        let page = String::from_utf8(page).unwrap();
        for sub in Cli::command().get_subcommands() {
            assert!(page.contains(&sub.get_name().to_uppercase()), "{}", sub.get_name());
        }
    }
}
