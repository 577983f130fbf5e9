//! `kigen web-password`: a password in, the line for `[web.users]` out. Needs no configuration.

use std::io::{BufRead, IsTerminal};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, bail};

use super::output;
use crate::web::password;

/// Whoever can approve mails to all customers needs more than a word.
const SHORTEST: usize = 12;

pub(super) fn run() -> anyhow::Result<ExitCode> {
    let first = read("Password: ")?;
    if first.chars().count() < SHORTEST {
        bail!("the password is shorter than {SHORTEST} characters");
    }
    if std::io::stdin().is_terminal() && read("Once more: ")? != first {
        bail!("the two differ");
    }
    let hash = password::hash(&first).context("the machine gives no randomness")?;
    output::write(format!("{hash}\n").as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// One line; on a terminal it is not shown.
fn read(prompt: &str) -> anyhow::Result<String> {
    let terminal = std::io::stdin().is_terminal();
    if terminal {
        eprint!("{prompt}");
        echo("-echo");
    }
    let mut line = String::new();
    let got = std::io::stdin().lock().read_line(&mut line);
    if terminal {
        echo("echo");
        output::say!();
    }
    got.context("cannot read the password")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// `stty` is everywhere that has terminals; where it fails the password is shown as it is typed.
fn echo(setting: &str) {
    let _ = Command::new("stty").arg(setting).stdin(Stdio::inherit()).stderr(Stdio::null()).status();
}
