//! The control socket: `kigen reload` knocks here, so that `systemctl reload` waits and learns whether the files were good.
//!
//! One line asks, one answer ends the connection. Only the service's user can reach the socket (mode 0600).

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::config::StateUrl;

/// Where the sockets of services live; systemd makes it (`RuntimeDirectory=kigen`).
const RUNTIME: &str = "/run/kigen";

/// No question or answer takes longer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// No question or answer is longer.
const MAX: u64 = 256 * 1024;

/// Where the daemon listens: in `$RUNTIME_DIRECTORY` under systemd, else beside the state.
#[must_use]
pub fn listen_path(state: &StateUrl) -> PathBuf {
    match std::env::var_os("RUNTIME_DIRECTORY") {
        Some(dir) => PathBuf::from(dir).join("control.sock"),
        None => state.directory().join("control.sock"),
    }
}

/// Where a command may find the daemon: in the service's directory, beside the state. `ExecReload=` has the first, but no
/// secrets, so that for it the configuration may not even be readable.
#[must_use]
pub fn find(state: Option<&StateUrl>) -> Vec<PathBuf> {
    let given = std::env::var_os("RUNTIME_DIRECTORY").map(PathBuf::from);
    let service = [given, state.map(|state| state.directory().to_owned()), Some(PathBuf::from(RUNTIME))];
    service.into_iter().flatten().map(|dir| dir.join("control.sock")).collect()
}

/// Answers questions until told to stop. `reload` does what the line asks and says how it went.
///
/// # Errors
/// When the socket cannot be made.
pub async fn serve(
    path: PathBuf,
    reload: Arc<dyn Fn() -> Result<String, String> + Send + Sync>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    // A socket left by a process that was killed; the state's lock has made sure that no other daemon lives.
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).with_context(|| format!("cannot listen on {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("cannot protect {}", path.display()))?;
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!("the control socket failed to accept: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        // One at a time: two reloads at once would only race.
        if let Err(error) = tokio::time::timeout(TIMEOUT, answer(stream, reload.as_ref())).await.unwrap_or(Ok(())) {
            tracing::debug!("a question on the control socket failed: {error:#}");
        }
    }
    let _ = std::fs::remove_file(&path);
    Ok(())
}

async fn answer(
    mut stream: UnixStream,
    reload: &(dyn Fn() -> Result<String, String> + Send + Sync),
) -> anyhow::Result<()> {
    let mut question = [0_u8; 64];
    let mut length = 0;
    while length < question.len() && !question[..length].contains(&b'\n') {
        let read = stream.read(&mut question[length..]).await?;
        if read == 0 {
            break;
        }
        length += read;
    }
    let reply = match question[..length].trim_ascii() {
        b"reload" => match reload() {
            Ok(text) => format!("ok\n{text}"),
            Err(text) => format!("error\n{text}"),
        },
        _ => "error\nthis daemon knows one question: reload".to_owned(),
    };
    stream.write_all(reply.as_bytes()).await?;
    stream.shutdown().await?;
    Ok(())
}

/// The first socket that somebody listens on: a daemon that was killed leaves one behind.
async fn connect(paths: &[PathBuf]) -> anyhow::Result<UnixStream> {
    let mut refused = Vec::new();
    for path in paths {
        match UnixStream::connect(path).await {
            Ok(stream) => return Ok(stream),
            Err(error) => refused.push(format!("{}: {error}", path.display())),
        }
    }
    bail!("no daemon answers (is kigen.service running?): {}", refused.join("; "))
}

/// Asks the running daemon to read its files again, and waits.
///
/// # Errors
/// When no daemon answers, or it refused: then with its errors.
pub async fn ask_reload(paths: &[PathBuf]) -> anyhow::Result<String> {
    let ask = async {
        let mut stream = connect(paths).await?;
        stream.write_all(b"reload\n").await?;
        let mut reply = String::new();
        stream.take(MAX).read_to_string(&mut reply).await?;
        anyhow::Ok(reply)
    };
    let reply = tokio::time::timeout(TIMEOUT, ask).await.context("the daemon did not answer within 30 s")??;
    match reply.split_once('\n') {
        Some(("ok", text)) => Ok(text.to_owned()),
        Some(("error", text)) => bail!("the daemon kept its files:\n{text}"),
        _ => bail!("the daemon gave no answer"),
    }
}
