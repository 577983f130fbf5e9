//! What the service tells systemd: ready, reloading, stopping, a status line, and a watchdog that proves real progress.
//!
//! Invariant: nobody waits for whoever should listen and does not, but for one second once.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::store::Store;

/// Tells systemd; outside it, or when the socket is gone, nothing happens.
pub fn tell(states: &[NotifyState<'_>]) {
    static LISTENER: Listener = Listener { deaf: AtomicBool::new(false) };
    if let Some(socket) = std::env::var_os("NOTIFY_SOCKET") {
        LISTENER.tell(&socket, states);
    }
}

/// How long a message waits for room in the socket, unless the one before it waited in vain.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whoever should read the socket.
struct Listener {
    /// The last message found no room.
    deaf: AtomicBool,
}

impl Listener {
    fn tell(&self, socket: &OsStr, states: &[NotifyState<'_>]) {
        let message: String = states.iter().map(|state| format!("{state}\n")).collect();
        match send(socket, message.as_bytes(), !self.deaf.load(Ordering::Relaxed)) {
            Ok(()) => self.deaf.store(false, Ordering::Relaxed),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if !self.deaf.swap(true, Ordering::Relaxed) {
                    tracing::warn!("nobody reads NOTIFY_SOCKET: what systemd should hear is lost until somebody does");
                }
            }
            Err(error) => tracing::debug!("cannot tell systemd: {error}"),
        }
    }
}

/// One datagram, as sd_notify(3) says; a name that begins with `@` is an abstract one. A full socket is `WouldBlock`, after
/// [`PATIENCE`] or at once.
fn send(socket: &OsStr, message: &[u8], patient: bool) -> io::Result<()> {
    let to = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let from = UnixDatagram::unbound()?;
    match patient {
        true => from.set_write_timeout(Some(PATIENCE))?,
        false => from.set_nonblocking(true)?,
    }
    from.send_to_addr(message, &to).map(|_| ())
}

/// A state of last year is brought up to date at the start, and a large one takes its time.
const OPENING_MAX_USEC: u32 = 10 * 60 * 1_000_000;

/// Tells that the state is being opened, so that a long migration is no failed start.
pub fn opening() {
    tell(&[NotifyState::Status("opening the state"), NotifyState::ExtendTimeoutUsec(OPENING_MAX_USEC)]);
}

/// How often the status line is made anew.
const STATUS_PERIOD: Duration = Duration::from_secs(15);

/// Keeps `STATUS=` true: `line` is asked anew every so often, and told when it changed.
pub async fn status_line<F: Future<Output = String> + Send>(line: impl Fn() -> F + Send, stop: CancellationToken) {
    let mut told = String::new();
    loop {
        let text = line().await;
        if text != told {
            tell(&[NotifyState::Status(&text)]);
            told = text;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(STATUS_PERIOD) => {}
        }
    }
}

/// A look at the schedules is never older than this while the scheduler lives.
pub const HEARTBEAT_MAX: Duration = Duration::from_secs(120);

/// Pings the watchdog at half its time, but only while the scheduler's heartbeat moves and the store answers.
pub async fn watchdog(heartbeat: watch::Receiver<Instant>, store: Arc<dyn Store>, stop: CancellationToken) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let period = (limit / 2).max(Duration::from_millis(100));
    loop {
        // Not `tokio::select!` around the store: a database future is never dropped half-way.
        let alive = heartbeat.borrow().elapsed() < HEARTBEAT_MAX;
        // A server that is down is not cured by a restart of ours: that is ridden out. A file of our own may be.
        let answered = if store.shared() { Ok(()) } else { store.ping().await };
        match answered {
            Ok(()) if alive => tell(&[NotifyState::Watchdog]),
            Ok(()) => {
                tracing::error!("the scheduler has not looked at its schedules for two minutes: no watchdog ping")
            }
            Err(error) => tracing::error!("the store does not answer, no watchdog ping: {error}"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(period) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_reads_is_given_up_after_one_wait() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let listener = Listener { deaf: AtomicBool::new(false) };
        let tell = |text: &str| listener.tell(path.as_os_str(), &[NotifyState::Status(text), NotifyState::Watchdog]);
        let deaf = || listener.deaf.load(Ordering::Relaxed);
        let mut told = 0;
        while !deaf() {
            tell(&format!("number {told}"));
            told += 1;
            assert!(told < 10_000, "no socket keeps so many");
        }
        // The second time it may take no second: so many that it would show.
        let started = std::time::Instant::now();
        (0..60).for_each(|_| tell("in vain"));
        assert!(started.elapsed() < 30 * PATIENCE, "each of them waited");

        let mut heard = [0; 100];
        for n in 0..told - 1 {
            let length = socket.recv(&mut heard).unwrap();
            assert_eq!(heard[..length], *format!("STATUS=number {n}\nWATCHDOG=1\n").as_bytes());
        }
        tell("again");
        assert!(!deaf());
        let length = socket.recv(&mut heard).unwrap();
        assert_eq!(heard[..length], *b"STATUS=again\nWATCHDOG=1\n");
    }

    #[test]
    fn an_abstract_name_is_one() {
        let name = format!("kigen-test-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        send(OsStr::new(&format!("@{name}")), b"READY=1\n", true).unwrap();
        let mut heard = [0; 20];
        let length = socket.recv(&mut heard).unwrap();
        assert_eq!(heard[..length], *b"READY=1\n");
    }
}
