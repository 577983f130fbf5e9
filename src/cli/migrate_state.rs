//! `kigen migrate-state`: moves the state from SQLite to PostgreSQL.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;

use super::output;
use crate::clock::{Clock, SystemClock};
use crate::config::{self, StateUrl};
use crate::store;

#[derive(Debug, Args)]
pub(super) struct MigrateStateArgs {
    /// The state to move: sqlite:FILE
    #[arg(long, value_name = "STATE")]
    from: String,
    /// Where to: postgres://USER@HOST/DATABASE, an empty database; the password comes from PGPASSFILE or PGPASSWORD
    #[arg(long, value_name = "STATE")]
    to: String,
}

pub(super) async fn run(args: &MigrateStateArgs) -> anyhow::Result<ExitCode> {
    let here = std::env::current_dir()?;
    let read = |text: &str| config::state_url(text, &here).map_err(anyhow::Error::msg);
    let (StateUrl::Sqlite(from), StateUrl::Postgres(to)) = (read(&args.from)?, read(&args.to)?) else {
        bail!("a state is moved from sqlite:… to postgres://…");
    };
    let moved = store::move_state(&from, &to, SystemClock.now()).await?;
    let mut table = output::new_table();
    table.set_header(["table", "rows", "sha256 of the rows, summed"]);
    for table_moved in &moved {
        let rows = table_moved.rows.to_string();
        table.add_row([table_moved.table, &rows, &table_moved.sha256]);
    }
    output::write(format!("{table}\n").as_bytes())?;
    output::say!("moved to {}; write it into `state`, and start the daemon", to.name());
    Ok(ExitCode::SUCCESS)
}
