//! A plain SMTP server on loopback that keeps what it gets and can be told to misbehave, one recipient at a time.
//!
//! It is strict where relays are: commands in order, CRLF line ends only (a bare line feed can smuggle a second message), no
//! parameters that it did not offer, 8-bit text only where it was announced. No TLS, no PIPELINING, no relaying. Everything
//! it waits for and everything it keeps has a bound.

mod dialogue;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The largest message taken, in octets: 20 MiB.
pub const MAX_MESSAGE: usize = 20 * 1024 * 1024;
/// The longest line read, in octets.
const MAX_LINE: usize = 64 * 1024;
/// Connections at once.
const MAX_CONNECTIONS: usize = 64;
/// Recipients of one message (RFC 5321 4.5.3.1.8 wants at least 100).
const MAX_RECIPIENTS: usize = 100;
/// Messages kept in memory.
const MAX_KEPT: usize = 100_000;
/// How long a client may be silent (RFC 5321 4.5.3.2.7).
const SILENCE: Duration = Duration::from_secs(300);

/// What happens to mail for one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// It is taken.
    Accept,
    /// `550 5.1.1` to RCPT.
    Reject,
    /// `451 4.7.1` to RCPT, that many times; then it is taken, as with greylisting.
    Defer(u32),
    /// `550 5.7.1` to the end of DATA.
    RejectMessage,
    /// The connection drops in the middle of DATA; nothing is kept.
    DropBeforeDot,
    /// The message is kept, but the connection drops instead of the answer: its sender cannot know.
    DropAfterDot,
    /// The message is kept, and the answer to the end of DATA comes that late.
    Delay(Duration),
}

/// One message that was taken.
#[derive(Debug, Clone)]
pub struct Received {
    /// Its number, from 1, in the order of arrival.
    pub number: u64,
    /// MAIL FROM, without the brackets; empty for a bounce.
    pub envelope_from: String,
    /// RCPT TO, in order.
    pub recipients: Vec<String>,
    /// The message, dots unstuffed, CRLF line ends.
    pub data: Vec<u8>,
    /// The connection it came on, from 1.
    pub connection: u64,
    /// When its final dot came.
    pub at: Instant,
}

/// How the server is started.
#[derive(Debug, Clone, Default)]
pub struct MailServerOptions {
    /// Where each message is also written as an `.eml` file; it must exist.
    pub dir: Option<PathBuf>,
    /// The user and password that AUTH PLAIN and LOGIN want; none = no AUTH offered.
    pub auth: Option<(String, String)>,
}

/// The server, running. Dropping it stops it.
#[derive(Debug)]
pub struct MailServer {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<State>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

#[derive(Debug)]
struct State {
    options: MailServerOptions,
    shared: Mutex<Shared>,
    /// How many messages have been taken in all.
    count: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Shared {
    received: Vec<Received>,
    policies: HashMap<String, Policy>,
    fallback: Option<Policy>,
    connections: u64,
}

impl MailServer {
    /// Starts on a free port of 127.0.0.1, without AUTH.
    ///
    /// # Errors
    /// When loopback gives no port.
    pub async fn start(dir: Option<PathBuf>) -> std::io::Result<Self> {
        Self::start_with(MailServerOptions { dir, auth: None }).await
    }

    /// Starts on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When loopback gives no port.
    pub async fn start_with(options: MailServerOptions) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State { options, shared: Mutex::default(), count: watch::Sender::new(0) });
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(accept(listener, state.clone(), stop.clone(), tasks.clone()));
        Ok(Self { address, state, stop, tasks })
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Everything taken so far and not yet [taken out](Self::take_received), in order.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.state.lock().received.clone()
    }

    /// The same, and forgets it.
    #[must_use]
    pub fn take_received(&self) -> Vec<Received> {
        std::mem::take(&mut self.state.lock().received)
    }

    /// Waits until that many messages have been taken in all; `false` if `within` passes first.
    pub async fn wait_for(&self, messages: u64, within: Duration) -> bool {
        let mut count = self.state.count.subscribe();
        let enough = count.wait_for(|count| *count >= messages);
        matches!(tokio::time::timeout(within, enough).await, Ok(Ok(_)))
    }

    /// How many connections have been opened.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.state.lock().connections
    }

    /// What happens to mail for that address from now on; upper and lower case are the same.
    pub fn set_policy(&self, recipient: &str, policy: Policy) {
        self.state.lock().policies.insert(recipient.to_ascii_lowercase(), policy);
    }

    /// What happens to mail for addresses without a policy of their own; [`Policy::Accept`] unless set.
    pub fn set_default_policy(&self, policy: Policy) {
        self.state.lock().fallback = Some(policy);
    }

    /// Stops; dialogues under way are cut off.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn policy(&self, recipient: &str) -> Policy {
        let shared = self.lock();
        let own = shared.policies.get(&recipient.to_ascii_lowercase()).copied();
        own.or(shared.fallback).unwrap_or(Policy::Accept)
    }

    /// Counts one deferral; `false` when there were enough.
    fn defer(&self, recipient: &str) -> bool {
        let mut shared = self.lock();
        let fallback = shared.fallback.unwrap_or(Policy::Accept);
        let policy = shared.policies.entry(recipient.to_ascii_lowercase()).or_insert(fallback);
        match policy {
            Policy::Defer(times) if *times > 0 => {
                *times -= 1;
                true
            }
            _ => false,
        }
    }

    /// Keeps a message; its number, or why it cannot be kept.
    fn keep(&self, mut message: Received) -> Result<u64, std::io::Error> {
        let mut shared = self.lock();
        if shared.received.len() >= MAX_KEPT {
            return Err(std::io::Error::other("too many messages kept"));
        }
        let number = *self.count.borrow() + 1;
        message.number = number;
        if let Some(dir) = &self.options.dir {
            // A message is small and the directory local: not worth a thread of its own.
            std::fs::write(dir.join(format!("{number:05}.eml")), &message.data)?;
        }
        shared.received.push(message);
        self.count.send_replace(number);
        Ok(number)
    }
}

async fn accept(listener: TcpListener, state: Arc<State>, stop: CancellationToken, tasks: TaskTracker) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let next = async {
            let slot = slots.clone().acquire_owned().await;
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            next = next => next,
            () = stop.cancelled() => return,
        };
        let Ok((stream, _)) = accepted else { continue };
        let connection = {
            let mut shared = state.lock();
            shared.connections += 1;
            shared.connections
        };
        let (state, stop) = (state.clone(), stop.clone());
        tasks.spawn(async move {
            let _slot = slot;
            tokio::select! {
                ended = dialogue::run(stream, &state, connection) => {
                    if let Err(error) = ended {
                        tracing::debug!(connection, %error, "an SMTP dialogue broke off");
                    }
                }
                () = stop.cancelled() => {}
            }
        });
    }
}
